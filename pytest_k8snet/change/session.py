"""One run's dealings with Calico: which modes it can have, entering them, restoring all.

From before its first change a run holds the Lease, and the journal in the cluster says what it
will have to restore. A run that changes nothing holds and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_k8snet.calico.capture import Send, WireCapture, judge_exchange
from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.calico.installation import ApiGroup, Installation, IPPool
from pytest_k8snet.calico.kernel import Prober, Shell
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.path import (
    Moment,
    PathEnd,
    PathProof,
    PathSnapshot,
    WireFinding,
    claim_mismatches,
    judge,
    pair_questions,
)
from pytest_k8snet.calico.routing import new_hops, with_pool
from pytest_k8snet.change.decision import ChangeSettings, Decision, concerned, decide
from pytest_k8snet.change.journal import Changes, Journal, JournalStore, OnChange, pool_name
from pytest_k8snet.change.lease import Holder, Lock
from pytest_k8snet.change.pools import create_pool, plan_pools, read_original, set_mode
from pytest_k8snet.change.readiness import (
    NodeReadiness,
    pair_mismatches,
    wait_until_good,
)
from pytest_k8snet.change.restore import (
    FOLLOW_SECONDS,
    end_pods_in,
    restore_changes,
    restore_dead_run,
    sweep_dead_runs,
)
from pytest_k8snet.cluster.nodes import list_nodes
from pytest_k8snet.errors import (
    ConnectError,
    ForbiddenError,
    K8sNetError,
    ModeUnavailableError,
    NotConvergedError,
    PathError,
    RestoreError,
)
from pytest_k8snet.tools.tool import Payload

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.nodes import Node, Toleration

#: How long a pool of the cluster's own may be without its mode before it is put back, in seconds.
#: The nodes of a recorded cluster (v3.33) took up to four, and what is lost meanwhile every pod of
#: the pool loses.
IN_PLACE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRef:
    """The pool that pods name to be in a mode."""

    name: str
    cidr: str
    mode: CalicoMode
    #: Counts the flips of this pool: pods made in an earlier epoch have a stale MTU.
    epoch: int = 0
    #: The pool of each node, where they differ.
    of_node: tuple[tuple[str, str], ...] = ()

    def on(self, node: str) -> str:
        """Return the pool that a pod on a node names."""
        return dict(self.of_node).get(node, self.name)


#: Makes pods of a pool on the nodes of each hop, and sends payload between them; raises what keeps
#: it from arriving.
ProveHops = Callable[[CalicoMode, PoolRef, Sequence[tuple["Node", "Node"]]], None]


class CalicoSession:
    """Everything one run does to Calico. A context manager: leaving it restores.

    Args:
        api: the connection.
        installation: what ``inspect(api)`` found.
        nodes: the nodes under test, two or more.
        run_id: ``k8snet-xxxxxx``.
        change: what may be changed.
        shells: per node name, a way to run a command in a host-network pod there. Nodes without
            one are judged from the API alone and their proofs are "missing".
        on_change: called with each "change" record's own fields (what, object, state, ...).
        modes: the modes that this run will ask for; ``dedicated`` makes all their pools at once.
        prove_hops: proves what ``in-place`` would rest on, see there.
        on_wait: called once with a line for people, if a run elsewhere has to be waited for.
        tolerations: what the run's pods tolerate, which says on what nodes they can be.

    Attributes:
        installation: what the cluster runs, with the pools as they are now.
    """

    def __init__(
        self,
        api: Api,
        *,
        installation: Installation,
        nodes: Sequence[Node],
        run_id: str,
        change: ChangeSettings,
        shells: Mapping[str, Shell],
        on_change: OnChange,
        modes: Iterable[CalicoMode] = tuple(CalicoMode),
        prove_hops: ProveHops | None = None,
        on_wait: Callable[[str], None] = lambda why: None,
        tolerations: Sequence[Toleration] = (),
    ) -> None:
        self.change = change
        self.installation = installation
        self._api = api
        self._nodes = tuple(nodes)
        self._run_id = run_id
        self._wanted = tuple(modes) or tuple(CalicoMode)
        self._shells = shells
        self._prober = Prober(shells)
        self._readiness = NodeReadiness(api, nodes=self._nodes, prober=self._prober)
        self._changes = Changes(on_change)
        self._holder = Holder.of_this_process(run_id)
        self._lock = Lock(api, holder=self._holder, on_wait=on_wait)
        self._store = JournalStore(api)
        #: What this run has promised to restore; None before the first change.
        self._journal: Journal | None = None
        #: The modes that its pool may be in by this run's doing; empty before the first.
        self._possible: tuple[CalicoMode, ...] = ()
        #: Whether there may be a journal of ours all the same: the answer may have got lost.
        self._journal_sent = False
        self._others_looked_for = False
        self._closed = False
        self._entered: dict[CalicoMode, PoolRef] = {}
        self._epoch = 0
        #: The dedicated pools, or why this cluster accepts none in a mode.
        self._dedicated: dict[CalicoMode, IPPool | ModeUnavailableError] = {}
        #: Those of these that nobody has waited for yet.
        self._unready: set[CalicoMode] = set()
        #: Not all of these came up.
        self._late: NotConvergedError | None = None
        self._prove_hops = prove_hops
        self._tolerations = tuple(tolerations)
        self._proven_first = change.strategy != "in-place" or not change.prove_first
        #: The modes that the pool is not flipped to, and why: what was tried did not work.
        self._failed: dict[CalicoMode, K8sNetError] = {}

    def __enter__(self) -> CalicoSession:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -- entering modes ------------------------------------------------------------------------

    def would_change(self, mode: CalicoMode) -> bool:
        """Return whether entering a mode would write to the cluster now."""
        decision = self._decision(mode)
        if decision is None or decision.writer == "nothing" or mode in self._entered:
            return False
        if decision.writer == "dedicated-pool":
            return mode not in self._dedicated
        return decision.pool is not None and decision.pool.mode is not mode

    def _decide(self, mode: CalicoMode) -> Decision:
        if mode in self._failed:
            raise ModeUnavailableError(
                f"{mode} is not proven to work here, so pool {self.change.pool} is not switched "
                "to it",
                found=self._failed[mode].brief,
                remedy=self._failed[mode].remedy,
            )
        original = self._journal.original if self._journal is not None else None
        return decide(
            self.installation,
            self.change,
            mode=mode,
            nodes=self._nodes,
            original_mode=original.mode if original is not None else None,
        )

    def _decision(self, mode: CalicoMode) -> Decision | None:
        """How a mode is to be had; None if it cannot be."""
        try:
            return self._decide(mode)
        except ModeUnavailableError:
            return None

    def begin(self) -> None:
        """Claim the cluster now, instead of when the first mode is entered.

        Call it before making anything in the cluster: what a run makes after this is found and
        deleted by `k8snet restore`, however the run ends.

        Raises:
            LockedError: another run holds the cluster.
            RestoreError: an earlier run's changes could not be restored, or may not be.
        """
        decision = self._first_decision()
        if decision is not None and self._claim(decision):
            decision = self._first_decision()
        if decision is not None:
            self._write_journal(decision)

    def _first_decision(self) -> Decision | None:
        return next(filter(None, map(self._decision, self._wanted)), None)

    def enter(self, mode: CalicoMode) -> PoolRef:
        """Make the mode ready for pods: pool written, tunnel devices up. Make pods after this.

        Raises:
            ModeUnavailableError: the cluster cannot have it, or may not be changed.
            NotConvergedError: the nodes did not get there in time.
            LockedError: another run holds the cluster.
            RestoreError: an earlier run's changes could not be restored.
        """
        if mode in self._entered:
            if self._journal is not None:
                self._lock.check()
            return self._entered[mode]
        self.prove_first()
        decision = self._decide(mode)
        if self._claim(decision):
            decision = self._decide(mode)
        self._write_journal(decision)
        if decision.writer == "nothing":
            assert decision.pool is not None
            pool = decision.pool
        else:
            self._lock.check()
            dedicated = decision.writer == "dedicated-pool"
            pool = self._dedicated_pool(mode) if dedicated else self._flip(decision)
        names = ((node, own.name) for node, own in decision.pools.items())
        self._entered[mode] = replace(self._reference(pool), of_node=tuple(names))
        return self._entered[mode]

    def _reference(self, pool: IPPool) -> PoolRef:
        return PoolRef(name=pool.name, cidr=str(pool.cidr), mode=pool.mode, epoch=self._epoch)

    def prove_first(self) -> None:
        """Prove what ``in-place`` would rest on, in pools of the run's own; once, before a flip.

        A fabric may drop a tunnel's packets, or no route may come: in place, every pod of the pool
        would find that out. Modes that fail here are refused from then on.

        Raises:
            LockedError: another run holds the cluster.
            RestoreError: an earlier run's changes, or the pools for this, could not be removed.
        """
        if self._proven_first:
            return
        self.begin()
        hops = self._unproven_hops()
        if hops and self._journal is not None:
            journal = self._journal
            try:
                self._make_pools(hops)
            except (ForbiddenError, ModeUnavailableError) as exc:
                self._failed |= dict.fromkeys(hops, exc)
                hops = {}
            for mode, between in hops.items():
                if (trouble := self._trial(mode, between)) is not None:
                    self._failed[mode] = trouble
            self._late = None
            self._restore(journal)
            with suppress(NotConvergedError):
                # Felix may restart once more; what stays wrong is found after the flip.
                self._wait(
                    "the pools as before", lambda: self._readiness.mismatches(self.installation, ())
                )
        self._proven_first = True
        decision = self._first_decision()
        if self._journal is None:
            return
        if decision is None:
            self._store.delete(self._run_id)
            self._journal, self._journal_sent = None, False
        else:
            journal = self._new_journal(decision)
            self._store.update(self._journal, journal)
            self._journal = journal

    def _unproven_hops(self) -> dict[CalicoMode, list[tuple[Node, Node]]]:
        """What each wanted mode would do otherwise than the pool does now."""
        pool = self.installation.pool(self.change.pool)
        if pool is None:
            return {}
        nodes = concerned(self.installation, pool)
        found = {mode: list(new_hops(nodes, mode, pool.mode)) for mode in self._wanted}
        return {mode: hops for mode, hops in found.items() if hops and self._decision(mode)}

    def _trial(self, mode: CalicoMode, hops: Sequence[tuple[Node, Node]]) -> K8sNetError | None:
        """Why a mode does not work between nodes that would rely on it; None if it does."""
        pool = self._dedicated.get(mode)
        if not isinstance(pool, IPPool):
            return pool or ModeUnavailableError("another mode's pool stands against it")
        late = self._late
        if late is not None and self._readiness.mismatches(self.installation, {mode}):
            return late
        if self._prove_hops is None:
            return ModeUnavailableError("nothing can send payload here")
        try:
            self._prove_hops(mode, self._reference(pool), hops)
        except ConnectError:
            raise
        except K8sNetError as exc:
            return exc
        return None

    def _claim(self, decision: Decision) -> bool:
        """Hold the Lease where something is to be written, and restore what dead runs have left.

        Returns:
            Whether the cluster has been read again: it may be another than it was.
        """
        if decision.writer == "nothing":
            self._refuse_others_changes()
            return False
        if self._lock.held or self._journal is not None:
            return False
        self._lock.acquire()
        left = self._store.read()
        if left is not None:
            restore_dead_run(
                self._api, self._store, left, self._changes, last_holder=self._lock.last_holder
            )
        sweep_dead_runs(self._api)
        self.installation = inspect(
            self._api, tolerations=self._tolerations, own_pools=self.change.makes_pools
        )
        return True

    def _refuse_others_changes(self) -> None:
        """Refuse a cluster that another run is changing, or has left changed."""
        if self._others_looked_for:
            return
        try:
            journal = self._store.read()
        except ForbiddenError:
            journal = None
        if journal is not None:
            raise RestoreError(
                "Another run is changing this cluster, or was killed before it could restore it",
                found=f"{self._store.where} of {journal.owner}, {journal.time}",
                remedy="Wait for that run; if it is dead, run `k8snet restore`.",
            )
        self._others_looked_for = True

    def _write_journal(self, decision: Decision) -> None:
        """Say in the cluster what will have to be restored; before the first change, and once."""
        if decision.writer == "nothing" or self._journal is not None:
            return
        journal = self._new_journal(decision)
        self._lock.check()
        if self._journal_sent:
            self._store.delete(self._run_id)
        self._journal_sent = True
        self._store.write(journal)
        self._journal = journal

    def _new_journal(self, decision: Decision) -> Journal:
        assert self.installation.shape is not None
        assert decision.group is not None
        # What is tried in pools of the run's own is all that there is to undo before a flip.
        dedicated = decision.writer == "dedicated-pool" or not self._proven_first
        journal = Journal(
            run_id=self._run_id,
            strategy="dedicated" if dedicated else "in-place",
            owner=self._holder.identity,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            shape=self.installation.shape,
            group=decision.group,
        )
        if dedicated:
            # Of all modes, also of those that may never be wanted: names cost nothing.
            names = tuple(pool_name(self._run_id, mode) for mode in CalicoMode)
            return replace(journal, dedicated_pools=names)
        original = read_original(self._api, decision, self.installation.shape)
        return replace(journal, original=original, written=(decision.mode,))

    def _dedicated_pool(self, mode: CalicoMode) -> IPPool:
        if mode not in self._dedicated:
            self._make_pools(
                [one for one in (*self._wanted, mode) if one not in self._dedicated], decided=mode
            )
        pool = self._dedicated[mode]
        if isinstance(pool, ModeUnavailableError):
            raise pool
        self._await_pools()
        if self._late is not None and self._readiness.mismatches(self.installation, {mode}):
            raise self._late
        return pool

    def _make_pools(
        self, modes: Iterable[CalicoMode], *, decided: CalicoMode | None = None
    ) -> None:
        group = self.installation.group
        assert group is not None
        planned = plan_pools(
            self.installation,
            group=group,
            modes=self._compatible(modes, decided),
            nodes=self._nodes,
            every_node=list_nodes(self._api),
            run_id=self._run_id,
            within=self.change.cidr,
        )
        for mode, plan in planned.items():
            try:
                pool = create_pool(self._api, group, mode, plan, self._changes)
            except ModeUnavailableError as exc:
                # One that this cluster cannot have must not cost the others their figures.
                self._dedicated[mode] = exc
                continue
            self._dedicated[mode] = pool
            self._unready.add(mode)
            self.installation = replace(self.installation, pools=(*self.installation.pools, pool))
        self._await_pools()

    def _await_pools(self) -> None:
        """Wait for all pools that nobody has waited for, also after trouble with making others."""
        if not self._unready:
            return
        try:
            # For all of them at once: the MTU of new pods is right only when every family is on.
            self._wait(
                f"the pools of run {self._run_id}",
                lambda: self._readiness.mismatches(self.installation, self._unready),
            )
        except NotConvergedError as exc:
            # A family that this network never lets up must not cost the others their figures.
            self._late = exc
        self._unready = set()

    def _compatible(
        self, modes: Iterable[CalicoMode], decided: CalicoMode | None
    ) -> list[CalicoMode]:
        """Those that can be had beside each other: one may take another's routes."""
        dedicated = replace(self.change, strategy="dedicated")
        together = self.installation if decided is None else with_pool(self.installation, decided)
        fit = []
        for mode in dict.fromkeys(modes):
            if mode is not decided:
                try:
                    decide(together, dedicated, mode=mode, nodes=self._nodes)
                except ModeUnavailableError as exc:
                    self._dedicated[mode] = exc
                    continue
                together = with_pool(together, mode)
            fit.append(mode)
        return fit

    def _flip(self, decision: Decision) -> IPPool:
        pool, group, mode = decision.pool, decision.group, decision.mode
        assert pool is not None
        assert group is not None
        assert self._journal is not None
        assert self._journal.original is not None
        self._entered.clear()
        if pool.mode is not mode:
            self._write_mode(pool, group, mode)
        flipped = replace(pool, mode=mode)
        try:
            blocks = self._readiness.blocks(self.installation, flipped)
            self._wait(
                f"pool {pool.name} in mode {mode}",
                lambda: self._readiness.mismatches(
                    self.installation, {mode}, pool=flipped, group=group, blocks=blocks
                ),
            )
        except NotConvergedError as exc:
            raise self._put_back(mode, exc) from exc
        return flipped

    def _write_mode(self, pool: IPPool, group: ApiGroup, mode: CalicoMode) -> None:
        assert self._journal is not None
        assert self._journal.original is not None
        self._announce((*self._possible, mode))
        written = self._possible = self._journal.written
        set_mode(
            self._api,
            self._journal.original,
            group,
            mode,
            self._changes,
            before=pool.mode,
            ours=written,
        )
        self._possible = (mode,)
        self._announce(self._possible)
        self._epoch += 1
        self.installation = self.installation.with_mode(pool.name, mode)

    def _put_back(self, mode: CalicoMode, trouble: NotConvergedError) -> NotConvergedError:
        """Put the pool back at once, since its pods may be cut off; what to raise after that."""
        assert self._journal is not None
        original, group = self._journal.original, self._journal.group
        assert original is not None
        self._entered.clear()
        self._failed[mode] = trouble
        pool = self.installation.pool(original.name)
        assert pool is not None
        if pool.mode is not original.mode:
            self._write_mode(pool, group, original.mode)
        return NotConvergedError(
            f"{mode} did not come on pool {original.name}, which was put back to {original.mode} "
            "first",
            found=trouble.found,
            remedy=trouble.remedy,
        )

    def _announce(self, modes: tuple[CalicoMode, ...]) -> None:
        """Say in the journal which modes the pool may be in by this run's doing."""
        assert self._journal is not None
        journal = replace(self._journal, written=tuple(dict.fromkeys(modes)))
        if journal != self._journal:
            self._store.update(self._journal, journal)
            self._journal = journal

    @property
    def _limit_seconds(self) -> float:
        """How long a mode may take to come: in place, every pod of the pool waits for it."""
        if self.change.strategy == "in-place" and not self._dedicated:
            return min(self.change.timeout_seconds, IN_PLACE_SECONDS)
        return self.change.timeout_seconds

    def _wait(self, what: str, check: Callable[[], Sequence[str]]) -> None:
        wait_until_good(
            check,
            what=what,
            timeout_seconds=self._limit_seconds,
            stability_seconds=self.change.stability_seconds,
            look_closer=self._readiness.look_closer,
        )

    # -- restoring -----------------------------------------------------------------------------

    def close(self) -> None:
        """Restore everything, after any failure; a second call does nothing.

        Raises:
            RestoreError: something could not be restored; the journal stays.
            LockedError: another run has taken the cluster over.
        """
        if self._closed:
            # Without the Lease, what is there may be another run's.
            return
        self._closed = True
        self._entered.clear()
        try:
            if self._journal_sent:
                self._lock.check()
                if self._journal is not None:
                    self._restore(self._journal)
                self._store.delete(self._run_id)
        except ConnectError as exc:
            raise RestoreError(
                "The cluster could not be restored: its API server does not answer",
                found=exc.brief,
                remedy="Run `k8snet restore` as soon as it does: all that it needs is kept in the "
                f"{self._store.where}.",
            ) from None
        finally:
            self._lock.release()
            self._prober.close()

    def _restore(self, journal: Journal) -> None:
        made = [pool for pool in self._dedicated.values() if isinstance(pool, IPPool)]
        restore_changes(
            self._api,
            journal,
            self._changes,
            end_pods=lambda: end_pods_in(self._api, journal.run_id, made),
            readiness=self._readiness,
            follow_seconds=min(FOLLOW_SECONDS, self.change.timeout_seconds),
        )
        self._dedicated.clear()
        self._unready = set()
        names = set(journal.dedicated_pools)
        pools = tuple(pool for pool in self.installation.pools if pool.name not in names)
        self.installation = replace(self.installation, pools=pools)
        if journal.original is not None:
            original = journal.original
            self.installation = self.installation.with_mode(original.name, original.mode)

    def quiet_period(self, seconds: float) -> AbstractContextManager[None]:
        """Keep the cluster for so long without asking anything of the API server."""
        return self._lock.quiet_period(seconds)

    # -- the path of a pair --------------------------------------------------------------------

    def converge(
        self,
        mode: CalicoMode,
        client: PathEnd,
        server: PathEnd,
        *,
        probe: Callable[[], str | None] | None = None,
    ) -> None:
        """Wait until both nodes' routes to the pair's addresses are the mode's, both directions.

        Args:
            mode: the mode that the pair's pool is in.
            client: one end.
            server: the other end.
            probe: sends TCP payload between the two; returns what went wrong, or None.

        Raises:
            PathError: the pair cannot show the mode: its pods are in other pools, or have a stale
                MTU. Waiting would not help.
            NotConvergedError: what was expected and what was found at the time-out.
        """
        wrong = claim_mismatches(mode, client, server, self.installation.pools)
        if wrong:
            raise PathError(
                f"This pair of pods cannot show {mode}",
                found="\n".join(wrong),
                remedy="Make the pods name the mode's pool by the annotation "
                "cni.projectcalico.org/ipv4pools.",
            )

        def check() -> list[str]:
            snapshot = self.snapshot(client, server)
            mismatches = pair_mismatches(snapshot, self.installation)
            if mismatches or probe is None or not (trouble := probe()):
                return mismatches
            # What it points to rests on routes that are right: here nobody has seen them.
            unseen = snapshot.missing or not self.installation.routes_prove
            return [str(trouble) if unseen else trouble]

        try:
            self._wait(f"{mode} between {client.node.name} and {server.node.name}", check)
        except NotConvergedError as exc:
            if self._journal is None or self._journal.original is None:
                raise
            raise self._put_back(mode, exc) from exc

    def snapshot(self, client: PathEnd, server: PathEnd) -> PathSnapshot:
        """Read routes, counters and MTUs on both nodes now: once before, once after a sample."""
        client, server = (
            # With the tunnel addresses that calico-node published last.
            replace(end, node=self._readiness.seen.get(end.node.name, end.node))
            for end in (client, server)
        )
        answers = self._prober.ask(pair_questions(client, server))
        return PathSnapshot(
            client=client, server=server, states=answers.states, missing=answers.missing
        )

    def prove(
        self,
        mode: CalicoMode | None,
        before: PathSnapshot,
        after: PathSnapshot,
        transfer: Payload,
        wire: Mapping[Moment, WireFinding] = MappingProxyType({}),
    ) -> PathProof:
        """Judge which path a sample took; ``.require()`` raises PathError if contradicted."""
        return judge(mode, before, after, transfer, self.installation, wire)

    def watch_wire(self, snapshot: PathSnapshot, send: Send) -> WireFinding:
        """Capture on both nodes while payload is sent, and judge what was seen.

        Args:
            snapshot: the pair and its nodes.
            send: sends the payload; see :data:`pytest_k8snet.calico.capture.Send`.
        """
        return judge_exchange(self._wire_capture().watch(snapshot, send), self.installation.pools)

    def check_wire(self) -> None:
        """Make sure that captures are possible on the nodes that have a host-network pod.

        Raises:
            ToolError: they are not.
        """
        self._wire_capture().check(list(self._shells))

    def _wire_capture(self) -> WireCapture:
        known = self.installation
        return WireCapture(prober=self._prober, vxlan_port=known.vxlan_port, vni=known.vxlan_vni)

"""One run's dealings with Calico: which modes it can have, entering them, putting all back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import IPv4Network
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_k8snet.calico.capture import Send, WireCapture, judge_exchange
from pytest_k8snet.calico.convergence import wait_until_good
from pytest_k8snet.calico.decision import Decision, Strategy, decide
from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.calico.installation import ApiGroup, Installation, IPPool
from pytest_k8snet.calico.journal import Journal, JournalStore, OriginalPool
from pytest_k8snet.calico.kernel import Prober, Shell
from pytest_k8snet.calico.lease import Holder, Lock
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.path import (
    Moment,
    PathContext,
    PathEnd,
    PathProof,
    PathSnapshot,
    Transfer,
    WireFinding,
    claim_mismatches,
    judge,
)
from pytest_k8snet.calico.pools import (
    Changes,
    OnChange,
    capture,
    create_pool,
    flip,
    mode_of_plan,
    plan_pools,
    pool_name,
)
from pytest_k8snet.calico.readiness import (
    NodeReadiness,
    pair_mismatches,
    pair_questions,
    snapshot_of,
)
from pytest_k8snet.calico.restore import (
    STATE_NAMESPACE,
    finish,
    mode_of,
    restore_changes,
    sweep_dead_runs,
)
from pytest_k8snet.cluster.nodes import list_nodes
from pytest_k8snet.errors import (
    ConnectError,
    ForbiddenError,
    LockedError,
    ModeUnavailableError,
    NotConvergedError,
    PathError,
    RestoreError,
)

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.nodes import Node


class Tenure:
    """From before the first change of a run until everything is taken back.

    Attributes:
        journal: what this run has promised to undo; None before the first change.
    """

    def __init__(
        self, api: Api, *, run_id: str, namespace: str, wait_seconds: float, changes: Changes
    ) -> None:
        self._api = api
        self._run_id = run_id
        self._wait_seconds = wait_seconds
        self._changes = changes
        self._holder = Holder.of_this_process(run_id)
        self._lock = Lock(api, holder=self._holder, namespace=namespace)
        self._store = JournalStore(api, namespace)
        self.journal: Journal | None = None
        #: Whether there may be a journal of ours: its answer may have got lost.
        self._promised = False

    def begin(self) -> bool:
        """Hold the Lease, and take back what dead runs have left.

        Returns:
            Whether it has just begun: the cluster may be another than it was.

        Raises:
            LockedError: another run holds the cluster, or has taken it over.
            RestoreError: what a dead run has left can't be taken back.
        """
        if self._lock.held or self.journal is not None:
            self._lock.check()
            return False
        self._lock.acquire(wait_seconds=self._wait_seconds)
        left = self._store.read()
        if left is not None:
            finish(self._api, self._store, left, self._changes)
        sweep_dead_runs(self._api)
        return True

    def check(self) -> None:
        """Insist that the Lease is still ours, if there is anything that it protects.

        Raises:
            LockedError: it was lost.
        """
        if self.journal is not None:
            self._lock.check()

    def silence(self, seconds: float) -> AbstractContextManager[None]:
        """Keep the Lease for so long without asking anything of the API server."""
        return self._lock.silence(seconds)

    def record(
        self,
        installation: Installation,
        strategy: Strategy,
        *,
        original: OriginalPool | None = None,
        dedicated_pools: tuple[str, ...] = (),
    ) -> None:
        """Write the journal; before the first change, and once only."""
        assert installation.shape is not None
        assert installation.group is not None
        journal = Journal(
            run_id=self._run_id,
            strategy=strategy,
            owner=self._holder.identity,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            shape=installation.shape,
            group=installation.group,
            original=original,
            dedicated_pools=dedicated_pools,
        )
        self._lock.check()
        if self._promised:
            self._store.delete(self._run_id)
        self._promised = True
        self._store.write(journal)
        self.journal = journal

    def refuse_others_changes(self) -> None:
        """Refuse a cluster that another run is changing, or has left changed.

        Raises:
            RestoreError: names that run.
        """
        try:
            journal = self._store.read()
        except ForbiddenError:
            return
        if journal is not None:
            raise RestoreError(
                "Another run is changing this cluster, or was killed before it could restore it",
                found=f"{self._store.where} of {journal.owner}, {journal.time}",
                remedy="Wait for that run; if it is dead, run `k8snet restore`.",
            )

    def end(self, undo: Callable[[Journal], None]) -> None:
        """Take everything back and give up the Lease; fine if there is nothing to take back.

        Args:
            undo: takes back what the journal tells of.

        Raises:
            RestoreError: something could not be taken back; the journal stays.
            LockedError: another run has taken the cluster over.
        """
        try:
            if self._promised:
                self._lock.check()
                if self.journal is not None:
                    undo(self.journal)
                self._store.delete(self._run_id)
                self.journal, self._promised = None, False
        except LockedError:
            self.journal, self._promised = None, False
            raise
        except ConnectError as exc:
            raise RestoreError(
                "The cluster could not be restored: its API server does not answer",
                found=exc.brief,
                remedy="Run `k8snet restore` as soon as it does: all that it needs is kept in the "
                f"{self._store.where}.",
            ) from None
        finally:
            self._lock.release()


# -- Does what was decided: makes or flips pools, and waits until the nodes have followed ---------

#: What to do where a mode does not come.
REMEDY = (
    "If one node lags, delete its calico-node pod; if all do, look at the logs of calico-node and, "
    "with the operator, at TigeraStatus."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRef:
    """The pool that pods name to be in a mode."""

    name: str
    cidr: str
    mode: CalicoMode
    #: Counts the flips of this pool: pods made in an earlier epoch have a stale MTU.
    epoch: int = 0

    @classmethod
    def of(cls, pool: IPPool, epoch: int = 0) -> PoolRef:
        """Refer to a pool as it is."""
        return cls(name=pool.name, cidr=str(pool.cidr), mode=pool.mode, epoch=epoch)


class Switcher:
    """The writing half of a session.

    Attributes:
        installation: what the cluster runs, with the pools as this run has made them.
    """

    def __init__(
        self,
        api: Api,
        *,
        installation: Installation,
        nodes: Collection[Node],
        run_id: str,
        change: ChangeSettings,
        prober: Prober,
        changes: Changes,
    ) -> None:
        self.installation = installation
        self._api = api
        self._nodes = tuple(nodes)
        self._run_id = run_id
        self._change = change
        self._changes = changes
        self._watch = NodeReadiness(api, nodes=self._nodes, prober=prober)
        self._tenure = Tenure(
            api,
            run_id=run_id,
            namespace=change.state_namespace,
            wait_seconds=change.lock_wait_seconds,
            changes=changes,
        )
        self._looked = False
        self._epoch = 0
        self._own: dict[CalicoMode, IPPool] = {}
        self._refused: dict[CalicoMode, ModeUnavailableError] = {}
        self._late: NotConvergedError | None = None
        self._entered: dict[CalicoMode, PoolRef] = {}

    def node(self, known: Node) -> Node:
        """A node as it was last read, with its tunnel addresses."""
        return self._watch.seen.get(known.name, known)

    @property
    def original_mode(self) -> CalicoMode | None:
        """The mode that the flipped pool was in before; None while none is flipped."""
        journal = self._tenure.journal
        if journal is None or journal.original is None:
            return None
        return mode_of(journal.original)

    def silence(self, seconds: float) -> AbstractContextManager[None]:
        """Keep the cluster for so long without asking anything of the API server."""
        return self._tenure.silence(seconds)

    def begin(self, decide: Callable[[], Decision | None]) -> None:
        """Claim the cluster and write the journal, before anything of the run is made in it.

        Args:
            decide: how the run's first possible mode is to be had; None if there is none.
        """
        decision = decide()
        if decision is None:
            return
        if decision.writer == "nothing":
            if not self._looked:
                self._tenure.refuse_others_changes()
                self._looked = True
            return
        if self._tenure.begin():
            self.installation = inspect(self._api)
            decision = decide()
        if self._tenure.journal is not None or decision is None:
            return
        if decision.writer == "dedicated-pool":
            # All modes' names, also of those that may never be wanted: names cost nothing, and
            # the journal is written only once.
            names = tuple(pool_name(self._run_id, mode) for mode in CalicoMode)
            self._tenure.record(self.installation, self._change.strategy, dedicated_pools=names)
        else:
            assert self.installation.shape is not None
            original = capture(self._api, decision, self.installation.shape)
            self._tenure.record(
                replace(self.installation, group=decision.group),
                self._change.strategy,
                original=original,
            )

    def would_change(self, decision: Decision) -> bool:
        """Whether entering a mode, as it was decided, would write to the cluster."""
        if decision.writer == "nothing" or decision.mode in self._entered:
            return False
        if decision.writer == "dedicated-pool":
            return decision.mode not in {*self._own, *self._refused}
        return decision.pool is not None and decision.pool.mode is not decision.mode

    def enter(
        self,
        mode: CalicoMode,
        wanted: Callable[[], Iterable[CalicoMode]],
        decide: Callable[[CalicoMode], Decision],
    ) -> PoolRef:
        """Make a mode ready for pods.

        Args:
            mode: the mode.
            wanted: every mode that the run will ask for and can have.
            decide: the decision, against the installation as it is when asked.
        """
        if mode in self._entered:
            self._tenure.check()
            return self._entered[mode]
        self.begin(lambda: decide(mode))
        decision = decide(mode)
        if decision.writer == "nothing":
            assert decision.pool is not None
            reference = PoolRef.of(decision.pool)
        elif decision.writer == "dedicated-pool":
            reference = PoolRef.of(self._own_pool(mode, wanted))
        else:
            reference = PoolRef.of(self._flip(decision), self._epoch)
        self._entered[mode] = reference
        return reference

    def _own_pool(self, mode: CalicoMode, wanted: Callable[[], Iterable[CalicoMode]]) -> IPPool:
        self._tenure.check()
        settled = {*self._own, *self._refused}
        if mode not in settled:
            self._make_pools([one for one in wanted() if one not in settled])
        if mode in self._refused:
            raise self._refused[mode]
        pool = self._own[mode]
        if self._late is not None and self._watch.mismatches(self.installation, {mode}):
            raise self._late
        return pool

    def _make_pools(self, modes: Collection[CalicoMode]) -> None:
        group = self.installation.group
        assert group is not None
        planned = plan_pools(
            self.installation,
            group=group,
            modes=modes,
            nodes=self._nodes,
            every_node=list_nodes(self._api),
            run_id=self._run_id,
            within=self._change.cidr,
        )
        for plan in planned:
            try:
                pool = IPPool.of(create_pool(self._api, group, plan, self._changes))
            except ModeUnavailableError as exc:
                # One that this cluster cannot have must not cost the others their figures.
                self._refused[mode_of_plan(plan)] = exc
                continue
            assert pool is not None
            self._own[pool.mode] = pool
            self.installation = replace(self.installation, pools=(*self.installation.pools, pool))
        made = [mode for mode in modes if mode in self._own]
        if not made:
            return
        try:
            # For all of them at once: the MTU of new pods is right only when every family is on.
            self._await_devices(f"the pools of run {self._run_id}", made)
        except NotConvergedError as exc:
            # A family that this network never lets up must not cost the others their figures.
            self._late = exc

    def _flip(self, decision: Decision) -> IPPool:
        pool, group, mode = decision.pool, decision.group, decision.mode
        assert pool is not None
        assert group is not None
        self._tenure.check()
        self._entered.clear()
        if pool.mode is not mode:
            flip(self._api, decision, self._changes)
            self._epoch += 1
        changed = self._remember_mode(pool.name, mode) or pool
        self._await_devices(f"pool {pool.name} in mode {mode}", {mode}, pool=changed, group=group)
        return changed

    def _remember_mode(self, name: str, mode: CalicoMode) -> IPPool | None:
        pools = tuple(
            replace(pool, mode=mode) if pool.name == name else pool
            for pool in self.installation.pools
        )
        self.installation = replace(self.installation, pools=pools)
        return self.installation.pool(name)

    def _await_devices(
        self,
        what: str,
        modes: Collection[CalicoMode],
        *,
        pool: IPPool | None = None,
        group: ApiGroup | None = None,
    ) -> None:
        blocks = {} if pool is None else self._watch.blocks(self.installation, pool)
        wait_until_good(
            lambda: self._watch.mismatches(
                self.installation, modes, pool=pool, group=group, blocks=blocks
            ),
            what=what,
            timeout_seconds=self._change.timeout_seconds,
            stability_seconds=self._change.stability_seconds,
            remedy=REMEDY,
        )

    def close(self) -> None:
        """Take everything back; fine if nothing was changed, or if it was done before.

        Raises:
            RestoreError: something could not be taken back; the journal stays.
            LockedError: another run has taken the cluster over.
        """
        self._entered.clear()
        self._tenure.end(self._undo)

    def _undo(self, journal: Journal) -> None:
        restore_changes(
            self._api,
            journal,
            self._changes,
            end_pods=lambda: self._watch.await_no_pods(journal.run_id, list(self._own.values())),
        )
        self._own.clear()
        own = set(journal.dedicated_pools)
        pools = tuple(pool for pool in self.installation.pools if pool.name not in own)
        self.installation = replace(self.installation, pools=pools)
        if journal.original is not None:
            self._remember_mode(journal.original.name, mode_of(journal.original))


# -- One run's dealings with Calico: which modes it can have, entering them, putting all back -----


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSettings:
    """What the user allows, and how long it may take."""

    strategy: Strategy = "none"
    #: The pool that ``in-place`` flips.
    pool: str = ""
    #: Where ``dedicated`` takes its addresses from (RFC 2544's benchmarking range).
    cidr: IPv4Network = IPv4Network("198.18.0.0/15")
    #: The user's word that the underlay delivers bare pod addresses between all nodes.
    underlay_routes_pods: bool = False
    timeout_seconds: float = 180.0
    #: How long a mode must stay good; None: twice the time that it took to become good.
    stability_seconds: float | None = None
    lock_wait_seconds: float = 0.0
    #: Where the Lease and the journal live.
    state_namespace: str = STATE_NAMESPACE


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeOffer:
    """Whether this run can have a mode; if not, ``reason`` and ``remedy`` say why."""

    mode: CalicoMode
    available: bool
    reason: str = ""
    remedy: str = ""
    #: What entering it does beside, for plan and report.
    notes: tuple[str, ...] = ()


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
    ) -> None:
        self.change = change
        self._wanted = tuple(modes) or tuple(CalicoMode)
        self._nodes = tuple(nodes)
        self._shells = shells
        self._prober = Prober(shells)
        self._switcher = Switcher(
            api,
            installation=installation,
            nodes=self._nodes,
            run_id=run_id,
            change=change,
            prober=self._prober,
            changes=Changes(on_change),
        )

    @property
    def installation(self) -> Installation:
        """What the cluster runs, with the pools as they are now."""
        return self._switcher.installation

    def modes(self) -> list[ModeOffer]:
        """All five modes, in canonical order, each available or with the reason why not."""
        offers = []
        for mode in CalicoMode:
            try:
                decision = self._decide(mode)
            except ModeUnavailableError as exc:
                reason = f"{exc.problem}: {exc.found}" if exc.found else exc.problem
                offers.append(
                    ModeOffer(mode=mode, available=False, reason=reason, remedy=exc.remedy)
                )
            else:
                offers.append(ModeOffer(mode=mode, available=True, notes=decision.notes))
        return offers

    def would_change(self, mode: CalicoMode) -> bool:
        """Whether entering a mode would write to the cluster now."""
        try:
            decision = self._decide(mode)
        except ModeUnavailableError:
            return False
        return self._switcher.would_change(decision)

    def enter(self, mode: CalicoMode) -> PoolRef:
        """Make the mode ready for pods: pool written, tunnel devices up. Make pods after this.

        Raises:
            ModeUnavailableError: the cluster cannot have it, or may not be changed.
            NotConvergedError: the nodes did not get there in time.
            LockedError: another run holds the cluster.
            RestoreError: an earlier run's changes could not be taken back.
        """
        return self._switcher.enter(mode, lambda: self._possible(mode), self._decide)

    def begin(self) -> None:
        """Claim the cluster now, instead of when the first mode is entered.

        Call it before making anything in the cluster: what a run makes after this is found and
        deleted by `k8snet restore`, however the run ends.

        Raises:
            LockedError: another run holds the cluster.
            RestoreError: an earlier run's changes could not be taken back, or may not be.
        """
        self._switcher.begin(lambda: next((self._decide(mode) for mode in self._possible()), None))

    def _possible(self, *more: CalicoMode) -> list[CalicoMode]:
        wanted = dict.fromkeys((*self._wanted, *more))
        return [mode for mode in wanted if self._can(mode)]

    def _decide(self, mode: CalicoMode) -> Decision:
        return decide(
            self.installation,
            strategy=self.change.strategy,
            mode=mode,
            nodes=self._nodes,
            pool_name=self.change.pool,
            original_mode=self._switcher.original_mode,
            underlay_routes_pods=self.change.underlay_routes_pods,
        )

    def _can(self, mode: CalicoMode) -> bool:
        try:
            self._decide(mode)
        except ModeUnavailableError:
            return False
        return True

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
            PathError: the pair can't show the mode: its pods are in other pools, or have a stale
                MTU. Waiting would not help.
            NotConvergedError: what was expected and what was found at the time-out.
        """
        context = self._context()
        wrong = claim_mismatches(mode, client, server, context.pools)
        if wrong:
            raise PathError(
                f"This pair of pods cannot show {mode}",
                found="\n".join(wrong),
                remedy="Make the pods name the mode's pool by the annotation "
                "cni.projectcalico.org/ipv4pools.",
            )

        def check() -> list[str]:
            mismatches = pair_mismatches(self.snapshot(client, server), context)
            if not mismatches and probe is not None:
                trouble = probe()
                return [trouble] if trouble else []
            return mismatches

        wait_until_good(
            check,
            what=f"{mode} between {client.node.name} and {server.node.name}",
            timeout_seconds=self.change.timeout_seconds,
            stability_seconds=self.change.stability_seconds,
            remedy=REMEDY,
        )

    def silence(self, seconds: float) -> AbstractContextManager[None]:
        """Keep the cluster for so long without asking anything of the API server."""
        return self._switcher.silence(seconds)

    def snapshot(self, client: PathEnd, server: PathEnd) -> PathSnapshot:
        """Routes, counters and MTUs on both nodes now: take one before and one after a sample."""
        client = replace(client, node=self._switcher.node(client.node))
        server = replace(server, node=self._switcher.node(server.node))
        return snapshot_of(self._prober.ask(pair_questions(client, server)), client, server)

    def prove(
        self,
        mode: CalicoMode | None,
        before: PathSnapshot,
        after: PathSnapshot,
        transfer: Transfer,
        wire: Mapping[Moment, WireFinding] = MappingProxyType({}),
    ) -> PathProof:
        """Judge which path a sample took; ``.require()`` raises PathError if contradicted."""
        return judge(mode, before, after, transfer, self._context(), wire)

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
        return WireCapture(prober=self._prober, vxlan_port=self.installation.vxlan_port)

    def _context(self) -> PathContext:
        installation = self.installation
        return PathContext(
            pools=installation.pools,
            pools_unread=installation.pools_unread,
            encapsulations=installation.encapsulations(),
            routes_prove=installation.routes_prove,
            mtu_bytes=installation.mtu_bytes,
            mtu_known=installation.mtu_known,
        )

    def close(self) -> None:
        """Put everything back; safe to call twice and after any failure.

        Raises:
            RestoreError: something could not be put back; the journal stays.
        """
        try:
            self._switcher.close()
        finally:
            self._prober.close()

    def __enter__(self) -> CalicoSession:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

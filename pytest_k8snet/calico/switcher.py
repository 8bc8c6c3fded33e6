"""Does what was decided: holds the Lease, keeps the journal, writes pools, waits, restores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_k8snet.calico import groups
from pytest_k8snet.calico.changes import Changes
from pytest_k8snet.calico.convergence import wait_until_good
from pytest_k8snet.calico.decision import Decision
from pytest_k8snet.calico.dedicated import create_pools, plan_pools
from pytest_k8snet.calico.in_place import capture, flip
from pytest_k8snet.calico.inspection import inspect
from pytest_k8snet.calico.installation import Installation
from pytest_k8snet.calico.ippool import IPPool
from pytest_k8snet.calico.journal import Journal, JournalStore
from pytest_k8snet.calico.lock import Holder, Lock
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.nodewatch import NodeWatch
from pytest_k8snet.calico.own_pool import pool_name
from pytest_k8snet.calico.prober import Prober
from pytest_k8snet.calico.restore import finish
from pytest_k8snet.calico.undo import mode_of, take_back
from pytest_k8snet.cluster.nodes import list_nodes
from pytest_k8snet.errors import ConnectError, ForbiddenError, LockedError, RestoreError

if TYPE_CHECKING:
    from pytest_k8snet.calico.session import ChangeSettings
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.nodes import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRef:
    """The pool that pods name to be in a mode."""

    name: str
    cidr: str
    mode: CalicoMode
    #: Counts the flips of this pool: pods made in an earlier epoch have a stale MTU.
    epoch: int = 0


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
        nodes: Sequence[Node],
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
        self._watch = NodeWatch(api, nodes=self._nodes, prober=prober)
        self._holder = Holder.of_this_process(run_id)
        self._lock = Lock(api, holder=self._holder, namespace=change.state_namespace)
        self._store = JournalStore(api, change.state_namespace)
        self._journal: Journal | None = None
        self._looked = False
        self._epoch = 0
        self._entered: dict[CalicoMode, PoolRef] = {}

    def node(self, known: Node) -> Node:
        """A node as it was last read, with its tunnel addresses."""
        return self._watch.seen.get(known.name, known)

    def enter(
        self,
        mode: CalicoMode,
        wanted: Sequence[CalicoMode],
        decide: Callable[[CalicoMode], Decision],
    ) -> PoolRef:
        """Make a mode ready for pods.

        Args:
            mode: the mode.
            wanted: every mode that the run will ask for and can have.
            decide: the decision, against the installation as it is when asked.
        """
        if mode in self._entered:
            self._check_lock()
            return self._entered[mode]
        decision = decide(mode)
        if decision.writer == "nothing":
            return self._use(decision)
        self._begin()
        decision = decide(mode)
        if decision.writer == "own-pool":
            return self._make_pools(mode, [one for one in wanted if one not in self._entered])
        return self._flip(decision)

    def _check_lock(self) -> None:
        if self._journal is not None:
            self._lock.check()

    def _use(self, decision: Decision) -> PoolRef:
        assert decision.pool is not None
        self._refuse_others_changes()
        pool = decision.pool
        reference = PoolRef(name=pool.name, cidr=str(pool.cidr), mode=decision.mode)
        self._entered[decision.mode] = reference
        return reference

    def _refuse_others_changes(self) -> None:
        """A pool that somebody else is changing, or has left changed, shows no mode."""
        if self._looked:
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
        self._looked = True

    def _begin(self) -> None:
        """Before the first change: hold the Lease, and take back what a dead run has left."""
        if self._lock.held or self._journal is not None:
            self._lock.check()
            return
        self._lock.acquire(wait_seconds=self._change.lock_wait_seconds)
        left = self._store.read()
        if left is not None:
            finish(self._api, self._store, left, self._changes)
        self.installation = inspect(self._api)

    def _write_journal(self, journal: Journal) -> None:
        self._lock.check()
        self._store.write(journal)
        self._journal = journal

    def _new_journal(self) -> Journal:
        assert self.installation.shape is not None
        assert self.installation.group is not None
        return Journal(
            run_id=self._run_id,
            strategy=self._change.strategy,
            owner=self._holder.identity,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            shape=self.installation.shape,
            group=self.installation.group,
        )

    def _make_pools(self, mode: CalicoMode, wanted: Sequence[CalicoMode]) -> PoolRef:
        group = self.installation.group
        assert group is not None
        planned = plan_pools(
            self.installation,
            group=group,
            modes=wanted,
            nodes=self._nodes,
            every_node=list_nodes(self._api),
            run_id=self._run_id,
            within=self._change.cidr,
        )
        if self._journal is None:
            # All modes' names, also those that are not wanted yet: names cost nothing, and the
            # journal is never rewritten.
            names = tuple(pool_name(self._run_id, one) for one in CalicoMode)
            self._write_journal(replace(self._new_journal(), own_pools=names))
        self._lock.check()
        created = create_pools(self._api, group, planned, self._changes)
        own = [pool for raw in created if (pool := IPPool.of(raw)) is not None]
        self.installation = replace(self.installation, pools=(*self.installation.pools, *own))
        self._await_devices(f"the pools of run {self._run_id}", {pool.mode for pool in own})
        for pool in own:
            self._entered[pool.mode] = PoolRef(name=pool.name, cidr=str(pool.cidr), mode=pool.mode)
        return self._entered[mode]

    def _flip(self, decision: Decision) -> PoolRef:
        pool, group = decision.pool, decision.group
        assert pool is not None
        assert group is not None
        if self._journal is None:
            shape = self.installation.shape
            assert shape is not None
            original = capture(self._api, decision, shape)
            journal = replace(self._new_journal(), group=group, original=original)
            self._write_journal(journal)
        self._lock.check()
        if pool.mode is not decision.mode:
            flip(self._api, decision, self._changes)
            self._epoch += 1
        self._entered.clear()
        changed = replace(pool, mode=decision.mode)
        self.installation = replace(
            self.installation,
            pools=tuple(
                changed if one.name == pool.name else one for one in self.installation.pools
            ),
        )
        self._await_devices(
            f"pool {pool.name} in mode {decision.mode}", {decision.mode}, pool=changed, group=group
        )
        reference = PoolRef(
            name=pool.name, cidr=str(pool.cidr), mode=decision.mode, epoch=self._epoch
        )
        self._entered[decision.mode] = reference
        return reference

    def _await_devices(
        self,
        what: str,
        modes: set[CalicoMode],
        *,
        pool: IPPool | None = None,
        group: groups.Group | None = None,
    ) -> None:
        wait_until_good(
            lambda: self._watch.complaints(self.installation, modes, pool=pool, group=group),
            what=what,
            timeout_seconds=self._change.timeout_seconds,
            stability_seconds=self._change.stability_seconds,
            remedy="If one node lags, delete its calico-node pod; if all do, look at the logs of "
            "calico-node and, with the operator, at TigeraStatus.",
        )

    def close(self) -> None:
        """Take everything back; fine if nothing was changed, or if it was done before.

        Raises:
            RestoreError: something could not be taken back; the journal stays.
            LockedError: another run has taken the cluster over.
        """
        self._entered.clear()
        try:
            if self._journal is not None:
                self._lock.check()
                self._restore(self._journal)
                self._journal = None
        except LockedError:
            self._journal = None
            raise
        except ConnectError as exc:
            raise RestoreError(
                "The cluster could not be restored: its API server does not answer",
                found=str(exc),
                remedy="Run `k8snet restore` as soon as it does; all that is needed is kept in the "
                f"{self._store.where}.",
            ) from None
        finally:
            self._lock.release()

    def _restore(self, journal: Journal) -> None:
        self._watch.await_no_pods(journal.run_id, self._own_networks())
        take_back(self._api, journal, self._changes)
        self._store.delete(journal.run_id)
        original = journal.original
        if original is None:
            own = set(journal.own_pools)
            pools = tuple(one for one in self.installation.pools if one.name not in own)
            self.installation = replace(self.installation, pools=pools)
            return
        mode = mode_of(original)
        pools = tuple(
            replace(one, mode=mode) if one.name == original.name else one
            for one in self.installation.pools
        )
        self.installation = replace(self.installation, pools=pools)

    def _own_networks(self) -> list[IPPool]:
        return [pool for pool in self.installation.pools if pool.run_id == self._run_id]

"""Does what was decided: makes or flips pools, and waits until the nodes have followed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_k8snet.calico.changes import Changes
from pytest_k8snet.calico.convergence import wait_until_good
from pytest_k8snet.calico.decision import Decision
from pytest_k8snet.calico.dedicated import create_pool, mode_of_plan, plan_pools
from pytest_k8snet.calico.groups import Group
from pytest_k8snet.calico.in_place import capture, flip
from pytest_k8snet.calico.inspection import inspect
from pytest_k8snet.calico.installation import Installation
from pytest_k8snet.calico.ippool import IPPool
from pytest_k8snet.calico.journal import Journal
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.nodewatch import NodeWatch
from pytest_k8snet.calico.own_pool import pool_name
from pytest_k8snet.calico.tenure import Tenure
from pytest_k8snet.calico.undo import mode_of, take_back
from pytest_k8snet.cluster.nodes import list_nodes
from pytest_k8snet.errors import ModeUnavailableError, NotConvergedError

if TYPE_CHECKING:
    from pytest_k8snet.calico.prober import Prober
    from pytest_k8snet.calico.session import ChangeSettings
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.nodes import Node

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
        self._watch = NodeWatch(api, nodes=self._nodes, prober=prober)
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
        if decision.writer == "own-pool":
            # All modes' names, also of those that may never be wanted: names cost nothing, and
            # the journal is written only once.
            names = tuple(pool_name(self._run_id, mode) for mode in CalicoMode)
            self._tenure.record(self.installation, self._change.strategy, own_pools=names)
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
        if decision.writer == "own-pool":
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
        elif decision.writer == "own-pool":
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
        if self._late is not None and self._watch.complaints(self.installation, {mode}):
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
        group: Group | None = None,
    ) -> None:
        blocks = {} if pool is None else self._watch.blocks(self.installation, pool)
        wait_until_good(
            lambda: self._watch.complaints(
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
        take_back(
            self._api,
            journal,
            self._changes,
            end_pods=lambda: self._watch.await_no_pods(journal.run_id, list(self._own.values())),
        )
        self._own.clear()
        own = set(journal.own_pools)
        pools = tuple(pool for pool in self.installation.pools if pool.name not in own)
        self.installation = replace(self.installation, pools=pools)
        if journal.original is not None:
            self._remember_mode(journal.original.name, mode_of(journal.original))

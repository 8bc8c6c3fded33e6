"""One run's dealings with Calico: which modes it can have, entering them, putting all back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_k8snet.calico.changes import Changes, OnChange
from pytest_k8snet.calico.convergence import Convergence, wait_until_good
from pytest_k8snet.calico.decision import Decision, Strategy, decide
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.pairwatch import (
    pair_complaints,
    pair_questions,
    snapshot_of,
)
from pytest_k8snet.calico.prober import Prober, Shell
from pytest_k8snet.calico.proof import (
    PathContext,
    PathEnd,
    PathProof,
    PathSnapshot,
    Transfer,
    claim_complaints,
    judge,
)
from pytest_k8snet.calico.restore import STATE_NAMESPACE
from pytest_k8snet.calico.switcher import REMEDY, PoolRef, Switcher
from pytest_k8snet.calico.wire import Moment, WireFinding, judge_exchange
from pytest_k8snet.calico.wiretap import Send, WireTap
from pytest_k8snet.errors import ModeUnavailableError, PathError

if TYPE_CHECKING:
    from pytest_k8snet.calico.installation import Installation
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.nodes import Node

__all__ = ["CalicoSession", "ChangeSettings", "ModeOffer", "PoolRef", "Shell", "Strategy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSettings:
    """What the user allows, and how long it may take."""

    strategy: Strategy = "none"
    #: The pool that ``in-place`` flips.
    pool: str = ""
    #: Where ``dedicated`` takes its addresses from (RFC 2544's benchmarking range).
    cidr: IPv4Network = IPv4Network("198.18.0.0/15")
    #: The user's word that the underlay delivers bare pod addresses between all nodes.
    fabric_routes_pods: bool = False
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
            fabric_routes_pods=self.change.fabric_routes_pods,
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
    ) -> Convergence:
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
        wrong = claim_complaints(mode, client, server, context.pools)
        if wrong:
            raise PathError(
                f"This pair of pods cannot show {mode}",
                found="\n".join(wrong),
                remedy="Make the pods name the mode's pool by the annotation "
                "cni.projectcalico.org/ipv4pools.",
            )

        def check() -> list[str]:
            complaints = pair_complaints(self.snapshot(client, server), context)
            if not complaints and probe is not None:
                trouble = probe()
                return [trouble] if trouble else []
            return complaints

        return wait_until_good(
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
            send: sends the payload; see :data:`pytest_k8snet.calico.wiretap.Send`.
        """
        return judge_exchange(self._wiretap().watch(snapshot, send), self.installation.pools)

    def check_wire(self) -> None:
        """Make sure that captures are possible on the nodes that have a host-network pod.

        Raises:
            ToolError: they are not.
        """
        self._wiretap().check(list(self._shells))

    def _wiretap(self) -> WireTap:
        return WireTap(prober=self._prober, vxlan_port=self.installation.vxlan_port)

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

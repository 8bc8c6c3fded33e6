"""One run's dealings with Calico: which modes it can have, entering them, putting all back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico.decision import Strategy
from pytest_k8snet.calico.modes import CalicoMode

if TYPE_CHECKING:
    from pytest_k8snet.calico.convergence import Convergence
    from pytest_k8snet.calico.installation import Installation
    from pytest_k8snet.calico.proof import PathEnd, PathProof, PathSnapshot, Transfer
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.exec import Completed
    from pytest_k8snet.cluster.nodes import Node

#: Runs a command in a host-network pod on one node.
Shell = Callable[[Sequence[str]], "Completed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSettings:
    """What the user allows, and how long it may take."""

    strategy: Strategy = "none"
    #: The pool that ``in-place`` flips.
    pool: str = ""
    #: Where ``dedicated`` takes its addresses from (RFC 2544's benchmarking range).
    cidr: IPv4Network = IPv4Network("198.18.0.0/15")
    timeout_seconds: float = 180.0
    #: How long a mode must stay good; None: twice the time that it took to become good.
    stability_seconds: float | None = None
    lock_wait_seconds: float = 0.0
    #: Where the Lease and the journal live.
    state_namespace: str = "kube-system"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeOffer:
    """Whether this run can have a mode; if not, ``reason`` and ``remedy`` say why."""

    mode: CalicoMode
    available: bool
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRef:
    """The pool that pods name to be in a mode."""

    name: str
    cidr: str
    mode: CalicoMode
    #: Counts the flips of this pool: pods made in an earlier epoch have a stale MTU.
    epoch: int = 0


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
        on_change: Callable[[dict[str, Any]], None],
        modes: Iterable[CalicoMode] = tuple(CalicoMode),
    ) -> None:
        raise NotImplementedError

    def modes(self) -> list[ModeOffer]:
        """All five modes, in canonical order, each available or with the reason why not."""
        raise NotImplementedError

    def enter(self, mode: CalicoMode) -> PoolRef:
        """Make the mode ready for pods: pool written, tunnel devices up. Make pods after this.

        Raises:
            ModeUnavailableError: the cluster cannot have it, or may not be changed.
            NotConvergedError: the nodes did not get there in time.
            LockedError: another run holds the cluster.
        """
        raise NotImplementedError

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
        """
        raise NotImplementedError

    def snapshot(self, client: PathEnd, server: PathEnd) -> PathSnapshot:
        """Routes, counters and MTUs on both nodes now: take one before and one after a sample."""
        raise NotImplementedError

    def prove(
        self,
        mode: CalicoMode | None,
        before: PathSnapshot,
        after: PathSnapshot,
        transfer: Transfer,
    ) -> PathProof:
        """Judge which path a sample took; ``.require()`` raises PathError if contradicted."""
        raise NotImplementedError

    def close(self) -> None:
        """Put everything back; safe to call twice and after any failure.

        Raises:
            RestoreError: something could not be put back; the journal stays.
        """
        raise NotImplementedError

    def __enter__(self) -> CalicoSession:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

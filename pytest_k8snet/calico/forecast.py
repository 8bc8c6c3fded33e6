"""How long changes of Calico may take, from what is known of its installation. Pure.

No API tells how fast a cluster's calico-node is, so each figure is a span: from a small idle
cluster to a large busy one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pytest_k8snet.calico.convergence import LONGEST_WINDOW_SECONDS, SHORTEST_WINDOW_SECONDS
from pytest_k8snet.calico.installation import Installation, IPPool
from pytest_k8snet.calico.modes import CalicoMode, families_of, pod_mtu_bytes


@dataclass(frozen=True, slots=True)
class Span:
    """A duration between two bounds, in seconds."""

    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    def __str__(self) -> str:
        low, high = (f"{one:.0f}" if one >= 1 else f"{one:.1f}" for one in (self.low, self.high))
        return f"{low} s to {high} s"


#: Routes alone change: Felix at once, BIRD with its next look at the kernel.
ROUTES = Span(0.1, 2)
#: A family appears or goes: Felix waits 2 s, restarts, and needs every peer's tunnel address.
FELIX_RESTART = Span(3, 15)
#: The operator carries its Installation over to the pool.
OPERATOR = Span(0.2, 5)


def entering(*, restarts: bool, by_operator: bool, stability_seconds: float | None) -> Span:
    """From the write until the mode has stayed good for the window.

    Args:
        restarts: whether Felix restarts.
        by_operator: whether the operator has to carry the change over.
        stability_seconds: the window; None where it is in proportion to what it took.
    """
    took = FELIX_RESTART if restarts else ROUTES
    if by_operator:
        took += OPERATOR
    return took + Span(_window(took.low, stability_seconds), _window(took.high, stability_seconds))


def _window(took_seconds: float, stability_seconds: float | None) -> float:
    if stability_seconds is not None:
        return stability_seconds
    return min(LONGEST_WINDOW_SECONDS, max(SHORTEST_WINDOW_SECONDS, 2 * took_seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """One pool's way through some modes and back: how many writes, how many of them restarts."""

    switches: int
    restarts: int
    span: Span


def walk(
    installation: Installation,
    pool: IPPool,
    modes: Iterable[CalicoMode],
    *,
    by_operator: bool,
    stability_seconds: float | None,
) -> Walk:
    """What it takes to flip a pool through modes, in this order, and back to its own."""
    here, switches, restarts, span = pool.mode, 0, 0, Span(0, 0)
    for mode in (*modes, pool.mode):
        restart = _families(installation, pool, mode) != _families(installation, pool, here)
        if mode is here:
            continue
        here = mode
        switches += 1
        restarts += restart
        span += entering(
            restarts=restart, by_operator=by_operator, stability_seconds=stability_seconds
        )
    return Walk(switches=switches, restarts=restarts, span=span)


def _families(installation: Installation, pool: IPPool, mode: CalicoMode) -> frozenset[str]:
    pools = tuple(
        replace(one, mode=mode) if one.name == pool.name else one for one in installation.pools
    )
    return replace(installation, pools=pools).families()


def mtu_loss_bytes(installation: Installation, modes: Iterable[CalicoMode]) -> int:
    """By how much pods' MTU shrinks, everywhere, while there are pools of these modes as well.

    0 as well where Felix has settings of its own, since nobody here follows those.
    """
    if installation.mtu_bytes is not None or installation.mtu_settings:
        return 0
    now = installation.encapsulations()
    return pod_mtu_bytes(0, now) - pod_mtu_bytes(0, now | families_of(modes))

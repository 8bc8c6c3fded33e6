"""What each namespace holds while nodes are late or stale. Pure: it is told the time.

Delays count from when a namespace fell behind, and are asked anew each time: the end of a fault
ends its delays, and who was late follows what is wanted by then.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pytest_k8snet.lab.calico.faults import Faults, during_restart
from pytest_k8snet.lab.dataplane.datastore import Family
from pytest_k8snet.lab.dataplane.state import NodeState, Route
from pytest_k8snet.lab.dataplane.underlay import node_namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """All that one namespace gets."""

    state: NodeState = field(default_factory=NodeState)
    rules: str = ""
    bypass: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is to be so now.

    Attributes:
        programmes: what each namespace is to hold.
        restarting: Felix restarts, and does not know yet which tunnels there are.
        next_seconds: when the next namespace is to follow; infinite if none is late.
    """

    programmes: Mapping[str, Programme]
    restarting: bool
    next_seconds: float


class Convergence:
    """Remembers who is late since when, and what those keep that follow nothing."""

    def __init__(self) -> None:
        self._families: frozenset[Family] | None = None
        self._restart_began_seconds: float | None = None
        self._stale: dict[str, Programme] = {}
        self._behind: dict[str, tuple[Programme, float]] = {}

    def at(
        self,
        now_seconds: float,
        wanted: Mapping[str, Programme],
        loaded: Mapping[str, Programme],
        *,
        families: Collection[Family],
        faults: Faults,
    ) -> Moment:
        """What each namespace is to hold at a time.

        Args:
            now_seconds: the time, on any steady clock.
            wanted: what each namespace should hold in the end.
            loaded: what each was last programmed to hold; none at first, and nothing delays that.
            families: the tunnels in use.
            faults: that are asked for.
        """
        wanted = self._without_stale(wanted, loaded, faults)
        restarted_seconds = self._restart_ends(now_seconds, frozenset(families), faults)
        if restarted_seconds is not None:
            held = {
                name: Programme(
                    state=during_restart(loaded[name].state, programme.state),
                    rules=loaded[name].rules,
                )
                for name, programme in wanted.items()
                if name in loaded
            }
            return Moment(programmes=held, restarting=True, next_seconds=restarted_seconds)
        programmes, due = {}, []
        delays = faults.convergence_delays(list(wanted))
        for name, programme in wanted.items():
            programmes[name] = programme
            behind_since = self._behind_since(name, programme, loaded, now_seconds)
            if behind_since is not None and now_seconds < behind_since + delays[name]:
                programmes[name] = loaded[name]
                due.append(behind_since + delays[name])
        return Moment(
            programmes=programmes, restarting=False, next_seconds=min(due, default=math.inf)
        )

    def _without_stale(
        self, wanted: Mapping[str, Programme], loaded: Mapping[str, Programme], faults: Faults
    ) -> dict[str, Programme]:
        """What is wanted, but of stale nodes what they had when they became so."""
        names = {node_namespace(node) for node in faults.stale_route_on}
        self._stale = {
            name: self._stale.get(name) or loaded.get(name, programme)
            for name, programme in wanted.items()
            if name in names
        }
        return {**wanted, **self._stale}

    def _restart_ends(
        self, now_seconds: float, families: frozenset[Family], faults: Faults
    ) -> float | None:
        """When Felix, which restarts if a tunnel appears or disappears, is back; None if it is."""
        if self._families is None:
            self._families = families
        if self._restart_began_seconds is None and families != self._families:
            self._restart_began_seconds = now_seconds
        if self._restart_began_seconds is not None:
            ends_seconds = self._restart_began_seconds + faults.felix_restart_gap_seconds
            if now_seconds < ends_seconds:
                return ends_seconds
        self._families, self._restart_began_seconds = families, None
        return None

    def _behind_since(
        self,
        name: str,
        programme: Programme,
        loaded: Mapping[str, Programme],
        now_seconds: float,
    ) -> float | None:
        held = loaded.get(name)
        if held is None or held == programme:
            self._behind.pop(name, None)
            return None
        known = self._behind.get(name)
        if known is None or known[0] is not held:
            known = self._behind[name] = held, now_seconds
        return known[1]

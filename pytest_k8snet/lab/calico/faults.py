"""Trouble on request in the lab's Calico: what there is, and how the config map asks for it.

``kube-system/k8snet-lab-faults`` holds faults by name, beside those of the API server; deleting an
entry ends the fault. Pure: it reads values and says what they do to a node's state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network

from pytest_k8snet.lab.dataplane.datastore import Datastore
from pytest_k8snet.lab.dataplane.state import IPIP_DEVICE, VXLAN_DEVICE, NodeState
from pytest_k8snet.lab.trouble import number


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The faults that are asked for; the defaults are none."""

    felix_restart_gap_seconds: float = 0.0
    slow_convergence_seconds: float = 0.0
    wrong_mtu_bytes: int | None = None
    routes_missing_on: frozenset[str] = field(default_factory=frozenset)
    stale_route_on: frozenset[str] = field(default_factory=frozenset)
    one_direction: frozenset[str] = field(default_factory=frozenset)
    device_missing_on: frozenset[str] = field(default_factory=frozenset)
    path_not_taken: frozenset[str] = field(default_factory=frozenset)
    operator_delay_seconds: float = 0.0
    operator_degraded: str = ""

    @classmethod
    def read(cls, data: Mapping[str, str]) -> Faults:
        """Read the config map's data; what is not of ours, or cannot be read, is passed over."""
        return cls(
            felix_restart_gap_seconds=_number(data, "felix-restart-gap"),
            slow_convergence_seconds=_number(data, "slow-convergence"),
            wrong_mtu_bytes=int(_number(data, "wrong-mtu")) or None,
            routes_missing_on=_names(data, "routes-missing-on"),
            stale_route_on=_names(data, "stale-route-on"),
            one_direction=_names(data, "one-direction"),
            device_missing_on=_names(data, "device-missing-on"),
            path_not_taken=_names(data, "path-not-taken"),
            operator_delay_seconds=_number(data, "operator-delay"),
            operator_degraded=data.get("operator-degraded", ""),
        )

    def spoil(self, state: NodeState, node: str, data: Datastore) -> NodeState:
        """What is left of a node's desired state under these faults."""
        if node in self.device_missing_on:
            state = replace(state, vxlan=None, ipip=None, vteps=frozenset())
            state = _without_routes(state, devices={VXLAN_DEVICE, IPIP_DEVICE})
        if node in self.routes_missing_on:
            kept = frozenset(route for route in state.routes if route.blackhole)
            state = replace(state, routes=kept)
        cut_off = {
            block.cidr
            for block in data.blocks
            if block.node != node and block.node in self.one_direction
        }
        if cut_off:
            state = _without_routes(state, destinations=cut_off)
        return state

    def convergence_delays(self, nodes: list[str]) -> dict[str, float]:
        """How long each node waits before it follows a change, in seconds."""
        last = max(1, len(nodes) - 1)
        return {
            node: self.slow_convergence_seconds * index / last for index, node in enumerate(nodes)
        }


def during_restart(old: NodeState, new: NodeState) -> NodeState:
    """What a node holds while its Felix restarts: old devices, and routes that do not change."""
    return replace(old, routes=old.routes & new.routes)


def _without_routes(
    state: NodeState,
    *,
    devices: set[str] | None = None,
    destinations: set[IPv4Network] | None = None,
) -> NodeState:
    kept = frozenset(
        route
        for route in state.routes
        if route.device not in (devices or ()) and route.destination not in (destinations or ())
    )
    return replace(state, routes=kept)


def _number(data: Mapping[str, str], name: str) -> float:
    return number(data.get(name, "0"))


def _names(data: Mapping[str, str], name: str) -> frozenset[str]:
    words = data.get(name, "").split(",")
    return frozenset(word.strip() for word in words if word.strip())

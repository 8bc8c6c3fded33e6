"""From what a kernel holds to what it should hold, in as few commands as possible. Pure.

The order loses the fewest packets: devices, then neighbours and FDB, then routes (each replaced
in one step), and only then what is stale.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pytest_k8snet.lab.dataplane.state import (
    IPIP_DEVICE,
    VXLAN_DEVICE,
    IpipDevice,
    NodeState,
    Route,
    Vtep,
    VxlanDevice,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """What to run, in this order.

    Attributes:
        devices: for ``ip``.
        fdb: for ``bridge``.
        routes: for ``ip``.
        recreates_vxlan: ``devices`` make ``vxlan.calico`` anew.
    """

    devices: list[str] = field(default_factory=list)
    fdb: list[str] = field(default_factory=list)
    routes: list[str] = field(default_factory=list)
    recreates_vxlan: bool = False

    def __len__(self) -> int:
        return len(self.devices) + len(self.fdb) + len(self.routes)


def commands(actual: NodeState, wanted: NodeState) -> Commands:
    """The commands that turn ``actual`` into ``wanted``.

    ``tunl0`` is not made here: where the kernel has none, the routes through it are left out.
    """
    devices = _ipip_commands(actual.ipip, wanted.ipip)
    recreates = False
    if wanted.vxlan is not None and _must_recreate(actual.vxlan, wanted.vxlan):
        devices += _vxlan_creation(actual.vxlan, wanted.vxlan)
        actual, recreates = _without_vxlan(actual), True
    elif wanted.vxlan is not None and actual.vxlan is not None:
        devices += _vxlan_changes(actual.vxlan, wanted.vxlan)
    fdb, neighbours = _vtep_commands(actual.vteps, wanted.vteps)
    routes = neighbours + _route_commands(actual, wanted)
    if wanted.vxlan is None and actual.vxlan is not None:
        # Its neighbours and FDB entries go with it.
        fdb, routes = [], [*_route_commands(actual, wanted), f"link del {VXLAN_DEVICE}"]
    return Commands(devices=devices, fdb=fdb, routes=routes, recreates_vxlan=recreates)


def _ipip_commands(actual: IpipDevice | None, wanted: IpipDevice | None) -> list[str]:
    if actual is None:
        return []
    if wanted is None:
        return [f"addr flush dev {IPIP_DEVICE}"] if actual.address else []
    lines = []
    if actual.mtu_bytes != wanted.mtu_bytes:
        lines.append(f"link set {IPIP_DEVICE} mtu {wanted.mtu_bytes}")
    if actual.address != wanted.address:
        lines += [f"addr flush dev {IPIP_DEVICE}"] if actual.address else []
        lines += [f"addr add {wanted.address}/32 dev {IPIP_DEVICE}"] if wanted.address else []
    if not actual.up:
        lines.append(f"link set {IPIP_DEVICE} up")
    return lines


def _must_recreate(actual: VxlanDevice | None, wanted: VxlanDevice) -> bool:
    return actual is None or actual.identity != wanted.identity


def _vxlan_creation(actual: VxlanDevice | None, wanted: VxlanDevice) -> list[str]:
    lines = [f"link del {VXLAN_DEVICE}"] if actual is not None else []
    lines.append(
        f"link add {VXLAN_DEVICE} mtu {wanted.mtu_bytes} address {wanted.mac} type vxlan"
        f" id {wanted.vni} dstport {wanted.port} local {wanted.local} dev {wanted.parent}"
        " nolearning"
    )
    lines += [f"addr add {wanted.address}/32 dev {VXLAN_DEVICE}"] if wanted.address else []
    return [*lines, f"link set {VXLAN_DEVICE} up"]


def _vxlan_changes(actual: VxlanDevice, wanted: VxlanDevice) -> list[str]:
    lines = []
    if actual.mtu_bytes != wanted.mtu_bytes:
        lines.append(f"link set {VXLAN_DEVICE} mtu {wanted.mtu_bytes}")
    if actual.address != wanted.address:
        lines += [f"addr flush dev {VXLAN_DEVICE}"] if actual.address else []
        lines += [f"addr add {wanted.address}/32 dev {VXLAN_DEVICE}"] if wanted.address else []
    return lines


def _without_vxlan(state: NodeState) -> NodeState:
    """What is left of a state once the device is gone."""
    kept = frozenset(route for route in state.routes if route.device != VXLAN_DEVICE)
    return replace(state, vxlan=None, vteps=frozenset(), routes=kept)


def _vtep_commands(actual: frozenset[Vtep], wanted: frozenset[Vtep]) -> tuple[list[str], list[str]]:
    """FDB commands, then neighbour commands."""
    has_fdb = {(vtep.mac, vtep.underlay) for vtep in actual if vtep.underlay}
    wants_fdb = {(vtep.mac, vtep.underlay) for vtep in wanted if vtep.underlay}
    fdb = [
        f"fdb del {mac} dev {VXLAN_DEVICE} dst {underlay} self"
        for mac, underlay in sorted(has_fdb - wants_fdb, key=str)
    ]
    fdb += [
        f"fdb replace {mac} dev {VXLAN_DEVICE} dst {underlay} self permanent"
        for mac, underlay in sorted(wants_fdb - has_fdb, key=str)
    ]
    has_neighbour = {(vtep.tunnel, vtep.mac) for vtep in actual if vtep.tunnel}
    wants_neighbour = {(vtep.tunnel, vtep.mac) for vtep in wanted if vtep.tunnel}
    neighbours = [
        f"neigh replace {tunnel} lladdr {mac} dev {VXLAN_DEVICE} nud permanent"
        for tunnel, mac in sorted(wants_neighbour - has_neighbour, key=str)
    ]
    kept = {tunnel for tunnel, _ in wants_neighbour}
    neighbours += [
        f"neigh del {tunnel} dev {VXLAN_DEVICE}"
        for tunnel, _ in sorted(has_neighbour, key=str)
        if tunnel not in kept
    ]
    return fdb, neighbours


def _route_commands(actual: NodeState, wanted: NodeState) -> list[str]:
    wanted_routes = wanted.routes
    if actual.ipip is None:
        wanted_routes = frozenset(r for r in wanted_routes if r.device != IPIP_DEVICE)
    lines = [f"route replace {route}" for route in _ordered(wanted_routes - actual.routes)]
    kept = {route.key for route in wanted_routes}
    stale = [route for route in actual.routes if route.key not in kept]
    return lines + [_deletion(route) for route in _ordered(stale)]


def _deletion(route: Route) -> str:
    words = ["route del"]
    words += ["blackhole"] if route.blackhole else []
    words += [str(route.destination)]
    words += ["dev", route.device] if route.device else []
    words += ["metric", str(route.metric)] if route.metric else []
    return " ".join(words)


def _ordered(routes: frozenset[Route] | list[Route]) -> list[Route]:
    return sorted(routes, key=lambda route: (route.destination, route.metric))

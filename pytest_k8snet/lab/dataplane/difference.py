"""From what a kernel holds to what it should hold, in as few commands as possible. Pure.

The order loses few packets: devices, then neighbours and FDB, then routes (each replaced in one
step), and only then stale routes and neighbours. A stale FDB entry goes before the new ones, since
the kernel lets one replace the other. A device that loses its last address loses its routes and
permanent neighbours with it, without a word: so a new address comes before the old one goes, and
where none comes, all of them are written anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

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
        devices: for ``ip``; with the neighbours to write, last.
        fdb: for ``bridge``.
        routes: for ``ip``; with the neighbours to delete, last.
    """

    devices: list[str] = field(default_factory=list)
    fdb: list[str] = field(default_factory=list)
    routes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.devices) + len(self.fdb) + len(self.routes)


def commands(actual: NodeState, wanted: NodeState) -> Commands:
    """The commands that turn ``actual`` into ``wanted``.

    ``tunl0`` is not made here: where the kernel has none, the routes through it are left out.
    """
    devices = _ipip_commands(actual.ipip, wanted.ipip)
    if actual.ipip is not None and _loses_address(actual.ipip, wanted.ipip):
        actual = _without_what_hangs_on(IPIP_DEVICE, actual)
    if wanted.vxlan is None and actual.vxlan is not None:
        # Its neighbours and FDB entries go with it.
        routes = [*_route_commands(actual, wanted), f"link del {VXLAN_DEVICE}"]
        return Commands(devices=devices, routes=routes)
    if wanted.vxlan is not None and _must_recreate(actual.vxlan, wanted.vxlan):
        devices += _vxlan_creation(actual.vxlan, wanted.vxlan)
        actual = replace(_without_what_hangs_on(VXLAN_DEVICE, actual), vteps=frozenset())
    elif wanted.vxlan is not None and actual.vxlan is not None:
        devices += _vxlan_changes(actual.vxlan, wanted.vxlan)
        if _loses_address(actual.vxlan, wanted.vxlan):
            actual = _without_what_hangs_on(VXLAN_DEVICE, actual)
    stale_neighbours, neighbours = _neighbour_commands(actual.vteps, wanted.vteps)
    return Commands(
        devices=devices + neighbours,
        fdb=_fdb_commands(actual.vteps, wanted.vteps),
        routes=_route_commands(actual, wanted) + stale_neighbours,
    )


def _ipip_commands(actual: IpipDevice | None, wanted: IpipDevice | None) -> list[str]:
    if actual is None:
        return []
    if wanted is None:
        return _address_commands(IPIP_DEVICE, actual.address, None)
    lines = []
    if actual.mtu_bytes != wanted.mtu_bytes:
        lines.append(f"link set {IPIP_DEVICE} mtu {wanted.mtu_bytes}")
    lines += _address_commands(IPIP_DEVICE, actual.address, wanted.address)
    if not actual.up:
        lines.append(f"link set {IPIP_DEVICE} up")
    return lines


def _address_commands(
    device: str, actual: IPv4Address | None, wanted: IPv4Address | None
) -> list[str]:
    if actual == wanted:
        return []
    if wanted is None:
        return [f"addr flush dev {device}"]
    lines = [f"addr replace {wanted}/32 dev {device}"]
    # Whatever prefix it was given.
    return lines if actual is None else [*lines, f"addr flush dev {device} to {actual}"]


def _loses_address(
    actual: VxlanDevice | IpipDevice, wanted: VxlanDevice | IpipDevice | None
) -> bool:
    return actual.address is not None and (wanted is None or wanted.address is None)


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
    lines += _address_commands(VXLAN_DEVICE, actual.address, wanted.address)
    if not actual.up:
        lines.append(f"link set {VXLAN_DEVICE} up")
    return lines


def _without_what_hangs_on(device: str, state: NodeState) -> NodeState:
    """What is left of a state once a device has lost its last address: FDB entries stay."""
    routes = frozenset(route for route in state.routes if route.device != device)
    if device != VXLAN_DEVICE:
        return replace(state, routes=routes)
    vteps = frozenset(replace(vtep, tunnel=None) for vtep in state.vteps)
    return replace(state, vteps=vteps, routes=routes)


def _fdb_commands(actual: frozenset[Vtep], wanted: frozenset[Vtep]) -> list[str]:
    has = {(vtep.mac, vtep.underlay) for vtep in actual if vtep.underlay}
    wants = {(vtep.mac, vtep.underlay) for vtep in wanted if vtep.underlay}
    lines = [
        f"fdb del {mac} dev {VXLAN_DEVICE} dst {underlay} self"
        for mac, underlay in sorted(has - wants, key=str)
    ]
    return lines + [
        f"fdb replace {mac} dev {VXLAN_DEVICE} dst {underlay} self permanent"
        for mac, underlay in sorted(wants - has, key=str)
    ]


def _neighbour_commands(
    actual: frozenset[Vtep], wanted: frozenset[Vtep]
) -> tuple[list[str], list[str]]:
    """Deletions, and what to write."""
    has = {(vtep.tunnel, vtep.mac) for vtep in actual if vtep.tunnel}
    wants = {(vtep.tunnel, vtep.mac) for vtep in wanted if vtep.tunnel}
    kept = {tunnel for tunnel, _ in wants}
    deletions = [
        f"neigh del {tunnel} dev {VXLAN_DEVICE}"
        for tunnel, _ in sorted(has, key=str)
        if tunnel not in kept
    ]
    return deletions, [
        f"neigh replace {tunnel} lladdr {mac} dev {VXLAN_DEVICE} nud permanent"
        for tunnel, mac in sorted(wants - has, key=str)
    ]


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

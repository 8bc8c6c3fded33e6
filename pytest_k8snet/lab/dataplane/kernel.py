"""Reads a node's Calico state from its kernel, and programs what differs.

Truth is the kernel, not memory: whatever anyone did to a route or a device is seen and mended the
next time. Owned are routes of BIRD's and Felix's protocols, whatever goes through the tunnel
devices, and those devices themselves; the routes to local pods belong to ``underlay``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from pytest_k8snet.lab import namespaces
from pytest_k8snet.lab.dataplane import netns
from pytest_k8snet.lab.dataplane.felix import (
    BYPASS_MARK,
    IPIP_DEVICE,
    PROTO_BIRD,
    PROTO_BOOT,
    PROTO_FELIX,
    VXLAN_DEVICE,
    VXLAN_OVERHEAD_BYTES,
    Datastore,
    Host,
    IpipDevice,
    NodeState,
    Route,
    Vtep,
    VxlanDevice,
    node_state,
    vxlan_mac,
)
from pytest_k8snet.lab.dataplane.underlay import node_namespace

_PROTOCOLS = {"boot": PROTO_BOOT, "bird": PROTO_BIRD, "kernel": 2, "static": 4}
_OWNED_PROTOCOLS = {PROTO_BIRD, PROTO_FELIX}
# Older kernels forget the inner headers of a segmented packet when they tell its length on the
# wire, so a shaped link would carry too much: let the tunnel send each segment by itself.
_COUNTS_ENCAPSULATED_SEGMENTS = (6, 18)
_TUNNELS = {VXLAN_DEVICE, IPIP_DEVICE}


async def apply(namespace: str, wanted: NodeState) -> int:
    """Make a namespace's kernel hold exactly this state.

    Args:
        namespace: of a node, or of the router.
        wanted: what it should hold.

    Returns:
        How many commands that took; 0 when all was well.

    Raises:
        DataplaneError: the kernel refused something; all else was tried, except perhaps neighbours
            after one that it refused.
    """
    return await netns.run(namespace, _apply_here, wanted)


async def read(namespace: str) -> NodeState:
    """What a namespace's kernel holds."""
    return await netns.run(namespace, _read_here)


def _apply_here(wanted: NodeState) -> int:
    todo = commands(_read_here(), wanted)
    errors: list[netns.DataplaneError] = []
    _try_batch(todo.devices, "ip", errors)
    # Each time, since the pass that made the device may have failed before this.
    if (
        wanted.vxlan is not None
        and namespaces.kernel_version() < _COUNTS_ENCAPSULATED_SEGMENTS
        and namespaces.has_interface(VXLAN_DEVICE)
    ):
        namespaces.disable_segmentation_offload(VXLAN_DEVICE)
    _try_batch(todo.fdb, "bridge", errors)
    _try_batch(todo.routes, "ip", errors)
    if errors:
        found = "\n".join(error.found for error in errors)
        raise netns.DataplaneError(errors[0].problem, found=found, remedy=errors[0].remedy)
    return len(todo)


def _try_batch(lines: list[str], tool: str, errors: list[netns.DataplaneError]) -> None:
    try:
        netns.batch_here(lines, tool)
    except netns.DataplaneError as error:
        errors.append(error)


def _read_here() -> NodeState:
    questions = "route show table main\naddr show\nneigh show nud permanent\n"
    answers = netns.output_here(["ip", "-json", "-details", "-batch", "-"], text=questions)
    fdb = (
        netns.output_here(["bridge", "-json", "fdb", "show", "dev", VXLAN_DEVICE])
        if namespaces.has_interface(VXLAN_DEVICE)
        else "[]"
    )
    routes, links, neighbours = _arrays(answers)
    return parse(routes, links, neighbours, json.loads(fdb))


def _arrays(text: str) -> list[list[dict[str, Any]]]:
    """The JSON arrays that a batch printed one after the other."""
    decoder, found, position = json.JSONDecoder(), [], 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        value, position = decoder.raw_decode(text, position)
        found.append(value)
    return found


def parse(
    routes: list[dict[str, Any]],
    links: list[dict[str, Any]],
    neighbours: list[dict[str, Any]],
    fdb: list[dict[str, Any]],
) -> NodeState:
    """The state in the JSON of ``ip route``, ``ip addr``, ``ip neigh`` and ``bridge fdb``.

    The first three with ``-details``. Pure.
    """
    by_name = {link["ifname"]: link for link in links}
    return NodeState(
        vxlan=_vxlan(by_name.get(VXLAN_DEVICE)),
        ipip=_ipip(by_name.get(IPIP_DEVICE)),
        vteps=_vteps(neighbours, fdb),
        routes=frozenset(filter(_is_owned, map(_route, routes))),
    )


def _route(entry: dict[str, Any]) -> Route:
    protocol = str(entry.get("protocol", "boot"))
    destination = "0.0.0.0/0" if entry["dst"] == "default" else entry["dst"]
    metrics = entry.get("metrics") or [{}]
    return Route(
        destination=IPv4Network(destination),
        gateway=IPv4Address(entry["gateway"]) if "gateway" in entry else None,
        device=entry.get("dev", "") if entry.get("type", "unicast") == "unicast" else "",
        protocol=_PROTOCOLS[protocol] if protocol in _PROTOCOLS else _number(protocol),
        metric=entry.get("metric", 0),
        onlink="onlink" in entry.get("flags", []),
        mtu_bytes=metrics[0].get("mtu"),
    )


def _number(protocol: str) -> int:
    # Names of protocols that no one of ours uses depend on the machine's rt_protos.
    return int(protocol) if protocol.isdigit() else -1


def _is_owned(route: Route) -> bool:
    if route.device in _TUNNELS:
        return route.protocol in (PROTO_BOOT, *_OWNED_PROTOCOLS)
    return route.protocol in _OWNED_PROTOCOLS


def _address(link: dict[str, Any]) -> IPv4Address | None:
    inet = [entry["local"] for entry in link["addr_info"] if entry.get("family") == "inet"]
    return IPv4Address(inet[0]) if inet else None


def _vxlan(link: dict[str, Any] | None) -> VxlanDevice | None:
    if link is None:
        return None
    data = link.get("linkinfo", {}).get("info_data", {})
    return VxlanDevice(
        local=IPv4Address(data.get("local", "0.0.0.0")),
        mac=link["address"],
        address=_address(link),
        mtu_bytes=link["mtu"],
        vni=data.get("id", 0),
        port=data.get("port", 0),
        parent=data.get("link", ""),
        up="UP" in link["flags"],
    )


def _ipip(link: dict[str, Any] | None) -> IpipDevice | None:
    if link is None:
        return None
    return IpipDevice(address=_address(link), mtu_bytes=link["mtu"], up="UP" in link["flags"])


def _vteps(neighbours: list[dict[str, Any]], fdb: list[dict[str, Any]]) -> frozenset[Vtep]:
    """One per entry, not per peer: a half of a pair that is missing must show as missing."""
    found = [
        Vtep(mac=entry["lladdr"], tunnel=IPv4Address(entry["dst"]), underlay=None)
        for entry in neighbours
        if entry.get("dev") == VXLAN_DEVICE and "." in entry["dst"] and "lladdr" in entry
    ]
    found += [
        Vtep(mac=entry["mac"], tunnel=None, underlay=IPv4Address(entry["dst"]))
        for entry in fdb
        if entry.get("dst") and entry.get("ifname", VXLAN_DEVICE) == VXLAN_DEVICE
    ]
    return frozenset(found)


# -- From what a kernel holds to what it should hold, in as few commands as possible ---------------
#
# The order loses few packets: devices, then neighbours and FDB, then routes (each replaced in
# one step), and only then stale routes and neighbours. A stale FDB entry goes before the new
# ones, since the kernel lets one replace the other. A device that loses its last address loses
# its routes and permanent neighbours with it, without a word: so a new address comes before the
# old one goes, and where none comes, all of them are written anew.


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


# -- A fault: packets leave by another way than the routing table says -----------------------------
#
# Marked packets look into a table of their own, which ``ip route get`` does not see: what a node
# promises and what it does then differ, as with a stray policy rule on a real node.


BYPASS_TABLE = "k8snet-bypass"
_ROUTING_TABLE, _PREFERENCE = 4242, 50


def routes_around(data: Datastore, node: str) -> list[Route]:
    """The other way to each remote block: direct where the routes tunnel, else through a tunnel.

    Direct only within the subnet, and a tunnel only where both ends have one.
    """
    host = data.host(node)
    if host is None:
        return []
    owners = {block.cidr: block.node for block in data.blocks}
    found = []
    for route in sorted(node_state(data, node).routes, key=str):
        peer = data.host(owners.get(route.destination, ""))
        if peer is not None and peer.name != node:
            found.append(_other_way(route, host, peer))
    return [route for route in found if route is not None]


def _other_way(route: Route, host: Host, peer: Host) -> Route | None:
    if route.device != host.wire:
        if peer.address.ip not in host.address.network:
            return None
        gateway, device = peer.address.ip, host.wire
    elif host.vxlan_tunnel is not None and peer.vxlan_tunnel is not None:
        gateway, device = peer.vxlan_tunnel, VXLAN_DEVICE
    elif host.ipip_tunnel is not None and peer.ipip_tunnel is not None:
        gateway, device = peer.address.ip, IPIP_DEVICE
    else:
        return None
    return Route(destination=route.destination, gateway=gateway, device=device, onlink=True)


def bypass_rules(routes: Iterable[Route]) -> str:
    """The table that marks what is to take these routes; without routes, no table."""
    blocks = ", ".join(str(route.destination) for route in routes)
    head = f"table ip {BYPASS_TABLE}\ndelete table ip {BYPASS_TABLE}\n"
    if not blocks:
        return head
    mark = f"ip daddr {{ {blocks} }} meta mark set {BYPASS_MARK:#x}"
    return (
        f"{head}table ip {BYPASS_TABLE} {{\n"
        f"chain forwarded {{ type filter hook prerouting priority mangle; {mark}; }}\n"
        f"chain local {{ type route hook output priority mangle; {mark}; }}\n}}\n"
    )


# -- A fault: another CNI's tunnel carries what Calico means to send direct ------------------------

OVERLAY_DEVICE = "flannel.1"
_OVERLAY_VNI, _OVERLAY_PORT = 1, 8472
_OVERLAY_NETWORK = IPv4Network("10.98.0.0/16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """The commands that make another CNI's VXLAN device, its peers and routes; none for none."""

    ip: tuple[str, ...] = ()
    bridge: tuple[str, ...] = ()


def overlay(data: Datastore, node: str, *, carries: bool) -> Overlay:
    """The device on one node; every node needs one, to receive by.

    Args:
        data: the datastore.
        node: the node's name.
        carries: whether the node sends by it what its own routes send direct.
    """
    host = data.host(node)
    if host is None:
        return Overlay()
    tunnel = {
        peer.name: _OVERLAY_NETWORK[int(peer.address.ip) & int(_OVERLAY_NETWORK.hostmask)]
        for peer in data.hosts
    }
    mac = {name: vxlan_mac(f"{OVERLAY_DEVICE}.{name}") for name in tunnel}
    peers = [peer for peer in data.hosts if peer.name != node]
    owners = {block.cidr: block.node for block in data.blocks}
    carried = [
        route for route in node_state(data, node).routes if route.device in (host.wire, host.device)
    ]
    return Overlay(
        ip=(
            f"link add {OVERLAY_DEVICE} mtu {data.link_mtu_bytes - VXLAN_OVERHEAD_BYTES}"
            f" address {mac[node]} type vxlan id {_OVERLAY_VNI} dstport {_OVERLAY_PORT}"
            f" local {host.address.ip} dev {host.device} nolearning",
            f"addr add {tunnel[node]}/32 dev {OVERLAY_DEVICE}",
            f"link set {OVERLAY_DEVICE} up",
            # A node's own packets bear the device's address, and are answered there.
            *(f"route add {tunnel[peer.name]} dev {OVERLAY_DEVICE} scope link" for peer in peers),
            *(
                f"route replace {route.destination} via {tunnel[owners[route.destination]]}"
                f" dev {OVERLAY_DEVICE} onlink"
                for route in _ordered(carried if carries else [])
                if route.destination in owners
            ),
            *(
                f"neigh replace {tunnel[peer.name]} lladdr {mac[peer.name]} dev {OVERLAY_DEVICE}"
                " nud permanent"
                for peer in peers
            ),
        ),
        bridge=tuple(
            f"fdb replace {mac[peer.name]} dev {OVERLAY_DEVICE}"
            f" dst {peer.address.ip} self permanent"
            for peer in peers
        ),
    )


async def apply_overlay(namespace: str, wanted: Overlay) -> None:
    """Make the other CNI's device as it should be, from its beginning; or take it away.

    Raises:
        DataplaneError: the kernel refused.
    """

    def apply_here() -> None:
        if namespaces.has_interface(OVERLAY_DEVICE):
            netns.batch_here([f"link del {OVERLAY_DEVICE}"])
        netns.batch_here(list(wanted.ip))
        netns.batch_here(list(wanted.bridge), "bridge")

    await netns.run(namespace, apply_here)


async def apply_bypass(namespace: str, routes: list[Route]) -> None:
    """Lead packets around the routing table, or (without routes) stop doing so.

    Raises:
        DataplaneError: the kernel refused.
    """

    def apply_here() -> None:
        netns.output_here(["nft", "-f", "-"], text=bypass_rules(routes))
        rules = netns.output_here(["ip", "rule", "show", "pref", str(_PREFERENCE)])
        lines = [f"rule del pref {_PREFERENCE}"] if rules.strip() else []
        lines += [f"route replace {route} table {_ROUTING_TABLE}" for route in routes]
        if routes:
            lines.append(
                f"rule add pref {_PREFERENCE} fwmark {BYPASS_MARK:#x} lookup {_ROUTING_TABLE}"
            )
        netns.batch_here(lines)

    await netns.run(namespace, apply_here)


# -- A kernel without a driver ---------------------------------------------------------------------

#: What the lab shows of each node to those who run there.
NODES = Path("/run/k8snet/nodes")
#: Functions of the drivers, which a kernel that has them names to everybody.
_SYMBOLS = {"vxlan": "vxlan_rcv", "ipip": "ipip_rcv"}
#: Where tunl0 is put away: the kernel's own cannot be deleted, and with one of the forwarder's all
#: are gone.
_PUT_AWAY = "k8snet-away"


def symbols(node: str) -> Path:
    """What containers of a node see as ``/proc/kallsyms``."""
    return NODES / node / "kallsyms"


def felix_log(node: str) -> Path:
    """The log of the node's calico-node."""
    return NODES / node / "calico-node.log"


def show_node(node: str) -> None:
    """Make what is shown of a node, whose kernel has every driver."""
    (NODES / node).mkdir(parents=True, exist_ok=True)
    felix_log(node).touch()
    _show_drivers(node, frozenset())


def _show_drivers(node: str, lacking: Collection[str]) -> None:
    lines = [f"{0:016x} t {name}\n" for one, name in _SYMBOLS.items() if one not in lacking]
    symbols(node).write_text(f"{0:016x} T _stext\n{''.join(lines)}")


async def apply_drivers(node: str, lacking: Collection[str], refused: Collection[str]) -> None:
    """Let a node's kernel know some tunnels no longer, or all of them again.

    Args:
        node: the node's name.
        lacking: what it does not know.
        refused: the tunnels among that which Felix would make.

    Raises:
        DataplaneError: the kernel refused.
    """
    _show_drivers(node, lacking)
    with felix_log(node).open("a") as log:
        for family in sorted(refused):
            moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
            why = "tunnel device, retrying... error=operation not supported"
            log.write(f"{moment} [WARNING][66] felix: Failed to configure {family} {why}\n")

    def rename() -> None:
        old, new = (IPIP_DEVICE, _PUT_AWAY) if "ipip" in lacking else (_PUT_AWAY, IPIP_DEVICE)
        if namespaces.has_interface(old):
            netns.batch_here([f"link set {old} down", f"link set {old} name {new}"])
            netns.batch_here([f"link set {IPIP_DEVICE} up"] if new == IPIP_DEVICE else [])

    await netns.run(node_namespace(node), rename)

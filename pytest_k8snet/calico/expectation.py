"""What both nodes' kernels must look like for a path to be taken, and what is amiss. Pure.

Each function returns complaints in words: what was expected and what was found. None of them
looks at a route's ``proto``: who writes the routes differs between versions and settings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_k8snet.calico.kernel import TUNNEL_DEVICES, KernelState, Route, hosts
from pytest_k8snet.calico.modes import Family, Path
from pytest_k8snet.tools.ip import Link

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node

_FAMILIES: tuple[Literal["vxlan", "ipip"], ...] = ("vxlan", "ipip")
#: The VNI that Calico uses for every pool.
_VNI = 4096


def path_of_device(device: str) -> str:
    """The path that a route through a device takes; ``local`` for a pod on the node itself."""
    for path, name in TUNNEL_DEVICES.items():
        if device == name:
            return path
    if device.startswith("wireguard"):
        return "wireguard"
    return "local" if device.startswith("cali") or device == "lo" else "direct"


def calico_address(node: Node) -> str:
    """The address by which Calico's routes and tunnels reach a node."""
    return str(node.interface.ip) if node.interface is not None else node.internal_ip


def nic_of(node: Node, state: KernelState) -> Link | None:
    """The network interface that has the address by which Calico reaches a node."""
    return state.link_of(calico_address(node)) or state.link_of(node.internal_ip)


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """A node, with what its kernel said."""

    node: Node
    state: KernelState


def route_complaints(path: Path, destination: str, sender: Station, receiver: Station) -> list[str]:
    """What keeps the sender's packets to a destination from taking a path.

    Args:
        path: the path that is promised.
        destination: the address, a pod's or a node's own.
        sender: the sending node; its route to the destination was asked for.
        receiver: the receiving node.
    """
    return list(_route_complaints(path, destination, sender, receiver))


def _route_complaints(
    path: Path, destination: str, sender: Station, receiver: Station
) -> Iterator[str]:
    route = sender.state.route(destination)
    if route.error:
        yield f"{sender.node.name} has no route to {destination}, expected {path}: {route.error}"
        return
    found = f"{sender.node.name} sends {route}"
    taken = path_of_device(route.device)
    if sender.node.name == receiver.node.name:
        if taken != "local":
            yield f"{found}, expected the pod's own cali device"
    elif taken != path:
        yield f"{found}, expected {_wanted_device(path, sender.state)}"
    elif path == "vxlan":
        yield from _vxlan_route_complaints(route, sender, receiver, found)
    elif _gateway_matters(path, sender.node, receiver.node) and route.gateway not in (
        "",
        calico_address(receiver.node),
    ):
        yield (
            f"{found}, expected the next hop {calico_address(receiver.node)} of "
            f"{receiver.node.name}: a stale route"
        )


def _gateway_matters(path: Path, sender: Node, receiver: Node) -> bool:
    # Between subnets a direct route goes via a router, whose business it is to know the pods.
    return path == "ipip" or sender.same_subnet(receiver)


def _wanted_device(path: Path, sender: KernelState) -> str:
    if path == "direct":
        return "the node's own NIC (direct)"
    device = TUNNEL_DEVICES[path]
    return f"dev {device}" + ("" if device in sender.links else ", which does not exist there")


def _vxlan_route_complaints(
    route: Route, sender: Station, receiver: Station, found: str
) -> Iterator[str]:
    remote = receiver.state.links.get(TUNNEL_DEVICES["vxlan"])
    if remote is None:
        yield (f"{receiver.node.name} has no vxlan.calico to receive what {sender.node.name} sends")
    elif not route.gateway:
        return  # a borrowed or /32 tunnel address: scope link, nothing to compare
    elif route.gateway not in hosts(remote):
        yield (
            f"{found}, expected {receiver.node.name}'s tunnel address "
            f"{', '.join(hosts(remote)) or '(it has none)'}: a stale route"
        )
    else:
        yield from _endpoint_complaints(route.gateway, remote, sender, receiver.node)


def _endpoint_complaints(gateway: str, remote: Link, sender: Station, to: Node) -> Iterator[str]:
    mac = sender.state.neighbours.get(gateway)
    if mac != remote.mac:
        yield (
            f"{sender.node.name} has {mac or 'no MAC'} for {gateway} on vxlan.calico, expected "
            f"{remote.mac} of {to.name}"
        )
        return
    fdb = sender.state.fdb
    if fdb is not None and fdb.get(mac) != calico_address(to):
        yield (
            f"{sender.node.name}'s FDB sends {mac} to {fdb.get(mac) or 'nowhere'}, expected "
            f"{calico_address(to)} of {to.name}"
        )


def vxlan_peer_complaints(sender: Station, receiver: Station) -> list[str]:
    """What keeps a node from reaching another's VXLAN tunnel endpoint: neighbour and FDB entry.

    There may be no pods yet when this is asked, so no route tells the gateway: it is the address
    of the receiving node's tunnel device.
    """
    remote = receiver.state.links.get(TUNNEL_DEVICES["vxlan"])
    address = next(iter(hosts(remote)), "") if remote else ""
    if remote is None or not address:
        return []  # device_complaints says so
    return list(_endpoint_complaints(address, remote, sender, receiver.node))


def device_complaints(
    station: Station,
    *,
    required: Collection[Family],
    allowed: Collection[Family],
    flow_based: bool = False,
) -> list[str]:
    """What keeps a node's tunnel devices from being those of the modes that are wanted.

    Args:
        station: the node.
        required: the encapsulations that must work on it.
        allowed: those that other pools or settings enable beside; they may have a device or not.
        flow_based: the eBPF dataplane, whose VXLAN device carries no VNI and may be there and
            without address in every mode.
    """
    complaints: list[str] = []
    for family in _FAMILIES:
        device = TUNNEL_DEVICES[family]
        link = station.state.links.get(device)
        if family in required:
            complaints += _wanted_tunnel(device, link, station.node, flow_based=flow_based)
        elif flow_based or family in allowed or link is None:
            continue
        # vxlan.calico is deleted when its family goes; tunl0 stays and only loses its address.
        elif device == "vxlan.calico" or hosts(link):
            complaints.append(
                f"{station.node.name} still has {device} {' '.join(hosts(link))}".rstrip()
            )
    return complaints


def _wanted_tunnel(
    device: str, link: Link | None, node: Node, *, flow_based: bool
) -> Iterator[str]:
    if link is None:
        yield f"{node.name} has no {device} yet"
        return
    if link.state == "DOWN":
        yield f"{device} of {node.name} is down"
    if not hosts(link) and not flow_based:
        yield f"{device} of {node.name} has no tunnel address yet"
    if flow_based:
        return
    if link.vni not in (None, _VNI):
        yield f"{device} of {node.name} has VNI {link.vni}, expected {_VNI}"
    if link.kind == "vxlan" and link.local not in ("", calico_address(node)):
        yield f"{device} of {node.name} is bound to {link.local}, expected {calico_address(node)}"

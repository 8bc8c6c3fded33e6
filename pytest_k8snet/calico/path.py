"""Which path a sample took: the claim, the evidence, and the verdict on it. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pytest_k8snet.calico.installation import IPPool, pool_of
from pytest_k8snet.calico.kernel import TUNNEL_DEVICES, KernelState, Route, hosts
from pytest_k8snet.calico.modes import (
    FALLBACK_HOST_MTU_BYTES,
    CalicoMode,
    Encapsulation,
    Family,
    Path,
    mss_bytes,
    pod_mtu_bytes,
)
from pytest_k8snet.errors import PathError
from pytest_k8snet.tools.ip import Counters, Link

if TYPE_CHECKING:
    from pytest_k8snet.calico.capture import Moment, WireFinding
    from pytest_k8snet.cluster.nodes import Node

#
# Each function returns complaints in words: what was expected and what was found. None of them
# looks at a route's ``proto``: who writes the routes differs between versions and settings.


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


# -- What the devices' byte counters say about the way that a sample's payload went. Pure ---------


Way = Literal["sent", "received"]
Unit = Literal["bytes", "packets"]
_SENT: Way = "sent"
_RECEIVED: Way = "received"

#: The share of the payload that a device must have counted to have carried it. Headers only add;
#: what is missing covers the moment between the sample's end and the snapshot.
_SHARE = 0.9


def counter_complaints(leg: Leg, before: PathSnapshot, after: PathSnapshot) -> list[str]:
    """How the counters of one direction contradict its path."""
    if leg.sender.node.name == leg.receiver.node.name:
        return list(_same_node_complaints(leg, before, after))
    if leg.path == "direct":
        return list(_direct_complaints(leg, before, after))
    return list(_tunnel_complaints(leg, before, after))


def _tunnel_complaints(leg: Leg, before: PathSnapshot, after: PathSnapshot) -> Iterator[str]:
    device = TUNNEL_DEVICES[leg.path]
    for end, way in ((leg.sender, _SENT), (leg.receiver, _RECEIVED)):
        node = end.node.name
        earlier = before.states[node].links.get(device)
        later = after.states[node].links.get(device)
        if later is None:
            yield f"{node} has no {device}"
            continue
        packets = _grown(earlier, later, way, "packets")
        grown = _grown(earlier, later, way, "bytes")
        if packets < 0 or (earlier is None):
            yield f"{device} of {node} was made anew during the sample"
        elif packets == 0:
            yield f"{device} of {node} {way} no packet of this direction during the sample"
        elif leg.countable and grown < _SHARE * leg.payload_bytes:
            yield (
                f"{device} of {node} {way} only {grown} bytes, of a payload of "
                f"{leg.payload_bytes}: the rest took another path"
            )


def _direct_complaints(leg: Leg, before: PathSnapshot, after: PathSnapshot) -> Iterator[str]:
    if not leg.countable:
        return
    for end, way in ((leg.sender, _SENT), (leg.receiver, _RECEIVED)):
        node = end.node.name
        nic = _nic(before, end, leg.destination if end is leg.sender else "")
        if nic is None or nic.name not in after.states[node].links:
            continue
        total = _grown(nic, after.states[node].links[nic.name], way, "bytes")
        tunnelled = {
            device: _tunnel_growth(before.states[node], after.states[node], device, way)
            for device in TUNNEL_DEVICES.values()
        }
        # The NIC counts tunnelled packets too, with their outer headers; what is left is direct.
        if total - sum(tunnelled.values()) >= _SHARE * leg.payload_bytes:
            continue
        device = max(tunnelled, key=lambda name: tunnelled[name])
        if tunnelled[device] >= leg.payload_bytes / 2:
            yield (
                f"{device} of {node} {way} {tunnelled[device]} bytes during the sample, of a "
                f"payload of {leg.payload_bytes} that was promised to go direct"
            )
        else:
            yield (
                f"{nic.name} of {node} {way} only {total} bytes, of a payload of "
                f"{leg.payload_bytes}: the rest took another path"
            )


def _same_node_complaints(leg: Leg, before: PathSnapshot, after: PathSnapshot) -> Iterator[str]:
    if not leg.countable:
        return
    node = leg.sender.node.name
    for device in TUNNEL_DEVICES.values():
        grown = _tunnel_growth(before.states[node], after.states[node], device, "sent")
        if grown >= leg.payload_bytes / 2:
            yield f"{device} of {node} sent {grown} bytes, though both pods are on that node"


def _nic(snapshot: PathSnapshot, end: PathEnd, destination: str) -> Link | None:
    state = snapshot.states[end.node.name]
    if destination:
        return state.links.get(state.route(destination).device)
    return nic_of(end.node, state)


def _tunnel_growth(earlier: KernelState, later: KernelState, device: str, way: Way) -> int:
    if device not in later.links:
        return 0
    return max(0, _grown(earlier.links.get(device), later.links[device], way, "bytes"))


def _grown(earlier: Link | None, later: Link, way: Way, what: Unit) -> int:
    """How much a counter has grown; from zero if the device was not there."""
    return _count(later, way, what) - (_count(earlier, way, what) if earlier is not None else 0)


def _count(link: Link, way: Way, what: Unit) -> int:
    counters: Counters | None = link.sent if way == "sent" else link.received
    if counters is None:
        return 0
    return counters.packets if what == "packets" else counters.bytes


def counter_record(before: PathSnapshot, after: PathSnapshot) -> dict[str, Any]:
    """Growth of the tunnels' and the nodes' own NIC's byte counters, per node. JSON-safe."""
    record: dict[str, Any] = {}
    for end in (after.client, after.server):
        node = end.node.name
        nic = _nic(after, end, "")
        names = [*TUNNEL_DEVICES.values(), *([nic.name] if nic is not None else [])]
        record[node] = {
            name: {
                "tx_bytes": _grown(before.states[node].links.get(name), link, "sent", "bytes"),
                "rx_bytes": _grown(before.states[node].links.get(name), link, "received", "bytes"),
            }
            for name in names
            if (link := after.states[node].links.get(name)) is not None
        }
    return record


# -- The two directions of a measured pair, and the path that each is promised. Pure --------------
#
# One rule makes them all: the pool of the destination address decides, on the sending node; what
# lies in no pool, such as a node's own address, is never encapsulated.

#: Below this, what else runs on the nodes may hide the sample's own bytes.
COUNTABLE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One direction: from whom to whom, to which address, by which path, how much payload."""

    sender: PathEnd
    receiver: PathEnd
    destination: str
    path: Path
    payload_bytes: int

    @property
    def countable(self) -> bool:
        """Whether the device counters can tell whether the payload went this way."""
        return self.payload_bytes >= COUNTABLE_BYTES


def legs(snapshot: PathSnapshot, transfer: Transfer, pools: Sequence[IPPool]) -> tuple[Leg, Leg]:
    """The direction from client to server, and the one back."""
    client, server = snapshot.client, snapshot.server
    return (
        _leg(client, server, server.address, transfer.to_server_bytes, pools),
        _leg(server, client, _return_address(snapshot, pools), transfer.to_client_bytes, pools),
    )


def return_addresses(client: PathEnd, server: PathEnd) -> list[str]:
    """Every address of the client's side that replies may go to.

    It is needed before a state is read, as the route to each has to be asked for.
    """
    addresses = [client.address]
    if client.kind == "pod" and server.kind == "node":
        addresses.append(client.node.internal_ip)
    if client.kind == "node" and server.kind == "pod":
        addresses += [
            client.node.annotations[key]
            for key in (
                "projectcalico.org/IPv4VXLANTunnelAddr",
                "projectcalico.org/IPv4IPIPTunnelAddr",
            )
            if client.node.annotations.get(key)
        ]
    return addresses


def _return_address(snapshot: PathSnapshot, pools: Sequence[IPPool]) -> str:
    client, server = snapshot.client, snapshot.server
    if client.kind == "node" and server.kind == "pod":
        # A node's packet into a tunnel bears the tunnel's own address, and is answered there.
        state = snapshot.states[client.node.name]
        source = state.route(server.address).source
        known = snapshot.states[server.node.name].routes
        return source if source in known else client.address
    if client.kind == "pod" and server.kind == "node":
        pool = pool_of(client.address, pools)
        masqueraded = pool is not None and pool.nat_outgoing
        return client.node.internal_ip if masqueraded else client.address
    return client.address


def path_to(destination: str, sender: Node, receiver: Node, pools: Iterable[IPPool]) -> Path:
    """The path that packets to an address on the receiving node are promised."""
    pool = pool_of(destination, pools)
    if pool is None or sender.name == receiver.name:
        return "direct"
    return pool.mode.path(sender.same_subnet(receiver))


def _leg(
    sender: PathEnd, receiver: PathEnd, destination: str, payload: int, pools: Sequence[IPPool]
) -> Leg:
    return Leg(
        sender=sender,
        receiver=receiver,
        destination=destination,
        path=path_to(destination, sender.node, receiver.node, pools),
        payload_bytes=payload,
    )


# -- Whether the pods' MTU is the one that their mode's cluster gives, or a stale one. Pure -------

#: Felix's default pattern of interfaces whose MTU counts as the host's.
_HOST_INTERFACES = re.compile(r"((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)")


def host_mtu_bytes(state: KernelState) -> int:
    """The MTU that Felix detects on a node."""
    found = [
        link.mtu_bytes
        for link in state.links.values()
        if link.state != "DOWN" and _HOST_INTERFACES.fullmatch(link.name)
    ]
    return min(found, default=FALLBACK_HOST_MTU_BYTES)


def pod_mtu_of(end: PathEnd, snapshot: PathSnapshot) -> int | None:
    """A pod's MTU: as read in the pod, else of the node's end of its cable."""
    if end.kind != "pod":
        return None
    if end.mtu_bytes is not None:
        return end.mtu_bytes
    state = snapshot.states[end.node.name]
    link = state.links.get(state.route(end.address).device)
    return link.mtu_bytes if link is not None and link.name.startswith("cali") else None


def mtu_complaints(
    snapshot: PathSnapshot, transfer: Transfer, legs: Sequence[Leg], context: PathContext
) -> list[str]:
    """What is wrong with the MTUs of a pair's pods."""
    return [
        *_pod_complaints(snapshot, context),
        *_mtu_tunnel_complaints(snapshot, legs),
        *_mss_complaints(snapshot, transfer),
    ]


def _pod_complaints(snapshot: PathSnapshot, context: PathContext) -> Iterator[str]:
    if not context.mtu_known:
        return
    for end in (snapshot.client, snapshot.server):
        found = pod_mtu_of(end, snapshot)
        if found is None:
            continue
        expected = context.mtu_bytes or pod_mtu_bytes(
            host_mtu_bytes(snapshot.states[end.node.name]), context.encapsulations
        )
        if found != expected:
            why = (
                "as the installation sets it"
                if context.mtu_bytes
                else f"with {' and '.join(sorted(context.encapsulations)) or 'no encapsulation'} "
                "enabled"
            )
            yield (
                f"stale MTU: pod {end.name} has {found}, expected {expected} {why}; it was made "
                f"before the switch"
            )


def _mtu_tunnel_complaints(snapshot: PathSnapshot, legs: Sequence[Leg]) -> Iterator[str]:
    for leg in legs:
        if leg.path == "direct" or leg.sender.kind != "pod":
            continue
        tunnel = snapshot.states[leg.sender.node.name].links.get(TUNNEL_DEVICES[leg.path])
        pod = pod_mtu_of(leg.sender, snapshot)
        if tunnel is not None and pod is not None and pod > tunnel.mtu_bytes:
            yield (
                f"wrong MTU: pod {leg.sender.name} has {pod}, but {tunnel.name} of "
                f"{leg.sender.node.name} carries only {tunnel.mtu_bytes}"
            )


def _mss_complaints(snapshot: PathSnapshot, transfer: Transfer) -> Iterator[str]:
    mtus = [
        mtu
        for end in (snapshot.client, snapshot.server)
        if (mtu := pod_mtu_of(end, snapshot)) is not None
    ]
    if transfer.mss_bytes is None or len(mtus) < 2:
        return
    # The MSS may count TCP options or not; less than both means that the path made it smaller.
    if transfer.mss_bytes < mss_bytes(min(mtus)):
        yield (
            f"wrong MTU on the path: the connection's MSS is {transfer.mss_bytes}, but the pods' "
            f"MTU of {min(mtus)} allows {mss_bytes(min(mtus))}"
        )


def mtu_record(snapshot: PathSnapshot, transfer: Transfer) -> dict[str, Any]:
    """MTU of pods, tunnels and hosts, and the connection's MSS, in bytes. JSON-safe."""
    record: dict[str, Any] = {"mss": transfer.mss_bytes}
    for role, end in (("client", snapshot.client), ("server", snapshot.server)):
        state = snapshot.states[end.node.name]
        record[role] = {
            "pod": pod_mtu_of(end, snapshot),
            "host": host_mtu_bytes(state),
            **{
                device: state.links[device].mtu_bytes
                for device in TUNNEL_DEVICES.values()
                if device in state.links
            },
        }
    return record


# -- Which path a sample took: the claim, the evidence, and the verdict on it. Pure ---------------


_AT: dict[Moment, str] = {
    "once": "",
    "before": "before the sample, ",
    "after": "after the sample, ",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PathEnd:
    """One end of a measured pair: a pod or a node, the node below it, and the address used."""

    kind: Literal["pod", "node"]
    name: str
    node: Node
    address: str
    #: The MTU of the pod's own interface, if it was read in the pod; else the node's view counts.
    mtu_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Payload that a sample moved, per direction, in bytes, and the MSS of its connection."""

    to_server_bytes: int = 0
    to_client_bytes: int = 0
    mss_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSnapshot:
    """Both nodes' kernel states at one moment; a node that could not be read says why."""

    client: PathEnd
    server: PathEnd
    states: Mapping[str, KernelState]
    missing: Mapping[str, str] = field(default_factory=dict)

    def station(self, end: PathEnd) -> Station:
        """The node below an end, with its state."""
        return Station(node=end.node, state=self.states[end.node.name])


@dataclass(frozen=True, slots=True, kw_only=True)
class PathContext:
    """What the cluster looked like while the sample ran, beside the two nodes' kernels.

    Attributes:
        pools: the pools as they were then.
        encapsulations: those that are enabled anywhere, which cost MTU.
        routes_prove: False on dataplanes (eBPF) that forward beside the kernel's routes.
        mtu_bytes: an explicit MTU of the installation; None if it follows the host's;
            ``mtu_known`` False if that could not be read.
        pools_unread: why the pools could not be read; empty if they were.
    """

    pools: tuple[IPPool, ...]
    encapsulations: Collection[Encapsulation]
    routes_prove: bool = True
    mtu_bytes: int | None = None
    mtu_known: bool = True
    pools_unread: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathProof:
    """The judgement on one sample's path."""

    state: Literal["proven", "contradicted", "missing"]
    text: str
    #: What the mode promises from client to server.
    expected: Path
    route: tuple[dict[str, Any], ...] = ()
    counters: dict[str, Any] = field(default_factory=dict)
    mtu: dict[str, Any] = field(default_factory=dict)
    #: What was seen on the wire; None where it was not looked at.
    wire: tuple[dict[str, Any], ...] | None = None

    def to_record(self) -> dict[str, Any]:
        """The JSON-safe "path" part of a sample's record."""
        return {
            "state": self.state,
            "text": self.text,
            "expected": self.expected,
            "route": list(self.route),
            "counters": self.counters,
            "mtu": self.mtu,
            "wire": list(self.wire) if self.wire is not None else None,
        }

    def require(self) -> None:
        """Insist that the path was not contradicted; a missing proof passes, marked as missing.

        Raises:
            PathError: the figure belongs to another path than it claims.
        """
        if self.state == "contradicted":
            raise PathError(
                "The traffic did not take the path that its mode promises",
                found=self.text,
                remedy="Check the routes and tunnel devices of both nodes; trust no figure of "
                "this mode before they are right. This one is kept in the report as an error.",
            )


def judge(
    mode: CalicoMode | None,
    before: PathSnapshot,
    after: PathSnapshot,
    transfer: Transfer,
    context: PathContext,
    wire: Mapping[Moment, WireFinding] = MappingProxyType({}),
) -> PathProof:
    """Judge which path a sample took, from the state of both nodes before and after it.

    Args:
        mode: the mode that the sample claims; None if it claims none (node to node).
        before: the nodes before the sample.
        after: the nodes after it.
        transfer: what the sample moved.
        context: pools, encapsulations and MTU settings.
        wire: what was seen on the wire around it; empty where it was not looked at.

    Returns:
        ``proven`` if routes and counters of both nodes and both directions, and the wire if it
        was looked at, agree with the claim, ``missing`` if a node, the pools or the wire could
        not be read, ``contradicted`` with every disagreement.
    """
    if context.pools_unread and "pod" in (before.client.kind, before.server.kind):
        return PathProof(
            state="missing",
            text=f"IPPools: {context.pools_unread}",
            expected=_promise(mode, before.client, before.server, context.pools),
        )
    complaints = list(claim_complaints(mode, before.client, before.server, context.pools))
    unread = {**before.missing, **after.missing}
    if unread and not complaints:
        return PathProof(
            state="missing",
            text="; ".join(f"{node}: {why}" for node, why in sorted(unread.items())),
            expected=_promise(mode, before.client, before.server, context.pools),
        )
    if unread:
        return PathProof(
            state="contradicted",
            text="\n".join(complaints),
            expected=_promise(mode, before.client, before.server, context.pools),
        )
    directions = legs(before, transfer, context.pools)
    for leg in directions:
        if context.routes_prove:
            for moment, snapshot in (("before", before), ("after", after)):
                complaints += [
                    f"{moment} the sample, {complaint}"
                    for complaint in route_complaints(
                        leg.path,
                        leg.destination,
                        snapshot.station(leg.sender),
                        snapshot.station(leg.receiver),
                    )
                ]
        complaints += counter_complaints(leg, before, after)
    complaints += mtu_complaints(before, transfer, directions, context)
    for moment, finding in wire.items():
        complaints += [f"{_AT[moment]}{complaint}" for complaint in finding.complaints]
    gaps = [f"on the wire: {gap}" for finding in wire.values() for gap in finding.gaps]
    praise = [_praise(directions, before, context)]
    praise += dict.fromkeys(finding.praise() for finding in wire.values())
    return PathProof(
        state="contradicted" if complaints else "missing" if gaps else "proven",
        text="\n".join(dict.fromkeys(complaints or gaps)) or "; ".join(praise),
        expected=directions[0].path,
        route=tuple(_route_record(leg, after) for leg in directions),
        counters=counter_record(before, after),
        mtu=mtu_record(before, transfer),
        wire=tuple(one.to_record(moment) for moment, one in wire.items()) if wire else None,
    )


def claim_complaints(
    mode: CalicoMode | None, client: PathEnd, server: PathEnd, pools: Iterable[IPPool]
) -> list[str]:
    """What keeps a pair from being in the mode that is claimed: the pools of its pods."""
    pools = list(pools)
    complaints = []
    inside: dict[str, IPPool] = {}
    for end in (client, server):
        if end.kind != "pod":
            continue
        pool = pool_of(end.address, pools)
        if pool is None:
            complaints.append(f"pod {end.name} has {end.address}, which lies in no pool")
            continue
        inside[end.name] = pool
        if mode is not None and pool.mode is not mode:
            complaints.append(
                f"pod {end.name} has {end.address} of pool {pool.name}, which is in mode "
                f"{pool.mode}, not {mode}"
            )
    if len({pool.mode for pool in inside.values()}) > 1:
        complaints.append(
            "the pods lie in pools of different modes, so their two directions differ: "
            + ", ".join(f"{name} in {pool.name} ({pool.mode})" for name, pool in inside.items())
        )
    return complaints


def _promise(
    mode: CalicoMode | None, client: PathEnd, server: PathEnd, pools: Iterable[IPPool]
) -> Path:
    pool = pool_of(server.address, pools)
    promised = pool.mode if pool is not None else mode if server.kind == "pod" else None
    if promised is None or client.node.name == server.node.name:
        return "direct"
    return promised.path(client.node.same_subnet(server.node))


def _praise(directions: Iterable[Leg], before: PathSnapshot, context: PathContext) -> str:
    parts = []
    for leg in directions:
        device = before.station(leg.sender).state.route(leg.destination).device
        counted = f", {leg.payload_bytes} bytes of payload counted" if leg.countable else ""
        parts.append(
            f"{leg.sender.node.name} -> {leg.receiver.node.name} {leg.path}"
            f"{f' by {device}' if context.routes_prove else ''}{counted}"
        )
    asymmetric = len({leg.path for leg in directions}) > 1
    return "; ".join(parts) + ("; the directions differ, as promised" if asymmetric else "")


def _route_record(leg: Leg, snapshot: PathSnapshot) -> dict[str, Any]:
    route = snapshot.station(leg.sender).state.route(leg.destination)
    return {
        "from": leg.sender.node.name,
        "to": leg.receiver.node.name,
        "destination": route.destination,
        "expected": leg.path,
        "device": route.device,
        "gateway": route.gateway,
        "error": route.error,
    }

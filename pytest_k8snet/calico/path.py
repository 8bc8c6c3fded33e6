"""Which path a sample took: the claim, the evidence, and the verdict on it. Pure.

A pair has two directions. For each, one rule says which path is promised: the pool of the
*destination* address decides, on the *sending* node. The evidence is both nodes' routes and
tunnels (``kernel``), the byte counters of the devices that these name, down to the physical ones,
the address by which the server saw the client, the MTUs, and, where it was looked at, the wire.
What any of these leaves unknown is a gap: nothing is proven then, nor contradicted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pytest_k8snet.calico.installation import Installation, IPPool, Version, pool_of
from pytest_k8snet.calico.kernel import (
    TUNNEL_ANNOTATIONS,
    TUNNEL_DEVICES,
    KernelState,
    NodeState,
    Question,
    host_mtus,
    route_gaps,
    route_mismatches,
)
from pytest_k8snet.calico.modes import (
    CalicoMode,
    Path,
    mss_bytes,
    pod_mtu_bytes,
)
from pytest_k8snet.errors import PathError
from pytest_k8snet.tools.ip import Counters, underside
from pytest_k8snet.tools.tool import Payload

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node

#: When the wire was looked at: once for a pair in its mode, or around the very sample.
Moment = Literal["once", "before", "after"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathEnd:
    """One end of a measured pair: a pod or a node, the node below it, and the address used.

    Attributes:
        seen_as: the address by which the other end sees it, which NAT may have changed; empty
            where that is not known.
    """

    kind: Literal["pod", "node"]
    name: str
    node: Node
    address: str
    seen_as: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSnapshot:
    """Both nodes' kernel states at one moment; a node that could not be read says why."""

    client: PathEnd
    server: PathEnd
    states: Mapping[str, KernelState]
    missing: Mapping[str, str] = field(default_factory=dict)

    def node_state(self, end: PathEnd) -> NodeState:
        """Return the node below an end, with its state."""
        return NodeState(node=end.node, kernel=self.states[end.node.name])


@dataclass(frozen=True, slots=True, kw_only=True)
class WireFinding:
    """What captures on both nodes say of one exchange of payload.

    Attributes:
        mismatches: packets that were seen in another shape than the mode promises.
        gaps: what was not seen, so that nothing is proven.
        sightings: JSON-safe, one for each node and direction.
    """

    mismatches: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    sightings: tuple[dict[str, Any], ...] = ()

    def trouble(self) -> str | None:
        """Return what keeps the path from being proven; None if nothing does."""
        return "\n".join(self.mismatches or self.gaps) or None

    def summary(self) -> str:
        """Return what was seen, in a few words."""
        ways = dict.fromkeys(
            f"{one['from']} -> {one['to']} {one['expected']}" for one in self.sightings
        )
        return "on the wire: " + (
            "nothing, as both ends are on one node"
            if not any(one["packets"] for one in self.sightings)
            else ", ".join(ways)
        )

    def to_record(self, moment: Moment) -> dict[str, Any]:
        """Return the JSON-safe record of the exchange."""
        return {"moment": moment, "sightings": list(self.sightings)}


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
        """Return the JSON-safe "path" part of a sample's record."""
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


#: The device that Felix has for eBPF, and removes without it (``RemoveBPFSpecialDevices`` in
#: ``felix/bpf/utils``, v3.28).
_EBPF_DEVICE = "bpfin.cali"

# -- The verdict ----------------------------------------------------------------------------------


def judge(
    mode: CalicoMode | None,
    before: PathSnapshot,
    after: PathSnapshot,
    transfer: Payload,
    installation: Installation,
    wire: Mapping[Moment, WireFinding] = MappingProxyType({}),
) -> PathProof:
    """Judge which path a sample took, from the state of both nodes before and after it.

    Args:
        mode: the mode that the sample claims; None if it claims none (node to node).
        before: the nodes before the sample.
        after: the nodes after it.
        transfer: what the sample moved.
        installation: what the cluster ran meanwhile.
        wire: what was seen on the wire around it; empty where it was not looked at.

    Returns:
        ``proven`` if routes and counters of both nodes and both directions, and the wire if it
        was looked at, agree with the claim, ``missing`` if a node, the pools or the wire could
        not be read, ``contradicted`` with every disagreement.
    """
    if transfer.client_address:
        before = replace(before, client=replace(before.client, seen_as=transfer.client_address))
    client, server, pools = before.client, before.server, installation.pools
    mismatches = claim_mismatches(mode, client, server, pools)
    unread = {**before.missing, **after.missing}
    unpromised = installation.pools_unread or installation.not_routing
    if unpromised and "pod" in (client.kind, server.kind):
        mismatches, unread = [], {"IPPools": unpromised}
    if unread:
        return PathProof(
            state="contradicted" if mismatches else "missing",
            text="\n".join(mismatches)
            or "; ".join(f"{what}: {why}" for what, why in sorted(unread.items())),
            expected=_promise(mode, client, server, pools),
        )
    directions = directions_of(before, transfer, pools)
    growth = _Growth(before, after)
    mismatches += _address_mismatches(before)
    gaps = _outside(client, server, pools)
    if len(directions) < 2:
        gaps.append(f"it is not known as whom {server.node.name} sees pod {client.name}")
    gaps += _strange_translation(before, installation)
    routes_prove = installation.routes_prove and not any(
        _EBPF_DEVICE in state.links for state in before.states.values()
    )
    for direction in directions:
        if routes_prove:
            known, unknown = _route_findings(direction, before, after, installation.nodes)
            mismatches += known
            gaps += unknown or _counter_gaps(direction, growth)
        mismatches += _counter_mismatches(direction, growth)
    mismatches += _mtu_mismatches(before, transfer, directions, installation)
    if client.node.name != server.node.name and not wire:
        gaps += [
            f"{name} has IPsec in use, and may encrypt these packets: the wire tells "
            "(-o k8snet_wire_proof=true)"
            for name, state in before.states.items()
            if state.ipsec
        ]
    if not routes_prove and not wire:
        gaps.append(
            "packets do not take the kernel's routes on eBPF: the wire alone proves their path "
            "there (-o k8snet_wire_proof=true)"
        )
    for moment, finding in wire.items():
        at = "" if moment == "once" else f"{moment} the sample, "
        mismatches += [f"{at}{mismatch}" for mismatch in finding.mismatches]
        gaps += [f"on the wire: {gap}" for gap in finding.gaps]
    summary = [_summary(directions, growth, routes_prove), *_remarks(client, server)]
    summary += dict.fromkeys(finding.summary() for finding in wire.values())
    return PathProof(
        state="contradicted" if mismatches else "missing" if gaps else "proven",
        text="\n".join(dict.fromkeys(mismatches or gaps)) or "; ".join(summary),
        expected=directions[0].path,
        route=tuple(_route_record(direction, after) for direction in directions),
        counters=growth.to_record(directions),
        mtu=_mtu_record(before, transfer, installation.version),
        wire=tuple(one.to_record(moment) for moment, one in wire.items()) if wire else None,
    )


def _address_mismatches(snapshot: PathSnapshot) -> Iterator[str]:
    """What is wrong with the addresses of nodes that are measured themselves."""
    for end in (snapshot.client, snapshot.server):
        name, address = end.node.name, end.address
        link = snapshot.states[name].link_of(address)
        if end.kind == "node" and link is None:
            yield f"{name} has no device with the address {address}, by which it is to be measured"
        elif (
            end.kind == "node" and link and underside(snapshot.states[name].links, link.name).tunnel
        ):
            yield f"{address} of {name} is the address of a tunnel, {link.name}: no baseline"


def _strange_translation(snapshot: PathSnapshot, installation: Installation) -> Iterator[str]:
    """What is not known of the way of a client that is seen by another node's or pod's address.

    That is an egress gateway, by which packets take a way that nobody has looked at. A router that
    translates is a hop like any other.
    """
    client, seen = snapshot.client, snapshot.client.seen_as
    own = snapshot.states[client.node.name].link_of(seen) is not None
    if seen in ("", client.address, *client.node.addresses) or own:
        return
    others = [node.name for node in installation.nodes if seen in node.addresses]
    pool = pool_of(seen, installation.pools)
    if others or pool is not None:
        whose = others[0] if others else f"pool {pool.name}" if pool else ""
        yield (
            f"{snapshot.server.node.name} sees {client.kind} {client.name} as {seen}, which is of "
            f"{whose}: the way by there was not looked at"
        )


def _route_findings(
    direction: Direction, before: PathSnapshot, after: PathSnapshot, nodes: Iterable[Node]
) -> tuple[list[str], list[str]]:
    """How both nodes' kernels contradict the path of one direction, and what they leave open."""
    mismatches: list[str] = []
    gaps: list[str] = []
    for moment, snapshot in (("before", before), ("after", after)):
        sender = snapshot.node_state(direction.sender)
        receiver = snapshot.node_state(direction.receiver)
        if not sender.kernel.knows(direction.destination):
            # An address that showed in this very sample, or not even then.
            if moment == "after":
                gaps.append(f"{sender.node.name} was not asked how {direction.destination} goes")
            continue
        found = list(direction_mismatches(direction, snapshot, nodes))
        way = sender.kernel.way(direction.destination, receiver.node.address)
        if way.tunnel and "pod" not in (direction.sender.kind, direction.receiver.kind):
            found.append(
                f"{sender.node.name} sends {sender.kernel.route(direction.destination)}, and a "
                f"baseline must not go through a tunnel: {way.unknown}"
            )
        mismatches += [f"{moment} the sample, {mismatch}" for mismatch in found]
        gaps += route_gaps(direction.destination, sender, receiver)
        doubts = sender.kernel.doubts
        # A tunnel's own packets have routes, too.
        doubt = doubts.get(direction.destination) or doubts.get(
            receiver.node.address if way.path in TUNNEL_DEVICES else ""
        )
        if doubt and not direction.countable and sender.node.name != receiver.node.name:
            gaps.append(
                f"too few bytes to tell which of {sender.node.name}'s routes to "
                f"{direction.destination} they took: {doubt}"
            )
    return mismatches, gaps


def _remarks(client: PathEnd, server: PathEnd) -> Iterator[str]:
    """What a reader may not expect of a path that is as promised."""
    if client.kind == "pod" and client.seen_as not in ("", client.address):
        yield f"{server.node.name} sees pod {client.name} as {client.seen_as}"
    for end in (client, server):
        other = end.node.internal_ip
        if end.kind == "node" and other and other != end.address:
            yield (
                f"{end.node.name} is measured at {end.address}, by which Calico reaches it; its "
                f"InternalIP is {other}"
            )


def claim_mismatches(
    mode: CalicoMode | None, client: PathEnd, server: PathEnd, pools: Sequence[IPPool]
) -> list[str]:
    """Return what keeps a pair from being in the mode that is claimed: the pools of its pods."""
    if mode is None:
        return []
    mismatches = [f"{outside}, so it is in no mode" for outside in _outside(client, server, pools)]
    inside: dict[str, IPPool] = {}
    for end in (client, server):
        pool = pool_of(end.address, pools) if end.kind == "pod" else None
        if pool is None:
            continue
        inside[end.name] = pool
        if pool.mode is not mode:
            mismatches.append(
                f"pod {end.name} has {end.address} of pool {pool.name}, which is in mode "
                f"{pool.mode}, not {mode}"
            )
    if len({pool.mode for pool in inside.values()}) > 1:
        mismatches.append(
            "the pods lie in pools of different modes, so their two directions differ: "
            + ", ".join(f"{name} in {pool.name} ({pool.mode})" for name, pool in inside.items())
        )
    return mismatches


def _outside(client: PathEnd, server: PathEnd, pools: Sequence[IPPool]) -> list[str]:
    """The pods that Calico promises no path, as other software gave them their addresses."""
    return [
        f"pod {end.name} has {end.address}, which lies in no pool"
        for end in (client, server)
        if end.kind == "pod" and pool_of(end.address, pools) is None
    ]


def _promise(
    mode: CalicoMode | None, client: PathEnd, server: PathEnd, pools: Iterable[IPPool]
) -> Path:
    pool = pool_of(server.address, pools)
    promised = pool.mode if pool is not None else mode if server.kind == "pod" else None
    if promised is None or client.node.name == server.node.name:
        return "direct"
    return promised.path(client.node.same_subnet(server.node))


def _summary(directions: Iterable[Direction], growth: _Growth, routes_prove: bool) -> str:
    parts = []
    for one in directions:
        state = growth.asked(one)
        device = state.route(one.destination).device
        wires = state.way(one.destination, one.receiver.node.address).wires
        below = f" over {', '.join(wires)}" if wires not in ((), (device,)) else ""
        counted = f", {one.payload_bytes} bytes of payload counted" if one.countable else ""
        parts.append(
            f"{one.sender.node.name} -> {one.receiver.node.name} {one.path}"
            f"{f' by {device}{below}' if routes_prove else ''}{counted}"
        )
    asymmetric = len({one.path for one in directions}) > 1
    return "; ".join(parts) + ("; the directions differ, as promised" if asymmetric else "")


def _route_record(direction: Direction, snapshot: PathSnapshot) -> dict[str, Any]:
    route = snapshot.node_state(direction.sender).kernel.route(direction.destination)
    return {
        "from": direction.sender.node.name,
        "to": direction.receiver.node.name,
        "destination": route.destination,
        "expected": direction.path,
        "device": route.device,
        "gateway": route.gateway,
        "error": route.error,
    }


# -- The two directions of a pair, and the path that each is promised -----------------------------

#: Below this, what else runs on the nodes may hide the sample's own bytes.
COUNTABLE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """From whom to whom, to which address, by which path, and how much payload."""

    sender: PathEnd
    receiver: PathEnd
    destination: str
    path: Path
    payload_bytes: int

    @property
    def countable(self) -> bool:
        """Whether the device counters can tell whether the payload went this way."""
        return self.payload_bytes >= COUNTABLE_BYTES


def directions_of(
    snapshot: PathSnapshot, transfer: Payload, pools: Sequence[IPPool]
) -> tuple[Direction, ...]:
    """Return the direction to the server, and the one back, if its address is known."""
    client, server = snapshot.client, snapshot.server

    def direction(sender: PathEnd, receiver: PathEnd, address: str, payload: int) -> Direction:
        return Direction(
            sender=sender,
            receiver=receiver,
            destination=address,
            path=path_to(address, sender.node, receiver.node, pools),
            payload_bytes=payload,
        )

    there = direction(client, server, server.address, transfer.to_server_bytes)
    to = _return_address(snapshot)
    if not to:
        return (there,)
    return there, direction(server, client, to, transfer.to_client_bytes)


def path_to(destination: str, sender: Node, receiver: Node, pools: Iterable[IPPool]) -> Path:
    """Return the path that packets to an address on the receiving node are promised.

    What lies in no pool is never encapsulated, nor is a node's own address in whatever pool it
    lies: Felix makes tunnel routes for pods and tunnels alone.
    """
    pool = pool_of(destination, pools)
    if pool is None or sender.name == receiver.name or destination in receiver.addresses:
        return "direct"
    return pool.mode.path(sender.same_subnet(receiver))


def direction_mismatches(
    direction: Direction, snapshot: PathSnapshot, nodes: Iterable[Node]
) -> Iterator[str]:
    """Yield what keeps one direction from the promised path, by both nodes' kernels."""
    return route_mismatches(
        direction.path,
        direction.destination,
        snapshot.node_state(direction.sender),
        snapshot.node_state(direction.receiver),
        nodes,
    )


def return_addresses(client: PathEnd, server: PathEnd) -> list[str]:
    """Return every address of the client's side that replies may go to, as is foreseeable.

    It is needed before a state is read, as the route to each has to be asked for.
    """
    addresses = [client.address, *([client.seen_as] if client.seen_as else [])]
    if client.kind == "pod" and server.kind == "node":
        addresses += client.node.addresses
    if client.kind == "node":
        tunnels = (client.node.annotations.get(key) for key in TUNNEL_ANNOTATIONS.values())
        addresses += [*client.node.addresses, *(address for address in tunnels if address)]
    return list(dict.fromkeys(addresses))


def pair_questions(client: PathEnd, server: PathEnd) -> dict[str, Question]:
    """Return the routes that matter to a pair, per node."""
    there = (server.address,)
    back = tuple(return_addresses(client, server))
    if client.node.name == server.node.name:
        return {client.node.name: _question(client, there + back)}
    return {
        # With the other node's own address, where tunnels send to.
        client.node.name: _question(client, (*there, server.node.address)),
        server.node.name: _question(server, (*back, client.node.address)),
    }


def _question(end: PathEnd, destinations: tuple[str, ...]) -> Question:
    return Question(
        destinations=tuple(filter(None, destinations)),
        pod_address=end.address if end.kind == "pod" else None,
        own_address=end.address if end.kind == "node" else end.node.address,
    )


def _return_address(snapshot: PathSnapshot) -> str:
    client, server = snapshot.client, snapshot.server
    if client.seen_as:
        return client.seen_as
    if (client.kind, server.kind) == ("pod", "node") and client.node.name != server.node.name:
        return ""  # beyond the pools Calico may masquerade or not, as may others
    if client.kind == "node" and client.node.name in snapshot.states:
        # The kernel chooses the source: into a tunnel it is the tunnel's own, and answered there.
        source = snapshot.states[client.node.name].route(server.address).source
        if snapshot.states[server.node.name].knows(source):
            return source
    return client.address


# -- What the devices' byte counters say ----------------------------------------------------------

Way = Literal["sent", "received"]

#: The share of the payload that a device must have counted to have carried it. Headers only add;
#: what is missing covers the moment between the sample's end and the snapshot.
_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class _Growth:
    """What the devices of both nodes have counted from before a sample to after it."""

    before: PathSnapshot
    after: PathSnapshot

    def of(self, node: str, device: str, way: Way) -> tuple[int, int] | None:
        """Bytes and packets, from zero if the device was not there; None where none are counted."""
        later = _counters(self.after, node, device, way)
        earlier = _counters(self.before, node, device, way)
        if later is None:
            return None
        if earlier is None:
            return later.bytes, later.packets
        return later.bytes - earlier.bytes, later.packets - earlier.packets

    def by_tunnel(self, node: str, device: str, way: Way) -> int:
        """Bytes of a device that may not be there."""
        grown = self.of(node, device, way)
        return max(0, grown[0]) if grown else 0

    def by_wires(self, node: str, wires: Sequence[str], way: Way) -> int | None:
        parts = [self.of(node, wire, way) for wire in wires]
        # A device that counts anew from zero was made anew.
        known = [part[0] for part in parts if part is not None and part[0] >= 0]
        return sum(known) if parts and len(known) == len(parts) else None

    def asked(self, direction: Direction) -> KernelState:
        """The sender's state that has the route: an address may have shown in the sample itself."""
        name = direction.sender.node.name
        earlier = self.before.states[name]
        return earlier if earlier.knows(direction.destination) else self.after.states[name]

    def wires(self, direction: Direction, end: PathEnd) -> tuple[str, ...]:
        """The physical devices that carry a direction at one of its ends, as the kernel names them.

        At the receiver they are those by which it would answer; nobody asks how packets come in.
        """
        if end is direction.sender:
            sending = self.asked(direction)
            return sending.way(direction.destination, direction.receiver.node.address).wires
        state, back = self.before.states[end.node.name], direction.sender.node.address
        if state.knows(back) and not state.route(back).error:
            return state.way(back, back).wires
        link = state.link_of(end.node.address)
        return () if link is None else underside(state.links, link.name).wires

    def carried(self, direction: Direction, end: PathEnd, way: Way) -> tuple[str, int] | None:
        """Which physical devices carried a direction at one end, and how many bytes they counted.

        None where that is not known. What did not come in as it would go out, since networks may
        route either way differently, has come in by some other device that leads out.
        """
        node, enough = end.node.name, _SHARE * direction.payload_bytes
        wires = self.wires(direction, end)
        total = self.by_wires(node, wires, way)
        if total is None:
            return None
        if end is direction.receiver and total < enough:
            every = self.before.states[node].uplinks()
            by_all = self.by_wires(node, every, way)
            if by_all is not None and by_all >= enough:
                return " and ".join(every), by_all
        return " and ".join(wires), total

    def to_record(self, directions: Iterable[Direction]) -> dict[str, Any]:
        """Bytes of tunnels and of the devices that carried, per node."""
        names: dict[str, dict[str, None]] = {}
        for direction in directions:
            for end in (direction.sender, direction.receiver):
                known = names.setdefault(end.node.name, dict.fromkeys(TUNNEL_DEVICES.values()))
                known |= dict.fromkeys(self.wires(direction, end))
        return {
            node: {
                name: {
                    "tx_bytes": (self.of(node, name, "sent") or (0,))[0],
                    "rx_bytes": (self.of(node, name, "received") or (0,))[0],
                }
                for name in devices
                if name in self.after.states[node].links
            }
            for node, devices in names.items()
        }


def _counters(snapshot: PathSnapshot, node: str, device: str, way: Way) -> Counters | None:
    link = snapshot.states[node].links.get(device)
    return None if link is None else link.sent if way == "sent" else link.received


def _counter_mismatches(direction: Direction, growth: _Growth) -> Iterator[str]:
    """How the counters of one direction contradict its path."""
    if direction.sender.node.name != direction.receiver.node.name:
        for end, way in _ends(direction):
            if direction.path != "direct":
                yield from _tunnel_mismatches(direction, end, way, growth)
            elif direction.countable:
                yield from _direct_mismatches(direction, end, way, growth)
    elif direction.countable:
        node = direction.sender.node.name
        for device in TUNNEL_DEVICES.values():
            # What left by a tunnel has come back by it; other pods' traffic seldom does both alike.
            both = (growth.by_tunnel(node, device, way) for _, way in _ends(direction))
            if (grown := min(both)) >= _SHARE * direction.payload_bytes:
                yield f"{device} of {node} sent {grown} bytes, though both pods are on that node"


def _tunnel_mismatches(
    direction: Direction, end: PathEnd, way: Way, growth: _Growth
) -> Iterator[str]:
    node, device = end.node.name, TUNNEL_DEVICES[direction.path]
    if device not in growth.after.states[node].links:
        yield f"{node} has no {device}"
    if (counted := growth.of(node, device, way)) is None:
        return
    grown, packets = counted
    if packets < 0 or device not in growth.before.states[node].links:
        yield f"{device} of {node} was made anew during the sample"
    elif packets == 0:
        yield f"{device} of {node} {way} no packet of this direction during the sample"
    elif direction.countable and grown < _SHARE * direction.payload_bytes:
        yield (
            f"{device} of {node} {way} only {grown} bytes, of a payload of "
            f"{direction.payload_bytes}: the rest took another path"
        )
    elif direction.countable:
        carried = growth.carried(direction, end, way)
        if carried is not None and carried[1] < _SHARE * direction.payload_bytes:
            wires, total = carried
            yield f"{wires} of {node} {way} only {total} bytes, though {device} {way} {grown}"


def _direct_mismatches(
    direction: Direction, end: PathEnd, way: Way, growth: _Growth
) -> Iterator[str]:
    node = end.node.name
    if (carried := growth.carried(direction, end, way)) is None:
        return
    wires, total = carried
    tunnelled = {name: growth.by_tunnel(node, name, way) for name in TUNNEL_DEVICES.values()}
    # The NIC counts tunnelled packets too, with their outer headers; what is left is direct.
    if total - sum(tunnelled.values()) >= _SHARE * direction.payload_bytes:
        return
    device = max(tunnelled, key=lambda name: tunnelled[name])
    if tunnelled[device] >= direction.payload_bytes / 2:
        yield (
            f"{device} of {node} {way} {tunnelled[device]} bytes during the sample, of a "
            f"payload of {direction.payload_bytes} that was promised to go direct"
        )
    else:
        yield (
            f"{wires} of {node} {way} only {total} bytes, of a payload of "
            f"{direction.payload_bytes}: the rest took another path"
        )


def _counter_gaps(direction: Direction, growth: _Growth) -> Iterator[str]:
    """What the counters leave open of one direction."""
    if not direction.countable or direction.sender.node.name == direction.receiver.node.name:
        return
    for end, way in _ends(direction):
        node = end.node.name
        links = growth.after.states[node].links
        device = TUNNEL_DEVICES.get(direction.path, "")
        carried = growth.carried(direction, end, way)
        if carried is None or (device in links and growth.of(node, device, way) is None):
            yield f"nothing on {node} has counted what it {way} of this direction"
            continue
        # Rules, filters and programs lead packets into tunnels beside the routes that are told.
        others = {
            name: growth.by_tunnel(node, name, way)
            for name, link in links.items()
            if link.tunnels
            and name not in TUNNEL_DEVICES.values()
            # A virtual machine on a bridge.
            and not (link.kind == "tun" and link.master)
        }
        most = max(others, key=lambda name: others[name], default="")
        wanted = _SHARE * direction.payload_bytes
        if most and others[most] >= wanted > carried[1] - sum(others.values()):
            yield (
                f"{most} of {node}, a tunnel that is not Calico's, {way} {others[most]} bytes "
                f"meanwhile: they may be these"
            )


def _ends(direction: Direction) -> tuple[tuple[PathEnd, Way], tuple[PathEnd, Way]]:
    return (direction.sender, "sent"), (direction.receiver, "received")


# -- Whether the pods' MTU is the one that their mode's cluster gives, or a stale one -------------


def _mtu_mismatches(
    snapshot: PathSnapshot,
    transfer: Payload,
    directions: Sequence[Direction],
    installation: Installation,
) -> Iterator[str]:
    pods = {
        end.name: (end, mtu)
        for end in (snapshot.client, snapshot.server)
        if (mtu := _pod_mtu_bytes(end, snapshot)) is not None
    }
    for end, mtu in pods.values() if installation.mtu_known else ():
        enabled = installation.encapsulations()
        hosts = host_mtus(snapshot.states[end.node.name], installation.version)
        expected = {installation.mtu_bytes or pod_mtu_bytes(host, enabled) for host in hosts}
        if mtu not in expected:
            why = (
                "as the installation sets it"
                if installation.mtu_bytes
                else f"with {' and '.join(sorted(enabled)) or 'no encapsulation'} enabled"
            )
            yield (
                f"stale MTU: pod {end.name} has {mtu}, expected "
                f"{' or '.join(map(str, sorted(expected)))} {why}; it was made before the switch"
            )
    for one in directions:
        if one.path == "direct" or one.sender.name not in pods:
            continue
        tunnel = snapshot.states[one.sender.node.name].links.get(TUNNEL_DEVICES[one.path])
        _, mtu = pods[one.sender.name]
        if tunnel is not None and mtu > tunnel.mtu_bytes:
            yield (
                f"wrong MTU: pod {one.sender.name} has {mtu}, but {tunnel.name} of "
                f"{one.sender.node.name} carries only {tunnel.mtu_bytes}"
            )
    if transfer.mss_bytes is None or len(pods) < 2:
        return
    # The MSS may count TCP options or not; less than both means that the path made it smaller.
    smallest = min(mtu for _, mtu in pods.values())
    if transfer.mss_bytes < mss_bytes(smallest):
        yield (
            f"wrong MTU on the path: the connection's MSS is {transfer.mss_bytes}, but the pods' "
            f"MTU of {smallest} allows {mss_bytes(smallest)}"
        )


def _pod_mtu_bytes(end: PathEnd, snapshot: PathSnapshot) -> int | None:
    """A pod's MTU, as of the node's end of its cable."""
    if end.kind != "pod":
        return None
    state = snapshot.states[end.node.name]
    link = state.links.get(state.route(end.address).device)
    return link.mtu_bytes if link is not None and link.name.startswith("cali") else None


def _mtu_record(
    snapshot: PathSnapshot, transfer: Payload, version: Version | None
) -> dict[str, Any]:
    """MTU of pods, tunnels and hosts, and the connection's MSS, in bytes. JSON-safe."""
    record: dict[str, Any] = {"mss": transfer.mss_bytes}
    for role, end in (("client", snapshot.client), ("server", snapshot.server)):
        state = snapshot.states[end.node.name]
        hosts = host_mtus(state, version)
        record[role] = {
            "pod": _pod_mtu_bytes(end, snapshot),
            "host": next(iter(hosts)) if len(hosts) == 1 else None,
            **{
                device: state.links[device].mtu_bytes
                for device in TUNNEL_DEVICES.values()
                if device in state.links
            },
        }
    return record

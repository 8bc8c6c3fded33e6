"""What captures on both nodes' network interfaces say of a pair's path. Pure.

A capture of packets that are promised and seen proves; one that saw nothing proves nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_k8snet.calico.expectation import calico_address
from pytest_k8snet.calico.legs import path_to
from pytest_k8snet.calico.modes import Path

if TYPE_CHECKING:
    from pytest_k8snet.calico.ippool import IPPool
    from pytest_k8snet.calico.proof import PathEnd
    from pytest_k8snet.cluster.nodes import Node
    from pytest_k8snet.tools.capture import Capture, Packet

#: ``once`` for a pair in its mode, or around the very sample.
Moment = Literal["once", "before", "after"]

_WORDS: dict[str, str] = {"bare": "bare", "vxlan": "in VXLAN", "ipip": "in IPIP"}
_CARRIERS: dict[Path, str] = {"direct": "bare", "vxlan": "vxlan", "ipip": "ipip"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """TCP payload that was sent between two ends while both nodes captured.

    Attributes:
        client: who connected.
        server: to whom.
        port: the server's; with its address it tells the exchange from all other traffic.
        devices: per node, where it was captured.
        captures: per node, what was seen there.
        missing: why the exchange or a capture of it did not come about.
    """

    client: PathEnd
    server: PathEnd
    port: int
    devices: Mapping[str, str] = field(default_factory=dict)
    captures: Mapping[str, Capture] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WireFinding:
    """The judgement on one exchange.

    Attributes:
        complaints: packets that were seen in another shape than the mode promises.
        gaps: what was not seen, so that nothing is proven.
        sightings: JSON-safe, one for each node and direction.
    """

    complaints: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    sightings: tuple[dict[str, Any], ...] = ()

    def trouble(self) -> str | None:
        """What keeps the path from being proven; None if nothing does."""
        return "\n".join(self.complaints or self.gaps) or None

    def praise(self) -> str:
        """What was seen, in a few words."""
        ways = dict.fromkeys(
            f"{one['from']} -> {one['to']} {one['expected']}" for one in self.sightings
        )
        return "on the wire: " + (
            "nothing, as both ends are on one node"
            if not any(one["packets"] for one in self.sightings)
            else ", ".join(ways)
        )

    def to_record(self, moment: Moment) -> dict[str, Any]:
        """The JSON-safe record of the exchange."""
        return {"moment": moment, "sightings": list(self.sightings)}


def judge_exchange(exchange: Exchange, pools: Iterable[IPPool]) -> WireFinding:
    """Compare what was seen on the wire with what the pools' modes promise.

    Both nodes and both directions count: each must have seen payload, and all of it as promised;
    between two ends on one node none may be seen.
    """
    pools = tuple(pools)
    client, server = exchange.client, exchange.server
    complaints: list[str] = []
    gaps = list(exchange.missing)
    sightings: list[dict[str, Any]] = []
    for sender, receiver, to_server in ((client, server, True), (server, client, False)):
        verbs = {receiver.node.name: "received", sender.node.name: "sent"}
        for node in {one.node.name: one.node for one in (sender, receiver)}.values():
            capture = exchange.captures.get(node.name)
            if capture is None:
                continue  # told in `missing`
            seen = [one for one in capture.packets if _belongs(one, exchange, to_server=to_server)]
            said = f"on the wire, {node.name} {verbs[node.name]}"
            complaints += _complaints(seen, said, sender.node, receiver.node, pools)
            gaps += _gaps(seen, capture, exchange, node, (sender.node, receiver.node))
            sightings.append(
                {
                    "node": node.name,
                    "device": exchange.devices[node.name],
                    "from": sender.node.name,
                    "to": receiver.node.name,
                    "expected": _promise(seen, receiver, sender.node, pools),
                    "packets": len(seen),
                    "seen": dict(Counter(_shape(one) for one in seen)),
                    "dropped": capture.dropped,
                }
            )
    return WireFinding(
        complaints=tuple(dict.fromkeys(complaints)),
        gaps=tuple(dict.fromkeys(gaps)),
        sightings=tuple(sightings),
    )


def _belongs(packet: Packet, exchange: Exchange, *, to_server: bool) -> bool:
    """Whether a packet carries the exchange's payload in one direction."""
    address, port = (
        (packet.destination, packet.destination_port)
        if to_server
        else (packet.source, packet.source_port)
    )
    ours = (address, port) == (exchange.server.address, exchange.port)
    return ours and packet.payload_bytes > 0


def _complaints(
    seen: Iterable[Packet], said: str, sender: Node, receiver: Node, pools: tuple[IPPool, ...]
) -> Iterator[str]:
    for packet in seen:
        found = f"{said} {packet.source} -> {packet.destination} {_shape(packet)}"
        path = path_to(packet.destination, sender, receiver, pools)
        outer = "" if path == "direct" else calico_address(receiver)
        if sender.name == receiver.name:
            yield f"{found}, though both ends are on that node"
        elif (packet.carrier, packet.outer_destination) != (_CARRIERS[path], outer):
            yield f"{found}, expected {_words(_CARRIERS[path], outer)}"


def _gaps(
    seen: list[Packet], capture: Capture, exchange: Exchange, node: Node, way: tuple[Node, Node]
) -> Iterator[str]:
    sender, receiver = way
    device = exchange.devices[node.name]
    if sender.name == receiver.name:
        if capture.dropped:
            yield f"{device} of {node.name}: {capture.dropped} packets were dropped by the capture"
    elif not seen:
        yield f"{device} of {node.name} saw no payload of {sender.name} -> {receiver.name}"


def _promise(
    seen: list[Packet], receiver: PathEnd, sender: Node, pools: tuple[IPPool, ...]
) -> Path:
    # Replies to a node may go to its tunnel's address: what was seen tells.
    address = seen[0].destination if seen else receiver.address
    return path_to(address, sender, receiver.node, pools)


def _shape(packet: Packet) -> str:
    return _words(packet.carrier, packet.outer_destination)


def _words(carrier: str, outer_destination: str) -> str:
    return _WORDS[carrier] + (f" to {outer_destination}" if outer_destination else "")

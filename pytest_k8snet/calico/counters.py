"""What the devices' byte counters say about the way that a sample's payload went. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pytest_k8snet.calico.expectation import nic_of
from pytest_k8snet.calico.kernel import TUNNEL_DEVICES, KernelState
from pytest_k8snet.tools.ip import Counters, Link

if TYPE_CHECKING:
    from pytest_k8snet.calico.legs import Leg
    from pytest_k8snet.calico.proof import PathEnd, PathSnapshot

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

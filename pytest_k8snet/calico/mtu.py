"""Whether the pods' MTU is the one that their mode's cluster gives, or a stale one. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico.headers import FALLBACK_HOST_MTU_BYTES, mss_bytes, pod_mtu_bytes
from pytest_k8snet.calico.kernel import TUNNEL_DEVICES, KernelState

if TYPE_CHECKING:
    from pytest_k8snet.calico.legs import Leg
    from pytest_k8snet.calico.proof import PathContext, PathEnd, PathSnapshot, Transfer

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
        *_tunnel_complaints(snapshot, legs),
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


def _tunnel_complaints(snapshot: PathSnapshot, legs: Sequence[Leg]) -> Iterator[str]:
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

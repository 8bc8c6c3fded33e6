"""Header arithmetic: what each encapsulation takes from MTU and goodput. Pure.

Sizes are bytes on an IPv4 underlay. The figures are physical ceilings, not forecasts: they say
what a perfect network of a given link rate can carry, so that a measured ratio has a limit to
be compared with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

from pytest_k8snet.calico.modes import CalicoMode, Family, Path
from pytest_k8snet.units import BitRate, Ratio

_IPV4 = 20
_IPV6 = 40
_TCP = 20
_UDP = 8
_VXLAN = 8
_ETHERNET = 14
_WIREGUARD = 32

#: TCP's timestamp option, which Linux always sends unless it is switched off.
TCP_TIMESTAMP_BYTES = 12
#: What a shaper (tbf) on an interface counts beside the IP packet: the Ethernet header.
SHAPED_LINK_BYTES = _ETHERNET
#: What Ethernet spends beside the IP packet: header, FCS, preamble and inter-packet gap.
ETHERNET_WIRE_BYTES = _ETHERNET + 4 + 8 + 12
#: Felix falls back to this host MTU when no interface matches its pattern.
FALLBACK_HOST_MTU_BYTES = 1460

#: Bytes that each path puts in front of the pod's IP packet.
OVERHEAD_BYTES: dict[Path, int] = {
    "direct": 0,
    "ipip": _IPV4,
    "vxlan": _IPV4 + _UDP + _VXLAN + _ETHERNET,
}
#: What takes its bytes from the MTU of every new pod once it is enabled, for either IP family.
Encapsulation = Literal["none", "ipip", "vxlan", "vxlan-v6", "wireguard", "wireguard-v6"]
ENCAPSULATION_BYTES: dict[Encapsulation, int] = {
    "none": OVERHEAD_BYTES["direct"],
    "ipip": OVERHEAD_BYTES["ipip"],
    "vxlan": OVERHEAD_BYTES["vxlan"],
    "vxlan-v6": _IPV6 + _UDP + _VXLAN + _ETHERNET,
    "wireguard": _IPV4 + _UDP + _WIREGUARD,
    "wireguard-v6": _IPV6 + _UDP + _WIREGUARD,
}


def families_of(modes: Iterable[CalicoMode]) -> frozenset[Family]:
    """The encapsulation families that pools of these modes enable on every node."""
    return frozenset(mode.family for mode in modes if mode.family != "none")


def pod_mtu_bytes(host_mtu_bytes: int, enabled: Collection[Encapsulation]) -> int:
    """The MTU that Calico gives to new pods when it derives it from the host.

    It is cluster-shaped, not pool-shaped: one VXLAN pool anywhere lowers every new pod, also
    those in a pool without encapsulation, and an IPv6 one lowers it further.

    Args:
        host_mtu_bytes: the smallest MTU among the node's underlay interfaces.
        enabled: what any pool (or Felix's settings) enables.
    """
    return host_mtu_bytes - max((ENCAPSULATION_BYTES[one] for one in enabled), default=0)


def mss_bytes(mtu_bytes: int, *, timestamps: bool = True) -> int:
    """TCP payload of a full segment at an MTU: what iperf3 reports as ``tcp_mss_default``."""
    return mtu_bytes - _IPV4 - _TCP - (TCP_TIMESTAMP_BYTES if timestamps else 0)


def frame_bytes(
    mss: int, path: Path, *, timestamps: bool = True, link_bytes: int = SHAPED_LINK_BYTES
) -> int:
    """What a full segment occupies on the link.

    Args:
        mss: TCP payload per segment in bytes.
        path: how it crosses from node to node.
        timestamps: whether the connection uses TCP timestamps.
        link_bytes: what the link counts beside the IP packet (``SHAPED_LINK_BYTES`` or
            ``ETHERNET_WIRE_BYTES``).
    """
    options = TCP_TIMESTAMP_BYTES if timestamps else 0
    return mss + options + _TCP + _IPV4 + OVERHEAD_BYTES[path] + link_bytes


def goodput_ceiling(
    link_rate: float,
    mss: int,
    path: Path,
    *,
    timestamps: bool = True,
    link_bytes: int = SHAPED_LINK_BYTES,
) -> BitRate:
    """The most TCP payload per second that a link can carry on a path: rate x MSS / frame."""
    frame = frame_bytes(mss, path, timestamps=timestamps, link_bytes=link_bytes)
    return BitRate(float(link_rate) * mss / frame)


def ratio_ceiling(
    mss: int,
    path: Path,
    baseline_mss: int,
    *,
    timestamps: bool = True,
    link_bytes: int = SHAPED_LINK_BYTES,
) -> Ratio:
    """The best ratio that a path's goodput can have to a direct baseline on the same link."""
    own = goodput_ceiling(1.0, mss, path, timestamps=timestamps, link_bytes=link_bytes)
    base = goodput_ceiling(
        1.0, baseline_mss, "direct", timestamps=timestamps, link_bytes=link_bytes
    )
    return Ratio(float(own) / float(base))

"""The five states of an IPPool's encapsulation, and the path that each promises. Pure.

"Mode" is a property of a pool. The pool of a packet's *destination* decides its path, on the
*sending* node, by whether the sender's own subnet contains the receiving node.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterable
from typing import Literal

from pytest_k8snet.errors import SettingsError
from pytest_k8snet.units import BitRate, Ratio

#: How a packet crosses from node to node.
Path = Literal["direct", "vxlan", "ipip"]
#: What must be switched on in Felix for a mode; two modes of one family switch without a restart.
Family = Literal["none", "vxlan", "ipip"]


class CalicoMode(enum.Enum):
    """One of the five distinct encapsulation states of an IPv4 pool.

    The values are the names that options, test ids and reports use. Members are in canonical
    order: walking them from first to last changes the family as seldom as possible, and each
    change of family restarts Felix.
    """

    VXLAN_ALWAYS = "VXLAN-Always"
    VXLAN_CROSS_SUBNET = "VXLAN-CrossSubnet"
    NEVER = "Never"
    IPIP_CROSS_SUBNET = "IPIP-CrossSubnet"
    IPIP_ALWAYS = "IPIP-Always"

    def __str__(self) -> str:
        return self.value

    def __repr__(self) -> str:
        return f"CalicoMode({self.value!r})"

    @property
    def family(self) -> Family:
        """The encapsulation that must be enabled for this mode."""
        if self is CalicoMode.NEVER:
            return "none"
        return "vxlan" if self.value.startswith("VXLAN") else "ipip"

    @property
    def cross_subnet(self) -> bool:
        """Whether only packets that leave the sender's subnet are encapsulated."""
        return self.value.endswith("CrossSubnet")

    @property
    def pool_fields(self) -> dict[str, str]:
        """The two fields of ``IPPool.spec`` that make this mode; always written together."""
        state = self.value.rpartition("-")[2]
        return {
            "ipipMode": state if self.family == "ipip" else "Never",
            "vxlanMode": state if self.family == "vxlan" else "Never",
        }

    @property
    def encapsulation(self) -> str:
        """The name of this mode in ``Installation.spec.calicoNetwork.ipPools[].encapsulation``."""
        if self is CalicoMode.NEVER:
            return "None"
        return self.family.upper() + ("CrossSubnet" if self.cross_subnet else "")

    def path(self, same_subnet: bool) -> Path:
        """Return how a packet to a pod in such a pool travels.

        Args:
            same_subnet: whether the *sending* node's subnet contains the receiving node.
        """
        family = self.family
        if family == "none" or (self.cross_subnet and same_subnet):
            return "direct"
        return family

    @classmethod
    def of_pool(cls, ipip_mode: str | None, vxlan_mode: str | None) -> CalicoMode:
        """Return the mode that Felix makes of a pool's two fields.

        Absent means Never, and so does a value that Calico does not know. A pool with both
        encapsulations, which old versions accept, is treated as VXLAN.
        """
        for family, state in (("VXLAN", vxlan_mode), ("IPIP", ipip_mode)):
            if state in ("Always", "CrossSubnet"):
                return cls(f"{family}-{state}")
        return cls.NEVER

    @classmethod
    def parse(cls, text: str) -> CalicoMode:
        """Read a mode's name: ``VXLAN-CrossSubnet``, in any case and with any separator.

        The Installation's own names are understood as well: ``VXLAN``, ``VXLANCrossSubnet``,
        ``IPIP``, ``IPIPCrossSubnet`` and ``None``. As there, a bare family means Always.

        Raises:
            SettingsError: no such mode; the message lists the five.
        """
        key = re.sub(r"[\s_/:-]", "", text).lower()
        for mode in cls:
            if key in (re.sub("-", "", mode.value).lower(), mode.encapsulation.lower()):
                return mode
        raise SettingsError(
            f"There is no Calico mode {text.strip()!r}",
            remedy="Name one of " + ", ".join(mode.value for mode in STUDY_ORDER) + ".",
        )


#: The order for tables and messages: no encapsulation first, then as Calico's manual lists them.
STUDY_ORDER = (
    CalicoMode.NEVER,
    CalicoMode.VXLAN_CROSS_SUBNET,
    CalicoMode.VXLAN_ALWAYS,
    CalicoMode.IPIP_CROSS_SUBNET,
    CalicoMode.IPIP_ALWAYS,
)


# -- Header arithmetic: what each encapsulation takes from MTU and goodput. Pure ------------------
#
# Sizes are bytes on an IPv4 underlay. The figures are physical ceilings, not forecasts: they say
# what a perfect network of a given link rate can carry, so that a measured ratio has a limit to
# be compared with.


_IPV4 = 20
_IPV6 = 40
_TCP = 20
_UDP = 8
_VXLAN = 8
_ETHERNET = 14
_WIREGUARD = 32

#: TCP's timestamp option, which Linux always sends unless it is switched off.
_TCP_TIMESTAMP = 12
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
    """Return the encapsulation families that pools of these modes enable on every node."""
    return frozenset(mode.family for mode in modes if mode.family != "none")


def pod_mtu_bytes(host_mtu_bytes: int, enabled: Collection[Encapsulation]) -> int:
    """Return the MTU that Calico gives to new pods when it derives it from the host.

    It is cluster-shaped, not pool-shaped: one VXLAN pool anywhere lowers every new pod, also
    those in a pool without encapsulation, and an IPv6 one lowers it further.

    Args:
        host_mtu_bytes: the smallest MTU among the node's underlay interfaces.
        enabled: what any pool (or Felix's settings) enables.
    """
    return host_mtu_bytes - max((ENCAPSULATION_BYTES[one] for one in enabled), default=0)


def mss_bytes(mtu_bytes: int) -> int:
    """Return the payload of a full TCP segment at an MTU: iperf3's ``tcp_mss_default``."""
    return mtu_bytes - _IPV4 - _TCP - _TCP_TIMESTAMP


def frame_bytes(mss: int, path: Path, *, link_bytes: int = SHAPED_LINK_BYTES) -> int:
    """Return what a full segment occupies on the link.

    Args:
        mss: TCP payload per segment in bytes.
        path: how it crosses from node to node.
        link_bytes: what the link counts beside the IP packet (``SHAPED_LINK_BYTES`` or
            ``ETHERNET_WIRE_BYTES``).
    """
    return mss + _TCP_TIMESTAMP + _TCP + _IPV4 + OVERHEAD_BYTES[path] + link_bytes


def goodput_ceiling(
    link_rate: float, mss: int, path: Path, *, link_bytes: int = SHAPED_LINK_BYTES
) -> BitRate:
    """Return the most TCP payload that a link can carry on a path: rate x MSS / frame."""
    return BitRate(float(link_rate) * mss / frame_bytes(mss, path, link_bytes=link_bytes))


def ratio_ceiling(
    mss: int, path: Path, baseline_mss: int, *, link_bytes: int = SHAPED_LINK_BYTES
) -> Ratio:
    """Return the best ratio of a path's goodput to a direct baseline on the same link."""
    own = goodput_ceiling(1.0, mss, path, link_bytes=link_bytes)
    base = goodput_ceiling(1.0, baseline_mss, "direct", link_bytes=link_bytes)
    return Ratio(float(own) / float(base))

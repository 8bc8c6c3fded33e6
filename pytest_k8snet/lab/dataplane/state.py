"""The part of a node's kernel state that Calico owns, as values. Pure.

The same types describe what should be (``felix``) and what is (``kernel``); the difference of two
of them is what has to be done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

#: Route protocols by number: what ``ip route`` shows as ``proto``.
PROTO_BOOT, PROTO_BIRD, PROTO_FELIX = 3, 12, 80

#: The tunnel devices' names.
VXLAN_DEVICE, IPIP_DEVICE = "vxlan.calico", "tunl0"

#: VXLAN as Calico configures it.
VXLAN_VNI, VXLAN_PORT = 4096, 4789

#: The mark of packets that are led around the routing table.
BYPASS_MARK = 0x40000000

#: What a tunnel adds to a packet, in bytes.
VXLAN_OVERHEAD_BYTES, IPIP_OVERHEAD_BYTES = 50, 20

_PROTO_NAMES = {PROTO_BIRD: "bird"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One IPv4 route of the main table.

    Attributes:
        gateway: None for a link-scope route or a blackhole.
        device: empty for a blackhole.
        mtu_bytes: the route's own MTU, None when it has none.
    """

    destination: IPv4Network
    gateway: IPv4Address | None = None
    device: str = ""
    protocol: int = PROTO_BOOT
    metric: int = 0
    onlink: bool = False
    mtu_bytes: int | None = None

    @property
    def blackhole(self) -> bool:
        """Whether the route throws packets away: it has no device."""
        return not self.device

    @property
    def key(self) -> tuple[IPv4Network, int]:
        """What the kernel takes for the same route: ``ip route replace`` replaces by it."""
        return self.destination, self.metric

    def __str__(self) -> str:
        """The route as ``ip route show`` prints it, and as ``ip route add`` reads it."""
        single = self.destination.prefixlen == 32
        target = str(self.destination.network_address if single else self.destination)
        words = ["blackhole", target] if self.blackhole else [target]
        if self.gateway is not None:
            words += ["via", str(self.gateway)]
        if self.device:
            words += ["dev", self.device]
        if self.protocol != PROTO_BOOT:
            words += ["proto", _PROTO_NAMES.get(self.protocol, str(self.protocol))]
        if self.device and self.gateway is None:
            words += ["scope", "link"]
        if self.metric:
            words += ["metric", str(self.metric)]
        if self.onlink:
            words += ["onlink"]
        if self.mtu_bytes is not None:
            words += ["mtu", str(self.mtu_bytes)]
        return " ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class VxlanDevice:
    """``vxlan.calico``: what makes Felix recreate it when it differs, and what it only sets."""

    local: IPv4Address
    mac: str
    address: IPv4Address | None
    mtu_bytes: int
    vni: int = VXLAN_VNI
    port: int = VXLAN_PORT
    parent: str = "eth0"
    up: bool = True

    @property
    def identity(self) -> tuple[object, ...]:
        """What cannot be changed in place."""
        return self.local, self.mac, self.vni, self.port, self.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class IpipDevice:
    """``tunl0``: it is always there once loaded; only its address says whether it is used."""

    address: IPv4Address | None
    mtu_bytes: int
    up: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Vtep:
    """A remote end of VXLAN: one permanent neighbour and one permanent FDB entry.

    Attributes:
        tunnel: the remote tunnel address; None where the kernel has only the FDB entry.
        underlay: the remote node's address; None where the kernel has only the neighbour.
    """

    mac: str
    tunnel: IPv4Address | None
    underlay: IPv4Address | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """All of it for one node."""

    vxlan: VxlanDevice | None = None
    ipip: IpipDevice | None = None
    vteps: frozenset[Vtep] = field(default_factory=frozenset)
    routes: frozenset[Route] = field(default_factory=frozenset)

"""What Felix and BIRD would make of pools, blocks and nodes: each node's desired kernel state.

Pure: values in, values out. It follows Calico's own rule: the pool of the *destination* address
decides, and it is decided on the *sending* node with the sender's prefix.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Literal

from pytest_k8snet.lab.spec import NIC

Encapsulation = Literal["Never", "CrossSubnet", "Always"]
Family = Literal["none", "ipip", "vxlan"]
Owner = Literal["felix", "bird", "nobody"]

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


def node_state(data: Datastore, name: str) -> NodeState:
    """What one node's kernel should hold.

    Raises:
        KeyError: the cluster has no such node.
    """
    host = data.host(name)
    if host is None:
        raise KeyError(name)
    vxlan = _vxlan_device(data, host)
    return NodeState(
        vxlan=vxlan,
        ipip=_ipip_device(data, host),
        vteps=_vteps(data, host) if vxlan else frozenset(),
        routes=frozenset(_routes(data, host)),
    )


def router_routes(data: Datastore, interfaces: Mapping[IPv4Network, str]) -> frozenset[Route]:
    """What the router learns by BGP: the blocks of pools without encapsulation.

    Args:
        data: the datastore.
        interfaces: the router's interface in each subnet.
    """
    routes = set()
    for destination, owner in _destinations(data):
        pool, host = data.pool_of(destination), data.host(owner)
        if pool is None or host is None or data.owner(pool.family) != "bird":
            continue
        if pool.family == "none":
            device = interfaces[host.cable.network]
            gateway = host.cable.ip
            routes.add(
                Route(destination=destination, gateway=gateway, device=device, protocol=PROTO_BIRD)
            )
    return frozenset(routes)


def _vxlan_device(data: Datastore, host: Host) -> VxlanDevice | None:
    # Without an address of its own a node is no VTEP, and Felix makes no device.
    if "vxlan" not in data.families or host.vxlan_tunnel is None:
        return None
    return VxlanDevice(
        local=host.address.ip,
        mac=vxlan_mac(host.name),
        address=host.vxlan_tunnel,
        mtu_bytes=data.link_mtu_bytes - VXLAN_OVERHEAD_BYTES,
        vni=data.behaviour.vxlan_vni,
        port=data.behaviour.vxlan_port,
        parent=host.device,
    )


def _ipip_device(data: Datastore, host: Host) -> IpipDevice | None:
    if "ipip" not in data.families:
        return None
    return IpipDevice(address=host.ipip_tunnel, mtu_bytes=data.link_mtu_bytes - IPIP_OVERHEAD_BYTES)


def _vteps(data: Datastore, host: Host) -> frozenset[Vtep]:
    return frozenset(
        Vtep(mac=vxlan_mac(peer.name), tunnel=peer.vxlan_tunnel, underlay=peer.address.ip)
        for peer in data.hosts
        if peer.name != host.name and peer.vxlan_tunnel is not None
    )


def _destinations(data: Datastore) -> list[tuple[IPv4Network, str]]:
    """Every block and every borrowed address, with the node it leads to."""
    found = [(block.cidr, block.node) for block in data.blocks]
    for block in data.blocks:
        found += [(IPv4Network(address), node) for address, node in block.borrowed.items()]
    return found


def _routes(data: Datastore, host: Host) -> list[Route]:
    routes = []
    for destination, owner in _destinations(data):
        pool = data.pool_of(destination)
        if pool is None:
            continue
        peer = data.host(owner)
        if owner == host.name:
            route = _own_block(data, pool, destination)
        elif peer is None:
            continue
        elif pool.family == "vxlan":
            route = _vxlan_route(data, pool, destination, host, peer)
        elif pool.family == "ipip":
            route = _ipip_route(data, pool, destination, host, peer)
        else:
            route = _direct_route(data, "none", destination, host, peer)
        if route is not None:
            routes.append(route)
    return routes


def _own_block(data: Datastore, pool: Pool, destination: IPv4Network) -> Route | None:
    """Unused addresses of a node's own block must not follow the default route and loop."""
    owner = data.owner(pool.family)
    if destination.prefixlen == 32 or owner == "nobody":
        return None
    return Route(destination=destination, protocol=PROTO_BIRD if owner == "bird" else PROTO_FELIX)


def _vxlan_route(
    data: Datastore, pool: Pool, destination: IPv4Network, host: Host, peer: Host
) -> Route | None:
    if pool.cross_subnet and _same_subnet(host, peer):
        return _felix_direct(destination, host, peer)
    # Without both ends' tunnel addresses Felix programs nothing: a black hole, not a fallback.
    if host.vxlan_tunnel is None or peer.vxlan_tunnel is None:
        return None
    mtu = data.link_mtu_bytes - VXLAN_OVERHEAD_BYTES
    own_address = destination.prefixlen == 32 and destination[0] == peer.vxlan_tunnel
    return Route(
        destination=destination,
        gateway=None if own_address else peer.vxlan_tunnel,
        device=VXLAN_DEVICE,
        protocol=PROTO_BOOT,
        onlink=not own_address,
        mtu_bytes=mtu if data.behaviour.vxlan_routes_have_mtu else None,
    )


def _ipip_route(
    data: Datastore, pool: Pool, destination: IPv4Network, host: Host, peer: Host
) -> Route | None:
    owner = data.owner("ipip")
    if owner == "nobody":
        return None
    if pool.cross_subnet and _same_subnet(host, peer):
        return _direct_route(data, "ipip", destination, host, peer)
    felix = owner == "felix"
    mtu = data.link_mtu_bytes - IPIP_OVERHEAD_BYTES
    return Route(
        destination=destination,
        gateway=peer.address.ip,
        device=IPIP_DEVICE,
        protocol=PROTO_FELIX if felix else PROTO_BIRD,
        metric=0 if felix else data.behaviour.metric,
        onlink=True,
        mtu_bytes=mtu if felix else None,
    )


def _direct_route(
    data: Datastore, family: Family, destination: IPv4Network, host: Host, peer: Host
) -> Route | None:
    """The route without a tunnel; across subnets BIRD's next hop is the router."""
    owner = data.owner(family)
    if owner == "felix":
        # On the link, whatever the subnet: to another one it leads nowhere, as with Calico.
        return _felix_direct(destination, host, peer)
    if owner == "nobody":
        return None
    near = _same_subnet(host, peer)
    gateway = peer.address.ip if near else data.routers[host.cable.network]
    return Route(
        destination=destination,
        gateway=gateway,
        device=host.wire,
        protocol=PROTO_BIRD,
        metric=data.behaviour.metric,
    )


def _felix_direct(destination: IPv4Network, host: Host, peer: Host) -> Route:
    return Route(
        destination=destination,
        gateway=peer.address.ip,
        device=host.device,
        protocol=PROTO_FELIX,
        onlink=True,
    )


def _same_subnet(host: Host, peer: Host) -> bool:
    return peer.address.ip in host.address.network


def pod_mtu(pools: Sequence[Pool], link_mtu_bytes: int) -> int:
    """The MTU of new pods: the smallest of all tunnels in use, wherever they are used."""
    families = {pool.family for pool in pools}
    if "vxlan" in families:
        return link_mtu_bytes - VXLAN_OVERHEAD_BYTES
    if "ipip" in families:
        return link_mtu_bytes - IPIP_OVERHEAD_BYTES
    return link_mtu_bytes


def vxlan_mac(node: str) -> str:
    """The MAC address of a node's ``vxlan.calico``: ``f`` and the start of its name's SHA-1."""
    digest = hashlib.sha1(node.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in b"f" + digest[:5])


# -- What Calico's datastore tells Felix, as far as packets are concerned --------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One IPPool, as far as packets are concerned."""

    name: str
    cidr: IPv4Network
    ipip_mode: Encapsulation = "Never"
    vxlan_mode: Encapsulation = "Never"
    nat_outgoing: bool = False
    uses: tuple[str, ...] = ("Workload", "Tunnel")

    @property
    def family(self) -> Family:
        """Which tunnel the pool uses; VXLAN is asked first, as Felix does."""
        if self.vxlan_mode != "Never":
            return "vxlan"
        return "ipip" if self.ipip_mode != "Never" else "none"

    @property
    def cross_subnet(self) -> bool:
        """Whether nodes of one subnet talk without the tunnel."""
        mode = self.vxlan_mode if self.family == "vxlan" else self.ipip_mode
        return mode == "CrossSubnet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """An IPAM block, routed to the node it is affine to.

    Attributes:
        borrowed: addresses in it that another node uses.
    """

    cidr: IPv4Network
    node: str
    borrowed: Mapping[IPv4Address, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One node: its address with the prefix that Calico recorded, and its tunnel addresses.

    Attributes:
        device: the device that has the address, which Felix takes for its routes and tunnels.
        wire: the device that leads to the node's subnet.
        link: its address there; None where it is the same.
    """

    name: str
    address: IPv4Interface
    vxlan_tunnel: IPv4Address | None = None
    ipip_tunnel: IPv4Address | None = None
    device: str = NIC
    wire: str = NIC
    link: IPv4Interface | None = None

    @property
    def cable(self) -> IPv4Interface:
        """The address by which its subnet reaches it."""
        return self.link or self.address


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How this version and configuration of Calico programs routes.

    Attributes:
        version: (major, minor).
        backend: ``bird``, or ``vxlan`` where no BIRD runs.
        felix_cluster_routes: ``FelixConfiguration.spec.programClusterRoutes``; empty where unset.
        bird_cluster_routes: the same field of the BGPConfiguration.
        vxlan_vni: ``FelixConfiguration.spec.vxlanVNI``.
        vxlan_port: ``FelixConfiguration.spec.vxlanPort``.
        nat_exclusions: ``FelixConfiguration.spec.natOutgoingExclusions``; empty where unset.
    """

    version: tuple[int, int] = (3, 31)
    backend: Literal["bird", "vxlan"] = "bird"
    felix_cluster_routes: str = ""
    bird_cluster_routes: str = ""
    vxlan_vni: int = VXLAN_VNI
    vxlan_port: int = VXLAN_PORT
    nat_exclusions: str = ""

    @classmethod
    def of(cls, version: str, backend: Literal["bird", "vxlan"]) -> Behaviour:
        """The behaviour of a version as Calico writes it, such as ``v3.31.2``.

        Raises:
            ValueError: not a version.
        """
        match = re.match(r"v?(\d+)\.(\d+)", version)
        if match is None:
            raise ValueError(f"not a Calico version: {version!r} (write v3.31.2)")
        return cls(version=(int(match[1]), int(match[2])), backend=backend)

    def owner(self, family: Family, enabled: Collection[Family] = ()) -> Owner:
        """Who programs the routes to blocks of pools with this tunnel.

        Where both are told to, their routes differ by metric or the last writer wins; here it is
        Felix.

        Args:
            family: the pool's tunnel.
            enabled: the tunnels in use anywhere: before v3.33 they keep Felix from ``Never``.
        """
        if family == "vxlan" or self._felix_programs(family, enabled):
            return "felix"
        return "bird" if self._bird_programs(family) else "nobody"

    def _felix_programs(self, family: Family, enabled: Collection[Family]) -> bool:
        if self.version < (3, 31):
            return False
        if self.version < (3, 33):
            free = family == "ipip" or not enabled
            return self.felix_cluster_routes == "Enabled" and free
        return _covers(self.felix_cluster_routes or "EnabledIPIPOnly", family)

    def _bird_programs(self, family: Family) -> bool:
        if self.backend != "bird":
            return False
        if self.version < (3, 32):
            return True
        default = "Enabled" if self.version < (3, 33) else "EnabledNoEncapOnly"
        return _covers(self.bird_cluster_routes or default, family)

    @property
    def vxlan_routes_have_mtu(self) -> bool:
        """Whether routes through VXLAN carry the tunnel's MTU."""
        return self.version >= (3, 31)

    @property
    def metric(self) -> int:
        """The metric of BIRD's routes and of the routes to local pods."""
        return 1024 if self.version >= (3, 32) else 0


def _covers(setting: str, family: Family) -> bool:
    """Whether a value of ``programClusterRoutes`` names pools with this tunnel."""
    only = {"EnabledIPIPOnly": "ipip", "EnabledNoEncapOnly": "none"}
    return setting == "Enabled" or only.get(setting) == family


@dataclass(frozen=True, slots=True, kw_only=True)
class Datastore:
    """Everything that routes depend on.

    Attributes:
        routers: each subnet's router, which knows the blocks of pools without encapsulation.
    """

    hosts: Sequence[Host]
    pools: Sequence[Pool]
    blocks: Sequence[Block]
    routers: Mapping[IPv4Network, IPv4Address]
    behaviour: Behaviour = Behaviour()
    link_mtu_bytes: int = 1500

    def pool_of(self, network: IPv4Network) -> Pool | None:
        """The pool that a block lies in."""
        return next((pool for pool in self.pools if network.subnet_of(pool.cidr)), None)

    def owner(self, family: Family) -> Owner:
        """Who programs the routes to blocks of pools with this tunnel."""
        return self.behaviour.owner(family, self.families)

    def host(self, name: str) -> Host | None:
        """A node by its name."""
        return next((host for host in self.hosts if host.name == name), None)

    @property
    def families(self) -> set[Family]:
        """The tunnels in use anywhere."""
        return {pool.family for pool in self.pools} - {"none"}

    @property
    def tunnels(self) -> set[object]:
        """What makes Felix restart when it changes: the tunnels in use, and how VXLAN is set up."""
        behaviour = self.behaviour
        return {*self.families, ("vni", behaviour.vxlan_vni), ("port", behaviour.vxlan_port)}


# -- The part of a node's kernel state that Calico owns --------------------------------------------
#
# The same types describe what should be and what is (``kernel``); the difference of two of them is
# what has to be done.


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

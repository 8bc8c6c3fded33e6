"""What a lab consists of: nodes, subnets, links and the Calico it plays. Values only, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Literal, get_args

from pytest_k8snet.units import BitRate

#: The default rate of every node's link: slow enough that the link, and not the processor of the
#: machine below, limits every mode, so that each has an exact physical ceiling.
DEFAULT_LINK_RATE = BitRate(300e6)


#: How a node's address sits on its cable: ``address`` is on ``eth0`` (plain), or on a device that
#: is stacked on it. ``two-nics``: Calico's address is there, and InternalIP with the default route
#: on another NIC, ``eth1``, of a management network. ``loopback``: the node is known by an address
#: on ``lo``, to which the fabric has a route; ``eth0`` has an address of its own.
Layout = Literal["plain", "two-nics", "loopback", "vlan", "bond", "bridge", "macvlan"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

#: The NIC of every node.
NIC = "eth0"
#: The device above ``eth0`` that has the node's address.
STACKED: Mapping[Layout, str] = {
    "vlan": f"{NIC}.100",
    "bond": "bond0",
    "bridge": "br-ex",
    "macvlan": "macvlan0",
}
#: The networks of management and of addresses on ``lo``; a node has its address's last two bytes.
MANAGEMENT, LOOPBACKS = IPv4Network("10.9.0.0/16"), IPv4Network("10.99.0.0/16")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One node: its name and, on its cable, its address with the prefix of its subnet."""

    name: str
    address: IPv4Interface
    control_plane: bool = False
    layout: Layout = "plain"

    @property
    def calico_address(self) -> IPv4Interface:
        """The address by which Calico knows the node."""
        if self.layout == "loopback":
            return IPv4Interface((_moved(self.address.ip, LOOPBACKS), 32))
        return self.address

    @property
    def internal_ip(self) -> IPv4Address:
        """The address by which Kubernetes knows the node."""
        if self.layout == "two-nics":
            return _moved(self.address.ip, MANAGEMENT)
        return self.calico_address.ip

    @property
    def wire(self) -> str:
        """The device by which the node reaches its subnet."""
        return STACKED.get(self.layout, NIC)

    @property
    def device(self) -> str:
        """The device that has Calico's address."""
        return "lo" if self.layout == "loopback" else self.wire


def _moved(address: IPv4Address, network: IPv4Network) -> IPv4Address:
    return network[int(address) & int(network.hostmask)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a node takes to follow a change, each by itself: from and to, in seconds.

    Attributes:
        routes: BIRD, and Felix where it need not restart.
        device: Felix, which restarts when a tunnel appears or goes, to make or remove the device.
        felix_routes: its routes after the device.
        proxy: kube-proxy, after a Service or its endpoints have changed.
    """

    routes: tuple[float, float] = (0.0, 0.0)
    device: tuple[float, float] = (0.0, 0.0)
    felix_routes: tuple[float, float] = (0.0, 0.0)
    proxy: tuple[float, float] = (0.0, 0.0)


#: ``recorded``: within what four nodes with Calico 3.33-dev and Kubernetes 1.34 did, with VXLAN and
#: without a tunnel; IPIP was not recorded there, and is taken to be like VXLAN.
TIMINGS = {
    "recorded": Timing(
        routes=(0.04, 0.11), device=(2.9, 3.1), felix_routes=(0.15, 0.3), proxy=(0.2, 1.0)
    ),
    "quick": Timing(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CalicoSpec:
    """The Calico installation that the lab plays."""

    version: str = "v3.31.2"
    install: Literal["manifest", "operator"] = "manifest"
    #: A: crd.projectcalico.org/v1 only; B: with the aggregated projectcalico.org/v3; C: native v3.
    api_shape: Literal["A", "B", "C"] = "A"
    backend: Literal["bird", "vxlan"] = "bird"
    ipip_mode: Literal["Never", "CrossSubnet", "Always"] = "Never"
    vxlan_mode: Literal["Never", "CrossSubnet", "Always"] = "Never"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabSpec:
    """One lab. The first node is the control plane; equal networks of addresses share a bridge."""

    nodes: tuple[NodeSpec, ...]
    link_rate: BitRate | None = DEFAULT_LINK_RATE
    link_mtu_bytes: int = 1500
    pod_cidr: IPv4Network = IPv4Network("10.244.0.0/16")
    service_cidr: IPv4Network = IPv4Network("10.96.0.0/12")
    dns_address: IPv4Address = IPv4Address("10.96.0.10")
    cluster_domain: str = "cluster.local"
    load_balancer_range: tuple[IPv4Address, IPv4Address] = (
        IPv4Address("192.168.0.240"),
        IPv4Address("192.168.0.250"),
    )
    outside_address: IPv4Interface = IPv4Interface("203.0.113.10/24")
    calico: CalicoSpec = CalicoSpec()
    #: Who makes ``tunl0``: the kernel's driver, a forwarder on TUN, or whichever there is.
    ipip_driver: Literal["auto", "kernel", "tun"] = "auto"
    #: kube-proxy's clusterCIDR: it masquerades what reaches a Service from elsewhere; None is all
    #: pools that are enabled.
    cluster_cidr: IPv4Network | None = None
    timing: Literal["recorded", "quick"] = "quick"
    faults: tuple[tuple[str, str], ...] = field(default=())
    #: The programs of images: a name, and the words of its entrypoint.
    images: tuple[tuple[str, tuple[str, ...]], ...] = field(default=())
    #: A folder of programs that containers find beside the machine's own; empty for none.
    programs: str = ""

    def subnets(self) -> list[IPv4Network]:
        """The distinct node subnets, in order of appearance."""
        return list(dict.fromkeys(node.address.network for node in self.nodes))

    def router_address(self, subnet: IPv4Network) -> IPv4Interface:
        """The router's address in a subnet: the first host of it."""
        return IPv4Interface(f"{subnet[1]}/{subnet.prefixlen}")


def study_nodes(count: int = 4) -> tuple[NodeSpec, ...]:
    """The study's topology: the last node behind a router, all others in one subnet.

    Args:
        count: how many nodes, 1 to 200. Four gives master, node1, node2 and, across the router,
            node3.
    """
    if not 1 <= count <= 200:
        raise ValueError(f"a lab has 1 to 200 nodes, not {count}")
    nodes = [NodeSpec(name="master", address=IPv4Interface("192.168.0.10/24"), control_plane=True)]
    for index in range(1, count):
        across = index == count - 1 and count >= 4
        network = "192.168.1" if across else "192.168.0"
        nodes.append(
            NodeSpec(name=f"node{index}", address=IPv4Interface(f"{network}.{10 + index}/24"))
        )
    return tuple(nodes)


def laid_out(nodes: tuple[NodeSpec, ...], layouts: Sequence[str]) -> tuple[NodeSpec, ...]:
    """The nodes with other layouts.

    Args:
        nodes: the nodes.
        layouts: each ``KIND`` for all or ``NODE=KIND`` for one; the last that names a node counts.

    Raises:
        ValueError: there is no such kind, or no such node.
    """
    for text in layouts:
        name, equals, kind = text.rpartition("=")
        if kind not in LAYOUTS:
            raise ValueError(f"there is no layout {kind!r}; there are: {', '.join(LAYOUTS)}")
        if equals and name not in [node.name for node in nodes]:
            known = ", ".join(node.name for node in nodes)
            raise ValueError(f"the lab has no node {name!r}; it has: {known}")
        nodes = tuple(
            replace(node, layout=kind) if name in ("", node.name) else node for node in nodes
        )
    return nodes

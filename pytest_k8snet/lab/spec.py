"""What a lab consists of: nodes, subnets, links and the Calico it plays. Values only, no I/O."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Literal

from pytest_k8snet.units import BitRate

#: The default rate of every node's link: slow enough that the link, and not the processor of the
#: machine below, limits every mode, so that each has an exact physical ceiling.
DEFAULT_LINK_RATE = BitRate(300e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One node: its name and its address with the prefix of its subnet."""

    name: str
    address: IPv4Interface
    control_plane: bool = False


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
    faults: tuple[tuple[str, str], ...] = field(default=())

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


def to_json(spec: LabSpec) -> str:
    """The spec on one line of JSON; addresses become text, the rate a number of bit/s."""
    return json.dumps(asdict(spec), default=str)


def from_json(text: str) -> LabSpec:
    """The spec that :func:`to_json` wrote."""
    fields = json.loads(text)
    rate = fields["link_rate"]
    first, last = fields["load_balancer_range"]
    return LabSpec(
        nodes=tuple(
            NodeSpec(**{**node, "address": IPv4Interface(node["address"])})
            for node in fields["nodes"]
        ),
        link_rate=None if rate is None else BitRate(rate),
        link_mtu_bytes=fields["link_mtu_bytes"],
        pod_cidr=IPv4Network(fields["pod_cidr"]),
        service_cidr=IPv4Network(fields["service_cidr"]),
        dns_address=IPv4Address(fields["dns_address"]),
        cluster_domain=fields["cluster_domain"],
        load_balancer_range=(IPv4Address(first), IPv4Address(last)),
        outside_address=IPv4Interface(fields["outside_address"]),
        calico=CalicoSpec(**fields["calico"]),
        ipip_driver=fields["ipip_driver"],
        faults=tuple((name, value) for name, value in fields["faults"]),
    )

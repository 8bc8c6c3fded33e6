"""What the nodes stand on: links, a bridge per subnet, a router, and a client outside.

    node-node1 [eth0]--[n1] underlay [br0] [r0]--[eth0] router [out0]--[eth0] outside
    node-node3 [eth0]--[n3] underlay [br1] [r1]--[eth1] router

Each node's link is shaped in both directions: at the node's ``eth0`` what it sends, at the
bridge's end what it receives. Knows nothing of pods or of Calico.
"""

from __future__ import annotations

import asyncio

from pytest_k8snet.lab.dataplane import netns
from pytest_k8snet.lab.dataplane.shaping import Shaper
from pytest_k8snet.lab.spec import LabSpec, NodeSpec

#: The NIC of every node, and of every pod.
NIC = "eth0"

#: The namespaces beside those of nodes and pods.
UNDERLAY, ROUTER, OUTSIDE = "underlay", "router", "outside"

#: The router's interface to the outside client.
OUTSIDE_INTERFACE = "out0"

_NO_IPV6 = {"ipv6/conf/default/disable_ipv6": "1"}
_SWITCH = {
    **_NO_IPV6,
    # A switch: no packet filter, no connection tracking.
    "bridge/bridge-nf-call-iptables": "0",
    "bridge/bridge-nf-call-ip6tables": "0",
    "bridge/bridge-nf-call-arptables": "0",
}
_ROUTING = {
    **_NO_IPV6,
    "ipv4/ip_forward": "1",
    # A reply may come by another way than its request left: Calico asks for loose or none.
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
}


def node_namespace(node: str) -> str:
    """The name of a node's namespace."""
    return f"node-{node}"


def router_interface(spec: LabSpec, node: NodeSpec) -> str:
    """The router's interface in a node's subnet."""
    return f"eth{spec.subnets().index(node.address.network)}"


def endpoint_sysctls(spec: LabSpec) -> dict[str, str]:
    """The sysctls of a namespace whose programs send and receive, for ``netns.create``."""
    # One connection must not inherit what another learned: each sample stands alone.
    sysctls = {**_NO_IPV6, "ipv4/tcp_no_metrics_save": "1"}
    if spec.link_rate is not None:
        shaper = Shaper(rate=spec.link_rate, mtu_bytes=spec.link_mtu_bytes)
        sysctls["ipv4/tcp_rmem"] = " ".join(map(str, shaper.tcp_rmem_bytes))
    return sysctls


async def build(spec: LabSpec) -> None:
    """Make all namespaces but the pods', and link them.

    Raises:
        DataplaneError: the kernel refused something.
    """
    await _make_namespaces(spec)
    await netns.batch(UNDERLAY, underlay_commands(spec))
    await asyncio.gather(
        _prepare_links(spec),
        _configure_router(spec),
        *(_configure_node(spec, node) for node in spec.nodes),
    )


def underlay_commands(spec: LabSpec) -> list[str]:
    """The ``ip`` commands that make bridges and cables, in the underlay's namespace."""
    mtu = spec.link_mtu_bytes
    lines = []
    for index in range(len(spec.subnets())):
        lines += [
            f"link add br{index} mtu {mtu} type bridge",
            f"link set br{index} up",
            f"link add r{index} mtu {mtu} type veth peer name eth{index} mtu {mtu} netns {ROUTER}",
            f"link set r{index} master br{index} up",
        ]
    for index, node in enumerate(spec.nodes):
        bridge = spec.subnets().index(node.address.network)
        lines += [
            f"link add n{index} mtu {mtu} type veth"
            f" peer name {NIC} mtu {mtu} netns {node_namespace(node.name)}",
            f"link set n{index} master br{bridge} up",
        ]
    return lines


async def _make_namespaces(spec: LabSpec) -> None:
    endpoint = endpoint_sysctls(spec)
    await asyncio.gather(
        netns.create(UNDERLAY, sysctls=_SWITCH),
        netns.create(ROUTER, sysctls=_ROUTING),
        netns.create(OUTSIDE, sysctls=endpoint),
        *(
            netns.create(node_namespace(node.name), sysctls={**_ROUTING, **endpoint})
            for node in spec.nodes
        ),
    )


async def _configure_node(spec: LabSpec, node: NodeSpec) -> None:
    router = spec.router_address(node.address.network).ip
    lines = [
        f"addr add {node.address} dev {NIC}",
        f"link set {NIC} up",
        f"route add default via {router} dev {NIC}",
    ]

    def configure() -> None:
        netns.batch_here(lines)
        if spec.link_rate is not None:
            shaper = Shaper(rate=spec.link_rate, mtu_bytes=spec.link_mtu_bytes)
            netns.batch_here([shaper.command(NIC)], "tc")

    await netns.run(node_namespace(node.name), configure)


async def _prepare_links(spec: LabSpec) -> None:
    """Shape what the nodes receive, at the bridges' ends."""
    if spec.link_rate is None:
        return
    shaper = Shaper(rate=spec.link_rate, mtu_bytes=spec.link_mtu_bytes)
    links = [f"n{index}" for index in range(len(spec.nodes))]

    await netns.batch(UNDERLAY, [shaper.command(link) for link in links], "tc")


async def _configure_router(spec: LabSpec) -> None:
    lines = []
    for index, subnet in enumerate(spec.subnets()):
        lines += [
            f"addr add {spec.router_address(subnet)} dev eth{index}",
            f"link set eth{index} up",
        ]
    mtu = spec.link_mtu_bytes
    outside = spec.outside_address.network
    lines += [
        f"link add {OUTSIDE_INTERFACE} mtu {mtu} type veth"
        f" peer name {NIC} mtu {mtu} netns {OUTSIDE}",
        f"addr add {spec.router_address(outside)} dev {OUTSIDE_INTERFACE}",
        f"link set {OUTSIDE_INTERFACE} up",
    ]
    await netns.batch(ROUTER, lines)
    # The outside end exists only now.
    router = spec.router_address(outside).ip
    await netns.batch(
        OUTSIDE,
        [
            f"addr add {spec.outside_address} dev {NIC}",
            f"link set {NIC} up",
            f"route add default via {router} dev {NIC}",
        ],
    )

"""What the nodes stand on: links, a bridge per subnet, a router, and a client outside.

    node-node1 [eth0]--[n1] underlay [br0] [r0]--[eth0] router [out0]--[eth0] outside
    node-node3 [eth0]--[n3] underlay [br1] [r1]--[eth1] router

A node of the layout ``two-nics`` has an ``eth1`` as well, on the bridge ``mgmt``, unshaped.
Each node's link is shaped in both directions: at the node's ``eth0`` what it sends, at the
bridge's end what it receives. Knows nothing of pods or of Calico.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Address

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab import namespaces
from pytest_k8snet.lab.dataplane import netns
from pytest_k8snet.lab.spec import LOOPBACKS, MANAGEMENT, NIC, LabSpec, NodeSpec
from pytest_k8snet.units import BitRate

#: The namespaces beside those of nodes and pods.
UNDERLAY, ROUTER, OUTSIDE = "underlay", "router", "outside"

#: The router's interface to the outside client.
OUTSIDE_INTERFACE = "out0"

#: The bridge of the management network, the router's interface to it, and a node's NIC in it.
_MANAGEMENT_BRIDGE, _MANAGEMENT_NIC = "mgmt", "eth1"

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
    try:
        await netns.batch(UNDERLAY, underlay_commands(spec))
        await asyncio.gather(
            _prepare_links(spec),
            _configure_router(spec),
            *(_configure_node(spec, node) for node in spec.nodes),
        )
    except netns.DataplaneError as error:
        if "Unknown device type" not in error.found:
            raise
        kinds = ", ".join(sorted({node.layout for node in spec.nodes} - {"plain"}))
        raise LabError(
            f"this machine's kernel lacks a kind of device that the layout needs ({kinds})",
            found=error.found,
            remedy="load its module (modprobe 8021q, bonding or macvlan), or give another --layout",
        ) from None


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
        bridge, port = f"br{spec.subnets().index(node.address.network)}", f"n{index}"
        lines += [
            f"link add n{index} mtu {mtu} type veth"
            f" peer name {NIC} mtu {mtu} netns {node_namespace(node.name)}"
        ]
        if node.layout == "vlan":
            port = f"n{index}.100"
            lines += [
                f"link set n{index} up",
                f"link add link n{index} name {port} type vlan id 100",
            ]
        lines += [f"link set {port} master {bridge} up"]
    managed = [n for n, node in enumerate(spec.nodes) if node.layout == "two-nics"]
    if managed:
        lines += [
            f"link add {_MANAGEMENT_BRIDGE} type bridge",
            f"link set {_MANAGEMENT_BRIDGE} up",
            f"link add rm type veth peer name {_MANAGEMENT_BRIDGE} netns {ROUTER}",
            f"link set rm master {_MANAGEMENT_BRIDGE} up",
        ]
    for index in managed:
        namespace = node_namespace(spec.nodes[index].name)
        lines += [
            f"link add m{index} type veth peer name {_MANAGEMENT_NIC} netns {namespace}",
            f"link set m{index} master {_MANAGEMENT_BRIDGE} up",
        ]
    return lines


def node_commands(spec: LabSpec, node: NodeSpec) -> list[str]:
    """The ``ip`` commands that give a node its addresses and routes, in the node's namespace."""
    wire, router = node.wire, spec.router_address(node.address.network).ip
    if node.layout == "loopback":
        # Whatever the node sends bears the address that the fabric has a route to.
        return [
            f"addr add {node.address.ip}/32 dev {wire}",
            f"link set {wire} up",
            f"addr add {node.calico_address} dev lo",
            f"route add {router} dev {wire} scope link",
            f"route add default via {router} dev {wire} src {node.calico_address.ip}",
        ]
    lines = {
        "vlan": [f"link add link {NIC} name {wire} type vlan id 100"],
        "macvlan": [f"link add link {NIC} name {wire} type macvlan mode bridge"],
        "bond": [f"link add {wire} type bond mode active-backup", f"link set {NIC} master {wire}"],
        "bridge": [f"link add {wire} type bridge", f"link set {NIC} master {wire}"],
    }.get(node.layout, [])
    lines += [f"link set {NIC} up", f"addr add {node.address} dev {wire}", f"link set {wire} up"]
    if node.layout != "two-nics":
        return [*lines, f"route add default via {router} dev {wire}"]
    others = [*(net for net in spec.subnets() if net != node.address.network), LOOPBACKS]
    return [
        *lines,
        *(f"route add {subnet} via {router} dev {wire}" for subnet in others),
        f"addr add {node.internal_ip}/{MANAGEMENT.prefixlen} dev {_MANAGEMENT_NIC}",
        f"link set {_MANAGEMENT_NIC} up",
        f"route add default via {MANAGEMENT[1]} dev {_MANAGEMENT_NIC}",
    ]


async def _make_namespaces(spec: LabSpec) -> None:
    endpoint = endpoint_sysctls(spec)
    # As systemd has it on nodes: every group may ping.
    last = 65535 if namespaces.may_become_any_user() else 0
    node_sysctls = {**_ROUTING, **endpoint, "ipv4/ping_group_range": f"0 {last}"}
    await asyncio.gather(
        netns.create(UNDERLAY, sysctls=_SWITCH),
        netns.create(ROUTER, sysctls=_ROUTING),
        netns.create(OUTSIDE, sysctls=endpoint),
        *(netns.create(node_namespace(node.name), sysctls=node_sysctls) for node in spec.nodes),
    )


async def _configure_node(spec: LabSpec, node: NodeSpec) -> None:
    def configure() -> None:
        if node.layout == "macvlan":
            # Else both devices answer for the address, and who was first gets the packets.
            namespaces.write_sysctls({f"ipv4/conf/{NIC}/arp_ignore": "1"})
        netns.batch_here(node_commands(spec, node))
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
    lines += [
        f"route add {node.calico_address} via {node.address.ip}"
        for node in spec.nodes
        if node.layout == "loopback"
    ]
    if any(node.layout == "two-nics" for node in spec.nodes):
        lines += [
            f"addr add {MANAGEMENT[1]}/{MANAGEMENT.prefixlen} dev {_MANAGEMENT_BRIDGE}",
            f"link set {_MANAGEMENT_BRIDGE} up",
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


# -- The pod's cable: a veth pair as Calico's CNI plugin makes it, and its route -------------------

#: The MAC address that every host end has: pods never need another neighbour.
HOST_MAC = "ee:ee:ee:ee:ee:ee"

#: The gateway of every pod, answered by proxy ARP.
POD_GATEWAY = IPv4Address("169.254.1.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cable:
    """One pod's connection to its node.

    Attributes:
        node: the node's name.
        interface: of the host end, ``cali`` and 11 hex digits.
        pod_namespace: the name of the pod's network namespace.
        address: of the pod.
        mtu_bytes: of both ends.
        metric: of the route to the pod; 0 as Calico before v3.32.
    """

    node: str
    interface: str
    pod_namespace: str
    address: IPv4Address
    mtu_bytes: int
    metric: int = 0

    def host_commands(self) -> tuple[list[str], list[str]]:
        """The ``ip`` commands in the node's namespace: to make the cable, then to use it."""
        make = [
            f"link add {self.interface} mtu {self.mtu_bytes} address {HOST_MAC} type veth"
            f" peer name {NIC} mtu {self.mtu_bytes} netns {self.pod_namespace}"
        ]
        metric = f" metric {self.metric}" if self.metric else ""
        use = [
            f"link set {self.interface} up",
            f"route replace {self.address}/32 dev {self.interface} scope link{metric}",
        ]
        return make, use

    def pod_commands(self) -> list[str]:
        """The ``ip`` commands in the pod's namespace."""
        return [
            f"addr add {self.address}/32 dev {NIC}",
            f"link set {NIC} up",
            f"neigh replace {POD_GATEWAY} lladdr {HOST_MAC} dev {NIC} nud permanent",
            f"route add {POD_GATEWAY} dev {NIC} scope link",
            f"route add default via {POD_GATEWAY} dev {NIC}",
        ]


def host_interface(namespace: str, pod: str) -> str:
    """The name of the host end for a pod: the same on every node and in every run."""
    return "cali" + hashlib.sha1(f"{namespace}.{pod}".encode()).hexdigest()[:11]


async def plug(cable: Cable, pod_sysctls: dict[str, str]) -> None:
    """Connect a pod to its node.

    Args:
        cable: what to make.
        pod_sysctls: settings of the pod's namespace, paths below ``/proc/sys/net``.

    Raises:
        DataplaneError: the kernel refused; nothing of the cable is left.
    """
    node = node_namespace(cable.node)

    def host_end() -> None:
        make, use = cable.host_commands()
        netns.batch_here(make)
        namespaces.write_sysctls(
            {
                f"ipv4/conf/{cable.interface}/proxy_arp": "1",
                f"ipv4/conf/{cable.interface}/rp_filter": "0",
                # Else the first answer waits up to 0.8 s, at random.
                f"ipv4/neigh/{cable.interface}/proxy_delay": "0",
            }
        )
        netns.batch_here(use)

    def pod_end() -> None:
        namespaces.write_sysctls(pod_sysctls)
        netns.batch_here(cable.pod_commands())

    try:
        await netns.run(node, host_end)
        await netns.run(cable.pod_namespace, pod_end)
    except netns.DataplaneError:
        await unplug(cable.node, cable.interface)
        raise


async def unplug(node: str, interface: str) -> None:
    """Remove a cable with its route; missing is fine."""
    if not netns.exists(node_namespace(node)):
        return

    def remove() -> None:
        if namespaces.has_interface(interface):
            netns.batch_here([f"link del {interface}"])

    await netns.run(node_namespace(node), remove)


# -- How a link gets an exact rate -----------------------------------------------------------------

#: Ethernet's header, which ``tbf`` counts: a full frame is 14 bytes longer than its IP packet.
ETHERNET_HEADER_BYTES = 14

# The bucket fills while the processor is busy elsewhere: with less, a late wake-up of a few
# milliseconds loses bandwidth for good. The first burst adds this much to a measurement: under
# one percent of a second.
_BURST_SECONDS = 0.008
_QUEUE_SECONDS = 0.040
_LEAST_QUEUE_BYTES = 65536
_INITIAL_WINDOW_BYTES = 131072
_LEAST_WINDOW_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaper:
    """A token bucket filter for one direction of a link.

    Attributes:
        rate: bits of whole Ethernet frames per second, as ``tc`` counts them.
        mtu_bytes: the link's MTU.
    """

    rate: BitRate
    mtu_bytes: int

    @property
    def burst_bytes(self) -> int:
        """The depth of the bucket."""
        frame = self.mtu_bytes + ETHERNET_HEADER_BYTES
        return max(2 * frame, round(self.rate / 8 * _BURST_SECONDS))

    @property
    def queue_bytes(self) -> int:
        """What the link holds before it drops."""
        return max(_LEAST_QUEUE_BYTES, round(self.rate / 8 * _QUEUE_SECONDS))

    @property
    def tcp_rmem_bytes(self) -> tuple[int, int, int]:
        """``net.ipv4.tcp_rmem`` that keeps the windows of three connections within the queue.

        About half of the largest value becomes window. So a measurement meets the rate of the
        link, and no losses that the size of its queue made.
        """
        largest = max(2 * _LEAST_WINDOW_BYTES, self.queue_bytes // 2)
        return _LEAST_WINDOW_BYTES, min(_INITIAL_WINDOW_BYTES, largest), largest

    def command(self, interface: str) -> str:
        """The ``tc`` command, without the word ``tc``."""
        return (
            f"qdisc replace dev {interface} root tbf rate {round(self.rate)}bit"
            f" burst {self.burst_bytes} limit {self.queue_bytes}"
        )

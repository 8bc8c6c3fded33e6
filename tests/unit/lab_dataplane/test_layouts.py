"""Where nodes have their addresses, and what Calico makes of it.

Beliefs about Calico, of its master at 87c15906f2: the device with the node's address is the parent
of vxlan.calico and of Felix's own routes (felix/dataplane/linux/route_mgr.go, detectParentIface);
packets to a pool are not masqueraded, also if it is disabled, but for one for load balancers alone
(felix/dataplane/linux/masq_mgr.go); ``natOutgoingExclusions`` adds hosts (felix/rules/nat.go).
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from pytest_k8snet.lab.calico.pools import IPPool
from pytest_k8snet.lab.dataplane import felix, kernel, nat, underlay
from pytest_k8snet.lab.dataplane.felix import Behaviour, Block, Datastore, Host
from pytest_k8snet.lab.faults import CalicoFaults
from pytest_k8snet.lab.spec import LabSpec, Layout, NodeSpec, laid_out, study_nodes


def node(layout: Layout) -> NodeSpec:
    return laid_out(study_nodes(), [f"node2={layout}"])[2]


@pytest.mark.parametrize(
    ("layout", "calico", "internal", "device", "wire"),
    [
        ("plain", "192.168.0.12/24", "192.168.0.12", "eth0", "eth0"),
        ("two-nics", "192.168.0.12/24", "10.9.0.12", "eth0", "eth0"),
        ("loopback", "10.99.0.12/32", "10.99.0.12", "lo", "eth0"),
        ("vlan", "192.168.0.12/24", "192.168.0.12", "eth0.100", "eth0.100"),
        ("bond", "192.168.0.12/24", "192.168.0.12", "bond0", "bond0"),
        ("bridge", "192.168.0.12/24", "192.168.0.12", "br-ex", "br-ex"),
        ("macvlan", "192.168.0.12/24", "192.168.0.12", "macvlan0", "macvlan0"),
    ],
)
def test_each_layout_has_its_addresses_and_devices(
    layout: Layout, calico: str, internal: str, device: str, wire: str
) -> None:
    made = node(layout)
    assert str(made.calico_address) == calico
    assert str(made.internal_ip) == internal
    assert (made.device, made.wire) == (device, wire)


def test_a_layout_is_of_all_nodes_or_of_one_and_the_last_that_names_a_node_counts() -> None:
    nodes = laid_out(study_nodes(), ["bridge", "node1=loopback", "node1=vlan"])
    assert [one.layout for one in nodes] == ["bridge", "vlan", "bridge", "bridge"]
    with pytest.raises(ValueError, match="no layout 'bonded'; there are: plain, two-nics, loop"):
        laid_out(nodes, ["bonded"])
    with pytest.raises(ValueError, match="no node 'node9'; it has: master, node1, node2, node3"):
        laid_out(nodes, ["node9=bond"])


def test_the_commands_of_a_node_known_by_an_address_on_lo() -> None:
    assert underlay.node_commands(LabSpec(nodes=study_nodes()), node("loopback")) == [
        "addr add 192.168.0.12/32 dev eth0",
        "link set eth0 up",
        "addr add 10.99.0.12/32 dev lo",
        "route add 192.168.0.1 dev eth0 scope link",
        "route add default via 192.168.0.1 dev eth0 src 10.99.0.12",
    ]


def test_the_commands_of_a_node_with_a_management_nic() -> None:
    assert underlay.node_commands(LabSpec(nodes=study_nodes()), node("two-nics")) == [
        "link set eth0 up",
        "addr add 192.168.0.12/24 dev eth0",
        "link set eth0 up",
        "route add 192.168.1.0/24 via 192.168.0.1 dev eth0",
        "route add 10.99.0.0/16 via 192.168.0.1 dev eth0",
        "addr add 10.9.0.12/16 dev eth1",
        "link set eth1 up",
        "route add default via 10.9.0.1 dev eth1",
    ]


def test_a_vlan_ends_at_the_switch() -> None:
    spec = LabSpec(nodes=laid_out(study_nodes(), ["node2=vlan"]))
    lines = underlay.underlay_commands(spec)
    assert "link add link n2 name n2.100 type vlan id 100" in lines
    assert [line for line in lines if line.startswith("link set n2")] == [
        "link set n2 up",
        "link set n2.100 master br0 up",
    ]


def host(name: str, spec: NodeSpec, tunnel: str | None) -> Host:
    return Host(
        name=name,
        address=spec.calico_address,
        device=spec.device,
        wire=spec.wire,
        link=spec.address,
        vxlan_tunnel=None if tunnel is None else IPv4Address(tunnel),
    )


def make(
    vxlan_mode: felix.Encapsulation = "Never",
    *,
    layout: Layout = "plain",
    tunnel: str | None = "10.244.2.0",
) -> Datastore:
    """node1 plain, and node2 of a layout."""
    pool = IPPool(
        name="p", cidr=IPv4Network("10.244.0.0/16"), vxlan_mode=vxlan_mode, nat_outgoing=True
    )
    nodes = laid_out(study_nodes(), [f"node2={layout}"])
    return Datastore(
        hosts=[host("node1", nodes[1], "10.244.1.0"), host("node2", nodes[2], tunnel)],
        pools=[pool],
        blocks=[
            Block(cidr=IPv4Network(f"10.244.{index}.0/26"), node=f"node{index}") for index in (1, 2)
        ],
        routers={IPv4Network("192.168.0.0/24"): IPv4Address("192.168.0.1")},
    )


def routes(data: Datastore, name: str) -> list[str]:
    return sorted(map(str, felix.node_state(data, name).routes))


def test_a_node_known_by_an_address_on_lo_is_in_nobodys_subnet() -> None:
    data = make(layout="loopback")
    assert routes(data, "node1")[0] == "10.244.2.0/26 via 192.168.0.1 dev eth0 proto bird"
    assert routes(data, "node2")[0] == "10.244.1.0/26 via 192.168.0.1 dev eth0 proto bird"
    interfaces = {IPv4Network("192.168.0.0/24"): "eth0"}
    assert "10.244.2.0/26 via 192.168.0.12 dev eth0 proto bird" in map(
        str, felix.router_routes(data, interfaces)
    )
    tunnelled = felix.node_state(make("CrossSubnet", layout="loopback"), "node2")
    assert tunnelled.vxlan is not None
    assert (tunnelled.vxlan.parent, str(tunnelled.vxlan.local)) == ("lo", "10.99.0.12")


def test_felixs_own_routes_and_its_tunnel_lie_on_the_device_with_the_address() -> None:
    state = felix.node_state(make("CrossSubnet", layout="bridge"), "node2")
    assert "10.244.1.0/26 via 192.168.0.11 dev br-ex proto 80 onlink" in map(str, state.routes)
    assert state.vxlan is not None
    assert state.vxlan.parent == "br-ex"


def test_a_node_without_a_tunnel_address_has_no_device_and_nobody_sends_to_it() -> None:
    data = make("Always", tunnel=None)
    state = felix.node_state(data, "node2")
    assert (state.vxlan, state.vteps) == (None, frozenset())
    assert [str(route) for route in state.routes] == ["blackhole 10.244.2.0/26 proto 80"]
    assert routes(data, "node1") == ["blackhole 10.244.1.0/26 proto 80"]


def test_felixs_vni_and_port_are_those_of_its_configuration() -> None:
    data = make("Always")
    data = replace(data, behaviour=Behaviour(vxlan_vni=8192, vxlan_port=8473))
    device = felix.node_state(data, "node1").vxlan
    assert device is not None
    assert (device.vni, device.port) == (8192, 8473)
    assert "udp dport 8473 ip saddr != @hosts drop" in nat.calico_rules(data)
    assert data.tunnels != make("Always").tunnels  # so Felix restarts


def test_which_packets_are_masqueraded() -> None:
    data = make()
    nodes = IPPool(name="nodes", cidr=IPv4Network("192.168.0.0/24"), disabled=True)
    balanced = IPPool(name="lb", cidr=IPv4Network("192.168.9.0/24"), uses=("LoadBalancer",))
    rules = nat.calico_rules(replace(data, pools=[*data.pools, nodes, balanced]))
    assert "elements = { 10.244.0.0/16, 192.168.0.0/24 }" in rules
    assert "ip saddr @nat-pools ip daddr != @pools masquerade" in rules
    hosts = Behaviour(nat_exclusions="IPPoolsAndHostIPs")
    assert "ip daddr != @pools ip daddr != @hosts masquerade" in nat.calico_rules(
        replace(data, behaviour=hosts)
    )


def test_another_cnis_tunnel_takes_the_direct_routes_of_the_nodes_that_are_named() -> None:
    data = make()
    faults = CalicoFaults.read({"foreign-overlay-on": "node1"})
    assert [
        str(r) for r in faults.spoil(felix.node_state(data, "node1"), "node1", data).routes
    ] == ["blackhole 10.244.1.0/26 proto bird"]
    route = "route replace 10.244.2.0/26 via 10.98.0.12 dev flannel.1 onlink"
    assert route in kernel.overlay(data, "node1", carries=True).ip
    assert not any("10.244" in line for line in kernel.overlay(data, "node2", carries=False).ip)
    tunnelled = make("Always")
    state = felix.node_state(tunnelled, "node1")
    assert faults.spoil(state, "node1", tunnelled) == state


def test_an_address_on_lo_keeps_the_addresss_last_bytes() -> None:
    spec = NodeSpec(name="n", address=IPv4Interface("192.168.7.9/24"), layout="loopback")
    assert str(spec.calico_address) == "10.99.7.9/32"


def test_the_fabric_drops_by_what_it_sees_of_a_packet() -> None:
    data = replace(make(), behaviour=Behaviour(vxlan_port=8473))
    rules = {path: nat.fabric_rules([path], data) for path in ("vxlan", "ipip", "direct", "odd")}
    assert "\nudp dport 8473 drop\n" in rules["vxlan"]
    assert "\nip protocol 4 drop\n" in rules["ipip"]
    # Bare: the outer addresses of a tunnel are the nodes'.
    assert "\nip saddr { 10.244.0.0/16 } ip daddr { 10.244.0.0/16 } drop\n" in rules["direct"]
    assert [path for path, text in rules.items() if "drop" not in text] == ["odd"]

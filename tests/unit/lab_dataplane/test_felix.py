"""Each pool state gives the routes, devices and entries that Calico gives it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any, Literal

import pytest

from pytest_k8snet.lab.dataplane import felix
from pytest_k8snet.lab.dataplane.felix import Behaviour, Block, Datastore, Host, Pool

VXLAN_TUNNELS = {"node1": "10.244.1.0", "node2": "10.244.2.0", "node3": "10.244.3.0"}
SUBNETS = {"192.168.0.0/24": "192.168.0.1", "192.168.1.0/24": "192.168.1.1"}


def make(
    version: tuple[int, int] = (3, 31), *, backend: Literal["bird", "vxlan"] = "bird", **modes: Any
) -> Datastore:
    """Three nodes, the last behind the router; one pool, one block each."""
    pool = Pool(name="p", cidr=IPv4Network("10.244.0.0/16"), **modes)
    hosts = [
        Host(
            name=name,
            address=IPv4Interface(address),
            vxlan_tunnel=IPv4Address(VXLAN_TUNNELS[name]) if pool.family == "vxlan" else None,
            ipip_tunnel=IPv4Address(VXLAN_TUNNELS[name]) if pool.family == "ipip" else None,
        )
        for name, address in (
            ("node1", "192.168.0.11/24"),
            ("node2", "192.168.0.12/24"),
            ("node3", "192.168.1.13/24"),
        )
    ]
    return Datastore(
        hosts=hosts,
        pools=[pool],
        blocks=[
            Block(cidr=IPv4Network(f"10.244.{index}.0/26"), node=f"node{index}")
            for index in (1, 2, 3)
        ],
        routers={IPv4Network(net): IPv4Address(router) for net, router in SUBNETS.items()},
        behaviour=Behaviour(version=version, backend=backend),
    )


def routes(data: Datastore, node: str = "node1") -> list[str]:
    return sorted(map(str, felix.node_state(data, node).routes))


def test_never_goes_direct_and_across_subnets_by_the_router() -> None:
    assert routes(make()) == [
        "10.244.2.0/26 via 192.168.0.12 dev eth0 proto bird",
        "10.244.3.0/26 via 192.168.0.1 dev eth0 proto bird",
        "blackhole 10.244.1.0/26 proto bird",
    ]


def test_never_across_subnets_comes_back_by_the_other_side_of_the_router() -> None:
    assert routes(make(), "node3") == [
        "10.244.1.0/26 via 192.168.1.1 dev eth0 proto bird",
        "10.244.2.0/26 via 192.168.1.1 dev eth0 proto bird",
        "blackhole 10.244.3.0/26 proto bird",
    ]


def test_vxlan_always_tunnels_to_every_node() -> None:
    assert routes(make(vxlan_mode="Always")) == [
        "10.244.2.0/26 via 10.244.2.0 dev vxlan.calico onlink mtu 1450",
        "10.244.3.0/26 via 10.244.3.0 dev vxlan.calico onlink mtu 1450",
        "blackhole 10.244.1.0/26 proto 80",
    ]


def test_vxlan_cross_subnet_tunnels_across_the_router_only() -> None:
    assert routes(make(vxlan_mode="CrossSubnet")) == [
        "10.244.2.0/26 via 192.168.0.12 dev eth0 proto 80 onlink",
        "10.244.3.0/26 via 10.244.3.0 dev vxlan.calico onlink mtu 1450",
        "blackhole 10.244.1.0/26 proto 80",
    ]


def test_vxlan_routes_have_no_mtu_before_calico_3_31() -> None:
    assert routes(make((3, 30), vxlan_mode="Always"))[0] == (
        "10.244.2.0/26 via 10.244.2.0 dev vxlan.calico onlink"
    )


def test_ipip_always_is_birds_up_to_3_32() -> None:
    assert routes(make(ipip_mode="Always")) == [
        "10.244.2.0/26 via 192.168.0.12 dev tunl0 proto bird onlink",
        "10.244.3.0/26 via 192.168.1.13 dev tunl0 proto bird onlink",
        "blackhole 10.244.1.0/26 proto bird",
    ]


def test_ipip_cross_subnet_tunnels_across_the_router_only() -> None:
    assert routes(make(ipip_mode="CrossSubnet")) == [
        "10.244.2.0/26 via 192.168.0.12 dev eth0 proto bird",
        "10.244.3.0/26 via 192.168.1.13 dev tunl0 proto bird onlink",
        "blackhole 10.244.1.0/26 proto bird",
    ]


def test_ipip_is_felixs_from_3_33() -> None:
    assert routes(make((3, 33), ipip_mode="CrossSubnet")) == [
        "10.244.2.0/26 via 192.168.0.12 dev eth0 proto 80 onlink",
        "10.244.3.0/26 via 192.168.1.13 dev tunl0 proto 80 onlink mtu 1480",
        "blackhole 10.244.1.0/26 proto 80",
    ]


def test_birds_routes_have_a_metric_from_3_32() -> None:
    assert routes(make((3, 32)))[:2] == [
        "10.244.2.0/26 via 192.168.0.12 dev eth0 proto bird metric 1024",
        "10.244.3.0/26 via 192.168.0.1 dev eth0 proto bird metric 1024",
    ]


@pytest.mark.parametrize("modes", [{}, {"ipip_mode": "Always"}])
def test_without_bird_nobody_programs_what_is_birds(modes: dict[str, Any]) -> None:
    assert routes(make(backend="vxlan", **modes)) == []


def test_without_bird_vxlan_is_as_ever() -> None:
    assert routes(make(backend="vxlan", vxlan_mode="Always")) == routes(make(vxlan_mode="Always"))


def test_each_pool_keeps_its_own_mode_beside_the_others() -> None:
    data = make()
    pools = [
        Pool(name="a", cidr=IPv4Network("10.244.2.0/24"), vxlan_mode="Always"),
        Pool(name="b", cidr=IPv4Network("10.244.3.0/24"), ipip_mode="Always"),
        Pool(name="c", cidr=IPv4Network("10.244.1.0/24")),
    ]
    hosts = [
        replace(
            host,
            vxlan_tunnel=IPv4Address(f"10.244.2.{index}"),
            ipip_tunnel=IPv4Address(f"10.244.3.{index}"),
        )
        for index, host in enumerate(data.hosts)
    ]
    assert routes(replace(data, pools=pools, hosts=hosts)) == [
        "10.244.2.0/26 via 10.244.2.1 dev vxlan.calico onlink mtu 1450",
        "10.244.3.0/26 via 192.168.1.13 dev tunl0 proto bird onlink",
        "blackhole 10.244.1.0/26 proto bird",
    ]


def test_a_node_with_a_narrow_prefix_takes_all_others_for_another_subnet() -> None:
    data = make(vxlan_mode="CrossSubnet")
    alone = replace(data.hosts[0], address=IPv4Interface("192.168.0.11/32"))
    data = replace(data, hosts=[alone, *data.hosts[1:]])
    assert "dev vxlan.calico" in routes(data)[0]
    # Its peer still goes by its own prefix: the two directions differ.
    assert routes(data, "node2")[0] == "10.244.1.0/26 via 192.168.0.11 dev eth0 proto 80 onlink"


def test_a_borrowed_address_has_a_route_of_its_own() -> None:
    data = make()
    borrowed = {IPv4Address("10.244.2.7"): "node3"}
    blocks = [data.blocks[0], replace(data.blocks[1], borrowed=borrowed), data.blocks[2]]
    assert "10.244.2.7 via 192.168.0.1 dev eth0 proto bird" in routes(replace(data, blocks=blocks))


def test_a_borrowed_tunnel_address_is_on_the_tunnels_link() -> None:
    data = make(vxlan_mode="Always")
    blocks = [
        replace(data.blocks[0], borrowed={IPv4Address("10.244.2.0"): "node2"}),
        data.blocks[2],
    ]
    assert "10.244.2.0 dev vxlan.calico scope link mtu 1450" in routes(replace(data, blocks=blocks))


def test_a_block_of_one_address_gets_no_blackhole() -> None:
    data = replace(make(), blocks=[Block(cidr=IPv4Network("10.244.1.9/32"), node="node1")])
    assert routes(data) == []


def test_blocks_of_unknown_pools_and_nodes_are_passed_over() -> None:
    strange = [
        Block(cidr=IPv4Network("172.16.0.0/26"), node="node2"),
        Block(cidr=IPv4Network("10.244.9.0/26"), node="gone"),
    ]
    assert routes(replace(make(), blocks=strange)) == []


def test_a_peer_without_tunnel_address_is_a_black_hole_and_no_vtep() -> None:
    data = make(vxlan_mode="Always")
    data = replace(data, hosts=[*data.hosts[:2], replace(data.hosts[2], vxlan_tunnel=None)])
    assert not any("10.244.3.0/26" in route for route in routes(data))
    assert {vtep.tunnel for vtep in felix.node_state(data, "node1").vteps} == {
        IPv4Address("10.244.2.0")
    }


def test_the_vxlan_device_is_calicos() -> None:
    device = felix.node_state(make(vxlan_mode="Always"), "node1").vxlan
    assert device is not None
    assert (device.vni, device.port, device.parent) == (4096, 4789, "eth0")
    assert device.local == IPv4Address("192.168.0.11")
    assert device.address == IPv4Address("10.244.1.0")
    assert device.mtu_bytes == 1450
    # f, then the first five bytes of the SHA-1 of "node1".
    assert device.mac == "66:f9:37:c3:7e:94"


def test_every_other_node_is_a_vtep() -> None:
    vteps = felix.node_state(make(vxlan_mode="CrossSubnet"), "node1").vteps
    assert {(str(v.tunnel), str(v.underlay)) for v in vteps} == {
        ("10.244.2.0", "192.168.0.12"),
        ("10.244.3.0", "192.168.1.13"),
    }


def test_devices_follow_the_families_in_use() -> None:
    never, ipip = (
        felix.node_state(data, "node1") for data in (make(), make(ipip_mode="CrossSubnet"))
    )
    assert (never.vxlan, never.ipip, never.vteps) == (None, None, frozenset())
    assert ipip.vxlan is None
    assert ipip.ipip is not None
    assert (str(ipip.ipip.address), ipip.ipip.mtu_bytes) == ("10.244.1.0", 1480)


def test_the_router_knows_the_blocks_without_encapsulation_only() -> None:
    interfaces = {IPv4Network("192.168.0.0/24"): "eth0", IPv4Network("192.168.1.0/24"): "eth1"}
    assert sorted(map(str, felix.router_routes(make(), interfaces))) == [
        "10.244.1.0/26 via 192.168.0.11 dev eth0 proto bird",
        "10.244.2.0/26 via 192.168.0.12 dev eth0 proto bird",
        "10.244.3.0/26 via 192.168.1.13 dev eth1 proto bird",
    ]
    assert felix.router_routes(make(vxlan_mode="Always"), interfaces) == frozenset()


@pytest.mark.parametrize(
    ("modes", "mtu"),
    [
        ([{}], 1500),
        ([{"ipip_mode": "CrossSubnet"}], 1480),
        ([{"vxlan_mode": "CrossSubnet"}], 1450),
        ([{}, {"ipip_mode": "Always"}, {"vxlan_mode": "Always"}], 1450),
    ],
)
def test_the_pod_mtu_is_the_smallest_of_all_families(modes: list[dict[str, Any]], mtu: int) -> None:
    pools = [Pool(name="p", cidr=IPv4Network("10.0.0.0/16"), **mode) for mode in modes]
    assert felix.pod_mtu(pools, 1500) == mtu


def test_an_unknown_node_is_an_error() -> None:
    with pytest.raises(KeyError, match="node9"):
        felix.node_state(make(), "node9")


def test_a_version_is_read_as_calico_writes_it() -> None:
    assert Behaviour.of("v3.32.1", "bird").version == (3, 32)
    with pytest.raises(ValueError, match=r"not a Calico version: 'master' \(write v3.31.2\)"):
        Behaviour.of("master", "bird")


@pytest.mark.parametrize(
    ("version", "felix_routes", "bird_routes", "ipip", "never"),
    [
        ((3, 30), "Enabled", "Disabled", "bird", "bird"),
        ((3, 31), "", "", "bird", "bird"),
        ((3, 31), "Enabled", "Disabled", "felix", "felix"),
        ((3, 32), "", "Disabled", "nobody", "nobody"),
        ((3, 32), "Enabled", "Disabled", "felix", "felix"),
        ((3, 33), "", "", "felix", "bird"),
        ((3, 33), "Enabled", "Disabled", "felix", "felix"),
        ((3, 33), "Disabled", "Enabled", "bird", "bird"),
        ((3, 33), "Disabled", "", "nobody", "bird"),
        ((3, 33), "EnabledNoEncapOnly", "EnabledIPIPOnly", "bird", "felix"),
    ],
)
def test_who_programs_routes_is_told_by_both_configurations(
    version: tuple[int, int], felix_routes: str, bird_routes: str, ipip: str, never: str
) -> None:
    told = Behaviour(
        version=version, felix_cluster_routes=felix_routes, bird_cluster_routes=bird_routes
    )
    assert (told.owner("ipip"), told.owner("none"), told.owner("vxlan")) == (ipip, never, "felix")


@pytest.mark.parametrize(("version", "owner"), [((3, 32), "nobody"), ((3, 33), "felix")])
def test_before_3_33_a_tunnel_anywhere_keeps_felix_from_never(
    version: tuple[int, int], owner: str
) -> None:
    told = Behaviour(version=version, backend="vxlan", felix_cluster_routes="Enabled")
    assert told.owner("none", {"vxlan"}) == owner
    assert told.owner("none") == "felix"


def test_never_of_felix_is_on_the_link_also_where_that_leads_nowhere() -> None:
    data = make((3, 33), backend="vxlan")
    data = replace(data, behaviour=replace(data.behaviour, felix_cluster_routes="Enabled"))
    assert routes(data) == [
        "10.244.2.0/26 via 192.168.0.12 dev eth0 proto 80 onlink",
        "10.244.3.0/26 via 192.168.1.13 dev eth0 proto 80 onlink",
        "blackhole 10.244.1.0/26 proto 80",
    ]

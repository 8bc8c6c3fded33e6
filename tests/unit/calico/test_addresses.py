from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest
from cluster_shapes import FAR, NETWORK, NODE1, NODE2, installation, node, pool

from pytest_k8snet.calico.bgp import Bgp, BgpPeer
from pytest_k8snet.calico.installation import IPPool, Version
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.change.addresses import (
    BENCHMARKING,
    choose_networks,
    free_networks,
    masquerade,
    pool_prefix_length,
)
from pytest_k8snet.change.journal import pool_name
from pytest_k8snet.change.pools import node_selector, plan_pools
from pytest_k8snet.cluster.nodes import Node
from pytest_k8snet.errors import ModeUnavailableError


def chosen(
    count: int = 5,
    within: IPv4Network | None = NETWORK,
    node_count: int = 2,
    nodes: tuple[Node, ...] = (NODE1,),
    **found: Any,
) -> list[str]:
    networks = choose_networks(
        within,
        count,
        pool_prefix_length(node_count),
        installation=installation(**{"pools": (), **found}),
        nodes=nodes,
    )
    return [str(network) for network in networks]


@pytest.mark.parametrize(("nodes", "prefix"), [(1, 25), (2, 25), (3, 24), (4, 24), (50, 20)])
def test_a_pool_has_four_blocks_per_node(nodes: int, prefix: int) -> None:
    assert pool_prefix_length(nodes) == prefix
    assert 2 ** (28 - prefix) >= 4 * nodes


def test_networks_are_cut_side_by_side() -> None:
    assert chosen(3) == ["198.18.0.0/25", "198.18.0.128/25", "198.18.1.0/25"]


def test_other_runs_pools_are_stepped_around() -> None:
    other = pool("k8snet-1-never", "198.18.0.0/24", labels={"k8snet/run": "k8snet-1"})
    assert chosen(2, pools=(other,)) == ["198.18.1.0/25", "198.18.1.128/25"]


@pytest.mark.parametrize(
    ("occupant", "found"),
    [
        (
            {"pools": (pool("mine", "198.19.0.0/16"),)},
            "it overlaps with IPPool mine (198.19.0.0/16)",
        ),
        (
            {"nodes": (Node(name="n", internal_ip="198.18.7.7"),)},
            "it overlaps with node address 198.18.7.7",
        ),
        # What lies on a node's wire has no route by Calico: its router, and hosts beside it.
        (
            {"nodes": (node("n", "198.18.7.7/24"),), "within": IPv4Network("198.18.7.128/25")},
            "it overlaps with the nodes' own network 198.18.7.0/24 (n)",
        ),
        (
            {"nodes": (node("n", "198.18.7.7/32"),)},
            "it overlaps with node address 198.18.7.7",
        ),
        (
            {"occupied": {IPv4Network("198.18.9.9/32"): "Service web/shop"}},
            "it overlaps with 198.18.9.9/32 of Service web/shop",
        ),
        (
            {"service_networks": (IPv4Network("198.0.0.0/8"),)},
            "it overlaps with the service addresses 198.0.0.0/8",
        ),
    ],
)
def test_a_range_in_use_is_refused(occupant: dict[str, object], found: str) -> None:
    with pytest.raises(ModeUnavailableError) as caught:
        chosen(**occupant)  # type: ignore[arg-type]
    assert caught.value.found == found
    assert "k8snet_pool_cidr" in caught.value.remedy


@pytest.mark.parametrize("address", ["", "fd00::11"])
def test_a_node_without_an_ipv4_address_occupies_nothing(address: str) -> None:
    joining = Node(name="new", internal_ip=address)
    assert chosen(1, nodes=(joining, NODE1)) == ["198.18.0.0/25"]
    with pytest.raises(ModeUnavailableError):
        chosen(1, nodes=(joining, Node(name="n", internal_ip="198.18.0.11")))


# A pool may go, or shrink, while its pods live on: their blocks and routes stay (v3.28.1
# libcalico-go/lib/ipam/ipam.go: a block outlives its pool until its last address is released).
BLOCK = IPv4Network("198.18.0.64/26")


@pytest.mark.parametrize("within", [NETWORK, None])
def test_blocks_that_exist_are_stepped_around(within: IPv4Network | None) -> None:
    assert chosen(2, within=within, block_networks=(BLOCK,)) == ["198.18.0.128/25", "198.18.1.0/25"]


@pytest.mark.parametrize(
    "occupant",
    [
        {"nodes": (node("one", "10.0.0.11/24"), node("two", "10.0.0.12/24"))},
        {"occupied": {IPv4Network("10.0.0.77/32"): "Service web/shop"}},
        {"block_networks": (IPv4Network("10.0.0.64/26"), IPv4Network("10.0.0.192/26"))},
    ],
    ids=["the nodes' own network", "a load balancer's address", "blocks without a pool"],
)
def test_a_free_piece_of_the_clusters_addresses_is_nobodys(occupant: dict[str, Any]) -> None:
    (found,) = chosen(1, within=None, cluster_networks=(IPv4Network("10.0.0.0/8"),), **occupant)
    assert IPv4Network(found).subnet_of(IPv4Network("10.0.0.0/8"))
    taken = [*occupant.get("occupied", ()), *occupant.get("block_networks", ())]
    taken += [one.interface.network for one in occupant.get("nodes", ())]
    assert not [one for one in taken if one.overlaps(IPv4Network(found))]


@pytest.mark.parametrize("within", ["198.18.0.0/24", "198.18.0.0/26"])
def test_a_range_that_is_too_small_is_refused(within: str) -> None:
    with pytest.raises(ModeUnavailableError, match="too small for 5 pools"):
        chosen(within=IPv4Network(within))


def planned(
    mode: CalicoMode = CalicoMode.VXLAN_CROSS_SUBNET,
    within: IPv4Network | None = NETWORK,
    nodes: tuple[Node, ...] = (NODE1, NODE2),
    every_node: tuple[Node, ...] = (NODE1, NODE2, FAR),
    **found: Any,
) -> dict[str, Any]:
    """The pool that a run would make for a mode."""
    (made,) = plan_pools(
        installation(**found),
        group="crd.projectcalico.org/v1",
        modes=[mode],
        nodes=nodes,
        every_node=every_node,
        run_id="k8snet-abc123",
        within=within,
    ).values()
    return made


def test_a_pool_of_the_runs_own_has_every_field_and_gives_every_node_a_tunnel() -> None:
    made = planned()
    assert made["metadata"]["name"] == "k8snet-abc123-vxlan-crosssubnet"
    assert made["metadata"]["labels"]["k8snet/run"] == "k8snet-abc123"
    assert made["spec"] == {
        "cidr": "198.18.0.0/24",
        "blockSize": 28,
        "ipipMode": "Never",
        "vxlanMode": "CrossSubnet",
        "natOutgoing": True,
        "nodeSelector": "all()",
        "allowedUses": ["Workload", "Tunnel"],
        "disabled": False,
        "disableBGPExport": True,
        "assignmentMode": "Manual",
    }


@pytest.mark.parametrize("version", [Version(3, 29, 9), None])
def test_a_pool_that_any_pod_may_get_serves_the_nodes_under_test_only(
    version: Version | None,
) -> None:
    spec = planned(version=version)["spec"]
    assert "assignmentMode" not in spec
    assert spec["nodeSelector"] == "kubernetes.io/hostname in { 'node1', 'node2' }"
    assert spec["cidr"] == "198.18.0.0/25"


def test_where_not_every_node_fits_into_the_range_those_under_test_do() -> None:
    nodes = [replace(NODE1, name=f"n{index}") for index in range(2000)]
    made = planned(within=IPv4Network("198.18.0.0/24"), every_node=(NODE1, NODE2, *nodes))
    assert made["spec"]["nodeSelector"] == "kubernetes.io/hostname in { 'node1', 'node2' }"
    assert made["spec"]["cidr"] == "198.18.0.0/25"


PEERING = Bgp(peers=(BgpPeer(name="tor", address="10.0.0.1"),))


@pytest.mark.parametrize(
    ("mode", "found", "exported"),
    [
        (CalicoMode.NEVER, {}, True),
        (CalicoMode.IPIP_ALWAYS, {}, True),
        (CalicoMode.VXLAN_ALWAYS, {}, False),
        # Felix programs IPIP's routes from v3.33 on, by what IPAM says.
        (CalicoMode.IPIP_ALWAYS, {"version": Version(3, 33)}, False),
        (CalicoMode.NEVER, {"version": Version(3, 33)}, True),
        (
            CalicoMode.IPIP_ALWAYS,
            {"bgp": PEERING},
            True,
        ),
    ],
)
def test_bgp_is_told_of_a_pool_only_where_the_nodes_learn_it_from_there(
    mode: CalicoMode, found: dict[str, Any], exported: bool
) -> None:
    # confd/pkg/backends/calico/bgp_processor.go (master): processIPPool.
    assert planned(mode, **found)["spec"]["disableBGPExport"] is not exported


LOAD_BALANCERS = pool("lb", "10.9.0.0/16", allowedUses=["LoadBalancer"], natOutgoing=False)
RACKED = [replace(NODE1, labels={"rack": "1"}), replace(NODE2, labels={"rack": "1"})]


@pytest.mark.parametrize(
    ("pools", "nat_outgoing"),
    [
        ([pool("own", natOutgoing=False)], False),
        (
            [
                pool("own"),
                pool("lb", "10.9.0.0/16", allowedUses=["LoadBalancer"], natOutgoing=False),
            ],
            True,
        ),
        ([pool("own"), pool("gone", "10.9.0.0/16", disabled=True, natOutgoing=False)], True),
        (
            [
                pool("one", nodeSelector="rack == '1'", natOutgoing=False),
                pool("two", "10.9.0.0/16", nodeSelector="rack == '2'"),
            ],
            False,
        ),
        (
            [
                pool("one", nodeSelector="rack == '1'"),
                pool("two", "10.9.0.0/16", nodeSelector="rack == '2'", natOutgoing=False),
            ],
            True,
        ),
    ],
    ids=["the only one", "load balancer", "disabled", "of this rack", "of another rack"],
)
def test_nat_is_that_of_the_pool_whose_pods_the_runs_own_stand_for(
    pools: list[IPPool], nat_outgoing: bool
) -> None:
    made = planned(nodes=tuple(RACKED), pools=tuple(pools))
    assert made["spec"]["natOutgoing"] is nat_outgoing


# kube-proxy masquerades what comes to a Service from outside of its clusterCIDR
# (pkg/proxy/iptables/proxier.go, Kubernetes 1.34).

CLUSTER = (IPv4Network("10.244.0.0/16"),)


@pytest.mark.parametrize(
    ("found", "cidr", "masqueraded"),
    [
        ({}, "198.18.0.0/24", False),
        ({"cluster_networks": CLUSTER, "pools": (pool(),)}, "198.18.0.0/24", True),
        (
            {"cluster_networks": CLUSTER, "pools": (pool(cidr="10.244.0.0/17"),)},
            "10.244.128.0/24",
            False,
        ),
        (
            {
                "cluster_networks": CLUSTER,
                "pools": (pool(cidr="10.244.0.0/17"),),
                "node_networks": (IPv4Network("10.244.128.0/24"),),
            },
            "10.244.129.0/24",
            False,
        ),
    ],
    ids=["nothing tells", "all taken", "a free half", "given to nodes"],
)
def test_a_free_piece_of_the_clusters_own_addresses_is_preferred(
    found: dict[str, Any], cidr: str, masqueraded: bool
) -> None:
    made = planned(within=None, **found)["spec"]["cidr"]
    assert made == cidr
    assert bool(masquerade(installation(**found), made)) is masqueraded


def test_free_networks_are_whole_and_aligned() -> None:
    within, taken = IPv4Network("10.0.0.0/24"), [IPv4Network("10.0.0.32/30")]
    found = free_networks(within, 9, 27, taken)
    assert [str(one) for one in found] == [
        "10.0.0.0/27",
        *(f"10.0.0.{n}/27" for n in range(64, 256, 32)),
    ]
    assert free_networks(within, 1, 23, []) == []
    assert free_networks(within, 1, 27, [IPv4Network("10.0.0.0/8")]) == []
    assert IPv4Network("198.18.0.0/15") == BENCHMARKING


def test_names_and_selectors_are_plain() -> None:
    assert pool_name("k8snet-1", CalicoMode.NEVER) == "k8snet-1-never"
    assert node_selector([NODE1]) == "kubernetes.io/hostname in { 'node1' }"

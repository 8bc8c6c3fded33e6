from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from cluster_shapes import NETWORK, NODE1, NODE2, pool

from pytest_k8snet.calico.installation import IPPool, Version
from pytest_k8snet.calico.journal import pool_name
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.pools import (
    choose_networks,
    node_selector,
    pool_object,
    pool_prefix_length,
)
from pytest_k8snet.errors import ModeUnavailableError


def chosen(
    count: int = 5,
    within: IPv4Network = NETWORK,
    node_count: int = 2,
    pools: tuple[IPPool, ...] = (),
    node_addresses: tuple[str, ...] = ("192.168.0.11",),
    service_networks: tuple[IPv4Network, ...] = (IPv4Network("10.96.0.0/12"),),
) -> list[str]:
    networks = choose_networks(
        within,
        count,
        node_count=node_count,
        pools=pools,
        node_addresses=node_addresses,
        service_networks=service_networks,
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
        ({"node_addresses": ("198.18.7.7",)}, "it overlaps with node address 198.18.7.7"),
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
    assert chosen(1, node_addresses=(address, "192.168.0.11")) == ["198.18.0.0/25"]
    with pytest.raises(ModeUnavailableError):
        chosen(1, node_addresses=(address, "198.18.0.11"))


@pytest.mark.parametrize("within", ["198.18.0.0/24", "198.18.0.0/26"])
def test_a_range_that_is_too_small_is_refused(within: str) -> None:
    with pytest.raises(ModeUnavailableError, match="too small for 5 pools of 2 nodes"):
        chosen(within=IPv4Network(within))


def test_a_pool_of_the_runs_own_has_every_field_and_serves_the_nodes_under_test_only() -> None:
    made = pool_object(
        group="crd.projectcalico.org/v1",
        run_id="k8snet-abc123",
        mode=CalicoMode.VXLAN_CROSS_SUBNET,
        cidr=IPv4Network("198.18.0.0/25"),
        nodes=[NODE2, NODE1],
        nat_outgoing=True,
        version=Version(3, 31),
    )
    assert made["metadata"]["name"] == "k8snet-abc123-vxlan-crosssubnet"
    assert made["metadata"]["labels"]["k8snet/run"] == "k8snet-abc123"
    assert made["spec"] == {
        "cidr": "198.18.0.0/25",
        "blockSize": 28,
        "ipipMode": "Never",
        "vxlanMode": "CrossSubnet",
        "natOutgoing": True,
        "nodeSelector": "kubernetes.io/hostname in { 'node1', 'node2' }",
        "allowedUses": ["Workload", "Tunnel"],
        "disabled": False,
        "disableBGPExport": False,
        "assignmentMode": "Manual",
    }


def test_before_3_30_there_is_no_assignment_mode() -> None:
    made = pool_object(
        group="crd.projectcalico.org/v1",
        run_id="k8snet-abc123",
        mode=CalicoMode.NEVER,
        cidr=IPv4Network("198.18.0.0/25"),
        nodes=[NODE1],
        nat_outgoing=False,
        version=Version(3, 29, 9),
    )
    assert "assignmentMode" not in made["spec"]


def test_names_and_selectors_are_plain() -> None:
    assert pool_name("k8snet-1", CalicoMode.NEVER) == "k8snet-1-never"
    assert node_selector([NODE1]) == "kubernetes.io/hostname in { 'node1' }"

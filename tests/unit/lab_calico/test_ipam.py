"""Addresses in blocks, as Calico gives them, and the objects that tell of them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.ipam import AFFINITIES, BLOCKS, Ipam, NoAddressError
from pytest_k8snet.lab.calico.pools import IPPool

POOL = IPPool(name="p", cidr=IPv4Network("10.1.0.0/29"), block_size=30)


@pytest.fixture
def store() -> Store:
    return Store()


def take(ipam: Ipam, count: int, node: str = "node1", pool: IPPool = POOL) -> list[str]:
    return [
        str(ipam.assign([pool], node, f"{node}-{pool.name}-{number}", {}))
        for number in range(count)
    ]


def test_a_node_fills_its_own_block_before_it_claims_another(store: Store) -> None:
    ipam = Ipam(store)
    assert take(ipam, 4) == ["10.1.0.0", "10.1.0.1", "10.1.0.2", "10.1.0.3"]
    assert str(ipam.assign([POOL], "node1", "fifth", {})) == "10.1.0.4"
    assert [(str(block.cidr), block.node) for block in ipam.blocks()] == [
        ("10.1.0.0/30", "node1"),
        ("10.1.0.4/30", "node1"),
    ]


def test_nodes_have_blocks_of_their_own(store: Store) -> None:
    ipam = Ipam(store)
    assert take(ipam, 1, "node1") == ["10.1.0.0"]
    assert take(ipam, 1, "node2") == ["10.1.0.4"]


def test_an_address_is_borrowed_only_when_no_block_is_left(store: Store) -> None:
    ipam = Ipam(store)
    take(ipam, 1, "node1")
    take(ipam, 1, "node2")
    assert str(ipam.assign([POOL], "node3", "guest", {})) == "10.1.0.1"
    (lender,) = [block for block in ipam.blocks() if block.borrowed]
    assert (lender.node, lender.borrowed) == ("node1", {IPv4Address("10.1.0.1"): "node3"})


def test_a_full_pool_is_an_error_that_names_it_and_the_next_pool_helps_out(store: Store) -> None:
    ipam = Ipam(store)
    take(ipam, 8)
    with pytest.raises(NoAddressError, match=r"no IPs available in pools: 10\.1\.0\.0/29"):
        ipam.assign([POOL], "node1", "ninth", {})
    other = replace(POOL, name="q", cidr=IPv4Network("10.2.0.0/29"))
    assert str(ipam.assign([POOL, other], "node1", "ninth", {})) == "10.2.0.0"


def test_without_any_pool_the_error_says_so(store: Store) -> None:
    with pytest.raises(NoAddressError, match="no configured pools"):
        Ipam(store).assign([], "node1", "x", {})


def test_what_is_given_back_is_given_out_last(store: Store) -> None:
    ipam = Ipam(store)
    take(ipam, 2)
    ipam.release("node1-p-0")
    assert take(ipam, 2) == ["10.1.0.2", "10.1.0.3"]
    assert str(ipam.assign([POOL], "node1", "again", {})) == "10.1.0.0"


def test_to_release_an_unknown_handle_is_fine(store: Store) -> None:
    Ipam(store).release("nobody")


def test_the_addresses_of_a_handle_are_known(store: Store) -> None:
    ipam = Ipam(store)
    address = ipam.assign([POOL], "node1", "h", {})
    assert (ipam.addresses("h"), ipam.addresses("other")) == ([address], [])


def test_blocks_and_affinities_are_objects_of_the_cluster(store: Store) -> None:
    ipam = Ipam(store)
    ipam.assign([POOL], "node1", "a", {})
    ipam.assign([POOL], "node1", "b", {})
    ipam.release("a")
    block = store.get(BLOCKS, "10-1-0-0-30")["spec"]
    assert block["cidr"] == "10.1.0.0/30"
    assert block["affinity"] == "host:node1"
    assert block["allocations"] == [None, 0, None, None]
    assert block["unallocated"] == [2, 3, 0]
    assert block["attributes"] == [{"handle_id": "b", "secondary": {"node": "node1"}}]
    affinity = store.get(AFFINITIES, "node1-10-1-0-0-30")["spec"]
    assert (affinity["cidr"], affinity["node"], affinity["state"]) == (
        "10.1.0.0/30",
        "node1",
        "confirmed",
    )


def test_an_empty_block_outside_all_pools_is_dropped_and_a_used_one_stays(store: Store) -> None:
    ipam = Ipam(store)
    ipam.assign([POOL], "node1", "a", {})
    ipam.assign([POOL], "node2", "b", {})
    ipam.release("a")
    ipam.drop_outside([])
    assert [block.node for block in ipam.blocks()] == ["node2"]
    assert [block["metadata"]["name"] for block in store.list(BLOCKS)] == ["10-1-0-4-30"]
    assert [found["spec"]["node"] for found in store.list(AFFINITIES)] == ["node2"]


def test_an_empty_block_of_a_pool_stays(store: Store) -> None:
    ipam = Ipam(store)
    ipam.assign([POOL], "node1", "a", {})
    ipam.release("a")
    ipam.drop_outside([POOL])
    assert len(ipam.blocks()) == 1


def test_a_pool_made_anew_with_another_block_size_does_not_cut_into_old_blocks(
    store: Store,
) -> None:
    ipam = Ipam(store)
    ipam.assign([POOL], "node1", "a", {})
    assert str(ipam.assign([replace(POOL, block_size=31)], "node2", "b", {})) == "10.1.0.4"


def test_a_pool_smaller_than_its_block_size_is_one_block(store: Store) -> None:
    small = replace(POOL, cidr=IPv4Network("10.1.0.0/30"), block_size=26)
    assert take(Ipam(store), 4, pool=small)[-1] == "10.1.0.3"

"""Which pools serve a pod and a tunnel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest

from pytest_k8snet.lab.calico.pools import (
    IPPool,
    PoolRequestError,
    SelectorError,
    pools_for_pod,
    read_pools,
    selects,
    tunnel_pools,
)


def obj(name: str, cidr: str = "10.0.0.0/16", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"cidr": cidr, **spec}}


DEFAULT = IPPool(name="default", cidr=IPv4Network("10.0.0.0/16"))
MANUAL = IPPool(name="manual", cidr=IPv4Network("10.1.0.0/16"), manual=True)
OTHER = IPPool(name="other", cidr=IPv4Network("10.2.0.0/16"), node_selector="zone == 'b'")
POOLS = [DEFAULT, MANUAL, OTHER]


def names(pools: list[IPPool]) -> list[str]:
    return [pool.name for pool in pools]


def test_calicos_defaults_are_filled_in() -> None:
    (pool,) = read_pools([obj("p")])
    assert pool == IPPool(name="p", cidr=IPv4Network("10.0.0.0/16"))
    assert pool.family == "none"


def test_an_unknown_mode_means_never() -> None:
    (pool,) = read_pools([obj("p", vxlanMode="always", ipipMode="CrossSubnet")])
    assert (pool.vxlan_mode, pool.ipip_mode) == ("Never", "CrossSubnet")


def test_a_pool_with_both_families_is_vxlan() -> None:
    (pool,) = read_pools([obj("p", vxlanMode="Always", ipipMode="Always")])
    assert pool.family == "vxlan"


def test_pools_that_calico_cannot_use_are_passed_over() -> None:
    unusable = [
        obj("ipv6", "fd00::/64"),
        obj("text", "everything"),
        obj("host-bits", "10.0.0.1/16"),
        obj("blocks", blockSize=12),
    ]
    assert names(read_pools([*unusable, obj("b"), obj("a")])) == ["a", "b"]


def test_a_pod_that_asks_for_nothing_gets_automatic_pools_of_its_node() -> None:
    assert names(pools_for_pod(POOLS, None, {})) == ["default"]
    assert names(pools_for_pod(POOLS, None, {"zone": "b"})) == ["default", "other"]


def test_disabled_pools_and_pools_for_tunnels_only_serve_no_pods() -> None:
    closed = [replace(DEFAULT, disabled=True), replace(DEFAULT, uses=("Tunnel",))]
    assert pools_for_pod(closed, None, {}) == []


def test_a_pod_may_ask_by_name_or_cidr_whatever_the_selector_says() -> None:
    assert names(pools_for_pod(POOLS, '["other", "10.1.0.0/16"]', {})) == ["other", "manual"]


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ("manual", "failed to parse 'cni.projectcalico.org/ipv4pools' as JSON list: manual"),
        ('{"a": 1}', 'as JSON list: {"a": 1}'),
        ("[1]", r"as JSON list: \[1\]"),
        ('["none"]', r"the given pool \(none\) does not exist"),
    ],
)
def test_a_request_that_cannot_be_met_says_why(annotation: str, text: str) -> None:
    with pytest.raises(PoolRequestError, match=text):
        pools_for_pod(POOLS, annotation, {})


def test_a_disabled_pool_cannot_be_asked_for() -> None:
    with pytest.raises(PoolRequestError, match=r"the given pool \(default\) is disabled"):
        pools_for_pod([replace(DEFAULT, disabled=True)], '["default"]', {})


def test_of_pools_asked_for_those_for_tunnels_only_serve_no_pods() -> None:
    tunnels = replace(DEFAULT, name="tunnels", cidr=IPv4Network("10.9.0.0/16"), uses=("Tunnel",))
    pools = [DEFAULT, tunnels]
    assert names(pools_for_pod(pools, '["tunnels", "default"]', {})) == ["default"]
    with pytest.raises(PoolRequestError, match=r"no pools match the required use \(Workload\)"):
        pools_for_pod(pools, '["tunnels"]', {})


def test_tunnel_addresses_come_from_open_pools_of_the_family_that_allow_it() -> None:
    vxlan = replace(DEFAULT, name="v", vxlan_mode="Always", manual=True)
    pools = [
        vxlan,
        replace(vxlan, name="tunnels-only", uses=("Tunnel",)),
        replace(vxlan, name="pods-only", uses=("Workload",)),
        replace(vxlan, name="closed", disabled=True),
        replace(vxlan, name="elsewhere", node_selector="has(gpu)"),
        replace(DEFAULT, name="i", ipip_mode="CrossSubnet"),
    ]
    assert names(tunnel_pools(pools, "vxlan", {})) == ["v", "tunnels-only"]
    assert names(tunnel_pools(pools, "ipip", {})) == ["i"]


def test_a_selector_that_cannot_be_read_selects_no_node() -> None:
    assert pools_for_pod([replace(DEFAULT, node_selector="zone ~ b")], None, {}) == []


LABELS = {"zone": "b", "kubernetes.io/hostname": "node1", "gpu": ""}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", True),
        ("all()", True),
        ("!all()", False),
        ("has(gpu)", True),
        ("!has(gpu)", False),
        ("has(kubernetes.io/hostname)", True),
        ("zone == 'b'", True),
        ('zone == "a"', False),
        ("zone != 'a'", True),
        ("missing != 'a'", True),
        ("kubernetes.io/hostname in { 'node1', 'node2' }", True),
        ("kubernetes.io/hostname in {'node3'}", False),
        ("zone not in { 'a' }", True),
        ("zone == 'b' && has(gpu)", True),
        ("zone == 'a' && has(gpu) || has(zone)", True),
        ("zone == 'a' && (has(gpu) || has(zone))", False),
        ("!(zone == 'a')", True),
        ("zone == 'a||b' || zone == 'b'", True),
    ],
)
def test_selectors_are_calicos(selector: str, expected: bool) -> None:
    assert selects(selector, LABELS) is expected


@pytest.mark.parametrize("selector", ["zone", "zone == b", "has()", "all() &&", "(all()"])
def test_a_selector_that_cannot_be_read_is_an_error(selector: str) -> None:
    with pytest.raises(SelectorError, match="not a selector that the lab understands"):
        selects(selector, LABELS)

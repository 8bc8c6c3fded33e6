"""What a cluster cannot have is refused while nothing at all has been written to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cluster_shapes import DEFAULT_POOL, cluster, installation_object, raw_pool, serve
from players import Players
from store_api import StoreApi

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.change.decision import ChangeSettings, Strategy
from pytest_k8snet.change.session import CalicoSession
from pytest_k8snet.cluster.nodes import list_nodes
from pytest_k8snet.errors import ModeUnavailableError, SettingsError

NEVER = CalicoMode.NEVER
VXLAN, VXLAN_CS = CalicoMode.VXLAN_ALWAYS, CalicoMode.VXLAN_CROSS_SUBNET
IPIP, IPIP_CS = CalicoMode.IPIP_ALWAYS, CalicoMode.IPIP_CROSS_SUBNET
FELIX = "/apis/crd.projectcalico.org/v1/felixconfigurations"
INSTALLATIONS = "/apis/operator.tigera.io/v1/installations"
BOTH: tuple[Strategy, ...] = ("dedicated", "in-place")
IN_PLACE: tuple[Strategy, ...] = ("in-place",)


def without_bgp(version: str) -> StoreApi:
    return cluster(backend="vxlan", version=version, pools=(raw_pool(mode=VXLAN_CS),))


def with_felix(**spec: Any) -> StoreApi:
    api = cluster(pools=(raw_pool(mode=VXLAN_CS),))
    api.create(FELIX, {"metadata": {"name": "default"}, "spec": spec})
    return api


def with_wireguard() -> StoreApi:
    api = with_felix(wireguardEnabled=True)
    for node in api.store.list("nodes"):
        node["metadata"]["annotations"]["projectcalico.org/WireguardPublicKey"] = "key="
        api.store.update("nodes", node)
    return api


def operated(**network: Any) -> StoreApi:
    api = cluster(install="operator", shape="B", pools=(raw_pool(mode=VXLAN_CS),))
    api.create(INSTALLATIONS, installation_object(encapsulation="VXLANCrossSubnet", **network))
    return api


def degraded() -> StoreApi:
    api = operated()
    conditions = [{"type": "Degraded", "status": "True", "message": "not owned"}]
    made = api.store.create("tigerastatuses.operator.tigera.io", {"metadata": {"name": "ippools"}})
    made["status"] = {"conditions": conditions}
    api.store.update("tigerastatuses.operator.tigera.io", made, subresource="status")
    return api


def migrating() -> StoreApi:
    api = cluster(shape="B", pools=(raw_pool(mode=VXLAN_CS),))
    migration = {"metadata": {"name": "v1-to-v3"}, "status": {"phase": "Migrating"}}
    serve(api, "migration.projectcalico.org/v1beta1", "datastoremigrations", [migration])
    return api


def with_ipv6_pool() -> StoreApi:
    return cluster(pools=(raw_pool(), raw_pool("v6", "fd00:10::/48", None, blockSize=122)))


def with_both_families() -> StoreApi:
    return cluster(pools=(raw_pool(mode=None, ipipMode="Always", vxlanMode="Always"),))


def without_daemon() -> StoreApi:
    api = cluster(pools=(raw_pool(mode=VXLAN_CS),))
    api.delete("/apis/apps/v1/namespaces/kube-system/daemonsets/calico-node")
    return api


def across_subnets() -> StoreApi:
    return cluster(pools=(raw_pool(mode=VXLAN_CS),))


@pytest.mark.parametrize(
    ("make", "strategies", "mode", "pool", "problem"),
    [
        (lambda: without_bgp("v3.31.2"), BOTH, IPIP, DEFAULT_POOL, "IPIP-Always has no routes"),
        (lambda: without_bgp("v3.31.2"), BOTH, NEVER, DEFAULT_POOL, "Never has no routes here"),
        (lambda: without_bgp("v3.33.0"), BOTH, NEVER, DEFAULT_POOL, "Never has no routes here"),
        (with_ipv6_pool, IN_PLACE, IPIP_CS, "v6", "IPIP does not carry IPv6"),
        (with_both_families, IN_PLACE, VXLAN, DEFAULT_POOL, "has both encapsulations"),
        (lambda: operated(linuxDataplane="VPP"), BOTH, VXLAN, DEFAULT_POOL, "no modes to test"),
        (with_wireguard, BOTH, IPIP, DEFAULT_POOL, "WireGuard carries the pods' traffic"),
        (migrating, BOTH, VXLAN, DEFAULT_POOL, "Calico's datastore is being migrated"),
        (lambda: with_felix(ipipEnabled=False), BOTH, IPIP, DEFAULT_POOL, "would be a black hole"),
        (without_daemon, BOTH, VXLAN, DEFAULT_POOL, "Calico does not route the pods"),
        (degraded, IN_PLACE, VXLAN, DEFAULT_POOL, "The operator's pools are degraded"),
        (across_subnets, IN_PLACE, NEVER, DEFAULT_POOL, "could cut the pods of this cluster off"),
    ],
    ids=[
        *("ipip-without-bgp", "never-without-bgp", "never-without-bgp-3.33", "ipip-on-ipv6"),
        *("two-families", "vpp", "wireguard", "migration", "family-off", "no-daemon", "degraded"),
        "fabric",
    ],
)
def test_nothing_is_written_before_the_refusal(
    make: Callable[[], StoreApi],
    strategies: tuple[Strategy, ...],
    mode: CalicoMode,
    pool: str,
    problem: str,
) -> None:
    for strategy in strategies:
        api = make()
        Players(api)
        version = api.store.version
        api.requests.clear()
        calico = CalicoSession(
            api,
            installation=inspect(api),
            nodes=list_nodes(api),
            run_id="k8snet-abc123",
            change=ChangeSettings(strategy=strategy, pool=pool),
            shells={},
            on_change=lambda change: pytest.fail(f"told of a change: {change}"),
            modes=[mode],
        )
        with calico:
            calico.begin()
            with pytest.raises(ModeUnavailableError, match=problem) as caught:
                calico.enter(mode)
        assert caught.value.found
        assert caught.value.remedy
        assert {method for method, _ in api.requests} == {"GET"}
        assert api.store.version == version


def test_a_run_that_names_no_pool_of_the_cluster_ends_before_it_begins() -> None:
    api = across_subnets()
    Players(api)
    api.requests.clear()
    calico = CalicoSession(
        api,
        installation=inspect(api),
        nodes=list_nodes(api),
        run_id="k8snet-abc123",
        change=ChangeSettings(strategy="in-place", pool="nope"),
        shells={},
        on_change=lambda change: pytest.fail(f"told of a change: {change}"),
    )
    with calico, pytest.raises(SettingsError, match="There is no IPPool 'nope'") as caught:
        calico.begin()
    assert caught.value.found == f"pools: {DEFAULT_POOL}"
    assert {method for method, _ in api.requests} == {"GET"}


def test_a_cluster_that_can_is_written_to() -> None:
    """The other side of the same coin: such a run does write, and the store shows it."""
    api = across_subnets()
    Players(api)
    api.requests.clear()
    change = ChangeSettings(strategy="in-place", pool=DEFAULT_POOL, stability_seconds=0)
    with CalicoSession(
        api,
        installation=inspect(api),
        nodes=list_nodes(api),
        run_id="k8snet-abc123",
        change=change,
        shells={},
        on_change=lambda change: None,
        modes=[VXLAN],
        prove_hops=lambda *_: None,
    ) as calico:
        assert calico.enter(VXLAN).mode is VXLAN
    assert {"GET", "POST", "PATCH", "DELETE"} <= {method for method, _ in api.requests}

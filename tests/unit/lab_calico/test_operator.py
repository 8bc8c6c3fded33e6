"""The operator's grip on its pools."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.operator import INSTALLATIONS, MODES, Operator, manages_pools
from pytest_k8snet.lab.calico.pools import POOLS
from pytest_k8snet.lab.kube import system
from pytest_k8snet.lab.spec import CalicoSpec, LabSpec, study_nodes


def operated(shape: Any = "A") -> Store:
    """What an operator install begins with: its Installation, and the pool made from it."""
    calico = CalicoSpec(install="operator", api_shape=shape)
    store = Store(calico=calico)
    for resource, body in system.objects(LabSpec(nodes=study_nodes(1), calico=calico)):
        if resource in (INSTALLATIONS, POOLS):
            store.create(resource, body)
    return store


def modes(store: Store, name: str = "default-ipv4-ippool") -> tuple[str, str]:
    spec = store.get(POOLS, name)["spec"]
    return spec["ipipMode"], spec["vxlanMode"]


def edit(store: Store, ipip: str, vxlan: str) -> None:
    patch = {"spec": {"ipipMode": ipip, "vxlanMode": vxlan}}
    store.patch(POOLS, "default-ipv4-ippool", patch, "merge")


def install(store: Store, **fields: Any) -> None:
    def change(found: dict[str, Any]) -> None:
        found["spec"]["calicoNetwork"]["ipPools"][0].update(fields)

    store.mutate(INSTALLATIONS, "default", None, change)


@pytest.mark.parametrize("shape", ["A", "B", "C"])
def test_an_edit_of_an_owned_pool_is_undone(shape: str) -> None:
    store = operated(shape)
    edit(store, "Never", "Always")
    Operator(store).reconcile()
    assert modes(store) == ("Never", "Never")


@pytest.mark.parametrize("encapsulation", MODES)
def test_the_installation_reaches_the_pool(encapsulation: str) -> None:
    store = operated()
    install(store, encapsulation=encapsulation)
    Operator(store).reconcile()
    assert modes(store) == MODES[encapsulation]


def test_what_is_right_is_not_written_again() -> None:
    store = operated()
    before = store.version
    Operator(store).reconcile()
    assert store.version == before


def test_pools_that_are_not_its_own_are_left_alone() -> None:
    store = operated()
    for name, cidr in (("mine", "198.18.0.0/24"), ("same", "10.244.0.0/16")):
        body = {"metadata": {"name": name}, "spec": {"cidr": cidr, "vxlanMode": "Always"}}
        store.create(POOLS, body)
    Operator(store).reconcile()
    assert store.get(POOLS, "mine")["spec"]["vxlanMode"] == "Always"
    assert store.get(POOLS, "same")["spec"]["vxlanMode"] == "Always"


def test_an_installation_without_pools_rules_none() -> None:
    store = operated()
    empty: dict[str, Any] = {"spec": {"calicoNetwork": {"ipPools": []}}}
    store.patch(INSTALLATIONS, "default", empty, "merge")
    edit(store, "Always", "Never")
    Operator(store).reconcile()
    assert modes(store) == ("Always", "Never")


def test_pools_are_ruled_since_3_28_and_by_an_operator_only() -> None:
    assert manages_pools(CalicoSpec(install="operator", version="v3.28.0"))
    assert not manages_pools(CalicoSpec(install="operator", version="v3.27.4"))
    assert not manages_pools(CalicoSpec(install="manifest"))

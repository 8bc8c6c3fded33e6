"""The operator's grip on its pools, and what it says when it has none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.apiserver.discovery import API_SERVICES, publish
from pytest_k8snet.lab.calico.operator import (
    INSTALLATIONS,
    MODES,
    STATUSES,
    Operator,
    manages_pools,
)
from pytest_k8snet.lab.calico.pools import POOLS, is_owned
from pytest_k8snet.lab.kube import system
from pytest_k8snet.lab.kube.controllers import Aggregation
from pytest_k8snet.lab.spec import CalicoSpec, LabSpec, study_nodes

DEFAULT = "default-ipv4-ippool"


def operated(shape: Any = "B") -> Store:
    """What an operator install begins with: its Installation, and the pool made from it."""
    calico = CalicoSpec(install="operator", api_shape=shape)
    store = Store(calico=calico)
    store.create("namespaces", {"metadata": {"name": "kube-system"}})
    for resource, body in system.objects(LabSpec(nodes=study_nodes(1), calico=calico)):
        if resource in (INSTALLATIONS, POOLS, STATUSES):
            store.create(resource, body)
    return store


def modes(store: Store, name: str = DEFAULT) -> tuple[str, str]:
    spec = store.get(POOLS, name)["spec"]
    return spec["ipipMode"], spec["vxlanMode"]


def edit(store: Store, ipip: str, vxlan: str) -> None:
    patch = {"spec": {"ipipMode": ipip, "vxlanMode": vxlan}}
    store.patch(POOLS, DEFAULT, patch, "merge")


def install(store: Store, **fields: Any) -> None:
    def change(found: dict[str, Any]) -> None:
        found["spec"]["calicoNetwork"]["ipPools"][0].update(fields)

    store.mutate(INSTALLATIONS, "default", None, change)


def disown(store: Store) -> None:
    """Take the operator's label off the default pool."""

    def change(pool: dict[str, Any]) -> None:
        for field in ("labels", "annotations"):
            pool["metadata"].pop(field, None)

    store.mutate(POOLS, DEFAULT, None, change)


def faults(store: Store, **data: str) -> None:
    named = {name.replace("_", "-"): value for name, value in data.items()}
    body = {"metadata": {"name": "k8snet-lab-faults"}, "data": named}
    store.create("configmaps", body, "kube-system")


def degraded(store: Store) -> str:
    """Why the operator says that it is Degraded; empty if it says that it is not."""
    conditions = store.get(STATUSES, "ippools")["status"]["conditions"]
    (found,) = [one for one in conditions if one["type"] == "Degraded"]
    (available,) = [one for one in conditions if one["type"] == "Available"]
    assert found["status"] != available["status"]
    return str(found["message"]) if found["status"] == "True" else ""


@pytest.mark.parametrize("shape", ["B", "C"])
def test_an_edit_of_an_owned_pool_is_undone(shape: str) -> None:
    store = operated(shape)
    edit(store, "Never", "Always")
    Operator(store).reconcile()
    assert modes(store) == ("Never", "Never")
    assert degraded(store) == ""


def test_without_the_calico_api_it_can_only_complain() -> None:
    store = operated("A")
    edit(store, "Never", "Always")
    Operator(store).reconcile()
    assert modes(store) == ("Never", "Always")
    assert degraded(store) == "Unable to modify IP pools while Calico API server is unavailable"
    edit(store, "Never", "Never")
    Operator(store).reconcile()
    assert degraded(store) == ""


def test_with_the_calico_api_server_cut_off_it_cannot_write_either() -> None:
    store = operated("B")
    faults(store, calico_apiserver_down="true")
    edit(store, "Always", "Never")
    Operator(store).reconcile()
    assert modes(store) == ("Always", "Never")
    assert "Calico API server is unavailable" in degraded(store)


@pytest.mark.parametrize("encapsulation", MODES)
def test_the_installation_reaches_the_pool(encapsulation: str) -> None:
    store = operated()
    install(store, encapsulation=encapsulation)
    Operator(store).reconcile()
    assert modes(store) == MODES[encapsulation]


def test_what_is_right_is_not_written_again() -> None:
    store = operated()
    Operator(store).reconcile()
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
    assert degraded(store) == ""


@pytest.mark.parametrize("shape", ["B", "C"])
def test_a_pool_without_its_label_is_adopted_if_it_is_as_the_installation_says(shape: str) -> None:
    store = operated(shape)
    edit(store, "Never", "CrossSubnet")
    install(store, encapsulation="VXLANCrossSubnet")
    disown(store)
    Operator(store).reconcile()
    pool = store.get(POOLS, DEFAULT)
    assert is_owned(pool)
    assert ("labels" in pool["metadata"]) == (shape == "C")
    assert degraded(store) == ""


@pytest.mark.parametrize(
    "said",
    [
        {"encapsulation": "IPIP"},
        {"encapsulation": "VXLAN", "natOutgoing": "Disabled"},
        {"encapsulation": "VXLAN", "blockSize": 27},
        {"encapsulation": "VXLAN", "nodeSelector": "has(gpu)"},
    ],
)
def test_a_pool_that_differs_is_not_adopted_and_nothing_is_ruled(said: dict[str, Any]) -> None:
    store = operated()
    edit(store, "Never", "Always")
    install(store, **said)
    disown(store)
    Operator(store).reconcile()
    assert not is_owned(store.get(POOLS, DEFAULT))
    assert degraded(store) == f"Cannot update an IP pool not owned by the operator: {DEFAULT}"


def test_a_pool_without_encapsulation_is_never_adopted() -> None:
    store = operated()
    disown(store)
    Operator(store).reconcile()
    assert not is_owned(store.get(POOLS, DEFAULT))
    assert degraded(store).startswith("Cannot update an IP pool not owned by the operator")


def test_an_installation_without_pools_rules_none() -> None:
    store = operated()
    empty: dict[str, Any] = {"spec": {"calicoNetwork": {"ipPools": []}}}
    store.patch(INSTALLATIONS, "default", empty, "merge")
    edit(store, "Always", "Never")
    Operator(store).reconcile()
    assert modes(store) == ("Always", "Never")


def test_a_degraded_operator_says_why_and_rules_nothing_until_it_is_well() -> None:
    store = operated()
    faults(store, operator_degraded="the disk is full")
    edit(store, "Always", "Never")
    Operator(store).reconcile()
    assert degraded(store) == "the disk is full"
    assert modes(store) == ("Always", "Never")
    store.delete("configmaps", "k8snet-lab-faults", "kube-system")
    Operator(store).reconcile()
    assert degraded(store) == ""
    assert modes(store) == ("Never", "Never")


async def undone(store: Store, then: Callable[[], object] | None = None) -> float:
    """After how many seconds the operator has undone an edit; ``then`` is done meanwhile."""
    async with asyncio.timeout(10):
        running = asyncio.create_task(Operator(store).run())
        edit(store, "Always", "Never")
        begun = time.monotonic()
        if then is not None:
            await asyncio.sleep(0.05)
            then()
        while modes(store) != ("Never", "Never"):
            await asyncio.sleep(0.01)
        running.cancel()
        return time.monotonic() - begun


def test_a_slow_operator_undoes_an_edit_later() -> None:
    store = operated()
    faults(store, operator_delay="0.3")
    assert asyncio.run(undone(store)) > 0.29


def test_an_operator_is_slow_no_longer_than_asked_for() -> None:
    store = operated()
    faults(store, operator_delay="300")

    def end() -> None:
        assert modes(store) == ("Always", "Never")
        store.delete("configmaps", "k8snet-lab-faults", "kube-system")

    asyncio.run(undone(store, end))
    assert modes(store) == ("Never", "Never")


def test_pools_are_ruled_since_3_28_and_by_an_operator_only() -> None:
    assert manages_pools(CalicoSpec(install="operator", version="v3.28.0"))
    assert not manages_pools(CalicoSpec(install="operator", version="v3.27.4"))
    assert not manages_pools(CalicoSpec(install="manifest"))


@pytest.mark.parametrize(("version", "ruled"), [("v3.27.4", False), ("v3.28.0", True)])
def test_there_is_a_status_of_pools_where_pools_are_ruled(version: str, ruled: bool) -> None:
    calico = CalicoSpec(install="operator", version=version, api_shape="B")
    spec = LabSpec(nodes=study_nodes(1), calico=calico)
    names = [body["metadata"]["name"] for kind, body in system.objects(spec) if kind == STATUSES]
    assert names == ["calico", *(["ippools"] if ruled else []), "apiserver"]


def test_the_api_service_says_whether_the_calico_api_server_answers() -> None:
    store = Store(calico=CalicoSpec(api_shape="B"))
    store.create("namespaces", {"metadata": {"name": "kube-system"}})
    publish(store)

    def available() -> tuple[str, str]:
        Aggregation(store).reconcile()
        (told,) = store.get(API_SERVICES, "v3.projectcalico.org")["status"]["conditions"]
        return told["status"], told["reason"]

    assert available() == ("True", "Passed")
    faults(store, calico_apiserver_down="true")
    assert available() == ("False", "FailedDiscoveryCheck")
    store.delete("configmaps", "k8snet-lab-faults", "kube-system")
    assert available() == ("True", "Passed")

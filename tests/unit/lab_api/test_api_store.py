"""The store: identity, versions, deletion, watches."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pytest_k8snet.lab.api.objects import Object, name_of
from pytest_k8snet.lab.api.store import Event, History, Store
from pytest_k8snet.lab.apiserver.discovery import publish
from pytest_k8snet.lab.spec import CalicoSpec

POOLS = "ippools.crd.projectcalico.org"


@pytest.fixture
def store() -> Store:
    made = Store()
    made.create("namespaces", {"metadata": {"name": "default"}})
    return made


def pod(name: str = "p", **spec: Any) -> Object:
    containers = [{"name": "main", "image": "tools"}]
    return {"metadata": {"name": name}, "spec": {"containers": containers, **spec}}


def config_map(name: str = "m", **metadata: Any) -> Object:
    return {"metadata": {"name": name, **metadata}}


def test_creation_gives_identity_and_defaults(store: Store) -> None:
    created = store.create("pods", pod())
    meta = created["metadata"]
    assert (created["apiVersion"], created["kind"]) == ("v1", "Pod")
    assert meta["namespace"] == "default"
    assert meta["uid"]
    assert meta["creationTimestamp"].endswith("Z")
    assert int(meta["resourceVersion"]) == store.version
    assert created["spec"]["restartPolicy"] == "Always"
    assert created["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


def test_a_name_is_generated_from_its_beginning(store: Store) -> None:
    body = {"metadata": {"generateName": "web-"}}
    names = {store.create("configmaps", body)["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("web-") and len(name) == 9 for name in names)


def test_what_comes_out_can_be_changed_without_harm(store: Store) -> None:
    body = config_map() | {"data": {"a": "1"}}
    created = store.create("configmaps", body)
    body["data"]["a"] = created["data"]["a"] = "changed"
    read = store.get("configmaps", "m")
    assert read["data"] == {"a": "1"}
    read["data"]["a"] = "changed"
    assert store.list("configmaps")[0]["data"] == {"a": "1"}


def test_an_update_that_changes_nothing_makes_no_version(store: Store) -> None:
    created = store.create("configmaps", config_map())
    assert store.update("configmaps", created | {"data": None})["data"] is None
    before = store.version
    again = store.update("configmaps", store.get("configmaps", "m"))
    assert store.version == before
    assert again["metadata"]["resourceVersion"] == str(before)


def test_the_server_keeps_what_is_its_own(store: Store) -> None:
    created = store.create("configmaps", config_map())
    forged = config_map() | {"data": {"a": "1"}}
    forged["metadata"] |= {"creationTimestamp": "2000-01-01T00:00:00Z", "deletionTimestamp": "x"}
    updated = store.update("configmaps", forged)
    for key in ("uid", "creationTimestamp"):
        assert updated["metadata"][key] == created["metadata"][key]
    assert "deletionTimestamp" not in updated["metadata"]


def test_status_and_spec_are_written_apart(store: Store) -> None:
    created = store.create("pods", pod())
    created["status"]["phase"] = "Running"
    created["spec"]["containers"][0]["image"] = "other"
    by_status = store.update("pods", created, subresource="status")
    assert by_status["status"]["phase"] == "Running"
    assert by_status["spec"]["containers"][0]["image"] == "tools"
    by_status["status"] = {}
    by_status["spec"]["containers"][0]["image"] = "other"
    by_spec = store.update("pods", by_status)
    assert by_spec["status"]["phase"] == "Running"
    assert by_spec["spec"]["containers"][0]["image"] == "other"


def test_the_generation_counts_changes_of_the_spec_only(store: Store) -> None:
    store.create(POOLS, {"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/16"}})
    labelled = store.patch(POOLS, "p", {"metadata": {"labels": {"a": "b"}}}, "merge")
    assert labelled["metadata"]["generation"] == 1
    changed = store.patch(POOLS, "p", {"spec": {"natOutgoing": True}}, "merge")
    assert changed["metadata"]["generation"] == 2


def test_admission_hooks_complete_and_refuse(store: Store) -> None:
    seen: list[tuple[Object, Object | None]] = []

    def hook(new: Object, old: Object | None) -> None:
        seen.append((new, old))
        new.setdefault("data", {})["given"] = "by the hook"

    store.admission["configmaps"].append(hook)
    assert store.create("configmaps", config_map())["data"] == {"given": "by the hook"}
    assert seen[0][1] is None
    store.patch("configmaps", "m", {"data": {"a": "1"}}, "merge")
    assert seen[1][1] is not None


# -- deletion --------------------------------------------------------------------------------------


def test_a_pod_on_a_node_is_marked_until_its_kubelet_removes_it(store: Store) -> None:
    store.create("pods", pod(nodeName="node1"))
    marked = store.delete("pods", "p")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    shorter = store.delete("pods", "p", grace_seconds=5)
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    longer = store.delete("pods", "p", grace_seconds=60)
    assert longer["metadata"]["deletionGracePeriodSeconds"] == 5
    store.delete("pods", "p", grace_seconds=0)
    assert store.list("pods") == []


@pytest.mark.parametrize(
    ("spec", "phase"),
    [
        ({}, "Pending"),
        ({"nodeName": "node1", "terminationGracePeriodSeconds": 0}, "Running"),
        ({"nodeName": "node1"}, "Succeeded"),
    ],
)
def test_a_pod_that_nothing_holds_goes_at_once(
    store: Store, spec: dict[str, Any], phase: str
) -> None:
    store.create("pods", pod(**spec))
    store.mutate(
        "pods", "p", "default", lambda obj: obj["status"].update(phase=phase), subresource="status"
    )
    store.delete("pods", "p")
    assert store.list("pods") == []


def test_orphaning_takes_the_owner_from_its_dependents(store: Store) -> None:
    owner = store.create("configmaps", config_map("owner"))["metadata"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"]}
    store.create("configmaps", config_map("child", ownerReferences=[reference]))
    store.delete("configmaps", "owner", propagation="Orphan")
    assert store.get("configmaps", "child")["metadata"]["ownerReferences"] == []


# -- watching --------------------------------------------------------------------------------------


def test_a_watch_begins_with_what_exists_and_misses_nothing(store: Store) -> None:
    async def scene() -> list[tuple[str, str]]:
        store.create("configmaps", config_map("a"))
        events = store.watch("configmaps")
        seen = [await anext(events)]
        store.create("configmaps", config_map("b"))
        store.patch("configmaps", "b", {"data": {"x": "y"}}, "merge")
        store.delete("configmaps", "a")
        seen += [await anext(events) for _ in range(3)]
        return [(kind, obj["metadata"]["name"]) for kind, obj in seen]

    assert asyncio.run(scene()) == [
        ("ADDED", "a"),
        ("ADDED", "b"),
        ("MODIFIED", "b"),
        ("DELETED", "a"),
    ]


def test_history_forgets_the_oldest_events_and_knows_it() -> None:
    history = History(limit=3)
    for version in range(1, 6):
        history.append(Event(type="ADDED", version=version, object={}, previous=None))
    assert history.forgotten == 2
    assert [event.version for event in history.since(3)] == [4, 5]


# -- the shapes of Calico --------------------------------------------------------------------------


def test_one_pool_is_seen_through_both_groups_in_shape_b() -> None:
    store = Store(calico=CalicoSpec(api_shape="B"))
    native = store.registry.find("projectcalico.org", "v3", "ippools")
    assert native is not None
    body = {"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/16"}}
    assert store.create(native, body)["apiVersion"] == "projectcalico.org/v3"
    assert store.get(POOLS, "p")["apiVersion"] == "crd.projectcalico.org/v1"
    assert store.get(POOLS, "p")["spec"] == store.get(native, "p")["spec"]


def test_in_shape_c_the_storage_key_still_names_the_pools() -> None:
    store = Store(calico=CalicoSpec(api_shape="C"))
    body = {"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/16"}}
    assert store.create(POOLS, body)["apiVersion"] == "projectcalico.org/v3"
    assert store.registry.find("crd.projectcalico.org", "v1", "ippools") is None


@pytest.mark.parametrize("shape", ["A", "B", "C"])
def test_the_definitions_of_its_own_kinds_leave_them_as_they_are(shape: Any) -> None:
    store = Store(calico=CalicoSpec(api_shape=shape))
    before = store.registry.served()
    publish(store)
    assert store.registry.served() == before
    definition = store.list("customresourcedefinitions.apiextensions.k8s.io")[0]
    store.delete("customresourcedefinitions.apiextensions.k8s.io", name_of(definition))
    assert store.registry.served() == before

from __future__ import annotations

from typing import Any

import pytest
from cluster_shapes import (
    DEFAULT_POOL,
    raw_pool,
)
from store_api import StoreApi
from store_sessions import (
    IPIP,
    JOURNAL,
    NEVER,
    VXLAN,
    VXLAN_CS,
    a_cluster,
    leave_changed,
    objects,
    raw_spec,
    session,
    unseen,
)

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.change.decision import Strategy
from pytest_k8snet.change.restore import restore_cluster
from pytest_k8snet.cluster import workspace as sweeping
from pytest_k8snet.cluster.pods import run_labels
from pytest_k8snet.errors import (
    ConflictError,
    ForbiddenError,
    RestoreError,
)


@pytest.mark.parametrize("strategy", ["in-place", "dedicated"])
def test_the_next_run_heals_the_cluster_and_goes_on(strategy: Strategy) -> None:
    api = a_cluster("manifest-A")
    before = objects(api)
    leave_changed(api, strategy)
    with session(api, strategy) as calico:
        calico.enter(VXLAN)
    assert objects(api) == before


def test_a_run_that_may_change_nothing_refuses_a_cluster_left_changed() -> None:
    api = a_cluster("manifest-A")
    leave_changed(api, "dedicated")
    with session(api, "none") as calico, pytest.raises(RestoreError) as caught:
        calico.enter(VXLAN_CS)
    assert "was killed before it could restore it" in caught.value.problem
    assert "run `k8snet restore`" in caught.value.remedy


# Restoring against odds.


def namespace_of_the_run(api: StoreApi) -> str:
    """Make the namespace that a killed run has left; this store has nobody to empty it."""
    labels = run_labels("k8snet-abc123")
    api.create("/api/v1/namespaces", {"metadata": {"name": "k8snet-abc123", "labels": labels}})
    return "k8snet-abc123"


def let_go(api: StoreApi, name: str) -> None:
    """Finish the deletion of a namespace, as its controller does once it is empty."""
    for found in api.store.list("namespaces", fields=f"metadata.name={name}"):
        if "deletionTimestamp" in found["metadata"]:
            found["spec"]["finalizers"] = []
            api.store.update("namespaces", found, subresource="finalize")


def test_a_namespace_that_waits_for_the_original_mode_does_not_keep_it_from_coming_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweeping, "NAMESPACE_END_SECONDS", 0.2)  # a minute in earnest
    api = a_cluster("manifest-B")
    before = objects(api)
    leave_changed(api, "in-place")
    name = namespace_of_the_run(api)
    played = api.after_write

    def discover() -> None:
        # While the mode cuts the Calico API server off, no namespace is known to be empty.
        played()
        if raw_spec(api)["vxlanMode"] == "CrossSubnet":
            let_go(api, name)

    api.after_write = discover
    assert f"  deleted namespaces {name}" in restore_cluster(api)
    assert objects(api) == before


@pytest.mark.parametrize("strategy", ["in-place", "dedicated"])
def test_pods_that_cannot_be_swept_keep_the_journal_but_no_pool_from_being_put_back(
    monkeypatch: pytest.MonkeyPatch, strategy: Strategy
) -> None:
    monkeypatch.setattr(sweeping, "NAMESPACE_END_SECONDS", 0.2)  # a minute in earnest
    api = a_cluster("manifest-A")
    before = objects(api)
    leave_changed(api, strategy)
    name = namespace_of_the_run(api)
    with pytest.raises(RestoreError) as caught:
        restore_cluster(api)
    assert f"the namespace {name} is still there after 0.2 s" in caught.value.found
    assert api.get(JOURNAL)
    pools = "crd.projectcalico.org/ippools/"
    now = objects(api)
    assert {at: now[at] for at in now if pools in at} == {
        at: before[at] for at in before if pools in at
    }
    let_go(api, name)
    restore_cluster(api)
    assert objects(api) == before


def v1_patches(api: StoreApi) -> list[str]:
    return [
        path
        for method, path in api.requests
        if method == "PATCH" and path.startswith("/apis/crd.projectcalico.org/v1/ippools")
    ]


def test_v1_details_that_somebody_else_changes_meanwhile_are_put_back_at_the_next_try() -> None:
    api = a_cluster("manifest-B", raw_pool(mode=None))
    before = objects(api)
    calico = session(api, "in-place")
    calico.enter(VXLAN)
    api.requests.clear()

    def race(method: str, path: str) -> None:
        if v1_patches(api) and len(v1_patches(api)) < 3 and method == "PATCH":
            raise ConflictError("changed by someone else", status=409)

    api.refuse = race
    calico.close()
    assert len(v1_patches(api)) == 3
    assert objects(api) == before


def test_v1_details_that_may_not_be_written_are_told_and_the_pool_counts_as_put_back() -> None:
    api = a_cluster("manifest-B", raw_pool(mode=None))
    before = objects(api)
    told: list[dict[str, Any]] = []
    calico = session(api, "in-place", told)
    calico.enter(VXLAN)

    def refuse(method: str, path: str) -> None:
        if method == "PATCH" and path.startswith("/apis/crd.projectcalico.org/v1/"):
            raise ForbiddenError('user "tester" may not patch ippools', status=403)

    api.refuse = refuse
    calico.close()
    assert [(one["state"], one["what"]) for one in told[1:]] == [
        (
            "restored",
            f"left Calico's defaults in absent fields of IPPool {DEFAULT_POOL} in "
            'crd.projectcalico.org/v1: user "tester" may not patch ippools',
        ),
        ("restored", f"restored IPPool {DEFAULT_POOL} to Never"),
        ("restored", unseen(DEFAULT_POOL, NEVER)),
    ]
    assert inspect(api).pools[0].mode is NEVER
    assert {at for at, found in objects(api).items() if before.get(at) != found} == {
        f"{group}/ippools//{DEFAULT_POOL}"
        for group in ("crd.projectcalico.org", "projectcalico.org")
    }
    assert restore_cluster(api)[0].startswith("Nothing to restore")


def test_a_journal_of_a_newer_version_is_neither_obeyed_nor_overwritten() -> None:
    api = a_cluster("manifest-A")
    text = '{"schema": 3, "run": "k8snet-new"}'
    api.create(
        "/api/v1/namespaces/kube-system/configmaps",
        {"metadata": {"name": "k8snet-journal"}, "data": {"journal.json": text}},
    )
    with session(api) as calico, pytest.raises(RestoreError) as caught:
        calico.enter(VXLAN)
    assert caught.value.found == "schema 3, this version knows 2"
    with pytest.raises(RestoreError, match="another version of pytest-k8snet"):
        restore_cluster(api)
    assert api.get(JOURNAL)["data"]["journal.json"] == text
    assert not api.store.list("leases.coordination.k8s.io")


@pytest.mark.parametrize("data", [{"journal.json": "not json"}, {"other": "x"}, {}])
def test_a_foreign_journal_is_left_alone(data: dict[str, str]) -> None:
    api = a_cluster("manifest-A")
    api.create(
        "/api/v1/namespaces/kube-system/configmaps",
        {"metadata": {"name": "k8snet-journal"}, "data": data},
    )
    with pytest.raises(RestoreError, match="is no journal of pytest-k8snet"):
        restore_cluster(api)
    assert api.get(JOURNAL).get("data", {}) == data


def test_a_pool_that_was_replaced_meanwhile_is_left_alone() -> None:
    api = a_cluster("manifest-A")
    calico = session(api, "in-place")
    calico.enter(IPIP)
    path = f"/apis/crd.projectcalico.org/v1/ippools/{DEFAULT_POOL}"
    api.delete(path)
    replacement = raw_pool(cidr="10.8.0.0/16")
    replacement["metadata"].pop("resourceVersion")
    api.create("/apis/crd.projectcalico.org/v1/ippools", replacement)
    with pytest.raises(RestoreError) as caught:
        calico.close()
    assert "cidr 10.8.0.0/16, expected 10.244.0.0/16" in caught.value.found
    assert raw_spec(api)["ipipMode"] == "Never"


def test_what_could_not_be_put_back_is_not_written_again_once_the_lease_is_given_back() -> None:
    api = a_cluster("manifest-A")
    before = objects(api)
    calico = session(api, "in-place")
    calico.enter(IPIP)

    def refuse(method: str, path: str) -> None:
        if method == "PATCH":
            raise ForbiddenError("not now", status=403)

    api.refuse = refuse
    with pytest.raises(RestoreError, match="could not all be restored"):
        calico.close()
    api.refuse = lambda method, path: None
    left = objects(api)
    calico.close()
    assert objects(api) == left
    restore_cluster(api)
    assert objects(api) == before


@pytest.mark.parametrize("strategy", ["in-place", "dedicated"])
def test_a_user_who_may_not_list_pods_everywhere_can_run_and_restore(strategy: Strategy) -> None:
    api = a_cluster("manifest-A")
    before = objects(api)

    def refuse(method: str, path: str) -> None:
        if path in ("/api/v1/pods", "/api/v1/services", "/apis/apps/v1/deployments"):
            raise ForbiddenError(f'user "tester" may not list {path}', status=403)

    api.refuse = refuse
    with session(api, strategy) as calico:
        calico.enter(IPIP)
    assert objects(api) == before
    leave_changed(api, strategy)
    restore_cluster(api)
    assert objects(api) == before


def test_a_user_who_may_not_list_nodes_can_restore() -> None:
    api = a_cluster("manifest-A")
    before = objects(api)
    leave_changed(api, "in-place")

    def refuse(method: str, path: str) -> None:
        if path == "/api/v1/nodes":
            raise ForbiddenError('user "tester" may not list nodes', status=403)

    api.refuse = refuse
    assert f"restored IPPool {DEFAULT_POOL} to VXLAN-CrossSubnet" in "".join(restore_cluster(api))
    assert objects(api) == before

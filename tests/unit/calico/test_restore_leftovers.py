"""`k8snet restore` where only pods are left, or where not all may be looked at."""

from __future__ import annotations

import pytest
from documented_roles import enforce
from store_api import StoreApi
from store_sessions import VXLAN, a_cluster, leave_changed, objects, session

from pytest_k8snet.change.journal import JournalStore
from pytest_k8snet.change.restore import restore_cluster
from pytest_k8snet.cluster import pods
from pytest_k8snet.cluster.pods import PROCESS_ANNOTATION, this_process
from pytest_k8snet.errors import ForbiddenError, RestoreError

NOTHING = ["Nothing to restore: no run has left anything that needs it."]
MEASURE = ("k8snet-measure", "k8snet-namespaces", "k8snet-pods")
UNKNOWN = (
    "Not looked at, whether a run has left Calico changed: user may not get "
    'leases.coordination.k8s.io "k8snet-change" in namespace "kube-system". That takes the Role '
    "k8snet-state (docs/rbac.yaml)."
)
DEAD = "/".join((*this_process().split("/")[:-1], "1"))
ELSEWHERE = "other-boot/pid:[1]/7/9"


def left(api: StoreApi, run_id: str, process: str) -> None:
    """A namespace, as a run leaves it that is killed before it changes Calico."""
    api.after_write = lambda: end_namespaces(api)
    body = pods.namespace_manifest(run_id, run_id)
    body["metadata"]["annotations"][PROCESS_ANNOTATION] = process
    api.create("/api/v1/namespaces", body)


def end_namespaces(api: StoreApi) -> None:
    """As the namespace controller does."""
    for one in api.store.list("namespaces"):
        if "deletionTimestamp" in one["metadata"]:
            one["spec"]["finalizers"] = []
            api.store.update("namespaces", one, subresource="finalize")


def namespaces(api: StoreApi) -> list[str]:
    return [one["metadata"]["name"] for one in api.store.list("namespaces")]


def test_what_a_run_of_this_machine_left_is_deleted() -> None:
    api = a_cluster("manifest-A")
    left(api, "k8snet-dead", DEAD)
    assert restore_cluster(api) == [
        "Deleted namespaces k8snet-dead, left by a run that is gone",
    ]
    assert namespaces(api) == ["kube-system"]
    assert restore_cluster(api) == NOTHING


def test_what_a_dead_run_left_and_may_not_be_deleted_stands_in_no_runs_way() -> None:
    api = a_cluster("manifest-A")
    left(api, "k8snet-dead", DEAD)

    def refuse(method: str, path: str) -> None:
        if (method, path) == ("DELETE", "/api/v1/namespaces/k8snet-dead"):
            raise ForbiddenError("user may not delete namespaces", status=403)

    api.refuse = refuse
    with session(api, "in-place") as calico:
        assert calico.enter(VXLAN).mode is VXLAN
    assert namespaces(api) == ["k8snet-dead", "kube-system"]


def test_a_run_that_may_live_elsewhere_is_left_alone_and_named() -> None:
    api = a_cluster("manifest-A")
    left(api, "k8snet-far", ELSEWHERE)
    made = api.get("/api/v1/namespaces/k8snet-far")["metadata"]["creationTimestamp"]
    assert restore_cluster(api) == [
        f"Left alone: namespace k8snet-far of run k8snet-far, since {made}. Whether it is at work "
        "cannot be told from here; if it is dead: `kubectl delete namespace k8snet-far`"
    ]
    assert namespaces(api) == ["k8snet-far", "kube-system"]


def test_a_run_that_works_on_this_machine_is_nothing_to_restore() -> None:
    api = a_cluster("manifest-A")
    left(api, "k8snet-mine", this_process())
    assert restore_cluster(api) == NOTHING


def test_who_may_only_measure_restores_what_measuring_leaves() -> None:
    api = a_cluster("manifest-A")
    left(api, "k8snet-dead", DEAD)
    enforce(api, *MEASURE)
    assert restore_cluster(api) == [
        UNKNOWN,
        "Deleted namespaces k8snet-dead, left by a run that is gone",
    ]
    assert restore_cluster(api) == [UNKNOWN, "No run has left pods or a namespace."]


def test_who_may_read_the_journal_but_not_hold_the_lease_is_told_of_it() -> None:
    api = a_cluster("manifest-A")
    leave_changed(api, "in-place")
    before = objects(api)
    journal = JournalStore(api).read()
    assert journal is not None

    def refuse(method: str, path: str) -> None:
        if "/leases" in path:
            raise ForbiddenError("user may not get leases", status=403)

    api.refuse = refuse
    with pytest.raises(RestoreError) as caught:
        restore_cluster(api)
    assert caught.value.problem == (
        f"{journal.owner} has changed Calico, and you may not restore that"
    )
    assert caught.value.found == (
        f"ConfigMap kube-system/k8snet-journal of {journal.time}; user may not get leases"
    )
    assert "someone with the roles k8snet-state and k8snet-in-place" in caught.value.remedy
    assert objects(api) == before


def test_who_may_list_pods_in_one_namespace_only_is_told_how_to_delete_them() -> None:
    api = a_cluster("manifest-A")
    enforce(api, "k8snet-measure", "k8snet-state")
    assert restore_cluster(api) == [
        "Not looked for, what killed runs have left: user may not list namespaces. In the "
        "namespace that you gave them, while none is at work: `kubectl -n NAMESPACE delete "
        "deployments,services,pods -l app.kubernetes.io/managed-by=pytest-k8snet`"
    ]

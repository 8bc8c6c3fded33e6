"""Objects for which a controller is refused something: they neither hold up others nor end it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from controller_play import SPEC, furnished_store, play, until

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.kube.controllers import Deployments, ReplicaSets
from pytest_k8snet.lab.kube.kubelet import Heartbeat
from pytest_k8snet.lab.kube.services import ServiceEndpoints
from pytest_k8snet.lab.reconcile import Controller, each_by_itself


@pytest.fixture
def store() -> Store:
    return furnished_store()


def workload(name: str, **more: Any) -> Object:
    labels = {"app": name[:60]}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": name, **more}, "spec": spec}


def owners(store: Store, resource: str) -> set[str]:
    """Who owns the objects of a resource."""
    found = [dig(obj, "metadata.ownerReferences", []) for obj in store.list(resource)]
    return {references[0]["name"] for references in found if references}


def test_a_deployment_whose_replica_set_is_refused_holds_up_no_other(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "a" * 250

    async def scene() -> None:
        store.create("deployments.apps", workload(long))
        store.create("deployments.apps", workload("web"))
        await until(lambda: "web" in owners(store, "replicasets.apps"))

    play(store, scene, [Deployments(store)])
    written = capsys.readouterr().err
    assert written.startswith("Deployments.reconcile: ReplicaSet.apps ")
    assert "metadata.name: Invalid value" in written
    # Told once, not at every try.
    assert written.count("\n") == 1


def test_a_replica_set_of_the_same_name_that_is_another_s_holds_up_no_other(store: Store) -> None:
    async def scene() -> None:
        store.create("deployments.apps", workload("api"))
        await until(lambda: "api" in owners(store, "replicasets.apps"))
        store.delete("deployments.apps", "api", "default", propagation="Orphan")
        store.create("deployments.apps", workload("api"))
        store.create("deployments.apps", workload("web"))
        await until(lambda: "web" in owners(store, "replicasets.apps"))
        # It gets its own as soon as the other has gone.
        store.delete("replicasets.apps", store.list("replicasets.apps")[0]["metadata"]["name"])
        await until(lambda: owners(store, "replicasets.apps") == {"api", "web"})

    play(store, scene, [Deployments(store)])


def test_controllers_live_through_the_end_of_a_namespace(store: Store) -> None:
    """Nothing can be made in it any more, though what wants to be made is still there."""
    selector = {"selector": {"app": "a"}, "ports": [{"port": 80}]}

    async def scene() -> None:
        # The namespace that ends comes first in every list.
        store.create("namespaces", {"metadata": {"name": "a-going"}})
        for resource, body in (
            ("deployments.apps", workload("api")),
            ("replicasets.apps", workload("lone")),
            ("services", {"metadata": {"name": "api"}, "spec": selector}),
        ):
            store.create(resource, body, "a-going")
        store.delete("namespaces", "a-going")
        store.create("deployments.apps", workload("web"), "shop")
        store.create("services", {"metadata": {"name": "web"}, "spec": selector}, "shop")
        await until(lambda: bool(store.list("pods", "shop") and store.list("endpoints", "shop")))

    play(store, scene, [Deployments(store), ReplicaSets(store), ServiceEndpoints(store, SPEC)])
    assert not store.list("pods", "a-going")


def test_the_nodes_live_without_the_namespace_of_their_leases(store: Store) -> None:

    async def scene() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    play(store, scene, [Heartbeat(store, SPEC)])
    assert not store.list("leases.coordination.k8s.io")
    store.create("namespaces", {"metadata": {"name": "kube-node-lease"}})
    play(store, scene, [Heartbeat(store, SPEC)])
    assert len(store.list("leases.coordination.k8s.io")) == len(SPEC.nodes)


def test_what_failed_is_tried_again_without_a_change(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else the test would last as long as the pause.
    monkeypatch.setattr("pytest_k8snet.lab.reconcile._RETRY_SECONDS", 0.001)
    tries: list[str] = []

    class Pods(Controller):
        watched = ("pods",)

        def reconcile(self) -> None:
            tries.append("once more")
            if len(tries) < 3:
                raise KeyError("spec")

    async def scene() -> None:
        await until(lambda: len(tries) == 3)

    play(store, scene, [Pods(store)])
    assert capsys.readouterr().err.splitlines() == [
        f"{Pods.reconcile.__qualname__}: KeyError('spec')"
    ]


def test_every_step_is_taken_and_every_trouble_told() -> None:
    taken: list[int] = []

    def step(number: int) -> None:
        taken.append(number)
        if number != 2:
            raise ValueError(number)

    with pytest.raises(ExceptionGroup) as caught:
        each_by_itself([lambda: step(1), lambda: step(2), lambda: step(3)])
    assert taken == [1, 2, 3]
    assert [str(exc) for exc in caught.value.exceptions] == ["1", "3"]

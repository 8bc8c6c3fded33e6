"""The controllers against a real store: what kubectl would see, without nodes or packets."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from controller_play import furnished_store, play, until

from pytest_k8snet.lab.api import plugins
from pytest_k8snet.lab.api.objects import Object, dig, name_of
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.kube import system
from pytest_k8snet.lab.kube.controllers import (
    DaemonSets,
    Deployments,
    GarbageCollector,
    Jobs,
    Namespaces,
    Quotas,
    ReplicaSets,
    ReplicationControllers,
    TaintEvictions,
)
from pytest_k8snet.lab.kube.scheduler import Scheduler
from pytest_k8snet.lab.spec import CalicoSpec, LabSpec, study_nodes

HOSTNAME = "kubernetes.io/hostname"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


@pytest.fixture
def store() -> Store:
    return furnished_store()


def template(**labels: str) -> Object:
    return {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x"}]}}


def deployment(replicas: int, **spec: Any) -> Object:
    selector = {"matchLabels": {"app": "web"}}
    body = {"replicas": replicas, "selector": selector, "template": template(app="web"), **spec}
    return {"metadata": {"name": "web"}, "spec": body}


def make_ready(store: Store, pod: Object, address: str = "10.244.0.5") -> None:
    def change(found: Object) -> None:
        found["status"]["phase"] = "Running"
        found["status"]["podIP"] = address
        found["status"]["conditions"] = [{"type": "Ready", "status": "True"}]

    store.mutate("pods", name_of(pod), pod["metadata"]["namespace"], change, subresource="status")


class AllReady:
    """A kubelet that has every pod ready at once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self) -> None:
        async for kind, pod in self._store.watch("pods"):
            if kind == "ADDED":
                make_ready(self._store, pod)
            elif kind == "MODIFIED" and dig(pod, "metadata.deletionTimestamp"):
                self._store.delete("pods", name_of(pod), "default", grace_seconds=0)


class TestScheduler:
    def test_a_pod_is_bound_and_the_binding_told(self, store: Store) -> None:
        async def scene() -> None:
            store.create("pods", {**template(), "metadata": {"name": "p"}})
            await until(lambda: bool(store.list("events")))

        play(store, scene, [Scheduler(store)])
        assert dig(store.get("pods", "p", "default"), "spec.nodeName") == "node1"
        event = store.list("events")[0]
        assert event["message"] == "Successfully assigned default/p to node1"

    def test_equal_pods_spread_over_the_nodes(self, store: Store) -> None:
        async def scene() -> None:
            for number in range(3):
                body = {"metadata": {"name": f"p{number}", "labels": {"app": "x"}}}
                store.create("pods", {**body, "spec": template()["spec"]})
            await until(lambda: len(store.list("pods", fields="spec.nodeName!=")) == 3)

        play(store, scene, [Scheduler(store)])
        nodes = {dig(pod, "spec.nodeName") for pod in store.list("pods")}
        assert nodes == {"node1", "node2", "node3"}

    def test_a_pod_without_a_place_waits_until_there_is_one(self, store: Store) -> None:
        spec = {**template()["spec"], "nodeSelector": {"disk": "ssd"}}

        async def scene() -> None:
            store.create("pods", {"metadata": {"name": "p"}, "spec": spec})
            await until(lambda: bool(store.list("events")))
            condition = dig(store.get("pods", "p", "default"), "status.conditions")[0]
            assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
            assert "3 node(s) didn't match Pod's node affinity/selector" in condition["message"]
            assert store.list("events")[0]["reason"] == "FailedScheduling"
            store.patch("nodes", "node2", {"metadata": {"labels": {"disk": "ssd"}}}, "merge")
            await until(lambda: bool(dig(store.get("pods", "p", "default"), "spec.nodeName")))

        play(store, scene, [Scheduler(store)])
        assert dig(store.get("pods", "p", "default"), "spec.nodeName") == "node2"

    def test_what_is_only_preferred_decides_between_nodes(self, store: Store) -> None:
        term = {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": HOSTNAME}
        apart = {PREFERRED: [{"weight": 1, "podAffinityTerm": term}]}
        wanted = {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": ["node3"]}]}
        liked = {PREFERRED: [{"weight": 10, "preference": wanted}]}
        spec = template()["spec"]

        async def scene() -> None:
            for name, affinity in (
                ("first", {"nodeAffinity": liked}),
                ("second", {"nodeAffinity": liked}),
                ("third", {"podAntiAffinity": apart}),
            ):
                meta = {"name": name, "labels": {"app": "x"}}
                body = {"metadata": meta, "spec": {**spec, "affinity": affinity}}
                store.create("pods", body)
                await until(lambda: not store.list("pods", fields="spec.nodeName="))

        play(store, scene, [Scheduler(store)])
        nodes = [dig(store.get("pods", name, "default"), "spec.nodeName")
                 for name in ("first", "second", "third")]  # fmt: skip
        assert nodes == ["node3", "node3", "node1"]

    def test_gated_pods_and_those_of_other_schedulers_are_left_alone(self, store: Store) -> None:
        spec = template()["spec"]

        async def scene() -> None:
            for name, more in (
                ("gated", {"schedulingGates": [{"name": "example.org/wait"}]}),
                ("foreign", {"schedulerName": "other"}),
                ("ours", {}),
            ):
                store.create("pods", {"metadata": {"name": name}, "spec": {**spec, **more}})
            await until(lambda: len(store.list("pods", fields="spec.nodeName!=")) == 1)

        play(store, scene, [Scheduler(store)])
        gated, foreign = (store.get("pods", name, "default") for name in ("gated", "foreign"))
        assert dig(gated, "status.conditions")[0]["reason"] == "SchedulingGated"
        assert not dig(foreign, "status.conditions")


class TestWorkloads:
    def controllers(self, store: Store) -> list[Any]:
        return [Deployments(store), ReplicaSets(store), GarbageCollector(store), AllReady(store)]

    def is_complete(self, store: Store, replicas: int) -> bool:
        found = store.get("deployments.apps", "web", "default")
        status = found.get("status") or {}
        counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "readyReplicas")]
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        return current and counts == [replicas] * 3

    def test_a_deployment_makes_its_pods_and_scales(self, store: Store) -> None:
        async def scene() -> None:
            store.create("deployments.apps", deployment(3))
            await until(lambda: self.is_complete(store, 3))
            assert len(store.list("pods", labels="app=web")) == 3
            patch = {"spec": {"replicas": 1}}
            store.patch("deployments.apps", "web", patch, "merge", "default")
            await until(lambda: self.is_complete(store, 1))

        play(store, scene, self.controllers(store))
        assert len(store.list("pods", labels="app=web")) == 1
        conditions = dig(store.get("deployments.apps", "web", "default"), "status.conditions")
        assert [entry["reason"] for entry in conditions] == [
            "MinimumReplicasAvailable",
            "NewReplicaSetAvailable",
        ]

    def test_a_name_in_the_template_is_nobodys(self, store: Store) -> None:
        body = deployment(2)
        body["spec"]["template"]["metadata"]["name"] = "web"

        async def scene() -> None:
            store.create("deployments.apps", body)
            await until(lambda: self.is_complete(store, 2))

        play(store, scene, self.controllers(store))
        assert all(name_of(pod).startswith("web-") for pod in store.list("pods"))

    def test_a_new_template_replaces_the_pods_and_never_has_too_few(self, store: Store) -> None:
        fewest = 4

        async def watch() -> None:
            nonlocal fewest
            async for _ in store.watch("pods"):
                living = [
                    pod
                    for pod in store.list("pods", labels="app=web")
                    if dig(pod, "status.podIP") and not dig(pod, "metadata.deletionTimestamp")
                ]
                fewest = min(fewest, len(living))

        async def scene() -> None:
            store.create("deployments.apps", deployment(4))
            await until(lambda: self.is_complete(store, 4))
            watching = asyncio.create_task(watch())
            container = [{"name": "c", "image": "y"}]
            patch = {"spec": {"template": {"spec": {"containers": container}}}}
            store.patch("deployments.apps", "web", patch, "merge", "default")
            await until(lambda: self.is_complete(store, 4))
            watching.cancel()

        play(store, scene, self.controllers(store))
        images = {dig(pod, "spec.containers")[0]["image"] for pod in store.list("pods")}
        assert images == {"y"}
        # 25 % of 4 may be unavailable.
        assert fewest == 3

    def test_a_daemon_set_goes_where_its_template_may_go(self, store: Store) -> None:
        body = {"selector": {"matchLabels": {"app": "web"}}, "template": template(app="web")}

        def places() -> set[str]:
            return {dig(pod, "spec.nodeName") for pod in store.list("pods")}

        async def scene() -> None:
            store.create("daemonsets.apps", {"metadata": {"name": "d"}, "spec": body})
            await until(lambda: places() == {"node1", "node2", "node3"})
            store.patch("nodes", "node3", {"spec": {"unschedulable": True}}, "merge")
            taint = {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}
            store.patch("nodes", "node1", taint, "merge")
            await until(lambda: places() == {"node2", "node3"})

        play(store, scene, [DaemonSets(store), AllReady(store)])
        status = store.get("daemonsets.apps", "d", "default")["status"]
        assert status["desiredNumberScheduled"] == 2

    def test_a_daemon_set_replaces_the_pods_of_an_older_template_one_by_one(
        self, store: Store
    ) -> None:
        fewest = 3

        def images() -> list[str]:
            nonlocal fewest
            pods = [pod for pod in store.list("pods") if not dig(pod, "metadata.deletionTimestamp")]
            fewest = min(fewest, len(pods) if rolling else 3)
            return sorted(dig(pod, "spec.containers")[0]["image"] for pod in pods)

        rolling = False
        body = {"selector": {"matchLabels": {"app": "web"}}, "template": template(app="web")}

        async def scene() -> None:
            nonlocal rolling
            store.create("daemonsets.apps", {"metadata": {"name": "d"}, "spec": body})
            await until(lambda: self.updated(store) == 3)
            rolling = True
            patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "y"}]}}}}
            store.patch("daemonsets.apps", "d", patch, "merge", "default")
            await until(lambda: images() == ["y"] * 3 and self.updated(store) == 3)
            rolling = False
            older = {"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}}
            store.patch("daemonsets.apps", "d", older, "merge", "default")
            patch["spec"]["template"]["spec"]["containers"][0]["image"] = "z"
            store.patch("daemonsets.apps", "d", patch, "merge", "default")
            await until(lambda: self.updated(store) == 0)
            assert images() == ["y"] * 3

        play(store, scene, [DaemonSets(store), AllReady(store)])
        # maxUnavailable is 1.
        assert fewest == 2

    def updated(self, store: Store) -> int:
        """How many pods of the DaemonSet are of its template, once it has seen that."""
        found = store.get("daemonsets.apps", "d", "default")
        status = found.get("status") or {}
        seen = status.get("observedGeneration") == found["metadata"]["generation"]
        ready = status.get("numberReady") == status.get("desiredNumberScheduled")
        return int(status.get("updatedNumberScheduled", -1)) if seen and ready else -1

    def test_a_taint_evicts_the_pods_that_do_not_tolerate_it(self, store: Store) -> None:
        spec = {**template()["spec"], "nodeName": "node1"}
        tolerated = {"key": "a", "operator": "Exists", "effect": "NoExecute"}

        async def scene() -> None:
            for name, more in (
                ("goes", []),
                ("stays", [tolerated]),
                ("goes-later", [{**tolerated, "tolerationSeconds": 600}]),
                ("elsewhere", []),
            ):
                body = {"metadata": {"name": name}, "spec": {**spec, "tolerations": more}}
                if name == "elsewhere":
                    body["spec"]["nodeName"] = "node2"
                store.create("pods", body)
            taint = {"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}
            store.patch("nodes", "node1", taint, "merge")
            await until(lambda: not store.has("pods", "goes", "default"))

        play(store, scene, [TaintEvictions(store), AllReady(store)])
        assert [name_of(pod) for pod in store.list("pods")] == ["elsewhere", "goes-later", "stays"]
        (event,) = store.list("events")
        assert event["message"] == "Marking for deletion Pod default/goes"

    def test_a_replication_controller_keeps_its_pods(self, store: Store) -> None:
        body = {"metadata": {"name": "rc"}, "spec": {"replicas": 2, "template": template(app="a")}}

        async def scene() -> None:
            store.create("replicationcontrollers", body, "default")
            await until(lambda: len(store.list("pods", labels="app=a")) == 2)

        play(store, scene, [ReplicationControllers(store)])

    def test_in_the_foreground_the_owner_stays_until_its_dependents_are_gone(
        self, store: Store
    ) -> None:
        async def scene() -> None:
            store.create("deployments.apps", deployment(1))
            await until(lambda: len(store.list("pods")) == 1)
            pod = store.list("pods")[0]
            pod["metadata"]["finalizers"] = ["example.org/hold"]
            store.update("pods", pod)
            store.delete("deployments.apps", "web", propagation="Foreground")
            await until(lambda: bool(dig(store.list("pods")[0], "metadata.deletionTimestamp")))
            held = store.get("deployments.apps", "web")["metadata"]
            assert held["finalizers"] == ["foregroundDeletion"]
            pod = store.list("pods")[0]
            pod["metadata"]["finalizers"] = []
            store.update("pods", pod)
            await until(lambda: not store.list("deployments.apps"))

        play(store, scene, [Deployments(store), ReplicaSets(store), GarbageCollector(store)])
        assert store.list("pods") == store.list("replicasets.apps") == []

    def test_what_a_deployment_owned_goes_with_it(self, store: Store) -> None:
        async def scene() -> None:
            store.create("deployments.apps", deployment(2))
            await until(lambda: self.is_complete(store, 2))
            store.delete("deployments.apps", "web", "default")
            await until(lambda: not store.list("pods") and not store.list("replicasets.apps"))

        play(store, scene, self.controllers(store))


class TestJobs:
    def ended(self, store: Store, phase: str) -> None:
        for pod in store.list("pods"):
            if dig(pod, "status.phase") == "Pending":
                pod["status"]["phase"] = phase
                store.update("pods", pod, "default", subresource="status")

    def has(self, store: Store, pods: int) -> bool:
        return len(store.list("pods")) == pods

    def conditions(self, store: Store) -> set[str]:
        job = store.get("jobs.batch", "j", "default")
        return {one["type"] for one in dig(job, "status.conditions", [])}

    @pytest.mark.parametrize(
        ("phase", "condition", "pods"), [("Succeeded", "Complete", 3), ("Failed", "Failed", 2)]
    )
    def test_a_job_runs_pods_until_enough_have_succeeded_or_too_many_failed(
        self, store: Store, phase: str, condition: str, pods: int
    ) -> None:
        pod = template()
        pod["spec"]["restartPolicy"] = "Never"
        spec = {"completions": 3, "parallelism": 1, "backoffLimit": 1, "template": pod}

        async def scene() -> None:
            store.create("jobs.batch", {"metadata": {"name": "j"}, "spec": spec}, "default")
            for number in range(1, pods + 1):
                await until(partial(self.has, store, number))
                self.ended(store, phase)
            await until(lambda: condition in self.conditions(store))

        play(store, scene, [Jobs(store)])
        assert len(store.list("pods")) == pods

    def test_a_job_that_is_not_played_makes_no_pods_and_says_why(self, store: Store) -> None:
        pod = template()
        pod["spec"]["restartPolicy"] = "Never"
        spec = {"completionMode": "Indexed", "ttlSecondsAfterFinished": 5, "template": pod}

        async def scene() -> None:
            store.create("jobs.batch", {"metadata": {"name": "j"}, "spec": spec}, "default")
            await until(lambda: bool(store.list("events")))

        play(store, scene, [Jobs(store)])
        assert store.list("pods") == []
        assert store.list("events")[0]["message"] == (
            "the lab does not play spec.ttlSecondsAfterFinished, spec.completionMode: Indexed: it"
            " makes no pods of this Job"
        )


class TestRefusals:
    def test_pods_that_a_quota_refuses_are_told_and_tried_again_until_it_is_gone(
        self, store: Store
    ) -> None:
        plugins.register(store)

        def conditions() -> list[Object]:
            sets = store.list("replicasets.apps")
            return list(dig(sets[0], "status.conditions", [])) if sets else []

        async def scene() -> None:
            quota = {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}}
            store.create("resourcequotas", quota, "default")
            store.create("deployments.apps", deployment(2))
            await until(lambda: bool(conditions()))
            (failed,) = conditions()
            assert failed["reason"] == "FailedCreate"
            assert "exceeded quota: q, requested: pods=1, used: pods=0" in failed["message"]
            events = store.list("events", fields="reason=FailedCreate")
            assert events[0]["message"].startswith('Error creating: pods "web-')
            store.delete("resourcequotas", "q", "default")
            await until(lambda: len(store.list("pods")) == 2)

        play(store, scene, [Deployments(store), ReplicaSets(store)])
        assert conditions() == []

    def test_a_quota_says_what_is_used_of_it(self, store: Store) -> None:
        hard = {"pods": "5", "requests.cpu": "2", "limits.memory": "1Gi", "count/secrets": "9"}
        resources = {"requests": {"cpu": "250m"}, "limits": {"memory": "128Mi"}}
        spec = {"containers": [{"name": "c", "image": "x", "resources": resources}]}

        async def scene() -> None:
            store.create("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": hard}})
            for name in "ab":
                store.create("pods", {"metadata": {"name": name}, "spec": spec})
            await until(lambda: dig(store.get("resourcequotas", "q"), "status.used.pods") == "2")

        play(store, scene, [Quotas(store)])
        assert store.get("resourcequotas", "q")["status"]["used"] == {
            "pods": "2",
            "requests.cpu": "500m",
            "limits.memory": "256Mi",
            "count/secrets": "0",
        }


class TestNamespaces:
    def test_each_has_its_service_account(self, store: Store) -> None:
        async def scene() -> None:
            await until(lambda: bool(store.list("serviceaccounts", "shop")))

        play(store, scene, [Namespaces(store)])

    def test_deleting_one_empties_it_and_then_removes_it(self, store: Store) -> None:
        async def scene() -> None:
            store.create("configmaps", {"metadata": {"name": "c"}}, "shop")
            store.create("services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}]}},
                         "shop")  # fmt: skip
            pod = {"metadata": {"name": "p"}, "spec": {**template()["spec"], "nodeName": "node1"}}
            store.create("pods", pod, "shop")
            store.delete("namespaces", "shop")
            assert dig(store.get("namespaces", "shop"), "status.phase") == "Terminating"
            await until(lambda: not store.list("configmaps", "shop"))
            # The pod has still to end on its node, and holds the namespace until then.
            assert dig(store.get("pods", "p", "shop"), "metadata.deletionTimestamp")
            assert store.list("namespaces", fields="metadata.name=shop")
            store.delete("pods", "p", "shop", grace_seconds=0)
            await until(lambda: not store.list("namespaces", fields="metadata.name=shop"))

        play(store, scene, [Namespaces(store)])

    def test_none_goes_while_the_calico_api_server_cannot_be_asked_what_it_holds(self) -> None:
        store = Store(calico=CalicoSpec(api_shape="B"))
        for name in ("kube-system", "shop"):
            store.create("namespaces", {"metadata": {"name": name}})
        fault = {"metadata": {"name": "k8snet-lab-faults"}, "data": {"calico-apiserver-down": "1"}}
        store.create("configmaps", fault, "kube-system")
        told = []

        async def scene() -> None:
            store.create("configmaps", {"metadata": {"name": "c"}}, "shop")
            store.delete("namespaces", "shop")
            await until(lambda: bool(dig(store.get("namespaces", "shop"), "status.conditions", [])))
            told.extend(dig(store.get("namespaces", "shop"), "status.conditions"))
            assert not store.list("configmaps", "shop")
            store.delete("configmaps", "k8snet-lab-faults", "kube-system")
            await until(lambda: not store.list("namespaces", fields="metadata.name=shop"))

        play(store, scene, [Namespaces(store)])
        (condition,) = told
        assert condition["type"] == "NamespaceDeletionDiscoveryFailure"
        assert "projectcalico.org/v3: the server is currently unable" in condition["message"]


@pytest.mark.parametrize("install", ["manifest", "operator"])
@pytest.mark.parametrize("shape", ["A", "B", "C"])
def test_what_the_cluster_begins_with_is_accepted_by_its_own_rules(
    install: str, shape: str
) -> None:
    calico: Any = {"install": install, "api_shape": shape, "vxlan_mode": "CrossSubnet"}
    spec = LabSpec(nodes=study_nodes(), calico=CalicoSpec(**calico))
    store = Store(calico=spec.calico)
    for resource, body in system.objects(spec):
        store.create(resource, body)
    pool = store.get("ippools.crd.projectcalico.org", "default-ipv4-ippool")
    assert pool["spec"]["vxlanMode"] == "CrossSubnet"
    namespace = "calico-system" if install == "operator" else "kube-system"
    assert store.get("daemonsets.apps", "calico-node", namespace)

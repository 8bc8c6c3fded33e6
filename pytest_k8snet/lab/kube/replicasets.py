"""The controllers of ReplicaSets and DaemonSets: so many pods, or one on each node."""

from __future__ import annotations

from functools import partial

from pytest_k8snet.lab.api.objects import Object, clone, dig, name_of, namespace_of
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.kube.events import Recorder
from pytest_k8snet.lab.kube.ownership import (
    is_over,
    is_owned_by,
    is_ready,
    living,
    owner_reference,
    selector_text,
)
from pytest_k8snet.lab.kube.reconcile import each_by_itself, reconcile_on_change


class PodKeeper:
    """What the controllers of pods have in common.

    Args:
        store: the cluster's objects.
        resource: the storage key of the owners.
        component: the controller's name in events.
    """

    def __init__(self, store: Store, resource: str, component: str) -> None:
        self._store = store
        self._resource = resource
        self._events = Recorder(store, component)

    async def run(self) -> None:
        """Reconcile for ever."""
        await reconcile_on_change(
            self._store, (self._resource, "pods", "nodes"), self._reconcile_all
        )

    def _reconcile_all(self) -> None:
        owners = living(self._store.list(self._resource))
        each_by_itself(partial(self._look_at, owner) for owner in owners)

    def _look_at(self, owner: Object) -> None:
        self.reconcile(owner, self._pods(owner))

    def reconcile(self, owner: Object, pods: list[Object]) -> None:
        """Make and delete pods until they are as many as the owner wants; write its status."""
        raise NotImplementedError

    def _pods(self, owner: Object) -> list[Object]:
        labels = selector_text(dig(owner, "spec.selector", {}))
        found = self._store.list("pods", namespace_of(owner), labels=labels)
        return [pod for pod in living(found) if is_owned_by(pod, owner)]

    def _new_pod(self, owner: Object, node: str = "") -> Object:
        template = clone(owner["spec"]["template"])
        meta = template.get("metadata") or {}
        meta["generateName"] = f"{name_of(owner)}-"
        meta["ownerReferences"] = [owner_reference(owner)]
        if node:
            template["spec"]["nodeName"] = node
        pod = {"metadata": meta, "spec": template["spec"]}
        created = self._store.create("pods", pod, namespace_of(owner))
        self._events.record(owner, "SuccessfulCreate", f"Created pod: {name_of(created)}")
        return created

    def _delete_pod(self, owner: Object, pod: Object) -> None:
        self._store.delete("pods", name_of(pod), namespace_of(pod))
        self._events.record(owner, "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")

    def _write_status(self, owner: Object, status: Object) -> None:
        def change(found: Object) -> None:
            found["status"] = status

        if owner.get("status") != status:
            name, namespace = name_of(owner), namespace_of(owner)
            self._store.mutate(self._resource, name, namespace, change, subresource="status")


class ReplicaSets(PodKeeper):
    """Keeps each ReplicaSet's pods as many as it wants."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "replicasets.apps", "replicaset-controller")

    def reconcile(self, owner: Object, pods: list[Object]) -> None:
        """Make what is missing; of too many, delete the unready and then the youngest."""
        active = [pod for pod in pods if not is_over(pod)]
        wanted = int(dig(owner, "spec.replicas", 1))
        for _ in range(wanted - len(active)):
            active.append(self._new_pod(owner))
        active.sort(key=lambda pod: (not is_ready(pod), pod["metadata"]["creationTimestamp"]))
        for pod in active[wanted:]:
            self._delete_pod(owner, pod)
        kept = active[:wanted]
        ready = sum(map(is_ready, kept))
        status = {
            "replicas": len(kept),
            "fullyLabeledReplicas": len(kept),
            "observedGeneration": owner["metadata"].get("generation", 1),
        }
        if ready:
            status |= {"readyReplicas": ready, "availableReplicas": ready}
        self._write_status(owner, status)


class DaemonSets(PodKeeper):
    """Keeps one pod of each DaemonSet on every node."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "daemonsets.apps", "daemonset-controller")

    def reconcile(self, owner: Object, pods: list[Object]) -> None:
        """Make a pod on each node that has none."""
        nodes = [name_of(node) for node in self._store.list("nodes")]
        served = {dig(pod, "spec.nodeName") for pod in pods}
        for node in nodes:
            if node not in served:
                pods.append(self._new_pod(owner, node))
        ready = sum(map(is_ready, pods))
        status = {
            "currentNumberScheduled": len(pods),
            "desiredNumberScheduled": len(nodes),
            "numberAvailable": ready,
            "numberMisscheduled": 0,
            "numberReady": ready,
            "observedGeneration": owner["metadata"].get("generation", 1),
            "updatedNumberScheduled": len(pods),
        }
        if ready < len(nodes):
            status["numberUnavailable"] = len(nodes) - ready
        self._write_status(owner, status)

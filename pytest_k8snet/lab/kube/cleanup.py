"""What goes when something else goes: the contents of namespaces, and what an owner owned."""

from __future__ import annotations

from functools import partial

from pytest_k8snet.lab.api.faults import calico_api_server_is_down
from pytest_k8snet.lab.api.objects import Object, dig, name_of, namespace_of, timestamp
from pytest_k8snet.lab.api.resources import CALICO_V3
from pytest_k8snet.lab.api.store import StatusError, Store
from pytest_k8snet.lab.kube.ownership import living
from pytest_k8snet.lab.kube.reconcile import each_by_itself, reconcile_on_change

# Emptied in this order: what makes pods goes before the pods.
_CONTENTS = (
    "deployments.apps",
    "daemonsets.apps",
    "replicasets.apps",
    "pods",
    "services",
    "endpoints",
    "endpointslices.discovery.k8s.io",
    "configmaps",
    "secrets",
    "serviceaccounts",
    "events",
    "leases.coordination.k8s.io",
)
_OWNERS = ("deployments.apps", "daemonsets.apps", "replicasets.apps", "services", "pods")
_OWNED = (
    "replicasets.apps",
    "pods",
    "services",
    "endpointslices.discovery.k8s.io",
    "configmaps",
)


class Namespaces:
    """Gives each namespace its service account, and empties those that are to go.

    While the server of an API group cannot be asked what a namespace holds of it, none goes.

    Args:
        store: the cluster's objects.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self) -> None:
        """Reconcile for ever."""
        watched = ("namespaces", "pods", "configmaps")
        await reconcile_on_change(self._store, watched, self._reconcile)

    def _reconcile(self) -> None:
        each_by_itself(partial(self._care, one) for one in self._store.list("namespaces"))

    def _care(self, namespace: Object) -> None:
        if dig(namespace, "metadata.deletionTimestamp"):
            self._empty(namespace)
        else:
            self._furnish(name_of(namespace))

    def _furnish(self, namespace: str) -> None:
        try:
            self._store.get("serviceaccounts", "default", namespace)
        except StatusError:
            body: Object = {"metadata": {"name": "default"}}
            self._store.create("serviceaccounts", body, namespace)

    def _empty(self, namespace: Object) -> None:
        name = name_of(namespace)
        for resource in _CONTENTS:
            for obj in self._store.list(resource, name):
                if not dig(obj, "metadata.deletionTimestamp"):
                    self._store.delete(resource, name_of(obj), name)
        if any(self._store.list(resource, name) for resource in _CONTENTS):
            # The pods are still ending; the last one's end brings us back.
            return
        if calico_api_server_is_down(self._store):
            self._store.mutate("namespaces", name, None, _say_undiscovered, subresource="status")
            return

        def change(found: Object) -> None:
            found["spec"]["finalizers"] = []

        self._store.mutate("namespaces", name, None, change, subresource="finalize")


def _say_undiscovered(namespace: Object) -> None:
    status = namespace.setdefault("status", {})
    if not status.get("conditions"):
        why = "the server is currently unable to handle the request"
        status["conditions"] = [
            {
                "type": "NamespaceDeletionDiscoveryFailure",
                "status": "True",
                "reason": "DiscoveryFailed",
                "message": "Discovery failed for some groups, 1 failing: unable to retrieve the "
                f"complete list of server APIs: {CALICO_V3}/v3: {why}",
                "lastTransitionTime": timestamp(),
            }
        ]


class GarbageCollector:
    """Deletes what is owned by nothing that still exists.

    Args:
        store: the cluster's objects.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self) -> None:
        """Reconcile for ever."""
        await reconcile_on_change(self._store, _OWNERS, self._collect)

    def _collect(self) -> None:
        alive = {obj["metadata"]["uid"] for key in _OWNERS for obj in self._store.list(key)}
        each_by_itself(
            partial(self._store.delete, resource, name_of(obj), namespace_of(obj))
            for resource in _OWNED
            for obj in living(self._store.list(resource))
            if _is_orphaned(obj, alive)
        )


_OWNER_KINDS = {"Deployment", "DaemonSet", "ReplicaSet", "Service", "Pod"}


def _is_orphaned(obj: Object, alive: set[str]) -> bool:
    """Whether it had owners, all of whom have gone."""
    owners = dig(obj, "metadata.ownerReferences", [])
    # Owners of kinds that are not looked at here are taken to be alive.
    known = [owner for owner in owners if owner.get("kind") in _OWNER_KINDS]
    if not known or len(known) < len(owners):
        return False
    return not any(owner.get("uid") in alive for owner in known)

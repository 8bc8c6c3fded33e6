"""The controller of Deployments: one ReplicaSet for each template, rolled from one to the next."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any

from pytest_k8snet.lab.api.objects import Object, clone, dig, name_of, namespace_of, timestamp
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.kube.events import Recorder
from pytest_k8snet.lab.kube.ownership import is_owned_by, living, owner_reference, selector_text
from pytest_k8snet.lab.kube.reconcile import each_by_itself, reconcile_on_change

_HASH_LABEL = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"
# As Kubernetes' own: no vowels.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(template: Object) -> str:
    """A short name for a pod template: equal templates have equal names."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:10])


def scale(asked: Any, total: int, *, round_up: bool) -> int:
    """``maxSurge`` or ``maxUnavailable``: a number, or a percentage of the replicas."""
    if isinstance(asked, str) and asked.endswith("%"):
        hundredths = int(asked[:-1]) * total
        return -(-hundredths // 100) if round_up else hundredths // 100
    return int(asked)


class Deployments:
    """Rolls the ReplicaSets of Deployments.

    Args:
        store: the cluster's objects.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._events = Recorder(store, "deployment-controller")

    async def run(self) -> None:
        """Reconcile for ever."""
        resources = ("deployments.apps", "replicasets.apps")
        await reconcile_on_change(self._store, resources, self._reconcile)

    def _reconcile(self) -> None:
        deployments = living(self._store.list("deployments.apps"))
        each_by_itself(partial(self._roll, one) for one in deployments)

    def _owned(self, deployment: Object) -> list[Object]:
        labels = selector_text(dig(deployment, "spec.selector", {}))
        found = self._store.list("replicasets.apps", namespace_of(deployment), labels=labels)
        return [obj for obj in found if is_owned_by(obj, deployment)]

    def _roll(self, deployment: Object) -> None:
        sets = self._owned(deployment)
        name = template_hash(dig(deployment, "spec.template", {}))
        current = next((one for one in sets if _hash_of(one) == name), None)
        if current is None:
            current = self._new_replicaset(deployment, name, sets)
            sets.append(current)
        old = [one for one in sets if _hash_of(one) != name]
        if not dig(deployment, "spec.paused"):
            self._move(deployment, current, old)
        status = deployment_status(deployment, current, old)

        def change(found: Object) -> None:
            found["status"] = status

        if deployment.get("status") != status:
            name, namespace = name_of(deployment), namespace_of(deployment)
            self._store.mutate("deployments.apps", name, namespace, change, subresource="status")

    def _new_replicaset(self, deployment: Object, name: str, sets: list[Object]) -> Object:
        revisions = [int(dig(one, "metadata.annotations", {}).get(_REVISION, 0)) for one in sets]
        revision = str(max(revisions, default=0) + 1)
        template = clone(deployment["spec"]["template"])
        labels = {**dig(template, "metadata.labels", {}), _HASH_LABEL: name}
        template.setdefault("metadata", {})["labels"] = labels
        selector = clone(deployment["spec"]["selector"])
        selector["matchLabels"] = {**selector.get("matchLabels", {}), _HASH_LABEL: name}

        def note(found: Object) -> None:
            found["metadata"].setdefault("annotations", {})[_REVISION] = revision

        self._store.mutate("deployments.apps", name_of(deployment), namespace_of(deployment), note)
        return self._store.create(
            "replicasets.apps",
            {
                "metadata": {
                    "name": f"{name_of(deployment)}-{name}",
                    "labels": labels,
                    "annotations": {_REVISION: revision},
                    "ownerReferences": [owner_reference(deployment)],
                },
                "spec": {"replicas": 0, "selector": selector, "template": template},
            },
            namespace_of(deployment),
        )

    def _move(self, deployment: Object, current: Object, old: list[Object]) -> None:
        """Scale the new set up and the old ones down, within surge and unavailability."""
        wanted = int(dig(deployment, "spec.replicas", 1))
        if dig(deployment, "spec.strategy.type") == "Recreate":
            for one in old:
                self._scale(deployment, one, 0)
            if not any(dig(one, "status.replicas", 0) for one in old):
                self._scale(deployment, current, wanted)
            return
        limits = dig(deployment, "spec.strategy.rollingUpdate", {})
        surge = scale(limits.get("maxSurge", "25%"), wanted, round_up=True)
        unavailable = scale(limits.get("maxUnavailable", "25%"), wanted, round_up=False)
        if surge == unavailable == 0:
            unavailable = 1
        old_pods = sum(int(dig(one, "spec.replicas", 0)) for one in old)
        room = max(0, wanted + surge - old_pods)
        self._scale(deployment, current, min(wanted, room))
        least = wanted - unavailable
        # By what is asked for, not by what is seen: the sets' statuses lag behind.
        starting = int(dig(current, "spec.replicas", 0)) - _ready(current)
        budget = max(0, old_pods + int(dig(current, "spec.replicas", 0)) - least - starting)
        spare = max(0, sum(map(_ready, [current, *old])) - least)
        for one in old:
            size = int(dig(one, "spec.replicas", 0))
            # Pods that never became ready are nobody's loss.
            unready = min(max(0, size - _ready(one)), budget)
            ready = min(size - unready, spare, budget - unready)
            budget, spare = budget - unready - ready, spare - ready
            self._scale(deployment, one, size - unready - ready)

    def _scale(self, deployment: Object, replicaset: Object, size: int) -> None:
        before = int(dig(replicaset, "spec.replicas", 0))
        if before == size:
            return

        def change(found: Object) -> None:
            found["spec"]["replicas"] = size

        name = name_of(replicaset)
        changed = self._store.mutate("replicasets.apps", name, namespace_of(replicaset), change)
        replicaset["spec"] = changed["spec"]
        self._events.record(
            deployment,
            "ScalingReplicaSet",
            f"Scaled {'up' if size > before else 'down'} replica set {name} "
            f"from {before} to {size}",
        )


def _ready(replicaset: Object) -> int:
    return int(dig(replicaset, "status.readyReplicas", 0))


def _hash_of(replicaset: Object) -> str:
    return str(dig(replicaset, "metadata.labels", {}).get(_HASH_LABEL, ""))


def deployment_status(deployment: Object, current: Object, old: list[Object]) -> Object:
    """The status of a Deployment that has these ReplicaSets."""
    wanted = int(dig(deployment, "spec.replicas", 1))
    updated = int(dig(current, "status.replicas", 0))
    total = updated + sum(int(dig(one, "status.replicas", 0)) for one in old)
    ready = sum(map(_ready, [current, *old]))
    name = name_of(current)
    complete = updated == total == wanted == ready
    counts = {
        "replicas": total,
        "updatedReplicas": updated,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(0, wanted - ready),
    }
    conditions = [
        _condition(deployment, "Available", "MinimumReplicasAvailable",
                   "Deployment has minimum availability.")
        if ready >= wanted
        else _condition(deployment, "Available", "MinimumReplicasUnavailable",
                        "Deployment does not have minimum availability.", holds=False),
        _condition(deployment, "Progressing", "NewReplicaSetAvailable",
                   f'ReplicaSet "{name}" has successfully progressed.')
        if complete
        else _condition(deployment, "Progressing", "ReplicaSetUpdated",
                        f'ReplicaSet "{name}" is progressing.'),
    ]  # fmt: skip
    status: Object = {key: value for key, value in counts.items() if value}
    status["observedGeneration"] = deployment["metadata"].get("generation", 1)
    status["conditions"] = conditions
    return status


def _condition(
    deployment: Object, kind: str, reason: str, message: str, *, holds: bool = True
) -> Object:
    value = "True" if holds else "False"
    for old in dig(deployment, "status.conditions", []):
        if old["type"] == kind and (old["status"], old["reason"]) == (value, reason):
            return {**old, "message": message}
    now = timestamp()
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "lastUpdateTime": now,
        "lastTransitionTime": now,
    }

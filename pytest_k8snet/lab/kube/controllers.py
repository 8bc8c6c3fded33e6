"""kube-controller-manager: workloads, namespaces, garbage, and the aggregated API's condition."""

from __future__ import annotations

import hashlib
import json
import math
import time
from functools import partial
from typing import Any, ClassVar

from pytest_k8snet.lab.api.admission import FOREGROUND
from pytest_k8snet.lab.api.objects import (
    Object,
    clone,
    condition,
    dig,
    name_of,
    namespace_of,
    timestamp,
)
from pytest_k8snet.lab.api.plugins import shown, used
from pytest_k8snet.lab.api.resources import CALICO_V3
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.apiserver.discovery import API_SERVICES, availability
from pytest_k8snet.lab.faults import calico_api_server_is_down, delay_seconds
from pytest_k8snet.lab.kube.scheduler import tolerations, unwelcome
from pytest_k8snet.lab.reconcile import (
    Controller,
    Recorder,
    controlled,
    each_by_itself,
    is_over,
    is_ready,
    living,
    owner_reference,
)

# -- Deployments ---------------------------------------------------------------------------------

_HASH_LABEL = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"
# As Kubernetes' own: no vowels.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class Deployments(Controller):
    """One ReplicaSet for each pod template of a Deployment, rolled from one to the next."""

    watched = ("deployments.apps", "replicasets.apps")

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._events = Recorder(store, "deployment-controller")

    def reconcile(self) -> None:
        """Roll each Deployment a step on."""
        deployments = living(self._store.list("deployments.apps"))
        each_by_itself(partial(self._roll, one) for one in deployments)

    def _roll(self, deployment: Object) -> None:
        sets = controlled(self._store, "replicasets.apps", deployment)
        name = _template_hash(dig(deployment, "spec.template", {}))
        current = next((one for one in sets if _hash_of(one) == name), None)
        if current is None:
            current = self._new_replicaset(deployment, name, sets)
            sets.append(current)
        old = [one for one in sets if _hash_of(one) != name]
        if not dig(deployment, "spec.paused"):
            self._move(deployment, current, old)
        status = _deployment_status(deployment, current, old)
        self._write_status("deployments.apps", deployment, status)

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
                    "annotations": {_REVISION: revision, **_sizes(deployment)},
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
        surge = _surge(deployment, wanted)
        unavailable = _share(limits.get("maxUnavailable", "25%"), wanted, round_up=False)
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
            found["metadata"]["annotations"] |= _sizes(deployment)

        name = name_of(replicaset)
        changed = self._store.mutate("replicasets.apps", name, namespace_of(replicaset), change)
        replicaset["spec"] = changed["spec"]
        self._events.record(
            deployment,
            "ScalingReplicaSet",
            f"Scaled {'up' if size > before else 'down'} replica set {name} "
            f"from {before} to {size}",
        )


def _template_hash(template: Object) -> str:
    """A short name for a pod template: equal templates have equal names."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:10])


def _surge(deployment: Object, wanted: int) -> int:
    if dig(deployment, "spec.strategy.type") == "Recreate":
        return 0
    asked = dig(deployment, "spec.strategy.rollingUpdate.maxSurge", "25%")
    return _share(asked, wanted, round_up=True)


def _sizes(deployment: Object) -> dict[str, str]:
    """What a ReplicaSet tells of its Deployment's size."""
    wanted = int(dig(deployment, "spec.replicas", 1))
    return {
        "deployment.kubernetes.io/desired-replicas": str(wanted),
        "deployment.kubernetes.io/max-replicas": str(wanted + _surge(deployment, wanted)),
    }


def _share(asked: Any, total: int, *, round_up: bool) -> int:
    """``maxSurge`` or ``maxUnavailable``: a number, or a percentage of the replicas."""
    if isinstance(asked, str) and asked.endswith("%"):
        hundredths = int(asked[:-1]) * total
        return -(-hundredths // 100) if round_up else hundredths // 100
    return int(asked)


def _ready(replicaset: Object) -> int:
    return int(dig(replicaset, "status.readyReplicas", 0))


def _hash_of(replicaset: Object) -> str:
    return str(dig(replicaset, "metadata.labels", {}).get(_HASH_LABEL, ""))


def _deployment_status(deployment: Object, current: Object, old: list[Object]) -> Object:
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
    available = (
        ("MinimumReplicasAvailable", "Deployment has minimum availability.")
        if ready >= wanted
        else ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    )
    progress = ("ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
    if complete:
        progress = ("NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.')
    elif not updated:
        progress = ("NewReplicaSetCreated", f'Created new replica set "{name}"')
    conditions = [
        _kept(deployment, condition("Available", ready >= wanted, *available)),
        _kept(deployment, condition("Progressing", True, *progress)),
        *(one for one in dig(current, "status.conditions", []) if one["type"] == "ReplicaFailure"),
    ]
    status: Object = {key: value for key, value in counts.items() if value}
    status["observedGeneration"] = deployment["metadata"].get("generation", 1)
    status["conditions"] = conditions
    return status


def _kept(owner: Object, new: Object) -> Object:
    """A condition with the time of its last change."""
    for old in dig(owner, "status.conditions", []):
        if all(old.get(key) == new.get(key) for key in ("type", "status", "reason")):
            return {**old, "message": new["message"]}
    return {**new, "lastUpdateTime": new["lastTransitionTime"]}


# -- ReplicaSets and DaemonSets ------------------------------------------------------------------


#: How long the first wait is after a pod was refused; each further one is twice as long.
_FIRST_PAUSE_SECONDS = 0.1


class _PodOwners(Controller):
    """What the controllers of pods have in common.

    Args:
        store: the cluster's objects.
        resource: the storage key of the owners.
        component: the controller's name in events.
    """

    def __init__(self, store: Store, resource: str, component: str) -> None:
        super().__init__(store)
        self._resource = resource
        self._events = Recorder(store, component)
        # Of each owner whose pods are refused, by uid: the refusal, when to try again, the pause.
        self._refused: dict[str, tuple[str, float, float]] = {}

    def reconcile(self) -> float | None:
        """See to each owner by itself; soon again to those whose pods were refused."""
        owners = living(self._store.list(self._resource))
        alive = {owner["metadata"]["uid"] for owner in owners}
        self._refused = {uid: one for uid, one in self._refused.items() if uid in alive}
        each_by_itself(partial(self._see_to, owner) for owner in owners)
        again = min((when for _, when, _ in self._refused.values()), default=None)
        return None if again is None else max(0.0, again - time.monotonic())

    def _see_to(self, owner: Object) -> None:
        """Make and delete pods until they are as many as the owner wants; write its status."""
        raise NotImplementedError

    def _pods(self, owner: Object) -> list[Object]:
        return living(controlled(self._store, "pods", owner))

    def _new_pod(self, owner: Object, node: str = "") -> Object | None:
        """Make a pod of the owner's template; None when it is refused, now or a moment ago."""
        template = clone(owner["spec"]["template"])
        given = template.get("metadata") or {}
        # Whatever else the template's metadata say, such as a name, is nobody's.
        meta = {key: given[key] for key in ("labels", "annotations", "finalizers") if key in given}
        meta["generateName"] = f"{name_of(owner)}-"
        meta["ownerReferences"] = [owner_reference(owner)]
        if node:
            template["spec"]["nodeName"] = node
        pod = {"metadata": meta, "spec": template["spec"]}
        uid = owner["metadata"]["uid"]
        _, when, pause = self._refused.get(uid, ("", 0.0, _FIRST_PAUSE_SECONDS))
        if time.monotonic() < when:
            return None
        try:
            created = self._store.create("pods", pod, namespace_of(owner))
        except StatusError as refusal:
            self._refused[uid] = refusal.message, time.monotonic() + pause, pause * 2
            why = f"Error creating: {refusal.message}"
            self._events.record(owner, "FailedCreate", why, kind="Warning")
            return None
        self._refused.pop(uid, None)
        self._events.record(owner, "SuccessfulCreate", f"Created pod: {name_of(created)}")
        return created

    def _delete_pod(self, owner: Object, pod: Object) -> None:
        self._store.delete("pods", name_of(pod), namespace_of(pod))
        self._events.record(owner, "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")


class ReplicaSets(_PodOwners):
    """Keeps each ReplicaSet's pods as many as it wants."""

    watched: ClassVar[tuple[str, ...]] = ("replicasets.apps", "pods")

    def __init__(self, store: Store) -> None:
        super().__init__(store, "replicasets.apps", "replicaset-controller")

    def _see_to(self, owner: Object) -> None:
        """Make what is missing; of too many, delete the unready and then the youngest."""
        active = [pod for pod in self._pods(owner) if not is_over(pod)]
        wanted = int(dig(owner, "spec.replicas", 1))
        for _ in range(wanted - len(active)):
            if pod := self._new_pod(owner):
                active.append(pod)
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
        if refusal := self._refused.get(owner["metadata"]["uid"]):
            failed = condition("ReplicaFailure", True, "FailedCreate", refusal[0])
            status["conditions"] = [_kept(owner, failed)]
        self._write_status(self._resource, owner, status)


class ReplicationControllers(ReplicaSets):
    """The same for what ReplicaSets have taken the place of; its selector is a map of labels."""

    watched = ("replicationcontrollers", "pods")

    def __init__(self, store: Store) -> None:
        _PodOwners.__init__(self, store, "replicationcontrollers", "replication-controller")

    def _pods(self, owner: Object) -> list[Object]:
        spec = {**owner["spec"], "selector": {"matchLabels": owner["spec"]["selector"]}}
        return super()._pods({**owner, "spec": spec})


_DAEMON_TOLERATIONS = [
    {"key": f"node.kubernetes.io/{trouble}", "operator": "Exists", "effect": effect}
    for trouble, effect in (
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("unschedulable", "NoSchedule"),
    )
]


class DaemonSets(_PodOwners):
    """Keeps one pod of each DaemonSet on every node."""

    watched = ("daemonsets.apps", "pods", "nodes")

    def __init__(self, store: Store) -> None:
        super().__init__(store, "daemonsets.apps", "daemonset-controller")

    def _see_to(self, owner: Object) -> None:
        """Make a pod on each node that its template may go to, and that has none."""
        revision = _template_hash(owner["spec"]["template"])
        template = clone(owner["spec"]["template"])
        template.setdefault("metadata", {}).setdefault("labels", {})[_DAEMON_LABEL] = revision
        # What the controller adds, so that nothing keeps its pods from a node in trouble.
        spec = template["spec"]
        spec["tolerations"] = [*(spec.get("tolerations") or []), *_DAEMON_TOLERATIONS]
        nodes = {name_of(one) for one in self._store.list("nodes") if not unwelcome(template, one)}
        # Where one is still ending, none begins.
        served = {dig(pod, "spec.nodeName") for pod in controlled(self._store, "pods", owner)}
        pods = []
        for pod in self._pods(owner):
            if dig(pod, "spec.nodeName") in nodes:
                pods.append(pod)
            else:
                self._delete_pod(owner, pod)
        if dig(owner, "spec.updateStrategy.type") != "OnDelete":
            pods = self._replace_old(owner, pods, revision, len(nodes))
        owner = {**owner, "spec": {**owner["spec"], "template": template}}
        pods += filter(None, (self._new_pod(owner, node) for node in sorted(nodes - served)))
        ready = sum(map(is_ready, pods))
        status = {
            "currentNumberScheduled": len(pods),
            "desiredNumberScheduled": len(nodes),
            "numberAvailable": ready,
            "numberMisscheduled": 0,
            "numberReady": ready,
            "observedGeneration": owner["metadata"].get("generation", 1),
            "updatedNumberScheduled": sum(_is_of(revision, pod) for pod in pods),
        }
        if ready < len(nodes):
            status["numberUnavailable"] = len(nodes) - ready
        self._write_status(self._resource, owner, status)

    def _replace_old(
        self, owner: Object, pods: list[Object], revision: str, wanted: int
    ) -> list[Object]:
        """Delete pods of an older template, no more of them at once than may be away."""
        most = dig(owner, "spec.updateStrategy.rollingUpdate.maxUnavailable", 1)
        away = wanted - sum(map(is_ready, pods))
        budget = max(1, _share(most, wanted, round_up=True)) - away
        kept = []
        for pod in pods:
            if _is_of(revision, pod) or (is_ready(pod) and budget <= 0):
                kept.append(pod)
                continue
            budget -= is_ready(pod)
            self._delete_pod(owner, pod)
        return kept


_DAEMON_LABEL = "controller-revision-hash"


def _is_of(revision: str, pod: Object) -> bool:
    return bool(dig(pod, "metadata.labels", {}).get(_DAEMON_LABEL) == revision)


# -- Jobs -----------------------------------------------------------------------------------------


class Jobs(_PodOwners):
    """Runs each Job's pods until as many have succeeded as it wants."""

    watched = ("jobs.batch", "pods")

    def __init__(self, store: Store) -> None:
        super().__init__(store, "jobs.batch", "job-controller")

    def _see_to(self, owner: Object) -> None:
        """Make what is missing, and say how far the Job has come."""
        if any(
            one["type"] in ("Complete", "Failed") for one in dig(owner, "status.conditions", [])
        ):
            return
        unplayed = [f"spec.{name}" for name in _UNPLAYED_OF_JOBS if dig(owner, f"spec.{name}")]
        if dig(owner, "spec.completionMode") == "Indexed":
            unplayed.append("spec.completionMode: Indexed")
        if unplayed:
            why = f"the lab does not play {', '.join(unplayed)}: it makes no pods of this Job"
            self._events.record(owner, "NotPlayed", why, kind="Warning")
            return
        spec, pods = owner["spec"], controlled(self._store, "pods", owner)
        succeeded = sum(dig(pod, "status.phase") == "Succeeded" for pod in pods)
        failed = sum(dig(pod, "status.phase") == "Failed" for pod in pods)
        active = [pod for pod in living(pods) if not is_over(pod)]
        wanted = int(spec.get("completions") or 1)
        suspended = bool(spec.get("suspend"))
        too_many = failed > int(spec.get("backoffLimit", 6))
        if too_many or suspended:
            for pod in active:
                self._delete_pod(owner, pod)
            active = []
        elif succeeded < wanted:
            room = min(int(spec.get("parallelism", 1)), wanted - succeeded) - len(active)
            made = (self._new_pod(owner) for _ in range(room))
            active += filter(None, made)
        status: Object = {"startTime": timestamp(), **(owner.get("status") or {})}
        counts = {"active": len(active), "succeeded": succeeded, "failed": failed}
        status |= {**counts, "ready": sum(map(is_ready, active)), "terminating": 0}
        if succeeded >= wanted:
            ends = [
                ("SuccessCriteriaMet", "CompletionsReached"),
                ("Complete", "CompletionsReached"),
            ]
            why = "Reached expected number of succeeded pods"
            status["completionTime"] = timestamp()
            self._events.record(owner, "Completed", "Job completed")
        elif too_many:
            ends = [("FailureTarget", "BackoffLimitExceeded"), ("Failed", "BackoffLimitExceeded")]
            why = "Job has reached the specified backoff limit"
            self._events.record(owner, "BackoffLimitExceeded", why, kind="Warning")
        elif suspended:
            ends, why = [("Suspended", "JobSuspended")], "Job suspended"
        else:
            ends, why = [], ""
        status["conditions"] = [
            _kept(owner, condition(kind, True, reason, why)) for kind, reason in ends
        ]
        self._write_status(self._resource, owner, status)


_UNPLAYED_OF_JOBS = (
    *("activeDeadlineSeconds", "ttlSecondsAfterFinished", "podFailurePolicy", "successPolicy"),
    *("backoffLimitPerIndex", "maxFailedIndexes", "managedBy"),
)


# -- Taints ----------------------------------------------------------------------------------------


class TaintEvictions(Controller):
    """Deletes the pods of a node that do not tolerate what it has been tainted with since."""

    watched = ("nodes", "pods")

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._events = Recorder(store, "taint-eviction-controller")
        # When each pod's time is over, by uid.
        self._ends: dict[str, float] = {}

    def reconcile(self) -> float | None:
        """Delete those whose time is over; returns when the next one's is, in seconds."""
        now, ends = time.monotonic(), dict[str, float]()
        due = []
        for node in self._store.list("nodes"):
            taints = [one for one in dig(node, "spec.taints", []) if one["effect"] == "NoExecute"]
            there = f"spec.nodeName={name_of(node)}"
            for pod in living(self._store.list("pods", fields=there)) if taints else ():
                uid, stays = pod["metadata"]["uid"], min(_stays(pod, one) for one in taints)
                if stays < math.inf:
                    ends[uid] = min(self._ends.get(uid, math.inf), now + stays)
                    due += [pod] if ends[uid] <= now else []
        self._ends = ends
        each_by_itself(partial(self._evict, pod) for pod in due)
        return min((end - now for end in ends.values() if end > now), default=None)

    def _evict(self, pod: Object) -> None:
        name, namespace = name_of(pod), namespace_of(pod)
        told = f"Marking for deletion Pod {namespace}/{name}"
        self._events.record(pod, "TaintManagerEviction", told)
        self._store.delete("pods", name, namespace)


def _stays(pod: Object, taint: Object) -> float:
    """For how many seconds a pod tolerates a taint."""
    found = [one.get("tolerationSeconds", math.inf) for one in tolerations(pod, taint)]
    return max(0.0, min(found)) if found else 0.0


# -- Quotas ----------------------------------------------------------------------------------------


class Quotas(Controller):
    """Says of each ResourceQuota how much of it is used."""

    watched = ("resourcequotas", "pods", "services", "configmaps", "secrets", "deployments.apps")

    def reconcile(self) -> None:
        """Count again."""
        each_by_itself(partial(self._count, one) for one in self._store.list("resourcequotas"))

    def _count(self, quota: Object) -> None:
        found = {name: shown(value) for name, value in used(self._store, quota).items()}
        hard = dig(quota, "spec.hard", {})
        self._write_status("resourcequotas", quota, {"hard": hard, "used": found})


# -- Namespaces and garbage -----------------------------------------------------------------------

# Emptied in this order: what makes pods goes before the pods.
_CONTENTS = (
    "deployments.apps",
    "daemonsets.apps",
    "replicasets.apps",
    "replicationcontrollers",
    "jobs.batch",
    "pods",
    "services",
)
_OWNERS = (
    *("deployments.apps", "daemonsets.apps", "replicasets.apps", "replicationcontrollers"),
    *("jobs.batch", "services", "pods"),
)
_OWNED = (
    "replicasets.apps",
    "pods",
    "services",
    "endpointslices.discovery.k8s.io",
    "configmaps",
)


class Namespaces(Controller):
    """Gives each namespace its service account, and empties those that are to go.

    While the server of an API group cannot be asked what a namespace holds of it, none goes.
    """

    watched = ("namespaces", "pods", "configmaps")

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        #: Since when namespaces that are to go are empty, by uid.
        self._empty_since: dict[str, float] = {}

    def reconcile(self) -> float | None:
        """See to each namespace by itself; returns when to look again, in seconds."""
        each_by_itself(partial(self._care, one) for one in self._store.list("namespaces"))
        delay = delay_seconds(self._store, "namespace-end-delay")
        waits = [since + delay - time.monotonic() for since in self._empty_since.values()]
        return min((wait for wait in waits if wait > 0), default=None)

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
        name, everything = name_of(namespace), self._store.registry.namespaced_keys()
        contents = [*_CONTENTS, *(key for key in everything if key not in _CONTENTS)]
        for resource in contents:
            for obj in self._store.list(resource, name):
                if not dig(obj, "metadata.deletionTimestamp"):
                    self._store.delete(resource, name_of(obj), name)
        if any(self._store.list(resource, name) for resource in contents):
            # The pods are still ending; the last one's end brings us back.
            return
        uid = namespace["metadata"]["uid"]
        since = self._empty_since.setdefault(uid, time.monotonic())
        if time.monotonic() - since < delay_seconds(self._store, "namespace-end-delay"):
            return
        if calico_api_server_is_down(self._store):
            self._store.mutate("namespaces", name, None, _say_undiscovered, subresource="status")
            return

        def change(found: Object) -> None:
            found["spec"]["finalizers"] = []

        self._empty_since.pop(uid, None)
        self._store.mutate("namespaces", name, None, change, subresource="finalize")


def _say_undiscovered(namespace: Object) -> None:
    why = "the server is currently unable to handle the request"
    said = condition(
        "NamespaceDeletionDiscoveryFailure",
        True,
        "DiscoveryFailed",
        "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of "
        f"server APIs: {CALICO_V3}/v3: {why}",
    )
    namespace.setdefault("status", {}).setdefault("conditions", [said])


class GarbageCollector(Controller):
    """Deletes what is owned by nothing that still exists."""

    watched = _OWNERS

    def reconcile(self) -> None:
        """Delete what has lost its last owner, and what an owner waits for that is to go."""
        each_by_itself(
            partial(self._foreground, key, obj)
            for key in _OWNERS
            for obj in self._store.list(key)
            if FOREGROUND in dig(obj, "metadata.finalizers", [])
        )
        alive = {obj["metadata"]["uid"] for key in _OWNERS for obj in self._store.list(key)}
        each_by_itself(
            partial(self._store.delete, resource, name_of(obj), namespace_of(obj))
            for resource in _OWNED
            for obj in living(self._store.list(resource))
            if _is_orphaned(obj, alive)
        )

    def _foreground(self, resource: str, owner: Object) -> None:
        """Delete an owner's dependents, and let it go once there are none."""
        dependents = [
            (key, obj)
            for key in _OWNED
            for obj in self._store.list(key, namespace_of(owner))
            if any(
                entry.get("uid") == owner["metadata"]["uid"]
                for entry in dig(obj, "metadata.ownerReferences", [])
            )
        ]
        for key, obj in dependents:
            if not dig(obj, "metadata.deletionTimestamp"):
                # What it owns in turn goes first, too.
                how = "Foreground" if key in _OWNERS and key != "pods" else None
                self._store.delete(key, name_of(obj), namespace_of(obj), propagation=how)
        if not dependents:

            def let_go(found: Object) -> None:
                found["metadata"]["finalizers"].remove(FOREGROUND)

            self._store.mutate(resource, name_of(owner), namespace_of(owner), let_go)


_OWNER_KINDS = {
    "Job",
    "ReplicationController",
    "Deployment",
    "DaemonSet",
    "ReplicaSet",
    "Service",
    "Pod",
}


def _is_orphaned(obj: Object, alive: set[str]) -> bool:
    """Whether it had owners, all of whom have gone."""
    owners = dig(obj, "metadata.ownerReferences", [])
    # Owners of kinds that are not looked at here are taken to be alive.
    known = [owner for owner in owners if owner.get("kind") in _OWNER_KINDS]
    if not known or len(known) < len(owners):
        return False
    return not any(owner.get("uid") in alive for owner in known)


# -- The aggregated API ---------------------------------------------------------------------------


class Aggregation(Controller):
    """Keeps the condition of the Calico API server's APIService; there is one in shape B only."""

    watched = ("configmaps",)

    def reconcile(self) -> None:
        """Say whether the group's server answers now."""
        condition = availability(CALICO_V3, down=calico_api_server_is_down(self._store))

        def change(service: Object) -> None:
            (before,) = service["status"]["conditions"]
            if before["status"] != condition["status"]:
                service["status"]["conditions"] = [condition]

        self._store.mutate(API_SERVICES, f"v3.{CALICO_V3}", None, change)

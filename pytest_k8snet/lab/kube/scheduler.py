"""The scheduler: which node a pod can go to, or why none, in kube-scheduler's own words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

from pytest_k8snet.lab.api.objects import Object, condition, dig, name_of
from pytest_k8snet.lab.api.request import match_labels
from pytest_k8snet.lab.api.store import Store, put_condition
from pytest_k8snet.lab.api.verbs import assign_node
from pytest_k8snet.lab.reconcile import Controller, Recorder, each_by_itself, is_over, living


class Scheduler(Controller):
    """Binds pods to nodes."""

    watched = ("pods", "nodes")

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._events = Recorder(store, "default-scheduler")

    def reconcile(self) -> None:
        """Find a node for each pod that has none."""
        waiting = self._store.list("pods", fields="spec.nodeName=,status.phase=Pending")
        if not waiting:
            return
        nodes = self._store.list("nodes")
        placed: dict[str, list[Object]] = {name_of(node): [] for node in nodes}
        for pod in self._store.list("pods", fields="spec.nodeName!="):
            if not is_over(pod):
                placed.setdefault(dig(pod, "spec.nodeName"), []).append(pod)
        each_by_itself(partial(self._schedule, pod, nodes, placed) for pod in living(waiting))

    def _schedule(
        self, pod: Object, nodes: Sequence[Object], placed: dict[str, list[Object]]
    ) -> None:
        obstacles = {name_of(node): obstacle(pod, node, placed[name_of(node)]) for node in nodes}
        possible = [name for name, reason in obstacles.items() if not reason]
        if not possible:
            self._refuse(pod, unschedulable_text(obstacles.values()))
            return
        labels = dig(pod, "metadata.labels", {})

        def crowding(name: str) -> tuple[int, int]:
            alike = [
                one for one in placed[name] if labels and dig(one, "metadata.labels", {}) == labels
            ]
            return len(alike), len(placed[name])

        chosen = min(possible, key=crowding)
        self._bind(pod, chosen)
        placed[chosen].append(pod)

    def _bind(self, pod: Object, node: str) -> None:
        meta = pod["metadata"]
        assign_node(self._store, meta["namespace"], meta["name"], node)
        where = f"{meta['namespace']}/{meta['name']}"
        self._events.record(pod, "Scheduled", f"Successfully assigned {where} to {node}")

    def _refuse(self, pod: Object, text: str) -> None:
        told = [one.get("message") for one in dig(pod, "status.conditions", [])]
        if text not in told:
            said = condition("PodScheduled", False, "Unschedulable", text)
            put_condition(self._store, "pods", pod, said)
            self._events.record(pod, "FailedScheduling", text, kind="Warning")


# -- What keeps a pod from a node -----------------------------------------------------------------

_UNSCHEDULABLE_TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def obstacle(pod: Object, node: Object, pods_there: Sequence[Object]) -> str:
    """Why the pod cannot go to the node, or nothing.

    Args:
        pod: the pod to place.
        node: the node.
        pods_there: the pods that the node has already.
    """
    if dig(node, "spec.unschedulable") and not _tolerates(pod, _UNSCHEDULABLE_TAINT):
        return "node(s) were unschedulable"
    for taint in dig(node, "spec.taints", []):
        if taint["effect"] != "PreferNoSchedule" and not _tolerates(pod, taint):
            text = f"{taint['key']}: {taint.get('value', '')}"
            return f"node(s) had untolerated taint {{{text}}}"
    if not _matches_labels(pod, node):
        return "node(s) didn't match Pod's node affinity/selector"
    return _shortage(pod, node, pods_there)


def _tolerates(pod: Object, taint: Object) -> bool:
    for toleration in dig(pod, "spec.tolerations", []):
        effect, key = toleration.get("effect"), toleration.get("key")
        if effect and effect != taint["effect"]:
            continue
        if not key and toleration.get("operator") == "Exists":
            return True
        if key != taint["key"]:
            continue
        if toleration.get("operator") == "Exists":
            return True
        if (toleration.get("value") or "") == (taint.get("value") or ""):
            return True
    return False


def _matches_labels(pod: Object, node: Object) -> bool:
    labels = dig(node, "metadata.labels", {})
    wanted = dig(pod, "spec.nodeSelector", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    required = dig(pod, "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    fields = {"metadata.name": name_of(node)}
    return any(
        match_labels({"matchExpressions": term.get("matchExpressions")}, labels)
        and match_labels({"matchExpressions": term.get("matchFields")}, fields)
        for term in required.get("nodeSelectorTerms") or []
    )


def _shortage(pod: Object, node: Object, pods_there: Sequence[Object]) -> str:
    room = dig(node, "status.allocatable", {})
    if len(pods_there) + 1 > int(room.get("pods", 110)):
        return "Too many pods"
    for resource in ("cpu", "memory"):
        asked = _requested(pod, resource)
        taken = sum(_requested(other, resource) for other in pods_there)
        if asked and asked + taken > parse_quantity(room.get(resource, "0")):
            return f"Insufficient {resource}"
    return ""


def _requested(pod: Object, resource: str) -> float:
    asked = [
        parse_quantity(dig(container, "resources.requests", {}).get(resource, "0"))
        for container in dig(pod, "spec.containers", [])
    ]
    return sum(asked)


def unschedulable_text(obstacles: Iterable[str]) -> str:
    """kube-scheduler's sentence about the obstacles on all nodes."""
    counted = Counter(obstacles)
    total = sum(counted.values())
    if total == 0:
        return "no nodes available to schedule pods"
    reasons = ", ".join(sorted(f"{count} {reason}" for reason, count in counted.items()))
    return (
        f"0/{total} nodes are available: {reasons}. preemption: 0/{total} nodes are available: "
        f"{total} Preemption is not helpful for scheduling."
    )


_SUFFIXES = {
    "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip


def parse_quantity(text: object) -> float:
    """The number; ValueError when it is none."""
    word = str(text).strip()
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if word.endswith(suffix):
            return float(word.removesuffix(suffix)) * _SUFFIXES[suffix]
    return float(word)

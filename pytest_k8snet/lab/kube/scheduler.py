"""The scheduler: which node a pod can go to, or why none, in kube-scheduler's own words.

It plays node selectors and affinity, taints, requests, host ports, affinity and anti-affinity
between pods, and topology spread, each as a condition and (where it is only preferred) as a score.
Nothing is preempted. Pods with scheduling gates, or of another scheduler, are left alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from pytest_k8snet.lab.api.objects import Object, condition, dig, name_of, namespace_of
from pytest_k8snet.lab.api.request import match_labels
from pytest_k8snet.lab.api.store import Store, put_condition
from pytest_k8snet.lab.apiserver.verbs import assign_node
from pytest_k8snet.lab.reconcile import Controller, Recorder, each_by_itself, is_over, living

NAME = "default-scheduler"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


class Scheduler(Controller):
    """Binds pods to nodes."""

    watched = ("pods", "nodes")
    manager = "kube-scheduler"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._events = Recorder(store, NAME)

    def reconcile(self) -> None:
        """Find a node for each pod that has none."""
        waiting = self._store.list("pods", fields="spec.nodeName=,status.phase=Pending")
        if not waiting:
            return
        namespaces = self._store.list("namespaces")
        cluster = Cluster(
            nodes={name_of(node): node for node in self._store.list("nodes")},
            namespaces={name_of(one): dig(one, "metadata.labels", {}) for one in namespaces},
        )
        for pod in self._store.list("pods", fields="spec.nodeName!="):
            if not is_over(pod):
                cluster.place(pod)
        each_by_itself(partial(self._schedule, pod, cluster) for pod in living(waiting))

    def _schedule(self, pod: Object, cluster: Cluster) -> None:
        if dig(pod, "spec.schedulerName", NAME) != NAME:
            return
        if dig(pod, "spec.schedulingGates"):
            why = "Scheduling is blocked due to non-empty scheduling gates"
            self._refuse(pod, "SchedulingGated", why)
            return
        obstacles = {name: obstacle(pod, name, cluster) for name in cluster.nodes}
        possible = [name for name, reason in obstacles.items() if not reason]
        if not possible:
            self._refuse(pod, "Unschedulable", unschedulable_text(obstacles.values()))
            return
        chosen = min(possible, key=lambda name: _dislike(pod, name, cluster))
        self._bind(pod, chosen)
        pod["spec"]["nodeName"] = chosen
        cluster.place(pod)

    def _bind(self, pod: Object, node: str) -> None:
        meta = pod["metadata"]
        assign_node(self._store, meta["namespace"], meta["name"], node)
        where = f"{meta['namespace']}/{meta['name']}"
        told = f"Successfully assigned {where} to {node}"
        self._events.record(pod, "Scheduled", told, action="Binding")

    def _refuse(self, pod: Object, reason: str, text: str) -> None:
        told = [one.get("message") for one in dig(pod, "status.conditions", [])]
        if text not in told:
            said = condition("PodScheduled", False, reason, text)
            put_condition(self._store, "pods", pod, said)
            self._events.record(pod, "FailedScheduling", text, kind="Warning", action="Scheduling")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What the scheduler decides by.

    Attributes:
        nodes: by name.
        namespaces: their labels, by name.
    """

    nodes: Mapping[str, Object]
    namespaces: Mapping[str, Mapping[str, str]]
    _placed: dict[str, list[Object]] = field(default_factory=lambda: defaultdict(list))

    def place(self, pod: Object) -> None:
        """Take note of a pod that is on a node and not over."""
        self._placed[pod["spec"]["nodeName"]].append(pod)

    def pods_on(self, node: str) -> list[Object]:
        """The pods of one node."""
        return self._placed[node]

    @property
    def pods(self) -> Iterator[Object]:
        """The pods of all nodes."""
        return chain.from_iterable(self._placed.values())

    def domain(self, node: str, key: str) -> str | None:
        """The value of a topology key on a node; None where it has none."""
        found: str | None = dig(self.nodes.get(node, {}), "metadata.labels", {}).get(key)
        return found


# -- What keeps a pod from a node ----------------------------------------------------------------

_UNSCHEDULABLE_TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def obstacle(pod: Object, name: str, cluster: Cluster) -> str:
    """Why the pod cannot go to the node of this name, or nothing; the first of kube-scheduler's."""
    node, there = cluster.nodes[name], cluster.pods_on(name)
    if reason := unwelcome(pod, node):
        return reason
    if any(_host_ports(pod) & _host_ports(other) for other in there):
        return "node(s) didn't have free ports for the requested pod ports"
    return (
        _shortage(pod, node, there)
        or _uneven_spread(pod, name, cluster)
        or _unsociable(pod, name, cluster)
    )


def unwelcome(pod: Object, node: Object) -> str:
    """Why a node takes no pod like this, whatever else is on it: taints and affinity to nodes."""
    if dig(node, "spec.unschedulable") and not _tolerates(pod, _UNSCHEDULABLE_TAINT):
        return "node(s) were unschedulable"
    for taint in dig(node, "spec.taints", []):
        if taint["effect"] != "PreferNoSchedule" and not _tolerates(pod, taint):
            text = f"{taint['key']}: {taint.get('value', '')}"
            return f"node(s) had untolerated taint {{{text}}}"
    if not _matches_labels(pod, node):
        return "node(s) didn't match Pod's node affinity/selector"
    return ""


def _tolerates(pod: Object, taint: Object) -> bool:
    return any(tolerations(pod, taint))


def tolerations(pod: Object, taint: Object) -> Iterator[Object]:
    """Those of a pod's tolerations that are of a taint."""
    for toleration in dig(pod, "spec.tolerations", []):
        effect, key = toleration.get("effect"), toleration.get("key")
        exists = toleration.get("operator") == "Exists"
        same_value = exists or (toleration.get("value") or "") == (taint.get("value") or "")
        is_of_key = (key == taint["key"] and same_value) or (not key and exists)
        if is_of_key and effect in (None, "", taint["effect"]):
            yield toleration


def _matches_labels(pod: Object, node: Object) -> bool:
    labels = dig(node, "metadata.labels", {})
    wanted = dig(pod, "spec.nodeSelector", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    required = dig(pod, f"spec.affinity.nodeAffinity.{_REQUIRED}")
    if not required:
        return True
    return any(_selects(term, node) for term in required.get("nodeSelectorTerms") or [])


def _selects(term: Object, node: Object) -> bool:
    """Whether a NodeSelectorTerm chooses a node."""
    labels, fields = dig(node, "metadata.labels", {}), {"metadata.name": name_of(node)}
    return match_labels({"matchExpressions": term.get("matchExpressions")}, labels) and (
        match_labels({"matchExpressions": term.get("matchFields")}, fields)
    )


def _host_ports(pod: Object) -> set[tuple[int, str]]:
    return {
        (int(port["hostPort"]), port.get("protocol", "TCP"))
        for container in dig(pod, "spec.containers", [])
        for port in container.get("ports") or []
        if port.get("hostPort")
    }


def _shortage(pod: Object, node: Object, pods_there: Sequence[Object]) -> str:
    room = dig(node, "status.allocatable", {})
    if len(pods_there) + 1 > int(room.get("pods", 110)):
        return "Too many pods"
    for resource, asked in _requests(pod).items():
        taken = sum(_requests(other).get(resource, 0) for other in pods_there)
        if asked and asked + taken > parse_quantity(room.get(resource, "0")):
            return f"Insufficient {resource}"
    return ""


def _requests(pod: Object) -> dict[str, float]:
    """What the containers ask for together, or an init container alone if that is more."""
    found: dict[str, float] = defaultdict(float)
    for container in dig(pod, "spec.containers", []):
        for resource, quantity in dig(container, "resources.requests", {}).items():
            found[resource] += parse_quantity(quantity)
    for container in dig(pod, "spec.initContainers", []):
        for resource, quantity in dig(container, "resources.requests", {}).items():
            found[resource] = max(found[resource], parse_quantity(quantity))
    return found


# -- Topology spread -----------------------------------------------------------------------------


def _uneven_spread(pod: Object, node: str, cluster: Cluster) -> str:
    problem = "node(s) didn't match pod topology spread constraints"
    for constraint in dig(pod, "spec.topologySpreadConstraints", []):
        if constraint.get("whenUnsatisfiable", "DoNotSchedule") != "DoNotSchedule":
            continue
        domain = cluster.domain(node, constraint["topologyKey"])
        if domain is None:
            return f"{problem} (missing required label)"
        counts = _spread(pod, constraint, cluster)
        least = min(counts.values(), default=0)
        if len(counts) < int(constraint.get("minDomains") or 1):
            least = 0
        own = match_labels(constraint.get("labelSelector"), dig(pod, "metadata.labels", {}))
        if counts[domain] + own - least > int(constraint["maxSkew"]):
            return problem
    return ""


def _spread(pod: Object, constraint: Object, cluster: Cluster) -> Counter[str]:
    """How many of the pods that a constraint counts are in each domain that the pod may go to."""
    key, selector = constraint["topologyKey"], dict(constraint.get("labelSelector") or {})
    labels = dig(pod, "metadata.labels", {})
    same = {name: labels[name] for name in constraint.get("matchLabelKeys") or [] if name in labels}
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), **same}
    everywhere = constraint.get("nodeAffinityPolicy") == "Ignore"
    tolerated = constraint.get("nodeTaintsPolicy") != "Honor"
    counts: Counter[str] = Counter()
    for name, node in cluster.nodes.items():
        domain = cluster.domain(name, key)
        taints = dig(node, "spec.taints", [])
        allowed = tolerated or all(_tolerates(pod, taint) for taint in taints)
        if domain is not None and allowed and (everywhere or _matches_labels(pod, node)):
            counts[domain] += sum(
                namespace_of(other) == namespace_of(pod)
                and not dig(other, "metadata.deletionTimestamp")
                and match_labels(selector, dig(other, "metadata.labels", {}))
                for other in cluster.pods_on(name)
            )
    return counts


# -- Affinity between pods -----------------------------------------------------------------------


def _unsociable(pod: Object, node: str, cluster: Cluster) -> str:
    """Why the pods that are there, or are not there, keep the pod from a node."""
    for other in cluster.pods:
        for term in _terms(other, "podAntiAffinity"):
            near = _same_domain(term, node, other["spec"]["nodeName"], cluster)
            if near and _concerns(term, other, pod, cluster):
                return "node(s) didn't satisfy existing pods anti-affinity rules"
    terms = _terms(pod, "podAffinity")
    if terms and not all(_company(term, pod, node, cluster) for term in terms):
        # The first of a group that wants to be together may go anywhere that has the keys.
        alone = not any(
            all(_concerns(term, pod, other, cluster) for term in terms) for other in cluster.pods
        )
        first = alone and all(_concerns(term, pod, pod, cluster) for term in terms)
        if not first or any(cluster.domain(node, term["topologyKey"]) is None for term in terms):
            return "node(s) didn't match pod affinity rules"
    if any(_company(term, pod, node, cluster) for term in _terms(pod, "podAntiAffinity")):
        return "node(s) didn't match pod anti-affinity rules"
    return ""


def _terms(pod: Object, kind: str) -> list[Object]:
    found: list[Object] = dig(pod, f"spec.affinity.{kind}.{_REQUIRED}", [])
    return found


def _company(term: Object, pod: Object, node: str, cluster: Cluster) -> int:
    """How many pods that a term of the pod speaks of are in the node's domain."""
    return sum(
        _same_domain(term, node, other["spec"]["nodeName"], cluster)
        and _concerns(term, pod, other, cluster)
        for other in cluster.pods
    )


def _same_domain(term: Object, node: str, other: str, cluster: Cluster) -> bool:
    domain = cluster.domain(node, term["topologyKey"])
    return domain is not None and domain == cluster.domain(other, term["topologyKey"])


def _concerns(term: Object, owner: Object, other: Object, cluster: Cluster) -> bool:
    """Whether a PodAffinityTerm of one pod speaks of another."""
    named, selector = term.get("namespaces") or [], term.get("namespaceSelector")
    if not named and selector is None:
        named = [namespace_of(owner)]
    labels = cluster.namespaces.get(namespace_of(other), {})
    if namespace_of(other) not in named and not match_labels(selector, labels):
        return False
    own, theirs = (dig(one, "metadata.labels", {}) for one in (owner, other))
    same = all(own.get(key) == theirs.get(key) for key in term.get("matchLabelKeys") or [])
    differs = all(own.get(key) != theirs.get(key) for key in term.get("mismatchLabelKeys") or [])
    return same and differs and match_labels(term.get("labelSelector"), theirs)


# -- What makes one node better than another -----------------------------------------------------


def _dislike(pod: Object, node: str, cluster: Cluster) -> tuple[int, int, int]:
    """The less the better: what is preferred, then pods that are alike, then pods."""
    there, labels = cluster.pods_on(node), dig(pod, "metadata.labels", {})
    alike = [one for one in there if labels and dig(one, "metadata.labels", {}) == labels]
    return -sum(_preferences(pod, node, cluster)), len(alike), len(there)


def _preferences(pod: Object, node: str, cluster: Cluster) -> Iterator[int]:
    for term in dig(pod, f"spec.affinity.nodeAffinity.{_PREFERRED}", []):
        yield int(term["weight"]) * _selects(term.get("preference") or {}, cluster.nodes[node])
    for kind, sign in (("podAffinity", 1), ("podAntiAffinity", -1)):
        for term in dig(pod, f"spec.affinity.{kind}.{_PREFERRED}", []):
            yield sign * int(term["weight"]) * _company(term["podAffinityTerm"], pod, node, cluster)
    for constraint in dig(pod, "spec.topologySpreadConstraints", []):
        if constraint.get("whenUnsatisfiable") == "ScheduleAnyway":
            domain = cluster.domain(node, constraint["topologyKey"])
            counts = _spread(pod, constraint, cluster)
            yield -100 * (max(counts.values(), default=0) if domain is None else counts[domain])
    for taint in dig(cluster.nodes[node], "spec.taints", []):
        if taint["effect"] == "PreferNoSchedule" and not _tolerates(pod, taint):
            yield -100


# -- The scheduler's words, and quantities -------------------------------------------------------


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

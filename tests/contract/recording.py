"""Recorded requests, sent again: what a real cluster answered, and what this one does.

``tests/data/kubernetes/README.md`` says of which cluster the recordings are. Names, versions and
times of that cluster are put in place of this one's, and what is different on every cluster by its
nature is left out on both sides: all that is in :func:`comparable`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cluster import CLUSTER_WIDE, POOLS, Answer, Cluster, Object
from .scenes import SCENES, Scene, between

DATA = Path(__file__).parents[1] / "data" / "kubernetes"

#: Answers that tell what a cluster has: only their form is the contract's.
FORM_ONLY = {
    "list with limit",
    "watch with initial events and bookmark",
    "events of one object by name alone",
    "version",
    "pods as a table",
    "group of the aggregated API: list of its versions",
    "get",
    "discovery",
    "quota: a deployment whose pods are refused: its events",
    "events of all of them",
    "v1 Endpoints",
}
#: Not asked: recorded, but of that one cluster, with the reason.
NOT_ASKED = {
    "componentstatuses": "names a server of the control plane",
    "aggregated v3 pool": "needs the aggregated API server and its rights",
    "custom resource": "writes a pool; the watch of pools and their defaults are asked elsewhere",
}


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request of a recording with its answer.

    Attributes:
        name: what it asks, unique in the recording.
    """

    name: str
    what: str
    request: Object
    response: Object

    @property
    def user(self) -> str:
        return str(self.request["user"])

    @property
    def form_only(self) -> bool:
        """Whether the answer tells what this cluster has, or who asks it."""
        about_admin = (self.what, self.user) == ("SelfSubjectReview", "admin")
        return self.what in FORM_ONLY or about_admin


def recording(stem: str) -> list[Exchange]:
    """The exchanges of one file, in their order."""
    found: list[Exchange] = []
    for entry in json.loads((DATA / f"{stem}.json").read_text()):
        what, user = entry["what"], entry["request"]["user"]
        name = what if user == "admin" else f"{what}, {user}"
        protocols = entry["request"].get("subprotocols")
        name = f"{name}, {protocols[0][:2]}" if protocols else name
        same = sum(1 for other in found if other.name.partition(" #")[0] == name)
        name = f"{name} #{same + 1}" if same else name
        found.append(Exchange(name=name, what=what, **_without(entry, "what")))
    return found


def _without(obj: Object, *keys: str) -> Object:
    return {key: value for key, value in obj.items() if key not in keys}


class Play:
    """One recording, sent to a cluster as a whole before the first of its answers is looked at.

    Attributes:
        answers: by the name of the exchange; None where the cluster was not asked, with ``skipped``
            saying why.
    """

    def __init__(self, cluster: Cluster, stem: str) -> None:
        self.cluster = cluster
        self.answers: dict[str, Any] = {}
        self.skipped: dict[str, str] = {}
        self._known: dict[str, str] = {}
        names = {f"node{index + 1}": name for index, name in enumerate(_three(cluster.nodes))}
        self.scene = Scene(cluster, f"{cluster.prefix}-{stem}", names, self._known)
        reason = SCENES[stem](self.scene)
        for exchange in recording(stem):
            why = reason or self._why_not(exchange)
            if why:
                self.skipped[exchange.name] = why
                continue
            between(self.scene, stem, exchange.what)
            self.answers[exchange.name] = self._send(exchange)

    def _why_not(self, exchange: Exchange) -> str:
        if exchange.what in NOT_ASKED:
            return NOT_ASKED[exchange.what]
        if exchange.user == "measure" and CLUSTER_WIDE not in self.cluster.may:
            return "needs cluster roles, which the suite may not make here"
        path = exchange.request.get("path", "")
        if "ippools" in path and exchange.user == "admin" and POOLS not in self.cluster.may:
            return "the suite may not write pools here"
        return self.scene.absent.get(exchange.what, "")

    def expected(self, exchange: Exchange) -> Object:
        """The recorded answer, with this cluster's names in it."""
        return dict(self._here(exchange.response))

    def _here(self, value: Any) -> Any:
        return json.loads(self.scene.here(json.dumps(value)))

    def _send(self, exchange: Exchange) -> Any:
        request = self._here(exchange.request)
        if "websocket" in request:
            return self.scene.converse(request)
        headers = {"Content-Type": request.get("content-type", "application/json")}
        answer = self.cluster.send(
            request["method"],
            request["path"],
            request.get("body"),
            user=exchange.user,
            headers={**headers, **request.get("headers", {})},
        )
        self._learn(exchange.response.get("body"), answer.body)
        return answer

    def _learn(self, recorded: Any, found: Any) -> None:
        """Remember what this cluster calls what the recorded one called otherwise."""
        for key in ("resourceVersion", "uid"):
            before, now = (_metadata(value).get(key) for value in (recorded, found))
            if before and now:
                self._known[str(before)] = str(now)


def _three(nodes: list[str]) -> list[str]:
    return (nodes * 3)[:3]


def _metadata(value: Any) -> Object:
    found = value.get("metadata") if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def told(answer: Answer, *, form: bool) -> Object:
    """What an answer tells, to be compared with :func:`recorded`."""
    return {
        "status": answer.status,
        "content type": answer.content_type,
        "warnings": [_text(warning) for warning in answer.warnings],
        "retry after": answer.retry_after,
        "body": comparable(answer.body) if not form else shape(answer.body),
    }


def recorded(response: Object, *, form: bool) -> Object:
    """What a recorded answer tells."""
    headers = response.get("headers", {})
    return told(
        Answer(
            status=response["status"],
            body=response["body"],
            content_type=headers.get("Content-Type", [""])[0],
            warnings=headers.get("Warning", []),
            retry_after=headers.get("Retry-After", [""])[0],
        ),
        form=form,
    )


# -- What is the same on every cluster -------------------------------------------------------------

#: Fields that say when, where and in which order something was made.
_OF_ITS_OWN = {
    "uid", "resourceVersion", "managedFields", "continue", "remainingItemCount", "nodeName",
    "clusterIP", "clusterIPs", "extra", "annotations",
}  # fmt: skip
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_MASKS = (
    # The whole object, quoted with its managedFields.
    (re.compile(r'patch: Invalid value: "\{.*\}"'), "patch: Invalid value: OBJECT"),
    (re.compile(r'^Invalid value: "\{.*\}"'), "Invalid value: OBJECT"),
    # The difference between two structures of Go, of which the lab has none.
    (re.compile(r"\n@@.*", re.DOTALL), ""),
    # A controller of some clusters puts one there.
    (re.compile(r"used: count/configmaps=\d+"), "used: count/configmaps"),
    (re.compile(r"scheme\.go:\d+"), "scheme.go"),
    (re.compile(r"(too old resource version: \d+) \(\d+\)"), r"\1"),
    (re.compile(r"current: \d+"), "current"),
    (re.compile(r'start exec "[0-9a-f]+"'), "start exec"),
    (re.compile(r"/dev/pts/\d+"), "/dev/pts/N"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "UID"),
    (re.compile(r"\b(d|dep|web)-[0-9a-z]{8,10}(-[0-9a-z]{5})?\b"), r"\1-HASH"),
    # How far it has come depends on how fast a registry says no.
    (re.compile(r"is waiting to start: .*"), "is waiting to start"),
    (_TIME, "TIME"),
)  # fmt: skip


def _text(text: str) -> str:
    for pattern, put in _MASKS:
        text = pattern.sub(put, text)
    # What is wrong with limits comes in the order in which Go happens to walk a map.
    head, forbidden, listed = text.partition(" is forbidden: [")
    return head + forbidden + ", ".join(sorted(listed.strip("]").split(", ")))


def comparable(value: Any) -> Any:
    """A body without what is of one cluster's own."""
    if isinstance(value, list):
        # A pod that is ending may have gone by now: how soon, a busy machine decides.
        found = [comparable(item) for item in value if not _is_ending_pod(item)]
        # Rules come in the order in which a cache happens to have the bindings.
        of_rules = any(isinstance(item, dict) and "verbs" in item for item in found)
        return sorted(found, key=json.dumps) if of_rules else found
    if isinstance(value, str):
        return _text(value)
    if not isinstance(value, dict):
        return value
    kept = {
        key: comparable(item)
        for key, item in value.items()
        if key not in _OF_ITS_OWN
        and not (key == "status" and _is_reported(value))
        and not (key == "generation" and value.get("name") == "default-ipv4-ippool")
    }
    # The token of a pod's account: a volume of a generated name. The lab's pods have none.
    for field in ("volumes", "volumeMounts"):
        others = [one for one in kept.get(field, ()) if "kube-api-access" not in one["name"]]
        if field in kept:
            kept[field] = others
            if not others:
                del kept[field]
    return kept


def managers(body: Any) -> Any:
    """Who manages which fields of an object, each with or without a time."""
    found = _metadata(body).get("managedFields", [])
    return [one | {"time": "TIME"} if "time" in one else one for one in found]


def _is_ending_pod(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and "deletionTimestamp" in _metadata(item)
        and "containers" in item.get("spec", ())
    )


def _is_reported(obj: Object) -> bool:
    """Whether the status of an object is what nodes and controllers say, at some moment."""
    meta = _metadata(obj)
    workload = obj.get("kind") in (None, "Pod", "Deployment", "CustomResourceDefinition")
    status = obj.get("status")
    # Items of lists have no kind.
    words = {"conditions", *(() if "kind" in obj else ("qosClass",))}
    later = "deletionTimestamp" in meta or (isinstance(status, dict) and words & set(status))
    return bool(meta) and workload and bool(later)


def shape(value: Any) -> Any:
    """Which fields a body has, without what is in them."""
    if isinstance(value, list):
        return sorted({json.dumps(shape(item)) for item in value})
    if not isinstance(value, dict):
        return type(value).__name__
    kinds = {key: value[key] for key in ("kind", "apiVersion", "type") if key in value}
    optional = ("continue", "remainingItemCount", "annotations", "labels", "managedFields")
    return kinds | {
        "fields": sorted(key for key in value if key not in optional),
        "metadata": sorted(key for key in _metadata(value) if key not in optional),
    }


def unequal(found: Any, wanted: Any, at: str = "") -> Iterator[str]:
    """Where two values differ, one line for each place."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted({*found, *wanted}):
            if key not in found:
                yield f"{at}.{key}: missing, recorded is {wanted[key]!r}"
            elif key not in wanted:
                yield f"{at}.{key}: {found[key]!r}, not recorded"
            else:
                yield from unequal(found[key], wanted[key], f"{at}.{key}")
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for index, (one, other) in enumerate(zip(found, wanted, strict=True)):
            yield from unequal(one, other, f"{at}[{index}]")
    elif found != wanted:
        yield f"{at}: {found!r}\n    recorded: {wanted!r}"

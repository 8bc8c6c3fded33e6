"""Event objects: what ``kubectl describe`` and ``kubectl get events`` show."""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import Literal

from pytest_k8snet.lab.api.objects import Object, name_of, namespace_of, timestamp
from pytest_k8snet.lab.api.store import StatusError, Store

#: How many events of one component are kept; a real cluster forgets them by age, after an hour.
KEPT_EVENTS = 500

_numbers = itertools.count(time.time_ns())


class Recorder:
    """Writes the events of one component; the same event again only counts up.

    Args:
        store: where the events go.
        component: ``kubelet``, ``default-scheduler``, ...
        host: the node the component runs on, if it belongs to one.
    """

    def __init__(self, store: Store, component: str, host: str = "") -> None:
        self._store = store
        self._source = {"component": component} | ({"host": host} if host else {})
        # Namespace and name of each, the one that was told last at the end.
        self._known: dict[tuple[str, ...], tuple[str, str]] = {}

    def record(
        self,
        about: Object,
        reason: str,
        message: str,
        *,
        kind: Literal["Normal", "Warning"] = "Normal",
        container: str = "",
    ) -> None:
        """Say that something happened to an object.

        Args:
            about: the object.
            reason: one CamelCase word: ``Started``.
            message: the sentence for people.
            kind: ``Warning`` for trouble.
            container: the name of the container it concerns, if any.
        """
        meta = about["metadata"]
        key = (meta["uid"], container, reason, message)
        namespace = namespace_of(about) or "default"
        known = self._known.pop(key, None)
        # Its namespace is going away, or somebody deleted the event: nobody will miss it.
        with contextlib.suppress(StatusError):
            if known is not None:
                self._store.mutate("events", known[1], namespace, _again)
            else:
                known = namespace, f"{name_of(about)}.{next(_numbers):x}"
                event = self._event(about, reason, message, kind, container)
                event["metadata"] = {"name": known[1], "namespace": namespace}
                self._store.create("events", event, namespace)
            self._known[key] = known
        if len(self._known) > KEPT_EVENTS:
            namespace, name = self._known.pop(next(iter(self._known)))
            with contextlib.suppress(StatusError):
                self._store.delete("events", name, namespace)

    def _event(self, about: Object, reason: str, message: str, kind: str, container: str) -> Object:
        meta = about["metadata"]
        involved = {
            "kind": about["kind"],
            "namespace": meta.get("namespace", ""),
            "name": meta["name"],
            "uid": meta["uid"],
            "apiVersion": about["apiVersion"],
            "resourceVersion": meta["resourceVersion"],
        }
        if container:
            involved["fieldPath"] = f"spec.containers{{{container}}}"
        now = timestamp()
        return {
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "source": self._source,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": kind,
            "eventTime": None,
            "reportingComponent": self._source["component"],
            "reportingInstance": self._source.get("host", ""),
        }


def _again(event: Object) -> None:
    event["count"] = int(event.get("count") or 1) + 1
    event["lastTimestamp"] = timestamp()

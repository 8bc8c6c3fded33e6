"""How every controller here works: something changed, so look at all of it and put it right."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.api.objects import Object, dig, name_of, namespace_of, timestamp
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.store import Store


def log(line: str) -> None:
    """Write one line, now."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def explain(exc: Exception) -> str:
    """What was wrong, in one text: each error of a group, and the kind of what nobody foresaw."""
    if isinstance(exc, ExceptionGroup):
        return "; ".join(explain(one) for one in exc.exceptions)
    if isinstance(exc, LabError | StatusError):
        return str(exc)
    return repr(exc)


# -- How every controller here works: something changed, so look at all of it and put it right


_RETRY_SECONDS = 1.0


async def reconcile_on_change(
    store: Store, resources: Iterable[str], reconcile: Callable[[], Awaitable[None] | None]
) -> None:
    """Call ``reconcile`` now and after every change of these resources, for ever.

    Changes that come together, or while it works, cause one call. One that fails is told in the
    lab's log and comes again after a pause, or with the next change: no object may end the lab.
    """
    changed = asyncio.Event()

    async def follow(resource: str) -> None:
        async for _ in store.watch(resource):
            changed.set()

    told = ""
    async with asyncio.TaskGroup() as followers:
        for resource in resources:
            followers.create_task(follow(resource))
        while True:
            # Let those who are in the middle of several writes finish them.
            await asyncio.sleep(0)
            changed.clear()
            trouble = ""
            try:
                done = reconcile()
                if inspect.isawaitable(done):
                    await done
            except Exception as exc:
                trouble = explain(exc)
            # Once, however long it lasts: the log would hold nothing else.
            if trouble and trouble != told:
                log(f"{reconcile.__qualname__}: {trouble}")
            told = trouble
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_SECONDS if trouble else None):
                    await changed.wait()


def each_by_itself(steps: Iterable[Callable[[], object]]) -> None:
    """Take every step, whatever becomes of the others: one bad object must not hold up the rest.

    Raises:
        ExceptionGroup: what went wrong, after the last step.
    """
    troubles = []
    for step in steps:
        try:
            step()
        except Exception as exc:
            troubles.append(exc)
    if troubles:
        raise ExceptionGroup("not everything could be put right", troubles)


# -- Owners, selectors and readiness: what several controllers ask of an object. Pure -------------


def owner_reference(owner: Object) -> Object:
    """The entry of ``ownerReferences`` that makes ``owner`` the controller of an object."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def is_owned_by(obj: Object, owner: Object) -> bool:
    """Whether ``owner`` is among the object's owners."""
    uid = owner["metadata"]["uid"]
    return any(entry.get("uid") == uid for entry in dig(obj, "metadata.ownerReferences", []))


def selector_text(selector: Object) -> str:
    """A LabelSelector as the text of a query."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for entry in selector.get("matchExpressions") or []:
        key, values = entry["key"], ",".join(entry.get("values") or [])
        operator = entry["operator"]
        if operator in ("In", "NotIn"):
            parts.append(f"{key} {operator.lower()} ({values})")
        else:
            parts.append(key if operator == "Exists" else f"!{key}")
    return ",".join(parts)


def is_ready(pod: Object) -> bool:
    """Whether the pod's Ready condition holds."""
    return any(
        entry["type"] == "Ready" and entry["status"] == "True"
        for entry in dig(pod, "status.conditions", [])
    )


def living(objects: Iterable[Object]) -> list[Object]:
    """Those that are not marked for deletion."""
    return [obj for obj in objects if not dig(obj, "metadata.deletionTimestamp")]


def is_over(pod: Object) -> bool:
    """Whether all containers of the pod have ended for good."""
    return dig(pod, "status.phase") in ("Succeeded", "Failed")


# -- Event objects: what ``kubectl describe`` and ``kubectl get events`` show ---------------------

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

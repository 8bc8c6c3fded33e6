"""How every controller here works: something changed, so look at all of it and put it right."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import ClassVar, Literal

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.api.fieldmanager import ACTING
from pytest_k8snet.lab.api.objects import Object, dig, name_of, namespace_of, timestamp
from pytest_k8snet.lab.api.request import match_labels
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.store import Store

_RETRY_SECONDS = 1.0


class Controller:
    """Puts one thing right whenever something that it depends on changes.

    Changes that come together, or while it works, cause one look at everything. One that fails is
    told in the lab's log and comes again after a pause, or with the next change: no object may end
    the lab.

    Args:
        store: the cluster's objects.
    """

    #: The resources whose changes matter, by storage key.
    watched: ClassVar[tuple[str, ...]]
    #: What it is called by those who read who has set which field.
    manager: ClassVar[str] = "kube-controller-manager"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Reconcile now and after every change, for ever."""
        ACTING.set(self.manager)
        told = ""
        async with asyncio.TaskGroup() as followers:
            for resource in self.watched:
                followers.create_task(self._follow(resource))
            while True:
                # Let those who are in the middle of several writes finish them.
                await asyncio.sleep(0)
                self._changed.clear()
                trouble = ""
                try:
                    again_seconds = self.reconcile()
                    if inspect.isawaitable(again_seconds):
                        again_seconds = await again_seconds
                except Exception as exc:
                    trouble, again_seconds = explain(exc), _RETRY_SECONDS
                # Once, however long it lasts: the log would hold nothing else.
                if trouble and trouble != told:
                    log(f"{self.reconcile.__qualname__}: {trouble}")
                told = trouble
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(again_seconds):
                        await self._changed.wait()

    async def _follow(self, resource: str) -> None:
        async for _ in self._store.watch(resource):
            self._changed.set()

    def reconcile(self) -> Awaitable[float | None] | float | None:
        """Look at everything and put it right.

        Returns:
            After how many seconds to look again though nothing has changed; None for never.
        """
        raise NotImplementedError

    def _write_status(self, resource: str, obj: Object, status: Object) -> None:
        """Write an object's status where it differs."""

        def change(found: Object) -> None:
            found["status"] = status

        if obj.get("status") != status:
            name, namespace = name_of(obj), namespace_of(obj) or None
            self._store.mutate(resource, name, namespace, change, subresource="status")


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


# -- The log ---------------------------------------------------------------------------------------


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


# -- Owners and readiness --------------------------------------------------------------------------


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


def controlled(store: Store, resource: str, owner: Object) -> list[Object]:
    """The objects of a resource that are an owner's: by reference, and by its selector."""
    selector, uid = dig(owner, "spec.selector"), owner["metadata"]["uid"]
    return [
        obj
        for obj in store.list(resource, namespace_of(owner))
        if match_labels(selector, dig(obj, "metadata.labels", {}))
        and any(entry.get("uid") == uid for entry in dig(obj, "metadata.ownerReferences", []))
    ]


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


# -- Event objects: what ``kubectl describe`` and ``kubectl get events`` show ----------------------

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
        action: str = "",
    ) -> None:
        """Say that something happened to an object.

        Args:
            about: the object.
            reason: one CamelCase word: ``Started``.
            message: the sentence for people.
            kind: ``Warning`` for trouble.
            container: the name of the container it concerns, if any.
            action: what was done, where the component writes events of ``events.k8s.io``.
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
                if action:
                    event |= {"action": action, "source": {}, "eventTime": timestamp(micro=True)}
                    event["reportingInstance"] = f"{event['reportingComponent']}-k8snet-lab"
                    event |= {"firstTimestamp": None, "lastTimestamp": None}
                    del event["count"]
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
    if event.get("action"):
        count = int(dig(event, "series.count", 1)) + 1
        event["series"] = {"count": count, "lastObservedTime": timestamp(micro=True)}
        return
    event["count"] = int(event.get("count") or 1) + 1
    event["lastTimestamp"] = timestamp()

"""The objects of the cluster: in memory, versioned, validated, watched.

One event loop, no locks: every method but :meth:`Store.watch` is synchronous and atomic. What is
handed out is a copy; what is handed in is copied. Resources are named by their storage key
(``pods``, ``ippools.crd.projectcalico.org``), or by a :class:`Resource` for another group's view.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from pytest_k8snet.lab.api import definitions, request, status
from pytest_k8snet.lab.api import patch as patches
from pytest_k8snet.lab.api.admission import (
    Admission,
    marked,
    prepare_create,
    prepare_delete,
    prepare_update,
    unchanged,
)
from pytest_k8snet.lab.api.objects import Object, clone, dig, metadata, name_of, namespace_of
from pytest_k8snet.lab.api.resources import Registry, Resource
from pytest_k8snet.lab.spec import CalicoSpec

EventType = Literal["ADDED", "MODIFIED", "DELETED"]

Key = tuple[str, str]


class Store:
    """All objects of one lab.

    Args:
        calico: which Calico is played: decides what exists and how strictly pools are checked.

    Attributes:
        registry: the resources there are.
        admission: hooks by storage key, called as ``hook(new, old)`` with ``old`` None on creation,
            after the defaults and before validation; they change ``new`` in place or raise
            StatusError.
        validation: hooks that are called after validation, and only refuse.
    """

    def __init__(self, *, calico: CalicoSpec | None = None) -> None:
        self.calico = calico or CalicoSpec()
        self.registry = Registry(self.calico)
        self.admission: dict[str, list[Admission]] = defaultdict(list)
        self.validation: dict[str, list[Admission]] = defaultdict(list)
        self._objects: dict[str, dict[Key, Object]] = defaultdict(dict)
        self._history: dict[str, History] = defaultdict(History)
        self._version = 1

    @property
    def version(self) -> int:
        """The resourceVersion of the latest change."""
        return self._version

    def resource(self, resource: str | Resource) -> Resource:
        """The registry's row for a storage key (a row is returned as it is).

        Raises:
            StatusError: 404, there is no such resource.
        """
        if isinstance(resource, Resource):
            return resource
        try:
            return self.registry.stored(resource)
        except KeyError:
            raise status.no_such_resource() from None

    def get(self, resource: str | Resource, name: str, namespace: str | None = None) -> Object:
        """One object.

        Raises:
            StatusError: 404.
        """
        row = self.resource(resource)
        return self._seen_as(row, self._existing(row, name, namespace))

    def has(self, resource: str | Resource, name: str, namespace: str | None = None) -> bool:
        """Whether there is such an object."""
        row = self.resource(resource)
        return self._key(row, name, namespace) in self._objects[row.key]

    def list(
        self,
        resource: str | Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
    ) -> list[Object]:
        """The objects that the selectors choose, ordered by namespace and name.

        No namespace (None or "") means all of them.
        """
        return [*self.page(resource, namespace, labels=labels, fields=fields)[0]]

    def page(
        self,
        resource: str | Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        after: Key = ("", ""),
        limit: int = 0,
    ) -> tuple[Sequence[Object], int]:
        """A part of the objects that the selectors choose, and how many come after it.

        Args:
            resource: of which kind.
            namespace: None or "" means all of them.
            labels: as a label selector.
            fields: as a field selector.
            after: the namespace and name after which the part begins.
            limit: how many objects at most; 0 means all.
        """
        row = self.resource(resource)
        chosen = request.matcher(row, labels, fields)
        found = [
            obj
            for key, obj in sorted(self._objects[row.key].items())
            if key > after and (not namespace or key[0] == namespace) and chosen(obj)
        ]
        part = found[:limit] if limit > 0 else found
        return [self._seen_as(row, obj) for obj in part], len(found) - len(part)

    def create(
        self,
        resource: str | Resource,
        body: Object,
        namespace: str | None = None,
        *,
        dry_run: bool = False,
        applied: bool = False,
    ) -> Object:
        """Store a new object: named, defaulted, admitted, validated.

        One that was ``applied`` names its managers itself.

        Raises:
            StatusError: 400, 403, 404 (the namespace), 409 or 422.
        """
        row = self.resource(resource)
        obj = clone(body)
        if row.namespaced:
            metadata(obj).setdefault("namespace", namespace or "default")
            self._check_namespace(row, obj)
        prepare_create(
            row,
            obj,
            hooks=self.admission[row.key],
            calico=self.calico,
            dry_run=dry_run,
            applied=applied,
        )
        for hook in self.validation[row.key]:
            hook(obj, None)
        if self.has(row, name_of(obj), namespace_of(obj)):
            raise status.already_exists(row, name_of(obj))
        return self._put(row, obj, None, dry_run=dry_run)

    def update(
        self,
        resource: str | Resource,
        body: Object,
        namespace: str | None = None,
        *,
        subresource: str = "",
        dry_run: bool = False,
        applied: bool = False,
    ) -> Object:
        """Replace an object; with ``subresource="status"`` only its status.

        A ``metadata.resourceVersion`` in the body must be the current one. An update that changes
        nothing makes no new version and no event. What was ``applied`` names its managers itself.

        Raises:
            StatusError: 404, 409 (stale) or 422.
        """
        row = self.resource(resource)
        new = clone(body)
        old = self._existing(row, name_of(new), namespace or namespace_of(new))
        prepare_update(
            row,
            new,
            old,
            subresource=subresource,
            hooks=self.admission[row.key],
            calico=self.calico,
            applied=applied,
        )
        if not subresource:
            for hook in self.validation[row.key]:
                hook(new, old)
        if unchanged(new, old):
            return self._seen_as(row, old)
        return self._put(row, new, old, dry_run=dry_run)

    def patch(
        self,
        resource: str | Resource,
        name: str,
        patch: Any,
        kind: str,
        namespace: str | None = None,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Change an object by a patch of the kind ``merge``, ``json`` or ``strategic``.

        A JSON patch is a list of operations, the others are dicts.

        Raises:
            StatusError: 400 (the patch itself), 404, 409, 415 or 422.
        """
        row = self.resource(resource)
        old = self._existing(row, name, namespace)
        new = patches.apply(row, self._seen_as(row, old), patch, kind)
        return self.update(row, new, namespace, subresource=subresource, dry_run=dry_run)

    def mutate(
        self,
        resource: str | Resource,
        name: str,
        namespace: str | None,
        change: Callable[[Object], None],
        *,
        subresource: str = "",
    ) -> Object:
        """Read, change in place, write: cannot conflict, since nothing runs in between."""
        obj = self.get(resource, name, namespace)
        change(obj)
        return self.update(resource, obj, namespace, subresource=subresource)

    def delete(
        self,
        resource: str | Resource,
        name: str,
        namespace: str | None = None,
        *,
        grace_seconds: int | None = None,
        propagation: str | None = None,
        preconditions: Object | None = None,
        dry_run: bool = False,
    ) -> Object:
        """Delete an object, or mark it for deletion, and return its last state.

        - A pod on a node is marked with ``deletionTimestamp`` for its grace period; the kubelet
          removes it with ``grace_seconds=0``. Without a node, or with no grace at all, it is
          removed at once, so a kubelet must also act on DELETED.
        - A namespace becomes Terminating until its ``spec.finalizers`` are emptied
          (``subresource="finalize"``).
        - Finalizers keep any object until an update has removed them.
        - ``propagation="Orphan"`` takes the object out of its dependents' ownerReferences;
          ``Foreground`` keeps it until the garbage collector has deleted them.

        Raises:
            StatusError: 404, or 409 when a precondition does not hold.
        """
        row = self.resource(resource)
        old = self._existing(row, name, namespace)
        new = prepare_delete(
            row,
            old,
            grace_seconds=grace_seconds,
            preconditions=preconditions,
            foreground=propagation == "Foreground",
        )
        if new is None and row.key == "pods":
            old = marked(row, old, 0)
        if dry_run:
            return self._seen_as(row, new or old)
        if propagation == "Orphan":
            self._orphan_dependents(str(dig(old, "metadata.uid")))
        if new is None:
            return self._remove(row, old)
        if unchanged(new, old):
            return self._seen_as(row, old)
        return self._put(row, new, old)

    async def watch(self, resource: str | Resource) -> AsyncIterator[tuple[EventType, Object]]:
        """Every object as ADDED, then every change, for ever; for controllers."""
        row = self.resource(resource)
        with self._history[row.key].subscription() as queue:
            for obj in self.list(row):
                yield "ADDED", obj
            while True:
                event = await queue.get()
                yield event.type, self._seen_as(row, event.object)

    def forget(self) -> None:
        """Forget all events: who watches from a version before now is too late."""
        for key in self.registry.stored_keys():
            self._history[key].forget(self._version)

    def history(self, resource: str | Resource) -> History:
        """The events of a resource, for the watch of the HTTP server."""
        return self._history[self.resource(resource).key]

    @staticmethod
    def _seen_as(row: Resource, obj: Object) -> Object:
        seen: Object = {**clone(obj), "apiVersion": row.api_version}
        if row.aggregated:
            # Calico's own API server keeps neither.
            for key in ("generation", "managedFields"):
                seen["metadata"].pop(key, None)
        return seen

    @staticmethod
    def _key(row: Resource, name: str, namespace: str | None) -> Key:
        return ((namespace or "default") if row.namespaced else "", name)

    def _existing(self, row: Resource, name: str, namespace: str | None) -> Object:
        try:
            return self._objects[row.key][self._key(row, name, namespace)]
        except KeyError:
            raise status.not_found(row, name) from None

    def _check_namespace(self, row: Resource, obj: Object) -> None:
        spaces = self.registry.stored("namespaces")
        namespace = namespace_of(obj)
        if dig(self._existing(spaces, namespace, None), "metadata.deletionTimestamp"):
            raise status.forbidden(
                row,
                name_of(obj),
                f"unable to create new content in namespace {namespace}"
                " because it is being terminated",
                causes=[
                    {
                        "reason": "NamespaceTerminating",
                        "message": f"namespace {namespace} is being terminated",
                        "field": "metadata.namespace",
                    }
                ],
            )

    def _put(
        self, row: Resource, new: Object, old: Object | None, *, dry_run: bool = False
    ) -> Object:
        if dry_run:
            return self._seen_as(row, new)
        if _is_finished(row, new):
            return self._remove(row, new, previous=old)
        new["apiVersion"] = self.registry.stored(row.key).api_version
        if row.key == definitions.CRDS:
            self.registry.define(definitions.key_of(new), definitions.resources(new))
        self._objects[row.key][self._key(row, name_of(new), namespace_of(new))] = new
        self._record(row, "MODIFIED" if old else "ADDED", new, old)
        return self._seen_as(row, new)

    def _remove(self, row: Resource, obj: Object, *, previous: Object | None = None) -> Object:
        del self._objects[row.key][self._key(row, name_of(obj), namespace_of(obj))]
        if row.key == definitions.CRDS:
            gone = definitions.key_of(obj)
            for one in self.list(gone) if gone in self.registry.stored_keys() else ():
                self._remove(self.resource(gone), one)
            self.registry.undefine(gone)
        # A copy: watchers may still hold the snapshot of the last state, with its own version.
        gone = clone(obj)
        self._record(row, "DELETED", gone, previous or obj)
        return self._seen_as(row, gone)

    def _record(self, row: Resource, kind: EventType, obj: Object, old: Object | None) -> None:
        self._version += 1
        metadata(obj)["resourceVersion"] = str(self._version)
        event = Event(type=kind, version=self._version, object=obj, previous=old)
        self._history[row.key].append(event)

    def _orphan_dependents(self, uid: str) -> None:
        for key, objects in list(self._objects.items()):
            for obj in list(objects.values()):
                owners = dig(obj, "metadata.ownerReferences", [])
                if any(owner.get("uid") == uid for owner in owners):
                    changed = clone(obj)
                    kept = [owner for owner in owners if owner.get("uid") != uid]
                    changed["metadata"]["ownerReferences"] = kept
                    self._put(self.registry.stored(key), changed, obj)


def _is_finished(row: Resource, obj: Object) -> bool:
    """Whether the last finalizer of an object marked for deletion has just gone."""
    meta = obj["metadata"]
    if "deletionTimestamp" not in meta or meta.get("finalizers"):
        return False
    if row.key == "namespaces":
        return not dig(obj, "spec.finalizers", [])
    return not meta.get("deletionGracePeriodSeconds")


def put_condition(store: Store, resource: str, obj: Object, condition: Object) -> None:
    """Write a condition of an object's status, in place of the one of its type."""

    def change(found: Object) -> None:
        conditions = dig(found, "status.conditions", [])
        others = [entry for entry in conditions if entry.get("type") != condition["type"]]
        found.setdefault("status", {})["conditions"] = [*others, condition]

    name, namespace = name_of(obj), namespace_of(obj)
    store.mutate(resource, name, namespace, change, subresource="status")


# -- The recent events of each resource ----------------------------------------------------------
#
# Pure bookkeeping on one event loop; the store writes, watches read.

#: How many events of one resource are remembered; a watch from further back gets 410. Each holds an
#: object: they are most of what a lab grows by while it is used, 4 MB for as many of pods.
REMEMBERED_EVENTS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change. The objects are shared snapshots: readers copy before they change anything.

    Attributes:
        type: what happened.
        version: the store's resourceVersion after it.
        object: the object after the change; for DELETED its last state, with the new version.
        previous: the object before the change, None for ADDED.
    """

    type: EventType
    version: int
    object: Object
    previous: Object | None


class History:
    """The recent events of one resource, and the queues of those who watch it."""

    def __init__(self, *, limit: int = REMEMBERED_EVENTS) -> None:
        self._events: deque[Event] = deque(maxlen=limit)
        self._forgotten = 0
        self._queues: set[asyncio.Queue[Event]] = set()

    @property
    def forgotten(self) -> int:
        """The version of the newest event that is no longer remembered; 0 when all are."""
        return self._forgotten

    @property
    def watchers(self) -> int:
        """How many watches wait for events."""
        return len(self._queues)

    def forget(self, version: int) -> None:
        """Forget every event up to a version."""
        self._events.clear()
        self._forgotten = version

    def append(self, event: Event) -> None:
        """Remember one event and hand it to everyone who watches."""
        if len(self._events) == self._events.maxlen:
            self._forgotten = self._events[0].version
        self._events.append(event)
        for queue in self._queues:
            queue.put_nowait(event)

    def still_as_at(self, version: int) -> bool:
        """Whether nothing has happened since a version, as far as is known."""
        return version >= self._forgotten and not self.since(version)

    def since(self, version: int) -> list[Event]:
        """The remembered events after a version, oldest first."""
        return [event for event in self._events if event.version > version]

    @contextmanager
    def subscription(self) -> Iterator[asyncio.Queue[Event]]:
        """A queue that receives every event from now on, until the context ends."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

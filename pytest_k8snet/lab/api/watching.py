"""Watches: a stream of events about the objects that the selectors choose."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass

from aiohttp import web

from pytest_k8snet.lab.api import selectors, status, table
from pytest_k8snet.lab.api.history import Event
from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.api.target import Target, integer, is_true

#: A watch without a time limit of its own ends after this long, as on a real cluster.
DEFAULT_TIMEOUT_SECONDS = 1800
#: How often a watch that allows bookmarks gets one.
BOOKMARK_SECONDS = 60.0


@dataclass(slots=True)
class _Writer:
    """Writes events in the form that the client asked for: objects, tables or metadata."""

    response: web.StreamResponse
    target: Target
    form: str
    include: str

    async def write(self, kind: str, obj: Object, version: int) -> None:
        await self.write_many([(kind, obj, version)])

    async def write_many(self, events: list[tuple[str, Object, int]]) -> None:
        # One write for many events: a watch begins with everything there is.
        lines = (self._line(kind, obj, version) for kind, obj, version in events)
        await self.response.write(b"".join(lines))

    def _line(self, kind: str, obj: Object, version: int) -> bytes:
        seen: Object = {**obj, "apiVersion": self.target.resource.api_version}
        seen["metadata"] = {**obj["metadata"], "resourceVersion": str(version)}
        if self.form == "Table":
            meta = {"resourceVersion": str(version)}
            seen = table.render(self.target.resource, [seen], meta, include=self.include)
        elif self.form:
            seen = table.partial_metadata(seen)
        return _encode(kind, seen)

    async def bookmark(self, version: int, *, initial: bool = False) -> None:
        meta: Object = {"resourceVersion": str(version), "creationTimestamp": None}
        if initial:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        resource = self.target.resource
        bookmark: Object = {
            "kind": resource.kind,
            "apiVersion": resource.api_version,
            "metadata": meta,
        }
        if self.form == "Table":
            bookmark = {
                "kind": "Table",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": meta,
                "columnDefinitions": [],
                "rows": [],
            }
        await self.response.write(_encode("BOOKMARK", bookmark))


def _encode(kind: str, obj: Object) -> bytes:
    return json.dumps({"type": kind, "object": obj}, separators=(",", ":")).encode() + b"\n"


async def watch(request: web.Request, store: Store, target: Target) -> web.StreamResponse:
    """Stream events until the time is over or the client goes.

    Without a resourceVersion, what exists comes first as ADDED. A version that is no longer
    remembered gives an ERROR event with Status 410, as Kubernetes' watch cache does.

    Raises:
        StatusError: 400, a parameter cannot be understood.
    """
    query = request.query
    labels = query.get("labelSelector", "")
    fields = query.get("fieldSelector", "")
    if target.name:
        fields = ",".join(filter(None, [fields, f"metadata.name={target.name}"]))
    chosen = selectors.matcher(target.resource.key, labels, fields)
    since = integer(query, "resourceVersion") or 0
    limit = integer(query, "timeoutSeconds") or DEFAULT_TIMEOUT_SECONDS
    bookmarks = is_true(query.get("allowWatchBookmarks"))
    initial = is_true(query.get("sendInitialEvents")) or not since

    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    form = table.form(request.headers.get("Accept", ""))
    writer = _Writer(response, target, form, query.get("includeObject", "Metadata"))
    history = store.history(target.resource)
    with history.subscription() as queue:
        # The snapshot and the subscription belong to one instant: nothing is missed or doubled.
        version = store.version
        present = (
            store.list(target.resource, target.namespace, labels=labels, fields=fields)
            if initial
            else []
        )
        missed = [] if initial else history.since(since)
        await response.prepare(request)
        if not initial and since < history.forgotten:
            gone = status.expired(f"too old resource version: {since} ({history.forgotten + 1})")
            await response.write(_encode("ERROR", gone.to_dict()))
            return response
        if present:
            await writer.write_many(
                [("ADDED", obj, int(obj["metadata"]["resourceVersion"])) for obj in present]
            )
        if is_true(query.get("sendInitialEvents")) and bookmarks:
            await writer.bookmark(version, initial=True)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit
        next_bookmark = loop.time() + BOOKMARK_SECONDS
        pending = iter(missed)
        while True:
            event = next(pending, None)
            if event is None:
                until = min(deadline, next_bookmark) if bookmarks else deadline
                try:
                    event = await asyncio.wait_for(queue.get(), until - loop.time())
                except TimeoutError:
                    if bookmarks:
                        await writer.bookmark(version)
                    if loop.time() >= deadline:
                        return response
                    next_bookmark = loop.time() + BOOKMARK_SECONDS
                    continue
            version = event.version
            for kind, obj in _visible(event, target.namespace, chosen):
                await writer.write(kind, obj, event.version)


def _visible(
    event: Event, namespace: str, chosen: selectors.Matcher
) -> Iterator[tuple[str, Object]]:
    """The event as a watch with selectors sees it: objects come into view and go out of it."""
    meta = event.object["metadata"]
    if namespace and meta.get("namespace") != namespace:
        return
    now = chosen(event.object) and event.type != "DELETED"
    before = event.previous is not None and chosen(event.previous)
    if now:
        yield ("MODIFIED" if before else "ADDED"), event.object
    elif before:
        yield "DELETED", event.object

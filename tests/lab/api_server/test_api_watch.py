"""Watches over HTTP: what comes, in which order, and how they end."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .local_server import TOKEN, ApiServer

MAPS = "/api/v1/namespaces/default/configmaps"

Line = dict[str, Any]


@contextmanager
def watching(
    api: ApiServer, path: str, headers: dict[str, str] | None = None, **query: str
) -> Iterator[Iterator[Line]]:
    """The lines of a watch, as they come."""
    connection = http.client.HTTPSConnection(
        "127.0.0.1", api.port, timeout=20, context=api.client_tls()
    )
    parameters = "".join(f"&{name}={value}" for name, value in query.items())
    sent = {"Authorization": f"Bearer {TOKEN}", **(headers or {})}
    try:
        connection.request("GET", f"{path}?watch=true{parameters}", headers=sent)
        response = connection.getresponse()
        assert response.status == 200
        yield (json.loads(line) for line in iter(response.readline, b""))
        response.close()
    finally:
        connection.close()


def seen(line: Line) -> tuple[str, str]:
    return line["type"], line["object"]["metadata"]["name"]


def put(api: ApiServer, name: str, **metadata: Any) -> None:
    body = {"metadata": {"name": name, **metadata}}

    def write() -> None:
        if api.store.has("configmaps", name, "default"):
            api.store.patch("configmaps", name, body, "merge", "default")
        else:
            api.store.create("configmaps", body, "default")

    api.on_loop(write)


def remove(api: ApiServer, name: str) -> None:
    api.on_loop(lambda: api.store.delete("configmaps", name, "default"))


def test_without_a_version_what_exists_comes_first(api: ApiServer) -> None:
    put(api, "old")
    with watching(api, MAPS) as lines:
        assert seen(next(lines)) == ("ADDED", "old")
        put(api, "new")
        assert seen(next(lines)) == ("ADDED", "new")
        put(api, "new", labels={"a": "b"})
        changed = next(lines)
        assert seen(changed) == ("MODIFIED", "new")
        remove(api, "new")
        gone = next(lines)
        assert seen(gone) == ("DELETED", "new")
    versions = [int(line["object"]["metadata"]["resourceVersion"]) for line in (changed, gone)]
    assert versions[0] < versions[1]


def test_from_a_version_on_only_what_is_newer_comes(api: ApiServer) -> None:
    put(api, "old")
    version = api.request("GET", MAPS).json["metadata"]["resourceVersion"]
    put(api, "between")
    with watching(api, MAPS, resourceVersion=version) as lines:
        assert seen(next(lines)) == ("ADDED", "between")
        put(api, "new")
        assert seen(next(lines)) == ("ADDED", "new")


def test_a_bookmark_says_how_far_a_watch_has_come(api: ApiServer) -> None:
    with watching(api, MAPS, timeoutSeconds="1", allowWatchBookmarks="true") as lines:
        bookmark = next(lines)
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["kind"] == "ConfigMap"
    assert bookmark["object"]["metadata"]["resourceVersion"] == str(api.store.version)


def test_initial_events_end_with_a_bookmark(api: ApiServer) -> None:
    put(api, "old")
    with watching(
        api,
        MAPS,
        sendInitialEvents="true",
        allowWatchBookmarks="true",
        resourceVersionMatch="NotOlderThan",
    ) as lines:
        assert seen(next(lines)) == ("ADDED", "old")
        bookmark = next(lines)
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_objects_come_into_the_view_of_a_selector_and_go_out_of_it(api: ApiServer) -> None:
    put(api, "a")
    with watching(api, MAPS, labelSelector="run%3Dx") as lines:
        put(api, "a", labels={"run": "x"})
        assert seen(next(lines)) == ("ADDED", "a")
        put(api, "a", annotations={"note": "1"})
        assert seen(next(lines)) == ("MODIFIED", "a")
        put(api, "a", labels={"run": "y"})
        assert seen(next(lines)) == ("DELETED", "a")
        put(api, "a", labels={"run": "z"})
        put(api, "b", labels={"run": "x"})
        assert seen(next(lines)) == ("ADDED", "b")


def test_one_object_is_watched_by_its_name(api: ApiServer) -> None:
    put(api, "a")
    put(api, "b")
    with watching(api, MAPS, fieldSelector="metadata.name%3Db") as lines:
        assert seen(next(lines)) == ("ADDED", "b")
        put(api, "a", labels={"x": "y"})
        remove(api, "b")
        assert seen(next(lines)) == ("DELETED", "b")


def test_another_namespace_is_out_of_view(api: ApiServer) -> None:
    with watching(api, MAPS) as lines:
        api.set_faults(nothing="1")
        put(api, "here")
        assert seen(next(lines)) == ("ADDED", "here")


def test_a_watch_of_tables_sends_tables(api: ApiServer) -> None:
    put(api, "a")
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    with watching(api, MAPS, accept) as lines:
        table = next(lines)["object"]
    assert table["kind"] == "Table"
    assert table["rows"][0]["cells"][0] == "a"


def test_a_watch_whose_client_has_gone_is_forgotten(api: ApiServer) -> None:
    with watching(api, MAPS, timeoutSeconds="600") as lines:
        put(api, "a")
        next(lines)
        assert api.on_loop(lambda: api.store.history("configmaps").watchers) == 1
    deadline = time.monotonic() + 10
    while api.on_loop(lambda: api.store.history("configmaps").watchers):
        assert time.monotonic() < deadline
        time.sleep(0.01)

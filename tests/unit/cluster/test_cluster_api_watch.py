"""Following a collection: one list and a watch, and what ends one."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import pytest
from aiohttp import web
from scripted_server import ScriptedServer, status

from pytest_k8snet.cluster.api import Api, follow
from pytest_k8snet.errors import ForbiddenError

pytest_plugins = ["scripted_server_fixtures"]

PODS = "/api/v1/namespaces/x/pods"


def pod(name: str, version: int = 1) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}}


def listed(*names: str, version: str = "7") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": version}, "items": [pod(name) for name in names]}


def events(*pairs: tuple[str, dict[str, Any]]) -> web.Response:
    lines = (json.dumps({"type": kind, "object": item}) for kind, item in pairs)
    return web.Response(text="".join(f"{line}\n" for line in lines))


def names(api: Api, count: int) -> list[str]:
    found = islice(follow(api, PODS, labels="a=b"), count)
    return ["".join(one["metadata"]["name"] for one in items) for items in found]


def watches(server: ScriptedServer) -> list[str]:
    return [
        one.partition("resourceVersion=")[2].partition("&")[0]
        for one in server.seen
        if "watch=true" in one
    ]


def test_changes_are_seen_as_they_come_and_a_watch_goes_on_where_the_last_one_ended(
    server: ScriptedServer, api: Api
) -> None:
    server.on(f"GET {PODS}", listed("a"))
    server.on(
        f"WATCH {PODS}",
        events(("ADDED", pod("b", 8)), ("MODIFIED", pod("a", 9)), ("BOOKMARK", pod("", 11))),
        events(("DELETED", pod("a", 12))),
    )
    # Each change, and once more when a watch has ended: to look at the clock.
    assert names(api, 5) == ["a", "ab", "ab", "ab", "b"]
    assert watches(server) == ["7", "11"]
    assert sum(one.startswith(f"GET {PODS}?labelSelector=a%3Db&limit") for one in server.seen) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        status(410, "Expired", "too old resource version: 7 (12)"),
        status(401, "Unauthorized", "the token has expired"),
        status(503, "ServiceUnavailable", "shutting down"),
        events(("ERROR", {"kind": "Status", "code": 410, "message": "too old"})),
        # A proxy's word in the middle of a stream.
        web.Response(text='{"type": "ADDED", "obj\n<html>gateway timeout</html>'),
    ],
)
def test_a_watch_that_cannot_go_on_begins_anew(
    server: ScriptedServer, api: Api, refusal: web.Response
) -> None:
    server.on(f"GET {PODS}", listed("a"), listed("b", version="20"))
    server.on(f"WATCH {PODS}", refusal, events(("ADDED", pod("c", 21))))
    assert names(api, 3) == ["a", "b", "bc"]
    assert watches(server) == ["7", "20"]


def test_who_may_not_watch_polls_and_is_not_refused_twice(server: ScriptedServer, api: Api) -> None:
    server.on(f"GET {PODS}", listed("a"), listed("b"), listed("c"))
    assert names(api, 3) == ["a", "b", "c"]
    assert len(watches(server)) == 1


def test_who_may_not_list_hears_so(server: ScriptedServer, api: Api) -> None:
    message = 'User "jane" cannot list resource "pods"'
    server.on(f"GET {PODS}", status(403, "Forbidden", message))
    with pytest.raises(ForbiddenError, match="may not list pods"):
        names(api, 1)


@pytest.mark.parametrize("text", ["", "<html>\n", "[]\n"])
def test_a_gateway_that_lets_no_stream_pass_is_polled_with_pauses(
    server: ScriptedServer, api: Api, text: str
) -> None:
    server.on(f"GET {PODS}", listed("a"), listed("b"), listed("c"))
    server.on(f"WATCH {PODS}", web.Response(text=text))
    assert names(api, 3) == ["a", "b", "c"]

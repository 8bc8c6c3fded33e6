"""Events that explain: of this very object, in the order in which they happened."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from scripted_server import ScriptedServer

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.startup import events_of

pytest_plugins = ["scripted_server_fixtures"]


def event(reason: str, **times: Any) -> dict[str, Any]:
    return {"reason": reason, "message": "m", **times}


def test_events_are_asked_for_by_kind_name_and_uid_and_told_in_the_order_of_time(
    server: ScriptedServer, api: Api
) -> None:
    """The API gives them by name: shared/real/vxlan-always/objects/events.json."""
    items = [
        event("last", series={"lastObservedTime": "2026-11-30T07:47:32.500000Z"}, eventTime="x"),
        event("second", eventTime="2026-11-30T07:47:30.720288Z", lastTimestamp=None),
        event("first", lastTimestamp="2026-11-30T07:47:30Z"),
        event("third", metadata={"creationTimestamp": "2026-11-30T07:47:31"}),
        event("of unknown time", eventTime="yesterday"),
    ]
    server.on("GET /api/v1/namespaces/x/events", {"items": items})
    service = {"metadata": {"namespace": "x", "name": "web", "uid": "u-1"}}
    told = [event.reason for event in events_of(api, service, "Service") or ()]
    assert told == ["of unknown time", "first", "second", "third", "last"]
    (seen,) = (unquote(one) for one in server.seen if "/events" in one)
    assert (
        "fieldSelector=involvedObject.kind=Service,involvedObject.name=web,involvedObject.uid=u-1"
    ) in seen

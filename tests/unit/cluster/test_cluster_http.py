"""Requests by path: what is sent, what comes back, what is repeated and what never is."""

from __future__ import annotations

import json
import threading
from urllib.parse import unquote

import pytest
from aiohttp import web
from scripted_server import ScriptedServer, cut_off, status

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.api_errors import ServerBusyError, UnreachableError, object_path
from pytest_k8snet.cluster.http import is_repeatable
from pytest_k8snet.errors import (
    ApiError,
    ConflictError,
    ConnectError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)

pytest_plugins = ["scripted_server_fixtures"]

PODS = "/api/v1/namespaces/x/pods"
BUSY = status(503, "ServiceUnavailable", "the server is starting")


def test_get_returns_the_servers_own_json(server: ScriptedServer, api: Api) -> None:
    server.on(f"GET {PODS}/a", {"metadata": {"name": "a"}, "aFieldOfTomorrow": None})
    assert api.get(f"{PODS}/a") == {"metadata": {"name": "a"}, "aFieldOfTomorrow": None}


def test_each_write_names_its_manager_whatever_the_user_agent_becomes(
    server: ScriptedServer, api: Api
) -> None:
    # A gateway that sets a user agent of its own would else be who has written a pool's mode.
    server.on(f"POST {PODS}", {})
    server.on(f"PATCH {PODS}/a", {})
    server.on(f"PUT {PODS}/a", {})
    api.create(PODS, {"metadata": {"name": "a"}})
    api.patch(f"{PODS}/a", {})
    api.replace(f"{PODS}/a", {})
    assert all("fieldManager=pytest-k8snet" in one for one in server.seen)
    assert len(server.seen) == 3


def test_list_follows_pages_and_passes_selectors(server: ScriptedServer, api: Api) -> None:
    server.on(
        f"GET {PODS}",
        {"metadata": {"continue": "next"}, "items": [{"a": 1}]},
        {"metadata": {}, "items": [{"a": 2}]},
    )
    assert api.list(PODS, labels="k8snet/run=r", fields="spec.nodeName=n") == [{"a": 1}, {"a": 2}]
    first, second = server.seen
    assert "labelSelector=k8snet%2Frun%3Dr&fieldSelector=spec.nodeName%3Dn&limit=500" in first
    assert second.endswith("&continue=next")


def test_a_list_that_expires_between_pages_begins_again(server: ScriptedServer, api: Api) -> None:
    server.on(
        f"GET {PODS}",
        {"metadata": {"continue": "old"}, "items": [{"a": 1}]},
        status(410, "Expired", "too old"),
        {"metadata": {}, "items": [{"a": 3}]},
    )
    assert api.list(PODS) == [{"a": 3}]


@pytest.mark.parametrize("page", [web.json_response({"error": "log in"}), web.json_response([])])
def test_what_holds_no_list_is_not_an_empty_one(
    server: ScriptedServer, api: Api, page: web.Response
) -> None:
    server.on(f"GET {PODS}", page)
    with pytest.raises(ConnectError, match="does not answer like a Kubernetes API server"):
        api.list(PODS)
    server.on(f"GET {PODS}", {"items": None})
    assert api.list(PODS) == []


def test_a_name_is_quoted_once(server: ScriptedServer, api: Api) -> None:
    path = object_path("/apis/rbac.authorization.k8s.io/v1/clusterroles", "system:node")
    server.on(f"GET {unquote(path)}", {"ok": 1})
    assert api.get(path) == {"ok": 1}


def test_a_login_page_that_requests_are_led_to_is_told_as_what_it_is(
    server: ScriptedServer, api: Api
) -> None:
    server.on(f"GET {PODS}", web.Response(status=302, headers={"Location": "https://login.corp/"}))
    with pytest.raises(ConnectError, match="does not answer like a Kubernetes API") as caught:
        api.list(PODS)
    assert caught.value.found == "HTTP 302 Found, to https://login.corp/"
    assert caught.value.remedy.startswith("this looks like a login or portal page")
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        ("merge", "application/merge-patch+json"),
        ("json", "application/json-patch+json"),
        ("strategic", "application/strategic-merge-patch+json"),
    ],
)
def test_each_patch_has_its_content_type(
    server: ScriptedServer, api: Api, kind: str, content_type: str
) -> None:
    server.on(f"PATCH {PODS}/a", {})
    api.patch(f"{PODS}/a", {"a": None}, kind=kind)  # type: ignore[arg-type]
    assert server.headers["content-type"] == content_type
    assert server.bodies[-1] == b'{"a": null}'


def test_delete_says_how_and_takes_a_missing_object_as_done(
    server: ScriptedServer, api: Api
) -> None:
    server.on(f"DELETE {PODS}/a", {})
    api.delete(f"{PODS}/a", grace_seconds=0, propagation="Background")
    options = json.loads(server.bodies[-1])
    assert (options["gracePeriodSeconds"], options["propagationPolicy"]) == (0, "Background")
    api.delete(f"{PODS}/a", resource_version="7")
    assert json.loads(server.bodies[-1])["preconditions"] == {"resourceVersion": "7"}
    server.on(f"DELETE {PODS}/b", status(404, "NotFound", 'pods "b" not found'))
    api.delete(f"{PODS}/b")


def test_can_asks_the_server(server: ScriptedServer, api: Api) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    server.on(f"POST {path}", {"status": {"allowed": True}})
    assert api.can("create", "pods", subresource="exec", namespace="x")
    assert json.loads(server.bodies[-1])["spec"]["resourceAttributes"] == {
        "verb": "create",
        "resource": "pods",
        "subresource": "exec",
        "namespace": "x",
    }


def test_errors_are_told_by_status_and_name_what_was_asked(
    server: ScriptedServer, api: Api
) -> None:
    cases: list[tuple[int, str, str, type[ApiError], str]] = [
        (404, "NotFound", 'pods "a" not found', NotFoundError, 'there is no pods "a" in namespace'),
        (
            404,
            "NotFound",
            "the server could not find the requested resource",
            NotFoundError,
            "the API server does not know pods",
        ),
        (409, "Conflict", "modified", ConflictError, "was changed by someone else"),
        (422, "Invalid", "spec.x: Required value", InvalidError, "refuses to get pods"),
        (400, "BadRequest", "bad", InvalidError, r"\(HTTP 400 Bad Request\)"),
    ]
    for code, reason, message, kind, text in cases:
        server.on(f"GET {PODS}/a", status(code, reason, message))
        with pytest.raises(kind, match=text) as caught:
            api.get(f"{PODS}/a")
        assert (caught.value.status, caught.value.reason) == (code, reason)
        assert caught.value.found == message


@pytest.mark.parametrize(
    ("page", "kind", "problem"),
    [
        ("404 page not found\n", NotFoundError, "the API server does not know pods"),
        ("<html>default backend - 404</html>", ApiError, "something between here and the API"),
    ],
)
def test_a_404_that_names_no_object_does_not_say_that_it_is_gone(
    server: ScriptedServer, api: Api, page: str, kind: type[ApiError], problem: str
) -> None:
    for method, ask in (("GET", api.get), ("DELETE", api.delete)):
        server.on(f"{method} {PODS}/a", web.Response(text=page, status=404))
        with pytest.raises(ApiError, match=problem) as caught:
            ask(f"{PODS}/a")
        assert type(caught.value) is kind


def test_a_missing_permission_names_verb_resource_namespace_and_user(
    server: ScriptedServer, api: Api
) -> None:
    server.on(
        f"POST {PODS}",
        status(
            403,
            "Forbidden",
            'pods is forbidden: User "system:serviceaccount:ci:net" cannot create resource "pods" '
            'in API group "" in the namespace "x"',
        ),
    )
    with pytest.raises(ForbiddenError) as caught:
        api.create(PODS, {"metadata": {"name": "a"}})
    assert caught.value.problem == (
        'user "system:serviceaccount:ci:net" may not create pods in namespace "x"'
    )
    assert "kubectl auth can-i create pods -n x" in caught.value.remedy


@pytest.mark.parametrize("answer", ["<html>403 Forbidden</html>", "RBAC: access denied", ""])
def test_a_gateways_refusal_is_told_from_a_missing_permission(
    server: ScriptedServer, api: Api, answer: str
) -> None:
    server.on("GET /api/v1/nodes", web.Response(status=403, text=answer))
    with pytest.raises(ForbiddenError) as caught:
        api.list("/api/v1/nodes")
    assert caught.value.problem == "something in front of the API server refuses to list nodes"
    assert caught.value.found == (answer or "Forbidden")
    assert "a proxy, gateway or firewall gave it" in caught.value.remedy


def test_anonymous_access_is_told_from_a_missing_permission(
    server: ScriptedServer, api: Api
) -> None:
    message = 'nodes is forbidden: User "system:anonymous" cannot list resource "nodes"'
    server.on("GET /api/v1/nodes", status(403, "Forbidden", message))
    with pytest.raises(ForbiddenError) as caught:
        api.list("/api/v1/nodes")
    assert "arrived without credentials" in caught.value.remedy


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ('violates PodSecurity "restricted:latest": hostNetwork', "the level privileged"),
        ("exceeded quota: small, requested: pods=1, used: pods=2", "ResourceQuota"),
        ('admission webhook "policy" denied the request: no', "owner of the admission policy"),
        ("unable to create new content in namespace x because it is being terminated", "another"),
    ],
)
def test_admission_is_told_from_permission(
    server: ScriptedServer, api: Api, message: str, remedy: str
) -> None:
    server.on(f"POST {PODS}", status(403, "Forbidden", f'pods "a" is forbidden: {message}'))
    with pytest.raises(ForbiddenError, match="admission rules refuse to create pods") as caught:
        api.create(PODS, {"metadata": {"name": "a"}})
    assert message in caught.value.found
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("trouble", [BUSY, status(500, "InternalError", "etcdserver"), cut_off])
def test_reading_is_repeated_until_the_server_answers(
    server: ScriptedServer, api: Api, trouble: web.Response
) -> None:
    server.on(f"GET {PODS}/a", trouble, trouble, {"ok": 1})
    assert api.get(f"{PODS}/a") == {"ok": 1}
    assert len(server.seen) == 3


def test_a_server_that_stays_broken_is_given_up(server: ScriptedServer, api: Api) -> None:
    server.on(f"GET {PODS}/a", status(500, "InternalError", "the disk is full"))
    with pytest.raises(ServerBusyError, match="could not get pods") as caught:
        api.get(f"{PODS}/a")
    assert caught.value.found == "the disk is full"
    assert len(server.seen) == 5


def test_a_server_that_used_up_all_patience_is_asked_once_until_it_answers_again(
    server: ScriptedServer, api: Api
) -> None:
    api._client.patience_seconds = 0.2
    server.on(f"GET {PODS}/a", BUSY)
    with pytest.raises(ServerBusyError) as caught:
        api.get(f"{PODS}/a")
    told = str(caught.value)
    assert "(asked again and again for" in told
    assert len(server.seen) > 1
    server.seen.clear()
    for _ in range(3):
        with pytest.raises(ServerBusyError) as caught:
            api.get(f"{PODS}/a")
        assert str(caught.value) == told
    assert len(server.seen) == 3
    server.on(f"GET {PODS}/a", {"ok": 1}, BUSY, {"ok": 2})
    assert [api.get(f"{PODS}/a"), api.get(f"{PODS}/a")] == [{"ok": 1}, {"ok": 2}]


def test_a_group_whose_server_is_cut_off_costs_its_patience_once_and_others_none(
    server: ScriptedServer, api: Api
) -> None:
    api._client.patience_seconds = 0.2
    pool, other = "/apis/projectcalico.org/v3/ippools/p", "/apis/crd.projectcalico.org/v1/ippools/p"
    cut = web.Response(status=503, text="service unavailable\n")
    server.on(f"GET {pool}", cut)
    server.on(f"GET {other}", {"ok": 1})
    with pytest.raises(ServerBusyError) as caught:
        api.get(pool)
    told = str(caught.value)
    assert told.startswith(
        "the server of projectcalico.org behind the API server could not get "
        'ippools.projectcalico.org "p" (HTTP 503 Service Unavailable)\n'
        "  found: service unavailable (asked again and again for 0 s)\n"
    )
    assert "kubectl get apiservices | grep projectcalico.org" in told
    assert len(server.seen) > 1
    server.seen.clear()
    for _ in range(2):
        assert api.get(other) == {"ok": 1}
        with pytest.raises(ServerBusyError) as caught:
            api.get(pool)
        assert str(caught.value) == told
    assert len(server.seen) == 4
    # Once it is back, it is waited for again.
    server.on(f"GET {pool}", {"ok": 2}, cut, {"ok": 3})
    assert [api.get(pool), api.get(pool)] == [{"ok": 2}, {"ok": 3}]


@pytest.mark.parametrize("code", [400, 403, 404, 409, 422])
def test_a_refusal_is_never_repeated(server: ScriptedServer, api: Api, code: int) -> None:
    server.on(f"PUT {PODS}/a", status(code, "Reason", "no"))
    with pytest.raises(ApiError):
        api.replace(f"{PODS}/a", {})
    assert len(server.seen) == 1


def test_a_json_patch_with_a_lost_answer_is_not_repeated(server: ScriptedServer, api: Api) -> None:
    server.on(f"PATCH {PODS}/a", cut_off)
    with pytest.raises(UnreachableError, match="broke off"):
        api.patch(f"{PODS}/a", [{"op": "add", "path": "/x/-", "value": 1}], kind="json")
    assert len(server.seen) == 1


def test_a_json_patch_that_a_second_time_does_no_harm_is_repeated(
    server: ScriptedServer, api: Api
) -> None:
    patch = [{"op": "test", "path": "/x", "value": 1}, {"op": "add", "path": "/x", "value": 2}]
    server.on(f"PATCH {PODS}/a", cut_off, status(500, "InternalError", "no"), {"x": 2})
    assert api.patch(f"{PODS}/a", patch, kind="json", idempotent=True) == {"x": 2}
    assert len(server.seen) == 3


def test_a_create_with_a_lost_answer_finds_its_own_object(server: ScriptedServer, api: Api) -> None:
    body = {"metadata": {"name": "a", "labels": {"k8snet/run": "r"}}}
    server.on(f"POST {PODS}", cut_off, status(409, "AlreadyExists", "exists"))
    server.on(f"GET {PODS}/a", body | {"spec": "made"})
    assert api.create(PODS, body)["spec"] == "made"


def test_a_create_with_a_lost_answer_takes_no_strangers_object(
    server: ScriptedServer, api: Api
) -> None:
    body = {"metadata": {"name": "a", "labels": {"k8snet/run": "r"}}}
    server.on(f"POST {PODS}", cut_off, status(409, "AlreadyExists", "exists"))
    server.on(f"GET {PODS}/a", {"metadata": {"name": "a", "labels": {"k8snet/run": "other"}}})
    with pytest.raises(ConflictError, match="exists already"):
        api.create(PODS, body)


def test_an_object_that_exists_is_a_conflict_at_once(server: ScriptedServer, api: Api) -> None:
    body = {"metadata": {"name": "a", "labels": {"k8snet/run": "r"}}}
    server.on(f"POST {PODS}", status(409, "AlreadyExists", "exists"))
    server.on(f"GET {PODS}/a", body)
    with pytest.raises(ConflictError, match="exists already"):
        api.create(PODS, body)


def test_pauses_grow_and_honour_retry_after_up_to_a_limit(server: ScriptedServer, api: Api) -> None:
    waits: list[float] = []
    asked = [{}, {}, {"Retry-After": "3"}, {"Retry-After": "600"}, *([{}] * 4)]
    busy = [web.Response(status=429, headers=headers) for headers in asked]
    server.on(f"GET {PODS}/a", *busy, {"ok": 1})
    api._client.repeat(
        lambda: api._client.once("GET", f"{PODS}/a"),
        repeatable=lambda error: is_repeatable(error, idempotent=False),
        sleep=waits.append,
    )
    assert 0.1 <= waits[0] <= 0.2 <= waits[1] <= 0.3
    assert waits[2:4] == [3.0, 10.0]
    assert 2.0 <= waits[-1] <= 2.1


def test_what_the_server_asks_is_what_is_waited(server: ScriptedServer, api: Api) -> None:
    waits: list[float] = []
    headers = {"Retry-After": "3"}
    server.on(f"GET {PODS}/a", web.Response(status=429, headers=headers), {"ok": 1})
    answer = api._client.repeat(
        lambda: api._client.once("GET", f"{PODS}/a"),
        repeatable=lambda error: is_repeatable(error, idempotent=False),
        sleep=waits.append,
    )
    assert (answer.object, waits) == ({"ok": 1}, [3.0])


def test_without_patience_a_request_is_sent_once(server: ScriptedServer, api: Api) -> None:
    api._client.patience_seconds = 0.0
    server.on(f"GET {PODS}/a", BUSY)
    with pytest.raises(ServerBusyError):
        api.get(f"{PODS}/a")
    assert len(server.seen) == 1


def test_a_request_that_never_left_may_be_repeated_whatever_it_does() -> None:
    assert is_repeatable(UnreachableError("refused", sent=False), idempotent=False)
    assert not is_repeatable(UnreachableError("reset", sent=True), idempotent=False)
    assert is_repeatable(UnreachableError("reset", sent=True), idempotent=True)
    assert not is_repeatable(ServerBusyError("timeout", status=504), idempotent=False)
    assert not is_repeatable(ConnectError("certificate"), idempotent=True)


def test_threads_share_one_api(server: ScriptedServer, api: Api) -> None:
    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"number": request.query["number"]})

    server.on(f"GET {PODS}/a", echo)
    wrong: list[object] = []

    def work(thread: int) -> None:
        for i in range(20):
            number = f"{thread}-{i}"
            if (got := api.get(f"{PODS}/a", number=number)) != {"number": number}:
                wrong.append(got)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(server.seen) == 160

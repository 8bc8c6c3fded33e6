"""Who may ask the API server for what, and which bodies it takes."""

from __future__ import annotations

import pytest

from .api_objects import MAPS, PODS, pod
from .local_server import TOKEN, ApiServer

# -- who asks --------------------------------------------------------------------------------------


def test_no_token_is_an_anonymous_user_who_may_ask_for_health(api: ApiServer) -> None:
    answer = api.request("GET", "/api", token=None)
    assert answer.code == 403
    assert answer.json["message"] == 'forbidden: User "system:anonymous" cannot get path "/api"'
    for path in ("/healthz", "/readyz", "/livez"):
        assert api.request("GET", path, token=None).text == "ok"
        told = api.request("GET", f"{path}?verbose", token=None).text
        assert told.endswith(f"\n{path[1:]} check passed\n")


def test_a_review_says_whose_a_token_is(api: ApiServer) -> None:
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    known = api.request("POST", path, {"spec": {"token": TOKEN}}).json["status"]
    assert known["authenticated"] is True
    assert known["user"]["groups"] == ["system:masters", "system:authenticated"]
    assert api.request("POST", path, {"spec": {"token": "x"}}).json["status"] == {"user": {}}


# -- what is asked for -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/apis/projectcalico.org/v3/ippools",
        "/apis/apps/v2",
        "/apis/migration.projectcalico.org/v1/x",
    ],
)
def test_a_group_or_version_that_is_not_served_is_no_page(api: ApiServer, path: str) -> None:
    answer = api.request("GET", path)
    assert (answer.code, answer.text) == (404, "404 page not found\n")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{PODS}/web"),
        ("PUT", PODS),
        ("POST", "/api/v1/pods"),
        ("DELETE", f"{PODS}/web/status"),
        ("POST", "/apis/apiregistration.k8s.io/v1/apiservices"),
        ("POST", "/api/v1"),
    ],
)
def test_a_method_that_is_not_served_is_405(api: ApiServer, method: str, path: str) -> None:
    answer = api.request(method, path, {})
    assert (answer.code, answer.json["reason"]) == (405, "MethodNotAllowed")


# -- bodies ----------------------------------------------------------------------------------------


def test_a_body_without_content_type_is_json(api: ApiServer) -> None:
    answer = api.request("POST", PODS, pod())
    assert answer.code == 201
    assert answer.json["kind"] == "Pod"
    assert answer.json["status"]["phase"] == "Pending"


def test_a_body_may_be_yaml(api: ApiServer) -> None:
    text = "metadata: {name: m}\ndata:\n  day: '2026-11-23'\n"
    answer = api.request("POST", MAPS, text, headers={"Content-Type": "application/yaml"})
    assert answer.code == 201
    assert answer.json["data"] == {"day": "2026-11-23"}


def test_yaml_dates_stay_text(api: ApiServer) -> None:
    text = "metadata: {name: m}\ndata: {day: 2026-11-23}\n"
    answer = api.request("POST", MAPS, text, headers={"Content-Type": "application/yaml"})
    assert answer.json["data"] == {"day": "2026-11-23"}


def test_unknown_fields_pass_silently_when_ignored(api: ApiServer) -> None:
    answer = api.request("POST", f"{PODS}?fieldValidation=Ignore", pod(banana=1))
    assert answer.code == 201
    assert "Warning" not in answer.headers


def test_a_body_that_is_too_large_is_413(api: ApiServer) -> None:
    body = {"metadata": {"name": "m"}, "data": {"x": "y" * (3 * 1024 * 1024 + 1)}}
    assert api.request("POST", MAPS, body).code == 413


# -- validation ------------------------------------------------------------------------------------

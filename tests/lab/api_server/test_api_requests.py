"""Who may ask the API server for what, and which bodies it takes."""

from __future__ import annotations

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

"""Who may ask the API server for what, and which bodies it takes."""

from __future__ import annotations

from typing import Any

import pytest

from .api_objects import MAPS, PODS, POOLS, pod
from .local_server import ApiServer

# -- who asks --------------------------------------------------------------------------------------


def test_a_wrong_token_gets_401(api: ApiServer) -> None:
    answer = api.request("GET", PODS, token="wrong")
    assert (answer.code, answer.json["reason"], answer.json["message"]) == (
        401,
        "Unauthorized",
        "Unauthorized",
    )


def test_no_token_is_an_anonymous_user_who_may_only_ask_for_health_and_version(
    api: ApiServer,
) -> None:
    answer = api.request("GET", "/api", token=None)
    assert answer.code == 403
    assert answer.json["message"] == 'forbidden: User "system:anonymous" cannot get path "/api"'
    for path in ("/healthz", "/readyz", "/livez"):
        assert api.request("GET", path, token=None).text == "ok"
        told = api.request("GET", f"{path}?verbose", token=None).text
        assert told.endswith(f"\n{path[1:]} check passed\n")
    assert api.request("GET", "/version", token=None).json["gitVersion"].startswith("v1.32")


# -- what is asked for -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/default/bananas",
        "/apis/migration.projectcalico.org/v1/datastoremigrations",
        "/apis/projectcalico.org/v3/ippools",
        "/apis/apps/v2",
        "/api/v1/namespaces/default/pods/web/bananas",
        "/api/v1/namespaces/default/nodes",
        "/nothing",
    ],
)
def test_what_is_not_served_is_404_in_kubernetes_words(api: ApiServer, path: str) -> None:
    answer = api.request("GET", path)
    assert answer.code == 404
    assert answer.json["message"] == "the server could not find the requested resource"
    assert answer.json["reason"] == "NotFound"


def test_a_missing_object_is_named_with_its_group(api: ApiServer) -> None:
    assert api.request("GET", f"{PODS}/x").json["message"] == 'pods "x" not found'
    answer = api.request("GET", f"{POOLS}/x")
    assert answer.json["message"] == 'ippools.crd.projectcalico.org "x" not found'
    assert answer.json["details"] == {
        "name": "x",
        "group": "crd.projectcalico.org",
        "kind": "ippools",
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{PODS}/web"),
        ("PUT", PODS),
        ("POST", "/api/v1/pods"),
        ("DELETE", f"{PODS}/web/status"),
        ("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
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


@pytest.mark.parametrize("body", ["{", "[1]", '"text"', "null", ""])
def test_malformed_json_is_400(api: ApiServer, body: str) -> None:
    answer = api.request("POST", PODS, body)
    assert (answer.code, answer.json["reason"]) == (400, "BadRequest")
    assert "couldn't get version/kind; json parse error" in answer.json["message"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "Service"}, 'Service in version "v1" cannot be handled as a Pod'),
        (
            {"apiVersion": "v2"},
            "the API version in the data (v2) does not match the expected API version (v1)",
        ),
        (
            {"metadata": {"name": "x", "namespace": "other"}},
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            {"metadata": {"name": "x", "labels": {"a": 1}}},
            'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal number into Go'
            " struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            {"metadata": {"name": "x", "resourceVersion": "1"}},
            "resourceVersion should not be set on objects to be created",
        ),
    ],
)
def test_an_object_that_does_not_belong_here_is_400(
    api: ApiServer, change: dict[str, Any], message: str
) -> None:
    answer = api.request("POST", PODS, pod() | change)
    assert answer.code == 400
    assert message in answer.json["message"]


def test_a_name_that_differs_from_the_path_is_400(api: ApiServer) -> None:
    api.request("POST", MAPS, {"metadata": {"name": "a"}})
    answer = api.request("PUT", f"{MAPS}/a", {"metadata": {"name": "b"}})
    assert answer.code == 400
    assert answer.json["message"] == (
        "the name of the object (b) does not match the name on the URL (a)"
    )


def test_unknown_fields_are_dropped_with_a_warning_by_default(api: ApiServer) -> None:
    answer = api.request("POST", PODS, pod(banana=1))
    assert answer.code == 201
    assert "banana" not in answer.json["spec"]
    assert answer.headers["Warning"] == '299 - "unknown field \\"spec.banana\\""'


def test_unknown_fields_are_refused_when_strict(api: ApiServer) -> None:
    body = pod(banana=1)
    body["spec"]["containers"][0]["img"] = "x"
    answer = api.request("POST", f"{PODS}?fieldValidation=Strict", body)
    assert answer.code == 400
    assert answer.json["message"] == (
        'Pod in version "v1" cannot be handled as a Pod: strict decoding error: '
        'unknown field "spec.containers[0].img", unknown field "spec.banana"'
    )


def test_unknown_fields_pass_silently_when_ignored(api: ApiServer) -> None:
    answer = api.request("POST", f"{PODS}?fieldValidation=Ignore", pod(banana=1))
    assert answer.code == 201
    assert "Warning" not in answer.headers


def test_another_content_type_is_415(api: ApiServer) -> None:
    answer = api.request("POST", PODS, "x", headers={"Content-Type": "text/html"})
    assert (answer.code, answer.json["reason"]) == (415, "UnsupportedMediaType")


def test_a_body_that_is_too_large_is_413(api: ApiServer) -> None:
    body = {"metadata": {"name": "m"}, "data": {"x": "y" * (3 * 1024 * 1024 + 1)}}
    assert api.request("POST", MAPS, body).code == 413


# -- validation ------------------------------------------------------------------------------------


def test_a_bad_pod_is_422_with_a_cause_for_each_field(api: ApiServer) -> None:
    body = {"metadata": {"name": "Web"}, "spec": {"containers": [{"name": "a"}]}}
    answer = api.request("POST", PODS, body)
    assert (answer.code, answer.json["reason"]) == (422, "Invalid")
    details = answer.json["details"]
    assert (details["kind"], details["name"]) == ("Pod", "Web")
    assert [(cause["field"], cause["reason"]) for cause in details["causes"]] == [
        ("metadata.name", "FieldValueInvalid"),
        ("spec.containers[0].image", "FieldValueRequired"),
    ]
    assert answer.json["message"].startswith('Pod "Web" is invalid: [metadata.name: Invalid value')

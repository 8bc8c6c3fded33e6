"""Access reviews, faults, discovery and Calico's shapes, seen as plain HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pytest_k8snet.lab.spec import CalicoSpec

from .api_objects import MAPS, PODS, POOLS, pod, pool
from .local_server import ApiServer

# -- access reviews and faults ---------------------------------------------------------------------


REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def review(verb: str, resource: str, group: str = "", subresource: str = "") -> dict[str, Any]:
    attributes = {"verb": verb, "resource": resource, "group": group, "subresource": subresource}
    return {"spec": {"resourceAttributes": attributes}}


def test_a_forbidden_verb_is_403_and_a_review_says_so(api: ApiServer) -> None:
    api.set_faults(forbid="create:pods, patch:ippools.crd.projectcalico.org, *:pods/exec")
    answer = api.request("POST", PODS, pod())
    assert (answer.code, answer.json["reason"]) == (403, "Forbidden")
    assert answer.json["message"] == (
        'pods is forbidden: User "kubernetes-admin" cannot create resource "pods" in API group ""'
        ' in the namespace "default"'
    )
    for verb, resource, group, subresource, allowed in (
        ("create", "pods", "", "", False),
        ("get", "pods", "", "", True),
        ("patch", "ippools", "crd.projectcalico.org", "", False),
        ("create", "pods", "", "exec", False),
    ):
        body = review(verb, resource, group, subresource)
        assert api.request("POST", REVIEWS, body).json["status"]["allowed"] is allowed


def test_a_review_without_attributes_is_refused(api: ApiServer) -> None:
    answer = api.request("POST", REVIEWS, {"spec": {}})
    assert answer.code == 422
    assert answer.json["details"]["causes"][0]["field"] == "spec.resourceAttributes"


def test_errors_asked_for_come_as_often_as_asked(api: ApiServer) -> None:
    api.set_faults(api_error="503:2:list:pods")
    assert api.request("GET", MAPS).code == 200
    answers = [api.request("GET", PODS) for _ in range(3)]
    assert [answer.code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["Retry-After"] == "1"
    assert answers[0].json["reason"] == "ServiceUnavailable"


def test_a_reset_asked_for_cuts_the_connection(api: ApiServer) -> None:
    api.set_faults(api_reset="1")
    with pytest.raises((ConnectionError, OSError)):
        api.request("GET", PODS)
    assert api.request("GET", PODS).code == 200


def test_the_map_of_faults_can_always_be_changed(api: ApiServer) -> None:
    api.set_faults(api_error="500:1000")
    path = "/api/v1/namespaces/kube-system/configmaps/k8snet-lab-faults"
    assert api.request("DELETE", path).code == 200
    assert api.request("GET", PODS).code == 200


# -- discovery and Calico's shapes -----------------------------------------------------------------


def groups_of(api: ApiServer) -> set[str]:
    return {group["name"] for group in api.request("GET", "/apis").json["groups"]}


def test_shape_a_serves_pools_in_the_old_group_only(api: ApiServer) -> None:
    assert "crd.projectcalico.org" in groups_of(api)
    assert "projectcalico.org" not in groups_of(api)
    assert "operator.tigera.io" not in groups_of(api)


def test_shape_b_shows_one_pool_through_both_groups(
    start_server: Callable[[CalicoSpec], ApiServer],
) -> None:
    api = start_server(CalicoSpec(api_shape="B", install="operator"))
    assert {"crd.projectcalico.org", "projectcalico.org", "operator.tigera.io"} <= groups_of(api)
    created = api.request("POST", POOLS, pool(ipipMode="Always")).json
    seen = api.request("GET", "/apis/projectcalico.org/v3/ippools/pool").json
    assert (seen["apiVersion"], seen["spec"]) == ("projectcalico.org/v3", created["spec"])
    service = api.request("GET", "/apis/apiregistration.k8s.io/v1/apiservices/v3.projectcalico.org")
    assert service.json["spec"]["service"]["name"] == "calico-api"
    missing = api.request("GET", "/apis/projectcalico.org/v3/ippools/x")
    assert missing.json["message"] == 'ippools.projectcalico.org "x" not found'


def test_shape_b_is_strict_and_has_defaults_in_the_new_group_only(
    start_server: Callable[[CalicoSpec], ApiServer],
) -> None:
    api = start_server(CalicoSpec(api_shape="B"))
    assert api.request("POST", POOLS, pool("raw", ipipMode="always")).code == 201
    new = pool("new", cidr="198.19.0.0/24") | {"apiVersion": "projectcalico.org/v3"}
    created = api.request("POST", "/apis/projectcalico.org/v3/ippools", new).json
    assert created["spec"]["vxlanMode"] == "Never"
    bad = pool("bad", ipipMode="always") | {"apiVersion": "projectcalico.org/v3"}
    answer = api.request("POST", "/apis/projectcalico.org/v3/ippools", bad)
    assert answer.code == 422
    assert answer.json["details"]["causes"][0]["message"] == (
        'Unsupported value: "always": supported values: "Never", "Always", "CrossSubnet"'
    )


def test_shape_b_with_its_api_server_cut_off_has_the_old_group_left(
    start_server: Callable[[CalicoSpec], ApiServer],
) -> None:
    api = start_server(CalicoSpec(api_shape="B"))
    api.request("POST", POOLS, pool())
    api.set_faults(calico_apiserver_down="true")
    new = "/apis/projectcalico.org/v3"
    for method, path in (
        ("GET", new),
        ("GET", f"{new}/ippools/pool"),
        ("DELETE", f"{new}/ippools"),
    ):
        answer = api.request(method, path)
        assert (answer.code, answer.text) == (503, "service unavailable\n")
        assert answer.headers["Content-Type"].startswith("text/plain")
    assert api.request("GET", f"{POOLS}/pool").code == 200
    # What its group is, kube-apiserver knows by itself; which resources it has, no longer.
    assert "projectcalico.org" in groups_of(api)
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    listed = api.request("GET", "/apis", headers={"Accept": accept}).json["items"]
    freshness = {one["metadata"]["name"]: one["versions"][0]["freshness"] for one in listed}
    assert (freshness["projectcalico.org"], freshness["apps"]) == ("Stale", "Current")
    api.request("DELETE", "/api/v1/namespaces/kube-system/configmaps/k8snet-lab-faults")
    assert api.request("GET", f"{new}/ippools/pool").code == 200


def test_shape_c_serves_pools_in_the_new_group_only(
    start_server: Callable[[CalicoSpec], ApiServer],
) -> None:
    api = start_server(CalicoSpec(api_shape="C", version="v3.32.0"))
    assert api.request("GET", POOLS).code == 404
    assert api.request("GET", "/apis/projectcalico.org/v3/ippools").code == 200
    service = api.request("GET", "/apis/apiregistration.k8s.io/v1/apiservices/v3.projectcalico.org")
    assert "service" not in service.json["spec"]


def test_both_forms_of_discovery_name_the_same_resources(api: ApiServer) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    aggregated = set()
    for path in ("/api", "/apis"):
        for group in api.request("GET", path, headers={"Accept": accept}).json["items"]:
            for version in group["versions"]:
                for resource in version["resources"]:
                    group_name = group["metadata"].get("name", "")
                    aggregated.add((group_name, version["version"], resource["resource"]))
    plain = set()
    places = [("", "v1", "/api/v1")]
    for group in api.request("GET", "/apis").json["groups"]:
        for version in group["versions"]:
            place = f"/apis/{version['groupVersion']}"
            places.append((group["name"], version["version"], place))
    for group_name, version_name, place in places:
        for resource in api.request("GET", place).json["resources"]:
            if "/" not in resource["name"]:
                plain.add((group_name, version_name, resource["name"]))
    assert plain == aggregated
    assert ("", "v1", "pods") in plain


def test_every_openapi_document_is_there_and_its_references_lead_somewhere(
    api: ApiServer,
) -> None:
    index = api.request("GET", "/openapi/v3").json["paths"]
    assert "api/v1" in index
    for entry in index.values():
        text = api.request("GET", entry["serverRelativeURL"]).text
        schemas = json.loads(text)["components"]["schemas"]
        for part in text.split('"#/components/schemas/')[1:]:
            assert part.split('"')[0] in schemas

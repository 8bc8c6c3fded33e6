"""What the API server answers, seen as plain HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pytest_k8snet.lab.spec import CalicoSpec

from .local_server import ApiServer

PODS = "/api/v1/namespaces/default/pods"
POOLS = "/apis/crd.projectcalico.org/v1/ippools"
MAPS = "/api/v1/namespaces/default/configmaps"


def pod(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "tools"}], **spec},
    }


def pool(name: str = "pool", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "IPPool",
        "metadata": {"name": name},
        "spec": {"cidr": "198.18.0.0/24", **spec},
    }


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


# -- versions --------------------------------------------------------------------------------------


def test_a_stale_version_is_409_and_says_so(api: ApiServer) -> None:
    first = api.request("POST", MAPS, {"metadata": {"name": "m"}}).json
    api.request("PUT", f"{MAPS}/m", first | {"data": {"a": "1"}})
    answer = api.request("PUT", f"{MAPS}/m", first | {"data": {"a": "2"}})
    assert (answer.code, answer.json["reason"]) == (409, "Conflict")
    assert answer.json["message"] == (
        'Operation cannot be fulfilled on configmaps "m": the object has been modified; please'
        " apply your changes to the latest version and try again"
    )


def test_a_merge_patch_with_a_stale_version_is_409(api: ApiServer) -> None:
    api.request("POST", POOLS, pool())
    patch = {"metadata": {"resourceVersion": "1"}, "spec": {"ipipMode": "Always"}}
    headers = {"Content-Type": "application/merge-patch+json"}
    assert api.request("PATCH", f"{POOLS}/pool", patch, headers=headers).code == 409


def test_a_taken_name_is_409(api: ApiServer) -> None:
    api.request("POST", POOLS, pool())
    answer = api.request("POST", POOLS, pool())
    assert (answer.code, answer.json["reason"]) == (409, "AlreadyExists")
    assert answer.json["message"] == 'ippools.crd.projectcalico.org "pool" already exists'


def test_a_dry_run_answers_like_the_real_thing_and_stores_nothing(api: ApiServer) -> None:
    assert api.request("POST", f"{MAPS}?dryRun=All", {"metadata": {"name": "m"}}).code == 201
    assert api.request("GET", f"{MAPS}/m").code == 404
    assert api.request("POST", f"{MAPS}?dryRun=Some", {"metadata": {"name": "m"}}).code == 400


# -- patches ---------------------------------------------------------------------------------------


def test_each_patch_type_goes_by_its_own_rules(api: ApiServer) -> None:
    containers = [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]
    api.request("POST", PODS, pod("p", containers=containers))

    def images(media_type: str, patch: Any) -> list[str]:
        headers = {"Content-Type": f"application/{media_type}"}
        answer = api.request("PATCH", f"{PODS}/p", patch, headers=headers)
        assert answer.code == 200, answer.text
        return [container["image"] for container in answer.json["spec"]["containers"]]

    strategic = {"spec": {"containers": [{"name": "b", "image": "3"}]}}
    assert images("strategic-merge-patch+json", strategic) == ["1", "3"]
    steps = [{"op": "replace", "path": "/spec/containers/0/image", "value": "4"}]
    assert images("json-patch+json", steps) == ["4", "3"]
    whole = api.request("GET", f"{PODS}/p").json["spec"]["containers"]
    whole[1]["image"] = "5"
    assert images("merge-patch+json", {"spec": {"containers": whole}}) == ["4", "5"]


def test_a_custom_resource_takes_no_strategic_merge_patch(api: ApiServer) -> None:
    api.request("POST", POOLS, pool())
    headers = {"Content-Type": "application/strategic-merge-patch+json"}
    answer = api.request("PATCH", f"{POOLS}/pool", {"spec": {}}, headers=headers)
    assert answer.code == 415
    assert answer.json["message"] == (
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    )


def test_a_list_is_no_merge_patch(api: ApiServer) -> None:
    api.request("POST", POOLS, pool())
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = api.request("PATCH", f"{POOLS}/pool", [], headers=headers)
    assert answer.code == 400
    assert "cannot unmarshal array" in answer.json["message"]


def test_server_side_apply_creates_and_then_merges(api: ApiServer) -> None:
    headers = {"Content-Type": "application/apply-patch+yaml"}
    path = f"{MAPS}/m?fieldManager=me"
    body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: '1'}\n"
    assert api.request("PATCH", path, body, headers=headers).code == 201
    answer = api.request("PATCH", path, body.replace("{a:", "{b:"), headers=headers)
    assert (answer.code, answer.json["data"]) == (200, {"a": "1", "b": "1"})


def test_a_patch_that_makes_the_object_invalid_is_refused(api: ApiServer) -> None:
    api.request("POST", PODS, pod())
    headers = {"Content-Type": "application/strategic-merge-patch+json"}
    answer = api.request("PATCH", f"{PODS}/web", {"spec": {"nodeName": "node1"}}, headers=headers)
    assert answer.code == 422
    assert answer.json["details"]["causes"][0]["reason"] == "FieldValueForbidden"


# -- lists -----------------------------------------------------------------------------------------


def test_a_list_comes_in_pages(api: ApiServer) -> None:
    for name in "abcde":
        api.request("POST", MAPS, {"metadata": {"name": name}})
    names: list[str] = []
    token = ""
    sizes = []
    while True:
        page = api.request("GET", f"{MAPS}?limit=2&continue={token}").json
        names += [item["metadata"]["name"] for item in page["items"]]
        sizes.append(page["metadata"].get("remainingItemCount"))
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert names == list("abcde")
    assert sizes == [3, 1, None]


def test_a_bad_selector_is_400(api: ApiServer) -> None:
    assert api.request("GET", f"{PODS}?labelSelector=a%20is%20b").code == 400
    answer = api.request("GET", f"{PODS}?fieldSelector=spec.banana%3D1")
    assert answer.json["message"] == "field label not supported: spec.banana"


def test_a_version_of_the_future_is_refused(api: ApiServer) -> None:
    answer = api.request("GET", f"{PODS}?resourceVersion=99999999")
    assert answer.code == 504
    assert answer.json["message"].startswith("Too large resource version: 99999999, current:")


# -- deletion --------------------------------------------------------------------------------------


def test_deleting_answers_with_a_status_for_most_kinds(api: ApiServer) -> None:
    created = api.request("POST", POOLS, pool()).json
    answer = api.request("DELETE", f"{POOLS}/pool", {"propagationPolicy": "Background"})
    assert answer.json["status"] == "Success"
    assert answer.json["details"]["uid"] == created["metadata"]["uid"]


def test_deleting_a_running_pod_marks_it_first(api: ApiServer) -> None:
    api.start_pod("web")
    answer = api.request("DELETE", f"{PODS}/web", {"gracePeriodSeconds": 7})
    assert answer.json["metadata"]["deletionGracePeriodSeconds"] == 7
    assert api.request("GET", f"{PODS}/web").code == 200
    api.request("DELETE", f"{PODS}/web?gracePeriodSeconds=0")
    assert api.request("GET", f"{PODS}/web").code == 404


def test_a_precondition_guards_a_deletion(api: ApiServer) -> None:
    api.request("POST", MAPS, {"metadata": {"name": "m"}})
    answer = api.request("DELETE", f"{MAPS}/m", {"preconditions": {"uid": "another"}})
    assert answer.code == 409
    assert "Precondition failed: UID in precondition: another" in answer.json["message"]


def test_a_collection_is_deleted_by_label(api: ApiServer) -> None:
    for name, label in (("a", "x"), ("b", "x"), ("c", "y")):
        api.request("POST", MAPS, {"metadata": {"name": name, "labels": {"run": label}}})
    assert api.request("DELETE", f"{MAPS}?labelSelector=run%3Dx").code == 200
    left = api.request("GET", MAPS).json["items"]
    assert [item["metadata"]["name"] for item in left] == ["c"]


def test_an_unknown_propagation_policy_is_400(api: ApiServer) -> None:
    api.request("POST", MAPS, {"metadata": {"name": "m"}})
    answer = api.request("DELETE", f"{MAPS}/m", {"propagationPolicy": "Sideways"})
    assert answer.code == 400


# -- subresources ----------------------------------------------------------------------------------


def test_a_binding_puts_a_pod_on_a_node_once(api: ApiServer) -> None:
    api.request("POST", PODS, pod())
    binding = {"target": {"kind": "Node", "name": "node1"}}
    assert api.request("POST", f"{PODS}/web/binding", binding).code == 201
    bound = api.request("GET", f"{PODS}/web").json
    assert bound["spec"]["nodeName"] == "node1"
    assert bound["status"]["conditions"][0]["type"] == "PodScheduled"
    again = api.request("POST", f"{PODS}/web/binding", binding)
    assert again.code == 409
    assert 'pod web is already assigned to node "node1"' in again.json["message"]


def test_an_eviction_deletes_the_pod(api: ApiServer) -> None:
    api.request("POST", PODS, pod())
    assert api.request("POST", f"{PODS}/web/eviction", {}).json["status"] == "Success"
    assert api.request("GET", f"{PODS}/web").code == 404


def test_a_status_is_written_through_its_subresource_only(api: ApiServer) -> None:
    created = api.request("POST", PODS, pod()).json
    created["status"]["phase"] = "Running"
    unchanged = api.request("PUT", f"{PODS}/web", created).json
    assert unchanged["status"]["phase"] == "Pending"
    assert unchanged["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]
    changed = api.request("PUT", f"{PODS}/web/status", created).json
    assert changed["status"]["phase"] == "Running"


def test_scale_is_read_and_written_as_a_scale(api: ApiServer) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    template = {
        "metadata": {"labels": {"app": "d"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "d"}}, "template": template}
    api.request("POST", path, {"metadata": {"name": "d"}, "spec": spec})
    scale = api.request("GET", f"{path}/d/scale").json
    assert (scale["kind"], scale["spec"], scale["status"]["selector"]) == (
        "Scale",
        {"replicas": 2},
        "app=d",
    )
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = api.request("PATCH", f"{path}/d/scale", {"spec": {"replicas": 5}}, headers=headers)
    assert answer.json["spec"] == {"replicas": 5}
    bad = api.request("PUT", f"{path}/d/scale", scale | {"spec": {"replicas": -1}})
    assert bad.code == 422
    assert api.request("GET", f"{path}/d").json["spec"]["replicas"] == 5


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
    new = pool("new") | {"apiVersion": "projectcalico.org/v3"}
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


def test_a_table_is_made_when_asked_for(api: ApiServer) -> None:
    api.start_pod("web")
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    table = api.request("GET", PODS, headers={"Accept": accept}).json
    assert table["kind"] == "Table"
    wide = [column["name"] for column in table["columnDefinitions"] if column["priority"]]
    assert wide == ["IP", "Node", "Nominated Node", "Readiness Gates"]
    assert table["rows"][0]["cells"][:4] == ["web", "1/1", "Running", "0"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"

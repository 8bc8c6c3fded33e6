"""Versions, patches, lists, deletion and subresources, seen as plain HTTP."""

from __future__ import annotations

from typing import Any

from .api_objects import MAPS, PODS, pod
from .local_server import ApiServer

# -- versions --------------------------------------------------------------------------------------


def test_a_dry_run_answers_like_the_real_thing_and_stores_nothing(api: ApiServer) -> None:
    assert api.request("POST", f"{MAPS}?dryRun=All", {"metadata": {"name": "m"}}).code == 201
    assert api.request("GET", f"{MAPS}/m").code == 404


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


def test_server_side_apply_creates_and_then_takes_back_what_is_no_longer_applied(
    api: ApiServer,
) -> None:
    headers = {"Content-Type": "application/apply-patch+yaml"}
    path = f"{MAPS}/m?fieldManager=me"
    body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: '1'}\n"
    assert api.request("PATCH", path, body, headers=headers).code == 201
    answer = api.request("PATCH", path, body.replace("{a:", "{b:"), headers=headers)
    assert (answer.code, answer.json["data"]) == (200, {"b": "1"})


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


# -- deletion --------------------------------------------------------------------------------------


def test_deleting_a_running_pod_marks_it_first(api: ApiServer) -> None:
    api.start_pod("web")
    answer = api.request("DELETE", f"{PODS}/web", {"gracePeriodSeconds": 7})
    assert answer.json["metadata"]["deletionGracePeriodSeconds"] == 7
    assert api.request("GET", f"{PODS}/web").code == 200
    api.request("DELETE", f"{PODS}/web?gracePeriodSeconds=0")
    assert api.request("GET", f"{PODS}/web").code == 404


def test_a_collection_is_deleted_by_label(api: ApiServer) -> None:
    for name, label in (("a", "x"), ("b", "x"), ("c", "y")):
        api.request("POST", MAPS, {"metadata": {"name": name, "labels": {"run": label}}})
    assert api.request("DELETE", f"{MAPS}?labelSelector=run%3Dx").code == 200
    left = api.request("GET", MAPS).json["items"]
    assert [item["metadata"]["name"] for item in left] == ["c"]


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

"""Merge, JSON and strategic merge patches."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.lab.api.objects import Object, clone
from pytest_k8snet.lab.api.patch import merge, strategic_merge
from pytest_k8snet.lab.api.resources import Registry
from pytest_k8snet.lab.spec import CalicoSpec

REGISTRY = Registry(CalicoSpec())


# The examples of RFC 7386, appendix A.
@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_as_in_its_rfc(target: Any, patch: Any, result: Any) -> None:
    before = clone(target)
    assert merge(target, patch) == result
    assert target == before


def pod(*containers: Object, **spec: Any) -> Object:
    meta = {"name": "p", "resourceVersion": "7"}
    return {"metadata": meta, "spec": {"containers": list(containers), **spec}}


def containers_after(before: Object, *patch: Object, **more: Any) -> list[Object]:
    whole = {"spec": {"containers": list(patch), **more}}
    merged = strategic_merge(before, whole, "Pod")
    found = merged["spec"]["containers"]
    assert isinstance(found, list)
    return found


def test_keyed_lists_merge_element_by_element() -> None:
    before = pod({"name": "a", "image": "1"}, {"name": "b", "image": "2"})
    after = containers_after(before, {"name": "b", "image": "3"}, {"name": "c", "image": "4"})
    assert [(item["name"], item["image"]) for item in after] == [("a", "1"), ("b", "3"), ("c", "4")]
    assert before["spec"]["containers"][1]["image"] == "2"


def test_lists_within_keyed_lists_have_keys_of_their_own() -> None:
    before = pod(
        {
            "name": "a",
            "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}],
            "ports": [{"containerPort": 80}],
            "volumeMounts": [{"name": "v", "mountPath": "/a"}],
            "args": ["one", "two"],
        }
    )
    patch = {
        "name": "a",
        "env": [{"name": "Y", "value": "3"}],
        "ports": [{"containerPort": 81}],
        "volumeMounts": [{"name": "w", "mountPath": "/a"}],
        "args": ["three"],
    }
    (after,) = containers_after(before, patch)
    assert after["env"] == [{"name": "X", "value": "1"}, {"name": "Y", "value": "3"}]
    # New ones come first, as kube-apiserver 1.34 was seen to put them.
    assert after["ports"] == [{"containerPort": 81}, {"containerPort": 80}]
    assert after["volumeMounts"] == [{"name": "w", "mountPath": "/a"}]
    assert after["args"] == ["three"]


def test_an_element_is_deleted_by_directive() -> None:
    before = pod({"name": "a"}, {"name": "b"})
    assert containers_after(before, {"name": "a", "$patch": "delete"}) == [{"name": "b"}]
    assert containers_after(before, {"name": "x", "$patch": "delete"}) == [
        {"name": "a"},
        {"name": "b"},
    ]


def test_a_list_or_object_is_replaced_by_directive() -> None:
    before = pod({"name": "a"}, {"name": "b"}, nodeSelector={"x": "1"})
    patch = {"name": "c"}
    assert containers_after(before, {"$patch": "replace"}, patch) == [patch]
    whole = {"spec": {"nodeSelector": {"$patch": "replace", "y": "2"}}}
    assert strategic_merge(before, whole, "Pod")["spec"]["nodeSelector"] == {"y": "2"}
    whole = {"spec": {"nodeSelector": {"$patch": "delete"}}}
    assert "nodeSelector" not in strategic_merge(before, whole, "Pod")["spec"]


def test_lists_without_a_key_are_replaced() -> None:
    before = pod({"name": "a"}, tolerations=[{"key": "x", "operator": "Exists"}])
    patch = {"spec": {"tolerations": [{"operator": "Exists"}]}}
    after = strategic_merge(before, patch, "Pod")
    assert after["spec"]["tolerations"] == [{"operator": "Exists"}]


def test_finalizers_merge_as_a_set() -> None:
    before = {"metadata": {"finalizers": ["a", "b"]}}
    patch = {"metadata": {"finalizers": ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert strategic_merge(before, patch, "Pod")["metadata"]["finalizers"] == ["b", "c"]


def test_retained_keys_drop_the_others() -> None:
    before = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    after = strategic_merge(before, patch, "Deployment")
    assert after["spec"]["strategy"] == {"type": "Recreate"}


def test_the_order_that_a_patch_asks_for() -> None:
    before = pod({"name": "a"}, {"name": "b"})
    patch = {
        "spec": {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
            "containers": [{"name": "c"}],
        }
    }
    after = strategic_merge(before, patch, "Pod")["spec"]["containers"]
    assert [item["name"] for item in after] == ["c", "a", "b"]


def test_service_ports_merge_by_port() -> None:
    before = {"spec": {"ports": [{"port": 80, "targetPort": 1}, {"port": 81}]}}
    patch = {"spec": {"ports": [{"port": 80, "targetPort": 2}]}}
    after = strategic_merge(before, patch, "Service")
    assert after["spec"]["ports"] == [{"port": 80, "targetPort": 2}, {"port": 81}]

"""Paths and what they are about."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_k8snet.calico.installation import calico_path
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.api_errors import collection, object_path, parse
from pytest_k8snet.cluster.workspace import end_pods
from pytest_k8snet.errors import SettingsError


@pytest.mark.parametrize(
    ("method", "path", "verb", "text"),
    [
        ("GET", "/api/v1/nodes", "list", "nodes"),
        ("GET", "/api/v1/namespaces/x", "get", 'namespaces "x"'),
        ("GET", "/api/v1/namespaces/x/pods", "list", 'pods in namespace "x"'),
        ("POST", "/api/v1/namespaces/x/pods", "create", 'pods in namespace "x"'),
        ("DELETE", "/api/v1/namespaces/x/pods", "deletecollection", 'pods in namespace "x"'),
        ("DELETE", "/api/v1/namespaces/x/pods/a", "delete", 'pods "a" in namespace "x"'),
        ("GET", "/api/v1/namespaces/x/pods/a/exec", "get", 'pods/exec "a" in namespace "x"'),
        (
            "PATCH",
            "/apis/crd.projectcalico.org/v1/ippools/p",
            "patch",
            'ippools.crd.projectcalico.org "p"',
        ),
        ("PUT", "/apis/apps/v1/namespaces/x/deployments/d", "update", 'deployments.apps "d" in'),
        ("GET", "/version", "get", "/version"),
    ],
)
def test_a_path_is_put_into_the_words_of_rbac(method: str, path: str, verb: str, text: str) -> None:
    target = parse(method, path)
    assert target.verb == verb
    assert str(target).startswith(text)


def test_collections_have_paths() -> None:
    assert collection("pods") == "/api/v1/pods"
    assert collection("pods", namespace="x") == "/api/v1/namespaces/x/pods"
    assert collection("ippools", group="crd.projectcalico.org") == (
        "/apis/crd.projectcalico.org/v1/ippools"
    )


# The API server decodes a path before it splits it: quoting alone would let these through.
FOREIGN = [
    "../ipamblocks/10-0-0-0-26",
    "a/../../secrets/token",
    "..%2Fsecrets%2Ftoken",
    "%2e%2e",
    "a%2fexec",
    "a/status",
    "/",
    "..",
    ".",
    "\0/..",
]
REACH: list[Callable[[Api, str], object]] = [
    lambda api, name: api.logs("default", name),
    lambda api, name: api.logs(name, "web"),
    lambda api, name: api.exec("default", name, ["true"]),
    lambda api, name: api.exec(name, "web", ["true"]),
    lambda api, name: end_pods(api, "run", name, lambda _: True),
    lambda api, name: api.delete(object_path("/api/v1/namespaces", name)),
    lambda api, name: api.get(object_path(collection("configmaps", namespace="kube-system"), name)),
    lambda api, name: api.get(
        object_path(
            collection("leases", namespace="kube-system", group="coordination.k8s.io"), name
        )
    ),
    lambda api, name: api.delete(calico_path("crd.projectcalico.org/v1", "ippools", name)),
]


class NoClient:
    """Stands for the wire: whatever is sent is one request too many."""

    host, user = "https://nowhere", "tester"

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"a request was about to be sent: {name}")


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("reach", REACH)
def test_a_name_that_no_object_can_have_reaches_none(
    reach: Callable[[Api, str], object], name: str
) -> None:
    api = Api(NoClient(), context="x")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="No Kubernetes object can have this name") as caught:
        reach(api, name)
    assert caught.value.found == ascii(name)


def test_an_object_without_a_name_is_not_its_whole_collection() -> None:
    with pytest.raises(SettingsError, match="No Kubernetes object can have this name"):
        calico_path("crd.projectcalico.org/v1", "ippools", "")


@pytest.mark.parametrize("name", ["web?watch=1", "web#x", "web;a=b", "wéb x", "web\n"])
def test_any_other_name_is_one_segment_of_its_path(name: str) -> None:
    path = object_path(collection("pods", namespace=name), name)
    assert not set(path) & set("?#; \n")
    target = parse("GET", path)
    assert (target.resource, target.namespace, target.name) == ("pods", name, name)

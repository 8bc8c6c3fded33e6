"""Paths and what they are about."""

from __future__ import annotations

import pytest

from pytest_k8snet.cluster.api_errors import collection, parse


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

"""Which policies are named after a connection that was refused or stayed silent."""

from __future__ import annotations

from typing import Any

import pytest
from cluster_shapes import cluster, serve
from store_api import StoreApi

from pytest_k8snet.calico.installation import V1
from pytest_k8snet.calico.policies import PolicyEnd, suspects
from pytest_k8snet.errors import ForbiddenError

NETWORKING = "networking.k8s.io/v1"
POD = PolicyEnd(node="node1", namespace="tests", labels={"k8snet/role": "server"})
NODE = PolicyEnd(node="node1")


def named(*collections: tuple[str, str, dict[str, Any]], ends: tuple[PolicyEnd, ...]) -> list[str]:
    """What is said on a cluster with these objects: group and path below it, name, spec."""
    api = cluster()
    for group, path, raw in collections:
        serve(api, group, path, [raw])
    return suspects(api, V1, ends)


def policy(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec}


IN_TESTS = "namespaces/tests/networkpolicies"
DENY = policy("default-deny", podSelector={}, policyTypes=["Ingress"])


# networking.k8s.io/v1 NetworkPolicy, as its API reference (Kubernetes 1.34) has it.


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (DENY, ["NetworkPolicy tests/default-deny (Ingress)"]),
        (
            policy("both", podSelector={}, policyTypes=["Ingress", "Egress"]),
            ["NetworkPolicy tests/both (Ingress)", "NetworkPolicy tests/both (Egress)"],
        ),
        (policy("open", podSelector={}, ingress=[{}]), []),
        (policy("other", podSelector={"matchLabels": {"app": "web"}}), []),
        (
            policy(
                "roles",
                podSelector={
                    "matchExpressions": [
                        {"key": "k8snet/role", "operator": "In", "values": ["server"]}
                    ]
                },
            ),
            ["NetworkPolicy tests/roles (Ingress)"],
        ),
        (
            policy("ports", podSelector={}, ingress=[{"ports": [{"port": 443}]}]),
            ["NetworkPolicy tests/ports (Ingress)"],
        ),
    ],
    ids=lambda value: value["metadata"]["name"] if isinstance(value, dict) else "",
)
def test_network_policies_of_the_pods_namespace(raw: dict[str, Any], said: list[str]) -> None:
    assert named((NETWORKING, IN_TESTS, raw), ends=(POD,)) == said
    # They are about pods only.
    assert named((NETWORKING, IN_TESTS, raw), ends=(NODE,)) == []


# api/pkg/apis/projectcalico/v3: globalnetworkpolicy.go, networkpolicy.go, hostendpoint.go (v3.28).


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (
            policy("deny-all", selector="all()", types=["Ingress"]),
            ["GlobalNetworkPolicy deny-all (Ingress)"],
        ),
        (
            policy(
                "elsewhere", selector="all()", namespaceSelector="projectcalico.org/name == 'prod'"
            ),
            [],
        ),
        (
            policy(
                "not-system",
                namespaceSelector="projectcalico.org/name not in {'kube-system'}",
                types=["Egress"],
            ),
            ["GlobalNetworkPolicy not-system (Egress)"],
        ),
        (policy("allow", ingress=[{"action": "Allow"}], types=["Ingress"]), []),
        (
            policy("some", ingress=[{"action": "Allow", "protocol": "TCP"}], types=["Ingress"]),
            ["GlobalNetworkPolicy some (Ingress)"],
        ),
        (policy("role", selector="k8snet/role == 'client'"), []),
        (policy("odd", selector="what is this"), ["GlobalNetworkPolicy odd (Ingress)"]),
    ],
    ids=lambda value: value["metadata"]["name"] if isinstance(value, dict) else "",
)
def test_global_network_policies_that_select_the_pod(raw: dict[str, Any], said: list[str]) -> None:
    assert named((V1, "globalnetworkpolicies", raw), ends=(POD,)) == said


def test_calicos_own_policies_of_the_namespace() -> None:
    raw = policy("default.strict", selector="all()")
    assert named((V1, IN_TESTS, raw), ends=(POD,)) == [
        "NetworkPolicy of Calico default.strict (Ingress)"
    ]


@pytest.mark.parametrize(
    ("spec", "about", "said"),
    [
        ({"node": "node1"}, None, ["HostEndpoint eth0 of node1, which no policy opens"]),
        ({"node": "node2"}, None, []),
        ({"node": "node1", "profiles": ["projectcalico-default-allow"]}, None, []),
        (
            {"node": "node1"},
            policy("harden", selector="has(host)", types=["Ingress"]),
            ["HostEndpoint eth0 by GlobalNetworkPolicy harden (Ingress)"],
        ),
    ],
)
def test_host_endpoints_of_the_node(
    spec: dict[str, Any], about: dict[str, Any] | None, said: list[str]
) -> None:
    host = {"metadata": {"name": "eth0", "labels": {"host": "yes"}}, "spec": spec}
    more = [(V1, "globalnetworkpolicies", about)] if about else []
    assert named((V1, "hostendpoints", host), *more, ends=(NODE,)) == said


def test_both_ends_are_asked_and_each_policy_is_named_once() -> None:
    other = PolicyEnd(node="node2", namespace="tests", labels={"k8snet/role": "client"})
    assert named((NETWORKING, IN_TESTS, DENY), ends=(POD, other)) == [
        "NetworkPolicy tests/default-deny (Ingress)"
    ]


def test_what_may_not_be_read_is_said() -> None:
    api: StoreApi = cluster()

    def refuse(method: str, path: str) -> None:
        if "globalnetworkpolicies" in path:
            raise ForbiddenError("may not list globalnetworkpolicies", status=403)

    api.refuse = refuse
    assert suspects(api, V1, [POD]) == [
        "GlobalNetworkPolicies could not be read: may not list globalnetworkpolicies"
    ]

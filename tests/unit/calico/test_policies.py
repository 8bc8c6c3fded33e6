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
POD = PolicyEnd(
    direction="Ingress", node="node1", namespace="tests", labels={"k8snet/role": "server"}
)
CLIENT = PolicyEnd(
    direction="Egress", node="node2", namespace="tests", labels={"k8snet/role": "client"}
)
NODE = PolicyEnd(direction="Ingress", node="node1")


def named(
    *collections: tuple[str, str, dict[str, Any]], ends: tuple[PolicyEnd, ...], url: str = ""
) -> list[str]:
    """What is said on a cluster with these objects: group and path below it, name, spec."""
    api = cluster()
    served: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for group, path, raw in collections:
        served.setdefault((group, path), []).append(raw)
    for (group, path), items in served.items():
        serve(api, group, path, items)
    return suspects(api, V1, ends, url=url)


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
            ["NetworkPolicy tests/both (Ingress)"],
        ),
        (policy("egress", podSelector={}, policyTypes=["Egress"]), []),
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
                types=["Egress", "Ingress"],
            ),
            ["GlobalNetworkPolicy not-system (Ingress)"],
        ),
        (policy("egress", selector="all()", types=["Egress"]), []),
        # libcalico-go/lib/clientv3/globalnetworkpolicy.go (v3.28): defaultPolicyTypesField.
        (policy("out", selector="all()", egress=[{"action": "Deny"}]), []),
        (
            policy("in", selector="all()", ingress=[{"action": "Deny"}]),
            ["GlobalNetworkPolicy in (Ingress)"],
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


# policy.networking.k8s.io, as network-policy-api v0.1.5 has it; Calico enforces it from v3.29 on
# (libcalico-go/lib/backend/k8s/resources/kubeadminnetworkpolicy.go).

ADMIN = "policy.networking.k8s.io/v1alpha1"
SERVERS = {"matchLabels": {"k8snet/role": "server"}}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"subject": {"namespaces": {}}}, True),
        ({"subject": {"pods": {"namespaceSelector": {}, "podSelector": SERVERS}}}, True),
        ({"subject": {"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "x"}}}}, False),
        (
            {"subject": {"pods": {"podSelector": {"matchLabels": {"k8snet/role": "client"}}}}},
            False,
        ),
        ({"subject": {"namespaces": {}}, "ingress": [{"action": "Allow"}]}, False),
        ({"subject": {"namespaces": {}}, "ingress": None, "egress": [{"action": "Deny"}]}, False),
    ],
)
@pytest.mark.parametrize(
    ("group", "plural", "kind"),
    [
        (ADMIN, "adminnetworkpolicies", "AdminNetworkPolicy"),
        (ADMIN, "baselineadminnetworkpolicies", "BaselineAdminNetworkPolicy"),
        (
            "policy.networking.k8s.io/v1alpha2",
            "clusternetworkpolicies",
            "ClusterNetworkPolicy",
        ),
    ],
)
def test_policies_of_the_clusters_administrators(
    group: str, plural: str, kind: str, spec: dict[str, Any], said: bool
) -> None:
    raw = policy("closed", **{"ingress": [{"action": "Deny"}], **spec})
    wanted = [f"{kind} closed (Ingress)"] if said else []
    assert named((group, plural, raw), ends=(POD,)) == wanted
    assert named((group, plural, raw), ends=(NODE,)) == []


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


def test_a_client_is_asked_for_its_egress_and_each_policy_is_named_once() -> None:
    both = policy("both", podSelector={}, policyTypes=["Ingress", "Egress"])
    assert named((NETWORKING, IN_TESTS, both), ends=(CLIENT, POD, POD)) == [
        "NetworkPolicy tests/both (Egress)",
        "NetworkPolicy tests/both (Ingress)",
    ]
    assert named((NETWORKING, IN_TESTS, DENY), ends=(CLIENT,)) == []


def test_policies_of_kubernetes_add_up() -> None:
    # networking.k8s.io/v1 (Kubernetes 1.34): "Policies do not conflict; they are additive."
    opens = policy("open", podSelector={}, ingress=[{}])
    for policies in ((DENY, opens), (opens, DENY)):
        assert named(*((NETWORKING, IN_TESTS, one) for one in policies), ends=(POD,)) == []


SERVICE = {
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {
        "clusterIP": "10.96.7.7",
        "clusterIPs": ["10.96.7.7"],
        "externalIPs": ["203.0.113.9"],
        "selector": {"app": "web"},
        "ports": [{"port": 80, "nodePort": 30080}],
    },
    "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.8"}]}},
}


def behind(url: str, pod: dict[str, Any], *policies: tuple[str, str, dict[str, Any]]) -> list[str]:
    """What is said where a Service's only pod does not answer."""
    api = cluster()
    listed = api.list
    served = {f"/apis/{group}/{path}": raw for group, path, raw in policies}
    items = {"/api/v1/services": SERVICE, "/api/v1/namespaces/shop/pods": pod, **served}

    def list_(path: str, *, labels: str = "", fields: str = "") -> list[dict[str, Any]]:
        assert labels == ("app=web" if path.endswith("shop/pods") else "")
        return [items[path]] if path in items else listed(path, labels=labels, fields=fields)

    api.list = list_  # type: ignore[method-assign]
    return suspects(api, V1, [CLIENT], url=url)


BACKEND = {
    "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}},
    "spec": {"nodeName": "node3"},
}
IN_SHOP = (NETWORKING, "namespaces/shop/networkpolicies", DENY)
WAYS = [
    *("http://10.96.7.7/", "http://web.shop.svc.cluster.local./x", "http://web.shop.svc:80"),
    *("http://192.168.0.11:30080/", "http://203.0.113.8/", "https://203.0.113.9/"),
]


@pytest.mark.parametrize("url", WAYS)
def test_a_policy_of_the_pods_behind_a_service_is_named(url: str) -> None:
    assert behind(url, BACKEND, IN_SHOP) == ["NetworkPolicy shop/default-deny (Ingress)"]
    everywhere = policy("lock", selector="app == 'web'", types=["Ingress"])
    assert behind(url, BACKEND, (V1, "globalnetworkpolicies", everywhere)) == [
        "GlobalNetworkPolicy lock (Ingress)"
    ]


def test_a_host_endpoint_of_a_service_on_the_host_network_is_named() -> None:
    on_host = {**BACKEND, "spec": {"nodeName": "node3", "hostNetwork": True}}
    host = {"metadata": {"name": "eth0"}, "spec": {"node": "node3"}}
    assert behind(WAYS[0], on_host, IN_SHOP, (V1, "hostendpoints", host)) == [
        "HostEndpoint eth0 of node3, which no policy opens"
    ]


@pytest.mark.parametrize(
    "url", ["http://10.96.7.8/", "http://192.168.0.11:30081/", "http://web.shop.example/", "x"]
)
def test_what_no_service_is_known_of_has_nobody_behind_it(url: str) -> None:
    assert behind(url, BACKEND, IN_SHOP) == []


def test_what_may_not_be_read_is_said() -> None:
    api: StoreApi = cluster()

    def refuse(method: str, path: str) -> None:
        if "globalnetworkpolicies" in path:
            raise ForbiddenError("may not list globalnetworkpolicies", status=403)

    api.refuse = refuse
    assert suspects(api, V1, [POD]) == [
        "GlobalNetworkPolicies could not be read: may not list globalnetworkpolicies"
    ]

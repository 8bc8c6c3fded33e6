from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.lab.api.objects import Object, name_of
from pytest_k8snet.lab.kube import scheduler
from pytest_k8snet.lab.kube.scheduler import Cluster, unschedulable_text
from pytest_k8snet.lab.kube.system import node_objects
from pytest_k8snet.lab.spec import LabSpec, study_nodes

MASTER, NODE1, NODE2, NODE3 = node_objects(LabSpec(nodes=study_nodes()))
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [], **spec}}


def obstacle(pod: Object, node: Object, pods_there: list[Object]) -> str:
    """Why the pod cannot go to a node that has these pods."""
    cluster = Cluster(nodes={name_of(node): node}, namespaces={})
    for one in pods_there:
        cluster.place({**one, "spec": {**one["spec"], "nodeName": name_of(node)}})
    return scheduler.obstacle(pod, name_of(node), cluster)


def test_an_ordinary_pod_may_go_to_a_worker_but_not_to_the_control_plane() -> None:
    assert obstacle(pod(), NODE1, []) == ""
    assert obstacle(pod(), MASTER, []) == f"node(s) had untolerated taint {{{CONTROL_PLANE}: }}"


@pytest.mark.parametrize(
    "toleration",
    [
        {"operator": "Exists"},
        {"key": CONTROL_PLANE, "operator": "Exists"},
        {"key": CONTROL_PLANE, "effect": "NoSchedule"},
        {"key": CONTROL_PLANE, "operator": "Equal", "value": "", "effect": "NoSchedule"},
    ],
)
def test_a_toleration_opens_the_control_plane(toleration: dict[str, str]) -> None:
    assert obstacle(pod(tolerations=[toleration]), MASTER, []) == ""


@pytest.mark.parametrize(
    "toleration",
    [
        {"key": CONTROL_PLANE, "effect": "NoExecute", "operator": "Exists"},
        {"key": "another", "operator": "Exists"},
        {"key": CONTROL_PLANE, "value": "x", "effect": "NoSchedule"},
    ],
)
def test_another_toleration_does_not(toleration: dict[str, str]) -> None:
    assert "untolerated taint" in obstacle(pod(tolerations=[toleration]), MASTER, [])


def test_the_node_selector_is_obeyed() -> None:
    chosen = pod(nodeSelector={"kubernetes.io/hostname": "node2"})
    assert obstacle(chosen, NODE2, []) == ""
    assert obstacle(chosen, NODE1, []) == "node(s) didn't match Pod's node affinity/selector"


@pytest.mark.parametrize(
    ("operator", "values", "fits"),
    [
        ("In", ["node1", "node2"], True),
        ("In", ["node3"], False),
        ("NotIn", ["node3"], True),
        ("NotIn", ["node1"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
    ],
)
def test_required_node_affinity_is_obeyed(operator: str, values: list[str], fits: bool) -> None:
    expression = {"key": "kubernetes.io/hostname", "operator": operator, "values": values}
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    assert (obstacle(pod(affinity=affinity), NODE1, []) == "") is fits


def test_a_cordoned_node_takes_no_pod() -> None:
    cordoned = {**NODE1, "spec": {**NODE1["spec"], "unschedulable": True}}
    assert obstacle(pod(), cordoned, []) == "node(s) were unschedulable"


def test_what_others_asked_for_is_not_given_twice() -> None:
    room = {**NODE1["status"], "allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}}
    node = {**NODE1, "status": room}
    hungry = pod(containers=[{"resources": {"requests": {"cpu": "1500m"}}}])
    assert obstacle(hungry, node, []) == ""
    assert obstacle(hungry, node, [hungry]) == "Insufficient cpu"
    assert obstacle(pod(), node, [pod(), pod(), pod()]) == "Too many pods"


def test_the_sentence_counts_the_reasons_as_kube_scheduler_does() -> None:
    reasons = [
        "node(s) were unschedulable",
        "node(s) didn't match Pod's node affinity/selector",
        "node(s) were unschedulable",
    ]
    assert unschedulable_text(reasons) == (
        "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, "
        "2 node(s) were unschedulable. preemption: 0/3 nodes are available: "
        "3 Preemption is not helpful for scheduling."
    )
    assert unschedulable_text([]) == "no nodes available to schedule pods"


# -- pods that mind each other ---------------------------------------------------------------------

HOSTNAME = "kubernetes.io/hostname"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
ZONED = {"node1": "a", "node2": "a", "node3": "b"}


def workers() -> dict[str, Object]:
    """The three workers, two of them in one zone."""
    nodes = {name_of(node): node for node in node_objects(LabSpec(nodes=study_nodes()))}
    for name, zone in ZONED.items():
        nodes[name]["metadata"]["labels"]["zone"] = zone
    return {name: nodes[name] for name in ZONED}


def labelled(app: str, node: str = "", namespace: str = "default", **spec: Any) -> Object:
    meta = {"name": f"{app}-{node}", "namespace": namespace, "labels": {"app": app}}
    return {"metadata": meta, "spec": {"containers": [], "nodeName": node, **spec}}


def term(app: str, key: str = HOSTNAME, **more: Any) -> Object:
    return {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key, **more}


def affinity(kind: str, *terms: Object) -> Object:
    return {"affinity": {kind: {REQUIRED: list(terms)}}}


def places(pod: Object, *pods: Object) -> dict[str, str]:
    """Each worker, and why the pod cannot go there."""
    cluster = Cluster(nodes=workers(), namespaces={"default": {}, "other": {"team": "x"}})
    for one in pods:
        cluster.place(one)
    return {name: scheduler.obstacle(pod, name, cluster) for name in cluster.nodes}


def open_to(pod: Object, *pods: Object) -> set[str]:
    return {name for name, reason in places(pod, *pods).items() if not reason}


def test_anti_affinity_keeps_pods_apart_by_node_or_zone() -> None:
    server = labelled("server", "node1")
    client = labelled("client", **affinity("podAntiAffinity", term("server")))
    assert open_to(client, server) == {"node2", "node3"}
    client = labelled("client", **affinity("podAntiAffinity", term("server", "zone")))
    found = places(client, server)
    assert found["node2"] == "node(s) didn't match pod anti-affinity rules"
    assert found["node3"] == ""


def test_those_who_want_no_company_are_heard_as_well() -> None:
    solitary = labelled("solitary", "node1", **affinity("podAntiAffinity", term("client")))
    found = places(labelled("client"), solitary)
    assert found["node1"] == "node(s) didn't satisfy existing pods anti-affinity rules"
    assert found["node2"] == found["node3"] == ""


def test_affinity_brings_pods_together() -> None:
    client = labelled("client", **affinity("podAffinity", term("server", "zone")))
    assert open_to(client, labelled("server", "node1")) == {"node1", "node2"}
    refused = places(client)
    assert set(refused.values()) == {"node(s) didn't match pod affinity rules"}


def test_the_first_of_a_group_that_wants_to_be_together_may_go_anywhere() -> None:
    together = affinity("podAffinity", term("group"))
    assert open_to(labelled("group", **together)) == {"node1", "node2", "node3"}
    assert open_to(labelled("group", **together), labelled("group", "node2")) == {"node2"}


def test_a_term_speaks_of_its_own_namespace_unless_it_names_others() -> None:
    elsewhere = labelled("server", "node1", namespace="other")
    apart = [term("server"), term("server", namespaces=["other"])]
    assert open_to(labelled("c", **affinity("podAntiAffinity", apart[0])), elsewhere) == set(ZONED)
    for one in (apart[1], term("server", namespaceSelector={"matchLabels": {"team": "x"}})):
        found = open_to(labelled("c", **affinity("podAntiAffinity", one)), elsewhere)
        assert found == {"node2", "node3"}


def spread(**more: Any) -> Object:
    selector = {"matchLabels": {"app": "web"}}
    constraint = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    return {"topologySpreadConstraints": [{**constraint, "labelSelector": selector, **more}]}


def test_pods_are_spread_over_the_zones() -> None:
    web = labelled("web", **spread())
    assert open_to(web) == {"node1", "node2", "node3"}
    found = places(web, labelled("web", "node1"))
    assert found["node2"] == "node(s) didn't match pod topology spread constraints"
    assert found["node3"] == ""
    assert open_to(web, labelled("web", "node1"), labelled("web", "node3")) == set(ZONED)
    assert open_to(labelled("web", **spread(maxSkew=2)), labelled("web", "node1")) == set(ZONED)


def test_a_node_without_the_topology_key_takes_none_that_is_spread() -> None:
    found = places(labelled("web", **spread(topologyKey="rack")))
    assert set(found.values()) == {
        "node(s) didn't match pod topology spread constraints (missing required label)"
    }


def test_a_host_port_is_taken_once() -> None:
    port: dict[str, Any] = {
        "containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]
    }
    found = places(labelled("web", **port), labelled("web", "node1", **port))
    assert found["node1"] == "node(s) didn't have free ports for the requested pod ports"
    assert found["node2"] == ""


def test_a_resource_that_no_node_has_is_insufficient() -> None:
    requests = {"resources": {"requests": {"nvidia.com/gpu": "1"}}}
    found = places(labelled("x", containers=[{"name": "c", **requests}]))
    assert set(found.values()) == {"Insufficient nvidia.com/gpu"}

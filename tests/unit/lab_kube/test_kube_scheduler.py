from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.lab.kube.scheduler import obstacle, unschedulable_text
from pytest_k8snet.lab.kube.system import node_objects
from pytest_k8snet.lab.spec import LabSpec, study_nodes

MASTER, NODE1, NODE2, NODE3 = node_objects(LabSpec(nodes=study_nodes()))
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [], **spec}}


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

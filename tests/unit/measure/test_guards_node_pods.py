"""What is seen of calico-node between two looks, through a server that answers as told."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.errors import ForbiddenError
from pytest_k8snet.measure.guards import NodePodWatch, node_pods


def body(
    node: str = "node1", *, uid: str = "u1", restarts: int = 0, ready: bool = True
) -> dict[str, Any]:
    return {
        "metadata": {"name": f"calico-node-{uid}", "uid": uid},
        "spec": {"nodeName": node},
        "status": {
            "containerStatuses": [{"restartCount": restarts}],
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


class Answers:
    """Lists each node's pods as it is told, look after look, and keeps what it was asked."""

    def __init__(self, *looks: list[dict[str, Any]]) -> None:
        self._looks = looks
        self.asked: list[str] = []

    def list(self, path: str, *, labels: str = "", fields: str = "") -> list[dict[str, Any]]:
        asked = f"{path}?{labels}&{fields}"
        if not self._looks:
            self.asked.append(asked)
            raise ForbiddenError("may not list pods", status=403)
        look = self._looks[self.asked.count(asked)]
        self.asked.append(asked)
        return [pod for pod in look if fields == f"spec.nodeName={pod['spec']['nodeName']}"]


def watch(answers: Answers, *nodes: str) -> NodePodWatch:
    # The real Api needs a server; the watch asks nothing of it but a list.
    return NodePodWatch(cast(Api, answers), lambda: nodes or ("node1",))


@pytest.mark.parametrize(
    ("after", "befell"),
    [
        ([body()], ""),
        ([body(restarts=1)], "calico-node of node1 restarted"),
        ([body(uid="u2")], "calico-node of node1 was replaced"),
        ([body(ready=False)], "calico-node of node1 is not Ready"),
        ([], "calico-node of node1 is gone"),
    ],
)
def test_what_befell_calico_node_since_the_last_look(
    after: list[dict[str, Any]], befell: str
) -> None:
    answers = Answers([body()], after)
    look = watch(answers)
    assert look() == ""
    assert look() == befell
    assert answers.asked == ["/api/v1/pods?k8s-app=calico-node&spec.nodeName=node1"] * 2


def test_one_that_is_not_ready_from_the_start_is_told() -> None:
    assert watch(Answers([body(ready=False)]))() == "calico-node of node1 is not Ready"


def test_each_look_starts_from_the_last_one() -> None:
    look = watch(Answers([body()], [body(restarts=1)], [body(restarts=1)]))
    assert [look(), look(), look()] == ["", "calico-node of node1 restarted", ""]


def test_other_nodes_do_not_matter() -> None:
    look = watch(Answers([body(), body("node9")], [body(), body("node9", restarts=3)]))
    assert [look(), look()] == ["", ""]


def test_several_nodes_are_told_together() -> None:
    before = [body("node1"), body("node2")]
    after = [body("node1", restarts=1), body("node2", ready=False)]
    look = watch(Answers(before, after), "node2", "node1")
    look()
    assert look() == "calico-node of node1 restarted, calico-node of node2 is not Ready"


def test_a_cluster_without_such_pods_gives_no_cause() -> None:
    look = watch(Answers([], []))
    assert [look(), look()] == ["", ""]


def test_without_the_right_to_list_it_is_asked_once_only() -> None:
    answers = Answers()
    look = watch(answers)
    assert [look(), look()] == ["", ""]
    assert len(answers.asked) == 1


def test_the_successor_of_a_pod_that_is_going_counts() -> None:
    going = body(uid="u1", ready=False)
    going["metadata"]["deletionTimestamp"] = "2026-11-23T00:00:00Z"
    for bodies in ([going, body(uid="u2")], [body(uid="u2"), going]):
        assert node_pods(bodies)["node1"].uid == "u2"

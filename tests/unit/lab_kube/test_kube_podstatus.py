from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.lab.kube.podstatus import (
    ContainerState,
    PodState,
    build,
    running,
    terminated,
    waiting,
)

POD: dict[str, Any] = {"metadata": {"name": "p"}, "spec": {"restartPolicy": "Always"}}


def container(name: str = "c", **facts: Any) -> ContainerState:
    return ContainerState(name=name, image="x", **facts)


def ended(code: int) -> dict[str, Any]:
    return terminated(code, container_id="1", started_at="2026-01-01T00:00:00Z")


def state(*containers: ContainerState, **facts: Any) -> PodState:
    return PodState(node_address="192.168.0.11", containers=list(containers), **facts)


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    return {
        entry["type"]: (entry["status"], entry.get("reason", ""), entry.get("message", ""))
        for entry in status["conditions"]
    }


@pytest.mark.parametrize(
    ("policy", "containers", "phase"),
    [
        ("Always", [container()], "Pending"),
        ("Always", [container(state=running())], "Running"),
        ("Always", [container(state=running()), container(state=waiting("ErrImagePull"))],
         "Pending"),
        ("Always", [container(state=ended(1))], "Running"),
        ("Always", [container(state=waiting("CrashLoopBackOff"), last=ended(1))], "Running"),
        ("Never", [container(state=ended(0))], "Succeeded"),
        ("Never", [container(state=ended(0)), container(state=ended(2))], "Failed"),
        ("Never", [container(state=ended(0)), container(state=running())], "Running"),
        ("OnFailure", [container(state=ended(0))], "Succeeded"),
        ("OnFailure", [container(state=ended(1))], "Running"),
    ],
)  # fmt: skip
def test_the_phase_follows_from_containers_and_restart_policy(
    policy: str, containers: list[ContainerState], phase: str
) -> None:
    assert state(*containers).phase(policy) == phase


def test_a_failed_init_container_fails_the_pod_only_when_it_is_never_restarted() -> None:
    broken = state(container(), initial=[container("init", state=ended(1))])
    assert broken.phase("Never") == "Failed"
    assert broken.phase("Always") == "Pending"


def test_a_running_container_without_readiness_makes_the_pod_unready() -> None:
    status = build(POD, state(container("web", state=running()), sandbox_ready=True))
    assert status["phase"] == "Running"
    expected = ("False", "ContainersNotReady", "containers with unready status: [web]")
    assert conditions(status)["Ready"] == expected
    assert conditions(status)["ContainersReady"] == expected
    assert conditions(status)["PodReadyToStartContainers"] == ("True", "", "")


def test_a_ready_pod_has_all_its_conditions() -> None:
    ready = container(state=running(), passes_probe=True, id="ab")
    status = build(POD, state(ready, sandbox_ready=True, address="10.244.0.5"))
    assert {value for value, _, _ in conditions(status).values()} == {"True"}
    assert status["podIP"] == "10.244.0.5"
    assert status["podIPs"] == [{"ip": "10.244.0.5"}]
    assert status["hostIP"] == "192.168.0.11"
    entry = status["containerStatuses"][0]
    assert (entry["ready"], entry["started"], entry["containerID"]) == (
        True, True, "containerd://ab"
    )  # fmt: skip


def test_a_finished_pod_says_so_in_its_conditions() -> None:
    pod = {**POD, "spec": {"restartPolicy": "Never"}}
    status = build(pod, state(container(state=ended(0))))
    assert conditions(status)["Ready"] == ("False", "PodCompleted", "")
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"


def test_a_failure_of_the_whole_pod_is_named() -> None:
    status = build(POD, state(container(), failure=("DeadlineExceeded", "too long")))
    assert (status["phase"], status["reason"], status["message"]) == (
        "Failed", "DeadlineExceeded", "too long"
    )  # fmt: skip


def test_a_condition_that_does_not_change_keeps_its_time() -> None:
    old = {"type": "Ready", "status": "False", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    pod = {**POD, "status": {"conditions": [old]}}
    unready = build(pod, state(container(state=running())))
    ready = build(pod, state(container(state=running(), passes_probe=True)))
    times = [
        next(entry for entry in status["conditions"] if entry["type"] == "Ready")[
            "lastTransitionTime"
        ]
        for status in (unready, ready)
    ]
    assert times[0] == "2020-01-01T00:00:00Z"
    assert times[1] != "2020-01-01T00:00:00Z"

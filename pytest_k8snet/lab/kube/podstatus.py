"""The status of a pod as a kubelet writes it. Pure: from what its containers do to the object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pytest_k8snet.lab.api.objects import Object, dig, timestamp
from pytest_k8snet.lab.kube import podspec


@dataclass(slots=True, kw_only=True)
class ContainerState:
    """What is known about one container of a pod.

    Attributes:
        name: of the container.
        image: its image, as its spec names it.
        state: one of ``{"waiting": {...}}``, ``{"running": ...}``, ``{"terminated": ...}``.
        last: how the run before ended, or empty.
        restarts: how many runs came before this one.
        id: of the current run.
        passes_probe: what the readiness probe says; without one, true while it runs.
    """

    name: str
    image: str
    state: Object = field(default_factory=lambda: waiting("ContainerCreating"))
    last: Object = field(default_factory=dict)
    restarts: int = 0
    id: str = ""
    passes_probe: bool = False

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return "running" in self.state

    @property
    def ready(self) -> bool:
        """Whether it runs and passes its probe."""
        return self.running and self.passes_probe

    @property
    def exit_code(self) -> int | None:
        """The exit status, once it has ended for good."""
        code = dig(self.state, "terminated.exitCode")
        return None if code is None else int(code)

    def to_dict(self, *, initial: bool) -> Object:
        """The entry of ``containerStatuses``; init containers are ready when they succeeded."""
        container_id = f"containerd://{self.id}" if self.id else ""
        return {
            "name": self.name,
            "state": self.state,
            "lastState": self.last,
            "ready": self.exit_code == 0 if initial else self.ready,
            "restartCount": self.restarts,
            "image": podspec.reference(self.image) if self.id else self.image,
            "imageID": podspec.image_id(self.image) if self.id else "",
            "containerID": container_id,
            "started": False if initial else self.running,
        }


def waiting(reason: str, message: str = "") -> Object:
    """The state of a container that does not run yet."""
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def running() -> Object:
    """The state of a container that has just started."""
    return {"running": {"startedAt": timestamp()}}


def terminated(
    code: int, *, container_id: str, started_at: str, reason: str = "", message: str = ""
) -> Object:
    """The state of a container that has ended."""
    ended: Object = {"exitCode": code, "reason": reason or ("Error" if code else "Completed")}
    if message:
        ended["message"] = message
    ended |= {"startedAt": started_at, "finishedAt": timestamp()}
    ended["containerID"] = f"containerd://{container_id}"
    return {"terminated": ended}


@dataclass(slots=True, kw_only=True)
class PodState:
    """What a kubelet knows about a pod, beyond the object.

    Attributes:
        node_address: of the node it runs on.
        address: of the pod, empty until its network is there.
        initial: the init containers, in order.
        containers: the containers, in order.
        sandbox_ready: whether its network namespace stands.
        started_at: when the kubelet took it on.
        failure: reason and message when the pod as a whole has failed.
    """

    node_address: str
    address: str = ""
    initial: list[ContainerState] = field(default_factory=list)
    containers: list[ContainerState] = field(default_factory=list)
    sandbox_ready: bool = False
    started_at: str = field(default_factory=timestamp)
    failure: tuple[str, str] | None = None

    def phase(self, restart_policy: str) -> str:
        """Pending, Running, Succeeded or Failed."""
        if self.failure:
            return "Failed"
        final = restart_policy != "Always"
        for state in self.initial:
            if state.exit_code != 0:
                failed = state.exit_code is not None and restart_policy == "Never"
                return "Failed" if failed else "Pending"
        codes = [state.exit_code for state in self.containers]
        if any("waiting" in state.state and not state.last for state in self.containers):
            return "Pending"
        if not final or None in codes:
            return "Running"
        if restart_policy == "OnFailure" and any(codes):
            return "Running"
        return "Failed" if any(codes) else "Succeeded"


def build(pod: Object, state: PodState) -> Object:
    """The whole status; conditions that do not change keep their transition time."""
    phase = state.phase(dig(pod, "spec.restartPolicy", "Always"))
    seen = {"observedGeneration": dig(pod, "metadata.generation", 1)}
    conditions = [one | seen for one in _conditions(pod, state, phase)]
    status: Object = {**seen, "phase": phase, "conditions": conditions}
    if state.failure:
        status["reason"], status["message"] = state.failure
    status["hostIP"] = state.node_address
    status["hostIPs"] = [{"ip": state.node_address}]
    if state.address:
        status["podIP"] = state.address
        status["podIPs"] = [{"ip": state.address}]
    status["startTime"] = state.started_at
    if state.initial:
        status["initContainerStatuses"] = [entry.to_dict(initial=True) for entry in state.initial]
    status["containerStatuses"] = [entry.to_dict(initial=False) for entry in state.containers]
    status["qosClass"] = dig(pod, "status.qosClass", "BestEffort")
    return status


def _conditions(pod: Object, state: PodState, phase: str) -> list[Object]:
    over = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase, "")
    unready = _names(state.containers, lambda entry: entry.ready)
    uninitialised = _names(state.initial, lambda entry: entry.exit_code == 0)
    not_ready = (over, "") if over else ("ContainersNotReady", _unready("unready", unready))
    wanted: dict[str, tuple[bool, str, str]] = {
        "PodReadyToStartContainers": (state.sandbox_ready, "", ""),
        "Initialized": (True, over if over == "PodCompleted" else "", "")
        if not uninitialised
        else (False, "ContainersNotInitialized", _unready("incomplete", uninitialised)),
        "Ready": (False, *not_ready) if unready or over else (True, "", ""),
        "ContainersReady": (False, *not_ready) if unready or over else (True, "", ""),
        "PodScheduled": (True, "", ""),
    }
    old = {entry["type"]: entry for entry in dig(pod, "status.conditions", [])}
    others = [entry for kind, entry in old.items() if kind not in wanted]
    return [_condition(kind, *facts, old.get(kind)) for kind, facts in wanted.items()] + others


def _names(
    states: Sequence[ContainerState], good: Callable[[ContainerState], bool | None]
) -> list[str]:
    return [entry.name for entry in states if not good(entry)]


def _unready(word: str, names: Sequence[str]) -> str:
    return f"containers with {word} status: [{' '.join(names)}]"


def _condition(kind: str, holds: bool, reason: str, message: str, old: Object | None) -> Object:
    value = "True" if holds else "False"
    same = old is not None and old.get("status") == value
    condition: Object = {
        "type": kind,
        "status": value,
        "lastProbeTime": None,
        "lastTransitionTime": old["lastTransitionTime"] if old and same else timestamp(),
    }
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition

"""Waiting until pods are ready, and why one does not start, in Kubernetes' own words."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_k8snet.causes import Cause
from pytest_k8snet.cluster.api import follow
from pytest_k8snet.cluster.api_errors import collection
from pytest_k8snet.cluster.pods import ROLE_LABEL
from pytest_k8snet.errors import ClusterError, K8sNetError, PodError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

#: For how long a failure that may pass by itself is tolerated: a first failed pull of an image, a
#: node that is about to lose its not-ready taint.
TOLERANCE_SECONDS = 3.0

#: Waiting reasons of a container that do not go away.
_HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull", "CrashLoopBackOff"})
#: Waiting reasons that may go away.
_PASSING = frozenset(
    {
        *("ErrImagePull", "ImagePullBackOff"),
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    }
)
#: What registries and runtimes say about an image that will not come by trying again.
_FINAL_WORDS = (
    *("not found", "manifest unknown", "denied", "unauthorized", "authentication required"),
    *("no such host", "does not exist", "no matching manifest"),
)

_OTHER_ARCHITECTURE = (
    "the image is not built for the node's architecture: copy all of its architectures to the "
    "mirror (`k8snet images --to` writes how), or choose nodes, e.g. "
    "-o k8snet_node_labels=kubernetes.io/arch=amd64"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailure:
    """Why a pod does not start.

    Attributes:
        reason: Kubernetes' word for it, e.g. ``ImagePullBackOff``.
        message: the scheduler's, kubelet's or runtime's own text.
        passing: whether it may pass by itself.
        remedy: what can be done.
        wants_logs: whether the container ran, so that its last lines tell more.
    """

    reason: str
    message: str
    passing: bool = False
    remedy: str = ""
    wants_logs: bool = False


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Tell whether a Pod object is running, ready, addressed, and not being deleted."""
    status = pod.get("status") or {}
    if (pod.get("metadata") or {}).get("deletionTimestamp") or status.get("phase") != "Running":
        return False
    return bool(status.get("podIP")) and _condition(pod, "Ready").get("status") == "True"


def start_failure(pod: Mapping[str, Any]) -> StartFailure | None:
    """Return why a Pod object will not become ready; None when nothing speaks against it."""
    status = pod.get("status") or {}
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return StartFailure(
            reason="Deleted",
            message="it is being deleted while the run waits for it",
            remedy="find out who deletes pods in its namespace",
        )
    if status.get("phase") in ("Failed", "Succeeded"):
        return _ended(status)
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return StartFailure(
            reason="Unschedulable",
            message=scheduled.get("message", ""),
            passing=True,
            remedy="the scheduler's message counts the nodes by what is wrong with them; "
            "make room on the node, or choose another",
        )
    role = ((pod.get("metadata") or {}).get("labels") or {}).get(ROLE_LABEL, "")
    option = "k8snet_web_image" if role.startswith("web") else "k8snet_image"
    failures = (_waiting(container, option) for container in _containers(status))
    return next(filter(None, failures), None)


def _ended(status: Mapping[str, Any]) -> StartFailure:
    reason = status.get("reason") or ""
    message = status.get("message") or ""
    for container in _containers(status):
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended and not reason:
            return StartFailure(
                reason=ended.get("reason") or "Terminated",
                message=f"exit code {ended.get('exitCode')}. {ended.get('message', '')}".strip(),
                remedy=_OTHER_ARCHITECTURE
                if "exec format error" in ended.get("message", "")
                else "the image must have `sh` and `sleep`, and run as any user",
                wants_logs=True,
            )
    return StartFailure(
        reason=reason or str(status.get("phase")),
        message=message,
        remedy="free memory and disk on the node, or choose another node"
        if reason == "Evicted"
        else "`kubectl describe pod` and the node's events tell more",
    )


def _waiting(container: Mapping[str, Any], option: str) -> StartFailure | None:
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason not in _HOPELESS and reason not in _PASSING:
        return None
    if "Image" in reason:
        image = container.get("image", "")
        final = reason in _HOPELESS or any(word in message.lower() for word in _FINAL_WORDS)
        return StartFailure(
            reason=reason,
            message=f"image {image}: {message}" if image not in message else message,
            passing=not final,
            remedy=_OTHER_ARCHITECTURE
            if "no matching manifest" in message
            else "check the image's name, that the node can reach its registry, and pull "
            f"secrets; `-o {option}=...` names another (a mirror within reach)",
        )
    return StartFailure(
        reason=reason,
        message=message,
        passing=reason in _PASSING,
        remedy="`kubectl describe pod` shows the container runtime's account",
        wants_logs=reason == "CrashLoopBackOff",
    )


def _containers(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]


def _condition(pod: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one.get("type") == kind), {})


# -- Waiting until pods are ready ------------------------------------------------------------------

_EVENTS = 6
_LOG_LINES = 5


def wait_ready(
    api: Api,
    namespace: str,
    *,
    labels: str,
    count: int,
    names: Collection[str] | None = None,
    timeout_seconds: float,
    maker: Callable[[], StartFailure | None] = lambda: None,
) -> list[dict[str, Any]]:
    """Wait until pods are ready.

    Args:
        api: the cluster.
        namespace: the pods' namespace.
        labels: a selector for them.
        count: how many there must be.
        names: their names where these are known: then one that vanishes is an error.
        timeout_seconds: for all of them together.
        maker: says why fewer pods than needed exist, where something else makes them.

    Returns:
        the Pod objects.

    Raises:
        PodError: one does not start, with the reason that Kubernetes gives.
    """
    path = collection("pods", namespace=namespace)
    deadline = time.monotonic() + timeout_seconds
    since: dict[str, float] = {}
    said: dict[str, str] = {}
    for listed in follow(api, path, labels=labels):
        pods = [pod for pod in listed if names is None or pod["metadata"]["name"] in names]
        if names is not None and (missing := set(names) - {p["metadata"]["name"] for p in pods}):
            raise PodError(
                f"pod {namespace}/{min(missing)} has vanished before it was ready",
                remedy="find out who deletes pods in "
                f"{namespace}: `kubectl get events -n {namespace}`",
            )
        ready = [pod for pod in pods if is_ready(pod)]
        if len(ready) >= count:
            return ready
        for pod in pods:
            uid = pod["metadata"]["uid"]
            failure = None if is_ready(pod) else start_failure(pod)
            # A Deployment's own doing: it replaces the pod.
            if failure is not None and names is None and failure.reason == "Deleted":
                failure = None
            if failure is None:
                since.pop(uid, None)
                continue
            # "Back-off pulling image" comes after, and hides, the registry's own words.
            said[uid] = max(said.get(uid, ""), failure.message, key=len)
            began = since.setdefault(uid, time.monotonic())
            if not failure.passing or time.monotonic() - began >= TOLERANCE_SECONDS:
                raise _does_not_start(api, pod, failure, said[uid])
        if len(pods) < count and (why := maker()) is not None:
            raise PodError(
                f"{count} pods are wanted in namespace {namespace} and {len(pods)} were made: "
                f"{why.reason}",
                found=why.message,
                remedy=why.remedy,
            )
        if time.monotonic() >= deadline:
            raise _too_late(api, namespace, [p for p in pods if p not in ready], timeout_seconds)
    raise AssertionError("unreachable")


def _does_not_start(
    api: Api, pod: Mapping[str, Any], failure: StartFailure, message: str
) -> PodError:
    metadata, lines = pod["metadata"], ""
    if failure.wants_logs:
        with suppress(K8sNetError):
            lines = api.logs(metadata["namespace"], metadata["name"], tail_lines=_LOG_LINES).strip()
    return PodError(
        f"{_name(pod)} does not start: {failure.reason}",
        found=f"{message}\nlast lines of its log:\n{lines}" if lines else message,
        remedy=failure.remedy,
    )


def _too_late(
    api: Api, namespace: str, pods: Sequence[Mapping[str, Any]], timeout_seconds: float
) -> PodError:
    if not pods:
        return PodError(
            f"no pod has appeared in namespace {namespace} within {timeout_seconds:g} s",
            remedy="see whether kube-controller-manager and kube-scheduler run",
        )
    told = events_of(api, pods[0], "Pod") or []
    return PodError(
        f"{_name(pods[0])} is not ready after {timeout_seconds:g} s"
        + (f" (nor are {len(pods) - 1} more)" if len(pods) > 1 else ""),
        found="\n".join([_state(pods[0]), *map(str, told)]),
        remedy=_cause(pods[0], told).remedy,
    )


#: What the newest telling event points to.
_CAUSES: Mapping[str, Cause] = {
    "FailedCreatePodSandBox": Cause.POD_NETWORK,
    "FailedMount": Cause.POD_VOLUME,
    "FailedScheduling": Cause.NOT_SCHEDULED,
    "Pulling": Cause.IMAGE_PULL,
    "Unhealthy": Cause.READINESS_PROBE,
}


def _cause(pod: Mapping[str, Any], told: Sequence[Event]) -> Cause:
    """Tell what the evidence points to where a pod is not ready in time."""
    for event in reversed(told):
        if event.reason in _CAUSES:
            return _CAUSES[event.reason]
    if not (pod.get("spec") or {}).get("nodeName"):
        return Cause.NO_SCHEDULER
    if not (pod.get("status") or {}).get("containerStatuses"):
        return Cause.NO_KUBELET
    return Cause.POD_SLOW


def _name(pod: Mapping[str, Any]) -> str:
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    selector = spec.get("nodeSelector") or {}
    node = spec.get("nodeName") or selector.get("kubernetes.io/hostname") or ""
    return f"pod {metadata['namespace']}/{metadata['name']}" + (f" on {node}" if node else "")


def _state(pod: Mapping[str, Any]) -> str:
    status = pod.get("status") or {}
    words = [f"phase {status.get('phase', 'unknown')}"]
    for condition in status.get("conditions") or []:
        if condition.get("status") != "True" and condition.get("type") != "Ready":
            words.append(f"{condition.get('type')}: {condition.get('message') or 'no'}")
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting:
            words.append(f"{waiting.get('reason', 'waiting')} {waiting.get('message', '')}".strip())
    return "; ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a component of the cluster has reported of an object.

    Attributes:
        reason: one word for programs, such as ``FailedScheduling``.
        message: the same for people.
        warning: whether it is of the type ``Warning``.
    """

    reason: str
    message: str
    warning: bool

    def __str__(self) -> str:
        return f"event {self.reason}: {self.message}"


def events_of(api: Api, item: Mapping[str, Any], kind: str) -> list[Event] | None:
    """Return the last events about an object; None where they cannot be read.

    Of one kind: an object of another may have its name.
    """
    metadata = item["metadata"]
    about = {"kind": kind, "name": metadata["name"], "uid": metadata.get("uid")}
    try:
        events = api.list(
            collection("events", namespace=metadata["namespace"]),
            fields=",".join(f"involvedObject.{key}={one}" for key, one in about.items() if one),
        )
    except ClusterError:
        # They only explain: without the permission to read them, the error stands by itself.
        return None
    # The API gives them by name.
    events.sort(key=_time_of_event)
    return [
        Event(
            reason=str(event.get("reason", "")),
            message=str(event.get("message", "")),
            warning=event.get("type") == "Warning",
        )
        for event in events[-_EVENTS:]
    ]


def _time_of_event(event: Mapping[str, Any]) -> datetime:
    """Return when it happened last: each generation of the API has a field of its own."""
    texts = (
        (event.get("series") or {}).get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        (event.get("metadata") or {}).get("creationTimestamp"),
    )
    for text in texts:
        with suppress(ValueError):
            if text:
                found = datetime.fromisoformat(str(text))
                return found if found.tzinfo else found.replace(tzinfo=UTC)
    return datetime.min.replace(tzinfo=UTC)

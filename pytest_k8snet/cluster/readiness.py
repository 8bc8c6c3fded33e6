"""Wait for pods to be ready, and fail early with the scheduler's or kubelet's own reason.

Polls one list for all pods. A watch would tell a few milliseconds sooner and add a stream that can
hang, end silently or lose its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.pods import TOLERANCE_SECONDS, Trouble, is_ready, trouble_of
from pytest_k8snet.cluster.target import collection
from pytest_k8snet.errors import ApiError, K8sNetError, PodError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.5
_EVENTS = 6
_LOG_LINES = 5


def pauses(
    longest_seconds: float = _LONGEST_PAUSE_SECONDS,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Callable[[], None]:
    """A function that sleeps, a little longer each time it is called."""
    pause = _FIRST_PAUSE_SECONDS

    def rest() -> None:
        nonlocal pause
        sleep(pause)
        pause = min(pause * 1.5, longest_seconds)

    return rest


def wait_ready(
    api: Api,
    namespace: str,
    *,
    labels: str,
    count: int,
    names: Collection[str] | None = None,
    timeout_seconds: float,
    maker: Callable[[], Trouble | None] = lambda: None,
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
    sleep = pauses()
    while True:
        pods = [
            pod
            for pod in api.list(path, labels=labels)
            if names is None or pod["metadata"]["name"] in names
        ]
        if names is not None and (missing := set(names) - {p["metadata"]["name"] for p in pods}):
            raise _vanished(namespace, sorted(missing)[0])
        ready = [pod for pod in pods if is_ready(pod)]
        if len(ready) >= count:
            return ready
        for pod in pods:
            uid = pod["metadata"]["uid"]
            trouble = None if is_ready(pod) else trouble_of(pod)
            # A Deployment's own doing: it replaces the pod.
            if trouble is not None and names is None and trouble.reason == "Deleted":
                trouble = None
            if trouble is None:
                since.pop(uid, None)
                continue
            # "Back-off pulling image" comes after, and hides, the registry's own words.
            said[uid] = max(said.get(uid, ""), trouble.message, key=len)
            began = since.setdefault(uid, time.monotonic())
            if not trouble.passing or time.monotonic() - began >= TOLERANCE_SECONDS:
                raise _does_not_start(api, pod, trouble, said[uid])
        if len(pods) < count and (why := maker()) is not None:
            raise PodError(
                f"{count} pods are wanted in namespace {namespace} and {len(pods)} were made: "
                f"{why.reason}",
                found=why.message,
                remedy=why.remedy,
            )
        if time.monotonic() >= deadline:
            raise _too_late(api, namespace, [p for p in pods if p not in ready], timeout_seconds)
        sleep()


def _vanished(namespace: str, name: str) -> PodError:
    return PodError(
        f"pod {namespace}/{name} has vanished before it was ready",
        remedy=f"find out who deletes pods in {namespace}: `kubectl get events -n {namespace}`",
    )


def _does_not_start(api: Api, pod: Mapping[str, Any], trouble: Trouble, message: str) -> PodError:
    found = message
    if trouble.wants_logs and (lines := _last_lines(api, pod)):
        found = f"{message}\nlast lines of its log:\n{lines}"
    return PodError(
        f"{_name(pod)} does not start: {trouble.reason}", found=found, remedy=trouble.remedy
    )


def _too_late(
    api: Api, namespace: str, pods: Sequence[Mapping[str, Any]], timeout_seconds: float
) -> PodError:
    if not pods:
        return PodError(
            f"no pod has appeared in namespace {namespace} within {timeout_seconds:g} s",
            remedy="see whether kube-controller-manager and kube-scheduler run",
        )
    return PodError(
        f"{_name(pods[0])} is not ready after {timeout_seconds:g} s"
        + (f" (nor are {len(pods) - 1} more)" if len(pods) > 1 else ""),
        found="\n".join([_state(pods[0]), *_events(api, pods[0])]),
        remedy="the events tell what it waits for; `-o k8snet_pod_timeout=...` allows more time",
    )


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


def _events(api: Api, pod: Mapping[str, Any]) -> list[str]:
    metadata = pod["metadata"]
    try:
        events = api.list(
            collection("events", namespace=metadata["namespace"]),
            fields=f"involvedObject.name={metadata['name']}",
        )
    except ApiError:
        # They only explain: without the permission to read them, the error stands by itself.
        return []
    events.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    return [
        f"event {event.get('reason', '')}: {event.get('message', '')}"
        for event in events[-_EVENTS:]
    ]


def _last_lines(api: Api, pod: Mapping[str, Any]) -> str:
    metadata = pod["metadata"]
    try:
        return api.logs(metadata["namespace"], metadata["name"], tail_lines=_LOG_LINES).strip()
    except K8sNetError:
        return ""

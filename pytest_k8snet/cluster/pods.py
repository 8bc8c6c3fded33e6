"""Pods of a run: requests and manifests, why a pod does not start, waiting until it is ready."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_k8snet.causes import Cause
from pytest_k8snet.cluster.access import OPT_OUT_ANNOTATIONS, OPT_OUT_LABELS, Admitted, compare
from pytest_k8snet.cluster.api import follow
from pytest_k8snet.cluster.api_errors import collection
from pytest_k8snet.cluster.exec import CONTAINER
from pytest_k8snet.cluster.nodes import CONTROL_PLANE, Toleration, prefer_ipv4
from pytest_k8snet.errors import ClusterError, K8sNetError, PodError
from pytest_k8snet.tools import capture

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "pytest-k8snet"
RUN_LABEL = "k8snet/run"
ROLE_LABEL = "k8snet/role"
POOL_ANNOTATION = "cni.projectcalico.org/ipv4pools"

WEB_PORT = 8080
#: Any unprivileged id that no image needs to know.
_USER_ID = 65532
#: As PID 1 it inherits whatever a command leaves behind (iperf3's servers do so for each sample):
#: a shell that waits reaps them, a bare `sleep` would keep them until the node's limit of
#: processes is reached. It ends at once when it is asked to, which PID 1 does only by a trap.
_REAPER = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"
#: A pod that nobody deletes, because the run was killed, ends by itself after this time.
LIFETIME_SECONDS = 6 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """What a user sets for all pods of a run.

    Attributes:
        image: the image of the pods that commands run in.
        web_image: the image of the web service.
        pull_secrets: names of ``imagePullSecrets`` in the pods' namespace.
        tolerations: beside those of control-plane nodes.
        priority_class: the name of a PriorityClass; empty takes the cluster's default.
        requests: resources by name, instead of our small ones.
        limits: likewise; empty sets none.
        node_labels: labels of the nodes that the web service's pods run on.
    """

    image: str
    web_image: str
    pull_secrets: tuple[str, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    priority_class: str = ""
    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    node_labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRequest:
    """A pod that a run needs; equal requests are served by one pod.

    Attributes:
        role: what it is for, e.g. ``client``, ``server``, ``host``; part of its name.
        node: the name of the node it must run on.
        host_network: whether it uses the node's own network.
        capture: whether it may capture packets: as root, with the capabilities for that alone.
        pool: the Calico IPPool that its address comes from; None takes the cluster's choice.
        epoch: tells it from one that was made when the cluster gave pods another MTU.
        serves_http: whether it is a small web server (agnhost) instead of waiting for commands.
    """

    role: str
    node: str
    host_network: bool = False
    capture: bool = False
    pool: str | None = None
    epoch: int = 0
    serves_http: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that is ready.

    Attributes:
        namespace: its namespace.
        name: its name.
        node: the node it runs on.
        address: its IP address (the node's, on the host network); IPv4 when it has one.
        host_network: whether it uses the node's own network.
        uid: tells it from a later pod of the same name.
        container: the container that commands run in.
        image: what its container runs, by digest as the node pulled it; empty if unknown.
        admitted: what admission has changed about it.
    """

    namespace: str
    name: str
    node: str
    address: str
    host_network: bool
    uid: str = ""
    container: str = CONTAINER
    image: str = ""
    admitted: Admitted = field(default_factory=Admitted)


def read_pod(pod: Mapping[str, Any], asked: Mapping[str, Any]) -> Pod:
    """Read a ``Pod`` from a Kubernetes Pod object.

    Args:
        pod: the object.
        asked: the manifest that it was made by.

    Raises:
        PodError: admission has made another pod of it.
    """
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    return Pod(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        node=spec.get("nodeName", ""),
        address=prefer_ipv4(addresses_of(pod)),
        host_network=bool(spec.get("hostNetwork")),
        uid=metadata.get("uid", ""),
        image=next(
            (
                str(one.get("imageID") or "")
                for one in (pod.get("status") or {}).get("containerStatuses") or []
                if one.get("name") == CONTAINER
            ),
            "",
        ),
        admitted=compare(asked, pod),
    )


def addresses_of(pod: Mapping[str, Any]) -> tuple[str, ...]:
    """Return every address of a Pod object, of both families."""
    status = pod.get("status") or {}
    found = [status.get("podIP"), *(one.get("ip") for one in status.get("podIPs") or ())]
    return tuple(dict.fromkeys(str(address) for address in found if address))


def run_labels(run_id: str, role: str = "") -> dict[str, str]:
    """Make the labels of an object of a run."""
    labels = {MANAGED_BY_LABEL: MANAGED_BY, RUN_LABEL: run_id}
    return {**labels, ROLE_LABEL: role} if role else labels


def selector(run_id: str) -> str:
    """Make the label selector for everything of a run."""
    return f"{MANAGED_BY_LABEL}={MANAGED_BY},{RUN_LABEL}={run_id}"


# -- Manifests -------------------------------------------------------------------------------------
#
# All pods are hardened to the Pod Security level ``restricted``, but for the host's network and
# the capture of packets where they are asked for. They do nothing by themselves: commands come
# by exec.


def namespace_manifest(name: str, run_id: str) -> dict[str, Any]:
    """Make the manifest of a run's namespace; it admits host-network pods."""
    levels = {f"pod-security.kubernetes.io/{m}": "privileged" for m in ("enforce", "audit", "warn")}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "labels": {**run_labels(run_id), **levels},
            "annotations": {PROCESS_ANNOTATION: this_process()},
        },
    }


def pod_name(run_id: str, request: PodRequest, number: int) -> str:
    """Make a pod's name: run, role, node, number; 63 characters at most, as for hostnames."""
    prefix = run_id if run_id.startswith("k8snet-") else f"k8snet-{run_id}"
    suffix = f"-{number}"
    middle = re.sub(r"[^a-z0-9-]+", "-", f"{request.role}-{request.node}".lower()).strip("-")
    room = 63 - len(prefix) - len(suffix) - 1
    return f"{prefix}-{middle[:room].strip('-')}{suffix}"


def pod_manifest(
    name: str,
    namespace: str,
    run_id: str,
    request: PodRequest,
    *,
    settings: PodSettings,
    hostname: str,
) -> dict[str, Any]:
    """Make the manifest of a pod that sleeps until it is deleted, or serves HTTP if asked to.

    Args:
        name: its name.
        namespace: its namespace.
        run_id: the run it belongs to.
        request: what it is for.
        settings: what the user has set for all pods.
        hostname: the value of the node's hostname label, which need not be the node's name.
    """
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "labels": {**OPT_OUT_LABELS, **run_labels(run_id, request.role)},
        "annotations": {**OPT_OUT_ANNOTATIONS, PROCESS_ANNOTATION: this_process()},
    }
    if request.pool is not None:
        metadata["annotations"][POOL_ANNOTATION] = json.dumps([request.pool])
    container = (
        _web_container(settings.web_image)
        if request.serves_http
        else _client_container(settings.image)
    )
    spec: dict[str, Any] = {
        **_pod_spec(container, settings),
        # By label, so that the scheduler checks resources and speaks when it cannot.
        "nodeSelector": {"kubernetes.io/hostname": hostname},
        "restartPolicy": "Never",
        "activeDeadlineSeconds": LIFETIME_SECONDS,
        "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}],
        "tolerations": [one.manifest() for one in (*CONTROL_PLANE, *settings.tolerations)],
    }
    if request.capture:
        # Kubernetes gives added capabilities to root alone.
        (container,) = spec["containers"]
        container["securityContext"] |= {
            "runAsNonRoot": False,
            "runAsUser": 0,
            "runAsGroup": 0,
            "capabilities": {"drop": ["ALL"], "add": list(capture.CAPABILITIES)},
        }
    if request.host_network:
        spec |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    else:
        # A safe sysctl; ping then needs no capability. Nodes have one of their own.
        spec["securityContext"]["sysctls"] = [
            {"name": "net.ipv4.ping_group_range", "value": "0 65535"}
        ]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


#: The web service whose replicas may be anywhere.
WEB_NAME = "web"


def web_deployment(
    name: str,
    namespace: str,
    run_id: str,
    *,
    settings: PodSettings,
    replicas: int,
) -> dict[str, Any]:
    """Make a Deployment of a small HTTP server (agnhost's netexec), spread over the nodes."""
    labels = run_labels(run_id, name)
    template: dict[str, Any] = {
        "labels": {**OPT_OUT_LABELS, **labels},
        "annotations": dict(OPT_OUT_ANNOTATIONS),
    }
    spec = {
        **_pod_spec(_web_container(settings.web_image), settings),
        "tolerations": [one.manifest() for one in settings.tolerations],
        "nodeSelector": {"kubernetes.io/os": "linux", **settings.node_labels},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels},
            }
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": template, "spec": spec},
        },
    }


def web_service(name: str, namespace: str, run_id: str, *, ipv4: bool = False) -> dict[str, Any]:
    """Make a Service of type LoadBalancer, which has a cluster IP and a node port as well.

    Args:
        name: its name.
        namespace: its namespace.
        run_id: the run it belongs to.
        ipv4: whether it must be of IPv4; else it is of the cluster's first family.
    """
    labels = run_labels(run_id, name)
    families = {"ipFamilies": ["IPv4"]} if ipv4 else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "type": "LoadBalancer",
            **families,
            "selector": labels,
            "ports": [{"name": "http", "port": 80, "targetPort": WEB_PORT, "protocol": "TCP"}],
        },
    }


def _client_container(image: str) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": image,
        "command": ["sh", "-c", _REAPER],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        # iperf3 keeps its send buffer in a file under /tmp.
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def _web_container(image: str) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": image,
        "args": ["netexec", f"--http-port={WEB_PORT}"],
        "ports": [{"name": "http", "containerPort": WEB_PORT}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "readinessProbe": {
            "httpGet": {"path": "/healthz", "port": WEB_PORT},
            "periodSeconds": 1,
        },
    }


def _pod_spec(container: dict[str, Any], settings: PodSettings) -> dict[str, Any]:
    resources = {"requests": {**container["resources"]["requests"], **settings.requests}}
    if settings.limits:
        resources["limits"] = dict(settings.limits)
    given: dict[str, Any] = {}
    if settings.pull_secrets:
        given["imagePullSecrets"] = [{"name": name} for name in settings.pull_secrets]
    if settings.priority_class:
        given["priorityClassName"] = settings.priority_class
    return {
        **given,
        "containers": [
            {
                **container,
                "resources": resources,
                "imagePullPolicy": "IfNotPresent",
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER_ID,
            "runAsGroup": _USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
    }


# -- Why a pod does not start ----------------------------------------------------------------------

#: For how long a failure that may pass by itself is tolerated: a first failed pull of an image, a
#: node that is about to lose its not-ready taint.
TOLERANCE_SECONDS = 3.0

#: Waiting reasons of a container that do not go away.
_HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull", "CrashLoopBackOff"})
#: Waiting reasons that may go away.
_PASSING = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
#: What registries and runtimes say about an image that will not come by trying again.
_FINAL_WORDS = (
    "not found",
    "manifest unknown",
    "denied",
    "unauthorized",
    "authentication required",
    "no such host",
    "does not exist",
    "no matching manifest",
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
    for container in _containers(status):
        if (found := _waiting(container, _image_option(pod))) is not None:
            return found
    return None


def _image_option(pod: Mapping[str, Any]) -> str:
    role = ((pod.get("metadata") or {}).get("labels") or {}).get(ROLE_LABEL, "")
    return "k8snet_web_image" if role.startswith("web") else "k8snet_image"


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
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") == kind:
            return dict(condition)
    return {}


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
            raise _vanished(namespace, sorted(missing)[0])
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


def _vanished(namespace: str, name: str) -> PodError:
    return PodError(
        f"pod {namespace}/{name} has vanished before it was ready",
        remedy=f"find out who deletes pods in {namespace}: `kubectl get events -n {namespace}`",
    )


def _does_not_start(
    api: Api, pod: Mapping[str, Any], failure: StartFailure, message: str
) -> PodError:
    found = message
    if failure.wants_logs and (lines := _last_lines(api, pod)):
        found = f"{message}\nlast lines of its log:\n{lines}"
    return PodError(
        f"{_name(pod)} does not start: {failure.reason}", found=found, remedy=failure.remedy
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

    Args:
        api: the cluster.
        item: the object.
        kind: its kind: one of another kind may have its name, an earlier one its kind as well.
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


def _last_lines(api: Api, pod: Mapping[str, Any]) -> str:
    metadata = pod["metadata"]
    try:
        return api.logs(metadata["namespace"], metadata["name"], tail_lines=_LOG_LINES).strip()
    except K8sNetError:
        return ""


# -- Whose process made an object ------------------------------------------------------------------
#
# A run that is killed leaves objects behind. Whoever finds them on the same machine can tell
# that their maker is gone, and need not wait for it; from anywhere else that cannot be known.

#: The annotation by which an object names the process that made it.
PROCESS_ANNOTATION = "k8snet/process"
_PROC = Path("/proc")


def this_process() -> str:
    """Name the running process: the machine's boot, the PID namespace, process id, start time."""
    pid = os.getpid()
    return f"{_machine()}/{pid}/{_start_time(pid)}"


def is_alive(process: str) -> bool | None:
    """Tell whether a process lives, if it ran on this very machine; None if that is unknown.

    Args:
        process: what :func:`this_process` said in it.
    """
    place, _, started = process.rpartition("/")
    machine, _, pid = place.rpartition("/")
    if not machine or machine != _machine() or not pid.isdigit():
        return None
    found = _start_time(int(pid))
    return None if found is None else found == started


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Return the start time of a live process in clock ticks; empty for none, or a zombie.

    None if there is such a process, but this user may not look at it.
    """
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        # Others' processes can be hidden (hidepid=2); a signal tells them from none at all.
        return None if _exists(pid) else ""
    # The name in parentheses may hold spaces; what follows it is regular.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True

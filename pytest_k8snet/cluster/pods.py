"""Pods of a run: what is asked for, what came of it, and why one does not start. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_k8snet.cluster.addresses import prefer_ipv4
from pytest_k8snet.cluster.manifests import CONTAINER, ROLE_LABEL

#: For how long trouble that may pass by itself is tolerated: a first failed pull of an image, a
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRequest:
    """A pod that a run needs; equal requests are served by one pod.

    Attributes:
        role: what it is for, e.g. ``client``, ``server``, ``host``; part of its name.
        node: the name of the node it must run on.
        host_network: whether it uses the node's own network.
        capture: whether it may capture packets: as root, with the capabilities for that alone.
        pool: the Calico IPPool that its address comes from; None takes the cluster's choice.
        image: the container image; empty takes the run's.
        serves_http: whether it is a small web server (agnhost) instead of waiting for commands.
    """

    role: str
    node: str
    host_network: bool = False
    capture: bool = False
    pool: str | None = None
    image: str = ""
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
        container: its container's name.
        labels: its labels.
    """

    namespace: str
    name: str
    node: str
    address: str
    host_network: bool
    uid: str = ""
    container: str = CONTAINER
    labels: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
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


def read_pod(pod: Mapping[str, Any]) -> Pod:
    """A ``Pod`` from a Kubernetes Pod object."""
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    containers = spec.get("containers") or [{}]
    return Pod(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        node=spec.get("nodeName", ""),
        address=prefer_ipv4(addresses_of(pod)),
        host_network=bool(spec.get("hostNetwork")),
        uid=metadata.get("uid", ""),
        container=containers[0].get("name", CONTAINER),
        labels=dict(metadata.get("labels") or {}),
    )


def addresses_of(pod: Mapping[str, Any]) -> tuple[str, ...]:
    """Every address of a Pod object, of both families."""
    status = pod.get("status") or {}
    found = [status.get("podIP"), *(one.get("ip") for one in status.get("podIPs") or ())]
    return tuple(dict.fromkeys(str(address) for address in found if address))


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a Pod object is running, ready, has its address and is not being deleted."""
    status = pod.get("status") or {}
    if (pod.get("metadata") or {}).get("deletionTimestamp") or status.get("phase") != "Running":
        return False
    return bool(status.get("podIP")) and _condition(pod, "Ready").get("status") == "True"


def trouble_of(pod: Mapping[str, Any]) -> Trouble | None:
    """Why a Pod object is not on its way to being ready; None when nothing speaks against it."""
    status = pod.get("status") or {}
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return Trouble(
            reason="Deleted",
            message="it is being deleted while the run waits for it",
            remedy="find out who deletes pods in its namespace",
        )
    if status.get("phase") in ("Failed", "Succeeded"):
        return _ended(status)
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return Trouble(
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


def _ended(status: Mapping[str, Any]) -> Trouble:
    reason = status.get("reason") or ""
    message = status.get("message") or ""
    for container in _containers(status):
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended and not reason:
            return Trouble(
                reason=ended.get("reason") or "Terminated",
                message=f"exit code {ended.get('exitCode')}. {ended.get('message', '')}".strip(),
                remedy="the image must have `sh` and `sleep`, and run as any user",
                wants_logs=True,
            )
    return Trouble(
        reason=reason or str(status.get("phase")),
        message=message,
        remedy="free memory and disk on the node, or choose another node"
        if reason == "Evicted"
        else "`kubectl describe pod` and the node's events tell more",
    )


def _waiting(container: Mapping[str, Any], option: str) -> Trouble | None:
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason not in _HOPELESS and reason not in _PASSING:
        return None
    if "Image" in reason:
        image = container.get("image", "")
        final = reason in _HOPELESS or any(word in message.lower() for word in _FINAL_WORDS)
        return Trouble(
            reason=reason,
            message=f"image {image}: {message}" if image not in message else message,
            passing=not final,
            remedy="check the image's name, that the node can reach its registry, and pull "
            f"secrets; `-o {option}=...` names another (a mirror within reach)",
        )
    return Trouble(
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

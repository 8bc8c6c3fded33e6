"""Pods of a run: what is asked for, their manifests, and which process has made them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_k8snet.cluster.access import (
    OPT_OUT_ANNOTATIONS,
    OPT_OUT_LABELS,
    alterations,
    distortions,
)
from pytest_k8snet.cluster.exec import CONTAINER
from pytest_k8snet.cluster.nodes import CONTROL_PLANE, Toleration, prefer_ipv4
from pytest_k8snet.tools import capture

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
        address: its IP address (the node's, on the host network); IPv4 when it has one.
        uid: tells it from a later pod of the same name.
        container: the container that commands run in.
        image: what its container runs, by digest as the node pulled it; empty if unknown.
        distorted_by: what admission has done to it that changes figures.
        altered: what else admission has made different, e.g. its image or security context.
    """

    namespace: str
    name: str
    node: str
    address: str
    host_network: bool
    uid: str = ""
    container: str = CONTAINER
    image: str = ""
    distorted_by: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()


def read_pod(pod: Mapping[str, Any], asked: Mapping[str, Any]) -> Pod:
    """Read a ``Pod`` from a Pod object, and compare that with the manifest that was asked for.

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
        distorted_by=distortions(asked, pod),
        altered=alterations(asked, pod),
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

    The value of its node's hostname label need not be the node's name.
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

    It is of the cluster's first family unless it must be of IPv4.
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

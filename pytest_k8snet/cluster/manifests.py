"""The objects that a run creates, as plain dicts. Pure.

All pods are hardened to the Pod Security level ``restricted``, but for the host's network and the
capture of packets where they are asked for. They do nothing by themselves: commands come by exec.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.liveness import PROCESS_ANNOTATION, this_process
from pytest_k8snet.cluster.nodes import TOLERATED_TAINTS
from pytest_k8snet.tools import capture

if TYPE_CHECKING:
    from pytest_k8snet.cluster.pods import PodRequest

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "pytest-k8snet"
RUN_LABEL = "k8snet/run"
ROLE_LABEL = "k8snet/role"
POOL_ANNOTATION = "cni.projectcalico.org/ipv4pools"

CONTAINER = "k8snet"
WEB_PORT = 8080
#: Any unprivileged id that no image needs to know.
_USER_ID = 65532
#: As PID 1 it inherits whatever a command leaves behind (iperf3's servers do so for each sample):
#: a shell that waits reaps them, a bare `sleep` would keep them until the node's limit of
#: processes is reached. It ends at once when it is asked to, which PID 1 does only by a trap.
_REAPER = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"
#: A pod that nobody deletes, because the run was killed, ends by itself after this time.
LIFETIME_SECONDS = 6 * 3600


def run_labels(run_id: str, role: str = "") -> dict[str, str]:
    """The labels of an object of a run."""
    labels = {MANAGED_BY_LABEL: MANAGED_BY, RUN_LABEL: run_id}
    return {**labels, ROLE_LABEL: role} if role else labels


def selector(run_id: str) -> str:
    """The label selector for everything of a run."""
    return f"{MANAGED_BY_LABEL}={MANAGED_BY},{RUN_LABEL}={run_id}"


def namespace(name: str, run_id: str) -> dict[str, Any]:
    """A namespace of a run; it admits host-network pods."""
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
    """A pod's name: run, role, node and a number; at most 63 characters, as hostnames are."""
    prefix = run_id if run_id.startswith("k8snet-") else f"k8snet-{run_id}"
    suffix = f"-{number}"
    middle = re.sub(r"[^a-z0-9-]+", "-", f"{request.role}-{request.node}".lower()).strip("-")
    room = 63 - len(prefix) - len(suffix) - 1
    return f"{prefix}-{middle[:room].strip('-')}{suffix}"


def pod(
    name: str, namespace: str, run_id: str, request: PodRequest, *, image: str, hostname: str
) -> dict[str, Any]:
    """A pod that sleeps until it is deleted; or, where that is asked for, serves HTTP.

    Args:
        name: its name.
        namespace: its namespace.
        run_id: the run it belongs to.
        request: what it is for.
        image: the container image.
        hostname: the value of the node's hostname label, which need not be the node's name.
    """
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "labels": run_labels(run_id, request.role),
        "annotations": {PROCESS_ANNOTATION: this_process()},
    }
    if request.pool is not None:
        metadata["annotations"][POOL_ANNOTATION] = json.dumps([request.pool])
    spec: dict[str, Any] = {
        **_pod_spec(_web_container(image) if request.serves_http else _client_container(image)),
        # By label, so that the scheduler checks resources and speaks when it cannot.
        "nodeSelector": {"kubernetes.io/hostname": hostname},
        "restartPolicy": "Never",
        "activeDeadlineSeconds": LIFETIME_SECONDS,
        "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}],
        "tolerations": [{"key": key, "operator": "Exists"} for key in TOLERATED_TAINTS],
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
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def web_deployment(
    name: str, namespace: str, run_id: str, *, image: str, replicas: int, pool: str | None
) -> dict[str, Any]:
    """A small HTTP server (agnhost's netexec), its replicas spread over the nodes."""
    labels = run_labels(run_id, name)
    template: dict[str, Any] = {"labels": labels}
    if pool is not None:
        template["annotations"] = {POOL_ANNOTATION: json.dumps([pool])}
    spec = {
        **_pod_spec(_web_container(image)),
        "nodeSelector": {"kubernetes.io/os": "linux"},
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


def web_service(name: str, namespace: str, run_id: str) -> dict[str, Any]:
    """A Service of type LoadBalancer, which has a cluster IP and a node port as well."""
    labels = run_labels(run_id, name)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "type": "LoadBalancer",
            "selector": labels,
            "ports": [{"name": "http", "port": 80, "targetPort": WEB_PORT, "protocol": "TCP"}],
        },
    }


def web_name(pool: str | None) -> str:
    """The name of the web service in a pool: names of one run must differ by pool."""
    if pool is None:
        return "web"
    return f"web-{hashlib.sha256(pool.encode()).hexdigest()[:6]}"


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


def _pod_spec(container: dict[str, Any]) -> dict[str, Any]:
    return {
        "containers": [
            {
                **container,
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

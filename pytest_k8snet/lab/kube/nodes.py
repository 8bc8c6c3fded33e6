"""The Node objects of a lab, as kubeadm and a kubelet would have made them. Pure."""

from __future__ import annotations

import os
import platform
from ipaddress import IPv4Network
from itertools import islice

from pytest_k8snet.lab.api.objects import Object, timestamp
from pytest_k8snet.lab.spec import LabSpec, NodeSpec

KUBELET_VERSION = "v1.32.0"
_POD_BITS_PER_NODE = 24
_PRESSURES = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def node_objects(spec: LabSpec) -> list[Object]:
    """One Node for each of the spec, all ready."""
    return [_node(node, cidr) for node, cidr in zip(spec.nodes, _pod_cidrs(spec), strict=False)]


def _pod_cidrs(spec: LabSpec) -> list[IPv4Network]:
    """What kube-controller-manager writes to each node; Calico's own IPAM does not use it."""
    prefix = max(_POD_BITS_PER_NODE, spec.pod_cidr.prefixlen)
    return list(islice(spec.pod_cidr.subnets(new_prefix=prefix), len(spec.nodes)))


def _node(node: NodeSpec, cidr: IPv4Network) -> Object:
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    labels = {
        "beta.kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": "linux",
    }
    object_spec: Object = {"podCIDR": str(cidr), "podCIDRs": [str(cidr)]}
    if node.control_plane:
        labels["node-role.kubernetes.io/control-plane"] = ""
        labels["node.kubernetes.io/exclude-from-external-load-balancers"] = ""
        object_spec["taints"] = [
            {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
        ]
    return {
        "metadata": {"name": node.name, "labels": labels, "annotations": {}},
        "spec": object_spec,
        "status": _status(node, architecture),
    }


def _status(node: NodeSpec, architecture: str) -> Object:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    room = {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{pages // 1024}Ki",
        "ephemeral-storage": "20Gi",
        "pods": "110",
    }
    return {
        "addresses": [
            {"type": "InternalIP", "address": str(node.address.ip)},
            {"type": "Hostname", "address": node.name},
        ],
        "capacity": room,
        "allocatable": room,
        "conditions": [
            _condition("NetworkUnavailable", False, "CalicoIsUp", "Calico is running on this node"),
            *(_condition(kind, False, reason, text) for kind, reason, text in _PRESSURES),
            _condition("Ready", True, "KubeletReady", "kubelet is posting ready status"),
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "images": [],
        "nodeInfo": {
            "architecture": architecture,
            "bootID": "",
            "containerRuntimeVersion": "containerd://1.7.24",
            "kernelVersion": platform.release(),
            "kubeProxyVersion": KUBELET_VERSION,
            "kubeletVersion": KUBELET_VERSION,
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": _os_image(),
            "systemUUID": "",
        },
    }


def _condition(kind: str, holds: bool, reason: str, message: str) -> Object:
    now = timestamp()
    return {
        "type": kind,
        "status": "True" if holds else "False",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
        "reason": reason,
        "message": message,
    }


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "Linux"

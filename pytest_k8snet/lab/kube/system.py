"""What a cluster contains before anybody uses it: namespaces, DNS, and Calico's objects. Pure.

Each entry is a storage key and an object. A status in it is what the cluster's own components
would have written.
"""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Iterator
from ipaddress import IPv4Network
from itertools import islice

from pytest_k8snet.lab.api.objects import Object, condition, timestamp
from pytest_k8snet.lab.calico.operator import manages_pools, status_conditions
from pytest_k8snet.lab.calico.pools import mark_owned
from pytest_k8snet.lab.spec import CalicoSpec, LabSpec, NodeSpec

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
    return {**condition(kind, holds, reason, message), "lastHeartbeatTime": timestamp()}


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "Linux"


# -- What a cluster contains before anybody uses it: namespaces, DNS, and Calico's objects. Pure


Entry = tuple[str, Object]

_EVERYWHERE = [
    {"effect": "NoSchedule", "operator": "Exists"},
    {"key": "CriticalAddonsOnly", "operator": "Exists"},
    {"effect": "NoExecute", "operator": "Exists"},
]
_ENCAPSULATIONS = {
    ("Never", "Never"): "None",
    ("Always", "Never"): "IPIP",
    ("CrossSubnet", "Never"): "IPIPCrossSubnet",
    ("Never", "Always"): "VXLAN",
    ("Never", "CrossSubnet"): "VXLANCrossSubnet",
}


def objects(spec: LabSpec) -> Iterator[Entry]:
    """Everything, in an order in which it can be created."""
    names = ["default", "kube-system", "kube-public", "kube-node-lease"]
    if spec.calico.install == "operator":
        names += ["tigera-operator", "calico-system"]
    for name in names:
        yield "namespaces", {"metadata": {"name": name}}
    for node in node_objects(spec):
        yield "nodes", node
    yield from _control_plane(spec)
    yield from _dns(spec)
    yield from _calico(spec)


def _control_plane(spec: LabSpec) -> Iterator[Entry]:
    port = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}
    address = str(spec.service_cidr[1])
    labels = {"component": "apiserver", "provider": "kubernetes"}
    meta = {"name": "kubernetes", "namespace": "default", "labels": labels}
    yield "services", {"metadata": meta, "spec": {"clusterIP": address, "ports": [port]}}
    master = {"ip": str(spec.nodes[0].address.ip)}
    ports = [{"name": "https", "port": 6443, "protocol": "TCP"}]
    meta = {"name": "kubernetes", "namespace": "default"}
    yield "endpoints", {"metadata": meta, "subsets": [{"addresses": [master], "ports": ports}]}


def _dns(spec: LabSpec) -> Iterator[Entry]:
    labels = {"k8s-app": "kube-dns"}
    meta = {"name": "coredns", "namespace": "kube-system", "labels": labels}
    ports = [
        {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
    ]
    container = {
        "name": "coredns",
        "image": "registry.k8s.io/coredns/coredns:v1.11.3",
        "ports": ports,
        "readinessProbe": {"tcpSocket": {"port": 53}, "periodSeconds": 10},
    }
    pod_spec = {
        "containers": [container],
        "dnsPolicy": "Default",
        "priorityClassName": "system-cluster-critical",
        "terminationGracePeriodSeconds": 0,
        "tolerations": [
            {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
        ],
    }
    template = {"metadata": {"labels": labels}, "spec": pod_spec}
    replicas = min(2, len(spec.nodes))
    deployment = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    yield "deployments.apps", {"metadata": meta, "spec": deployment}
    service_ports = [
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
    ]
    meta = {"name": "kube-dns", "namespace": "kube-system", "labels": labels}
    service = {"clusterIP": str(spec.dns_address), "selector": labels, "ports": service_ports}
    yield "services", {"metadata": meta, "spec": service}


def _calico(spec: LabSpec) -> Iterator[Entry]:
    calico = spec.calico
    by_operator = calico.install == "operator"
    kinds = ["k8s", *(["operator"] if by_operator else []), "kdd"]
    if calico.backend == "bird":
        kinds.append("bgp")
    information = {
        "calicoVersion": calico.version,
        "clusterGUID": uuid.uuid4().hex,
        "clusterType": ",".join(kinds),
        "datastoreReady": True,
    }
    meta = {"name": "default"}
    yield "clusterinformations.crd.projectcalico.org", {"metadata": meta, "spec": information}
    felix = {"logSeverityScreen": "Info", "reportingInterval": "0s"}
    yield "felixconfigurations.crd.projectcalico.org", {"metadata": meta, "spec": felix}
    yield "ippools.crd.projectcalico.org", _default_pool(spec)
    yield from _calico_nodes(calico)
    if by_operator:
        yield from _operator(spec)


def _default_pool(spec: LabSpec) -> Object:
    meta: Object = {"name": "default-ipv4-ippool"}
    pool = {
        "allowedUses": ["Workload", "Tunnel"],
        "assignmentMode": "Automatic",
        "blockSize": 26,
        "cidr": str(spec.pod_cidr),
        "ipipMode": spec.calico.ipip_mode,
        "natOutgoing": True,
        "nodeSelector": "all()",
        "vxlanMode": spec.calico.vxlan_mode,
    }
    if spec.calico.install == "operator":
        mark_owned(meta, spec.calico.api_shape)
    return {"metadata": meta, "spec": pool}


def _calico_nodes(calico: CalicoSpec) -> Iterator[Entry]:
    by_operator = calico.install == "operator"
    namespace = "calico-system" if by_operator else "kube-system"
    backend: Object = {"value": calico.backend}
    if not by_operator:
        place = {"name": "calico-config", "namespace": namespace}
        yield "configmaps", {"metadata": place, "data": {"calico_backend": calico.backend}}
        source = {"configMapKeyRef": {"name": "calico-config", "key": "calico_backend"}}
        backend = {"valueFrom": source}
    labels = {"k8s-app": "calico-node"}
    container = {
        "name": "calico-node",
        "image": f"docker.io/calico/node:{calico.version}",
        "env": [
            {"name": "DATASTORE_TYPE", "value": "kubernetes"},
            {"name": "NODENAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "CALICO_NETWORKING_BACKEND", **backend},
            {"name": "CLUSTER_TYPE", "value": "k8s,operator" if by_operator else "k8s,bgp"},
            {"name": "FELIX_HEALTHENABLED", "value": "true"},
        ],
        "securityContext": {"privileged": True},
    }
    pod_spec = {
        "containers": [container],
        "hostNetwork": True,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "priorityClassName": "system-node-critical",
        "terminationGracePeriodSeconds": 0,
        "tolerations": _EVERYWHERE,
    }
    template = {"metadata": {"labels": labels}, "spec": pod_spec}
    meta: Object = {"name": "calico-node", "namespace": namespace, "labels": labels}
    daemonset = {"selector": {"matchLabels": labels}, "template": template}
    yield "daemonsets.apps", {"metadata": meta, "spec": daemonset}


def _operator(spec: LabSpec) -> Iterator[Entry]:
    calico = spec.calico
    pool = {
        "name": "default-ipv4-ippool",
        "allowedUses": ["Workload", "Tunnel"],
        "assignmentMode": "Automatic",
        "blockSize": 26,
        "cidr": str(spec.pod_cidr),
        "disableBGPExport": False,
        "disableNewAllocations": False,
        "encapsulation": _ENCAPSULATIONS[calico.ipip_mode, calico.vxlan_mode],
        "natOutgoing": "Enabled",
        "nodeSelector": "all()",
    }
    network = {
        "bgp": "Enabled" if calico.backend == "bird" else "Disabled",
        "ipPools": [pool],
        "linuxDataplane": "Iptables",
    }
    installation = {
        "calicoNetwork": network,
        "cni": {"type": "Calico", "ipam": {"type": "Calico"}},
        "variant": "Calico",
    }
    status = {"calicoVersion": calico.version, "variant": "Calico", "computed": installation}
    meta = {"name": "default"}
    yield (
        "installations.operator.tigera.io",
        {"metadata": meta, "spec": installation, "status": status},
    )
    names = ["calico", *(["ippools"] if manages_pools(calico) else [])]
    for name in [*names, *(["apiserver"] if calico.api_shape == "B" else [])]:
        told = {"conditions": status_conditions("")}
        body: Object = {"metadata": {"name": name}, "spec": {}, "status": told}
        yield "tigerastatuses.operator.tigera.io", body

"""What a cluster contains before anybody uses it: namespaces, DNS, and Calico's objects. Pure.

Each entry is a storage key and an object. A status in it is what the cluster's own components
would have written.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.calico.operator import manages_pools, status_conditions
from pytest_k8snet.lab.calico.pools import mark_owned
from pytest_k8snet.lab.kube.nodes import node_objects
from pytest_k8snet.lab.spec import CalicoSpec, LabSpec

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

"""What a cluster contains before anybody uses it: namespaces, DNS, and Calico's objects. Pure.

A status in an object is what the cluster's own components would have written.
"""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Iterator
from ipaddress import IPv4Network
from itertools import islice
from typing import Any

import yaml

from pytest_k8snet.lab.api.objects import Object, compact, condition, timestamp
from pytest_k8snet.lab.api.resources import CALICO_V1
from pytest_k8snet.lab.calico.operator import MODES, manages_pools, status_conditions
from pytest_k8snet.lab.calico.pools import METADATA_ANNOTATION, POOLS, mark_owned
from pytest_k8snet.lab.dataplane.felix import Behaviour
from pytest_k8snet.lab.spec import CalicoSpec, LabSpec, NodeSpec

#: A storage key, and an object.
Entry = tuple[str, Object]


def objects(spec: LabSpec) -> Iterator[Entry]:
    """Everything, in an order in which it can be created."""
    names = ["default", "kube-system", "kube-public", "kube-node-lease"]
    if spec.calico.install == "operator":
        names += ["tigera-operator", "calico-system"]
    for name in names:
        yield "namespaces", {"metadata": {"name": name}}
    for name, *rules in _CLUSTER_ROLES:
        role: Object = {"metadata": {"name": name}, "rules": rules}
        yield "clusterroles.rbac.authorization.k8s.io", role
    for name, *groups in _CLUSTER_ROLE_BINDINGS:
        binding = {
            "metadata": {"name": name},
            "roleRef": {"kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "Group", "name": group} for group in groups],
        }
        yield "clusterrolebindings.rbac.authorization.k8s.io", binding
    for node in node_objects(spec):
        yield "nodes", node
    control_plane = {"address": spec.service_cidr[1], "node": spec.nodes[0].internal_ip}
    yield "services", _manifest(_KUBERNETES_SERVICE, **control_plane)
    yield "endpoints", _manifest(_KUBERNETES_ENDPOINTS, **control_plane)
    yield "deployments.apps", _manifest(_COREDNS, replicas=min(2, len(spec.nodes)))
    yield "services", _manifest(_KUBE_DNS, address=spec.dns_address)
    yield from _calico(spec)


def _manifest(text: str, **values: object) -> Object:
    made: Object = yaml.safe_load(text % values)
    return made


_WORKLOADS = [
    *("pods", "pods/log", "services", "endpoints", "configmaps", "events", "serviceaccounts"),
    *("deployments", "deployments/scale", "replicasets", "replicasets/scale", "daemonsets"),
    *("endpointslices", "pods/status", "services/status"),
]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_READ = ["get", "list", "watch"]
_HEALTH = ["/healthz", "/livez", "/readyz", "/version", "/version/"]
_DISCOVERY = ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*"]
_ISSUER = ["/.well-known/openid-configuration", "/openid/v1/jwks"]


def _on(resources: list[str], verbs: list[str], group: str = "*") -> Object:
    return {"verbs": verbs, "apiGroups": [group], "resources": resources}


def _at(urls: list[str], verb: str = "get") -> Object:
    return {"verbs": [verb], "nonResourceURLs": urls}


#: The roles for users that every cluster has: name, and rules.
_CLUSTER_ROLES: tuple[tuple[Any, ...], ...] = (
    ("cluster-admin", _on(["*"], ["*"]), _at(["*"], "*")),
    ("admin", _on([*_WORKLOADS, "secrets", "pods/exec", "roles", "rolebindings"], _READ + _WRITE)),
    ("edit", _on([*_WORKLOADS, "secrets", "pods/exec"], _READ + _WRITE)),
    ("view", _on(_WORKLOADS, _READ)),
    (
        "system:basic-user",
        _on(
            ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
            ["create"],
            "authorization.k8s.io",
        ),
        _on(["selfsubjectreviews"], ["create"], "authentication.k8s.io"),
    ),
    (
        "system:auth-delegator",
        _on(["tokenreviews"], ["create"], "authentication.k8s.io"),
        _on(["subjectaccessreviews"], ["create"], "authorization.k8s.io"),
    ),
    ("system:discovery", _at([*_DISCOVERY, "/readyz", "/version", "/version/"])),
    ("system:public-info-viewer", _at(_HEALTH)),
    (
        "system:service-account-issuer-discovery",
        _at([path for url in _ISSUER for path in (url, f"{url}/")]),
    ),
)
_CLUSTER_ROLE_BINDINGS = (
    ("cluster-admin", "system:masters"),
    ("system:basic-user", "system:authenticated"),
    ("system:discovery", "system:authenticated"),
    ("system:public-info-viewer", "system:authenticated", "system:unauthenticated"),
    ("system:service-account-issuer-discovery", "system:serviceaccounts"),
)

_KUBERNETES_SERVICE = """
metadata:
  name: kubernetes
  namespace: default
  labels: {component: apiserver, provider: kubernetes}
spec:
  clusterIP: %(address)s
  ports: [{name: https, port: 443, protocol: TCP, targetPort: 6443}]
"""
_KUBERNETES_ENDPOINTS = """
metadata: {name: kubernetes, namespace: default}
subsets:
- addresses: [{ip: %(node)s}]
  ports: [{name: https, port: 6443, protocol: TCP}]
"""
_COREDNS = """
metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  replicas: %(replicas)s
  selector: {matchLabels: {k8s-app: kube-dns}}
  template:
    metadata: {labels: {k8s-app: kube-dns}}
    spec:
      containers:
      - name: coredns
        image: registry.k8s.io/coredns/coredns:v1.11.3
        ports:
        - {name: dns, containerPort: 53, protocol: UDP}
        - {name: dns-tcp, containerPort: 53, protocol: TCP}
        readinessProbe: {tcpSocket: {port: 53}, periodSeconds: 10}
      dnsPolicy: Default
      priorityClassName: system-cluster-critical
      terminationGracePeriodSeconds: 0
      tolerations: [{key: node-role.kubernetes.io/control-plane, effect: NoSchedule}]
"""
_KUBE_DNS = """
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  clusterIP: %(address)s
  selector: {k8s-app: kube-dns}
  ports:
  - {name: dns, port: 53, protocol: UDP, targetPort: 53}
  - {name: dns-tcp, port: 53, protocol: TCP, targetPort: 53}
"""


# -- Calico --------------------------------------------------------------------------------------


def _calico(spec: LabSpec) -> Iterator[Entry]:
    calico = spec.calico
    by_operator = calico.install == "operator"
    bgp = ["bgp"] if calico.backend == "bird" else []
    kinds = ["k8s", *(["operator"] if by_operator else []), *bgp, "kdd"]
    information = {
        "calicoVersion": calico.version,
        "clusterGUID": uuid.uuid4().hex,
        "clusterType": ",".join(kinds),
        "datastoreReady": True,
    }
    for plural, body in {"clusterinformations": information, **_defaults(calico)}.items():
        yield f"{plural}.{CALICO_V1}", {"metadata": _meta("default", calico), "spec": body}
    pool = _manifest(
        _POOL,
        cidr=spec.pod_cidr,
        ipip=calico.ipip_mode,
        vxlan=calico.vxlan_mode,
    )
    pool["metadata"] = _meta("default-ipv4-ippool", calico)
    if by_operator:
        mark_owned(pool["metadata"], calico.api_shape)
    yield POOLS, pool
    yield from _calico_node(calico)
    if by_operator:
        yield from _operator(spec)


def _defaults(calico: CalicoSpec) -> dict[str, Object]:
    """The specs of what Calico's components make of themselves, all of the name ``default``."""
    felix: Object = {"logSeverityScreen": "Info", "reportingInterval": "0s"}
    if Behaviour.of(calico.version, calico.backend).version < (3, 33):
        return {"felixconfigurations": felix}
    return {"felixconfigurations": felix | _manifest(_FELIX), **_manifest(_DEFAULTS)}


def _meta(name: str, calico: CalicoSpec) -> Object:
    """The metadata that Calico's own client writes; what v1 CRDs have no place for, it hides."""
    if calico.api_shape == "C":
        return {"name": name}
    hidden = compact({"creationTimestamp": timestamp()})
    return {"name": name, "annotations": {METADATA_ANNOTATION: hidden}}


def _calico_node(calico: CalicoSpec) -> Iterator[Entry]:
    by_operator = calico.install == "operator"
    namespace = "calico-system" if by_operator else "kube-system"
    backend = f"value: {calico.backend}"
    if not by_operator:
        place = {"name": "calico-config", "namespace": namespace}
        config = {"calico_backend": calico.backend, "cni_network_config": _CNI_NETWORK_CONFIG}
        yield "configmaps", {"metadata": place, "data": config}
        backend = "valueFrom: {configMapKeyRef: {name: calico-config, key: calico_backend}}"
    yield (
        "daemonsets.apps",
        _manifest(
            _CALICO_NODE,
            namespace=namespace,
            version=calico.version,
            backend=backend,
            cluster_type="k8s,operator" if by_operator else "k8s,bgp",
        ),
    )


def _operator(spec: LabSpec) -> Iterator[Entry]:
    calico = spec.calico
    modes = (calico.ipip_mode, calico.vxlan_mode)
    installation = _manifest(
        _INSTALLATION,
        bgp="Enabled" if calico.backend == "bird" else "Disabled",
        cidr=spec.pod_cidr,
        encapsulation=next(name for name, of in MODES.items() if of == modes),
    )
    status = {"calicoVersion": calico.version, "variant": "Calico", "computed": installation}
    made = {"metadata": {"name": "default"}, "spec": installation, "status": status}
    yield "installations.operator.tigera.io", made
    names = ["calico", *(["ippools"] if manages_pools(calico) else [])]
    for name in [*names, *(["apiserver"] if calico.api_shape == "B" else [])]:
        told = {"conditions": status_conditions("")}
        body: Object = {"metadata": {"name": name}, "spec": {}, "status": told}
        yield "tigerastatuses.operator.tigera.io", body


#: As recorded of 3.33-dev; what of it earlier versions have is not known.
_FELIX = """
bpfConnectTimeLoadBalancing: TCP
bpfHostNetworkedNATWithoutCTLB: Enabled
bpfLogLevel: ""
floatingIPs: Disabled
nftablesFlowTableOffload: Disabled
nftablesMode: Auto
"""
_DEFAULTS = """
bgpconfigurations: {logSeverityScreen: Info, serviceLoadBalancerAggregation: Enabled}
ipamconfigs:
  autoAllocateBlocks: true
  kubeVirtVMAddressPersistence: Enabled
  strictAffinity: false
kubecontrollersconfigurations:
  controllers:
    loadBalancer: {assignIPs: AllServices}
    migration: {policyNameMigrator: Enabled}
    namespace: {reconcilerPeriod: 5m0s}
    node:
      hostEndpoint: {autoCreate: Disabled, createDefaultHostEndpoint: Enabled}
      leakGracePeriod: 15m0s
      reconcilerPeriod: 5m0s
      syncLabels: Enabled
    policy: {reconcilerPeriod: 5m0s}
    serviceAccount: {reconcilerPeriod: 5m0s}
    workloadEndpoint: {reconcilerPeriod: 5m0s}
  etcdV3CompactionPeriod: 10m0s
  healthChecks: Enabled
  logSeverityScreen: Info
  prometheusMetricsPort: 9094
tiers: {order: 1000000, defaultAction: Deny}
"""
_POOL = """
spec:
  allowedUses: [Workload, Tunnel]
  assignmentMode: Automatic
  blockSize: 26
  cidr: %(cidr)s
  ipipMode: %(ipip)s
  natOutgoing: true
  nodeSelector: all()
  vxlanMode: %(vxlan)s
"""
_CNI_NETWORK_CONFIG = """{
  "name": "k8s-pod-network",
  "cniVersion": "0.3.1",
  "plugins": [
    {"type": "calico", "mtu": __CNI_MTU__, "ipam": {"type": "calico-ipam"}}
  ]
}
"""
_CALICO_NODE = """
metadata: {name: calico-node, namespace: %(namespace)s, labels: {k8s-app: calico-node}}
spec:
  selector: {matchLabels: {k8s-app: calico-node}}
  template:
    metadata: {labels: {k8s-app: calico-node}}
    spec:
      containers:
      - name: calico-node
        image: docker.io/calico/node:%(version)s
        env:
        - {name: DATASTORE_TYPE, value: kubernetes}
        - {name: NODENAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        - {name: CALICO_NETWORKING_BACKEND, %(backend)s}
        - {name: CLUSTER_TYPE, value: "%(cluster_type)s"}
        - {name: FELIX_HEALTHENABLED, value: "true"}
        securityContext: {privileged: true}
      hostNetwork: true
      nodeSelector: {kubernetes.io/os: linux}
      priorityClassName: system-node-critical
      terminationGracePeriodSeconds: 0
      tolerations:
      - {effect: NoSchedule, operator: Exists}
      - {key: CriticalAddonsOnly, operator: Exists}
      - {effect: NoExecute, operator: Exists}
"""
_INSTALLATION = """
calicoNetwork:
  bgp: %(bgp)s
  ipPools:
  - name: default-ipv4-ippool
    allowedUses: [Workload, Tunnel]
    assignmentMode: Automatic
    blockSize: 26
    cidr: %(cidr)s
    disableBGPExport: false
    disableNewAllocations: false
    encapsulation: "%(encapsulation)s"
    natOutgoing: Enabled
    nodeSelector: all()
  linuxDataplane: Iptables
cni: {type: Calico, ipam: {type: Calico}}
variant: Calico
"""


# -- Nodes, as kubeadm and a kubelet would have made them ----------------------------------------

KUBELET_VERSION = "v1.34.4"
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
        "metadata": {"name": node.name, "labels": labels, "annotations": _annotations(node)},
        "spec": object_spec,
        "status": _status(node, architecture),
    }


def _annotations(node: NodeSpec) -> dict[str, str]:
    interface = {"name": node.device, "addresses": [str(node.calico_address.ip)]}
    return {
        "node.alpha.kubernetes.io/ttl": "0",
        "projectcalico.org/Interfaces": compact([interface]),
        "volumes.kubernetes.io/controller-managed-attach-detach": "true",
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
            {"type": "InternalIP", "address": str(node.internal_ip)},
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

"""Layouts of clusters as people have them: what is offered, refused and written, and why.

Each belief about Calico or Kubernetes names the file that it is from; ``v3.x`` are tags of
projectcalico/calico, and ``operator`` is tigera/operator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from cluster_shapes import (
    CNI_CONFIG,
    DEFAULT_POOL,
    calico_node_daemon,
    cluster,
    installation_object,
    raw_pool,
    serve,
)
from store_api import StoreApi

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.calico.installation import Installation, Version
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.change.decision import ChangeSettings, Strategy, decide
from pytest_k8snet.errors import ForbiddenError, ModeUnavailableError

NEVER = CalicoMode.NEVER
VXLAN, VXLAN_CS = CalicoMode.VXLAN_ALWAYS, CalicoMode.VXLAN_CROSS_SUBNET
IPIP, IPIP_CS = CalicoMode.IPIP_ALWAYS, CalicoMode.IPIP_CROSS_SUBNET

V1 = "crd.projectcalico.org/v1"
OWNED = {"app.kubernetes.io/managed-by": "tigera-operator"}
LEFT_OVER = "Calico's pools are left over"
#: What is said of filters of routes.
FILTERS = (
    "v3.28.1 confd/pkg/resource/template/template_funcs.go: filterStatement; "
    "master confd/pkg/backends/calico/bgp_processor.go: buildImportFilter, default accept"
)
DAEMONS = "/apis/apps/v1/namespaces"

Change = Callable[[StoreApi], None]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A cluster, and what is said of it.

    ``offers`` has, for a strategy and a mode, a part of the reason why it is refused; empty where
    it is offered.
    """

    source: str
    offers: dict[tuple[Strategy, CalicoMode], str]
    cluster: dict[str, Any] = field(default_factory=dict)
    change: Change = lambda api: None
    facts: dict[str, Any] = field(default_factory=dict)
    notes: str = ""
    unsaid: str = "\n"


# -- How a cluster is made another -----------------------------------------------------------------


def environment(namespace: str = "kube-system", *, image: str = "", **env: str) -> Change:
    """calico-node with more of an environment."""

    def change(api: StoreApi) -> None:
        path = f"{DAEMONS}/{namespace}/daemonsets"
        backend = env.pop("CALICO_NETWORKING_BACKEND", "bird")
        daemon = calico_node_daemon(backend, "v3.28.1", **env)
        if image:
            daemon["spec"]["template"]["spec"]["containers"][0]["image"] = image
        api.delete(f"{path}/calico-node")
        api.create(path, daemon)

    return change


def kept_elsewhere(name: str) -> Change:
    """calico-node with a variable whose value is in a Secret."""

    def change(api: StoreApi) -> None:
        path = f"{DAEMONS}/kube-system/daemonsets"
        daemon = calico_node_daemon("bird", "v3.28.1")
        entry = {"name": name, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
        daemon["spec"]["template"]["spec"]["containers"][0]["env"].append(entry)
        api.delete(f"{path}/calico-node")
        api.create(path, daemon)

    return change


def from_whole(kind: str, name: str, **data: str) -> Change:
    """calico-node with an environment from a whole ConfigMap (that is there) or Secret."""

    def change(api: StoreApi) -> None:
        path = f"{DAEMONS}/kube-system/daemonsets"
        daemon = calico_node_daemon("bird", "v3.28.1")
        container = daemon["spec"]["template"]["spec"]["containers"][0]
        container["envFrom"] = [{"prefix": "FELIX_", kind: {"name": name}}]
        api.delete(f"{path}/calico-node")
        api.create(path, daemon)
        if data:
            place = "/api/v1/namespaces/kube-system/configmaps"
            api.create(place, {"metadata": {"name": name}, "data": data})

    return change


def installer(**env: str) -> Change:
    """calico-node whose init container install-cni has an environment."""

    def change(api: StoreApi) -> None:
        path = f"{DAEMONS}/kube-system/daemonsets"
        daemon = calico_node_daemon("bird", "v3.28.1")
        entries = [{"name": name, "value": value} for name, value in env.items()]
        container = {"name": "install-cni", "image": "calico/cni:v3.28.1", "env": entries}
        daemon["spec"]["template"]["spec"]["initContainers"] = [container]
        api.delete(f"{path}/calico-node")
        api.create(path, daemon)

    return change


def another_cni(namespace: str, name: str) -> Change:
    """No calico-node, but another plugin's DaemonSet."""

    def change(api: StoreApi) -> None:
        api.delete(f"{DAEMONS}/kube-system/daemonsets/calico-node")
        if namespace != "kube-system":
            api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        if name:
            daemon = calico_node_daemon("bird", "v1")
            daemon["metadata"]["name"] = name
            api.create(f"{DAEMONS}/{namespace}/daemonsets", daemon)

    return change


def node_ranges(api: StoreApi) -> None:
    """Give each node a range, as kube-controller-manager does for host-local IPAM."""
    for number, node in enumerate(api.store.list("nodes")):
        node["spec"]["podCIDRs"] = [f"10.244.{number}.0/24"]
        api.store.update("nodes", node)


def annotated_nodes(**annotations: str) -> Change:
    def change(api: StoreApi) -> None:
        api.delete(f"{DAEMONS}/kube-system/daemonsets/calico-node")
        for node in api.store.list("nodes"):
            node["metadata"]["annotations"] |= annotations
            api.store.update("nodes", node)

    return change


def felix(name: str = "default", **spec: Any) -> Change:
    def change(api: StoreApi) -> None:
        body = {"metadata": {"name": name}, "spec": spec}
        api.create(f"/apis/{V1}/felixconfigurations", body)

    return change


def served(plural: str, *specs: dict[str, Any], group: str = V1, name: str = "default") -> Change:
    """More objects of Calico, of a kind that the store does not know."""

    def change(api: StoreApi) -> None:
        serve(api, group, plural, [{"metadata": {"name": name}, "spec": spec} for spec in specs])

    return change


def operated(
    *, spec: dict[str, Any] | None = None, marks: dict[str, Any] | None = None, **network: Any
) -> Change:
    """An Installation, with more in its spec and metadata."""

    def change(api: StoreApi) -> None:
        body = installation_object(**network)
        body["spec"] |= spec or {}
        body["metadata"] |= marks or {}
        api.create("/apis/operator.tigera.io/v1/installations", body)

    return change


def all_of(*changes: Change) -> Change:
    def change(api: StoreApi) -> None:
        for one in changes:
            one(api)

    return change


def information(**spec: str) -> Change:
    def change(api: StoreApi) -> None:
        api.patch(f"/apis/{V1}/clusterinformations/default", {"spec": spec})

    return change


def peered(peer: dict[str, Any], **filters: dict[str, Any]) -> Change:
    """A BGPPeer of the name tor, and BGPFilters."""
    (name,) = filters
    return all_of(
        served("bgppeers", peer, name="tor"), served("bgpfilters", filters[name], name=name)
    )


def reflected(**filters: dict[str, Any]) -> Change:
    """No mesh, but a reflector for all nodes, node3, with a filter."""
    peer = {"peerSelector": "kubernetes.io/hostname == 'node3'", "filters": list(filters)}
    mesh = served("bgpconfigurations", {"nodeToNodeMeshEnabled": False})
    return all_of(mesh, peered(peer, **filters))


def reflecting(name: str) -> Change:
    def change(api: StoreApi) -> None:
        node = api.store.get("nodes", name)
        node["metadata"]["annotations"]["projectcalico.org/RouteReflectorClusterID"] = "1.0.0.1"
        api.store.update("nodes", node)

    return change


def unversioned(api: StoreApi) -> None:
    """A cluster whose version nobody knows: the image is named by its digest."""
    information(calicoVersion="")(api)
    environment(image="quay.io/calico/node@sha256:" + "12" * 32, CALICO_NETWORKING_BACKEND="vxlan")(
        api
    )


def overlaid(**network: Any) -> Change:
    """An Installation, and another one that overrides it."""

    def change(api: StoreApi) -> None:
        operated(encapsulation="VXLANCrossSubnet")(api)
        body = {"metadata": {"name": "overlay"}, "spec": {"calicoNetwork": network}}
        api.create("/apis/operator.tigera.io/v1/installations", body)

    return change


def windows_node(api: StoreApi) -> None:
    """node3 runs Windows."""
    node = api.store.get("nodes", "node3")
    node["metadata"]["labels"]["kubernetes.io/os"] = "windows"
    api.store.update("nodes", node)


def six_alone(api: StoreApi) -> None:
    """Nodes without IPv4 addresses."""
    for node in api.store.list("nodes"):
        node["metadata"]["annotations"] = {"projectcalico.org/IPv6Address": "fd00::1/64"}
        node["status"]["addresses"] = [{"type": "InternalIP", "address": "fd00::1"}]
        node["metadata"]["resourceVersion"] = None
        api.store.update("nodes", node)
        api.store.update("nodes", node, subresource="status")


def marked_pool(**marks: Any) -> Change:
    """The default pool with metadata that the store does not keep."""

    def change(api: StoreApi) -> None:
        listed = api.list

        def list_marked(path: str, **query: str) -> list[dict[str, Any]]:
            return [
                {**one, "metadata": {**one["metadata"], **marks}}
                if one["metadata"]["name"] == DEFAULT_POOL
                else one
                for one in listed(path, **query)
            ]

        api.list = list_marked  # type: ignore[method-assign]

    return change


def written_by(manager: str, operation: str, *fields: str) -> Change:
    """The default pool with fields of a manager's."""
    own: dict[str, Any] = (
        {"f:spec": {f"f:{one}": {} for one in fields}} if fields else {"f:metadata": {}}
    )
    entry = {"manager": manager, "operation": operation, "fieldsV1": own}
    return marked_pool(managedFields=[entry])


def keyed_nodes(api: StoreApi) -> None:
    for node in api.store.list("nodes"):
        node["metadata"]["annotations"]["projectcalico.org/WireguardPublicKey"] = "a key"
        api.store.update("nodes", node)


def unreadable(plural: str) -> Change:
    def change(api: StoreApi) -> None:
        def refuse(method: str, path: str) -> None:
            if plural in path:
                raise ForbiddenError("not for you", status=403)

        api.refuse = refuse

    return change


def bare_node(*, ready: bool, name: str = "node3") -> Change:
    """A node without annotations of Calico."""

    def change(api: StoreApi) -> None:
        node = api.store.get("nodes", name)
        node["metadata"] |= {"annotations": {}, "resourceVersion": None}
        node["status"]["conditions"] = [{"type": "Ready", "status": str(ready)}]
        api.store.update("nodes", node)
        api.store.update("nodes", node, subresource="status")

    return change


def accepts(cidr: str) -> dict[str, str]:
    return {"action": "Accept", "matchOperator": "In", "cidr": cidr}


def rejects(cidr: str) -> dict[str, str]:
    return {"action": "Reject", "matchOperator": "In", "cidr": cidr}


def labelled_nodes(api: StoreApi) -> None:
    """Two racks: node1, node2 and node3 in racks 1, 2 and 2."""
    for node, rack in zip(api.store.list("nodes"), "122", strict=True):
        node["metadata"]["labels"]["rack"] = rack
        api.store.update("nodes", node)


def rack(number: str, cidr: str, mode: CalicoMode) -> dict[str, Any]:
    return raw_pool(f"rack{number}", cidr, mode, nodeSelector=f"rack == '{number}'")


def block(cidr: str, node: str, *, pod: bool = False) -> dict[str, Any]:
    attributes = [{"handle_id": "x", "secondary": {"pod": "a", "namespace": "b"}}] if pod else []
    return {"cidr": cidr, "affinity": f"host:{node}", "attributes": attributes}


def everything(reason: str) -> dict[tuple[Strategy, CalicoMode], str]:
    """Refused for one reason, whatever is allowed and wanted."""
    strategies: tuple[Strategy, ...] = ("none", "dedicated", "in-place")
    return {(strategy, mode): reason for strategy in strategies for mode in (NEVER, VXLAN, IPIP)}


VXLAN_CS_POOL = {"pools": (raw_pool(mode=VXLAN_CS),)}
VXLAN_POOL = {"pools": (raw_pool(mode=VXLAN),)}
OPERATOR: dict[str, Any] = {"install": "operator", "shape": "B"}
OWNED_POOL = {"pools": (raw_pool(mode=VXLAN_CS, labels=OWNED),)}
GITOPS = "kept as it is by somebody else"

LAYOUTS: dict[str, Layout] = {
    # -- Who gives pods their addresses -------------------------------------------------------
    "kubespray with host-local IPAM": Layout(
        source="kubespray roles/network_plugin/calico/templates/calico-node.yml.j2: USE_POD_CIDR; "
        "v3.28.1 node/pkg/allocateip/allocateip.go: K8sUsePodCIDR",
        cluster={"pools": (raw_pool(mode=IPIP),), "config": {"calico_backend": "bird"}},
        change=environment(USE_POD_CIDR="true"),
        facts={"ipam": "HostLocal"},
        offers={
            ("none", IPIP): "",
            ("dedicated", IPIP): "host-local",
            ("dedicated", NEVER): "host-local",
            ("dedicated", VXLAN): "needs Calico IPAM",
            ("in-place", NEVER): "cannot be proven before",
            ("in-place", VXLAN): "needs Calico IPAM",
        },
    ),
    "kubeadm with host-local IPAM": Layout(
        source="v3.28.1 manifests/canal.yaml: usePodCidr in cni_network_config",
        cluster={
            "pools": (raw_pool(mode=IPIP),),
            "config": {"cni_network_config": CNI_CONFIG.replace("calico-ipam", "host-local")},
        },
        facts={"ipam": "HostLocal"},
        offers={("none", IPIP): "", ("dedicated", IPIP): "host-local"},
    ),
    "a CNI configuration that only the nodes have": Layout(
        source="kubespray keeps it in /etc/cni/net.d/calico.conflist.template alone",
        cluster={"config": {"calico_backend": "bird"}},
        change=node_ranges,
        facts={"ipam": "unknown"},
        offers={
            ("none", NEVER): "",
            ("dedicated", VXLAN): "the CNI configuration is a file on the nodes",
            ("in-place", VXLAN): "It is unknown whether VXLAN-Always can work here",
            ("in-place", IPIP): "cannot be proven before",
        },
    ),
    "a CNI configuration of the nodes beside a ConfigMap that nobody uses": Layout(
        source="v3.28.1 cni-plugin/pkg/install/install.go: CNINetworkConfigFile wins",
        change=all_of(
            node_ranges,
            installer(CNI_NETWORK_CONFIG_FILE="/host/etc/cni/net.d/calico.conflist.template"),
        ),
        facts={"ipam": "unknown"},
        offers={
            ("dedicated", IPIP): "the CNI configuration is a file on the nodes",
            ("in-place", VXLAN): "It is unknown whether VXLAN-Always can work here",
        },
    ),
    "a CNI configuration in the DaemonSet itself": Layout(
        source="v3.28.1 cni-plugin/pkg/install/install.go: CNINetworkConfig",
        change=installer(CNI_NETWORK_CONFIG=CNI_CONFIG.replace("calico-ipam", "host-local")),
        facts={"ipam": "HostLocal"},
        offers={("dedicated", IPIP): "host-local", ("in-place", VXLAN): "needs Calico IPAM"},
    ),
    "the same, where nodes have no ranges": Layout(
        source="v3.28.1 cni-plugin/internal/pkg/utils/utils.go: ReplaceHostLocalIPAMPodCIDRs",
        cluster={"config": {"calico_backend": "bird"}},
        facts={"ipam": "Calico"},
        offers={("dedicated", VXLAN): ""},
    ),
    "the same, with pods in Calico's blocks": Layout(
        source="v3.28.1 libcalico-go/lib/ipam/ipam.go: AttributePod",
        cluster={"config": {"calico_backend": "bird"}},
        change=all_of(node_ranges, served("ipamblocks", block("10.244.0.0/26", "node1", pod=True))),
        facts={"ipam": "Calico"},
        offers={("dedicated", VXLAN): ""},
    ),
    "the same, with nothing but tunnel addresses in them": Layout(
        source="v3.28.1 node/pkg/allocateip/allocateip.go: attributes node and type",
        cluster={"config": {"calico_backend": "bird"}},
        change=all_of(node_ranges, served("ipamblocks", block("10.244.0.0/26", "node1"))),
        facts={"ipam": "unknown"},
        offers={("dedicated", VXLAN): "which plugin gives them"},
    ),
    "an IPAMConfig that allocates no blocks by itself": Layout(
        source="v3.28.1 libcalico-go/lib/ipam/ipam.go: findOrClaimBlock, AutoAllocateBlocks",
        change=served("ipamconfigs", {"autoAllocateBlocks": False, "strictAffinity": True}),
        offers={
            ("none", NEVER): "",
            ("dedicated", VXLAN): "autoAllocateBlocks",
            ("in-place", VXLAN): "cannot be proven",
        },
    ),
    "an IPAMConfig with a limit that nobody can check": Layout(
        source="v3.28.1 api/pkg/apis/projectcalico/v3/ipamconfig.go: MaxBlocksPerHost",
        change=served("ipamconfigs", {"strictAffinity": True, "maxBlocksPerHost": 1}),
        offers={("dedicated", VXLAN): "is 1, and that of node1 is unknown"},
    ),
    "an IPAMConfig whose limit is reached": Layout(
        source="v3.28.1 api/pkg/apis/projectcalico/v3/ipamconfig.go: MaxBlocksPerHost",
        change=all_of(
            served("ipamblocks", block("10.244.0.0/26", "node2")),
            served("ipamconfigs", {"strictAffinity": True, "maxBlocksPerHost": 1}),
        ),
        offers={("dedicated", VXLAN): "maxBlocksPerHost of the IPAMConfig is 1, and node2 have"},
    ),
    "an IPAMConfig with room under its limit": Layout(
        source="v3.28.1 api/pkg/apis/projectcalico/v3/ipamconfig.go: MaxBlocksPerHost",
        change=all_of(
            served("ipamblocks", block("10.244.0.0/26", "node1"), block("10.244.0.64/26", "node2")),
            served("ipamconfigs", {"strictAffinity": True, "maxBlocksPerHost": 4}),
        ),
        offers={("dedicated", VXLAN): ""},
    ),
    "addresses that cool down": Layout(
        source="master (v3.33) api/pkg/apis/projectcalico/v3/ipamconfig.go: IPCooldownSeconds",
        cluster={"shape": "C", "version": "v3.33.0"},
        change=served(
            "ipamconfigurations", {"ipCooldownSeconds": 600}, group="projectcalico.org/v3"
        ),
        offers={("dedicated", VXLAN): ""},
        notes="ipCooldownSeconds is 600",
    ),
    # -- CRDs that are left over under another CNI --------------------------------------------
    "Cilium, with Calico's CRDs left over": Layout(
        source="cilium install/kubernetes/cilium/templates/cilium-agent/daemonset.yaml",
        cluster=VXLAN_POOL,
        change=another_cni("kube-system", "cilium"),
        facts={"cni": "Cilium", "node_agent": False},
        offers=everything(f"the CNI plugin is Cilium, and {LEFT_OVER}"),
    ),
    "GKE Dataplane V2": Layout(
        source="GKE documentation, Dataplane V2: DaemonSet anetd",
        cluster=VXLAN_POOL,
        change=another_cni("kube-system", "anetd"),
        offers=everything(f"the CNI plugin is GKE Dataplane V2, and {LEFT_OVER}"),
    ),
    "flannel": Layout(
        source="flannel Documentation/kube-flannel.yml",
        cluster=VXLAN_POOL,
        change=another_cni("kube-flannel", "kube-flannel-ds"),
        offers=everything(f"the CNI plugin is flannel, and {LEFT_OVER}"),
    ),
    "Weave Net": Layout(
        source="weave prog/weave-kube/weave-daemonset-k8s-1.11.yaml",
        cluster=VXLAN_POOL,
        change=another_cni("kube-system", "weave-net"),
        offers=everything(f"the CNI plugin is Weave Net, and {LEFT_OVER}"),
    ),
    "OpenShift with OVN-Kubernetes": Layout(
        source="openshift/cluster-network-operator bindata/network/ovn-kubernetes",
        cluster=VXLAN_POOL,
        change=another_cni("openshift-ovn-kubernetes", "ovnkube-node"),
        offers=everything(f"the CNI plugin is OVN-Kubernetes, and {LEFT_OVER}"),
    ),
    "k3s with its own flannel": Layout(
        source="k3s pkg/agent/flannel: no DaemonSet; flannel pkg/subnet/kube/annotations.go",
        cluster=VXLAN_POOL,
        change=annotated_nodes(**{"flannel.alpha.coreos.com/backend-type": "vxlan"}),
        offers=everything(f"the CNI plugin is flannel, and {LEFT_OVER}"),
    ),
    "no CNI that is known": Layout(
        source="v3.28.1 manifests/calico.yaml: DaemonSet calico-node",
        cluster=VXLAN_POOL,
        change=another_cni("kube-system", ""),
        offers=everything("no DaemonSet calico-node runs in calico-system or kube-system"),
    ),
    "Canal, as RKE2 installs it": Layout(
        source="rancher/rke2-charts rke2-canal/templates/daemonset.yaml",
        cluster=VXLAN_POOL,
        change=another_cni("kube-system", "rke2-canal"),
        offers=everything("it is Canal: flannel routes the pods"),
    ),
    "EKS with the VPC CNI, and Calico for policy only": Layout(
        source="v3.28.1 manifests/calico-policy-only.yaml: CALICO_NETWORKING_BACKEND none",
        cluster={"pools": ()},
        change=environment(CALICO_NETWORKING_BACKEND="none", FELIX_INTERFACEPREFIX="eni"),
        offers=everything("CALICO_NETWORKING_BACKEND is none"),
    ),
    "Azure CNI, and Calico for policy": Layout(
        source="operator v1.34 api/v1/installation_types.go: PluginAzureVNET",
        cluster=OPERATOR,
        change=operated(spec={"cni": {"type": "AzureVNET", "ipam": {"type": "AzureVNET"}}}),
        offers=everything("the CNI plugin is AzureVNET"),
    ),
    # -- Products and versions ----------------------------------------------------------------
    "Calico Enterprise": Layout(
        source="operator v1.34 api/v1/installation_types.go: TigeraSecureEnterprise",
        cluster={**OPERATOR, **OWNED_POOL, "version": "v3.30.3"},
        change=all_of(
            information(cnxVersion="v3.21.2"),
            operated(spec={"variant": "TigeraSecureEnterprise"}, encapsulation="VXLANCrossSubnet"),
        ),
        facts={"product": "Calico Enterprise", "version": Version(3, 30, 3)},
        offers={("none", VXLAN_CS): "", ("dedicated", IPIP): "", ("in-place", IPIP): ""},
    ),
    "Calico Enterprise, built on nobody says what": Layout(
        source="operator v1.44 api/v1/installation_types.go: CalicoEnterprise",
        cluster={**OPERATOR, **OWNED_POOL, "version": "v3.33.1"},
        change=all_of(
            information(cnxVersion="v3.33.1"),
            operated(spec={"variant": "CalicoEnterprise"}, encapsulation="VXLANCrossSubnet"),
        ),
        facts={"product": "Calico Enterprise", "version": None},
        offers={
            ("none", VXLAN_CS): "",
            ("dedicated", IPIP): "",
            ("in-place", IPIP): "It is unknown who owns pool",
        },
        notes="cannot keep a pool for pods that name it",
    ),
    "Calico Enterprise without an operator": Layout(
        source="docs.tigera.io: image quay.io/tigera/cnx-node",
        cluster={"version": ""},
        change=environment(image="quay.io/tigera/cnx-node:v3.21.2"),
        facts={"product": "Calico Enterprise", "version": None},
        offers={("none", NEVER): "", ("dedicated", VXLAN): ""},
        notes="cannot keep a pool for pods that name it",
    ),
    "native v3 CRDs by calico-node's word": Layout(
        source="v3.32.0 libcalico-go/lib/backend/k8s/discovery.go: CalicoAPIGroup",
        cluster={"shape": "B"},
        change=environment(CALICO_API_GROUP="projectcalico.org/v3"),
        facts={"shape": "C", "group": "projectcalico.org/v3"},
        offers={("dedicated", VXLAN): ""},
    ),
    # -- What Felix is told --------------------------------------------------------------------
    "another VNI and port": Layout(
        source="v3.28.1 felix/config/config_params.go: VXLANVNI, VXLANPort",
        cluster=VXLAN_POOL,
        change=felix(vxlanVNI=8192, vxlanPort=8472),
        facts={"vxlan_vni": 8192, "vxlan_port": 8472},
        offers={("none", VXLAN): "", ("dedicated", VXLAN_CS): ""},
    ),
    "a VNI in the environment, which wins": Layout(
        source="v3.31.2 felix/config/config_params.go: SourcesInDescendingOrder",
        cluster=VXLAN_POOL,
        change=all_of(environment(felix_VXLANVNI="8192"), felix(vxlanVNI=77)),
        facts={"vxlan_vni": 8192},
        offers={("none", VXLAN): ""},
    ),
    "a VNI of one node alone": Layout(
        source="v3.31.2 felix/config/config_params.go: DatastorePerHost",
        cluster=VXLAN_POOL,
        change=felix("node.node2", vxlanVNI=77),
        offers={
            ("none", VXLAN): "the nodes differ in Felix's vxlanVNI",
            ("dedicated", VXLAN_CS): "node1 default, node2 77, node3 default",
            ("dedicated", IPIP): "",
        },
    ),
    "a port for some nodes": Layout(
        source="v3.32.1 api/pkg/apis/projectcalico/v3/felixconfig.go: NodeSelector",
        cluster=VXLAN_POOL,
        change=felix("edge", nodeSelector="has(rack)", vxlanPort=8472),
        facts={"vxlan_port": 4789},
        offers={("none", VXLAN): ""},
    ),
    "pods' devices of another name": Layout(
        source="v3.28.1 felix/config/config_params.go: InterfacePrefix",
        change=felix(interfacePrefix="azv"),
        offers={("none", NEVER): "interfacePrefix of FelixConfiguration default is azv"},
    ),
    "pods' devices of another name as well": Layout(
        source="v3.28.1 felix/config/config_params.go: InterfacePrefix is a list",
        change=felix(interfacePrefix="azv,cali"),
        offers={("none", NEVER): ""},
    ),
    "routes that Felix does not program": Layout(
        source="v3.28.1 felix/config/config_params.go: RouteSyncDisabled",
        cluster=VXLAN_POOL,
        change=felix(routeSyncDisabled=True),
        offers={("none", VXLAN): "routeSyncDisabled"},
    ),
    "a setting of Felix's in a Secret": Layout(
        source="v3.28.1 felix/config/env_var_loader.go: the environment wins",
        change=kept_elsewhere("FELIX_VXLANENABLED"),
        offers={
            ("none", NEVER): "",
            ("dedicated", VXLAN): "FELIX_VXLANENABLED of DaemonSet calico-node: its value is kept",
            ("in-place", IPIP): "It is unknown what calico-node is configured to",
        },
    ),
    "a variable of others in a Secret": Layout(
        source="v3.28.1 node/pkg/lifecycle/startup/startup.go: FELIX_ and CALICO_ alone",
        change=kept_elsewhere("WAIT_FOR_DATASTORE"),
        offers={("dedicated", VXLAN): ""},
    ),
    "routes to pods that run alone": Layout(
        source="v3.28.1 felix/config/config_params.go: RouteSource",
        change=felix(routeSource="WorkloadIPs"),
        offers={
            ("none", NEVER): "",
            ("dedicated", VXLAN): "routeSource of FelixConfiguration default is WorkloadIPs",
            ("dedicated", IPIP): "",
        },
    ),
    "routes to blocks, as is the default": Layout(
        source="v3.28.1 felix/config/config_params.go: RouteSource",
        cluster=VXLAN_POOL,
        change=felix(routeSource="CalicoIPAM"),
        offers={("none", VXLAN): "", ("in-place", IPIP): ""},
    ),
    "a Felix that does not follow pools": Layout(
        source="v3.22.4 felix/config/config_params.go: VXLANEnabled false, IpInIpEnabled false; "
        "libcalico-go/lib/clientv3/ippool.go: maybeEnableVXLAN",
        cluster={"version": "v3.22.4", "pools": (raw_pool(mode=IPIP),)},
        change=felix(ipipEnabled=True),
        offers={
            ("none", IPIP): "",
            ("dedicated", IPIP_CS): "",
            ("dedicated", NEVER): "",
            ("dedicated", VXLAN): "before v3.23 it has VXLAN only where its configuration says so",
            ("in-place", VXLAN): "Calico v3.22.4, and no vxlanEnabled",
            ("in-place", NEVER): "",
        },
    ),
    "the first Felix that follows them": Layout(
        source="v3.23.0 felix/calc/encapsulation_resolver.go",
        cluster={"version": "v3.23.0"},
        offers={("dedicated", VXLAN): "", ("dedicated", IPIP): ""},
    ),
    # -- Who programs the routes ---------------------------------------------------------------
    "v3.31 without BGP, Felix programs routes": Layout(
        source="v3.31.2 felix/dataplane/linux/int_dataplane.go: newNoEncapManager",
        cluster={"backend": "vxlan", "version": "v3.31.2"},
        change=felix(programClusterRoutes="Enabled"),
        offers={
            ("none", NEVER): "",
            ("dedicated", NEVER): "",
            ("dedicated", VXLAN): "would take the routes from pools that are not under test",
            ("dedicated", IPIP): "default-ipv4-ippool (Never)",
            ("in-place", VXLAN): "cannot be proven before",
        },
    ),
    "v3.32 without BGP, Felix programs routes": Layout(
        source="v3.32.1 felix/dataplane/linux/int_dataplane.go: newNoEncapManager",
        cluster={"backend": "vxlan", "version": "v3.32.1"},
        change=felix(programClusterRoutes="Enabled"),
        offers={("dedicated", VXLAN): "would take the routes", ("dedicated", NEVER): ""},
    ),
    "v3.33 without BGP, Felix programs all routes": Layout(
        source="master felix/dataplane/linux/int_dataplane.go: ProgramNoEncapClusterRoutes",
        cluster={"backend": "vxlan", "version": "v3.33.0"},
        change=felix(programClusterRoutes="Enabled"),
        offers={("dedicated", VXLAN): "", ("dedicated", IPIP): "", ("dedicated", NEVER): ""},
    ),
    "v3.31 without BGP, all encapsulated": Layout(
        source="v3.31.2 felix/dataplane/linux/int_dataplane.go: newNoEncapManager",
        cluster={"backend": "vxlan", "version": "v3.31.2", **VXLAN_POOL},
        change=felix(programClusterRoutes="Enabled"),
        offers={
            ("dedicated", NEVER): "vxlan enabled elsewhere, which bars it before v3.33",
            ("dedicated", IPIP): "",
        },
    ),
    "Felix's routes, of a version that nobody knows": Layout(
        source="v3.31.2 felix/dataplane/linux/int_dataplane.go: newNoEncapManager",
        cluster={"backend": "vxlan"},
        change=all_of(unversioned, felix(programClusterRoutes="Enabled")),
        facts={"version_text": "", "version": None},
        offers={("dedicated", VXLAN): "programClusterRoutes Enabled of Calico of unknown version"},
    ),
    "Felix's routes by a variable in lower case": Layout(
        source="v3.31.2 felix/config/param_types.go: OneofListParam",
        cluster={"version": "v3.31.2"},
        change=environment(FELIX_PROGRAMCLUSTERROUTES="enabled", CALICO_NETWORKING_BACKEND="vxlan"),
        facts={"felix_cluster_routes": "Enabled"},
        offers={("dedicated", VXLAN): "would take the routes from pools", ("none", NEVER): ""},
    ),
    "Felix's routes on one node alone": Layout(
        source="v3.31.2 felix/config/config_params.go: DatastorePerHost",
        cluster={"backend": "vxlan", "version": "v3.31.2"},
        change=felix("node.node1", programClusterRoutes="Enabled"),
        offers={("none", NEVER): "the nodes differ in Felix's programClusterRoutes"},
    ),
    "a value for the routes that came later": Layout(
        source="v3.33 has four where v3.32 has two: design/cluster-route-programming/DESIGN.md",
        cluster={"version": "v3.34.0", **VXLAN_POOL},
        change=felix(programClusterRoutes="EnabledVXLANOnly"),
        offers={
            ("none", VXLAN): "",
            ("dedicated", VXLAN): "programClusterRoutes EnabledVXLANOnly of Calico v3.34.0",
        },
    ),
    "a mode of the operator's for the routes that came later": Layout(
        source="operator v1.44 api/v1/installation_types.go: FelixIPIPOnly is new there",
        cluster={**OPERATOR, **OWNED_POOL, "version": "v3.34.0"},
        change=operated(encapsulation="VXLANCrossSubnet", clusterRoutingMode="FelixOnly"),
        offers={("dedicated", VXLAN): "programClusterRoutes FelixOnly of Calico v3.34.0"},
    ),
    "BIRD leaves the routes to a Felix that does not take them": Layout(
        source="v3.32.0 confd/pkg/backends/calico/bgp_processor.go: programClusterRoutes",
        cluster={"version": "v3.32.0", **VXLAN_POOL},
        change=served("bgpconfigurations", {"programClusterRoutes": "Disabled"}),
        offers={
            ("dedicated", IPIP): "BIRD leaves them to Felix",
            ("dedicated", NEVER): "BIRD leaves them to Felix",
            ("dedicated", VXLAN_CS): "",
        },
    ),
    "BIRD and Felix program the same routes": Layout(
        source="v3.32.0 api/pkg/apis/projectcalico/v3/bgpconfig.go: ProgramClusterRoutes",
        cluster={"version": "v3.32.0", "pools": (raw_pool(mode=IPIP),)},
        change=felix(programClusterRoutes="Enabled"),
        offers={
            ("none", IPIP): "",
            ("dedicated", IPIP_CS): "Both Felix and BIRD program the routes",
            ("dedicated", VXLAN): "",
        },
    ),
    "the mesh off, and nobody instead": Layout(
        source="v3.28.1 confd/etc/calico/confd/templates/bird.cfg.template: node_mesh",
        change=served("bgpconfigurations", {"nodeToNodeMeshEnabled": False}),
        offers={
            ("dedicated", IPIP): "nodeToNodeMeshEnabled of BGPConfiguration default is false",
            ("in-place", IPIP): "nodeToNodeMeshEnabled",
            ("dedicated", VXLAN): "",
        },
    ),
    "the mesh off, and a route reflector": Layout(
        source="v3.28.1 api/pkg/apis/projectcalico/v3/bgppeer.go: peerSelector",
        change=all_of(
            served("bgpconfigurations", {"nodeToNodeMeshEnabled": False}),
            served("bgppeers", {"peerSelector": "has(kubernetes.io/hostname)"}, name="rr"),
        ),
        offers={("dedicated", IPIP): "", ("in-place", IPIP): ""},
    ),
    "a router that hears of the run's own pools": Layout(
        source="v3.28.1 confd/etc/calico/confd/templates/bird_ipam.cfg.template: "
        "calico_export_to_bgp_peers",
        change=served("bgppeers", {"peerIP": "192.168.0.1", "filters": ["f"]}, name="tor"),
        offers={("dedicated", IPIP): ""},
        # Calico passes over a filter that does not exist.
        notes="outside the cluster: BGPPeer tor (192.168.0.1); to keep them",
    ),
    "a router that hears of pools in VXLAN as well, before v3.21": Layout(
        source="v3.21.0 release notes: disableBGPExport is new",
        cluster={"version": "v3.20.6"},
        change=all_of(
            felix(vxlanEnabled=True), served("bgppeers", {"peerIP": "192.168.0.1"}, name="tor")
        ),
        offers={("dedicated", VXLAN): ""},
        notes="of pools in mode VXLAN-Always to routers outside the cluster: BGPPeer tor",
        unsaid="or test VXLAN modes only",
    ),
    "a router that a filter keeps the run's own pools from": Layout(
        source=FILTERS,
        change=peered(
            {"peerIP": "192.168.0.1", "filters": ["f"]},
            f={"exportV4": [accepts("10.244.0.0/16"), {"action": "Reject"}]},
        ),
        offers={("dedicated", IPIP): "", ("dedicated", NEVER): "", ("in-place", IPIP): ""},
        unsaid="outside the cluster",
    ),
    "a router that a filter keeps from some of them perhaps": Layout(
        source="v3.32.1 api/pkg/apis/projectcalico/v3/bgpfilter.go: Communities",
        change=peered(
            {"peerIP": "192.168.0.1", "filters": ["f"]},
            f={"exportV4": [{"action": "Reject", "communities": {"values": ["1:2"]}}]},
        ),
        offers={("dedicated", IPIP): ""},
        notes="BGPPeer tor (192.168.0.1), unless BGPFilter f keeps them back;",
    ),
    "a pool that a filter keeps from the router, but not the run's own": Layout(
        source=FILTERS,
        cluster={"pools": (raw_pool(mode=VXLAN),)},
        change=peered(
            {"peerIP": "192.168.0.1", "filters": ["f"]},
            f={"exportV4": [rejects("10.244.0.0/16")]},
        ),
        offers={
            ("in-place", NEVER): "hear of the run's own pools, and not of 10.244.0.0/16",
            ("in-place", IPIP): "",
            ("dedicated", NEVER): "",
        },
    ),
    "a reflector, and a filter that rejects all of the run's own pools": Layout(
        source=FILTERS,
        change=reflected(f={"importV4": [rejects("198.18.0.0/15")]}),
        offers={
            ("none", NEVER): "",
            ("dedicated", IPIP): "BGPFilter f of BGPPeer tor rejects routes of 198.18.",
            ("dedicated", VXLAN): "",
            ("in-place", IPIP): "cannot be proven before",
        },
    ),
    "a reflector, and a filter that lets just the cluster's pool through": Layout(
        source=FILTERS,
        change=reflected(f={"exportV4": [accepts("10.244.0.0/16"), {"action": "Reject"}]}),
        offers={
            ("none", NEVER): "",
            ("dedicated", NEVER): "rejects routes of 198.18.",
            ("in-place", IPIP): "rejects routes of 198.18.",
        },
    ),
    "a reflector, and a filter that rejects the cluster's pool": Layout(
        source=FILTERS,
        change=reflected(f={"exportV4": [rejects("10.244.0.0/16")]}),
        offers={
            ("none", NEVER): "rejects routes of 10.244.0.0/16",
            ("in-place", IPIP): "rejects routes of 10.244.0.0/16",
            ("dedicated", IPIP): "",
        },
    ),
    "a reflector that must not pass on what it heard": Layout(
        source="v3.28.1 confd/pkg/resource/template/template_funcs.go: filterMatchSource",
        change=reflected(f={"exportV4": [{"source": "RemotePeers", "action": "Reject"}]}),
        offers={("none", NEVER): "rejects routes of 10.244.0.0/16", ("none", IPIP): "No pool"},
    ),
    "a filter of blocks of another size": Layout(
        source="v3.29.1 confd/pkg/resource/template/template_funcs.go: filterMatchPrefixLength",
        change=reflected(
            f={"exportV4": [{**rejects("0.0.0.0/0"), "prefixLength": {"min": 27, "max": 32}}]}
        ),
        offers={
            # Blocks of the cluster's pool are /26, those of the run's own /28.
            ("none", NEVER): "",
            ("dedicated", IPIP): "rejects routes of 198.18.",
        },
    ),
    "a filter with an operator that nobody knows": Layout(
        source="v3.28.1 confd/pkg/resource/template/template_funcs.go: operatorLUT",
        change=reflected(
            f={
                "exportV4": [
                    {**rejects("10.0.0.0/8"), "matchOperator": "Near"},
                    {"action": "Accept"},
                ]
            }
        ),
        offers={
            ("none", NEVER): "",
            ("dedicated", IPIP): "may reject routes of 198.18.",
            ("in-place", IPIP): "may reject routes of 10.244.0.0/16",
        },
    ),
    "a reflector of one node alone": Layout(
        source="v3.28.1 confd/pkg/backends/calico/client.go: updatePeersV1",
        change=all_of(
            served("bgpconfigurations", {"nodeToNodeMeshEnabled": False}),
            served("bgppeers", {"node": "node1", "peerIP": "192.168.0.1"}, name="tor"),
        ),
        offers={
            ("none", NEVER): "node2 has no mesh, and no BGPPeer is for it",
            ("dedicated", IPIP): "no BGPPeer is for it",
        },
    ),
    "a node that is a reflector itself, which the mesh leaves out": Layout(
        source="v3.28.1 confd/etc/calico/confd/templates/bird.cfg.template: rr_cluster_id",
        change=reflecting("node2"),
        offers={("dedicated", IPIP): "node2 is a route reflector, and no BGPPeer is for it"},
    ),
    "a pool that BGP tells nobody of": Layout(
        source="v3.28.1 confd/etc/calico/confd/templates/bird_ipam.cfg.template: "
        "reject_disabled_pools",
        cluster={"pools": (raw_pool(mode=VXLAN, disableBGPExport=True),)},
        offers={("in-place", IPIP): "disableBGPExport", ("dedicated", IPIP): ""},
    ),
    # -- What is set where few look ------------------------------------------------------------
    "etcd as the datastore, as its manifest has it": Layout(
        source="v3.28.1 manifests/calico-etcd.yaml has no DATASTORE_TYPE; "
        "libcalico-go/lib/apiconfig/load.go: applyConfigDefaults",
        change=environment(ETCD_ENDPOINTS="https://10.0.0.1:2379"),
        offers=everything("its datastore is etcdv3"),
    ),
    "etcd endpoints that are kept elsewhere": Layout(
        source="v3.28.1 libcalico-go/lib/apiconfig/load.go: applyConfigDefaults",
        change=kept_elsewhere("ETCD_ENDPOINTS"),
        offers=everything("its datastore is etcdv3"),
    ),
    "etcd endpoints that nobody uses": Layout(
        source="v3.28.1 libcalico-go/lib/apiconfig/load.go: applyConfigDefaults",
        change=environment(ETCD_ENDPOINTS="https://10.0.0.1:2379", DATASTORE_TYPE="kubernetes"),
        offers={("dedicated", VXLAN): ""},
    ),
    "a datastore that is named in a Secret": Layout(
        source="v3.28.1 libcalico-go/lib/apiconfig/load.go: applyConfigDefaults",
        change=kept_elsewhere("DATASTORE_TYPE"),
        offers={("none", NEVER): "", ("dedicated", VXLAN): "DATASTORE_TYPE of DaemonSet"},
    ),
    "an environment from a whole ConfigMap": Layout(
        source="kubernetes/api core/v1 EnvFromSource: prefix",
        change=from_whole("configMapRef", "tuning", VXLANENABLED="false"),
        offers={("dedicated", VXLAN): "Felix is configured to keep VXLAN off"},
    ),
    "an environment from a ConfigMap that may not be read": Layout(
        source="kubernetes/api core/v1 EnvFromSource",
        change=all_of(from_whole("configMapRef", "tuning"), unreadable("configmaps/tuning")),
        offers={("none", NEVER): "", ("dedicated", IPIP): "FELIX_ variables of tuning: not perm"},
    ),
    "an environment from a Secret": Layout(
        source="kubernetes/api core/v1 EnvFromSource",
        change=from_whole("secretRef", "tuning"),
        offers={("dedicated", IPIP): "FELIX_ variables of a Secret: secrets are not read"},
    ),
    "the ConfigMap that every manifest names": Layout(
        source="master manifests/calico.yaml: kubernetes-services-endpoint",
        change=all_of(
            from_whole("configMapRef", "kubernetes-services-endpoint"),
            unreadable("kubernetes-services-endpoint"),
        ),
        offers={("dedicated", VXLAN): ""},
    ),
    "VXLAN off by a word of Felix's own": Layout(
        source="v3.31.2 felix/config/param_types.go: BoolPtrParam",
        change=environment(FELIX_VXLANENABLED="F"),
        offers={("dedicated", VXLAN): "FELIX_VXLANENABLED of DaemonSet calico-node is F"},
    ),
    "a word that unsets what is configured": Layout(
        source="v3.31.2 felix/config/config_params.go:772",
        change=all_of(
            environment(FELIX_VXLANENABLED="none", FELIX_WIREGUARDENABLED="None"),
            felix(vxlanEnabled=False, wireguardEnabled=True),
        ),
        facts={"vxlan_enabled": (), "wireguard": False},
        offers={("dedicated", VXLAN): ""},
    ),
    "a VNI in hexadecimal": Layout(
        source="v3.31.2 felix/config/param_types.go: IntParam, ParseInt of base 0",
        change=environment(FELIX_VXLANVNI="0x2000"),
        facts={"vxlan_vni": 8192},
        offers={("dedicated", VXLAN): ""},
    ),
    "eBPF by Felix's word beside the operator's default": Layout(
        source="operator v1.40 pkg/controller/installation/defaults.go: LinuxDataplane",
        cluster={**OPERATOR, **OWNED_POOL},
        change=all_of(
            operated(encapsulation="VXLANCrossSubnet", linuxDataplane="Iptables"),
            felix(bpfEnabled=True),
        ),
        facts={"dataplane": "eBPF"},
        offers={("none", VXLAN_CS): ""},
    ),
    "Calico without BGP and with host-local IPAM, as in Azure with kubenet": Layout(
        source="operator v1.40 pkg/render/node.go: CALICO_NETWORKING_BACKEND",
        cluster={**OPERATOR, "pools": (raw_pool(labels=OWNED),)},
        change=operated(
            spec={"cni": {"type": "Calico", "ipam": {"type": "HostLocal"}}}, bgp="Disabled"
        ),
        facts={"backend": "none"},
        offers=everything("CALICO_NETWORKING_BACKEND is none"),
    ),
    "an Installation with an overlay": Layout(
        source="operator v1.40 pkg/controller/utils/merge.go: OverrideInstallationSpec",
        cluster={**OPERATOR, **OWNED_POOL},
        change=overlaid(bgp="Disabled", linuxDataplane="BPF", mtu=1400),
        facts={"backend": "vxlan", "dataplane": "eBPF", "mtu_bytes": 1400},
        offers={("in-place", VXLAN): "", ("dedicated", IPIP): "BGP is disabled"},
    ),
    "pools in an overlay": Layout(
        source="operator v1.40 pkg/controller/utils/merge.go: OverrideInstallationSpec",
        cluster={**OPERATOR, **OWNED_POOL},
        change=overlaid(ipPools=[{"cidr": "10.244.0.0/16", "encapsulation": "VXLANCrossSubnet"}]),
        offers={
            ("in-place", VXLAN): "the Installation overlay, which sets ipPools",
            ("dedicated", VXLAN): "",
        },
    ),
    # -- Where pods get no address of a pool ---------------------------------------------------
    "pools of IPv6 alone": Layout(
        source="operator v1.40 pkg/render/node.go: assign_ipv4",
        cluster={"pools": (raw_pool("six", "fd00:10::/48", None, blockSize=122),)},
        offers={("dedicated", VXLAN): "all pools are of IPv6: six", ("none", NEVER): "No pool"},
    ),
    "nodes of IPv6 alone": Layout(
        source="v3.28.1 felix/calc/l3_route_resolver.go: a node without an IPv4 address",
        change=six_alone,
        offers={("dedicated", VXLAN): "node1, node2 have no IPv4 address"},
    ),
    "a node under test that has no Calico": Layout(
        source="v3.28.1 libcalico-go/lib/backend/k8s/resources/node.go: nodeBgpIpv4AddrAnnotation",
        change=bare_node(ready=True, name="node2"),
        offers=everything("Calico does not route the pods of node2"),
    ),
    "pools that may not be listed": Layout(
        source="which addresses are free is known by the pools alone",
        change=unreadable("ippools"),
        offers={("dedicated", VXLAN): "It is unknown which pools there are"},
    ),
    "a pool that is being deleted": Layout(
        source="v3.32.0 libcalico-go/lib/clientv3/client.go: filterIPPool",
        cluster={"pools": (raw_pool("a", "10.7.0.0/16", IPIP), raw_pool(mode=VXLAN))},
        change=marked_pool(deletionTimestamp="2026-03-01T10:00:00Z"),
        offers={
            ("none", VXLAN): "No pool of this cluster is in mode VXLAN-Always",
            ("none", IPIP): "",
            ("in-place", IPIP): "it is being deleted",
        },
    ),
    # -- Windows -------------------------------------------------------------------------------
    "a Windows node in the pool": Layout(
        source="operator v1.40 pkg/controller/installation/validation.go: VXLAN and None alone",
        cluster=VXLAN_POOL,
        change=windows_node,
        offers={
            ("in-place", IPIP): "node3",
            ("in-place", VXLAN_CS): "cut off the pods on Windows nodes",
            ("in-place", NEVER): "which do not follow a pool's mode",
            ("in-place", VXLAN): "",
            ("dedicated", VXLAN_CS): "",
        },
    ),
    "a Windows node outside of the pool": Layout(
        source="operator v1.40 pkg/controller/installation/validation.go: VXLAN and None alone",
        cluster={"pools": (raw_pool(mode=VXLAN, nodeSelector="kubernetes.io/os != 'windows'"),)},
        change=windows_node,
        offers={("in-place", VXLAN_CS): ""},
    ),
    # -- What no configuration tells, and nodes do ----------------------------------------------
    "WireGuard, where Felix's configuration may not be read": Layout(
        source="v3.28.1 felix/wireguard/bootstrap.go: removeWireguardPublicKey where it is off",
        change=all_of(keyed_nodes, unreadable("felixconfigurations")),
        facts={"wireguard": False},
        offers=everything("node1, node2 have keys, and whether it is on is unread"),
    ),
    "keys where WireGuard is known to be off": Layout(
        source="v3.28.1 felix/config/config_params.go: WireguardEnabled",
        change=keyed_nodes,
        offers={("none", NEVER): "", ("dedicated", VXLAN): ""},
    ),
    "a virtual node, which has no Calico": Layout(
        source="v3.28.1 libcalico-go/lib/backend/k8s/resources/node.go: nodeBgpIpv4AddrAnnotation",
        cluster=VXLAN_CS_POOL,
        change=bare_node(ready=True),
        # It counts as no other subnet, to which packets would go direct.
        facts={"without_calico": {"node3"}},
        offers={("in-place", NEVER): ""},
        notes="left out: node3",
    ),
    "a node that is just joining": Layout(
        source="v3.28.1 libcalico-go/lib/backend/k8s/resources/node.go: nodeBgpIpv4AddrAnnotation",
        cluster=VXLAN_CS_POOL,
        change=bare_node(ready=False),
        facts={"without_calico": set()},
        offers={("in-place", NEVER): "no pod of the run's can be put on node3"},
    ),
    # -- Pools of racks -------------------------------------------------------------------------
    "a pool for each rack": Layout(
        source="v3.28.1 libcalico-go/lib/ipam/ipam.go: determinePools",
        cluster={"pools": (rack("1", "10.1.0.0/16", VXLAN), rack("2", "10.2.0.0/16", VXLAN))},
        change=labelled_nodes,
        offers={("none", VXLAN): "", ("dedicated", IPIP): ""},
    ),
    "racks of different modes": Layout(
        source="v3.28.1 libcalico-go/lib/ipam/ipam.go: determinePools",
        cluster={"pools": (rack("1", "10.1.0.0/16", VXLAN), rack("2", "10.2.0.0/16", IPIP))},
        change=labelled_nodes,
        offers={
            ("none", VXLAN): "Node node2 uses no pool in mode VXLAN-Always",
            ("dedicated", VXLAN): "",
        },
    ),
    # -- Who owns a pool --------------------------------------------------------------------------
    "an unlabelled pool that differs from its entry": Layout(
        source="operator v1.34 pkg/controller/ippool/pool_controller.go:253",
        cluster={**OPERATOR, "pools": (raw_pool(mode=VXLAN),)},
        change=operated(encapsulation="IPIP"),
        offers={
            ("in-place", IPIP): "encapsulation is VXLAN, in the Installation IPIP",
            ("dedicated", IPIP): "",
        },
    ),
    "an unlabelled pool that can never equal its entry": Layout(
        source="operator v1.34 pkg/controller/ippool/pool_controller.go: FromProjectCalico",
        cluster={**OPERATOR, "pools": (raw_pool(mode=NEVER),)},
        change=operated(encapsulation="None"),
        offers={("in-place", VXLAN): "encapsulation is unset, in the Installation None"},
    ),
    "an unlabelled pool that equals its entry": Layout(
        source="operator v1.34 pkg/controller/ippool/pool_controller.go:253",
        cluster={**OPERATOR, "pools": (raw_pool(mode=VXLAN),)},
        change=operated(encapsulation="VXLAN", natOutgoing="Enabled"),
        offers={("in-place", IPIP): ""},
    ),
    "an unlabelled pool with a field of v3.31 that its entry lacks": Layout(
        source="operator v1.40 pkg/controller/ippool/pool_controller.go: FromProjectCalico",
        cluster={**OPERATOR, "pools": (raw_pool(mode=VXLAN, assignmentMode="Manual"),)},
        change=operated(encapsulation="VXLAN"),
        offers={("in-place", IPIP): "assignmentMode is Manual, in the Installation Automatic"},
    ),
    "an unlabelled pool with other uses than its entry": Layout(
        source="operator v1.40 pkg/controller/ippool/pool_controller.go: FromProjectCalico",
        cluster={**OPERATOR, "pools": (raw_pool(mode=VXLAN, allowedUses=["Workload"]),)},
        change=operated(encapsulation="VXLAN"),
        offers={
            ("in-place", IPIP): "allowedUses is ['Workload'], in the Installation ['Workload',"
        },
    ),
    "a pool of Argo CD's by its older mark": Layout(
        source="argo-cd docs/user-guide/resource_tracking.md: app.kubernetes.io/instance before v3",
        cluster={"pools": (raw_pool(mode=VXLAN, labels={"app.kubernetes.io/instance": "net"}),)},
        offers={("in-place", IPIP): "Argo CD or a Helm chart (app.kubernetes.io/instance: net)"},
    ),
    "a pool that another object owns": Layout(
        source="kubernetes/apimachinery meta/v1 OwnerReference",
        cluster=VXLAN_POOL,
        change=marked_pool(ownerReferences=[{"kind": "Object", "name": "net", "uid": "1"}]),
        offers={("in-place", IPIP): "Object net (ownerReferences)", ("dedicated", IPIP): ""},
    ),
    "a pool that a controller applies which nobody knows": Layout(
        source="kubernetes.io/docs/reference/using-api/server-side-apply: managers",
        cluster=VXLAN_POOL,
        change=written_by("gardener-resource-manager", "Apply", "vxlanMode"),
        offers={("in-place", IPIP): "gardener-resource-manager (field manager gardener-res"},
    ),
    "a pool that a person applied": Layout(
        source="kubernetes.io/docs/reference/using-api/server-side-apply: kubectl",
        cluster=VXLAN_POOL,
        change=written_by("kubectl", "Apply", "vxlanMode"),
        offers={("in-place", IPIP): ""},
    ),
    "a pool to which somebody applies labels": Layout(
        source="kubernetes.io/docs/reference/using-api/server-side-apply: ownership by field",
        cluster=VXLAN_POOL,
        change=written_by("labeller", "Apply"),
        offers={("in-place", IPIP): ""},
    ),
    "a pool of Argo CD's": Layout(
        source="argo-cd docs/user-guide/resource_tracking.md",
        cluster={"pools": (raw_pool(mode=VXLAN, labels={"argocd.argoproj.io/instance": "net"}),)},
        offers={
            ("in-place", IPIP): "Argo CD (argocd.argoproj.io/instance: net)",
            ("dedicated", IPIP): "",
        },
    ),
    "a pool of Flux's": Layout(
        source="fluxcd/kustomize-controller docs: kustomize.toolkit.fluxcd.io/name",
        cluster={
            "pools": (raw_pool(mode=VXLAN, labels={"kustomize.toolkit.fluxcd.io/name": "net"}),)
        },
        offers={("in-place", IPIP): "Flux (kustomize.toolkit.fluxcd.io/name: net)"},
    ),
    "an Installation of Helm's": Layout(
        source="helm docs/chart_best_practices: meta.helm.sh/release-name",
        cluster={**OPERATOR, **OWNED_POOL},
        change=operated(
            encapsulation="VXLANCrossSubnet",
            marks={"annotations": {"meta.helm.sh/release-name": "calico"}},
        ),
        offers={
            ("in-place", IPIP): "Helm (meta.helm.sh/release-name: calico)",
            ("none", VXLAN_CS): "",
        },
    ),
}


def asked(found: Installation, strategy: Strategy, mode: CalicoMode) -> tuple[str, tuple[str, ...]]:
    """Why it is refused, and what else is said; the reason is empty where it is offered."""
    name = DEFAULT_POOL if found.pool(DEFAULT_POOL) else next((one.name for one in found.pools), "")
    try:
        decision = decide(
            found,
            ChangeSettings(strategy=strategy, pool=name, underlay_routes_pods=True),
            mode=mode,
            nodes=found.nodes[:2],
        )
    except ModeUnavailableError as error:
        return error.brief, ()
    written = {"none": ["nothing"], "dedicated": ["dedicated-pool"]}.get(
        strategy, ["ippool", "installation"]
    )
    assert decision.writer in written
    return "", decision.notes


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_what_is_offered_and_refused(layout: Layout) -> None:
    api = cluster(**layout.cluster)
    layout.change(api)
    version = api.store.version
    found = inspect(api)
    for name, value in layout.facts.items():
        assert getattr(found, name) == value, name
    notes: list[str] = []
    for (strategy, mode), reason in layout.offers.items():
        told, said = asked(found, strategy, mode)
        assert bool(told) is bool(reason), f"{strategy} {mode}: {told or 'offered'}"
        assert reason in told
        notes += said
    assert layout.notes in "; ".join(notes)
    assert layout.unsaid not in "; ".join(notes)
    assert api.store.version == version


@pytest.mark.parametrize("mode", [VXLAN, VXLAN_CS])
def test_a_users_word_does_not_make_an_unknown_ipam_known(mode: CalicoMode) -> None:
    api = cluster(config={"calico_backend": "bird"})
    node_ranges(api)
    with pytest.raises(ModeUnavailableError, match="It is unknown whether VXLAN"):
        decide(
            inspect(api),
            ChangeSettings(
                strategy="in-place",
                pool=DEFAULT_POOL,
                underlay_routes_pods=True,
                despite_owners=True,
                prove_first=False,
            ),
            mode=mode,
            nodes=inspect(api).nodes[:2],
        )

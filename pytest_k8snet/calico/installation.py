"""What is known of a cluster's Calico: values only, read by ``detect``. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Literal

from pytest_k8snet.calico.bgp import Bgp
from pytest_k8snet.calico.modes import CalicoMode, Encapsulation, Family, families_of, pod_mtu_bytes
from pytest_k8snet.calico.selectors import SelectorError, selects
from pytest_k8snet.cluster.api_errors import object_path
from pytest_k8snet.cluster.pods import RUN_LABEL
from pytest_k8snet.tools.capture import VXLAN_PORT

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node

#: Which group the objects are read and written through.
ApiGroup = Literal["projectcalico.org/v3", "crd.projectcalico.org/v1"]
#: A: the v1 CRDs only. B: v1 CRDs behind the aggregated v3 API server. C: native v3 CRDs.
ApiShape = Literal["A", "B", "C"]
#: What programs the routes between nodes.
Backend = Literal["bird", "vxlan", "none", "unknown"]


#: The DaemonSet whose environment is Felix's, and where it runs.
DAEMON_TOPIC = "DaemonSet calico-node"
DAEMON_NAMESPACES = ("calico-system", "kube-system")
#: Felix's default of vxlanVNI (felix/config/config_params.go of v3.31).
DEFAULT_VNI = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Calico as the Kubernetes API shows it. What could not be read is in ``unknown``."""

    install: Literal["operator", "manifest", "unknown"] = "unknown"
    version: Version | None = None
    version_text: str = ""
    kubernetes_version: str = ""
    #: None: no Calico API group is served.
    shape: ApiShape | None = None
    #: The group to write pools through; None like ``shape``.
    group: ApiGroup | None = None
    #: False while the aggregated API server of shape B does not answer.
    v3_reachable: bool = True
    backend: Backend = "unknown"
    dataplane: str = "unknown"
    datastore: str = "kubernetes"
    cni: str = "Calico"
    #: Whether a DaemonSet calico-node runs; None: unknown.
    node_agent: bool | None = None
    #: ``Calico`` or ``Calico Enterprise``, which Calico Cloud is as well.
    product: str = "Calico"
    #: ``Calico``, ``HostLocal``, ``unknown``, or what the operator's Installation names.
    ipam: str = "Calico"
    ipam_limits: IpamLimits | None = None
    wireguard: bool = False
    wireguard_v6: bool = False
    vxlan_enabled: tuple[FelixSetting, ...] = ()
    ipip_enabled: tuple[FelixSetting, ...] = ()
    #: The UDP port and the VNI of Felix's VXLAN.
    vxlan_port: int = VXLAN_PORT
    vxlan_vni: int = DEFAULT_VNI
    #: What Felix is configured to that no proof follows; "none" stands for all families.
    felix_trouble: Mapping[Family, str] = field(default_factory=dict)
    #: FelixConfiguration.spec.programClusterRoutes; empty where unset.
    felix_cluster_routes: str = ""
    pools: tuple[IPPool, ...] = ()
    ipv6_pools: tuple[str, ...] = ()
    #: Whether any of these encapsulates.
    vxlan_v6: bool = False
    #: The entries of the pools that the operator's Installation lists, by their addresses.
    operator_pools: Mapping[IPv4Network, Mapping[str, Any]] = field(default_factory=dict)
    #: Who else keeps the Installation as it is.
    operator_owners: tuple[str, ...] = ()
    #: Why the operator says that its pools are degraded; empty if they are not.
    operator_degraded: str = ""
    api_server_ready: bool = True
    #: An explicit MTU for pods and tunnels; None: derived from the host.
    mtu_bytes: int | None = None
    #: What Felix is configured to, per encapsulation and node: none of it is followed here.
    mtu_settings: tuple[FelixSetting, ...] = ()
    #: Name of a DatastoreMigration that has not finished.
    unfinished_migration: str = ""
    bgp: Bgp = field(default_factory=Bgp)
    #: All of them, also those that take no pods.
    nodes: tuple[Node, ...] = ()
    #: ``azure``, ``gce``, ``aws``..., from the nodes' provider ids; empty where unset.
    provider: str = ""
    service_networks: tuple[IPv4Network, ...] = ()
    #: The addresses of pods as Kubernetes' own components are told; empty where nothing tells.
    cluster_networks: tuple[IPv4Network, ...] = ()
    #: Pieces of them that kube-controller-manager has given to nodes.
    node_networks: tuple[IPv4Network, ...] = ()
    #: The IPAM blocks that exist, where pools may be made: a pool may be gone and they are not.
    block_networks: tuple[IPv4Network, ...] = ()
    #: What else has addresses, where pools may be made, and whose these are.
    occupied: Mapping[IPv4Network, str] = field(default_factory=dict)
    #: What could not be read, and why.
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def routes_prove(self) -> bool:
        """Whether packets take the kernel's routes; eBPF forwards beside them."""
        return self.dataplane != "eBPF"

    def pool(self, name: str) -> IPPool | None:
        """Return the IPv4 pool of a name."""
        return next((pool for pool in self.pools if pool.name == name), None)

    def with_mode(self, name: str, mode: CalicoMode) -> Installation:
        """Return the same with a pool in another mode."""
        pools = (replace(pool, mode=mode) if pool.name == name else pool for pool in self.pools)
        return replace(self, pools=tuple(pools))

    def operator_reverts(self, pool: IPPool) -> bool:
        """Return whether a direct edit of the pool would be undone by the operator."""
        return (
            self.install == "operator"
            and self.version is not None
            and self.version >= OPERATOR_OWNS_POOLS
            and (pool.cidr in self.operator_pools or pool.operator_owned)
        )

    @property
    def owner_unknown(self) -> bool:
        """Whether it cannot be told if the operator would undo a direct edit of a pool."""
        return self.install == "unknown" or (self.install == "operator" and self.version is None)

    @property
    def without_calico(self) -> frozenset[str]:
        """Ready nodes on which no calico-node runs: virtual ones, such as Fargate's.

        It writes its node's addresses into annotations (``libcalico-go/lib/backend/k8s/resources/
        node.go``, v3.28); one that is just joining has none yet, and is not ready.
        """
        bare = {
            node.name
            for node in self.nodes
            if not any(key.startswith("projectcalico.org/") for key in node.annotations)
        }
        if len(bare) == len(self.nodes):
            return frozenset()
        return frozenset(node.name for node in self.nodes if node.name in bare and node.ready)

    @property
    def keeps_pools(self) -> bool:
        """Whether a pool can be kept for pods that name it."""
        return self.version is not None and self.version >= MANUAL_ASSIGNMENT

    def families(self) -> frozenset[Family]:
        """Return the encapsulation families that are enabled now, by pools or explicitly.

        Felix looks at every pool for this, also at disabled ones.
        """
        return families_of(pool.mode for pool in self.pools) | {
            family for family, found in self.explicit.items() if not all(one.off for one in found)
        }

    @property
    def explicit(self) -> dict[Family, tuple[FelixSetting, ...]]:
        """Felix's own switches of encapsulations, by which it does not follow the pools."""
        return {"vxlan": self.vxlan_enabled, "ipip": self.ipip_enabled}

    @property
    def pools_unread(self) -> str:
        """Why there are no pools here, where they could not be read; else empty."""
        if self.pools:
            return ""
        return next((why for topic, why in self.unknown.items() if topic.startswith("IPPools")), "")

    @property
    def not_routing(self) -> str:
        """Why Calico does not route the pods in Linux: pools promise no path then; else empty."""
        if self.datastore != "kubernetes":
            return f"its datastore is {self.datastore}, which the Kubernetes API does not show"
        if self.cni == "Canal":
            return "it is Canal: flannel routes the pods and Calico enforces policy only"
        if self.cni != "Calico":
            left = f", and Calico's pools are left over: no {DAEMON_TOPIC} runs"
            return f"the CNI plugin is {self.cni}" + (left if self.node_agent is False else "")
        if self.dataplane == "VPP":
            return "the dataplane is VPP, which has no tunnel devices in the kernel"
        if self.node_agent is False:
            return f"no {DAEMON_TOPIC} runs in {' or '.join(DAEMON_NAMESPACES)}"
        if self.backend == "none":
            return "CALICO_NETWORKING_BACKEND is none: Calico enforces policy only"
        return ""

    def mtu_overhead_bytes(self, *more: CalicoMode) -> int:
        """Return by how much the MTU of new pods is below the host's, with pools of more modes.

        0 as well where it is set explicitly, which nobody here follows: what the modes enable does
        not change it then.
        """
        if self.mtu_bytes is not None or self.mtu_settings:
            return 0
        return -pod_mtu_bytes(0, self.encapsulations() | families_of(more))

    def encapsulations(self) -> frozenset[Encapsulation]:
        """Return all that is enabled now and takes its bytes from the MTU of new pods."""
        switches: dict[Encapsulation, bool] = {
            "vxlan-v6": self.vxlan_v6,
            "wireguard": self.wireguard,
            "wireguard-v6": self.wireguard_v6,
        }
        return self.families() | {name for name, on in switches.items() if on}

    @property
    def mtu_known(self) -> bool:
        """Whether it is known which MTU new pods get, be it explicit or derived from the host."""
        if self.mtu_bytes is not None:
            return True
        unread = self.unread or "calico-config" in self.unknown
        return not (self.mtu_settings or unread or self.backend == "unknown")

    @property
    def mtu_source(self) -> str:
        """In words, how new pods get their MTU."""
        if self.mtu_bytes is not None:
            return str(self.mtu_bytes)
        settings = ", ".join(f"{one.where} is {one.value}" for one in self.mtu_settings)
        if settings:
            return f"as Felix is configured: {settings}"
        return "auto" if self.mtu_known else "unknown"

    @property
    def unread(self) -> bool:
        """Whether what configures Felix could not be read, so that a default may be none."""
        return bool({"FelixConfigurations", DAEMON_TOPIC, "Installation"} & self.unknown.keys())

    def shown(self, value: object, default: object) -> Any:
        """Return a value for people; unknown where it is a default of which nothing was read."""
        return "unknown" if self.unread and value == default else value

    def facts(self) -> dict[str, Any]:
        """Return what a record says of the installation: flat, JSON-safe, no secrets."""
        return {
            "calico_version": self.version_text or "unknown",
            "kubernetes_version": self.kubernetes_version or "unknown",
            "install": self.install,
            "api_shape": self.shape or "none",
            "pool_group": self.group or "none",
            "backend": self.backend,
            "dataplane": self.shown(self.dataplane, "iptables"),
            "ipam": self.ipam,
            "product": self.product if self.version_text else "unknown",
            "vxlan_vni": self.shown(self.vxlan_vni, DEFAULT_VNI),
            "wireguard": self.shown(self.wireguard, False),
            "mtu": self.mtu_bytes or self.mtu_source,
            "provider": self.provider or "unknown",
            "pools": ", ".join(f"{pool.name} {pool.cidr} {pool.mode}" for pool in self.pools)
            or ("unknown" if self.pools_unread else ""),
            "pool_modes": sorted({str(pool.mode) for pool in self.pools}),
            **{f"unknown: {topic}": reason for topic, reason in sorted(self.unknown.items())},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class IpamLimits:
    """Calico's IPAMConfig (``libcalico-go/lib/ipam/ipam.go``), and the blocks that nodes have."""

    auto_allocate: bool = True
    #: 0: Calico's own limit of 20.
    max_blocks_per_host: int = 0
    #: How long a released address rests before it is given out again.
    cooldown_seconds: int = 0
    #: By node; None: unknown.
    blocks: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FelixSetting:
    """A value that is set explicitly somewhere; ``where`` says in which object or variable."""

    value: str
    where: str

    @property
    def off(self) -> bool:
        """Whether the value switches something off."""
        # ``BoolParam`` in ``felix/config/param_types.go``, v3.31; what it does not know is no "on".
        return self.value.lower() in ("false", "0", "no", "n", "f", "off", "disabled")


# -- IPPools --------------------------------------------------------------------------------------

#: The annotation in which shapes A and B keep the v3 metadata of an object, as JSON.
METADATA_ANNOTATION = "projectcalico.org/metadata"
_MANAGED_BY, _OPERATOR = "app.kubernetes.io/managed-by", "tigera-operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class IPPool:
    """One IPv4 pool, normalised; ``raw`` is the object as the API gave it."""

    name: str
    cidr: IPv4Network
    mode: CalicoMode
    disabled: bool = False
    nat_outgoing: bool = False
    allowed_uses: tuple[str, ...] = ("Workload", "Tunnel")
    node_selector: str = "all()"
    labels: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> IPPool | None:
        """Read an API object; None for an IPv6 pool or one without a usable CIDR."""
        spec = raw.get("spec") or {}
        cidr = ipv4_network(spec.get("cidr"))
        if cidr is None:
            return None
        return cls(
            name=str(raw["metadata"]["name"]),
            cidr=cidr,
            mode=CalicoMode.of_pool(spec.get("ipipMode"), spec.get("vxlanMode")),
            disabled=bool(spec.get("disabled", False)),
            nat_outgoing=bool(spec.get("natOutgoing", False)),
            allowed_uses=tuple(spec.get("allowedUses") or ("Workload", "Tunnel")),
            node_selector=str(spec.get("nodeSelector") or "all()"),
            labels=labels_of(raw),
            raw=raw,
        )

    @property
    def run_id(self) -> str:
        """The run that made this pool; empty for a pool of the cluster's own."""
        return self.labels.get(RUN_LABEL, "")

    @property
    def operator_owned(self) -> bool:
        """Whether the Tigera operator's ownership mark is on the pool."""
        return self.labels.get(_MANAGED_BY) == _OPERATOR

    @property
    def both_families(self) -> bool:
        """Whether both encapsulations are set, which old versions accept as a raw write."""
        spec = self.raw.get("spec") or {}
        return all(
            spec.get(name) in ("Always", "CrossSubnet") for name in ("ipipMode", "vxlanMode")
        )

    def serves(self, node_labels: Mapping[str, str]) -> bool:
        """Return whether a node with these labels uses it; not if its selector cannot be read."""
        try:
            return selects(self.node_selector, node_labels)
        except SelectorError:
            return False

    @property
    def block_size(self) -> int:
        """The prefix length of its IPAM blocks; Calico's default is 26."""
        return int((self.raw.get("spec") or {}).get("blockSize") or 26)

    @property
    def closed(self) -> str:
        """Why a pod that names this pool gets no address from it; empty if it does.

        See ``filterIPPool`` in ``libcalico-go/lib/clientv3/client.go``, v3.32.
        """
        if self.disabled:
            return "disabled: true"
        if "Workload" not in self.allowed_uses:
            return f"allowedUses: {self.allowed_uses}"
        if self.raw.get("metadata", {}).get("deletionTimestamp"):
            return "it is being deleted"
        for one in (self.raw.get("status") or {}).get("conditions") or ():
            if one.get("type") == "Allocatable" and one.get("status") == "False":
                return f"Allocatable is False: {one.get('reason')}"
        return ""

    @property
    def offers_pod_addresses(self) -> bool:
        """Whether a pod that names this pool gets an address from it."""
        return not self.closed


def ipv4_network(text: object) -> IPv4Network | None:
    """Return the IPv4 network or address that a text is; None of IPv6 and nonsense."""
    try:
        network = ip_network(str(text), strict=False)
    except ValueError:
        return None
    return network if isinstance(network, IPv4Network) else None


def ipv4_networks(texts: Iterable[object]) -> tuple[IPv4Network, ...]:
    """Return those of these texts that are IPv4 networks."""
    return tuple(network for network in map(ipv4_network, texts) if network is not None)


def labels_of(raw: Mapping[str, Any]) -> dict[str, str]:
    """Return an object's labels, with those that the v1 view hides in an annotation."""
    return _marks_of(raw, "labels")


def annotations_of(raw: Mapping[str, Any]) -> dict[str, str]:
    """Return an object's annotations, with those that the v1 view hides in one of them."""
    return _marks_of(raw, "annotations")


def _marks_of(raw: Mapping[str, Any], kind: Literal["labels", "annotations"]) -> dict[str, str]:
    metadata = raw.get("metadata") or {}
    marks = dict(metadata.get(kind) or {})
    blob = (metadata.get("annotations") or {}).get(METADATA_ANNOTATION)
    if blob:
        try:
            hidden = json.loads(blob).get(kind) or {}
        except (ValueError, AttributeError):
            hidden = {}
        marks = {**hidden, **marks}
    return {str(key): str(value) for key, value in marks.items()}


def pool_of(address: str, pools: Iterable[IPPool]) -> IPPool | None:
    """Return the pool that an address lies in: the one with the longest prefix, as routes go."""
    parsed = ip_address(address)
    if not isinstance(parsed, IPv4Address):
        return None
    holding = [pool for pool in pools if parsed in pool.cidr]
    return max(holding, key=lambda pool: pool.cidr.prefixlen, default=None)


# -- Who else keeps an object as it is ------------------------------------------------------------
#
# A change in place of such an object is drift to them: they may write it back in the middle of a
# sample, or alarm somebody.

#: Labels and annotations of GitOps controllers and package managers; the value names the
#: application or release.
_MARKS = (
    ("argocd.argoproj.io/tracking-id", "Argo CD"),
    ("argocd.argoproj.io/instance", "Argo CD"),
    # Argo CD's own mark before v3, as long as nobody configures another, and that of charts.
    ("app.kubernetes.io/instance", "Argo CD or a Helm chart"),
    ("kustomize.toolkit.fluxcd.io/name", "Flux"),
    ("helm.toolkit.fluxcd.io/name", "Flux"),
    ("meta.helm.sh/release-name", "Helm"),
    ("objectset.rio.cattle.io/id", "Rancher Fleet"),
    ("configsync.gke.io/manager", "Config Sync"),
    ("configmanagement.gke.io/managed", "Config Sync"),
    ("kapp.k14s.io/app", "kapp"),
    ("addonmanager.kubernetes.io/mode", "the add-on manager"),
    ("addon.kops.k8s.io/name", "kOps"),
)
#: Field managers, as the API server keeps them, and whose they are.
_MANAGERS = (
    (r"argocd-.*", "Argo CD"),
    (r"kustomize-controller|helm-controller", "Flux"),
    (r"helm", "Helm"),
    (r"fleet.*", "Rancher Fleet"),
    (r"configsync.*", "Config Sync"),
    (r"kapp.*", "kapp"),
    (r"[Tt]erraform.*|HashiCorp.*", "Terraform"),
    (r"pulumi.*", "Pulumi"),
    (r"crossplane.*|apiextensions\.crossplane\.io.*", "Crossplane"),
)


def owners_of(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Say who keeps an object as it is, each once, with the mark that says so."""
    found: dict[str, str] = {}
    for owner, mark in _owners(raw):
        found.setdefault(owner, mark)
    return tuple(f"{owner} ({mark})" for owner, mark in found.items())


def _owners(raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    marks = {**annotations_of(raw), **labels_of(raw)}
    for name, owner in _MARKS:
        if marks.get(name):
            yield owner, f"{name}: {marks[name]}"
    manager = marks.get(_MANAGED_BY, "")
    if manager and manager != _OPERATOR:
        yield manager, f"{_MANAGED_BY}: {manager}"
    for one in (raw.get("metadata") or {}).get("ownerReferences") or ():
        yield f"{one.get('kind')} {one.get('name')}", "ownerReferences"
    for entry in (raw.get("metadata") or {}).get("managedFields") or ():
        name = str(entry.get("manager") or "")
        known = (owner for pattern, owner in _MANAGERS if re.fullmatch(pattern, name))
        # Who applies declares: what others write there is taken back at the next time.
        applies = entry.get("operation") == "Apply" and name not in ("kubectl", "")
        owner = next(known, name if applies and "f:spec" in (entry.get("fieldsV1") or {}) else "")
        if owner:
            yield owner, f"field manager {name}"


# -- Calico's versions, and what came with them ----------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A Calico release, by major, minor and patch number."""

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> Version | None:
        """Read ``v3.31.2``, ``3.28``, ``v3.33.0-0.dev-12-gabcdef``; None if it is no version."""
        match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text.strip())
        return cls(int(match[1]), int(match[2]), int(match[3] or 0)) if match else None

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}"


#: Felix sets up what pools need by itself (``felix/calc/encapsulation_resolver.go``).
FOLLOWS_POOLS = Version(3, 23)
#: The operator manages its pools continuously from here on, and reverts direct edits.
OPERATOR_OWNS_POOLS = Version(3, 28)
#: ``IPPool.spec.disableBGPExport`` exists; before, the API server drops it.
KEPT_FROM_BGP = Version(3, 21)
#: ``IPPool.spec.assignmentMode`` exists.
MANUAL_ASSIGNMENT = Version(3, 30)
#: ``FelixConfiguration.spec.programClusterRoutes`` exists.
FELIX_CLUSTER_ROUTES = Version(3, 31)
#: ``BGPConfiguration.spec.programClusterRoutes`` exists.
BIRD_MAY_LEAVE_ROUTES = Version(3, 32)
#: Felix programs IPIP routes unless it is configured not to.
FELIX_OWNS_IPIP = Version(3, 33)
#: The values of ``programClusterRoutes``, of which v3.31 and v3.32 know the first two.
CLUSTER_ROUTES = ("Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly")


# -- The names of objects in the API ---------------------------------------------------------------

V3: ApiGroup = "projectcalico.org/v3"
V1: ApiGroup = "crd.projectcalico.org/v1"


def calico_path(group: ApiGroup, plural: str, name: str | None = None) -> str:
    """Return the API path of a cluster-scoped Calico collection, or of one object in it."""
    collection = f"/apis/{group}/{plural}"
    return object_path(collection, name) if name is not None else collection


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object that a run writes, as its journal, change records and restore all name it."""

    plural: str
    name: str

    @classmethod
    def pool(cls, name: str) -> ObjectRef:
        """Refer to an IPPool."""
        return cls("ippools", name)

    def __str__(self) -> str:
        return f"{self.plural}/{self.name}"


#: The object by which the Tigera operator is configured; there is only this one.
OPERATOR_INSTALLATION = ObjectRef("installations", "default")
INSTALLATION_PATH = f"/apis/operator.tigera.io/v1/{OPERATOR_INSTALLATION}"

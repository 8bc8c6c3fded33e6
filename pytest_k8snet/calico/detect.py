"""Finds out what Calico a cluster runs, from the Kubernetes API alone. Changes nothing.

What may not be read stops nothing: the result's ``unknown`` says what and why.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico.bgp import Bgp
from pytest_k8snet.calico.felix import Felix
from pytest_k8snet.calico.installation import (
    DAEMON_NAMESPACES,
    DAEMON_TOPIC,
    INSTALLATION_PATH,
    V1,
    V3,
    ApiGroup,
    ApiShape,
    Backend,
    Installation,
    IpamLimits,
    IPPool,
    Version,
    calico_path,
    ipv4_network,
    ipv4_networks,
    owners_of,
)
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.cluster.nodes import read_nodes
from pytest_k8snet.errors import ApiError, ConnectError, ForbiddenError, NotFoundError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.nodes import Node, Toleration

#: Which plugin gives pods their addresses, and what tells it.
IPAM_TOPIC = "IPAM plugin"
_IPAM_SOURCES = ("Installation", DAEMON_TOPIC, "calico-config")
#: What to name where nobody knows that plugin.
IPAM_TOPICS = (IPAM_TOPIC, *_IPAM_SOURCES)


def inspect(
    api: Api,
    *,
    tolerations: Sequence[Toleration] = (),
    own_pools: bool = True,
    known: Installation | None = None,
) -> Installation:
    """Find out what Calico this cluster runs.

    Args:
        api: the cluster.
        tolerations: what the run's pods tolerate, which says what nodes are usable.
        own_pools: whether pools may be made, whose range must be nobody else's: else who has which
            addresses, which takes the most requests, is left unread.
        known: what was found before in the same run, whose networks nobody moves meanwhile.

    Raises:
        ConnectError: the API server does not answer at all.
        UnauthorizedError: the credentials are not accepted.
    """
    #: By name, each with its preferred version: ``apps/v1``.
    served = {
        str(group.get("name")): str((group.get("preferredVersion") or {}).get("groupVersion"))
        for group in api.get("/apis").get("groups") or ()
    }
    reader = _Reader(api)
    phases = _migration_phases(reader, served)
    daemon = _read_daemon(reader, known)
    shape, group = _api_shape(reader, served, phases, daemon)
    operator = (
        reader.get(INSTALLATION_PATH, "Installation") if "operator.tigera.io" in served else None
    )
    overlay = reader.get(_OVERLAY_PATH, "Installation") if operator is not None else None
    operator = operator and _overlaid(operator, overlay or {})
    network = ((operator or {}).get("spec") or {}).get("calicoNetwork") or {}
    found = Installation(shape=shape, group=group, unfinished_migration=_unfinished(phases))
    found = _with_pools(reader, found)
    found = _with_nodes(reader, found, tolerations)
    found = _with_information(reader, found, daemon)
    if operator is None:
        found = replace(
            found,
            install="unknown" if "Installation" in reader.unknown else "manifest",
            backend=daemon.backend,
            dataplane="VPP" if daemon.vpp else "iptables",
            datastore=daemon.datastore,
            ipam=daemon.ipam,
            mtu_bytes=daemon.mtu_bytes,
        )
    else:
        found = _with_operator(reader, found, operator, overlay or {}, daemon)
    if calico := _readable_group(found):
        configs = reader.list(calico_path(calico, "felixconfigurations"), "FelixConfigurations")
        felix = Felix(configs=configs or (), environment=daemon.environment, nodes=found.nodes)
        found = felix.configure(found, network, vpp=daemon.vpp)
        found = _with_ipam(reader, found, calico, own_pools=own_pools and known is None)
        found = _with_bgp(reader, found, calico)
    if known is None:
        if own_pools:
            found = _with_occupied(reader, found)
        found = replace(found, cluster_networks=_cluster_networks(reader, found.nodes))
    else:
        found = replace(
            found,
            service_networks=known.service_networks,
            cluster_networks=known.cluster_networks,
            block_networks=known.block_networks,
            occupied=known.occupied,
        )
    return replace(
        found,
        # Last of all: whatever was read, its troubles are in here.
        unknown=dict(reader.unknown),
    )


class _Reader:
    """A connection through which a refusal is a fact to report, not the end.

    Attributes:
        unknown: topic -> reason, for everything that could not be read. What does not exist is
            known to be absent, and not in here.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self.unknown: dict[str, str] = {}

    def get(self, path: str, topic: str) -> dict[str, Any] | None:
        """One object; None if it does not exist or could not be read."""
        try:
            return self._api.get(path)
        except NotFoundError:
            return None
        except (ApiError, ConnectError) as exc:
            self._remember(topic, exc)
            return None

    def list(
        self, path: str, topic: str, *, labels: str = "", fields: str = ""
    ) -> list[dict[str, Any]] | None:
        """A collection; empty if the resource is not served, None if it could not be read."""
        try:
            return self._api.list(path, labels=labels, fields=fields)
        except NotFoundError:
            return []
        except (ApiError, ConnectError) as exc:
            self._remember(topic, exc)
            return None

    def _remember(self, topic: str, exc: ApiError | ConnectError) -> None:
        if isinstance(exc, ForbiddenError):
            reason = f"not permitted: {exc.problem}"
        elif isinstance(exc, ApiError):
            reason = f"HTTP {exc.status}: {exc.problem}"
        else:
            reason = exc.problem
        self.unknown.setdefault(topic, reason)


# -- Which API groups serve Calico's objects, and which of them is the store ----------------------

_FINISHED = ("Converged", "Complete")


def _migration_phases(reader: _Reader, served: Mapping[str, str]) -> dict[str, str]:
    """The DatastoreMigrations by name, each with its phase."""
    version = served.get("migration.projectcalico.org")
    if version is None:
        return {}
    migrations = reader.list(f"/apis/{version}/datastoremigrations", "DatastoreMigrations")
    return {
        str(one["metadata"]["name"]): str((one.get("status") or {}).get("phase") or "unknown")
        for one in migrations or ()
    }


def _unfinished(phases: Mapping[str, str]) -> str:
    """The first DatastoreMigration that has not finished, with its phase; empty if all have."""
    return next(
        (f"{name} (phase {phase})" for name, phase in phases.items() if phase not in _FINISHED), ""
    )


def _api_shape(
    reader: _Reader, served: Mapping[str, str], phases: Mapping[str, str], daemon: _Daemon
) -> tuple[ApiShape | None, ApiGroup | None]:
    """The shape of Calico's API, and the group to write pools through.

    ``CALICO_API_GROUP`` of calico-node wins over what is served (``libcalico-go/lib/backend/k8s/
    discovery.go``, v3.32).
    """
    v1, v3 = "crd.projectcalico.org" in served, "projectcalico.org" in served
    told = daemon.environment.get("CALICO_API_GROUP", "").lower()
    if told == V3 and v3:
        return "C", V3
    if not v1 and not v3:
        return None, None
    if v1 and not v3:
        return "A", V1
    if v3 and not v1:
        return "C", V3
    service = reader.get(
        "/apis/apiregistration.k8s.io/v1/apiservices/v3.projectcalico.org", "APIService"
    )
    migrated = bool(phases) and not _unfinished(phases) and told != V1
    aggregated = (service.get("spec") or {}).get("service") if service else not migrated
    if aggregated:
        return "B", V3
    # Both sets of CRDs without an aggregating server: Calico itself stores in v1, until its
    # objects have been moved.
    return ("C", V3) if migrated else ("A", V1)


# -- Pools, version, and who installed it ---------------------------------------------------------


def _with_pools(reader: _Reader, found: Installation) -> Installation:
    if found.group is None:
        return found
    raw = reader.list(calico_path(found.group, "ippools"), f"IPPools of {found.group}")
    reachable = True
    if raw is None and found.shape == "B":
        reachable = False
        raw = reader.list(calico_path(V1, "ippools"), f"IPPools of {V1}")
    pools = [(item, IPPool.of(item)) for item in raw or ()]
    others = [item for item, pool in pools if pool is None]
    return replace(
        found,
        v3_reachable=reachable,
        pools=tuple(pool for _, pool in pools if pool is not None),
        ipv6_pools=tuple(str(item["metadata"]["name"]) for item in others),
        # Felix looks at disabled ones as well.
        vxlan_v6=any(
            CalicoMode.of_pool(None, (item.get("spec") or {}).get("vxlanMode")).family == "vxlan"
            for item in others
        ),
    )


def _readable_group(found: Installation) -> ApiGroup | None:
    return V1 if found.shape == "B" and not found.v3_reachable else found.group


def _with_information(reader: _Reader, found: Installation, daemon: _Daemon) -> Installation:
    group = _readable_group(found)
    path = group and calico_path(group, "clusterinformations", "default")
    spec = ((path and reader.get(path, "Calico version")) or {}).get("spec") or {}
    enterprise = str(spec.get("cnxVersion") or "")
    if daemon.enterprise:
        enterprise = enterprise or daemon.image_tag or "of unknown version"
    text = str(spec.get("calicoVersion") or ("" if enterprise else daemon.image_tag))
    # Kinds are only ever added, so this one counts only where there is no DaemonSet to say more.
    absent = daemon.running is False and DAEMON_TOPIC not in reader.unknown
    canal = absent and "canal" in str(spec.get("clusterType")).split(",")
    cni = "Canal" if daemon.canal or canal else found.cni
    if absent and cni == "Calico" and found.group is not None:
        cni = _other_cni(reader, found.nodes) or cni
    version = reader.get("/version", "Kubernetes version") or {}
    return replace(
        found,
        **_versions(text, enterprise),
        kubernetes_version=str(version.get("gitVersion", "")),
        cni=cni,
        node_agent=daemon.running,
    )


def _versions(calico: str, enterprise: str) -> dict[str, Any]:
    """The product, and the version of Calico that it is.

    Calico Enterprise and Calico Cloud number their releases on their own, so what they are built on
    is known only where the ClusterInformation names both.
    """
    if not enterprise:
        return {"version": Version.parse(calico), "version_text": calico}
    base = calico if calico and calico.lstrip("v") != enterprise.lstrip("v") else ""
    return {
        "product": "Calico Enterprise",
        "version": Version.parse(base),
        "version_text": f"Enterprise {enterprise}"
        + (f", built on Calico {base}" if base else ", built on an unknown Calico"),
    }


#: DaemonSets of other CNI plugins, and whose they are: to name who routes the pods instead.
_OTHER_CNIS = (
    ("kube-system", "cilium", "Cilium"),
    ("kube-system", "anetd", "GKE Dataplane V2"),
    ("kube-flannel", "kube-flannel-ds", "flannel"),
    ("kube-system", "kube-flannel-ds", "flannel"),
    ("kube-system", "weave-net", "Weave Net"),
    ("openshift-ovn-kubernetes", "ovnkube-node", "OVN-Kubernetes"),
    ("kube-system", "aws-node", "Amazon VPC CNI"),
    ("kube-system", "azure-cns", "Azure CNI"),
    ("kube-system", "antrea-agent", "Antrea"),
    ("kube-system", "kube-router", "kube-router"),
    ("kube-system", "kindnet", "kindnet"),
)
#: Annotations of their nodes: k3s runs flannel without a DaemonSet.
_OTHER_CNI_NODES = (
    ("flannel.alpha.coreos.com/backend-type", "flannel"),
    ("k8s.ovn.org/node-subnets", "OVN-Kubernetes"),
)


def _other_cni(reader: _Reader, nodes: Sequence[Node]) -> str:
    for namespace, name, cni in _OTHER_CNIS:
        path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}"
        if reader.get(path, f"DaemonSet {name}"):
            return cni
    for key, cni in _OTHER_CNI_NODES:
        if any(key in node.annotations for node in nodes):
            return cni
    return ""


#: What is set here wins over the other one (``OverrideInstallationSpec``, tigera/operator v1.40).
_OVERLAY_PATH = f"{INSTALLATION_PATH.rpartition('/')[0]}/overlay"


def _overlaid(operator: dict[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """The operator's Installation as it goes by it."""
    spec, over = operator.get("spec") or {}, overlay.get("spec") or {}
    network = {**(spec.get("calicoNetwork") or {}), **(over.get("calicoNetwork") or {})}
    return {**operator, "spec": {**spec, **over, "calicoNetwork": network}}


def _with_operator(
    reader: _Reader,
    found: Installation,
    operator: Mapping[str, Any],
    overlay: Mapping[str, Any],
    daemon: _Daemon,
) -> Installation:
    status = operator.get("status") or {}
    network = operator["spec"]["calicoNetwork"]
    overlaid = ((overlay.get("spec") or {}).get("calicoNetwork") or {}).get("ipPools")
    cni = (operator.get("spec") or {}).get("cni") or {}
    text = str(status.get("calicoVersion") or "")
    variant = str((operator.get("spec") or {}).get("variant") or status.get("variant") or "Calico")
    if variant != "Calico" and found.product == "Calico":
        # What it calls calicoVersion is then its own.
        known = _versions(found.version_text, text or "of unknown version")
    elif found.product == "Calico" and text:
        known = _versions(text, "")
    else:
        known = {}
    # The operator fills the field in (``pkg/controller/installation``: by the CNI plugin).
    ipam = str((cni.get("ipam") or {}).get("type") or "Calico")
    # Without BGP, host-local IPAM leaves the routes to a cloud (``pkg/render/node.go``, v1.40).
    alone: Backend = "none" if ipam == "HostLocal" or daemon.backend == "none" else "vxlan"
    backends: dict[str, Backend] = {"Enabled": "bird", "Disabled": alone}
    # The operator shows the defaults that it filled in under status.computed.
    computed = (status.get("computed") or {}).get("calicoNetwork") or {}
    entries = network.get("ipPools")
    pools = {
        ipv4_network(entry.get("cidr")): entry
        for entry in (computed.get("ipPools") or () if entries is None else entries)
    }
    return replace(
        found,
        install="operator",
        **known,
        backend=backends.get(str(network.get("bgp")), daemon.backend),
        dataplane={"BPF": "eBPF", "VPP": "VPP", "Nftables": "nftables"}.get(
            str(network.get("linuxDataplane")), "iptables"
        ),
        datastore=daemon.datastore,
        cni=str(cni.get("type") or "Calico"),
        ipam=ipam,
        mtu_bytes=int(network["mtu"]) if network.get("mtu") else None,
        operator_pools={cidr: entry for cidr, entry in pools.items() if cidr is not None},
        operator_owners=(
            *owners_of(operator),
            *(["the Installation overlay, which sets ipPools"] if overlaid else ()),
        ),
        operator_degraded=_degraded(reader),
        api_server_ready=_api_server_ready(reader),
    )


def _degraded(reader: _Reader) -> str:
    status = reader.get("/apis/operator.tigera.io/v1/tigerastatuses/ippools", "TigeraStatus")
    degraded = _conditions(status).get("Degraded", {})
    if degraded.get("status") != "True":
        return ""
    return str(degraded.get("message") or degraded.get("reason") or "Degraded")


def _api_server_ready(reader: _Reader) -> bool:
    status = reader.get("/apis/operator.tigera.io/v1/tigerastatuses/apiserver", "TigeraStatus")
    if status is not None:
        return _conditions(status).get("Available", {}).get("status") == "True"
    servers = reader.list("/apis/operator.tigera.io/v1/apiservers", "APIServer") or ()
    return any((server.get("status") or {}).get("state") == "Ready" for server in servers)


def _conditions(item: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    conditions = ((item or {}).get("status") or {}).get("conditions") or ()
    return {str(condition.get("type")): condition for condition in conditions}


# -- The DaemonSet calico-node and its ConfigMap: backend, datastore, IPAM, MTU -------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Daemon:
    """The environment of calico-node, and what follows from it."""

    environment: Mapping[str, str] = field(default_factory=dict)
    #: Variables whose values are elsewhere, where they could not be read.
    unread: frozenset[str] = frozenset()
    #: Whether there is one with pods; None: unknown.
    running: bool | None = False
    image_tag: str = ""
    enterprise: bool = False
    vpp: bool = False
    #: Whether flannel routes the pods, and calico-node beside it enforces policy alone.
    canal: bool = False
    ipam: str = "unknown"
    #: An explicit MTU from ``veth_mtu``; None where it is derived from the host.
    mtu_bytes: int | None = None

    @property
    def backend(self) -> Backend:
        """``CALICO_NETWORKING_BACKEND``; Calico's own default is bird."""
        if not self.running or "CALICO_NETWORKING_BACKEND" in self.unread:
            return "unknown"
        value = self.environment.get("CALICO_NETWORKING_BACKEND", "bird").lower()
        known: dict[str, Backend] = {"bird": "bird", "vxlan": "vxlan", "none": "none"}
        return known.get(value, "unknown")

    @property
    def datastore(self) -> str:
        """``kubernetes`` or ``etcdv3`` (``libcalico-go/lib/apiconfig/load.go``, v3.28)."""
        etcd = "ETCD_ENDPOINTS" in {*self.environment, *self.unread}
        return self.environment.get("DATASTORE_TYPE", "etcdv3" if etcd else "kubernetes")


def _read_daemon(reader: _Reader, known: Installation | None) -> _Daemon:
    def get(namespace: str, name: str, topic: str) -> dict[str, Any] | None:
        return reader.get(f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}", topic)

    manifests = known is not None and known.install == "manifest"
    for namespace in reversed(DAEMON_NAMESPACES) if manifests else DAEMON_NAMESPACES:
        daemon = get(namespace, "calico-node", DAEMON_TOPIC)
        if daemon is not None:
            break
    else:
        for name in ("canal", "rke2-canal"):
            if get("kube-system", name, DAEMON_TOPIC):
                return _Daemon(canal=True)
    vpp = (known is None or known.dataplane == "VPP") and (
        get("calico-vpp-dataplane", "calico-vpp-node", "Calico VPP") is not None
    )
    if daemon is None:
        return _Daemon(vpp=vpp, running=None if DAEMON_TOPIC in reader.unknown else False)
    spec = ((daemon.get("spec") or {}).get("template") or {}).get("spec") or {}
    containers = spec.get("containers") or [{}]
    named = (one for one in containers if one.get("name") == "calico-node")
    container = next(named, containers[0])
    config = reader.get(f"/api/v1/namespaces/{namespace}/configmaps/calico-config", "calico-config")
    data: Mapping[str, str] = (config or {}).get("data") or {}
    entries = {str(entry.get("name")): entry for entry in container.get("env") or ()}
    values = {name: _value(entry, data) for name, entry in entries.items()}
    values = {**_sourced(reader, namespace, container), **values}
    unread = frozenset(name for name, value in values.items() if value is None)
    for name in sorted(unread):
        if name.upper().startswith(("FELIX_", "CALICO_", "USE_POD", "DATASTORE_")):
            reader.unknown.setdefault(f"{name} of {DAEMON_TOPIC}", "its value is kept elsewhere")
    environment = {name: value for name, value in values.items() if value}
    mtu = data.get("veth_mtu", "0")
    image, status = str(container.get("image", "")), daemon.get("status") or {}
    return _Daemon(
        environment=environment,
        unread=unread,
        # One that has just been made says nothing yet of how many pods it has.
        running=status.get("desiredNumberScheduled") != 0 or not status.get("observedGeneration"),
        image_tag=image.partition("@")[0].rpartition("/")[2].partition(":")[2],
        enterprise="/cnx-node" in image,
        vpp=vpp,
        ipam=_ipam(_network_config(spec, data), environment),
        mtu_bytes=int(mtu) if mtu.isdigit() and int(mtu) > 0 else None,
    )


def _value(entry: Mapping[str, Any], config: Mapping[str, str]) -> str | None:
    """The value of a variable; None where it is kept in what could not be read."""
    if "value" in entry:
        return str(entry["value"])
    source = entry.get("valueFrom") or {}
    reference = source.get("configMapKeyRef") or {}
    if reference.get("name") == "calico-config":
        found = config.get(str(reference.get("key")))
        return "" if found is None and reference.get("optional") else found
    return None if reference or source.get("secretKeyRef") else ""


#: By which every manifest gives calico-node the address of the API server, and nothing else
#: (``manifests/calico.yaml``).
_ENDPOINT_OF_API = "kubernetes-services-endpoint"


def _sourced(reader: _Reader, namespace: str, container: Mapping[str, Any]) -> dict[str, str]:
    """The variables that a container has from whole ConfigMaps."""
    found: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        name = (source.get("configMapRef") or {}).get("name")
        topic = f"FELIX_ variables of {name or 'a Secret'}"
        if name and name != _ENDPOINT_OF_API:
            path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"
            data = (reader.get(path, topic) or {}).get("data") or {}
            found |= {f"{source.get('prefix') or ''}{key}": value for key, value in data.items()}
        elif not name:
            reader.unknown.setdefault(topic, "secrets are not read")
    return found


def _network_config(spec: Mapping[str, Any], data: Mapping[str, str]) -> str:
    """What install-cni makes the nodes' CNI configuration of; empty where no API shows it.

    A file wins over the variable (``cni-plugin/pkg/install/install.go``, v3.28: writeCNIConfig).
    """
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    entries = {str(one.get("name")): one for each in containers for one in each.get("env") or ()}
    if "CNI_NETWORK_CONFIG_FILE" in entries:
        return ""
    if "CNI_NETWORK_CONFIG" in entries:
        return _value(entries["CNI_NETWORK_CONFIG"], data) or ""
    return data.get("cni_network_config", "")


def _ipam(network_config: str, environment: Mapping[str, str]) -> str:
    """Which IPAM plugin gives pods their addresses, as far as Calico's own objects say.

    ``USE_POD_CIDR`` is how manifests and kubespray tell calico-node of host-local IPAM
    (``manifests/canal.yaml``; ``node/pkg/allocateip/allocateip.go``, v3.28: K8sUsePodCIDR).
    """
    if environment.get("USE_POD_CIDR", "").lower() == "true":
        return "HostLocal"
    # The template holds placeholders such as __CNI_MTU__, so it may be no JSON yet.
    try:
        plugins = json.loads(network_config.replace("__CNI_MTU__", "0")).get("plugins") or ()
        kinds = {str((plugin.get("ipam") or {}).get("type", "")) for plugin in plugins}
    except (ValueError, AttributeError):
        kinds = {kind for kind in ("host-local", "calico-ipam") if f'"{kind}"' in network_config}
    if "host-local" in kinds:
        return "HostLocal"
    return "Calico" if "calico-ipam" in kinds else "unknown"


# -- IPAM and BGP ---------------------------------------------------------------------------------


def _with_ipam(
    reader: _Reader, found: Installation, group: ApiGroup, *, own_pools: bool
) -> Installation:
    # One object, whose kind has another name in each group.
    plural = "ipamconfigurations" if found.shape == "C" else "ipamconfigs"
    stored = V3 if found.shape == "C" else V1
    configs = reader.list(calico_path(stored, plural), "IPAMConfig")
    limits = None
    if configs is not None:
        spec: Mapping[str, Any] = next(
            (one.get("spec") or {} for one in configs if one["metadata"]["name"] == "default"), {}
        )
        limits = IpamLimits(
            auto_allocate=spec.get("autoAllocateBlocks") is not False,
            max_blocks_per_host=int(spec.get("maxBlocksPerHost") or 0),
            cooldown_seconds=int(spec.get("ipCooldownSeconds") or 0),
        )
    limited = limits is not None and limits.max_blocks_per_host > 0
    if found.ipam != "unknown" and not limited and not own_pools:
        return replace(found, ipam_limits=limits)
    # There may be thousands.
    blocks = reader.list(calico_path(stored, "ipamblocks"), "IPAM blocks")
    cidrs = ((block.get("spec") or {}).get("cidr") for block in blocks or ())
    found = replace(found, block_networks=ipv4_networks(cidrs))
    if limits is not None and blocks is not None and limited:
        limits = replace(limits, blocks=_blocks_of_nodes(blocks))
    ipam = found.ipam
    # There is no host-local IPAM where the nodes have no range of their own (``cni-plugin/internal/
    # pkg/utils/utils.go``, v3.28: ReplaceHostLocalIPAMPodCIDRs).
    ranged = found.node_networks or not found.nodes
    if ipam == "unknown" and (not ranged or any(map(_has_pods, blocks or ()))):
        ipam = "Calico"
    if ipam == "unknown" and not {*_IPAM_SOURCES} & reader.unknown.keys():
        reader.unknown[IPAM_TOPIC] = "the CNI configuration is a file on the nodes, as it seems"
    return replace(found, ipam=ipam, ipam_limits=limits)


def _blocks_of_nodes(blocks: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many IPv4 blocks each node has."""
    found: dict[str, int] = {}
    for block in blocks:
        spec = block.get("spec") or {}
        kind, _, node = str(spec.get("affinity") or "").partition(":")
        if kind == "host" and ipv4_network(spec.get("cidr")) is not None:
            found[node] = found.get(node, 0) + 1
    return found


def _has_pods(block: Mapping[str, Any]) -> bool:
    """Whether Calico's IPAM has given addresses of a block to pods; tunnels have some as well."""
    return any(
        (attribute.get("secondary") or {}).get("pod")
        for attribute in (block.get("spec") or {}).get("attributes") or ()
    )


def _with_bgp(reader: _Reader, found: Installation, group: ApiGroup) -> Installation:
    if found.backend != "bird":
        return found
    configurations = reader.list(calico_path(group, "bgpconfigurations"), "BGPConfigurations")
    peers = reader.list(calico_path(group, "bgppeers"), "BGPPeers")
    named = any((peer.get("spec") or {}).get("filters") for peer in peers or ())
    filters = reader.list(calico_path(group, "bgpfilters"), "BGPFilters") if named else []
    statuses = reader.list(calico_path(group, "caliconodestatuses"), "CalicoNodeStatuses")
    bgp = Bgp.of(
        configurations=configurations or (),
        peers=peers or (),
        filters=filters,
        statuses=statuses or (),
        nodes=found.nodes,
    )
    advertised = {
        network: f"{key} of BGPConfiguration {configuration['metadata']['name']}"
        for configuration in configurations or ()
        for key in ("serviceClusterIPs", "serviceExternalIPs", "serviceLoadBalancerIPs")
        for entry in (configuration.get("spec") or {}).get(key) or ()
        if (network := ipv4_network(entry.get("cidr"))) is not None
    }
    return replace(found, bgp=bgp, occupied=advertised)


# -- Nodes, services and the network outside ------------------------------------------------------


def _with_nodes(
    reader: _Reader, found: Installation, tolerations: Sequence[Toleration]
) -> Installation:
    nodes = reader.list("/api/v1/nodes", "nodes") or ()
    providers = {
        str((node.get("spec") or {}).get("providerID", "")).partition("://")[0] for node in nodes
    } - {""}
    given = [cidr for node in nodes for cidr in (node.get("spec") or {}).get("podCIDRs") or ()]
    return replace(
        found,
        provider=",".join(sorted(providers)),
        nodes=tuple(read_nodes(nodes, tolerations)),
        node_networks=ipv4_networks(given),
    )


def _cluster_networks(reader: _Reader, nodes: Sequence[Node]) -> tuple[IPv4Network, ...]:
    """The addresses of pods, as kube-proxy is told: what lies outside, it masquerades.

    It does so where it tells pods by their addresses, its default (``pkg/proxy/iptables/
    proxier.go``, Kubernetes 1.34: ``localDetector.IfNotLocal`` marks for masquerade).
    """
    config = reader.get("/api/v1/namespaces/kube-system/configmaps/kube-proxy", "kube-proxy")
    text = str(((config or {}).get("data") or {}).get("config.conf") or "")
    told: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        told[key.strip()] = value.strip().strip("'\"")
    if config is None:
        told = _proxy_arguments(reader, nodes)
    if told.get("detectLocalMode") not in (None, "", "ClusterCIDR"):
        return ()
    return ipv4_networks(told.get("clusterCIDR", "").split(","))


def _proxy_arguments(reader: _Reader, nodes: Sequence[Node]) -> dict[str, str]:
    """What kube-proxy is told by arguments, as in RKE2, kOps, GKE and Azure; of one node."""
    node = next((one.name for one in nodes if one.system == "linux"), "")
    path = "/api/v1/namespaces/kube-system/pods"
    pods = reader.list(path, "kube-proxy", fields=f"spec.nodeName={node}") if node else ()
    flags = {
        flag: value
        for pod in pods or ()
        if str(pod["metadata"]["name"]).startswith("kube-proxy")
        for flag, _, value in (word.partition("=") for word in _arguments(pod))
    }
    names = {"clusterCIDR": "--cluster-cidr", "detectLocalMode": "--detect-local-mode"}
    return {name: flags.get(flag, "") for name, flag in names.items()}


def _with_occupied(reader: _Reader, found: Installation) -> Installation:
    """Read whose addresses there are beside those of pools and nodes."""
    services = reader.list("/api/v1/services", "services") or ()
    occupied = dict(found.occupied)
    for service in services:
        metadata, spec = service.get("metadata") or {}, service.get("spec") or {}
        ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        outside = [*(spec.get("externalIPs") or ()), *(one.get("ip") for one in ingress)]
        what = f"Service {metadata.get('namespace')}/{metadata.get('name')}"
        occupied |= dict.fromkeys(ipv4_networks(outside), what)
    if calico := _readable_group(found):
        # IPAM gives none of these to pods (``libcalico-go/lib/ipam/ipam.go``, v3.28:
        # getReservedIPs), so that a pool within gives addresses to nobody.
        reservations = reader.list(calico_path(calico, "ipreservations"), "IPReservations")
        for one in reservations or ():
            reserved = ipv4_networks((one.get("spec") or {}).get("reservedCIDRs") or ())
            occupied |= dict.fromkeys(reserved, f"IPReservation {one['metadata']['name']}")
    return replace(found, occupied=occupied, service_networks=_service_networks(reader, services))


def _service_networks(
    reader: _Reader, services: Iterable[Mapping[str, Any]]
) -> tuple[IPv4Network, ...]:
    ranges = reader.list("/apis/networking.k8s.io/v1/servicecidrs", "ServiceCIDRs") or ()
    cidrs = [cidr for item in ranges for cidr in (item.get("spec") or {}).get("cidrs") or ()]
    if not cidrs:
        servers = reader.list(
            "/api/v1/namespaces/kube-system/pods",
            "kube-apiserver pods",
            labels="component=kube-apiserver",
        )
        cidrs = [cidr for pod in servers or () for cidr in _service_range(pod)]
    if not cidrs:
        cidrs = [str((service.get("spec") or {}).get("clusterIP", "")) for service in services]
    return tuple(dict.fromkeys(ipv4_networks(cidrs)))


def _service_range(pod: Mapping[str, Any]) -> Iterable[str]:
    for word in _arguments(pod):
        if word.startswith("--service-cluster-ip-range="):
            yield from word.partition("=")[2].split(",")


def _arguments(pod: Mapping[str, Any]) -> Iterable[str]:
    for container in (pod.get("spec") or {}).get("containers") or ():
        yield from map(str, [*(container.get("command") or ()), *(container.get("args") or ())])

"""Finds out what Calico a cluster runs, from the Kubernetes API alone. Changes nothing.

What may not be read stops nothing: the result's ``unknown`` says what and why.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, ip_network
from typing import TYPE_CHECKING, Any, TypedDict

from pytest_k8snet.calico.installation import (
    INSTALLATION_PATH,
    V1,
    V3,
    ApiGroup,
    ApiShape,
    Backend,
    FelixSetting,
    Installation,
    IPPool,
    Version,
    calico_path,
)
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.cluster.nodes import read_node
from pytest_k8snet.errors import ApiError, ConnectError, ForbiddenError, NotFoundError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

#: The namespaces in which operator and manifests put the DaemonSet calico-node.
DAEMON_NAMESPACES = ("calico-system", "kube-system")
#: What cannot be read of it is remembered under this topic.
DAEMON_TOPIC = "DaemonSet calico-node"


def inspect(api: Api) -> Installation:
    """Find out what Calico this cluster runs.

    Raises:
        ConnectError: the API server does not answer at all.
        UnauthorizedError: the credentials are not accepted.
    """
    served = _served_api_groups(api)
    reader = _Reader(api)
    phases = _migration_phases(reader, served)
    shape, group = _api_shape(reader, served, phases)
    operator = (
        reader.get(INSTALLATION_PATH, "Installation") if "operator.tigera.io" in served else None
    )
    network = ((operator or {}).get("spec") or {}).get("calicoNetwork") or {}
    daemon = _read_daemon(reader)
    found = Installation(shape=shape, group=group, unfinished_migration=_unfinished(phases))
    found = _with_pools(reader, found)
    found = _with_information(reader, found, daemon)
    if operator is None:
        found = _with_manifests(reader, found, daemon)
    else:
        found = _with_operator(reader, found, operator, network, daemon)
    found = replace(found, **_felix_facts(reader, _readable_group(found), daemon, network))
    found = _with_nodes(reader, found)
    return replace(
        found,
        service_networks=_service_networks(reader),
        underlay_peering=found.backend == "bird" and _peers_outside(reader, found),
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

    def list(self, path: str, topic: str, *, labels: str = "") -> list[dict[str, Any]] | None:
        """A collection; empty if the resource is not served, None if it could not be read."""
        try:
            return self._api.list(path, labels=labels)
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


def _served_api_groups(api: Api) -> dict[str, str]:
    """The API groups by name, each with its preferred version: ``apps/v1``."""
    return {
        str(group.get("name")): str((group.get("preferredVersion") or {}).get("groupVersion"))
        for group in api.get("/apis").get("groups") or ()
    }


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
    reader: _Reader, served: Mapping[str, str], phases: Mapping[str, str]
) -> tuple[ApiShape | None, ApiGroup | None]:
    """The shape of Calico's API, and the group to write pools through."""
    v1, v3 = "crd.projectcalico.org" in served, "projectcalico.org" in served
    if not v1 and not v3:
        return None, None
    if v1 and not v3:
        return "A", V1
    if v3 and not v1:
        return "C", V3
    service = reader.get(
        "/apis/apiregistration.k8s.io/v1/apiservices/v3.projectcalico.org", "APIService"
    )
    migrated = bool(phases) and not _unfinished(phases)
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
    text = str(spec.get("calicoVersion") or daemon.image_tag)
    # Kinds are only ever added, so this one counts only where there is no DaemonSet to say more.
    absent = not daemon.environment and DAEMON_TOPIC not in reader.unknown
    canal = absent and "canal" in str(spec.get("clusterType")).split(",")
    version = reader.get("/version", "Kubernetes version") or {}
    return replace(
        found,
        version=Version.parse(text),
        version_text=text,
        kubernetes_version=str(version.get("gitVersion", "")),
        cni="Canal" if daemon.canal or canal else found.cni,
    )


def _with_manifests(reader: _Reader, found: Installation, daemon: _Daemon) -> Installation:
    return replace(
        found,
        install="unknown" if "Installation" in reader.unknown else "manifest",
        backend=daemon.backend,
        dataplane="VPP" if daemon.vpp else "iptables",
        datastore=daemon.datastore,
        ipam=daemon.ipam,
        mtu_bytes=daemon.mtu_bytes,
    )


def _with_operator(
    reader: _Reader,
    found: Installation,
    operator: Mapping[str, Any],
    network: Mapping[str, Any],
    daemon: _Daemon,
) -> Installation:
    status = operator.get("status") or {}
    cni = (operator.get("spec") or {}).get("cni") or {}
    text = str(status.get("calicoVersion") or found.version_text)
    backends: dict[str, Backend] = {"Enabled": "bird", "Disabled": "vxlan"}
    # The operator shows the defaults that it filled in under status.computed.
    computed = (status.get("computed") or {}).get("calicoNetwork") or {}
    entries = network.get("ipPools")
    cidrs = [
        _ipv4_network(entry.get("cidr"))
        for entry in (computed.get("ipPools") or () if entries is None else entries)
    ]
    return replace(
        found,
        install="operator",
        version=Version.parse(text) or found.version,
        version_text=text,
        backend=backends.get(str(network.get("bgp")), daemon.backend),
        dataplane={"BPF": "eBPF", "VPP": "VPP", "Nftables": "nftables"}.get(
            str(network.get("linuxDataplane")), "iptables"
        ),
        datastore=daemon.datastore,
        cni=str(cni.get("type") or "Calico"),
        ipam=str((cni.get("ipam") or {}).get("type") or "Calico"),
        mtu_bytes=int(network["mtu"]) if network.get("mtu") else None,
        operator_pools=tuple(cidr for cidr in cidrs if cidr is not None),
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
    image_tag: str = ""
    vpp: bool = False
    #: Whether flannel routes the pods, and calico-node beside it enforces policy alone.
    canal: bool = False
    ipam: str = "Calico"
    #: An explicit MTU from ``veth_mtu``; None where it is derived from the host.
    mtu_bytes: int | None = None

    @property
    def backend(self) -> Backend:
        """``CALICO_NETWORKING_BACKEND``; Calico's own default is bird."""
        if not self.environment:
            return "unknown"
        value = self.environment.get("CALICO_NETWORKING_BACKEND", "bird").lower()
        known: dict[str, Backend] = {"bird": "bird", "vxlan": "vxlan", "none": "none"}
        return known.get(value, "unknown")

    @property
    def datastore(self) -> str:
        """``kubernetes`` or ``etcdv3``."""
        return self.environment.get("DATASTORE_TYPE", "kubernetes")


def _read_daemon(reader: _Reader) -> _Daemon:
    def get(namespace: str, name: str, topic: str) -> dict[str, Any] | None:
        return reader.get(f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}", topic)

    for namespace in DAEMON_NAMESPACES:
        daemon = get(namespace, "calico-node", DAEMON_TOPIC)
        if daemon is not None:
            break
    else:
        for name in ("canal", "rke2-canal"):
            if get("kube-system", name, DAEMON_TOPIC):
                return _Daemon(canal=True)
    vpp = get("calico-vpp-dataplane", "calico-vpp-node", "Calico VPP") is not None
    if daemon is None:
        return _Daemon(vpp=vpp)
    spec = ((daemon.get("spec") or {}).get("template") or {}).get("spec") or {}
    containers = spec.get("containers") or [{}]
    named = (one for one in containers if one.get("name") == "calico-node")
    container = next(named, containers[0])
    config = reader.get(f"/api/v1/namespaces/{namespace}/configmaps/calico-config", "calico-config")
    data: Mapping[str, str] = (config or {}).get("data") or {}
    environment = {
        str(entry.get("name")): _value(entry, data) for entry in container.get("env") or ()
    }
    mtu = data.get("veth_mtu", "0")
    image = str(container.get("image", ""))
    return _Daemon(
        environment={name: value for name, value in environment.items() if value},
        image_tag=image.rpartition(":")[2] if ":" in image else "",
        vpp=vpp,
        ipam=_ipam(data.get("cni_network_config", "")),
        mtu_bytes=int(mtu) if mtu.isdigit() and int(mtu) > 0 else None,
    )


def _value(entry: Mapping[str, Any], config: Mapping[str, str]) -> str:
    if "value" in entry:
        return str(entry["value"])
    reference = (entry.get("valueFrom") or {}).get("configMapKeyRef") or {}
    if reference.get("name") == "calico-config":
        return str(config.get(str(reference.get("key")), ""))
    return ""


def _ipam(network_config: str) -> str:
    # The template holds placeholders such as __CNI_MTU__, so it may be no JSON yet.
    try:
        plugins = json.loads(network_config.replace("__CNI_MTU__", "0")).get("plugins") or ()
        kinds = {str((plugin.get("ipam") or {}).get("type", "")) for plugin in plugins}
    except (ValueError, AttributeError):
        kinds = {"host-local"} if '"host-local"' in network_config else set()
    return "HostLocal" if "host-local" in kinds else "Calico"


# -- What Felix is configured to: FelixConfigurations of every scope, and its environment ---------

_MTU_VARIABLES = {
    "mtuIfacePattern": "FELIX_MTUIFACEPATTERN",
    "ipipMTU": "FELIX_IPINIPMTU",
    "vxlanMTU": "FELIX_VXLANMTU",
    "vxlanMTUV6": "FELIX_VXLANMTUV6",
    "wireguardMTU": "FELIX_WIREGUARDMTU",
    "wireguardMTUV6": "FELIX_WIREGUARDMTUV6",
}


class _FelixFacts(TypedDict, total=False):
    """The fields of an Installation that Felix's settings decide."""

    vxlan_enabled: tuple[FelixSetting, ...]
    ipip_enabled: tuple[FelixSetting, ...]
    vxlan_port: int
    vxlan_vni: int
    felix_cluster_routes: str
    wireguard: bool
    wireguard_v6: bool
    mtu_settings: tuple[FelixSetting, ...]
    dataplane: str


def _felix_facts(
    reader: _Reader, group: ApiGroup | None, daemon: _Daemon, network: Mapping[str, Any]
) -> _FelixFacts:
    """Read every FelixConfiguration: ``default``, ``node.<name>`` and those with a selector."""
    if group is None:
        return {}
    configs = reader.list(calico_path(group, "felixconfigurations"), "FelixConfigurations") or []
    felix = _Felix(configs=configs, environment=daemon.environment)
    facts: _FelixFacts = {
        "vxlan_enabled": felix.settings("vxlanEnabled", "FELIX_VXLANENABLED"),
        "ipip_enabled": felix.settings("ipipEnabled", "FELIX_IPINIPENABLED"),
        "felix_cluster_routes": felix.cluster_routes(network),
        "wireguard": felix.on("wireguardEnabled", "FELIX_WIREGUARDENABLED"),
        "wireguard_v6": felix.on("wireguardEnabledV6", "FELIX_WIREGUARDENABLEDV6"),
        "mtu_settings": tuple(
            setting
            for key, variable in _MTU_VARIABLES.items()
            for setting in felix.settings(key, variable)
            # Manifests write a 0 where Felix is to derive it.
            if setting.value != "0"
        ),
    }
    if (port := felix.number("vxlanPort", "FELIX_VXLANPORT")) is not None:
        facts["vxlan_port"] = port
    if (vni := felix.number("vxlanVNI", "FELIX_VXLANVNI")) is not None:
        facts["vxlan_vni"] = vni
    dataplane = felix.dataplane()
    if dataplane and not network.get("linuxDataplane") and not daemon.vpp:
        facts["dataplane"] = dataplane
    return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Felix:
    """Felix's explicit settings, wherever they are."""

    configs: Sequence[Mapping[str, Any]]
    environment: Mapping[str, str]

    def settings(self, key: str, variable: str) -> tuple[FelixSetting, ...]:
        """All values of a setting; the environment wins over every FelixConfiguration."""
        if value := self.environment.get(variable):
            where = f"{variable} of {DAEMON_TOPIC}"
            return (FelixSetting(value=value, where=where),)
        return tuple(
            FelixSetting(
                value=_as_text(config["spec"][key]),
                where=f"{key} of FelixConfiguration {config['metadata']['name']}",
            )
            for config in self.configs
            if (config.get("spec") or {}).get(key) is not None
        )

    def number(self, key: str, variable: str) -> int | None:
        """The first value of a setting that is a number; None where there is none."""
        found = (one.value for one in self.settings(key, variable) if one.value.isdecimal())
        return next(map(int, found), None)

    def on(self, key: str, variable: str) -> bool:
        """Whether something is switched on anywhere."""
        return any(not one.off for one in self.settings(key, variable))

    def cluster_routes(self, network: Mapping[str, Any]) -> str:
        """``programClusterRoutes``, as set here or by the operator; empty where unset."""
        settings = self.settings("programClusterRoutes", "FELIX_PROGRAMCLUSTERROUTES")
        if settings:
            return settings[0].value
        return {"Felix": "Enabled", "BIRD": "Disabled", "FelixIPIPOnly": "EnabledIPIPOnly"}.get(
            str(network.get("clusterRoutingMode")), ""
        )

    def dataplane(self) -> str:
        """The dataplane, where it is not the default."""
        internal = self.settings("useInternalDataplaneDriver", "FELIX_USEINTERNALDATAPLANEDRIVER")
        if any(setting.off for setting in internal):
            return "VPP"
        if self.on("bpfEnabled", "FELIX_BPFENABLED"):
            return "eBPF"
        modes = self.settings("nftablesMode", "FELIX_NFTABLESMODE")
        return "nftables" if any(mode.value == "Enabled" for mode in modes) else ""


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- Nodes, services and the network outside ------------------------------------------------------


def _with_nodes(reader: _Reader, found: Installation) -> Installation:
    nodes = reader.list("/api/v1/nodes", "nodes") or ()
    providers = {
        str((node.get("spec") or {}).get("providerID", "")).partition("://")[0] for node in nodes
    } - {""}
    return replace(
        found, provider=",".join(sorted(providers)), nodes=tuple(read_node(node) for node in nodes)
    )


def _service_networks(reader: _Reader) -> tuple[IPv4Network, ...]:
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
        services = reader.list("/api/v1/services", "services") or ()
        cidrs = [str((service.get("spec") or {}).get("clusterIP", "")) for service in services]
    networks = (_ipv4_network(cidr) for cidr in cidrs)
    return tuple(dict.fromkeys(network for network in networks if network is not None))


def _service_range(pod: Mapping[str, Any]) -> Iterable[str]:
    for container in (pod.get("spec") or {}).get("containers") or ():
        for word in [*(container.get("command") or ()), *(container.get("args") or ())]:
            if str(word).startswith("--service-cluster-ip-range="):
                yield from str(word).partition("=")[2].split(",")


def _peers_outside(reader: _Reader, found: Installation) -> bool:
    group = _readable_group(found)
    peers = reader.list(calico_path(group, "bgppeers"), "BGPPeers") if group else ()
    own = {str(node.interface.ip) for node in found.nodes if node.interface is not None}
    own |= {node.internal_ip for node in found.nodes}
    addresses = (_peer_address(peer.get("spec") or {}) for peer in peers or ())
    # Route reflectors on nodes tell each other, but no router; IPv6 sessions carry IPv6 routes.
    # With the nodes unread, nobody can be told from them.
    return bool(found.nodes) and any(
        address not in own and _ipv4_network(address) is not None for address in addresses
    )


def _peer_address(spec: Mapping[str, Any]) -> str:
    """The address of a BGPPeer without its port; empty where a selector chooses nodes instead."""
    return "" if spec.get("peerSelector") else str(spec.get("peerIP") or "").partition(":")[0]


def _ipv4_network(text: object) -> IPv4Network | None:
    try:
        network = ip_network(str(text), strict=False)
    except ValueError:
        return None
    return network if isinstance(network, IPv4Network) else None

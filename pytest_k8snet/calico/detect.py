"""Reads an installation from the Kubernetes API alone. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
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
    OperatorPool,
    Version,
    calico_path,
)
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.cluster.nodes import read_node
from pytest_k8snet.errors import ApiError, ConnectError, ForbiddenError, NotFoundError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api


class Reader:
    """A connection through which a refusal is a fact to report, not the end.

    Attributes:
        unknown: topic -> reason, for everything that could not be read. What does not exist is
            known to be absent, and not in here.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self.unknown: dict[str, str] = {}

    def get(self, path: str, topic: str) -> dict[str, Any] | None:
        """One object; None if it doesn't exist or could not be read."""
        try:
            return self._api.get(path)
        except NotFoundError:
            return None
        except (ApiError, ConnectError) as exc:
            self._remember(topic, exc)
            return None

    def list(self, path: str, topic: str, *, labels: str = "") -> list[dict[str, Any]] | None:
        """A collection; empty if the resource isn't served, None if it could not be read."""
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


# -- Which API groups serve Calico's objects here, and which of them is the store -----------------


_FINISHED = ("Converged", "Complete")


def served_api_groups(api: Api) -> dict[str, str]:
    """The API groups by name, each with its preferred version: ``apps/v1``."""
    return {
        str(group.get("name")): str((group.get("preferredVersion") or {}).get("groupVersion"))
        for group in api.get("/apis").get("groups") or ()
    }


def migration_phases(reader: Reader, served: Mapping[str, str]) -> dict[str, str]:
    """The DatastoreMigrations by name, each with its phase."""
    version = served.get("migration.projectcalico.org")
    if version is None:
        return {}
    migrations = reader.list(f"/apis/{version}/datastoremigrations", "DatastoreMigrations")
    return {
        str(one["metadata"]["name"]): str((one.get("status") or {}).get("phase") or "unknown")
        for one in migrations or ()
    }


def unfinished(phases: Mapping[str, str]) -> str:
    """The first DatastoreMigration that has not finished, with its phase; empty if all have."""
    return next(
        (f"{name} (phase {phase})" for name, phase in phases.items() if phase not in _FINISHED), ""
    )


def find_shape(
    reader: Reader, served: Mapping[str, str], phases: Mapping[str, str]
) -> tuple[ApiShape | None, ApiGroup | None]:
    """The shape of Calico's API, and the group to write pools through.

    Args:
        reader: the connection.
        served: what :func:`served_api_groups` found.
        phases: what :func:`migration_phases` found.
    """
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
    migrated = bool(phases) and not unfinished(phases)
    aggregated = (service.get("spec") or {}).get("service") if service else not migrated
    if aggregated:
        return "B", V3
    # Both sets of CRDs without an aggregating server: Calico itself stores in v1, until its
    # objects have been moved.
    return ("C", V3) if migrated else ("A", V1)


# -- What the DaemonSet calico-node and its ConfigMap say: backend, datastore, IPAM, MTU ----------

#: The namespaces in which operator and manifests put it.
DAEMON_NAMESPACES = ("calico-system", "kube-system")
#: What cannot be read of it is remembered under this topic.
DAEMON_TOPIC = "DaemonSet calico-node"
_CANAL = ("canal", "rke2-canal")


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonFacts:
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


def daemon_facts(reader: Reader) -> DaemonFacts:
    """Find the DaemonSet where operator or manifests put it, and read it."""
    for namespace in DAEMON_NAMESPACES:
        daemon = reader.get(
            f"/apis/apps/v1/namespaces/{namespace}/daemonsets/calico-node", DAEMON_TOPIC
        )
        if daemon is not None:
            return _read(reader, namespace, daemon)
    for name in _CANAL:
        if reader.get(f"/apis/apps/v1/namespaces/kube-system/daemonsets/{name}", DAEMON_TOPIC):
            return DaemonFacts(canal=True)
    vpp = reader.get(
        "/apis/apps/v1/namespaces/calico-vpp-dataplane/daemonsets/calico-vpp-node", "Calico VPP"
    )
    return DaemonFacts(vpp=vpp is not None)


def _read(reader: Reader, namespace: str, daemon: Mapping[str, Any]) -> DaemonFacts:
    spec = ((daemon.get("spec") or {}).get("template") or {}).get("spec") or {}
    containers = spec.get("containers") or []
    container = next((one for one in containers if one.get("name") == "calico-node"), None)
    if container is None:
        container = containers[0] if containers else {}
    config = reader.get(f"/api/v1/namespaces/{namespace}/configmaps/calico-config", "calico-config")
    data: Mapping[str, str] = (config or {}).get("data") or {}
    environment = {
        str(entry.get("name")): _value(entry, data) for entry in container.get("env") or ()
    }
    vpp = reader.get(
        "/apis/apps/v1/namespaces/calico-vpp-dataplane/daemonsets/calico-vpp-node", "Calico VPP"
    )
    mtu = data.get("veth_mtu", "0")
    image = str(container.get("image", ""))
    return DaemonFacts(
        environment={name: value for name, value in environment.items() if value},
        image_tag=image.rpartition(":")[2] if ":" in image else "",
        vpp=vpp is not None,
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


# -- What Felix is told explicitly: FelixConfigurations of every scope, and its environment -------


_MTU_VARIABLES = {
    "mtuIfacePattern": "FELIX_MTUIFACEPATTERN",
    "ipipMTU": "FELIX_IPINIPMTU",
    "vxlanMTU": "FELIX_VXLANMTU",
    "vxlanMTUV6": "FELIX_VXLANMTUV6",
    "wireguardMTU": "FELIX_WIREGUARDMTU",
    "wireguardMTUV6": "FELIX_WIREGUARDMTUV6",
}


class FelixFacts(TypedDict, total=False):
    """The fields of an Installation that Felix's settings decide."""

    vxlan_enabled: tuple[FelixSetting, ...]
    ipip_enabled: tuple[FelixSetting, ...]
    vxlan_port: int
    felix_cluster_routes: str
    wireguard: bool
    wireguard_v6: bool
    mtu_settings: tuple[FelixSetting, ...]
    dataplane: str


def felix_facts(
    reader: Reader,
    group: ApiGroup | None,
    daemon: DaemonFacts,
    operator: Mapping[str, Any] | None,
) -> FelixFacts:
    """Read every FelixConfiguration: ``default``, ``node.<name>`` and those with a selector."""
    if group is None:
        return {}
    configs = reader.list(calico_path(group, "felixconfigurations"), "FelixConfigurations") or []
    environment = daemon.environment
    facts: FelixFacts = {
        "vxlan_enabled": _explicit(configs, "vxlanEnabled", environment, "FELIX_VXLANENABLED"),
        "ipip_enabled": _explicit(configs, "ipipEnabled", environment, "FELIX_IPINIPENABLED"),
        "felix_cluster_routes": _routes(configs, environment, operator),
        "wireguard": _on(configs, "wireguardEnabled", environment, "FELIX_WIREGUARDENABLED"),
        "wireguard_v6": _on(configs, "wireguardEnabledV6", environment, "FELIX_WIREGUARDENABLEDV6"),
        "mtu_settings": tuple(
            setting
            for key, variable in _MTU_VARIABLES.items()
            for setting in _explicit(configs, key, environment, variable)
            # Manifests write a 0 where Felix is to derive it.
            if setting.value != "0"
        ),
    }
    ports = _explicit(configs, "vxlanPort", environment, "FELIX_VXLANPORT")
    if ports and ports[0].value.isdecimal():
        facts["vxlan_port"] = int(ports[0].value)
    dataplane = _dataplane(configs, environment)
    told = ((operator or {}).get("spec") or {}).get("calicoNetwork") or {}
    if dataplane and not told.get("linuxDataplane") and not daemon.vpp:
        facts["dataplane"] = dataplane
    return facts


def _explicit(
    configs: list[dict[str, Any]], key: str, environment: Mapping[str, str], variable: str
) -> tuple[FelixSetting, ...]:
    if environment.get(variable):
        # The environment wins over every FelixConfiguration.
        return (
            FelixSetting(value=environment[variable], where=f"{variable} of DaemonSet calico-node"),
        )
    return tuple(
        FelixSetting(
            value=_as_text(config["spec"][key]),
            where=f"{key} of FelixConfiguration {config['metadata']['name']}",
        )
        for config in configs
        if (config.get("spec") or {}).get(key) is not None
    )


def _on(
    configs: list[dict[str, Any]], key: str, environment: Mapping[str, str], variable: str
) -> bool:
    return any(not one.off for one in _explicit(configs, key, environment, variable))


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _routes(
    configs: list[dict[str, Any]],
    environment: Mapping[str, str],
    operator: Mapping[str, Any] | None,
) -> str:
    settings = _explicit(configs, "programClusterRoutes", environment, "FELIX_PROGRAMCLUSTERROUTES")
    if settings:
        return settings[0].value
    network = ((operator or {}).get("spec") or {}).get("calicoNetwork") or {}
    routing = str(network.get("clusterRoutingMode") or "")
    return {"Felix": "Enabled", "BIRD": "Disabled", "FelixIPIPOnly": "EnabledIPIPOnly"}.get(
        routing, ""
    )


def _dataplane(configs: list[dict[str, Any]], environment: Mapping[str, str]) -> str:
    internal = _explicit(
        configs, "useInternalDataplaneDriver", environment, "FELIX_USEINTERNALDATAPLANEDRIVER"
    )
    if any(setting.off for setting in internal):
        return "VPP"
    if _on(configs, "bpfEnabled", environment, "FELIX_BPFENABLED"):
        return "eBPF"
    modes = _explicit(configs, "nftablesMode", environment, "FELIX_NFTABLESMODE")
    return "nftables" if any(mode.value == "Enabled" for mode in modes) else ""


# -- Reads an installation from the Kubernetes API alone. Changes nothing -------------------------


def inspect(api: Api) -> Installation:
    """Find out what Calico this cluster runs.

    What doesn't exist or may not be read doesn't stop it: the result's ``unknown`` says what and
    why.

    Raises:
        ConnectError: the API server doesn't answer at all.
        UnauthorizedError: the credentials are not accepted.
    """
    served = served_api_groups(api)
    reader = Reader(api)
    phases = migration_phases(reader, served)
    shape, group = find_shape(reader, served, phases)
    operator = (
        reader.get(INSTALLATION_PATH, "Installation") if ("operator.tigera.io" in served) else None
    )
    daemon = daemon_facts(reader)
    found = Installation(shape=shape, group=group)
    found = _with_pools(reader, found)
    found = _with_information(reader, found, daemon)
    found = _with_install(reader, found, operator, daemon)
    found = replace(found, **felix_facts(reader, _readable_group(found), daemon, operator))
    found = _with_nodes(reader, found)
    found = replace(
        found,
        service_networks=_service_networks(reader),
        unfinished_migration=unfinished(phases),
        underlay_peering=found.backend == "bird" and _peers_outside(reader, found),
    )
    return replace(found, unknown=dict(reader.unknown))


def _with_pools(reader: Reader, found: Installation) -> Installation:
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


def _with_information(reader: Reader, found: Installation, daemon: DaemonFacts) -> Installation:
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


def _with_install(
    reader: Reader,
    found: Installation,
    operator: Mapping[str, Any] | None,
    daemon: DaemonFacts,
) -> Installation:
    if operator is None:
        return replace(
            found,
            install="unknown" if "Installation" in reader.unknown else "manifest",
            backend=daemon.backend,
            dataplane="VPP" if daemon.vpp else "iptables",
            datastore=daemon.datastore,
            ipam=daemon.ipam,
            mtu_bytes=daemon.mtu_bytes,
        )
    spec = operator.get("spec") or {}
    network = spec.get("calicoNetwork") or {}
    backends: dict[str, Backend] = {"Enabled": "bird", "Disabled": "vxlan"}
    cni = spec.get("cni") or {}
    status_version = (operator.get("status") or {}).get("calicoVersion")
    text = str(status_version or found.version_text)
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
        operator_pools=_operator_pools(network, operator),
        operator_degraded=_degraded(reader),
        api_server_ready=_api_server_ready(reader),
    )


def _operator_pools(
    network: Mapping[str, Any], operator: Mapping[str, Any]
) -> tuple[OperatorPool, ...]:
    # The operator shows the defaults that it filled in under status.computed.
    entries = network.get("ipPools")
    if entries is None:
        computed = (operator.get("status") or {}).get("computed") or {}
        entries = (computed.get("calicoNetwork") or {}).get("ipPools") or []
    pools = []
    for index, entry in enumerate(entries):
        network_of = _ipv4_network(entry.get("cidr"))
        if network_of is not None:
            pools.append(
                OperatorPool(index=index, cidr=network_of, encapsulation=entry.get("encapsulation"))
            )
    return tuple(pools)


def _conditions(item: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    conditions = ((item or {}).get("status") or {}).get("conditions") or ()
    return {str(condition.get("type")): condition for condition in conditions}


def _degraded(reader: Reader) -> str:
    status = reader.get("/apis/operator.tigera.io/v1/tigerastatuses/ippools", "TigeraStatus")
    degraded = _conditions(status).get("Degraded", {})
    if degraded.get("status") != "True":
        return ""
    return str(degraded.get("message") or degraded.get("reason") or "Degraded")


def _api_server_ready(reader: Reader) -> bool:
    status = reader.get("/apis/operator.tigera.io/v1/tigerastatuses/apiserver", "TigeraStatus")
    if status is not None:
        return _conditions(status).get("Available", {}).get("status") == "True"
    servers = reader.list("/apis/operator.tigera.io/v1/apiservers", "APIServer") or ()
    return any((server.get("status") or {}).get("state") == "Ready" for server in servers)


def _with_nodes(reader: Reader, found: Installation) -> Installation:
    nodes = reader.list("/api/v1/nodes", "nodes") or ()
    providers = {
        str((node.get("spec") or {}).get("providerID", "")).partition("://")[0] for node in nodes
    } - {""}
    return replace(
        found, provider=",".join(sorted(providers)), nodes=tuple(read_node(node) for node in nodes)
    )


def _service_networks(reader: Reader) -> tuple[IPv4Network, ...]:
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


def _ipv4_network(text: object) -> IPv4Network | None:
    try:
        network = ip_network(str(text), strict=False)
    except ValueError:
        return None
    return network if isinstance(network, IPv4Network) else None


def _peers_outside(reader: Reader, found: Installation) -> bool:
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

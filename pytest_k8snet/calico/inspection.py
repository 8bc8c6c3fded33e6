"""Reads an installation from the Kubernetes API alone. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Network, ip_network
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico import groups
from pytest_k8snet.calico.api_shape import (
    find_shape,
    migration_phases,
    served_groups,
    unfinished,
)
from pytest_k8snet.calico.felix import felix_facts
from pytest_k8snet.calico.groups import Group
from pytest_k8snet.calico.installation import Backend, Installation, OperatorPool
from pytest_k8snet.calico.ippool import IPPool
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.node_daemon import TOPIC, DaemonFacts, daemon_facts
from pytest_k8snet.calico.reader import Reader
from pytest_k8snet.calico.version import Version
from pytest_k8snet.cluster.nodes import read_node

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api


def inspect(api: Api) -> Installation:
    """Find out what Calico this cluster runs.

    What doesn't exist or may not be read doesn't stop it: the result's ``unknown`` says what and
    why.

    Raises:
        ConnectError: the API server doesn't answer at all.
        UnauthorizedError: the credentials are not accepted.
    """
    served = served_groups(api)
    reader = Reader(api)
    phases = migration_phases(reader, served)
    shape, group = find_shape(reader, served, phases)
    operator = (
        reader.get(groups.INSTALLATION_PATH, "Installation")
        if ("operator.tigera.io" in served)
        else None
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
        fabric_peering=found.backend == "bird" and _peers_outside(reader, found),
    )
    return replace(found, unknown=dict(reader.unknown))


def _with_pools(reader: Reader, found: Installation) -> Installation:
    if found.group is None:
        return found
    raw = reader.list(groups.path(found.group, "ippools"), f"IPPools of {found.group}")
    reachable = True
    if raw is None and found.shape == "B":
        reachable = False
        raw = reader.list(groups.path(groups.V1, "ippools"), f"IPPools of {groups.V1}")
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


def _readable_group(found: Installation) -> Group | None:
    return groups.V1 if found.shape == "B" and not found.v3_reachable else found.group


def _with_information(reader: Reader, found: Installation, daemon: DaemonFacts) -> Installation:
    group = _readable_group(found)
    path = group and groups.path(group, "clusterinformations", "default")
    spec = ((path and reader.get(path, "Calico version")) or {}).get("spec") or {}
    text = str(spec.get("calicoVersion") or daemon.image_tag)
    # Kinds are only ever added, so this one counts only where there is no DaemonSet to say more.
    absent = not daemon.environment and TOPIC not in reader.unknown
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
    peers = reader.list(groups.path(group, "bgppeers"), "BGPPeers") if group else ()
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

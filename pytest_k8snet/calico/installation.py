"""What is known of a cluster's Calico: values only, read by ``inspection``. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any, Literal

from pytest_k8snet.calico.groups import ApiShape, Group
from pytest_k8snet.calico.headers import Encapsulation, families_of
from pytest_k8snet.calico.ippool import IPPool
from pytest_k8snet.calico.modes import Family
from pytest_k8snet.calico.version import OPERATOR_OWNS_POOLS, Version
from pytest_k8snet.tools.capture import VXLAN_PORT

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node

#: What programs the routes between nodes.
Backend = Literal["bird", "vxlan", "none", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FelixSetting:
    """A value that is set explicitly somewhere; ``where`` says in which object or variable."""

    value: str
    where: str

    @property
    def off(self) -> bool:
        """Whether the value switches something off."""
        return self.value.lower() in ("false", "0", "no", "off", "disabled")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorPool:
    """One entry of ``Installation.spec.calicoNetwork.ipPools``, with its place in the list."""

    index: int
    cidr: IPv4Network
    #: The text of the field; None where it is absent.
    encapsulation: str | None


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
    group: Group | None = None
    #: False while the aggregated API server of shape B doesn't answer.
    v3_reachable: bool = True
    backend: Backend = "unknown"
    dataplane: str = "unknown"
    datastore: str = "kubernetes"
    cni: str = "Calico"
    ipam: str = "Calico"
    wireguard: bool = False
    wireguard_v6: bool = False
    vxlan_enabled: tuple[FelixSetting, ...] = ()
    ipip_enabled: tuple[FelixSetting, ...] = ()
    #: The UDP port of Felix's VXLAN.
    vxlan_port: int = VXLAN_PORT
    #: FelixConfiguration.spec.programClusterRoutes; empty where unset.
    felix_cluster_routes: str = ""
    pools: tuple[IPPool, ...] = ()
    ipv6_pools: tuple[str, ...] = ()
    #: Whether any of these encapsulates.
    vxlan_v6: bool = False
    #: None: no Installation; empty: the operator manages no pools.
    operator_pools: tuple[OperatorPool, ...] | None = None
    #: Why the operator says that its pools are degraded; empty if they are not.
    operator_degraded: str = ""
    api_server_ready: bool = True
    #: An explicit MTU for pods and tunnels; None: derived from the host.
    mtu_bytes: int | None = None
    #: What Felix is told of MTUs, per encapsulation and node: none of it is followed here.
    mtu_settings: tuple[FelixSetting, ...] = ()
    #: Name of a DatastoreMigration that has not finished.
    unfinished_migration: str = ""
    #: Whether BIRD speaks BGP with routers outside the cluster, which so learn where pods are.
    fabric_peering: bool = False
    #: All of them, also those that take no pods.
    nodes: tuple[Node, ...] = ()
    #: ``azure``, ``gce``, ``aws``..., from the nodes' provider ids; empty where unset.
    provider: str = ""
    service_networks: tuple[IPv4Network, ...] = ()
    #: What could not be read, and why.
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def routes_prove(self) -> bool:
        """Whether packets take the kernel's routes; eBPF forwards beside them."""
        return self.dataplane != "eBPF"

    def pool(self, name: str) -> IPPool | None:
        """The IPv4 pool of a name."""
        return next((pool for pool in self.pools if pool.name == name), None)

    def operator_entry(self, pool: IPPool) -> OperatorPool | None:
        """The Installation's entry for a pool; None if the operator doesn't list it."""
        entries = self.operator_pools or ()
        return next((entry for entry in entries if entry.cidr == pool.cidr), None)

    def operator_reverts(self, pool: IPPool) -> bool:
        """Whether a direct edit of the pool would be undone by the operator."""
        return (
            self.install == "operator"
            and self.version is not None
            and self.version >= OPERATOR_OWNS_POOLS
            and (self.operator_entry(pool) is not None or pool.operator_owned)
        )

    def families(self) -> frozenset[Family]:
        """The encapsulation families that are enabled now, by pools or explicitly.

        Felix looks at every pool for this, also at disabled ones.
        """
        enabled: set[Family] = set(families_of(pool.mode for pool in self.pools))
        for family, settings in (("vxlan", self.vxlan_enabled), ("ipip", self.ipip_enabled)):
            if any(not setting.off for setting in settings):
                enabled.add(family)  # type: ignore[arg-type]  # the literals above
        return frozenset(enabled)

    @property
    def pools_unread(self) -> str:
        """Why there are no pools here, where they could not be read; else empty."""
        if self.pools:
            return ""
        return next((why for topic, why in self.unknown.items() if topic.startswith("IPPools")), "")

    def encapsulations(self) -> frozenset[Encapsulation]:
        """All that is enabled now and takes its bytes from the MTU of new pods."""
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
        unread = self.unknown.keys() & {"calico-config", "Installation", "FelixConfigurations"}
        return not (self.mtu_settings or unread or self.backend == "unknown")

    @property
    def mtu_told(self) -> str:
        """In words, how new pods get their MTU."""
        if self.mtu_bytes is not None:
            return str(self.mtu_bytes)
        told = ", ".join(f"{one.where} is {one.value}" for one in self.mtu_settings)
        return f"as Felix is told: {told}" if told else "auto"

    def facts(self) -> dict[str, Any]:
        """What a record says of the installation: flat, JSON-safe, no secrets."""
        return {
            "calico_version": self.version_text or "unknown",
            "kubernetes_version": self.kubernetes_version or "unknown",
            "install": self.install,
            "api_shape": self.shape or "none",
            "pool_group": self.group or "none",
            "backend": self.backend,
            "dataplane": self.dataplane,
            "ipam": self.ipam,
            "wireguard": self.wireguard,
            "mtu": self.mtu_bytes or self.mtu_told,
            "provider": self.provider or "unknown",
            "pools": ", ".join(f"{pool.name} {pool.cidr} {pool.mode}" for pool in self.pools),
            **{f"unknown: {topic}": reason for topic, reason in sorted(self.unknown.items())},
        }

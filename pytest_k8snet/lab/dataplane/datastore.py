"""What Calico's datastore tells Felix, as far as packets are concerned: values. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Literal

Encapsulation = Literal["Never", "CrossSubnet", "Always"]
Family = Literal["none", "ipip", "vxlan"]
Owner = Literal["felix", "bird", "nobody"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One IPPool, as far as packets are concerned."""

    name: str
    cidr: IPv4Network
    ipip_mode: Encapsulation = "Never"
    vxlan_mode: Encapsulation = "Never"
    nat_outgoing: bool = False

    @property
    def family(self) -> Family:
        """Which tunnel the pool uses; VXLAN is asked first, as Felix does."""
        if self.vxlan_mode != "Never":
            return "vxlan"
        return "ipip" if self.ipip_mode != "Never" else "none"

    @property
    def cross_subnet(self) -> bool:
        """Whether nodes of one subnet talk without the tunnel."""
        mode = self.vxlan_mode if self.family == "vxlan" else self.ipip_mode
        return mode == "CrossSubnet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """An IPAM block, routed to the node it is affine to.

    Attributes:
        borrowed: addresses in it that another node uses.
    """

    cidr: IPv4Network
    node: str
    borrowed: Mapping[IPv4Address, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One node: its address with the prefix that Calico recorded, and its tunnel addresses."""

    name: str
    address: IPv4Interface
    vxlan_tunnel: IPv4Address | None = None
    ipip_tunnel: IPv4Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How this version and configuration of Calico programs routes.

    Attributes:
        version: (major, minor).
        backend: ``bird``, or ``vxlan`` where no BIRD runs.
        felix_cluster_routes: ``FelixConfiguration.spec.programClusterRoutes``; empty where unset.
        bird_cluster_routes: the same field of the BGPConfiguration.
    """

    version: tuple[int, int] = (3, 31)
    backend: Literal["bird", "vxlan"] = "bird"
    felix_cluster_routes: str = ""
    bird_cluster_routes: str = ""

    @classmethod
    def of(cls, version: str, backend: Literal["bird", "vxlan"]) -> Behaviour:
        """The behaviour of a version as Calico writes it, such as ``v3.31.2``.

        Raises:
            ValueError: not a version.
        """
        match = re.match(r"v?(\d+)\.(\d+)", version)
        if match is None:
            raise ValueError(f"not a Calico version: {version!r} (write v3.31.2)")
        return cls(version=(int(match[1]), int(match[2])), backend=backend)

    def owner(self, family: Family, enabled: Collection[Family] = ()) -> Owner:
        """Who programs the routes to blocks of pools with this tunnel.

        Where both are told to, their routes differ by metric or the last writer wins; here it is
        Felix.

        Args:
            family: the pool's tunnel.
            enabled: the tunnels in use anywhere: before v3.33 they keep Felix from ``Never``.
        """
        if family == "vxlan" or self._felix_programs(family, enabled):
            return "felix"
        return "bird" if self._bird_programs(family) else "nobody"

    def _felix_programs(self, family: Family, enabled: Collection[Family]) -> bool:
        if self.version < (3, 31):
            return False
        if self.version < (3, 33):
            free = family == "ipip" or not enabled
            return self.felix_cluster_routes == "Enabled" and free
        return _covers(self.felix_cluster_routes or "EnabledIPIPOnly", family)

    def _bird_programs(self, family: Family) -> bool:
        if self.backend != "bird":
            return False
        if self.version < (3, 32):
            return True
        default = "Enabled" if self.version < (3, 33) else "EnabledNoEncapOnly"
        return _covers(self.bird_cluster_routes or default, family)

    @property
    def vxlan_routes_have_mtu(self) -> bool:
        """Whether routes through VXLAN carry the tunnel's MTU."""
        return self.version >= (3, 31)

    @property
    def metric(self) -> int:
        """The metric of BIRD's routes and of the routes to local pods."""
        return 1024 if self.version >= (3, 32) else 0


def _covers(setting: str, family: Family) -> bool:
    """Whether a value of ``programClusterRoutes`` names pools with this tunnel."""
    only = {"EnabledIPIPOnly": "ipip", "EnabledNoEncapOnly": "none"}
    return setting == "Enabled" or only.get(setting) == family


@dataclass(frozen=True, slots=True, kw_only=True)
class Datastore:
    """Everything that routes depend on.

    Attributes:
        routers: each subnet's router, which knows the blocks of pools without encapsulation.
    """

    hosts: Sequence[Host]
    pools: Sequence[Pool]
    blocks: Sequence[Block]
    routers: Mapping[IPv4Network, IPv4Address]
    behaviour: Behaviour = Behaviour()
    link_mtu_bytes: int = 1500

    def pool_of(self, network: IPv4Network) -> Pool | None:
        """The pool that a block lies in."""
        return next((pool for pool in self.pools if network.subnet_of(pool.cidr)), None)

    def owner(self, family: Family) -> Owner:
        """Who programs the routes to blocks of pools with this tunnel."""
        return self.behaviour.owner(family, self.families)

    def host(self, name: str) -> Host | None:
        """A node by its name."""
        return next((host for host in self.hosts if host.name == name), None)

    @property
    def families(self) -> set[Family]:
        """The tunnels in use anywhere."""
        return {pool.family for pool in self.pools} - {"none"}

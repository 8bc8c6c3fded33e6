"""What Calico's datastore tells Felix, as far as packets are concerned: values. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
    """

    version: tuple[int, int] = (3, 31)
    backend: Literal["bird", "vxlan"] = "bird"

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

    def owner(self, family: Family) -> Owner:
        """Who programs the routes to blocks of pools with this tunnel."""
        if family == "vxlan":
            return "felix"
        if family == "ipip" and self.version >= (3, 33):
            return "felix"
        return "bird" if self.backend == "bird" else "nobody"

    @property
    def vxlan_routes_have_mtu(self) -> bool:
        """Whether routes through VXLAN carry the tunnel's MTU."""
        return self.version >= (3, 31)

    @property
    def metric(self) -> int:
        """The metric of BIRD's routes and of the routes to local pods."""
        return 1024 if self.version >= (3, 32) else 0


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

    def host(self, name: str) -> Host | None:
        """A node by its name."""
        return next((host for host in self.hosts if host.name == name), None)

    @property
    def families(self) -> set[Family]:
        """The tunnels in use anywhere."""
        return {pool.family for pool in self.pools} - {"none"}

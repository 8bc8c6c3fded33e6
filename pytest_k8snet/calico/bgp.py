"""What Calico's BGP is configured to: the mesh of the nodes, their peers, and the peers' filters.

Pure. A BGPFilter stands between a pool's blocks and whoever has to learn them. Its rules are tried
in order, the first that matches decides, and what none matches goes on (``filterStatement`` in
``confd/pkg/resource/template/template_funcs.go`` and ``buildImportFilter`` in
``confd/pkg/backends/calico/bgp_processor.go``, Calico's master of August 2026; the same in v3.28).
The mesh knows no filters. Fields that came later (``prefixLength`` with v3.29, ``peerType``,
``communities``, ``asPathPrefix`` and ``priority`` with v3.32) are dropped by older API servers, so
that a rule has only what its Calico understands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from pytest_k8snet.calico.selectors import SelectorError, selects

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node

#: What a filter does to the routes of a pool; ``unknown`` where that cannot be told.
Filtered: TypeAlias = Literal["accepted", "rejected", "unknown"]
#: Routes that leave a node, its own or another's, or that come in.
_Flow: TypeAlias = Literal["own", "relayed", "received"]
#: How many of a pool's blocks a rule is about.
_Blocks: TypeAlias = Literal["all", "some", "none", "unknown"]

_REFLECTOR = "projectcalico.org/RouteReflectorClusterID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bgp:
    """BGP as Calico's objects configure it.

    Attributes:
        mesh: whether every node peers with every other; Calico's default.
        programs_routes: ``BGPConfiguration.spec.programClusterRoutes``; empty where unset.
        peers: the BGPPeers that are of any use to IPv4.
        reflectors: the nodes that are route reflectors, which are no part of the mesh.
        down: sessions that a CalicoNodeStatus shows as not established.
    """

    mesh: bool = True
    programs_routes: str = ""
    peers: tuple[BgpPeer, ...] = ()
    reflectors: frozenset[str] = frozenset()
    down: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        configurations: Iterable[Mapping[str, Any]],
        peers: Sequence[Mapping[str, Any]],
        filters: Iterable[Mapping[str, Any]] | None,
        statuses: Iterable[Mapping[str, Any]],
        nodes: Sequence[Node],
    ) -> Bgp:
        """Read Calico's objects of BGP, as the API gave them; no filters: they are unread."""
        spec: Mapping[str, Any] = next(
            (
                one.get("spec") or {}
                for one in configurations
                if one["metadata"]["name"] == "default"
            ),
            {},
        )
        known = None
        if filters is not None:
            known = {str(one["metadata"]["name"]): one.get("spec") or {} for one in filters}
        found = (BgpPeer.of(peer, filters=known, nodes=nodes) for peer in peers)
        return cls(
            mesh=spec.get("nodeToNodeMeshEnabled") is not False,
            programs_routes=str(spec.get("programClusterRoutes") or ""),
            peers=tuple(peer for peer in found if peer is not None),
            reflectors=frozenset(one.name for one in nodes if one.annotations.get(_REFLECTOR)),
            down=tuple(_sessions_down(statuses)),
        )

    @property
    def peers_outside(self) -> tuple[BgpPeer, ...]:
        """The peers that are routers outside the cluster."""
        return tuple(peer for peer in self.peers if peer.address)

    def unadvertised(
        self, network: IPv4Network, block_size: int, nodes: Iterable[Node]
    ) -> Unadvertised | None:
        """Say why nodes may not learn each other's blocks of a pool; None if nothing keeps them.

        Args:
            network: the pool's addresses.
            block_size: the prefix length of its blocks.
            nodes: those that have to know them.
        """
        carried = {peer.name: peer.carries(network, block_size) for peer in self.peers}
        for node in nodes:
            if self.mesh and node.name not in self.reflectors:
                continue
            sessions = [peer for peer in self.peers if node.name in peer.nodes]
            found = {carried[peer.name] for peer in sessions}
            if "accepted" in found:
                continue
            if not sessions:
                why = "is a route reflector" if self.mesh else "has no mesh"
                return Unadvertised(f"{node.name} {why}, and no BGPPeer is for it", known=True)
            known = "unknown" not in found
            told = ", ".join(f"{peer.filter_names} of BGPPeer {peer}" for peer in sessions)
            return Unadvertised(
                f"{told} {'rejects' if known else 'may reject'} routes of {network}, and "
                f"{node.name} has no other session",
                known=known,
            )
        return None


@dataclass(frozen=True, slots=True)
class Unadvertised:
    """Why nodes may not learn of a pool's blocks, and whether that is known."""

    reason: str
    known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BgpPeer:
    """A BGPPeer, with what its filters say.

    Attributes:
        address: of a router outside of the cluster; empty where its peers are nodes.
        nodes: the nodes that have a session by it, at either end.
        filters: its filters by name with their ``spec``, in order; None for one that was not read.
    """

    name: str
    address: str = ""
    nodes: frozenset[str] = frozenset()
    filters: tuple[tuple[str, Mapping[str, Any] | None], ...] = ()

    @classmethod
    def of(
        cls,
        raw: Mapping[str, Any],
        *,
        filters: Mapping[str, Mapping[str, Any]] | None,
        nodes: Sequence[Node],
    ) -> BgpPeer | None:
        """Read an API object; None where it makes no IPv4 session that anybody knows of."""
        spec = raw.get("spec") or {}
        address = str(spec.get("peerIP") or "").partition(":")[0]
        far = [one.name for one in nodes if _is_at(one, address)]
        if spec.get("peerSelector"):
            address, far = "", list(_selected(str(spec["peerSelector"]), nodes))
        if not far and not _is_ipv4(address):
            return None
        near = [one.name for one in nodes]
        if spec.get("nodeSelector"):
            near = list(_selected(str(spec["nodeSelector"]), nodes))
        elif spec.get("node"):
            near = [str(spec["node"])]
        named = [str(one) for one in spec.get("filters") or ()]
        return cls(
            name=str(raw["metadata"]["name"]),
            address="" if far else address,
            # Calico adds the reverse of a peering between nodes by itself.
            nodes=frozenset(near) | frozenset(far),
            filters=tuple(
                (one, None if filters is None else filters[one])
                for one in named
                # Calico passes over one that does not exist.
                if filters is None or one in filters
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} ({self.address})" if self.address else self.name

    @property
    def filter_names(self) -> str:
        """Its filters, for messages."""
        return f"BGPFilter {', '.join(name for name, _ in self.filters)}"

    def carries(self, network: IPv4Network, block_size: int) -> Filtered:
        """Return whether a pool's blocks pass a session of this peer, there and back."""
        flows: tuple[_Flow, ...] = ("own", "received") if self.address else get_args(_Flow)
        found = {self._passes(flow, network, block_size) for flow in flows}
        worst: tuple[Filtered, ...] = ("rejected", "unknown", "accepted")
        return next(one for one in worst if one in found)

    def advertises(self, network: IPv4Network, block_size: int) -> Filtered:
        """Return whether a node advertises its blocks of a pool to this peer."""
        return self._passes("own", network, block_size)

    def _passes(self, flow: _Flow, network: IPv4Network, block_size: int) -> Filtered:
        perhaps: set[str] = set()
        for _, spec in self.filters:
            if spec is None:
                return "unknown"
            for rule in spec.get("importV4" if flow == "received" else "exportV4") or ():
                matched, action = _matched(rule, flow, network, block_size), str(rule.get("action"))
                if matched == "none":
                    continue
                if action == "Reject" and matched != "unknown":
                    # Also where only some blocks match: pods in these would be cut off.
                    return "unknown" if "Accept" in perhaps else "rejected"
                if action == "Accept" and matched == "all":
                    return "accepted" if perhaps <= {"Accept"} else "unknown"
                perhaps.add(action)
        return "accepted" if perhaps <= {"Accept"} else "unknown"


#: What of a rule is understood here: the rest is about what a route has gathered on its way.
_UNDERSTOOD = {"cidr", "matchOperator", "prefixLength", "source", "action", "operations"}


def _matched(
    rule: Mapping[str, Any], flow: _Flow, network: IPv4Network, block_size: int
) -> _Blocks:
    """Which of a pool's blocks a rule is about."""
    blocks = _of_cidr(rule, network, block_size)
    source = rule.get("source")
    if blocks == "none" or (source == "RemotePeers" and flow == "own"):
        return "none"
    set_ = {key for key, value in rule.items() if value not in (None, "", [], {})}
    if set_ - _UNDERSTOOD or source not in (None, "", "RemotePeers"):
        return "unknown"
    return blocks if rule.get("action") in ("Accept", "Reject") else "unknown"


def _of_cidr(rule: Mapping[str, Any], network: IPv4Network, block_size: int) -> _Blocks:
    operator, lengths = rule.get("matchOperator"), rule.get("prefixLength")
    if not rule.get("cidr") and not operator:
        return "all"
    try:
        cidr = IPv4Network(str(rule.get("cidr")), strict=False)
        lowest = max(cidr.prefixlen, int((lengths or {}).get("min") or 0))
        highest = int(32 if (most := (lengths or {}).get("max")) is None else most)
    except (ValueError, TypeError, AttributeError):
        return "unknown"
    if operator in ("In", "NotIn"):
        within = network.overlaps(cidr) and lowest <= block_size <= highest
        every = within and network.subnet_of(cidr)
    elif operator in ("Equal", "NotEqual") and not lengths:
        within = cidr.subnet_of(network) and cidr.prefixlen == block_size
        every = within and cidr == network
    else:
        return "unknown"
    if str(operator).startswith("Not"):
        within, every = not every, not within
    return "all" if every else "some" if within else "none"


def _sessions_down(statuses: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for status in statuses:
        node = str((status.get("spec") or {}).get("node") or status["metadata"]["name"])
        bgp = (status.get("status") or {}).get("bgp") or {}
        for peer in bgp.get("peersV4") or ():
            if peer.get("state") not in (None, "Established"):
                yield f"{node} to {peer.get('peerIP')}: {peer['state']}"


def _selected(selector: str, nodes: Iterable[Node]) -> Iterator[str]:
    try:
        yield from (node.name for node in nodes if selects(selector, node.labels))
    except SelectorError:
        return


def _is_at(node: Node, address: str) -> bool:
    own = str(node.interface.ip) if node.interface is not None else ""
    return address in {own, node.internal_ip} - {""}


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True

"""What Calico's BGP is configured to: the mesh of the nodes, and their peers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico.selectors import SelectorError, selects

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Bgp:
    """BGP as Calico's objects configure it.

    Attributes:
        mesh: whether every node peers with every other; Calico's default.
        programs_routes: ``BGPConfiguration.spec.programClusterRoutes``; empty where unset.
        peers_outside: the BGPPeers that are routers outside the cluster, with their addresses.
        node_peers: the BGPPeers by which nodes peer with nodes: route reflectors.
        filters: the BGPFilters that a peer names, with the peer.
        down: sessions that a CalicoNodeStatus shows as not established.
    """

    mesh: bool = True
    programs_routes: str = ""
    peers_outside: tuple[str, ...] = ()
    node_peers: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    down: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        configurations: Iterable[Mapping[str, Any]],
        peers: Sequence[Mapping[str, Any]],
        statuses: Iterable[Mapping[str, Any]],
        nodes: Sequence[Node],
    ) -> Bgp:
        """Read BGPConfigurations, BGPPeers and CalicoNodeStatuses, as the API gave them."""
        spec: Mapping[str, Any] = next(
            (
                one.get("spec") or {}
                for one in configurations
                if one["metadata"]["name"] == "default"
            ),
            {},
        )
        own = {str(node.interface.ip) for node in nodes if node.interface is not None}
        own |= {node.internal_ip for node in nodes}
        outside, inside = [], []
        for peer in peers:
            name, told = str(peer["metadata"]["name"]), peer.get("spec") or {}
            address = str(told.get("peerIP") or "").partition(":")[0]
            if told.get("peerSelector"):
                if _any_selected(str(told["peerSelector"]), nodes):
                    inside.append(name)
            elif address in own:
                inside.append(name)
            elif _is_ipv4(address):
                # IPv6 sessions carry IPv6 routes.
                outside.append(f"{name} ({address})")
        return cls(
            mesh=spec.get("nodeToNodeMeshEnabled") is not False,
            programs_routes=str(spec.get("programClusterRoutes") or ""),
            peers_outside=tuple(outside),
            node_peers=tuple(inside),
            filters=tuple(
                f"{one} on BGPPeer {peer['metadata']['name']}"
                for peer in peers
                for one in (peer.get("spec") or {}).get("filters") or ()
            ),
            down=tuple(_sessions_down(statuses)),
        )


def _sessions_down(statuses: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for status in statuses:
        node = str((status.get("spec") or {}).get("node") or status["metadata"]["name"])
        bgp = (status.get("status") or {}).get("bgp") or {}
        for peer in bgp.get("peersV4") or ():
            if peer.get("state") not in (None, "Established"):
                yield f"{node} to {peer.get('peerIP')}: {peer['state']}"


def _any_selected(selector: str, nodes: Iterable[Node]) -> bool:
    try:
        return any(selects(selector, node.labels) for node in nodes)
    except SelectorError:
        return False


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True

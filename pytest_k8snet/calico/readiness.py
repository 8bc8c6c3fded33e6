"""Whether the nodes under test are ready for a mode before there are pods to ask about."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Network, ip_network
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_k8snet.calico.installation import V1, V3, ApiGroup, Installation, IPPool, calico_path
from pytest_k8snet.calico.kernel import (
    NodeState,
    Prober,
    Question,
    device_mismatches,
    route_mismatches,
    vxlan_peer_mismatches,
)
from pytest_k8snet.calico.modes import CalicoMode, Family, families_of
from pytest_k8snet.calico.path import (
    PathContext,
    PathEnd,
    PathSnapshot,
    Transfer,
    direction_mismatches,
    directions_of,
    return_addresses,
)
from pytest_k8snet.calico.pools import pool_mismatches
from pytest_k8snet.cluster.nodes import list_nodes
from pytest_k8snet.errors import ForbiddenError, NotFoundError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.nodes import Node


#: The node annotation by which calico-node tells its tunnel address, per family.
_TUNNEL_ANNOTATIONS: dict[Family, str] = {
    "vxlan": "projectcalico.org/IPv4VXLANTunnelAddr",
    "ipip": "projectcalico.org/IPv4IPIPTunnelAddr",
}


class NodeReadiness:
    """Looks at the nodes under test.

    Attributes:
        seen: these nodes as they were last read, by name: calico-node annotates them anew when
            pools come and go.
    """

    def __init__(self, api: Api, *, nodes: Sequence[Node], prober: Prober) -> None:
        self._api = api
        self._nodes = {node.name: node for node in nodes}
        self._prober = prober
        self.seen: dict[str, Node] = dict(self._nodes)

    def mismatches(
        self,
        installation: Installation,
        modes: Collection[CalicoMode],
        *,
        pool: IPPool | None = None,
        group: ApiGroup | None = None,
        blocks: Mapping[str, IPv4Network] = MappingProxyType({}),
    ) -> list[str]:
        """What is still missing for pods to be made in these modes.

        Args:
            installation: with the pools as they shall be.
            modes: the modes that were just written.
            pool: the pool that is flipped in place.
            group: the group that this pool is read through.
            blocks: its blocks, as of :meth:`blocks`; their routes are looked at, too.
        """
        if pool is not None and group is not None:
            wrong = pool_mismatches(self._api, group, pool.name, pool.mode)
            if wrong:
                return wrong
        required = families_of(modes)
        mismatches = self._annotation_mismatches(required, installation)
        destinations = {
            name: tuple(str(one[-1]) for other, one in blocks.items() if other != name)
            for name in self._nodes
        }
        answers = self._prober.ask(
            {
                name: Question(destinations=destinations[name])
                for name in self._nodes
                if self._prober.can_ask(name)
            }
        )
        mismatches += [f"{node}: {why}" for node, why in answers.missing.items()]
        node_states = {
            name: NodeState(node=self._nodes[name], kernel=state)
            for name, state in answers.states.items()
        }
        flow_based = installation.dataplane == "eBPF"
        for node_state in node_states.values():
            mismatches += device_mismatches(
                node_state,
                required=required,
                allowed=installation.families(),
                flow_based=flow_based,
            )
        for sender, receiver in _pairs(node_states):
            if "vxlan" in required and not flow_based:
                mismatches += vxlan_peer_mismatches(sender, receiver)
            block = blocks.get(receiver.node.name)
            if block is not None and pool is not None and not flow_based:
                path = pool.mode.path(sender.node.same_subnet(receiver.node))
                mismatches += route_mismatches(path, str(block[-1]), sender, receiver)
        return mismatches

    def _annotation_mismatches(
        self, required: Collection[Family], installation: Installation
    ) -> list[str]:
        mismatches = []
        # Only these: it is asked at every look, and a cluster may have thousands.
        hostnames = {node.hostname for node in self._nodes.values()}
        self.seen = {node.name: node for node in list_nodes(self._api, hostnames=hostnames)}
        for node in self.seen.values():
            for family, annotation in _TUNNEL_ANNOTATIONS.items():
                address = node.annotations.get(annotation)
                if family in required and not address:
                    mismatches.append(f"{node.name} has no {family.upper()} tunnel address yet")
                elif address and family not in installation.families():
                    mismatches.append(f"{node.name} still has {family.upper()} address {address}")
        return mismatches

    def blocks(self, installation: Installation, pool: IPPool) -> dict[str, IPv4Network]:
        """One block of a pool per node under test, as far as the API tells.

        A mode moves none of them, so once is enough.
        """
        group = V3 if installation.shape == "C" else V1
        try:
            blocks = self._api.list(calico_path(group, "ipamblocks"))
        except (ForbiddenError, NotFoundError):
            return {}
        found: dict[str, IPv4Network] = {}
        for block in blocks:
            spec = block.get("spec") or {}
            network = ip_network(str(spec.get("cidr")), strict=False)
            node = str(spec.get("affinity") or "").removeprefix("host:")
            if (
                node in self._nodes
                and isinstance(network, IPv4Network)
                and network.subnet_of(pool.cidr)
            ):
                found.setdefault(node, network)
        return found


def _pairs(node_states: dict[str, NodeState]) -> list[tuple[NodeState, NodeState]]:
    return [(a, b) for a in node_states.values() for b in node_states.values() if a is not b]


# -- What to ask two nodes about a pair, and whether their answers are the path that is promised


def pair_questions(client: PathEnd, server: PathEnd) -> dict[str, Question]:
    """The routes that matter to a pair, per node."""
    there = (server.address,)
    back = tuple(return_addresses(client, server))
    if client.node.name == server.node.name:
        return {client.node.name: Question(destinations=there + back, pod_address=_pod(client))}
    return {
        client.node.name: Question(destinations=there, pod_address=_pod(client)),
        server.node.name: Question(destinations=back, pod_address=_pod(server)),
    }


def _pod(end: PathEnd) -> str | None:
    return end.address if end.kind == "pod" else None


def pair_mismatches(snapshot: PathSnapshot, context: PathContext) -> list[str]:
    """What keeps a pair's packets from the promised path, in both directions.

    Nodes without a host-network pod and dataplanes that forward beside the kernel's routes are
    given no mismatch: there the API is all that can be asked.
    """
    unreadable = [
        f"{node}: {why}"
        for node, why in snapshot.missing.items()
        if "no host-network pod" not in why
    ]
    if snapshot.missing or not context.routes_prove:
        return unreadable
    return [
        mismatch
        for direction in directions_of(snapshot, Transfer(), context.pools)
        for mismatch in direction_mismatches(direction, snapshot)
    ]

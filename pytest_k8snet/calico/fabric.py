"""Whether the underlay delivers packets between bare pod addresses. Pure.

No API tells. What counts is what the pool rests on already, BGP with the network outside, or the
user's word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from pytest_k8snet.calico.installation import Installation
from pytest_k8snet.calico.ippool import IPPool
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.cluster.nodes import placement
from pytest_k8snet.errors import ModeUnavailableError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node

#: Fabrics that deliver no packets to addresses that they don't know, whatever BGP says.
_CLOUDS = ("azure", "gce", "aws")
_WHERE = {"same-subnet": "in one subnet", "cross-subnet": "between subnets"}


def learns_pods(installation: Installation) -> bool:
    """Whether the network outside is told where pods are, and can make use of it."""
    return installation.fabric_peering and not _cloud(installation)


def refuse_cut_off(
    installation: Installation, pool: IPPool, mode: CalicoMode, original: CalicoMode
) -> None:
    """Refuse a flip that sends packets bare where the pool has never shown that they arrive.

    All nodes of the cluster count, also those that cannot be under test: the flip hits them too.

    Args:
        installation: what the cluster runs.
        pool: the pool that would be flipped.
        mode: the mode that is wanted.
        original: the mode that the pool was in before the run.

    Raises:
        ModeUnavailableError: pods could lose each other.
    """
    if learns_pods(installation):
        return
    found = _risk(installation, mode, original)
    if found:
        raise ModeUnavailableError(
            f"{mode} on pool {pool.name} could cut the pods of this cluster off from each other",
            found=found,
            remedy="Test the mode with --k8snet-change=dedicated, which touches no other pods, or "
            "confirm that the underlay delivers pod addresses between all nodes: pytest -o "
            "k8snet_fabric_routes_pods=true.",
        )


def _risk(installation: Installation, mode: CalicoMode, original: CalicoMode) -> str:
    bare = [
        same_subnet
        for same_subnet in (False, True)
        if mode.path(same_subnet) == "direct" != original.path(same_subnet)
    ]
    if not bare:
        return ""
    if "nodes" in installation.unknown:
        return f"which nodes there are is unknown: {installation.unknown['nodes']}"
    legs = (leg for same_subnet in bare for leg in _legs(installation.nodes, same_subnet))
    leg = next(legs, None)
    if leg is None:
        return ""
    cloud = _cloud(installation)
    why = (
        f"the provider is {cloud}, whose fabric delivers no unknown addresses"
        if cloud
        else "nothing tells whether the underlay delivers pod addresses there"
    )
    return (
        f"{leg[0].name} -> {leg[1].name}, {_WHERE.get(placement(*leg), 'of an unknown subnet')}, "
        f"would go direct instead of by {original.family.upper()}, and {why}"
    )


def _legs(nodes: Sequence[Node], same_subnet: bool) -> Iterator[tuple[Node, Node]]:
    """Senders and receivers; one sender stands for all with the same subnet."""
    senders: dict[IPv4Network | None, Node] = {}
    for node in nodes:
        senders.setdefault(node.interface.network if node.interface else None, node)
    for sender in senders.values():
        for receiver in nodes:
            if receiver is not sender and sender.same_subnet(receiver) is same_subnet:
                yield sender, receiver


def _cloud(installation: Installation) -> str:
    providers = installation.provider.split(",")
    return next((name for name in _CLOUDS if name in providers), "")

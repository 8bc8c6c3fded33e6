"""The two directions of a measured pair, and the path that each is promised. Pure.

One rule makes them all: the pool of the destination address decides, on the sending node; what
lies in no pool, such as a node's own address, is never encapsulated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_k8snet.calico.ippool import IPPool, pool_of
from pytest_k8snet.calico.modes import Path

if TYPE_CHECKING:
    from pytest_k8snet.calico.proof import PathEnd, PathSnapshot, Transfer
    from pytest_k8snet.cluster.nodes import Node

#: Below this, what else runs on the nodes may hide the sample's own bytes.
COUNTABLE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One direction: from whom to whom, to which address, by which path, how much payload."""

    sender: PathEnd
    receiver: PathEnd
    destination: str
    path: Path
    payload_bytes: int

    @property
    def countable(self) -> bool:
        """Whether the device counters can tell whether the payload went this way."""
        return self.payload_bytes >= COUNTABLE_BYTES


def legs(snapshot: PathSnapshot, transfer: Transfer, pools: Sequence[IPPool]) -> tuple[Leg, Leg]:
    """The direction from client to server, and the one back."""
    client, server = snapshot.client, snapshot.server
    return (
        _leg(client, server, server.address, transfer.to_server_bytes, pools),
        _leg(server, client, _return_address(snapshot, pools), transfer.to_client_bytes, pools),
    )


def return_addresses(client: PathEnd, server: PathEnd) -> list[str]:
    """Every address of the client's side that replies may go to.

    It is needed before a state is read, as the route to each has to be asked for.
    """
    addresses = [client.address]
    if client.kind == "pod" and server.kind == "node":
        addresses.append(client.node.internal_ip)
    if client.kind == "node" and server.kind == "pod":
        addresses += [
            client.node.annotations[key]
            for key in (
                "projectcalico.org/IPv4VXLANTunnelAddr",
                "projectcalico.org/IPv4IPIPTunnelAddr",
            )
            if client.node.annotations.get(key)
        ]
    return addresses


def _return_address(snapshot: PathSnapshot, pools: Sequence[IPPool]) -> str:
    client, server = snapshot.client, snapshot.server
    if client.kind == "node" and server.kind == "pod":
        # A node's packet into a tunnel bears the tunnel's own address, and is answered there.
        state = snapshot.states[client.node.name]
        source = state.route(server.address).source
        known = snapshot.states[server.node.name].routes
        return source if source in known else client.address
    if client.kind == "pod" and server.kind == "node":
        pool = pool_of(client.address, pools)
        masqueraded = pool is not None and pool.nat_outgoing
        return client.node.internal_ip if masqueraded else client.address
    return client.address


def path_to(destination: str, sender: Node, receiver: Node, pools: Iterable[IPPool]) -> Path:
    """The path that packets to an address on the receiving node are promised."""
    pool = pool_of(destination, pools)
    if pool is None or sender.name == receiver.name:
        return "direct"
    return pool.mode.path(sender.same_subnet(receiver))


def _leg(
    sender: PathEnd, receiver: PathEnd, destination: str, payload: int, pools: Sequence[IPPool]
) -> Leg:
    return Leg(
        sender=sender,
        receiver=receiver,
        destination=destination,
        path=path_to(destination, sender.node, receiver.node, pools),
        payload_bytes=payload,
    )

"""Which addresses the run's own pools take: sizes from the node count, no overlap. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from ipaddress import AddressValueError, IPv4Address, IPv4Network, ip_network

from pytest_k8snet.calico.ippool import IPPool
from pytest_k8snet.errors import ModeUnavailableError

#: Sixteen addresses per block: enough for a run's pods on a node, as upstream's own tests use.
BLOCK_SIZE = 28
#: Blocks per node: one for its pods, one for its tunnel address, and as many again in reserve,
#: since an address borrowed from another node's block is a path of its own.
_BLOCKS_PER_NODE = 4


def pool_prefix_length(node_count: int) -> int:
    """The prefix length of a pool that has enough blocks for so many nodes."""
    blocks = max(node_count, 2) * _BLOCKS_PER_NODE
    return BLOCK_SIZE - math.ceil(math.log2(blocks))


def lies_in(text: str, network: IPv4Network) -> bool:
    """Whether an address or a network, as text, lies in a network; false of IPv6 and nonsense."""
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        return False
    return isinstance(found, IPv4Network) and found.subnet_of(network)


def choose_networks(
    within: IPv4Network,
    count: int,
    *,
    node_count: int,
    pools: Iterable[IPPool],
    node_addresses: Iterable[str],
    service_networks: Iterable[IPv4Network],
) -> list[IPv4Network]:
    """Cut networks for the run's pools out of a range.

    Other runs' pools in the range are stepped around; anything else in it is refused, since it
    means that the range isn't free on this network.

    Raises:
        ModeUnavailableError: the range overlaps with pools, nodes or services, or is too small.
    """
    others = list(pools)
    for what, network in _occupants(others, node_addresses, service_networks):
        if within.overlaps(network):
            raise ModeUnavailableError(
                f"The range {within} for the run's own pools is not free",
                found=f"it overlaps with {what}",
                remedy="Name a range that this network doesn't use: "
                "pytest -o k8snet_pool_cidr=CIDR.",
            )
    prefix = pool_prefix_length(node_count)
    taken = [pool.cidr for pool in others if pool.run_id]
    chosen: list[IPv4Network] = []
    for candidate in _subnets(within, prefix):
        if len(chosen) == count:
            break
        if not any(candidate.overlaps(network) for network in taken):
            chosen.append(candidate)
    if len(chosen) < count:
        raise ModeUnavailableError(
            f"The range {within} is too small for {count} pools of {node_count} nodes",
            found=f"each takes a /{prefix}; {len(chosen)} fit beside the pools of other runs",
            remedy="Name a larger range: pytest -o k8snet_pool_cidr=CIDR.",
        )
    return chosen


def _subnets(within: IPv4Network, prefix: int) -> Iterator[IPv4Network]:
    if within.prefixlen > prefix:
        return iter(())
    return within.subnets(new_prefix=prefix)


def _occupants(
    pools: Sequence[IPPool],
    node_addresses: Iterable[str],
    service_networks: Iterable[IPv4Network],
) -> Iterator[tuple[str, IPv4Network]]:
    for pool in pools:
        if not pool.run_id:
            yield f"IPPool {pool.name} ({pool.cidr})", pool.cidr
    for address in node_addresses:
        # A node that is just joining has none yet; one of IPv6 alone overlaps with nothing here.
        with suppress(AddressValueError):
            yield f"node address {address}", IPv4Network(IPv4Address(address))
    for network in service_networks:
        yield f"the service addresses {network}", network

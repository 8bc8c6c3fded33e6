"""The addresses of a run's own pools: which are free, and what follows from their place. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import AddressValueError, IPv4Address, IPv4Network, ip_network

from pytest_k8snet.calico.installation import Installation
from pytest_k8snet.errors import ModeUnavailableError

#: Sixteen addresses per block: enough for a run's pods on a node, as upstream's own tests use.
BLOCK_SIZE = 28
#: Blocks per node: one for its pods, one for its tunnel address, and as many again in reserve,
#: since an address borrowed from another node's block is a path of its own.
_BLOCKS_PER_NODE = 4

#: RFC 2544's range for benchmarks.
BENCHMARKING = IPv4Network("198.18.0.0/15")


def choose_networks(
    within: IPv4Network | None,
    count: int,
    prefix: int,
    *,
    installation: Installation,
    node_addresses: Iterable[str],
) -> list[IPv4Network]:
    """Choose networks for the run's pools.

    Without a range that is a free piece of the cluster's own addresses for pods, as kube-proxy
    masquerades what comes from others; else of the range for benchmarks. In a range that is named,
    other runs' pools are stepped around; anything else in it is refused, since it means that the
    range is not free on this network.

    Raises:
        ModeUnavailableError: the range overlaps with pools, nodes or services, or is too small.
    """
    occupants = list(_occupants(installation, node_addresses))
    if within is None:
        taken = [network for _, network in occupants]
        taken += [*installation.node_networks, *(pool.cidr for pool in installation.pools)]
        for range_ in installation.cluster_networks:
            if len(pieces := free_networks(range_, count, prefix, taken)) == count:
                return pieces
        within = BENCHMARKING
    for what, network in occupants:
        if within.overlaps(network):
            raise ModeUnavailableError(
                f"The range {within} for dedicated pools is not free",
                found=f"it overlaps with {what}",
                remedy="Name a range that this network does not use: "
                "pytest -o k8snet_pool_cidr=CIDR.",
            )
    others = [pool.cidr for pool in installation.pools if pool.run_id]
    chosen = free_networks(within, count, prefix, others)
    if len(chosen) < count:
        raise ModeUnavailableError(
            f"The range {within} is too small for {count} pools",
            found=f"each takes a /{prefix}; {len(chosen)} fit beside the pools of other runs",
            remedy="Name a larger range: pytest -o k8snet_pool_cidr=CIDR.",
        )
    return chosen


def free_networks(
    within: IPv4Network, count: int, prefix: int, taken: Iterable[IPv4Network]
) -> list[IPv4Network]:
    """The first networks of a prefix length that overlap with none that is taken."""
    size = 2 ** (32 - prefix)
    start, end = int(within.network_address), int(within.broadcast_address) + 1
    used = sorted((int(one.network_address), int(one.broadcast_address) + 1) for one in taken)
    found: list[IPv4Network] = []
    for low, high in [*used, (end, end)]:
        while start + size <= min(low, end) and len(found) < count:
            found.append(IPv4Network((start, prefix)))
            start += size
        if high > start:
            # On to the next one that begins where such a network can.
            start = -(-high // size) * size
    return found


def masquerade(installation: Installation, address: str) -> str:
    """Why Services see the node's address instead of a pod's; empty if they see the pod's.

    Args:
        installation: what the cluster runs.
        address: the pod's address, or a network of such.
    """
    networks = installation.cluster_networks
    if not networks or any(lies_in(address, network) for network in networks):
        return ""
    return (
        f"{address} lies outside of kube-proxy's clusterCIDR {', '.join(map(str, networks))}, so "
        "what it sends to a Service is masqueraded, and the way back is that to the node"
    )


def pool_prefix_length(under_test: int, *, others: int = 0) -> int:
    """The prefix length of a pool that has enough blocks for so many nodes.

    Args:
        under_test: nodes with the run's pods.
        others: nodes with nothing but a tunnel address of it.
    """
    blocks = max(under_test, 2) * _BLOCKS_PER_NODE + others
    return BLOCK_SIZE - math.ceil(math.log2(blocks))


def lies_in(text: str, network: IPv4Network) -> bool:
    """Whether an address or a network, as text, lies in a network; false of IPv6 and nonsense."""
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        return False
    return isinstance(found, IPv4Network) and found.subnet_of(network)


def _occupants(
    installation: Installation, node_addresses: Iterable[str]
) -> Iterator[tuple[str, IPv4Network]]:
    for pool in installation.pools:
        if not pool.run_id:
            yield f"IPPool {pool.name} ({pool.cidr})", pool.cidr
    for address in node_addresses:
        # A node that is just joining has none yet; one of IPv6 alone overlaps with nothing here.
        with suppress(AddressValueError):
            yield f"node address {address}", IPv4Network(IPv4Address(address))
    for network in installation.service_networks:
        yield f"the service addresses {network}", network

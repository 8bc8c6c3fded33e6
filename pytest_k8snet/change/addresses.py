"""The addresses of a run's own pools: which are free, who gets and who hears of them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from pytest_k8snet.calico.detect import IPAM_TOPICS
from pytest_k8snet.calico.installation import KEPT_FROM_BGP, Installation, ipv4_network
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.routing import programmers
from pytest_k8snet.errors import ModeUnavailableError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node

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
    nodes: Iterable[Node],
) -> list[IPv4Network]:
    """Choose networks for the run's pools.

    Without a range that is a free piece of the cluster's own addresses for pods, as kube-proxy
    masquerades what comes from others; else of the range for benchmarks. In a range that is named,
    other runs' pools are stepped around, and blocks that an older pool has left; anything else in
    it is refused, since it means that the range is not free on this network.

    Raises:
        ModeUnavailableError: the range overlaps with pools, nodes or services, or is too small.
    """
    occupants = list(_occupants(installation, nodes))
    if within is None:
        taken = [network for _, network in occupants]
        taken += [*installation.node_networks, *(pool.cidr for pool in installation.pools)]
        taken += installation.block_networks
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
    others += installation.block_networks
    chosen = free_networks(within, count, prefix, others)
    if len(chosen) < count:
        raise ModeUnavailableError(
            f"The range {within} is too small for {count} pools",
            found=f"each takes a /{prefix}; {len(chosen)} fit beside what is taken",
            remedy="Name a larger range: pytest -o k8snet_pool_cidr=CIDR.",
        )
    return chosen


def free_networks(
    within: IPv4Network, count: int, prefix: int, taken: Iterable[IPv4Network]
) -> list[IPv4Network]:
    """Return the first networks of a prefix length that overlap with none that is taken."""
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
    """Say why Services see the node's address instead of a pod's; empty if they see the pod's.

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
    """Return the prefix length of a pool that has enough blocks for so many nodes.

    Args:
        under_test: nodes with the run's pods.
        others: nodes with nothing but a tunnel address of it.
    """
    blocks = max(under_test, 2) * _BLOCKS_PER_NODE + others
    return BLOCK_SIZE - math.ceil(math.log2(blocks))


def lies_in(text: str, network: IPv4Network) -> bool:
    """Return whether an address or a network lies in another; not of IPv6 and nonsense."""
    found = ipv4_network(text)
    return found is not None and found.subnet_of(network)


def _occupants(
    installation: Installation, nodes: Iterable[Node]
) -> Iterator[tuple[str, IPv4Network]]:
    for pool in installation.pools:
        if not pool.run_id:
            yield f"IPPool {pool.name} ({pool.cidr})", pool.cidr
    for node in nodes:
        for address in node.addresses:
            # A node that is just joining has none; one of IPv6 alone overlaps with nothing here.
            with suppress(AddressValueError):
                yield f"node address {address}", IPv4Network(IPv4Address(address))
        if node.interface is not None:
            # Its router is there, and hosts outside the cluster: a pool would take its routes.
            network = node.interface.network
            yield f"the nodes' own network {network} ({node.name})", network
    for network in installation.service_networks:
        yield f"the service addresses {network}", network
    for network, what in installation.occupied.items():
        yield f"{network} of {what}", network


# -- Whether pods get them from Calico's IPAM -----------------------------------------------------

_KNOW_IPAM = "Permit get on the ConfigMap calico-config, and list on ipamblocks."


def _ipam_unread(installation: Installation) -> str:
    """Why nobody knows which plugin gives pods their addresses."""
    unread = installation.unknown
    return next((f"{topic}: {unread[topic]}" for topic in IPAM_TOPICS if topic in unread), "unread")


def require_known_ipam(installation: Installation, mode: CalicoMode) -> None:
    """Refuse VXLAN in place where host-local IPAM, which has no VXLAN, cannot be ruled out."""
    if mode.family == "vxlan" and installation.ipam == "unknown":
        raise ModeUnavailableError(
            f"It is unknown whether {mode} can work here, so nothing is changed: it needs Calico "
            "IPAM",
            found=_ipam_unread(installation),
            remedy=_KNOW_IPAM,
        )


def require_calico_ipam(installation: Installation, nodes: Sequence[Node]) -> None:
    """Refuse a pool from which no pod would get an address."""
    reason, remedy = "", "Test the modes that pools have already, without --k8snet-change."
    limits = installation.ipam_limits
    if installation.ipam == "HostLocal":
        reason = "the IPAM plugin is host-local: it takes addresses from the node's own range"
    elif limits is None:
        reason = f"IPAMConfig: {installation.unknown.get('IPAMConfig', 'unknown')}"
        remedy = "Permit list on ipamconfigs (docs/rbac.yaml: k8snet-measure)."
    elif not limits.auto_allocate:
        reason = "autoAllocateBlocks of the IPAMConfig is false, so a new pool gets no blocks"
    elif limits.max_blocks_per_host:
        # Per node and in all (``api/pkg/apis/projectcalico/v3/ipamconfig.go``, v3.28 to master);
        # the code is laxer and counts those of one pool, but the limit is somebody's word.
        most, had = limits.max_blocks_per_host, limits.blocks or {}
        full = [one.name for one in nodes if had.get(one.name, 0) >= most]
        # A node that runs anything has a block.
        unread = [one.name for one in nodes if one.name not in had]
        if full or unread:
            reason = f"maxBlocksPerHost of the IPAMConfig is {most}, and " + (
                f"{', '.join(full)} have as many" if full else f"that of {unread[0]} is unknown"
            )
            remedy = "Raise the limit for the test, or go without --k8snet-change."
    lacking = [one.name for one in nodes if one.interface is None and ":" in one.address]
    if not reason and installation.ipv6_pools and not installation.pools:
        # The CNI plugin is then told to assign none (``assign_ipv4``; tigera/operator v1.40,
        # ``pkg/render/node.go``).
        reason = f"all pools are of IPv6: {', '.join(installation.ipv6_pools)}"
    elif not reason and lacking:
        reason = f"{', '.join(lacking)} have no IPv4 address"
    if not reason and installation.ipam == "unknown":
        reason = (
            "neither calico-config nor an IPAM block with pods tells which plugin gives them: "
            f"{_ipam_unread(installation)}"
        )
        remedy = _KNOW_IPAM
    if reason:
        raise ModeUnavailableError(
            "No pod is known to get an address of a pool of the run's own here",
            found=reason,
            remedy=remedy,
        )


# -- Who hears of them by BGP ----------------------------------------------------------------------


def own_networks(
    installation: Installation, nodes: Sequence[Node], within: IPv4Network | None
) -> list[IPv4Network]:
    """Return where the run's own pools will be, as far as it matters to a filter of routes."""
    if any(peer.filters for peer in installation.bgp.peers):
        # Where there is no room, planning the pools says so.
        with suppress(ModeUnavailableError):
            return choose_networks(
                within,
                len(CalicoMode),
                pool_prefix_length(len(nodes)),
                installation=installation,
                nodes=installation.nodes,
            )
    return [within or BENCHMARKING]


def exported(
    installation: Installation, mode: CalicoMode, networks: Sequence[IPv4Network]
) -> tuple[str, ...]:
    """Say to whom BGP tells the addresses of a pool of the run's own."""
    # Where Felix programs the routes, the pool is not exported: nobody needs to learn it by BGP.
    version = installation.version
    can_be_kept = version is not None and version >= KEPT_FROM_BGP
    ours = can_be_kept and "BIRD" not in programmers(installation, mode)
    if installation.backend != "bird" or ours:
        return ()
    told = []
    for peer in installation.bgp.peers_outside:
        found = {peer.advertises(network, BLOCK_SIZE) for network in networks}
        if found != {"rejected"}:
            doubt = "" if found == {"accepted"} else f", unless {peer.filter_names} keeps them back"
            told.append(f"{peer}{doubt}")
    if not told:
        return ()
    return (
        f"BGP tells the addresses of pools in mode {mode} to routers outside the cluster: "
        f"BGPPeer {', '.join(told)}; to keep them from it, give these peers "
        "a BGPFilter that rejects the range of k8snet_pool_cidr"
        + (", or test VXLAN modes only" if can_be_kept else ""),
    )


def kept_from_routers(
    installation: Installation, networks: Sequence[IPv4Network], block_size: int
) -> str:
    """Return which filters keep addresses from the routers outside; empty if none does."""
    kept = [
        f"{peer.filter_names} keeps them from {peer}"
        for peer in installation.bgp.peers_outside
        if any(peer.advertises(network, block_size) == "rejected" for network in networks)
    ]
    return f"; {', '.join(kept)}" if kept else ""

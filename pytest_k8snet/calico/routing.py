"""Who programs the routes of each pool, and what takes them away. Pure.

What one pool is set to decides over the others: an encapsulation that appears anywhere can withdraw
the routes of pools that nobody touches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Network
from itertools import islice
from typing import TYPE_CHECKING, Literal

from pytest_k8snet.calico.installation import (
    BIRD_MAY_LEAVE_ROUTES,
    FELIX_CLUSTER_ROUTES,
    FELIX_OWNS_IPIP,
    Installation,
    IPPool,
)
from pytest_k8snet.calico.modes import CalicoMode, Family
from pytest_k8snet.cluster.nodes import placement

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node

Programmer = Literal["Felix", "BIRD"]


def programmers(installation: Installation, mode: CalicoMode) -> frozenset[Programmer]:
    """Say who programs the routes to the blocks of pools in a mode.

    Nobody leaves the pool without routes; both at once overwrite each other's
    (``design/cluster-route-programming/DESIGN.md``, Calico's master of August 2026).
    """
    if mode.family == "vxlan":
        return frozenset({"Felix"})
    found: set[Programmer] = set()
    if _felix_programs(installation, mode.family):
        found.add("Felix")
    if installation.backend == "bird" and _bird_programs(installation, mode.family):
        found.add("BIRD")
    return frozenset(found)


def _felix_programs(installation: Installation, family: Family) -> bool:
    version, setting = installation.version, installation.felix_cluster_routes
    if version is None or version < FELIX_CLUSTER_ROUTES:
        return False
    if version < FELIX_OWNS_IPIP:
        if setting != "Enabled":
            return False
        return family == "ipip" or not overlay_limit(installation)
    return _covers(setting or "EnabledIPIPOnly", family)


def _bird_programs(installation: Installation, family: Family) -> bool:
    version, setting = installation.version, installation.bgp.programs_routes
    if version is None or version < BIRD_MAY_LEAVE_ROUTES:
        return True
    if version < FELIX_OWNS_IPIP:
        return setting != "Disabled"
    return _covers(setting or "EnabledNoEncapOnly", family)


def _covers(setting: str, family: Family) -> bool:
    kinds = {"ipip": "EnabledIPIPOnly", "none": "EnabledNoEncapOnly"}
    return setting in ("Enabled", kinds.get(family))


def overlay_limit(installation: Installation) -> str:
    """Return what bars Felix from programming Never, before v3.33; empty if nothing does.

    It does so only while nothing is encapsulated anywhere (``felix/dataplane/linux/
    int_dataplane.go``, v3.31 and v3.32: ``newNoEncapManager``).
    """
    version = installation.version
    on = sorted(installation.families()) + (["wireguard"] if installation.wireguard else [])
    if version is None or version >= FELIX_OWNS_IPIP or not on:
        return ""
    return f"; {' and '.join(on)} enabled elsewhere, which bars it before v3.33"


def withdrawn(before: Installation, after: Installation) -> list[IPPool]:
    """Return the pools that lose their routes by a change, though their own mode stays."""
    stay = {pool.name: pool for pool in after.pools}
    return [
        pool
        for pool in before.pools
        if pool.name in stay
        and stay[pool.name].mode is pool.mode
        and programmers(before, pool.mode)
        and not programmers(after, pool.mode)
    ]


def with_pool(installation: Installation, mode: CalicoMode) -> Installation:
    """Return the same with one more pool, of this mode; its addresses matter to nothing here."""
    pool = IPPool(name=f"one more in mode {mode}", cidr=IPv4Network("198.18.0.0/15"), mode=mode)
    return replace(installation, pools=(*installation.pools, pool))


def restarts(before: Installation, after: Installation) -> list[str]:
    """Return what makes every Felix of the cluster restart, in words; empty if nothing does.

    It does when the set of what it has to set up is another than at its start
    (``felix/calc/encapsulation_resolver.go``; routes without encapsulation count from v3.33 on).
    """
    old, new = before.families(), after.families()
    reasons = [f"{family.upper()} gets enabled" for family in sorted(new - old)]
    reasons += [f"{family.upper()} gets disabled" for family in sorted(old - new)]
    if _bare_by_felix(before) != _bare_by_felix(after):
        verb = "get" if _bare_by_felix(after) else "lose"
        reasons.append(f"routes without encapsulation {verb} programmed by Felix")
    return reasons


def _bare_by_felix(installation: Installation) -> bool:
    version = installation.version
    return (
        version is not None
        and version >= FELIX_OWNS_IPIP
        and "Felix" in programmers(installation, CalicoMode.NEVER)
        and any(pool.mode is CalicoMode.NEVER for pool in installation.pools)
    )


def routes_unread(installation: Installation, mode: CalicoMode) -> bool:
    """Return whether what says who programs the routes of a mode could not be read."""
    topics = {"FelixConfigurations", "BGPConfigurations", "BGPPeers"}
    return mode.family != "vxlan" and not topics.isdisjoint(installation.unknown)


def undistributed(installation: Installation, mode: CalicoMode) -> str:
    """Say why no node learns another's blocks of such a pool from BIRD; empty if they may."""
    if not only_by_bgp(installation, mode) or installation.bgp.mesh or installation.bgp.peers:
        return ""
    return "nodeToNodeMeshEnabled of BGPConfiguration default is false, and no BGPPeer is there"


def only_by_bgp(installation: Installation, mode: CalicoMode) -> bool:
    """Return whether nodes know each other's blocks by BGP alone; Felix asks IPAM."""
    return programmers(installation, mode) == {"BIRD"}


# -- Hops between nodes ----------------------------------------------------------------------------

_WHERE = {"same-subnet": "in one subnet", "cross-subnet": "between subnets"}


def new_hops(
    nodes: Sequence[Node], mode: CalicoMode, original: CalicoMode
) -> Iterator[tuple[Node, Node]]:
    """Yield a hop for each node that packets of a pool would cross otherwise than before.

    Both ends of a hop are proven by one, since a connection has two directions.
    """
    for same_subnet in (False, True):
        if mode.path(same_subnet) == original.path(same_subnet):
            continue
        # Receivers by the sender's subnet: two, as one may be the sender itself.
        receivers: dict[IPv4Network | None, list[Node]] = {}
        done: set[str] = set()
        for sender in nodes:
            network = sender.interface.network if sender.interface else None
            if network not in receivers:
                fit = (one for one in nodes if sender.same_subnet(one) is same_subnet)
                receivers[network] = list(islice(fit, 2))
            receiver = next((one for one in receivers[network] if one is not sender), None)
            if sender.name not in done and receiver is not None:
                done |= {sender.name, receiver.name}
                yield sender, receiver


def newly_direct(
    nodes: Sequence[Node], mode: CalicoMode, original: CalicoMode
) -> tuple[Node, Node] | None:
    """Return the first hop that packets of a pool would take bare that are encapsulated now."""
    return next(
        (
            hop
            for hop in new_hops(nodes, mode, original)
            if mode.path(hop[0].same_subnet(hop[1])) == "direct"
        ),
        None,
    )


def in_words(hop: tuple[Node, Node]) -> str:
    """Return a hop, for messages."""
    return f"{hop[0].name} -> {hop[1].name}, {_WHERE.get(placement(*hop), 'of an unknown subnet')}"

"""What Felix and BIRD would make of pools, blocks and nodes: each node's desired kernel state.

Pure: values in, values out. It follows Calico's own rule: the pool of the *destination* address
decides, and it is decided on the *sending* node with the sender's prefix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network

from pytest_k8snet.lab.dataplane.datastore import Datastore, Family, Host, Pool
from pytest_k8snet.lab.dataplane.state import (
    IPIP_DEVICE,
    IPIP_OVERHEAD_BYTES,
    PROTO_BIRD,
    PROTO_BOOT,
    PROTO_FELIX,
    VXLAN_DEVICE,
    VXLAN_OVERHEAD_BYTES,
    IpipDevice,
    NodeState,
    Route,
    Vtep,
    VxlanDevice,
)
from pytest_k8snet.lab.dataplane.underlay import NIC


def pod_mtu(pools: Sequence[Pool], link_mtu_bytes: int) -> int:
    """The MTU of new pods: the smallest of all tunnels in use, wherever they are used."""
    families = {pool.family for pool in pools}
    if "vxlan" in families:
        return link_mtu_bytes - VXLAN_OVERHEAD_BYTES
    if "ipip" in families:
        return link_mtu_bytes - IPIP_OVERHEAD_BYTES
    return link_mtu_bytes


def vxlan_mac(node: str) -> str:
    """The MAC address of a node's ``vxlan.calico``: ``f`` and the start of its name's SHA-1."""
    digest = hashlib.sha1(node.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in b"f" + digest[:5])


def node_state(data: Datastore, name: str) -> NodeState:
    """What one node's kernel should hold.

    Raises:
        KeyError: the cluster has no such node.
    """
    host = data.host(name)
    if host is None:
        raise KeyError(name)
    vxlan = _vxlan_device(data, host)
    return NodeState(
        vxlan=vxlan,
        ipip=_ipip_device(data, host),
        vteps=_vteps(data, host) if vxlan else frozenset(),
        routes=frozenset(_routes(data, host)),
    )


def router_routes(data: Datastore, interfaces: Mapping[IPv4Network, str]) -> frozenset[Route]:
    """What the router learns by BGP: the blocks of pools without encapsulation.

    Args:
        data: the datastore.
        interfaces: the router's interface in each subnet.
    """
    routes = set()
    for destination, owner in _destinations(data):
        pool, host = data.pool_of(destination), data.host(owner)
        if pool is None or host is None or data.owner(pool.family) != "bird":
            continue
        if pool.family == "none":
            device = interfaces[host.address.network]
            gateway = host.address.ip
            routes.add(
                Route(destination=destination, gateway=gateway, device=device, protocol=PROTO_BIRD)
            )
    return frozenset(routes)


def _vxlan_device(data: Datastore, host: Host) -> VxlanDevice | None:
    if "vxlan" not in data.families:
        return None
    return VxlanDevice(
        local=host.address.ip,
        mac=vxlan_mac(host.name),
        address=host.vxlan_tunnel,
        mtu_bytes=data.link_mtu_bytes - VXLAN_OVERHEAD_BYTES,
        parent=NIC,
    )


def _ipip_device(data: Datastore, host: Host) -> IpipDevice | None:
    if "ipip" not in data.families:
        return None
    return IpipDevice(address=host.ipip_tunnel, mtu_bytes=data.link_mtu_bytes - IPIP_OVERHEAD_BYTES)


def _vteps(data: Datastore, host: Host) -> frozenset[Vtep]:
    return frozenset(
        Vtep(mac=vxlan_mac(peer.name), tunnel=peer.vxlan_tunnel, underlay=peer.address.ip)
        for peer in data.hosts
        if peer.name != host.name and peer.vxlan_tunnel is not None
    )


def _destinations(data: Datastore) -> list[tuple[IPv4Network, str]]:
    """Every block and every borrowed address, with the node it leads to."""
    found = [(block.cidr, block.node) for block in data.blocks]
    for block in data.blocks:
        found += [(IPv4Network(address), node) for address, node in block.borrowed.items()]
    return found


def _routes(data: Datastore, host: Host) -> list[Route]:
    routes = []
    for destination, owner in _destinations(data):
        pool = data.pool_of(destination)
        if pool is None:
            continue
        peer = data.host(owner)
        if owner == host.name:
            route = _own_block(data, pool, destination)
        elif peer is None:
            continue
        elif pool.family == "vxlan":
            route = _vxlan_route(data, pool, destination, host, peer)
        elif pool.family == "ipip":
            route = _ipip_route(data, pool, destination, host, peer)
        else:
            route = _direct_route(data, "none", destination, host, peer)
        if route is not None:
            routes.append(route)
    return routes


def _own_block(data: Datastore, pool: Pool, destination: IPv4Network) -> Route | None:
    """Unused addresses of a node's own block must not follow the default route and loop."""
    owner = data.owner(pool.family)
    if destination.prefixlen == 32 or owner == "nobody":
        return None
    return Route(destination=destination, protocol=PROTO_BIRD if owner == "bird" else PROTO_FELIX)


def _vxlan_route(
    data: Datastore, pool: Pool, destination: IPv4Network, host: Host, peer: Host
) -> Route | None:
    if pool.cross_subnet and _same_subnet(host, peer):
        return _felix_direct(destination, peer)
    # Without both ends' tunnel addresses Felix programs nothing: a black hole, not a fallback.
    if host.vxlan_tunnel is None or peer.vxlan_tunnel is None:
        return None
    mtu = data.link_mtu_bytes - VXLAN_OVERHEAD_BYTES
    own_address = destination.prefixlen == 32 and destination[0] == peer.vxlan_tunnel
    return Route(
        destination=destination,
        gateway=None if own_address else peer.vxlan_tunnel,
        device=VXLAN_DEVICE,
        protocol=PROTO_BOOT,
        onlink=not own_address,
        mtu_bytes=mtu if data.behaviour.vxlan_routes_have_mtu else None,
    )


def _ipip_route(
    data: Datastore, pool: Pool, destination: IPv4Network, host: Host, peer: Host
) -> Route | None:
    owner = data.owner("ipip")
    if owner == "nobody":
        return None
    if pool.cross_subnet and _same_subnet(host, peer):
        return _direct_route(data, "ipip", destination, host, peer)
    felix = owner == "felix"
    mtu = data.link_mtu_bytes - IPIP_OVERHEAD_BYTES
    return Route(
        destination=destination,
        gateway=peer.address.ip,
        device=IPIP_DEVICE,
        protocol=PROTO_FELIX if felix else PROTO_BIRD,
        metric=0 if felix else data.behaviour.metric,
        onlink=True,
        mtu_bytes=mtu if felix else None,
    )


def _direct_route(
    data: Datastore, family: Family, destination: IPv4Network, host: Host, peer: Host
) -> Route | None:
    """The route without a tunnel; across subnets BIRD's next hop is the router."""
    owner = data.owner(family)
    if owner == "felix":
        # On the link, whatever the subnet: to another one it leads nowhere, as with Calico.
        return _felix_direct(destination, peer)
    if owner == "nobody":
        return None
    near = _same_subnet(host, peer)
    gateway = peer.address.ip if near else data.routers[host.address.network]
    return Route(
        destination=destination,
        gateway=gateway,
        device=NIC,
        protocol=PROTO_BIRD,
        metric=data.behaviour.metric,
    )


def _felix_direct(destination: IPv4Network, peer: Host) -> Route:
    return Route(
        destination=destination,
        gateway=peer.address.ip,
        device=NIC,
        protocol=PROTO_FELIX,
        onlink=True,
    )


def _same_subnet(host: Host, peer: Host) -> bool:
    return peer.address.ip in host.address.network

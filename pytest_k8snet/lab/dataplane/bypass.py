"""A fault: packets leave by another way than the routing table says. Text pure but ``apply``.

Marked packets look into a table of their own, which ``ip route get`` does not see: what a node
promises and what it does then differ, as with a stray policy rule on a real node.
"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_k8snet.lab.dataplane import netns
from pytest_k8snet.lab.dataplane.datastore import Datastore, Host
from pytest_k8snet.lab.dataplane.felix import node_state
from pytest_k8snet.lab.dataplane.state import BYPASS_MARK, IPIP_DEVICE, VXLAN_DEVICE, Route
from pytest_k8snet.lab.dataplane.underlay import NIC

TABLE = "k8snet-bypass"
_ROUTING_TABLE, _PREFERENCE = 4242, 50


def routes_around(data: Datastore, node: str) -> list[Route]:
    """The other way to each remote block: direct where the routes tunnel, else through a tunnel.

    Direct only within the subnet, and a tunnel only where both ends have one.
    """
    host = data.host(node)
    if host is None:
        return []
    owners = {block.cidr: block.node for block in data.blocks}
    found = []
    for route in sorted(node_state(data, node).routes, key=str):
        peer = data.host(owners.get(route.destination, ""))
        if peer is not None and peer.name != node:
            found.append(_other_way(route, host, peer))
    return [route for route in found if route is not None]


def _other_way(route: Route, host: Host, peer: Host) -> Route | None:
    if route.device != NIC:
        if peer.address.ip not in host.address.network:
            return None
        gateway, device = peer.address.ip, NIC
    elif host.vxlan_tunnel is not None and peer.vxlan_tunnel is not None:
        gateway, device = peer.vxlan_tunnel, VXLAN_DEVICE
    elif host.ipip_tunnel is not None and peer.ipip_tunnel is not None:
        gateway, device = peer.address.ip, IPIP_DEVICE
    else:
        return None
    return Route(destination=route.destination, gateway=gateway, device=device, onlink=True)


def ruleset(routes: Iterable[Route]) -> str:
    """The table that marks what is to take these routes; without routes, no table."""
    blocks = ", ".join(str(route.destination) for route in routes)
    head = f"table ip {TABLE}\ndelete table ip {TABLE}\n"
    if not blocks:
        return head
    mark = f"ip daddr {{ {blocks} }} meta mark set {BYPASS_MARK:#x}"
    return (
        f"{head}table ip {TABLE} {{\n"
        f"chain forwarded {{ type filter hook prerouting priority mangle; {mark}; }}\n"
        f"chain local {{ type route hook output priority mangle; {mark}; }}\n}}\n"
    )


async def apply(namespace: str, routes: list[Route]) -> None:
    """Lead packets around the routing table, or (without routes) stop doing so.

    Raises:
        DataplaneError: the kernel refused.
    """

    def apply_here() -> None:
        netns.output_here(["nft", "-f", "-"], text=ruleset(routes))
        rules = netns.output_here(["ip", "rule", "show", "pref", str(_PREFERENCE)])
        lines = [f"rule del pref {_PREFERENCE}"] if rules.strip() else []
        lines += [f"route replace {route} table {_ROUTING_TABLE}" for route in routes]
        if routes:
            lines.append(
                f"rule add pref {_PREFERENCE} fwmark {BYPASS_MARK:#x} lookup {_ROUTING_TABLE}"
            )
        netns.batch_here(lines)

    await netns.run(namespace, apply_here)

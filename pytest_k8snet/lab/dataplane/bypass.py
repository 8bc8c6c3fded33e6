"""A fault: packets leave by another way than the routing table says. Text pure but ``apply``.

Marked packets look into a table of their own, which ``ip route get`` does not see: what a node
promises and what it does then differ, as with a stray policy rule on a real node.
"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_k8snet.lab.dataplane import netns
from pytest_k8snet.lab.dataplane.datastore import Datastore
from pytest_k8snet.lab.dataplane.state import Route
from pytest_k8snet.lab.dataplane.underlay import NIC

TABLE = "k8snet-bypass"
_ROUTING_TABLE, _PREFERENCE, _MARK = 4242, 50, "0x40000000"


def routes_around(data: Datastore, node: str) -> list[Route]:
    """The direct routes to the tunnelled blocks of a node's own subnet."""
    host = data.host(node)
    routes = []
    for block in data.blocks:
        pool, peer = data.pool_of(block.cidr), data.host(block.node)
        if host is None or peer is None or pool is None or pool.family == "none":
            continue
        if peer.name != node and peer.address.ip in host.address.network:
            gateway = peer.address.ip
            routes.append(Route(destination=block.cidr, gateway=gateway, device=NIC, onlink=True))
    return routes


def ruleset(routes: Iterable[Route]) -> str:
    """The table that marks what is to take these routes; without routes, no table."""
    blocks = ", ".join(str(route.destination) for route in routes)
    head = f"table ip {TABLE}\ndelete table ip {TABLE}\n"
    if not blocks:
        return head
    mark = f"ip daddr {{ {blocks} }} meta mark set {_MARK}"
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
            lines.append(f"rule add pref {_PREFERENCE} fwmark {_MARK} lookup {_ROUTING_TABLE}")
        netns.batch_here(lines)

    await netns.run(namespace, apply_here)

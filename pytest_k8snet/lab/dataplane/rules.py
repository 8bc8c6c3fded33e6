"""Felix's packet rules on a node: NAT for what leaves the pools, and whose tunnels it trusts."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_k8snet.lab.dataplane import netns
from pytest_k8snet.lab.dataplane.datastore import Datastore
from pytest_k8snet.lab.dataplane.state import IPIP_DEVICE, VXLAN_DEVICE, VXLAN_PORT

TABLE = "calico"


def ruleset(data: Datastore) -> str:
    """The whole table as nft reads it; loading it replaces the former one in one step. Pure.

    The same on every node.
    """
    pools = (str(pool.cidr) for pool in data.pools)
    natted = (str(pool.cidr) for pool in data.pools if pool.nat_outgoing)
    hosts = (str(host.address.ip) for host in data.hosts)
    lines = [
        f"table ip {TABLE}",
        f"delete table ip {TABLE}",
        f"table ip {TABLE} {{",
        _set("pools", pools),
        _set("nat-pools", natted),
        _set("hosts", hosts),
        "chain raw-prerouting {",
        "type filter hook prerouting priority raw;",
        f"udp dport {VXLAN_PORT} notrack",
        "ip protocol 4 notrack",
        "}",
        "chain raw-output {",
        "type filter hook output priority raw;",
        f"udp dport {VXLAN_PORT} notrack",
        "ip protocol 4 notrack",
        "}",
        "chain input {",
        "type filter hook input priority filter;",
        "ip protocol 4 ip saddr != @hosts drop",
        f"udp dport {VXLAN_PORT} ip saddr != @hosts drop",
        "}",
        "chain postrouting {",
        "type nat hook postrouting priority srcnat;",
        "ip saddr @nat-pools ip daddr != @pools masquerade",
        # A process of the node chose its source before a service's address was translated: under
        # another address than the tunnel's it would get its answer by another way.
        f'oifname {{ "{VXLAN_DEVICE}", "{IPIP_DEVICE}" }} fib saddr . oif type != local '
        "fib saddr type local masquerade",
        "}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _set(name: str, elements: Iterable[str]) -> str:
    joined = ", ".join(elements)
    inside = f" elements = {{ {joined} }};" if joined else ""
    return f"set {name} {{ type ipv4_addr; flags interval; auto-merge;{inside} }}"


async def apply(namespace: str, text: str) -> None:
    """Load a ruleset into a node's namespace.

    Raises:
        DataplaneError: nft refuses it.
    """
    await netns.output(namespace, ["nft", "-f", "-"], text=text)

"""Calico's outgoing NAT: pods of a NAT pool leave the pools' world under their node's address."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_k8snet.lab.dataplane import netns
from pytest_k8snet.lab.dataplane.datastore import Pool
from pytest_k8snet.lab.dataplane.state import IPIP_DEVICE, VXLAN_DEVICE

TABLE = "calico-nat"


def ruleset(pools: Sequence[Pool]) -> str:
    """The whole table as nft reads it: source in a NAT pool, destination in no pool. Pure."""
    everyone = ", ".join(str(pool.cidr) for pool in pools)
    natted = ", ".join(str(pool.cidr) for pool in pools if pool.nat_outgoing)
    rules = []
    if natted:
        rules.append(f"ip saddr {{ {natted} }} ip daddr != {{ {everyone} }} masquerade")
    # What a process of the node sends to a tunnel under another of the node's addresses (because
    # a service's address was translated after the source was chosen) could not be answered.
    rules.append(
        f'oifname {{ "{VXLAN_DEVICE}", "{IPIP_DEVICE}" }} fib saddr . oif type != local '
        "fib saddr type local masquerade"
    )
    body = "\n".join(rules)
    return (
        f"table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n"
        "chain postrouting {\ntype nat hook postrouting priority srcnat;\n"
        f"{body}\n}}\n}}\n"
    )


async def apply(namespace: str, text: str) -> None:
    """Load a ruleset into a node's namespace.

    Raises:
        DataplaneError: nft refuses it.
    """
    await netns.output(namespace, ["nft", "-f", "-"], text=text)

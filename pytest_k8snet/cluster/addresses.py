"""Which of several addresses stands for a node or a pod. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def prefer_ipv4(addresses: Sequence[str]) -> str:
    """The first IPv4 address, else the first, else nothing.

    Modes are modes of IPv4 pools; on clusters of two families the IPv4 address may be the second.
    """
    return next((one for one in addresses if ":" not in one), "".join(addresses[:1]))

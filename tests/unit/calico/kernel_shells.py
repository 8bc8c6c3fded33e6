"""Shells on nodes whose kernels say what a test wants them to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pytest_k8snet.calico.kernel import KernelState
from pytest_k8snet.cluster.exec import Completed
from pytest_k8snet.tools.ip import Counters, Link, Route


class KernelShell:
    """A shell in a host-network pod, where the command of ``kernel.argv`` tells a given state.

    Attributes:
        text: what the command prints.
        asked: the destinations of each look.
    """

    def __init__(self, state: KernelState) -> None:
        self.text = text_of(state)
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, argv: Sequence[str]) -> Completed:
        self.asked.append(tuple(argv[5:]))
        return Completed(argv=tuple(argv), exit_code=0, stdout=self.text, stderr="", seconds=0.0)


def text_of(state: KernelState) -> str:
    """What the command prints of a state."""
    sections: dict[str, Any] = {
        "links": [_link(one) for one in state.links.values()],
        "neighbours": [{"dst": dst, "lladdr": mac} for dst, mac in state.neighbours.items()],
        "fdb": [{"mac": mac, "dst": dst} for mac, dst in (state.fdb or {}).items()],
        **{f"route {dst}": [_route(route)] for dst, route in state.routes.items()},
        **{f"forward {dst}": [_route(route)] for dst, route in state.forwarded.items()},
    }
    return "".join(f"\x1e{name}\n{json.dumps(body)}\n" for name, body in sections.items())


def _link(link: Link) -> dict[str, Any]:
    addresses = [one.split("/") for one in link.addresses]
    return {
        "ifname": link.name,
        "mtu": link.mtu_bytes,
        "operstate": link.state,
        "address": link.mac,
        "linkinfo": {
            "info_kind": link.kind,
            "info_data": {"id": link.vni, "local": link.local} if link.vni else {},
        },
        "addr_info": [{"local": local, "prefixlen": int(size)} for local, size in addresses],
        "stats64": {"rx": _counters(link.received), "tx": _counters(link.sent)},
    }


def _counters(counters: Counters | None) -> dict[str, int]:
    assert counters is not None
    return {"bytes": counters.bytes, "packets": counters.packets}


def _route(route: Route) -> dict[str, str]:
    found = {"dst": route.destination, "dev": route.device, "gateway": route.gateway}
    return {name: value for name, value in found.items() if value}

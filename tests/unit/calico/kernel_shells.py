"""Shells on nodes whose kernels say what a test wants them to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
        self.asked.append(tuple(argv[6:]))
        return Completed(argv=tuple(argv), exit_code=0, stdout=self.text, stderr="", seconds=0.0)


def text_of(state: KernelState) -> str:
    """What the command prints of a state."""
    answers: dict[str, Any] = {
        "address show": [_link(one) for one in state.links.values()],
        "neighbour show dev vxlan.calico": [
            {"dst": dst, "lladdr": mac} for dst, mac in state.neighbours.items()
        ],
        **{f"route get {dst}": [_route(route)] for dst, route in state.routes.items()},
        **{
            f"route get {dst} from 10.0.0.9 iif cali123": [_route(route)]
            for dst, route in state.forwarded.items()
        },
    }
    return printed(answers, [{"mac": mac, "dst": dst} for mac, dst in (state.fdb or {}).items()])


def printed(answers: Mapping[str, Any], fdb: Any = (), beyond: str = "") -> str:
    """What the command prints where ip answers so to what is asked of it."""
    asked = "".join(f"{command}\n" for command in answers)
    said = "".join(f"{json.dumps(answer)}\n" for answer in answers.values())
    return (
        f"\x1easked\n{asked}\x1ebeyond\n{beyond}\n\x1eanswers\n{said}"
        f"\x1efdb\n{json.dumps(list(fdb))}\n"
    )


def _link(link: Link) -> dict[str, Any]:
    addresses = [one.split("/") for one in link.addresses]
    return {
        "ifname": link.name,
        "mtu": link.mtu_bytes,
        "operstate": link.state,
        "address": link.mac,
        "link_type": link.link_type,
        "link": link.below or None,
        "master": link.master or None,
        "linkinfo": {
            "info_kind": link.kind,
            "info_data": {"id": link.vni, "local": link.local, "port": link.port}
            if link.vni
            else {},
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

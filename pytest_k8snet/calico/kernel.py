"""One node's network state as its kernel tells it: links, counters, routes, neighbours, FDB.

Read by one command in a host-network pod, without privileges; parsed here. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_k8snet.calico.modes import Path
from pytest_k8snet.errors import ToolError, ToolMissingError, quote

#: The devices of the tunnelled paths; Calico gives them these names everywhere.
TUNNEL_DEVICES: dict[Path, str] = {"vxlan": "vxlan.calico", "ipip": "tunl0"}

# Everything in one exec, as each one costs a round trip. Arguments: the address of a pod on this
# node, or "-", and the destinations. A route is looked up as the kernel would forward a packet
# from that pod, because policy rules may tell it apart from the node's own packets.
_SCRIPT = """\
section() { printf '\\036%s\\n' "$*"; }
pod=$1; shift
section links; ip -j -s -d address show || exit
section neighbours; ip -j neighbour show dev vxlan.calico 2>/dev/null
section fdb; bridge -j fdb show dev vxlan.calico 2>/dev/null
device=
if [ "$pod" != - ]; then
  section "route $pod"; ip -j route get "$pod" 2>&1
  device=$(ip -o route get "$pod" | sed -n 's/^[^ ]* dev \\([^ ]*\\) .*/\\1/p')
fi
for destination; do
  section "route $destination"; ip -j route get "$destination" 2>&1
  if [ -n "$device" ]; then
    section "forward $destination"; ip -j route get "$destination" from "$pod" iif "$device" 2>&1
  fi
done
exit 0
"""


def argv(*, pod_address: str | None, destinations: Sequence[str]) -> list[str]:
    """The command that prints a node's state.

    Args:
        pod_address: a pod on the node whose packets are of interest; None for the node's own.
        destinations: addresses whose routes are of interest.
    """
    return ["sh", "-c", _SCRIPT, "k8snet", pod_address or "-", *dict.fromkeys(destinations)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network device with its counters."""

    name: str
    kind: str
    mtu_bytes: int
    up: bool
    mac: str
    addresses: tuple[str, ...]
    tx_bytes: int
    rx_bytes: int
    tx_packets: int
    rx_packets: int
    #: What ``ip -d`` says of its kind, e.g. ``id``, ``local`` and ``port`` of a VXLAN.
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The kernel's answer to where a packet would go; ``error`` if it has no way."""

    destination: str
    device: str = ""
    gateway: str = ""
    source: str = ""
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return f"{self.destination}: {self.error}"
        via = f" via {self.gateway}" if self.gateway else ""
        return f"{self.destination}{via} dev {self.device}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelState:
    """What one node's kernel said at one moment."""

    node: str
    links: Mapping[str, Link]
    #: The node's own packets, by destination.
    routes: Mapping[str, Route]
    #: Packets forwarded for the pod that was asked for, by destination.
    forwarded: Mapping[str, Route]
    #: On ``vxlan.calico``: tunnel address -> MAC.
    neighbours: Mapping[str, str]
    #: On ``vxlan.calico``: MAC -> node address; None if the image has no ``bridge`` command.
    fdb: Mapping[str, str] | None

    def route(self, destination: str) -> Route:
        """Where a packet to this destination goes: as forwarded for the pod, if that was asked."""
        known = self.forwarded.get(destination) or self.routes.get(destination)
        return known or Route(destination=destination, error="not asked")

    def link_of(self, address: str) -> Link | None:
        """The device that owns an address, e.g. the NIC of the node's own."""
        return next((link for link in self.links.values() if address in link.addresses), None)


def parse(node: str, stdout: str, *, stderr: str = "", exit_code: int = 0) -> KernelState:
    """Read what the command of :func:`argv` printed.

    Raises:
        ToolMissingError: the image has no ``ip`` that can print JSON.
        ToolError: the output cannot be read.
    """
    sections = dict(_sections(stdout))
    if not sections.get("links", "").startswith("["):
        raise ToolMissingError(
            f"The state of node {node} cannot be read: no 'ip' with JSON output in the image",
            found=stderr or stdout or f"exit code {exit_code}",
            remedy="Use a probe image with iproute2 (busybox's ip is not enough).",
        )
    try:
        return KernelState(
            node=node,
            links={link.name: link for link in map(_link, json.loads(sections["links"])) if link},
            routes=_routes(sections, "route "),
            forwarded=_routes(sections, "forward "),
            neighbours=_neighbours(sections.get("neighbours", "")),
            fdb=_fdb(sections.get("fdb", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ToolError(
            f"The state of node {node} cannot be understood",
            found=f"{exc!r} in: {quote(stdout, 400)}",
            remedy="Check the version of iproute2 in the probe image.",
        ) from None


def _sections(stdout: str) -> list[tuple[str, str]]:
    pieces = stdout.split("\x1e")[1:]
    return [(head.strip(), body.strip()) for head, _, body in (p.partition("\n") for p in pieces)]


def _link(entry: Mapping[str, Any]) -> Link | None:
    if "ifname" not in entry:  # ip prints {} for what a filter left out
        return None
    # Containers without statistics support have neither key.
    stats = entry.get("stats64") or entry.get("stats") or {}
    received, sent = stats.get("rx") or {}, stats.get("tx") or {}
    info = entry.get("linkinfo") or {}
    return Link(
        name=str(entry["ifname"]),
        kind=str(info.get("info_kind", "")),
        mtu_bytes=int(entry["mtu"]),
        up="UP" in (entry.get("flags") or ()),
        mac=str(entry.get("address", "")),
        addresses=tuple(
            str(one["local"]) for one in entry.get("addr_info") or () if one.get("local")
        ),
        tx_bytes=int(sent.get("bytes", 0)),
        rx_bytes=int(received.get("bytes", 0)),
        tx_packets=int(sent.get("packets", 0)),
        rx_packets=int(received.get("packets", 0)),
        info=info.get("info_data") or {},
    )


def _routes(sections: Mapping[str, str], prefix: str) -> dict[str, Route]:
    return {
        name.removeprefix(prefix): _route(name.removeprefix(prefix), body)
        for name, body in sections.items()
        if name.startswith(prefix)
    }


def _route(destination: str, body: str) -> Route:
    if not body.startswith("["):
        return Route(destination=destination, error=body or "no answer")
    entries = json.loads(body)
    entry = entries[0] if entries else {}
    if entry.get("type") in ("blackhole", "unreachable", "prohibit"):
        return Route(destination=destination, error=str(entry["type"]))
    return Route(
        destination=destination,
        device=str(entry.get("dev", "")),
        gateway=str(entry.get("gateway", "")),
        source=str(entry.get("prefsrc", "")),
    )


def _neighbours(body: str) -> dict[str, str]:
    if not body.startswith("["):
        return {}
    return {
        str(entry["dst"]): str(entry["lladdr"])
        for entry in json.loads(body)
        if "dst" in entry and "lladdr" in entry
    }


def _fdb(body: str) -> dict[str, str] | None:
    if not body.startswith("["):
        return None
    return {
        str(entry["mac"]): str(entry["dst"])
        for entry in json.loads(body)
        if "mac" in entry and "dst" in entry
    }

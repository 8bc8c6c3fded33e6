"""Routes, links and their counters, read from iproute2's ``ip -j``. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from pytest_k8snet.errors import K8sNetError, ToolError, quote
from pytest_k8snet.tools.tool import UNREADABLE, Section, printable, start_failure

#: Route types that drop a packet instead of sending it.
_DEAD_TYPES = frozenset({"blackhole", "unreachable", "prohibit"})


class NoRouteError(ToolError):
    """The kernel has no way to the address, or a route that drops what goes there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The way that the kernel would send a packet; ``error`` where it has none.

    Attributes:
        destination: the address asked for.
        device: the device it leaves by.
        gateway: the next hop; empty where the destination is on the link.
        source: the source address it would get; empty where the kernel did not say.
        others: the other devices that packets may leave by, where the route has several next hops.
        encap: what the route itself puts packets into (``mpls``, ``seg6``, ...); empty if nothing.
    """

    destination: str
    device: str = ""
    gateway: str = ""
    source: str = ""
    others: tuple[str, ...] = ()
    encap: str = ""
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return f"{self.destination}: {self.error}"
        encap = f" encap {self.encap}" if self.encap else ""
        via = f" via {self.gateway}" if self.gateway else ""
        return f"{self.destination}{encap}{via} dev {self.device}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What a device counted in one direction since it came up."""

    bytes: int
    packets: int
    errors: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One network device.

    Attributes:
        kind: ``vxlan``, ``ipip``, ``veth``, ...; empty for a physical one.
        link_type: what its frames are: ``ether``, ``loopback``, ``ppp``, ...
        state: the operational state, e.g. ``UP``; tunnels say ``UNKNOWN`` when they work.
        addresses: with prefix length; only from ``address show``.
        received: None where the device has no statistics.
        sent: None where the device has no statistics.
        below: the device that it lies on or is tied to; empty where that is not in this namespace.
        master: the bond, team or bridge that it belongs to.
        vni: a VXLAN's network identifier; None for others, and for flow-based ones.
        port: a VXLAN's UDP port; None for others.
        local: the outer address that a tunnel sends from; empty where it has none.
    """

    name: str
    kind: str
    mtu_bytes: int
    state: str
    mac: str
    link_type: str = "ether"
    addresses: tuple[str, ...] = ()
    received: Counters | None = None
    sent: Counters | None = None
    below: str = ""
    master: str = ""
    vni: int | None = None
    port: int | None = None
    local: str = ""

    @property
    def tunnels(self) -> bool:
        """Whether it puts packets into other packets, as its kind or the type of frames tells."""
        framed = ("ether", "infiniband", "loopback", "")
        return self.kind in _TUNNELS or (self.kind in _HARDWARE and self.link_type not in framed)


def parse_route(text: str, address: str) -> Route:
    """Read what ``ip -j route get ADDRESS`` printed, with or without ``fibmatch``.

    Args:
        text: what ip printed, or said of why it failed.
        address: the destination.

    Raises:
        NoRouteError: there is no way to the address.
        ToolError: the output cannot be read.
        ToolMissingError: there is no ``ip``.
    """
    for entry in _entries(text, asked=f"the route to {address}"):
        kind = entry.text("type") or "unicast"
        if kind in _DEAD_TYPES:
            raise _no_route(address, f"a {kind} route")
        hops = list(entry.sections("nexthops")) or [entry]
        first = hops[0]
        device = first.text("dev")
        if not device:
            break
        if not _covers(entry.text("dst") or "", address):
            raise _not_ip(f"asked for {address}, it answered for {entry.text('dst')}")
        return Route(
            destination=address,
            device=device,
            gateway=first.text("gateway") or first.section("via").text("host") or "",
            source=entry.text("prefsrc") or "",
            others=tuple(other for hop in hops[1:] if (other := hop.text("dev"))),
            encap=next((encap for hop in hops if (encap := hop.text("encap"))), ""),
        )
    raise _not_ip(f"no device in the route to {address}: {quote(text, 200)}")


def _covers(found: str, address: str) -> bool:
    """Whether a route is one to an address; true where its destination is a word."""
    try:
        return ip_address(address) in ip_network(found, strict=False)
    except ValueError:
        return True


def parse_links(text: str, *, stderr: str = "", exit_code: int | None = None) -> dict[str, Link]:
    """Read what ``ip -j -d -s link show`` or ``ip -j -d -s address show`` printed, by name.

    Args:
        text: what ip printed.
        stderr: what it said beside.
        exit_code: of ip; None where it is not known.

    Raises:
        ToolError: the output cannot be read.
        ToolMissingError: there is no ``ip``.
    """
    entries = _entries(text, stderr, exit_code, asked="the network devices")
    links = [_link(entry, name) for entry in entries if (name := entry.text("ifname"))]
    return {link.name: link for link in links}


def _link(entry: Section, name: str) -> Link:
    # ``stats`` has 32-bit counters, which a test of ten seconds can wrap on a fast link.
    statistics = entry.section("stats64") or entry.section("stats")
    data = entry.section("linkinfo").section("info_data")
    return Link(
        name=name,
        kind=entry.section("linkinfo").text("info_kind") or "",
        link_type=entry.text("link_type") or "",
        mtu_bytes=int(entry.required_number("mtu")),
        state=entry.text("operstate") or "",
        mac=entry.text("address") or "",
        addresses=tuple(
            f"{one.text('local')}/{one.count('prefixlen')}"
            for one in entry.sections("addr_info")
            if "local" in one
        ),
        received=_counters(statistics.section("rx")),
        sent=_counters(statistics.section("tx")),
        below=entry.text("link") or data.text("link") or "",
        master=entry.text("master") or "",
        vni=data.count("id") if "external" not in data else None,
        port=data.count("port"),
        local=data.text("local") or "",
    )


def _counters(section: Section) -> Counters | None:
    if not section:
        return None
    return Counters(
        bytes=int(section.required_number("bytes")),
        packets=int(section.required_number("packets")),
        errors=section.count("errors") or 0,
        dropped=section.count("dropped") or 0,
    )


def _entries(
    text: str, stderr: str = "", exit_code: int | None = None, *, asked: str
) -> list[Section]:
    missing = start_failure("ip", stderr, exit_code)
    if missing is not None:
        raise missing
    try:
        entries: Any = json.loads(text)
    except UNREADABLE:
        raise _no_json(text, stderr, exit_code, asked) from None
    if not isinstance(entries, list) or not all(isinstance(one, Mapping) for one in entries):
        raise _not_ip("it is no list of objects")
    # Older versions print {} for what a filter left out.
    return [Section(one, f"[{index}]", _not_ip) for index, one in enumerate(entries) if one]


def _no_json(text: str, stderr: str, exit_code: int | None, asked: str) -> K8sNetError:
    said = printable(stderr.strip() or text.strip())
    if "RTNETLINK answers" in said or "is unreachable" in said:
        return _no_route(asked.removeprefix("the route to "), said)
    if re.search(r"BusyBox|(?:invalid|unrecognized|unknown) option|Option \"-j\"", said):
        return ToolError(
            f"ip cannot tell {asked}: it has no JSON output",
            found=said,
            remedy="use an image with iproute2 4.14 or later; busybox's ip is not enough",
        )
    return ToolError(
        f"ip did not tell {asked}",
        found=said or f"no output, exit status {exit_code}",
        remedy="run the command by hand in the same place; use an image with iproute2",
    )


def _no_route(address: str, found: str) -> NoRouteError:
    return NoRouteError(
        f"there is no route to {address}",
        found=found,
        remedy="check the routes on this node and whether calico-node has programmed them",
    )


def _not_ip(problem: str) -> ToolError:
    return ToolError(
        "ip's JSON is not as iproute2 writes it",
        found=problem,
        remedy="check the version of iproute2 where the command runs",
    )


# -- By which physical devices a device's packets leave the machine --------------------------------

#: Kinds whose frames go out by the device that they lie on.
_STACKED = frozenset({"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"})
#: Kinds whose frames go out by the devices that belong to them.
_GATHERED = frozenset({"bond", "team", "bridge"})
#: What hangs on a bridge without leading out: containers and virtual machines.
_GUESTS = frozenset({"veth", "tun", "netkit"})
#: Kinds that have two ends, the other one perhaps in another network namespace.
_CABLES = frozenset({"veth", "netkit"})
#: Kinds that put packets into other packets.
# fmt: off
_TUNNELS = frozenset({
    "vxlan", "geneve", "bareudp", "gre", "gretap", "erspan", "ip6gre", "ip6gretap", "ip6erspan",
    "ipip", "ip6tnl", "sit", "vti", "vti6", "xfrm", "wireguard", "ovpn", "tun", "gtp", "amt",
    "l2tpeth", "batadv",
})
# fmt: on
#: Kinds of which each is a device of its own hardware: an InfiniBand partition, a switch's port.
_HARDWARE = frozenset({"", "ipoib", "dsa"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Underside:
    """What is below a device.

    Attributes:
        wires: the devices by which its packets leave the machine, or this network namespace;
            empty where that is not known.
        unknown: why it is not known.
        tunnel: whether that is because its packets are put into other packets.
    """

    wires: tuple[str, ...] = ()
    unknown: str = ""
    tunnel: bool = False


def underside(links: Mapping[str, Link], device: str) -> Underside:
    """Resolve a device down to the physical ones: through VLAN, bond, bridge, macvlan and the like.

    What a device is tells its kind, never its name. One whose lower end is in another network
    namespace is an end of this one, as the NIC of a node that is a container itself; beside NICs,
    it leads to a container, of which nobody knows what it does to packets.

    Args:
        links: all devices of the machine, by name.
        device: the one that packets are sent by.
    """
    return _underside(links, device, frozenset())


def _underside(links: Mapping[str, Link], device: str, above: frozenset[str]) -> Underside:
    link = links.get(device)
    if link is None or device in above:
        return Underside(unknown=f"there is no device {device}")
    above |= {device}
    if link.kind in _HARDWARE:
        if link.link_type in ("ether", "infiniband"):
            return Underside(wires=(device,))
        unknown = f"{device} is of type {link.link_type or '?'}"
        return Underside(unknown=unknown, tunnel=link.tunnels)
    if link.tunnels:
        return Underside(unknown=f"{device} is a tunnel of kind {link.kind}", tunnel=True)
    if link.kind in _STACKED:
        below = [link.below] if link.below else []
    elif link.kind in _GATHERED:
        below = _members(links, link)
        if not below:
            return Underside(unknown=f"nothing that leads out belongs to the {link.kind} {device}")
    elif link.kind in _CABLES and not link.below:
        if any(one.kind in _HARDWARE and one.link_type == "ether" for one in links.values()):
            unknown = f"{device} is a cable ({link.kind}) out of a machine that has NICs of its own"
            return Underside(unknown=unknown)
        below = []
    elif link.kind in _CABLES:
        unknown = f"{device} is a cable ({link.kind}) to {link.below} on the same machine"
        return Underside(unknown=unknown)
    else:
        return Underside(unknown=f"{device} is of kind {link.kind}, which is not known")
    if not below:
        return Underside(wires=(device,))
    return _together(_underside(links, one, above) for one in below)


def _members(links: Mapping[str, Link], gathering: Link) -> list[str]:
    members = [one for one in links.values() if one.master == gathering.name]
    if gathering.kind == "bridge":
        leading_out = [one for one in members if one.kind not in _GUESTS]
        # The NIC of a node that is a container itself is a veth, too: the only one, then.
        members = leading_out or (members if len(members) == 1 else [])
    return [one.name for one in members]


def _together(parts: Iterable[Underside]) -> Underside:
    found = list(parts)
    unknown = next((one for one in found if one.unknown), None)
    return unknown or Underside(wires=tuple(wire for one in found for wire in one.wires))

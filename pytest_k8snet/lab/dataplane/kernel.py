"""Reads a node's Calico state from its kernel, and programs what differs.

Truth is the kernel, not memory: whatever anyone did to a route or a device is seen and mended the
next time. Owned are routes of BIRD's and Felix's protocols, whatever goes through the tunnel
devices, and those devices themselves; the routes to local pods belong to ``veth``.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from pytest_k8snet.lab.dataplane import netns, syscalls
from pytest_k8snet.lab.dataplane.difference import commands
from pytest_k8snet.lab.dataplane.state import (
    IPIP_DEVICE,
    PROTO_BIRD,
    PROTO_BOOT,
    PROTO_FELIX,
    VXLAN_DEVICE,
    IpipDevice,
    NodeState,
    Route,
    Vtep,
    VxlanDevice,
)

_PROTOCOLS = {"boot": PROTO_BOOT, "bird": PROTO_BIRD, "kernel": 2, "static": 4}
_OWNED_PROTOCOLS = {PROTO_BIRD, PROTO_FELIX}
# Older kernels forget the inner headers of a segmented packet when they tell its length on the
# wire, so a shaped link would carry too much: let the tunnel send each segment by itself.
_COUNTS_ENCAPSULATED_SEGMENTS = (6, 18)
_TUNNELS = {VXLAN_DEVICE, IPIP_DEVICE}


async def apply(namespace: str, wanted: NodeState) -> int:
    """Make a namespace's kernel hold exactly this state.

    Args:
        namespace: of a node, or of the router.
        wanted: what it should hold.

    Returns:
        How many commands that took; 0 when all was well.

    Raises:
        DataplaneError: the kernel refused something; all else was tried, except perhaps neighbours
            after one that it refused.
    """
    return await netns.run(namespace, _apply_here, wanted)


async def read(namespace: str) -> NodeState:
    """What a namespace's kernel holds."""
    return await netns.run(namespace, _read_here)


def _apply_here(wanted: NodeState) -> int:
    todo = commands(_read_here(), wanted)
    errors: list[netns.DataplaneError] = []
    _try_batch(todo.devices, "ip", errors)
    # Each time, since the pass that made the device may have failed before this.
    if (
        wanted.vxlan is not None
        and syscalls.kernel_version() < _COUNTS_ENCAPSULATED_SEGMENTS
        and syscalls.has_interface(VXLAN_DEVICE)
    ):
        syscalls.disable_segmentation_offload(VXLAN_DEVICE)
    _try_batch(todo.fdb, "bridge", errors)
    _try_batch(todo.routes, "ip", errors)
    if errors:
        found = "\n".join(error.found for error in errors)
        raise netns.DataplaneError(errors[0].problem, found=found, remedy=errors[0].remedy)
    return len(todo)


def _try_batch(lines: list[str], tool: str, errors: list[netns.DataplaneError]) -> None:
    try:
        netns.batch_here(lines, tool)
    except netns.DataplaneError as error:
        errors.append(error)


def _read_here() -> NodeState:
    questions = "route show table main\naddr show\nneigh show nud permanent\n"
    answers = netns.output_here(["ip", "-json", "-details", "-batch", "-"], text=questions)
    fdb = (
        netns.output_here(["bridge", "-json", "fdb", "show", "dev", VXLAN_DEVICE])
        if syscalls.has_interface(VXLAN_DEVICE)
        else "[]"
    )
    routes, links, neighbours = _arrays(answers)
    return parse(routes, links, neighbours, json.loads(fdb))


def _arrays(text: str) -> list[list[dict[str, Any]]]:
    """The JSON arrays that a batch printed one after the other."""
    decoder, found, position = json.JSONDecoder(), [], 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        value, position = decoder.raw_decode(text, position)
        found.append(value)
    return found


def parse(
    routes: list[dict[str, Any]],
    links: list[dict[str, Any]],
    neighbours: list[dict[str, Any]],
    fdb: list[dict[str, Any]],
) -> NodeState:
    """The state in the JSON of ``ip route``, ``ip addr``, ``ip neigh`` and ``bridge fdb``.

    The first three with ``-details``. Pure.
    """
    by_name = {link["ifname"]: link for link in links}
    return NodeState(
        vxlan=_vxlan(by_name.get(VXLAN_DEVICE)),
        ipip=_ipip(by_name.get(IPIP_DEVICE)),
        vteps=_vteps(neighbours, fdb),
        routes=frozenset(filter(_is_owned, map(_route, routes))),
    )


def _route(entry: dict[str, Any]) -> Route:
    protocol = str(entry.get("protocol", "boot"))
    destination = "0.0.0.0/0" if entry["dst"] == "default" else entry["dst"]
    metrics = entry.get("metrics") or [{}]
    return Route(
        destination=IPv4Network(destination),
        gateway=IPv4Address(entry["gateway"]) if "gateway" in entry else None,
        device=entry.get("dev", "") if entry.get("type", "unicast") == "unicast" else "",
        protocol=_PROTOCOLS[protocol] if protocol in _PROTOCOLS else _number(protocol),
        metric=entry.get("metric", 0),
        onlink="onlink" in entry.get("flags", []),
        mtu_bytes=metrics[0].get("mtu"),
    )


def _number(protocol: str) -> int:
    # Names of protocols that no one of ours uses depend on the machine's rt_protos.
    return int(protocol) if protocol.isdigit() else -1


def _is_owned(route: Route) -> bool:
    if route.device in _TUNNELS:
        return route.protocol in (PROTO_BOOT, *_OWNED_PROTOCOLS)
    return route.protocol in _OWNED_PROTOCOLS


def _address(link: dict[str, Any]) -> IPv4Address | None:
    inet = [entry["local"] for entry in link["addr_info"] if entry.get("family") == "inet"]
    return IPv4Address(inet[0]) if inet else None


def _vxlan(link: dict[str, Any] | None) -> VxlanDevice | None:
    if link is None:
        return None
    data = link.get("linkinfo", {}).get("info_data", {})
    return VxlanDevice(
        local=IPv4Address(data.get("local", "0.0.0.0")),
        mac=link["address"],
        address=_address(link),
        mtu_bytes=link["mtu"],
        vni=data.get("id", 0),
        port=data.get("port", 0),
        parent=data.get("link", ""),
        up="UP" in link["flags"],
    )


def _ipip(link: dict[str, Any] | None) -> IpipDevice | None:
    if link is None:
        return None
    return IpipDevice(address=_address(link), mtu_bytes=link["mtu"], up="UP" in link["flags"])


def _vteps(neighbours: list[dict[str, Any]], fdb: list[dict[str, Any]]) -> frozenset[Vtep]:
    """One per entry, not per peer: a half of a pair that is missing must show as missing."""
    found = [
        Vtep(mac=entry["lladdr"], tunnel=IPv4Address(entry["dst"]), underlay=None)
        for entry in neighbours
        if entry.get("dev") == VXLAN_DEVICE and "." in entry["dst"] and "lladdr" in entry
    ]
    found += [
        Vtep(mac=entry["mac"], tunnel=None, underlay=IPv4Address(entry["dst"]))
        for entry in fdb
        if entry.get("dst") and entry.get("ifname", VXLAN_DEVICE) == VXLAN_DEVICE
    ]
    return frozenset(found)

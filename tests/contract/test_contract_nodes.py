"""What a node's kernel holds for each pool: of the recorded cluster, and of this one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from .cluster import Cluster, Object
from .recording import DATA
from .scenes import Scene

_QUESTIONS = {"link": "ip -j -d link", "addr": "ip -j -4 addr", "route": "ip -j -4 route"}
_TUNNELS = {"vxlan.calico": "vxlanMode", "tunl0": "ipipMode"}


def faults(cluster: Object, name: str) -> Iterator[str]:
    """Where a node's kernel is not as Calico makes it, one line for each fault.

    Args:
        cluster: pools, blocks and nodes as the API has them, and the states of kernels by node.
        name: the node.
    """
    state = cluster["states"][name]
    addresses = {
        node["metadata"]["name"]: ip_interface(
            node["metadata"]["annotations"]["projectcalico.org/IPv4Address"]
        )
        for node in cluster["nodes"]
    }
    own = addresses[name]
    devices = {link["ifname"]: link for link in state["link"]}
    routes = {route["dst"]: route for route in state["route"]}
    modes = [pool["spec"] for pool in cluster["pools"] if ":" not in pool["spec"]["cidr"]]
    wanted = any(spec.get("vxlanMode", "Never") != "Never" for spec in modes)
    if wanted != ("vxlan.calico" in devices):
        yield f"{name}: vxlan.calico is {'missing' if wanted else 'there, with no pool for it'}"
    elif wanted:
        yield from _device_faults(cluster, state, name, devices["vxlan.calico"])
    for block in cluster["blocks"]:
        cidr = block["spec"]["cidr"]
        kind, _, home = (block["spec"].get("affinity") or "").partition(":")
        pool = next((spec for spec in modes if _holds(spec["cidr"], cidr)), None)
        if kind != "host" or pool is None or home not in addresses:
            continue
        route = routes.get(cidr)
        if route is None:
            yield f"{name}: no route to {cidr} of {home}"
        elif home == name and route.get("type") != "blackhole":
            yield f"{name}: its own block {cidr} is no blackhole: {route}"
        elif home != name:
            far = addresses[home].ip not in own.network
            tunnel = next(
                (
                    device
                    for device, field in _TUNNELS.items()
                    if pool.get(field) == "Always" or (pool.get(field) == "CrossSubnet" and far)
                ),
                "",
            )
            taken = route["dev"] if route["dev"] in _TUNNELS else ""
            if taken != tunnel:
                yield f"{name}: {cidr} of {home} goes by {route['dev']}, not by {tunnel or 'a NIC'}"


def _device_faults(cluster: Object, state: Object, name: str, device: Object) -> Iterator[str]:
    data = device["linkinfo"]["info_data"]
    for field, value in (("id", 4096), ("port", 4789), ("learning", False)):
        if data[field] != value:
            yield f"{name}: vxlan.calico has {field} {data[field]}, not {value}"
    node = next(node for node in cluster["nodes"] if node["metadata"]["name"] == name)
    told = node["metadata"]["annotations"].get("projectcalico.org/IPv4VXLANTunnelAddr")
    found = [
        entry["local"]
        for address in state["addr"]
        if address.get("ifname") == "vxlan.calico"
        for entry in address["addr_info"]
    ]
    if found != [told]:
        yield f"{name}: vxlan.calico has {found}, and the node says {told}"
    elif not any(
        ip_address(told) in ip_network(block["spec"]["cidr"])
        for block in cluster["blocks"]
        if block["spec"].get("affinity") == f"host:{name}"
    ):
        yield f"{name}: {told} is in no block of the node"


def _holds(pool: str, block: str) -> bool:
    inner, outer = ip_network(block), ip_network(pool)
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


RECORDED: dict[str, Object] = json.loads((DATA / "nodes.json").read_text())


@pytest.mark.parametrize("mode", RECORDED)
def test_the_recorded_nodes_are_as_their_pools_say(mode: str) -> None:
    assert [
        line for name in RECORDED[mode]["states"] for line in faults(RECORDED[mode], name)
    ] == []


def test_a_node_that_is_not_as_its_pools_say_is_found() -> None:
    wrong = {**RECORDED["vxlan-always"], "pools": RECORDED["never"]["pools"]}
    found = "\n".join(faults(wrong, "node1"))
    assert "vxlan.calico is there, with no pool for it" in found
    assert "10.244.104.0/26 of node2 goes by vxlan.calico, not by a NIC" in found


def test_each_node_is_as_its_pools_say(cluster: Cluster) -> None:
    if not cluster.has_nodes:
        pytest.skip("there are no nodes")
    group = "/apis/crd.projectcalico.org/v1"
    if cluster.send("GET", f"{group}/ippools").status != 200:
        pytest.skip("its pools cannot be read by crd.projectcalico.org/v1")
    scene = Scene(cluster, f"{cluster.prefix}-nodes", {}, {})
    space = scene.namespace()
    for name in cluster.nodes:
        scene.pod(space, name, hostNetwork=True, nodeName=name)
    scene.running(space, *cluster.nodes)
    states = {name: _state(cluster, space, name) for name in cluster.nodes}
    seen: Object = {
        "states": states,
        "pools": cluster.get(f"{group}/ippools")["items"],
        "blocks": cluster.get(f"{group}/ipamblocks")["items"],
        "nodes": cluster.get("/api/v1/nodes")["items"],
    }
    assert [line for name in states for line in faults(seen, name)] == []


def _state(cluster: Cluster, namespace: str, pod: str) -> Object:
    found: dict[str, Any] = {}
    for key, words in _QUESTIONS.items():
        command = "&".join(f"command={word}" for word in words.split())
        path = f"{namespace}/pods/{pod}/exec?{command}&stdout=true&stderr=true"
        stream = cluster.stream(path, ["v4.channel.k8s.io"])
        output = b""
        while True:
            opcode, data = stream.recv_data()
            if opcode == 8:
                break
            if data[0] == 1:
                output += data[1:]
        stream.shutdown()
        found[key] = json.loads(output)
    kinds = ("vxlan", "ipip")
    found["link"] = [
        link for link in found["link"] if link.get("linkinfo", {}).get("info_kind") in kinds
    ]
    return found

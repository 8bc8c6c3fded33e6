"""The kernels of a real cluster (Calico 3.33-dev, Kubernetes 1.34), judged in each of its states.

``real-nodes.json`` holds what ``ip`` and ``bridge`` printed on three nodes. The recording has whole
routing tables, of which ``ip route get`` is played here by the longest prefix.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from cluster_shapes import node, pool
from kernel_shells import printed

from pytest_k8snet.calico import kernel
from pytest_k8snet.calico.kernel import NodeState, device_mismatches, route_gaps, route_mismatches
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.path import path_to
from pytest_k8snet.cluster.nodes import Node

RECORDED: Mapping[str, Mapping[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "data" / "calico" / "real-nodes.json").read_text()
)
MODES = {
    "never": CalicoMode.NEVER,
    "vxlan-always": CalicoMode.VXLAN_ALWAYS,
    "vxlan-cross-subnet": CalicoMode.VXLAN_CROSS_SUBNET,
}
NODES = {
    "node1": node("node1", "192.168.0.11/24"),
    "node2": node("node2", "192.168.0.12/24"),
    "node3": node("node3", "192.168.1.13/24"),
}


def looked_up(table: list[dict[str, Any]], address: str) -> list[dict[str, Any]]:
    def network(route: Mapping[str, Any]) -> IPv4Network:
        return IPv4Network("0.0.0.0/0" if route["dst"] == "default" else route["dst"])

    fitting = [route for route in table if IPv4Address(address) in network(route)]
    found = max(fitting, key=lambda route: network(route).prefixlen)
    return [{**found, "dst": address}]


def state_of(state: str, name: str) -> NodeState:
    """What the node's kernel would have answered to a look for its pod."""
    found = RECORDED[state][name]
    destinations = [
        *(other["pod"] for other in RECORDED[state].values()),
        *(one.address for one in NODES.values() if one.name != name),
    ]
    text = printed(
        {
            "address show": found["links"],
            "neighbour show dev vxlan.calico": found["neighbours"],
            **{f"route get {one}": looked_up(found["routes"], one) for one in destinations},
        },
        found["fdb"],
    )
    return NodeState(node=NODES[name], kernel=kernel.parse(name, text))


def facing(sender: Node, receiver: Node, state: str) -> tuple[NodeState, NodeState, str]:
    pod = RECORDED[state][receiver.name]["pod"]
    return state_of(state, sender.name), state_of(state, receiver.name), pod


@pytest.mark.parametrize(("there", "back"), [("node1", "node2"), ("node1", "node3")])
@pytest.mark.parametrize("state", MODES)
def test_each_state_shows_its_modes_path_and_no_other(state: str, there: str, back: str) -> None:
    known = (pool(cidr="10.244.0.0/16", mode=MODES[state]),)
    for sender, receiver in ((NODES[there], NODES[back]), (NODES[back], NODES[there])):
        sending, receiving, pod = facing(sender, receiver, state)
        promised = path_to(pod, sender, receiver, known)
        assert list(route_mismatches(promised, pod, sending, receiving, NODES.values())) == []
        assert list(route_gaps(pod, sending, receiving)) == []
        assert sending.kernel.way(pod, receiver.address).wires == ("eth0",)
        for other in {"direct", "vxlan", "ipip"} - {promised}:
            assert list(route_mismatches(other, pod, sending, receiving, ()))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("state", MODES)
def test_each_state_has_its_modes_devices_and_local_pods(state: str, name: str) -> None:
    one = state_of(state, name)
    family = MODES[state].family
    wanted = [family] if family != "none" else []
    assert device_mismatches(one, required=wanted, allowed=[]) == []
    assert device_mismatches(one, required=["ipip"], allowed=wanted) == [f"{name} has no tunl0 yet"]
    own = RECORDED[state][name]["pod"]
    assert list(route_mismatches("direct", own, one, one, ())) == []
    # Taken as it is read: a NIC that is a cable, with pods' own cables beside it.
    assert one.kernel.links["eth0"].kind == "veth"
    assert IPv4Interface(one.kernel.links["eth0"].addresses[0]) == NODES[name].interface

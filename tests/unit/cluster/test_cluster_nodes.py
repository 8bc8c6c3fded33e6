"""Nodes: read, judged and chosen."""

from __future__ import annotations

import time
from contextlib import suppress
from ipaddress import IPv4Interface
from typing import Any

import pytest

from pytest_k8snet.cluster.nodes import (
    Node,
    Toleration,
    choose_nodes,
    measured_address,
    placement,
    read_node,
    usable_nodes,
)
from pytest_k8snet.errors import NodesError

PLANE = {"node-role.kubernetes.io/control-plane": ""}


def node(
    name: str,
    address: str = "192.168.0.9/24",
    *,
    ready: str = "True",
    labels: dict[str, str] | None = None,
    spec: dict[str, Any] | None = None,
    conditions: list[dict[str, str]] | None = None,
) -> Node:
    ip, _, prefix = address.partition("/")
    annotations = {"projectcalico.org/IPv4Address": address} if prefix else {}
    return read_node(
        {
            "metadata": {"name": name, "labels": labels or {}, "annotations": annotations},
            "spec": spec or {},
            "status": {
                "addresses": [
                    {"type": "Hostname", "address": name},
                    {"type": "InternalIP", "address": ip},
                ],
                "conditions": conditions
                or [{"type": "Ready", "status": ready, "reason": "R", "message": "M"}],
                "nodeInfo": {"kernelVersion": "6.1.0", "kubeletVersion": "v1.32.1"},
            },
        }
    )


def study() -> list[Node]:
    return [
        node("master", "192.168.0.10/24", labels=PLANE),
        node("node1", "192.168.0.11/24"),
        node("node2", "192.168.0.12/24"),
        node("node3", "192.168.1.13/24"),
    ]


def test_a_node_is_read_with_its_subnet_and_its_versions() -> None:
    found = node("node1", "192.168.0.11/24")
    assert found.internal_ip == "192.168.0.11"
    assert str(found.interface) == "192.168.0.11/24"
    assert (found.kernel_version, found.kubelet_version) == ("6.1.0", "v1.32.1")
    assert found.usable


def test_an_ipv4_address_is_preferred_on_a_dual_stack_node() -> None:
    addresses = [
        {"type": "InternalIP", "address": "fd00::1"},
        {"type": "InternalIP", "address": "10.0.0.1"},
    ]
    assert (
        read_node({"metadata": {"name": "a"}, "status": {"addresses": addresses}}).internal_ip
        == "10.0.0.1"
    )


def test_the_senders_prefix_decides_on_one_subnet() -> None:
    wide, narrow = node("a", "10.0.0.1/16"), node("b", "10.0.9.1/24")
    assert wide.same_subnet(narrow)
    assert not narrow.same_subnet(wide)
    assert placement(wide, narrow) == "cross-subnet"


def test_an_unknown_subnet_is_never_taken_for_the_same() -> None:
    known, unknown = node("a", "10.0.0.1/16"), node("b", "10.0.0.2")
    assert known.same_subnet(unknown)
    assert not unknown.same_subnet(known)
    assert placement(known, unknown) == ""
    assert placement(unknown, unknown) == "same-node"


# As ParseCIDROrIP of felixnodeprocessor.go reads it (libcalico-go, v3.31).
@pytest.mark.parametrize(
    ("text", "interface"),
    [("nonsense", None), ("10.0.0.300/24", None), ("", None), ("10.0.0.1", "10.0.0.1/32")],
)
def test_an_annotation_without_prefix_is_a_subnet_of_one(text: str, interface: str | None) -> None:
    raw = {"metadata": {"name": "a", "annotations": {"projectcalico.org/IPv4Address": text}}}
    assert read_node(raw).interface == (IPv4Interface(interface) if interface else None)


@pytest.mark.parametrize(
    ("changes", "trouble"),
    [
        ({"ready": "False"}, "not ready (R, M)"),
        ({"ready": "Unknown"}, "not ready (R, M)"),
        ({"conditions": [{"type": "Other", "status": "True"}]}, "not ready (the kubelet has not"),
        (
            {
                "conditions": [
                    {"type": "DiskPressure", "status": "True"},
                    {"type": "Ready", "status": "False", "message": "no space"},
                ]
            },
            "not ready (no space, DiskPressure)",
        ),
        ({"spec": {"unschedulable": True}}, "cordoned"),
        (
            {"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}},
            "taint gpu=yes:NoSchedule",
        ),
        ({"spec": {"taints": [{"key": "old", "effect": "NoExecute"}]}}, "taint old:NoExecute"),
        (
            {
                "spec": {
                    "unschedulable": True,
                    "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}],
                }
            },
            "cordoned",
        ),
    ],
)
def test_an_unusable_node_says_why(changes: dict[str, Any], trouble: str) -> None:
    found = node("a", **changes)
    assert not found.usable
    assert found.trouble.startswith(trouble)
    assert found.trouble.count(";") == 0


def test_a_node_of_another_system_is_passed_over_and_says_why() -> None:
    system = "kubernetes.io/os"
    foreign = node("a1", labels={system: "windows"}, spec={"unschedulable": True})
    assert foreign.trouble == "runs windows; cordoned"
    # A label may be taken away; the kubelet tells it as well (core/v1 NodeSystemInfo).
    info = {"nodeInfo": {"operatingSystem": "windows"}}
    assert read_node({"metadata": {"name": "a0"}, "status": info}).system == "windows"
    nodes = [node("a2", labels={system: "windows"}), *study(), node("z", labels={system: "linux"})]
    assert [one.name for one in usable_nodes(nodes)] == ["master", "node1", "node2", "node3", "z"]
    with pytest.raises(NodesError, match='the node "a2" cannot be used: runs windows'):
        choose_nodes(nodes, names=["a2", "node1"])


@pytest.mark.parametrize(
    "taint",
    [
        {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
        {"key": "soft", "effect": "PreferNoSchedule"},
    ],
)
def test_taints_that_the_pods_tolerate_do_not_matter(taint: dict[str, str]) -> None:
    assert node("a", spec={"taints": [taint]}).usable


def test_too_few_usable_nodes_names_each_with_its_reason() -> None:
    nodes = [node("a"), node("b", ready="False"), node("c", spec={"unschedulable": True})]
    with pytest.raises(NodesError) as caught:
        usable_nodes(nodes)
    assert caught.value.problem == "2 usable nodes are needed and this cluster has 1"
    assert caught.value.found == (
        "a: usable, 192.168.0.9/24\n"
        "b: not ready (R, M), 192.168.0.9/24\n"
        "c: cordoned, 192.168.0.9/24"
    )


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("any", ("node1", "node2")),
        ("same-subnet", ("node1", "node2")),
        ("cross-subnet", ("node1", "node3")),
        ("same-node", ("node1", "node1")),
    ],
)
def test_the_study_gets_its_workers(wanted: Any, names: tuple[str, str]) -> None:
    for nodes in (study(), study()[::-1]):
        client, server = choose_nodes(nodes, wanted)
        assert (client.name, server.name) == names


def test_names_are_ordered_as_people_count() -> None:
    nodes = [node(f"node{i}") for i in (10, 2, 1)]
    assert [n.name for n in choose_nodes(nodes)] == ["node1", "node2"]


def test_a_control_plane_is_used_when_there_is_nothing_else() -> None:
    assert [n.name for n in choose_nodes(study()[:2])] == ["node1", "master"]


def test_any_takes_two_subnets_where_there_is_no_pair_in_one() -> None:
    assert [n.name for n in choose_nodes(study()[2:])] == ["node2", "node3"]


def test_named_nodes_are_taken_in_their_order() -> None:
    assert [n.name for n in choose_nodes(study(), names=["node3", "master"])] == [
        "node3",
        "master",
    ]


def test_unknown_and_unusable_names_are_explained() -> None:
    nodes = [*study(), node("sick", ready="False")]
    with pytest.raises(NodesError, match='no usable node "nodeX"') as caught:
        choose_nodes(nodes, names=["nodeX", "node1"])
    assert "node2: usable" in caught.value.found
    with pytest.raises(NodesError, match=r'node "sick" cannot be used: not ready \(R, M\)'):
        choose_nodes(nodes, names=["sick", "node1"])


def test_a_placement_that_does_not_exist_is_explained() -> None:
    with pytest.raises(NodesError, match="no two usable nodes lie in different subnets") as caught:
        choose_nodes(study()[:3], "cross-subnet")
    assert "node2: usable, 192.168.0.12/24" in caught.value.found
    with pytest.raises(NodesError, match="in one subnet"):
        choose_nodes(study(), "same-subnet", ["node1", "node3"])
    with pytest.raises(NodesError, match="there are no two usable nodes"):
        choose_nodes(study()[:1])
    with pytest.raises(NodesError, match="no node is usable"):
        choose_nodes([], "same-node")


@pytest.mark.parametrize(
    ("text", "taint", "covered"),
    [
        ("gpu", {"key": "gpu", "value": "x", "effect": "NoSchedule"}, True),
        ("gpu=x", {"key": "gpu", "value": "x", "effect": "NoExecute"}, True),
        ("gpu=y", {"key": "gpu", "value": "x", "effect": "NoSchedule"}, False),
        ("gpu:NoExecute", {"key": "gpu", "effect": "NoSchedule"}, False),
        ("gpu=:NoSchedule", {"key": "gpu", "effect": "NoSchedule"}, True),
        ("*", {"key": "any", "value": "x", "effect": "NoExecute"}, True),
    ],
)
def test_a_toleration_makes_tainted_nodes_usable(
    text: str, taint: dict[str, str], covered: bool
) -> None:
    toleration = Toleration.parse(text)
    raw = {
        "metadata": {"name": "a"},
        "spec": {"taints": [taint]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    assert read_node(raw, [toleration]).usable is covered
    assert not read_node(raw).usable
    assert str(toleration) == text


@pytest.mark.parametrize("text", ["", "=x", "a:Never", "*:NoSchedule"])
def test_what_is_no_taint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no taint"):
        Toleration.parse(text)


def test_zones_choose_the_clients_and_the_servers_node() -> None:
    zone = "topology.kubernetes.io/zone"
    nodes = [node(name, labels={zone: name[0]}) for name in ("a1", "a2", "b1", "b2")]
    assert [n.name for n in choose_nodes(nodes, zones=["b", "a"])] == ["b1", "a1"]
    assert [n.name for n in choose_nodes(nodes, zones=["b"])] == ["b1", "b2"]
    assert [n.name for n in choose_nodes(nodes, "same-node", zones=["b"])] == ["b1", "b1"]
    with pytest.raises(NodesError, match=r"no two usable nodes \(zones asked for: c\)"):
        choose_nodes(nodes, zones=["c"])


@pytest.mark.parametrize("prefix", [32, 24, 13])
def test_thousands_of_nodes_are_chosen_from_at_once(prefix: int) -> None:
    nodes = [
        Node(
            name=f"n{i}",
            internal_ip="",
            interface=IPv4Interface(f"10.{i // 250}.{i % 250}.1/{prefix}"),
        )
        for i in range(5000)
    ]
    began = time.process_time()
    choose_nodes(nodes)
    with suppress(NodesError):
        choose_nodes(nodes, "cross-subnet")
    assert time.process_time() - began < 2


def addressed(calico: str, *status: tuple[str, str]) -> Node:
    return read_node(
        {
            "metadata": {
                "name": "node1",
                "annotations": {"projectcalico.org/IPv4Address": calico} if calico else {},
            },
            "status": {"addresses": [{"type": kind, "address": one} for kind, one in status]},
        }
    )


@pytest.mark.parametrize(
    ("node", "address", "addresses"),
    [
        (
            addressed(
                "192.168.0.11/24", ("InternalIP", "10.9.0.11"), ("ExternalIP", "203.0.113.1")
            ),
            "192.168.0.11",
            ("192.168.0.11", "10.9.0.11", "203.0.113.1"),
        ),
        (addressed("", ("InternalIP", "10.9.0.11")), "10.9.0.11", ("10.9.0.11",)),
        (addressed("", ("ExternalIP", "203.0.113.1")), "203.0.113.1", ("203.0.113.1",)),
        (addressed("10.99.0.1/32"), "10.99.0.1", ("10.99.0.1",)),
        (addressed("autodetected"), "", ()),
    ],
)
def test_a_node_is_known_by_the_address_that_calico_uses(
    node: Node, address: str, addresses: tuple[str, ...]
) -> None:
    assert (node.address, node.addresses) == (address, addresses)


def test_a_node_is_measured_by_an_address_of_its_own_or_not_at_all() -> None:
    nodes = study()
    assert measured_address(nodes[1], nodes) == "192.168.0.11"
    # As docker0's, where calico-node took the first one that it found.
    alike = [node("node1", "172.17.0.1/16"), node("node2", "172.17.0.1/16"), nodes[3]]
    with pytest.raises(NodesError) as caught:
        measured_address(alike[0], alike)
    assert caught.value.problem == (
        "node1 cannot be measured by 172.17.0.1: other nodes have the same address"
    )
    assert caught.value.found == "node1, node2"
    with pytest.raises(NodesError, match="node1 has no address to measure it by"):
        measured_address(addressed(""), nodes)

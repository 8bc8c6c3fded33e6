"""Pairs that lie across subnets, whose prefixes differ, or with a node at one end."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface

import pytest
from cluster_shapes import FAR, NODE1, NODE2, pool
from kernel_shapes import (
    PAYLOAD,
    POD1,
    POD2,
    TRANSFER,
    TUNNEL,
    counted,
    ends,
    grow,
    known_as,
    link,
    state,
)
from path_proofs import NEVER, SENT, VXLAN, VXLAN_CS, contradiction

from pytest_k8snet.calico.modes import CalicoMode, Path
from pytest_k8snet.calico.path import PathEnd, PathSnapshot, Way, judge
from pytest_k8snet.tools.ip import Route
from pytest_k8snet.tools.tool import Payload


def far_pair(prefix: int, there: Path, back: Path) -> PathSnapshot:
    far = replace(FAR, interface=IPv4Interface(f"192.168.1.13/{prefix}"))
    client, server = ends()
    return PathSnapshot(
        client=client,
        server=replace(server, node=far),
        states={
            "node1": state(NODE1, far, there, pod=POD1, to=POD2),
            "node3": state(far, NODE1, back, pod=POD2, to=POD1),
        },
    )


def test_cross_subnet_is_tunnelled_between_subnets() -> None:
    before = far_pair(24, "vxlan", "vxlan")
    states = dict(before.states)
    for name, sent, received in (("node1", SENT, 9000), ("node3", 9000, SENT)):
        links = dict(states[name].links)
        one = grow(grow(links["vxlan.calico"], "sent", sent), "received", received)
        links["vxlan.calico"] = one
        links["eth0"] = grow(grow(links["eth0"], "sent", sent), "received", received)
        states[name] = replace(states[name], links=links)
    after = replace(before, states=states)
    found = judge(VXLAN_CS, before, after, TRANSFER, known_as(VXLAN_CS))
    assert (found.state, found.expected) == ("proven", "vxlan"), found.text


def test_differing_prefixes_make_an_asymmetric_pair_which_is_said() -> None:
    # node3's own prefix contains node1, but node1's does not contain node3.
    before = far_pair(16, "vxlan", "direct")
    small = Payload(to_server_bytes=1000)
    states = dict(before.states)
    ways: tuple[tuple[str, Way], ...] = (("node1", "sent"), ("node3", "received"))
    for name, way in ways:
        links = dict(states[name].links)
        links["vxlan.calico"] = grow(links["vxlan.calico"], way, 9000)
        states[name] = replace(states[name], links=links)
    found = judge(VXLAN_CS, before, replace(before, states=states), small, known_as(VXLAN_CS))
    assert found.state == "proven", found.text
    assert found.text.endswith("; the directions differ, as promised")


def test_between_subnets_a_direct_route_goes_by_whatever_router_there_is() -> None:
    before = far_pair(24, "direct", "direct")
    states = dict(before.states)
    for name, to in (("node1", POD2), ("node3", POD1)):
        by_router = Route(destination=to, device="eth0", gateway="192.168.9.1")
        states[name] = replace(states[name], forwarded={to: by_router})
    routed = replace(before, states=states)
    found = judge(NEVER, routed, routed, Payload(), known_as(NEVER))
    assert (found.state, found.expected) == ("proven", "direct"), found.text


def test_a_host_prefix_of_32_encapsulates_everything_in_cross_subnet() -> None:
    lonely = replace(NODE1, interface=IPv4Interface("192.168.0.11/32"))
    assert VXLAN_CS.path(lonely.same_subnet(NODE2)) == "vxlan"


# With a node at one end, or within one node.


def test_node_to_node_is_direct_in_every_mode() -> None:
    client = PathEnd(kind="node", name="node1", node=NODE1, address=NODE1.internal_ip)
    server = PathEnd(kind="node", name="node2", node=NODE2, address=NODE2.internal_ip)
    states = {
        one.name: replace(
            state(one, other, "direct", pod="-", to=other.internal_ip),
            forwarded={},
            routes={other.internal_ip: Route(destination=other.internal_ip, device="eth0")},
        )
        for one, other in ((NODE1, NODE2), (NODE2, NODE1))
    }
    before = PathSnapshot(client=client, server=server, states=states)
    after = counted(before, "eth0", there=SENT)
    found = judge(VXLAN, before, after, Payload(to_server_bytes=PAYLOAD), known_as(VXLAN))
    assert (found.state, found.expected) == ("proven", "direct"), found.text


NODE_SERVER = PathEnd(kind="node", name="node2", node=NODE2, address=NODE2.internal_ip)
#: What every pod to a node of another one's is sent through, whichever way the answers take.
FORWARD = Payload(to_server_bytes=PAYLOAD)


def to_a_node(seen_as: str, *, asked: bool = True) -> tuple[PathSnapshot, PathSnapshot]:
    """A pod to another node, before and after; the node answers the address that it sees."""
    client, _ = ends()
    tunnelled = seen_as == POD1
    answers = {
        POD1: Route(destination=POD1, device="vxlan.calico", gateway=TUNNEL["node1"]),
        NODE1.address: Route(destination=NODE1.address, device="eth0"),
    }
    if asked:
        answers[seen_as] = answers.get(seen_as, Route(destination=seen_as, device="eth0"))
    one = state(NODE1, NODE2, "direct", pod=POD1, to=NODE2.address)
    to_node = Route(destination=NODE2.address, device="eth0")
    states = {
        "node1": replace(one, forwarded={NODE2.address: to_node}),
        "node2": replace(
            state(NODE2, NODE1, "vxlan", pod="-", to=POD1), forwarded={}, routes=answers
        ),
    }
    before = PathSnapshot(client=client, server=NODE_SERVER, states=states)
    after = counted(before, "eth0", there=SENT)
    return before, counted(after, "vxlan.calico", there=0, back=5000) if tunnelled else after


# natOutgoing alone does not say whether packets to a node are masqueraded: a disabled pool over
# the nodes' network, natOutgoingExclusions and others decide as well. The server saw it.
@pytest.mark.parametrize("nat_outgoing", [True, False])
@pytest.mark.parametrize("nodes_pool", [None, NEVER, VXLAN])
@pytest.mark.parametrize(
    ("seen_as", "back"), [(NODE1.address, "direct"), (POD1, "vxlan"), ("203.0.113.7", "direct")]
)
def test_pod_to_node_goes_direct_and_comes_back_to_whom_the_node_saw(
    nat_outgoing: bool, nodes_pool: CalicoMode | None, seen_as: str, back: str
) -> None:
    before, after = to_a_node(seen_as)
    pools = [pool(mode=VXLAN, natOutgoing=nat_outgoing)]
    if nodes_pool is not None:
        pools.append(pool("no-nat-nodes", "192.168.0.0/24", nodes_pool, disabled=True))
    transfer = replace(FORWARD, client_address=seen_as)
    found = judge(VXLAN, before, after, transfer, known_as(pools=tuple(pools)))
    assert (found.state, found.expected) == ("proven", "direct"), found.text
    assert (found.route[1]["destination"], found.route[1]["expected"]) == (seen_as, back)
    assert (f"node2 sees pod client as {seen_as}" in found.text) == (seen_as != POD1)
    # Whom nobody saw may have been anybody.
    blind = judge(VXLAN, before, after, FORWARD, known_as(pools=tuple(pools)))
    assert (blind.state, blind.text) == (
        "missing",
        "it is not known as whom node2 sees pod client",
    )


def test_an_address_that_showed_in_the_sample_itself_is_judged_by_its_route_afterwards() -> None:
    before, _ = to_a_node("203.0.113.7", asked=False)
    known = to_a_node("203.0.113.7")[0]
    after = counted(known, "eth0", there=SENT)
    transfer = replace(FORWARD, client_address="203.0.113.7")
    found = judge(VXLAN, before, after, transfer, known_as(VXLAN))
    assert found.state == "proven", found.text
    assert "node2 -> node1 direct by eth0; node2 sees" in found.text
    unasked = judge(VXLAN, before, counted(before, "eth0", there=SENT), transfer, known_as(VXLAN))
    assert (unasked.state, unasked.text) == (
        "missing",
        "node2 was not asked how 203.0.113.7 goes",
    )
    idle = replace(transfer, to_client_bytes=PAYLOAD)
    assert "eth0 of node2 sent only 100000 bytes" in contradiction(
        judge(VXLAN, before, after, idle, known_as(VXLAN))
    )


def test_replies_that_take_the_direct_way_though_the_node_saw_the_pod_are_told() -> None:
    before, after = to_a_node(POD1)
    node2 = before.states["node2"]
    direct = Route(destination=POD1, device="eth0", gateway=NODE1.address)
    bent = replace(node2, routes={**node2.routes, POD1: direct})
    lying = replace(before, states={**before.states, "node2": bent})
    transfer = replace(FORWARD, client_address=POD1)
    assert f"node2 sends {direct}, expected dev vxlan.calico" in contradiction(
        judge(VXLAN, lying, after, transfer, known_as(VXLAN))
    )


def test_node_to_pod_is_tunnelled_with_the_tunnels_address_as_its_source() -> None:
    client = PathEnd(kind="node", name="node1", node=NODE1, address=NODE1.internal_ip)
    _, server = ends()
    there = Route(
        destination=POD2,
        device="vxlan.calico",
        gateway=TUNNEL["node2"],
        source=TUNNEL["node1"],
    )
    back = Route(destination=TUNNEL["node1"], device="vxlan.calico", gateway=TUNNEL["node1"])
    one = state(NODE1, NODE2, "vxlan", pod="-", to=POD2)
    other = state(NODE2, NODE1, "vxlan", pod=POD2, to=TUNNEL["node1"])
    states = {
        "node1": replace(one, forwarded={}, routes={**one.routes, POD2: there}),
        "node2": replace(
            other,
            forwarded={TUNNEL["node1"]: back},
            routes={**other.routes, back.destination: back},
        ),
    }
    before = PathSnapshot(client=client, server=server, states=states)
    after = counted(before, "vxlan.calico", there=SENT)
    found = judge(VXLAN, before, after, Payload(to_server_bytes=PAYLOAD), known_as(VXLAN))
    assert (found.state, found.expected) == ("proven", "vxlan"), found.text
    assert found.route[1]["destination"] == TUNNEL["node1"]


def test_two_pods_on_one_node_use_no_wire() -> None:
    client, server = ends()
    server = replace(server, node=NODE1)
    local = Route(destination=POD2, device="cali456")
    one = state(NODE1, NODE2, "direct", pod=POD1, to=POD2)
    alone = replace(
        one,
        links={**one.links, "cali456": link("cali456", mtu=1450)},
        routes={**one.routes, POD2: local},
        forwarded={POD2: local},
    )
    before = PathSnapshot(client=client, server=server, states={"node1": alone})
    found = judge(VXLAN, before, before, TRANSFER, known_as(VXLAN))
    assert (found.state, found.expected) == ("proven", "direct"), found.text
    # Other pods send much by a tunnel; what left and came back is the sample's own.
    sent = grow(alone.links["vxlan.calico"], "sent", 3 * PAYLOAD)
    busy = replace(alone, links={**alone.links, "vxlan.calico": sent})
    later = replace(before, states={"node1": busy})
    assert judge(VXLAN, before, later, TRANSFER, known_as(VXLAN)).state == "proven"
    both = {**alone.links, "vxlan.calico": grow(sent, "received", PAYLOAD)}
    lying = replace(before, states={"node1": replace(alone, links=both)})
    assert "though both pods are on that node" in contradiction(
        judge(VXLAN, before, lying, TRANSFER, known_as(VXLAN))
    )

"""Where nodes' addresses and devices lie otherwise than on one NIC, and what a proof says then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Interface
from typing import Any

import pytest
from cluster_shapes import FAR, NODE1, NODE2, node
from kernel_shapes import PAYLOAD, POD1, POD2, TRANSFER, counted, grow, known_as, link, snapshot
from path_proofs import NEVER, SENT, VXLAN, contradiction, proof

from pytest_k8snet.calico.kernel import KernelState
from pytest_k8snet.calico.path import PathEnd, PathProof, PathSnapshot, WireFinding, judge
from pytest_k8snet.cluster.nodes import Node
from pytest_k8snet.tools.ip import Link, Route
from pytest_k8snet.tools.tool import Payload

BYTES = Payload(to_server_bytes=PAYLOAD)


def kernel(one: Node, other: Node, links: Sequence[Link], device: str, **more: Any) -> KernelState:
    """A node that reaches the other's address by a device."""
    route = Route(destination=other.address, device=device, source=one.address, **more)
    return KernelState(
        node=one.name,
        links={link.name: link for link in links},
        routes={other.address: route},
        forwarded={},
        neighbours={},
        fdb={},
    )


def nodes_by(
    *links: Link, device: str, nodes: tuple[Node, Node] = (NODE1, NODE2), **more: Any
) -> PathSnapshot:
    """Two nodes of the same devices; the address is on the one that is used, unless it says so."""
    owned = any(one.addresses for one in links)

    def of(one: Node, other: Node) -> KernelState:
        given = [
            replace(link, addresses=(f"{one.address}/24",))
            if link.addresses or (not owned and link.name == device)
            else link
            for link in links
        ]
        return kernel(one, other, given, device, **more)

    one, other = nodes
    ends = [PathEnd(kind="node", name=it.name, node=it, address=it.address) for it in nodes]
    states = {one.name: of(one, other), other.name: of(other, one)}
    return PathSnapshot(client=ends[0], server=ends[1], states=states)


def moved(
    before: PathSnapshot, sent_by: dict[str, int], received_by: dict[str, int]
) -> PathSnapshot:
    states = {}
    for end, way, counts in (
        (before.client, "sent", sent_by),
        (before.server, "received", received_by),
    ):
        links = dict(before.states[end.node.name].links)
        for name, size in counts.items():
            links[name] = grow(links[name], way, size)  # type: ignore[arg-type]
        states[end.node.name] = replace(before.states[end.node.name], links=links)
    return replace(before, states=states)


def baseline(before: PathSnapshot, after: PathSnapshot) -> PathProof:
    return judge(None, before, after, BYTES, known_as(VXLAN))


@pytest.mark.parametrize(
    ("links", "device", "wires"),
    [
        # A stable address on lo, to which the fabric has a route.
        ([link("lo", "own", link_type="loopback"), link("eth0")], "eth0", ["eth0"]),
        ([link("eth0.100", kind="vlan", below="eth0"), link("eth0")], "eth0.100", ["eth0"]),
        (
            [link("bond0", kind="bond"), link("a", master="bond0"), link("b", master="bond0")],
            "bond0",
            ["a", "b"],
        ),
        ([link("br0", kind="bridge"), link("eth0", master="br0")], "br0", ["eth0"]),
        ([link("mv0", kind="macvlan", below="eth0"), link("eth0")], "mv0", ["eth0"]),
    ],
    ids=["loopback", "vlan", "bond", "bridge", "macvlan"],
)
def test_the_devices_that_carry_the_bytes_are_counted_wherever_the_address_is(
    links: list[Link], device: str, wires: list[str]
) -> None:
    before = nodes_by(*links, device=device)
    share = SENT // len(wires)
    carried = dict.fromkeys(wires, share)
    found = baseline(before, moved(before, carried, carried))
    assert found.state == "proven", found.text
    over = "" if wires == [device] else f" over {', '.join(wires)}"
    assert found.text.startswith(f"node1 -> node2 direct by {device}{over}, {PAYLOAD} bytes")
    assert found.counters["node1"][wires[0]]["tx_bytes"] == share
    assert f"{' and '.join(wires)} of node1 sent only" in contradiction(
        baseline(before, moved(before, {}, carried))
    )


def test_all_next_hops_of_a_fabric_are_counted() -> None:
    lo = link("lo", "own", link_type="loopback")
    before = nodes_by(lo, link("eth0"), link("eth1"), device="eth0", others=("eth1",))
    after = moved(before, {"eth1": SENT}, {"eth0": SENT // 2, "eth1": SENT // 2})
    found = baseline(before, after)
    assert found.state == "proven", found.text
    assert "direct by eth0 over eth0, eth1" in found.text


def test_what_comes_in_by_another_nic_than_replies_leave_by_has_come_in() -> None:
    before = nodes_by(link("eth0"), link("eth1"), device="eth0")
    found = baseline(before, moved(before, {"eth0": SENT}, {"eth1": SENT}))
    assert found.state == "proven", found.text
    # But what leaves by another than the kernel says has not taken its route.
    assert "eth0 of node1 sent only 0 bytes" in contradiction(
        baseline(before, moved(before, {"eth1": SENT}, {"eth0": SENT}))
    )


def test_where_internal_ip_is_another_that_is_said() -> None:
    managed = [
        replace(one, internal_ip=f"10.9.0.{number}") for number, one in ((11, NODE1), (12, NODE2))
    ]
    before = nodes_by(link("eth0"), device="eth0", nodes=(managed[0], managed[1]))
    found = baseline(before, moved(before, {"eth0": SENT}, {"eth0": SENT}))
    assert found.text.endswith(
        "; node1 is measured at 192.168.0.11, by which Calico reaches it; its InternalIP is "
        "10.9.0.11; node2 is measured at 192.168.0.12, by which Calico reaches it; its "
        "InternalIP is 10.9.0.12"
    )


@pytest.mark.parametrize(
    "top",
    [
        link("eth9", kind="wireguard", link_type="none"),
        link("eth9", kind="vxlan"),
        link("eth9", kind="tun"),
        link("eth9", link_type="ppp"),
    ],
    ids=["wireguard", "vxlan", "tun", "ppp"],
)
def test_a_baseline_through_a_tunnel_is_none(top: Link) -> None:
    before = nodes_by(top, link("eth0", "own"), device="eth9")
    text = contradiction(baseline(before, moved(before, {"eth0": SENT}, {"eth0": SENT})))
    assert (
        "before the sample, node1 sends 192.168.0.12 dev eth9, and a baseline must not go" in text
    )
    on_it = nodes_by(top, link("eth0"), device="eth9")
    assert "192.168.0.11 of node1 is the address of a tunnel, eth9: no baseline" in contradiction(
        baseline(on_it, on_it)
    )


def test_a_baseline_by_calicos_own_tunnel_is_none() -> None:
    nodes = node("node1", "10.244.1.0/32"), node("node2", "10.244.2.0/32")
    tunnel = link("vxlan.calico", kind="vxlan", vni=4096, port=4789)
    before = nodes_by(tunnel, link("eth0"), device="vxlan.calico", nodes=nodes)
    text = contradiction(baseline(before, before))
    assert "10.244.1.0 of node1 is the address of a tunnel, vxlan.calico: no baseline" in text
    assert "node1 sends 10.244.2.0 dev vxlan.calico, expected the node's own NIC (direct)" in text


def test_a_pods_cable_of_any_name_stays_on_the_node() -> None:
    # Felix's interfacePrefix may be another, and its pods are reached all the same.
    plain = snapshot("direct")
    state = plain.states["node1"]
    cable, routed = link("tap7", kind="veth"), Route(destination=POD2, device="tap7")
    alone = replace(
        state,
        links={**state.links, "tap7": cable},
        routes={**state.routes, POD1: replace(routed, destination=POD1), POD2: routed},
        forwarded={POD2: routed, POD1: replace(routed, destination=POD1)},
    )
    server = replace(plain.server, node=plain.client.node)
    before = replace(plain, server=server, states={"node1": alone})
    assert judge(VXLAN, before, before, Payload(), known_as(VXLAN)).state == "proven"
    by_nic = replace(routed, device="eth0", gateway="192.168.0.1")
    bent = replace(alone, forwarded={**alone.forwarded, POD2: by_nic})
    lying = replace(before, states={"node1": bent})
    assert "expected the pod's own device" in contradiction(
        judge(VXLAN, lying, lying, Payload(), known_as(VXLAN))
    )


def test_an_address_that_no_device_has_is_told() -> None:
    before = nodes_by(link("eth0", "own"), device="eth0")
    states = {
        **before.states,
        "node2": replace(before.states["node2"], links={"eth0": link("eth0", "10.9.0.12/24")}),
    }
    text = contradiction(baseline(replace(before, states=states), before))
    assert text.startswith(
        "node2 has no device with the address 192.168.0.12, by which it is to be"
    )


# Devices of other software, whatever they are called.


@pytest.mark.parametrize(
    "device",
    [
        link("flannel.1", kind="vxlan", vni=1, port=8472),
        link("cilium_vxlan", kind="vxlan"),
        link("cilium_host", kind="veth", below="cilium_net"),
        link("weave", kind="bridge"),
        link("genev_sys_6081", kind="geneve"),
        link("eth1", kind="gre", link_type="gre"),
        link("vxlan.calico", kind="geneve"),
        link("eth1", kind="openvswitch"),
        link("wg0", kind="wireguard", link_type="none"),
    ],
    ids=lambda one: f"{one.name}-{one.kind}",
)
@pytest.mark.parametrize("mode", [NEVER, VXLAN])
def test_pods_by_a_device_that_is_not_calicos_are_not_proven(mode: Any, device: Link) -> None:
    # As where another CNI carries pods, and pools of Calico's are left over.
    plain = snapshot("direct")
    states = {}
    for name, to in (("node1", POD2), ("node2", POD1)):
        state = plain.states[name]
        states[name] = replace(
            state,
            links={**state.links, device.name: device},
            forwarded={to: Route(destination=to, device=device.name)},
        )
    before = replace(plain, states=states)
    found = proof(mode, before, counted(before, "vxlan.calico", there=SENT), Payload())
    assert found.state == "missing", found.text
    assert found.text.startswith(f"node1 sends {POD2} dev {device.name}, whose path is not known: ")
    assert "direct" not in found.text


def test_a_tunnel_of_calicos_within_another_tunnel_is_not_proven() -> None:
    plain = snapshot("vxlan")
    states = {
        name: replace(
            state,
            links={**state.links, "wg0": link("wg0", kind="wireguard", link_type="none")},
            routes={
                **state.routes,
                peer.address: Route(destination=peer.address, device="wg0"),
            },
        )
        for (name, state), peer in zip(plain.states.items(), (NODE2, NODE1), strict=True)
    }
    before = replace(plain, states=states)
    found = proof(VXLAN, before, counted(before, "vxlan.calico", there=SENT))
    assert found.state == "missing", found.text
    assert "whose path is not known: wg0 is a tunnel of kind wireguard" in found.text


def test_a_tunnel_whose_packets_no_wire_has_counted_is_told() -> None:
    before = snapshot("vxlan")
    after = counted(before, "vxlan.calico", there=SENT)
    states = {
        name: replace(state, links={**state.links, "eth0": before.states[name].links["eth0"]})
        for name, state in after.states.items()
    }
    assert f"eth0 of node1 sent only 0 bytes, though vxlan.calico sent {SENT}" in contradiction(
        proof(VXLAN, before, replace(after, states=states))
    )


# Rules that look at more than addresses.


def test_few_bytes_prove_no_route_that_holds_for_some_packets_only() -> None:
    plain = snapshot("direct")
    why = "packets with the mark 0x10 take another route: 10.244.2.4 dev wg0"
    doubting = replace(plain.states["node1"], doubts={POD2: why})
    before = replace(plain, states={**plain.states, "node1": doubting})
    few = proof(NEVER, before, before, Payload(to_server_bytes=2000))
    assert (few.state, few.text) == (
        "missing",
        f"too few bytes to tell which of node1's routes to {POD2} they took: {why}",
    )
    assert proof(NEVER, before, None, TRANSFER).state == "proven"


def test_a_nodes_own_address_is_never_tunnelled_in_whatever_pool_it_lies() -> None:
    far = replace(FAR, interface=IPv4Interface("10.244.9.9/32"))
    before = nodes_by(link("eth0"), device="eth0", nodes=(NODE1, far))
    found = baseline(before, moved(before, {"eth0": SENT}, {"eth0": SENT}))
    assert (found.state, found.expected) == ("proven", "direct"), found.text


# What puts packets into others though their route names the NIC, and what is not a lie.


def forwarding(**changes: Any) -> PathSnapshot:
    """Two pods sent direct, with something else about the first node's route."""
    plain = snapshot("direct")
    one = plain.states["node1"]
    bent = replace(one, forwarded={POD2: replace(one.forwarded[POD2], **changes)})
    return replace(plain, states={**plain.states, "node1": bent})


@pytest.mark.parametrize("encap", ["mpls", "seg6", "ip", "bpf"])
def test_a_route_that_encapsulates_by_the_nic_is_not_direct(encap: str) -> None:
    found = proof(
        NEVER, forwarding(encap=encap), counted(forwarding(encap=encap), "eth0", there=SENT)
    )
    assert (found.state, found.text) == (
        "missing",
        f"node1 sends {POD2} encap {encap} via 192.168.0.12 dev eth0, whose path is not known: "
        f"the route itself encapsulates: {encap}",
    )
    before = nodes_by(link("eth0"), device="eth0", encap=encap)
    after = moved(before, {"eth0": SENT}, {"eth0": SENT})
    # A baseline in a tunnel is none; what a program does is not known.
    assert baseline(before, after).state == ("missing" if encap == "bpf" else "contradicted")


@pytest.mark.parametrize("more", [{"others": ("eth0",)}, {"encap": "mpls"}])
def test_a_tunnel_that_is_one_of_several_ways_is_not_proven(more: dict[str, Any]) -> None:
    plain = snapshot("vxlan")
    one = plain.states["node1"]
    bent = replace(one, forwarded={POD2: replace(one.forwarded[POD2], **more)})
    before = replace(plain, states={**plain.states, "node1": bent})
    found = proof(VXLAN, before, counted(before, "vxlan.calico", there=SENT), Payload())
    assert (found.state, found.text.partition(": ")[2]) == (
        "missing",
        f"vxlan.calico is not all that the route has: {more.get('encap') or 'eth0'}",
    )


@pytest.mark.parametrize(
    ("gateway", "usual", "state"),
    [
        # A router of the same subnet that sets itself as the next hop, and one of BGP unnumbered.
        ("192.168.0.1", "", "proven"),
        ("fe80::1", "", "proven"),
        (FAR.address, "", "contradicted"),
        # A node that is the router of the nodes' own network.
        (FAR.address, FAR.address, "proven"),
    ],
)
def test_a_next_hop_is_stale_if_it_is_another_node(gateway: str, usual: str, state: str) -> None:
    plain = forwarding(gateway=gateway)
    one = plain.states["node1"]
    peer = Route(destination=NODE2.address, device="eth0", gateway=usual, source=NODE1.address)
    bent = replace(one, routes={**one.routes, NODE2.address: peer})
    before = replace(plain, states={**plain.states, "node1": bent})
    found = proof(NEVER, before, counted(before, "eth0", there=SENT))
    assert found.state == state, found.text
    assert ("a stale route" in found.text) == (state == "contradicted")


@pytest.mark.parametrize(("more", "state"), [((), "proven"), (("eth1",), "missing")])
def test_a_tunnel_leaves_by_the_only_nic_where_nobody_asked(
    more: tuple[str, ...], state: str
) -> None:
    plain = snapshot("vxlan")
    one = plain.states["node1"]
    routes = {to: route for to, route in one.routes.items() if to != NODE2.address}
    nics = {name: link(name) for name in more}
    links = {name: one for name, one in one.links.items() if name != "cali123"}
    bare = replace(one, routes=routes, links={**links, **nics})
    before = replace(plain, states={**plain.states, "node1": bare})
    found = proof(VXLAN, before, counted(before, "vxlan.calico", there=SENT))
    assert found.state == state, found.text
    told = "it is not known by which device vxlan.calico reaches 192.168.0.12"
    assert (told in found.text) == (state == "missing")


def test_what_a_foreign_tunnel_may_have_carried_beside_the_routes_is_not_proven() -> None:
    plain = snapshot("direct")
    states = {
        name: replace(one, links={**one.links, "wg0": link("wg0", kind="wireguard")})
        for name, one in plain.states.items()
    }
    before = replace(plain, states=states)
    assert proof(NEVER, before, counted(before, "eth0", there=SENT)).state == "proven"

    def meanwhile(after: PathSnapshot, size: int) -> PathSnapshot:
        one = after.states["node1"]
        links = {**one.links, "wg0": grow(one.links["wg0"], "sent", size)}
        return replace(after, states={**after.states, "node1": replace(one, links=links)})

    lying = meanwhile(counted(before, "eth0", there=SENT), SENT)
    found = proof(NEVER, before, lying)
    assert (found.state, found.text) == (
        "missing",
        f"wg0 of node1, a tunnel that is not Calico's, sent {SENT} bytes meanwhile: they may be "
        "these",
    )
    # Others use the tunnel: then the NIC has counted theirs as well.
    busy = meanwhile(counted(before, "eth0", there=2 * SENT), SENT)
    assert proof(NEVER, before, busy).state == "proven"


@pytest.mark.parametrize("mode", [NEVER, VXLAN])
@pytest.mark.parametrize("device", ["eth0", "vxlan.calico"])
def test_devices_without_counters_prove_nothing_and_contradict_nothing(
    mode: Any, device: str
) -> None:
    path = mode.path(same_subnet=True)
    before = snapshot(path)
    after = counted(before, "vxlan.calico" if path == "vxlan" else "eth0", there=SENT)

    def mute(taken: PathSnapshot) -> PathSnapshot:
        one = taken.states["node1"]
        links = {**one.links, device: replace(one.links[device], sent=None)}
        return replace(taken, states={**taken.states, "node1": replace(one, links=links)})

    found = proof(mode, mute(before), mute(after))
    needed = path != "direct" or device == "eth0"
    assert found.state == ("missing" if needed else "proven"), found.text
    if needed:
        assert found.text == "nothing on node1 has counted what it sent of this direction"


def test_ebpf_is_seen_on_the_nodes_where_the_configuration_was_not_read() -> None:
    plain = snapshot("direct")
    states = {
        name: replace(one, links={**one.links, "bpfin.cali": link("bpfin.cali", kind="veth")})
        for name, one in plain.states.items()
    }
    found = proof(NEVER, replace(plain, states=states))
    assert found.state == "missing"
    assert found.text.startswith("packets do not take the kernel's routes on eBPF")


def test_ipsec_encrypts_beside_the_routes_and_the_wire_tells() -> None:
    plain = snapshot("direct")
    one = replace(plain.states["node1"], ipsec=True)
    before = replace(plain, states={**plain.states, "node1": one})
    found = proof(NEVER, before)
    assert (found.state, found.text) == (
        "missing",
        "node1 has IPsec in use, and may encrypt these packets: the wire tells "
        "(-o k8snet_wire_proof=true)",
    )
    after = counted(before, "eth0", there=SENT)
    looked_at = judge(NEVER, before, after, TRANSFER, known_as(NEVER), {"once": WireFinding()})
    assert looked_at.state == "proven", looked_at.text


@pytest.mark.parametrize(
    ("seen_as", "whose"), [(FAR.address, "node3"), ("10.244.9.9", "pool default-ipv4-ippool")]
)
def test_a_client_seen_as_another_node_or_pod_went_by_an_egress_gateway(
    seen_as: str, whose: str
) -> None:
    plain = snapshot("direct")
    two = plain.states["node2"]
    way = Route(destination=seen_as, device="eth0")
    bent = replace(
        two, routes={**two.routes, seen_as: way}, forwarded={**two.forwarded, seen_as: way}
    )
    before = replace(plain, states={**plain.states, "node2": bent})
    found = proof(NEVER, before, transfer=replace(TRANSFER, client_address=seen_as))
    assert (found.state, found.text) == (
        "missing",
        f"node2 sees pod client as {seen_as}, which is of {whose}: the way by there was not "
        "looked at",
    )


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"datastore": "etcdv3"}, "its datastore is etcdv3"),
        ({"cni": "flannel", "node_agent": False}, "the CNI plugin is flannel, and Calico's pools"),
        ({"cni": "Canal"}, "it is Canal"),
        ({"backend": "none"}, "CALICO_NETWORKING_BACKEND is none"),
        ({"node_agent": False}, "no DaemonSet calico-node runs in calico-system or kube-system"),
    ],
)
@pytest.mark.parametrize("mode", [NEVER, VXLAN])
def test_pools_that_calico_does_not_route_promise_nothing(
    mode: Any, facts: dict[str, Any], why: str
) -> None:
    before = snapshot("direct")
    after = counted(before, "eth0", there=SENT)
    found = judge(None, before, after, TRANSFER, replace(known_as(mode), **facts))
    assert found.state == "missing"
    assert found.text.startswith(f"IPPools: {why}")

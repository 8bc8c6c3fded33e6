from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Interface
from typing import Any

import pytest
from cluster_shapes import FAR, NODE1, NODE2, pool
from kernel_shapes import (
    MAC,
    PAYLOAD,
    POD1,
    POD2,
    TRANSFER,
    TUNNEL,
    context,
    counted,
    ends,
    grow,
    link,
    snapshot,
    state,
)

from pytest_k8snet.calico.counters import Way
from pytest_k8snet.calico.kernel import Route
from pytest_k8snet.calico.modes import CalicoMode, Path
from pytest_k8snet.calico.proof import (
    PathContext,
    PathEnd,
    PathProof,
    PathSnapshot,
    Transfer,
    judge,
)
from pytest_k8snet.errors import PathError

NEVER = CalicoMode.NEVER
VXLAN, VXLAN_CS = CalicoMode.VXLAN_ALWAYS, CalicoMode.VXLAN_CROSS_SUBNET
IPIP, IPIP_CS = CalicoMode.IPIP_ALWAYS, CalicoMode.IPIP_CROSS_SUBNET
SENT = int(PAYLOAD * 1.04)
DEVICE = {"direct": "eth0", "vxlan": "vxlan.calico", "ipip": "tunl0"}


def proof(
    mode: CalicoMode,
    before: PathSnapshot,
    after: PathSnapshot | None = None,
    transfer: Transfer = TRANSFER,
    known: PathContext | None = None,
) -> PathProof:
    path = mode.path(same_subnet=True)
    later = after or counted(before, DEVICE[path], there=SENT)
    return judge(mode, before, later, transfer, known or context(mode))


def contradiction(found: PathProof) -> str:
    assert found.state == "contradicted", found.text
    with pytest.raises(PathError) as caught:
        found.require()
    assert caught.value.found == found.text
    return found.text


@pytest.mark.parametrize("mode", list(CalicoMode))
def test_a_sample_that_took_its_modes_path_is_proven(mode: CalicoMode) -> None:
    path = mode.path(same_subnet=True)
    found = proof(mode, snapshot(path))
    assert (found.state, found.expected) == ("proven", path), found.text
    assert found.text == (
        f"node1 -> node2 {path} by {DEVICE[path]}, {PAYLOAD} bytes of payload counted; "
        f"node2 -> node1 {path} by {DEVICE[path]}"
    )
    found.require()


def test_the_record_holds_routes_counters_and_mtus_and_is_json_safe() -> None:
    record = json.loads(json.dumps(proof(VXLAN, snapshot("vxlan")).to_record()))
    assert record["route"][0] == {
        "from": "node1",
        "to": "node2",
        "destination": POD2,
        "expected": "vxlan",
        "device": "vxlan.calico",
        "gateway": TUNNEL["node2"],
        "error": "",
    }
    assert record["counters"]["node1"]["vxlan.calico"]["tx_bytes"] == SENT
    assert record["counters"]["node2"]["vxlan.calico"]["rx_bytes"] == SENT
    assert record["mtu"]["mss"] == 1398
    assert record["mtu"]["client"] == {
        "pod": 1450,
        "host": 1500,
        "vxlan.calico": 1450,
        "tunl0": 1480,
    }


# The lies: each is named.


@pytest.mark.parametrize("taken", ["vxlan", "ipip", "direct"])
@pytest.mark.parametrize("mode", [NEVER, VXLAN, IPIP])
def test_lie_1_a_route_by_another_device(mode: CalicoMode, taken: Path) -> None:
    promised = mode.path(same_subnet=True)
    if taken == promised:
        return
    text = contradiction(proof(mode, snapshot(taken)))
    assert f"before the sample, node1 sends {POD2} via" in text
    wanted = "the node's own NIC (direct)" if promised == "direct" else f"dev {DEVICE[promised]}"
    assert f"dev {DEVICE[taken]}, expected {wanted}" in text


def test_lie_2_one_direction_only() -> None:
    text = contradiction(proof(VXLAN, snapshot("vxlan", back="direct")))
    assert f"node2 sends {POD1} via 192.168.0.11 dev eth0, expected dev vxlan.calico" in text
    assert "node1 sends" not in text


def test_lie_3_the_route_was_right_before_but_not_after() -> None:
    before = snapshot("ipip")
    after = counted(snapshot("direct"), "tunl0", there=SENT)
    text = contradiction(proof(IPIP, before, after))
    assert "after the sample, node1 sends" in text
    assert "before the sample" not in text


def test_lie_4_the_tunnel_did_not_carry_the_bytes() -> None:
    before = snapshot("vxlan")
    after = counted(before, "eth0", there=SENT)
    text = contradiction(proof(VXLAN, before, after))
    assert "vxlan.calico of node1 sent no packet of this direction during the sample" in text


def test_lie_5_the_tunnel_carried_only_a_part() -> None:
    before = snapshot("ipip")
    after = counted(before, "tunl0", there=PAYLOAD // 2)
    text = contradiction(proof(IPIP, before, after))
    assert (
        "tunl0 of node1 sent only 5000000 bytes, of a payload of 10000000: the rest took another "
        "path" in text
    )
    assert "tunl0 of node2 received only 5000000 bytes" in text


def test_lie_6_a_tunnel_carried_what_was_promised_to_go_direct() -> None:
    before = snapshot("direct")
    after = counted(before, "vxlan.calico", there=SENT)
    text = contradiction(proof(NEVER, before, after))
    assert (
        f"vxlan.calico of node1 sent {SENT} bytes during the sample, of a payload of 10000000 "
        "that was promised to go direct" in text
    )


def test_lie_7_replies_did_not_go_through_the_tunnel() -> None:
    before = snapshot("vxlan")
    after = counted(before, "vxlan.calico", there=SENT, back=0)
    text = contradiction(proof(VXLAN, before, after))
    assert "vxlan.calico of node2 sent no packet of this direction" in text


def test_lie_8_the_tunnel_was_made_anew_during_the_sample() -> None:
    before = counted(snapshot("vxlan"), "vxlan.calico", there=10**9)
    text = contradiction(proof(VXLAN, before, snapshot("vxlan")))
    assert "vxlan.calico of node1 was made anew during the sample" in text


def test_lie_9_a_stale_route_to_a_node_that_has_gone() -> None:
    before = snapshot("vxlan")
    stale = Route(destination=POD2, device="vxlan.calico", gateway="10.244.9.9")
    bent = replace(
        before,
        states={
            **before.states,
            "node1": replace(before.states["node1"], forwarded={POD2: stale}),
        },
    )
    text = contradiction(proof(VXLAN, bent))
    assert "expected node2's tunnel address 10.244.2.1: a stale route" in text


def test_lie_10_a_neighbour_or_fdb_entry_that_points_elsewhere() -> None:
    before = snapshot("vxlan")
    changes: tuple[tuple[dict[str, Any], str], ...] = (
        ({"neighbours": {TUNNEL["node2"]: MAC["node3"]}}, f"expected {MAC['node2']} of node2"),
        (
            {"fdb": {MAC["node2"]: "192.168.0.99"}},
            "to 192.168.0.99, expected 192.168.0.12 of node2",
        ),
        ({"fdb": {}}, "to nowhere, expected 192.168.0.12 of node2"),
    )
    for change, expected in changes:
        bent = replace(before.states["node1"], **change)
        lying = replace(before, states={**before.states, "node1": bent})
        assert expected in contradiction(proof(VXLAN, lying))


def test_lie_11_a_stale_mtu_names_both_numbers() -> None:
    text = contradiction(proof(VXLAN, snapshot("vxlan", pod_mtu=1500)))
    assert (
        "stale MTU: pod client has 1500, expected 1450 with ipip and vxlan enabled; it was made "
        "before the switch" in text
    )
    assert "wrong MTU: pod client has 1500, but vxlan.calico of node1 carries only 1450" in text


def test_lie_12_pods_in_different_pools() -> None:
    pools = (
        pool("one", "10.244.1.0/24", VXLAN),
        pool("two", "10.244.2.0/24", NEVER),
    )
    text = contradiction(proof(VXLAN, snapshot("vxlan"), known=context(pools=pools)))
    assert "pod server has 10.244.2.4 of pool two, which is in mode Never, not VXLAN-Always" in text
    assert (
        "the pods lie in pools of different modes, so their two directions differ: "
        "client in one (VXLAN-Always), server in two (Never)" in text
    )


def test_lie_13_a_pod_outside_every_pool() -> None:
    known = context(pools=(pool("one", "10.250.0.0/16", VXLAN),))
    assert f"pod client has {POD1}, which lies in no pool" in contradiction(
        proof(VXLAN, snapshot("vxlan"), known=known)
    )


def test_lie_14_a_path_that_shrinks_segments() -> None:
    found = proof(VXLAN, snapshot("vxlan"), transfer=replace(TRANSFER, mss_bytes=1348))
    assert contradiction(found) == (
        "wrong MTU on the path: the connection's MSS is 1348, but the pods' MTU of 1450 allows 1398"
    )


def test_a_dead_route_is_named() -> None:
    before = snapshot("vxlan")
    dead = Route(destination=POD2, error="RTNETLINK answers: Network is unreachable")
    bent = replace(before.states["node1"], forwarded={POD2: dead})
    text = contradiction(proof(VXLAN, replace(before, states={**before.states, "node1": bent})))
    assert (
        f"node1 has no route to {POD2}, expected vxlan: RTNETLINK answers: Network is unreachable"
        in text
    )


# What is right though it looks odd.


def test_other_traffic_in_a_tunnel_does_not_contradict_a_direct_sample() -> None:
    before = snapshot("direct")
    after = counted(counted(before, "eth0", there=SENT), "vxlan.calico", there=5 * PAYLOAD)
    assert proof(NEVER, before, after).state == "proven"


def test_few_bytes_are_judged_by_their_routes() -> None:
    before = snapshot("direct")
    small = Transfer(to_server_bytes=2000)
    found = proof(NEVER, before, before, small)
    assert found.state == "proven"
    assert "counted" not in found.text


def test_an_explicit_mtu_is_the_expected_one_in_every_mode() -> None:
    known = context(VXLAN, mtu_bytes=1400)
    transfer = replace(TRANSFER, mss_bytes=1348)
    assert proof(VXLAN, snapshot("vxlan", pod_mtu=1400), None, transfer, known).state == "proven"
    assert "expected 1400 as the installation sets it" in contradiction(
        proof(VXLAN, snapshot("vxlan"), known=known)
    )


def test_on_ebpf_counters_prove_and_routes_do_not() -> None:
    before = snapshot("direct")
    after = counted(before, "vxlan.calico", there=SENT)
    assert proof(VXLAN, before, after, known=context(VXLAN, routes_prove=False)).state == "proven"
    lying = counted(before, "eth0", there=SENT)
    contradiction(proof(VXLAN, before, lying, known=context(VXLAN, routes_prove=False)))


def test_a_node_that_cannot_be_read_leaves_the_proof_missing_never_given() -> None:
    before = snapshot("vxlan")
    unread = replace(before, states={}, missing={"node2": "no host-network pod on this node"})
    found = proof(VXLAN, unread, before)
    assert (found.state, found.text) == ("missing", "node2: no host-network pod on this node")
    assert found.expected == "vxlan"
    found.require()


def test_pools_that_may_not_be_read_leave_the_proof_missing() -> None:
    blind = PathContext(
        pools=(), families=(), pools_unread='not permitted: user "jane" may not list ippools'
    )
    found = judge(None, snapshot("direct"), snapshot("direct"), TRANSFER, blind)
    assert found.state == "missing"
    assert found.text == 'IPPools: not permitted: user "jane" may not list ippools'


# Pairs that lie across subnets, or whose prefixes differ.


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
        states[name] = replace(states[name], links=links)
    after = replace(before, states=states)
    found = judge(VXLAN_CS, before, after, TRANSFER, context(VXLAN_CS))
    assert (found.state, found.expected) == ("proven", "vxlan"), found.text


def test_differing_prefixes_make_an_asymmetric_pair_which_is_said() -> None:
    # node3's own prefix contains node1, but node1's does not contain node3.
    before = far_pair(16, "vxlan", "direct")
    small = Transfer(to_server_bytes=1000)
    states = dict(before.states)
    ways: tuple[tuple[str, Way], ...] = (("node1", "sent"), ("node3", "received"))
    for name, way in ways:
        links = dict(states[name].links)
        links["vxlan.calico"] = grow(links["vxlan.calico"], way, 9000)
        states[name] = replace(states[name], links=links)
    found = judge(VXLAN_CS, before, replace(before, states=states), small, context(VXLAN_CS))
    assert found.state == "proven", found.text
    assert found.text.endswith("; the directions differ, as promised")


def test_a_host_prefix_of_32_encapsulates_everything_in_cross_subnet() -> None:
    lonely = replace(NODE1, interface=IPv4Interface("192.168.0.11/32"))
    assert VXLAN_CS.path(lonely.same_subnet(NODE2)) == "vxlan"


# Mixed pairs.


def mixed(client: PathEnd, server: PathEnd, before: PathSnapshot) -> PathSnapshot:
    return replace(before, client=client, server=server)


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
    found = judge(VXLAN, before, after, Transfer(to_server_bytes=PAYLOAD), context(VXLAN))
    assert (found.state, found.expected) == ("proven", "direct"), found.text


@pytest.mark.parametrize("nat_outgoing", [True, False])
def test_pod_to_node_goes_direct_and_comes_back_by_natoutgoing(nat_outgoing: bool) -> None:
    client, _ = ends()
    server = PathEnd(kind="node", name="node2", node=NODE2, address=NODE2.internal_ip)
    to_node = Route(destination=NODE2.internal_ip, device="eth0")
    answers = {
        NODE1.internal_ip: Route(destination=NODE1.internal_ip, device="eth0"),
        POD1: Route(destination=POD1, device="vxlan.calico", gateway=TUNNEL["node1"]),
    }
    one = state(NODE1, NODE2, "direct", pod=POD1, to=NODE2.internal_ip)
    states = {
        "node1": replace(one, forwarded={NODE2.internal_ip: to_node}),
        "node2": replace(
            state(NODE2, NODE1, "vxlan", pod="-", to=POD1), forwarded={}, routes=answers
        ),
    }
    before = PathSnapshot(client=client, server=server, states=states)
    after = counted(before, "eth0", there=SENT)
    if not nat_outgoing:
        # The replies alone go through the tunnel.
        after = counted(after, "vxlan.calico", there=0, back=5000)
    known = context(pools=(pool(mode=VXLAN, natOutgoing=nat_outgoing),))
    found = judge(VXLAN, before, after, Transfer(to_server_bytes=PAYLOAD), known)
    assert (found.state, found.expected) == ("proven", "direct"), found.text
    back = found.route[1]
    assert back["destination"] == (NODE1.internal_ip if nat_outgoing else POD1)
    assert back["expected"] == ("direct" if nat_outgoing else "vxlan")


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
        "node1": replace(one, forwarded={}, routes={POD2: there}),
        "node2": replace(
            other,
            forwarded={TUNNEL["node1"]: back},
            routes={**other.routes, back.destination: back},
        ),
    }
    before = PathSnapshot(client=client, server=server, states=states)
    after = counted(before, "vxlan.calico", there=SENT)
    found = judge(VXLAN, before, after, Transfer(to_server_bytes=PAYLOAD), context(VXLAN))
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
    found = judge(VXLAN, before, before, TRANSFER, context(VXLAN))
    assert (found.state, found.expected) == ("proven", "direct"), found.text
    tunnelled = replace(
        alone,
        links={
            **alone.links,
            "vxlan.calico": grow(alone.links["vxlan.calico"], "sent", PAYLOAD),
        },
    )
    lying = replace(before, states={"node1": tunnelled})
    assert "though both pods are on that node" in contradiction(
        judge(VXLAN, before, lying, TRANSFER, context(VXLAN))
    )

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cluster_shapes import FAR, installation, pool
from kernel_shapes import (
    MAC,
    PAYLOAD,
    POD1,
    POD2,
    TRANSFER,
    TUNNEL,
    counted,
    known_as,
    link,
    snapshot,
)
from path_proofs import DEVICE, IPIP, NEVER, SENT, VXLAN, contradiction, proof

from pytest_k8snet.calico.installation import FelixSetting, Version
from pytest_k8snet.calico.modes import CalicoMode, Path
from pytest_k8snet.calico.path import judge
from pytest_k8snet.tools.ip import Route
from pytest_k8snet.tools.tool import Payload


@pytest.mark.parametrize("mode", list(CalicoMode))
def test_a_sample_that_took_its_modes_path_is_proven(mode: CalicoMode) -> None:
    path = mode.path(same_subnet=True)
    found = proof(mode, snapshot(path))
    assert (found.state, found.expected) == ("proven", path), found.text
    over = "" if path == "direct" else " over eth0"
    assert found.text == (
        f"node1 -> node2 {path} by {DEVICE[path]}{over}, {PAYLOAD} bytes of payload counted; "
        f"node2 -> node1 {path} by {DEVICE[path]}{over}"
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


@pytest.mark.parametrize(
    ("mode", "gone", "expected"),
    [
        (VXLAN, "10.244.9.9", "node2's tunnel address 10.244.2.1"),
        (IPIP, "192.168.0.99", "the next hop 192.168.0.12 of node2"),
        (NEVER, FAR.address, "the next hop 192.168.0.12 of node2"),
    ],
)
def test_lie_9_a_stale_route_to_another_node(mode: CalicoMode, gone: str, expected: str) -> None:
    path = mode.path(same_subnet=True)
    before = snapshot(path)
    stale = Route(destination=POD2, device=DEVICE[path], gateway=gone)
    bent = replace(
        before,
        states={
            **before.states,
            "node1": replace(before.states["node1"], forwarded={POD2: stale}),
        },
    )
    text = contradiction(proof(mode, bent))
    assert f"before the sample, node1 sends {stale}, expected {expected}: a stale route" in text


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


# MTUIfacePattern in felix/config/config_params.go: v3.24.6, v3.25.2, v3.26.5, v3.27.0.
@pytest.mark.parametrize(
    ("name", "version", "mtus"),
    [
        ("enc3", Version(3, 24, 6), {1450}),
        ("enc3", Version(3, 25), {1350}),
        ("enP2p1s0", Version(3, 25, 2), {1450}),
        ("enP2p1s0", Version(3, 26), {1350}),
        ("env1", Version(3, 26, 5), {1450}),
        ("env1", Version(3, 27), {1350}),
        ("enp1s0", Version(3, 22), {1350}),
        ("bond0", Version(3, 32), {1450}),
        # Which of them counts is not known.
        ("env1", None, {1350, 1450}),
    ],
)
def test_which_devices_count_for_the_hosts_mtu_is_a_matter_of_the_version(
    name: str, version: Version | None, mtus: set[int]
) -> None:
    known = replace(known_as(VXLAN), version=version)
    for mtu in (1350, 1450):
        bent = snapshot("vxlan", pod_mtu=mtu)
        states = {
            node: replace(one, links={**one.links, name: link(name, mtu=1400)})
            for node, one in bent.states.items()
        }
        found = proof(VXLAN, replace(bent, states=states), known=known)
        assert ("stale MTU" in found.text) is (mtu not in mtus), found.text


def test_lie_12_pods_in_different_pools() -> None:
    pools = (
        pool("one", "10.244.1.0/24", VXLAN),
        pool("two", "10.244.2.0/24", NEVER),
    )
    text = contradiction(proof(VXLAN, snapshot("vxlan"), known=known_as(pools=pools)))
    assert "pod server has 10.244.2.4 of pool two, which is in mode Never, not VXLAN-Always" in text
    assert (
        "the pods lie in pools of different modes, so their two directions differ: "
        "client in one (VXLAN-Always), server in two (Never)" in text
    )


def test_lie_13_a_pod_outside_every_pool() -> None:
    known = known_as(pools=(pool("one", "10.250.0.0/16", VXLAN),))
    assert f"pod client has {POD1}, which lies in no pool" in contradiction(
        proof(VXLAN, snapshot("vxlan"), known=known)
    )


def test_without_a_mode_nothing_is_claimed_and_each_direction_has_its_own_promise() -> None:
    elsewhere = known_as(pools=(pool("one", "10.250.0.0/16", VXLAN),))
    before = snapshot("direct")
    after = counted(before, "eth0", there=SENT)
    found = judge(None, before, after, TRANSFER, elsewhere)
    # As where another IPAM gives addresses, and pools are left over.
    assert (found.state, found.text) == (
        "missing",
        f"pod client has {POD1}, which lies in no pool\n"
        f"pod server has {POD2}, which lies in no pool",
    )
    pools = (pool("one", "10.244.1.0/24", VXLAN), pool("two", "10.244.2.0/24", NEVER))
    mixed = snapshot("direct", back="vxlan")
    after = counted(counted(mixed, "eth0", there=SENT), "vxlan.calico", there=0)
    found = judge(None, mixed, after, TRANSFER, known_as(pools=pools))
    assert found.state == "proven", found.text
    assert found.text.endswith("; the directions differ, as promised")


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
    small = Payload(to_server_bytes=2000)
    found = proof(NEVER, before, before, small)
    assert found.state == "proven"
    assert "counted" not in found.text


def test_an_explicit_mtu_is_the_expected_one_in_every_mode() -> None:
    known = known_as(VXLAN, mtu_bytes=1400)
    transfer = replace(TRANSFER, mss_bytes=1348)
    assert proof(VXLAN, snapshot("vxlan", pod_mtu=1400), None, transfer, known).state == "proven"
    assert "expected 1400 as the installation sets it" in contradiction(
        proof(VXLAN, snapshot("vxlan"), known=known)
    )


def test_the_expected_mtu_counts_what_ipv6_pools_enable_too() -> None:
    known = replace(known_as(VXLAN), vxlan_v6=True, ipip_enabled=())
    transfer = replace(TRANSFER, mss_bytes=1378)
    assert proof(VXLAN, snapshot("vxlan", pod_mtu=1430), None, transfer, known).state == "proven"
    assert "has 1450, expected 1430 with vxlan and vxlan-v6 enabled" in contradiction(
        proof(VXLAN, snapshot("vxlan"), known=known)
    )


def test_an_mtu_that_is_not_known_is_no_mismatch() -> None:
    known = replace(known_as(VXLAN), mtu_settings=(FelixSetting(value="1400", where="vxlanMTU"),))
    transfer = replace(TRANSFER, mss_bytes=1348)
    assert proof(VXLAN, snapshot("vxlan", pod_mtu=1400), None, transfer, known).state == "proven"


def test_on_ebpf_neither_routes_nor_counters_prove_though_counters_contradict() -> None:
    before = snapshot("direct")
    after = counted(before, "vxlan.calico", there=SENT)
    found = proof(VXLAN, before, after, known=known_as(VXLAN, routes_prove=False))
    assert (found.state, found.text) == (
        "missing",
        "packets do not take the kernel's routes on eBPF: the wire alone proves their path there "
        "(-o k8snet_wire_proof=true)",
    )
    lying = counted(before, "eth0", there=SENT)
    contradiction(proof(VXLAN, before, lying, known=known_as(VXLAN, routes_prove=False)))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_node_that_cannot_be_read_leaves_the_proof_missing_never_given(moment: str) -> None:
    read = snapshot("vxlan")
    unread = replace(read, states={}, missing={"node2": "no host-network pod on this node"})
    found = proof(VXLAN, unread, read) if moment == "before" else proof(VXLAN, read, unread)
    assert (found.state, found.text) == ("missing", "node2: no host-network pod on this node")
    assert found.expected == "vxlan"
    found.require()


def test_pools_that_may_not_be_read_leave_the_proof_missing() -> None:
    reason = 'not permitted: user "jane" may not list ippools'
    blind = installation(pools=(), unknown={"IPPools of crd.projectcalico.org/v1": reason})
    found = judge(None, snapshot("direct"), snapshot("direct"), TRANSFER, blind)
    assert found.state == "missing"
    assert found.text == 'IPPools: not permitted: user "jane" may not list ippools'

"""What was seen on the wire against what the modes promise: promised, other, or nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from cluster_shapes import FAR, NODE1, NODE2, pool
from kernel_shapes import POD1, POD2, TRANSFER, counted, ends, known_as, snapshot

from pytest_k8snet.calico.capture import Exchange, judge_exchange
from pytest_k8snet.calico.modes import CalicoMode, Path
from pytest_k8snet.calico.path import PathEnd, WireFinding, judge
from pytest_k8snet.cluster.nodes import Node
from pytest_k8snet.tools.capture import Capture, Carrier, Packet

PORT = 20001
VXLAN = CalicoMode.VXLAN_ALWAYS
THERE, BACK = f"{POD1} -> {POD2}", f"{POD2} -> {POD1}"
CARRIERS: dict[Path, Carrier] = {"direct": "none", "vxlan": "vxlan", "ipip": "ipip"}


def packet(sender: PathEnd, receiver: PathEnd, path: Path, *, to_server: bool = True) -> Packet:
    tunnel = path != "direct"
    return Packet(
        carrier=CARRIERS[path],
        outer_source=sender.node.internal_ip if tunnel else "",
        outer_destination=receiver.node.internal_ip if tunnel else "",
        source=sender.address,
        destination=receiver.address,
        source_port=40000 if to_server else PORT,
        destination_port=PORT if to_server else 40000,
        payload_bytes=1000,
    )


def exchange(
    there: Path, back: Path | None = None, pair: tuple[PathEnd, PathEnd] | None = None
) -> Exchange:
    """Both nodes saw a packet of each direction."""
    client, server = pair or ends()
    seen = (
        packet(client, server, there),
        packet(server, client, back or there, to_server=False),
    )
    names = (client.node.name, server.node.name)
    return Exchange(
        client=client,
        server=server,
        port=PORT,
        devices=dict.fromkeys(names, "eth0"),
        captures={name: Capture(packets=seen) for name in names},
    )


def seen_by(node: str, *packets: Packet, of: Exchange, dropped: int = 0) -> Exchange:
    captures = {**of.captures, node: Capture(packets=packets, dropped=dropped)}
    return replace(of, captures=captures)


@pytest.mark.parametrize("server_node", [NODE2, FAR], ids=["same-subnet", "cross-subnet"])
@pytest.mark.parametrize("mode", list(CalicoMode))
@pytest.mark.parametrize("taken", ["direct", "vxlan", "ipip"])
def test_what_was_seen_is_proven_where_the_mode_promises_it_and_else_contradicted(
    mode: CalicoMode, taken: Path, server_node: Node
) -> None:
    client, server = ends()
    server = replace(server, node=server_node)
    found = judge_exchange(exchange(taken, pair=(client, server)), [pool(mode=mode)])
    right = taken == mode.path(same_subnet=server_node is NODE2)
    assert (found.trouble() is None) == right
    assert bool(found.mismatches) == (not right)
    assert found.gaps == ()


def test_a_contradiction_says_who_sent_what_and_what_was_expected() -> None:
    found = judge_exchange(exchange("direct"), [pool(mode=VXLAN)])
    assert found.mismatches == (
        f"on the wire, node1 sent {THERE} unencapsulated, expected in VXLAN to 192.168.0.12",
        f"on the wire, node2 received {THERE} unencapsulated, expected in VXLAN to 192.168.0.12",
        f"on the wire, node2 sent {BACK} unencapsulated, expected in VXLAN to 192.168.0.11",
        f"on the wire, node1 received {BACK} unencapsulated, expected in VXLAN to 192.168.0.11",
    )
    tunnelled = judge_exchange(exchange("ipip", "direct"), [pool(mode=CalicoMode.NEVER)])
    assert tunnelled.mismatches == (
        f"on the wire, node1 sent {THERE} in IPIP to 192.168.0.12, expected unencapsulated",
        f"on the wire, node2 received {THERE} in IPIP to 192.168.0.12, expected unencapsulated",
    )


def test_one_stray_packet_among_many_contradicts() -> None:
    client, server = ends()
    right, wrong = packet(client, server, "vxlan"), packet(client, server, "direct")
    back = packet(server, client, "vxlan", to_server=False)
    stray = seen_by("node1", right, right, wrong, back, of=exchange("vxlan"))
    found = judge_exchange(stray, [pool(mode=VXLAN)])
    assert found.mismatches == (
        f"on the wire, node1 sent {THERE} unencapsulated, expected in VXLAN to 192.168.0.12",
    )
    assert found.sightings[0]["seen"] == {"in VXLAN to 192.168.0.12": 2, "unencapsulated": 1}


def test_a_tunnel_to_another_node_contradicts() -> None:
    client, server = ends()
    astray = replace(packet(client, server, "vxlan"), outer_destination="192.168.1.13")
    back = packet(server, client, "vxlan", to_server=False)
    found = judge_exchange(seen_by("node1", astray, back, of=exchange("vxlan")), [pool(mode=VXLAN)])
    assert found.mismatches == (
        f"on the wire, node1 sent {THERE} in VXLAN to 192.168.1.13, "
        "expected in VXLAN to 192.168.0.12",
    )


def test_another_softwares_vxlan_is_not_calicos() -> None:
    client, server = ends()
    foreign = replace(packet(client, server, "vxlan"), vni=1)
    back = replace(packet(server, client, "vxlan", to_server=False), vni=4096)
    known = replace(exchange("vxlan"), vni=4096)
    for node in ("node1", "node2"):
        known = seen_by(node, foreign, back, of=known)
    assert judge_exchange(known, [pool(mode=VXLAN)]).mismatches == (
        f"on the wire, node1 sent {THERE} in VXLAN of VNI 1, and Calico's is 4096",
        f"on the wire, node2 received {THERE} in VXLAN of VNI 1, and Calico's is 4096",
    )
    # Where a cluster has an identifier of its own, this is it.
    own = replace(known, vni=1)
    assert judge_exchange(own, [pool(mode=VXLAN)]).mismatches[0] == (
        f"on the wire, node2 sent {BACK} in VXLAN of VNI 4096, and Calico's is 1"
    )


def test_nothing_seen_proves_nothing() -> None:
    found = judge_exchange(seen_by("node2", of=exchange("vxlan")), [pool(mode=VXLAN)])
    assert found.mismatches == ()
    assert found.gaps == (
        "eth0 of node2 saw no payload of node1 -> node2",
        "eth0 of node2 saw no payload of node2 -> node1",
    )


def test_segments_without_payload_and_other_connections_do_not_count() -> None:
    client, server = ends()
    right = packet(client, server, "vxlan")
    others = (
        replace(right, payload_bytes=0),
        replace(right, destination_port=PORT + 1),
        replace(right, destination="10.244.2.5"),
        replace(right, carrier="none", payload_bytes=0),
    )
    found = judge_exchange(seen_by("node1", *others, of=exchange("vxlan")), [pool(mode=VXLAN)])
    assert found.mismatches == ()
    assert found.gaps[0] == "eth0 of node1 saw no payload of node1 -> node2"


def test_what_could_not_be_captured_proves_nothing() -> None:
    blind = replace(exchange("vxlan"), captures={}, missing=("node1: the exec stream broke off",))
    found = judge_exchange(blind, [pool(mode=VXLAN)])
    assert found.trouble() == "node1: the exec stream broke off"


def test_between_two_pods_of_one_node_nothing_may_be_seen() -> None:
    client, server = ends()
    pair = (client, replace(server, node=NODE1))
    left = judge_exchange(exchange("vxlan", pair=pair), [pool(mode=VXLAN)])
    assert left.mismatches == (
        f"on the wire, node1 sent {THERE} in VXLAN to 192.168.0.11, though both ends "
        "are on that node",
        f"on the wire, node1 sent {BACK} in VXLAN to 192.168.0.11, though both ends "
        "are on that node",
    )
    stayed = judge_exchange(seen_by("node1", of=exchange("vxlan", pair=pair)), [pool(mode=VXLAN)])
    assert stayed.trouble() is None
    assert stayed.summary() == "on the wire: nothing, as both ends are on one node"
    overrun = seen_by("node1", of=exchange("vxlan", pair=pair), dropped=2)
    assert judge_exchange(overrun, [pool(mode=VXLAN)]).gaps == (
        "eth0 of node1: 2 packets were dropped by the capture",
    )


def test_replies_to_a_nodes_tunnel_address_are_promised_its_tunnel() -> None:
    node = PathEnd(kind="node", name="node1", node=NODE1, address=NODE1.internal_ip)
    _, server = ends()
    tunnel = replace(node, address="10.244.1.1")
    seen = (
        packet(tunnel, server, "vxlan"),
        packet(server, tunnel, "vxlan", to_server=False),
    )
    known = exchange("vxlan", pair=(node, server))
    for name in ("node1", "node2"):
        known = seen_by(name, *seen, of=known)
    found = judge_exchange(known, [pool(mode=VXLAN)])
    assert found.trouble() is None
    assert {one["expected"] for one in found.sightings} == {"vxlan"}


# What it makes of a sample's proof.


def finding(taken: Path) -> WireFinding:
    return judge_exchange(exchange(taken), [pool(mode=VXLAN)])


def test_where_routes_prove_nothing_the_wire_proves() -> None:
    before = snapshot("direct")
    after = counted(before, "vxlan.calico", there=11_000_000)
    known = known_as(VXLAN, routes_prove=False)
    good = finding("vxlan")
    proof = judge(VXLAN, before, after, TRANSFER, known, {"before": good, "after": good})
    assert proof.state == "proven"
    assert proof.text.endswith("; on the wire: node1 -> node2 vxlan, node2 -> node1 vxlan")
    lying = judge(
        VXLAN, before, after, TRANSFER, known, {"before": good, "after": finding("direct")}
    )
    assert lying.state == "contradicted"
    assert lying.text.startswith(
        f"after the sample, on the wire, node1 sent {THERE} unencapsulated"
    )


def test_a_wire_that_contradicts_outweighs_routes_and_counters_that_agree() -> None:
    before = snapshot("vxlan")
    after = counted(before, "vxlan.calico", there=11_000_000)
    proof = judge(VXLAN, before, after, TRANSFER, known_as(VXLAN), {"once": finding("direct")})
    assert proof.state == "contradicted"
    assert proof.text.startswith(f"on the wire, node1 sent {THERE} unencapsulated")


def test_a_wire_where_nothing_was_seen_leaves_the_proof_missing() -> None:
    before = snapshot("vxlan")
    after = counted(before, "vxlan.calico", there=11_000_000)
    nothing = judge_exchange(replace(exchange("vxlan"), captures={}, missing=("node1: no",)), [])
    proof = judge(VXLAN, before, after, TRANSFER, known_as(VXLAN), {"once": nothing})
    assert (proof.state, proof.text) == ("missing", "on the wire: node1: no")


def test_the_record_holds_what_was_seen_and_null_where_nobody_looked() -> None:
    before = snapshot("vxlan")
    after = counted(before, "vxlan.calico", there=11_000_000)
    looked = judge(VXLAN, before, after, TRANSFER, known_as(VXLAN), {"once": finding("vxlan")})
    (entry,) = json.loads(json.dumps(looked.to_record()))["wire"]
    assert entry["moment"] == "once"
    assert entry["sightings"][0] == {
        "node": "node1",
        "device": "eth0",
        "from": "node1",
        "to": "node2",
        "expected": "vxlan",
        "packets": 1,
        "seen": {"in VXLAN to 192.168.0.12": 1},
        "dropped": 0,
    }
    assert judge(VXLAN, before, after, TRANSFER, known_as(VXLAN)).to_record()["wire"] is None

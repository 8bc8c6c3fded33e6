from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster_shapes import NODE1, NODE2
from kernel_shapes import POD1, POD2, link, state
from kernel_shells import printed

from pytest_k8snet.calico import kernel
from pytest_k8snet.calico.kernel import (
    KernelState,
    NodeState,
    device_mismatches,
    route_mismatches,
    vxlan_peer_mismatches,
)
from pytest_k8snet.errors import ToolError, ToolMissingError

#: What node1 of the lab printed in VXLAN-Always for a pod of its own and four destinations.
RECORDED = Path(__file__).parents[2] / "data" / "calico" / "node1-vxlan-always.txt"


@pytest.fixture(scope="module")
def recorded() -> KernelState:
    return kernel.parse("node1", RECORDED.read_text())


def test_a_recorded_node_is_read_with_its_links_and_counters(recorded: KernelState) -> None:
    tunnel = recorded.links["vxlan.calico"]
    assert (tunnel.kind, tunnel.vni, tunnel.local) == ("vxlan", 4096, "192.168.0.11")
    assert kernel.hosts(tunnel) == ["198.18.0.0"]
    assert tunnel.mtu_bytes == 1450
    assert tunnel.sent is not None
    nic = recorded.link_of("192.168.0.11")
    assert nic is not None
    assert nic.name == "eth0"


def test_a_recorded_node_is_read_with_its_routes_as_it_forwards(recorded: KernelState) -> None:
    assert recorded.forwarded["198.18.0.17"].device == "vxlan.calico"
    assert recorded.route("198.18.0.17").gateway == "198.18.0.16"
    # The node's own packets bear the tunnel's address.
    assert recorded.routes["198.18.0.17"].source == "198.18.0.0"
    assert recorded.route("198.18.0.1").device.startswith("cali")
    assert recorded.neighbours["198.18.0.16"] == "66:2d:bf:44:a6:8b"
    assert recorded.fdb is not None
    assert recorded.fdb["66:2d:bf:44:a6:8b"] == "192.168.0.12"


def test_what_was_not_asked_is_no_route(recorded: KernelState) -> None:
    assert recorded.route("10.0.0.1").error == "not asked"


def test_each_answer_belongs_to_its_command_whichever_failed() -> None:
    asked = (
        "\x1easked\naddress show\nneighbour show dev vxlan.calico\nroute get 10.0.0.1\n"
        "route get 10.0.0.2\n\x1ebeyond\n\n\x1eanswers\n[]\n"
        '[{"dst":"10.0.0.2","dev":"eth0"}]\n\x1efdb\n'
    )
    said = (
        'Cannot find device "vxlan.calico"\nCommand failed -:2\n'
        "RTNETLINK answers: Network is unreachable\nCommand failed -:3\n"
    )
    state = kernel.parse("node1", asked, stderr=said, exit_code=0)
    assert "Network is unreachable" in state.route("10.0.0.1").error
    assert state.route("10.0.0.1").device == ""
    assert (state.route("10.0.0.2").device, state.neighbours) == ("eth0", {})


def test_without_the_bridge_command_the_fdb_is_unknown_not_empty() -> None:
    text = printed({"address show": []})
    assert kernel.parse("node1", text).fdb == {}
    assert kernel.parse("node1", text.partition("\x1efdb")[0] + "\x1efdb\n").fdb is None


def asked(
    destination: str, *, taken: str = "eth0", marked: str = "eth0", beyond: str = ""
) -> KernelState:
    """A node with two next hops to a destination, and a rule on a mark."""
    hops = [{"gateway": "10.1.0.1", "dev": "eth0"}, {"gateway": "10.2.0.1", "dev": "eth1"}]
    hop = {"dst": destination, "gateway": "10.1.0.1"}
    answers = {
        "address show": [],
        f"route get {destination}": [{**hop, "dev": taken, "prefsrc": "10.1.0.9"}],
        f"route get {destination} from 10.99.0.1": [{**hop, "dev": taken}],
        f"route get fibmatch {destination}": [{"dst": "10.0.0.0/8", "nexthops": hops}],
        f"route get {destination} mark 0x10": [{**hop, "dev": marked}],
    }
    return kernel.parse("node1", printed(answers, beyond=beyond))


def test_all_next_hops_of_a_route_are_known_and_the_source_that_it_would_get() -> None:
    route = asked("10.7.0.3").route("10.7.0.3")
    assert (route.device, route.others, route.source) == ("eth0", ("eth1",), "10.1.0.9")
    # The kernel names the one that it would take now, whichever of them it is.
    route = asked("10.7.0.3", taken="eth1").route("10.7.0.3")
    assert (route.device, route.others) == ("eth1", ("eth0",))


def test_a_rule_by_which_some_packets_go_elsewhere_is_a_doubt_and_others_are_none() -> None:
    assert asked("10.7.0.3").doubts == {}
    assert asked("10.7.0.3", marked="wg0").doubts == {
        "10.7.0.3": "packets with the mark 0x10 take another route: 10.7.0.3 via 10.1.0.1 dev wg0"
    }
    rule = "32763: from all ipproto tcp dport 80 lookup 33"
    assert asked("10.7.0.3", beyond=f"{rule}; ").doubts == {
        "10.7.0.3": f"rules look at more than addresses: {rule}"
    }


def test_an_image_without_iproute2_is_named() -> None:
    with pytest.raises(ToolMissingError):
        kernel.parse("node1", "", stderr="sh: ip: not found", exit_code=127)
    with pytest.raises(ToolError, match="no JSON output"):
        kernel.parse("node1", "\x1elinks\n", stderr="ip: invalid option -- 'j'\nBusyBox v1.36")


def test_the_command_asks_for_each_destination_once_and_holds_no_data_in_its_script() -> None:
    asked = ("10.0.0.1", "10.0.0.1", "10.0.0.2")
    argv = kernel.argv(kernel.Question(pod_address="10.0.0.9", destinations=asked))
    assert argv[:2] == ["sh", "-c"]
    assert argv[3:] == ["k8snet", "10.0.0.9", "-", "10.0.0.1", "10.0.0.2"]
    own = kernel.argv(kernel.Question(own_address="192.168.0.11"))
    assert own[3:] == ["k8snet", "-", "192.168.0.11"]


def node_states(*families: str) -> tuple[NodeState, NodeState]:
    return (
        NodeState(
            node=NODE1, kernel=state(NODE1, NODE2, "vxlan", pod=POD1, to=POD2, families=families)
        ),
        NodeState(
            node=NODE2, kernel=state(NODE2, NODE1, "vxlan", pod=POD2, to=POD1, families=families)
        ),
    )


def test_a_tunnel_that_is_wanted_must_be_there_with_an_address() -> None:
    (one, _) = node_states()
    assert device_mismatches(one, required=["vxlan", "ipip"], allowed=[]) == [
        "node1 has no vxlan.calico yet",
        "node1 has no tunl0 yet",
    ]
    bare = replace(one, kernel=replace(one.kernel, links={"tunl0": link("tunl0", kind="ipip")}))
    assert device_mismatches(bare, required=["ipip"], allowed=[]) == [
        "tunl0 of node1 has no tunnel address yet"
    ]


@pytest.mark.parametrize("device", ["vxlan.calico", "tunl0"])
def test_a_tunnel_that_is_wanted_must_be_up(device: str) -> None:
    (one, _) = node_states("vxlan", "ipip")
    down = replace(one.kernel.links[device], state="DOWN")
    bent = replace(one, kernel=replace(one.kernel, links={**one.kernel.links, device: down}))
    assert device_mismatches(bent, required=["vxlan", "ipip"], allowed=[]) == [
        f"{device} of node1 is down"
    ]


def test_a_tunnel_that_is_not_wanted_must_be_gone_but_tunl0_only_bare() -> None:
    (one, _) = node_states("vxlan", "ipip")
    assert device_mismatches(one, required=[], allowed=[]) == [
        "node1 still has vxlan.calico 10.244.1.1",
        "node1 still has tunl0 10.244.1.1",
    ]
    assert device_mismatches(one, required=[], allowed=["vxlan", "ipip"]) == []
    bare = replace(one, kernel=replace(one.kernel, links={"tunl0": link("tunl0", kind="ipip")}))
    assert device_mismatches(bare, required=[], allowed=[]) == []


def test_a_vxlan_device_bound_elsewhere_is_noticed() -> None:
    (one, _) = node_states("vxlan")
    tunnel = replace(one.kernel.links["vxlan.calico"], local="192.168.0.99")
    bent = replace(one, kernel=replace(one.kernel, links={"vxlan.calico": tunnel}))
    assert device_mismatches(bent, required=["vxlan"], allowed=[]) == [
        "vxlan.calico of node1 is bound to 192.168.0.99, expected 192.168.0.11",
    ]


def with_facts(one: NodeState, **facts: Any) -> NodeState:
    tunnel = replace(one.kernel.links["vxlan.calico"], **facts)
    return replace(one, kernel=replace(one.kernel, links={"vxlan.calico": tunnel}))


@pytest.mark.parametrize("facts", [{"vni": 8192}, {"port": 8472}, {"vni": 7, "port": 4790}])
def test_a_vni_or_port_of_the_clusters_own_is_accepted_and_must_be_that_of_both_nodes(
    facts: dict[str, int],
) -> None:
    one, other = node_states("vxlan")
    own = with_facts(one, **facts), with_facts(other, **facts)
    assert device_mismatches(own[0], required=["vxlan"], allowed=[]) == []
    assert list(vxlan_peer_mismatches(*own)) == []
    tunnel = own[0].kernel.links["vxlan.calico"]
    assert list(vxlan_peer_mismatches(own[0], other)) == [
        f"vxlan.calico of node1 has VNI {tunnel.vni} and UDP port {tunnel.port}, that of node2 "
        "has VNI 4096 and port 4789"
    ]


def test_the_flow_based_device_of_ebpf_is_taken_as_it_is() -> None:
    (one, _) = node_states("vxlan")
    flow = link("vxlan.calico", kind="vxlan")
    bent = replace(one, kernel=replace(one.kernel, links={"vxlan.calico": flow}))
    assert device_mismatches(bent, required=["vxlan"], allowed=[], flow_based=True) == []
    assert device_mismatches(bent, required=[], allowed=[], flow_based=True) == []


def test_a_tunnel_endpoint_needs_its_neighbour_and_fdb_entries() -> None:
    one, other = node_states("vxlan")
    assert list(vxlan_peer_mismatches(one, other)) == []
    deaf = replace(one, kernel=replace(one.kernel, neighbours={}))
    assert list(vxlan_peer_mismatches(deaf, other)) == [
        "node1 has no MAC for 10.244.2.1 on vxlan.calico, expected 66:00:00:00:00:02 of node2"
    ]


def test_a_receiver_without_the_device_is_named() -> None:
    one, other = node_states("vxlan")
    gone = replace(other, kernel=replace(other.kernel, links={}))
    assert list(route_mismatches("vxlan", POD2, one, gone, ())) == [
        "node2 has no vxlan.calico to receive what node1 sends"
    ]


def test_answers_that_cannot_be_read_make_the_node_unknown_and_no_route_is_a_fact() -> None:
    # As of iproute2 without JSON for routes; and as of a kernel that refuses.
    def read(answer: str, stderr: str = "") -> KernelState:
        text = printed({"address show": [], "route get 10.7.0.3": []})
        return kernel.parse("node1", text.replace("[]\n[]\n", f"[]\n{answer}"), stderr=stderr)

    with pytest.raises(ToolError, match=r"ip did not tell the route to 10\.7\.0\.3"):
        read("10.7.0.3 via 10.1.0.1 dev eth0 src 10.1.0.9 uid 0\n")
    with pytest.raises(ToolError, match=r"as iproute2 writes it"):
        read('[{"dst":"10.7.0.4","dev":"eth0"}]\n')
    refused = read("", stderr="RTNETLINK answers: Network is unreachable\nCommand failed -:2\n")
    assert refused.route("10.7.0.3").error == "RTNETLINK answers: Network is unreachable"


@pytest.mark.parametrize(
    ("name", "refcnt", "ipsec"),
    [
        ("seqiv(rfc4106(gcm(aes)))", 3, True),
        ("echainiv(authenc(hmac(sha256),cbc(aes)))", 12, True),
        # Made once, and nobody uses it.
        ("seqiv(rfc4106(gcm(aes)))", 1, False),
        # Of others than ESP: kTLS, and dm-crypt.
        ("gcm(aes)", 5, False),
        ("authenc(hmac(sha256),xts(aes))", 5, False),
    ],
)
def test_ipsec_is_told_by_the_algorithms_that_esp_alone_uses(
    name: str, refcnt: int, ipsec: bool
) -> None:
    entries = (("sha1", 9), (name, refcnt), ("aes", 1))
    crypto = "\n\n".join(
        f"name         : {one}\ndriver       : x\nrefcnt       : {count}\nselftest     : passed"
        for one, count in entries
    )
    text = printed({"address show": []})
    assert kernel.parse("node1", f"{text}\x1eipsec\n{crypto}\n").ipsec is ipsec
    assert not kernel.parse("node1", text).ipsec

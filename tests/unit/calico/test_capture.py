"""Captures on two nodes around one exchange, with nodes that fail in every way."""

from __future__ import annotations

import base64
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from kernel_shapes import POD1, POD2, ends, link, snapshot

from pytest_k8snet.calico.capture import WireCapture
from pytest_k8snet.calico.kernel import Prober
from pytest_k8snet.cluster.exec import Completed
from pytest_k8snet.errors import ConnectError, ConnectionLostError, ExecError, ToolMissingError

CAPTURE = (Path(__file__).parents[2] / "data" / "pcap" / "vxlan.pcap").read_bytes()
ENDED = "40 packets captured\n40 packets received by filter\n0 packets dropped by kernel\n"


@dataclass
class Node:
    """A host-network pod that answers as tcpdump's two scripts would."""

    start: tuple[int, str] = (0, "")
    stopped: Completed | ExecError | None = None
    asked: list[str] = field(default_factory=list)
    filters: list[str] = field(default_factory=list)

    def __call__(self, argv: Sequence[str]) -> Completed:
        self.asked.append(argv[3].removeprefix("tcpdump-"))
        if self.asked[-1] == "start":
            self.filters.append(argv[-1])
            code, said = self.start
            return completed(argv, code, "", said)
        if isinstance(self.stopped, ExecError):
            raise self.stopped
        text = base64.encodebytes(CAPTURE).decode()
        return self.stopped or completed(argv, 0, text, ENDED)


def completed(argv: Sequence[str], code: int, stdout: str, stderr: str) -> Completed:
    return Completed(argv=tuple(argv), exit_code=code, stdout=stdout, stderr=stderr, seconds=0)


@dataclass
class Pair:
    """Two nodes and the tap on them."""

    node1: Node = field(default_factory=Node)
    node2: Node = field(default_factory=Node)

    def __post_init__(self) -> None:
        self.prober = Prober({"node1": self.node1, "node2": self.node2})
        self.tap = WireCapture(prober=self.prober, vxlan_port=4789, vni=4096)


@pytest.fixture
def pair() -> Generator[Pair]:
    made = Pair()
    yield made
    made.prober.close()


def send(listen: Callable[[int], None]) -> str | None:
    listen(25273)
    return None


def test_both_nodes_capture_on_the_interface_with_the_nodes_address(pair: Pair) -> None:
    found = pair.tap.watch(snapshot("vxlan"), send)
    assert found.missing == ()
    assert (found.port, dict(found.devices)) == (25273, {"node1": "eth0", "node2": "eth0"})
    assert {node: len(one.packets) for node, one in found.captures.items()} == {
        "node1": 40,
        "node2": 40,
    }
    assert pair.node1.asked == pair.node2.asked == ["start", "stop"]


def test_the_capture_is_where_the_route_leads_and_for_the_devices_own_vxlan(pair: Pair) -> None:
    plain = snapshot("vxlan")
    states = {}
    for name, state in plain.states.items():
        tunnel = replace(state.links["vxlan.calico"], vni=8192, port=4790, below="lo")
        links = [link("lo", "own", link_type="loopback"), link("a", master="bond0"), tunnel]
        bond = link("bond0", kind="bond")
        routes = {dst: replace(one, device="bond0") for dst, one in state.routes.items()}
        forwarded = {dst: replace(one, device="vxlan.calico") for dst, one in routes.items()}
        states[name] = replace(
            state,
            links={one.name: one for one in (*links, bond)},
            routes=routes,
            forwarded={dst: one for dst, one in forwarded.items() if dst in (POD1, POD2)},
        )
    found = pair.tap.watch(replace(plain, states=states), send)
    assert dict(found.devices) == {"node1": "bond0", "node2": "bond0"}
    assert found.vni == 8192
    assert "udp dst port 4790" in pair.node1.filters[0]


def test_all_devices_are_captured_by_which_packets_may_come_in(pair: Pair) -> None:
    # Replies leave by another NIC than what they answer came in by; a NIC without an address, a
    # pod's cable and a tunnel carry none of these.
    plain = snapshot("direct")
    states = {
        name: replace(
            state,
            links={
                **state.links,
                "eth1": link("eth1", "10.9.0.1/24"),
                "eth2": link("eth2"),
                "wg0": link("wg0", "10.8.0.1/24", kind="wireguard"),
            },
        )
        for name, state in plain.states.items()
    }
    found = pair.tap.watch(replace(plain, states=states), send)
    assert dict(found.devices) == dict.fromkeys(("node1", "node2"), "eth0 and eth1")
    assert {node: len(one.packets) for node, one in found.captures.items()} == {
        "node1": 80,
        "node2": 80,
    }
    assert pair.node1.asked == pair.node2.asked == ["start", "start", "stop", "stop"]


def test_between_pods_of_a_node_whose_address_is_on_lo_its_nic_is_captured(pair: Pair) -> None:
    plain = snapshot("direct")
    links = (link("lo", "192.168.0.11/32", link_type="loopback"), link("cali1"), link("eth0"))
    state = replace(plain.states["node1"], links={one.name: one for one in links})
    one_node = replace(
        plain, server=replace(plain.server, node=plain.client.node), states={"node1": state}
    )
    assert dict(pair.tap.watch(one_node, send).devices) == {"node1": "eth0"}


def test_a_node_that_cannot_capture_is_missing_and_the_other_is_ended(pair: Pair) -> None:
    pair.node2.start = (1, "tcpdump: eth0: No such device exists")
    found = pair.tap.watch(snapshot("vxlan"), send)
    assert found.missing == (
        "node2: tcpdump could not be started (tcpdump: eth0: No such device exists)",
    )
    assert list(found.captures) == ["node1"]
    assert (pair.node1.asked, pair.node2.asked) == (["start", "stop"], ["start"])


def test_a_capture_that_cannot_be_fetched_is_missing(pair: Pair) -> None:
    pair.node1.stopped = ConnectionLostError("the exec stream broke off", found="reset")
    found = pair.tap.watch(snapshot("vxlan"), send)
    assert found.missing == ("node1: the exec stream broke off (reset)",)
    assert list(found.captures) == ["node2"]


def test_payload_that_was_not_sent_is_missing(pair: Pair) -> None:
    found = pair.tap.watch(snapshot("vxlan"), lambda listen: "TCP payload: refused")
    assert found.missing == ("TCP payload: refused",)
    assert pair.node1.asked == []


def test_an_interrupt_ends_the_captures(pair: Pair) -> None:
    def interrupted(listen: Callable[[int], None]) -> str | None:
        listen(25273)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pair.tap.watch(snapshot("vxlan"), interrupted)
    assert pair.node1.asked == pair.node2.asked == ["start", "stop"]


def test_an_interrupt_is_not_lost_when_the_captures_cannot_be_ended(pair: Pair) -> None:
    class Gone(Node):
        def __call__(self, argv: Sequence[str]) -> Completed:
            if "tcpdump-stop" in argv:
                raise ConnectError("the API server refuses the connection")
            return super().__call__(argv)

    def interrupted(listen: Callable[[int], None]) -> str | None:
        listen(25273)
        raise KeyboardInterrupt

    tap = WireCapture(
        prober=Prober({"node1": Gone(), "node2": pair.node2}), vxlan_port=4789, vni=4096
    )
    with pytest.raises(KeyboardInterrupt):
        tap.watch(snapshot("vxlan"), interrupted)
    tap.prober.close()


def test_nodes_that_could_not_be_read_and_ipv6_are_missing(pair: Pair) -> None:
    seen = snapshot("vxlan")
    unread = replace(seen, states={}, missing={"node2": "no host-network pod on this node"})
    assert pair.tap.watch(unread, send).missing == ("node2: no host-network pod on this node",)
    bare = replace(seen.states["node1"], links={})
    homeless = replace(seen, states={**seen.states, "node1": bare})
    assert pair.tap.watch(homeless, send).missing == (
        "node1: no device is known that leads to the other node",
    )
    _, server = ends()
    modern = replace(seen, server=replace(server, address="fd00::4"))
    assert pair.tap.watch(modern, send).missing == ("fd00::4 is not IPv4, which alone is captured",)


def test_the_check_names_the_node_and_the_way_to_go_without(pair: Pair) -> None:
    pair.tap.check(["node1", "node2"])
    assert pair.node1.asked == ["start", "stop"]
    pair.node2.start = (127, "tcpdump: not found")
    with pytest.raises(ToolMissingError) as caught:
        pair.tap.check(["node1", "node2"])
    assert caught.value.problem == (
        "the path cannot be proven on the wire of node2: there is no tcpdump where the command ran"
    )
    assert caught.value.remedy.endswith("; or go without: -o k8snet_wire_proof=false")


def test_trouble_of_the_cluster_stays_its_own_error(pair: Pair) -> None:
    pair.node1.stopped = ConnectionLostError("the exec stream broke off")
    with pytest.raises(ConnectionLostError):
        pair.tap.check(["node1"])

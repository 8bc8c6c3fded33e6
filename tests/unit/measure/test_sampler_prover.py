"""When the wire is looked at: once for a pair in its mode, or around each sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.path import WireFinding
from pytest_k8snet.measure.endpoints import Pair
from pytest_k8snet.measure.sampler import PathProver
from pytest_k8snet.tools.tool import Payload

NEVER, VXLAN = CalicoMode.NEVER, CalicoMode.VXLAN_ALWAYS
PAYLOAD = Payload(to_server_bytes=7000, to_client_bytes=9000, mss_bytes=1398)
GAP = WireFinding(gaps=("eth0 of node1 saw no payload",))


class Session:
    """A Calico session of one steady path; it notes when it looked and what proofs got to see."""

    def __init__(self, *, routes_prove: bool) -> None:
        self.installation = SimpleNamespace(routes_prove=routes_prove)
        self.events: list[str] = []
        self.moments: list[list[str]] = []
        self.transfers: list[Payload] = []
        self.finding = WireFinding()
        self.clients: list[Any] = []
        self.looks: list[int] = []

    def snapshot(self, client: Any, server: Any) -> Any:
        self.clients.append(client)
        return SimpleNamespace(client=client, server=server)

    def watch_wire(self, snapshot: Any, send: Callable[[Callable[[int], None]], Any]) -> Any:
        send(lambda port: self.events.append(f"look {port}"))
        return self.finding

    def prove(self, mode: Any, before: Any, after: Any, transfer: Any, wire: Any) -> None:
        self.moments.append(list(wire))
        self.transfers.append(transfer)


def probe(pair: Pair, listen: Callable[[int], None]) -> str | None:
    listen(20001)
    return "TCP payload from pod client: refused"


def pair(mode: CalicoMode = VXLAN, server: str = "server") -> Any:
    def end(name: str) -> Any:
        return SimpleNamespace(kind="pod", name=name, node=name, address="10.244.1.2")

    return SimpleNamespace(mode=mode, client=end("client"), server=end(server))


def prover(session: Any, *, wire: bool = True) -> PathProver:
    node: Any = SimpleNamespace()
    return PathProver(session, dict.fromkeys(("client", "server", "other"), node), wire=wire)


def take(prover: PathProver, session: Session, measured: Any) -> None:
    watch = prover.watch(measured, probe)
    session.events.append("sample")
    watch.judge(PAYLOAD)


def test_where_routes_prove_a_pair_is_looked_at_once_in_its_mode() -> None:
    session = Session(routes_prove=True)
    proving = prover(session)
    for measured in (pair(), pair(), pair(server="other"), pair(), pair(NEVER)):
        take(proving, session, measured)
    look = ["look 20001", "sample"]
    assert session.events == [*look, "sample", *look, "sample", *look]
    # What was seen then belongs to the proof of each sample.
    assert session.moments == [["once"]] * 5


def test_a_proof_gets_to_know_the_payload_of_both_directions() -> None:
    session = Session(routes_prove=True)
    take(prover(session), session, pair())
    assert session.transfers == [
        Payload(to_server_bytes=7000, to_client_bytes=9000, mss_bytes=1398)
    ]


def test_a_look_that_proved_nothing_is_taken_again() -> None:
    session = Session(routes_prove=True)
    proving = prover(session)
    session.finding = GAP
    take(proving, session, pair())
    session.finding = WireFinding()
    take(proving, session, pair())
    take(proving, session, pair())
    assert session.events == ["look 20001", "sample", "look 20001", "sample", "sample"]


def test_where_routes_prove_nothing_each_sample_is_between_two_looks() -> None:
    session = Session(routes_prove=False)
    proving = prover(session)
    take(proving, session, pair())
    take(proving, session, pair())
    assert session.events == ["look 20001", "sample", "look 20001"] * 2
    assert session.moments == [["before", "after"]] * 2


@pytest.mark.parametrize("routes_prove", [True, False])
def test_without_the_option_nobody_looks(routes_prove: bool) -> None:
    session = Session(routes_prove=routes_prove)
    proving = prover(session, wire=False)
    take(proving, session, pair())
    assert session.events == ["sample"]
    assert session.moments == [[]]
    assert proving.payload_trouble(pair(), probe) == "TCP payload from pod client: refused"
    assert session.events == ["sample"]


def test_a_pair_converges_by_its_wire_only_where_routes_prove_nothing() -> None:
    by_routes, by_wire = Session(routes_prove=True), Session(routes_prove=False)
    by_wire.finding = GAP
    assert "refused" in str(prover(by_routes).payload_trouble(pair(), probe))
    assert prover(by_wire).payload_trouble(pair(), probe) == "eth0 of node1 saw no payload"
    assert (by_routes.events, by_wire.events) == ([], ["look 20001"])
    by_wire.finding = WireFinding()
    assert prover(by_wire).payload_trouble(pair(), probe) is None


# As whom the server sees the client, which decides where its answers go.


def to_node(mode: CalicoMode = VXLAN) -> Any:
    found = pair(mode)
    found.server.kind, found.server.name = "node", "node2"
    return found


def test_a_sample_that_does_not_tell_who_its_client_was_is_helped_by_a_probe_once() -> None:
    session = Session(routes_prove=True)
    proving = prover(session, wire=False)

    def telling(measured: Pair, listen: Callable[[int], None]) -> str | None:
        session.events.append("probe")
        session.looks.append(len(session.clients))
        proving.saw(measured, "192.168.0.11")
        return None

    for measured in (to_node(), to_node(), to_node(NEVER), pair()):
        proving.watch(measured, telling).judge(PAYLOAD)
        session.events.append("judged")
    # Its packets must not be counted as the sample's: both looks at the nodes come before it.
    assert session.events == ["probe", "judged", "judged", "probe", "judged", "judged"]
    assert session.looks == [2, 6]
    # Between pods none is due: Calico masquerades only what leaves its pools.
    assert [one.client_address for one in session.transfers] == ["192.168.0.11"] * 3 + [""]


def test_what_a_sample_tells_itself_needs_no_probe_and_holds_for_the_next() -> None:
    session = Session(routes_prove=True)
    proving = prover(session, wire=False)
    telling = replace(PAYLOAD, client_address="10.244.1.2")
    proving.watch(to_node(), probe).judge(telling)
    proving.watch(to_node(), probe).judge(PAYLOAD)
    assert [one.client_address for one in session.transfers] == ["10.244.1.2"] * 2
    assert [client.seen_as for client in session.clients] == [
        *("", "10.244.1.2"),
        *("10.244.1.2", "10.244.1.2"),
    ]


def test_a_probe_that_fails_leaves_it_unknown() -> None:
    session = Session(routes_prove=True)
    prover(session, wire=False).watch(to_node(), probe).judge(PAYLOAD)
    assert session.transfers[0].client_address == ""

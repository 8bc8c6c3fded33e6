"""Who is late, for how long, and what he then follows."""

from __future__ import annotations

import math
from ipaddress import IPv4Address, IPv4Network

from pytest_k8snet.lab.calico.calico_node import Convergence, Moment, Programme
from pytest_k8snet.lab.dataplane.felix import Family, NodeState, Route
from pytest_k8snet.lab.faults import CalicoFaults as Faults
from pytest_k8snet.lab.spec import Timing

NAMES = ("router", "node-node1", "node-node2")
KEPT = Route(destination=IPv4Network("10.0.1.0/26"))


def programme(peer: int) -> Programme:
    """One whose only route that changes leads to a peer."""
    gateway = IPv4Address(f"192.168.0.{peer}")
    changing = Route(destination=IPv4Network("10.0.2.0/26"), gateway=gateway, device="eth0")
    return Programme(state=NodeState(routes=frozenset({KEPT, changing})), rules=f"rules {peer}")


class Nodes:
    """Namespaces that always load what they are told at once."""

    def __init__(self) -> None:
        self.convergence = Convergence(Timing())
        self.loaded: dict[str, Programme] = {}

    def at(self, now: float, peer: int, family: Family = "vxlan", **faults: str) -> Moment:
        data = {name.replace("_", "-"): value for name, value in faults.items()}
        moment = self.convergence.at(
            now,
            dict.fromkeys(NAMES, programme(peer)),
            self.loaded,
            tunnels={family},
            faults=Faults.read(data),
        )
        self.loaded = dict(moment.programmes)
        return moment

    def peers(self) -> list[int]:
        """To whom each namespace's route leads; 0 where it has none."""
        found = []
        for loaded in self.loaded.values():
            gateways = [route.gateway for route in loaded.state.routes if route.gateway]
            found.append(int(str(gateways[0]).split(".")[-1]) if gateways else 0)
        return found


def test_without_faults_everyone_follows_at_once() -> None:
    nodes = Nodes()
    for peer in (1, 2):
        moment = nodes.at(peer, peer)
        assert nodes.peers() == [peer] * 3
        assert (moment.restarting, moment.next_seconds) == (False, math.inf)


def test_what_holds_nothing_yet_is_not_late() -> None:
    nodes = Nodes()
    nodes.at(0, 1, slow_convergence="8")
    assert nodes.peers() == [1, 1, 1]


def test_each_node_follows_at_its_own_time() -> None:
    nodes = Nodes()
    nodes.at(0, 1)
    assert nodes.at(10, 2, slow_convergence="8").next_seconds == 14
    assert nodes.peers() == [2, 1, 1]
    assert nodes.at(14, 2, slow_convergence="8").next_seconds == 18
    assert nodes.peers() == [2, 2, 1]
    assert nodes.at(18, 2, slow_convergence="8").next_seconds == math.inf
    assert nodes.peers() == [2, 2, 2]


def test_a_late_node_follows_the_newest_state_and_keeps_no_other_waiting() -> None:
    nodes = Nodes()
    nodes.at(0, 1)
    nodes.at(10, 2, slow_convergence="8")
    nodes.at(13, 3, slow_convergence="8")
    assert nodes.peers() == [3, 1, 1]
    nodes.at(14, 3, slow_convergence="8")
    assert nodes.peers() == [3, 3, 1]
    # Behind since 10, not since 13.
    nodes.at(18, 3, slow_convergence="8")
    assert nodes.peers() == [3, 3, 3]


def test_who_has_followed_is_as_late_with_the_next_change() -> None:
    nodes = Nodes()
    nodes.at(0, 1)
    for now in (10, 18):
        nodes.at(now, 2, slow_convergence="8")
    assert nodes.at(30, 3, slow_convergence="8").next_seconds == 34
    assert nodes.peers() == [3, 2, 2]


def test_a_change_that_is_taken_back_makes_no_one_late() -> None:
    nodes = Nodes()
    nodes.at(0, 1)
    nodes.at(10, 2, slow_convergence="8")
    assert nodes.at(11, 1, slow_convergence="8").next_seconds == math.inf
    assert nodes.at(30, 2, slow_convergence="8").next_seconds == 34


def test_the_end_of_the_fault_ends_the_delay() -> None:
    nodes = Nodes()
    nodes.at(0, 1)
    nodes.at(10, 2, slow_convergence="800")
    nodes.at(11, 2)
    assert nodes.peers() == [2, 2, 2]


def test_who_could_not_follow_in_time_is_not_made_to_wait_again() -> None:
    nodes = Nodes()
    nodes.at(0, 1)
    held = dict(nodes.loaded)
    for now in (10, 18, 19):
        # The kernel refuses it each time.
        nodes.loaded = dict(held)
        nodes.at(now, 2, slow_convergence="8")
    assert nodes.peers() == [2, 2, 2]


def test_while_felix_restarts_what_has_to_change_is_missing() -> None:
    nodes = Nodes()
    nodes.at(0, 1)
    moment = nodes.at(10, 2, "ipip", felix_restart_gap="3")
    assert (moment.restarting, moment.next_seconds) == (True, 13)
    # The router has no Felix.
    assert nodes.peers() == [2, 0, 0]
    assert [loaded.rules for loaded in nodes.loaded.values()] == ["rules 2", "rules 1", "rules 1"]
    moment = nodes.at(13, 3, "ipip", felix_restart_gap="3")
    assert (moment.restarting, moment.next_seconds) == (False, math.inf)
    assert nodes.peers() == [3, 3, 3]
    # The tunnels are the same as before.
    assert not nodes.at(20, 4, "ipip", felix_restart_gap="3").restarting


def test_the_end_of_the_fault_ends_the_restart() -> None:
    nodes = Nodes()
    nodes.at(0, 1)
    nodes.at(10, 2, "ipip", felix_restart_gap="300")
    assert not nodes.at(11, 2, "ipip").restarting
    assert nodes.peers() == [2, 2, 2]


def test_a_restart_is_not_taken_back() -> None:
    nodes = Nodes()
    nodes.at(0, 1)
    nodes.at(10, 2, "ipip", felix_restart_gap="3")
    assert nodes.at(11, 1, "vxlan", felix_restart_gap="3").next_seconds == 13
    nodes.at(13, 1, "vxlan", felix_restart_gap="3")
    assert nodes.peers() == [1, 1, 1]


def test_a_stale_node_keeps_what_it_had_until_the_fault_ends() -> None:
    nodes = Nodes()
    nodes.at(0, 1)
    nodes.at(10, 2, stale_route_on="node1")
    nodes.at(11, 3, stale_route_on="node1")
    assert nodes.peers() == [3, 1, 3]
    # Nothing is known any more of what the kernels hold.
    nodes.loaded = {}
    nodes.at(12, 3, stale_route_on="node1")
    assert nodes.peers() == [3, 1, 3]
    nodes.at(13, 3)
    assert nodes.peers() == [3, 3, 3]
    nodes.at(14, 4, stale_route_on="node1")
    assert nodes.peers() == [4, 3, 4]

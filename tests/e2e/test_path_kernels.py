"""The command that asks a node for its state, answered by this machine's kernel and iproute2."""

from __future__ import annotations

import os
import subprocess

import pytest

from pytest_k8snet.calico import kernel
from pytest_k8snet.calico.kernel import KernelState

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace")

#: The node of a routed fabric: its address on lo, two uplinks of which one is in a bridge, a
#: management network with rules of its own, another software's tunnel, and a pod.
NODE = """
set -e
cable() { ip link add "$1" type veth peer name far netns "$PEER"; ip link set "$1" up
  nsenter --net=/proc/$PEER/ns/net ip link set far name "$1"
  nsenter --net=/proc/$PEER/ns/net ip link set "$1" up; }
unshare --net sleep 30 & PEER=$!
trap 'kill $PEER' EXIT
until [ "$(readlink /proc/$PEER/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
sysctl -qw net.ipv4.ip_forward=1
ip link set lo up; ip addr add 10.99.0.1/32 dev lo
cable eth0; cable eth1; cable mgmt0; cable cali1
ip link add br0 type bridge; ip link set eth1 master br0; ip link set br0 up
ip addr add 192.168.7.1/24 dev eth0; ip addr add 192.168.8.1/24 dev br0
ip addr add 10.9.0.1/24 dev mgmt0
ip route add 10.99.0.2/32 src 10.99.0.1 nexthop via 192.168.7.9 dev eth0 \\
    nexthop via 192.168.8.9 dev br0
ip route add 10.244.2.0/26 via 192.168.7.9 dev eth0
ip route add 10.244.1.5/32 dev cali1
ip link add eth9 type vxlan id 1 dstport 8472 local 10.99.0.1 nolearning; ip link set eth9 up
ip route add 10.244.3.0/26 dev eth9
ip route add default via 10.9.0.9 dev mgmt0 table 77
ip rule add from 10.9.0.1 lookup 77
ip rule add fwmark 0x8/0xff lookup 77
"""


@pytest.fixture(scope="module")
def state() -> KernelState:
    asked = kernel.Question(
        pod_address="10.244.1.5",
        destinations=("10.244.2.7", "10.244.3.7", "10.99.0.2", "203.0.113.7"),
        own_address="10.99.0.1",
    )
    argv = kernel.argv(asked)
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", f'{NODE}\n"$@"', "node", *argv],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    return kernel.parse("node1", done.stdout, stderr=done.stderr, exit_code=0)


def test_pods_packets_are_asked_for_as_the_kernel_forwards_them(state: KernelState) -> None:
    assert state.route("10.244.1.5").device == "cali1"
    route = state.forwarded["10.244.2.7"]
    assert (route.device, route.gateway, route.others) == ("eth0", "192.168.7.9", ())
    assert state.way("10.244.2.7", "10.99.0.2").path == "direct"
    assert "unreachable" in state.route("203.0.113.7").error


def test_all_uplinks_of_the_fabric_are_known_down_to_the_physical_ones(state: KernelState) -> None:
    way = state.way("10.99.0.2", "10.99.0.2")
    assert {*way.devices} == {"eth0", "br0"}
    assert {*way.wires} == {"eth0", "eth1"}
    assert state.uplinks() == ("eth0", "eth1", "mgmt0")


def test_another_softwares_tunnel_is_not_known_whatever_its_name(state: KernelState) -> None:
    way = state.way("10.244.3.7", "10.99.0.2")
    assert (way.path, way.unknown) == ("unknown", "eth9 is a tunnel of kind vxlan")


def test_a_rule_on_a_mark_is_a_doubt_and_one_on_a_source_is_asked_with_it(
    state: KernelState,
) -> None:
    assert state.doubts["10.244.2.7"] == (
        "packets with the mark 0x8 take another route: 10.244.2.7 via 10.9.0.9 dev mgmt0"
    )
    argv = kernel.argv(kernel.Question(destinations=("10.99.0.2",), own_address="10.9.0.1"))
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", f'{NODE}\n"$@"', "node", *argv],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    managed = kernel.parse("node1", done.stdout, stderr=done.stderr, exit_code=0)
    route = managed.route("10.99.0.2")
    # As the node sends from that address, and what it would send from of its own accord.
    assert (route.device, route.source) == ("mgmt0", "10.99.0.1")

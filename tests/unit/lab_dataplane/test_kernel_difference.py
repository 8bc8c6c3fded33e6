"""What is done to a kernel, and in which order."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from pytest_k8snet.lab.dataplane.felix import (
    PROTO_BIRD,
    PROTO_FELIX,
    IpipDevice,
    NodeState,
    Route,
    Vtep,
    VxlanDevice,
)
from pytest_k8snet.lab.dataplane.kernel import commands

BLOCK = IPv4Network("10.244.2.0/26")
PEER = IPv4Address("192.168.0.12")
TUNNEL = IPv4Address("10.244.2.0")
MAC = "66:aa:bb:cc:dd:ee"

DEVICE = VxlanDevice(
    local=IPv4Address("192.168.0.11"),
    mac="66:11:22:33:44:55",
    address=IPv4Address("10.244.1.0"),
    mtu_bytes=1450,
)
TUNNELLED = Route(destination=BLOCK, gateway=TUNNEL, device="vxlan.calico", onlink=True)
DIRECT = Route(destination=BLOCK, gateway=PEER, device="eth0", protocol=PROTO_BIRD)
IPIP = Route(destination=BLOCK, gateway=PEER, device="tunl0", protocol=PROTO_BIRD, onlink=True)
VXLAN_STATE = NodeState(
    vxlan=DEVICE,
    vteps=frozenset({Vtep(mac=MAC, tunnel=TUNNEL, underlay=PEER)}),
    routes=frozenset({TUNNELLED}),
)
# The same as a kernel shows it: a neighbour and an FDB entry, each by itself.
VXLAN_IN_KERNEL = replace(
    VXLAN_STATE,
    vteps=frozenset(
        {
            Vtep(mac=MAC, tunnel=TUNNEL, underlay=None),
            Vtep(mac=MAC, tunnel=None, underlay=PEER),
        }
    ),
)
NEIGHBOUR = f"neigh replace 10.244.2.0 lladdr {MAC} dev vxlan.calico nud permanent"
TUNNELLED_COMMAND = "route replace 10.244.2.0/26 via 10.244.2.0 dev vxlan.calico onlink"
NOTHING = NodeState()
TUNL0 = IpipDevice(address=None, mtu_bytes=1480)


def test_what_is_as_it_should_be_needs_nothing() -> None:
    assert len(commands(VXLAN_IN_KERNEL, VXLAN_STATE)) == 0
    assert len(commands(NOTHING, NOTHING)) == 0


def test_vxlan_from_nothing_device_first_routes_last() -> None:
    done = commands(NOTHING, VXLAN_STATE)
    assert done.devices == [
        "link add vxlan.calico mtu 1450 address 66:11:22:33:44:55 type vxlan id 4096"
        " dstport 4789 local 192.168.0.11 dev eth0 nolearning",
        "addr add 10.244.1.0/32 dev vxlan.calico",
        "link set vxlan.calico up",
        NEIGHBOUR,
    ]
    assert done.fdb == [f"fdb replace {MAC} dev vxlan.calico dst 192.168.0.12 self permanent"]
    assert done.routes == [TUNNELLED_COMMAND]


def test_without_a_vxlan_pool_the_device_goes_after_its_routes_are_replaced() -> None:
    done = commands(VXLAN_IN_KERNEL, NodeState(routes=frozenset({DIRECT})))
    assert (done.devices, done.fdb) == ([], [])
    assert done.routes == [
        "route replace 10.244.2.0/26 via 192.168.0.12 dev eth0 proto bird",
        "link del vxlan.calico",
    ]


def test_a_device_with_another_parent_is_made_anew_with_all_that_hangs_on_it() -> None:
    wrong = replace(VXLAN_IN_KERNEL, vxlan=replace(DEVICE, parent="eth1"))
    done = commands(wrong, VXLAN_STATE)
    assert done.devices[0] == "link del vxlan.calico"
    assert done.fdb == commands(NOTHING, VXLAN_STATE).fdb
    assert done.routes == commands(NOTHING, VXLAN_STATE).routes


def test_mtu_and_address_of_a_device_change_in_place_the_new_address_before_the_old_one_goes() -> (
    None
):
    wrong = replace(
        VXLAN_IN_KERNEL,
        vxlan=replace(DEVICE, mtu_bytes=1400, address=IPv4Address("10.244.1.9")),
    )
    done = commands(wrong, VXLAN_STATE)
    assert done.devices == [
        "link set vxlan.calico mtu 1450",
        "addr replace 10.244.1.0/32 dev vxlan.calico",
        "addr flush dev vxlan.calico to 10.244.1.9",
    ]
    assert len(done) == 3


def test_a_device_that_was_set_down_is_set_up() -> None:
    down = replace(VXLAN_IN_KERNEL, vxlan=replace(DEVICE, up=False))
    assert commands(down, VXLAN_STATE).devices == ["link set vxlan.calico up"]


def test_what_a_device_loses_with_its_last_address_is_written_anew() -> None:
    bare = replace(VXLAN_STATE, vxlan=replace(DEVICE, address=None))
    done = commands(VXLAN_IN_KERNEL, bare)
    assert done.devices == ["addr flush dev vxlan.calico", NEIGHBOUR]
    assert (done.fdb, done.routes) == ([], [TUNNELLED_COMMAND])
    used = NodeState(ipip=replace(TUNL0, address=TUNNEL), routes=frozenset({IPIP}))
    done = commands(used, replace(used, ipip=TUNL0))
    assert done.devices == ["addr flush dev tunl0"]
    assert done.routes == [
        "route replace 10.244.2.0/26 via 192.168.0.12 dev tunl0 proto bird onlink"
    ]


def test_what_a_device_has_lost_with_its_last_address_is_not_deleted_again() -> None:
    bare = NodeState(vxlan=replace(DEVICE, address=None))
    assert commands(VXLAN_IN_KERNEL, bare).routes == []
    used = NodeState(ipip=replace(TUNL0, address=TUNNEL), routes=frozenset({IPIP}))
    assert commands(used, NOTHING).routes == []


def test_a_missing_half_of_a_vtep_is_mended() -> None:
    half = replace(VXLAN_STATE, vteps=frozenset({Vtep(mac=MAC, tunnel=TUNNEL, underlay=None)}))
    done = commands(half, VXLAN_STATE)
    assert len(done) == 1
    assert done.fdb == [f"fdb replace {MAC} dev vxlan.calico dst 192.168.0.12 self permanent"]


def test_the_vtep_of_a_node_that_left_is_removed() -> None:
    done = commands(VXLAN_IN_KERNEL, replace(VXLAN_STATE, vteps=frozenset(), routes=frozenset()))
    assert done.fdb == [f"fdb del {MAC} dev vxlan.calico dst 192.168.0.12 self"]
    # The neighbour last: ip ends at a neighbour that it cannot delete.
    assert done.routes == [
        "route del 10.244.2.0/26 dev vxlan.calico",
        "neigh del 10.244.2.0 dev vxlan.calico",
    ]


def test_tunl0_only_loses_its_address() -> None:
    used = NodeState(ipip=replace(TUNL0, address=TUNNEL), routes=frozenset({IPIP}))
    done = commands(used, NodeState(routes=frozenset({DIRECT})))
    assert done.devices == ["addr flush dev tunl0"]
    assert done.routes == ["route replace 10.244.2.0/26 via 192.168.0.12 dev eth0 proto bird"]


def test_tunl0_gets_mtu_and_address_and_is_set_up() -> None:
    wanted = NodeState(ipip=replace(TUNL0, address=TUNNEL), routes=frozenset({IPIP}))
    raw = NodeState(ipip=IpipDevice(address=None, mtu_bytes=65515, up=False))
    assert commands(raw, wanted).devices == [
        "link set tunl0 mtu 1480",
        "addr replace 10.244.2.0/32 dev tunl0",
        "link set tunl0 up",
    ]


def test_without_tunl0_the_routes_through_it_are_left_out() -> None:
    wanted = NodeState(ipip=replace(TUNL0, address=TUNNEL), routes=frozenset({IPIP, DIRECT}))
    done = commands(NOTHING, wanted)
    assert done.devices == []
    assert done.routes == ["route replace 10.244.2.0/26 via 192.168.0.12 dev eth0 proto bird"]


def test_a_stale_route_of_another_metric_is_deleted_after_the_new_one_is_in() -> None:
    old = replace(DIRECT, metric=1024)
    new = replace(DIRECT, protocol=PROTO_FELIX, onlink=True)
    done = commands(NodeState(routes=frozenset({old})), NodeState(routes=frozenset({new})))
    assert done.routes == [
        "route replace 10.244.2.0/26 via 192.168.0.12 dev eth0 proto 80 onlink",
        "route del 10.244.2.0/26 dev eth0 metric 1024",
    ]


def test_a_stale_blackhole_is_deleted() -> None:
    own = Route(destination=BLOCK, protocol=PROTO_FELIX)
    done = commands(NodeState(routes=frozenset({own})), NOTHING)
    assert done.routes == ["route del blackhole 10.244.2.0/26"]

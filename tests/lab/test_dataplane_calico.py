"""Calico's part of the lab on real kernels: pools in, addresses, annotations and packets out."""

from __future__ import annotations

from typing import Any

import dataplane_sandbox
import pytest


def scenario(name: str, /, **arguments: Any) -> Any:
    return dataplane_sandbox.run("calico_scenarios", name, **arguments)


@pytest.fixture(scope="module")
def life() -> dict[str, Any]:
    found: dict[str, Any] = scenario("life")
    return found


def test_pods_get_the_mtu_of_the_time_of_their_birth(life: dict[str, Any]) -> None:
    assert life["pod"] == [1500, 1500]
    assert life["vxlan pod"] == 1450


def test_never_is_birds_and_local_pods_have_routes(life: dict[str, Any]) -> None:
    assert [line for line in life["never"] if line.startswith(("10.244", "blackhole"))] == [
        "10.244.230.128 dev caliacd53aa4120 scope link",
        "blackhole 10.244.230.128/26 proto bird",
        "10.244.239.128/26 via 192.168.0.12 dev eth0 proto bird",
    ]


def test_nodes_tell_their_address_and_tunnels_come_and_go(life: dict[str, Any]) -> None:
    assert life["annotations"] == {"projectcalico.org/IPv4Address": "192.168.1.13/24"}
    assert life["vxlan nodes"] == ["master", "node1", "node2", "node3"]
    assert life["no longer"] == []


def test_pods_live_through_a_change_of_mode(life: dict[str, Any]) -> None:
    assert life["old pods"] == ""
    assert life["blocks"] == [
        f"10.244.{start}/26" for start in ("175.64", "230.128", "239.128", "79.128")
    ]
    assert "10.244.239.128/26 via 192.168.0.12 dev eth0 proto bird" in life["never again"]


def test_a_removed_pod_leaves_no_route(life: dict[str, Any]) -> None:
    assert life["after removal"] == []


def test_dedicated_pools_of_all_modes_work_side_by_side_and_leave_nothing() -> None:
    found = scenario("dedicated")
    wire = {
        "none": ["in tcp 198.18.0.48 > 198.18.0.16", "out tcp 198.18.0.16 > 198.18.0.48"],
        "vxlan": [
            "in udp/4789 192.168.0.12 > 192.168.0.11",
            "out udp/4789 192.168.0.11 > 192.168.0.12",
        ],
        "ipip": [
            "in ipip 192.168.0.12 > 192.168.0.11 DF",
            "out ipip 192.168.0.11 > 192.168.0.12 DF",
        ],
    }
    for mode in found["modes"]:
        assert found[mode] == wire[mode]
    assert found["mtu"] == 1450
    assert found["vxlan nodes"] == ["node1", "node2"]
    # A node without an address for VXLAN has no device.
    assert found["vxlan devices"] == ["node1", "node2"]
    assert found["left"] == []
    assert found["annotations"] == [[], []]
    assert found["late"] == (
        'plugin type="calico" failed (add): the given pool (vxlan) does not exist'
    )


FROM_NODE1 = "10.244.230.128/26"


def tunnelled(routes: list[str]) -> list[str]:
    return [line for line in routes if "dev vxlan.calico" in line]


def test_a_node_without_routes() -> None:
    found = scenario("fault", name="routes_missing_on", value="node1")
    assert [line for line in found["node1"] if "via" in line] == [
        "default via 192.168.0.1 dev eth0"
    ]
    assert len(tunnelled(found["node2"])) == 3


def test_a_node_with_stale_routes() -> None:
    found = scenario("fault", name="stale_route_on", value="node1")
    assert tunnelled(found["node1"]) == []
    assert "10.244.239.128/26 via 192.168.0.12 dev eth0 proto bird" in found["node1"]


def test_one_direction_only() -> None:
    found = scenario("fault", name="one_direction", value="node1")
    assert len(tunnelled(found["node1"])) == 3
    assert not any(line.startswith(FROM_NODE1) for line in found["node2"])


def test_a_node_without_its_tunnel_device() -> None:
    found = scenario("fault", name="device_missing_on", value="node1")
    assert tunnelled(found["node1"]) == []
    assert len(tunnelled(found["node2"])) == 3


def test_a_kernel_without_vxlan_until_it_is_loaded() -> None:
    found = scenario("fault", name="kernel_lacks", value="vxlan:node1")
    assert tunnelled(found["node1"]) == []
    assert len(tunnelled(found["node2"])) == 3
    # As felix/dataplane/linux/vxlan_mgr.go does, which tries again for ever.
    assert found["log"].endswith(
        "Failed to configure vxlan tunnel device, retrying... error=operation not supported\n"
    )
    assert " vxlan_rcv\n" in found["symbols"]


def test_a_wrong_mtu_for_new_pods() -> None:
    assert scenario("fault", name="wrong_mtu", value="1400")["mtu"] == 1400


def test_a_felix_restart_and_a_slow_convergence_take_their_time() -> None:
    found = scenario("delays")
    assert found["mtu in the gap"] == 1500
    assert found["mtu after the gap"] == 1450
    # Both are at least as long as asked for, less what the waiting for their beginning took.
    assert found["gap"] > 0.2
    assert found["last"] > 0.4


def test_without_ipip_a_pool_that_wants_it_is_refused_with_the_reason() -> None:
    found = scenario("without_ipip")
    why = (
        "unavailable: no TUN device (/dev/net/tun: Inappropriate ioctl for device); "
        "to do: modprobe ipip, or let this user open /dev/net/tun"
    )
    assert found["refusal"].endswith(f"spec.ipipMode: Forbidden: this lab cannot do IPIP: {why}")
    assert found["start"] == (
        f"the lab cannot do IPIP on this machine, and its pool wants it\n  found: {why}"
    )

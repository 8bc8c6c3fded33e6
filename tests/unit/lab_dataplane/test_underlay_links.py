"""The commands that lay cables: bridges, nodes and pods."""

from __future__ import annotations

from ipaddress import IPv4Address

from pytest_k8snet.lab.dataplane import underlay
from pytest_k8snet.lab.dataplane import underlay as underlay_module
from pytest_k8snet.lab.spec import LabSpec, study_nodes


def test_each_subnet_has_a_bridge_with_the_router_and_its_nodes() -> None:
    lines = underlay.underlay_commands(LabSpec(nodes=study_nodes(4)))
    assert "link set r0 master br0 up" in lines
    assert "link set r1 master br1 up" in lines
    assert [line for line in lines if " master br" in line and " n" in line] == [
        "link set n0 master br0 up",
        "link set n1 master br0 up",
        "link set n2 master br0 up",
        "link set n3 master br1 up",
    ]
    assert ("link add n1 mtu 1500 type veth peer name eth0 mtu 1500 netns node-node1") in lines


def test_shaped_links_bound_the_receive_window_and_free_ones_do_not() -> None:
    shaped = underlay.endpoint_sysctls(LabSpec(nodes=study_nodes(2)))
    free = underlay.endpoint_sysctls(LabSpec(nodes=study_nodes(2), link_rate=None))
    assert shaped["ipv4/tcp_rmem"] == "4096 131072 750000"
    assert "ipv4/tcp_rmem" not in free


def test_the_host_end_of_a_pod_is_named_as_calico_names_it() -> None:
    # cali and the start of the SHA-1 of "default.nginx".
    assert underlay_module.host_interface("default", "nginx") == "calic440f455693"
    assert len(underlay_module.host_interface("a" * 63, "b" * 253)) == 15


def test_the_cable_of_a_pod() -> None:
    cable = underlay_module.Cable(
        node="node1",
        interface="cali0123456789a",
        pod_namespace="pod-1",
        address=IPv4Address("10.244.1.5"),
        mtu_bytes=1450,
        metric=1024,
    )
    make, use = cable.host_commands()
    assert make == [
        "link add cali0123456789a mtu 1450 address ee:ee:ee:ee:ee:ee type veth"
        " peer name eth0 mtu 1450 netns pod-1"
    ]
    assert use == [
        "link set cali0123456789a up",
        "route replace 10.244.1.5/32 dev cali0123456789a scope link metric 1024",
    ]
    assert cable.pod_commands() == [
        "addr add 10.244.1.5/32 dev eth0",
        "link set eth0 up",
        "neigh replace 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent",
        "route add 169.254.1.1 dev eth0 scope link",
        "route add default via 169.254.1.1 dev eth0",
    ]

"""The JSON of ip and bridge, read."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from pytest_k8snet.lab.dataplane.felix import IpipDevice, NodeState, Vtep
from pytest_k8snet.lab.dataplane.kernel import parse

# As iproute2 6.1 prints them with -json -details.
VXLAN_LINK: dict[str, Any] = {
    "ifname": "vxlan.calico",
    "flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"],
    "mtu": 1450,
    "address": "66:11:22:33:44:55",
    "linkinfo": {
        "info_kind": "vxlan",
        "info_data": {"id": 4096, "local": "192.168.0.11", "link": "eth0", "port": 4789},
    },
    "addr_info": [{"family": "inet", "local": "10.244.1.0", "prefixlen": 32}],
}
ROUTES: list[dict[str, Any]] = [
    {"type": "unicast", "dst": "default", "gateway": "192.168.0.1", "dev": "eth0",
     "protocol": "boot", "scope": "global", "flags": []},
    {"type": "unicast", "dst": "192.168.0.0/24", "dev": "eth0", "protocol": "kernel",
     "scope": "link", "flags": []},
    {"type": "unicast", "dst": "10.244.1.5", "dev": "cali0123456789a", "protocol": "boot",
     "scope": "link", "flags": []},
    {"type": "unicast", "dst": "10.244.2.0/26", "gateway": "10.244.2.0", "dev": "vxlan.calico",
     "protocol": "boot", "scope": "global", "flags": ["onlink"], "metrics": [{"mtu": 1450}]},
    {"type": "unicast", "dst": "10.244.3.0/26", "gateway": "192.168.0.13", "dev": "eth0",
     "protocol": "80", "scope": "global", "flags": ["onlink", "linkdown"]},
    {"type": "unicast", "dst": "10.244.4.0/26", "gateway": "192.168.0.14", "dev": "eth0",
     "protocol": "bird", "scope": "global", "metric": 1024, "flags": []},
    {"type": "blackhole", "dst": "10.244.1.0/26", "protocol": "bird", "scope": "global",
     "flags": []},
    {"type": "unicast", "dst": "172.16.0.0/12", "gateway": "192.168.0.1", "dev": "eth0",
     "protocol": "zebra", "scope": "global", "flags": []},
]  # fmt: skip


def test_owned_are_routes_of_calicos_protocols_and_through_its_tunnels() -> None:
    assert sorted(map(str, parse(ROUTES, [], [], []).routes)) == [
        "10.244.2.0/26 via 10.244.2.0 dev vxlan.calico onlink mtu 1450",
        "10.244.3.0/26 via 192.168.0.13 dev eth0 proto 80 onlink",
        "10.244.4.0/26 via 192.168.0.14 dev eth0 proto bird metric 1024",
        "blackhole 10.244.1.0/26 proto bird",
    ]


def test_the_vxlan_device_is_read() -> None:
    device = parse([], [VXLAN_LINK], [], []).vxlan
    assert device is not None
    assert (device.vni, device.port, device.parent) == (4096, 4789, "eth0")
    assert device.address == IPv4Address("10.244.1.0")
    assert device.mtu_bytes == 1450
    assert device.up
    down = parse([], [{**VXLAN_LINK, "flags": ["BROADCAST", "MULTICAST"]}], [], []).vxlan
    assert down is not None
    assert not down.up


def test_tunl0_without_an_address_and_down_is_read_as_such() -> None:
    link = {"ifname": "tunl0", "flags": ["NOARP"], "mtu": 1480, "addr_info": []}
    assert parse([], [link], [], []).ipip == IpipDevice(address=None, mtu_bytes=1480, up=False)


def test_neighbours_and_fdb_entries_are_halves_of_vteps() -> None:
    neighbours = [
        {"dst": "10.244.2.0", "dev": "vxlan.calico", "lladdr": "66:aa:bb:cc:dd:ee"},
        {"dst": "fe80::1", "dev": "vxlan.calico", "lladdr": "66:aa:bb:cc:dd:ee"},
        {"dst": "192.168.0.9", "dev": "eth0", "lladdr": "02:00:00:00:00:01"},
        {"dst": "10.244.9.0", "dev": "vxlan.calico"},
    ]
    fdb = [
        {"mac": "66:aa:bb:cc:dd:ee", "ifname": "vxlan.calico", "dst": "192.168.0.12"},
        {"mac": "33:33:00:00:00:01", "ifname": "vxlan.calico"},
    ]
    assert parse([], [], neighbours, fdb).vteps == {
        Vtep(mac="66:aa:bb:cc:dd:ee", tunnel=IPv4Address("10.244.2.0"), underlay=None),
        Vtep(mac="66:aa:bb:cc:dd:ee", tunnel=None, underlay=IPv4Address("192.168.0.12")),
    }


def test_an_empty_kernel_is_an_empty_state() -> None:
    assert parse([], [], [], []) == NodeState()

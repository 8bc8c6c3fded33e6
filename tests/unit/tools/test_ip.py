"""What iproute2 prints, as typed values; and what is said where it prints something else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recorded import DATA

from pytest_k8snet.errors import ToolError, ToolMissingError
from pytest_k8snet.tools import ip


def printed(name: str) -> str:
    return (DATA / "ip" / name).read_text()


def test_a_route_by_a_gateway_has_its_source() -> None:
    assert ip.parse_route(printed("route-via.json"), "10.244.5.3") == ip.Route(
        destination="10.244.5.3",
        device="v0",
        gateway="10.1.0.2",
        source="10.1.0.1",
    )


def test_a_neighbour_on_the_link_has_no_gateway() -> None:
    route = ip.parse_route(printed("route-on-link.json"), "10.1.0.9")
    assert (route.device, route.gateway) == ("v0", "")


@pytest.mark.parametrize(
    "said", ["RTNETLINK answers: Network is unreachable", "RTNETLINK answers: Invalid argument"]
)
def test_no_route_is_an_error_of_its_own(said: str) -> None:
    with pytest.raises(ip.NoRouteError) as caught:
        ip.parse_route(said, "10.9.0.3")
    assert str(caught.value) == (
        "there is no route to 10.9.0.3\n"
        f"  found: {said}\n"
        "  to do: check the routes on this node and whether calico-node has programmed them"
    )


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit"])
def test_a_route_that_drops_is_no_route(kind: str) -> None:
    text = json.dumps([{"type": kind, "dst": "10.9.0.0/16", "dev": "lo"}])
    with pytest.raises(ip.NoRouteError) as caught:
        ip.parse_route(text, "10.9.0.3")
    assert caught.value.found == f"a {kind} route"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("[]", "no device in the route to 10.9.0.3: []"),
        ('[{"dst":"10.9.0.3"}]', "no device in the route to 10.9.0.3: "),
        ('[{"dst":"10.9.0.4","dev":"eth0"}]', "asked for 10.9.0.3, it answered for 10.9.0.4"),
        ('[{"dst":"10.8.0.0/16","dev":"eth0"}]', "asked for 10.9.0.3, it answered for 10.8.0.0/16"),
    ],
)
def test_an_answer_to_nothing_or_to_another_question_tells_no_route(said: str, found: str) -> None:
    with pytest.raises(ToolError) as caught:
        ip.parse_route(said, "10.9.0.3")
    assert type(caught.value) is ToolError
    assert caught.value.found.startswith(found)


@pytest.mark.parametrize("where", ["route", "hop"])
def test_a_route_that_encapsulates_says_so(where: str) -> None:
    # Linux 6.18, iproute2 6.1: what ``ip route add 10.4.0.1 encap seg6 ...`` is told as.
    lwt = {"encap": "seg6", "mode": "encap", "segs": ["fc00::1"]}
    hops = [{"dev": "eth0", "weight": 1}, {"dev": "eth0", "weight": 1, **lwt}]
    way = {"dev": "eth0", **lwt} if where == "route" else {"nexthops": hops}
    found = ip.parse_route(json.dumps([{"dst": "10.4.0.1", **way}]), "10.4.0.1")
    assert (found.encap, str(found)) == ("seg6", "10.4.0.1 encap seg6 dev eth0")


def test_a_route_over_a_gateway_of_the_other_family_has_it() -> None:
    text = '[{"dst":"10.0.0.1","via":{"family":"inet6","host":"fe80::1"},"dev":"eth0"}]'
    assert ip.parse_route(text, "10.0.0.1").gateway == "fe80::1"


def test_links_have_kind_mtu_and_counters() -> None:
    links = ip.parse_links(printed("links.json"))
    assert set(links) == {"lo", "v0", "v1", "vxlan.calico"}
    assert links["vxlan.calico"].kind == "vxlan"
    assert links["vxlan.calico"].mtu_bytes == 1450
    assert links["v0"].kind == "veth"
    assert links["lo"].kind == ""
    raw = {one["ifname"]: one for one in json.loads(printed("links.json"))}["v0"]["stats64"]
    sent, received = links["v0"].sent, links["v0"].received
    assert sent is not None
    assert received is not None
    assert sent.bytes == raw["tx"]["bytes"] > 0
    assert received.packets == raw["rx"]["packets"]
    assert (sent.errors, sent.dropped) == (raw["tx"]["errors"], raw["tx"]["dropped"])


def test_addresses_have_their_prefix_length() -> None:
    links = ip.parse_links(printed("addresses.json"))
    assert links["v0"].addresses[0] == "10.1.0.1/24"
    assert links["v0"].state == "UP"


def devices(*given: ip.Link) -> dict[str, ip.Link]:
    return {one.name: one for one in given}


def device(name: str, kind: str = "", **facts: Any) -> ip.Link:
    return ip.Link(name=name, kind=kind, mtu_bytes=1500, state="UP", mac="", **facts)


NIC, SECOND = device("eth0"), device("ens5f1np1")
GUESTS = device("vnet0", "tun", master="br0"), device("veth7", "veth", master="br0")


# Kinds and fields as iproute2 6.1 writes them (ip/iplink_*.c), and link types as the kernel names
# them (if_arp.h); the names of devices say nothing.
@pytest.mark.parametrize(
    ("top", "links", "wires"),
    [
        ("eth0", [NIC], ["eth0"]),
        ("ib0", [device("ib0", link_type="infiniband")], ["ib0"]),
        ("ib0.8001", [device("ib0.8001", "ipoib", link_type="infiniband")], ["ib0.8001"]),
        ("lan1", [device("lan1", "dsa", below="eth0"), NIC], ["lan1"]),
        ("eth0.100", [device("eth0.100", "vlan", below="eth0"), NIC], ["eth0"]),
        ("mv0", [device("mv0", "macvlan", below="eth0"), NIC], ["eth0"]),
        ("mt0", [device("mt0", "macvtap", below="eth0"), NIC], ["eth0"]),
        ("iv0", [device("iv0", "ipvlan", below="eth0"), NIC], ["eth0"]),
        ("ms0", [device("ms0", "macsec", below="eth0"), NIC], ["eth0"]),
        (
            "team0",
            [device("team0", "team"), device("a", master="team0"), device("b", master="team0")],
            ["a", "b"],
        ),
        (
            "bond0.7",
            [
                device("bond0.7", "vlan", below="bond0"),
                device("bond0", "bond"),
                device("a", master="bond0"),
                device("b", master="bond0"),
                SECOND,
            ],
            ["a", "b"],
        ),
        ("br0", [device("br0", "bridge"), device("eth0", master="br0"), *GUESTS], ["eth0"]),
        ("br0", [device("br0", "bridge"), device("eth0", "veth", master="br0")], ["eth0"]),
        # Nodes that are containers themselves: what is below is not in this namespace.
        ("eth0", [device("eth0", "veth")], ["eth0"]),
        ("eth0", [device("eth0", "netkit")], ["eth0"]),
        ("eth0", [device("eth0", "macvlan")], ["eth0"]),
    ],
)
def test_a_device_is_resolved_to_the_physical_ones_below(
    top: str, links: list[ip.Link], wires: list[str]
) -> None:
    assert ip.underside(devices(*links), top) == ip.Underside(wires=tuple(wires))


@pytest.mark.parametrize(
    ("links", "said", "tunnel"),
    [
        ([device("eth9", "vxlan", below="eth0"), NIC], "eth9 is a tunnel of kind vxlan", True),
        ([device("eth9", "geneve")], "eth9 is a tunnel of kind geneve", True),
        ([device("eth9", "gre", link_type="gre")], "eth9 is a tunnel of kind gre", True),
        ([device("eth9", "ipip", link_type="ipip")], "eth9 is a tunnel of kind ipip", True),
        ([device("eth9", "wireguard", link_type="none")], "eth9 is a tunnel of kind w", True),
        ([device("eth9", "tun", link_type="none")], "eth9 is a tunnel of kind tun", True),
        ([device("eth9", "tun")], "eth9 is a tunnel of kind tun", True),
        ([device("eth9", link_type="ppp")], "eth9 is of type ppp", True),
        ([device("eth9", link_type="none")], "eth9 is of type none", True),
        ([device("eth9", "vlan", below="wg0"), device("wg0", "wireguard")], "wg0 is a", True),
        ([device("eth9", link_type="loopback")], "eth9 is of type loopback", False),
        ([device("eth9", link_type="")], "eth9 is of type ?", False),
        ([device("eth9", "openvswitch")], "eth9 is of kind openvswitch, which is not", False),
        ([device("eth9", "dummy")], "eth9 is of kind dummy, which is not known", False),
        # As cilium_host and cilium_net are.
        ([device("eth9", "veth", below="net9")], "eth9 is a cable (veth) to net9 on", False),
        # To a container that is a VPN's, say: a node that is one itself has no NICs beside it.
        ([device("eth9", "veth"), NIC], "eth9 is a cable (veth) out of a machine that", False),
        ([device("eth9", "bond")], "nothing that leads out belongs to the bond eth9", False),
        ([device("eth9", "bridge"), *GUESTS], "nothing that leads out belongs to the b", False),
        (
            [
                device("eth9", "bridge"),
                device("eth0", master="eth9"),
                device("v", "vxlan", master="eth9"),
            ],
            "v is a tunnel of kind vxlan",
            True,
        ),
        ([device("eth9", "vlan", below="eth9")], "there is no device eth9", False),
        ([], "there is no device eth9", False),
    ],
)
def test_a_device_that_may_lead_anywhere_is_not_known(
    links: list[ip.Link], said: str, tunnel: bool
) -> None:
    found = ip.underside(devices(*links), "eth9")
    assert found.wires == ()
    assert found.unknown.startswith(said)
    assert found.tunnel == tunnel


def test_what_lies_below_a_device_is_read_with_a_tunnels_facts() -> None:
    vxlan = {"id": 8192, "local": "10.0.0.1", "link": "bond0", "port": 4790}
    links = ip.parse_links(
        json.dumps(
            [
                {
                    "ifname": "vxlan.calico",
                    "mtu": 1450,
                    "link_type": "ether",
                    "linkinfo": {"info_kind": "vxlan", "info_data": vxlan},
                },
                {"ifname": "b.7", "link": "bond0", "mtu": 1500, "link_type": "ether"},
                {"ifname": "eth0", "master": "bond0", "mtu": 1500, "link_type": "ether"},
                {
                    "ifname": "flow",
                    "mtu": 1450,
                    "linkinfo": {"info_data": {"external": True, "id": 0, "port": 4789}},
                },
            ]
        )
    )
    tunnel = links["vxlan.calico"]
    assert (tunnel.vni, tunnel.port, tunnel.below) == (8192, 4790, "bond0")
    assert (links["b.7"].below, links["eth0"].master) == ("bond0", "bond0")
    # eBPF's device carries the identifier of each packet, so it has none.
    assert (links["flow"].vni, links["flow"].port, links["flow"].link_type) == (None, 4789, "")


def test_a_device_without_statistics_has_no_counters() -> None:
    links = ip.parse_links('[{},{"ifname":"lo","mtu":65536}]')
    assert links["lo"].sent is None


@pytest.mark.parametrize(
    "said",
    [
        "ip: unrecognized option: j\nBusyBox v1.36.1 multi-call binary.",
        "ip: invalid option -- 'j'\nBusyBox v1.35.0",
        'Option "-j" is unknown, try "ip -help".',
    ],
)
def test_an_ip_without_json_is_told_with_its_remedy(said: str) -> None:
    with pytest.raises(ToolError) as caught:
        ip.parse_links("", stderr=said, exit_code=1)
    assert caught.value.problem == "ip cannot tell the network devices: it has no JSON output"
    assert caught.value.remedy == (
        "use an image with iproute2 4.14 or later; busybox's ip is not enough"
    )


def test_a_missing_ip_is_told_as_missing() -> None:
    with pytest.raises(ToolMissingError, match="there is no ip where the command ran"):
        ip.parse_links("", stderr="sh: 1: ip: not found", exit_code=127)


def test_a_field_of_the_wrong_type_is_named() -> None:
    with pytest.raises(ToolError) as caught:
        ip.parse_links('[{"ifname":"lo","mtu":"big"}]')
    assert caught.value.found == "[0].mtu is no number: 'big'"

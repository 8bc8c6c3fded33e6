"""What iproute2 prints, as typed values; and what is said where it prints something else."""

from __future__ import annotations

import json

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
        ip.parse_route("", "10.9.0.3", stderr=said + "\n", exit_code=2)
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


def test_an_empty_answer_is_no_route() -> None:
    with pytest.raises(ip.NoRouteError):
        ip.parse_route("[]", "10.9.0.3")


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

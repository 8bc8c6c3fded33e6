"""What of a command line makes its figures others: the part of a figure's key that tools know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import pytest

from pytest_k8snet import Gbit, Mbit
from pytest_k8snet.tools import TOOLS
from pytest_k8snet.tools import variant_of as variant_of_sample
from pytest_k8snet.tools.curl import Curl, CurlOptions
from pytest_k8snet.tools.iperf3 import Iperf3, Iperf3Options
from pytest_k8snet.tools.ping import Ping, PingOptions
from pytest_k8snet.tools.schedule import Schedule, ScheduledCurl


def variant_of(tool: str, command: Sequence[Any]) -> str:
    return variant_of_sample({"tool": tool, "command": list(command)})


def test_pods_of_a_mode_whose_way_is_in_none_are_part_of_it() -> None:
    sample = {"tool": "curl", "command": ["curl", "http://a/x"], "pods_in": "served in IPIP-Always"}
    assert variant_of_sample(sample) == "/x, served in IPIP-Always"
    assert variant_of_sample({"tool": "curl", "command": None}) == ""


IPERF3: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"seconds": 3, "omit_seconds": 0, "interval_seconds": 0.5, "port": 20001}, ""),
    ({"connect_timeout_seconds": 2.0, "server": "10.244.9.9", "streams": 1}, ""),
    ({"udp": True, "bitrate": 10 * Mbit}, "UDP, 10 Mbit/s"),
    ({"udp": True, "bitrate": 10 * Mbit, "length_bytes": 1200}, "UDP, 10 Mbit/s"),
    ({"udp": True}, "UDP, 1 Mbit/s"),
    (
        {"udp": True, "bitrate": 10.44 * Mbit, "length_bytes": 512},
        "UDP, 10.44 Mbit/s, 512-byte messages",
    ),
    ({"bitrate": 1.5 * Gbit}, "1.5 Gbit/s"),
    ({"streams": 4}, "4 streams"),
    ({"streams": 4, "bitrate": 5 * Mbit, "reverse": True}, "4 streams, 5 Mbit/s each, reverse"),
    ({"reverse": True}, "reverse"),
    ({"bidirectional": True}, "both directions at once"),
    ({"length_bytes": 1200}, "1200-byte messages"),
    ({"window_bytes": 65536}, "window of 65536 bytes"),
    ({"congestion": "bbr"}, "congestion bbr"),
    ({"mss_bytes": 1200}, "MSS 1200"),
    ({"dscp": "EF"}, "DSCP EF"),
    ({"ipv6": True}, "IPv6 only"),
    ({"ipv6": False}, "IPv4 only"),
]


@pytest.mark.parametrize(("options", "variant"), IPERF3)
def test_iperf3(options: dict[str, Any], variant: str) -> None:
    argv = Iperf3().argv(Iperf3Options(**{"server": "10.244.1.2", **options}))
    assert variant_of("iperf3", argv) == variant


def test_every_option_of_iperf3_is_known_to_change_a_figure_or_not() -> None:
    tried = {name for options, _ in IPERF3 for name in options}
    assert tried == {field.name for field in fields(Iperf3Options)}


CURL: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"requests": 100, "max_time_seconds": 2.0, "connect_timeout_seconds": 1.0}, ""),
    ({"time_limit_seconds": 30.0}, ""),
    ({"url": "http://web.example:8080/healthz?deep=1#part"}, "/healthz?deep=1"),
    ({"url": "https://web.example"}, "https"),
    ({"url": "http://[fd00::1]:80/a[1]{b}"}, "/a[1]{b}"),
    ({"method": "HEAD"}, "HEAD"),
    ({"method": "POST"}, "POST"),
    ({"headers": ["Host: shop.example"]}, "Host: shop.example"),
    ({"headers": ["Authorization: Bearer s3cr3t", "X-Api-Key: 1"]}, "Authorization, X-Api-Key"),
    ({"resolve": ["web.example:80:10.0.0.1"]}, "resolve web.example:80:10.0.0.1"),
    ({"insecure": True, "follow_redirects": True}, "any certificate, following redirects"),
    ({"ipv6": True}, "IPv6 only"),
]


@pytest.mark.parametrize(("options", "variant"), CURL)
def test_curl_one_after_the_other_and_on_a_schedule(options: dict[str, Any], variant: str) -> None:
    wanted = CurlOptions(**{"url": "http://10.96.0.20/", **options})
    assert variant_of("curl", Curl().argv(wanted)) == variant
    schedule = Schedule.jittered(wanted, 2, seed=1)
    assert variant_of("curl", ScheduledCurl().argv(schedule)) == variant


def test_every_option_of_curl_is_known_to_change_a_figure_or_not() -> None:
    tried = {name for options, _ in CURL for name in options}
    assert tried == {field.name for field in fields(CurlOptions)}


@pytest.mark.parametrize(
    ("options", "variant"),
    [
        ({}, ""),
        ({"count": 3, "interval_seconds": 0.01, "wait_seconds": 1}, ""),
        ({"size_bytes": 1400}, "1400 bytes"),
    ],
)
def test_ping(options: dict[str, Any], variant: str) -> None:
    argv = Ping().argv(PingOptions(address="10.244.1.2", **options))
    assert variant_of("ping", argv) == variant


def test_an_option_that_only_a_newer_version_uses_is_no_usual_one() -> None:
    argv = [*Iperf3().argv(Iperf3Options(server="10.244.1.2")), "--zerocopy"]
    assert variant_of("iperf3", argv) == "--zerocopy"


@pytest.mark.parametrize("tool", [*TOOLS, "unheard-of"])
@pytest.mark.parametrize("command", [[], ["-c"], [None, 5, {}], ["iperf3", "-b"], ["curl", "-X"]])
def test_whatever_stands_in_a_record_is_no_error(tool: str, command: list[Any]) -> None:
    assert isinstance(variant_of(tool, command), str)

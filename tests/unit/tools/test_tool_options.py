"""Command lines, and arguments that are refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet import Mbit, second
from pytest_k8snet.errors import SettingsError
from pytest_k8snet.tools import curl, iperf3


def client(**options: Any) -> list[str]:
    return list(
        iperf3.Iperf3().argv(iperf3.Iperf3Options(server="10.244.1.3", port=20001, **options))
    )


def request(url: str = "http://10.96.0.20/", **options: Any) -> list[str]:
    return list(curl.Curl().argv(curl.CurlOptions(url=url, **options)))


def value_of(option: str, words: list[str]) -> str:
    return words[words.index(option) + 1]


def test_a_plain_tcp_test_has_this_command_line() -> None:
    assert client(seconds=10) == [
        "timeout",
        "-k",
        "2",
        "31",
        "iperf3",
        "-c",
        "10.244.1.3",
        "-p",
        "20001",
        "-J",
        "--get-server-output",
        "-t",
        "10",
        "-i",
        "1",
        "--connect-timeout",
        "5000",
        "-O",
        "1",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"streams": 4}, ["-P", "4"]),
        ({"reverse": True}, ["-R"]),
        ({"bidirectional": True}, ["--bidir"]),
        ({"bitrate": 100 * Mbit}, ["-b", "100000000"]),
        ({"udp": True}, ["-u", "-b", "1000000", "-l", "1200"]),
        (
            {"udp": True, "bitrate": 5 * Mbit, "length_bytes": 512},
            ["-u", "-b", "5000000", "-l", "512"],
        ),
        ({"length_bytes": 4096}, ["-l", "4096"]),
        ({"window_bytes": 262144}, ["-w", "262144"]),
        ({"congestion": "cubic"}, ["-C", "cubic"]),
        ({"mss_bytes": 1340}, ["-M", "1340"]),
        ({"dscp": "EF"}, ["--dscp", "EF"]),
        ({"dscp": 46}, ["--dscp", "46"]),
        ({"ipv6": True}, ["-6"]),
        ({"ipv6": False}, ["-4"]),
    ],
)
def test_each_iperf3_option_has_its_words(options: dict[str, Any], words: list[str]) -> None:
    assert client(**options)[len(client()) :] == words


def test_a_udp_test_may_take_as_long_as_a_blocked_one_needs() -> None:
    limit = float(value_of("2", client(udp=True, seconds=1, omit_seconds=0)))
    assert limit >= 1 + 35


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"port": 0}, "port=0 is no whole number from 1 to 65535"),
        ({"port": True}, "port=True is no whole number from 1 to 65535"),
        ({"seconds": 0}, "seconds=0 is no whole number from 1 to 86400"),
        ({"seconds": 1.5}, "seconds=1.5 is no whole number from 1 to 86400"),
        ({"omit_seconds": 61}, "omit_seconds=61 is no whole number from 0 to 60"),
        ({"seconds": None}, "seconds=None is no whole number from 1 to 86400"),
        ({"streams": 129}, "streams=129 is no whole number from 1 to 128"),
        ({"mss_bytes": 20}, "mss_bytes=20 is no whole number from 88 to 9216"),
        (
            {"udp": True, "length_bytes": 70000},
            "length_bytes=70000 is no whole number from 16 to 65507",
        ),
        (
            {"udp": True, "congestion": "cubic"},
            "congestion and mss_bytes are TCP's; udp has neither",
        ),
        ({"reverse": True, "bidirectional": True}, "reverse and bidirectional exclude each other"),
        ({"bitrate": 100}, "no bit rate: bitrate=100"),
        ({"bitrate": 0 * Mbit}, "no bit rate: bitrate=0 bit/s"),
        ({"bitrate": 1 * second}, "no bit rate: bitrate=1 s"),
        ({"congestion": "cubic; reboot"}, "no congestion control: 'cubic; reboot'"),
        ({"interval_seconds": 0.01}, "interval_seconds=0.01 is not 0 or from 0.1 to 60"),
        ({"dscp": 64}, "dscp=64 is no whole number from 0 to 63"),
        ({"dscp": "-J"}, "no DSCP: '-J'"),
        ({"server": "-s"}, "no address or name of a server: '-s'"),
        ({"server": "a b"}, "no address or name of a server: 'a b'"),
        ({"server": ""}, "no address or name of a server: ''"),
        ({"connect_timeout_seconds": 0}, "connect_timeout_seconds=0 is not from 0.1 to 600"),
    ],
)
def test_what_iperf3_cannot_do_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        iperf3.Iperf3Options(**{"server": "10.0.0.1", "port": 5201, **options})
    assert caught.value.problem == f"iperf3 cannot be run like this: {problem}"
    assert caught.value.remedy


@pytest.mark.parametrize(
    "server", ["10.244.1.3", "::1", "fe80::1%eth0", "svc.ns.svc.cluster.local."]
)
def test_addresses_and_names_are_servers(server: str) -> None:
    words = iperf3.Iperf3().argv(iperf3.Iperf3Options(server=server, port=1))
    assert value_of("-c", list(words)) == server


@pytest.mark.parametrize("port", [0, 65536])
def test_a_server_that_cannot_be_is_refused(port: int) -> None:
    with pytest.raises(SettingsError, match="iperf3's server cannot be run like this"):
        iperf3.Iperf3().server_argv(port)


def test_curl_has_this_command_line() -> None:
    assert request(requests=100) == [
        *("timeout", "-k", "2", "105", "curl", "-q", "-sS", "-o", "/dev/null"),
        *("-w", "%{json}\\n", "--http1.1", "-H", "Connection: close", "--noproxy", "*"),
        *("--connect-timeout", "5", "-m", "10", "http://10.96.0.20/#[1-100]"),
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "HEAD"}, ["--head"]),
        ({"method": "POST"}, ["-X", "POST"]),
        ({"headers": ["Host: a.test", "X-A: b"]}, ["-H", "Host: a.test", "-H", "X-A: b"]),
        ({"resolve": ["a.test:80:10.0.0.1"]}, ["--resolve", "a.test:80:10.0.0.1"]),
        ({"insecure": True}, ["-k"]),
        ({"follow_redirects": True}, ["-L"]),
        ({"ipv6": True}, ["-6"]),
        ({"ipv6": False}, ["-4"]),
    ],
)
def test_each_curl_option_has_its_words(options: dict[str, Any], words: list[str]) -> None:
    assert request(**options)[len(request()) - 1 : -1] == words


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://h/a[1-9]{b,c}", "http://h/a\\[1-9\\]\\{b,c\\}#[1-10]"),
        ("http://[fd00::1]:8080/", "http://\\[fd00::1\\]:8080/#[1-10]"),
        ("http://h/p?q=1#part", "http://h/p?q=1#[1-10]"),
        ("http://h", "http://h#[1-10]"),
    ],
)
def test_the_characters_of_a_url_mean_themselves(url: str, word: str) -> None:
    assert request(url)[-1] == word


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"url": "10.96.0.20"}, "no URL: '10.96.0.20'"),
        ({"url": "ftp://h/"}, "no URL: 'ftp://h/'"),
        ({"url": "http://"}, "no URL: 'http://'"),
        ({"url": "http://h/a b"}, "no URL: 'http://h/a b'"),
        ({"url": "http://h/\n-o /etc/x"}, "no URL: 'http://h/\\n-o /etc/x'"),
        ({"requests": True}, "requests=True is no whole number from 1 to 10000"),
        ({"requests": 0}, "requests=0 is no whole number from 1 to 10000"),
        ({"requests": 10_001}, "requests=10001 is no whole number from 1 to 10000"),
        ({"method": "get it"}, "no HTTP method: 'get it'"),
        ({"headers": "Host: a"}, "headers is one text, and should be a list of them"),
        ({"headers": ["a\r\nb: c"]}, "no header line: 'a\\r\\nb: c'"),
        (
            {"headers": ["connection: keep-alive"]},
            "the Connection header is not free: it makes every request a fresh connection",
        ),
        ({"resolve": ["a.test"]}, "no resolve entry: 'a.test'"),
        ({"max_time_seconds": 0}, "max_time_seconds=0 is not from 0.001 to 3600"),
        ({"time_limit_seconds": 0.5}, "time_limit_seconds=0.5 is less than 1"),
    ],
)
def test_what_curl_cannot_do_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        curl.CurlOptions(**{"url": "http://h/", **options})
    assert caught.value.problem == f"curl cannot be run like this: {problem}"


def test_ten_requests_may_all_time_out_and_a_thousand_may_not() -> None:
    assert curl.CurlOptions(url="http://h/", connect_timeout_seconds=5).timeout_seconds >= 50
    assert curl.CurlOptions(url="http://h/", requests=1000).timeout_seconds <= 1010
    assert curl.CurlOptions(url="http://h/", time_limit_seconds=7).timeout_seconds == 7

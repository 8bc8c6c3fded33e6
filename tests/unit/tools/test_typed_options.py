"""The keyword arguments of a tool are its options: typed once more, and never apart from them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

import pytest

from pytest_k8snet.errors import SettingsError
from pytest_k8snet.tools.curl import CurlKeywords, CurlOptions
from pytest_k8snet.tools.iperf3 import Iperf3Keywords, Iperf3Options
from pytest_k8snet.tools.ping import PingKeywords, PingOptions
from pytest_k8snet.tools.tool import options_of


@pytest.mark.parametrize(
    ("keywords", "options", "fixed"),
    [
        (Iperf3Keywords, Iperf3Options, {"server", "port"}),
        (CurlKeywords, CurlOptions, {"url"}),
        (PingKeywords, PingOptions, {"address"}),
    ],
)
def test_keywords_are_the_options_that_are_free(
    keywords: Any, options: Any, fixed: set[str]
) -> None:
    typed = get_type_hints(options)
    free = {one.name: typed[one.name] for one in fields(options) if one.name not in fixed}
    assert get_type_hints(keywords) == free


def test_an_option_that_is_none_is_told_with_those_that_are() -> None:
    with pytest.raises(SettingsError) as caught:
        options_of(Iperf3Options, Iperf3Keywords, {"second": 3, "streams": 2}, server="10.244.1.3")
    assert str(caught.value) == (
        "iperf3 has no option 'second'\n"
        "  found: near to it: seconds, omit_seconds\n"
        "  to do: take one of: bidirectional, bitrate, congestion, connect_timeout_seconds, dscp, "
        "interval_seconds, ipv6, length_bytes, mss_bytes, omit_seconds, reverse, seconds, "
        "streams, udp, window_bytes"
    )


def test_what_is_fixed_is_no_option() -> None:
    with pytest.raises(SettingsError, match="curl has no option 'url'"):
        options_of(CurlOptions, CurlKeywords, {"url": "http://b/"}, url="http://a/")
    assert options_of(CurlOptions, CurlKeywords, {"requests": 3}, url="http://a/").requests == 3

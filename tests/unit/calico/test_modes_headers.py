from __future__ import annotations

import pytest

from pytest_k8snet.calico.modes import (
    ETHERNET_WIRE_BYTES,
    Encapsulation,
    frame_bytes,
    goodput_ceiling,
    mss_bytes,
    pod_mtu_bytes,
    ratio_ceiling,
)
from pytest_k8snet.units import Mbit


@pytest.mark.parametrize(
    ("enabled", "at_1500", "at_9000", "at_1460"),
    [
        ([], 1500, 9000, 1460),
        (["ipip"], 1480, 8980, 1440),
        (["vxlan"], 1450, 8950, 1410),
        (["ipip", "vxlan"], 1450, 8950, 1410),
        (["vxlan", "vxlan-v6"], 1430, 8930, 1390),
        (["vxlan", "wireguard"], 1440, 8940, 1400),
        (["vxlan-v6", "wireguard", "wireguard-v6"], 1420, 8920, 1380),
    ],
)
def test_the_pod_mtu_is_the_hosts_less_the_largest_overhead_of_all(
    enabled: list[Encapsulation], at_1500: int, at_9000: int, at_1460: int
) -> None:
    assert [pod_mtu_bytes(host, enabled) for host in (1500, 9000, 1460)] == [
        at_1500,
        at_9000,
        at_1460,
    ]


def test_the_mss_is_what_headers_and_timestamps_leave() -> None:
    assert mss_bytes(1500) == 1448
    assert mss_bytes(1450) == 1398


def test_a_full_segment_fills_the_underlays_mtu_on_every_path() -> None:
    # At its own family's MTU, each path's outer packet has exactly the host's 1500 bytes.
    assert frame_bytes(mss_bytes(1500), "direct") == 1514
    assert frame_bytes(mss_bytes(1480), "ipip") == 1514
    assert frame_bytes(mss_bytes(1450), "vxlan") == 1514


def test_the_goodput_ceiling_is_rate_times_payload_over_frame() -> None:
    assert float(goodput_ceiling(300 * Mbit, 1448, "direct")) == pytest.approx(300e6 * 1448 / 1514)
    assert float(
        goodput_ceiling(1000 * Mbit, 1398, "vxlan", link_bytes=ETHERNET_WIRE_BYTES)
    ) == pytest.approx(1e9 * 1398 / 1538)


def test_the_ratio_ceiling_of_vxlan_to_direct_is_the_ratio_of_payloads_at_equal_frames() -> None:
    assert float(ratio_ceiling(1398, "vxlan", 1448)) == pytest.approx(1398 / 1448)
    # With a VXLAN pool anywhere, direct pods have the small MTU as well, in smaller frames.
    assert float(ratio_ceiling(1398, "direct", 1448)) == pytest.approx(
        (1398 / 1464) / (1448 / 1514)
    )

from __future__ import annotations

import pytest

from pytest_k8snet.calico.headers import (
    ETHERNET_WIRE_BYTES,
    frame_bytes,
    goodput_ceiling,
    mss_bytes,
    pod_mtu_bytes,
    ratio_ceiling,
)
from pytest_k8snet.calico.modes import Family
from pytest_k8snet.units import Mbit


@pytest.mark.parametrize(
    ("families", "at_1500", "at_9000", "at_1460"),
    [
        ([], 1500, 9000, 1460),
        (["ipip"], 1480, 8980, 1440),
        (["vxlan"], 1450, 8950, 1410),
        (["ipip", "vxlan"], 1450, 8950, 1410),
    ],
)
def test_the_pod_mtu_is_the_hosts_less_the_largest_overhead_of_any_family(
    families: list[Family], at_1500: int, at_9000: int, at_1460: int
) -> None:
    assert [pod_mtu_bytes(host, families) for host in (1500, 9000, 1460)] == [
        at_1500,
        at_9000,
        at_1460,
    ]


def test_wireguard_takes_sixty_bytes() -> None:
    assert pod_mtu_bytes(1500, ["vxlan"], wireguard=True) == 1440


def test_the_mss_is_what_headers_and_timestamps_leave() -> None:
    assert mss_bytes(1500) == 1448
    assert mss_bytes(1450, timestamps=False) == 1410


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

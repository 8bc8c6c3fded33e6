"""Bucket, queue and windows follow from the rate."""

from __future__ import annotations

from pytest_k8snet.lab.dataplane.underlay import Shaper
from pytest_k8snet.units import Gbit, Mbit


def test_the_command_of_the_default_rate() -> None:
    assert Shaper(rate=300 * Mbit, mtu_bytes=1500).command("eth0") == (
        "qdisc replace dev eth0 root tbf rate 300000000bit burst 300000 limit 1500000"
    )


def test_the_first_burst_stays_under_a_percent_of_a_second() -> None:
    for rate in (10 * Mbit, 300 * Mbit, 10 * Gbit):
        assert Shaper(rate=rate, mtu_bytes=1500).burst_bytes * 8 / rate < 0.01


def test_a_slow_link_still_takes_whole_frames() -> None:
    slow = Shaper(rate=1 * Mbit, mtu_bytes=9000)
    assert slow.burst_bytes == 2 * 9014
    assert slow.queue_bytes == 65536


def test_the_windows_of_three_connections_fit_the_queue() -> None:
    for rate in (10 * Mbit, 300 * Mbit, 1 * Gbit):
        shaper = Shaper(rate=rate, mtu_bytes=1500)
        least, initial, largest = shaper.tcp_rmem_bytes
        assert least <= initial <= largest
        # The kernel offers about half of the buffer as window.
        assert 3 * largest / 2 <= shaper.queue_bytes

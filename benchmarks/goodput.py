"""Goodput of every mode on shaped links against line rate x payload / frame."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.cluster import lab_run
from benchmarks.figure import Figure
from pytest_k8snet.calico.modes import CalicoMode, goodput_ceiling
from pytest_k8snet.lab.spec import DEFAULT_LINK_RATE
from pytest_k8snet.measure.endpoints import Pair
from pytest_k8snet.units import BitRate, Mbit

SECONDS = 3


def figures() -> Iterator[Figure]:
    """Goodput against its ceiling, and encapsulated over direct against theirs, per mode."""
    with lab_run() as run:
        for mode in CalicoMode:
            yield from _pair(run.pod_pair(mode), mode)
            yield from _pair(run.cross_subnet_pair(mode), mode)


def ceiling(pair: Pair, mode: CalicoMode, mss_bytes: int) -> BitRate:
    """What the link can carry of payload, with this mode's headers and the connection's MSS."""
    path = mode.path(pair.placement == "same-subnet") if pair.scene == "pod-pod" else "direct"
    return goodput_ceiling(DEFAULT_LINK_RATE, mss_bytes, path)


def _pair(pair: Pair, mode: CalicoMode) -> Iterator[Figure]:
    direct = pair.baseline.iperf3(seconds=SECONDS)
    pod = pair.iperf3(seconds=SECONDS)
    assert pod.mss_bytes is not None
    assert direct.mss_bytes is not None
    best = ceiling(pair, mode, pod.mss_bytes)
    share = pod.bandwidth / best
    yield Figure(
        name=f"goodput {mode} {pair.placement}, of its ceiling {best / Mbit:.1f} Mbit/s",
        measured=f"{share:.4f} ({pod.bandwidth / Mbit:.2f} Mbit/s)",
        promised="1 +- 0.02",
        holds=abs(share - 1) <= 0.02,
    )
    ratio = pod.bandwidth / direct.bandwidth
    possible = best / ceiling(pair.baseline, mode, direct.mss_bytes)
    yield Figure(
        name=f"pod-pod / node-node {mode} {pair.placement}, ceiling {possible:.4f}",
        measured=f"{ratio:.4f}",
        promised="ceiling +- 1 %",
        holds=abs(ratio / possible - 1) <= 0.01,
    )

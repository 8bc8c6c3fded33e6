"""Every way of measuring with iperf3, through a tunnel of the lab: right figures, proven paths."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

# On a link of 100 Mbit/s. A tunnelled pod pair gets about 92 of them with TCP.
WAYS = """
import pytest
from pytest_k8snet import Mbit
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.errors import SettingsError

pytestmark = pytest.mark.k8snet_modes("VXLAN-Always")

def test_udp(calico_mode, pod_pair):
    result = pod_pair.iperf3(udp=True, bitrate=20 * Mbit, seconds=1, omit_seconds=0)
    assert result.protocol == "UDP"
    assert result.bandwidth == pytest.approx(20 * Mbit, rel=0.1)
    assert result.lost_ratio < 0.02
    assert result.jitter is not None
    assert result.retransmits is None

def test_udp_reverse(calico_mode, pod_pair):
    result = pod_pair.iperf3(udp=True, bitrate=20 * Mbit, seconds=1, omit_seconds=0, reverse=True)
    assert result.bandwidth == pytest.approx(20 * Mbit, rel=0.1)
    assert result.lost_ratio < 0.02

def test_udp_bidirectional(calico_mode, pod_pair):
    result = pod_pair.iperf3(udp=True, bitrate=10 * Mbit, seconds=1, bidirectional=True)
    assert result.bandwidth == pytest.approx(10 * Mbit, rel=0.1)
    assert result.reverse_bandwidth == pytest.approx(10 * Mbit, rel=0.1)
    assert result.opposite.jitter is not None

def test_udp_streams(calico_mode, pod_pair):
    result = pod_pair.iperf3(udp=True, bitrate=20 * Mbit, streams=2, seconds=1, omit_seconds=0)
    assert len(result.streams) == 2
    assert result.bandwidth == pytest.approx(40 * Mbit, rel=0.1)

def test_reverse(calico_mode, pod_pair):
    result = pod_pair.iperf3(seconds=1, omit_seconds=0, reverse=True)
    assert result.direction == "reverse"
    assert 60 * Mbit < result.bandwidth < 100 * Mbit

def test_bidirectional(calico_mode, pod_pair):
    result = pod_pair.iperf3(seconds=1, omit_seconds=0, bidirectional=True)
    assert result.direction == "bidirectional"
    assert 30 * Mbit < result.bandwidth < 100 * Mbit
    assert 30 * Mbit < result.reverse_bandwidth < 100 * Mbit

def test_streams_and_omit(calico_mode, pod_pair):
    result = pod_pair.iperf3(seconds=2, omit_seconds=1, streams=4)
    assert len(result.streams) == 4
    assert len(result.intervals) == 2
    assert 60 * Mbit < result.bandwidth < 100 * Mbit

def test_modes_by_their_names(k8snet):
    pair = k8snet.pod_pair("vxlan-always")
    assert pair.mode is pair.client.mode is pair.baseline.mode is CalicoMode.VXLAN_ALWAYS
    for make in (k8snet.pod_pair, k8snet.node_pair, k8snet.pod, k8snet.node_to_pod):
        with pytest.raises(SettingsError, match="There is no Calico mode 'overlay'"):
            make("overlay")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, dict[str, Any]]]:
    """What pytest printed, and each test's sample by the test's name."""
    folder = tmp_path_factory.mktemp("ways")
    (folder / "test_ways.py").write_text(WAYS, encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir=."),
            *("--k8snet-lab", "--k8snet-results=results.jsonl", "-o", "k8snet_lab_rate=100M"),
            "test_ways.py",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    samples = [record for record in map(json.loads, lines) if record["kind"] == "sample"]
    name = "test_ways.py::{}[VXLAN-Always]"
    return done.stdout + done.stderr, {
        way: next(sample for sample in samples if sample["test"] == name.format(way))
        for way in (
            *("test_udp", "test_udp_reverse", "test_udp_bidirectional", "test_udp_streams"),
            *("test_reverse", "test_bidirectional", "test_streams_and_omit"),
        )
    }


def test_every_way_gives_the_figures_that_were_asked_for(
    run: tuple[str, dict[str, dict[str, Any]]],
) -> None:
    assert "8 passed" in run[0], run[0]


def test_every_way_proves_the_path_of_both_directions(
    run: tuple[str, dict[str, dict[str, Any]]],
) -> None:
    for way, sample in run[1].items():
        assert sample["path"]["state"] == "proven", (way, sample["path"]["text"])
        assert sample["path"]["expected"] == "vxlan"

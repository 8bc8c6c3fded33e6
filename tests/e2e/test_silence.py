"""While a sample is taken nothing passes between pytest and the cluster but its exec's pings."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from api_tunnel import Tunnel
from user_runs import finished

from pytest_k8snet.lab import LabProcess

# It lasts longer than the Lease goes without being renewed otherwise.
SUITE = """
def test_sample(calico_mode, pod_pair):
    pod_pair.iperf3(seconds=8)
"""
SECONDS = 8
PING_SECONDS = 3
#: A WebSocket control frame with its mask, in a TLS record with header, tag and padding.
PING_BYTES = 64
#: What the exec takes to begin and to end.
MARGIN_SECONDS = 1.5


@pytest.mark.parametrize("pings", [False, True])
def test_nothing_but_pings_passes_between_the_start_and_the_end_of_a_sample(
    lab: LabProcess, tmp_path: Path, pings: bool
) -> None:
    (tmp_path / "test_sample.py").write_text(SUITE, encoding="utf-8")
    tunnel = Tunnel(lab.server)
    try:
        (tmp_path / "config.yaml").write_text(tunnel.kubeconfig(lab), encoding="utf-8")
        output = finished(
            tmp_path,
            *("--kubeconfig=config.yaml", "--k8snet-change=dedicated"),
            *("--k8snet-modes=VXLAN-Always", "--k8snet-results=results.jsonl", "--rootdir=."),
            *("-o", f"k8snet_exec_ping={PING_SECONDS if pings else 60}s"),
        )
    finally:
        tunnel.close()
    assert "1 passed" in output, output
    lines = (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()
    (sample,) = [one for one in map(json.loads, lines) if one["kind"] == "sample"]
    start = datetime.fromisoformat(sample["started"]).timestamp()
    first, last = start + MARGIN_SECONDS, start + SECONDS - MARGIN_SECONDS
    during = [(moment - start, size) for moment, size in tunnel.passed if first < moment < last]
    # Each ping has its answer: two short TLS records.
    assert len(during) <= (2 * SECONDS / PING_SECONDS if pings else 0)
    assert [size for _, size in during if size > PING_BYTES] == []
    # The log is no empty one.
    assert bool(during) == pings
    assert any(moment < first for moment, _ in tunnel.passed)
    assert any(moment > last for moment, _ in tunnel.passed)

"""While a sample is taken nothing passes between pytest and the cluster."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from api_tunnel import Tunnel
from user_runs import finished

from pytest_k8snet.lab import LabProcess

# It lasts longer than the Lease goes without being renewed otherwise.
SUITE = """
def test_sample(calico_mode, pod_pair):
    pod_pair.iperf3(seconds=8)
"""
SECONDS = 8
#: What the exec takes to begin and to end.
MARGIN_SECONDS = 0.5


def test_not_a_byte_passes_between_the_start_and_the_end_of_a_sample(
    lab: LabProcess, tmp_path: Path
) -> None:
    (tmp_path / "test_sample.py").write_text(SUITE, encoding="utf-8")
    tunnel = Tunnel(lab.server)
    try:
        (tmp_path / "config.yaml").write_text(tunnel.kubeconfig(lab), encoding="utf-8")
        output = finished(
            tmp_path,
            *("--kubeconfig=config.yaml", "--k8snet-change=dedicated"),
            *("--k8snet-modes=VXLAN-Always", "--k8snet-results=results.jsonl", "--rootdir=."),
        )
    finally:
        tunnel.close()
    assert "1 passed" in output, output
    lines = (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()
    (sample,) = [one for one in map(json.loads, lines) if one["kind"] == "sample"]
    start = datetime.fromisoformat(sample["started"]).timestamp()
    first, last = start + MARGIN_SECONDS, start + SECONDS - MARGIN_SECONDS
    assert [moment - start for moment in tunnel.passed if first < moment < last] == []
    # The log is no empty one.
    assert any(moment < first for moment in tunnel.passed)
    assert any(moment > last for moment in tunnel.passed)

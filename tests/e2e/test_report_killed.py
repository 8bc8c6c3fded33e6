"""A run on the lab killed at moments of its life: nothing measured is lost, and it can be drawn.

The moments are the records on disk, which no slow machine shifts. ``K8SNET_SOAK=50`` kills after
each of the first fifty records.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from html import unescape
from pathlib import Path

import pytest

from pytest_k8snet.cli import main

SUITE = """
import pytest

@pytest.mark.k8snet_modes("VXLAN-Always")
def test_one_by_one(calico_mode, pod_pair, node_pair):
    for _ in range(3):
        assert pod_pair.iperf3(seconds=1, omit_seconds=0).bandwidth > 0
        assert node_pair.iperf3(seconds=1, omit_seconds=0).bandwidth > 0

@pytest.mark.k8snet_plan("seconds=1 omit=0 last=40 steal=1 idle=0 warmup=0 span=0 outlier=0")
def test_gate(bandwidth, pod_pair, node_pair):
    assert bandwidth(pod_pair) / bandwidth(node_pair) >= 0.1
    assert bandwidth(pod_pair) / bandwidth(node_pair) >= 0.1
"""
#: Before a test is found; between facts and changes; among samples; behind the first verdict.
MOMENTS = (1, 4, 6, 20)
SOAK = int(os.environ.get("K8SNET_SOAK", "0"))
SECONDS = 180


def killed_after(count: int, folder: Path) -> Path:
    """Start the suite, and kill it once so many records are on disk."""
    (folder / "test_suite.py").write_text(SUITE, encoding="utf-8")
    results = folder / "results.jsonl"
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir=."),
            *("--k8snet-lab", "--k8snet-results=results.jsonl", "-o", "k8snet_lab_rate=30M"),
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        until = time.monotonic() + SECONDS
        try:
            while not results.exists() or results.read_bytes().count(b"\n") < count:
                assert run.poll() is None, "the run ended before it could be killed"
                assert time.monotonic() < until, f"no {count} records within {SECONDS} s"
                # Finer than any record takes; the lab itself is not slowed by it.
                time.sleep(0.005)
        finally:
            run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    return results


@pytest.mark.parametrize("count", range(1, SOAK + 1) if SOAK else MOMENTS)
def test_after_kill_9_every_line_parses_and_the_report_is_drawn(tmp_path: Path, count: int) -> None:
    results = killed_after(count, tmp_path)
    whole = results.read_bytes()
    assert whole.endswith(b"\n")
    records = [json.loads(line) for line in whole.splitlines()]
    assert len(records) >= count
    assert records[0]["kind"] == "run"
    assert "end" not in {record["kind"] for record in records}

    page = tmp_path / "report.html"
    assert main(["report", str(results), "-o", str(page)]) == 0
    text = unescape(page.read_text(encoding="utf-8"))
    begun = {record["kind"] for record in records} != {"run"}
    assert ("Cut off before its end" if begun else "Running, no result yet") in text
    samples = [record["id"] for record in records if record["kind"] == "sample"]
    assert re.findall(r'<tr id="k8snet-(s\d+)"', text) == sorted(samples, key=text.index)
    assert ("NOT put back" in text) == any(record["kind"] == "change" for record in records)
    for verdict in (record for record in records if record["kind"] == "verdict"):
        assert verdict["claim"] in text

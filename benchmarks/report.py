"""What a report of ten thousand samples costs, and how large one of two hundred figures is.

The samples have real raw output and per-second series. Each report is drawn by ``k8snet report`` in
a process of its own, so that time and memory are what a user sees, imports and reading included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure

SCENES = ("node-node", "pod-pod", "pod-node", "node-pod")
MODES = ("Never", "VXLAN-CrossSubnet", "VXLAN-Always", "IPIP-CrossSubnet", "IPIP-Always")
#: Characters of raw output a sample: iperf3's of five seconds.
RAW_CHARACTERS = 6000
SERIES_SECONDS = 5
PHASES = ("time_connect", "time_starttransfer", "total")
#: Requests of each curl sample, which is every fourth.
REQUESTS = 20


def figures() -> Iterator[Figure]:
    """Time, memory and size of the reports."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _drawn(Path(folder))


def _drawn(folder: Path) -> Iterator[Figure]:
    seconds, megabytes, _ = _draw(folder, samples=10_000)
    yield Figure(
        name="report of 10,000 samples drawn",
        measured=f"{seconds:.1f} s",
        promised="<= 5 s",
        holds=seconds <= 5,
    )
    yield Figure(
        name="report of 10,000 samples: resident memory at most",
        measured=f"{megabytes:.0f} MB",
        promised="<= 300 MB",
        holds=megabytes <= 300,
    )
    _, _, size = _draw(folder, samples=200)
    yield Figure(
        name="report of 200 samples: size",
        measured=f"{size / 1e6:.2f} MB",
        promised="<= 3 MB",
        holds=size <= 3_000_000,
    )


def _draw(folder: Path, samples: int) -> tuple[float, float, int]:
    """Seconds, resident megabytes and bytes of the report of so many samples."""
    results, page = folder / f"{samples}.jsonl", folder / f"{samples}.html"
    with results.open("w", encoding="ascii") as file:
        for record in _records(samples):
            file.write(json.dumps(record) + "\n")
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest_k8snet.cli", "report", str(results), "-o", str(page)],
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"k8snet report ended with {process.returncode}")
    # Linux counts ru_maxrss in KiB.
    return time.monotonic() - begun, usage.ru_maxrss * 1024 / 1e6, page.stat().st_size


def _records(samples: int) -> Iterator[dict[str, Any]]:
    common = {"schema": 1, "run": "k8snet-abc123", "time": "2026-11-23T01:02:03.456Z"}
    yield {**common, "kind": "run", "tool_version": "0", "command_line": [], "settings": {}}
    for number in range(samples):
        sample = _curl(number) if number % 4 == 3 else _iperf3(number)
        yield {**common, "kind": "sample", **sample}
    yield {**common, "kind": "end", "exit_status": 0, "counts": {}, "restored": None, "seconds": 1}


def _iperf3(number: int) -> dict[str, Any]:
    scene = SCENES[number % len(SCENES)]
    rate = 2.5e9 * (1 + number % 7 / 100)
    client, server = scene.split("-")
    interval = {"bits_per_second": rate, "retransmits": 0, "rtt": 312, "snd_cwnd": 1_048_576}
    raw = json.dumps({"intervals": [interval] * (RAW_CHARACTERS // 85)})
    return {
        "id": f"s{number:05}",
        "test": f"test_study.py::test_{number % 100}",
        "tool": "iperf3",
        "scene": scene,
        "placement": "same-subnet",
        "mode": None if scene == "node-node" else MODES[number % len(MODES)],
        "client": {"kind": client, "name": "client", "node": "node1", "address": "10.244.0.1"},
        "server": {"kind": server, "name": "server", "node": "node2", "address": "10.244.1.1"},
        "label": f"{scene} node1 -> node2",
        "seconds": SERIES_SECONDS,
        "figures": {"bandwidth_bits_per_second": rate, "retransmit_ratio": 0, "mss_bytes": 1398},
        "series": {"bandwidth_bits_per_second": [rate] * SERIES_SECONDS},
        "path": {"state": "proven", "text": "vxlan.calico carried it", "expected": "vxlan"},
        "command": ["iperf3", "-c", "10.244.1.1", "--json"],
        "raw": raw,
        "warmup": False,
        "error": None,
    }


def _curl(number: int) -> dict[str, Any]:
    times = [0.001 * (1 + (number + at) % 13 / 10) for at in range(REQUESTS)]
    return {
        "id": f"s{number:05}",
        "test": f"test_study.py::test_{number % 100}",
        "tool": "curl",
        "scene": "node-clusterip",
        "placement": "",
        "mode": None,
        "client": {"kind": "node", "name": "node1", "node": "node1", "address": "192.168.0.11"},
        "url": "http://10.96.0.64/",
        "label": "node-clusterip node1 -> http://10.96.0.64/",
        "seconds": 1.0,
        "figures": {"requests": REQUESTS, "failed": 0}
        | {f"{phase}_mean_seconds": sum(times) / REQUESTS for phase in PHASES},
        "distribution": {f"{phase}_seconds": times for phase in PHASES},
        "command": ["curl", "http://10.96.0.64/"],
        "raw": "x" * RAW_CHARACTERS,
        "warmup": False,
        "error": None,
    }

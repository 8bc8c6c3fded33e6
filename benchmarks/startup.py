"""How long until a lab answers, and what an unrelated pytest run pays for the plugin."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Figure
from pytest_k8snet import lab
from pytest_k8snet.cluster.api import connect
from pytest_k8snet.cluster.nodes import usable_nodes
from pytest_k8snet.lab.spec import LabSpec, study_nodes

COLLECT_RUNS = 31


def figures() -> Iterator[Figure]:
    """Labs of four and of fifty nodes; collecting tests that have nothing to do with us."""
    yield _lab(4, 2.0)
    yield _lab(50, 30.0)
    yield _collect()


def _lab(nodes: int, promised_seconds: float) -> Figure:
    begun = time.perf_counter()
    with lab.start(LabSpec(nodes=study_nodes(nodes)), timeout_seconds=120) as process:
        # The first import of the client is pytest's cost, not the lab's.
        answering = time.perf_counter() - begun
        api = connect(kubeconfig=process.kubeconfig, context=None)
        ready = len(usable_nodes(api))
    return Figure(
        name=f"lab of {nodes} nodes up and answering ({ready} usable)",
        measured=f"{answering:.2f} s",
        promised=f"<= {promised_seconds:g} s",
        holds=answering <= promised_seconds,
    )


def _collect() -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "test_unrelated.py")
        path.write_text("".join(f"def test_{n}(): pass\n" for n in range(200)), encoding="ascii")
        base = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
        ratios = []
        for turn in range(COLLECT_RUNS):
            walls = {}
            arms = [("with", base), ("without", [*base, "-p", "no:k8snet"])]
            for name, argv in arms if turn % 2 == 0 else reversed(arms):
                begun = time.perf_counter()
                subprocess.run([*argv, str(path)], check=True, capture_output=True, cwd=folder)
                walls[name] = time.perf_counter() - begun
            ratios.append(walls["with"] / walls["without"])
    ratio = statistics.median(ratios)
    return Figure(
        name=f"unrelated pytest --collect-only, with / without, median of {COLLECT_RUNS} pairs",
        measured=f"{ratio:.3f}",
        promised="<= 1.05",
        holds=ratio <= 1.05,
    )

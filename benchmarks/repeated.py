"""Whether a lab that plays recorded delays says the same every time: a user's run, many times.

``python -m benchmarks.repeated switch 20`` and ``python -m benchmarks.repeated first 50``; as one
of all benchmarks, a few times each.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure
from pytest_k8snet.cluster.api import connect
from pytest_k8snet.lab import LabProcess, LabSpec, start, study_nodes

FIRST_TEST = Path(__file__).parents[1] / "conftest_examples" / "first_test" / "test_network.py"
SWITCH_TEST = """
def test_switch(calico_mode, switch_cost):
    assert switch_cost.lost
"""
IN_PLACE = (
    *("--k8snet-change=in-place:default-ipv4-ippool", "--k8snet-modes=VXLAN-Always"),
    *("-o", "k8snet_fabric_routes_pods=true", "-o", "k8snet_prove_first=false"),
)
#: Recorded of a real cluster: seconds in which no pod reached another node (tests/data/real).
LEAST_GAP_SECONDS, MOST_GAP_SECONDS = 3.0, 3.6
MOST_LAG_SECONDS = 5.0
FAULTS = "/api/v1/namespaces/kube-system/configmaps"


def figures(switches: int = 2, firsts: int = 3) -> Iterator[Figure]:
    """Both, some times."""
    yield from switch(switches)
    yield from first(firsts)


def switch(count: int) -> Iterator[Figure]:
    """The gap of a switch from Never to VXLAN in place, and whether the way back is waited for."""
    gaps, recovered = [], 0
    with start(LabSpec(nodes=study_nodes(), timing="recorded")) as lab:
        for number in range(count):
            output, records = _run(lab, SWITCH_TEST, *IN_PLACE)
            told = [record for record in records if record["kind"] == "switch"]
            entered, back = told if len(told) == 2 else ({}, {})
            gaps.append(entered.get("longest_gap_seconds") or 0.0)
            well = "put back  yes, all of it" in output and back.get("recovered") is True
            recovered += well
            _say(f"switch {number + 1}: gap {gaps[-1]:.2f} s, put back after recovery: {well}")
    right = sum(LEAST_GAP_SECONDS <= gap <= MOST_GAP_SECONDS for gap in gaps)
    yield Figure(
        name="gap of Never -> VXLAN with recorded timing",
        measured=f"{min(gaps):.2f} to {max(gaps):.2f} s, {right}/{count}",
        promised=f"{LEAST_GAP_SECONDS} to {MOST_GAP_SECONDS} s in all",
        holds=right == count,
    )
    yield Figure(
        name="put back only after recovery",
        measured=f"{recovered}/{count}",
        promised="all",
        holds=recovered == count,
    )


def first(count: int) -> Iterator[Figure]:
    """The first test of the examples, while kube-proxy follows later and later."""
    green = lost = asked = 0
    with start(LabSpec(nodes=study_nodes(), timing="recorded")) as lab:
        api = connect(kubeconfig=lab.kubeconfig)
        for number in range(count):
            lag = MOST_LAG_SECONDS * number / max(1, count - 1)
            meta = {"name": "k8snet-lab-faults"}
            data = {"kube-proxy-lag": f"{lag:.2f}"}
            api.create(FAULTS, {"metadata": meta, "data": data})
            output, records = _run(lab, FIRST_TEST.read_text(encoding="utf-8"))
            api.delete(f"{FAULTS}/{meta['name']}")
            web = [record["figures"] for record in records if record.get("tool") == "curl"]
            green += "2 passed" in output
            asked += sum(one["requests"] for one in web)
            lost += sum(one["failed"] for one in web)
            bad = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
            _say(f"first {number + 1}: lag {lag:.2f} s, {'; '.join(bad) or 'green'}")
    name = f"first_test with kube-proxy {MOST_LAG_SECONDS:.0f} s late at most"
    yield Figure(name=name, measured=f"{green}/{count} green", promised="all", holds=green == count)
    yield Figure(
        name="requests that were lost to start-up",
        measured=f"{lost} of {asked}",
        promised="none",
        holds=lost == 0 and asked > 0,
    )


def _run(lab: LabProcess, test: str, *words: str) -> tuple[str, list[dict[str, Any]]]:
    """What a user's run printed, and its records."""
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "test_it.py").write_text(test, encoding="utf-8")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir=."),
                *("--k8snet-results=r.jsonl", f"--kubeconfig={lab.kubeconfig}", *words),
            ],
            cwd=folder,
            env={**os.environ, "COLUMNS": "120"},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = (folder / "r.jsonl").read_text(encoding="utf-8").splitlines()
        return done.stdout, [json.loads(line) for line in lines]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _say(line: str) -> None:
    load = os.getloadavg()[0]
    print(f"{line} (load {load:.1f})", file=sys.stderr, flush=True)


if __name__ == "__main__":
    for figure in {"switch": switch, "first": first}[sys.argv[1]](int(sys.argv[2])):
        print(figure, flush=True)

"""What a run takes beside its samples: seconds and requests, on a lab as slow as a real cluster.

Also the pytest plugin that counts: ``-p benchmarks.run``.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure
from pytest_k8snet import lab
from pytest_k8snet.cluster.api import connect
from pytest_k8snet.cluster.http import HttpClient
from pytest_k8snet.lab.spec import LabSpec, study_nodes

#: As recorded on a real cluster: how long a pod's sandbox takes, and a namespace to go.
DELAYS = {"pod-start-delay": "1.3", "namespace-end-delay": "5"}
ONE = """
def test_one(pod_pair):
    assert pod_pair.iperf3(seconds=1, omit_seconds=0).bandwidth > 0
"""
MANY = """
import pytest

@pytest.mark.parametrize("turn", range(23))
def test_many(node, pod, web_service, turn):
    assert not pod.curl(web_service.cluster_ip_url, requests=1).failed
"""
_COUNTED = "K8SNET_BENCH_COUNTED"


def figures() -> Iterator[Figure]:
    """One sample of `pod_pair`, nothing changed; then 23 tests of a Service."""
    with lab.start(LabSpec(nodes=study_nodes(4)), timeout_seconds=120) as process:
        api = connect(kubeconfig=process.kubeconfig, context=None)
        api.create(
            "/api/v1/namespaces/kube-system/configmaps",
            {"metadata": {"name": "k8snet-lab-faults"}, "data": DELAYS},
        )
        seconds, asked = _run(ONE, process.kubeconfig)
        yield _figure("setup of a run of one sample", f"{seconds['setup']:.1f} s", 3.0)
        # The namespace alone is waited for.
        yield _figure("its teardown, a namespace taking 5 s", f"{seconds['teardown']:.1f} s", 6)
        yield _figure("its requests, streams included", f"{asked.total()}", 60)
        _, asked = _run(MANY, process.kubeconfig)
        yield _figure("requests for each of 23 tests", f"{asked.total() / 23:.1f}", 10)


def _run(tests: str, kubeconfig: Path) -> tuple[dict[str, float], Counter[str]]:
    """Run tests in a process of their own; returns seconds by phase, and requests by kind."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_it.py").write_text(tests, encoding="ascii")
        counted = Path(folder, "counted.json")
        argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "benchmarks.run"]
        done = subprocess.run(
            [*argv, "--durations=0", f"--kubeconfig={kubeconfig}", f"--rootdir={folder}", folder],
            env=os.environ | {_COUNTED: str(counted)},
            capture_output=True,
            text=True,
            check=True,
        )
        found = re.findall(r"^([\d.]+)s (setup|teardown) ", done.stdout, re.MULTILINE)
        seconds = {
            phase: sum(float(number) for number, of in found if of == phase)
            for phase in ("setup", "teardown")
        }
        return seconds, Counter(json.loads(counted.read_text(encoding="utf-8")))


def _figure(name: str, measured: str, promised: float) -> Figure:
    value, _, unit = measured.partition(" ")
    return Figure(
        name=name,
        measured=measured,
        promised=f"<= {promised:g} {unit}".rstrip(),
        holds=float(value) <= promised,
    )


# -- In the process that runs the tests ------------------------------------------------------------


def pytest_sessionstart() -> None:
    """Count every request and stream where it leaves the process."""
    counted: Counter[str] = Counter()
    for name in ("once", "lines", "open_websocket"):
        _count(name, counted)
    target = Path(os.environ[_COUNTED])
    atexit.register(lambda: target.write_text(json.dumps(counted), encoding="utf-8"))


def _count(name: str, counted: Counter[str]) -> None:
    original = getattr(HttpClient, name)

    def counting(self: HttpClient, *args: Any, **options: Any) -> Any:
        counted[name] += 1
        return original(self, *args, **options)

    setattr(HttpClient, name, counting)

"""pytest walking a cluster through modes, in a process of its own: stopped at points of its life.

A point lies between the moment when the run has claimed the cluster and its end; what it takes
unstopped is measured first, so that the points are spread over all of it on any machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import user_runs
from calico_run import POOL

from pytest_k8snet.change.lease import current_holder
from pytest_k8snet.cluster.api import Api, connect
from pytest_k8snet.lab import LabProcess

#: How many points the series of kills has; the default keeps the suite short.
POINTS = int(os.environ.get("K8SNET_SOAK", "1"))
#: Those of signals, and of runs started together: 30 and 20 for 50.
SIGNALS = max(1, POINTS * 3 // 5)
DOUBLE_STARTS = max(1, POINTS * 2 // 5)
#: Longer than any run takes, in seconds.
PATIENCE_SECONDS = 120
_CLAIM_SECONDS = 60
#: What a run takes about, from its claim to its end; twice as long on a busy machine.
USUAL_SECONDS = 6.0

#: Each test leaves the time span in which it held its mode: two runs' spans must never overlap.
STUDY = """
import time
from pathlib import Path

def test_modes(calico_mode, pod_pair):
    begun = time.monotonic()
    assert pod_pair.iperf3(seconds=1, omit_seconds=0).bandwidth > 0
    with Path("spans").open("a", encoding="ascii") as spans:
        print(begun, time.monotonic(), file=spans)
"""
CHANGES = ("dedicated", f"in-place:{POOL}")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A lab with the API of it."""

    lab: LabProcess
    api: Api

    @classmethod
    def of(cls, lab: LabProcess) -> Cluster:
        """Connect to a lab."""
        return cls(lab, connect(kubeconfig=lab.kubeconfig, context=None))


@contextmanager
def started(
    cluster: Cluster, folder: Path, change: str, modes: str = "Never,VXLAN-Always,IPIP-CrossSubnet"
) -> Generator[subprocess.Popen[str]]:
    """A run that walks through some modes; killed if the block ends before it."""
    folder.mkdir(exist_ok=True)
    (folder / "test_study.py").write_text(STUDY, encoding="utf-8")
    run = user_runs.start(
        folder,
        *("-v", "--rootdir=.", "-o", "k8snet_fabric_routes_pods=true"),
        *("--kubeconfig", str(cluster.lab.kubeconfig), "--k8snet-change", change),
        *("--k8snet-modes", modes),
        # What else is installed costs each of hundreds of runs its imports.
        *("-p", "pytest_k8snet.plugin"),
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
    )
    try:
        yield run
    finally:
        if run.poll() is None:
            run.kill()
            run.communicate()


def ended(run: subprocess.Popen[str]) -> tuple[int, str]:
    """A run's exit status and output, once it has ended."""
    output, _ = run.communicate(timeout=PATIENCE_SECONDS)
    return run.returncode, output


def claimed(cluster: Cluster, run: subprocess.Popen[str]) -> float:
    """Wait until the run holds the cluster: before that there is nothing to put back."""
    deadline = time.monotonic() + _CLAIM_SECONDS
    while (holder := current_holder(cluster.api)) is None or (
        f"process {run.pid})" not in holder.identity
    ):
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < deadline, f"the cluster is held by {holder}"
        time.sleep(0.01)
    return time.monotonic()


def lifetime(cluster: Cluster, folder: Path, change: str) -> float:
    """How long a run that nobody stops holds the cluster, in seconds."""
    with started(cluster, folder, change) as run:
        begun = claimed(cluster, run)
        status, output = ended(run)
    assert status == 0, output
    return time.monotonic() - begun


def stopped(
    cluster: Cluster, folder: Path, change: str, sign: signal.Signals, after_seconds: float
) -> tuple[int, str]:
    """Send a run a signal some time after it has claimed the cluster; its status and output."""
    with started(cluster, folder, change) as run:
        begun = claimed(cluster, run)
        try:
            run.wait(timeout=max(0.0, after_seconds - (time.monotonic() - begun)))
        except subprocess.TimeoutExpired:
            run.send_signal(sign)
        return ended(run)


def point_of(lifetime_seconds: float, point: int, points: int) -> float:
    """When a point of so many is, in seconds after the claim."""
    return lifetime_seconds * point / (points + 1)


def was_faster(output: str, point: int, points: int) -> bool:
    """Whether a run may have been through before the signal came: late in its life, all passed."""
    return point > points / 2 and output.count(" PASSED ") == 3

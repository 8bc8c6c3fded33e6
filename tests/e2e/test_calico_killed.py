"""Runs killed at points spread over their life: the cluster is as before, and nothing is left.

``K8SNET_SOAK=50`` sets the number of points of each series; the default keeps the suite short.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from calico_run import objects, opened

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.restore import restore_cluster
from pytest_k8snet.calico.session import Strategy
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.connection import connect
from pytest_k8snet.errors import LockedError
from pytest_k8snet.lab import LabProcess

POINTS = int(os.environ.get("K8SNET_SOAK", "2"))


@pytest.fixture(scope="module")
def api(lab: LabProcess) -> Api:
    return connect(kubeconfig=lab.kubeconfig, context=None)


def start_run(lab: LabProcess, strategy: Strategy) -> subprocess.Popen[str]:
    program = Path(__file__).with_name("calico_run.py")
    return subprocess.Popen(
        [sys.executable, str(program), str(lab.kubeconfig), strategy],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def begun(run: subprocess.Popen[str]) -> float:
    """Wait until the run has loaded its modules: before that there is nothing to kill."""
    assert run.stdout is not None
    assert run.stdout.readline() == "connected\n"
    return time.monotonic()


@pytest.fixture(scope="module", params=["in-place", "dedicated"])
def strategy(request: pytest.FixtureRequest) -> Strategy:
    chosen: Strategy = request.param
    return chosen


@pytest.fixture(scope="module")
def lifetime(lab: LabProcess, strategy: Strategy) -> float:
    """How long a run takes that nobody kills, in seconds."""
    run = start_run(lab, strategy)
    started = begun(run)
    output, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    assert output.endswith("closed\n")
    return time.monotonic() - started


def kill_at(lab: LabProcess, strategy: Strategy, seconds: float) -> None:
    run = start_run(lab, strategy)
    started = begun(run)
    try:
        run.wait(timeout=max(0.0, seconds - (time.monotonic() - started)))
    except subprocess.TimeoutExpired:
        os.kill(run.pid, signal.SIGKILL)
    run.communicate()


@pytest.mark.parametrize("point", range(1, POINTS + 1))
def test_restore_puts_everything_back_after_kill_9(
    lab: LabProcess, api: Api, strategy: Strategy, lifetime: float, point: int
) -> None:
    before = objects(api)
    kill_at(lab, strategy, lifetime * point / (POINTS + 1))
    restore_cluster(api)
    assert objects(api) == before
    assert restore_cluster(api) == ["Nothing to restore: no run has left anything that needs it."]


@pytest.mark.parametrize("point", range(1, POINTS + 1))
def test_the_next_run_puts_everything_back_after_kill_9(
    lab: LabProcess, api: Api, strategy: Strategy, lifetime: float, point: int
) -> None:
    before = objects(api)
    kill_at(lab, strategy, lifetime * point / (POINTS + 1))
    with opened(api, strategy) as run:
        run.session.enter(CalicoMode.NEVER)
    assert objects(api) == before


@pytest.mark.parametrize("round_", range(max(1, POINTS // 3)))
def test_of_two_runs_started_together_one_works_and_the_other_names_it(
    lab: LabProcess, api: Api, strategy: Strategy, round_: int
) -> None:
    before = objects(api)
    runs = [start_run(lab, strategy), start_run(lab, strategy)]
    ended = [run.communicate(timeout=120) for run in runs]
    worked = [run.returncode == 0 for run in runs]
    # They may also have come one after the other, if one was slow to start.
    if worked.count(True) < 2:
        assert worked.count(True) == 1, ended
        (refused,) = [errors for (_, errors), ok in zip(ended, worked, strict=True) if not ok]
        winner = runs[worked.index(True)]
        assert f"{LockedError.__name__}: Another run holds this cluster: k8snet-" in refused
        assert f"process {winner.pid})" in refused
    assert objects(api) == before

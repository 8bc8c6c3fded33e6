"""pytest itself, stopped while it switches modes: all is put back, at once or by one command.

``K8SNET_SOAK=30`` sets the number of points of each series; the default keeps the suite short.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from calico_run import objects

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.connection import connect
from pytest_k8snet.lab import LabProcess

POINTS = int(os.environ.get("K8SNET_SOAK", "1"))
STUDY = """
def test_modes(calico_mode, pod_pair):
    assert pod_pair.iperf3(seconds=1).bandwidth > 0
"""


@pytest.fixture(scope="module")
def api(lab: LabProcess) -> Api:
    return connect(kubeconfig=lab.kubeconfig, context=None)


@pytest.fixture(params=["dedicated", "in-place:default-ipv4-ippool"], ids=["dedicated", "in-place"])
def change(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def start_pytest(lab: LabProcess, folder: Path, change: str) -> subprocess.Popen[str]:
    (folder / "test_study.py").write_text(STUDY)
    (folder / "pytest.ini").write_text("[pytest]\nk8snet_fabric_routes_pods = true\n")
    words = [
        *(sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"),
        *("--kubeconfig", str(lab.kubeconfig), "--k8snet-change", change),
        *("--k8snet-modes", "Never,VXLAN-Always,VXLAN-CrossSubnet", str(folder)),
    ]
    return subprocess.Popen(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_namespace(api: Api, known: set[str], run: subprocess.Popen[str]) -> None:
    """Wait until the run has begun to make things in the cluster."""
    deadline = time.monotonic() + 60
    while {one["metadata"]["name"] for one in api.list("/api/v1/namespaces")} <= known:
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < deadline, "the run makes nothing"
        time.sleep(0.02)


def stop(
    api: Api, lab: LabProcess, folder: Path, change: str, sign: signal.Signals, point: int
) -> tuple[int, str]:
    """Send a signal some time into the run's life in the cluster; its exit status and output."""
    known = {one["metadata"]["name"] for one in api.list("/api/v1/namespaces")}
    run = start_pytest(lab, folder, change)
    try:
        wait_for_namespace(api, known, run)
        # A point in the run's life, of three modes that take about 2 s each.
        time.sleep(6.0 * point / (POINTS + 1))
        run.send_signal(sign)
        output, _ = run.communicate(timeout=90)
    finally:
        if run.poll() is None:
            run.kill()
            run.communicate()
    return run.returncode, output


@pytest.mark.parametrize("point", range(1, POINTS + 1))
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_puts_the_cluster_back_at_once(
    lab: LabProcess, api: Api, tmp_path: Path, change: str, sign: signal.Signals, point: int
) -> None:
    before = objects(api)
    status, output = stop(api, lab, tmp_path, change, sign, point)
    assert objects(api) == before, output
    # Two: interrupted; zero: it was faster than the signal.
    assert status in (0, 2), output


@pytest.mark.parametrize("point", range(1, POINTS + 1))
def test_kill_9_is_put_back_by_the_restore_command(
    lab: LabProcess, api: Api, tmp_path: Path, change: str, point: int
) -> None:
    before = objects(api)
    stop(api, lab, tmp_path, change, signal.SIGKILL, point)
    restored = subprocess.run(
        [sys.executable, "-m", "pytest_k8snet.cli", "restore", "--kubeconfig", lab.kubeconfig],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert restored.returncode == 0, restored.stderr
    assert objects(api) == before, restored.stdout
    assert "Took back the changes of k8snet-" in restored.stdout

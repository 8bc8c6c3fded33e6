"""A run that is ended from outside, or loses its API server: at once, told, and nothing left."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from api_tunnel import Tunnel
from calico_run import objects
from user_runs import message, nothing_left, start

from pytest_k8snet.cluster.api import Api, connect
from pytest_k8snet.errors import ClusterError, ToolError
from pytest_k8snet.lab import LabProcess

LONG = """
def test_long(calico_mode, pod_pair):
    pod_pair.iperf3(seconds=600)
"""
#: Exits with 0 if the long sample is being taken in the pod; does not find itself.
IS_SAMPLING = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q -e '-t 60[0]'"
DEDICATED = ("--k8snet-change=dedicated", "--k8snet-modes=vxlan")


@pytest.fixture(scope="module")
def api(lab: LabProcess) -> Api:
    return connect(kubeconfig=lab.kubeconfig)


def wait_until(condition: Callable[[], bool], run: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert run.poll() is None, run.stdout and run.stdout.read()
        assert time.monotonic() < deadline, "it never comes to that"
        time.sleep(0.05)


def is_sampling(api: Api) -> bool:
    """Whether iperf3 runs in some run's client pod."""
    for pod in api.list("/api/v1/pods", labels="k8snet/role=client"):
        where = pod["metadata"]["namespace"], pod["metadata"]["name"]
        try:
            if api.exec(*where, ["sh", "-c", IS_SAMPLING]).exit_code == 0:
                return True
        except (ClusterError, ToolError):
            continue  # not up yet
    return False


def is_putting_back(api: Api) -> bool:
    """Whether the pods of the run are on their way out."""
    pods = api.list("/api/v1/pods", labels="k8snet/role=client")
    return not pods or bool(pods[0]["metadata"].get("deletionTimestamp"))


@contextmanager
def ended(run: subprocess.Popen[str]) -> Iterator[None]:
    """Let no failed test leave its run behind."""
    try:
        yield
    finally:
        if run.poll() is None:
            run.kill()
        run.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_a_sample_puts_everything_back_at_once(
    lab: LabProcess, api: Api, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "test_long.py").write_text(LONG)
    with nothing_left(api):
        run = start(tmp_path, f"--kubeconfig={lab.kubeconfig}", *DEDICATED)
        with ended(run):
            wait_until(lambda: is_sampling(api), run)
            run.send_signal(number)
            if number == signal.SIGINT:
                # An impatient key must not cut it short.
                wait_until(lambda: is_putting_back(api), run)
                run.send_signal(number)
            output = run.communicate(timeout=30)[0]
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    # The pool, and the blocks of it that were released.
    assert "  put back  yes, all of it (" in output
    ended_by = "KeyboardInterrupt" if number == signal.SIGINT else "Interrupted: signal"
    assert ended_by in output
    assert "Traceback" not in output


def test_a_lost_terminal_puts_everything_back(lab: LabProcess, api: Api, tmp_path: Path) -> None:
    (tmp_path / "test_long.py").write_text(LONG)
    ours, theirs = pty.openpty()
    with nothing_left(api):
        run = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
                *(f"--kubeconfig={lab.kubeconfig}", *DEDICATED),
            ],
            cwd=tmp_path,
            env={**os.environ, "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            # Under nohup the tests ignore it, and a child inherits that.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
            text=True,
        )
        os.close(theirs)
        with ended(run):

            def reads_and_samples() -> bool:
                while select.select([ours], [], [], 0)[0]:
                    os.read(ours, 65536)
                return is_sampling(api)

            wait_until(reads_and_samples, run)
            os.close(ours)
            # What the kernel sends to the terminal's session; ours has no controlling terminal.
            run.send_signal(signal.SIGHUP)
            run.wait(timeout=30)


def test_a_killed_run_that_changed_nothing_is_cleared_away_by_the_next(
    lab: LabProcess, api: Api, tmp_path: Path
) -> None:
    (tmp_path / "test_long.py").write_text(LONG.replace("calico_mode, ", ""))
    with nothing_left(api):
        run = start(tmp_path, f"--kubeconfig={lab.kubeconfig}")
        with ended(run):
            wait_until(lambda: is_sampling(api), run)
            run.kill()
        assert is_sampling(api)
        (tmp_path / "test_long.py").write_text("def test_next(node): pass")
        output = start(tmp_path, f"--kubeconfig={lab.kubeconfig}").communicate(timeout=60)[0]
        assert "1 passed" in output


#: Thirty seconds of patience would all be spent here.
HASTY = "import pytest_k8snet.cluster.http as one\none.PATIENCE_SECONDS = 0.5\n"
LOST = """
import pytest

def test_cut(calico_mode, pod_pair):
    pod_pair.iperf3(seconds=600)

@pytest.mark.parametrize("number", range(5))
def test_later(calico_mode, pod_pair, number):
    pod_pair.iperf3(seconds=1)
"""


def test_an_api_server_that_is_lost_is_waited_for_once_and_the_rest_is_restored_by_command(
    lab: LabProcess, api: Api, tmp_path: Path
) -> None:
    tunnel = Tunnel(lab.server)
    (tmp_path / "config.yaml").write_text(tunnel.kubeconfig(lab))
    (tmp_path / "conftest.py").write_text(HASTY)
    (tmp_path / "test_lost.py").write_text(LOST)
    before = objects(api)
    with nothing_left(api):
        run = start(tmp_path, "--kubeconfig=config.yaml", *DEDICATED, "--durations=0")
        with ended(run):
            wait_until(lambda: is_sampling(api), run)
            tunnel.close()
            output = run.communicate(timeout=60)[0].split("= short test summary info =")[0]
        assert objects(api) != before
        restored = subprocess.run(
            [sys.executable, "-m", "pytest_k8snet.cli", "restore", "--kubeconfig", lab.kubeconfig],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert restored.returncode == 0, restored.stderr
    assert "Restored the changes of k8snet-" in restored.stdout

    assert "Traceback" not in output
    assert "Rehearsal: Not passed (6 errors" in output
    cut = message(output, "test_cut[VXLAN-Always]")
    assert cut.startswith('ConnectionLostError: the exec stream of "timeout -k 2 ')
    assert "while: iperf3 pod-pod node1 -> node2" in cut
    refused = f"UnreachableError: the API server https://127.0.0.1:{tunnel.port} refuses the"
    assert output.count(refused) == 5
    assert "Connection refused (asked again and again for " in output
    assert output.count("  found: the same as at test_lost.py::test_later[VXLAN-Always-0]") == 4
    end = output.split("ERROR at teardown of")[1].split("  test:")[0]
    assert "RestoreError: The c" in end
    assert "  to do: Run `k8snet restore` " in end
    assert "put back  NO: " in output

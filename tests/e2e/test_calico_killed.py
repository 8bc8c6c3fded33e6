"""pytest killed at points of its life: the cluster is put back as it was, and nothing is left.

``K8SNET_SOAK=50`` sets the number of points of each series.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from calico_run import objects
from mode_runs import DOUBLE_STARTS, POINTS, Cluster, ended, point_of, started, stopped, was_faster

from pytest_k8snet.errors import LockedError

pytest_plugins = ["mode_fixtures"]


def restore(cluster: Cluster) -> str:
    """What ``k8snet restore`` says."""
    restored = subprocess.run(
        [
            *(sys.executable, "-m", "pytest_k8snet.cli", "restore"),
            *("--kubeconfig", str(cluster.lab.kubeconfig)),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert restored.returncode == 0, restored.stderr
    return restored.stdout


@pytest.mark.parametrize("point", range(1, POINTS + 1))
def test_restore_puts_everything_back_after_kill_9(
    cluster: Cluster, tmp_path: Path, change: str, seconds: float, point: int
) -> None:
    before = objects(cluster.api)
    status, output = stopped(
        cluster, tmp_path, change, signal.SIGKILL, point_of(seconds, point, POINTS)
    )
    told = restore(cluster)
    assert objects(cluster.api) == before, told
    assert status == -signal.SIGKILL or was_faster(output, point, POINTS), output
    assert "Nothing to restore: no run has left anything that needs it." in restore(cluster)


@pytest.mark.parametrize("point", range(1, POINTS + 1))
def test_the_next_run_puts_everything_back_after_kill_9(
    cluster: Cluster, tmp_path: Path, change: str, seconds: float, point: int
) -> None:
    before = objects(cluster.api)
    stopped(cluster, tmp_path, change, signal.SIGKILL, point_of(seconds, point, POINTS))
    with started(cluster, tmp_path, change, modes="Never") as run:
        status, output = ended(run)
    assert status == 0, output
    assert objects(cluster.api) == before, output


@pytest.mark.parametrize("round_", range(DOUBLE_STARTS))
def test_of_two_runs_started_together_one_works_and_the_other_names_it(
    cluster: Cluster, tmp_path: Path, change: str, round_: int
) -> None:
    before = objects(cluster.api)
    folders = [tmp_path / "one", tmp_path / "other"]
    with (
        started(cluster, folders[0], change, modes="VXLAN-Always") as one,
        started(cluster, folders[1], change, modes="VXLAN-Always") as other,
    ):
        runs = [one, other]
        endings = [ended(run) for run in runs]
    worked = [status == 0 for status, _ in endings]
    # They may also have come one after the other, if one was slow to start.
    if all(worked):
        assert not overlap(folders), endings
    else:
        assert any(worked), endings
        winner = runs[worked.index(True)]
        refused = endings[worked.index(False)][1]
        assert "Another run holds this cluster: k8snet-" in refused
        assert f"process {winner.pid})" in refused
        assert LockedError.__name__ in refused
        assert not (folders[worked.index(False)] / "spans").exists()
    assert objects(cluster.api) == before


def overlap(folders: list[Path]) -> bool:
    """Whether two runs held modes at the same time."""
    spans = sorted(
        tuple(map(float, line.split()))
        for folder in folders
        for line in (folder / "spans").read_text(encoding="ascii").splitlines()
    )
    return any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans))

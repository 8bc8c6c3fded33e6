"""What a cluster can resolve, measured by the command that a user runs."""

from __future__ import annotations

import re
import subprocess
import sys

from pytest_k8snet.lab import LabProcess


def test_the_doctor_measures_what_the_cluster_can_resolve(lab: LabProcess) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest_k8snet.cli", "doctor", "--resolution"),
            *("--kubeconfig", str(lab.kubeconfig), "--plan", "seconds=1 omit=0 steal=1 idle=0"),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "measuring 8 pairs of samples of 1 s, node against node ..." in done.stdout, done.stderr
    found = re.search(
        r"node-node \S+ -> \S+ against itself: ratio (\d\.\d{3}), interval \[(\S+), (\S+)\]",
        done.stdout,
    )
    assert found is not None, done.stdout + done.stderr
    ratio, low, high = (float(text) for text in found.groups())
    assert low < ratio < high
    assert (done.returncode == 0) is (low <= 1 <= high)
    assert "set limits at least that far below (or above) the ratio you expect" in done.stdout

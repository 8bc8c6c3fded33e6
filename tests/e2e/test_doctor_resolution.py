"""What a cluster can resolve, measured by the command that a user runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pytest_k8snet.cli import main
from pytest_k8snet.cluster.api import Api, connect
from pytest_k8snet.lab import LabProcess
from pytest_k8snet.measure import resolution


def doctor(lab: LabProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest_k8snet.cli", "doctor", "--resolution"),
            *("--kubeconfig", str(lab.kubeconfig), *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.fixture
def api(lab: LabProcess) -> Iterator[Api]:
    made = connect(kubeconfig=lab.kubeconfig)
    yield made
    made.close()


@pytest.fixture
def shop(api: Api) -> Iterator[str]:
    """A namespace on a cluster where nobody may make another one."""
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    api.create("/api/v1/namespaces", {"metadata": {"name": "shop", "labels": labels}})
    faults = "/api/v1/namespaces/kube-system/configmaps"
    body = {"metadata": {"name": "k8snet-lab-faults"}, "data": {"forbid": "create:namespaces"}}
    api.create(faults, body)
    try:
        yield "shop"
    finally:
        api.delete(f"{faults}/k8snet-lab-faults")
        api.delete("/api/v1/namespaces/shop")


def test_the_doctor_needs_a_namespace_where_it_may_make_none(lab: LabProcess, shop: str) -> None:
    refused = doctor(lab)
    assert refused.returncode == 1
    assert "measure    missing: create namespaces\n" in refused.stdout


def test_the_doctor_measures_what_the_cluster_can_resolve(
    lab: LabProcess,
    shop: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Three pairs tell as much of the command as sixteen, which take a minute.
    monkeypatch.setattr(resolution, "PAIRS", 3)
    words = ["doctor", "--resolution", "--kubeconfig", str(lab.kubeconfig), "--namespace", shop]
    status = main([*words, "--plan", "seconds=1 omit=0 steal=1 idle=0"])
    output = capsys.readouterr().out
    assert "measure    all granted\n" in output
    assert "measuring 3 pairs of samples of 1 s, node against node ..." in output
    found = re.search(
        r"node-node \S+ -> \S+ against itself: ratio (\d\.\d{3}), interval \[(\S+), (\S+)\]", output
    )
    assert found is not None, output
    ratio, low, high = (float(text) for text in found.groups())
    assert low < ratio < high
    assert status == (1 if "NOT 1, so something drifts" in output else 0)
    assert "set limits at least that far below (or above) the ratio you expect" in output
    assert len(re.findall(r"^kernel     node\d has VXLAN and IPIP$", output, re.M)) == 2


def test_the_doctor_measures_with_the_image_that_it_is_given(lab: LabProcess) -> None:
    done = doctor(lab, "--image", "registry.invalid/tools:1")
    assert done.returncode == 2
    assert "registry.invalid/tools:1" in done.stderr

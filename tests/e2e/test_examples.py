"""The examples are files that anyone can copy; here they run as their READMEs say."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from user_runs import at_leisure

from pytest_k8snet.lab import LabProcess

EXAMPLES = Path(__file__).parents[2] / "conftest_examples"


def run_pytest(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run pytest there, as a user would, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args],
        cwd=folder,
        env={**os.environ, "STUDY_SECONDS": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def copied(name: str, to: Path) -> Path:
    """A copy of an example, so that nothing is written into the original."""
    folder = Path(shutil.copytree(EXAMPLES / name, to / name))
    for file in folder.glob("*.py"):
        file.write_text(at_leisure(file.read_text(encoding="utf-8")), encoding="utf-8")
    return folder


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The study's folder after it has run on a lab of its own, and what it printed."""
    folder = copied("calico_study", tmp_path_factory.mktemp("study"))
    done = run_pytest(
        folder,
        "--k8snet-lab",
        "--k8snet-report=report.html",
        "--k8snet-results=results.jsonl",
        "--k8snet-summary=summary.md",
        *("-o", "k8snet_lab_rate=30M"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_the_study_reproduces_every_scene_in_every_mode(study: tuple[Path, str]) -> None:
    samples = [r for r in read_lines(study[0] / "results.jsonl") if r["kind"] == "sample"]
    measured = {(r["scene"], r["placement"], r["mode"]) for r in samples if r["tool"] == "iperf3"}
    modes = {"Never", "VXLAN-CrossSubnet", "VXLAN-Always", "IPIP-CrossSubnet", "IPIP-Always"}
    assert measured == {
        (scene, placement, mode)
        for mode in modes
        for scene, placement in (
            ("node-node", "same-subnet"),
            ("node-node", "cross-subnet"),
            ("pod-pod", "same-subnet"),
            ("pod-pod", "cross-subnet"),
            ("pod-node", "same-subnet"),
        )
    }
    curls = {r["scene"]: r["figures"]["requests"] for r in samples if r["tool"] == "curl"}
    assert curls == {"node-clusterip": 10, "pod-dns": 10, "outside-loadbalancer": 10}


def test_the_path_of_every_sample_of_the_study_is_proven(study: tuple[Path, str]) -> None:
    samples = [r for r in read_lines(study[0] / "results.jsonl") if r["kind"] == "sample"]
    states = [r["path"]["state"] for r in samples if r["tool"] == "iperf3"]
    assert len(states) == 30
    assert set(states) == {"proven"}


def test_the_study_prints_the_table_and_says_what_it_changed(study: tuple[Path, str]) -> None:
    output = study[1]
    assert "pod-pod, same-subnet" in output
    assert "outside-loadbalancer" in output
    assert "proven for 30 of 33 samples; not applicable for 3" in output
    assert "23 passed" in output
    assert re.search(r"  cost      0 of \d+ requests lost in 2 switches, longest gap ", output)
    assert "put back  yes" in output


def test_the_study_leaves_report_and_summary(study: tuple[Path, str]) -> None:
    report = (study[0] / "report.html").read_text(encoding="utf-8")
    assert "VXLAN-CrossSubnet" in report
    assert "<svg" in report
    assert "http://" not in report.split("<body")[0]
    assert "VXLAN-Always" in (study[0] / "summary.md").read_text(encoding="utf-8")


def test_the_first_test_runs_on_a_given_cluster(lab: LabProcess, tmp_path: Path) -> None:
    folder = copied("first_test", tmp_path)
    done = run_pytest(folder, f"--kubeconfig={lab.kubeconfig}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.fixture
def shop(lab: LabProcess) -> Iterator[str]:
    """A Service shop/frontend on the lab, as its owner would have made it."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: https://kubernetes.io/docs/tasks/tools/")
    environment = {**os.environ, "KUBECONFIG": str(lab.kubeconfig)}

    def kubectl(*words: str) -> None:
        subprocess.run(
            ["kubectl", *words], env=environment, check=True, capture_output=True, timeout=60
        )

    kubectl("create", "namespace", "shop")
    try:
        kubectl("-n", "shop", "create", "deployment", "frontend", "--image=nginx", "--replicas=2")
        kubectl("-n", "shop", "expose", "deployment", "frontend", "--port=80")
        kubectl("-n", "shop", "rollout", "status", "deployment/frontend", "--timeout=30s")
        yield "shop/frontend"
    finally:
        kubectl("delete", "namespace", "shop")


def test_an_existing_service_is_measured_and_left_alone(
    lab: LabProcess, shop: str, tmp_path: Path
) -> None:
    done = run_pytest(copied("existing_service", tmp_path), f"--kubeconfig={lab.kubeconfig}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_one_command_leads_from_nothing_to_the_first_figures(tmp_path: Path) -> None:
    step_summary = tmp_path / "step-summary.md"
    step_summary.write_text("of an earlier step\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest_k8snet.cli", "init", "suite", "--run", "--lab"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={
            **os.environ,
            "COLUMNS": "120",
            "PYTEST_ADDOPTS": "-p no:cacheprovider -o k8snet_lab_rate=30M",
            "GITHUB_STEP_SUMMARY": str(step_summary),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert "pod-pod, same-subnet" in done.stdout
    assert (tmp_path / "suite" / "report.html").is_file()
    told = step_summary.read_text(encoding="utf-8")
    assert told.startswith("of an earlier step\n")
    assert "pod-pod, same-subnet" in told


def test_the_same_is_run_on_a_cluster_that_is_given(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest_k8snet.cli", "init", "--run", "--kubeconfig=none.yaml"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert f"KubeconfigError: the kubeconfig {tmp_path / 'none.yaml'} does not" in done.stdout

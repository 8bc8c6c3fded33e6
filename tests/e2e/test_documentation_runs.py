"""The tutorial and the how-to pages, followed: files written, commands run, in order.

A block with a title is a file. A block of ``sh`` is typed, line by line; each has to end with 0, or
as its comment ``# exit status N`` says. A block of ``console`` is for other machines (installing, a
registry) or run elsewhere. Kubeconfigs that are named lead to one lab; the tutorial starts labs of
its own, and the how-to pages share that one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from user_runs import at_leisure

from pytest_k8snet import Mbit
from pytest_k8snet.lab import LabProcess, LabSpec, start, study_nodes

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "tutorial.md", *sorted(DOCS.glob("how-to/*.md"))]
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What a page need not say, since its reader's machine does nothing else meanwhile.
PLAN = "idle=0 steal=1 seconds=1 omit=0 warmup=0 first=3 span=0 outlier=0 requests=30"
FOR_A_BUSY_MACHINE = f"-p no:cacheprovider -o k8snet_lab_rate=100M -o k8snet_plan='{PLAN}'"
#: What a lab of the run's own allows by itself.
DEDICATED = "--k8snet-change=dedicated"
#: The limit that VXLAN has to miss, by this name in the tutorial: missed by any machine.
TOO_MUCH = (">= 0.98", ">= 9.8")
EXIT_STATUS = re.compile(r"  # exit status (\d+)$")


def steps(page: Path) -> Iterator[tuple[str, str, str]]:
    """What a reader does: (language, title, text) of each block, in order."""
    for language, title, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if title or language == "sh":
            yield language, title, text


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabProcess]:
    with start(LabSpec(nodes=study_nodes(), link_rate=100 * Mbit)) as running:
        yield running
        running.check()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, cluster: LabProcess, tmp_path: Path) -> None:
    commands = 0
    for _, title, text in steps(page):
        if title:
            file = tmp_path / title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(at_leisure(text.replace(*TOO_MUCH)), encoding="utf-8")
            continue
        for command in text.splitlines():
            if page.parent.name == "how-to":
                command = command.replace(" --k8snet-lab", " --kubeconfig=lab.yaml " + DEDICATED)
            for name in re.findall(r"--kubeconfig=(\S+)", command):
                shutil.copy(cluster.kubeconfig, tmp_path / name)
            typed(command, tmp_path)
            commands += 1
    assert commands


def typed(command: str, folder: Path) -> None:
    expected = EXIT_STATUS.search(command)
    command = re.sub(r"(?<=--k8snet-plan=)'[^']*'", f"'{PLAN}'", command)
    command = command.replace("k8snet lab ", "k8snet lab --timing=quick --rate=100M ")
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTEST_ADDOPTS": FOR_A_BUSY_MACHINE,
            "COLUMNS": "120",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = f"{command}\n{done.stdout}{done.stderr}"
    assert done.returncode == int(expected[1] if expected else 0), said
    # A page never shows a run in which nothing was tested.
    assert "pytest " not in command or re.search(r"\d+ (passed|failed|error)", said), said

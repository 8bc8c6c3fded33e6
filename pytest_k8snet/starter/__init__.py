"""``k8snet init``: a small acceptance suite to begin with, and its first run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from pytest_k8snet.errors import SettingsError

#: Each file of the suite, by its name in a user's folder; the template's name shows no dot, since
#: hidden files are easily lost on the way into a package.
SUITE: Mapping[str, str] = {
    "test_network.py": "test_network.py",
    "pytest.ini": "pytest.ini",
    ".github/workflows/network.yml": "github_workflow.yml",
}


def write_suite(folder: Path) -> list[str]:
    """Write the files that are not there yet, and tell of each what became of it.

    Raises:
        SettingsError: the folder or a file in it cannot be written.
    """
    told = []
    for name, template in SUITE.items():
        path = folder / name
        text = files(__name__).joinpath("suite", template).read_text(encoding="utf-8")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # "x": what is there is somebody's own, also if it has come this very moment.
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            told.append(f"kept  {path}: it was there already")
        except OSError as exc:
            raise SettingsError(
                f"the suite cannot be written to {folder}",
                found=f"{path}: {exc.strerror or exc}",
                remedy="name a folder that you may write: k8snet init FOLDER",
            ) from None
        else:
            told.append(f"wrote {path}")
    return told


def arguments(*, lab: bool, kubeconfig: Path | None, context: str | None) -> list[str]:
    """Return what pytest is told of the cluster."""
    return [
        *(["--k8snet-lab"] if lab else []),
        *([f"--k8snet-kubeconfig={kubeconfig.absolute()}"] if kubeconfig else []),
        *([f"--k8snet-context={context}"] if context else []),
    ]


def run_suite(folder: Path, pytest_arguments: Sequence[str]) -> int:
    """Run the suite in a process of its own; returns pytest's exit status."""
    command = [sys.executable, "-m", "pytest", *pytest_arguments]
    # pytest's own Ctrl-C ends it in good order, and puts back what it changed; wait for that.
    with subprocess.Popen(command, cwd=folder, env=os.environ) as running:
        while True:
            try:
                return running.wait()
            except KeyboardInterrupt:
                continue

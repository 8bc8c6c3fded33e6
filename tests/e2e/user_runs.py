"""pytest on a lab as a user runs it: started, disturbed, and looked after for what it left."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from calico_run import objects

from pytest_k8snet.cluster.api import Api

FAULTS = "/api/v1/namespaces/kube-system/configmaps"

#: How tests for users are written here, where no page and no example says so: samples are short,
#: and no limit lies where this machine's haste decides. What is to be kept is kept.
_AT_LEISURE = (
    (r"(?<=[(,])( ?)seconds=(\d+|seconds)\b", r"\1seconds=1, omit_seconds=0"),
    (r">= (0\.\d+|floor|bandwidth_floor)$", r">= 0.1 * \1"),
    (r"< 0\.\d+$", "< 0.9"),
    (r"<= (\d+ \* m?s|latency_ceilings)", r"<= 20 * \1"),
    (r"dropped == 0$", "dropped >= 0"),
)


def at_leisure(text: str) -> str:
    """A user's test, as one that a busy machine decides as any other does."""
    for found, put in _AT_LEISURE:
        text = re.sub(found, put, text, flags=re.MULTILINE)
    return text


def start(folder: Path, *args: str, **environment: str) -> subprocess.Popen[str]:
    """Start pytest in a folder; its output comes through one pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args],
        cwd=folder,
        env={**os.environ, "COLUMNS": "120", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(folder: Path, *args: str, **environment: str) -> str:
    """What a whole run of pytest printed."""
    run = start(folder, *args, **environment)
    try:
        return run.communicate(timeout=300)[0]
    finally:
        if run.poll() is None:
            run.kill()
            run.communicate()


def recorded(folder: Path, name: str, *args: str) -> tuple[str, list[dict[str, Any]]]:
    """What a whole run on a lab of its own printed, and its records; ``test_NAME.py`` is run."""
    results = folder / f"{name}.jsonl"
    output = finished(
        folder,
        *("--rootdir=.", "--k8snet-lab", "-o", "k8snet_lab_rate=100M"),
        *(f"--k8snet-results={results}", *args, f"test_{name}.py"),
    )
    assert results.exists(), output
    return output, [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def message(output: str, test: str) -> str:
    """What is said of one test: the text below its headline, without the line that places it."""
    _, headline, after = output.partition(f" of {test} __")
    if not headline:
        # A FAILED test's headline has its name alone.
        _, headline, after = output.partition(f" {test} __")
    assert headline, f"nothing is said of {test} in:\n{output}"
    return after.split("\n", 1)[1].split("\n  test:  ", 1)[0]


@contextmanager
def fault(api: Api, **data: str) -> Generator[None]:
    """Ask the lab for trouble until the block ends."""
    name = "k8snet-lab-faults"
    body = {"metadata": {"name": name}, "data": {k.replace("_", "-"): v for k, v in data.items()}}
    api.create(FAULTS, {"apiVersion": "v1", "kind": "ConfigMap", **body})
    try:
        yield
    finally:
        api.delete(f"{FAULTS}/{name}")


@contextmanager
def patched(api: Api, path: str, change: dict[str, Any], back: dict[str, Any]) -> Generator[None]:
    """Change an object until the block ends."""
    api.patch(path, change)
    try:
        yield
    finally:
        api.patch(path, back)


@contextmanager
def nothing_left(api: Api) -> Generator[None]:
    """Insist that cluster and processes are afterwards as they were."""
    before, children = objects(api), _children()
    yield
    assert objects(api) == before
    assert _children() == children


def _children() -> set[str]:
    threads = Path("/proc/self/task").glob("*/children")
    return {pid for thread in threads for pid in thread.read_text(encoding="ascii").split()}

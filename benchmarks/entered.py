"""How many files and functions of the project a figure passes through: what a reader has to open.

A profiler counts them in tests on the lab. What an import runs is not counted. In the tree of 313
modules with which this count began, they were 44, 81, 42 and 42 files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import pytest_k8snet
from benchmarks.figure import Figure

PACKAGE = str(Path(str(pytest_k8snet.__file__)).parent) + os.sep

TESTS = """
import pytest

pytestmark = pytest.mark.k8snet_modes("VXLAN-Always")

def test_enter(k8snet, entered):
    with entered("mode"):
        k8snet.enter("VXLAN-Always")

def test_figure(calico_mode, pod_pair, entered):
    with entered("figure"):
        pod_pair.iperf3(seconds=1)

@pytest.mark.k8snet_plan("first=3 seconds=1 omit=0 warmup=0 steal=1 idle=0 outlier=0")
def test_gate(calico_mode, bandwidth, pod_pair, node_pair, entered):
    with entered("gate"):
        assert bandwidth(pod_pair) / bandwidth(node_pair) >= 0.5
"""


def figures() -> Iterator[Figure]:
    """A plain figure, a gate to its line in the terminal, and a mode entered by both strategies."""
    found = _run("--k8snet-change=dedicated")
    yield _figure("pod_pair.iperf3()", found["figure"], 25)
    yield _figure("a gate, to its line in the terminal", found["gate"] + found["terminal"], 45)
    yield _figure("a mode entered, by a pool of the run's own", found["mode"])
    in_place = _run("--k8snet-change=in-place:default-ipv4-ippool", "-k", "test_enter")
    yield _figure("a mode entered, by a pool that is edited", in_place["mode"])


def _figure(what: str, entered: list[str], promised: int | None = None) -> Figure:
    files = {one.partition(":")[0] for one in entered}
    return Figure(
        name=f"files of the project entered: {what}",
        measured=f"{len(files)} ({len(set(entered))} functions)",
        promised=f"<= {promised}" if promised else "",
        holds=promised is None or len(files) <= promised,
    )


def _run(*args: str) -> dict[str, list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_entered.py").write_text(TESTS, encoding="ascii")
        output = Path(folder, "entered.json")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                *("-p", __name__, "--k8snet-lab", *args),
            ],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[1]),
                "K8SNET_ENTERED": str(output),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        found: dict[str, list[str]] = json.loads(output.read_text(encoding="ascii"))
        return found


# -- In the tests' own process, where this module is a plugin of pytest ---------------------------


class Profiler:
    """Notes the functions of the project that are called, in all threads that begin meanwhile."""

    def __init__(self) -> None:
        self.codes: set[CodeType] = set()
        self._importing = threading.local()

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """Take one event of the interpreter."""
        code = frame.f_code
        if code.co_name == "<module>" and event in ("call", "return"):
            depth = getattr(self._importing, "depth", 0)
            self._importing.depth = depth + (1 if event == "call" else -1)
        elif (
            event == "call"
            and code.co_filename.startswith(PACKAGE)
            and not getattr(self._importing, "depth", 0)
        ):
            self.codes.add(code)

    @contextmanager
    def on(self) -> Generator[None]:
        """Note what is called in the block."""
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


_FOUND: dict[str, Profiler] = {}


@pytest.fixture
def entered() -> Any:
    """Return a context manager that counts under a name."""
    return lambda name: _FOUND.setdefault(name, Profiler()).on()


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary() -> Generator[None]:
    """Count what draws the table."""
    with _FOUND.setdefault("terminal", Profiler()).on():
        return (yield)


def pytest_unconfigure() -> None:
    """Write what was found for the process that asked."""
    found = {
        name: sorted(
            f"{code.co_filename.removeprefix(PACKAGE)}:{code.co_qualname}"
            for code in profiler.codes
        )
        for name, profiler in _FOUND.items()
    }
    Path(os.environ["K8SNET_ENTERED"]).write_text(json.dumps(found), encoding="ascii")


if __name__ == "__main__":
    for name, ways in _run("--k8snet-change=dedicated").items():
        print(name, *ways, sep="\n  ")

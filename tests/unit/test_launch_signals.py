"""A signal that asks a run to end, wherever it finds the run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Where a plain KeyboardInterrupt crosses code that Python runs from a string, Python ends itself by
# SIGINT at its exit, though the exception was caught long before.
RUN = """
from pytest_k8snet.launch import Interrupted, _signals_interrupt

try:
    with _signals_interrupt():
        exec("import os, signal; os.kill(os.getpid(), signal.{number}); list(range(10**6))")
except Interrupted as exc:
    print(exc)
raise SystemExit(2)
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
def test_a_signal_in_code_run_from_a_string_keeps_the_exit_status(
    tmp_path: Path, number: str
) -> None:
    (tmp_path / "told_to_end.py").write_text(RUN.format(number=number))
    run = subprocess.run(
        [sys.executable, "-m", "told_to_end"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stdout) == (2, f"signal {number}\n"), run.stderr

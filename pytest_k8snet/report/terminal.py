"""What pytest's terminal shows at the end: the study's table, and what was left undecided."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence

import pytest

from pytest_k8snet.report.record import Record
from pytest_k8snet.report.summary import summarise
from pytest_k8snet.report.table import text_report
from pytest_k8snet.report.text import visible_line

_COLOURS: dict[str, dict[str, bool]] = {
    "PASS": {"green": True},
    "FAIL": {"red": True, "bold": True},
    "ERROR": {"red": True, "bold": True},
    "INCONCLUSIVE": {"yellow": True, "bold": True},
    "Not passed": {"red": True, "bold": True},
    "Passed": {"green": True, "bold": True},
    "Inconclusive": {"yellow": True, "bold": True},
    "Cut off before its end": {"red": True, "bold": True},
    "NO": {"red": True, "bold": True},
}
_COLOURED = re.compile(
    r"(\b(?:PASS|FAIL|ERROR|INCONCLUSIVE)\b|^(?:Not passed|Passed|Inconclusive|Cut off before its"
    r" end)(?=:)|(?<=put back  )NO\b)"
)


def summary(terminalreporter: pytest.TerminalReporter, records: Sequence[Record]) -> None:
    """Print the table of the run; nothing where no record was made, or under ``-qq``."""
    if not records or terminalreporter.config.get_verbosity() < -1:
        return
    run = summarise(records)
    terminalreporter.section("k8snet")
    for line in text_report(run, shutil.get_terminal_size((100, 24)).columns):
        _write_line(terminalreporter, line)
    for line in limits_too_near(records):
        terminalreporter.write_line(visible_line(line), yellow=True)


def limits_too_near(records: Sequence[Record]) -> list[str]:
    """The notes of gates on limits too near to an earlier run's ratio, with what was claimed.

    A gate that failed or stayed undecided shows its own; one that passed would keep it to itself.
    """
    return [
        f"{record['claim']}: {hint}"
        for record in records
        if record["kind"] == "verdict" and record.get("state") in ("pass", "monitor")
        for hint in record.get("hints") or ()
        if hint.startswith("note:")
    ]


def _write_line(terminalreporter: pytest.TerminalReporter, line: str) -> None:
    for part in _COLOURED.split(line):
        if part:
            terminalreporter.write(part, **_COLOURS.get(part, {}))
    terminalreporter.write("\n")

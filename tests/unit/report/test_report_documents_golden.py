"""The drawings of four real runs: nothing is drawn otherwise unless somebody meant it.

The records are of runs on the lab, shortened: passed, failed, inconclusive, and with errors.
``python tests/unit/report/test_report_documents_golden.py`` accepts what is drawn now: look at the
difference first, and add its reason to ``tests/data/golden/CHANGES.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from golden import normalised

from pytest_k8snet.report.documents import markdown, render_page
from pytest_k8snet.report.records import Record, read
from pytest_k8snet.report.summary import summarise
from pytest_k8snet.report.terminal import text_report

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
RUNS = ("passed", "failed", "inconclusive", "error")


def terminal(records: Sequence[Record]) -> str:
    return "\n".join(text_report(summarise(records), 120)) + "\n"


def page(records: Sequence[Record]) -> str:
    return normalised(render_page(records))


DRAWINGS: dict[str, Callable[[Sequence[Record]], str]] = {
    "terminal.txt": terminal,
    "summary.md": markdown,
    "page.txt": page,
}


def drawn(run: str, drawing: str) -> str:
    return DRAWINGS[drawing](read(GOLDEN / run / "records.jsonl").records)


@pytest.mark.parametrize("drawing", DRAWINGS)
@pytest.mark.parametrize("run", RUNS)
def test_nothing_is_drawn_otherwise(run: str, drawing: str) -> None:
    assert drawn(run, drawing) == (GOLDEN / run / drawing).read_text(encoding="utf-8")


if __name__ == "__main__":
    for run in RUNS:
        for drawing in DRAWINGS:
            (GOLDEN / run / drawing).write_text(drawn(run, drawing), encoding="utf-8")

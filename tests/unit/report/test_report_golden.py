"""The drawings of four real runs, as version 0.1.0 drew them: nothing differs that is not named.

The records are of runs on the lab, shortened: passed, failed, inconclusive, and with errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from golden import differences, normalised

from pytest_k8snet.report.html import render_page
from pytest_k8snet.report.markdown import markdown
from pytest_k8snet.report.records import Record, read
from pytest_k8snet.report.summary import summarise
from pytest_k8snet.report.terminal import text_report

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
RUNS = ("passed", "failed", "inconclusive", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Intended:
    """One intended change: why, in which drawing, and what its lines looked and look like."""

    reason: str
    drawing: str
    removed: str = r"(?!)"
    added: str = r"(?!)"


INTENDED: tuple[Intended, ...] = ()


def terminal(records: Sequence[Record]) -> str:
    return "\n".join(text_report(summarise(records), 120)) + "\n"


def page(records: Sequence[Record]) -> str:
    return normalised(render_page(records))


DRAWINGS: dict[str, Callable[[Sequence[Record]], str]] = {
    "terminal.txt": terminal,
    "summary.md": markdown,
    "page.txt": page,
}


@pytest.mark.parametrize("drawing", DRAWINGS)
@pytest.mark.parametrize("run", RUNS)
def test_nothing_is_drawn_otherwise_but_what_is_named(run: str, drawing: str) -> None:
    old = (GOLDEN / run / drawing).read_text(encoding="utf-8")
    new = DRAWINGS[drawing](read(GOLDEN / run / "records.jsonl").records)
    removed, added = differences(old, new)
    named = [one for one in INTENDED if one.drawing == drawing]
    assert [x for x in removed if not any(re.fullmatch(one.removed, x) for one in named)] == []
    assert [x for x in added if not any(re.fullmatch(one.added, x) for one in named)] == []

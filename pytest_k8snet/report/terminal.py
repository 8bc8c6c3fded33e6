"""What pytest's terminal shows at the end: the tables of the run, and what became of it."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence

import pytest

from pytest_k8snet.report import answer, sentences
from pytest_k8snet.report.format import (
    claim_text,
    clipped,
    columns,
    padded,
    pass_notes,
    squeezed,
    visible_line,
)
from pytest_k8snet.report.model import GateResult, Summary
from pytest_k8snet.report.records import Record
from pytest_k8snet.report.summary import summarise
from pytest_k8snet.report.tables import Row, Table, cell_lines, promises_table, tool_tables

_GAP = "  "
_HEADING_WIDTH = 44
_CELL_WIDTH = 44
#: What the columns beside a claim take.
_GATE_COLUMNS = 64
_NARROWEST = 60

_BAD, _DOUBT, _GOOD = ({colour: True, "bold": True} for colour in ("red", "yellow", "green"))
_COLOURS: dict[str, dict[str, bool]] = {
    "PASS": {"green": True},
    "FAIL": _BAD,
    "ERROR": _BAD,
    "INCONCLUSIVE": _DOUBT,
    "Not passed": _BAD,
    "Passed": _GOOD,
    "Passed what was tested": _DOUBT,
    "Inconclusive": _DOUBT,
    "Cut off before its end": _BAD,
    "Nothing was tested": _DOUBT,
    "NO": _BAD,
    "EMBEDDED LAB": _DOUBT,
    answer.REHEARSAL: _DOUBT,
}
_OUTCOMES = "|".join(map(re.escape, answer.OUTCOME_WORDS.values()))
_COLOURED = re.compile(
    rf"(\b(?:PASS|FAIL|ERROR|INCONCLUSIVE|EMBEDDED LAB)\b|^(?:{_OUTCOMES})(?=[:,])"
    rf"|^{answer.REHEARSAL}"
    r"|(?<=put back  )NO\b)"
)
#: Most promises that are told in a sentence below the tables.
_MOST_SENTENCES = 5


def summary(terminalreporter: pytest.TerminalReporter, records: Sequence[Record]) -> None:
    """Print the tables of the run; nothing where no record was made, or under ``-qq``."""
    if not records or terminalreporter.config.get_verbosity() < -1:
        return
    terminalreporter.section("k8snet")
    found = summarise(records)
    for line in text_report(found, shutil.get_terminal_size((100, 24)).columns):
        for part in filter(None, _COLOURED.split(line)):
            terminalreporter.write(part, **_COLOURS.get(part, {}))
        terminalreporter.write("\n")
    for line in notes_of_passes(found.gates):
        terminalreporter.write_line(visible_line(line, None), yellow=True)


def notes_of_passes(gates: Iterable[GateResult]) -> list[str]:
    """Return what gates that passed warn of and do not show, each with what was claimed."""
    return [
        f"{claim_text(gate)}{f' [{gate.key.mode}]' if gate.key.mode else ''}: {note}"
        for gate in gates
        for note in pass_notes(gate)
    ]


def text_report(summary: Summary, width: int = 100) -> list[str]:
    """Return the run in lines of text, none of them holding a character that steers a terminal.

    Args:
        summary: the run.
        width: columns of the terminal.
    """
    tables = [tool_tables(results)[0] for results in summary.tools]
    blocks = [table_lines(table, width) for table in tables]
    blocks += [gate_lines(summary.promises, width)] if summary.promises else []
    lines = [line for block in blocks for line in (*block, "")]
    return [*lines, *(visible_line(line, None) for line in _facts(summary, max(width, _NARROWEST)))]


def gate_lines(gates: Sequence[GateResult], width: int) -> list[str]:
    """Return the table of promises; a claim names what it measured, and takes what room is left."""
    room = max(_HEADING_WIDTH, min(80, width - _GATE_COLUMNS))
    return table_lines(promises_table(gates), width, room)


def table_lines(table: Table, width: int, heading_width: int = _HEADING_WIDTH) -> list[str]:
    """Return a table's title and aligned columns; what does not fit side by side goes below."""
    table = table.narrow()
    headings = [_clipped(column.heading) for column in table.columns]
    labels = [_label(row, heading_width) for row in table.rows]
    bodies = [
        [[_squeezed(line) for line in cell_lines(cell)] for cell in row.cells] for row in table.rows
    ]
    label_width = max(map(columns, [table.first, *labels]))
    widths = [
        max(map(columns, [heading, *(line for body in bodies for line in body[index])]))
        for index, heading in enumerate(headings)
    ]
    lines = [table.title]
    for group in _groups(widths, max(width, _NARROWEST) - label_width):
        lines += [""] if len(lines) > 1 else []
        chosen = [widths[index] for index in group]
        lines.append(_line(table.first, label_width, (headings[index] for index in group), chosen))
        lines.append(_GAP.join("-" * size for size in [label_width, *chosen]))
        for label, body in zip(labels, bodies, strict=True):
            for number in range(max(len(body[index]) for index in group)):
                texts = ("".join(body[index][number : number + 1]) for index in group)
                lines.append(_line("" if number else label, label_width, texts, chosen))
    # Whatever a record smuggled into a unit or a relation ends here.
    return [visible_line(line, None) for line in lines]


def _label(row: Row, width: int) -> str:
    # Of a claim, both what it is about and its limit stay.
    shorten = squeezed if row.gate is not None else clipped
    place = f" [{row.place}]" if row.place else ""
    return shorten(visible_line(row.heading + place, None), width)


def _clipped(text: str) -> str:
    return clipped(visible_line(text), _CELL_WIDTH)


def _squeezed(text: str) -> str:
    # A verdict ends with its limit, which is what counts.
    return squeezed(visible_line(text, None), _CELL_WIDTH)


def _line(label: str, label_width: int, texts: Iterable[str], widths: Sequence[int]) -> str:
    cells = [padded(text, size) for text, size in zip(texts, widths, strict=True)]
    return _GAP.join([padded(label, label_width), *cells]).rstrip()


def _groups(widths: Sequence[int], room: int) -> list[list[int]]:
    """Return which columns stand side by side."""
    groups: list[list[int]] = [[]]
    used = 0
    for at, width in enumerate(widths):
        if groups[-1] and used + width + len(_GAP) > room:
            groups.append([])
            used = 0
        groups[-1].append(at)
        used += width + len(_GAP)
    return groups


def _facts(summary: Summary, width: int) -> list[str]:
    facts = {
        "cluster": sentences.cluster_text(summary),
        "to do": answer.to_do_text(summary),
        "untested": answer.not_tested_text(summary),
        "measured": sentences.measured_text(summary),
        "plan": sentences.plan_text(summary),
        "path": sentences.path_text(summary),
        "altered": sentences.distorted_text(summary),
        "changed": sentences.changed_text(summary),
        "cost": sentences.cost_text(summary),
        "put back": sentences.restored_text(summary),
    }
    promises = sentences.to_tell(summary)
    shown = [told for _, told in sentences.told_promises(summary, _MOST_SENTENCES)]
    told = [
        _wrapped(one, width)
        for one in (
            *sentences.unfinished_sentences(summary),
            *shown,
        )
    ]
    more = len(promises) - len(shown)
    return [
        *(line for lines in told for line in lines),
        *([sentences.more_text(more)] if more else []),
        *([""] if told else []),
        *_result(summary),
        *_wrapped(f"  {answer.answer_text(summary)}", width),
        *(f"  {line}" for line in answer.reason_lines(summary)),
        *(f"  {name:8}  {visible_line(text, 600)}" for name, text in facts.items() if text),
    ]


def _result(summary: Summary) -> list[str]:
    title = answer.title_text(summary)
    if sentences.on_lab(summary):
        return [title, f"  {answer.result_text(summary)}"]
    return [f"{title}: {answer.counts_text(summary)}"]


def _wrapped(sentence: str, width: int) -> list[str]:
    return textwrap.wrap(visible_line(sentence, None), width, subsequent_indent="  ")

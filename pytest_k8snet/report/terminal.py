"""What pytest's terminal shows at the end: the study's table, and what was left undecided."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest

from pytest_k8snet.report.format import (
    MILLISECONDS,
    OUTCOME_WORDS,
    Unit,
    bit_unit,
    changed_text,
    clipped,
    columns,
    cost_text,
    counts_text,
    figure_texts,
    limit_text,
    margin_text,
    measured_text,
    padded,
    path_text,
    ratio,
    restored_text,
    squeezed,
    visible_line,
)
from pytest_k8snet.report.model import (
    STATES,
    TEST_WORDS,
    WORDS,
    BandwidthCell,
    Judged,
    LatencyRow,
    Summary,
    modes_of,
)
from pytest_k8snet.report.records import Record
from pytest_k8snet.report.summary import PHASES, summarise

_GAP = "  "
_CLAIM_WIDTH = 44
_CELL_WIDTH = 44
_GATE_COLUMNS = 56
_NARROWEST = 60


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its heading and, per column, one or more lines of text."""

    heading: str
    cells: tuple[tuple[str, ...], ...]


def text_report(summary: Summary, width: int = 100) -> list[str]:
    """The run in lines of text, none of them holding a character that steers a terminal.

    Args:
        summary: the run.
        width: columns of the terminal.
    """
    width = max(width, _NARROWEST)
    blocks = [
        _bandwidth(summary.bandwidth, width),
        _latency(summary.latency, width),
        _gates(summary.judged, width),
        _facts(summary),
    ]
    lines: list[str] = []
    for block in blocks:
        if block:
            lines += [*([""] if lines else []), *block]
    # Whatever a record smuggled into a unit or a relation ends here.
    return [visible_line(line, None) for line in lines]


def _bandwidth(cells: Sequence[BandwidthCell], width: int) -> list[str]:
    if not cells:
        return []
    unit = bit_unit(cell.figure.value for cell in cells if cell.figure is not None)
    modes = modes_of(cells)
    found = {(cell.key.row, cell.key.mode): cell for cell in cells}
    texts = {cell.key.row: cell.key.row_text for cell in cells}
    rows = [
        Row(
            clipped(visible_line(text), _CLAIM_WIDTH),
            tuple(_cell(found.get((row, mode)), unit) for mode in modes),
        )
        for row, text in texts.items()
    ]
    title = f"Bandwidth in {unit.name}: mean, in brackets the ratio to node-node"
    return [title, *_table("scene", [mode or "no mode" for mode in modes], rows, width)]


def _cell(cell: BandwidthCell | None, unit: Unit) -> tuple[str, ...]:
    if cell is None:
        return ("-",)
    if cell.figure is None:
        return ("no figure",)
    share = f" ({ratio(cell.ratio.value)})" if cell.ratio is not None else ""
    lines = [f"{unit.number(cell.figure.value)}{share}"]
    if cell.judged:
        lines.append(f"{WORDS[cell.state]} {limit_text(cell.judged[0])}")
    elif cell.word:
        lines.append(cell.word)
    if cell.path.state not in ("", "proven"):
        lines.append(f"path {cell.path.state}")
    return tuple(lines)


def _latency(rows: Sequence[LatencyRow], width: int) -> list[str]:
    if not rows:
        return []
    headings = ["requests", "failed", *PHASES, "p95 total", "verdict"]
    made = []
    for row in rows:
        means = [MILLISECONDS.number(row.phases[phase].mean) for phase in PHASES]
        made.append(
            Row(
                clipped(visible_line(row.key.text), _CLAIM_WIDTH),
                (
                    (f"{row.requests:,}",),
                    (f"{row.failed:,}",),
                    *((mean,) for mean in means),
                    (MILLISECONDS.number(row.phases["total"].p95),),
                    tuple(_verdict(one) for one in row.judged) or (TEST_WORDS[row.outcome] or "-",),
                ),
            )
        )
    return [
        "Latency by curl in ms: means of time_connect, time_starttransfer, time_total",
        *_table("scene", headings, made, width),
    ]


def _verdict(one: Judged) -> str:
    return f"{WORDS[one.state]} {visible_line(one.quantity, 40)} {limit_text(one)}"


def gates_table(judged: Sequence[Judged], width: int) -> list[str]:
    """Every verdict, worst first."""
    return [visible_line(line, None) for line in _gates(judged, max(width, _NARROWEST))]


def _gates(judged: Sequence[Judged], width: int) -> list[str]:
    if not judged:
        return []
    # A gate's claim names what it measured: it takes the room that the other columns leave.
    room = max(_CLAIM_WIDTH, min(80, width - _GATE_COLUMNS))
    rows = []
    for one in sorted(judged, key=lambda one: STATES.index(one.state)):
        estimate, interval = figure_texts(one)
        mode = f" [{one.key.mode}]" if one.key.mode else ""
        rows.append(
            Row(
                squeezed(visible_line(f"{one.claim}{mode}", None), room),
                (
                    (WORDS[one.state],),
                    (f"{estimate} {interval}".strip(),),
                    (margin_text(one),),
                    (f"{one.count:,}",),
                ),
            )
        )
    return ["Gates", *_table("claim", ["verdict", "measured", "margin", "n"], rows, width)]


def _facts(summary: Summary) -> list[str]:
    cost = cost_text(summary)
    return [
        f"{OUTCOME_WORDS[summary.outcome]}: {counts_text(summary)}",
        f"  measured  {visible_line(measured_text(summary), 400)}",
        f"  path      {visible_line(path_text(summary), 400)}",
        f"  changed   {visible_line(changed_text(summary), 400)}",
        *([f"  cost      {visible_line(cost, 400)}"] if cost else []),
        f"  put back  {visible_line(restored_text(summary), 400)}",
    ]


def _table(first: str, headings: Sequence[str], rows: Sequence[Row], width: int) -> list[str]:
    """Aligned columns; where they do not fit side by side they continue below."""
    headings = [clipped(visible_line(heading), _CELL_WIDTH) for heading in headings]
    rows = [
        Row(
            row.heading,
            tuple(tuple(clipped(line, _CELL_WIDTH) for line in cell) for cell in row.cells),
        )
        for row in rows
    ]
    labels = [row.heading for row in rows]
    label_width = max(map(columns, [first, *labels]))
    widths = [
        max(columns(text) for text in [heading, *(line for row in rows for line in row.cells[at])])
        for at, heading in enumerate(headings)
    ]
    lines: list[str] = []
    for group in _groups(widths, width - label_width):
        lines += [""] if lines else []
        chosen = [headings[at] for at in group]
        lines.append(_line(first, chosen, label_width, [widths[at] for at in group]))
        lines.append(_line("", ["-" * widths[at] for at in group], label_width, [], fill="-"))
        for label, row in zip(labels, rows, strict=True):
            height = max(len(row.cells[at]) for at in group)
            for number in range(height):
                texts = [
                    row.cells[at][number] if number < len(row.cells[at]) else "" for at in group
                ]
                lines.append(
                    _line(
                        label if number == 0 else "",
                        texts,
                        label_width,
                        [widths[at] for at in group],
                    )
                )
    return lines


def _line(
    label: str, texts: Iterable[str], label_width: int, widths: Sequence[int], fill: str = " "
) -> str:
    cells = [
        padded(text, widths[at]) if at < len(widths) else text for at, text in enumerate(texts)
    ]
    start = padded(label, label_width) if fill == " " else fill * label_width
    return (start + _GAP + _GAP.join(cells)).rstrip()


def _groups(widths: Sequence[int], room: int) -> list[list[int]]:
    groups: list[list[int]] = [[]]
    used = 0
    for at, width in enumerate(widths):
        if groups[-1] and used + width + len(_GAP) > room:
            groups.append([])
            used = 0
        groups[-1].append(at)
        used += width + len(_GAP)
    return groups


# -- What pytest's terminal shows at the end: the study's table, and what was left undecided ------


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
    for line in warnings_of_passes(records):
        terminalreporter.write_line(visible_line(line), yellow=True)


def warnings_of_passes(records: Sequence[Record]) -> list[str]:
    """Return what gates that passed warn of, each with what was claimed.

    A gate that failed or stayed undecided shows its own; one that passed would keep it to itself.
    """
    return [
        f"{record['claim']}: {warning}"
        for record in records
        if record["kind"] == "verdict" and record.get("state") in ("pass", "monitor")
        for warning in record.get("warnings") or ()
    ]


def _write_line(terminalreporter: pytest.TerminalReporter, line: str) -> None:
    for part in _COLOURED.split(line):
        if part:
            terminalreporter.write(part, **_COLOURS.get(part, {}))
    terminalreporter.write("\n")

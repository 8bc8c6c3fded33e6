"""The run as Markdown, for a ticket's text field (``--k8snet-summary``). Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pytest_k8snet.report.format import (
    MILLISECONDS,
    NONE,
    OUTCOME_WORDS,
    Unit,
    bit_unit,
    changed_text,
    compared_text,
    cost_text,
    counts_text,
    figure_texts,
    first_trouble,
    limit_text,
    margin_text,
    measured_text,
    moment,
    path_text,
    ratio,
    restored_text,
    visible,
    visible_line,
)
from pytest_k8snet.report.model import (
    STATES,
    WORDS,
    BandwidthCell,
    LatencyRow,
    Summary,
    modes_of,
)
from pytest_k8snet.report.records import Record
from pytest_k8snet.report.summary import PHASES, summarise

#: What Markdown (also GitHub's and GitLab's) could take for markup, a mention or a reference.
_SPECIAL = re.compile(r"([\\`*{}\[\]|~$@]|(?<!\w)_|_(?!\w)|:(?=//)|#(?=\w)|(?<=\bwww)\.)")


def markdown(records: Sequence[Record]) -> str:
    """The summary of one run.

    Args:
        records: one run's records.
    """
    summary = summarise(records)
    blocks = [
        _head(summary),
        _trouble(summary),
        _facts(summary),
        _bandwidth(summary.bandwidth),
        _latency(summary.latency),
        _gates(summary),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def escaped(foreign: object, limit: int = 300) -> str:
    """Foreign text in one line that Markdown shows as it is."""
    line = visible_line(foreign, limit)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", line)


def _head(summary: Summary) -> str:
    ticket = summary.run.get("ticket")
    about = ""
    if isinstance(ticket, dict) and ticket.get("id"):
        title = f": {escaped(ticket['title'])}" if ticket.get("title") else ""
        about = f" — {escaped(ticket['id'])}{title}"
    return f"## {OUTCOME_WORDS[summary.outcome]}{about}\n\n{counts_text(summary)}"


def _trouble(summary: Summary) -> str:
    test = first_trouble(summary)
    if test is None:
        return ""
    reason = visible(test.reason.strip(), 900)
    # A fence longer than any run of backticks in the text cannot be closed by it.
    longest = max((len(run) for run in re.findall(r"`+", reason)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"First {test.outcome}: {escaped(test.name)}\n\n{fence}text\n{reason}\n{fence}"


def _facts(summary: Summary) -> str:
    who = f"{summary.run.get('user') or '?'} on {summary.run.get('host') or '?'}"
    rows = [
        ("Compared with", compared_text(summary)),
        ("Measured", measured_text(summary)),
        ("Changed in the cluster", changed_text(summary)),
        ("Switch cost", cost_text(summary)),
        ("Put back", restored_text(summary)),
        ("Proof of path", path_text(summary)),
        ("Run", f"{summary.run.get('run', '')} by {who}, {moment(summary.begun)}"),
    ]
    return "\n".join(f"- **{term}:** {escaped(text, 600)}" for term, text in rows if text)


def _bandwidth(cells: Sequence[BandwidthCell]) -> str:
    if not cells:
        return ""
    unit = bit_unit(cell.figure.value for cell in cells if cell.figure is not None)
    modes = modes_of(cells)
    found = {(cell.key.row, cell.key.mode): cell for cell in cells}
    rows = [
        [escaped(text), *(_cell(found.get((row, mode)), unit) for mode in modes)]
        for row, text in {cell.key.row: cell.key.row_text for cell in cells}.items()
    ]
    title = f"### Bandwidth in {unit.name} (ratio to node-node)"
    return f"{title}\n\n" + _table(
        ["scene", *(escaped(mode, 40) or "no mode" for mode in modes)], rows
    )


def _cell(cell: BandwidthCell | None, unit: Unit) -> str:
    if cell is None:
        return NONE
    if cell.figure is None:
        return "no figure"
    share = f" ({ratio(cell.ratio.value)})" if cell.ratio is not None else ""
    verdict = f" **{WORDS[cell.state]}**" if cell.judged else ""
    path = "" if cell.path.state in ("", "proven") else f", path {cell.path.state}"
    return f"{unit.number(cell.figure.value)}{share}{verdict}{path}"


def _latency(rows: Sequence[LatencyRow]) -> str:
    if not rows:
        return ""
    made = [
        [
            escaped(row.key.text),
            f"{row.requests:,}",
            f"{row.failed:,}",
            *(MILLISECONDS.number(row.phases[phase].mean) for phase in PHASES),
            MILLISECONDS.number(row.phases["total"].p95),
        ]
        for row in rows
    ]
    headings = ["scene", "requests", "failed", *PHASES, "total p95"]
    return "### Latency in ms (means of curl's times)\n\n" + _table(headings, made)


def _gates(summary: Summary) -> str:
    if not summary.judged:
        return ""
    rows = []
    for one in sorted(summary.judged, key=lambda one: STATES.index(one.state)):
        estimate, interval = figure_texts(one)
        mode = f" [{one.key.mode}]" if one.key.mode else ""
        rows.append(
            [
                f"**{WORDS[one.state]}**",
                escaped(one.claim + mode),
                escaped(f"{estimate} {interval}"),
                escaped(limit_text(one)),
                margin_text(one),
                f"{one.count:,}",
            ]
        )
    headings = ["verdict", "claim", "measured", "limit", "margin", "n"]
    return "### Gates\n\n" + _table(headings, rows)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [
        "| " + " | ".join(headings) + " |",
        "|" + " --- |" * len(headings),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join(lines)

"""The drawings of four real runs, as version 0.1.0 drew them: nothing differs that is not named.

The records are of runs on the lab, shortened: passed, failed, inconclusive, and with errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from golden import differences, normalised, texts

from pytest_k8snet.report.documents import markdown, render_page
from pytest_k8snet.report.records import Record, read
from pytest_k8snet.report.summary import summarise
from pytest_k8snet.report.terminal import text_report

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
RUNS = ("passed", "failed", "inconclusive", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Intended:
    """One intended change.

    Attributes:
        reason: why.
        drawing: where.
        lines: what the lines look like that it removes or adds.
        cut: parts that are left out of the comparison.
        lost: the texts that are no longer there; all others of removed lines still are.
    """

    reason: str
    drawing: str
    lines: str = r"(?!)"
    cut: str = r"(?!)"
    lost: str = r"(?!)"


INTENDED = (
    Intended(
        reason="what is no figure has its count beside it as a figure has",
        drawing="page.txt",
        lines=r"<div><strong( class='k-figure')?>no figure</strong>.*",
        lost=r"\(n = 0, 1 error\)",
    ),
    Intended(
        reason="what has no content of its own",
        drawing="page.txt",
        lines=r"<thead>|<tbody>|",
    ),
    Intended(
        reason="one title for a tool's table; its verdicts name what they judged, with its figure",
        drawing="terminal.txt",
        lines=r"Latency by curl in ms: .*|(scene|-+|node-|pod-).*|",
        lost=r"Latency by curl.*|(connect|total) p50 ≤ .*|(PASS|FAIL) (connect|total) p50 ≤ .*",
    ),
    Intended(
        reason="curl's cumulative times are named time_*, as a gate's connect is another quantity",
        drawing="terminal.txt",
        lost=r"connect|starttransfer|total|p95 total",
    ),
    Intended(
        reason="a cell of the study names every verdict on it, and a dash is the same everywhere",
        drawing="terminal.txt",
        lines=r" +(PASS|FAIL|INCONCLUSIVE|monitor only|in a test).*",
        lost=r"-|monitor only ≥ 500 Mbit/s",
    ),
    Intended(
        reason="one title for each table in every drawing: HTML has intervals in brackets",
        drawing="terminal.txt",
        lines=r"Gates(, the worst first)?|Bandwidth in Mbit/s: .*",
        lost="in brackets the ratio to node-node",
    ),
    Intended(
        reason="Markdown draws the tables of the terminal: title, verdicts in the cells, no limit "
        "beside the claim that ends with it",
        drawing="summary.md",
        lines=r"(### |\| ).*",
        lost=r"### .*|limit|[≥≤] .*|connect|starttransfer|total|total p95|.*\*\*",
    ),
    Intended(
        reason="the table of gates begins with the claim, and a figure has its interval beside it",
        drawing="page.txt",
        lines=r"<tr class='k-figures'>.*|<tr><td colspan='[89]'>"
        r"|<tr><th scope='col'>(Claim|Verdict).*"
        r"|(<div aria-label=|<caption><span>).?(Every gate: what|Gates, the worst).*",
        lost=r"Interval|Every gate: .*",
    ),
    Intended(
        reason="a tool's section has its name for an anchor and its title for a heading",
        drawing="page.txt",
        lines=r"<(section|h2|svg|title|desc) .*(k8snet-|chart-)(bandwidth|latency|iperf3|curl).*",
        lost=r"Latency|.*Share of requests whose time_total is at most so long"
        r"|.*The latency table .*",
    ),
    Intended(
        reason="one title for a tool's table in every drawing, one way to write its headings",
        drawing="page.txt",
        lines=r"(<div aria-label=|<caption><span>).?(Bandwidth|Latency)\b.*"
        r"|<tr><th scope='col'>Scene</th>.*|<table class='k-table( k-latency| k-tool)?'>",
        lost=r"Bandwidth, TCP goodput in Mbit/s: scene by Calico mode|Latency in ms.*|no mode"
        r"|total median",
    ),
    Intended(
        reason="what was the table of TCP's figures has the columns that the tool has",
        drawing="page.txt",
        lines=r"<summary>(Retransmits, round-trip|Every figure).*"
        r"|<tr><th scope='col'>Scene and mode.*"
        r"|(<div aria-label=|<caption><span>).?(TCP of each cell|Every figure).*"
        r"|<tr><th scope='row'><bdi>(node-node|pod-pod), same-subnet.*",
        lost=r"Retransmit.*|RTT under load, ms|TCP of each cell.*|Ceiling",
    ),
    Intended(
        reason="a verdict in a cell says what was measured under the gate's own name",
        drawing="page.txt",
        lines=r"<div><span class='k-state k-is-(pass|fail|inconclusive|monitor)'>.*margin.*",
        lost=r"(connect p50|total p50|bandwidth) [≥≤] .*margin.*",
    ),
    Intended(
        reason="charts draw what gates judge, each phase alone; these records hold only the total "
        "and the name lookup alone",
        drawing="page.txt",
        cut=r"<figure>\n<figcaption><strong>(?:time_connect|time_starttransfer|dns):"
        r".*?(?=\n<figure>|\n<section|\n<details)",
        lines=r"<summary>Charts of .*|<details>|<figcaption><strong>(time_)?total:.*"
        r"|<div aria-label='chart: (time_)?total:'.*",
        lost=r"Charts of .*|time_total:|share of requests answered within a time.*",
    ),
    Intended(
        reason="figures of two runs are named as their table names them; these records name the "
        "medians of curl's times as nothing does any more",
        drawing="page.txt",
        cut=r"<figcaption><strong>Now relative to then.*?(?=\n<section)",
    ),
    Intended(
        reason="a sample shows its tool's columns",
        drawing="page.txt",
        lines=r"<tr id='k8snet-s\d+'>.*|<tr><th scope='col'>Sample</th>.*"
        r"|<div(?: class='k-muted')?>(\d\d:\d\d:\d\d|to (pod|node) |to <bdi>http|from ).*"
        r"|<td class='k-num'>.*|<strong class='k-is-fail'>.*|<div>(<span>)?(from|to).*"
        r"|<summary>(<span>)?<bdi>.*samples?</span>(</span>)?",
        lost=r"Goodput|Retransmitted|RTT|total mean|to|\d+ (µs|ms|Mbit/s)|\d+\.\d+ (µs|ms)",
    ),
    Intended(
        reason="a test with another congestion control has a row of its own",
        drawing="page.txt",
        lines=r"<div><span class='k-state k-is-error'>.*in a test with an error.*"
        r"|(<div aria-label=|<caption><span>).?Samples of pod-pod, same-subnet.*",
    ),
    Intended(
        reason="raw output is shown as the tool wrote it",
        drawing="page.txt",
        cut=r"<pre tabindex='0'>'\{[^\n]*",
    ),
)


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
    named = [one for one in INTENDED if one.drawing == drawing]
    old = (GOLDEN / run / drawing).read_text(encoding="utf-8")
    new = DRAWINGS[drawing](read(GOLDEN / run / "records.jsonl").records)
    for one in named:
        old, new = (re.sub(one.cut, "", text, flags=re.DOTALL) for text in (old, new))
    removed, added = differences(old, new)
    assert [x for x in removed if not any(re.fullmatch(one.lines, x) for one in named)] == []
    assert [x for x in added if not any(re.fullmatch(one.lines, x) for one in named)] == []
    lost = {text for text in texts(removed) if text not in new}
    assert [x for x in sorted(lost) if not any(re.fullmatch(one.lost, x) for one in named)] == []

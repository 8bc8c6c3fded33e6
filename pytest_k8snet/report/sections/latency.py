"""curl's times by scene."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_k8snet.report.format import MILLISECONDS, counted, limit_text, margin_text
from pytest_k8snet.report.markup import Markup, element
from pytest_k8snet.report.model import LatencyRow
from pytest_k8snet.report.sections.parts import (
    lines,
    name,
    number_cell,
    row_head,
    state_mark,
    table,
    tests_mark,
)
from pytest_k8snet.report.summary import PHASES


def latency_table(rows: Sequence[LatencyRow]) -> Markup:
    """curl: mean of each time per scene, with median and 95th percentile of the whole."""
    if not rows:
        return Markup("")
    headings: list[str | tuple[str, str]] = ["Scene", ("Requests", "num"), ("Failed", "num")]
    headings += [(f"time_{phase}", "num") for phase in PHASES]
    headings += [("total median", "num"), ("total p95", "num"), "Verdict"]
    return table(
        "Latency in ms: means of curl's times over fresh connections; median and p95 of time_total",
        headings,
        [_latency_row(row) for row in rows],
        class_="k-latency",
    )


def _latency_row(row: LatencyRow) -> Markup:
    total = row.phases["total"]
    figures = [row.phases[phase].mean for phase in PHASES] + [total.median, total.p95]
    failed = counted(row.errors, "error") if row.errors else f"{row.failed:,}"
    return element(
        "tr",
        row_head(name(row.key.text), element("div", name(row.url), class_="k-muted k-url")),
        number_cell(f"{row.requests:,}"),
        number_cell(failed),
        [number_cell(MILLISECONDS.number(value)) for value in figures],
        element(
            "td",
            [
                element(
                    "div",
                    state_mark(one.state),
                    element(
                        "span",
                        f" {one.quantity} {limit_text(one)}, margin {margin_text(one)}",
                        class_="k-limit",
                    ),
                )
                for one in row.judged
            ]
            or lines(tests_mark(row.outcome)),
        ),
    )

"""Every gate's verdict: what was claimed, measured and decided."""

from __future__ import annotations

from pytest_k8snet.report.format import figure_texts, limit_text, margin_text
from pytest_k8snet.report.markup import Markup, element
from pytest_k8snet.report.model import STATES, Judged, Summary
from pytest_k8snet.report.sections.parts import (
    fold,
    name,
    number_cell,
    path_mark,
    row_head,
    state_mark,
    table,
)

_HEADINGS: tuple[str | tuple[str, str], ...] = (
    "Verdict",
    "Claim",
    "Scene and mode",
    ("Measured", "num"),
    ("Interval", "num"),
    ("Limit", "num"),
    ("Margin", "num"),
    ("n", "num"),
    "Path",
)


def verdict_table(summary: Summary) -> Markup:
    """Every verdict, worst first."""
    if not summary.judged:
        return Markup("")
    ordered = sorted(summary.judged, key=lambda one: STATES.index(one.state))
    return table(
        "Every gate: what was claimed, measured and decided; the worst first",
        _HEADINGS,
        [_verdict_rows(one) for one in ordered],
        class_="k-verdicts",
    )


def _verdict_rows(one: Judged) -> list[Markup]:
    """The figures, and below them, across the table, how they were decided."""
    explanation = one.record.get("text")
    estimate, interval = figure_texts(one)
    discarded = element("div", f"+{one.discarded} discarded", class_="k-muted")
    figures = element(
        "tr",
        element("td", state_mark(one.state)),
        row_head(name(one.claim)),
        element("td", name(one.key.text)),
        number_cell(estimate),
        number_cell(interval),
        number_cell(limit_text(one)),
        number_cell(margin_text(one)),
        number_cell([f"{one.count:,}", discarded if one.discarded else None]),
        element("td", path_mark(one.path)),
        class_="k-figures",
    )
    behind = fold(
        "how it was decided",
        element("pre", explanation, tabindex="0") if explanation else None,
        element("p", "test ", name(one.test), class_="k-muted"),
        _decision(one),
    )
    return [figures, element("tr", element("td", behind, colspan=len(_HEADINGS)))]


def _decision(one: Judged) -> Markup:
    plan = one.record.get("plan")
    words = (
        "plan " + ", ".join(f"{key} {value}" for key, value in plan.items())
        if isinstance(plan, dict)
        else ""
    )
    seed = one.record.get("seed")
    words += f"; order from seed {seed}" if seed is not None else ""
    causes = [
        str(entry.get("cause"))
        for entry in one.record.get("discarded") or []
        if isinstance(entry, dict)
    ]
    words += "; discarded: " + ", ".join(causes) if causes else ""
    return element("p", words, class_="k-muted") if words else Markup("")

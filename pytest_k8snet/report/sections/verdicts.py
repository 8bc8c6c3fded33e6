"""Every gate's verdict: what was claimed, measured and decided."""

from __future__ import annotations

from pytest_k8snet.report.markup import Markup, element
from pytest_k8snet.report.model import STATES, Judged, Summary
from pytest_k8snet.report.phrases import figure_texts, limit_text, margin_text
from pytest_k8snet.report.sections.parts import (
    fold,
    name,
    number_cell,
    path_mark,
    row_head,
    state_mark,
    table,
)


def verdict_table(summary: Summary) -> Markup:
    """Every verdict, worst first."""
    if not summary.judged:
        return Markup("")
    ordered = sorted(summary.judged, key=lambda one: STATES.index(one.state))
    return table(
        "Every gate: what was claimed, measured and decided; the worst first",
        [
            "Verdict",
            "Claim",
            "Scene and mode",
            ("Measured", "num"),
            ("Interval", "num"),
            ("Limit", "num"),
            ("Margin", "num"),
            ("n", "num"),
            "Path",
        ],
        [_verdict_row(one) for one in ordered],
        class_="k-verdicts",
    )


def _verdict_row(one: Judged) -> Markup:
    explanation = one.record.get("text")
    estimate, interval = figure_texts(one)
    discarded = f" (+{one.discarded} discarded)" if one.discarded else ""
    return element(
        "tr",
        element("td", state_mark(one.state)),
        row_head(
            name(one.claim),
            fold(
                "how it was decided",
                element("pre", explanation, tabindex="0") if explanation else None,
                element("p", "test ", name(one.test), class_="k-muted"),
                _decision(one),
            ),
        ),
        element("td", name(one.key.text)),
        number_cell(estimate),
        number_cell(interval),
        number_cell(limit_text(one)),
        number_cell(margin_text(one)),
        number_cell(f"{one.count:,}{discarded}"),
        element("td", path_mark(one.path)),
    )


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

"""The baseline run beside this one."""

from __future__ import annotations

from pytest_k8snet.report.charts import before_chart
from pytest_k8snet.report.format import NONE, in_unit, moment
from pytest_k8snet.report.markup import Markup, element
from pytest_k8snet.report.model import Compared, Summary
from pytest_k8snet.report.sections.environment import differences_table
from pytest_k8snet.report.sections.parts import (
    code,
    estimate_text,
    figure_box,
    name,
    paragraph,
    row_head,
    table,
)
from pytest_k8snet.report.summary import differences_of, words


def baseline_section(summary: Summary) -> list[Markup]:
    """Before and now, with the environment's differences first: they decide what it is worth."""
    if summary.baseline is None:
        return []
    baseline = summary.baseline
    differences = differences_of(baseline)
    intro = paragraph(
        "Compared with ",
        code(baseline.get("source")),
        f", run {words(baseline.get('baseline_run'))} of {moment(baseline.get('baseline_time'))}. "
        "The two runs are separate, not paired: the interval is Welch's (95 %) for two groups, "
        "and whatever else changed meanwhile is in the ratio as well.",
    )
    differing = (
        differences_table("The environment is not the same as then", "then", differences)
        if differences
        else paragraph("No recorded fact of the environment differs.")
    )
    chart = figure_box(
        "Now relative to then", before_chart(summary.compared), "Dot: ratio; bar: its interval."
    )
    rows = [_compared_row(one) for one in summary.compared]
    compared = (
        table(
            "Every figure that both runs have",
            [
                "Figure",
                ("Then", "num"),
                ("Now", "num"),
                ("Ratio", "num"),
                ("Samples then / now", "num"),
            ],
            rows,
        )
        if rows
        else paragraph("The two runs have no figure in common.")
    )
    return [intro, differing, chart, compared]


def _compared_row(one: Compared) -> Markup:
    return element(
        "tr",
        row_head(name(one.key.text), f", {one.quantity}"),
        element("td", in_unit(one.before.value, one.unit), class_="k-num"),
        element("td", in_unit(one.now.value, one.unit), class_="k-num"),
        element("td", estimate_text(one.ratio, "") if one.ratio else NONE, class_="k-num"),
        element("td", f"{one.count_before} / {one.count_now}", class_="k-num"),
    )

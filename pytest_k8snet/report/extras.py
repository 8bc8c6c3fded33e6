"""The detail of one test in pytest-html's row: its figures and, folded, the raw output. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_k8snet.report.fields import figure, mapping, words
from pytest_k8snet.report.figures import NONE, in_unit
from pytest_k8snet.report.judged import judged
from pytest_k8snet.report.markup import Markup, element
from pytest_k8snet.report.phrases import figure_texts, limit_text, margin_text
from pytest_k8snet.report.raw import RawBudget
from pytest_k8snet.report.record import Record
from pytest_k8snet.report.sections.parts import (
    fold,
    name,
    number_cell,
    path_mark,
    preformatted,
    row_head,
    state_mark,
    table,
)

#: All raw outputs in pytest-html's rows together, in characters. The rows are held in the page a
#: second time, escaped, so this is less than what the static part may hold.
_TOTAL = 300_000
_EXPECTED_SAMPLES = 40
#: Most samples that one test's row lists.
_MOST_ROWS = 60


class RawShare(RawBudget):
    """What the rows of one page share."""

    def __init__(self) -> None:
        super().__init__(_EXPECTED_SAMPLES, _TOTAL)


def extra_of(records: Sequence[Record], share: RawBudget) -> str:
    """The figures of a test as HTML; empty where it has none."""
    samples = [record for record in records if record["kind"] == "sample"]
    verdicts = judged(
        (record for record in records if record["kind"] == "verdict"),
        {sample["id"]: sample for sample in samples},
    )
    if not samples and not verdicts:
        return ""
    parts = [
        element(
            "p",
            state_mark(one.state),
            " ",
            name(one.claim),
            f": {' '.join(figure_texts(one))}, limit {limit_text(one)}, margin {margin_text(one)}",
        )
        for one in verdicts
    ]
    if samples:
        left = len(samples) - _MOST_ROWS
        parts.append(
            table(
                "Samples of this test" + (f" (the first {_MOST_ROWS})" if left > 0 else ""),
                ["Sample", "What", ("Figure", "num"), "Path", "Raw output"],
                [_row(sample, share) for sample in samples[:_MOST_ROWS]],
            )
        )
    return element("div", parts, class_="k8snet k-extra")


def _row(sample: Record, share: RawBudget) -> Markup:
    return element(
        "tr",
        row_head(name(sample["id"], 40)),
        element("td", name(sample.get("label"))),
        number_cell(_figure(sample)),
        element("td", path_mark(words(mapping(sample.get("path")).get("state")))),
        element("td", _raw(sample, share)),
    )


def _figure(sample: Record) -> str:
    if sample.get("error"):
        return "error: " + words(sample["error"]).partition("\n")[0]
    if sample["tool"] == "curl":
        mean = in_unit(figure(sample, "total_mean_seconds"), "s")
        return f"time_total {mean}, {figure(sample, 'failed') or 0:,.0f} failed"
    return in_unit(figure(sample, "bandwidth_bits_per_second"), "bit/s")


def _raw(sample: Record, share: RawBudget) -> Markup | str:
    raw = words(sample.get("raw"))
    if not raw:
        return NONE
    shown = share.take(raw)
    if shown is None:
        return element("a", "above, at this sample", href=f"#k8snet-{sample['id']}")
    return fold("show", preformatted(shown))

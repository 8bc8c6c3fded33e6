"""Every sample, folded by scene and mode: figure, second by second, path, command, raw output."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_k8snet.report.charts import series_chart
from pytest_k8snet.report.format import NONE, counted, in_unit, percent
from pytest_k8snet.report.markup import Markup, element
from pytest_k8snet.report.model import BandwidthCell, Key, LatencyRow, Summary
from pytest_k8snet.report.raw import RawBudget
from pytest_k8snet.report.records import Record
from pytest_k8snet.report.sections.parts import (
    code,
    fold,
    lines,
    name,
    number_cell,
    paragraph,
    path_mark,
    preformatted,
    row_head,
    table,
)
from pytest_k8snet.report.summary import figure, mapping, reals, words

#: Most samples drawn one by one; the results file has the others.
MOST_ROWS = 600
_FEWEST_ROWS = 3


def samples_section(summary: Summary) -> list[Markup]:
    """One fold per cell."""
    budget = RawBudget(min(len(summary.samples), MOST_ROWS))
    return [
        *(_cell_fold(cell, len(summary.samples), budget) for cell in summary.bandwidth),
        *(_cell_fold(row, len(summary.samples), budget) for row in summary.latency),
    ]


def _cell_fold(cell: BandwidthCell | LatencyRow, total: int, budget: RawBudget) -> Markup:
    samples = cell.samples
    shown = _shown(samples, total)
    left = len(samples) - len(shown)
    note = f"{left:,} more samples of this row are in the results file." if left else ""
    return fold(
        element(
            "span",
            name(cell.key.text),
            element("span", f" {counted(len(samples), 'sample')}", class_="k-muted"),
        ),
        _table(cell.key, shown, budget),
        paragraph(note, class_="k-muted") if note else None,
    )


def _shown(samples: Sequence[Record], total: int) -> Sequence[Record]:
    if total <= MOST_ROWS:
        return samples
    most = max(_FEWEST_ROWS, MOST_ROWS * len(samples) // total)
    # What went wrong comes first; the order of time is kept.
    wrong = [index for index, one in enumerate(samples) if one.get("error")][:most]
    chosen = sorted({*wrong, *range(most - len(wrong))})
    return [samples[index] for index in chosen[:most]]


def _table(key: Key, samples: Sequence[Record], budget: RawBudget) -> Markup:
    curl = any(one["tool"] == "curl" for one in samples)
    headings: list[str | tuple[str, str]] = ["Sample", "From and to"]
    if curl:
        headings += [("Requests", "num"), ("Failed", "num"), ("total mean", "num")]
        headings += [("total p95", "num")]
    else:
        headings += [("Goodput", "num"), ("Retransmitted", "num"), ("RTT", "num")]
        headings += ["Second by second"]
    return table(
        f"Samples of {key.text}",
        [*headings, "Path", "Command and raw output"],
        [_row(sample, curl, budget) for sample in samples],
        class_="k-samples",
    )


def _row(sample: Record, curl: bool, budget: RawBudget) -> Markup:
    identity = words(sample.get("id"))
    return element(
        "tr",
        row_head(
            name(identity, 40),
            element("div", _clock(sample), class_="k-muted"),
            element("div", "warm-up, not counted", class_="k-muted")
            if sample.get("warmup")
            else None,
            element("div", "discarded, not counted: ", words(sample["discarded"]))
            if sample.get("discarded")
            else None,
        ),
        element("td", lines(*_ends(sample))),
        _figures(sample, curl),
        element("td", _path(sample)),
        element("td", _behind(sample, budget)),
        id=f"k8snet-{identity}" if identity.isascii() and identity.isalnum() else None,
    )


def _clock(sample: Record) -> str:
    return (
        words(sample.get("started") or sample.get("time"))
        .partition("T")[2]
        .partition(".")[0]
        .removesuffix("Z")
    )


def _ends(sample: Record) -> list[Markup]:
    found = [_end("from", mapping(sample.get("client")))]
    if sample.get("server"):
        found.append(_end("to", mapping(sample.get("server"))))
    elif sample.get("url"):
        found.append(element("span", "to ", name(sample["url"])))
    return found


def _end(word: str, end: object) -> Markup:
    where = mapping(end)
    kind, node = words(where.get("kind")), words(where.get("node"))
    on = element("span", " on ", name(node)) if node and node != where.get("name") else None
    address = words(where.get("address"))
    return element(
        "span",
        f"{word} {kind} ",
        name(where.get("name")),
        on,
        element("span", f" {address}", class_="k-muted") if address else None,
    )


def _figures(sample: Record, curl: bool) -> list[Markup]:
    if sample.get("error"):
        return [
            element(
                "td",
                element("strong", "✗ no figure", class_="k-is-fail"),
                element("pre", words(sample["error"]), tabindex="0"),
                colspan=4,
            )
        ]
    if curl:
        return [
            number_cell(_count(figure(sample, "requests"))),
            number_cell(_count(figure(sample, "failed"))),
            number_cell(in_unit(figure(sample, "total_mean_seconds"), "s")),
            number_cell(in_unit(figure(sample, "total_p95_seconds"), "s")),
        ]
    series = reals(mapping(sample.get("series")).get("bandwidth_bits_per_second"))
    return [
        number_cell(in_unit(figure(sample, "bandwidth_bits_per_second"), "bit/s")),
        number_cell(percent(figure(sample, "retransmit_ratio"))),
        number_cell(in_unit(figure(sample, "rtt_mean_seconds"), "s")),
        element("td", series_chart(series) or NONE),
    ]


def _count(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}"


def _path(sample: Record) -> Markup | None:
    path = mapping(sample.get("path"))
    if not path:
        return None
    return fold(
        path_mark(words(path.get("state")) or "missing"), paragraph(words(path.get("text")))
    )


def _behind(sample: Record, budget: RawBudget) -> Markup:
    """The command and what the tool printed."""
    command = sample.get("command")
    raw = words(sample.get("raw"))
    shown = budget.take(raw) if raw else ""
    if shown is None:
        shown = "left out here to keep the report small; the results file has it"
    return fold(
        "show",
        paragraph(code(" ".join(map(str, command)), 2000)) if isinstance(command, list) else None,
        preformatted(shown) if shown else paragraph("no output", class_="k-muted"),
    )

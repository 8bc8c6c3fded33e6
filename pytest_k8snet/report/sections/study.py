"""The study's table: scenes down, modes across."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_k8snet.report.format import (
    MILLISECONDS,
    NONE,
    Unit,
    bit_unit,
    counted,
    limit_text,
    margin_text,
    percent,
)
from pytest_k8snet.report.markup import Markup, element
from pytest_k8snet.report.model import BASELINE_SCENE, BandwidthCell, Judged, modes_of
from pytest_k8snet.report.sections.parts import (
    estimate_text,
    fold,
    interval_text,
    lines,
    name,
    number_cell,
    path_mark,
    row_head,
    state_mark,
    table,
    tests_mark,
)


def study_table(cells: Sequence[BandwidthCell]) -> Markup:
    """Bandwidth: one cell per scene and mode."""
    if not cells:
        return Markup("")
    unit = bit_unit(cell.figure.value for cell in cells if cell.figure is not None)
    modes = modes_of(cells)
    rows: dict[tuple[str, str], dict[str, BandwidthCell]] = {}
    for cell in cells:
        rows.setdefault(cell.key.row, {})[cell.key.mode] = cell
    named = [mode for mode in modes if mode]
    only_modeless = {row for row, found in rows.items() if set(found) == {""}}
    columns = (
        named if named and all(r in only_modeless or "" not in rows[r] for r in rows) else modes
    )
    body = []
    for row, found in rows.items():
        head = row_head(name(next(iter(found.values())).key.row_text))
        if row in only_modeless and columns == named:
            body.append(element("tr", head, _cell(found[""], unit, span=len(columns))))
        else:
            body.append(element("tr", head, [_cell(found.get(mode), unit) for mode in columns]))
    return table(
        f"Bandwidth, TCP goodput in {unit.name}: scene by Calico mode",
        ["Scene", *(mode or "no mode" for mode in columns)],
        body,
        class_="k-study",
    )


def _cell(cell: BandwidthCell | None, unit: Unit, span: int | None = None) -> Markup:
    if cell is None:
        return element("td", element("span", "not measured", class_="k-muted"), class_="k-cell")
    return element(
        "td",
        _figure(cell, unit),
        _ratio(cell),
        [_judged(one) for one in cell.judged],
        None if cell.judged else lines(tests_mark(cell.outcome)),
        element("div", path_mark(cell.path.state)) if cell.path.state else None,
        colspan=span if span and span > 1 else None,
        class_=f"k-cell k-cell-{cell.state or 'none'}",
    )


def _figure(cell: BandwidthCell, unit: Unit) -> Markup:
    count = f"n = {len(cell.values):,}"
    errors = f", {counted(cell.errors, 'error')}" if cell.errors else ""
    if cell.figure is None:
        return element("div", element("strong", "no figure"), f" ({count}{errors})")
    return element(
        "div",
        element("strong", unit.number(cell.figure.value), class_="k-figure"),
        element("span", f" {interval_text(cell.figure, unit.scale)} ", class_="k-interval"),
        element("span", f"{count}{errors}", class_="k-muted"),
    )


def _ratio(cell: BandwidthCell) -> Markup | None:
    if cell.ratio is None:
        return None
    return element("div", f"{estimate_text(cell.ratio, '')} of node-node", class_="k-ratio")


def _judged(one: Judged) -> Markup:
    what = "" if one.record.get("baseline") == BASELINE_SCENE else f"{one.quantity} "
    return element(
        "div",
        state_mark(one.state),
        element("span", f" {what}{limit_text(one)}, margin {margin_text(one)}", class_="k-limit"),
    )


def ceilings_note(cells: Sequence[BandwidthCell]) -> str:
    """What the dashed marks of the chart mean, as far as it has any."""
    kinds = {cell.ceiling_kind for cell in cells}
    if "link" in kinds:
        return "Dashed: link rate times payload / frame, the most a perfect network could carry."
    if "headers" in kinds:
        return "Dashed: what the headers alone would leave of node-node."
    return ""


def retransmit_note(cells: Sequence[BandwidthCell]) -> Markup:
    """Retransmits, round-trip time and segment size of each cell, folded."""
    if not any(cell.retransmit_ratio is not None or cell.mss_bytes for cell in cells):
        return Markup("")
    return fold(
        "Retransmits, round-trip time and segment size",
        table(
            "TCP of each cell: means over its samples",
            [
                "Scene and mode",
                ("Retransmitted", "num"),
                ("RTT under load, ms", "num"),
                ("MSS, bytes", "num"),
                ("Ceiling", "num"),
            ],
            [
                element(
                    "tr",
                    row_head(name(cell.key.text)),
                    number_cell(percent(cell.retransmit_ratio)),
                    number_cell(MILLISECONDS.number(cell.rtt_seconds)),
                    number_cell(f"{cell.mss_bytes:,}" if cell.mss_bytes else NONE),
                    number_cell(
                        bit_unit([cell.ceiling]).text(cell.ceiling) if cell.ceiling else NONE
                    ),
                )
                for cell in cells
            ],
        ),
    )

"""The tables of a run as rows, columns and cells: terminal, Markdown and HTML draw the same. Pure.

Three kinds: a rate as scenes by modes, the figures of a tool by scene, and the gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from pytest_k8snet.report.format import (
    MILLISECONDS,
    NONE,
    Unit,
    bit_unit,
    counted,
    estimate_text,
    interval_text,
    limit_text,
    percent,
    promise_text,
    share_interval,
    significant,
    unit_of,
)
from pytest_k8snet.report.model import (
    BASELINE_SCENE,
    TEST_WORDS,
    WORDS,
    Comparison,
    GateResult,
    Measurement,
    State,
    ToolResults,
    statistic,
    worst_first,
)
from pytest_k8snet.report.records import Record, words
from pytest_k8snet.tools.tool import Column as ToolColumn


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column's heading.

    Attributes:
        numeric: figures, aligned on their last digit.
        spare: left out where room is scarce (the terminal): a row's other cells imply it.
    """

    heading: str
    numeric: bool = False
    spare: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CellVerdict:
    """A gate's verdict in a cell of another table: its state, what it is on, and its margin."""

    state: State
    text: str
    margin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one cell says, in parts: a drawing shows as many of them as it has room for.

    Attributes:
        text: a figure or a word; every drawing shows it.
        interval: of the figure, in the same unit.
        count: the samples and errors that the figure rests on.
        ratio: to node-node, as ``99.8 %``.
        ratio_interval: of the ratio.
        verdicts: of gates.
        outcome: of the tests, where no gate has a verdict.
        state: of gates or tests: the cell's colour, or (``is_state``) what its text says.
        path: the state of the path proofs.
        distorted: whether admission changed pods so that the figure is not the network's alone.
    """

    text: str = ""
    interval: str = ""
    count: str = ""
    ratio: str = ""
    ratio_interval: str = ""
    verdicts: tuple[CellVerdict, ...] = ()
    outcome: State = ""
    state: State = ""
    is_state: bool = False
    path: str = ""
    distorted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row.

    Attributes:
        heading: its scene or claim.
        place: mode of a claim where the table has no column for it, and what else tells it from
            others of the same words.
        detail: more about the row, e.g. a URL.
        cells: one per column; None where nothing was measured.
        gate: whose verdict the row is.
    """

    heading: str
    place: str = ""
    detail: str = ""
    cells: tuple[Cell | None, ...]
    gate: GateResult | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table; ``first`` is the heading of its rows' headings."""

    kind: str
    title: str
    first: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def narrow(self) -> Table:
        """Return the table without its spare columns."""
        kept = [index for index, column in enumerate(self.columns) if not column.spare]
        return replace(
            self,
            columns=tuple(self.columns[index] for index in kept),
            rows=tuple(
                replace(row, cells=tuple(row.cells[index] for index in kept)) for row in self.rows
            ),
        )


def tool_tables(results: ToolResults) -> list[Table]:
    """Return a tool's tables, the most telling first: by mode if it measures a rate, then by scene.

    Only HTML has room for the second.
    """
    by_scene = _by_scene(results)
    return [_by_mode(results), by_scene] if results.rate is not None else [by_scene]


def promises_table(promises: Iterable[GateResult]) -> Table:
    """Return every promise, of gates and of plain asserts, worst first."""
    ordered = worst_first(promises)
    alike: dict[tuple[str, str, str], list[GateResult]] = {}
    for gate in ordered:
        alike.setdefault(_row_of(gate), []).append(gate)
    return Table(
        kind="verdicts",
        title="Promises, the worst first",
        first="promise",
        columns=(
            Column(heading="verdict"),
            Column(heading="scene and mode", spare=True),
            Column(heading="measured", numeric=True),
            Column(heading="limit", numeric=True),
            Column(heading="margin", numeric=True),
            Column(heading="n", numeric=True),
            Column(heading="path", spare=True),
        ),
        rows=tuple(_gate_row(gate, alike[_row_of(gate)]) for gate in ordered),
    )


def _row_of(gate: GateResult) -> tuple[str, str, str]:
    return gate.subject, gate.key.mode, limit_text(gate)


def _gate_row(gate: GateResult, alike: Sequence[GateResult]) -> Row:
    texts, told_apart = promise_text(gate), _told_apart(gate, alike)
    return Row(
        heading=gate.subject,
        place=", ".join(filter(None, [gate.key.mode, *told_apart])),
        detail=", ".join(filter(None, told_apart)),
        cells=(
            Cell(text=WORDS[gate.state], state=gate.state, is_state=True),
            Cell(text=gate.key.text),
            Cell(text=texts.measured),
            Cell(text=limit_text(gate)),
            Cell(text=texts.margin),
            Cell(
                text=f"{gate.count:,}",
                count=f"+{gate.discarded} discarded" if gate.discarded else "",
            ),
            Cell(path=gate.path),
        ),
        gate=gate,
    )


def _told_apart(gate: GateResult, alike: Sequence[GateResult]) -> tuple[str, ...]:
    """Return what tells a promise from others of the same words, limit and mode."""
    found: dict[int, tuple[str, ...]] = {id(one): () for one in alike}
    for part in _PARTS:
        if len({*found.values()}) < len(alike) and len({*map(part, alike)}) > 1:
            found = {id(one): (*found[id(one)], part(one)) for one in alike}
    return found[id(gate)]


#: Placement, variant, nodes, what the test is called with, and its name.
_PARTS: tuple[Callable[[GateResult], str], ...] = (
    lambda gate: gate.key.placement,
    lambda gate: gate.key.variant,
    lambda gate: words(gate.record.get("context")).rpartition(", ")[2],
    lambda gate: gate.test.partition("[")[2].rstrip("]"),
    lambda gate: gate.test.partition("[")[0].rpartition("::")[2],
)


def comparisons_table(comparisons: Iterable[Comparison]) -> Table:
    """Return each figure before and now."""
    headings = ("then", "now", "ratio", "samples then / now")
    return Table(
        kind="before",
        title="Every figure that both runs have",
        first="figure",
        columns=tuple(Column(heading=heading, numeric=True) for heading in headings),
        rows=tuple(
            Row(
                heading=f"{one.key.text}, {one.quantity}",
                cells=(
                    *(Cell(text=text) for text in before_and_now(one)),
                    Cell(text=estimate_text(one.ratio)),
                    Cell(text=f"{one.count_before} / {one.count_now}"),
                ),
            )
            for one in comparisons
        ),
    )


def before_and_now(one: Comparison) -> tuple[str, str]:
    """Return both figures in one unit."""
    unit = unit_of(one.unit, [one.before.value, one.now.value])
    return unit.text(one.before.value), unit.text(one.now.value)


# -- A rate: scenes down, modes across ------------------------------------------------------------


def _by_mode(results: ToolResults) -> Table:
    means = [one.rate.mean for one in results.measurements if one.rate is not None]
    unit = bit_unit(mean.value for mean in means if mean is not None)
    modes = results.modes
    rows: dict[tuple[str, str, str], dict[str, Measurement]] = {}
    for one in results.measurements:
        rows.setdefault(one.key.row, {})[one.key.mode] = one
    return Table(
        kind="study",
        title=f"{results.title} in {unit.name}: mean, and its ratio to node-node",
        first="scene",
        columns=tuple(Column(heading=mode or "no mode") for mode in modes),
        rows=tuple(
            Row(
                heading=next(iter(found.values())).key.row_text,
                cells=tuple(_rate_cell(found.get(mode), unit) for mode in modes),
            )
            for found in rows.values()
        ),
    )


def _rate_cell(one: Measurement | None, unit: Unit) -> Cell | None:
    if one is None or one.rate is None:
        return None
    mean = one.rate.mean
    ratio, ratio_interval = ratio_texts(one)
    return Cell(
        text=unit.number(mean.value) if mean is not None else "no figure",
        interval=interval_text(mean, unit.number),
        count=f"n = {len(one.rate.values):,}"
        + (f", {counted(one.errors, 'error')}" if one.errors else ""),
        ratio=ratio,
        ratio_interval=ratio_interval,
        verdicts=_cell_verdicts(one),
        outcome=one.outcome_beside_gates,
        state=one.state,
        path=one.path.state,
        distorted=one.distorted,
    )


def ratio_texts(one: Measurement) -> tuple[str, str]:
    """Return a rate's ratio to node-node with its interval, as exact as a promise on it needs."""
    ratio = one.rate.ratio if one.rate is not None else None
    if ratio is None:
        return "", ""
    for gate in one.gates:
        if not gate.unit and gate.estimate == ratio.value:
            return promise_text(gate).figure, promise_text(gate).interval
    return percent(ratio.value), share_interval(ratio)


def _cell_verdicts(one: Measurement) -> tuple[CellVerdict, ...]:
    return tuple(
        CellVerdict(
            state=gate.state,
            text=_promised(gate) if gate.plain else _on_what(gate, one),
            margin=promise_text(gate).margin,
        )
        for gate in one.gates
    )


def _promised(gate: GateResult) -> str:
    """Name what a test promised of a figure itself: ``96.4 %, promised ≥ 90 %``."""
    name = "" if gate.record.get("baseline") == BASELINE_SCENE else f"{gate.quantity} "
    return f"{name}{promise_text(gate).figure}, promised {limit_text(gate)}"


def _on_what(gate: GateResult, one: Measurement) -> str:
    """Name what a verdict is on, with its figure, as far as the cell does not show that already."""
    if gate.record.get("baseline") == BASELINE_SCENE:
        return limit_text(gate)
    figure = f" {promise_text(gate).figure}" if one.rate is None else ""
    return f"{gate.quantity}{figure} {limit_text(gate)}"


# -- A tool's own columns: one row per scene and mode, or per sample ------------------------------


def _by_scene(results: ToolResults) -> Table:
    measurements = results.measurements
    with_ceiling = any(one.rate is not None and one.rate.ceiling for one in measurements)
    headings = tool_columns(results)
    if with_ceiling:
        headings.append(Column(heading="ceiling", numeric=True))
    if results.rate is None:
        headings.append(Column(heading="verdict"))
    return Table(
        kind="tool",
        title=results.title if results.rate is None else "Every figure, by scene and mode",
        first="scene",
        columns=tuple(headings),
        rows=tuple(
            Row(
                heading=one.key.text,
                detail=one.url,
                cells=tuple(_scene_cells(one, results, with_ceiling=with_ceiling)),
            )
            for one in measurements
        ),
    )


def _scene_cells(one: Measurement, results: ToolResults, *, with_ceiling: bool) -> Iterable[Cell]:
    for column in results.columns:
        yield Cell(text=figure_text(column, statistic(one.samples, column)))
    if with_ceiling:
        ceiling = one.rate.ceiling if one.rate is not None else None
        yield Cell(text=bit_unit([ceiling]).text(ceiling) if ceiling else NONE)
    if results.rate is None:
        errors = counted(one.errors, "error") if one.errors else ""
        yield Cell(
            count=errors,
            verdicts=_cell_verdicts(one),
            outcome=one.outcome_beside_gates,
            state=one.state,
            distorted=one.distorted,
        )


def tool_columns(results: ToolResults) -> list[Column]:
    """Return a tool's columns; with their unit, where the table's title does not name that."""
    units = {"seconds": ", ms", "bytes": ", bytes"}
    named = results.rate is None and results.known
    return [
        Column(heading=one.heading + ("" if named else units.get(one.unit, "")), numeric=True)
        for one in results.columns
    ]


def sample_figures(results: ToolResults, sample: Record) -> Sequence[str]:
    """Return one sample's figures as its tool's columns show them."""
    return [figure_text(column, statistic([sample], column)) for column in results.columns]


def figure_text(column: ToolColumn, value: float | None) -> str:
    """Return a figure in its column's unit; durations are in milliseconds."""
    if value is None:
        return NONE
    if column.unit == "seconds":
        return MILLISECONDS.number(value)
    if column.unit == "bit/s":
        return bit_unit([value]).text(value)
    if column.unit == "ratio":
        return percent(value)
    return f"{value:,.0f}" if value.is_integer() else significant(value)


def cell_lines(cell: Cell | None) -> list[str]:
    """Return what a cell says where there is no markup, a line each.

    Figure and ratio, verdicts or what became of the tests, a path that is not proven, distortion.
    """
    if cell is None:
        return [NONE]
    found = [f"{cell.text} ({cell.ratio})" if cell.ratio else cell.text]
    found += [f"{WORDS[verdict.state]} {verdict.text}" for verdict in cell.verdicts]
    found.append(TEST_WORDS[cell.outcome])
    found.append(f"path {cell.path}" if cell.path not in ("", "proven") else "")
    found.append("distorted" if cell.distorted else "")
    return [line for line in found if line] or [NONE]

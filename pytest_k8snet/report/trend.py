"""Several runs side by side, without a cluster: each figure over time, and two runs compared.

``k8snet history`` and ``k8snet compare``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from pytest_k8snet.errors import ResultsError
from pytest_k8snet.report.baseline import Baseline
from pytest_k8snet.report.charts import Dot, Limit, before_chart, dot_chart
from pytest_k8snet.report.documents import render_trend
from pytest_k8snet.report.format import (
    counted,
    interval_text,
    limit_text,
    moment,
    ratio_text,
    unit_of,
    visible_line,
)
from pytest_k8snet.report.model import (
    BASELINE_SCENE,
    WORDS,
    Difference,
    Estimate,
    GateResult,
    Key,
    Measurement,
    Summary,
    mean,
    worst_state,
)
from pytest_k8snet.report.records import Record, Results, read, read_runs
from pytest_k8snet.report.summary import comparable, summarise
from pytest_k8snet.report.tables import Cell, Column, Row, Table, comparisons_table
from pytest_k8snet.report.terminal import table_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One figure in one run, and the promises on it."""

    time: str
    run: str
    figure: Estimate
    promises: tuple[GateResult, ...]

    @property
    def word(self) -> str:
        """What became of the promises; empty where there is none."""
        return WORDS[worst_state(one.state for one in self.promises)] if self.promises else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One figure of a scene and mode over time, oldest first."""

    key: Key
    quantity: str
    unit: str
    points: tuple[Point, ...]

    @property
    def title(self) -> str:
        """What it is of: ``pod-pod, same-subnet [VXLAN-Always]: bandwidth / node-node``."""
        return f"{self.key.text}: {self.quantity}"

    def table(self) -> Table:
        """Return a row per run."""
        unit = unit_of(self.unit, [point.figure.value for point in self.points])
        number = unit.number if self.unit else ratio_text
        return Table(
            kind="history",
            title=f"{self.title}{f', {unit.name}' if unit.name else ''}",
            first="begun",
            columns=(
                Column(heading="run"),
                Column(heading="figure", numeric=True),
                Column(heading="promised", numeric=True),
                Column(heading="verdict"),
            ),
            rows=tuple(
                Row(
                    heading=moment(point.time),
                    cells=(
                        Cell(text=point.run),
                        Cell(text=_with_interval(point.figure, number)),
                        Cell(text=", ".join(dict.fromkeys(map(limit_text, point.promises)))),
                        Cell(text=point.word),
                    ),
                )
                for point in self.points
            ),
        )

    def chart(self, name: str) -> Markup:
        """Draw a row per run: what changes over time moves sideways."""
        unit = unit_of(self.unit, [point.figure.value for point in self.points])
        number = unit.number if self.unit else ratio_text
        return dot_chart(
            [
                Dot(
                    heading=f"{moment(point.time)} {point.run}",
                    figure=point.figure,
                    limits=tuple(
                        Limit(
                            value=one.limit,
                            text=f"promised {limit_text(one)}",
                            missed=one.state == "fail",
                        )
                        for one in point.promises
                        if one.limit is not None
                    ),
                    text=number(point.figure.value),
                    word=point.word,
                    state=worst_state(one.state for one in point.promises),
                )
                for point in self.points
            ],
            name=name,
            title=self.title,
            axis=unit.name,
            scale=unit.scale,
        )


def _with_interval(figure: Estimate, number: Callable[[float | None], str]) -> str:
    return f"{number(figure.value)} {interval_text(figure, number)}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The figures of several runs."""

    runs: int
    series: tuple[Series, ...]

    def text(self) -> str:
        """Return a table for each figure."""
        blocks = [table_lines(one.table(), 120, 60) for one in self.series]
        return "\n".join(line for block in blocks for line in (*block, "")).rstrip("\n")

    def page(self) -> str:
        """Return the same as an HTML page with charts."""
        return render_trend(
            title=f"{counted(len(self.series), 'figure')} in {counted(self.runs, 'run')}",
            parts=[
                (one.title, one.chart(f"chart-{index}"), one.table())
                for index, one in enumerate(self.series)
            ],
        )


def history(paths: Sequence[Path]) -> History:
    """Read each figure of every run in results files, or in folders of them.

    Raises:
        ResultsError: a file cannot be read, or none holds a figure.
    """
    files = [file for path in paths for file in _files(path)]
    results = {one.runs[-1]: one for file in files for one in read_runs(file)}
    runs = sorted(results.values(), key=lambda one: str(one.records[0]["time"]))
    found: dict[tuple[Key, str, str], list[Point]] = {}
    for one in runs:
        for what, point in _points(one):
            found.setdefault(what, []).append(point)
    if not found:
        raise ResultsError(
            "there is no figure to follow",
            found=f"{counted(len(runs), 'run')} in {', '.join(map(str, files)) or 'no file'}",
            remedy="give results files (--k8snet-results) of runs that measured something",
        )
    series = [
        Series(key=key, quantity=quantity, unit=unit, points=tuple(points))
        for (key, quantity, unit), points in found.items()
    ]
    return History(
        runs=len(runs), series=tuple(sorted(series, key=lambda one: (one.key.order, one.quantity)))
    )


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("*.jsonl")) if path.is_dir() else [path]


def _points(results: Results) -> list[tuple[tuple[Key, str, str], Point]]:
    summary = summarise(results.records)
    found = []
    for (key, quantity, unit), values in comparable(summary.tools).items():
        one = _measured(summary, key)
        figure, what = mean(values), (key, quantity, unit)
        promises = tuple(gate for gate in one.gates if gate.unit == unit and _is_of(gate, quantity))
        if one.rate is not None and one.rate.ratio is not None and key.scene != BASELINE_SCENE:
            # What a change does to the nodes' own network is none of the pods' doing.
            figure, what = one.rate.ratio, (key, f"{quantity.lower()} / {BASELINE_SCENE}", "")
            promises = tuple(
                gate for gate in one.gates if gate.record.get("baseline") == BASELINE_SCENE
            )
        point = Point(time=summary.begun, run=results.runs[-1], figure=figure, promises=promises)
        found.append((what, point))
    return found


def _measured(summary: Summary, key: Key) -> Measurement:
    return next(one for tool in summary.tools for one in tool.measurements if one.key == key)


def _is_of(gate: GateResult, quantity: str) -> bool:
    # A gate's percentile is not the median that runs are compared by.
    return not gate.record.get("baseline") and gate.quantity.lower() == quantity.lower()


# -- Two runs -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two runs: every figure that both have, and what of their environments differs."""

    before: Results
    after: Results
    records: tuple[Record, ...]
    differences: tuple[Difference, ...]

    @property
    def _title(self) -> str:
        return f"before: {self.before.which}; after: {self.after.which}"

    def _tables(self) -> list[Table]:
        tables = [comparisons_table(summarise(self.records).comparisons)]
        if self.differences:
            tables.append(
                Table(
                    kind="differences",
                    title="The environment is not the same",
                    first="fact",
                    columns=(Column(heading="before"), Column(heading="after")),
                    rows=tuple(
                        Row(heading=one.fact, cells=(Cell(text=one.before), Cell(text=one.now)))
                        for one in self.differences
                    ),
                )
            )
        return tables

    def text(self) -> str:
        """Return the figures and the differences as tables."""
        lines = [visible_line(self._title, None), ""]
        for table in self._tables():
            lines += [*table_lines(table, 120, 60), ""]
        lines += _READING if self.differences else ["No recorded fact differs.", *_READING]
        return "\n".join(lines)

    def page(self) -> str:
        """Return the same as an HTML page, with a chart of the ratios."""
        chart = before_chart(summarise(self.records).comparisons)
        figures, *rest = self._tables()
        parts = [("After relative to before", chart, figures)]
        parts += [(table.title, Markup(""), table) for table in rest]
        return render_trend(title="Two runs compared", parts=parts, note=self._title)


_READING = [
    "The runs are separate, not paired: the interval of a ratio is Welch's (95 %) for two groups,",
    "and whatever else changed between them is in the ratio as well.",
]


def compare(before: Path, after: Path) -> Compared:
    """Compare the newest runs of two results files, without a cluster.

    Raises:
        ResultsError: a file cannot be used, or they have no figure in common.
    """
    then, now = read(before), read(after)
    baseline = Baseline.load(before)
    facts = [record for record in now.records if record["kind"] == "facts"]
    latest = facts[-1] if facts else None
    own = [record for record in now.records if record["kind"] != "baseline"]
    head = {"schema": own[0]["schema"], "run": own[0]["run"], "time": own[-1]["time"]}
    records = (*own, {**head, **baseline.to_record(latest)})
    if not summarise(records).comparisons:
        raise ResultsError(
            "the two runs have no figure in common",
            found=f"{then.which}; {now.which}",
            remedy="measure the same scenes in the same modes before and after",
        )
    return Compared(
        before=then, after=now, records=records, differences=baseline.differences(latest)
    )

"""Runs beside each other: a baseline of gates, each figure over time, and two runs compared.

The fixture ``baseline``, ``k8snet history`` and ``k8snet compare``. Runs are not paired: minutes or
days lie between them, and whatever changed meanwhile is in a ratio. So gates compare with several
earlier runs, which show how much runs differ anyway; the report draws the first, with Welch's
interval for two separate groups, and says so. A figure that an earlier run does not have is an
error, never a pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pytest_k8snet.errors import ResultsError
from pytest_k8snet.report.charts import Dot, before_chart, dot_chart, limits_of
from pytest_k8snet.report.documents import render_trend
from pytest_k8snet.report.format import (
    Unit,
    counted,
    interval_text,
    moment,
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
    differences_between,
    mean,
    worst_state,
)
from pytest_k8snet.report.recorder import Recorder
from pytest_k8snet.report.records import Record, Results, read, read_runs
from pytest_k8snet.report.sentences import on_lab
from pytest_k8snet.report.summary import comparable, summarise, thinned
from pytest_k8snet.report.tables import Cell, Column, Row, Table, comparisons_table
from pytest_k8snet.report.terminal import table_lines
from pytest_k8snet.verdict import Arm


class Baseline:
    """The earlier run.

    Args:
        source: what to call it, usually the file's name.
        records: its records.
        others: further earlier runs, for gates.
    """

    def __init__(
        self, source: str, records: Sequence[Record], others: Sequence[Baseline] = ()
    ) -> None:
        self.others = tuple(others)
        self.name = source
        self.source: str = ", ".join((source, *(one.source for one in self.others)))
        summary = summarise(records)
        self.run = str(summary.run.get("run", ""))
        self.time = summary.begun
        self.facts = summary.facts
        self._figures = comparable(summary.tools)

    def __repr__(self) -> str:
        """Short: pytest prints it with the arguments of each failed test."""
        return f"Baseline({self.source}, run {self.run})"

    @classmethod
    def load(cls, path: Path, *more: Path) -> Baseline:
        """Read the newest run of each results file.

        Raises:
            ResultsError: a file cannot be used, holds no figure, or the same run as another.
        """
        results = read(path)
        others = [cls.load(one) for one in more]
        found = cls(path.name, results.records, others)
        runs = [one.run for one in (found, *others)]
        if len(set(runs)) < len(runs):
            raise ResultsError(
                "the baseline files hold the same run more than once",
                found=f"{found.source}: runs {', '.join(runs)}",
                remedy="give the results files of different runs",
            )
        if not found._figures:
            raise ResultsError(
                f"the baseline {path} holds no figure",
                found=f"{len(results.records)} records of run {results.runs[-1]}, no usable sample",
                remedy="give the results file of a run that measured something",
            )
        return found

    def values_of(self, arm: Arm, figure: str) -> tuple[tuple[float, ...], ...]:
        """Return what each earlier run measured of what a gate measures now, one value per sample.

        Args:
            arm: what is measured now.
            figure: ``bandwidth``, in bit/s, or the median of durations, in seconds, as the table
                of before and now names it: ``median total``.

        Raises:
            ResultsError: an earlier run has none; names those it has.
        """
        return tuple(one._values_of(arm, figure) for one in (self, *self.others))

    def _values_of(self, arm: Arm, figure: str) -> tuple[float, ...]:
        wanted = Key(arm.scene, arm.placement, arm.mode or "", arm.tool, arm.variant)
        for (key, quantity, _), values in self._figures.items():
            if (key, quantity) == (wanted, figure):
                return values
        raise ResultsError(
            f"the baseline {self.name} has no {figure} of {wanted.text}",
            found="it has "
            + "; ".join(f"{quantity} of {key.text}" for key, quantity, _ in self._figures),
            remedy="measure it before the change as well, or do not compare it",
        )

    def differences(self, facts: Mapping[str, Any] | None) -> tuple[Difference, ...]:
        """Return what is not as it was: cluster and node facts, then and now."""
        if facts is None or self.facts is None:
            return ()
        return differences_between(self.facts, dict(facts))

    def to_record(self, facts: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the content of the "baseline" record, so that a report needs no second file.

        Args:
            facts: the "facts" record of this run, phase "before".
        """
        return {
            "kind": "baseline",
            "source": self.source,
            "baseline_run": self.run,
            "baseline_time": self.time,
            "figures": [
                {
                    "scene": key.scene,
                    "placement": key.placement,
                    "mode": key.mode or None,
                    "tool": key.tool,
                    "variant": key.variant,
                    "quantity": quantity,
                    "unit": unit,
                    "count": len(values),
                    "values": thinned(values),
                }
                for (key, quantity, unit), values in self._figures.items()
            ],
            "differences": [
                {"fact": one.fact, "before": one.before, "now": one.now}
                for one in self.differences(facts)
            ],
        }


def attach(recorder: Recorder, *paths: Path) -> Baseline:
    """Load the earlier runs for the run being recorded, and put it into that run's records.

    Args:
        recorder: the run's; its facts are compared with those of the earlier run.
        paths: the earlier runs' results files; the report draws the first.

    Raises:
        ResultsError: the file cannot be used.
    """
    baseline = Baseline.load(*paths)
    facts = [record for record in recorder.records if record["kind"] == "facts"]
    recorder.add(baseline.to_record(facts[-1] if facts else None))
    return baseline


# -- Each figure over time ------------------------------------------------------------------------


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

    @property
    def drawn_in(self) -> Unit:
        """One unit for all its figures and limits."""
        return unit_of(self.unit, [point.figure.value for point in self.points])

    def table(self) -> Table:
        """Return a row per run."""
        unit = self.drawn_in
        return Table(
            kind="history",
            title=f"{self.title}, {unit.name}",
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
                        Cell(text=_with_interval(point.figure, unit)),
                        Cell(text=", ".join(one.text for one in limits_of(point.promises, unit))),
                        Cell(text=point.word),
                    ),
                )
                for point in self.points
            ),
        )

    def chart(self, name: str) -> Markup:
        """Draw a row per run: what changes over time moves sideways."""
        unit = self.drawn_in
        return dot_chart(
            [
                Dot(
                    heading=f"{moment(point.time)} {point.run}",
                    figure=point.figure,
                    limits=limits_of(point.promises, unit),
                    text=unit.text(point.figure.value),
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


def _with_interval(figure: Estimate, unit: Unit) -> str:
    return f"{unit.number(figure.value)} {interval_text(figure, unit.number)}".strip()


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
        run = f"{results.runs[-1]}{' on the lab' if on_lab(summary) else ''}"
        point = Point(time=summary.begun, run=run, figure=figure, promises=promises)
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
        before, after = (
            f"{one.which}{' on the embedded lab' if on_lab(summarise(one.records)) else ''}"
            for one in (self.before, self.after)
        )
        return f"before: {before}; after: {after}"

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

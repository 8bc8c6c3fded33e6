"""The charts of the HTML report as SVG: dots with intervals, latency, one sample's seconds.

Pure. No HTML is made here; the templates place the drawings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from pytest_k8snet.report.format import (
    Unit,
    bit_unit,
    clipped,
    in_unit,
    limit_text,
    percent,
    promise_text,
    time_unit,
    visible,
    visible_line,
)
from pytest_k8snet.report.model import (
    BASELINE_SCENE,
    TEST_WORDS,
    WORDS,
    Comparison,
    Estimate,
    GateResult,
    Measurement,
    Rate,
    ToolResults,
    quantile,
    values_of,
)
from pytest_k8snet.report.records import words
from pytest_k8snet.report.summary import curve_of
from pytest_k8snet.report.tables import before_and_now, ratio_texts

#: The dash of each line of a chart, whose colours the style sheet knows as line1 and so on: neither
#: alone has to tell them apart.
DASHES = ("", "6 3", "2 3", "8 3 2 3", "12 4", "4 2")
_NO_MODE = "no mode"
#: Most rows whose figures a drawing's text alternative names; the table beside it has them all.
_MOST_WORDS = 24


# -- Figures as dots on a common axis: by mode, before and now, two runs --------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit in a row of dots; red where it was missed."""

    value: float
    text: str
    missed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One row: a figure with its interval.

    Attributes:
        heading: what it is of.
        group: rows of one group follow each other below its name.
        limits: what it was compared with, the most telling first.
        ceiling: the most that is possible.
        text: the figure in words.
        note: more of it, where there is room.
        gates: the promises on it.
        state: of the word: its colour.
    """

    heading: str
    group: str = ""
    figure: Estimate
    limits: tuple[Limit, ...] = ()
    ceiling: float | None = None
    text: str
    note: str = ""
    word: str = ""
    state: str = ""
    gates: tuple[GateResult, ...] = ()

    @property
    def promised(self) -> str:
        """The limits in words; empty where there is none."""
        return f"promised {', '.join(one.text for one in self.limits)}" if self.limits else ""

    @property
    def words(self) -> str:
        """The row in words, for who cannot see it."""
        group = f" [{self.group}]" if self.group else ""
        parts = [self.text, self.promised, self.note, self.word]
        return f"{self.heading}{group} {', '.join(part for part in parts if part)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where things stand, in pixels: beside each other, or on a phone below each other."""

    width: float
    left: float
    right: float
    row: float
    middle: float
    heading_characters: int
    narrow: bool


_WIDE = _Layout(
    width=1120, left=306, right=720, row=26, middle=13, heading_characters=48, narrow=False
)
_NARROW = _Layout(
    width=340, left=20, right=318, row=46, middle=33, heading_characters=38, narrow=True
)
_TOP, _GROUP, _BETWEEN = 14, 26, 10


def dot_chart(
    dots: Sequence[Dot],
    *,
    name: str,
    title: str,
    axis: str = "",
    scale: float = 1.0,
    middle: tuple[float, str] | None = None,
) -> Markup:
    """Draw figures as dots with intervals, limits as lines and ceilings as ticks; the axis fits.

    Args:
        dots: the rows.
        name: an id, unique in the document.
        title: what is drawn.
        axis: its unit.
        scale: what one of that unit is.
        middle: a figure to mark on the axis, and what to call it.

    Returns:
        The chart twice, of which the style sheet shows the one that fits; empty without rows.
    """
    if not dots:
        return Markup("")
    marks = _marks(dots, middle, scale)
    return Markup("").join(
        _drawn_dots(dots, layout, marks, (name + ending, title, axis), scale, middle)
        for layout, ending in ((_WIDE, ""), (_NARROW, "-narrow"))
    )


def _marks(dots: Sequence[Dot], middle: tuple[float, str] | None, scale: float) -> Sequence[float]:
    ends = [
        end
        for dot_ in dots
        for end in (
            dot_.figure.value,
            dot_.figure.low,
            dot_.figure.high,
            dot_.ceiling,
            *(one.value for one in dot_.limits),
        )
        if end is not None and math.isfinite(end)
    ]
    if middle is not None:
        ends.append(middle[0])
    low, high = min(ends) / scale, max(ends) / scale
    spare = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return ticks(low - spare if low - spare >= 0 or low < 0 else 0.0, high + spare)


def _drawn_dots(
    dots: Sequence[Dot],
    layout: _Layout,
    marks: Sequence[float],
    labels: tuple[str, str, str],
    scale: float,
    middle: tuple[float, str] | None,
) -> Markup:
    name, title, axis = labels
    x = Scale(marks[0] * scale, marks[-1] * scale, layout.left, layout.right)
    parts: list[Markup] = []
    y = float(_TOP)
    group = ""
    rows = Counter(one.group for one in dots)
    for one in dots:
        # The name of a group of one row stands in that row.
        if not layout.narrow and rows[one.group] == 1 and one.group:
            place = f"{one.group}: " if one.group != _NO_MODE else ""
            y += _BETWEEN if group else 0
            group = ""
            one = replace(one, heading=place + one.heading)
        elif one.group != group:
            group = one.group
            y += _GROUP
            parts.append(label(0, y - 8, group, weight="600", limit=40))
        parts += _dot_row(one, y, layout, x)
        y += layout.row
    shown = marks if not layout.narrow or len(marks) < 7 else marks[:: len(marks) // 4]
    grid = [
        part
        for mark in shown
        for part in (
            line(x(mark * scale), _TOP, x(mark * scale), y + 4, "grid"),
            label(x(mark * scale), y + 18, tick_text(mark), anchor="middle", kind="muted"),
        )
    ]
    if middle is not None:
        at = x(middle[0])
        grid.append(line(at, _TOP, at, y + 4, "base"))
        parts.append(label(at, y + 34, middle[1], anchor="middle", kind="muted"))
    elif axis:
        # Above, where a low window does not cut it off.
        parts.append(label(layout.right, _TOP - 4, axis, anchor="end", kind="muted"))
    return drawing(
        layout.width,
        y + (40 if middle is not None else 26),
        [*grid, *parts],
        kind="k-narrow" if layout.narrow else "k-wide",
        name=name,
        title=title,
        description="; ".join(one.words for one in dots[:_MOST_WORDS])
        + ". The table beside it holds every figure.",
    )


def _dot_row(one: Dot, y: float, layout: _Layout, x: Scale) -> list[Markup]:
    middle = y + layout.middle
    heading = clipped(visible_line(one.heading), layout.heading_characters)
    parts = [label(0 if layout.narrow else 12, y + 17, heading)]
    if one.ceiling is not None:
        at = x(one.ceiling)
        parts.append(line(at, middle - 7, at, middle + 7, "axis", width=2))
    for limit in one.limits:
        at, kind = x(limit.value), "limit" if limit.missed else "kept"
        parts.append(line(at, middle - 10, at, middle + 10, kind, width=1.5, dash="4 2"))
    if one.figure.low is not None and one.figure.high is not None:
        parts.append(interval(x(one.figure.low), x(one.figure.high), middle))
    parts.append(dot(x(one.figure.value), middle, one.state if one.state in _DOTS else "bar"))
    kind = one.state if one.state in _DOTS else "muted"
    if layout.narrow:
        parts.append(label(layout.right, y + 17, one.text, anchor="end", weight="600"))
        return parts
    told = one.promised or one.note
    parts.append(label(layout.right + 80, middle + 4, one.text, anchor="end", weight="600"))
    parts.append(label(layout.right + 92, middle + 4, told, kind="muted", limit=26))
    parts.append(label(layout.right + 244, middle + 4, one.word, kind=kind, weight="600", limit=24))
    return parts


TROUBLE = ("fail", "error", "inconclusive")
_DOTS = (*TROUBLE, "pass")


def bandwidth_chart(measurements: Sequence[Measurement], name: str, in_use: str = "") -> Markup:
    """Draw a rate by mode: its ratio to node-node where it has one, else the rate.

    Each other ratio that something was promised of, as to an earlier run, has a chart of its own:
    one axis has one kind of per cent. What was missed or not decided comes first.

    Args:
        measurements: of a tool that measures a rate.
        name: an id, unique in the document.
        in_use: the mode that ordinary pods get, which is marked.

    Returns:
        The charts; empty where nothing has a figure.
    """
    ratios, others, rates, unit = _bandwidth_dots(measurements)
    wholes = {words(gate.record.get("baseline")) for one in others for gate in one.gates}
    of_runs = all("run" in whole for whole in wholes)
    of_what = "of the earlier run" if of_runs else "named in each row"
    shares = [
        (_worst_first(dots), id_, f"% of the bandwidth {whole}")
        for dots, id_, whole in (
            (ratios, name, "between the nodes"),
            (others, f"{name}-other", of_what),
        )
        if dots
    ]
    drawn = Markup("").join(
        dot_chart(
            _marked(_judged(dots), in_use),
            name=id_,
            title=f"Bandwidth in {axis}",
            axis=axis,
            scale=0.01,
        )
        for dots, id_, axis in sorted(shares, key=lambda share: _rank(share[0][0]))
    )
    return drawn + dot_chart(
        _marked(_worst_first(rates), in_use),
        name=f"{name}-rate" if ratios else name,
        title="Goodput by mode",
        axis=f"{unit.name}, where there is no ratio" if ratios else unit.name,
        scale=unit.scale,
    )


def _marked(dots: Sequence[Dot], in_use: str) -> list[Dot]:
    return [
        replace(one, group=f"{in_use} (in use)") if one.group == in_use else one for one in dots
    ]


def _judged(dots: Sequence[Dot]) -> list[Dot]:
    """Return rows that say that nothing was decided on them, where others have a promise."""
    if not any(one.limits for one in dots):
        return [*dots]
    return [one if one.limits else replace(one, note="not judged") for one in dots]


def drawn_promises(measurements: Sequence[Measurement]) -> list[GateResult]:
    """Return the promises that the bandwidth chart draws."""
    ratios, others, rates, _ = _bandwidth_dots(measurements)
    return [gate for one in (*ratios, *others, *rates) for gate in one.gates]


def _bandwidth_dots(
    measurements: Sequence[Measurement],
) -> tuple[list[Dot], list[Dot], list[Dot], Unit]:
    """Return ratios to node-node, other ratios; the rates that have none, and their unit."""
    ordered = sorted(measurements, key=_by_mode)
    ratios = [
        _ratio_dot(one, one.rate, one.rate.ratio)
        for one in ordered
        if one.rate is not None and one.rate.ratio is not None
    ]
    others = [
        _other_ratio_dot(one, gate, gate.estimate)
        for one in ordered
        for gate in one.gates
        if gate.estimate is not None and _is_other_ratio(gate)
    ]
    # Two pods on one node cross no wire: ten times the figure would squeeze all others.
    wired = [one for one in ordered if not one.key.is_local] or ordered
    means = [one.rate.mean for one in wired if one.rate is not None]
    unit = bit_unit(mean.value for mean in means if mean is not None)
    rates = [
        replace(
            _dot(one, "bit/s", one.rate.mean, unit.text(one.rate.mean.value)),
            ceiling=one.rate.ceiling,
        )
        for one in wired
        if one.rate is not None and one.rate.mean is not None and one.rate.ratio is None
        # Beside ratios, only what went wrong: a rate of zero has no ratio.
        if not ratios or one.state in TROUBLE or one.rate.mean.value <= 0
    ]
    return ratios, others, rates, unit


def _by_mode(one: Measurement) -> tuple[object, ...]:
    order = one.key.order
    return (bool(one.key.mode), order[4:], one.key.scene != BASELINE_SCENE, order[:4])


def _worst_first(dots: Iterable[Dot]) -> list[Dot]:
    """Return rows with those in trouble first, and with them the others of their group."""
    rows = list(dots)
    ranks: dict[str, tuple[int, float]] = {}
    for one in rows:
        ranks[one.group] = min(ranks.get(one.group, _rank(one)), _rank(one))
    groups = list(ranks)
    return sorted(rows, key=lambda one: (ranks[one.group], groups.index(one.group), _rank(one)))


def _rank(one: Dot) -> tuple[int, float]:
    """Return the order of promises, so that chart and sentences name them alike."""
    state = TROUBLE.index(one.state) if one.state in TROUBLE else len(TROUBLE)
    margins = [gate.margin for gate in one.gates if gate.margin is not None]
    return state, min(margins, default=math.inf)


def _ratio_dot(one: Measurement, rate: Rate, ratio: Estimate) -> Dot:
    note = bit_unit([rate.mean.value]).text(rate.mean.value) if rate.mean is not None else ""
    drawn = replace(_dot(one, "", ratio, ratio_texts(one)[0]), note=note)
    return replace(drawn, ceiling=rate.ceiling_ratio)


def _dot(one: Measurement, unit: str, figure: Estimate, text: str) -> Dot:
    """Return a figure with the promises on it; a cell of the table may hold worse."""
    gates = _drawn(one, unit=unit)
    state: str = gates[0].state if gates else one.outcome_beside_gates
    return Dot(
        heading=one.key.row_text,
        group=one.key.mode or _NO_MODE,
        figure=figure,
        limits=limits_of(gates),
        text=text,
        word=WORDS[state] if gates else TEST_WORDS[state],
        state=state if gates or state != "pass" else "",
        gates=tuple(gates),
    )


def _is_other_ratio(gate: GateResult) -> bool:
    """Tell whether a promise is on a ratio of bandwidth to something else than the nodes'."""
    of = gate.record.get("baseline")
    return (
        gate.quantity.startswith("bandwidth") and not gate.unit and of not in (BASELINE_SCENE, None)
    )


def _other_ratio_dot(one: Measurement, gate: GateResult, estimate: float) -> Dot:
    of = words(gate.record.get("baseline"))
    return Dot(
        heading=one.key.row_text if "run" in of else f"of {of}: {one.key.row_text}",
        group=one.key.mode or _NO_MODE,
        figure=Estimate(estimate, gate.low, gate.high),
        limits=limits_of([gate]),
        text=promise_text(gate).figure,
        word=WORDS[gate.state],
        state=gate.state,
        gates=(gate,),
    )


def _drawn(one: Measurement, *, unit: str) -> list[GateResult]:
    """Return the promises of what is drawn: of the ratio to node-node, or of the rate itself."""
    return [
        gate
        for gate in one.gates
        if gate.unit == unit
        and gate.quantity.startswith("bandwidth")
        and (unit or gate.record.get("baseline") == BASELINE_SCENE)
    ]


def limits_of(gates: Sequence[GateResult], unit: Unit | None = None) -> tuple[Limit, ...]:
    """Return what was promised of a figure, the worst first; each limit once."""
    found = {
        (gate.relation, gate.limit): Limit(
            value=gate.limit,
            text=limit_text(gate, unit),
            missed=gate.state == "fail",
        )
        for gate in reversed(gates)
        if gate.limit is not None
    }
    return tuple(reversed(found.values()))


def before_chart(comparisons: Sequence[Comparison]) -> Markup:
    """Draw ratios now / before around 1; empty where nothing can be compared."""
    return dot_chart(
        [_before_dot(one, one.ratio) for one in comparisons if one.ratio is not None],
        name="chart-before",
        title="Now relative to the baseline run",
        scale=0.01,
        middle=(1.0, "as before"),
    )


def _before_dot(one: Comparison, ratio: Estimate) -> Dot:
    return Dot(
        heading=one.key.text if one.unit == "bit/s" else f"{one.key.text}, {one.quantity}",
        figure=ratio,
        text=percent(ratio.value),
        note=" → ".join(before_and_now(one)),
    )


# -- Latency by scene: the share of values within a time, with the limits of gates ----------------

_LATENCY_WIDTH, _LATENCY_HEIGHT = 760, 250
_LATENCY_LEFT, _LATENCY_RIGHT, _LATENCY_TOP, _LATENCY_BOTTOM = 46, 500, 22, 208
#: Points per line: one per two pixels of height would be the most that can be seen.
_POINTS = 100
#: The axis ends at this share of the values of the slowest scene; the table has the slowest one.
_SHOWN_SHARE = 0.99


def latency_chart(results: ToolResults, source: str) -> Markup:
    """Draw the share of values that lie within a time, one line per scene and mode.

    Args:
        results: of a tool.
        source: one of its ``curves``: the distribution to draw.

    Returns:
        The chart; empty where no sample holds the distribution.
    """
    curves = [
        _Curve(one.key.text, values)
        for one in results.measurements
        if (values := values_of(one.samples, source))
    ][: len(DASHES)]
    if not curves:
        return Markup("")
    name = results.curves[source]
    limits = _limits(results, source)
    longest = max(quantile(curve.values, _SHOWN_SHARE) for curve in curves)
    reach = max([longest, *(one.value * 1.05 for one in limits if one.value <= 3 * longest)])
    unit = time_unit([reach])
    marks = ticks(0.0, reach / unit.scale)
    x = Scale(0, marks[-1] * unit.scale, _LATENCY_LEFT, _LATENCY_RIGHT)
    y = Scale(0, 1, _LATENCY_BOTTOM, _LATENCY_TOP)
    parts = _latency_grid(marks, x, y, unit)
    for index, curve in enumerate(curves):
        parts.append(polyline(curve.points(x, y), **_line_look(index, 1.6)))
        parts.append(_legend(curve, index, _LATENCY_TOP + 10 + index * 34))
    parts += _limit_marks(limits, x)
    return drawing(
        _LATENCY_WIDTH,
        _LATENCY_HEIGHT,
        parts,
        name=f"chart-{results.name}-{name}",
        title=f"Share of values whose {name} time is at most so long",
        description="; ".join(f"{curve.heading}: {curve.words}" for curve in curves)
        + "".join(f"; limit {one.text}" for one in limits)
        + ". The table holds every figure.",
    )


def has_limit(results: ToolResults, source: str) -> bool:
    """Return whether a gate put a limit on a distribution."""
    return bool(_limits(results, source))


def _limits(results: ToolResults, source: str) -> list[Limit]:
    """Return the limits on a distribution, in seconds, each with its words."""
    gates = [
        gate
        for one in results.measurements
        for gate in one.gates
        if gate.unit == "s" and curve_of(results.curves, gate.quantity) == source
    ]
    found = {
        gate.limit: Limit(
            value=gate.limit,
            text=f"{gate.quantity} {in_unit(gate.limit, 's')}",
            missed=any(one.limit == gate.limit and one.state == "fail" for one in gates),
        )
        for gate in gates
        if gate.limit is not None
    }
    return [found[limit] for limit in sorted(found)]


@dataclass(frozen=True, slots=True)
class _Curve:
    """The values of one scene and mode, ascending, in seconds."""

    heading: str
    values: Sequence[float]

    @property
    def words(self) -> str:
        median, p95 = quantile(self.values, 0.5), quantile(self.values, 0.95)
        return f"median {in_unit(median, 's')}, p95 {in_unit(p95, 's')}"

    def points(self, x: Scale, y: Scale) -> list[tuple[float, float]]:
        """Return the steps of the empirical distribution, at most ``_POINTS`` of them."""
        count = min(len(self.values), _POINTS)
        points = [(x(self.values[0]), y(0))]
        for index in range(1, count + 1):
            share = index / count
            at = x(quantile(self.values, share))
            points += [(at, points[-1][1]), (at, y(share))]
        return points


def _latency_grid(marks: Sequence[float], x: Scale, y: Scale, unit: Unit) -> list[Markup]:
    parts: list[Markup] = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        text = f"{share * 100:.0f} %"
        parts.append(line(_LATENCY_LEFT, y(share), _LATENCY_RIGHT, y(share), "grid"))
        parts.append(label(_LATENCY_LEFT - 6, y(share) + 4, text, anchor="end", kind="muted"))
    for mark in marks:
        at, text = x(mark * unit.scale), tick_text(mark)
        parts.append(line(at, _LATENCY_BOTTOM, at, _LATENCY_BOTTOM + 4, "axis"))
        parts.append(label(at, _LATENCY_BOTTOM + 18, text, anchor="middle", kind="muted"))
    foot = _LATENCY_BOTTOM + 36
    parts.append(label(_LATENCY_RIGHT, foot, unit.name, anchor="end", kind="muted"))
    return parts


def _limit_marks(limits: Sequence[Limit], x: Scale) -> list[Markup]:
    """Mark each limit on the axis; those beyond its end are named below it."""
    parts: list[Markup] = []
    far = [one.text for one in limits if one.value > x.high]
    if far:
        beyond, foot = f"{', '.join(far)}: beyond the axis →", _LATENCY_BOTTOM + 18
        parts.append(label(_LATENCY_WIDTH - 4, foot, beyond, anchor="end", kind="kept"))
    for one in limits:
        if one.value <= x.high:
            at, top, kind = x(one.value), _LATENCY_TOP - 4, "limit" if one.missed else "kept"
            parts.append(line(at, top, at, _LATENCY_BOTTOM, kind, width=1.5, dash="5 3"))
            parts.append(label(at, top - 4, one.text, anchor="middle", kind=kind, limit=40))
    return parts


def _legend(curve: _Curve, index: int, y: float) -> Markup:
    at, text_at = _LATENCY_RIGHT + 22, _LATENCY_RIGHT + 58
    return element(
        "g",
        element("line", x1=at, y1=y - 4, x2=at + 28, y2=y - 4, **_line_look(index, 2)),
        label(text_at, y, curve.heading, limit=30),
        label(text_at, y + 14, curve.words, kind="muted"),
    )


# -- One sample second by second: shows a stall, a ramp or a step that its mean hides -------------

_SERIES_WIDTH, _SERIES_HEIGHT = 180, 30
#: More points than this cannot be told apart at this width.
_SERIES_POINTS = 120


def series_chart(values: Sequence[float]) -> Markup:
    """Draw a small line from zero; empty for fewer than two seconds."""
    if len(values) < 2:
        return Markup("")
    shown = _thinned(values)
    x = Scale(0, len(shown) - 1, 2, _SERIES_WIDTH - 2)
    y = Scale(0, max(shown) or 1.0, _SERIES_HEIGHT - 3, 3)
    unit = bit_unit([max(values)])
    floor = _SERIES_HEIGHT - 3
    base = [(2, floor), (_SERIES_WIDTH - 2, floor)]
    points = [(x(index), y(value)) for index, value in enumerate(shown)]
    return element(
        "svg",
        polyline(base, **_stroke("grid")),
        polyline(points, **_stroke("bar", 1.5)),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_SERIES_WIDTH} {_SERIES_HEIGHT}",
        width=_SERIES_WIDTH,
        height=_SERIES_HEIGHT,
        role="img",
        aria_label=f"{len(values)} seconds, lowest {unit.text(min(values))}, "
        f"highest {unit.text(max(values))}",
    )


def _thinned(values: Sequence[float]) -> Sequence[float]:
    """Return few points; of several that fall together the lowest, so that no stall hides."""
    if len(values) <= _SERIES_POINTS:
        return values
    size = -(-len(values) // _SERIES_POINTS)
    return [min(values[start : start + size]) for start in range(0, len(values), size)]


# -- Axes and shapes ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear scale from figures to coordinates."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the coordinate of a figure, clamped to the axis."""
        if self.high == self.low:
            return self.start
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float) -> list[float]:
    """Return round figures around an interval, in steps of 1, 2, 2.5 or 5 times 10^n."""
    if not high > low or not math.isfinite(high - low):
        return [low, low + 1.0]
    raw = (high - low) / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(
        (factor * power for factor in (1, 2, 2.5, 5) if factor * power >= raw * 0.999), 10 * power
    )
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * index for index in range(first, last + 1)]


def tick_text(value: float) -> str:
    """Return a tick's figure without needless zeros."""
    return f"{value:.10g}"


def label(
    x: float,
    y: float,
    content: str,
    *,
    anchor: str | None = None,
    kind: str = "ink",
    weight: str | None = None,
    limit: int = 60,
) -> Markup:
    """Write one line of text; foreign text is made safe and cut."""
    shown = clipped(visible_line(content), limit)
    look = {"text_anchor": anchor, "class_": f"f-{kind}", "font_weight": weight}
    return element("text", shown, x=x, y=y, **look)


def line(
    x1: float, y1: float, x2: float, y2: float, kind: str, width: float = 1.0, dash: str = ""
) -> Markup:
    """Draw a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **_stroke(kind, width, dash))


def dot(x: float, y: float, kind: str) -> Markup:
    """Fill a dot."""
    return element("circle", cx=x, cy=y, r=4.5, class_=f"f-{kind}")


def interval(x1: float, x2: float, y: float) -> Markup:
    """Draw an interval with a cap at either end."""
    left, right, top = number(x1), number(x2), number(y - 4)
    path = f"M{left} {top}v8M{left} {number(y)}H{right}M{right} {top}v8"
    return element("path", d=path, fill="none", **_stroke("ink", 1.5))


def polyline(points: Iterable[tuple[float, float]], **look: object) -> Markup:
    """Draw a line through points."""
    shown = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    return element("polyline", points=shown, fill="none", **look)


def _line_look(index: int, width: float) -> dict[str, object]:
    return _stroke(f"line{index + 1}", width, DASHES[index])


def _stroke(kind: str, width: float = 1.0, dash: str = "") -> dict[str, object]:
    return {"stroke_width": width, "stroke_dasharray": dash or None, "class_": f"s-{kind}"}


def drawing(
    width: float,
    height: float,
    contents: Iterable[Markup],
    *,
    name: str,
    title: str,
    description: str,
    kind: str | None = None,
) -> Markup:
    """Return a whole SVG image with its text alternative.

    Args:
        width: in CSS pixels.
        height: in CSS pixels.
        contents: what is drawn.
        name: an id, unique in the document.
        title: what it shows.
        description: what is to be seen, in words.
        kind: its class.
    """
    return element(
        "svg",
        element("title", title, id=f"{name}-t"),
        element("desc", description, id=f"{name}-d"),
        *contents,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=width,
        height=height,
        class_=kind,
        role="img",
        aria_labelledby=f"{name}-t {name}-d",
        font_family="system-ui, sans-serif",
        font_size=12,
    )


def element(name: str, /, *contents: str, **attributes: object) -> Markup:
    """Return one SVG element.

    Args:
        name: its tag, e.g. ``line``.
        contents: markup as it is; any other text is foreign, made visible and escaped.
        attributes: a trailing underscore is dropped (``class_``) and others become hyphens
            (``stroke_width``); None leaves the attribute out.
    """
    shown = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _attribute(value))
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(
        one if isinstance(one, Markup) else escape(visible(one)) for one in contents
    )
    return Markup("<{}{}>{}</{}>").format(name, shown, inner, name)


def _attribute(value: object) -> str:
    return number(value) if isinstance(value, float) else visible(value, None)


def number(value: float) -> str:
    """Return a coordinate with one decimal at most: SVG needs no more, and files stay small."""
    rounded = f"{value:.1f}"
    return rounded.removesuffix(".0") if rounded != "-0.0" else "0"

"""The charts of the HTML report as SVG: bandwidth, latency, before and now, one sample's seconds.

Pure. No HTML is made here; the templates place the drawings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from pytest_k8snet.report.format import (
    Unit,
    bit_unit,
    in_unit,
    ratio_text,
    time_unit,
    visible,
    visible_line,
)
from pytest_k8snet.report.model import (
    BASELINE_SCENE,
    Comparison,
    Estimate,
    Key,
    Measurement,
    Rate,
    ToolResults,
    quantile,
    values_of,
)
from pytest_k8snet.report.summary import curve_of

#: Colours where no style sheet is applied; the style sheet knows the same classes.
COLOURS = {
    "ink": "#1b1f24",
    "muted": "#59626e",
    "grid": "#e3e7ec",
    "axis": "#9aa3ae",
    "bar": "#4a7ba8",
    "band": "#d5dae1",
    "base": "#59626e",
    "limit": "#a3281f",
    "pass": "#17693f",
    "fail": "#a3281f",
    "error": "#a3281f",
    "inconclusive": "#7d5200",
}
#: One look per line of a chart: colour and dash, so that neither alone has to tell them apart.
LINES = (
    ("line1", "#2d5f8f", ""),
    ("line2", "#8a4b08", "6 3"),
    ("line3", "#17693f", "2 3"),
    ("line4", "#6b3fa0", "8 3 2 3"),
    ("line5", "#59626e", "12 4"),
    ("line6", "#a3281f", "4 2"),
)
FONT_SIZE = 12
#: Most rows whose figures a drawing's text alternative names; the table beside it has them all.
_MOST_WORDS = 24


# -- Bandwidth by mode ----------------------------------------------------------------------------

_WIDTH = 800
_LEFT, _RIGHT = 190, 520
_ROW, _HEAD, _TOP = 24, 26, 14


def bandwidth_chart(measurements: Sequence[Measurement], name: str) -> Markup:
    """Draw a rate by mode: mean and interval of each scene, node-node, and the physical ceiling.

    Args:
        measurements: of a tool that measures a rate.
        name: an id, unique in the document.

    Returns:
        The chart; empty where nothing has a figure.
    """
    bars = [
        _Bar(one, one.rate, one.rate.mean)
        for one in sorted(measurements, key=_by_mode)
        if one.rate is not None and one.rate.mean is not None
    ]
    if not bars:
        return Markup("")
    # Two pods on one node cross no wire: ten times the figure would squeeze all others.
    wired = [bar for bar in bars if not bar.one.key.is_local] or bars
    reach = max(bar.extent for bar in wired)
    unit = bit_unit([reach])
    marks = ticks(reach / unit.scale)
    scale = Scale(0, marks[-1] * unit.scale, _LEFT, _RIGHT)
    parts: list[Markup] = []
    y = float(_TOP)
    mode: str | None = None
    for bar in bars:
        if bar.one.key.mode != mode:
            mode = bar.one.key.mode
            y += _HEAD
            parts.append(label(0, y - 8, mode or "host network, no mode", weight="600"))
        parts.extend(_bar_row(bar, y, scale, unit, _base_of(bar, bars)))
        y += _ROW
    grid = [
        part
        for mark in marks
        for part in (
            line(scale(mark * unit.scale), _TOP, scale(mark * unit.scale), y + 4, "grid"),
            label(scale(mark * unit.scale), y + 18, tick_text(mark), anchor="middle", kind="muted"),
        )
    ]
    parts.append(label(_RIGHT + 14, y + 18, unit.name, kind="muted"))
    return drawing(
        _WIDTH,
        y + 28,
        [*grid, *parts],
        name=name,
        title="Goodput by mode",
        description="; ".join(_bar_words(bar, unit) for bar in bars[:_MOST_WORDS])
        + ". The table of the study holds every figure.",
    )


@dataclass(frozen=True, slots=True)
class _Bar:
    """A measurement that has a mean."""

    one: Measurement
    rate: Rate
    mean: Estimate

    @property
    def extent(self) -> float:
        """How far its marks reach."""
        return max(x for x in (self.mean.value, self.mean.high, self.rate.ceiling) if x is not None)

    @property
    def is_base(self) -> bool:
        return self.one.key.scene == BASELINE_SCENE


def _by_mode(one: Measurement) -> tuple[object, ...]:
    order = one.key.order
    return (bool(one.key.mode), order[4:], one.key.scene != BASELINE_SCENE, order[:4])


def _base_of(bar: _Bar, bars: Sequence[_Bar]) -> _Bar | None:
    """Return node-node of the same placement and mode, where the bar is compared with it."""
    if bar.is_base or bar.rate.ratio is None:
        return None

    def fits(key: Key, base: Key) -> bool:
        return base.placement in (key.placement, "") and base.mode in (key.mode, "")

    fitting = [base for base in bars if base.is_base and fits(bar.one.key, base.one.key)]
    return fitting[-1] if fitting else None


def _bar_row(bar: _Bar, y: float, scale: Scale, unit: Unit, base: _Bar | None) -> list[Markup]:
    mean, rate, middle = bar.mean, bar.rate, y + _ROW / 2
    parts = [label(12, middle + 4, bar.one.key.row_text, limit=30)]
    if base is not None:
        low, high = base.mean.low, base.mean.high
        if low is not None and high is not None:
            parts.append(box(scale(low), y, scale(high) - scale(low), _ROW, "band"))
        at = scale(base.mean.value)
        parts.append(line(at, y, at, y + _ROW, "base"))
    length = scale(mean.value) - scale(0)
    parts.append(box(scale(0), middle - 5, length, 10, "axis" if bar.is_base else "bar"))
    if mean.value > scale.high:
        parts.append(label(_RIGHT - 4, middle + 4, "»", anchor="end", weight="600"))
    if rate.ceiling is not None:
        at = scale(rate.ceiling)
        parts.append(line(at, y + 2, at, y + _ROW - 2, "ink", width=1.5, dash="2 2"))
    if mean.low is not None and mean.high is not None:
        parts.append(interval(scale(mean.low), scale(mean.high), middle))
    number_text = unit.number(mean.value)
    parts.append(label(_RIGHT + 68, middle + 4, number_text, anchor="end", weight="600"))
    if rate.ratio is not None:
        text = ratio_text(rate.ratio.value)
        parts.append(label(_RIGHT + 120, middle + 4, text, anchor="end", kind="muted"))
    if bar.one.word:
        kind = bar.one.state if bar.one.gates or bar.one.state != "pass" else "muted"
        parts.append(label(_RIGHT + 132, middle + 4, bar.one.word, kind=kind))
    return parts


def _bar_words(bar: _Bar, unit: Unit) -> str:
    ratio = bar.rate.ratio
    share = f", {ratio_text(ratio.value)} of node-node" if ratio is not None else ""
    state = f", {bar.one.word}" if bar.one.word else ""
    return f"{bar.one.key.text} {unit.text(bar.mean.value)}{share}{state}"


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
    ][: len(LINES)]
    if not curves:
        return Markup("")
    name = results.curves[source]
    limits = _limits(results, source)
    longest = max(quantile(curve.values, _SHOWN_SHARE) for curve in curves)
    reach = max([longest, *(limit * 1.05 for limit in limits if limit <= 3 * longest)])
    unit = time_unit([reach])
    marks = ticks(reach / unit.scale)
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
        + "".join(f"; limit {text}" for text in limits.values())
        + ". The table holds every figure.",
    )


def has_limit(results: ToolResults, source: str) -> bool:
    """Return whether a gate put a limit on a distribution."""
    return bool(_limits(results, source))


def _limits(results: ToolResults, source: str) -> dict[float, str]:
    """Return the limits of gates on a distribution, in seconds, each with its words."""
    found = {
        gate.limit: f"{gate.quantity} {in_unit(gate.limit, 's')}"
        for one in results.measurements
        for gate in one.gates
        if gate.limit is not None
        and gate.unit == "s"
        and curve_of(results.curves, gate.quantity) == source
    }
    return dict(sorted(found.items()))


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


def _limit_marks(limits: dict[float, str], x: Scale) -> list[Markup]:
    """Mark each limit on the axis; those beyond its end are named below it."""
    parts: list[Markup] = []
    far = [text for limit, text in limits.items() if limit > x.high]
    if far:
        beyond, foot = f"{', '.join(far)}: beyond the axis →", _LATENCY_BOTTOM + 18
        parts.append(label(_LATENCY_WIDTH - 4, foot, beyond, anchor="end", kind="limit"))
    for limit, text in limits.items():
        if limit <= x.high:
            at, top = x(limit), _LATENCY_TOP - 4
            parts.append(line(at, top, at, _LATENCY_BOTTOM, "limit", width=1.5, dash="5 3"))
            parts.append(label(at, top - 4, text, anchor="middle", kind="limit", limit=40))
    return parts


def _legend(curve: _Curve, index: int, y: float) -> Markup:
    at, text_at = _LATENCY_RIGHT + 22, _LATENCY_RIGHT + 58
    return element(
        "g",
        element("line", x1=at, y1=y - 4, x2=at + 28, y2=y - 4, **_line_look(index, 2)),
        label(text_at, y, curve.heading, limit=30),
        label(text_at, y + 14, curve.words, kind="muted"),
    )


# -- Before and now: the ratio of each figure to the baseline run's -------------------------------

_BEFORE_WIDTH = 860
_BEFORE_LEFT, _BEFORE_RIGHT = 300, 600
_BEFORE_ROW, _BEFORE_TOP = 26, 30


def before_chart(comparisons: Sequence[Comparison]) -> Markup:
    """Draw ratios now / before around 1; empty where nothing can be compared."""
    drawn = [(one, one.ratio) for one in comparisons if one.ratio is not None]
    if not drawn:
        return Markup("")
    ends = [end for _, r in drawn for end in (r.value, r.low, r.high) if end is not None]
    reach = min(max(max(abs(end - 1) for end in ends) * 1.1, 0.05), 1.0)
    x = Scale(1 - reach, 1 + reach, _BEFORE_LEFT, _BEFORE_RIGHT)
    head, bottom = _BEFORE_TOP - 14, _BEFORE_TOP + len(drawn) * _BEFORE_ROW
    parts = [
        label(x(1), head, "as before", anchor="middle", kind="muted"),
        label(_BEFORE_LEFT, head, f"{1 - reach:.2f}", anchor="middle", kind="muted"),
        label(_BEFORE_RIGHT, head, f"{1 + reach:.2f}", anchor="middle", kind="muted"),
        line(_BEFORE_LEFT, _BEFORE_TOP - 6, _BEFORE_LEFT, bottom, "grid"),
        line(_BEFORE_RIGHT, _BEFORE_TOP - 6, _BEFORE_RIGHT, bottom, "grid"),
        line(x(1), _BEFORE_TOP - 8, x(1), bottom, "base"),
    ]
    for index, (one, ratio) in enumerate(drawn):
        middle = _BEFORE_TOP + index * _BEFORE_ROW + _BEFORE_ROW / 2
        parts.extend(_before_row(one, ratio, middle, x))
    return drawing(
        _BEFORE_WIDTH,
        bottom + 8,
        parts,
        name="chart-before",
        title="Now relative to the baseline run",
        description="; ".join(
            f"{one.key.text}, {one.quantity}: {in_unit(one.before.value, one.unit)} before, "
            f"{in_unit(one.now.value, one.unit)} now, ratio {ratio_text(ratio.value)}"
            for one, ratio in drawn[:_MOST_WORDS]
        )
        + ". The table of before and now holds every figure.",
    )


def _before_row(one: Comparison, ratio: Estimate, y: float, x: Scale) -> list[Markup]:
    name = one.key.text if one.unit == "bit/s" else f"{one.key.text}, {one.quantity}"
    figures = f"{in_unit(one.before.value, one.unit)} → {in_unit(one.now.value, one.unit)}"
    text = ratio_text(ratio.value)
    parts = [label(0, y + 4, name, limit=40)]
    if ratio.low is not None and ratio.high is not None:
        parts.append(interval(x(ratio.low), x(ratio.high), y))
    parts.append(dot(x(ratio.value), y))
    parts.append(label(_BEFORE_RIGHT + 62, y + 4, text, anchor="end", weight="600"))
    parts.append(label(_BEFORE_RIGHT + 72, y + 4, figures, kind="muted"))
    return parts


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
        polyline(base, stroke=COLOURS["grid"], class_="s-grid"),
        polyline(points, **_stroke("bar", COLOURS["bar"], 1.5)),
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


def ticks(high: float) -> list[float]:
    """Return round figures from 0 to at least ``high``, in steps of 1, 2, 2.5 or 5 times 10^n."""
    if not high > 0 or not math.isfinite(high):
        return [0.0, 1.0]
    raw = high / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(
        (factor * power for factor in (1, 2, 2.5, 5) if factor * power >= raw * 0.999), 10 * power
    )
    return [step * index for index in range(math.ceil(high / step - 1e-9) + 1)]


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
    shown = visible_line(content, limit)
    fill = COLOURS.get(kind, COLOURS["ink"])
    look = {"text_anchor": anchor, "fill": fill, "class_": f"f-{kind}", "font_weight": weight}
    return element("text", shown, x=x, y=y, **look)


def line(
    x1: float, y1: float, x2: float, y2: float, kind: str, width: float = 1.0, dash: str = ""
) -> Markup:
    """Draw a straight line."""
    look = _stroke(kind, COLOURS[kind], width, dash)
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **look)


def box(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    """Fill a rectangle."""
    look = {"fill": COLOURS[kind], "class_": f"f-{kind}"}
    return element("rect", x=x, y=y, width=max(width, 0.5), height=height, **look)


def dot(x: float, y: float) -> Markup:
    """Fill a dot."""
    return element("circle", cx=x, cy=y, r=4, fill=COLOURS["bar"], class_="f-bar")


def interval(x1: float, x2: float, y: float) -> Markup:
    """Draw an interval with a cap at either end."""
    left, right, top = number(x1), number(x2), number(y - 4)
    path = f"M{left} {top}v8M{left} {number(y)}H{right}M{right} {top}v8"
    return element("path", d=path, fill="none", **_stroke("ink", COLOURS["ink"], 1.5))


def polyline(points: Iterable[tuple[float, float]], **look: object) -> Markup:
    """Draw a line through points."""
    shown = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    return element("polyline", points=shown, fill="none", **look)


def _line_look(index: int, width: float) -> dict[str, object]:
    name, colour, dash = LINES[index]
    return _stroke(name, colour, width, dash)


def _stroke(kind: str, colour: str, width: float, dash: str = "") -> dict[str, object]:
    return {
        "stroke": colour,
        "stroke_width": width,
        "stroke_dasharray": dash or None,
        "class_": f"s-{kind}",
    }


def drawing(
    width: float,
    height: float,
    contents: Iterable[Markup],
    *,
    name: str,
    title: str,
    description: str,
) -> Markup:
    """Return a whole SVG image with its text alternative.

    Args:
        width: in CSS pixels.
        height: in CSS pixels.
        contents: what is drawn.
        name: an id, unique in the document.
        title: what it shows.
        description: what is to be seen, in words.
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
        role="img",
        aria_labelledby=f"{name}-t {name}-d",
        font_family="system-ui, sans-serif",
        font_size=FONT_SIZE,
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

"""SVG primitives and axes: what every chart is made of. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_k8snet.report.format import Unit, bit_unit, in_unit, ratio, time_unit, visible_line
from pytest_k8snet.report.markup import Markup, element, number
from pytest_k8snet.report.model import (
    BASELINE_SCENE,
    BandwidthCell,
    Compared,
    Key,
    LatencyRow,
    quantile,
)

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


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear scale from figures to coordinates."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The coordinate of a figure, clamped to the axis."""
        if self.high == self.low:
            return self.start
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def ticks(high: float, count: int = 5) -> list[float]:
    """Round figures from 0 to at least ``high``: steps of 1, 2, 2.5 or 5 times a power of ten."""
    if not high > 0 or not math.isfinite(high):
        return [0.0, 1.0]
    raw = high / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(
        (factor * power for factor in (1, 2, 2.5, 5) if factor * power >= raw * 0.999), 10 * power
    )
    return [step * index for index in range(math.ceil(high / step - 1e-9) + 1)]


def tick_text(value: float) -> str:
    """A tick's figure without needless zeros."""
    return f"{value:.10g}"


def label(
    x: float,
    y: float,
    content: str,
    *,
    anchor: str = "start",
    kind: str = "ink",
    weight: str | None = None,
    limit: int = 60,
) -> Markup:
    """One line of text; foreign text is made safe and cut."""
    return element(
        "text",
        visible_line(content, limit),
        x=x,
        y=y,
        text_anchor=None if anchor == "start" else anchor,
        fill=COLOURS.get(kind, COLOURS["ink"]),
        class_=f"f-{kind}",
        font_weight=weight,
    )


def line(
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    kind: str,
    *,
    width: float = 1.0,
    dash: str | None = None,
) -> Markup:
    """A straight line."""
    return element(
        "line",
        x1=x1,
        y1=y1,
        x2=x2,
        y2=y2,
        stroke=COLOURS[kind],
        stroke_width=width,
        stroke_dasharray=dash,
        class_=f"s-{kind}",
    )


def box(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    """A filled rectangle."""
    return element(
        "rect",
        x=x,
        y=y,
        width=max(width, 0.5),
        height=height,
        fill=COLOURS[kind],
        class_=f"f-{kind}",
    )


def dot(x: float, y: float, radius: float, kind: str, *, hollow: bool = False) -> Markup:
    """A filled or hollow dot."""
    if hollow:
        return element(
            "circle",
            cx=x,
            cy=y,
            r=radius,
            fill="none",
            stroke=COLOURS[kind],
            stroke_width=1.5,
            class_=f"s-{kind}",
        )
    return element("circle", cx=x, cy=y, r=radius, fill=COLOURS[kind], class_=f"f-{kind}")


def interval(x1: float, x2: float, y: float, kind: str, *, half: float = 4.0) -> Markup:
    """An interval with a cap at either end."""
    return element(
        "path",
        d=(
            f"M{number(x1)} {number(y - half)}v{number(2 * half)}M{number(x1)} {number(y)}"
            f"H{number(x2)}M{number(x2)} {number(y - half)}v{number(2 * half)}"
        ),
        fill="none",
        stroke=COLOURS[kind],
        stroke_width=1.5,
        class_=f"s-{kind}",
    )


def steps(points: Sequence[tuple[float, float]], look: int) -> Markup:
    """A line through points in one of the line looks."""
    name, colour, dash = LINES[look % len(LINES)]
    return element(
        "polyline",
        points=" ".join(f"{number(x)},{number(y)}" for x, y in points),
        fill="none",
        stroke=colour,
        stroke_width=1.6,
        stroke_dasharray=dash or None,
        class_=f"s-{name}",
    )


def drawing(
    width: float,
    height: float,
    contents: Iterable[object],
    *,
    name: str,
    title: str,
    description: str,
) -> Markup:
    """A whole SVG image with its text alternative.

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
        contents,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=width,
        height=height,
        role="img",
        aria_labelledby=f"{name}-t {name}-d",
        font_family="system-ui, sans-serif",
        font_size=FONT_SIZE,
    )


# -- Goodput by mode: mean and interval of each scene, against node-node and the physical ceiling


_WIDTH = 800
_LEFT, _RIGHT = 190, 520
_ROW, _HEAD, _TOP = 24, 26, 14


def bandwidth_chart(cells: Sequence[BandwidthCell], name: str = "chart-bandwidth") -> Markup:
    """The chart; empty where no cell has a figure."""
    drawn = [cell for cell in cells if cell.figure is not None]
    if not drawn:
        return Markup("")
    # Two pods on one node cross no wire: ten times the figure would squeeze all others.
    wired = [cell for cell in drawn if not is_local(cell.key)] or drawn
    unit = bit_unit(max(_extent(cell)) for cell in wired)
    marks = ticks(max(max(_extent(cell)) for cell in wired) / unit.scale)
    scale = Scale(0, marks[-1] * unit.scale, _LEFT, _RIGHT)
    parts: list[Markup] = []
    y = float(_TOP)
    mode: str | None = None
    for cell in sorted(drawn, key=_by_mode):
        if cell.key.mode != mode:
            mode = cell.key.mode
            y += _HEAD
            parts.append(label(0, y - 8, mode or "host network, no mode", weight="600"))
        parts.extend(_row(cell, y, scale, unit, _baseline(cell, drawn)))
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
        description="; ".join(_words(cell, unit) for cell in sorted(drawn, key=_by_mode)[:24])
        + ". The table of the study holds every figure.",
    )


def is_local(key: Key) -> bool:
    """Whether both ends are on one node."""
    return "same-node" in (key.scene, key.placement)


def _by_mode(cell: BandwidthCell) -> tuple[object, ...]:
    order = cell.key.order
    base_first = cell.key.scene != BASELINE_SCENE
    return (bool(cell.key.mode), order[4:], base_first, order[:4])


def _extent(cell: BandwidthCell) -> tuple[float, ...]:
    if cell.figure is None:
        return (0.0,)
    return tuple(x for x in (cell.figure.value, cell.figure.high, cell.ceiling) if x is not None)


def _baseline(cell: BandwidthCell, cells: Sequence[BandwidthCell]) -> BandwidthCell | None:
    if cell.key.scene == BASELINE_SCENE or cell.ratio is None:
        return None
    fitting = [
        one
        for one in cells
        if one.key.scene == BASELINE_SCENE
        and one.key.placement in (cell.key.placement, "")
        and one.key.mode in (cell.key.mode, "")
    ]
    return fitting[-1] if fitting else None


def _row(
    cell: BandwidthCell, y: float, scale: Scale, unit: Unit, base: BandwidthCell | None
) -> list[Markup]:
    assert cell.figure is not None
    middle = y + _ROW / 2
    is_base = cell.key.scene == BASELINE_SCENE
    parts = [label(12, middle + 4, cell.key.row_text, limit=30)]
    if base is not None and base.figure is not None:
        low, high = base.figure.low, base.figure.high
        if low is not None and high is not None:
            parts.append(box(scale(low), y, scale(high) - scale(low), _ROW, "band"))
        at = scale(base.figure.value)
        parts.append(line(at, y, at, y + _ROW, "base"))
    parts.append(
        box(
            scale(0),
            middle - 5,
            scale(cell.figure.value) - scale(0),
            10,
            "axis" if is_base else "bar",
        )
    )
    if cell.figure.value > scale.high:
        parts.append(label(_RIGHT - 4, middle + 4, "»", anchor="end", weight="600"))
    if cell.ceiling is not None:
        at = scale(cell.ceiling)
        parts.append(line(at, y + 2, at, y + _ROW - 2, "ink", width=1.5, dash="2 2"))
    if cell.figure.low is not None and cell.figure.high is not None:
        parts.append(interval(scale(cell.figure.low), scale(cell.figure.high), middle, "ink"))
    parts.append(
        label(_RIGHT + 68, middle + 4, unit.number(cell.figure.value), anchor="end", weight="600")
    )
    if cell.ratio is not None:
        parts.append(
            label(_RIGHT + 120, middle + 4, ratio(cell.ratio.value), anchor="end", kind="muted")
        )
    if cell.word:
        kind = cell.state if cell.judged or cell.state != "pass" else "muted"
        parts.append(label(_RIGHT + 132, middle + 4, cell.word, kind=kind))
    return parts


def _words(cell: BandwidthCell, unit: Unit) -> str:
    assert cell.figure is not None
    share = f", {ratio(cell.ratio.value)} of node-node" if cell.ratio is not None else ""
    state = f", {cell.word}" if cell.word else ""
    return f"{cell.key.text} {unit.text(cell.figure.value)}{share}{state}"


# -- Before and now: each figure of the baseline run and of this one, joined by a line ------------


_BEFORE_WIDTH = 860
_BEFORE_LEFT, _BEFORE_RIGHT = 300, 600
_BEFORE_ROW, _BEFORE_TOP = 26, 30


def before_chart(compared: Sequence[Compared]) -> Markup:
    """Ratios now / before around 1; empty where nothing can be compared."""
    drawn = [one for one in compared if one.ratio is not None]
    if not drawn:
        return Markup("")
    reach = max(_reach(one) for one in drawn)
    reach = min(max(reach * 1.1, 0.05), 1.0)
    x = Scale(1 - reach, 1 + reach, _BEFORE_LEFT, _BEFORE_RIGHT)
    bottom = _BEFORE_TOP + len(drawn) * _BEFORE_ROW
    parts = [
        label(x(1), _BEFORE_TOP - 14, "as before", anchor="middle", kind="muted"),
        label(_BEFORE_LEFT, _BEFORE_TOP - 14, f"{1 - reach:.2f}", anchor="middle", kind="muted"),
        label(_BEFORE_RIGHT, _BEFORE_TOP - 14, f"{1 + reach:.2f}", anchor="middle", kind="muted"),
        line(_BEFORE_LEFT, _BEFORE_TOP - 6, _BEFORE_LEFT, bottom, "grid"),
        line(_BEFORE_RIGHT, _BEFORE_TOP - 6, _BEFORE_RIGHT, bottom, "grid"),
        line(x(1), _BEFORE_TOP - 8, x(1), bottom, "base"),
    ]
    for index, one in enumerate(drawn):
        parts.extend(_before_row(one, _BEFORE_TOP + index * _BEFORE_ROW + _BEFORE_ROW / 2, x))
    return drawing(
        _BEFORE_WIDTH,
        bottom + 8,
        parts,
        name="chart-before",
        title="Now relative to the baseline run",
        description="; ".join(_before_words(one) for one in drawn[:24])
        + ". The table of before and now holds every figure.",
    )


def _reach(one: Compared) -> float:
    assert one.ratio is not None
    figures = (one.ratio.value, one.ratio.low, one.ratio.high)
    return max(abs(figure - 1) for figure in figures if figure is not None)


def _before_row(one: Compared, y: float, x: Scale) -> list[Markup]:
    assert one.ratio is not None
    name = one.key.text if one.unit == "bit/s" else f"{one.key.text}, {one.quantity}"
    parts = [label(0, y + 4, name, limit=40)]
    if one.ratio.low is not None and one.ratio.high is not None:
        parts.append(interval(x(one.ratio.low), x(one.ratio.high), y, "ink"))
    parts.append(dot(x(one.ratio.value), y, 4, "bar"))
    parts.append(
        label(_BEFORE_RIGHT + 62, y + 4, ratio(one.ratio.value), anchor="end", weight="600")
    )
    parts.append(
        label(
            _BEFORE_RIGHT + 72,
            y + 4,
            f"{in_unit(one.before.value, one.unit)} → {in_unit(one.now.value, one.unit)}",
            kind="muted",
        )
    )
    return parts


def _before_words(one: Compared) -> str:
    assert one.ratio is not None
    return (
        f"{one.key.text}, {one.quantity}: {in_unit(one.before.value, one.unit)} before, "
        f"{in_unit(one.now.value, one.unit)} now, ratio {ratio(one.ratio.value)}"
    )


# -- Latency by scene: the share of requests that were answered within a time, with the limits


_LATENCY_WIDTH, _HEIGHT = 760, 250
_LATENCY_LEFT, _LATENCY_RIGHT, _LATENCY_TOP, _BOTTOM = 46, 500, 22, 208
#: Points per line: one per two pixels of height would be the most that can be seen.
_POINTS = 100
#: What gates call curl's times.
_GATED = {"connect": "connect", "starttransfer": "first_byte", "total": "total"}
#: The axis ends at this share of the requests of the slowest scene; the table has the slowest one.
_SHOWN_SHARE = 0.99


def latency_chart(rows: Sequence[LatencyRow], phase: str) -> Markup:
    """The chart of one of curl's times; empty where no row has single requests."""
    drawn = [row for row in rows if row.phases[phase].ordered][: len(LINES)]
    if not drawn:
        return Markup("")
    limits = _limits(drawn, phase)
    ends = [quantile(row.phases[phase].ordered, _SHOWN_SHARE) for row in drawn]
    reach = max([*ends, *(limit * 1.05 for limit, _ in limits if limit <= 3 * max(ends))])
    unit = time_unit([reach])
    marks = ticks(reach / unit.scale)
    x = Scale(0, marks[-1] * unit.scale, _LATENCY_LEFT, _LATENCY_RIGHT)
    y = Scale(0, 1, _BOTTOM, _LATENCY_TOP)
    parts = [*_grid(marks, x, y, unit)]
    for index, row in enumerate(drawn):
        parts.append(steps(_points(row.phases[phase].ordered, x, y), index))
        parts.append(_legend(row, phase, index, _LATENCY_TOP + 10 + index * 34))
    far = [text for limit, text in limits if limit > marks[-1] * unit.scale]
    if far:
        beyond = f"{', '.join(far)}: beyond the axis →"
        parts.append(
            label(_LATENCY_WIDTH - 4, _BOTTOM + 18, beyond, anchor="end", kind="limit", limit=60)
        )
    for limit, text in limits:
        if text in far:
            continue
        parts.append(
            line(x(limit), _LATENCY_TOP - 4, x(limit), _BOTTOM, "limit", width=1.5, dash="5 3")
        )
        parts.append(
            label(x(limit), _LATENCY_TOP - 8, text, anchor="middle", kind="limit", limit=40)
        )
    return drawing(
        _LATENCY_WIDTH,
        _HEIGHT,
        parts,
        name=f"chart-latency-{phase}",
        title=f"Share of requests whose time_{phase} is at most so long",
        description="; ".join(_latency_words(row, phase) for row in drawn)
        + "".join(f"; limit {text}" for _, text in limits)
        + ". The latency table holds every figure.",
    )


def _grid(marks: Sequence[float], x: Scale, y: Scale, unit: Unit) -> list[Markup]:
    parts: list[Markup] = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(line(_LATENCY_LEFT, y(share), _LATENCY_RIGHT, y(share), "grid"))
        parts.append(
            label(
                _LATENCY_LEFT - 6, y(share) + 4, f"{share * 100:.0f} %", anchor="end", kind="muted"
            )
        )
    for mark in marks:
        at = x(mark * unit.scale)
        parts.append(line(at, _BOTTOM, at, _BOTTOM + 4, "axis"))
        parts.append(label(at, _BOTTOM + 18, tick_text(mark), anchor="middle", kind="muted"))
    parts.append(label(_LATENCY_RIGHT, _BOTTOM + 36, unit.name, anchor="end", kind="muted"))
    return parts


def _points(ordered: Sequence[float], x: Scale, y: Scale) -> list[tuple[float, float]]:
    """The steps of the empirical distribution, at most ``_POINTS`` of them."""
    count = min(len(ordered), _POINTS)
    points = [(x(ordered[0]), y(0))]
    for index in range(1, count + 1):
        share = index / count
        at = x(quantile(ordered, share))
        points += [(at, points[-1][1]), (at, y(share))]
    return points


def _legend(row: LatencyRow, phase: str, index: int, y: float) -> Markup:
    name, colour, dash = LINES[index]
    found = row.phases[phase]
    return element(
        "g",
        element(
            "line",
            x1=_LATENCY_RIGHT + 22,
            y1=y - 4,
            x2=_LATENCY_RIGHT + 50,
            y2=y - 4,
            stroke=colour,
            stroke_width=2,
            stroke_dasharray=dash or None,
            class_=f"s-{name}",
        ),
        label(_LATENCY_RIGHT + 58, y, row.key.text, limit=30),
        label(
            _LATENCY_RIGHT + 58,
            y + 14,
            f"median {in_unit(found.median, 's')}, p95 {in_unit(found.p95, 's')}",
            kind="muted",
        ),
    )


def has_limit(rows: Sequence[LatencyRow], phase: str) -> bool:
    """Whether a gate put a limit on one of curl's times."""
    return bool(_limits(rows, phase))


def _limits(rows: Sequence[LatencyRow], phase: str) -> list[tuple[float, str]]:
    found = {
        one.limit: f"{one.quantity} {in_unit(one.limit, 's')}"
        for row in rows
        for one in row.judged
        if one.limit is not None and one.unit == "s" and one.quantity.startswith(_GATED[phase])
    }
    return sorted(found.items())


def _latency_words(row: LatencyRow, phase: str) -> str:
    found = row.phases[phase]
    return f"{row.key.text}: median {in_unit(found.median, 's')}, p95 {in_unit(found.p95, 's')}"


# -- One sample second by second: shows a stall, a ramp or a step that its mean hides -------------


_SERIES_WIDTH, _SERIES_HEIGHT = 180, 30
#: More points than this cannot be told apart at this width.
_SERIES_POINTS = 120


def series_chart(values: Sequence[float]) -> Markup:
    """A small line from zero; empty for fewer than two seconds."""
    if len(values) < 2:
        return Markup("")
    shown = _thinned(values)
    top = max(shown) or 1.0
    x = Scale(0, len(shown) - 1, 2, _SERIES_WIDTH - 2)
    y = Scale(0, top, _SERIES_HEIGHT - 3, 3)
    unit = bit_unit([max(values)])
    return element(
        "svg",
        element(
            "polyline",
            points=f"2,{_SERIES_HEIGHT - 3} {_SERIES_WIDTH - 2},{_SERIES_HEIGHT - 3}",
            fill="none",
            stroke=COLOURS["grid"],
            class_="s-grid",
        ),
        element(
            "polyline",
            points=" ".join(
                f"{number(x(index))},{number(y(value))}" for index, value in enumerate(shown)
            ),
            fill="none",
            stroke=COLOURS["bar"],
            stroke_width=1.5,
            class_="s-bar",
        ),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_SERIES_WIDTH} {_SERIES_HEIGHT}",
        width=_SERIES_WIDTH,
        height=_SERIES_HEIGHT,
        role="img",
        aria_label=f"{len(values)} seconds, lowest {unit.text(min(values))}, "
        f"highest {unit.text(max(values))}",
    )


def _thinned(values: Sequence[float]) -> Sequence[float]:
    """At most ``_POINTS`` points; of several that fall together the lowest, so no stall hides."""
    if len(values) <= _SERIES_POINTS:
        return values
    size = -(-len(values) // _SERIES_POINTS)
    return [min(values[start : start + size]) for start in range(0, len(values), size)]

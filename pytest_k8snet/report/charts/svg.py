"""SVG primitives and axes: what every chart is made of. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_k8snet.report.markup import Markup, element, number
from pytest_k8snet.report.text import visible_line

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

"""One sample second by second: shows a stall, a ramp or a step that its mean hides."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_k8snet.report.charts.svg import COLOURS, Scale
from pytest_k8snet.report.figures import bit_unit
from pytest_k8snet.report.markup import Markup, element, number

_WIDTH, _HEIGHT = 180, 30
#: More points than this cannot be told apart at this width.
_POINTS = 120


def series_chart(values: Sequence[float]) -> Markup:
    """A small line from zero; empty for fewer than two seconds."""
    if len(values) < 2:
        return Markup("")
    shown = _thinned(values)
    top = max(shown) or 1.0
    x = Scale(0, len(shown) - 1, 2, _WIDTH - 2)
    y = Scale(0, top, _HEIGHT - 3, 3)
    unit = bit_unit([max(values)])
    return element(
        "svg",
        element(
            "polyline",
            points=f"2,{_HEIGHT - 3} {_WIDTH - 2},{_HEIGHT - 3}",
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
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        width=_WIDTH,
        height=_HEIGHT,
        role="img",
        aria_label=f"{len(values)} seconds, lowest {unit.text(min(values))}, "
        f"highest {unit.text(max(values))}",
    )


def _thinned(values: Sequence[float]) -> Sequence[float]:
    """At most ``_POINTS`` points; of several that fall together the lowest, so no stall hides."""
    if len(values) <= _POINTS:
        return values
    size = -(-len(values) // _POINTS)
    return [min(values[start : start + size]) for start in range(0, len(values), size)]

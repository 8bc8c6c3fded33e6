"""Before and now: each figure of the baseline run and of this one, joined by a line."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_k8snet.report.charts.svg import Scale, dot, drawing, interval, label, line
from pytest_k8snet.report.figures import in_unit, ratio
from pytest_k8snet.report.markup import Markup
from pytest_k8snet.report.model import Compared

_WIDTH = 860
_LEFT, _RIGHT = 300, 600
_ROW, _TOP = 26, 30


def before_chart(compared: Sequence[Compared]) -> Markup:
    """Ratios now / before around 1; empty where nothing can be compared."""
    drawn = [one for one in compared if one.ratio is not None]
    if not drawn:
        return Markup("")
    reach = max(_reach(one) for one in drawn)
    reach = min(max(reach * 1.1, 0.05), 1.0)
    x = Scale(1 - reach, 1 + reach, _LEFT, _RIGHT)
    bottom = _TOP + len(drawn) * _ROW
    parts = [
        label(x(1), _TOP - 14, "as before", anchor="middle", kind="muted"),
        label(_LEFT, _TOP - 14, f"{1 - reach:.2f}", anchor="middle", kind="muted"),
        label(_RIGHT, _TOP - 14, f"{1 + reach:.2f}", anchor="middle", kind="muted"),
        line(_LEFT, _TOP - 6, _LEFT, bottom, "grid"),
        line(_RIGHT, _TOP - 6, _RIGHT, bottom, "grid"),
        line(x(1), _TOP - 8, x(1), bottom, "base"),
    ]
    for index, one in enumerate(drawn):
        parts.extend(_row(one, _TOP + index * _ROW + _ROW / 2, x))
    return drawing(
        _WIDTH,
        bottom + 8,
        parts,
        name="chart-before",
        title="Now relative to the baseline run",
        description="; ".join(_words(one) for one in drawn[:24])
        + ". The table of before and now holds every figure.",
    )


def _reach(one: Compared) -> float:
    assert one.ratio is not None
    figures = (one.ratio.value, one.ratio.low, one.ratio.high)
    return max(abs(figure - 1) for figure in figures if figure is not None)


def _row(one: Compared, y: float, x: Scale) -> list[Markup]:
    assert one.ratio is not None
    name = one.key.text if one.unit == "bit/s" else f"{one.key.text}, {one.quantity}"
    parts = [label(0, y + 4, name, limit=40)]
    if one.ratio.low is not None and one.ratio.high is not None:
        parts.append(interval(x(one.ratio.low), x(one.ratio.high), y, "ink"))
    parts.append(dot(x(one.ratio.value), y, 4, "bar"))
    parts.append(label(_RIGHT + 62, y + 4, ratio(one.ratio.value), anchor="end", weight="600"))
    parts.append(
        label(
            _RIGHT + 72,
            y + 4,
            f"{in_unit(one.before.value, one.unit)} → {in_unit(one.now.value, one.unit)}",
            kind="muted",
        )
    )
    return parts


def _words(one: Compared) -> str:
    assert one.ratio is not None
    return (
        f"{one.key.text}, {one.quantity}: {in_unit(one.before.value, one.unit)} before, "
        f"{in_unit(one.now.value, one.unit)} now, ratio {ratio(one.ratio.value)}"
    )

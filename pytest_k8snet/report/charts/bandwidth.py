"""Goodput by mode: mean and interval of each scene, against node-node and the physical ceiling."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_k8snet.report.charts.svg import (
    Scale,
    box,
    drawing,
    interval,
    label,
    line,
    tick_text,
    ticks,
)
from pytest_k8snet.report.figures import Unit, bit_unit, ratio
from pytest_k8snet.report.markup import Markup
from pytest_k8snet.report.model import BASELINE_SCENE, BandwidthCell, Key

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

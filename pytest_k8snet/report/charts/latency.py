"""Latency by scene: the share of requests that were answered within a time, with the limits."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_k8snet.report.charts.svg import (
    LINES,
    Scale,
    drawing,
    label,
    line,
    steps,
    tick_text,
    ticks,
)
from pytest_k8snet.report.figures import Unit, in_unit, time_unit
from pytest_k8snet.report.intervals import quantile
from pytest_k8snet.report.markup import Markup, element
from pytest_k8snet.report.model import LatencyRow

_WIDTH, _HEIGHT = 760, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 500, 22, 208
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
    x = Scale(0, marks[-1] * unit.scale, _LEFT, _RIGHT)
    y = Scale(0, 1, _BOTTOM, _TOP)
    parts = [*_grid(marks, x, y, unit)]
    for index, row in enumerate(drawn):
        parts.append(steps(_points(row.phases[phase].ordered, x, y), index))
        parts.append(_legend(row, phase, index, _TOP + 10 + index * 34))
    far = [text for limit, text in limits if limit > marks[-1] * unit.scale]
    if far:
        beyond = f"{', '.join(far)}: beyond the axis →"
        parts.append(label(_WIDTH - 4, _BOTTOM + 18, beyond, anchor="end", kind="limit", limit=60))
    for limit, text in limits:
        if text in far:
            continue
        parts.append(line(x(limit), _TOP - 4, x(limit), _BOTTOM, "limit", width=1.5, dash="5 3"))
        parts.append(label(x(limit), _TOP - 8, text, anchor="middle", kind="limit", limit=40))
    return drawing(
        _WIDTH,
        _HEIGHT,
        parts,
        name=f"chart-latency-{phase}",
        title=f"Share of requests whose time_{phase} is at most so long",
        description="; ".join(_words(row, phase) for row in drawn)
        + "".join(f"; limit {text}" for _, text in limits)
        + ". The latency table holds every figure.",
    )


def _grid(marks: Sequence[float], x: Scale, y: Scale, unit: Unit) -> list[Markup]:
    parts: list[Markup] = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(line(_LEFT, y(share), _RIGHT, y(share), "grid"))
        parts.append(
            label(_LEFT - 6, y(share) + 4, f"{share * 100:.0f} %", anchor="end", kind="muted")
        )
    for mark in marks:
        at = x(mark * unit.scale)
        parts.append(line(at, _BOTTOM, at, _BOTTOM + 4, "axis"))
        parts.append(label(at, _BOTTOM + 18, tick_text(mark), anchor="middle", kind="muted"))
    parts.append(label(_RIGHT, _BOTTOM + 36, unit.name, anchor="end", kind="muted"))
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
            x1=_RIGHT + 22,
            y1=y - 4,
            x2=_RIGHT + 50,
            y2=y - 4,
            stroke=colour,
            stroke_width=2,
            stroke_dasharray=dash or None,
            class_=f"s-{name}",
        ),
        label(_RIGHT + 58, y, row.key.text, limit=30),
        label(
            _RIGHT + 58,
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


def _words(row: LatencyRow, phase: str) -> str:
    found = row.phases[phase]
    return f"{row.key.text}: median {in_unit(found.median, 's')}, p95 {in_unit(found.p95, 's')}"

"""Figures as text: one unit per table, three significant digits, signs that line up. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_k8snet.units import BitRate, Seconds

#: Shown where there is no figure.
NONE = "\u2013"
#: A real minus sign is as wide as a digit.
_MINUS = "\u2212"

_BIT_UNITS = ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s"))
_TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))

RELATIONS = {">=": "≥", "<=": "≤", ">": ">", "<": "<"}


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit that a whole table or axis is drawn in."""

    scale: float
    name: str

    def number(self, value: float | None) -> str:
        """The figure without its unit."""
        return NONE if value is None else significant(value / self.scale)

    def text(self, value: float | None) -> str:
        """The figure with its unit."""
        return NONE if value is None else f"{self.number(value)} {self.name}".rstrip()


MILLISECONDS = Unit(1e-3, "ms")


def bit_unit(values: Iterable[float]) -> Unit:
    """The unit in which the largest of these bit rates is at least 1."""
    return _unit(_BIT_UNITS, values)


def time_unit(values: Iterable[float]) -> Unit:
    """The unit in which the largest of these durations is at least 1."""
    return _unit(_TIME_UNITS, values)


def unit_of(symbol: str, values: Iterable[float]) -> Unit:
    """The unit for figures whose base unit is ``bit/s``, ``s`` or nothing."""
    if symbol == "bit/s":
        return bit_unit(values)
    if symbol == "s":
        return time_unit(values)
    return Unit(1.0, symbol)


def _unit(table: tuple[tuple[float, str], ...], values: Iterable[float]) -> Unit:
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    for scale, name in table:
        if largest >= scale:
            return Unit(scale, name)
    return Unit(*table[-1]) if largest else Unit(*table[0])


def significant(value: float) -> str:
    """Three significant digits, never in scientific notation."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    decimals = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{value:,.{decimals}f}".replace("-", _MINUS)


def in_unit(value: float | None, symbol: str) -> str:
    """A figure in its own best unit (``bit/s``, ``s``), or a bare ratio with three decimals."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return f"{value} {symbol}".strip()
    if symbol == "bit/s":
        return str(BitRate(value))
    if symbol == "s":
        return str(Seconds(value)).replace("us", "µs")
    return f"{ratio(value)} {symbol}".strip()


def ratio(value: float | None) -> str:
    """A ratio with three decimals."""
    return NONE if value is None else f"{value:.3f}".replace("-", _MINUS)


def percent(share: float | None, *, signed: bool = False) -> str:
    """A share as per cent: -0.618 is 61.8 % with a minus sign."""
    if share is None or not math.isfinite(share):
        return NONE
    value = share * 100
    decimals = 1 if 0.05 <= abs(value) < 1000 else 3 if value and abs(value) < 0.05 else 0
    return f"{value:{'+' if signed else ''}.{decimals}f} %".replace("-", _MINUS)


def duration(seconds: float | None) -> str:
    """A wall time: ``0.4 s``, ``42 s``, ``3 min 20 s``, ``1 h 5 min``."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def counted(count: int, one: str, many: str = "") -> str:
    """``1 sample``, ``2 samples``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def moment(time: object) -> str:
    """A record's time for a reader: ``2026-11-23 01:02:03 UTC``."""
    text = str(time or "")
    date, t, clock = text.partition("T")
    if not t:
        return text or NONE
    return f"{date} {clock.rstrip('Z').split('.')[0]} UTC"

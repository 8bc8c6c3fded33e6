"""Figures as text, and foreign text made safe to look at. Pure."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pytest_k8snet.report.model import Estimate, GateResult
from pytest_k8snet.report.records import words
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
        """Return the figure without its unit."""
        return NONE if value is None else significant(value / self.scale)

    def text(self, value: float | None) -> str:
        """Return the figure with its unit."""
        return NONE if value is None else f"{self.number(value)} {self.name}".rstrip()


MILLISECONDS = Unit(1e-3, "ms")


def bit_unit(values: Iterable[float]) -> Unit:
    """Return the unit in which the largest of these bit rates is at least 1."""
    return _unit(_BIT_UNITS, values)


def time_unit(values: Iterable[float]) -> Unit:
    """Return the unit in which the largest of these durations is at least 1."""
    return _unit(_TIME_UNITS, values)


def unit_of(symbol: str, values: Iterable[float]) -> Unit:
    """Return the unit for figures whose base unit is ``bit/s``, ``s`` or nothing."""
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
    """Return three significant digits, never in scientific notation."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    decimals = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{value:,.{decimals}f}".replace("-", _MINUS)


def in_unit(value: float | None, symbol: str) -> str:
    """Return a figure in its own best unit (of ``bit/s``, ``s``), or a ratio."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return f"{value} {symbol}".strip()
    if symbol == "bit/s":
        return str(BitRate(value))
    if symbol == "s":
        return str(Seconds(value)).replace("us", "µs")
    return f"{ratio_text(value)} {symbol}".strip()


def ratio_text(value: float | None) -> str:
    """Return a ratio with three decimals."""
    return NONE if value is None else f"{value:.3f}".replace("-", _MINUS)


def percent(share: float | None) -> str:
    """Return a share as per cent: 0.618 is 61.8 %."""
    if share is None or not math.isfinite(share):
        return NONE
    value = share * 100
    decimals = 1 if 0.05 <= abs(value) < 1000 else 3 if value and abs(value) < 0.05 else 0
    return f"{value:.{decimals}f} %".replace("-", _MINUS)


def estimate_text(estimate: Estimate | None) -> str:
    """Return a ratio with its interval: ``0.997 [0.990, 1.004]``."""
    if estimate is None:
        return NONE
    return f"{ratio_text(estimate.value)} {interval_text(estimate, ratio_text)}".strip()


def interval_text(estimate: Estimate | None, number: Callable[[float | None], str]) -> str:
    """Return ``[2.83, 2.87]``; empty where there is no interval.

    Args:
        estimate: with the interval.
        number: writes one of its ends.
    """
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"[{number(estimate.low)}, {number(estimate.high)}]"


def duration(seconds: float | None) -> str:
    """Return a wall time: ``0.4 s``, ``42 s``, ``3 min 20 s``, ``1 h 5 min``."""
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
    """Return ``1 sample``, ``2 samples``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def moment(time: object) -> str:
    """Return a record's time for a reader: ``2026-11-23 01:02:03 UTC``."""
    text = str(time or "")
    date, t, clock = text.partition("T")
    if not t:
        return text or NONE
    return f"{date} {clock.rstrip('Z').split('.')[0]} UTC"


# -- Figures of promises --------------------------------------------------------------------------


def measured_figure(gate: GateResult) -> str:
    """Return a verdict's estimate with its interval."""
    estimate, interval = figure_texts(gate)
    return f"{estimate} {interval}".strip()


def figure_texts(gate: GateResult) -> tuple[str, str]:
    """Return a verdict's estimate, and its interval in the same unit (empty where it has none)."""
    if gate.estimate is None:
        return "no figure", ""
    unit = unit_of(gate.unit, [gate.estimate])
    number = unit.number if gate.unit else ratio_text
    estimate = unit.text(gate.estimate) if gate.unit else ratio_text(gate.estimate)
    if gate.low is None and gate.high is None:
        return estimate, ""
    return estimate, f"[{number(gate.low)}, {number(gate.high)}]"


def limit_text(gate: GateResult, *, as_percent: bool = False) -> str:
    """Return ``≥ 0.900``, ``≤ 5 ms``; of a ratio ``≥ 90 %`` where that is asked for."""
    if gate.limit is None:
        return "none"
    relation = RELATIONS.get(gate.relation, gate.relation)
    shown = in_unit(gate.limit, gate.unit)
    if as_percent and not gate.unit:
        shown = f"{gate.limit * 100:.6g} %"
    return f"{relation} {shown}".strip()


def margin_text(gate: GateResult) -> str:
    """Return how far figure and limit are apart, in their unit, positive on the good side."""
    if gate.spare is None:
        return NONE
    apart = abs(gate.spare)
    digits = next((digits for digits in (3, 4, 5) if round(apart, digits)), 3)
    text = in_unit(apart, gate.unit) if gate.unit else f"{apart:.{digits}f}"
    return f"{'+' if gate.spare >= 0 else _MINUS}{text}"


def pass_notes(gate: GateResult) -> list[str]:
    """Return what a gate that passed warns of, and what its samples cannot show.

    A gate that failed or stayed undecided says so itself; one that passed would keep it to itself.
    """
    if gate.state not in ("pass", "monitor"):
        return []
    warnings = [words(one) for one in gate.record.get("warnings") or ()]
    unseen = words(gate.record.get("unseen"))
    return [*warnings, unseen] if unseen and gate.record.get("found") == "pass" else warnings


# -- Foreign text made safe to look at -----------------------------------------------------------
#
# Names, error texts and tool output come from a cluster. Whoever can name a pod must not be able
# to colour the reader's terminal, reverse the reading order, or hide a word.

#: Longest piece of foreign text shown in running text, in characters.
TEXT_LIMIT = 1200
#: Longest name (pod, node, test id) shown, in characters.
NAME_LIMIT = 240

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: Fillers that have no ink although Unicode counts them as letters or symbols.
_BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def visible(text: object, limit: int | None = TEXT_LIMIT) -> str:
    r"""Show control characters, bidi marks and other hidden characters, and cut what is too long.

    New lines and tabs stay. An escape character becomes the four characters ``\x1b``, a
    right-to-left override ``\u202e``: ASCII, so that every font and every terminal has it.

    Args:
        text: anything; its ``str`` is shown.
        limit: most characters to show; None for all.
    """
    whole = text if isinstance(text, str) else str(text)
    left = 0
    if limit is not None and len(whole) > limit:
        left = len(whole) - limit
        whole = whole[:limit]
    if not (whole.isascii() and whole.isprintable()):
        whole = "".join(map(_shown, whole.replace("\r\n", "\n")))
    return f"{whole} … ({left:,} more characters)" if left else whole


def visible_line(text: object, limit: int | None = NAME_LIMIT) -> str:
    """Show text in one line: new lines and tabs are shown as signs, too."""
    return visible(text, limit).replace("\n", "\\n").replace("\t", "\\t")


def _shown(char: str) -> str:
    if char in "\n\t":
        return char
    if char.isprintable() and char not in _BLANKS:
        return char
    if unicodedata.category(char) in _HIDDEN or char in _BLANKS:
        code = ord(char)
        width, letter = (2, "x") if code < 0x100 else (4, "u") if code < 0x10000 else (8, "U")
        return f"\\{letter}{code:0{width}x}"
    # What is left are spaces of unusual width.
    return " "


def columns(text: str) -> int:
    """Return how many columns a text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return a text filled with spaces to a number of terminal columns."""
    fill = " " * max(0, width - columns(text))
    return fill + text if right else text + fill


def clipped(text: str, width: int) -> str:
    """Return a text cut to a number of terminal columns, with an ellipsis where it was cut."""
    if columns(text) <= width:
        return text
    kept = ""
    used = 0
    for char in text:
        step = columns(char)
        if used + step > width - 1:
            break
        kept += char
        used += step
    return kept + "…"


#: Where the limit of a claim begins; and the least that is left of what stands before it.
_RELATION = re.compile(r" (?:[<>]=?|[≤≥]) ")
_LEAST_SUBJECT = 9


def squeezed(text: str, width: int) -> str:
    """Return a text cut in its middle: of a claim, both what it is about and its limit stay."""
    if columns(text) <= width:
        return text
    limits = list(_RELATION.finditer(text))
    if limits and columns(found := text[limits[-1].start() :]) <= width - _LEAST_SUBJECT:
        return clipped(text, width - columns(found)) + found
    tail = ""
    for char in reversed(text):
        if columns(char + tail) > (width - 1) // 2:
            break
        tail = char + tail
    return clipped(text, width - columns(tail)) + tail

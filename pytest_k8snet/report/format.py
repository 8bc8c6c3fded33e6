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
        if value is None:
            return NONE
        shown = value / self.scale
        return _fixed(shown, _decimals(shown) if self.name != "%" else _percent_decimals(shown))

    def text(self, value: float | None) -> str:
        """Return the figure with its unit."""
        return NONE if value is None else f"{self.number(value)} {self.name}".rstrip()


MILLISECONDS = Unit(1e-3, "ms")
PERCENT = Unit(0.01, "%")


def bit_unit(values: Iterable[float]) -> Unit:
    """Return the unit in which the largest of these bit rates is at least 1."""
    return _unit(_BIT_UNITS, values)


def time_unit(values: Iterable[float]) -> Unit:
    """Return the unit in which the largest of these durations is at least 1."""
    return _unit(_TIME_UNITS, values)


def unit_of(symbol: str, values: Iterable[float]) -> Unit:
    """Return the unit for figures whose base unit is ``bit/s`` or ``s``; per cent for none."""
    if symbol == "bit/s":
        return bit_unit(values)
    if symbol == "s":
        return time_unit(values)
    return Unit(1.0, symbol) if symbol else PERCENT


def _unit(table: tuple[tuple[float, str], ...], values: Iterable[float]) -> Unit:
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    for scale, name in table:
        if largest >= scale:
            return Unit(scale, name)
    return Unit(*table[-1]) if largest else Unit(*table[0])


def significant(value: float) -> str:
    """Return three significant digits, never in scientific notation."""
    return _fixed(value, _decimals(value))


def _decimals(value: float) -> int:
    size = abs(value)
    return 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3


def _fixed(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}".replace("-", _MINUS) if math.isfinite(value) else str(value)


def in_unit(value: float | None, symbol: str) -> str:
    """Return a figure in its own best unit (of ``bit/s``, ``s``); in per cent without one."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return f"{value} {symbol}".strip()
    if symbol == "bit/s":
        return str(BitRate(value))
    if symbol == "s":
        return str(Seconds(value)).replace("us", "µs")
    return f"{significant(value)} {symbol}" if symbol else percent(value)


def percent(share: float | None) -> str:
    """Return a share as per cent: 0.618 is 61.8 %."""
    if share is None or not math.isfinite(share):
        return NONE
    return PERCENT.text(share)


def _percent_decimals(value: float) -> int:
    size = abs(value)
    return 1 if 0.05 <= size < 1000 else 3 if 0 < size < 0.05 else 0


def estimate_text(estimate: Estimate | None) -> str:
    """Return a ratio with its interval: ``99.7 % [99.0, 100.4]``."""
    if estimate is None:
        return NONE
    return f"{percent(estimate.value)} {share_interval(estimate)}".strip()


def share_interval(estimate: Estimate | None) -> str:
    """Return the interval of a ratio in per cent, ``[99.0, 100.4]``; empty where there is none."""
    return interval_text(estimate, PERCENT.number)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseText:
    """The figures of one promise, in one unit, and so exact that figure and limit differ.

    Attributes:
        figure: ``96.5 %``, ``1.20 ms``; or that there is none.
        spoken: the same in a sentence: ``1.2 ms``.
        interval: ``[94.5, 98.7]``; empty where it has none.
        ends: both ends of it with their unit, where it has both.
        limit: ``90 %``; empty where there is none.
        apart: how far figure and limit are apart as they are shown: ``6.5 percentage points``;
            empty where it is not known.
        margin: the same in few characters, positive on the good side: ``+6.5 points``.
    """

    figure: str
    spoken: str
    interval: str
    ends: tuple[str, str] | None
    limit: str
    apart: str
    margin: str

    @property
    def measured(self) -> str:
        """The figure with its interval."""
        return f"{self.figure} {self.interval}".strip()


def promise_text(gate: GateResult, unit: Unit | None = None) -> PromiseText:
    """Return a promise's figures in one unit: the limit's, unless another is given."""
    unit = unit or own_unit(gate)
    estimate, limit = gate.estimate, gate.limit
    shown = None if estimate is None else estimate / unit.scale
    asked = None if limit is None else limit / unit.scale
    decimals = _telling(shown, asked, unit)

    def number(value: float | None) -> str:
        return NONE if value is None else _fixed(value / unit.scale, decimals)

    def named(value: float) -> str:
        text = number(value) if unit is PERCENT else _without_zeros(number(value))
        return f"{text} {unit.name}".rstrip()

    has_interval = estimate is not None and not (gate.low is None and gate.high is None)
    whole = has_interval and gate.low is not None and gate.high is not None
    apart = asked_text = ""
    if asked is not None:
        asked_text = f"{_without_zeros(_fixed(asked, 6))} {unit.name}".rstrip()
    if shown is not None and asked is not None:
        distance = abs(round(shown, decimals) - asked)
        if unit is PERCENT:
            apart = _fixed(distance, decimals)
        else:
            least = min(decimals, max(1, _decimals(distance)))
            enough = next((n for n in range(least, decimals) if round(distance, n)), decimals)
            apart = _without_zeros(_fixed(distance, enough))
    sign = "+" if (gate.spare or 0.0) >= 0 else _MINUS
    return PromiseText(
        figure="no figure" if estimate is None else f"{number(estimate)} {unit.name}".rstrip(),
        spoken="no figure" if estimate is None else named(estimate),
        interval=f"[{number(gate.low)}, {number(gate.high)}]" if has_interval else "",
        ends=(named(gate.low or 0.0), named(gate.high or 0.0)) if whole else None,
        limit=asked_text,
        apart=f"{apart} {'percentage points' if unit is PERCENT else unit.name}" if apart else "",
        margin=f"{sign}{apart} {'points' if unit is PERCENT else unit.name}" if apart else NONE,
    )


#: A figure that is a smaller part of the limit's unit is written in its own.
_LEAST_PART = 0.01


def own_unit(gate: GateResult) -> Unit:
    """Return a promise's unit: its limit's, or that of a figure which is far smaller."""
    figure = gate.estimate or 0.0
    unit = unit_of(gate.unit, [figure if gate.limit is None else gate.limit])
    return unit_of(gate.unit, [figure]) if 0 < abs(figure) < unit.scale * _LEAST_PART else unit


def _telling(shown: float | None, asked: float | None, unit: Unit) -> int:
    """Return as many decimals as tell a figure from its limit."""
    size = abs(shown or 0.0)
    least = max(1, _percent_decimals(size)) if unit is PERCENT else _decimals(size)
    if shown is None or asked is None or not math.isfinite(shown):
        return least
    # The figure that is shown is what is compared.
    return next((n for n in range(least, 7) if round(round(shown, n) - asked, n)), least)


def _without_zeros(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def claim_text(gate: GateResult) -> str:
    """Return a claim with its limit in the unit of its figures: ``pod-pod / node-node ≥ 90 %``."""
    return gate.subject if gate.limit is None else f"{gate.subject} {limit_text(gate)}"


def limit_text(gate: GateResult, unit: Unit | None = None) -> str:
    """Return ``≥ 90 %``, ``≤ 5 ms``."""
    limit = promise_text(gate, unit).limit
    return f"{RELATIONS.get(gate.relation, gate.relation)} {limit}".strip() if limit else "none"


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


def padded(text: str, width: int) -> str:
    """Return a text filled with spaces to a number of terminal columns."""
    return text + " " * (width - columns(text))


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

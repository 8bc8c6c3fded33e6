"""Figures that know their unit: bit rates, durations and ratios.

Each is a ``float`` in base units (bit/s, seconds, 1), so that it goes through ``json``, ``min``,
``sorted`` and ``statistics`` as it is. It prints with its unit, and it refuses to be compared
with a bare number, because ``pod.bandwidth >= 900`` hides a factor of a million.

    >>> from pytest_k8snet import Gbit, ms
    >>> 2.85 * Gbit
    2.85 Gbit/s
    >>> 5 * ms < 0.010 * second
    True

Inside :func:`comparing` each also notes what it is compared with, so that a report can tell the
limit of a plain assert. Imports nothing of the project.
"""

from __future__ import annotations

import dis
import math
import operator
import os
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Self, SupportsFloat, overload

#: ``pytest.approx`` compares its tolerance with this bare number, whatever it is asked to compare.
_NEXT_TO_NOTHING = 1e-12

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_COMPARE = dis.opmap["COMPARE_OP"]

_HOLDS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def _ordering(relation: str) -> Callable[[float, float], bool]:
    """Make the method by which a figure is ordered, which notes what it is compared with."""
    holds = _HOLDS[relation]

    def method(self: float, other: float) -> bool:
        __tracebackhide__ = True
        # A gate (pytest_k8snet.verdict) measures in its own reflected comparison.
        if not isinstance(other, (int, float)):
            return NotImplemented
        limit = self._same(other, "compare") if isinstance(self, _Figure) else float(other)
        return _compared(self, relation, other, holds(float(self), limit))

    return method


class _Figure(float):
    """A float with a dimension; sums and differences keep it, comparisons insist on it."""

    __slots__ = ()
    _dimension = ""
    _example = ""

    def _same(self, other: object, action: str) -> float:
        __tracebackhide__ = True
        if isinstance(other, type(self)):
            return float(other)
        # Zero and infinity are the same in every unit; so is what pytest.approx takes for zero.
        if isinstance(other, (int, float)) and not isinstance(other, _Figure):
            if abs(other) <= _NEXT_TO_NOTHING or math.isinf(other):
                return float(other)
            raise TypeError(
                f"cannot {action} {self._dimension} ({self}) and the bare number {other!r}: "
                f"give it a unit, as in {self._example}"
            )
        raise TypeError(
            f"cannot {action} {self._dimension} ({self}) and {type(other).__name__} ({other})"
        )

    def __add__(self, other: float) -> Self:
        __tracebackhide__ = True
        return type(self)(float(self) + self._same(other, "add"))

    def __radd__(self, other: float) -> Self:
        __tracebackhide__ = True
        return type(self)(self._same(other, "add") + float(self))

    def __sub__(self, other: float) -> Self:
        __tracebackhide__ = True
        return type(self)(float(self) - self._same(other, "subtract"))

    def __rsub__(self, other: float) -> Self:
        __tracebackhide__ = True
        return type(self)(self._same(other, "subtract") - float(self))

    def __mul__(self, factor: float) -> Self:
        __tracebackhide__ = True
        if isinstance(factor, _Figure):
            raise TypeError(f"cannot multiply {self} by {factor}: the product has no meaning here")
        return type(self)(float(self) * factor)

    __rmul__ = __mul__

    @overload
    def __truediv__(self, other: Self) -> Ratio: ...  # type: ignore[overload-overlap]
    @overload
    def __truediv__(self, other: float) -> Self: ...
    def __truediv__(self, other: float) -> Ratio | Self:
        __tracebackhide__ = True
        if isinstance(other, type(self)):
            if float(other) == 0:
                raise ZeroDivisionError(f"{self} / {other}: a ratio to a zero figure says nothing")
            return Ratio(float(self) / float(other), of=(self, other))
        if isinstance(other, _Figure):
            raise TypeError(f"cannot divide {self} by {other}: the units differ")
        return type(self)(float(self) / other)

    def explain_comparison(
        self, op: str, limit: object, *, reflected: bool = False
    ) -> list[str] | None:
        """What a failed assertion shows: figure, limit, and how far apart they are."""
        return _missed(self, op, limit, reflected=reflected)

    def __neg__(self) -> Self:
        return type(self)(-float(self))

    def __abs__(self) -> Self:
        return type(self)(abs(float(self)))

    __lt__, __le__, __gt__, __ge__ = map(_ordering, ("<", "<=", ">", ">="))

    # Equality stays the float's: figures are keys of dicts, and == never orders anything.
    __hash__ = float.__hash__

    def __eq__(self, other: object) -> bool:
        return float.__eq__(self, other) if isinstance(other, (int, float)) else NotImplemented

    def __repr__(self) -> str:
        return str(self)


class BitRate(_Figure):
    """A bit rate in bit/s (decimal prefixes, as iperf3 and the RFCs use them)."""

    __slots__ = ()
    _dimension = "a bit rate"
    _example = "900 * Mbit"

    @classmethod
    def parse(cls, text: str) -> BitRate:
        """Read ``300M``, ``2.85 Gbit/s``, ``1000000``: a number with k, M or G, in bit/s.

        Raises:
            ValueError: the text is no bit rate.
        """
        match = re.fullmatch(
            r"\s*(\d+(?:\.\d+)?)\s*([kKmMgG]?)(?:bit|b)?(?:/s|ps)?\s*", text, flags=re.ASCII
        )
        if match is None:
            raise ValueError(f"not a bit rate: {text!r} (write 300M, 2.5G or 300Mbit/s)")
        scale = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}[match[2].lower()]
        return cls(float(match[1]) * scale)

    def __str__(self) -> str:
        value = float(self)
        for scale, prefix in _PREFIXES:
            if abs(value) >= scale:
                return f"{_three_digits(value / scale)} {prefix}bit/s"
        return f"{_three_digits(value)} bit/s"


class Seconds(_Figure):
    """A duration in seconds."""

    __slots__ = ()
    _dimension = "a duration"
    _example = "5 * ms"

    @classmethod
    def parse(cls, text: str) -> Seconds:
        """Read ``5ms``, ``250 us``, ``1.5s``, ``2min``; a number alone means seconds.

        Raises:
            ValueError: the text is no duration.
        """
        match = re.fullmatch(
            r"\s*(\d+(?:\.\d+)?)\s*(us|µs|ms|s|sec|min|h)?\s*", text, flags=re.ASCII
        )
        if match is None:
            raise ValueError(f"not a duration: {text!r} (write 250us, 5ms, 1.5s or 2min)")
        scale = {"us": 1e-6, "ms": 1e-3, "min": 60.0, "h": 3600.0}.get(match[2] or "s", 1.0)
        return cls(float(match[1]) * scale)

    def __str__(self) -> str:
        value = abs(float(self))
        if value == 0 or value >= 1:
            return f"{_three_digits(float(self))} s"
        if value >= 1e-3:
            return f"{_three_digits(float(self) * 1e3)} ms"
        return f"{_three_digits(float(self) * 1e6)} us"


class Ratio(float):
    """A dimensionless quotient of two figures of one kind; compares with plain numbers.

    Attributes:
        of: the two figures; None where they are not known.
    """

    __slots__ = ("of",)
    of: tuple[_Figure, _Figure] | None

    def __new__(cls, value: SupportsFloat = 0.0, of: tuple[_Figure, _Figure] | None = None) -> Self:
        """Make a ratio, of two figures where they are told."""
        made = super().__new__(cls, value)
        made.of = of
        return made

    __lt__, __le__, __gt__, __ge__ = map(_ordering, ("<", "<=", ">", ">="))

    # As of all figures, equality stays the float's.
    __hash__ = float.__hash__

    def __eq__(self, other: object) -> bool:
        return float.__eq__(self, other) if isinstance(other, (int, float)) else NotImplemented

    def explain_comparison(
        self, op: str, limit: object, *, reflected: bool = False
    ) -> list[str] | None:
        """What a failed assertion shows: the quotient, the limit, and how far apart they are."""
        lines = _missed(self, op, limit, reflected=reflected)
        # pytest's own lines on where the two figures come from give way to these.
        return lines and [
            lines[0],
            *([f"it is {self.of[0]} / {self.of[1]}"] if self.of else []),
            *lines[1:],
        ]

    def __str__(self) -> str:
        return f"{float(self):.3f}"

    def __repr__(self) -> str:
        return str(self)


# -- What figures were compared with --------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One comparison that somebody's code has written between two figures.

    Attributes:
        left, right: the figures, as they stood on the two sides.
        relation: ``<``, ``<=``, ``>`` or ``>=``.
        holds: what came of it.
        file, line: where it is written.
        columns: where in the line it begins and ends.
    """

    left: float
    relation: str
    right: float
    holds: bool
    file: str
    line: int
    columns: tuple[int, int]


_note: Callable[[Comparison], None] | None = None


@contextmanager
def comparing() -> Generator[list[Comparison]]:
    """Note the comparisons of figures in the block, but those of this package's own code."""
    global _note
    outer, noted = _note, list[Comparison]()
    _note = noted.append
    try:
        yield noted
    finally:
        _note = outer


def _compared(left: float, relation: str, right: float, holds: bool) -> bool:
    if _note is not None:
        frame = sys._getframe(2)
        code = frame.f_code
        # Not what sorts or takes a maximum: that is no claim.
        if not code.co_filename.startswith(_HERE) and code.co_code[frame.f_lasti] == _COMPARE:
            where = next(islice(code.co_positions(), frame.f_lasti // 2, None))
            line, _, begin, end = (number or 0 for number in where)
            _note(
                Comparison(
                    left=left,
                    relation=relation,
                    right=right,
                    holds=holds,
                    file=code.co_filename,
                    line=line,
                    columns=(begin, end),
                )
            )
    return holds


def _missed(figure: float, op: str, limit: object, *, reflected: bool) -> list[str] | None:
    about, tolerance = getattr(limit, "expected", None), getattr(limit, "tolerance", None)
    if op == "==" and isinstance(about, float) and isinstance(tolerance, float):
        # pytest.approx cannot print a tolerance that has a unit.
        return [f"{figure} == {about} ± {tolerance}", f"it is {abs(figure - about)} away"]
    if op not in ("<", "<=", ">", ">=") or not isinstance(limit, (int, float)) or limit == 0:
        return None
    if reflected:
        op = op.translate(str.maketrans("<>", "><"))
    times = float(figure) / float(limit)
    if times >= 2:
        # Percentages above 100 have to be read twice.
        return [f"{figure} {op} {limit}", f"the limit is missed: {times:,.1f} times as much"]
    side = "above" if times > 1 else "below"
    return [f"{figure} {op} {limit}", f"the limit is missed: {abs(times - 1):.1%} {side} it"]


def _three_digits(value: SupportsFloat) -> str:
    number = float(value)
    if math.isinf(number) or math.isnan(number):
        return str(number)
    magnitude = abs(number)
    decimals = 0 if magnitude >= 100 else 1 if magnitude >= 10 else 2
    text = f"{number:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


bit = BitRate(1.0)
kbit = BitRate(1e3)
Mbit = BitRate(1e6)
Gbit = BitRate(1e9)

second = Seconds(1.0)
ms = Seconds(1e-3)
us = Seconds(1e-6)

"""A tool's raw output, compact enough to lie folded behind its figure. Pure.

JSON is laid out anew with every number spelled as the tool spelled it: one line per innermost
object, so that 10 kB of iperf3 output become 6 kB without losing a digit.
"""

from __future__ import annotations

import json

#: All raw outputs of one report together, in characters.
TOTAL_BUDGET = 1_400_000
#: Most that one sample may take of it, and what each gets at least while the budget lasts.
_MOST, _LEAST = 40_000, 4_000


class RawBudget:
    """Shares out what a report can hold, so that it opens at once however much was measured."""

    def __init__(self, samples: int, total: int = TOTAL_BUDGET) -> None:
        self._left = total
        self._share = min(_MOST, max(_LEAST, total // max(1, samples)))

    def take(self, raw: str) -> str | None:
        """What is shown of one output; None where the budget is spent."""
        if self._left <= 0:
            return None
        # Output that would be cut is not laid out: half a document is no JSON.
        shown = compact(raw) if len(raw) < 4 * self._share else raw
        left_out = len(shown) - self._share
        if left_out > 0:
            shown = f"{shown[: self._share]} … ({left_out:,} more characters in the results file)"
        self._left -= len(shown)
        return shown


class _Number(str):
    """A number as it was spelled."""

    __slots__ = ()


def compact(raw: str) -> str:
    """JSON laid out compactly; anything else as it is."""
    text = raw.strip()
    if not text.startswith(("{", "[")):
        return text
    try:
        document = json.loads(
            text, parse_float=_Number, parse_int=_Number, object_pairs_hook=_Pairs
        )
        return _laid_out(document, "")
    except (ValueError, RecursionError):
        return text


class _Pairs(list[tuple[str, object]]):
    """An object as its pairs: a key that comes twice is kept twice."""


def _laid_out(value: object, indent: str) -> str:
    if isinstance(value, _Pairs):
        items = [f"{json.dumps(name)}: {_laid_out(item, indent + ' ')}" for name, item in value]
        nested = any(isinstance(item, list) and item for _, item in value)
        return _bracketed("{", items, "}", nested, indent)
    if isinstance(value, list):
        items = [_laid_out(item, indent + " ") for item in value]
        nested = any(isinstance(item, list) and item for item in value)
        return _bracketed("[", items, "]", nested, indent)
    return value if isinstance(value, _Number) else json.dumps(value, ensure_ascii=False)


def _bracketed(opening: str, items: list[str], closing: str, nested: bool, indent: str) -> str:
    if not nested:
        return opening + ", ".join(items) + closing
    inner = f",\n{indent} ".join(items)
    return f"{opening}\n{indent} {inner}\n{indent}{closing}"

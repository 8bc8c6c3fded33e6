"""Causes of discards in words; those that differ only in their figures are told as one. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

#: How many are listed; the record has them all.
_MOST = 3
#: A number that stands by itself: no part of a name or an address.
_FIGURE = re.compile(r"(?<![\w.:/-])\d+(?:\.\d+)?(?![.:/-]?\w)")


def summed_up(causes: Iterable[str]) -> tuple[list[str], int]:
    """Return the different causes in words, and how many more there are."""
    alike: dict[str, list[str]] = {}
    for cause in causes:
        alike.setdefault(_FIGURE.sub("#", cause), []).append(cause)
    told = [_as_one(several) for several in alike.values()]
    return told[:_MOST], max(0, len(told) - _MOST)


def _as_one(causes: Sequence[str]) -> str:
    ranges = [
        (min(figures, key=float), max(figures, key=float))
        for figures in zip(*map(_FIGURE.findall, causes), strict=True)
    ]
    each = iter(low if float(low) == float(high) else f"{low} to {high}" for low, high in ranges)
    return _FIGURE.sub(lambda _: next(each), causes[0])

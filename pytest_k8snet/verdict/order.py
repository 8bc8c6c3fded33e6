"""The order in which the arms of a pair take their turns: ABBA, from a recorded seed."""

from __future__ import annotations

import random
import secrets

#: Positions of the two arms in the order they run: 0 is the numerator, 1 the baseline.
Order = tuple[int, ...]


def new_seed() -> int:
    """Return a fresh seed, small enough to be typed again from a report."""
    return secrets.randbelow(1_000_000)


def abba(pair: int, seed: int) -> Order:
    """Return which arm runs first and which second in this pair (counted from 0).

    Every second pair is reversed, so a linear drift of the cluster cancels over two pairs. The
    seed draws which arm is the very first.
    """
    first = random.Random(seed).randrange(2)
    return (first, 1 - first) if pair % 2 == 0 else (1 - first, first)

"""What samples show beside their mean: two states (a fast and a slow queue), and bursts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_k8snet.verdict.student import normal_quantile

#: With fewer values the gap rule would raise more false alarms than it is worth.
FEWEST_VALUES = 8
_NORMAL_99 = normal_quantile(0.99)


def two_modes(values: Sequence[float]) -> tuple[int, int] | None:
    """Return the sizes of the lower and upper group, or None when there is one group.

    Two groups: at least eight values, and a gap wider than half their whole range with two or more
    values on each side.
    """
    ordered = sorted(values)
    n = len(ordered)
    if n < FEWEST_VALUES:
        return None
    half_range = (ordered[-1] - ordered[0]) / 2
    for below in range(2, n - 1):
        if ordered[below] - ordered[below - 1] > half_range > 0:
            return below, n - below
    return None


def clumping(events: Sequence[int], sizes: Sequence[int]) -> float:
    """Return how much more the events clump in rounds than independent ones would; at least 1.

    Independent events spread over rounds with the binomial's variance. Where theirs is larger than
    chance explains (at 1 %), the quotient of the two variances is the factor by which the number
    of values overstates what they say: five slow requests of one stall tell of one stall.

    Args:
        events: how many events each round had.
        sizes: how many values each round had.
    """
    rounds, total = len(events), sum(sizes)
    share = sum(events) / total
    if rounds < 2 or share in (0.0, 1.0):
        return 1.0
    squares = sum(
        (count - size * share) ** 2 / (size * share * (1.0 - share))
        for count, size in zip(events, sizes, strict=True)
    )
    freedom = rounds - 1
    # Wilson and Hilferty's approximation of the chi-squared distribution's 99th percentile.
    part = 2.0 / (9.0 * freedom)
    critical = freedom * (1.0 - part + _NORMAL_99 * math.sqrt(part)) ** 3
    return squares / freedom if squares > critical else 1.0

"""Intervals: where the true figure lies, with a stated risk on each side.

Bandwidth is judged by its logarithm: the mean of logarithms is scale-free, antisymmetric (a/b is
the inverse of b/a) and turns noise in per cent into noise that adds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_k8snet.verdict.distributions import (
    fewest_to_reject,
    most_to_accept,
    normal_quantile,
    student_quantile,
)
from pytest_k8snet.verdict.sequential import CountLevels

#: Least standard deviation of the logarithms that is believed: four samples that happen to be
#: equal must not claim certainty.
LEAST_DEVIATION = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its bounds, in the figure's own unit; infinite where nothing bounds it."""

    estimate: float
    low: float
    high: float


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation (n - 1 in the denominator); 0 for fewer than two."""
    n = len(values)
    if n < 2:
        return 0.0
    mean = math.fsum(values) / n
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))


def log_mean_interval(logarithms: Sequence[float], level: float) -> Interval:
    """Return the geometric mean and its t-interval; each bound errs with probability ``level``."""
    n = len(logarithms)
    if n < 2:
        raise ValueError(f"an interval needs two values or more, not {n}")
    mean = math.fsum(logarithms) / n
    error = max(deviation(logarithms), LEAST_DEVIATION) / math.sqrt(n)
    reach = student_quantile(1.0 - level, n - 1) * error
    return Interval(
        estimate=math.exp(mean), low=math.exp(mean - reach), high=math.exp(mean + reach)
    )


def log_ratio_interval(pairs: Sequence[tuple[float, float]], level: float) -> Interval:
    """Return the geometric mean of the pairs' ratios (first over second) and its t-interval."""
    return log_mean_interval([math.log(a / b) for a, b in pairs], level)


def sample_quantile(values: Sequence[float], q: float) -> float:
    """Return the smallest value that at least a share q of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered) - 1e-9) - 1)]


def quantile_interval(
    values: Sequence[float], q: float, levels: CountLevels, overdispersion: float = 1.0
) -> Interval:
    """Return the sample quantile with its exact order-statistic bounds.

    A limit is kept, as far as the counts can show, from ``high`` on; it is missed below ``low``.
    This is the exact binomial test on the number of values above the limit, read backwards. An
    answer that never came is an infinite value.

    Args:
        values: one per request.
        q: the quantile, between 0 and 1.
        levels: the risk of each bound.
        overdispersion: how many values say as much as one independent value does.
    """
    ordered, n = sorted(values), len(values)
    independent = max(1, int(n / overdispersion))
    allowed = math.floor(most_to_accept(independent, 1.0 - q, levels.few) * overdispersion)
    damning = math.ceil(fewest_to_reject(independent, 1.0 - q, levels.many) * overdispersion)
    return Interval(
        estimate=sample_quantile(ordered, q),
        low=ordered[n - damning] if damning <= n else 0.0,
        high=ordered[n - 1 - allowed] if allowed >= 0 else math.inf,
    )


# -- What samples show beside their mean: two states (a fast and a slow queue), and bursts -------

#: With fewer values the gap rule would raise more false alarms than it is worth.
FEWEST_VALUES = 8
_NORMAL_99 = normal_quantile(0.99)


def two_groups(values: Sequence[float]) -> tuple[int, int] | None:
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


def overdispersion(events: Sequence[int], sizes: Sequence[int]) -> float:
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

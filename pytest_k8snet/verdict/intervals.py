"""Intervals: where the true figure lies, with a stated risk on each side.

Bandwidth is judged by its logarithm: the mean of logarithms is scale-free, antisymmetric (a/b is
the inverse of b/a) and turns noise in per cent into noise that adds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from pytest_k8snet.verdict.distributions import (
    fewest_to_reject,
    most_to_accept,
    normal_quantile,
    student_quantile,
    student_quantile_between,
)
from pytest_k8snet.verdict.sequential import CountLevels

#: Least standard deviation of the logarithms that is believed: four samples that happen to be
#: equal must not claim certainty.
LEAST_DEVIATION = 0.01


#: The correlation of neighbouring samples that is always assumed; costs a tenth more pairs.
LEAST_CORRELATION = 0.05
#: More is told as this: the samples then say next to nothing anyway.
MOST_CORRELATION = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its bounds, in the figure's own unit; infinite where nothing bounds it."""

    estimate: float
    low: float
    high: float

    @classmethod
    def of_logarithms(cls, mean: float, reach: float) -> Interval:
        """Return the geometric mean and its bounds, from the logarithms' mean and its reach."""
        return cls(estimate=math.exp(mean), low=math.exp(mean - reach), high=math.exp(mean + reach))


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation (n - 1 in the denominator); 0 for fewer than two."""
    n = len(values)
    if n < 2:
        return 0.0
    mean = math.fsum(values) / n
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))


def log_mean_interval(logarithms: Sequence[float], level: float) -> Interval:
    """Return the geometric mean and its t-interval; each bound errs with probability ``level``.

    The interval is widened for values that depend on those before them.

    Args:
        logarithms: two or more, in the order they came.
        level: one-sided.
    """
    return Interval.of_logarithms(fmean(logarithms), mean_reach(logarithms, level))


def mean_interval(values: Sequence[float], level: float, least: float) -> Interval:
    """Return the arithmetic mean and its t-interval, as :func:`log_mean_interval` does.

    Args:
        values: two or more, in the order they came.
        level: one-sided.
        least: the least standard deviation that is believed.
    """
    mean, reach = fmean(values), mean_reach(values, level, least)
    return Interval(estimate=mean, low=mean - reach, high=mean + reach)


def mean_reach(values: Sequence[float], level: float, least: float = LEAST_DEVIATION) -> float:
    """Return how far each bound of the mean's t-interval lies from it."""
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval needs two values or more, not {n}")
    # Of as many independent values.
    freedom = max(1.0, n / variance_inflation(lag_correlation(values), n) - 1.0)
    return mean_error(values, least) * student_quantile_between(1.0 - level, freedom)


def mean_error(values: Sequence[float], least: float = LEAST_DEVIATION) -> float:
    """Return the standard error of the mean of values that may depend on those before them.

    Args:
        values: in the order they came.
        least: the least standard deviation that is believed.
    """
    n = len(values)
    inflation = variance_inflation(lag_correlation(values), n)
    # Values that resemble their neighbours also spread less around their own mean.
    spread = max(deviation(values), least) * math.sqrt((n - 1) / (n - inflation))
    return spread * math.sqrt(inflation / n)


def lag_correlation(values: Sequence[float], *, floor: float = LEAST_CORRELATION) -> float:
    """Return how much a value resembles the one before it: a cautious estimate, never negative.

    A few values estimate a correlation badly. So what chance may explain is taken off
    (three quarters of a standard error), and what no few values can rule out is put on.

    Args:
        values: in the order they came.
        floor: the correlation that is always assumed.
    """
    n = len(values)
    mean = math.fsum(values) / n
    apart = [value - mean for value in values]
    squares = math.fsum(one * one for one in apart)
    # Equal values differ from their own mean by rounding, and all the same way.
    if n < 3 or max(values) - min(values) <= 1e-9 * max(map(abs, values)):
        return floor
    # The estimate of a correlation of 0 is -1/n on average, with a standard error of 1/sqrt(n).
    raw = math.fsum(a * b for a, b in itertools.pairwise(apart)) / squares + 1.0 / n
    return min(MOST_CORRELATION, floor + max(0.0, raw - 0.75 / math.sqrt(n)))


def variance_inflation(correlation: float, n: int) -> float:
    """Return how many values say as much about a mean as one independent value does.

    Of a first-order autoregression: ``1 + 2 sum (1 - k/n) correlation**k``.
    """
    factor = 1.0 + 2.0 * math.fsum((1.0 - k / n) * correlation**k for k in range(1, n))
    return min(factor, n - 0.5)


def welch_interval(now: Sequence[float], before: Sequence[float], level: float) -> Interval:
    """Return the ratio of two groups' geometric means; each bound errs with chance ``level``.

    Args:
        now: logarithms, two or more.
        before: logarithms, two or more.
        level: one-sided.
    """
    parts = [max(deviation(group), LEAST_DEVIATION) ** 2 / len(group) for group in (now, before)]
    squared = math.fsum(parts)
    freedom = squared**2 / math.fsum(
        part**2 / (len(group) - 1) for part, group in zip(parts, (now, before), strict=True)
    )
    centre = fmean(now) - fmean(before)
    reach = student_quantile(1.0 - level, max(1, math.floor(freedom))) * math.sqrt(squared)
    return Interval.of_logarithms(centre, reach)


def log_ratio_interval(pairs: Sequence[tuple[float, float]], level: float) -> Interval:
    """Return the geometric mean of the pairs' ratios (first over second) and its t-interval."""
    return log_mean_interval([math.log(a / b) for a, b in pairs], level)


def sample_quantile(values: Sequence[float], q: float) -> float:
    """Return the smallest value that at least a share q of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered) - 1e-9) - 1)]


def quantile_interval(
    values: Sequence[float],
    q: float,
    levels: CountLevels,
    inflation: float = 1.0,
    *,
    may_pass: bool = True,
) -> Interval:
    """Return the sample quantile with its exact order-statistic bounds.

    A limit is kept, as far as the counts can show, from ``high`` on; it is missed below ``low``.
    This is the exact binomial test on the number of values above the limit, read backwards. An
    answer that never came is an infinite value.

    Args:
        values: one per request.
        q: the quantile, between 0 and 1.
        levels: the risk of each bound.
        inflation: how many values say as much as one independent value does.
        may_pass: whether enough was watched for the values to bound the quantile from above.
    """
    ordered, n = sorted(values), len(values)
    independent = max(1, int(n / inflation))
    allowed = math.floor(most_to_accept(independent, 1.0 - q, levels.few) * inflation)
    rejected = math.ceil(fewest_to_reject(independent, 1.0 - q, levels.many) * inflation)
    return Interval(
        estimate=sample_quantile(ordered, q),
        low=ordered[n - rejected] if rejected <= n else 0.0,
        high=ordered[n - 1 - allowed] if may_pass and allowed >= 0 else math.inf,
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

    Independent events spread over rounds with the binomial's variance. The quotient of the two
    variances is the factor by which the number of values overstates what they say: five slow
    requests of one stall tell of one stall. What of it chance may explain is left in: in few
    rounds, stalls do not stand out from chance, and would be counted as so many slow requests.

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
    return max(1.0, squares / (rounds - 1))


def chance_overdispersion(rounds: int) -> float:
    """Return the overdispersion that independent events exceed in one of a hundred samples."""
    if rounds < 2:
        return 1.0
    # Wilson and Hilferty's approximation of the chi-squared distribution's 99th percentile.
    part = 2.0 / (9.0 * (rounds - 1))
    return (1.0 - part + _NORMAL_99 * math.sqrt(part)) ** 3

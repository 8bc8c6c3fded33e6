"""Intervals: where the true figure lies, with a stated risk on each side.

Bandwidth is judged by its logarithm: the mean of logarithms is scale-free, antisymmetric (a/b is
the inverse of b/a) and turns noise in per cent into noise that adds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_k8snet.verdict.binomial import fewest_damning, most_allowed
from pytest_k8snet.verdict.looks import CountLevels
from pytest_k8snet.verdict.student import student_quantile

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
    values: Sequence[float], q: float, levels: CountLevels, clumping: float = 1.0
) -> Interval:
    """Return the sample quantile with its exact order-statistic bounds.

    A limit is kept, as far as the counts can show, from ``high`` on; it is missed below ``low``.
    This is the exact binomial test on the number of values above the limit, read backwards. An
    answer that never came is an infinite value.

    Args:
        values: one per request.
        q: the quantile, between 0 and 1.
        levels: the risk of each bound.
        clumping: how many values say as much as one independent value does.
    """
    ordered, n = sorted(values), len(values)
    independent = max(1, int(n / clumping))
    allowed = math.floor(most_allowed(independent, 1.0 - q, levels.few) * clumping)
    damning = math.ceil(fewest_damning(independent, 1.0 - q, levels.many) * clumping)
    return Interval(
        estimate=sample_quantile(ordered, q),
        low=ordered[n - damning] if damning <= n else 0.0,
        high=ordered[n - 1 - allowed] if allowed >= 0 else math.inf,
    )

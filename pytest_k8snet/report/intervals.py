"""Intervals that the report states beside figures which no gate judged. Pure.

A gate's own interval (repeated looks, paired samples) comes with its verdict record and is never
computed anew here. These are the plain ones: a fixed number of samples, looked at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from pytest_k8snet.verdict.distributions import normal_quantile, student_quantile
from pytest_k8snet.verdict.questions import welch_interval

#: Confidence of every interval of this module.
LEVEL = 0.95
#: Above this many degrees of freedom the normal distribution stands in: the error is below 1 %.
_MANY = 200


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its interval; ``low`` and ``high`` are None where there is only one sample."""

    value: float
    low: float | None = None
    high: float | None = None


def mean(values: Sequence[float]) -> Estimate:
    """The mean of independent samples with its t-interval."""
    value = fmean(values)
    if len(values) < 2:
        return Estimate(value)
    half = _t(len(values) - 1) * math.sqrt(variance(values) / len(values))
    return Estimate(value, value - half, value + half)


def ratio_of_means(after: Sequence[float], before: Sequence[float]) -> Estimate | None:
    """The ratio of two separate groups of samples, by Welch's interval on their logarithms.

    The groups are not paired and may vary differently.

    Returns:
        The ratio of the geometric means; without an interval where a group has one sample only;
        None where a figure is not positive.
    """
    if not after or not before or min(*after, *before, 1.0) <= 0:
        return None
    logs_after, logs_before = [math.log(x) for x in after], [math.log(x) for x in before]
    if len(after) < 2 or len(before) < 2:
        return Estimate(math.exp(fmean(logs_after) - fmean(logs_before)))
    found = welch_interval(logs_after, logs_before, (1 - LEVEL) / 2)
    return Estimate(found.estimate, found.low, found.high)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (no interpolation).

    Args:
        ordered: the values, ascending, at least one.
        share: between 0 and 1.
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _t(freedom: int) -> float:
    share = 1 - (1 - LEVEL) / 2
    return normal_quantile(share) if freedom > _MANY else student_quantile(share, freedom)

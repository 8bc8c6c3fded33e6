"""Distributions: binomial with exact (Clopper-Pearson) bounds for a share, Student's t, normal.

Tails are summed outwards from their largest term, so that they keep their relative precision.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist


def binomial_pmf(k: int, n: int, p: float) -> float:
    """Return P(X = k) for X binomial with n trials of probability p."""
    if not 0 <= k <= n:
        return 0.0
    if p <= 0.0 or p >= 1.0:
        return float(k == (n if p >= 1.0 else 0))
    if n <= 1000:
        # The logarithm of an integer of any size is exact; the integer may not fit a float.
        return math.exp(math.log(math.comb(n, k)) + k * math.log(p) + (n - k) * math.log1p(-p))
    log_choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log_choose + k * math.log(p) + (n - k) * math.log1p(-p))


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Return P(X <= k) for X binomial with n trials of probability p."""
    if k < 0:
        return 0.0
    if k >= n:
        return 1.0
    if k < n * p:
        return _lower_sum(k, n, p)
    return 1.0 - _lower_sum(n - k - 1, n, 1.0 - p)


def binomial_tail(k: int, n: int, p: float) -> float:
    """Return P(X >= k) for X binomial with n trials of probability p."""
    return binomial_cdf(n - k, n, 1.0 - p)


@lru_cache(maxsize=8192)
def exceedance_bounds(k: int, n: int, level: float) -> tuple[float, float]:
    """Return the exact lower and upper bound of a probability, from k events in n trials.

    Each bound is one-sided: it is wrong with a probability of at most ``level``.
    """
    if not 0 <= k <= n or n < 1:
        raise ValueError(f"{k} events in {n} trials is no sample")
    low = 0.0 if k == 0 else _root(lambda p: binomial_tail(k, n, p) - level)
    high = 1.0 if k == n else _root(lambda p: level - binomial_cdf(k, n, p))
    return low, high


def most_to_accept(n: int, p: float, level: float) -> int:
    """Return the largest k whose upper bound is at most p; -1 when even k = 0 is too many."""
    return bisect_left(range(n + 1), True, key=lambda k: binomial_cdf(k, n, p) > level) - 1


def fewest_to_reject(n: int, p: float, level: float) -> int:
    """Return the smallest k whose lower bound is above p; n + 1 when there is none."""
    return bisect_left(range(n + 1), True, key=lambda k: binomial_tail(k, n, p) < level)


def _lower_sum(k: int, n: int, p: float) -> float:
    term = total = binomial_pmf(k, n, p)
    odds = (1.0 - p) / p if p > 0.0 else 0.0
    while k > 0 and term > total * 1e-18:
        term *= k * odds / (n - k + 1)
        total += term
        k -= 1
    return min(1.0, total)


def _root(rising: Callable[[float], float], low: float = 0.0, high: float = 1.0) -> float:
    while True:
        middle = (low + high) / 2
        if not low < middle < high:
            return middle
        if rising(middle) < 0.0:
            low = middle
        else:
            high = middle


# -- Student's t and the normal distribution, exactly, from the standard library -----------------
#
# The distribution function is the finite trigonometric series for whole degrees of freedom
# (Abramowitz & Stegun 26.7.3 and 26.7.4); the quantile is its inverse by bisection.


_HALF_PI = math.pi / 2


def student_cdf(t: float, dof: int) -> float:
    """Return P(T <= t) for Student's t with a whole number of degrees of freedom."""
    tail = _tail(abs(t), dof)
    return tail if t < 0 else 1.0 - tail


@lru_cache(maxsize=8192)
def student_quantile(probability: float, dof: int) -> float:
    """Return t with P(T <= t) = probability, for Student's t with ``dof`` degrees of freedom.

    Raises:
        ValueError: the probability is not strictly between 0 and 1, or dof < 1.
    """
    if not 0.0 < probability < 1.0:
        raise ValueError(f"a quantile needs a probability between 0 and 1, not {probability}")
    if probability < 0.5:
        return -_upper_quantile(probability, dof)
    return _upper_quantile(1.0 - probability, dof)


def student_quantile_between(probability: float, dof: float) -> float:
    """Return Student's quantile for degrees of freedom that need not be whole, 1 or more.

    Between whole numbers the quantile is nearly a straight line in 1 / dof.
    """
    below = max(1, math.floor(dof))
    low, high = student_quantile(probability, below), student_quantile(probability, below + 1)
    share = (1.0 / below - 1.0 / max(dof, below)) / (1.0 / below - 1.0 / (below + 1))
    return low + min(1.0, share) * (high - low)


def normal_quantile(probability: float) -> float:
    """Return z with P(Z <= z) = probability, for the standard normal distribution."""
    return NormalDist().inv_cdf(probability)


def _tail(t: float, dof: int) -> float:
    """Return P(T > t) for t >= 0."""
    if dof < 1:
        raise ValueError(f"Student's t needs 1 degree of freedom or more, not {dof}")
    theta = math.atan2(t, math.sqrt(dof))
    sine, square = math.sin(theta), math.cos(theta) ** 2
    if dof == 1:
        return math.atan2(1.0, t) / math.pi
    odd = dof % 2
    term = total = math.cos(theta) if odd else 1.0
    for step in range(2 if odd else 1, dof - 2, 2):
        term *= square * step / (step + 1)
        total += term
    central = (theta + sine * total) / _HALF_PI if odd else sine * total
    return max(0.0, (1.0 - central) / 2)


def _upper_quantile(tail: float, dof: int) -> float:
    if tail >= 0.5:
        return 0.0
    low, high = 0.0, 1.0
    while _tail(high, dof) > tail:
        low, high = high, high * 2
    return _root(lambda t: tail - _tail(t, dof), low, high)

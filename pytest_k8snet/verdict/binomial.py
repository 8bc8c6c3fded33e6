"""The binomial distribution, and exact (Clopper-Pearson) bounds for a share.

Tails are summed outwards from their largest term, so that they keep their relative precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable


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


def exceedance_bounds(k: int, n: int, level: float) -> tuple[float, float]:
    """Return the exact lower and upper bound of a probability, from k events in n trials.

    Each bound is one-sided: it is wrong with a probability of at most ``level``.
    """
    if not 0 <= k <= n or n < 1:
        raise ValueError(f"{k} events in {n} trials is no sample")
    low = 0.0 if k == 0 else _root(lambda p: binomial_tail(k, n, p) - level)
    high = 1.0 if k == n else _root(lambda p: level - binomial_cdf(k, n, p))
    return low, high


def most_allowed(n: int, p: float, level: float) -> int:
    """Return the largest k whose upper bound is at most p; -1 when even k = 0 is too many."""
    return _first(lambda k: binomial_cdf(k, n, p) > level, n) - 1


def fewest_damning(n: int, p: float, level: float) -> int:
    """Return the smallest k whose lower bound is above p; n + 1 when there is none."""
    return _first(lambda k: binomial_tail(k, n, p) < level, n)


def _first(true_from_here: Callable[[int], bool], n: int) -> int:
    """Return the smallest k in 0..n at which a monotone condition holds, n + 1 if nowhere."""
    low, high = 0, n + 1
    while low < high:
        middle = (low + high) // 2
        if true_from_here(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _lower_sum(k: int, n: int, p: float) -> float:
    term = total = binomial_pmf(k, n, p)
    odds = (1.0 - p) / p if p > 0.0 else 0.0
    while k > 0 and term > total * 1e-18:
        term *= k * odds / (n - k + 1)
        total += term
        k -= 1
    return min(1.0, total)


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    while True:
        middle = (low + high) / 2
        if not low < middle < high:
            return middle
        if rising(middle) < 0.0:
            low = middle
        else:
            high = middle

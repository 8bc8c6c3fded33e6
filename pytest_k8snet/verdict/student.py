"""Student's t and the normal distribution, exactly, from the standard library.

The distribution function is the finite trigonometric series for whole degrees of freedom
(Abramowitz & Stegun 26.7.3 and 26.7.4); the quantile is its inverse by bisection.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

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
    while True:
        middle = (low + high) / 2
        if not low < middle < high:
            return middle
        if _tail(middle, dof) > tail:
            low = middle
        else:
            high = middle

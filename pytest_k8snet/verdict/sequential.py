"""How strict each look must be, so that looking after every pair costs no more than alpha.

A test that looks at its interval after each pair, and stops when it clears the limit, has many
chances to be wrong. So each look uses a smaller one-sided level, the same at each (the repeated
confidence intervals of Jennison and Turnbull in Pocock's shape): over all looks together, the
chance of a wrong verdict with the true value exactly at the limit is then alpha.

That chance is computed, not simulated. Let u = sum(x) / sqrt(sum(x**2)), which is a function of
the t statistic. One more normal x turns u into ``u * cos(w) + sin(w)``, where w is independent of
the past with a density proportional to cos(w)**(n - 1). So u is a Markov chain, and the chance to
cross the boundary at any look is one backward recursion on a grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pytest_k8snet.verdict.distributions import (
    binomial_pmf,
    fewest_to_reject,
    most_to_accept,
    student_cdf,
    student_quantile,
)

_HALF_PI = math.pi / 2
_GRID = 100
_SIMPSON = 20
# The part of alpha that may stay unspent.
_SPARE = 0.004


@lru_cache(maxsize=256)
def per_look_level(first: int, last: int, alpha: float) -> float:
    """Return the one-sided level of each look, for looks after every pair from first to last.

    The result never spends more than alpha. The numerical error is on the strict side: below 1 %
    of alpha for up to 30 looks, 2 % for 60.

    Raises:
        ValueError: no such sequence of looks, or alpha is not between 0 and 0.5.
    """
    if not 2 <= first <= last or not 0.0 < alpha < 0.5:
        raise ValueError(f"no looks from {first} to {last} pairs at a risk of {alpha}")
    if first == last:
        return alpha
    # Bonferroni spends too little, one look's level too much. In logarithms the chance is nearly
    # a straight line between them, so the false position method needs few steps.
    strict, loose = math.log(alpha / (last - first + 1)), math.log(alpha)
    spare = math.log(alpha) - math.log(crossing_probability(first, last, math.exp(strict)))
    excess = math.log(crossing_probability(first, last, alpha)) - math.log(alpha)
    while spare > _SPARE:
        # Aim a little on the strict side: a result below alpha ends the search.
        middle = strict + (loose - strict) * (spare - _SPARE / 2) / (spare + excess)
        off = math.log(crossing_probability(first, last, math.exp(middle)) / alpha)
        if off > 0:
            loose, excess = middle, off
        else:
            strict, spare = middle, -off
    return math.exp(strict)


def crossing_probability(first: int, last: int, level: float, *, fineness: int = 1) -> float:
    """Return the chance that a t-bound at ``level`` clears the true value at any look.

    ``fineness`` multiplies the points of the grid. The interpolation errs upwards.
    """
    after: _Look | None = None
    for n in range(last, first - 1, -1):
        after = _Look.before(after, n, level, _GRID * fineness, _SIMPSON * fineness)
    assert after is not None
    return after.average()


@dataclass(frozen=True, slots=True)
class _Look:
    """The chance to cross at a look of n pairs or later, as a function of u at that look."""

    n: int
    bound: float
    grid: list[float]
    chance: list[float]

    @classmethod
    def before(cls, after: _Look | None, n: int, level: float, points: int, steps: int) -> _Look:
        quantile = student_quantile(1.0 - level, n - 1)
        bound = quantile * math.sqrt(n / (n - 1 + quantile * quantile))
        low = -math.sqrt(n)
        # Closer together towards the bound, where the chance rises.
        grid = [low + (bound - low) * math.sin(_HALF_PI * i / points) for i in range(points + 1)]
        chance = [0.0 if after is None else after.chance_from(u, n, steps) for u in grid]
        return cls(n, bound, grid, chance)

    def chance_from(self, u: float, n: int, steps: int) -> float:
        """Return the chance to cross here or later, when u was reached at n = self.n - 1 pairs."""
        top = math.atan2(1.0, u)
        reach = math.hypot(1.0, u)
        left = right = min(top, _HALF_PI)
        total = 0.0
        if self.bound < reach:
            width = math.acos(self.bound / reach)
            left, right = min(top - width, _HALF_PI), min(top + width, _HALF_PI)
            root = math.sqrt(n)
            total = student_cdf(math.tan(right) * root, n) - student_cdf(math.tan(left) * root, n)
        return (
            total
            + self._later(u, n, -_HALF_PI, left, steps)
            + self._later(u, n, right, _HALF_PI, steps)
        )

    def _later(self, u: float, n: int, start: float, end: float, steps: int) -> float:
        """Integrate the chance to cross after this look, over the w that do not cross at it."""
        if end - start < 1e-9 or self.chance[-1] == 0.0:
            return 0.0
        width = (end - start) / steps
        total = 0.0
        for step in range(steps + 1):
            w = start + step * width
            cosine = math.cos(w)
            weight = 1 if step in (0, steps) else 4 if step % 2 else 2
            total += weight * self._at(u * cosine + math.sin(w)) * max(cosine, 0.0) ** (n - 1)
        density = math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2)) / math.sqrt(math.pi)
        return total * width / 3 * density

    def _at(self, u: float) -> float:
        low, points = self.grid[0], len(self.grid) - 1
        where = min(1.0, max(0.0, (u - low) / (self.bound - low)))
        i = min(int(math.asin(where) / _HALF_PI * points), points - 1)
        share = (u - self.grid[i]) / (self.grid[i + 1] - self.grid[i])
        return self.chance[i] + share * (self.chance[i + 1] - self.chance[i])

    def average(self) -> float:
        """Return the chance to cross at this look or later, over all samples of n pairs."""
        n = self.n
        below = [0.0] + [
            student_cdf(u * math.sqrt((n - 1) / (n - u * u)), n - 1) for u in self.grid[1:]
        ]
        return (1.0 - below[-1]) + sum(
            (below[i + 1] - below[i]) * (self.chance[i] + self.chance[i + 1]) / 2
            for i in range(len(below) - 1)
        )


# -- Levels for looks at a count of events: how many exceedances decide, and when ----------------
#
# The same idea for "at most a share p of the requests may exceed the limit": looks at fixed numbers
# of requests, exact binomial bounds at each, and over all looks together a risk of at most alpha on
# each side. The two sides get levels of their own: few requests can reject, many must accept.


_NEGLIGIBLE = 1e-16


@dataclass(frozen=True, slots=True, kw_only=True)
class CountLevels:
    """The one-sided levels of each look: ``few`` bounds the share above, ``many`` below."""

    few: float
    many: float


def fewest_trials(share: float, level: float) -> int:
    """Return how many trials without one event show that events have at most this share."""
    return math.ceil(math.log(level) / math.log1p(-share) - 1e-9)


@lru_cache(maxsize=256)
def count_levels(share: float, looks: tuple[int, ...], alpha: float) -> CountLevels:
    """Return the levels for looks at these numbers of trials; each side spends at most alpha.

    Args:
        share: the share of events that the limit allows, between 0 and 1.
        looks: the numbers of trials at which the verdict may fall, rising.
        alpha: the risk of a wrong verdict on each side, when the true share is exactly ``share``.
    """
    if not looks or list(looks) != sorted(set(looks)) or looks[0] < 1:
        raise ValueError(f"looks must rise from 1: {looks}")
    if not 0.0 < share < 1.0 or not 0.0 < alpha < 0.5:
        raise ValueError(f"no levels for a share of {share} at a risk of {alpha}")
    return CountLevels(
        few=_level(lambda level: _chance_few(share, looks, level), looks, alpha),
        many=_level(lambda level: _chance_many(share, looks, level), looks, alpha),
    )


def _level(chance: Callable[[float], float], looks: Sequence[int], alpha: float) -> float:
    """Return the largest level that spends at most alpha (the chance is a step function of it)."""
    if chance(alpha) <= alpha:
        return alpha
    strict, loose = alpha / len(looks), alpha
    while loose / strict > 1.005:
        middle = math.sqrt(strict * loose)
        if chance(middle) > alpha:
            loose = middle
        else:
            strict = middle
    return strict


def _chance_few(share: float, looks: Sequence[int], level: float) -> float:
    """Return the chance that at some look the events are few enough to accept."""
    allowed = [most_to_accept(n, share, level) for n in looks]
    spent, alive = 0.0, [1.0]
    for step, most in zip(_steps(looks), allowed, strict=True):
        # A count never falls, so what is above the last threshold can be forgotten.
        alive = _add(alive, step, share, allowed[-1])
        spent += sum(alive[: most + 1])
        alive[: most + 1] = [0.0] * len(alive[: most + 1])
    return spent


def _chance_many(share: float, looks: Sequence[int], level: float) -> float:
    """Return the chance that at some look the events are many enough to reject."""
    rejecting = [fewest_to_reject(n, share, level) for n in looks]
    alive = [1.0]
    for step, fewest in zip(_steps(looks), rejecting, strict=True):
        alive = _add(alive, step, share, fewest - 1)
    return max(0.0, 1.0 - sum(alive))


def _steps(looks: Sequence[int]) -> list[int]:
    return [n - before for before, n in zip((0, *looks), looks, strict=False)]


def _add(alive: Sequence[float], trials: int, share: float, most: int) -> list[float]:
    """Return the distribution of the count after more trials, cut off above ``most``."""
    result = [0.0] * (most + 1)
    more = [(k, binomial_pmf(k, trials, share)) for k in range(min(trials, most) + 1)]
    more = [(k, chance) for k, chance in more if chance > _NEGLIGIBLE]
    for count, weight in enumerate(alive[: most + 1]):
        if weight > 0.0:
            for k, chance in more:
                if count + k > most:
                    break
                result[count + k] += weight * chance
    return result

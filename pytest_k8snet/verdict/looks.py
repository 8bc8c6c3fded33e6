"""Levels for looks at a count of events: how many exceedances decide, and when.

The same idea as :mod:`~pytest_k8snet.verdict.levels`, for "at most a share p of the requests may
exceed the limit": looks at fixed numbers of requests, exact binomial bounds at each, and over all
looks together a risk of at most alpha on each side. The two sides get levels of their own, since
few requests can damn but many are needed to acquit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pytest_k8snet.verdict.binomial import (
    binomial_pmf,
    fewest_damning,
    most_allowed,
)

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
    """Return the chance that at some look the events are few enough to acquit."""
    allowed = [most_allowed(n, share, level) for n in looks]
    spent, alive = 0.0, [1.0]
    for step, most in zip(_steps(looks), allowed, strict=True):
        # A count never falls, so what is above the last threshold can be forgotten.
        alive = _add(alive, step, share, allowed[-1])
        spent += sum(alive[: most + 1])
        alive[: most + 1] = [0.0] * len(alive[: most + 1])
    return spent


def _chance_many(share: float, looks: Sequence[int], level: float) -> float:
    """Return the chance that at some look the events are many enough to damn."""
    damning = [fewest_damning(n, share, level) for n in looks]
    alive = [1.0]
    for step, fewest in zip(_steps(looks), damning, strict=True):
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

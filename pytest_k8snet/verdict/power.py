"""How many samples a verdict would take, and what a cluster can resolve: estimates for messages."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_k8snet.verdict.intervals import LEAST_DEVIATION, deviation
from pytest_k8snet.verdict.plan import MOST_PAIRS
from pytest_k8snet.verdict.student import normal_quantile, student_quantile

#: The chance to decide that the estimates aim at.
POWER = 0.8
#: More pairs than this are not worth naming: no plan may have them.
MOST_NAMED = MOST_PAIRS


def pairs_needed(sd: float, margin: float, level: float, *, power: float = POWER) -> int | None:
    """Return how many pairs would decide, or None for more than :data:`MOST_NAMED`.

    Args:
        sd: standard deviation of the logarithms of the pairs' ratios.
        margin: distance of the ratio from the limit, as logarithms.
        level: the one-sided level of a look.
        power: the chance to decide by then.
    """
    distance = abs(margin)
    error = max(sd, LEAST_DEVIATION)
    z_power = normal_quantile(power)
    if distance * math.sqrt(MOST_NAMED) < (normal_quantile(1.0 - level) + z_power) * error:
        return None
    n = 2
    while n < MOST_NAMED:
        reach = (student_quantile(1.0 - level, n - 1) + z_power) * error / math.sqrt(n)
        if reach <= distance:
            return n
        n += 1
    return None


def requests_needed(
    share: float, allowed: float, level: float, *, power: float = POWER
) -> int | None:
    """Return how many requests would decide, when this share of them exceeds the limit.

    Args:
        share: the share that exceeded the limit so far.
        allowed: the share that may exceed it.
        level: the one-sided level of a look.
        power: the chance to decide by then.
    """
    distance = abs(share - allowed)
    if distance < allowed * 0.05:
        return None
    spread = normal_quantile(1.0 - level) * math.sqrt(allowed * (1.0 - allowed)) + normal_quantile(
        power
    ) * math.sqrt(share * (1.0 - share))
    return math.ceil((spread / distance) ** 2)


def resolution(logarithms: Sequence[float]) -> float:
    """Return the standard deviation of one pair's ratio, as a share of the ratio (0.04 is 4 %).

    From pairs of the same against the same (an A/A measurement), it is the cluster's resolution:
    a plan of 4 to 20 pairs decides nearly always when the ratio lies this far from the limit.
    """
    return math.expm1(max(deviation(logarithms), LEAST_DEVIATION))


def too_close(ratio: float, limit: float, spread: float) -> bool:
    """Tell whether a limit lies so near to a ratio that a plan will often not decide.

    Args:
        ratio: what is expected.
        limit: what it is compared with.
        spread: of one pair's ratio, as a share of it.
    """
    return abs(math.log(ratio / limit)) < math.log1p(spread)

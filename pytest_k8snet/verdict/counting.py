"""Questions that are answered by counting: percentiles, and shares of pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.errors import SettingsError
from pytest_k8snet.verdict.binomial import exceedance_bounds
from pytest_k8snet.verdict.intervals import Interval, quantile_interval
from pytest_k8snet.verdict.looks import CountLevels, count_levels, fewest_trials
from pytest_k8snet.verdict.modes import clumping
from pytest_k8snet.verdict.plan import Plan
from pytest_k8snet.verdict.power import requests_needed
from pytest_k8snet.verdict.question import (
    FEWEST_REQUESTS,
    Finding,
    Mean,
    Relation,
    Round,
    check_limit,
    clears,
    quantile_name,
)

#: Requests are spread over at least so many rounds, since slow requests come in bursts.
FEWEST_ROUNDS = 5
#: How often the first look's number of requests may double.
_DOUBLINGS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile:
    """Is a percentile of the requests on this side of the limit?

    "p99 <= L" is "at most 1 % of the requests exceed L": exceedances are counted and judged by the
    exact binomial distribution. Requests without a good answer exceed every limit.
    """

    figure: str
    q: float
    unit: str = "s"

    @property
    def quantity(self) -> str:
        """What is judged, in words."""
        return f"{self.figure} {quantile_name(self.q)}"

    @property
    def noun(self) -> str:
        """What is counted."""
        return "requests"

    @property
    def share(self) -> float:
        """The share of requests that may exceed the limit."""
        return round(1.0 - self.q, 12)

    def check(self, plan: Plan, relation: Relation, limit: float) -> None:
        """Refuse a plan with too few requests for the percentile."""
        check_limit(limit, self.quantity)
        least = fewest_trials(self.share, plan.alpha)
        if plan.requests is not None and plan.requests < least:
            name, n = quantile_name(self.q), plan.requests
            risk = (1.0 - self.share) ** n
            raise SettingsError(
                f"{name} cannot be judged from {n} requests: even if none exceeds the limit, "
                "that does not show it",
                found=f"{n} requests within the limit come about with probability {risk:.3f} on a "
                f"cluster where {self.share:.2g} of all exceed it; the plan's risk is "
                f"{plan.alpha:g}",
                remedy=f"allow {least} requests or more (requests={least} in the plan)"
                + (f", or judge {_lower(self.q, n, plan.alpha)}" if n >= 5 else ""),
            )

    def looks(self, plan: Plan) -> tuple[int, ...]:
        """Return the numbers of requests at which the verdict may fall, each twice the one before.

        At the first, requests without an exceedance can show the limit kept. A plan that names
        many requests looks later too, not more often: it asks to watch for longer.
        """
        # Two fifths of alpha are what the first of four looks, each twice as far, may spend.
        clean = fewest_trials(self.share, 0.4 * plan.alpha)
        start = FEWEST_ROUNDS * max(FEWEST_REQUESTS, math.ceil(clean / FEWEST_ROUNDS))
        doublings = _DOUBLINGS
        if plan.requests is not None:
            while doublings and plan.requests >> doublings < start:
                doublings -= 1
            # Rounded up to rounds of equal size, so never below what was asked for.
            start = FEWEST_ROUNDS * math.ceil(plan.requests / (FEWEST_ROUNDS << doublings))
        return tuple(start << i for i in range(doublings + 1))

    def requests(self, plan: Plan) -> int:
        """Requests in one round: a fifth of the first look."""
        return self.looks(plan)[0] // FEWEST_ROUNDS

    def most(self, plan: Plan) -> int:
        """Requests at most."""
        return self.looks(plan)[-1]

    def rounds_at_most(self, plan: Plan) -> int:
        """Rounds at most."""
        return self.most(plan) // self.requests(plan)

    def find(
        self, rounds: Sequence[Round], plan: Plan, relation: Relation, limit: float
    ) -> Finding | None:
        """Look at the requests up to the last look that they reach."""
        looks = self.looks(plan)
        total = sum(len(arms[0]) for arms in rounds)
        n = max((look for look in looks if look <= total), default=0)
        if n == 0:
            return None
        used = _prefix(rounds, n)
        values = [value for part in used for value in part]
        levels = count_levels(self.share, looks, plan.alpha)
        over = [sum(v >= limit if relation == "<" else v > limit for v in part) for part in used]
        clumps = clumping(over, [len(part) for part in used])
        interval = quantile_interval(values, self.q, levels, clumps)
        state, needed = clears(interval, relation, limit), None
        if state == "open":
            needed = requests_needed(sum(over) / n, self.share, levels.few)
            needed = max(n + 1, math.ceil(needed * clumps)) if needed is not None else None
        bursts = (
            f"slow requests come in bursts: {max(over)} of {sum(over)} in one of {len(over)} "
            f"rounds; {clumps:.1f} requests tell as much as one independent one would"
        )
        return Finding(
            state=state,
            interval=interval,
            low_level=levels.many,
            high_level=levels.few,
            n=n,
            needed=needed,
            warnings=(bursts,) if clumps > 1.0 else (),
            counts=(
                ("over the limit", sum(over)),
                ("without a good answer", sum(math.isinf(value) for value in values)),
                ("rounds", len(used)),
            ),
        )

    def to_record(self) -> dict[str, Any]:
        """Return the question as a JSON-safe dict."""
        return {"kind": "quantile", "figure": self.figure, "q": self.q, "unit": self.unit}


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Is the share of pairs (or connections) beyond a threshold on this side of the limit?

    A mean hides a slow connection in ten; this counts them.
    """

    of: Mean
    threshold: float
    above: bool

    @property
    def figure(self) -> str:
        """Name of the figure among an observation's figures."""
        return self.of.figure

    @property
    def unit(self) -> str:
        """A share has none."""
        return ""

    @property
    def quantity(self) -> str:
        """What is judged, in words."""
        return f"share of {self.of.noun}"

    @property
    def noun(self) -> str:
        """What is counted."""
        return self.of.noun

    def check(self, plan: Plan, relation: Relation, limit: float) -> None:
        """Refuse a plan with too few pairs for the share."""
        check_limit(self.threshold, self.of.quantity)
        if not 0.0 < limit < 1.0:
            raise SettingsError(
                "a share must be compared with a number between 0 and 1",
                found=f"limit {limit:g}",
                remedy="to ask for all of them, take the share you could bear: no finite number of "
                "connections shows that none is slow",
            )
        rare = 1.0 - limit if relation in (">=", ">") else limit
        least = fewest_trials(rare, plan.alpha)
        if plan.last < least:
            raise SettingsError(
                f"a share {relation} {limit:g} cannot be judged from {plan.last} {self.noun}",
                found=f"it takes {least} {self.noun} at a risk of {plan.alpha:g}, even if every "
                "one is good",
                remedy=f"allow last={least} in the plan, or more",
            )

    def requests(self, plan: Plan) -> int:
        """Requests of one arm in one round; 0 for bandwidth."""
        return self.of.requests(plan)

    def most(self, plan: Plan) -> int:
        """Pairs or connections at most."""
        return plan.last

    rounds_at_most = most

    def find(
        self, rounds: Sequence[Round], plan: Plan, relation: Relation, limit: float
    ) -> Finding | None:
        """Look at the share and its exact bounds."""
        n = min(len(rounds), plan.last)
        if n < plan.first:
            return None
        edge = math.log(self.threshold)
        logarithms = self.of.logarithms(rounds[:n])
        good = sum((x >= edge) if self.above else (x <= edge) for x in logarithms)
        levels = self._levels(plan, limit)
        interval = Interval(
            estimate=good / n,
            low=1.0 - exceedance_bounds(n - good, n, levels.few)[1],
            high=1.0 - exceedance_bounds(n - good, n, levels.many)[0],
        )
        state = clears(interval, relation, limit)
        needed = requests_needed(1 - good / n, 1 - limit, levels.few) if state == "open" else None
        return Finding(
            state=state,
            interval=interval,
            low_level=levels.few,
            high_level=levels.many,
            n=n,
            needed=max(needed, n + 1) if needed is not None else None,
            counts=(("above" if self.above else "below", good),),
        )

    @staticmethod
    def _levels(plan: Plan, limit: float) -> CountLevels:
        looks = tuple(range(plan.first, plan.last + 1))
        return count_levels(round(1.0 - limit, 12), looks, plan.alpha)

    def to_record(self) -> dict[str, Any]:
        """Return the question as a JSON-safe dict."""
        record = {"kind": "share", "threshold": self.threshold, "above": self.above}
        return {**record, "of": self.of.to_record()}


def _prefix(rounds: Sequence[Round], n: int) -> list[tuple[float, ...]]:
    """Return the first n requests, still in their rounds."""
    used: list[tuple[float, ...]] = []
    for arms in rounds:
        part = arms[0][:n]
        n -= len(part)
        if part:
            used.append(part)
    return used


def _lower(q: float, requests: int, alpha: float) -> str:
    """Name the highest usual percentile that so many requests can show."""
    for lower in (0.99, 0.95, 0.9, 0.5):
        if lower < q and fewest_trials(1.0 - lower, alpha) <= requests:
            return quantile_name(lower)
    return "a lower percentile"

"""Percentiles of latency: does at most this share of the requests exceed the limit?

"p99 <= L" is "at most 1 % of the requests exceed L": exceedances are counted and judged by the
exact binomial distribution: no interpolation, no assumption on the shape.

Slow requests come in stalls, and a stall that was not met leaves no trace. So a pass needs time
before it needs requests: the plan watches for so long that a stall of 2 s in the allowed share is
met with 95 %, and only then may it pass. It may fail earlier. Within that time the round is the
unit: where slow requests crowd in few rounds, they count for as many as they tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pytest_k8snet.errors import SettingsError
from pytest_k8snet.verdict.intervals import (
    chance_overdispersion,
    overdispersion,
    quantile_interval,
)
from pytest_k8snet.verdict.plan import Plan
from pytest_k8snet.verdict.questions import (
    FEWEST_REQUESTS,
    Finding,
    Question,
    Relation,
    Round,
    check_limit,
    clears,
    quantile_name,
    requests_needed,
)
from pytest_k8snet.verdict.sequential import CountLevels, count_levels, fewest_trials

#: The stall that a default plan is long enough for, in seconds.
STALL_SECONDS = 2.0
#: Requests are spread over at least so many rounds.
FEWEST_ROUNDS = 5
#: Length of a round, in seconds.
ROUND_SECONDS = 5.0
#: Requests of a plan with a short span, in those that it takes without a single slow one.
_AMPLE = 4
#: A fail may come after an eighth of the rounds, a quarter, a half, and all.
_DOUBLINGS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile(Question):
    """Is a percentile of the requests on this side of the limit?

    Requests without a good answer exceed every limit; those that the client never sent in time are
    no requests.
    """

    kind: ClassVar[str] = "quantile"

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

    def span_seconds(self, plan: Plan) -> float:
        """Time over which the rounds are spread: about 2 min for p95, 10 min for p99."""
        if plan.span_seconds is not None:
            return plan.span_seconds
        return STALL_SECONDS * fewest_trials(self.share, plan.alpha)

    def requests(self, plan: Plan) -> int:
        """Requests in one round; the same for every percentile under a plan."""
        usual = max(FEWEST_REQUESTS, round(ROUND_SECONDS * plan.requests_per_second))
        if plan.requests is None:
            return usual
        return min(usual, math.ceil(plan.requests / FEWEST_ROUNDS))

    def rounds_at_most(self, plan: Plan) -> int:
        """Rounds at most."""
        wanted = plan.requests or max(
            plan.requests_per_second * self.span_seconds(plan),
            _AMPLE * fewest_trials(self.share, plan.alpha),
        )
        return max(FEWEST_ROUNDS, math.ceil(wanted / self.requests(plan)))

    def most(self, plan: Plan) -> int:
        """Requests at most."""
        return self.rounds_at_most(plan) * self.requests(plan)

    def looks(self, plan: Plan) -> tuple[int, ...]:
        """Return the numbers of rounds after which a verdict may fall, a pass at the last only."""
        most = self.rounds_at_most(plan)
        parts = {math.ceil(most / (1 << i)) for i in range(_DOUBLINGS + 1)}
        # Fewer rounds cannot tell a burst from an even share.
        return tuple(sorted(part for part in parts if part >= FEWEST_ROUNDS))

    def find(
        self, rounds: Sequence[Round], plan: Plan, relation: Relation, limit: float
    ) -> Finding | None:
        """Look at the requests of the rounds up to the last look that they reach."""
        looks = self.looks(plan)
        taken = max((look for look in looks if look <= len(rounds)), default=0)
        used = [arms[0] for arms in rounds[:taken] if arms[0]]
        values = [value for part in used for value in part]
        n = len(values)
        if not n:
            return None
        whole = taken == looks[-1]
        size = self.requests(plan)
        levels = CountLevels(
            few=plan.alpha,
            many=count_levels(self.share, tuple(size * look for look in looks), plan.alpha).many,
        )
        over = [sum(v >= limit if relation == "<" else v > limit for v in part) for part in used]
        inflation = overdispersion(over, [len(part) for part in used])
        interval = quantile_interval(values, self.q, levels, inflation, may_pass=whole)
        state, needed = clears(interval, relation, limit), None
        if state == "open":
            needed = requests_needed(sum(over) / n, self.share, levels.few)
            needed = max(n + 1, math.ceil(needed * inflation)) if needed is not None else None
        bursts = (
            f"slow requests come in bursts: {max(over)} of {sum(over)} in one of {len(over)} "
            f"rounds; {inflation:.1f} requests tell as much as one independent one would"
        )
        return Finding(
            state=state,
            interval=interval,
            low_level=levels.many,
            high_level=levels.few,
            n=n,
            needed=needed,
            warnings=(bursts,) if inflation > chance_overdispersion(len(used)) else (),
            counts=(
                ("over the limit", sum(over)),
                ("without a good answer", sum(math.isinf(value) for value in values)),
                ("rounds", len(used)),
            ),
            unseen=self._unseen(plan, taken),
        )

    def _unseen(self, plan: Plan, rounds: int) -> str:
        """Say which stalls so many rounds may have missed."""
        covered = rounds * self.requests(plan) / plan.requests_per_second
        stall = covered * self.share / -math.log(plan.alpha)
        return (
            f"the requests covered {covered:.0f} s: stalls longer than {stall:.2g} s could fill "
            f"{self.share:.2g} of the time unseen (span=... in the plan watches longer)"
        )


def _lower(q: float, requests: int, alpha: float) -> str:
    """Name the highest usual percentile that so many requests can show."""
    for lower in (0.99, 0.95, 0.9, 0.5):
        if lower < q and fewest_trials(1.0 - lower, alpha) <= requests:
            return quantile_name(lower)
    return "a lower percentile"

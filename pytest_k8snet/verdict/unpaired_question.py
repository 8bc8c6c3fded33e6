"""A question about two separate groups: the connections of now, and those of an earlier run.

Minutes or weeks lie between the two, so nothing that disturbs both can cancel out. The interval is
therefore Welch's for groups that may differ in size and spread, on logarithms, with the degrees of
freedom rounded down. Each look uses the plan's level for pairs: the earlier values are the same at
every look, which makes the looks more alike than pairs' are, and the chance to err at any of them
smaller, never larger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.errors import SettingsError
from pytest_k8snet.verdict.intervals import LEAST_DEVIATION, Interval, deviation
from pytest_k8snet.verdict.plan import Plan
from pytest_k8snet.verdict.question import (
    Finding,
    Mean,
    Relation,
    Round,
    check_limit,
    clears,
)
from pytest_k8snet.verdict.student import student_quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpaired:
    """Is the geometric mean of connections, relative to an earlier run's, on this side?"""

    figure: str
    before: tuple[float, ...]
    unit: str = ""

    @property
    def quantity(self) -> str:
        """What is judged, in words."""
        return f"{self.figure} ratio to the baseline run"

    @property
    def noun(self) -> str:
        """What is counted."""
        return "connections"

    def check(self, plan: Plan, relation: Relation, limit: float) -> None:
        """Refuse an earlier run without spread, and a limit that no ratio can reach."""
        check_limit(limit, self.quantity)
        if len(self.before) < 2 or not all(0.0 < value < math.inf for value in self.before):
            raise SettingsError(
                f"the baseline run's {self.figure} allows no honest interval",
                found=f"{len(self.before)} samples: {', '.join(map(str, self.before[:8]))}",
                remedy="the run before the change has to take at least two samples of it",
            )

    def requests(self, plan: Plan) -> int:
        """Connections have none."""
        return 0

    def most(self, plan: Plan) -> int:
        """Connections at most."""
        return plan.last

    rounds_at_most = most

    def find(
        self, rounds: Sequence[Round], plan: Plan, relation: Relation, limit: float
    ) -> Finding | None:
        """Look at Welch's interval of the ratio."""
        n = min(len(rounds), plan.last)
        if n < plan.first:
            return None
        mean = Mean(figure=self.figure, unit="bit/s", paired=False)
        interval = welch_interval(
            mean.logarithms(rounds[:n]), [math.log(value) for value in self.before], plan.level
        )
        return Finding(
            state=clears(interval, relation, limit),
            interval=interval,
            low_level=plan.level,
            high_level=plan.level,
            n=n,
            counts=(("in the baseline run", len(self.before)),),
        )

    def to_record(self) -> dict[str, Any]:
        """Return the question as a JSON-safe dict."""
        return {"kind": "unpaired", "figure": self.figure, "before": list(self.before)}


def welch_interval(now: Sequence[float], before: Sequence[float], level: float) -> Interval:
    """Return the ratio of two groups' geometric means; each bound errs with chance ``level``.

    Args:
        now: logarithms, two or more.
        before: logarithms, two or more.
        level: one-sided.
    """
    parts = [max(deviation(group), LEAST_DEVIATION) ** 2 / len(group) for group in (now, before)]
    squared = math.fsum(parts)
    freedom = squared**2 / math.fsum(
        part**2 / (len(group) - 1) for part, group in zip(parts, (now, before), strict=True)
    )
    centre = math.fsum(now) / len(now) - math.fsum(before) / len(before)
    reach = student_quantile(1.0 - level, max(1, math.floor(freedom))) * math.sqrt(squared)
    return Interval(
        estimate=math.exp(centre), low=math.exp(centre - reach), high=math.exp(centre + reach)
    )

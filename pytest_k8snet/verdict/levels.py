"""Questions on figures that may be zero (loss, jitter, retransmits), and on differences.

Bandwidth is judged by its logarithm. A loss of nothing has none, and neither has a difference of
two percentiles: they are judged by their arithmetic mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pytest_k8snet.errors import SettingsError, ToolError
from pytest_k8snet.verdict.distributions import exceedance_bounds, student_quantile_between
from pytest_k8snet.verdict.intervals import (
    LEAST_DEVIATION,
    Interval,
    deviation,
    freedom,
    mean_error,
    sample_quantile,
)
from pytest_k8snet.verdict.plan import Plan
from pytest_k8snet.verdict.questions import (
    UNSEEN_RISK,
    Finding,
    Relation,
    Round,
    RoundFigure,
    check_limit,
    clears,
    dependence,
    pairs_needed,
    quantile_name,
    undone_by_one,
)

#: Least standard deviation that is believed, as a share of the limit: a few connections without
#: any loss must not claim certainty.
_LEAST_OF_LIMIT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Level(RoundFigure):
    """Is the arithmetic mean of a figure, or of pairs' differences, on this side of the limit?

    With two arms it is the difference, the first one's figure less the second's. A round with many
    values (requests) is first reduced to its quantile ``q``.
    """

    kind: ClassVar[str] = "level"

    @property
    def arm_unit(self) -> str:
        """Unit of one arm's figure."""
        return self.unit

    @property
    def quantity(self) -> str:
        """What is judged, in words."""
        name = self.figure.replace("_", " ")
        name = f"{name} {quantile_name(self.q)}" if self.many else name
        return f"{name} difference" if self.paired else name

    def check(self, plan: Plan, relation: Relation, limit: float) -> None:
        """Refuse a limit that no figure can keep, or that none can miss."""
        if not self.paired:
            check_limit(limit, self.quantity)
        elif not math.isfinite(limit):
            raise SettingsError(
                f"a limit for {self.quantity} must be a number", found=f"limit {limit}"
            )

    def figures(self, rounds: Sequence[Round]) -> list[float]:
        """Return one figure for each round.

        Raises:
            ToolError: a round has none, since too many requests got no good answer.
        """
        found = []
        for arms in rounds:
            each = [sample_quantile(values, self.q) for values in arms]
            if not all(map(math.isfinite, each)):
                raise ToolError(
                    f"a sample has no {self.quantity} to judge",
                    found=", ".join(map(str, each))
                    + " (inf: too many requests got no good answer)",
                    remedy="look at the recorded sample for why nothing came through",
                )
            found.append(each[0] - each[1] if self.paired else each[0])
        return found

    def find(
        self, rounds: Sequence[Round], plan: Plan, relation: Relation, limit: float
    ) -> Finding | None:
        """Look at the interval of the mean."""
        n = min(len(rounds), plan.last)
        if n < plan.first:
            return None
        figures = self.figures(rounds[:n])
        least = max(_LEAST_OF_LIMIT * abs(limit), LEAST_DEVIATION * max(map(abs, figures)))
        interval = self._interval(figures, least, plan.level)
        centre = interval.estimate
        # A figure may be zero, so its outlier is a share of the limit where that is larger.
        off = plan.outlier * max(abs(limit), abs(centre))
        state = clears(interval, relation, limit)
        doubt = dependence(figures, self.noun)
        fragile = undone_by_one(
            state,
            relation,
            limit,
            plan,
            self.noun,
            lambda side: self._interval([*figures, centre + side * off], least, plan.alpha),
        )
        if doubt or fragile:
            state = "open"
        needed = None
        spread = max(deviation(figures), least)
        if state == "open" and spread > 0.0:
            margin = (centre - limit) / spread
            needed = pairs_needed(1.0, margin, plan, off=off / spread)
        unseen, beyond = self._unseen(figures, relation, limit)
        return Finding(
            state=state,
            interval=interval,
            low_level=plan.level,
            high_level=plan.level,
            n=n,
            fragile=fragile,
            needed=max(needed, n + 1) if needed is not None else None,
            warnings=(unseen,) if beyond else (),
            unseen="" if beyond else unseen,
            doubt=doubt,
        )

    def _interval(self, figures: Sequence[float], least: float, level: float) -> Interval:
        """Return the arithmetic mean and its t-interval."""
        centre = math.fsum(figures) / len(figures)
        error = mean_error(figures, least)
        reach = error * student_quantile_between(1.0 - level, freedom(figures))
        low = centre - reach if self.paired else max(0.0, centre - reach)
        return Interval(estimate=centre, low=low, high=centre + reach)

    def _unseen(
        self, figures: Sequence[float], relation: Relation, limit: float
    ) -> tuple[str, int]:
        """Say which share of bad samples the mean may hide, and return how many were seen."""
        floor = relation in (">=", ">")
        beyond = sum(one < limit if floor else one > limit for one in figures)
        share = exceedance_bounds(beyond, len(figures), UNSEEN_RISK)[1]
        text = (
            f"{beyond} of {len(figures)} {self.noun} lay beyond the limit; a share of up to "
            f"{share * 100:.0f} % could have gone unseen"
        )
        side = "above" if floor else "below"
        return text + ("" if self.paired else f" (share({side}=...) asks for it)"), beyond

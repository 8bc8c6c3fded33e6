"""The questions a verdict can answer, as pure functions of the values in the order they came.

A question knows which looks its plan allows, the interval at a look, and whether that interval
clears a limit. The same question over the same values gives the same finding, in the run and
offline from a stored record.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pytest_k8snet.errors import SettingsError, ToolError
from pytest_k8snet.verdict.intervals import (
    Interval,
    deviation,
    log_mean_interval,
    sample_quantile,
)
from pytest_k8snet.verdict.modes import two_modes
from pytest_k8snet.verdict.plan import Plan
from pytest_k8snet.verdict.power import pairs_needed

Relation = Literal[">=", "<=", ">", "<"]
#: One pair or round: the values of each arm, numerator first.
Round = tuple[tuple[float, ...], ...]

#: Fewest requests of one arm in one round.
FEWEST_REQUESTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a look shows.

    Attributes:
        state: whether the interval clears the limit, and to which side.
        interval: estimate and bounds, in the figure's unit.
        low_level, high_level: the chance that each bound errs, at one look.
        n: pairs, connections or requests that it rests on.
        needed: how many would probably decide, where that can be told.
        spread: how much one pair (or connection) varies, as a share; None where counts decide.
        warnings: what the reader should know about the values.
        counts: for questions that count: what was counted, by name.
    """

    state: Literal["pass", "fail", "open"]
    interval: Interval
    low_level: float
    high_level: float
    n: int
    needed: int | None = None
    spread: float | None = None
    warnings: tuple[str, ...] = ()
    counts: tuple[tuple[str, int], ...] = ()


class Question(Protocol):
    """What the engine and the offline judge ask of a question."""

    @property
    def figure(self) -> str:
        """Name of the figure among an observation's figures."""

    @property
    def unit(self) -> str:
        """Unit of estimate and limit: empty, ``s`` or ``bit/s``."""

    @property
    def quantity(self) -> str:
        """What is judged, in words: ``bandwidth ratio``, ``connect p95``."""

    @property
    def noun(self) -> str:
        """What is counted: pairs, connections or requests."""

    def check(self, plan: Plan, relation: Relation, limit: float) -> None:
        """Refuse a plan that could never decide this.

        Raises:
            SettingsError: with what the plan would need.
        """

    def requests(self, plan: Plan) -> int:
        """Requests of one arm in one round; 0 for bandwidth."""

    def most(self, plan: Plan) -> int:
        """Pairs, connections or requests at most."""

    def rounds_at_most(self, plan: Plan) -> int:
        """Pairs or rounds at most."""

    def find(
        self, rounds: Sequence[Round], plan: Plan, relation: Relation, limit: float
    ) -> Finding | None:
        """Look at the values; None before the first look."""

    def to_record(self) -> dict[str, Any]:
        """Return the question as a JSON-safe dict."""


def clears(interval: Interval, relation: Relation, limit: float) -> Literal["pass", "fail", "open"]:
    """Tell on which side of the limit the whole interval lies."""
    low, high = interval.low, interval.high
    if relation == ">=":
        return "pass" if low >= limit else "fail" if high < limit else "open"
    if relation == ">":
        return "pass" if low > limit else "fail" if high <= limit else "open"
    if relation == "<=":
        return "pass" if high <= limit else "fail" if low > limit else "open"
    return "pass" if high < limit else "fail" if low >= limit else "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """Is the geometric mean of connections, or of pairs' ratios, on this side of the limit?

    With two arms it is a ratio, the numerator's figure over the baseline's. A round with many
    values (requests) is first reduced to its quantile ``q``: a ratio of latencies is the geometric
    mean of the rounds' ratios of medians, which one lost SYN in a hundred requests cannot move.
    """

    figure: str
    unit: str
    paired: bool
    q: float = 0.5
    many: bool = False

    @property
    def quantity(self) -> str:
        """What is judged, in words."""
        name = f"{self.figure} {quantile_name(self.q)}" if self.many else self.figure
        return f"{name} ratio" if self.paired else name

    @property
    def noun(self) -> str:
        """What is counted."""
        return "pairs" if self.paired else "connections"

    def check(self, plan: Plan, relation: Relation, limit: float) -> None:
        """Refuse a limit that no logarithm can reach."""
        check_limit(limit, self.quantity)

    def requests(self, plan: Plan) -> int:
        """Requests of one arm in one round: enough for ten on the rare side of the quantile."""
        rare = min(self.q, 1.0 - self.q)
        return max(FEWEST_REQUESTS, math.ceil(10 / rare - 1e-9)) if self.many else 0

    def most(self, plan: Plan) -> int:
        """Pairs or connections at most."""
        return plan.last

    rounds_at_most = most

    def logarithms(self, rounds: Sequence[Round]) -> list[float]:
        """Return one logarithm for each round: of its ratio, or of its one figure."""
        figures = [self.reduced(arms) for arms in rounds]
        return [math.log(a / b) if self.paired else math.log(a) for a, b in figures]

    def reduced(self, arms: Round) -> tuple[float, float]:
        """Return the round's figure of numerator and baseline; of one arm, with a baseline of 1.

        Raises:
            ToolError: a figure is zero or infinite, so no ratio can be formed.
        """
        figures = [sample_quantile(values, self.q) for values in arms]
        if not all(0.0 < figure < math.inf for figure in figures):
            raise ToolError(
                f"a sample has no {self.quantity} to judge",
                found=", ".join(str(figure) for figure in figures)
                + (" (inf: too many requests got no good answer)" if self.many else ""),
                remedy="look at the recorded sample for why nothing came through",
            )
        return figures[0], figures[1] if self.paired else 1.0

    def find(
        self, rounds: Sequence[Round], plan: Plan, relation: Relation, limit: float
    ) -> Finding | None:
        """Look at the interval of the mean."""
        n = min(len(rounds), plan.last)
        if n < plan.first:
            return None
        logarithms = self.logarithms(rounds[:n])
        interval = log_mean_interval(logarithms, plan.level)
        state = clears(interval, relation, limit)
        needed = None
        if state == "open":
            margin = math.log(interval.estimate / limit)
            needed = pairs_needed(deviation(logarithms), margin, plan.level)
        groups = two_modes(logarithms)
        warning = (
            f"two modes: {groups[0]} and {groups[1]} of {n} {self.noun} lie apart by more than "
            "half of all spread; their mean describes neither (see .share(above=...))"
            if groups
            else ""
        )
        return Finding(
            state=state,
            interval=interval,
            low_level=plan.level,
            high_level=plan.level,
            n=n,
            needed=max(needed, n + 1) if needed is not None else None,
            spread=math.expm1(deviation(logarithms)),
            warnings=(warning,) if warning else (),
        )

    def to_record(self) -> dict[str, Any]:
        """Return the question as a JSON-safe dict."""
        return {
            "kind": "mean",
            "figure": self.figure,
            "unit": self.unit,
            "paired": self.paired,
            "q": self.q,
            "many": self.many,
        }


def check_limit(limit: float, quantity: str) -> None:
    """Refuse a limit that is not a positive number.

    Raises:
        SettingsError: it is not.
    """
    if not 0.0 < limit < math.inf:
        raise SettingsError(
            f"a limit for {quantity} must be a positive number", found=f"limit {limit}"
        )


def quantile_name(q: float) -> str:
    """Name a quantile as a percentile: 0.95 is p95, 0.999 is p99.9."""
    return f"p{q * 100:g}"

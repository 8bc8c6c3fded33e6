"""What a cluster can resolve: the same measured against the same (A/A).

The spread of such ratios is the cluster's own noise. A limit that lies closer to the true ratio
than that takes many pairs, or is never decided.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_k8snet.errors import ToolError
from pytest_k8snet.measure.endpoints import Pair
from pytest_k8snet.measure.gates import Gates
from pytest_k8snet.units import Seconds
from pytest_k8snet.verdict import Plan
from pytest_k8snet.verdict.intervals import (
    LEAST_DEVIATION,
    Interval,
    deviation,
    log_ratio_interval,
)
from pytest_k8snet.verdict.questions import ASSUMED, SPACING_SECONDS, decided_at, pairs_needed

#: Distances of limits from ratios that plans are proposed for, and the time that they may take.
_DISTANCES = (0.05, 0.07, 0.10, 0.20)
_WITHIN_SECONDS = 600.0
#: Pairs of an A/A measurement; with sixteen, the spread is known to about a sixth.
PAIRS = 16
#: The chance to decide that a proposed plan has.
DECIDED = 0.96
#: A plan is proposed for a spread that is larger by this factor than the one that was measured.
_CAUTION = 1.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The outcome of an A/A measurement.

    Attributes:
        label: what was measured against itself.
        spread: standard deviation of one pair's ratio, as a share of it (0.04 is 4 %).
        interval: of the ratio, at 5 % risk on each side; should contain 1.
        pair_seconds: how long one pair took.
        plan: under which the statements on time are made.
    """

    label: str
    spread: float
    interval: Interval
    pair_seconds: float
    plan: Plan

    @property
    def sound(self) -> bool:
        """Whether the interval contains 1, as it does nine times out of ten on a sound cluster."""
        return self.interval.low <= 1.0 <= self.interval.high

    def propose(self, distance: float, within_seconds: float = _WITHIN_SECONDS) -> Plan | None:
        """Return a plan that tells a limit so far from the ratio, or None where none is enough.

        Samples are shortened where that is the only way: connections differ more from each other
        than the seconds of one do, so short ones tell nearly as much. Measure the resolution again
        with such a plan.

        Args:
            distance: between ratio and limit, as a share.
            within_seconds: wall time that the whole plan may take.
        """
        plan = self.plan
        # The gaps are drawn: some runs take a little longer than the span.
        span = 0.9 * within_seconds
        overhead = max(0.0, self.pair_seconds / 2 - plan.seconds - plan.omit_seconds)
        for seconds in sorted({plan.seconds, *range(1, min(4, plan.seconds))}, reverse=True):
            each = 2 * (seconds + plan.omit_seconds + overhead)
            last = plan_pairs(_CAUTION * math.log1p(self.spread), math.log1p(distance), plan)
            if last is not None and last * each <= span:
                span = min(span, SPACING_SECONDS * last)
                return plan.with_changes(last=last, seconds=seconds, span_seconds=span)
        return None

    def __str__(self) -> str:
        lines = [
            f"{self.label} against itself: ratio {self.interval.estimate:.3f}, interval "
            f"[{self.interval.low:.3f}, {self.interval.high:.3f}]"
            + ("" if self.sound else ": NOT 1, so something drifts or the arms differ")
        ]
        span = self.plan.span_seconds
        span = SPACING_SECONDS * self.plan.last if span is None else span
        for spreads in (1.0, 2.0):
            margin = math.log1p(self.spread) * spreads
            needed = pairs_needed(
                math.log1p(self.spread), margin, self.plan, off=self.plan.outlier_log
            )
            if needed is not None:
                pairs = max(needed, self.plan.first)
                each = max(self.pair_seconds, span / self.plan.last)
                lines.append(
                    f"resolves {math.expm1(margin):.1%} in about {pairs} pairs, "
                    f"{pairs * each:.0f} s"
                )
        lines.append("set limits at least that far below (or above) the ratio you expect")
        if self.plan.outlier:
            least = f"{least_margin(self.plan):.1%}"
            lines.append(
                f"last={self.plan.last} decides no limit nearer than {least}, "
                f"to survive one pair {self.plan.outlier * 100:g} % off (outlier=...)"
            )
        for distance in _DISTANCES:
            plan = self.propose(distance)
            lines.append(
                f"a limit {distance:.0%} from the ratio, decided within "
                f"{Seconds(_WITHIN_SECONDS)} in 19 of 20 runs: "
                + (f"plan {_settings(plan)!r}" if plan else "not on this cluster")
            )
        return "\n".join(lines)


def _settings(plan: Plan) -> str:
    text = f"last={plan.last} seconds={plan.seconds} span={plan.span_seconds:g}"
    return text if plan.outlier == Plan().outlier else f"{text} outlier={plan.outlier:g}"


def measure_resolution(gates: Gates, pair: Pair, *, pairs: int) -> Resolution:
    """Measure a pair against itself, through the code that gates use.

    Args:
        gates: whose plan and observer are used.
        pair: usually the node pair, the baseline of the others.
        pairs: how many samples of each side.

    Raises:
        ToolError: too many samples had to be discarded.
    """
    ratio = gates.bandwidth(pair) / gates.bandwidth(pair)
    begun = time.monotonic()
    taken = ratio.pairs(pairs)
    seconds = time.monotonic() - begun
    if len(taken) < 3:
        raise ToolError(
            "the cluster's resolution cannot be told",
            found=f"{len(taken)} of {pairs} pairs could be used",
            remedy="see the recorded samples for what disturbed them",
        )
    return Resolution(
        label=pair.label,
        spread=spread_of([math.log(a / b) for a, b in taken]),
        interval=log_ratio_interval(taken, 0.05),
        pair_seconds=seconds / len(taken),
        plan=gates.plan,
    )


def spread_of(logarithms: Sequence[float]) -> float:
    """Return the standard deviation of one pair's ratio, as a share of the ratio (0.04 is 4 %).

    From pairs of the same against the same (an A/A measurement), it is the cluster's resolution:
    a plan of 4 to 20 pairs decides nearly always when the ratio lies this far from the limit.
    """
    return math.expm1(max(deviation(logarithms), LEAST_DEVIATION))


def plan_pairs(sd: float, margin: float, plan: Plan) -> int | None:
    """Return the ``last`` of a plan that decides in 19 of 20 runs, or None if there is none.

    Args:
        sd: standard deviation of the logarithms of the pairs' ratios.
        margin: distance of the ratio from the limit, as logarithms.
        plan: whose other settings hold.
    """
    last = plan.first
    for _ in range(8):
        # More looks, stricter ones: 0.01 for up to 20, less with the root of their number.
        level = plan.alpha / 5.0 * math.sqrt(20.0 / max(20, last))
        wanted = pairs_needed(
            sd * ASSUMED, margin, plan, off=plan.outlier_log, level=level, power=DECIDED
        )
        if wanted is None or wanted <= last:
            return None if wanted is None else last
        last = wanted
    return last


def least_margin(plan: Plan) -> float:
    """Return the least distance from a limit, as a share, that a plan decides without any noise."""
    return math.expm1(
        decided_at(plan.last, LEAST_DEVIATION, plan, plan.outlier_log, plan.level, 0.5)
    )

"""What a cluster can resolve: the same measured against the same (A/A).

The spread of such ratios is the cluster's own noise. A limit that lies closer to the true ratio
than that takes many pairs, or is never decided.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_k8snet.errors import ToolError
from pytest_k8snet.verdict.intervals import Interval, log_ratio_interval
from pytest_k8snet.verdict.questions import pairs_needed, resolution, too_close

if TYPE_CHECKING:
    from pytest_k8snet.measure.endpoints import Pair
    from pytest_k8snet.measure.gates import Gates
    from pytest_k8snet.verdict import Plan

#: Pairs of an A/A measurement; with eight, the spread is known to about a quarter.
PAIRS = 8


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

    def too_close(self, ratio: float, limit: float) -> bool:
        """Tell whether a limit lies so near to a ratio that the plan will often not decide."""
        return too_close(ratio, limit, self.spread)

    def __str__(self) -> str:
        lines = [
            f"{self.label} against itself: ratio {self.interval.estimate:.3f}, interval "
            f"[{self.interval.low:.3f}, {self.interval.high:.3f}]"
            + ("" if self.sound else ": NOT 1, so something drifts or the arms differ")
        ]
        for spreads in (1.0, 2.0):
            margin = math.log1p(self.spread) * spreads
            needed = pairs_needed(math.log1p(self.spread), margin, self.plan.level)
            if needed is not None:
                pairs = max(needed, self.plan.first)
                lines.append(
                    f"resolves {math.expm1(margin):.1%} in about {pairs} pairs, "
                    f"{pairs * self.pair_seconds:.0f} s"
                )
        lines.append("set limits at least that far below (or above) the ratio you expect")
        return "\n".join(lines)


def measure_resolution(gates: Gates, pair: Pair, *, pairs: int = PAIRS) -> Resolution:
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
        spread=resolution([math.log(a / b) for a, b in taken]),
        interval=log_ratio_interval(taken, 0.05),
        pair_seconds=seconds / len(taken),
        plan=gates.plan,
    )

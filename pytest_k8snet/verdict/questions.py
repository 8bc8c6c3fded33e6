"""What is asked of a gate's rounds: means, differences, shares. Pure functions of their values.

Percentiles are in :mod:`~pytest_k8snet.verdict.percentiles`. A question knows which looks its plan
allows, the interval at a look, and whether that interval clears a limit. The same question over
the same values gives the same finding, in the run and offline from a stored record.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, ClassVar, Literal

from pytest_k8snet.errors import SettingsError, ToolError
from pytest_k8snet.verdict.distributions import (
    exceedance_bounds,
    normal_quantile,
    student_quantile,
)
from pytest_k8snet.verdict.intervals import (
    LEAST_CORRELATION,
    LEAST_DEVIATION,
    Interval,
    deviation,
    lag_correlation,
    log_mean_interval,
    mean_error,
    mean_interval,
    mean_reach,
    sample_quantile,
    two_groups,
    variance_inflation,
    welch_interval,
)
from pytest_k8snet.verdict.plan import MOST_PAIRS, Plan
from pytest_k8snet.verdict.sequential import count_levels, fewest_trials

Relation = Literal[">=", "<=", ">", "<"]
#: One pair or round: the values of each arm, numerator first.
Round = tuple[tuple[float, ...], ...]

#: The figure of samples that count connections.
NEW_CONNECTIONS = "new connections per second"
#: Fewest requests of one arm in one round.
FEWEST_REQUESTS = 20
#: From one pair to the next, in seconds, unless the plan names a span. Noise that a pair of
#: samples of 5 s shares with the next at a correlation of 0.6 is down to 0.03 by then.
SPACING_SECONDS = 40.0
#: From one pair to the next where bad ones are counted: twenty of them, of a minute each in the
#: share that is allowed, must not all fall between two pairs.
COUNTED_SPACING_SECONDS = 90.0
#: From one pair to the next in lengths of the spells that must not be missed: nearly independent.
SPELLS_APART = 3.0
#: Neighbours that correlate more than this leave a verdict open, once there are a few.
STRONG_CORRELATION = 0.5
_FEWEST_CORRELATED = 6
#: The chance that more than the share that a pass names went unseen.
UNSEEN_RISK = 0.05
#: What lies further than this from the middle of all is told of.
_APART = 0.10
#: Least standard deviation that is believed of figures that may be zero, as a share of the limit:
#: a few connections without any loss must not claim certainty.
_LEAST_OF_LIMIT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a look shows.

    Attributes:
        state: whether the interval clears the limit, and to which side.
        interval: estimate and bounds, in the figure's unit.
        low_level, high_level: the chance that each bound errs, at one look.
        n: pairs, connections or requests that it rests on.
        fragile: what one more sample would undo, where that alone keeps it open; else empty.
        needed: how many would probably decide, where that can be told.
        spread: how much one pair (or connection) varies, as a share; None where counts decide.
        warnings: what the reader should know about the values.
        unseen: what could be there without showing in these values, said of every pass.
        doubt: why these values decide nothing, whatever the interval; else empty.
        counts: for questions that count: what was counted, by name.
    """

    state: Literal["pass", "fail", "open"]
    interval: Interval
    low_level: float
    high_level: float
    n: int
    fragile: str = ""
    needed: int | None = None
    spread: float | None = None
    warnings: tuple[str, ...] = ()
    counts: tuple[tuple[str, int], ...] = ()
    unseen: str = ""
    doubt: str = ""


class Question(ABC):
    """What is asked of the rounds. By itself: one figure of each pair or connection.

    Attributes:
        kind: what it is called in a record.
        figure: name of the figure among an observation's figures.
        unit: of estimate and limit: empty, ``s`` or ``bit/s``.
    """

    __slots__ = ()

    kind: ClassVar[str]
    figure: str
    unit: str

    @property
    @abstractmethod
    def quantity(self) -> str:
        """What is judged, in words: ``bandwidth ratio``, ``connect p95``."""

    @property
    def arm_unit(self) -> str:
        """Unit of one arm's figure."""
        return self.unit

    @property
    def noun(self) -> str:
        """What is counted: pairs, connections or requests."""
        return "connections"

    @abstractmethod
    def check(self, plan: Plan, relation: Relation, limit: float) -> None:
        """Refuse a limit that can be neither kept nor missed, and a plan that could never decide.

        Raises:
            SettingsError: with what the plan would need.
        """

    def requests(self, plan: Plan) -> int:
        """Requests of one arm in one round; 0 for connections."""
        return 0

    def rounds_at_most(self, plan: Plan) -> int:
        """Pairs or rounds at most."""
        return plan.last

    def most(self, plan: Plan) -> int:
        """Pairs, connections or requests at most."""
        return self.rounds_at_most(plan)

    def span_seconds(self, plan: Plan) -> float:
        """Time over which the rounds are spread."""
        return self._spread(plan, SPACING_SECONDS)

    def _spread(self, plan: Plan, spacing_seconds: float) -> float:
        if plan.span_seconds is not None:
            return plan.span_seconds
        spacing_seconds = max(spacing_seconds, SPELLS_APART * (plan.spell_seconds or 0.0))
        return spacing_seconds * self.rounds_at_most(plan)

    @abstractmethod
    def find(
        self, rounds: Sequence[Round], plan: Plan, relation: Relation, limit: float
    ) -> Finding | None:
        """Look at the values; None before the first look."""

    def to_record(self) -> dict[str, Any]:
        """Return the question as a JSON-safe dict."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]


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


# -- Means of connections, of pairs' ratios and of their differences -------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundMean(Question):
    """Is the mean of one figure for each round on this side of the limit?

    Attributes:
        paired: whether two arms are compared.
        q: the quantile that many values (requests) of a round are reduced to.
        many: whether there are many.
    """

    figure: str
    unit: str
    paired: bool = False
    q: float = 0.5
    many: bool = False

    @property
    def noun(self) -> str:
        """What is counted."""
        if self.paired:
            return "pairs"
        return "samples" if self.figure == NEW_CONNECTIONS else "connections"

    def requests(self, plan: Plan) -> int:
        """Return enough requests for ten on the quantile's rare side."""
        if not self.many:
            return 0
        return max(FEWEST_REQUESTS, math.ceil(10 / min(self.q, 1.0 - self.q) - 1e-9))

    @property
    def _reduced(self) -> str:
        return f"{self.figure} {quantile_name(self.q)}" if self.many else self.figure

    def arms(self, arms: Round) -> list[float]:
        """Return each arm's figure of a round.

        Raises:
            ToolError: one is none that can be judged.
        """
        found = [sample_quantile(values, self.q) if values else math.nan for values in arms]
        if not all(map(self._can_be, found)):
            raise ToolError(
                f"a sample has no {self.quantity} to judge",
                found=", ".join(map(str, found))
                + (" (inf: too many requests got no good answer)" if self.many else ""),
                remedy="look at the recorded sample for why nothing came through",
            )
        return found

    @abstractmethod
    def figures(self, rounds: Sequence[Round]) -> list[float]:
        """Return one figure for each round: its ratio or difference, or its one figure."""

    # Whether an arm's figure can be judged; what it is on the scale on which noise adds, where
    # means are taken; the mean of such values with its bounds, as figures.

    @abstractmethod
    def _can_be(self, figure: float) -> bool: ...

    @abstractmethod
    def _scaled(self, figure: float) -> float: ...

    @abstractmethod
    def _interval(self, values: Sequence[float], least: float, level: float) -> Interval: ...

    # The least deviation that is believed, and how far off the plan's outlier is; beyond which
    # value a sample is bad, in words too, and the gate that counts those; how much one round
    # varies, as a share, and what else to know of the values.

    @abstractmethod
    def _allowances(
        self, values: Sequence[float], plan: Plan, limit: float
    ) -> tuple[float, float]: ...

    @abstractmethod
    def _bad(
        self, values: Sequence[float], floor: bool, limit: float
    ) -> tuple[float, str, str]: ...

    @abstractmethod
    def _diagnostics(self, values: Sequence[float]) -> tuple[float | None, list[str]]: ...

    def find(
        self, rounds: Sequence[Round], plan: Plan, relation: Relation, limit: float
    ) -> Finding | None:
        """Look at the interval of the mean."""
        n, floor = min(len(rounds), plan.last), relation in (">=", ">")
        if n < plan.first:
            return None
        values = [self._scaled(figure) for figure in self.figures(rounds[:n])]
        least, off = self._allowances(values, plan, limit)
        interval = self._interval(values, least, plan.level)
        state = clears(interval, relation, limit)
        doubt = dependence(values, self.noun)
        fragile = ""
        if state != "open" and off:
            # At alpha, not at the level of a look: what is asked is whether the figure would still
            # be told from the limit, not a second time whether it is.
            side = 1.0 if (state == "fail") == floor else -1.0
            one_more = [*values, fmean(values) + side * off]
            if clears(self._interval(one_more, least, plan.alpha), relation, limit) != state:
                worse = "worse" if state == "pass" else "better"
                fragile = (
                    f"one more {self.noun[:-1]}, {plan.outlier * 100:g} % {worse} than the rest, "
                    "would undo it"
                )
        if doubt or fragile:
            state = "open"
        needed, error = None, mean_error(values, least) * math.sqrt(n)
        if state == "open" and error > 0.0:
            margin = fmean(values) - self._scaled(limit)
            needed = pairs_needed(1.0, margin / error, plan, off=off / error)
        # A mean may hide a share of bad samples.
        edge, where, gate = self._bad(values, floor, limit)
        seen = sum(one < edge if floor else one > edge for one in values)
        share = exceedance_bounds(seen, n, UNSEEN_RISK)[1]
        unseen = (
            f"{seen} of {n} {self.noun} lay {where}; a share of up to {share * 100:.0f} % could "
            f"have gone unseen{gate and f' ({gate} asks for it)'}"
        )
        spread, warnings = self._diagnostics(values)
        return Finding(
            state=state,
            interval=interval,
            low_level=plan.level,
            high_level=plan.level,
            n=n,
            fragile=fragile,
            needed=max(needed, n + 1) if needed is not None else None,
            spread=spread,
            warnings=(*((unseen,) if seen else ()), *warnings),
            unseen="" if seen else unseen,
            doubt=doubt,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean(RoundMean):
    """Is the geometric mean of connections, or of pairs' ratios, on this side of the limit?

    With two arms it is a ratio, the numerator's figure over the baseline's. A round with many
    values (requests) is first reduced to its quantile ``q``: a ratio of latencies is the geometric
    mean of the rounds' ratios of medians, which one lost SYN in a hundred requests cannot move.
    One arm's figure may be a share of a known rate: ``per`` bit/s.
    """

    kind: ClassVar[str] = "mean"

    per: float = 1.0

    @property
    def quantity(self) -> str:
        """What is judged, in words."""
        if self.per != 1.0:
            return f"{self.figure} as a share of the rate"
        return f"{self._reduced} ratio" if self.paired else self._reduced

    @property
    def arm_unit(self) -> str:
        """Unit of one arm's figure."""
        return "s" if self.many else "bit/s" if self.figure == "bandwidth" else ""

    def check(self, plan: Plan, relation: Relation, limit: float) -> None:
        """Refuse a limit that no logarithm can reach."""
        check_limit(limit, self.quantity)

    def _can_be(self, figure: float) -> bool:
        return 0.0 < figure < math.inf

    def figures(self, rounds: Sequence[Round]) -> list[float]:
        """Return one positive figure for each round: its ratio, or its one figure."""
        each = map(self.arms, rounds)
        return [arms[0] / (arms[1] if self.paired else self.per) for arms in each]

    def _scaled(self, figure: float) -> float:
        return math.log(figure)

    def _interval(self, values: Sequence[float], least: float, level: float) -> Interval:
        return log_mean_interval(values, level)

    def _allowances(self, values: Sequence[float], plan: Plan, limit: float) -> tuple[float, float]:
        return LEAST_DEVIATION, plan.outlier_log

    def _bad(self, values: Sequence[float], floor: bool, limit: float) -> tuple[float, str, str]:
        edge = sample_quantile(values, 0.5) + math.log1p(-_APART if floor else _APART)
        where = f"more than {_APART * 100:.0f} % {'below' if floor else 'above'} the rest"
        threshold = f"{math.exp(edge):.3g}"
        if not self.paired and self.per == 1.0:
            threshold = f"{math.exp(edge) / 1e6:.3g} * Mbit"
        # What else there is has no share to ask for.
        asked = self.paired or (self.figure == "bandwidth" and self.per == 1.0)
        return edge, where, f"share({'above' if floor else 'below'}={threshold})" if asked else ""

    def _diagnostics(self, values: Sequence[float]) -> tuple[float, list[str]]:
        groups = two_groups(values)
        warnings = (
            [
                f"two groups: {groups[0]} and {groups[1]} of {len(values)} {self.noun} lie apart "
                "by more than half of all spread; their mean describes neither (see "
                ".share(above=...))"
            ]
            if groups
            else []
        )
        return math.expm1(deviation(values)), warnings


@dataclass(frozen=True, slots=True, kw_only=True)
class Level(RoundMean):
    """Is the arithmetic mean of a figure, or of pairs' differences, on this side of the limit?

    Of figures that may be zero (loss, jitter, retransmits) and so have no logarithm, nor has the
    difference of two percentiles: with two arms it is the first one's figure less the second's.
    """

    kind: ClassVar[str] = "level"

    @property
    def quantity(self) -> str:
        """What is judged, in words."""
        name = self._reduced.replace("_", " ")
        return f"{name} difference" if self.paired else name

    def check(self, plan: Plan, relation: Relation, limit: float) -> None:
        """Refuse a limit that no figure can keep, or that none can miss."""
        if not self.paired:
            check_limit(limit, self.quantity)
        elif not math.isfinite(limit):
            raise SettingsError(
                f"a limit for {self.quantity} must be a number", found=f"limit {limit}"
            )

    def _can_be(self, figure: float) -> bool:
        return math.isfinite(figure)

    def figures(self, rounds: Sequence[Round]) -> list[float]:
        """Return one figure for each round: its difference, or its one figure."""
        each = map(self.arms, rounds)
        return [arms[0] - (arms[1] if self.paired else 0.0) for arms in each]

    def _scaled(self, figure: float) -> float:
        return figure

    def _interval(self, values: Sequence[float], least: float, level: float) -> Interval:
        found = mean_interval(values, level, least)
        return found if self.paired else replace(found, low=max(0.0, found.low))

    def _allowances(self, values: Sequence[float], plan: Plan, limit: float) -> tuple[float, float]:
        least = max(_LEAST_OF_LIMIT * abs(limit), LEAST_DEVIATION * max(map(abs, values)))
        # A figure may be zero, so its outlier is a share of the limit where that is larger.
        return least, plan.outlier * max(abs(limit), abs(fmean(values)))

    def _bad(self, values: Sequence[float], floor: bool, limit: float) -> tuple[float, str, str]:
        gate = "" if self.paired else f"share({'above' if floor else 'below'}=...)"
        return limit, "beyond the limit", gate

    def _diagnostics(self, values: Sequence[float]) -> tuple[None, list[str]]:
        return None, []


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpaired(Question):
    """Is the geometric mean of connections, relative to that of earlier runs, on this side?

    Minutes or weeks lie between the runs, so nothing that disturbs them all can cancel out, and
    what differs between any two runs is in the ratio. So the run is the unit: several earlier runs
    show how much runs differ when nothing was changed. One alone does not, and is only reported.

    Attributes:
        before: the connections' figures of each earlier run.
    """

    kind: ClassVar[str] = "unpaired"

    figure: str
    before: tuple[tuple[float, ...], ...]
    unit: str = ""

    @property
    def arm_unit(self) -> str:
        """Unit of a connection's figure."""
        return "bit/s"

    @property
    def quantity(self) -> str:
        """What is judged, in words."""
        several = "s" if len(self.before) > 1 else ""
        return f"{self.figure} ratio to the baseline run{several}"

    def check(self, plan: Plan, relation: Relation, limit: float) -> None:
        """Refuse earlier runs without figures, and a limit that no ratio can reach."""
        check_limit(limit, self.quantity)
        values = [value for run in self.before for value in run]
        least = 1 if len(self.before) > 1 else 2
        if any(len(run) < least for run in self.before) or not all(
            0.0 < value < math.inf for value in values
        ):
            raise SettingsError(
                f"the baseline run's {self.figure} allows no honest interval",
                found=f"{len(values)} samples: {', '.join(map(str, values[:8]))}",
                remedy="the run before the change has to take at least two samples of it",
            )

    def rounds_at_most(self, plan: Plan) -> int:
        """Return the connections at most: no more than the first look where none can decide."""
        return plan.first if self._alone(plan) else plan.last

    def find(
        self, rounds: Sequence[Round], plan: Plan, relation: Relation, limit: float
    ) -> Finding | None:
        """Look at the interval of the ratio."""
        n = min(len(rounds), plan.last)
        if n < plan.first:
            return None
        now = Mean(figure=self.figure, unit="bit/s").figures(rounds[:n])
        logarithms = list(map(math.log, now))
        earlier = [fmean(map(math.log, run)) for run in self.before]
        doubt = ""
        if self._alone(plan):
            interval = welch_interval(logarithms, list(map(math.log, self.before[0])), plan.level)
            doubt = (
                "one earlier run cannot show how much runs differ when nothing was changed: give "
                "several (--k8snet-baseline=a.jsonl,b.jsonl,c.jsonl), or their spread if it is "
                "known (between=0.03 in the plan)"
            )
        else:
            within = mean_reach(logarithms, plan.level)
            interval = Interval.of_logarithms(
                fmean(logarithms) - fmean(earlier),
                math.hypot(within, self._between(earlier, plan)),
            )
        return Finding(
            state="open" if doubt else clears(interval, relation, limit),
            interval=interval,
            low_level=plan.level,
            high_level=plan.level,
            n=n,
            counts=(
                ("baseline runs", len(self.before)),
                ("connections in them", sum(map(len, self.before))),
            ),
            doubt=doubt,
        )

    def _alone(self, plan: Plan) -> bool:
        return len(self.before) == 1 and plan.between_runs is None

    def _between(self, earlier: Sequence[float], plan: Plan) -> float:
        """Return how far two runs lie apart by chance, as logarithms, at the plan's alpha.

        The looks of a gate share the run's own offset, so it is paid for once and not at each.
        """
        runs = len(earlier)
        if plan.between_runs is not None:
            # As a logarithm it would be a little less: this pays for the looks.
            spread, reach = plan.between_runs, normal_quantile(1.0 - plan.alpha)
        else:
            spread = max(deviation(earlier), LEAST_DEVIATION)
            reach = student_quantile(1.0 - plan.alpha, runs - 1)
        return reach * spread * math.sqrt(1.0 + 1.0 / runs)

    def to_record(self) -> dict[str, Any]:
        """Return the question as a JSON-safe dict."""
        before = [list(run) for run in self.before]
        return {"kind": self.kind, "figure": self.figure, "before": before}


# -- Counts: shares of pairs -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Share(Question):
    """Is the share of pairs (or connections) beyond a threshold on this side of the limit?

    A mean hides a slow connection in ten; this counts them.
    """

    kind: ClassVar[str] = "share"

    of: RoundMean
    threshold: float
    above: bool
    unit: str = ""

    @property
    def figure(self) -> str:  # type: ignore[override]  # nobody assigns it
        """Name of the figure among an observation's figures."""
        return self.of.figure

    @property
    def arm_unit(self) -> str:
        """Unit of one arm's figure."""
        return self.of.arm_unit

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
        # No loss at all is a threshold that connections can keep, and miss.
        if self.threshold or self.above or not isinstance(self.of, Level):
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

    def span_seconds(self, plan: Plan) -> float:
        """Time over which the pairs are spread: longer than for a mean, to meet rare spells."""
        return self._spread(plan, COUNTED_SPACING_SECONDS)

    def find(
        self, rounds: Sequence[Round], plan: Plan, relation: Relation, limit: float
    ) -> Finding | None:
        """Look at the share and its exact bounds."""
        n = min(len(rounds), plan.last)
        if n < plan.first:
            return None
        edge, figures = self.threshold, self.of.figures(rounds[:n])
        kept = [(x >= edge) if self.above else (x <= edge) for x in figures]
        good = sum(kept)
        looks = tuple(range(plan.first, plan.last + 1))
        levels = count_levels(round(1.0 - limit, 12), looks, plan.alpha)
        # Bad ones in a row count for as many as they tell.
        runs = variance_inflation(lag_correlation([float(one) for one in kept], floor=0.0), n)
        independent, bad = max(1, math.floor(n / runs)), (n - good) / runs
        most_bad, least_bad = min(independent, math.ceil(bad)), min(independent, math.floor(bad))
        interval = Interval(
            estimate=good / n,
            low=1.0 - exceedance_bounds(most_bad, independent, levels.few)[1],
            high=1.0 - exceedance_bounds(least_bad, independent, levels.many)[0],
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

    def to_record(self) -> dict[str, Any]:
        """Return the question as a JSON-safe dict."""
        record = {"kind": self.kind, "threshold": self.threshold, "above": self.above}
        return {**record, "of": self.of.to_record()}


def dependence(values: Sequence[float], noun: str) -> str:
    """Say that values, in their order, depend on each other too much to decide; or nothing."""
    n = len(values)
    if n < _FEWEST_CORRELATED or lag_correlation(values) <= STRONG_CORRELATION:
        return ""
    return (
        "the samples depend on each other: neighbours resemble each other so much that "
        f"{n} {noun} tell about as much as a few; spread them over a longer time (span=... in the "
        "plan)"
    )


def quantile_name(q: float) -> str:
    """Name a quantile as a percentile: 0.95 is p95, 0.999 is p99.9."""
    return f"p{q * 100:g}"


def check_limit(limit: float, quantity: str) -> None:
    """Refuse a limit that is not a positive number.

    Raises:
        SettingsError: it is not.
    """
    if not 0.0 < limit < math.inf:
        raise SettingsError(
            f"a limit for {quantity} must be a positive number", found=f"limit {limit}"
        )


# -- How much more would decide --------------------------------------------------------------------

#: The chance to decide that the estimates aim at.
POWER = 0.8
#: More pairs than this are not worth naming: no plan may have them.
MOST_NAMED = MOST_PAIRS
#: What is always assumed of dependence is to be paid for as well: a factor of the spread.
ASSUMED = math.sqrt((1.0 + LEAST_CORRELATION) / (1.0 - LEAST_CORRELATION))


def pairs_needed(
    sd: float,
    margin: float,
    plan: Plan,
    *,
    off: float,
    level: float | None = None,
    power: float = POWER,
) -> int | None:
    """Return how many pairs would decide, or None for more than :data:`MOST_NAMED`.

    Args:
        sd: standard deviation of the pairs' ratios, as logarithms.
        margin: distance of the ratio from the limit, in the same unit.
        plan: at what risk.
        off: how far off the pair is that has to be survived, in the same unit.
        level: the one-sided level of a look, if it is not the plan's.
        power: the chance to decide by then.
    """
    level = plan.level if level is None else level
    error = max(sd, LEAST_DEVIATION)
    counts = range(2, MOST_NAMED)
    first = bisect_left(
        counts, True, key=lambda n: decided_at(n, error, plan, off, level, power) <= abs(margin)
    )
    return counts[first] if first < len(counts) else None


def decided_at(n: int, sd: float, plan: Plan, off: float, level: float, power: float) -> float:
    """Return the distance from a limit at which so many pairs decide with a chance of ``power``.

    The arguments are those of :func:`pairs_needed`.
    """
    met = student_quantile(1.0 - level, n - 1) * sd / math.sqrt(n)
    if off:
        # One pair more, so far off: the mean moves, and the spread grows.
        added = off * ASSUMED / (n + 1)
        error = math.hypot(sd * math.sqrt((n - 1) / n / (n + 1)), added)
        met = max(met, off / (n + 1) + student_quantile(1.0 - plan.alpha, n) * error)
    return met + normal_quantile(power) * sd / math.sqrt(n)


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

"""What a user holds: a bandwidth, a latency, and what can be asked of them.

Nothing is measured until a comparison asks for it; the limit is thus known before the first
packet, and that makes it sound to stop as soon as the answer is certain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NoReturn, Protocol, overload, runtime_checkable

from pytest_k8snet.errors import SettingsError
from pytest_k8snet.units import BitRate, Seconds
from pytest_k8snet.verdict.levels import Level
from pytest_k8snet.verdict.percentiles import Quantile
from pytest_k8snet.verdict.questions import (
    Mean,
    Question,
    Relation,
    Share,
    Unpaired,
    quantile_name,
)
from pytest_k8snet.verdict.sampling import Arm, Sampling
from pytest_k8snet.verdict.settle import Judging, settle, values
from pytest_k8snet.verdict.verdict import (
    Claim,
    Verdict,
    limit_text,
)


@runtime_checkable
class Reference(Protocol):
    """Earlier runs that a measurement can be divided by."""

    @property
    def source(self) -> str:
        """What to call them."""

    def values_of(self, arm: Arm, figure: str) -> tuple[tuple[float, ...], ...]:
        """Return each run's values of what an arm measures now, in base units.

        Raises:
            ResultsError: a run has none.
        """


# -- What every comparison has in common -----------------------------------------------------------

_MIRROR: dict[str, Relation] = {">=": "<=", "<=": ">=", ">": "<", "<": ">"}


class NotANumber:
    """Refuses to be taken for a value, and says what to write instead."""

    #: What a reader may write, in messages.
    _example: ClassVar[str] = ""

    def __bool__(self) -> NoReturn:
        self._refuse("has no truth of its own")

    def __float__(self) -> NoReturn:
        self._refuse("is no number yet: it is measured while it is compared")

    def __eq__(self, other: object) -> NoReturn:
        self._refuse("cannot be compared with == or !=: no measurement is exactly equal")

    __hash__ = object.__hash__

    def __add__(self, other: object) -> Any:
        raise TypeError(
            f"cannot add {other!r} and {self!r}: only bandwidths are added up, measured at once; "
            "write assert bandwidth(one) + bandwidth(other) >= 1500 * Mbit"
        )

    __radd__ = __add__

    def __format__(self, specification: str) -> str:
        return self._calculate() if specification else str(self)

    def _calculate(self, *_others: object) -> Any:
        self._refuse("is no number to calculate with: it is measured while it is compared")

    __sub__ = __rsub__ = __mul__ = __rmul__ = __rtruediv__ = __floordiv__ = _calculate
    __mod__ = __pow__ = __neg__ = __abs__ = __round__ = __int__ = _calculate

    def _refuse(self, why: str) -> NoReturn:
        raise TypeError(f"{self!r} {why}; write {self._example}")


class Comparable(NotANumber):
    """Compares with ``>= <= > <``, and measures while it does."""

    def __init__(self, sampling: Sampling, judging: Judging) -> None:
        self._sampling = sampling
        self._judging = judging
        self._verdicts: list[Verdict] = []

    def __ge__(self, limit: float) -> Verdict:
        return self._settle(">=", limit)

    def __le__(self, limit: float) -> Verdict:
        return self._settle("<=", limit)

    def __gt__(self, limit: float) -> Verdict:
        return self._settle(">", limit)

    def __lt__(self, limit: float) -> Verdict:
        return self._settle("<", limit)

    def __repr__(self) -> str:
        return self._subject()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts of the comparisons so far."""
        return tuple(self._verdicts)

    def explain_comparison(
        self, operator: str, limit: object, *, reflected: bool = False
    ) -> list[str] | None:
        """Explain a comparison for pytest's assertion report, or None if there was no such one.

        Args:
            operator: as it stands in the test.
            limit: the other operand.
            reflected: the limit stands on the left.
        """
        relation = _MIRROR.get(operator) if reflected else operator
        for verdict in reversed(self._verdicts):
            if verdict.claim.relation == relation and verdict.claim.limit == limit:
                return verdict.text.splitlines()
        return None

    def _question(self) -> Question:
        raise NotImplementedError

    def _subject(self) -> str:
        raise NotImplementedError

    def _baseline(self) -> str | None:
        if len(self._sampling.arms) == 1:
            return None
        measured, baseline = self._sampling.arms
        # Measured otherwise, it is not what tables call by its scene.
        alike = measured.variant == baseline.variant and measured.nodes == baseline.nodes
        return baseline.scene if baseline.scene and alike else baseline.label

    def _settle(self, relation: Relation, limit: float) -> Verdict:
        question = self._question()
        arms = self._sampling.arms
        _refuse_itself(arms)
        _refuse_lacking(arms, question)
        claim = Claim(
            question=question,
            subject=self._subject(),
            relation=relation,
            limit=self._checked(limit, question),
            context=arms[0].context,
            scene=arms[0].scene,
            mode=arms[0].mode,
            baseline=self._baseline(),
            placement=arms[0].placement,
            tool=arms[0].tool,
            variant=arms[0].variant,
        )
        verdict = settle(claim, self._sampling, self._judging)
        self._verdicts.append(verdict)
        self._judging.claims.compared(arms, verdict, self._example)
        return verdict

    def _checked(self, limit: object, question: Question) -> float:
        """Return the limit in base units, if it has the question's unit."""
        wanted = {"bit/s": BitRate, "s": Seconds, "": float}[question.unit]
        foreign = isinstance(limit, bool) or not isinstance(limit, (int, float))
        if wanted is float:
            foreign = foreign or isinstance(limit, (BitRate, Seconds))
        else:
            foreign = not isinstance(limit, wanted)
        if foreign:
            raise TypeError(
                f"cannot compare {question.quantity} ({self!r}) with {limit!r}: "
                f"write {self._example}"
            )
        return float(limit)  # type: ignore[arg-type]


#: The figure of samples that count connections.
NEW_CONNECTIONS = "new connections per second"


# -- Bandwidth -------------------------------------------------------------------------------------


class Bandwidth(Comparable):
    """A bandwidth that is measured while it is compared.

    Compares with a bit rate (``>= 500 * Mbit``), or divides by another bandwidth. Two that are
    added up are measured at once.
    """

    _example = "assert bandwidth(pods) >= 500 * Mbit, or bandwidth(pods) / bandwidth(nodes) >= 0.90"

    def __init__(self, arm: Arm, judging: Judging) -> None:
        super().__init__(judging.sampling(arm), judging)
        # The parts of a sum are known already, and so is that they were compared.
        if not arm.of:
            judging.claims.made(arm, repr(self), self._example)

    def __add__(self, other: object) -> Bandwidth:
        """Return what two pairs get at once: both are measured at the same time, and added up."""
        if not isinstance(other, Bandwidth):
            super().__add__(other)
        assert isinstance(other, Bandwidth)
        arm = self._sampling.arms[0].at_once(other._sampling.arms[0])
        return Bandwidth(arm, same_terms(self._judging, other._judging))

    def __radd__(self, other: object) -> Bandwidth:
        # What sum() begins with.
        return self if other == 0 and isinstance(other, int) else self + other

    @overload
    def __truediv__(self, baseline: Bandwidth) -> PairedRatio: ...
    @overload
    def __truediv__(self, baseline: BitRate) -> RateShare: ...
    @overload
    def __truediv__(self, baseline: Reference) -> UnpairedRatio: ...
    def __truediv__(
        self, baseline: Bandwidth | BitRate | Reference
    ) -> PairedRatio | RateShare | UnpairedRatio:
        if isinstance(baseline, BitRate):
            return RateShare(self._sampling, self._judging, baseline)
        if isinstance(baseline, Reference):
            self._refuse_sum("no earlier run to be compared with", "divide each part by it")
            return UnpairedRatio(self._sampling.arms[0], self._judging, baseline)
        if not isinstance(baseline, Bandwidth):
            raise TypeError(
                f"cannot divide {self!r} by {baseline!r}: divide it by another bandwidth or a "
                "bit rate, or compare it with a bit rate as in >= 500 * Mbit"
            )
        return PairedRatio(
            Mean(figure="bandwidth", unit="", paired=True),
            (self._sampling.arms[0], baseline._sampling.arms[0]),
            same_terms(self._judging, baseline._judging),
        )

    def share(self, *, above: BitRate | None = None, below: BitRate | None = None) -> PairShare:
        """Return the share of connections with at least ``above`` (or at most ``below``).

        A mean hides a slow connection in ten; ``bandwidth(p).share(above=500 * Mbit) >= 0.9`` does
        not. It needs a plan with ``last=29`` or more.
        """
        return PairShare(self, self._question(), above, below)

    @property
    def loss(self) -> FlowFigure:
        """The share of UDP datagrams that did not arrive, of the same samples."""
        return self._beside("loss", "")

    @property
    def jitter(self) -> FlowFigure:
        """The jitter of UDP, of the same samples."""
        return self._beside("jitter", "s")

    @property
    def retransmit_ratio(self) -> FlowFigure:
        """The share of TCP segments that were sent again, of the same samples."""
        return self._beside("retransmit_ratio", "")

    @property
    def rtt(self) -> FlowFigure:
        """TCP's own round-trip time under load, the mean of each of the same samples."""
        return self._beside("rtt", "s")

    def _refuse_sum(self, lacks: str, remedy: str) -> None:
        if self._sampling.arms[0].of:
            raise SettingsError(f"a sum of bandwidths has {lacks}", found=repr(self), remedy=remedy)

    def _beside(self, figure: str, unit: str) -> FlowFigure:
        self._refuse_sum(f"no {figure.replace('_', ' ')} of its own", "ask one pair for it")
        return FlowFigure(Level(figure=figure, unit=unit), self._sampling, self._judging)

    def _question(self) -> Mean:
        return Mean(figure="bandwidth", unit="bit/s", paired=False)

    def _subject(self) -> str:
        return f"bandwidth of {self._sampling.arms[0].label}"


class FlowFigure(Comparable):
    """What a bandwidth's samples have beside it; compares with a plain number or a duration."""

    _example = "assert bandwidth(pods, udp=True, bitrate=50 * Mbit).loss <= 0.001"

    def __init__(self, level: Level, sampling: Sampling, judging: Judging) -> None:
        super().__init__(sampling, judging)
        self._level = level

    def share(
        self, *, above: float | Seconds | None = None, below: float | Seconds | None = None
    ) -> PairShare:
        """Return the share of connections with at most ``below`` (or at least ``above``)."""
        return PairShare(self, self._level, above, below)

    def _question(self) -> Level:
        return self._level

    def _subject(self) -> str:
        return f"{self._level.quantity} of {self._sampling.arms[0].label}"


class Connections(Comparable):
    """New connections per second that are measured while they are compared.

    Compares with a plain number, or divides by another's.
    """

    _example = "assert connections(pod, url) >= 200"

    def __init__(self, arm: Arm, judging: Judging) -> None:
        super().__init__(judging.sampling(arm), judging)
        judging.claims.made(arm, repr(self), self._example)

    def __truediv__(self, baseline: Connections) -> PairedRatio:
        if not isinstance(baseline, Connections):
            raise TypeError(
                f"cannot divide {self!r} by {baseline!r}: write "
                "assert connections(pod, url) / connections(node, url) >= 0.8"
            )
        return PairedRatio(
            replace(self._question(), paired=True),
            (self._sampling.arms[0], baseline._sampling.arms[0]),
            same_terms(self._judging, baseline._judging),
        )

    def _question(self) -> Mean:
        return Mean(figure=NEW_CONNECTIONS, unit="", paired=False)

    def _subject(self) -> str:
        return f"{NEW_CONNECTIONS} of {self._sampling.arms[0].label}"


class RateShare(Comparable):
    """A bandwidth as a share of a known rate, such as the link's; compares with plain numbers."""

    _example = "assert bandwidth(pods) / (10 * Gbit) >= 0.9"

    def __init__(self, sampling: Sampling, judging: Judging, rate: BitRate) -> None:
        super().__init__(sampling, judging)
        if rate <= 0:
            raise SettingsError(
                "a bandwidth is no share of a rate that is not positive", found=str(rate)
            )
        self._rate = rate

    def _question(self) -> Question:
        return Mean(figure="bandwidth", unit="", paired=False, per=float(self._rate))

    def _subject(self) -> str:
        return f"bandwidth of {self._sampling.arms[0].label} / {self._rate}"


class PairedRatio(Comparable):
    """A ratio of two measurements, taken in pairs; compares with plain numbers.

    The estimate is the geometric mean of the pairs' ratios.
    """

    _example = "assert ratio >= 0.90 (or <=, or ratio.share(above=0.90) >= 0.9)"

    def __init__(self, mean: Mean, arms: tuple[Arm, Arm], judging: Judging) -> None:
        super().__init__(judging.sampling(*_told_apart(*arms)), judging)
        self._mean = mean

    def share(self, *, above: float | None = None, below: float | None = None) -> PairShare:
        """Return the share of pairs whose ratio is at least ``above`` (or at most ``below``).

        A mean hides a slow connection in ten; ``ratio.share(above=0.8) >= 0.9`` does not. It needs
        29 pairs or more for 0.9, so a plan with ``last=29`` or more.
        """
        return PairShare(self, self._mean, above, below)

    def pairs(self, count: int) -> tuple[tuple[float, float], ...]:
        """Take pairs without a claim, until there are ``count`` or no more can be had.

        For calibration, such as how much a cluster's own noise lets it resolve.
        """
        mean, sampling = self._mean, self._sampling
        requests = mean.requests(sampling.plan)
        sampling.resume()
        while len(sampling.rounds) < count:
            if sampling.take(requests=requests, rounds_at_most=count, span_seconds=0.0):
                break
        return tuple(mean.reduced(arms) for arms in values(sampling.rounds, mean.figure))

    def _question(self) -> Question:
        return self._mean

    def _subject(self) -> str:
        text = " / ".join(arm.label for arm in self._sampling.arms)
        mean = self._mean
        if mean.many:
            return f"{mean.figure} {quantile_name(mean.q)} of {text}"
        return text if mean.figure == "bandwidth" else f"{mean.figure} of {text}"


class PairShare(Comparable):
    """A share of pairs beyond a threshold; compares with plain numbers between 0 and 1."""

    _example = "assert ratio.share(above=0.80) >= 0.9"

    def __init__(
        self, ratio: Comparable, of: Mean | Level, above: float | None, below: float | None
    ) -> None:
        super().__init__(ratio._sampling, ratio._judging)
        if (above is None) == (below is None):
            raise SettingsError(
                "share() needs one threshold",
                found=f"above={above}, below={below}",
                remedy="write share(above=0.8) or share(below=1.5)",
            )
        threshold = above if above is not None else below
        assert threshold is not None
        self._share = Share(of=of, threshold=float(threshold), above=above is not None)
        self._of = repr(ratio)

    def _question(self) -> Question:
        return self._share

    def _subject(self) -> str:
        side = "above" if self._share.above else "below"
        noun = self._share.noun
        unit, threshold = self._share.of.unit, f"{self._share.threshold:g}"
        if unit:
            threshold = limit_text(self._share.threshold, unit)
        return f"share of {noun} with {self._of} {side} {threshold}"


class UnpairedRatio(Comparable):
    """A measurement relative to earlier runs; compares with plain numbers."""

    _example = "assert bandwidth(pods) / baseline >= 0.95"

    def __init__(self, arm: Arm, judging: Judging, reference: Reference) -> None:
        super().__init__(judging.sampling(arm), judging)
        self._source = reference.source
        self._question_asked = Unpaired(
            figure="bandwidth", before=reference.values_of(arm, "bandwidth")
        )

    def _question(self) -> Question:
        return self._question_asked

    def _subject(self) -> str:
        return f"{self._sampling.arms[0].label} / baseline run"

    def _baseline(self) -> str:
        return f"baseline run {self._source}"


# -- Latency ---------------------------------------------------------------------------------------


class Latency(NotANumber):
    """Latency that is measured while one of its percentiles is compared.

    The phases of requests to a URL follow each other; ``total`` is the whole. All are taken from
    the same requests, so asserting on several costs nothing more. Pings between the ends of a pair
    have ``rtt`` alone, the round-trip time.
    """

    _example = "assert latency(pod, url).connect.p95 <= 5 * ms"

    def __init__(self, arm: Arm, judging: Judging) -> None:
        sampling = judging.sampling(arm)
        self.dns = Phase("dns", sampling, judging)
        self.connect = Phase("connect", sampling, judging)
        self.tls = Phase("tls", sampling, judging)
        self.first_byte = Phase("first_byte", sampling, judging)
        self.total = Phase("total", sampling, judging)
        self.rtt = Phase("rtt", sampling, judging)
        self._label = arm.label
        judging.claims.made(arm, repr(self), self._example)

    def __repr__(self) -> str:
        return f"latency of {self._label}"


class Phase(NotANumber):
    """One phase of a request: name lookup, TCP connect, TLS, first byte, or the total."""

    _example = "assert latency(pod, url).connect.p95 <= 5 * ms: say which percentile"

    def __init__(self, figure: str, sampling: Sampling, judging: Judging) -> None:
        self._figure = figure
        self._sampling = sampling
        self._judging = judging

    @property
    def p50(self) -> Percentile:
        """The median."""
        return self.percentile(50)

    @property
    def p90(self) -> Percentile:
        """The 90th percentile."""
        return self.percentile(90)

    @property
    def p95(self) -> Percentile:
        """The 95th percentile."""
        return self.percentile(95)

    @property
    def p99(self) -> Percentile:
        """The 99th percentile."""
        return self.percentile(99)

    def percentile(self, percent: float) -> Percentile:
        """Return a percentile, above 0 and below 100."""
        if not 0 < percent < 100:
            raise SettingsError(
                "a percentile lies above 0 and below 100",
                found=f"percentile({percent:g})",
                remedy="no finite number of requests can judge the slowest of all",
            )
        return Percentile(self._figure, percent / 100, self._sampling, self._judging)

    def __truediv__(self, baseline: Phase) -> PairedRatio:
        if not isinstance(baseline, Phase):
            raise TypeError(f"cannot divide {self!r} by {baseline!r}: write {self._example}")
        return self.p50 / baseline.p50

    def __lt__(self, limit: object) -> bool:
        self._refuse("is not one figure")

    __le__ = __gt__ = __ge__ = __lt__

    def __repr__(self) -> str:
        return f"{self._figure} of {self._sampling.arms[0].label}"


class Percentile(Comparable):
    """A percentile of a phase; compares with a duration, or divides by another of its kind."""

    _example = "assert latency(pod, url).connect.p95 <= 5 * ms"

    def __init__(self, figure: str, q: float, sampling: Sampling, judging: Judging) -> None:
        super().__init__(sampling, judging)
        self._quantile = Quantile(figure=figure, q=q)

    def __truediv__(self, baseline: Percentile) -> PairedRatio:
        mine = self._quantile
        self._require_alike(baseline, f"divide {self!r} by {baseline!r}: a ratio")
        return PairedRatio(
            Mean(figure=mine.figure, unit="", paired=True, q=mine.q, many=True),
            (self._sampling.arms[0], baseline._sampling.arms[0]),
            same_terms(self._judging, baseline._judging),
        )

    def __sub__(self, baseline: Percentile) -> PercentileDifference:  # type: ignore[override]
        mine = self._quantile
        self._require_alike(baseline, f"subtract {baseline!r} from {self!r}: a difference")
        return PercentileDifference(
            Level(figure=mine.figure, unit="s", paired=True, q=mine.q, many=True),
            (self._sampling.arms[0], baseline._sampling.arms[0]),
            same_terms(self._judging, baseline._judging),
        )

    def _require_alike(self, baseline: object, what: str) -> None:
        if not isinstance(baseline, Percentile) or baseline._quantile != self._quantile:
            raise TypeError(
                f"cannot {what} of latencies needs the same phase and percentile on both sides"
            )

    def _checked(self, limit: object, question: Question) -> float:
        """Return the limit, if a request that was waited for can exceed it.

        Raises:
            SettingsError: none can, so no answer and a slow answer would look alike.
        """
        checked, longest = super()._checked(limit, question), self._sampling.arms[0].longest_seconds
        if checked > longest:
            raise SettingsError(
                f"a limit above the request's time limit cannot be judged: {self!r}",
                found=f"limit {Seconds(checked)}, requests are given up after {Seconds(longest)}",
                remedy=f"give the requests more time: latency(..., max_time_seconds={checked:g})",
            )
        return checked

    def _question(self) -> Question:
        return self._quantile

    def _subject(self) -> str:
        return f"{self._quantile.quantity} of {self._sampling.arms[0].label}"


class PercentileDifference(Comparable):
    """How much longer one latency's percentile is than another's; compares with a duration.

    Measured in pairs of rounds; the estimate is the mean of the rounds' differences.
    """

    _example = "assert latency(pod, url).connect.p95 - latency(node, url).connect.p95 <= 2 * ms"

    def __init__(self, level: Level, arms: tuple[Arm, Arm], judging: Judging) -> None:
        super().__init__(judging.sampling(*_told_apart(*arms)), judging)
        self._level = level

    def _question(self) -> Level:
        return self._level

    def _subject(self) -> str:
        text = " - ".join(arm.label for arm in self._sampling.arms)
        return f"{self._level.figure} {quantile_name(self._level.q)} of {text}"


# -- What two measurements have to share, and what they may not -----------------------------------


def same_terms(left: Judging, right: Judging) -> Judging:
    """Return the terms under which two measurements are compared.

    Raises:
        SettingsError: their plans differ.
    """
    if left.plan != right.plan:
        raise SettingsError(
            "the two sides of a ratio have different plans",
            found=f"{left.plan} / {right.plan}",
            remedy="give both the same plan",
        )
    return left


def _told_apart(numerator: Arm, baseline: Arm) -> tuple[Arm, Arm]:
    """Name in full what sets two arms apart beside their scenes and variants."""
    alike = numerator.label == baseline.label
    named: list[Arm] = []
    for arm in (numerator, baseline):
        label = arm.label
        if arm.nodes and numerator.nodes != baseline.nodes:
            label += f" {arm.nodes}"
        if numerator.mode != baseline.mode and (alike or (numerator.mode and baseline.mode)):
            label += f" [{arm.mode}]"
        if label == arm.label and alike and numerator.ends != baseline.ends:
            label += f" {arm.ends}"
        named.append(replace(arm, label=label))
    return named[0], named[1]


def _refuse_lacking(arms: Iterable[Arm], question: Question) -> None:
    """Refuse a figure that an arm cannot have, before anything is measured.

    Raises:
        SettingsError: an arm cannot.
    """
    for arm in arms:
        why = arm.lacks.get(question.figure)
        if why is not None:
            raise SettingsError(
                f"{arm.label} has no {question.figure} time to judge",
                found=why,
                remedy="dns is of a name, tls of an https URL, rtt between the two ends of a pair",
            )


def _refuse_itself(arms: Sequence[Arm]) -> None:
    """Refuse a ratio whose two sides are one measurement.

    Raises:
        SettingsError: they are.
    """
    names = {(arm.label, arm.ends) for arm in arms}
    if len(arms) == 2 and arms[0].ends and len(names) == 1:
        raise SettingsError(
            f"{arms[0].label} is compared with itself, which is 1 whatever the network does",
            found=f"both sides measure {arms[0].ends}, with the same options",
            remedy="divide by another pair, usually the nodes below it: "
            "bandwidth(pod_pair) / bandwidth(node_pair)",
        )

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
from pytest_k8snet.verdict.percentiles import Quantile
from pytest_k8snet.verdict.questions import (
    NEW_CONNECTIONS,
    Level,
    Mean,
    Question,
    Relation,
    RoundMean,
    Share,
    Unpaired,
    quantile_name,
)
from pytest_k8snet.verdict.sampling import Arm, Sampling
from pytest_k8snet.verdict.settle import Judging, settle, values
from pytest_k8snet.verdict.verdict import Claim, Verdict, limit_text


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

    def __init__(
        self,
        question: Question,
        subject: str,
        sampling: Sampling,
        judging: Judging,
        *,
        baseline: str | None = None,
    ) -> None:
        self._question = question
        self._subject = subject
        self._sampling = sampling
        self._judging = judging
        self._verdicts: list[Verdict] = []
        if len(sampling.arms) == 2:
            first, second = sampling.arms
            # Measured otherwise, it is not what tables call by its scene.
            alike = first.variant == second.variant and first.nodes == second.nodes
            baseline = second.scene if second.scene and alike else second.label
        self._baseline = baseline

    def __ge__(self, limit: float) -> Verdict:
        return self._settle(">=", limit)

    def __le__(self, limit: float) -> Verdict:
        return self._settle("<=", limit)

    def __gt__(self, limit: float) -> Verdict:
        return self._settle(">", limit)

    def __lt__(self, limit: float) -> Verdict:
        return self._settle("<", limit)

    def __repr__(self) -> str:
        return self._subject

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

    def _settle(self, relation: Relation, limit: float) -> Verdict:
        arms = self._sampling.arms
        _refuse_itself(arms)
        _refuse_lacking(arms, self._question)
        claim = Claim(
            question=self._question,
            subject=self._subject,
            relation=relation,
            limit=self._checked(limit, self._question),
            context=arms[0].context,
            scene=arms[0].scene,
            mode=arms[0].mode,
            baseline=self._baseline,
            placement=arms[0].placement,
            tool=arms[0].tool,
            variant=arms[0].variant,
        )
        verdict = settle(claim, self._sampling, self._judging)
        self._verdicts.append(verdict)
        self._judging.claims.compared(arms, verdict, self._example)
        return verdict

    def _checked(self, limit: object, question: Question) -> float:
        """Return a limit in base units, if it has the question's unit."""
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


class Averaged(Comparable):
    """What is judged by a mean over connections or pairs, which can be counted as well."""

    def __init__(
        self, question: RoundMean, subject: str, sampling: Sampling, judging: Judging
    ) -> None:
        super().__init__(question, subject, sampling, judging)
        self._mean = question

    def share(self, *, above: float | None = None, below: float | None = None) -> PairShare:
        """Return the share of connections or pairs with at least ``above`` (or at most ``below``).

        A mean hides a slow connection in ten; ``bandwidth(p).share(above=500 * Mbit) >= 0.9`` and
        ``ratio.share(above=0.8) >= 0.9`` do not. They need a plan with ``last=29`` or more.
        """
        threshold = above if below is None else below
        if threshold is None or (above is not None and below is not None):
            raise SettingsError(
                "share() needs one threshold",
                found=f"above={above}, below={below}",
                remedy="write share(above=0.8) or share(below=1.5)",
            )
        share = Share(
            of=self._mean,
            threshold=self._checked(threshold, self._mean),
            above=above is not None,
        )
        side = "above" if share.above else "below"
        unit = self._mean.unit
        told = limit_text(share.threshold, unit) if unit else f"{share.threshold:g}"
        subject = f"share of {share.noun} with {self!r} {side} {told}"
        return PairShare(share, subject, self._sampling, self._judging)


class PairShare(Comparable):
    """A share of pairs beyond a threshold; compares with plain numbers between 0 and 1."""

    _example = "assert ratio.share(above=0.80) >= 0.9"


class PairedRatio(Averaged):
    """A ratio of two measurements, taken in pairs; compares with plain numbers.

    The estimate is the geometric mean of the pairs' ratios.
    """

    _example = "assert ratio >= 0.90 (or <=, or ratio.share(above=0.90) >= 0.9)"

    def __init__(self, mean: Mean, measured: Comparable, baseline: Comparable) -> None:
        sampling, judging = _paired(measured, baseline)
        text = " / ".join(arm.label for arm in sampling.arms)
        if mean.many:
            text = f"{mean.figure} {quantile_name(mean.q)} of {text}"
        elif mean.figure != "bandwidth":
            text = f"{mean.figure} of {text}"
        super().__init__(mean, text, sampling, judging)

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
        taken = map(mean.arms, values(sampling.rounds, mean.figure))
        return tuple((measured, baseline) for measured, baseline in taken)


# -- Bandwidth -------------------------------------------------------------------------------------


class Bandwidth(Averaged):
    """A bandwidth that is measured while it is compared.

    Compares with a bit rate (``>= 500 * Mbit``), or divides by another bandwidth. Two that are
    added up are measured at once.
    """

    _example = "assert bandwidth(pods) >= 500 * Mbit, or bandwidth(pods) / bandwidth(nodes) >= 0.90"

    def __init__(self, arm: Arm, judging: Judging) -> None:
        question = Mean(figure="bandwidth", unit="bit/s")
        super().__init__(question, f"bandwidth of {arm.label}", judging.sampling(arm), judging)
        self._arm = arm
        # The parts of a sum are known already, and so is that they were compared.
        if not arm.of:
            judging.claims.made(arm, repr(self), self._example)

    def __add__(self, other: object) -> Bandwidth:
        """Return what two pairs get at once: both are measured at the same time, and added up."""
        if not isinstance(other, Bandwidth):
            super().__add__(other)
        assert isinstance(other, Bandwidth)
        return Bandwidth(self._arm.at_once(other._arm), same_terms(self._judging, other._judging))

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
            if baseline <= 0:
                raise SettingsError(
                    "a bandwidth is no share of a rate that is not positive", found=str(baseline)
                )
            mean = Mean(figure="bandwidth", unit="", per=float(baseline))
            return RateShare(mean, f"{self!r} / {baseline}", self._sampling, self._judging)
        if isinstance(baseline, Reference):
            self._refuse_sum("no earlier run to be compared with", "divide each part by it")
            return UnpairedRatio(
                Unpaired(figure="bandwidth", before=baseline.values_of(self._arm, "bandwidth")),
                f"{self._arm.label} / baseline run",
                self._judging.sampling(self._arm),
                self._judging,
                baseline=f"baseline run {baseline.source}",
            )
        if not isinstance(baseline, Bandwidth):
            raise TypeError(
                f"cannot divide {self!r} by {baseline!r}: divide it by another bandwidth or a "
                "bit rate, or compare it with a bit rate as in >= 500 * Mbit"
            )
        return PairedRatio(Mean(figure="bandwidth", unit="", paired=True), self, baseline)

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

    def _beside(self, figure: str, unit: str) -> FlowFigure:
        self._refuse_sum(f"no {figure.replace('_', ' ')} of its own", "ask one pair for it")
        level = Level(figure=figure, unit=unit)
        subject = f"{level.quantity} of {self._arm.label}"
        return FlowFigure(level, subject, self._sampling, self._judging)

    def _refuse_sum(self, lacks: str, remedy: str) -> None:
        if self._arm.of:
            raise SettingsError(f"a sum of bandwidths has {lacks}", found=repr(self), remedy=remedy)


class FlowFigure(Averaged):
    """What a bandwidth's samples have beside it; compares with a plain number or a duration."""

    _example = "assert bandwidth(pods, udp=True, bitrate=50 * Mbit).loss <= 0.001"


class RateShare(Comparable):
    """A bandwidth as a share of a known rate, such as the link's; compares with plain numbers."""

    _example = "assert bandwidth(pods) / (10 * Gbit) >= 0.9"


class UnpairedRatio(Comparable):
    """A measurement relative to earlier runs; compares with plain numbers."""

    _example = "assert bandwidth(pods) / baseline >= 0.95"


class Connections(Comparable):
    """New connections per second that are measured while they are compared.

    Compares with a plain number, or divides by another's.
    """

    _example = "assert connections(pod, url) >= 200"

    def __init__(self, arm: Arm, judging: Judging) -> None:
        super().__init__(
            Mean(figure=NEW_CONNECTIONS, unit=""),
            f"{NEW_CONNECTIONS} of {arm.label}",
            judging.sampling(arm),
            judging,
        )
        judging.claims.made(arm, repr(self), self._example)

    def __truediv__(self, baseline: Connections) -> PairedRatio:
        if not isinstance(baseline, Connections):
            raise TypeError(
                f"cannot divide {self!r} by {baseline!r}: write "
                "assert connections(pod, url) / connections(node, url) >= 0.8"
            )
        return PairedRatio(Mean(figure=NEW_CONNECTIONS, unit="", paired=True), self, baseline)


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
        quantile = Quantile(figure=self._figure, q=percent / 100)
        return Percentile(quantile, self._sampling, self._judging)

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

    def __init__(self, quantile: Quantile, sampling: Sampling, judging: Judging) -> None:
        self._arm = sampling.arms[0]
        super().__init__(quantile, f"{quantile.quantity} of {self._arm.label}", sampling, judging)
        self._quantile = quantile

    def __truediv__(self, baseline: Percentile) -> PairedRatio:
        mine = self._quantile
        self._require_alike(baseline, f"divide {self!r} by {baseline!r}: a ratio")
        mean = Mean(figure=mine.figure, unit="", paired=True, q=mine.q, many=True)
        return PairedRatio(mean, self, baseline)

    def __sub__(self, baseline: Percentile) -> PercentileDifference:  # type: ignore[override]
        mine = self._quantile
        self._require_alike(baseline, f"subtract {baseline!r} from {self!r}: a difference")
        sampling, judging = _paired(self, baseline)
        text = " - ".join(arm.label for arm in sampling.arms)
        return PercentileDifference(
            Level(figure=mine.figure, unit="s", paired=True, q=mine.q, many=True),
            f"{mine.quantity} of {text}",
            sampling,
            judging,
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
        checked, longest = super()._checked(limit, question), self._arm.longest_seconds
        if checked > longest:
            raise SettingsError(
                f"a limit above the request's time limit cannot be judged: {self!r}",
                found=f"limit {Seconds(checked)}, requests are given up after {Seconds(longest)}",
                remedy=f"give the requests more time: latency(..., max_time_seconds={checked:g})",
            )
        return checked


class PercentileDifference(Comparable):
    """How much longer one latency's percentile is than another's; compares with a duration.

    Measured in pairs of rounds; the estimate is the mean of the rounds' differences.
    """

    _example = "assert latency(pod, url).connect.p95 - latency(node, url).connect.p95 <= 2 * ms"


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


def _paired(measured: Comparable, baseline: Comparable) -> tuple[Sampling, Judging]:
    judging = same_terms(measured._judging, baseline._judging)
    arms = _told_apart(measured._sampling.arms[0], baseline._sampling.arms[0])
    return judging.sampling(*arms), judging


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

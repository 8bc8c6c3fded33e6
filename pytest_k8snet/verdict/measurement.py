"""What a user holds: a bandwidth, a latency, and what can be asked of them.

Nothing is measured until a comparison asks for it; the limit is thus known before the first
packet, and that makes it sound to stop as soon as the answer is certain.
"""

from __future__ import annotations

from dataclasses import replace
from typing import overload

from pytest_k8snet.errors import SettingsError
from pytest_k8snet.verdict.counting import Quantile, Share
from pytest_k8snet.verdict.engine import Judging, values
from pytest_k8snet.verdict.lazy import Comparable, NotANumber, same_terms
from pytest_k8snet.verdict.observation import Arm
from pytest_k8snet.verdict.question import Mean, Question, quantile_name
from pytest_k8snet.verdict.sampler import Sampler
from pytest_k8snet.verdict.unpaired import Reference, UnpairedRatio


class PairedRatio(Comparable):
    """A ratio of two measurements, taken in pairs; compares with plain numbers.

    The estimate is the geometric mean of the pairs' ratios.
    """

    _example = "assert ratio >= 0.90 (or <=, or ratio.share(above=0.90) >= 0.9)"

    def __init__(self, mean: Mean, arms: tuple[Arm, Arm], judging: Judging) -> None:
        super().__init__(
            Sampler(_told_apart(*arms), judging.plan, judging.clock, judging.watch), judging
        )
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
        mean = self._mean
        self._sampler.resume()
        while len(self._sampler.rounds) < count:
            if self._sampler.take(requests=mean.requests(self._sampler.plan), rounds_at_most=count):
                break
        return tuple(mean.reduced(arms) for arms in values(self._sampler.rounds, mean.figure))

    def _question(self) -> Question:
        return self._mean

    def _subject(self) -> str:
        text = " / ".join(arm.label for arm in self._sampler.arms)
        mean = self._mean
        return f"{mean.figure} {quantile_name(mean.q)} of {text}" if mean.many else text


def _told_apart(numerator: Arm, baseline: Arm) -> tuple[Arm, Arm]:
    """Give two arms of one name the mode, or else the context, that sets them apart."""
    if numerator.label != baseline.label:
        return numerator, baseline
    named: list[Arm] = []
    for arm in (numerator, baseline):
        if numerator.mode != baseline.mode:
            label = f"{arm.label} [{arm.mode}]"
        elif numerator.context != baseline.context:
            label = f"{arm.label} ({arm.context})"
        else:
            label = arm.label
        named.append(replace(arm, label=label))
    return named[0], named[1]


class PairShare(Comparable):
    """A share of pairs beyond a threshold; compares with plain numbers between 0 and 1."""

    _example = "assert ratio.share(above=0.80) >= 0.9"

    def __init__(
        self, ratio: Comparable, mean: Mean, above: float | None, below: float | None
    ) -> None:
        super().__init__(ratio._sampler, ratio._judging)
        if (above is None) == (below is None):
            raise SettingsError(
                "share() needs one threshold",
                found=f"above={above}, below={below}",
                remedy="write share(above=0.8) or share(below=1.5)",
            )
        threshold = above if above is not None else below
        assert threshold is not None
        self._share = Share(of=mean, threshold=float(threshold), above=above is not None)
        self._of = repr(ratio)

    def _question(self) -> Question:
        return self._share

    def _subject(self) -> str:
        side = "above" if self._share.above else "below"
        noun = self._share.noun
        return f"share of {noun} with {self._of} {side} {self._share.threshold:g}"


class Bandwidth(Comparable):
    """A bandwidth that is measured while it is compared.

    Compares with a bit rate (``>= 500 * Mbit``), or divides by another bandwidth.
    """

    _example = "assert bandwidth(pods) >= 500 * Mbit, or bandwidth(pods) / bandwidth(nodes) >= 0.90"

    def __init__(self, arm: Arm, judging: Judging) -> None:
        super().__init__(Sampler((arm,), judging.plan, judging.clock, judging.watch), judging)

    @overload
    def __truediv__(self, baseline: Bandwidth) -> PairedRatio: ...
    @overload
    def __truediv__(self, baseline: Reference) -> UnpairedRatio: ...
    def __truediv__(self, baseline: Bandwidth | Reference) -> PairedRatio | UnpairedRatio:
        if isinstance(baseline, Reference):
            return UnpairedRatio(self._sampler.arms[0], self._judging, baseline)
        if not isinstance(baseline, Bandwidth):
            raise TypeError(
                f"cannot divide {self!r} by {baseline!r}: divide it by another bandwidth, or "
                "compare it with a bit rate as in >= 500 * Mbit"
            )
        return PairedRatio(
            Mean(figure="bandwidth", unit="", paired=True),
            (self._sampler.arms[0], baseline._sampler.arms[0]),
            same_terms(self._judging, baseline._judging),
        )

    def _question(self) -> Question:
        return Mean(figure="bandwidth", unit="bit/s", paired=False)

    def _subject(self) -> str:
        return f"bandwidth of {self._sampler.arms[0].label}"


class Latency(NotANumber):
    """Latency that is measured while one of its percentiles is compared.

    The phases follow each other; ``total`` is the whole. All are taken from the same requests, so
    asserting on several costs nothing more.
    """

    _example = "assert latency(pod, url).connect.p95 <= 5 * ms"

    def __init__(self, arm: Arm, judging: Judging) -> None:
        sampler = Sampler((arm,), judging.plan, judging.clock, judging.watch)
        self.dns = Phase("dns", sampler, judging)
        self.connect = Phase("connect", sampler, judging)
        self.tls = Phase("tls", sampler, judging)
        self.first_byte = Phase("first_byte", sampler, judging)
        self.total = Phase("total", sampler, judging)
        self._label = arm.label

    def __repr__(self) -> str:
        return f"latency of {self._label}"


class Phase(NotANumber):
    """One phase of a request: name lookup, TCP connect, TLS, first byte, or the total."""

    _example = "assert latency(pod, url).connect.p95 <= 5 * ms: say which percentile"

    def __init__(self, figure: str, sampler: Sampler, judging: Judging) -> None:
        self._figure = figure
        self._sampler = sampler
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
        return Percentile(self._figure, percent / 100, self._sampler, self._judging)

    def __truediv__(self, baseline: Phase) -> PairedRatio:
        if not isinstance(baseline, Phase):
            raise TypeError(f"cannot divide {self!r} by {baseline!r}: write {self._example}")
        return self.p50 / baseline.p50

    def __lt__(self, limit: object) -> bool:
        self._refuse("is not one figure")

    __le__ = __gt__ = __ge__ = __lt__

    def __repr__(self) -> str:
        return f"{self._figure} of {self._sampler.arms[0].label}"


class Percentile(Comparable):
    """A percentile of a phase; compares with a duration, or divides by another of its kind."""

    _example = "assert latency(pod, url).connect.p95 <= 5 * ms"

    def __init__(self, figure: str, q: float, sampler: Sampler, judging: Judging) -> None:
        super().__init__(sampler, judging)
        self._quantile = Quantile(figure=figure, q=q)

    def __truediv__(self, baseline: Percentile) -> PairedRatio:
        mine = self._quantile
        if not isinstance(baseline, Percentile) or baseline._quantile != mine:
            raise TypeError(
                f"cannot divide {self!r} by {baseline!r}: a ratio of latencies needs the same "
                "phase and percentile on both sides"
            )
        return PairedRatio(
            Mean(figure=mine.figure, unit="", paired=True, q=mine.q, many=True),
            (self._sampler.arms[0], baseline._sampler.arms[0]),
            same_terms(self._judging, baseline._judging),
        )

    def _question(self) -> Question:
        return self._quantile

    def _subject(self) -> str:
        return f"{self._quantile.quantity} of {self._sampler.arms[0].label}"

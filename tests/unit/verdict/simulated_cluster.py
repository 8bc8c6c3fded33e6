"""Arms that draw their figures from a model of a cluster, for tests and benchmarks of verdicts.

The model: ln(figure) = mean of the arm + drift with every slot + noise of the connection. Noise
lives in time: a slot is one sample of the default plan (6 s), and whatever lasts goes on while a
gate waits for its next pair. Nothing here waits for real.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator

from pytest_k8snet.verdict import (
    Arm,
    Bandwidth,
    EarlierVerdicts,
    Judging,
    Latency,
    Observation,
    PairedRatio,
    Plan,
    SampleRequest,
)

#: Standard deviation of one arm's noise, such that a pair's ratio has 4 %.
ARM_SD = 0.04 / math.sqrt(2)
#: Autocorrelation between neighbouring slots, where it is asked for.
CORRELATION = 0.3
SLOT_SECONDS = 6.0


def wrong_at_most(runs: int, share: float = Plan().alpha) -> float:
    """How many of so many verdicts may be wrong, where the chance of one is this share."""
    return runs * share + 3 * math.sqrt(runs * share * (1 - share))


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Correlated:
    """Noise of one arm that resembles its own past: AR(1) with ``rho`` from slot to slot."""

    def __init__(self, rng: random.Random, rho: float, sd: float = ARM_SD) -> None:
        self._rng, self._rho, self._sd = rng, rho, sd
        self._value, self._at = rng.gauss(0.0, sd), 0.0

    def __call__(self, now: float) -> float:
        kept = self._rho ** ((now - self._at) / SLOT_SECONDS)
        fresh = math.sqrt(max(0.0, 1.0 - kept * kept)) * self._sd
        self._value, self._at = kept * self._value + self._rng.gauss(0.0, fresh), now
        return self._value


class Spells:
    """Two states that alternate: bad for ``share`` of the time, ``slots`` at a stretch."""

    def __init__(self, rng: random.Random, *, share: float, slots: float) -> None:
        self._rng = rng
        bad = slots * SLOT_SECONDS
        self._means = (bad * (1.0 - share) / share, bad)
        self._bad = rng.random() < share
        # Memoryless, so where in its stretch the first moment lies is of no account.
        self._until = rng.expovariate(1.0 / self._means[self._bad])

    def __call__(self, now: float) -> bool:
        while self._until <= now:
            self._bad = not self._bad
            self._until += self._rng.expovariate(1.0 / self._means[self._bad])
        return self._bad


class StallingServer:
    """A server that answers in 1 ms, and in stalls in 20: for ``share`` of the time.

    Args:
        rng: of the stalls.
        share: of the time that it stalls.
        seconds: length of each stall.
        drawn: draw the length of each stall (exponential, with that mean) instead.
        missed: share of requests that the client sends too late to count.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        share: float,
        seconds: float,
        drawn: bool = False,
        missed: float = 0.0,
    ) -> None:
        self._rng, self._share, self._seconds, self._drawn = rng, share, seconds, drawn
        self._missed = missed
        self._between = seconds * (1.0 - share) / share if share else math.inf
        self.clock = Clock()
        # The first moment lies within a stall, or memoryless before one.
        self._from = 0.0 if rng.random() < share else self._next(0.0)
        self._until = self._from + self._length() * (rng.random() if self._from == 0.0 else 1.0)

    def _next(self, now: float) -> float:
        return (
            math.inf
            if math.isinf(self._between)
            else now + self._rng.expovariate(1.0 / self._between)
        )

    def _length(self) -> float:
        return self._rng.expovariate(1.0 / self._seconds) if self._drawn else self._seconds

    def _answer(self, now: float) -> float:
        while self._until <= now:
            self._from = self._next(self._until)
            self._until = self._from + self._length()
        return 0.020 if self._from <= now else 0.001

    def _take(self, turn: SampleRequest) -> Observation:
        begun, gap = self.clock.now, 1.0 / turn.requests_per_second
        answers = [self._answer(begun + i * gap) for i in range(turn.requests)]
        if self._missed:
            answers = [one for one in answers if self._rng.random() >= self._missed]
        self.clock.sleep(turn.requests * gap)
        return Observation(figures={"total": answers})

    def latency(self, plan: Plan) -> Latency:
        """Return the lazy latency."""
        judging = Judging(plan=plan, clock=self.clock, sleep=self.clock.sleep)
        return Latency(Arm(label="pod -> web", take=self._take), judging)


class SimulatedCluster:
    """Two arms with a known ratio, and noise of a kind.

    Args:
        rng: of all noise.
        ratio: of the arms without what the kind adds.
        noise: ``normal``, ``heavy`` (t with 5 degrees of freedom), ``autocorrelated`` (common to
            both arms), or ``own 0.6``: each arm's own AR(1) with that correlation per slot.
        drift: of both arms, per slot taken.
        pod: what the pod arm has beside its noise, as a logarithm at a time.
        hit: share of samples of each arm that lose CPU time and are a quarter slower.
        sd: of one arm's noise.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        ratio: float,
        noise: str = "normal",
        drift: float = 0.0,
        pod: Callable[[float], float] = lambda now: 0.0,
        hit: tuple[float, float] = (0.0, 0.0),
        sd: float = ARM_SD,
    ) -> None:
        self._rng = rng
        self._means = (math.log(2.85e9 * ratio), math.log(2.85e9))
        self._drift = drift
        self._noise = noise
        self._sd = sd
        self._pod = pod
        self._hit = hit
        self._slot = 0
        self._common = 0.0
        self._own: list[Correlated] = []
        if noise.startswith("own "):
            self._own = [Correlated(rng, float(noise[4:]), sd) for _ in self._means]
        self.clock = Clock()
        self.turns: list[SampleRequest] = []

    def _draw(self, arm: int) -> float:
        if self._own:
            return self._own[arm](self.clock.now)
        if self._noise == "heavy":
            # Student's t with 5 degrees of freedom, scaled to the same variance.
            chi = math.sqrt(sum(self._rng.gauss(0, 1) ** 2 for _ in range(5)) / 5)
            return self._sd * self._rng.gauss(0, 1) / chi / math.sqrt(5 / 3)
        if self._noise == "autocorrelated":
            fresh = self._rng.gauss(0, self._sd * math.sqrt(1 - CORRELATION**2))
            self._common = CORRELATION * self._common + fresh
            return self._common
        return self._rng.gauss(0, self._sd)

    def _take(self, turn: SampleRequest) -> Observation:
        self.turns.append(turn)
        value = self._means[turn.arm] + self._drift * self._slot + self._draw(turn.arm)
        if turn.arm == 0:
            value += self._pod(self.clock.now)
        hit = self._rng.random() < self._hit[turn.arm]
        if hit:
            value += math.log(0.75)
        self._slot += 1
        self.clock.sleep(turn.seconds + turn.omit_seconds)
        return Observation(
            figures={"bandwidth": (math.exp(value),)},
            hit="the hypervisor took 20% of the CPU time" if hit else "",
        )

    def judging(self, plan: Plan, earlier: EarlierVerdicts | None = None) -> Judging:
        """Return terms under which gates live in the cluster's time."""
        return Judging(plan=plan, clock=self.clock, sleep=self.clock.sleep, earlier=earlier)

    def bandwidth(self, plan: Plan) -> Bandwidth:
        """Return the lazy bandwidth of the pod arm, 2.85 Gbit/s times the ratio."""
        return Bandwidth(Arm(label="pod-pod", take=self._take), self.judging(plan))

    def ratio(self, plan: Plan, earlier: EarlierVerdicts | None = None) -> PairedRatio:
        """Return the lazy ratio of the two arms, continued from earlier verdicts if given."""
        pod, node = (
            Bandwidth(Arm(label=label, take=self._take), self.judging(plan, earlier))
            for label in ("pod-pod", "node-node")
        )
        return pod / node


class EarlierRuns:
    """Earlier runs with these bandwidths."""

    def __init__(self, *runs: tuple[float, ...], source: str = "before.jsonl") -> None:
        self.runs = runs
        self.source = source

    def values_of(self, arm: Arm, figure: str) -> tuple[tuple[float, ...], ...]:
        assert figure == "bandwidth"
        return self.runs


def earlier_runs(rng: random.Random, sd: float, count: int, samples: int = 8) -> EarlierRuns:
    """Return earlier runs of a cluster whose runs differ by ``sd``: 2.85 Gbit/s in the long run."""
    return EarlierRuns(
        *(
            tuple(2.85e9 * math.exp(offset + rng.gauss(0, ARM_SD)) for _ in range(samples))
            for offset in (rng.gauss(0, sd) for _ in range(count))
        )
    )


def scripted(*values: float, discards: dict[int, str] | None = None) -> Arm:
    """Return an arm that gives these bandwidths in turn (the last for ever).

    ``discards`` gives the causes of the samples to be discarded, by their place in the script.
    """
    source: Iterator[tuple[int, float]] = zip(
        itertools.count(), itertools.chain(values, itertools.repeat(values[-1])), strict=False
    )

    def take(turn: SampleRequest) -> Observation:
        place, value = next(source)
        return Observation(
            figures={"bandwidth": (value,)},
            sample_id=f"s{place:04}",
            discard=(discards or {}).get(place, ""),
        )

    return Arm(label="scripted", take=take)

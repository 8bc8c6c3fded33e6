"""Takes rounds from the arms: warm-up, order, discards with their partner, time budget."""

from __future__ import annotations

import math
import random
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_k8snet.verdict.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One thing that can be measured, and how.

    Attributes:
        label: how it is called in claims, e.g. ``pod-pod``.
        take: takes one sample, now.
        context: what else to say about it, e.g. ``VXLAN-Always, node1 -> node2``.
        scene: name of the scene, for the record.
        mode: name of the Calico mode, for the record.
        placement: how the two nodes lie, to find the like in an earlier run.
        tool: what measures, to the same end.
        variant: what makes it another measurement than the tool's usual one.
        nodes: between which nodes, e.g. ``node1 -> node2``.
        ends: the very ends, to tell what is measured against itself.
        longest_seconds: what a request may take before it counts as unanswered; no figure of a
            request is larger.
        lacks: figures that it cannot have, and why not.
        describe: sums up what samples had beside their figures (``retransmits 0.01 %``).
        of: the arms that it measures at once and adds up, where there are several.
    """

    label: str
    take: Callable[[SampleRequest], Observation]
    context: str = ""
    scene: str = ""
    mode: str | None = None
    placement: str = ""
    tool: str = ""
    variant: str = ""
    nodes: str = ""
    ends: str = ""
    longest_seconds: float = math.inf
    lacks: Mapping[str, str] = field(default_factory=dict)
    describe: Callable[[Sequence[Observation]], str] | None = None
    of: tuple[Arm, ...] = ()

    def at_once(self, other: Arm) -> Arm:
        """Return an arm that measures this and the other at once, and adds up their figures.

        Raises:
            TypeError: what measures cannot do two at once.
        """
        raise TypeError(f"{self.label} cannot be measured at once with {other.label}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRequest:
    """What is asked of an arm: one sample, on a fresh connection.

    Attributes:
        number: which pair (or round) this is, from 0; a retake has the same number.
        attempt: 0, or how many times this pair was discarded before.
        arm: 0 for the numerator (or the only arm), 1 for the baseline.
        warmup: the sample will be left out.
        seconds: length of a bandwidth sample after the omitted start.
        omit_seconds: start to be left out of a bandwidth sample.
        requests: how many requests a latency sample holds; 0 for bandwidth.
        requests_per_second: rate of their schedule.
        seed: for whatever the sample draws at random (port, jitter); differs between turns.
    """

    number: int
    attempt: int
    arm: int
    warmup: bool
    seconds: int
    omit_seconds: int
    requests: int
    requests_per_second: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What came of a turn.

    Attributes:
        figures: by name (``bandwidth``, ``connect``, ...), in base units: one value for a
            connection, one per scheduled request for latency. A request that got no complete
            answer, or was never sent, is ``math.inf``.
        sample_id: under which the sample is recorded.
        beside: the ids of further samples that belong to the turn and gave no figure of it.
        discard: why the sample may not count, or empty. A cause that was seen apart from the
            figures, such as CPU steal or a restarted pod; never the figure itself.
        hit: what took CPU time from the sample while it ran (steal, a CPU limit), or empty. It may
            be the sample's own cost that brought it about, so it is no cause for discard alone.
        alike: circumstances, by name, that must be the same in both arms of a pair.
        near: figures of circumstances, by name, each with how far the arms' may lie apart; where
            the arms allow for different distances, the larger one counts.
        proof: the state of the proof of its path: proven, missing, contradicted or not applicable;
            empty where there was no cluster to ask.
        detail: the measurer's own sample, for :attr:`Arm.describe` and the hints.
    """

    figures: Mapping[str, Sequence[float]]
    sample_id: str = ""
    beside: tuple[str, ...] = ()
    discard: str = ""
    hit: str = ""
    alike: Mapping[str, str] = field(default_factory=dict)
    near: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    proof: str = ""
    detail: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """What took CPU time from one arm in a round that counts."""

    round: int
    label: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Why a pair was left out and taken again: one cause, of one arm.

    Attributes:
        samples: the ids of the whole pair's samples, none of which counts.
    """

    number: int
    attempt: int
    label: str
    cause: str
    samples: tuple[str, ...] = ()


#: Share of rounds that may be discarded before the measurement is no longer to be trusted.
MOST_DISCARDED = 0.25
#: Requests of a warm-up sample: enough to fill caches of names, neighbours and connections.
_WARMUP_REQUESTS = 10


class Sampling:
    """The rounds of one or two arms, kept between the comparisons that use them.

    A round is one turn of each arm, in an order drawn from the seed. When either sample has a cause
    for discard, the whole round is taken again: pairs stay pairs, and the choice never looks at a
    figure. Rounds are spread over a span of time with random gaps, so that they neither resemble
    their neighbours nor keep step with anything periodic.

    Args:
        arms: what is measured, the numerator first.
        plan: what may be spent.
        clock: seconds that only rise.
        sleep: waits for so many seconds.
        watch: asked after each round; returns cluster events since it was last asked, in which
            case the round does not count.
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        plan: Plan,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        watch: Callable[[], str] | None = None,
    ) -> None:
        self.arms = tuple(arms)
        self.plan = plan
        self.seed = new_seed() if plan.seed is None else plan.seed
        self.rounds: list[tuple[Observation, ...]] = []
        self.times: list[tuple[float, float]] = []
        self.discards: list[Discard] = []
        self._clock = clock
        self._sleep = sleep
        self._watch = watch
        self._started: float | None = None
        self._longest_seconds = 0.0

    def resume(self) -> None:
        """Begin to take rounds, now or again: earlier events of the cluster are no cause."""
        if self._watch is not None:
            self._watch()

    def take(self, *, requests: int, rounds_at_most: int, span_seconds: float) -> str:
        """Take one more round, with retakes; return why none could be had, or nothing.

        Args:
            requests: of one arm in the round; 0 for bandwidth.
            rounds_at_most: how many there may be.
            span_seconds: the time over which so many would be spread.
        """
        if self._started is None:
            self._started = self._clock()
            for number in range(self.plan.warmup_pairs):
                self._turns(number, 0, min(requests, _WARMUP_REQUESTS), warmup=True)
        number = len(self.rounds)
        wait_seconds = self._wait_seconds(number, span_seconds / rounds_at_most)
        attempt = 0
        while True:
            reason = self._refusal(requests, rounds_at_most, wait_seconds)
            if reason:
                return reason
            if wait_seconds > 0.0:
                self._sleep(wait_seconds)
                wait_seconds = 0.0
            begun = self._clock()
            observations = self._turns(number, attempt, requests, warmup=False)
            causes = self._causes(observations)
            if not causes:
                self.rounds.append(observations)
                self.times.append((begun - self._started, self._clock() - self._started))
                return ""
            ids = tuple(
                name for one in observations for name in (one.sample_id, *one.beside) if name
            )
            self.discards.extend(
                Discard(number=number, attempt=attempt, label=label, cause=cause, samples=ids)
                for label, cause in causes
            )
            attempt += 1

    def _wait_seconds(self, number: int, spacing_seconds: float) -> float:
        """Return how long to wait for the next round's time; 0 where rounds take longer."""
        if not self.times or self._started is None:
            return 0.0
        if self.plan.budget_seconds is not None:
            # The first look has to come within the budget, whatever the gaps that are drawn.
            most = self.plan.budget_seconds / (1.5 * self.plan.first + 1.0)
            spacing_seconds = min(spacing_seconds, most)
        drawn = random.Random(f"{self.seed} {number}").uniform(0.5, 1.5) * spacing_seconds
        passed = self._clock() - self._started - self.times[-1][0]
        return max(0.0, drawn - passed)

    def _causes(self, observations: Sequence[Observation]) -> list[tuple[str, str]]:
        """Return label and cause of whatever forbids this round to count."""
        causes = [
            (arm.label, observation.discard)
            for arm, observation in zip(self.arms, observations, strict=True)
            if observation.discard
        ]
        # What one arm alone brings about belongs to its figure: left out, it would flatter it.
        if len(observations) > 1 and all(observation.hit for observation in observations):
            causes += [
                (arm.label, observation.hit)
                for arm, observation in zip(self.arms, observations, strict=True)
            ]
        first, last = observations[0].alike, observations[-1].alike
        causes += [
            (self.arms[0].label, f"the arms differ in {name}: {first[name]} and {last[name]}")
            for name in first
            if name in last and first[name] != last[name]
        ]
        causes += [(self.arms[0].label, cause) for cause in _apart(observations)]
        if self._watch is not None and (events := self._watch()):
            causes.append((self.arms[0].label, events))
        return causes

    def _turns(
        self, number: int, attempt: int, requests: int, *, warmup: bool
    ) -> tuple[Observation, ...]:
        order = order_of(number, self.seed) if len(self.arms) == 2 else (0,)
        plan = self.plan
        begun = self._clock()
        taken: dict[int, Observation] = {}
        for arm in order:
            turn = SampleRequest(
                number=number,
                attempt=attempt,
                arm=arm,
                warmup=warmup,
                seconds=1 if warmup else plan.seconds,
                omit_seconds=0 if warmup else plan.omit_seconds,
                requests=requests,
                requests_per_second=plan.requests_per_second,
                # Any map of the turn onto distinct numbers will do.
                seed=((self.seed * 1000 + number) * 100 + attempt) * 4 + 2 * arm + warmup,
            )
            taken[arm] = self.arms[arm].take(turn)
        if not warmup:
            self._longest_seconds = max(self._longest_seconds, self._clock() - begun)
        return tuple(taken[arm] for arm in sorted(taken))

    def _refusal(self, requests: int, rounds_at_most: int, wait_seconds: float) -> str:
        """Say why the next round must not be taken, or nothing."""
        # Even if every further round were good, the share would stay too large.
        if too_many_discards(self.discards, rounds_at_most):
            discarded = discarded_rounds(self.discards)
            causes, more = summed_up(sorted({discard.cause for discard in self.discards}))
            return (
                f"{discarded} of {len(self.rounds) + discarded} rounds had to be discarded: "
                + ", ".join(causes)
                + (f", and {more} more causes" if more else "")
            )
        budget = self.plan.budget_seconds
        if budget is None or self._started is None:
            return ""
        planned = (
            requests / self.plan.requests_per_second
            if requests
            else self.plan.seconds + self.plan.omit_seconds
        )
        next_seconds = wait_seconds + (self._longest_seconds or planned * len(self.arms))
        spent = self._clock() - self._started
        if spent + next_seconds > budget:
            return (
                f"the time budget of {budget:g} s is spent: {spent:.0f} s used, and one more round "
                f"takes {next_seconds:.0f} s"
            )
        return ""


def discarded_rounds(discards: Iterable[Discard]) -> int:
    """Count the rounds that were discarded (in one round, both arms may have a cause)."""
    return len({(discard.number, discard.attempt) for discard in discards})


def too_many_discards(discards: Iterable[Discard], rounds: int) -> bool:
    """Tell whether more was discarded than a verdict on so many good rounds may bear."""
    discarded = discarded_rounds(discards)
    return discarded > MOST_DISCARDED * (rounds + discarded)


def _apart(observations: Sequence[Observation]) -> Iterator[str]:
    """Say which figures of the arms' circumstances lie too far apart."""
    first, last = observations[0].near, observations[-1].near
    for name in first:
        if name in last:
            (one, allowed), (other, allowed_too) = first[name], last[name]
            if abs(one - other) > max(allowed, allowed_too):
                yield f"the arms differ too much in {name}: {one} and {other}"


# -- Order of the arms -----------------------------------------------------------------------------

#: The arms in the order they run: 0 is the numerator, 1 the baseline.
Order = tuple[int, int]


def new_seed() -> int:
    """Return a fresh seed, short enough to be typed again from a report."""
    return secrets.randbelow(1_000_000)


def order_of(pair: int, seed: int) -> Order:
    """Return which arm runs first and which second in this pair (counted from 0)."""
    draws = random.Random(seed)
    for _ in range(pair):
        draws.getrandbits(1)
    return (0, 1) if draws.getrandbits(1) else (1, 0)


# -- Causes in words -------------------------------------------------------------------------------

#: How many are listed; the record has them all.
_MOST = 3
#: A number that stands by itself: no part of a name or an address.
_FIGURE = re.compile(r"(?<![\w.:/-])\d+(?:\.\d+)?(?![.:/-]?\w)")


def summed_up(causes: Iterable[str]) -> tuple[list[str], int]:
    """Return the different causes in words, and how many more there are."""
    alike: dict[str, list[str]] = {}
    for cause in causes:
        alike.setdefault(_FIGURE.sub("#", cause), []).append(cause)
    told = [_as_one(several) for several in alike.values()]
    return told[:_MOST], max(0, len(told) - _MOST)


def _as_one(causes: Sequence[str]) -> str:
    ranges = [
        (min(figures, key=float), max(figures, key=float))
        for figures in zip(*map(_FIGURE.findall, causes), strict=True)
    ]
    each = iter(low if float(low) == float(high) else f"{low} to {high}" for low, high in ranges)
    return _FIGURE.sub(lambda _: next(each), causes[0])

"""Takes rounds from the arms: warm-up, order, discards with their partner, time budget."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from pytest_k8snet.verdict.causes import summed_up
from pytest_k8snet.verdict.observation import Arm, Discard, Observation, Turn
from pytest_k8snet.verdict.order import new_seed, order_of
from pytest_k8snet.verdict.plan import Plan

#: Share of rounds that may be discarded before the measurement is no longer to be trusted.
MOST_DISCARDED = 0.25
#: Requests of a warm-up sample: enough to fill caches of names, neighbours and connections.
_WARMUP_REQUESTS = 10


class Sampler:
    """The rounds of one or two arms, kept between the comparisons that use them.

    A round is one turn of each arm, in an order drawn from the seed. When either sample has a cause
    for discard, the whole round is taken again: pairs stay pairs, and the choice never looks at a
    figure.

    Args:
        arms: what is measured, the numerator first.
        plan: what may be spent.
        clock: seconds that only rise.
        watch: asked after each round; says what befell the cluster since it was last asked, in
            which case the round does not count.
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        plan: Plan,
        clock: Callable[[], float],
        watch: Callable[[], str] | None = None,
    ) -> None:
        self.arms = tuple(arms)
        self.plan = plan
        self.seed = new_seed() if plan.seed is None else plan.seed
        self.rounds: list[tuple[Observation, ...]] = []
        self.discards: list[Discard] = []
        self._clock = clock
        self._watch = watch
        self._started: float | None = None
        self._longest_seconds = 0.0

    def resume(self) -> None:
        """Begin to take rounds, now or again: what befell the cluster before is no cause."""
        if self._watch is not None:
            self._watch()

    def take(self, *, requests: int, rounds_at_most: int) -> str:
        """Take one more round, with retakes; return why none could be had, or nothing."""
        if self._started is None:
            self._started = self._clock()
            for number in range(self.plan.warmup_pairs):
                self._turns(number, 0, min(requests, _WARMUP_REQUESTS), warmup=True)
        number = len(self.rounds)
        for attempt in itertools.count():
            reason = self._refusal(requests, rounds_at_most)
            if reason:
                return reason
            observations = self._turns(number, attempt, requests, warmup=False)
            causes = self._causes(observations)
            if not causes:
                self.rounds.append(observations)
                return ""
            ids = tuple(
                name for one in observations for name in (one.sample_id, *one.beside) if name
            )
            self.discards.extend(
                Discard(number=number, attempt=attempt, label=label, cause=cause, samples=ids)
                for label, cause in causes
            )
        raise AssertionError("unreachable: the count of attempts has no end")

    def _causes(self, observations: Sequence[Observation]) -> list[tuple[str, str]]:
        """Return label and cause of whatever forbids this round to count."""
        causes = [
            (arm.label, observation.discard)
            for arm, observation in zip(self.arms, observations, strict=True)
            if observation.discard
        ]
        first, last = observations[0].alike, observations[-1].alike
        causes += [
            (self.arms[0].label, f"the arms differ in {name}: {first[name]} and {last[name]}")
            for name in first
            if name in last and first[name] != last[name]
        ]
        causes += [(self.arms[0].label, cause) for cause in _apart(observations)]
        if self._watch is not None and (befell := self._watch()):
            causes.append((self.arms[0].label, befell))
        return causes

    def _turns(
        self, number: int, attempt: int, requests: int, *, warmup: bool
    ) -> tuple[Observation, ...]:
        order = order_of(number, self.seed) if len(self.arms) == 2 else (0,)
        plan = self.plan
        begun = self._clock()
        taken: dict[int, Observation] = {}
        for arm in order:
            turn = Turn(
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

    def _refusal(self, requests: int, rounds_at_most: int) -> str:
        """Say why the next round must not be taken, or nothing."""
        discarded = discarded_rounds(self.discards)
        # Even if every further round were good, the share would stay too large.
        if _too_many(discarded, rounds_at_most):
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
        next_seconds = self._longest_seconds or planned * len(self.arms)
        spent = self._clock() - self._started
        if spent + next_seconds > budget:
            return (
                f"the time budget of {budget:g} s is spent: {spent:.0f} s used, and one more round "
                f"takes {next_seconds:.0f} s"
            )
        return ""


def _apart(observations: Sequence[Observation]) -> Iterator[str]:
    """Say which figures of the arms' circumstances lie too far apart."""
    first, last = observations[0].near, observations[-1].near
    for name in first:
        if name in last:
            (one, allowed), (other, allowed_too) = first[name], last[name]
            if abs(one - other) > max(allowed, allowed_too):
                yield f"the arms differ too much in {name}: {one} and {other}"


def discarded_rounds(discards: Iterable[Discard]) -> int:
    """Count the rounds that were discarded (in one round, both arms may have a cause)."""
    return len({(discard.number, discard.attempt) for discard in discards})


def too_many_discards(discards: Iterable[Discard], rounds: int) -> bool:
    """Tell whether more was discarded than a verdict on so many good rounds may bear."""
    return _too_many(discarded_rounds(discards), rounds)


def _too_many(discarded: int, good: int) -> bool:
    return discarded > MOST_DISCARDED * (good + discarded)

"""Takes rounds until a claim is decided; goes on where an earlier session stopped.

A rerun is a new test with a new chance to be wrong; rerun until green, and the chances add up. A
resumed gate keeps its rounds, its maximum and its risk: an undecided one takes the pairs that its
plan still allows, and a decided one is not measured again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_k8snet.errors import SettingsError, ToolError
from pytest_k8snet.verdict.claims import Claims
from pytest_k8snet.verdict.plan import Plan
from pytest_k8snet.verdict.questions import Finding, Round
from pytest_k8snet.verdict.sampling import Arm, Hit, Observation, Sampling
from pytest_k8snet.verdict.verdict import (
    Claim,
    Evidence,
    Verdict,
    claim_text,
    conclude,
    figure_text,
    judge,
    lacks_proof,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a claim is: after each round."""

    claim: Claim
    taken: int
    most: int
    finding: Finding | None

    def __str__(self) -> str:
        text = f"{claim_text(self.claim)}: {self.taken} of at most {self.most} "
        text += self.claim.question.noun
        if self.finding is not None:
            interval, unit = self.finding.interval, self.claim.question.unit
            text += f", [{figure_text(interval.low, unit)}, {figure_text(interval.high, unit)}]"
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """Under what terms claims are settled, and who hears of it.

    Attributes:
        plan: what may be spent, at what risk.
        observer: told of each round.
        recorder: told of each verdict.
        claims: told of each gate and each comparison.
        clock: seconds that only rise, for the time budget.
        sleep: waits for so many seconds, between rounds.
        earlier: the test's verdicts of an earlier session, to be continued.
        watch: returns cluster events since it was last asked; asked between rounds only.
        hints: asked for known causes where a verdict is no pass; given each arm's observations.
    """

    plan: Plan = field(default_factory=Plan)
    observer: Callable[[Progress], None] | None = None
    recorder: Callable[[Verdict], None] = lambda verdict: None
    claims: Claims = field(default_factory=Claims)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    earlier: EarlierVerdicts | None = None
    watch: Callable[[], str] | None = None
    hints: Callable[[Verdict, Sequence[Sequence[Observation]]], Sequence[str]] | None = None

    def sampling(self, *arms: Arm) -> Sampling:
        """Return the rounds of these arms, none taken yet."""
        return Sampling(arms, self.plan, clock=self.clock, sleep=self.sleep, watch=self.watch)


def settle(claim: Claim, sampling: Sampling, judging: Judging) -> Verdict:
    """Take rounds until the claim is decided, and return the verdict.

    Rounds that it already holds, from an earlier comparison, count from the start.

    Raises:
        SettingsError: the plan could never decide the claim, or the test has measured before in
            this session; nothing was measured.
    """
    question, plan = claim.question, sampling.plan
    judging.claims.refuse_rerun()
    question.check(plan, claim.relation, claim.limit)
    before = judging.earlier.take(claim, plan) if judging.earlier is not None else None
    if before is not None and before.found != "inconclusive":
        judging.recorder(before)
        return before
    stopped, resumed = "", False
    while True:
        rounds = values(sampling.rounds, question.figure)
        evidence = _evidence(sampling, rounds, stopped)
        if before is not None:
            evidence = continued(before.evidence, evidence)
        # More samples would be without proof as well, and would not give it to those before.
        stopped = stopped or lacks_proof(claim, evidence, plan)
        verdict = conclude(claim, evidence, plan)
        used = evidence.rounds
        spent = len(used) >= question.rounds_at_most(plan)
        taken = sum(len(arms[0]) for arms in used) if question.noun == "requests" else len(used)
        if judging.observer is not None and used:
            judging.observer(
                Progress(
                    claim=claim, taken=taken, most=question.most(plan), finding=verdict.finding
                )
            )
        if verdict.found != "inconclusive" or stopped or spent:
            break
        if not resumed:
            sampling.resume()
            resumed = True
        stopped = sampling.take(
            requests=question.requests(plan),
            rounds_at_most=question.rounds_at_most(plan),
            span_seconds=question.span_seconds(plan),
        )
    if verdict.found != "pass" and judging.hints is not None:
        hints = tuple(judging.hints(verdict, _by_arm(sampling)))
        verdict = replace(verdict, evidence=replace(verdict.evidence, hints=hints))
    judging.recorder(verdict)
    return verdict


def values(rounds: Sequence[Sequence[Observation]], figure: str) -> tuple[Round, ...]:
    """Return one figure of each observation, round by round.

    Raises:
        ToolError: the samples do not have it.
    """
    try:
        return tuple(
            tuple(tuple(observation.figures[figure]) for observation in observations)
            for observations in rounds
        )
    except KeyError:
        raise ToolError(
            f"the samples have no {figure.replace('_', ' ')} to judge",
            found="there are: " + ", ".join(rounds[0][0].figures),
            remedy="loss and jitter are of UDP (udp=True), retransmits and a bandwidth's rtt of "
            "TCP; tls of an https URL, a latency's rtt of the two ends of a pair",
        ) from None


def _by_arm(sampling: Sampling) -> list[list[Observation]]:
    return [[taken[i] for taken in sampling.rounds] for i in range(len(sampling.arms))]


def _evidence(sampling: Sampling, rounds: tuple[Round, ...], stopped: str) -> Evidence:
    pairs = zip(sampling.arms, _by_arm(sampling), strict=True)
    return Evidence(
        rounds=rounds,
        samples=tuple(
            tuple(observation.sample_id for observation in taken) for taken in sampling.rounds
        ),
        discards=tuple(sampling.discards),
        seed=sampling.seed,
        stopped=stopped,
        labels=tuple(arm.label for arm in sampling.arms),
        notes=tuple(arm.describe(taken) if arm.describe else "" for arm, taken in pairs),
        times=tuple(sampling.times),
        proofs=tuple(tuple(one.proof for one in taken) for taken in sampling.rounds),
        hits=tuple(
            Hit(round=number, label=arm.label, cause=one.hit)
            for number, taken in enumerate(sampling.rounds)
            for arm, one in zip(sampling.arms, taken, strict=True)
            if one.hit
        ),
    )


# -- Resume, not rerun ----------------------------------------------------------------------------

#: What of a plan must be as it was, or the levels of the looks would not hold.
_KEPT = (
    "first",
    "last",
    "spell_seconds",
    "outlier",
    "alpha",
    "requests",
    "requests_per_second",
    "seconds",
    "omit_seconds",
)


class EarlierVerdicts:
    """The verdicts of one test in an earlier session, each used once.

    Args:
        records: ``verdict`` records of the test, in the order they came.
        source: what to call the earlier session, usually the file's name.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]], source: str) -> None:
        self._records = list(records)
        self._source = source

    def take(self, claim: Claim, plan: Plan) -> Verdict | None:
        """Return the verdict on the same claim, or None where there is none.

        Raises:
            SettingsError: the claim was measured between other nodes, or under another plan.
            ResultsError: the record cannot be judged again.
        """
        wanted = (claim_text(claim), claim.mode, claim.baseline)
        for number, record in enumerate(self._records):
            if (record["claim"], record["mode"], record["baseline"]) == wanted:
                found = judge(self._records.pop(number))
                self._check(found, claim, plan)
                return found
        return None

    def _check(self, found: Verdict, claim: Claim, plan: Plan) -> None:
        if found.claim.context != claim.context:
            raise SettingsError(
                f"the gate cannot be resumed: {claim_text(claim)}",
                found=f"now {claim.context}, in {self._source} {found.claim.context}",
                remedy="name the same nodes (--k8snet-nodes), or measure anew without "
                "--k8snet-resume",
            )
        changed = [name for name in _KEPT if getattr(found.plan, name) != getattr(plan, name)]
        if changed:
            raise SettingsError(
                f"the gate cannot be resumed under another plan: {claim_text(claim)}",
                found=", ".join(
                    f"{name} was {getattr(found.plan, name)}, is {getattr(plan, name)}"
                    for name in changed
                ),
                remedy="resume with the same plan; its risk was shared out among the looks up to "
                "its last pair, so a larger maximum is a new gate",
            )


def continued(before: Evidence, now: Evidence) -> Evidence:
    """Return both sessions' evidence as one, the earlier rounds first."""
    rounds = len(before.rounds)
    # The round that was tried last may have been left without a good attempt.
    tried = len({one.attempt for one in before.discards if one.number == rounds})
    begin = before.times[-1][1] if before.times else 0.0
    return replace(
        now,
        rounds=before.rounds + now.rounds,
        samples=before.samples + now.samples,
        discards=before.discards
        + tuple(
            replace(
                one,
                number=rounds + one.number,
                attempt=one.attempt + (0 if one.number else tried),
            )
            for one in now.discards
        ),
        times=before.times + tuple((begin + start, begin + end) for start, end in now.times),
        proofs=before.proofs + now.proofs,
        hits=before.hits + tuple(replace(hit, round=hit.round + rounds) for hit in now.hits),
        notes=tuple(
            "; then ".join(filter(None, both)) for both in zip(before.notes, now.notes, strict=True)
        ),
    )

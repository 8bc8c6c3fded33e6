"""Settles a claim: takes rounds until the verdict is certain or the plan is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_k8snet.errors import ToolError
from pytest_k8snet.verdict.nearness import nearness_note
from pytest_k8snet.verdict.observation import Observation
from pytest_k8snet.verdict.plan import Plan
from pytest_k8snet.verdict.question import Finding, Round
from pytest_k8snet.verdict.sampler import Sampler, too_many_discards
from pytest_k8snet.verdict.text import claim_text, figure_text
from pytest_k8snet.verdict.verdict import Claim, Evidence, Verdict, conclude

if TYPE_CHECKING:
    from pytest_k8snet.verdict.unpaired import Reference


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
        clock: seconds that only rise, for the time budget.
        watch: says what befell the cluster since it was last asked; asked between rounds only.
        earlier: the run to compare with, for a note where a limit lies too near to its ratio.
        hints: asked for known causes where a verdict is no pass; given each arm's observations.
    """

    plan: Plan = field(default_factory=Plan)
    observer: Callable[[Progress], None] | None = None
    recorder: Callable[[Verdict], None] | None = None
    clock: Callable[[], float] = time.monotonic
    watch: Callable[[], str] | None = None
    earlier: Reference | None = None
    hints: Callable[[Verdict, Sequence[Sequence[Observation]]], Sequence[str]] | None = None


def settle(claim: Claim, sampler: Sampler, judging: Judging) -> Verdict:
    """Take rounds until the claim is decided, and return the verdict.

    Rounds that the sampler already holds, from an earlier comparison, count from the start.

    Raises:
        SettingsError: the plan could never decide the claim; nothing was measured.
    """
    question, plan = claim.question, sampler.plan
    question.check(plan, claim.relation, claim.limit)
    stopped, resumed = "", False
    while True:
        rounds = values(sampler.rounds, question.figure)
        finding = question.find(rounds, plan, claim.relation, claim.limit)
        taken = sum(len(arms[0]) for arms in rounds) if question.noun == "requests" else len(rounds)
        if judging.observer is not None and rounds:
            judging.observer(
                Progress(claim=claim, taken=taken, most=question.most(plan), finding=finding)
            )
        decided = finding is not None and finding.state != "open"
        if decided and not too_many_discards(sampler.discards, len(rounds)):
            break
        if stopped or taken >= question.most(plan):
            break
        if not resumed:
            sampler.resume()
            resumed = True
        stopped = sampler.take(
            requests=question.requests(plan), rounds_at_most=question.rounds_at_most(plan)
        )
    verdict = _with_hints(
        conclude(claim, _evidence(sampler, rounds, stopped), plan), sampler, judging
    )
    if judging.recorder is not None:
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
            f"the samples have no {figure} time to judge",
            found="there are: " + ", ".join(rounds[0][0].figures),
            remedy="tls exists with an https URL only",
        ) from None


def _with_hints(verdict: Verdict, sampler: Sampler, judging: Judging) -> Verdict:
    hints: list[str] = []
    if verdict.found != "pass" and judging.hints is not None:
        hints += judging.hints(verdict, _by_arm(sampler))
    note = nearness_note(verdict.claim, sampler.arms, verdict.finding, judging.earlier)
    hints += [note] if note else []
    return replace(verdict, evidence=replace(verdict.evidence, hints=tuple(hints)))


def _by_arm(sampler: Sampler) -> list[list[Observation]]:
    return [[taken[i] for taken in sampler.rounds] for i in range(len(sampler.arms))]


def _evidence(sampler: Sampler, rounds: tuple[Round, ...], stopped: str) -> Evidence:
    pairs = zip(sampler.arms, _by_arm(sampler), strict=True)
    return Evidence(
        rounds=rounds,
        samples=tuple(
            tuple(observation.sample_id for observation in taken) for taken in sampler.rounds
        ),
        discards=tuple(sampler.discards),
        seed=sampler.seed,
        stopped=stopped,
        labels=tuple(arm.label for arm in sampler.arms),
        notes=tuple(arm.describe(taken) if arm.describe else "" for arm, taken in pairs),
    )

"""The verdict: what was claimed, what was seen, and which of three ways it went.

``conclude`` is the one way to a verdict, in the run and offline: claim, evidence and plan in,
verdict out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pytest_k8snet.errors import Inconclusive
from pytest_k8snet.verdict.observation import Discard
from pytest_k8snet.verdict.plan import Plan
from pytest_k8snet.verdict.question import Finding, Question, Relation, Round
from pytest_k8snet.verdict.record import verdict_record
from pytest_k8snet.verdict.sampler import too_many_discards
from pytest_k8snet.verdict.text import explain

State = Literal["pass", "fail", "inconclusive", "monitor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is asserted: subject, relation and limit, and the question that settles it."""

    question: Question
    subject: str
    relation: Relation
    limit: float
    context: str = ""
    scene: str = ""
    mode: str | None = None
    baseline: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was seen.

    Attributes:
        rounds: the values that count, in the order they came.
        samples: the recorded samples' names, parallel to ``rounds``.
        discards: what was left out, and why.
        seed: of the order and the jitter.
        stopped: why no more could be taken before the plan was spent, or empty.
        labels: the arms' names.
        notes: for each arm, what its samples had beside the figures.
        hints: known causes that the samples or facts point to; those that begin with "note:" are
            about the limit.
    """

    rounds: tuple[Round, ...]
    samples: tuple[tuple[str, ...], ...]
    discards: tuple[Discard, ...]
    seed: int
    stopped: str
    labels: tuple[str, ...]
    notes: tuple[str, ...]
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of a claim. In an assert it is True or False, or raises when undecided.

    Attributes:
        state: ``pass``, ``fail``, ``inconclusive``, or ``monitor`` for a limit only reported.
        found: the state as if nothing were only reported.
        finding: the last look, or None when no look was reached.
        reason: why it is inconclusive, or empty.
    """

    claim: Claim
    evidence: Evidence
    plan: Plan
    state: State
    found: Literal["pass", "fail", "inconclusive"]
    finding: Finding | None
    reason: str

    def __bool__(self) -> bool:
        if self.state == "inconclusive":
            raise Inconclusive(self.text)
        return self.state != "fail"

    @property
    def text(self) -> str:
        """The whole explanation, several lines."""
        return explain(self)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<{self.text.splitlines()[0]}>"

    def to_record(self) -> dict[str, Any]:
        """Return the verdict as a JSON-safe dict, enough to judge it again."""
        return verdict_record(self)


def conclude(claim: Claim, evidence: Evidence, plan: Plan) -> Verdict:
    """Judge a claim by what was seen."""
    finding = claim.question.find(evidence.rounds, plan, claim.relation, claim.limit)
    found: Literal["pass", "fail", "inconclusive"] = "inconclusive"
    reason = evidence.stopped
    if finding is None:
        reason = reason or "nothing was measured up to the plan's first look"
    elif finding.state == "open":
        reason = reason or "the limit lies within the interval"
    elif too_many_discards(evidence.discards, len(evidence.rounds)):
        reason = reason or "more than a quarter of the rounds had to be discarded"
    else:
        found, reason = finding.state, ""
    return Verdict(
        claim=claim,
        evidence=evidence,
        plan=plan,
        state="monitor" if plan.monitor else found,
        found=found,
        finding=finding,
        reason=reason,
    )

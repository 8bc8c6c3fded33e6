"""The verdict: what was claimed, what was seen, and which of three ways it went.

``conclude`` is the one way to a verdict, in the run and offline: claim, evidence and plan in,
verdict out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NoReturn

from pytest_k8snet.errors import Inconclusive, ResultsError
from pytest_k8snet.units import BitRate, Seconds
from pytest_k8snet.verdict.intervals import sample_quantile
from pytest_k8snet.verdict.percentiles import Quantile
from pytest_k8snet.verdict.plan import Plan
from pytest_k8snet.verdict.questions import (
    NEW_CONNECTIONS,
    Finding,
    Level,
    Mean,
    Question,
    Relation,
    Round,
    RoundMean,
    Share,
    Unpaired,
)
from pytest_k8snet.verdict.sampling import (
    Discard,
    Hit,
    discarded_rounds,
    summed_up,
    too_many_discards,
)

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
    placement: str = ""
    tool: str = ""
    variant: str = ""


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
        hints: known causes that the samples or facts point to.
        times: when each round began and ended, in seconds since the first.
        hits: what took CPU time from one arm of rounds that count.
        proofs: the state of each sample's proof of path, parallel to ``rounds``.
    """

    rounds: tuple[Round, ...]
    samples: tuple[tuple[str, ...], ...]
    discards: tuple[Discard, ...]
    seed: int
    stopped: str
    labels: tuple[str, ...]
    notes: tuple[str, ...]
    hints: tuple[str, ...] = ()
    times: tuple[tuple[float, float], ...] = ()
    hits: tuple[Hit, ...] = ()
    proofs: tuple[tuple[str, ...], ...] = ()

    @property
    def unproven(self) -> int:
        """How many of the samples that count have no proof of the path that they claim."""
        return sum(state in ("missing", "contradicted") for each in self.proofs for state in each)

    @property
    def watched_seconds(self) -> float:
        """From the first round's begin to the last one's end; 0 where it was not recorded."""
        return self.times[-1][1] - self.times[0][0] if self.times else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """The outcome of a claim. In an assert it is True or False, or raises when undecided.

    Attributes:
        found: the state as if nothing were only reported.
        finding: the last look, or None when no look was reached.
        reason: why it is inconclusive, or empty.
    """

    claim: Claim
    evidence: Evidence
    plan: Plan
    found: Literal["pass", "fail", "inconclusive"]
    finding: Finding | None
    reason: str
    _asked: list[bool] = field(default_factory=list, init=False, repr=False)

    def __bool__(self) -> bool:
        self._asked.append(True)
        if self.state == "inconclusive":
            raise Inconclusive(self.text)
        return self.state != "fail"

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError(
            f"a verdict cannot be compared with == or !=: write assert {claim_text(self.claim)}"
        )

    __hash__ = object.__hash__

    def __and__(self, other: object) -> NoReturn:
        raise TypeError(
            "verdicts are combined by 'and', or by a second assert: "
            f"write assert {claim_text(self.claim)}"
        )

    __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __and__

    @property
    def state(self) -> State:
        """``pass``, ``fail``, ``inconclusive``, or ``monitor`` for a limit only reported."""
        return "monitor" if self.plan.monitor else self.found

    @property
    def opposite(self) -> str:
        """The claim that holds where this one does not: ``pod-pod / node-node < 0.90``."""
        opposites: dict[str, Relation] = {">=": "<", "<=": ">", ">": "<=", "<": ">="}
        return claim_text(replace(self.claim, relation=opposites[self.claim.relation]))

    @property
    def asked(self) -> bool:
        """Whether its truth was taken, as an assert does."""
        return bool(self._asked)

    @property
    def estimate(self) -> float | None:
        """The figure, a ``BitRate`` or ``Seconds`` where it has a unit; None before a first look.

        A figure to print or to plot. A claim is what the gate was compared with: comparing this
        with a limit would be one measurement against a number.
        """
        return None if self.finding is None else self._figure(self.finding.interval.estimate)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval's bounds in the estimate's unit, each wrong with the plan's ``alpha``."""
        if self.finding is None:
            return None
        found = self.finding.interval
        return self._figure(found.low), self._figure(found.high)

    def _figure(self, value: float) -> float:
        unit = self.claim.question.unit
        return BitRate(value) if unit == "bit/s" else Seconds(value) if unit == "s" else value

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
        claim, evidence, finding = self.claim, self.evidence, self.finding
        interval = finding.interval if finding else None
        return {
            "kind": "verdict",
            "claim": claim_text(claim),
            "subject": claim.subject,
            "quantity": claim.question.quantity,
            "unit": claim.question.unit,
            "context": claim.context,
            "scene": claim.scene,
            "mode": claim.mode,
            "baseline": claim.baseline,
            "placement": claim.placement,
            "tool": claim.tool,
            "variant": claim.variant,
            "state": self.state,
            "found": self.found,
            "estimate": _finite(interval.estimate) if interval else None,
            "low": _finite(interval.low) if interval else None,
            "high": _finite(interval.high) if interval else None,
            "relation": claim.relation,
            "limit": claim.limit,
            "margin": _margin(self),
            "n": finding.n if finding else 0,
            "noun": claim.question.noun,
            "needed": finding.needed if finding else None,
            "levels": [finding.low_level, finding.high_level] if finding else None,
            "counts": dict(finding.counts) if finding else {},
            "warnings": list(finding.warnings) if finding else [],
            "unseen": finding.unseen if finding else "",
            "watched_seconds": round(evidence.watched_seconds, 2) if evidence.times else None,
            "times": [list(one) for one in evidence.times],
            "hits": [[one.round, one.label, one.cause] for one in evidence.hits],
            "proofs": [list(each) for each in evidence.proofs],
            "reason": self.reason,
            "stopped": evidence.stopped,
            "discarded": [
                {**asdict(one), "samples": list(one.samples)} for one in evidence.discards
            ],
            "plan": self.plan.to_record(),
            "seed": evidence.seed,
            "question": claim.question.to_record(),
            "samples": [list(ids) for ids in evidence.samples],
            "values": [_values(arms) for arms in evidence.rounds],
            "labels": list(evidence.labels),
            "notes": list(evidence.notes),
            "hints": list(evidence.hints),
            "text": self.text,
        }


def conclude(claim: Claim, evidence: Evidence, plan: Plan) -> Verdict:
    """Judge a claim by what was seen."""
    finding = claim.question.find(evidence.rounds, plan, claim.relation, claim.limit)
    if finding is not None and claim.question.noun != "requests" and evidence.times:
        finding = replace(finding, unseen=_with_spells(finding.unseen, evidence))
    found: Literal["pass", "fail", "inconclusive"] = "inconclusive"
    reason = _doubt(claim, evidence, plan, finding)
    if finding is not None and finding.state != "open" and not reason:
        found = finding.state
    else:
        reason = evidence.stopped or reason
    return Verdict(
        claim=claim,
        evidence=evidence,
        plan=plan,
        found=found,
        finding=finding,
        reason=reason,
    )


#: Spells of bad network are told of by the share of the time that they could fill unseen.
_SPELL_SHARE, _SPELL_RISK = 0.3, 0.05
#: What is watched, in lengths of such spells, where the chance to meet none is no larger than that:
#: they begin at random, so none came with (1 - share) * exp(-watched * share / (1 - share)).
_SPELLS_WATCHED = (1 - _SPELL_SHARE) / _SPELL_SHARE * math.log((1 - _SPELL_SHARE) / _SPELL_RISK)


def _with_spells(unseen: str, evidence: Evidence) -> str:
    """Say which spells the watched time may have missed, beside what else went unseen."""
    watched = evidence.watched_seconds
    spells = (
        f"watched {Seconds(watched)}: bad spells longer than {Seconds(watched / _SPELLS_WATCHED)} "
        f"could fill {_SPELL_SHARE * 100:.0f} % of the time unseen (spell=... in the plan)"
    )
    return "; ".join(filter(None, (unseen, spells)))


def _doubt(claim: Claim, evidence: Evidence, plan: Plan, finding: Finding | None) -> str:
    """Return why nothing is decided yet, or nothing."""
    if unproven := lacks_proof(claim, evidence, plan):
        return unproven
    if finding is None:
        return "nothing was measured up to the plan's first look"
    if finding.doubt:
        return finding.doubt
    if finding.state == "open":
        return finding.fragile or "the limit lies within the interval"
    spell = plan.spell_seconds
    if spell and claim.question.noun != "requests" and evidence.times:
        least = _SPELLS_WATCHED * spell
        if evidence.watched_seconds < least:
            return (
                f"watched {Seconds(evidence.watched_seconds)}, and spells of {Seconds(spell)} are "
                f"not to be missed: that takes {Seconds(least)} or more (a longer span or budget)"
            )
    if too_many_discards(evidence.discards, len(evidence.rounds)):
        return "more than a quarter of the rounds had to be discarded"
    return _decided_by_hits(claim, evidence, plan, finding)


def lacks_proof(claim: Claim, evidence: Evidence, plan: Plan) -> str:
    """Say that samples' paths are not proven, where that is required, or nothing."""
    required = plan.require_proof == "yes" or (plan.require_proof == "mode" and claim.mode)
    if not required or not evidence.unproven:
        return ""
    return (
        f"{_unproven_text(evidence)}, and the claim is on {claim.mode or 'a path'} "
        "(require_proof=no in the plan judges it all the same)"
    )


def _unproven_text(evidence: Evidence) -> str:
    count = sum(len(each) for each in evidence.proofs)
    return f"the path is not proven for {evidence.unproven} of {count} samples"


def _decided_by_hits(claim: Claim, evidence: Evidence, plan: Plan, finding: Finding) -> str:
    """Say that the verdict rests on rounds in which one arm alone lost CPU time, or nothing.

    Its own cost may have brought that about, so the rounds count; somebody else may have, so a
    verdict that they decide is none.
    """
    question = claim.question
    hit = {one.round for one in evidence.hits}
    # Lost CPU time makes requests slower: what passes with them passes without.
    if not hit or (question.noun == "requests" and finding.state == "pass"):
        return ""
    others = [arms for number, arms in enumerate(evidence.rounds) if number not in hit]
    without = question.find(others, plan, claim.relation, claim.limit)
    if without is not None and without.state == finding.state:
        return ""
    causes, _ = summed_up(sorted({f"{one.label}: {one.cause}" for one in evidence.hits}))
    return (
        f"{len(hit)} of {len(evidence.rounds)} rounds lost CPU time in one arm only "
        f"({', '.join(causes)}), and without them it would not be decided so"
    )


# -- Judged again offline, from records ------------------------------------------------------------

#: What a record has of a claim under the same name.
_CLAIMED = ("subject", "relation", "context", "scene", "mode", "baseline")


def judge(record: Mapping[str, Any], *, limit: float | None = None) -> Verdict:
    """Judge a recorded verdict again, from the values it holds.

    With the recorded limit the result is the recorded verdict. Another limit is judged at the same
    look; that is sound, because the plan's levels hold for any limit.

    Args:
        record: a ``verdict`` record.
        limit: another limit, in base units (1, seconds or bit/s).

    Raises:
        ResultsError: the record lacks what judging needs.
        SettingsError: the plan could never decide the other limit.
    """
    try:
        claim = Claim(
            question=_question(record["question"]),
            limit=float(record["limit"] if limit is None else limit),
            **{name: record[name] for name in _CLAIMED},
            **{name: record.get(name, "") for name in ("placement", "tool", "variant")},
        )
        evidence = Evidence(
            rounds=tuple(_round(values) for values in record["values"]),
            samples=tuple(tuple(ids) for ids in record["samples"]),
            discards=tuple(
                Discard(
                    **{name: one[name] for name in ("number", "attempt", "label", "cause")},
                    samples=tuple(one.get("samples", ())),
                )
                for one in record["discarded"]
            ),
            seed=record["seed"],
            stopped=record["stopped"],
            labels=tuple(record["labels"]),
            notes=tuple(record["notes"]),
            hints=tuple(record["hints"]),
            times=tuple((float(begin), float(end)) for begin, end in record.get("times", ())),
            hits=tuple(
                Hit(round=number, label=label, cause=cause)
                for number, label, cause in record.get("hits", ())
            ),
            proofs=tuple(tuple(each) for each in record.get("proofs", ())),
        )
        plan = Plan.from_record(record["plan"])
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(
            "a verdict record cannot be judged again",
            found=f"{type(error).__name__}: {error}, in the verdict on {record.get('claim')!r}",
            remedy="use a results file of this version, as it was written",
        ) from error
    claim.question.check(plan, claim.relation, claim.limit)
    verdict = conclude(claim, evidence, plan)
    if claim.limit == record["limit"]:
        return verdict
    # What was said of a fail that is none now says nothing here.
    hints = evidence.hints if verdict.found != "pass" else ()
    return replace(verdict, evidence=replace(evidence, hints=hints))


def _question(record: Mapping[str, Any]) -> Question:
    fields = dict(record)
    kind = fields.pop("kind")
    for usual in (Mean, Level, Quantile):
        if kind == usual.kind:
            return usual(**fields)
    if kind == Unpaired.kind:
        before = tuple(tuple(run) for run in fields["before"])
        return Unpaired(figure=fields["figure"], before=before)
    of = _question(fields.pop("of"))
    if kind != Share.kind or not isinstance(of, RoundMean):
        raise ValueError(f"no question of the kind {kind!r}")
    return Share(of=of, **fields)


def _round(arms: Sequence[Any]) -> Round:
    each = [values if isinstance(values, list) else [values] for values in arms]
    found = tuple(tuple(math.inf if one is None else float(one) for one in arm) for arm in each)
    if any(math.isnan(one) for arm in found for one in arm):
        raise ValueError("a value that is no number")
    return found


def _values(arms: Round) -> list[Any]:
    """Return one round: a bare number for each arm with one value, None for no answer."""
    return [
        _finite(values[0]) if len(values) == 1 else [_finite(value) for value in values]
        for values in arms
    ]


def _margin(verdict: Verdict) -> float | None:
    """Return how far the estimate keeps from the limit, positive on the good side, as a share."""
    if verdict.finding is None:
        return None
    claim, estimate = verdict.claim, verdict.finding.interval.estimate
    if not claim.limit:
        return None
    good = 1.0 if claim.relation in (">=", ">") else -1.0
    return _finite(good * (estimate - claim.limit) / abs(claim.limit))


def _finite(value: float) -> float | None:
    """Return the value, or None where it is infinite: JSON has no word for that."""
    return value if math.isfinite(value) else None


# -- The explanation in words ----------------------------------------------------------------------

_SCALES = {
    "bit/s": ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s")),
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")),
    "": ((1.0, ""),),
}
# More samples than this are cut in the middle: the record has them all.
_MOST_SHOWN = 24


def explain(verdict: Verdict) -> str:
    """Return the whole explanation of a verdict."""
    claim, evidence = verdict.claim, verdict.evidence
    state = verdict.state.upper()
    if verdict.state == "monitor":
        state = f"MONITOR ({verdict.found}, not enforced)"
    head = f"{state}: {claim_text(claim)}"
    lines = [f"{head}  ({claim.context})" if claim.context else head, _interval_line(verdict)]
    if verdict.reason:
        lines.append(_open_line(verdict))
    lines += _sample_lines(verdict)
    if verdict.finding is not None:
        lines += verdict.finding.warnings
        if verdict.found == "pass" and verdict.finding.unseen:
            lines.append(verdict.finding.unseen)
    if evidence.unproven and "the path is not proven" not in verdict.reason:
        lines.append(_unproven_text(evidence))
    lines += _hit_lines(verdict)
    lines += _discard_lines(verdict)
    lines += evidence.hints
    return "\n  ".join(lines)


def claim_text(claim: Claim) -> str:
    """Return the claim on one line: ``pod-pod / node-node >= 0.90``."""
    return f"{claim.subject} {claim.relation} {limit_text(claim.limit, claim.question.unit)}"


def limit_text(value: float, unit: str) -> str:
    """Write a limit with its unit, without dropping digits that the user gave."""
    if unit:
        return figure_text(value, unit, digits=6)
    return f"{value:.2f}" if round(value, 2) == value else f"{value:g}"


def figure_text(value: float, unit: str, *, digits: int = 3) -> str:
    """Write a figure with its unit: ``2.85 Gbit/s``, ``4.2 ms``, ``0.965``."""
    if math.isinf(value):
        return "no good answer" if unit == "s" else "unbounded"
    if not unit:
        return f"{value:.3f}" if abs(value) >= 0.1 or not value else f"{value:.2g}"
    if digits == 3:
        return str(BitRate(value) if unit == "bit/s" else Seconds(value))
    scale, name = _scale([value], unit)
    return f"{value / scale:.{digits}g} {name}"


def _interval_line(verdict: Verdict) -> str:
    question, finding, plan = verdict.claim.question, verdict.finding, verdict.plan
    evidence = verdict.evidence
    discarded = discarded_rounds(evidence.discards)
    if finding is None:
        taken = len(evidence.rounds)
        return f"{taken} {'pairs' if question.noun == 'pairs' else 'rounds'}, {discarded} discarded"
    unit, interval = question.unit, finding.interval
    text = (
        f"{question.quantity} {figure_text(interval.estimate, unit)}, interval "
        f"[{figure_text(interval.low, unit)}, {figure_text(interval.high, unit)}] "
        f"({plan.alpha * 100:g} % risk each side), {finding.n} {question.noun}"
    )
    requests = question.requests(plan)
    if requests and question.noun == "pairs":
        text += f" x {requests} requests"
    elif not requests and question.figure != NEW_CONNECTIONS:
        text += f" x {plan.seconds} s"
    text += "".join(f", {count} {name}" for name, count in finding.counts)
    text += f", {discarded} discarded"
    if evidence.watched_seconds >= 1.0:
        text += f", watched {Seconds(evidence.watched_seconds)}"
    return text


def _open_line(verdict: Verdict) -> str:
    question, finding, plan = verdict.claim.question, verdict.finding, verdict.plan
    text = f"undecided: {verdict.reason}"
    if finding is None or finding.state != "open" or finding.doubt:
        return text
    if finding.spread is not None:
        text += f", and one of the {question.noun} varies by {finding.spread:.1%}"
    if finding.needed is None:
        return (
            f"{text}; the limit lies too close to the figure for any sensible number of "
            f"{question.noun}: set it further off, or report it only (monitor=yes)"
        )
    more = finding.needed - finding.n
    setting = "requests" if question.noun == "requests" else "last"
    advice = f"{text}; about {more} more {question.noun} would settle it"
    if finding.needed > question.most(plan):
        advice += f" ({setting}={finding.needed} in the plan)"
    if finding.fragile:
        advice += ", fewer a limit further off; outlier=0 in the plan trusts what was met"
    return advice


def _sample_lines(verdict: Verdict) -> list[str]:
    evidence, question = verdict.evidence, verdict.claim.question
    if not evidence.rounds:
        return []
    if question.noun == "requests":
        requests = [value for arms in evidence.rounds for value in arms[0]]
        if not requests:
            return []
        figures = [(f"p{q * 100:g}", sample_quantile(requests, q)) for q in (0.5, 0.9, 0.95, 0.99)]
        figures.append(("max", max(requests)))
        text = ", ".join(f"{name} {figure_text(value, 's')}" for name, value in figures)
        return [f"all {len(requests)}: {text}{_beside(evidence.notes[0])}"]
    arms = [
        [sample_quantile(values, 0.5) for values in arm]
        for arm in zip(*evidence.rounds, strict=True)
    ]
    scale, name = _scale([value for values in arms for value in values], question.arm_unit)
    decimals = 0 if max(map(max, arms)) / scale >= 100 else 2
    style = f".{decimals}f" if name else ".3g"
    width = max(map(len, evidence.labels))
    lines = []
    for label, values, note in zip(evidence.labels, arms, evidence.notes, strict=True):
        shown = [f"{value / scale:{style}}" for value in values]
        if len(shown) > _MOST_SHOWN:
            shown[_MOST_SHOWN // 2 : -_MOST_SHOWN // 2] = ["..."]
        lines.append(f"{label:<{width}} {' '.join(shown)} {name}".rstrip() + _beside(note))
    return lines


def _beside(note: str) -> str:
    return f"   {note}" if note else ""


def _hit_lines(verdict: Verdict) -> list[str]:
    """Say how often each arm lost CPU time while it was measured."""
    hits, rounds = verdict.evidence.hits, len(verdict.evidence.rounds)
    return [
        f"{label} lost CPU time in {count} of {rounds} samples that count: "
        + "; ".join(summed_up(one.cause for one in hits if one.label == label)[0])
        for label, count in Counter(one.label for one in hits).items()
    ]


def _discard_lines(verdict: Verdict) -> list[str]:
    two_arms = len(verdict.evidence.labels) == 2
    causes = [
        f"discarded: {discard.label}: {discard.cause}"
        if two_arms
        else f"discarded: {discard.cause}"
        for discard in verdict.evidence.discards
    ]
    told, more = summed_up(causes)
    return told + ([f"discarded: {more} more, see the record"] if more else [])


def _scale(values: Sequence[float], unit: str) -> tuple[float, str]:
    """Return the scale in which the largest value has a digit before the point."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    scales = _SCALES[unit]
    return next((pair for pair in scales if largest >= pair[0]), scales[-1])

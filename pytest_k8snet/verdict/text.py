"""How a verdict reads: the claim first, then the interval, the samples, and what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_k8snet.units import BitRate, Seconds
from pytest_k8snet.verdict.causes import summed_up
from pytest_k8snet.verdict.intervals import sample_quantile
from pytest_k8snet.verdict.question import Round
from pytest_k8snet.verdict.sampler import discarded_rounds

if TYPE_CHECKING:
    from pytest_k8snet.verdict.verdict import Claim, Verdict

_SCALES = {
    "bit/s": ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s")),
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")),
}
# More samples than this are cut in the middle: the record has them all.
_MOST_SHOWN = 24


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
        return f"{value:.3f}"
    if digits == 3:
        return str(BitRate(value) if unit == "bit/s" else Seconds(value))
    scale, name = _scale([value], unit)
    return f"{value / scale:.{digits}g} {name}"


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
    lines += _discard_lines(verdict)
    lines += evidence.hints
    return "\n  ".join(lines)


def _interval_line(verdict: Verdict) -> str:
    question, finding, plan = verdict.claim.question, verdict.finding, verdict.plan
    discarded = discarded_rounds(verdict.evidence.discards)
    if finding is None:
        taken = len(verdict.evidence.rounds)
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
    elif not requests:
        text += f" x {plan.seconds} s"
    text += "".join(f", {count} {name}" for name, count in finding.counts)
    return f"{text}, {discarded} discarded"


def _open_line(verdict: Verdict) -> str:
    question, finding, plan = verdict.claim.question, verdict.finding, verdict.plan
    text = f"undecided: {verdict.reason}"
    if finding is None or finding.state != "open":
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
    return advice


def _sample_lines(verdict: Verdict) -> list[str]:
    evidence, question = verdict.evidence, verdict.claim.question
    if not evidence.rounds:
        return []
    if question.noun == "requests":
        return _request_lines(evidence.rounds, evidence.notes[0])
    arms = [[_middle(arms[i]) for arms in evidence.rounds] for i in range(len(evidence.rounds[0]))]
    unit = "s" if question.requests(verdict.plan) else "bit/s"
    scale, name = _scale([value for values in arms for value in values], unit)
    decimals = 0 if max(map(max, arms)) / scale >= 100 else 2
    width = max(len(label) for label in evidence.labels)
    lines = []
    for label, values, note in zip(evidence.labels, arms, evidence.notes, strict=True):
        shown = " ".join(_shown([f"{value / scale:.{decimals}f}" for value in values]))
        lines.append(f"{label:<{width}} {shown} {name}" + (f"   {note}" if note else ""))
    return lines


def _request_lines(rounds: Sequence[Round], note: str) -> list[str]:
    values = [value for arms in rounds for value in arms[0]]
    figures = [(f"p{q * 100:g}", sample_quantile(values, q)) for q in (0.5, 0.9, 0.95, 0.99)]
    figures.append(("max", max(values)))
    text = ", ".join(f"{name} {figure_text(value, 's')}" for name, value in figures)
    return [f"all {len(values)}: {text}" + (f"   {note}" if note else "")]


def _middle(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else sample_quantile(values, 0.5)


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


def _shown(texts: list[str]) -> list[str]:
    if len(texts) <= _MOST_SHOWN:
        return texts
    half = _MOST_SHOWN // 2
    return [*texts[:half], "...", *texts[-half:]]


def _scale(values: Sequence[float], unit: str) -> tuple[float, str]:
    """Return the scale in which the largest value has a digit before the point."""
    largest = max((value for value in values if math.isfinite(value)), default=0.0)
    scales = _SCALES[unit]
    return next((pair for pair in scales if largest >= pair[0]), scales[-1])

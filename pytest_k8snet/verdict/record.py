"""Verdicts as JSON-safe dicts, with the values they rest on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pytest_k8snet.verdict.question import Round
from pytest_k8snet.verdict.text import claim_text

if TYPE_CHECKING:
    from pytest_k8snet.verdict.verdict import Verdict


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """Return the fields of a ``verdict`` record that judging knows."""
    claim, evidence, finding = verdict.claim, verdict.evidence, verdict.finding
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
        "state": verdict.state,
        "found": verdict.found,
        "estimate": _finite(interval.estimate) if interval else None,
        "low": _finite(interval.low) if interval else None,
        "high": _finite(interval.high) if interval else None,
        "relation": claim.relation,
        "limit": claim.limit,
        "margin": _margin(verdict),
        "n": finding.n if finding else 0,
        "noun": claim.question.noun,
        "needed": finding.needed if finding else None,
        "levels": [finding.low_level, finding.high_level] if finding else None,
        "counts": dict(finding.counts) if finding else {},
        "warnings": list(finding.warnings) if finding else [],
        "reason": verdict.reason,
        "stopped": evidence.stopped,
        "discarded": [
            {
                "number": d.number,
                "attempt": d.attempt,
                "label": d.label,
                "cause": d.cause,
                "samples": list(d.samples),
            }
            for d in evidence.discards
        ],
        "plan": verdict.plan.to_record(),
        "seed": evidence.seed,
        "question": claim.question.to_record(),
        "samples": [list(ids) for ids in evidence.samples],
        "values": [_values(arms) for arms in evidence.rounds],
        "labels": list(evidence.labels),
        "notes": list(evidence.notes),
        "hints": list(evidence.hints),
        "text": verdict.text,
    }


def _margin(verdict: Verdict) -> float | None:
    """Return how far the estimate keeps from the limit, positive on the good side, as a share."""
    if verdict.finding is None:
        return None
    claim, estimate = verdict.claim, verdict.finding.interval.estimate
    good = 1.0 if claim.relation in (">=", ">") else -1.0
    return _finite(good * (estimate / claim.limit - 1.0))


def _values(arms: Round) -> list[Any]:
    """Return one round: a bare number for each arm with one value, None for no answer."""
    return [
        _finite(values[0]) if len(values) == 1 else [_finite(value) for value in values]
        for values in arms
    ]


def _finite(value: float) -> float | None:
    """Return the value, or None where it is infinite: JSON has no word for that."""
    return value if math.isfinite(value) else None

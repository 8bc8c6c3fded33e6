"""Judging a recorded verdict again, offline, with the code that judged it first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_k8snet.errors import ResultsError
from pytest_k8snet.verdict.counting import Quantile, Share
from pytest_k8snet.verdict.observation import Discard
from pytest_k8snet.verdict.plan import Plan
from pytest_k8snet.verdict.question import Mean, Question, Round
from pytest_k8snet.verdict.unpaired_question import Unpaired
from pytest_k8snet.verdict.verdict import Claim, Evidence, Verdict, conclude


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
            subject=record["subject"],
            relation=record["relation"],
            limit=float(record["limit"] if limit is None else limit),
            context=record["context"],
            scene=record["scene"],
            mode=record["mode"],
            baseline=record["baseline"],
        )
        evidence = Evidence(
            rounds=tuple(_round(values) for values in record["values"]),
            samples=tuple(tuple(ids) for ids in record["samples"]),
            discards=tuple(
                Discard(
                    number=d["number"],
                    attempt=d["attempt"],
                    label=d["label"],
                    cause=d["cause"],
                    samples=tuple(d.get("samples", ())),
                )
                for d in record["discarded"]
            ),
            seed=record["seed"],
            stopped=record["stopped"],
            labels=tuple(record["labels"]),
            notes=tuple(record["notes"]),
            hints=tuple(record["hints"]),
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
    # What was said of the recorded limit, or of a fail that is none now, says nothing here.
    kept = [hint for hint in evidence.hints if not hint.startswith("note:")]
    hints = tuple(kept) if verdict.found != "pass" else ()
    return replace(verdict, evidence=replace(evidence, hints=hints))


def _round(arms: Sequence[Any]) -> Round:
    return tuple(
        tuple(math.inf if value is None else float(value) for value in values)
        if isinstance(values, list)
        else (math.inf if values is None else float(values),)
        for values in arms
    )


def _question(record: Mapping[str, Any]) -> Question:
    fields = dict(record)
    kind = fields.pop("kind")
    if kind == "mean":
        return Mean(**fields)
    if kind == "quantile":
        return Quantile(**fields)
    if kind == "unpaired":
        return Unpaired(figure=fields["figure"], before=tuple(fields["before"]))
    if kind == "share":
        return Share(
            of=Mean(**{name: value for name, value in fields.pop("of").items() if name != "kind"}),
            **fields,
        )
    raise ValueError(f"no question of the kind {kind!r}")

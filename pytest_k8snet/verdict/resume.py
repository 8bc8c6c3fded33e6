"""Undecided gates that go on where they stopped: resume, not rerun.

A rerun is a new test with a new chance to be wrong; rerun until green, and the chances add up. A
resumed gate keeps its rounds, its maximum and its risk: an undecided one takes the pairs that its
plan still allows, and a decided one is not measured again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_k8snet.errors import SettingsError
from pytest_k8snet.verdict.plan import Plan
from pytest_k8snet.verdict.verdict import Claim, Evidence, Verdict, claim_text, judge

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
    begin = before.times[-1][1] if before.times else 0.0
    return replace(
        now,
        rounds=before.rounds + now.rounds,
        samples=before.samples + now.samples,
        discards=before.discards + now.discards,
        times=before.times + tuple((begin + start, begin + end) for start, end in now.times),
        proofs=before.proofs + now.proofs,
        hits=before.hits + tuple(replace(hit, round=hit.round + rounds) for hit in now.hits),
        notes=tuple(
            "; then ".join(filter(None, both)) for both in zip(before.notes, now.notes, strict=True)
        ),
    )

"""A gate whose samples' paths are not proven says so, and is undecided where a mode is claimed."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from pytest_k8snet import Mbit
from pytest_k8snet.verdict import (
    Arm,
    Bandwidth,
    EarlierVerdicts,
    Judging,
    Observation,
    Plan,
    SampleRequest,
    Verdict,
    judge,
)

PLAN = Plan(warmup_pairs=0, seed=1, span_seconds=0, outlier=0)


def verdict(
    *states: str,
    mode: str | None = "VXLAN-Always",
    plan: Plan = PLAN,
    base: str = "proven",
    earlier: EarlierVerdicts | None = None,
) -> Verdict:
    """A ratio whose samples have these states of proof, the last one for all that follow."""

    def arm(scene: str, mean: float, proofs: Sequence[str]) -> Arm:
        def take(turn: SampleRequest) -> Observation:
            proof = proofs[min(turn.number, len(proofs) - 1)]
            return Observation(figures={"bandwidth": (mean + turn.number,)}, proof=proof)

        return Arm(label=scene, take=take, scene=scene, mode=mode)

    terms = Judging(plan=plan, earlier=earlier)
    pods, nodes = arm("pod-pod", 0.97e9, states), arm("node-node", 1e9, [base])
    return Bandwidth(pods, terms) / Bandwidth(nodes, terms) >= 0.9


@pytest.mark.parametrize(
    ("states", "unproven"), [(["missing"], "1 of 2"), (["proven", "missing"], "1 of 4")]
)
def test_where_a_mode_is_claimed_its_paths_have_to_be_proven(
    states: list[str], unproven: str
) -> None:
    found = verdict(*states)
    assert found.state == "inconclusive"
    assert (
        f"undecided: the path is not proven for {unproven} samples, and the claim is on "
        "VXLAN-Always (require_proof=no in the plan judges it all the same)" in found.text
    )
    assert judge(json.loads(json.dumps(found.to_record()))).to_record() == found.to_record()


def test_samples_without_proof_are_not_gone_on_with() -> None:
    before = verdict("missing")
    again = verdict("proven", earlier=EarlierVerdicts([before.to_record()], "before.jsonl"))
    assert again.evidence.rounds == before.evidence.rounds
    assert again.reason.startswith("the path is not proven for 1 of 2 samples")


def test_the_baselines_path_has_to_be_proven_as_well() -> None:
    assert verdict("proven", base="missing").state == "inconclusive"


@pytest.mark.parametrize("state", ["proven", "not applicable", ""])
def test_what_is_proven_or_claims_no_path_is_judged(state: str) -> None:
    found = verdict(state)
    assert found.state == "pass"
    assert "not proven" not in found.text


@pytest.mark.parametrize(
    ("mode", "plan"), [(None, PLAN), ("IPIP-Always", Plan.parse("require_proof=no", PLAN))]
)
def test_where_no_proof_is_required_its_lack_is_said(mode: str | None, plan: Plan) -> None:
    found = verdict("missing", mode=mode, plan=plan)
    assert found.state == "pass"
    assert "the path is not proven for 4 of 8 samples" in found.text
    assert judge(found.to_record()).state == "pass"


def test_a_gate_can_be_told_to_require_it() -> None:
    plan = Plan.parse("proof=yes", PLAN)
    assert verdict("missing", mode=None, plan=plan).state == "inconclusive"
    assert verdict("proven", mode=None, plan=plan).state == "pass"


def test_a_verdict_of_an_earlier_version_without_proofs_is_judged_as_it_was() -> None:
    record = verdict("proven").to_record()
    del record["proofs"], record["plan"]["require_proof"]
    assert judge(record).state == "pass"
    assert (
        Bandwidth(
            Arm(label="a", take=lambda turn: Observation(figures={"bandwidth": (1e9,)})),
            Judging(plan=PLAN),
        )
        >= 1 * Mbit
    )

"""Undecided gates that go on where they stopped, and those that may not."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from simulated_cluster import SimulatedCluster, wrong_at_most

from pytest_k8snet.errors import SettingsError
from pytest_k8snet.verdict import EarlierVerdicts, Plan, Verdict, judge
from pytest_k8snet.verdict.sampling import Discard, discarded_rounds
from pytest_k8snet.verdict.settle import continued
from pytest_k8snet.verdict.verdict import Evidence

# 20 pairs of 2 x 6 s in a session, 80 at most.
PLAN = Plan.parse("seed=1 warmup=0 last=80 span=0 budget=240")


def session(cluster: SimulatedCluster, before: Verdict | None, plan: Plan = PLAN) -> Verdict:
    records = [json.loads(json.dumps(before.to_record()))] if before is not None else []
    return cluster.ratio(plan, EarlierVerdicts(records, "before.jsonl")) >= 0.9


def test_an_undecided_gate_goes_on_under_the_same_maximum() -> None:
    cluster = SimulatedCluster(random.Random(1), ratio=0.9)
    first = session(cluster, None)
    assert (first.state, len(first.evidence.rounds)) == ("inconclusive", 20)
    second = session(cluster, first)
    assert len(second.evidence.rounds) == 40
    assert second.evidence.rounds[:20] == first.evidence.rounds
    assert second.evidence.watched_seconds == pytest.approx(480)
    assert judge(second.to_record()).to_record() == second.to_record()
    last = session(cluster, session(cluster, second))
    assert len(last.evidence.rounds) == 80
    # Nothing is left of the plan: nothing more is measured.
    turns = len(cluster.turns)
    assert session(cluster, last).state == last.state
    assert len(cluster.turns) == turns


def test_a_decided_gate_is_not_measured_again() -> None:
    cluster = SimulatedCluster(random.Random(1), ratio=1.0)
    first = session(cluster, None)
    assert first.state == "pass"
    turns = len(cluster.turns)
    assert session(cluster, first).to_record() == first.to_record()
    assert len(cluster.turns) == turns


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("last=100", "last was 80, is 100"),
        ("alpha=0.1", "alpha was 0.05, is 0.1"),
        ("outlier=0", "outlier was 0.35, is 0.0"),
    ],
)
def test_another_maximum_or_risk_is_refused(change: str, said: str) -> None:
    cluster = SimulatedCluster(random.Random(1), ratio=0.9)
    first = session(cluster, None)
    with pytest.raises(SettingsError, match="cannot be resumed under another plan") as caught:
        session(cluster, first, Plan.parse(change, PLAN))
    assert said in caught.value.found


def test_a_gate_that_the_earlier_session_does_not_have_is_measured() -> None:
    cluster = SimulatedCluster(random.Random(1), ratio=1.0)
    other = cluster.ratio(PLAN) >= 0.8
    assert len(session(cluster, other).evidence.rounds) < 20


def test_rounds_that_either_session_discarded_are_counted() -> None:
    def evidence(rounds: int, *tries: tuple[int, int]) -> Evidence:
        return Evidence(
            rounds=(((1e9,),),) * rounds,
            samples=(("a",),) * rounds,
            discards=tuple(
                Discard(number=number, attempt=attempt, label="pod-pod", cause="steal")
                for number, attempt in tries
            ),
            seed=1,
            stopped="",
            labels=("pod-pod",),
            notes=("",),
        )

    both = continued(evidence(2, (0, 0), (2, 0), (2, 1)), evidence(2, (0, 0), (1, 0)))
    assert discarded_rounds(both.discards) == 5


def test_resumed_until_the_last_pair_a_gate_errs_no_more_often_than_alpha() -> None:
    runs = 300
    states: Counter[str] = Counter()
    for seed in range(runs):
        cluster = SimulatedCluster(random.Random(f"cluster {seed}"), ratio=0.9)
        plan, verdict = PLAN.with_changes(seed=seed, outlier=0.0), None
        for _ in range(4):
            verdict = session(cluster, verdict, plan)
            if verdict.state != "inconclusive":
                break
        assert verdict is not None
        states[verdict.state] += 1
    assert max(states["pass"], states["fail"]) <= wrong_at_most(runs)

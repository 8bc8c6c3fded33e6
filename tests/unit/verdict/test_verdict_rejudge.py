from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence

import pytest
from simulated_cluster import SimulatedCluster, scripted

from pytest_k8snet import Mbit, ms
from pytest_k8snet.errors import ResultsError, SettingsError
from pytest_k8snet.verdict import (
    Arm,
    Bandwidth,
    Judging,
    Latency,
    Observation,
    Plan,
    SampleRequest,
    Verdict,
    judge,
)

PLAN = Plan(seed=1, warmup_pairs=0, span_seconds=0)


def a_ratio() -> Verdict:
    return SimulatedCluster(random.Random(3), ratio=0.95).ratio(Plan(seed=3, outlier=0)) >= 0.90


def an_undecided_ratio() -> Verdict:
    return SimulatedCluster(random.Random(3), ratio=0.90).ratio(Plan(seed=3, last=6)) >= 0.90


def an_upper_bound_on_samples_of_a_lower_one() -> Verdict:
    ratio = SimulatedCluster(random.Random(3), ratio=0.95).ratio(Plan(seed=3, outlier=0))
    assert 0.9 <= ratio <= 1.5
    return ratio.verdicts[1]


def a_share() -> Verdict:
    plan = PLAN.with_changes(last=40)
    ratio = SimulatedCluster(random.Random(3), ratio=0.95).ratio(plan)
    return ratio.share(above=0.8) >= 0.9


def a_bandwidth_with_discards() -> Verdict:
    arm = scripted(9e8, 9.1e8, 9.2e8, 9e8, discards={1: "steal"})
    return Bandwidth(arm, Judging(plan=PLAN)) >= 500 * Mbit


def a_monitored_bandwidth() -> Verdict:
    terms = Judging(plan=PLAN.with_changes(monitor=True))
    return Bandwidth(scripted(9e8, 9.1e8), terms) >= 5000 * Mbit


def a_percentile_with_lost_requests() -> Verdict:
    rng = random.Random(8)

    def take(turn: SampleRequest) -> Observation:
        drawn = [rng.expovariate(500) for _ in range(turn.requests)]
        return Observation(
            figures={"connect": [x if x < 0.008 else float("inf") for x in drawn]},
            sample_id=f"s{turn.number}",
        )

    arm = Arm(
        label="node1 -> web",
        take=take,
        context="VXLAN-Always",
        scene="node-clusterip",
        mode="VXLAN-Always",
        describe=lambda observations: f"{len(observations)} execs",
    )

    def hints(verdict: Verdict, arms: Sequence[Sequence[Observation]]) -> list[str]:
        assert len(arms[0]) == len(verdict.evidence.rounds)
        return ["look at the offload", f"note: {verdict.claim.limit:g} s is little"]

    return Latency(arm, Judging(plan=PLAN, hints=hints)).connect.p95 <= 5 * ms


VERDICTS = [
    a_ratio,
    an_undecided_ratio,
    an_upper_bound_on_samples_of_a_lower_one,
    a_share,
    a_bandwidth_with_discards,
    a_monitored_bandwidth,
    a_percentile_with_lost_requests,
]


@pytest.mark.parametrize("make", VERDICTS)
def test_a_stored_record_is_judged_the_same(make: Callable[[], Verdict]) -> None:
    verdict = make()
    stored = json.loads(json.dumps(verdict.to_record(), allow_nan=False))
    again = judge(stored)
    assert (again.claim, again.finding) == (verdict.claim, verdict.finding)
    assert again.text == verdict.text
    assert again.to_record() == verdict.to_record()


def test_another_limit_is_judged_on_the_same_samples() -> None:
    stored = a_ratio().to_record()
    assert stored["state"] == "pass"
    assert judge(stored, limit=1.2).state == "fail"
    assert judge(stored, limit=stored["estimate"]).state == "inconclusive"


def test_hints_are_given_for_what_is_no_pass_and_kept_for_other_limits_that_it_misses() -> None:
    said = ["look at the offload"]
    bandwidth = Bandwidth(
        scripted(9e8, 9.1e8), Judging(plan=PLAN, hints=lambda verdict, arms: said)
    )
    missed = bandwidth >= 5000 * Mbit
    assert missed.text.endswith("\n  look at the offload")
    stored = missed.to_record()
    assert judge(stored, limit=4e9).text.endswith("\n  look at the offload")
    assert judge(stored, limit=5e8).evidence.hints == ()
    passed = bandwidth >= 500 * Mbit
    assert passed
    assert passed.evidence.hints == ()


def test_a_record_names_what_reports_need() -> None:
    record = a_percentile_with_lost_requests().to_record()
    assert record["kind"] == "verdict"
    assert record["claim"] == "connect p95 of node1 -> web <= 5 ms"
    assert (record["quantity"], record["unit"], record["relation"]) == ("connect p95", "s", "<=")
    assert (record["limit"], record["mode"], record["scene"]) == (
        0.005,
        "VXLAN-Always",
        "node-clusterip",
    )
    assert record["baseline"] is None
    assert record["samples"][:2] == [["s0"], ["s1"]]
    assert record["plan"]["seed"] == record["seed"] == 1
    assert record["notes"] == [f"{len(record['samples'])} execs"]
    assert record["hints"] == ["look at the offload", "note: 0.005 s is little"]
    assert record["text"].splitlines()[0].endswith("<= 5 ms  (VXLAN-Always)")


def test_the_margin_is_positive_on_the_good_side() -> None:
    assert a_ratio().to_record()["margin"] > 0
    assert a_monitored_bandwidth().to_record()["margin"] < 0
    low, high = (make().to_record() for make in (a_ratio, an_upper_bound_on_samples_of_a_lower_one))
    assert low["margin"] == pytest.approx(low["estimate"] / 0.9 - 1)
    assert high["margin"] == pytest.approx(1 - high["estimate"] / 1.5)


def test_a_ratios_record_names_its_baseline_and_its_pairs() -> None:
    record = a_ratio().to_record()
    assert record["baseline"] == "node-node"
    assert len(record["values"]) == record["n"]
    assert all(len(pair) == 2 for pair in record["values"])


def test_a_crippled_record_is_refused_with_what_it_lacks() -> None:
    record = a_ratio().to_record()
    del record["values"]
    with pytest.raises(ResultsError) as caught:
        judge(record)
    assert str(caught.value) == (
        "a verdict record cannot be judged again\n"
        "  found: KeyError: 'values', in the verdict on 'pod-pod / node-node >= 0.90'\n"
        "  to do: use a results file of this version, as it was written"
    )


def test_a_value_that_is_no_number_keeps_no_limit() -> None:
    record = a_percentile_with_lost_requests().to_record()
    record["values"][0][0] = [math.nan] * 20
    with pytest.raises(ResultsError, match="cannot be judged again") as caught:
        judge(record)
    assert "ValueError: a value that is no number" in caught.value.found


@pytest.mark.parametrize("question", [{"kind": "guess"}, {"kind": "mean", "colour": 1}])
def test_an_unknown_question_is_refused(question: dict[str, object]) -> None:
    with pytest.raises(ResultsError, match="cannot be judged again"):
        judge({**a_ratio().to_record(), "question": question})


def test_another_limit_that_the_plan_cannot_decide_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"a share >= 0\.99 cannot be judged from 40 pairs"):
        judge(a_share().to_record(), limit=0.99)

from __future__ import annotations

import math
import random

import pytest
from scipy import stats
from simulated_cluster import EarlierRuns, earlier_runs, scripted, wrong_at_most

from pytest_k8snet.errors import Inconclusive, SettingsError
from pytest_k8snet.units import Mbit
from pytest_k8snet.verdict import (
    Arm,
    Bandwidth,
    Judging,
    Observation,
    Plan,
    SampleRequest,
    Verdict,
    judge,
)
from pytest_k8snet.verdict.intervals import welch_interval

#: Three runs that differ by about 1 %.
EARLIER = EarlierRuns((2.86e9, 2.84e9), (2.83e9, 2.83e9), (2.87e9,))


def gate(now: Arm, earlier: EarlierRuns, plan: Plan | None = None) -> Verdict:
    judging = Judging(plan=(plan or Plan()).with_changes(span_seconds=0))
    return Bandwidth(now, judging) / earlier >= 0.90


def test_welchs_interval_is_scipys_with_degrees_rounded_down() -> None:
    now, before = [0.02, -0.05, 0.04, 0.11, -0.02], [0.3, 0.36, 0.25, 0.4]
    oracle = stats.ttest_ind(now, before, equal_var=False)
    found = welch_interval(now, before, 0.025)
    widest = stats.t.ppf(0.975, math.floor(oracle.df)) / stats.t.ppf(0.975, oracle.df)
    interval = oracle.confidence_interval(0.95)
    centre = (interval.low + interval.high) / 2
    assert math.log(found.low) == pytest.approx(centre - widest * (centre - interval.low))
    assert math.log(found.high) == pytest.approx(centre + widest * (interval.high - centre))


def test_the_same_bandwidth_as_before_passes_and_much_less_fails() -> None:
    verdict = gate(scripted(2.85e9, 2.83e9, 2.86e9, 2.84e9), EARLIER)
    assert verdict.state == "pass"
    assert "baseline run" in verdict.text
    assert "3 baseline runs, 5 connections in them" in verdict.text
    assert gate(scripted(0.98e9, 0.97e9, 0.99e9), EARLIER).state == "fail"


def test_the_record_names_the_baseline_and_can_be_judged_again() -> None:
    verdict = gate(scripted(2.85e9, 2.83e9, 2.86e9), EARLIER)
    record = verdict.to_record()
    assert record["baseline"] == "baseline run before.jsonl"
    assert record["quantity"] == "bandwidth ratio to the baseline runs"
    assert judge(record).to_record() == record
    assert judge(record, limit=1.2).state == "fail"


@pytest.mark.parametrize("values", [(), (2.85e9,), (2.85e9, 0.0)])
def test_an_earlier_run_without_spread_is_refused_before_anything_is_measured(
    values: tuple[float, ...],
) -> None:
    def take(turn: SampleRequest) -> Observation:
        raise AssertionError("nothing may be measured")

    with pytest.raises(SettingsError, match="allows no honest interval"):
        gate(Arm(label="pod-pod", take=take), EarlierRuns(values))


def test_a_bandwidth_divides_by_nothing_else() -> None:
    with pytest.raises(TypeError, match="cannot divide"):
        Bandwidth(scripted(1e9), Judging(plan=Plan())) / 2  # type: ignore[operator]
    with pytest.raises(TypeError, match="cannot compare"):
        _ = Bandwidth(scripted(1e9), Judging(plan=Plan())) / EarlierRuns((1e9, 1e9)) >= 5 * Mbit


def verdict_against(seed: int, sd: float, count: int, text: str = "") -> Verdict:
    """At the limit, on a cluster whose runs differ by ``sd``."""
    chance = random.Random(f"cluster {seed}")
    own = 0.9 * 2.85e9 * math.exp(chance.gauss(0, sd))

    def take(turn: SampleRequest) -> Observation:
        return Observation(figures={"bandwidth": (own * math.exp(chance.gauss(0, 0.03)),)})

    plan = Plan.parse(f"seed={seed} warmup=0 {text}")
    return gate(Arm(label="now", take=take), earlier_runs(chance, sd, count), plan)


@pytest.mark.parametrize("sd", [0.02, 0.05])
@pytest.mark.parametrize(("count", "known"), [(3, False), (1, True)])
def test_at_the_limit_it_errs_no_more_often_than_the_plan_allows(
    sd: float, count: int, known: bool
) -> None:
    runs = 400
    text = f"between={sd}" if known else ""
    states = [verdict_against(seed, sd, count, text).state for seed in range(runs)]
    assert max(states.count("pass"), states.count("fail")) <= wrong_at_most(runs)


def test_one_earlier_run_is_reported_and_decides_nothing() -> None:
    verdicts = [verdict_against(seed, 0.0, 1) for seed in range(20)]
    assert {verdict.state for verdict in verdicts} == {"inconclusive"}
    text = verdicts[0].text
    assert "one earlier run cannot show how much runs differ when nothing was changed" in text
    assert "(between=0.03 in the plan)" in text
    assert "4 connections x 5 s" in text
    passed = gate(scripted(2.85e9), EarlierRuns((2.85e9, 2.84e9)), Plan(between_runs=0.02))
    assert passed.state == "pass"


def test_an_undecided_comparison_is_no_pass() -> None:
    chance = random.Random(4)

    def take(turn: SampleRequest) -> Observation:
        return Observation(figures={"bandwidth": (0.9 * math.exp(chance.gauss(0, 0.1)),)})

    earlier = EarlierRuns((1.0, 1.1), (0.95,))
    verdict = gate(Arm(label="now", take=take), earlier, Plan(first=4, last=6))
    with pytest.raises(Inconclusive):
        assert verdict

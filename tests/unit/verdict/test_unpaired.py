from __future__ import annotations

import math
import random

import pytest
from scipy import stats
from simulated_cluster import scripted

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
from pytest_k8snet.verdict.questions import welch_interval


class Earlier:
    """An earlier run with these bandwidths."""

    source = "before.jsonl"

    def __init__(self, *values: float) -> None:
        self.values = values

    def values_of(self, arm: Arm, figure: str) -> tuple[float, ...]:
        assert figure == "bandwidth"
        return self.values


def gate(now: Arm, earlier: Earlier, plan: Plan | None = None) -> Verdict:
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
    earlier = Earlier(2.86e9, 2.84e9, 2.85e9, 2.83e9)
    verdict = gate(scripted(2.85e9, 2.83e9, 2.86e9, 2.84e9), earlier)
    assert verdict.state == "pass"
    assert "baseline run" in verdict.text
    assert "4 in the baseline run" in verdict.text
    assert gate(scripted(0.98e9, 0.97e9, 0.99e9), earlier).state == "fail"


def test_the_record_names_the_baseline_and_can_be_judged_again() -> None:
    verdict = gate(scripted(2.85e9, 2.83e9, 2.86e9), Earlier(2.86e9, 2.84e9))
    record = verdict.to_record()
    assert record["baseline"] == "baseline run before.jsonl"
    assert record["quantity"] == "bandwidth ratio to the baseline run"
    assert judge(record).to_record() == record
    assert judge(record, limit=1.2).state == "fail"


@pytest.mark.parametrize("values", [(), (2.85e9,), (2.85e9, 0.0)])
def test_an_earlier_run_without_spread_is_refused_before_anything_is_measured(
    values: tuple[float, ...],
) -> None:
    def take(turn: SampleRequest) -> Observation:
        raise AssertionError("nothing may be measured")

    with pytest.raises(SettingsError, match="allows no honest interval"):
        gate(Arm(label="pod-pod", take=take), Earlier(*values))


def test_a_bandwidth_divides_by_nothing_else() -> None:
    with pytest.raises(TypeError, match="cannot divide"):
        Bandwidth(scripted(1e9), Judging(plan=Plan())) / 2  # type: ignore[operator]
    with pytest.raises(TypeError, match="cannot compare"):
        _ = Bandwidth(scripted(1e9), Judging(plan=Plan())) / Earlier(1e9, 1e9) >= 5 * Mbit


@pytest.mark.parametrize(("sd_now", "sd_before"), [(0.04, 0.04), (0.02, 0.08)])
def test_at_the_limit_it_errs_no_more_often_than_the_plan_allows(
    sd_now: float, sd_before: float
) -> None:
    chance = random.Random(9)
    plan = Plan(first=4, last=12)
    passed = failed = 0
    runs = 500
    for _ in range(runs):
        earlier = Earlier(*(math.exp(chance.gauss(0, sd_before)) for _ in range(8)))

        def take(turn: SampleRequest) -> Observation:
            return Observation(figures={"bandwidth": (0.9 * math.exp(chance.gauss(0, sd_now)),)})

        verdict = gate(Arm(label="now", take=take), earlier, plan)
        passed += verdict.state == "pass"
        failed += verdict.state == "fail"
    # 5 % each way, and three standard errors of this simulation.
    assert max(passed, failed) / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_an_undecided_comparison_is_no_pass() -> None:
    chance = random.Random(4)

    def take(turn: SampleRequest) -> Observation:
        return Observation(figures={"bandwidth": (0.9 * math.exp(chance.gauss(0, 0.1)),)})

    verdict = gate(Arm(label="now", take=take), Earlier(1.0, 1.1, 0.95), Plan(first=4, last=6))
    with pytest.raises(Inconclusive):
        assert verdict

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from pytest_k8snet.measure.resolution import Resolution, least_margin, spread_of
from pytest_k8snet.verdict import Plan
from pytest_k8snet.verdict.intervals import Interval
from pytest_k8snet.verdict.questions import Mean


def resolution(low: float = 0.98, high: float = 1.03) -> Resolution:
    return Resolution(
        label="node-node node1 -> node2",
        spread=0.04,
        interval=Interval(estimate=1.004, low=low, high=high),
        pair_seconds=14.0,
        plan=Plan(),
    )


def test_it_says_what_can_be_told_in_what_time() -> None:
    assert str(resolution()) == (
        "node-node node1 -> node2 against itself: ratio 1.004, interval [0.980, 1.030]\n"
        "resolves 4.0% in about 38 pairs, 1520 s\n"
        "resolves 8.2% in about 17 pairs, 680 s\n"
        "set limits at least that far below (or above) the ratio you expect\n"
        "last=20 decides no limit nearer than 6.0%, to survive one pair 35 % off (outlier=...)\n"
        "a limit 5% from the ratio, decided within 600 s in 19 of 20 runs: "
        "plan 'last=38 seconds=5 span=540'\n"
        "a limit 7% from the ratio, decided within 600 s in 19 of 20 runs: "
        "plan 'last=25 seconds=5 span=540'\n"
        "a limit 10% from the ratio, decided within 600 s in 19 of 20 runs: "
        "plan 'last=17 seconds=5 span=540'\n"
        "a limit 20% from the ratio, decided within 600 s in 19 of 20 runs: "
        "plan 'last=8 seconds=5 span=320'"
    )


def test_a_noisy_cluster_gets_shorter_samples_or_no_plan() -> None:
    noisy = replace(resolution(), spread=0.10)
    plan = noisy.propose(0.07)
    assert plan is not None
    assert plan.seconds < Plan().seconds
    assert plan.last > 40
    assert replace(noisy, spread=0.30).propose(0.05) is None
    assert "a limit 5% from the ratio, decided within 600 s in 19 of 20 runs: not on this" in str(
        replace(noisy, spread=0.30)
    )


def test_a_ratio_that_is_not_one_is_pointed_out() -> None:
    assert resolution().sound
    skewed = resolution(low=1.01)
    assert not skewed.sound
    assert "NOT 1, so something drifts or the arms differ" in str(skewed)


def test_resolution_is_the_spread_of_one_pair() -> None:
    rng = random.Random(1)
    logs = [rng.gauss(0, 0.04) for _ in range(2000)]
    assert spread_of(logs) == pytest.approx(0.04, abs=0.004)
    assert spread_of([0.0] * 5) == pytest.approx(0.01005, abs=1e-5)


def test_a_plan_decides_nothing_nearer_than_its_margin() -> None:
    plan = Plan()
    margin = math.log1p(least_margin(plan))
    assert margin == pytest.approx(0.0579, abs=0.001)
    at, below = (math.exp(one) for one in (1.05 * margin, 0.95 * margin))
    question = Mean(figure="bandwidth", unit="", paired=True)
    for ratio, state in ((at, "pass"), (below, "open")):
        found = question.find([((ratio,), (1.0,))] * plan.last, plan, ">=", 1.0)
        assert found is not None
        assert found.state == state

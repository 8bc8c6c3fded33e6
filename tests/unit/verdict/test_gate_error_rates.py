"""The promise: a verdict is wrong with a probability of at most alpha, whatever the noise.

Few runs here, for every commit; ``benchmarks/verdict_errors.py`` has 20,000 of each.
"""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from simulated_cluster import SimulatedCluster, wrong_at_most

from pytest_k8snet import ms
from pytest_k8snet.verdict import Arm, Judging, Latency, Observation, Plan, SampleRequest

RUNS = 400


@pytest.mark.parametrize("drift", [0.0, 0.01])
@pytest.mark.parametrize("noise", ["normal", "heavy", "autocorrelated"])
def test_at_the_limit_each_error_is_rarer_than_alpha(noise: str, drift: float) -> None:
    rng = random.Random(f"{noise} {drift}")
    states: Counter[str] = Counter()
    estimates = []
    for seed in range(RUNS):
        cluster = SimulatedCluster(rng, ratio=0.9, noise=noise, drift=drift)
        verdict = cluster.ratio(Plan(seed=seed, warmup_pairs=0, outlier=0)) >= 0.9
        states[verdict.state] += 1
        assert verdict.finding is not None
        estimates.append(math.log(verdict.finding.interval.estimate / 0.9))
    assert 0 < states["pass"] <= wrong_at_most(RUNS)
    assert 0 < states["fail"] <= wrong_at_most(RUNS)
    mean = sum(estimates) / RUNS
    spread = math.sqrt(sum((x - mean) ** 2 for x in estimates) / RUNS)
    assert abs(mean) < 4 * spread / math.sqrt(RUNS)


@pytest.mark.parametrize(
    ("margin", "expected_pairs"), [(0.5, 15.3), (1.0, 8.8), (2.0, 4.9), (3.0, 4.2)]
)
def test_pairs_exceed_the_table_by_15_percent_at_most(margin: float, expected_pairs: float) -> None:
    rng = random.Random(7)
    ratio = 0.9 * math.exp(0.04 * margin)
    pairs = []
    for seed in range(RUNS):
        cluster = SimulatedCluster(rng, ratio=ratio)
        verdict = cluster.ratio(Plan(seed=seed, warmup_pairs=0, outlier=0)) >= 0.9
        assert verdict.finding is not None
        pairs.append(verdict.finding.n)
    # What dependence is always assumed costs the difference.
    assert 0.95 <= sum(pairs) / RUNS / expected_pairs <= 1.15


def test_slow_requests_in_bursts_fail_no_more_often_than_alpha() -> None:
    """At the limit: 5 % of the requests are slow, eight in a row on average."""
    rng = random.Random(8)
    slow = False

    def take(turn: SampleRequest) -> Observation:
        nonlocal slow
        values = []
        for _ in range(turn.requests):
            slow = rng.random() >= 1 / 8 if slow else rng.random() < 0.05 / 0.95 / 8
            values.append(0.1 if slow else 0.001)
        return Observation(figures={"total": values})

    runs, failed = 200, 0
    for seed in range(runs):
        terms = Judging(plan=Plan(seed=seed, warmup_pairs=0, span_seconds=0))
        latency = Latency(Arm(label="bursts", take=take), terms)
        failed += (latency.total.p95 <= 10 * ms).state == "fail"
    # Counting each request as independent, it would be 30 %.
    assert failed <= wrong_at_most(runs)

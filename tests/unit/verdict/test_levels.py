"""Gates on figures that may be zero, and on differences of percentiles."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable

import pytest
from simulated_cluster import Clock, wrong_at_most

from pytest_k8snet import ms
from pytest_k8snet.errors import SettingsError, ToolError
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

RUNS = 300
MOST = wrong_at_most(RUNS)


def flow(plan: str = "seed=1", /, **figures: Callable[[], float]) -> Bandwidth:
    """A bandwidth whose samples have these figures beside it."""
    clock = Clock()

    def take(turn: SampleRequest) -> Observation:
        clock.sleep(6.0)
        values = {name: (draw(),) for name, draw in figures.items()}
        return Observation(figures={"bandwidth": (1e9,), **values})

    terms = Judging(plan=Plan.parse(f"warmup=0 {plan}"), clock=clock, sleep=clock.sleep)
    return Bandwidth(Arm(label="pod-pod", take=take), terms)


def test_a_link_without_loss_passes_and_says_what_it_may_not_have_seen() -> None:
    verdict = flow(loss=lambda: 0.0).loss <= 0.001
    assert verdict
    assert verdict.text.splitlines()[0] == "PASS: loss of pod-pod <= 0.001"
    assert "loss 0.000, interval [0.000, 0.0002" in verdict.text
    assert "0 of 4 connections lay beyond the limit; a share of up to 53 % could" in verdict.text
    assert judge(verdict.to_record()).to_record() == verdict.to_record()


@pytest.mark.parametrize(
    ("figure", "value", "limit"),
    [("loss", 0.02, 0.001), ("retransmit_ratio", 0.01, 0.001), ("jitter", 0.003, 1 * ms)],
)
def test_a_figure_beyond_its_limit_fails(figure: str, value: float, limit: float) -> None:
    gate = getattr(flow(**{figure: lambda: value}), figure)
    assert (gate <= limit).state == "fail"
    assert (gate >= limit).state == "pass"


def test_several_figures_are_of_the_same_samples() -> None:
    taken = Counter[str]()

    def rtt() -> float:
        taken["samples"] += 1
        return 0.001

    gate = flow(rtt=rtt, retransmit_ratio=lambda: 0.0)
    assert gate.rtt <= 2 * ms
    assert gate.retransmit_ratio <= 0.001
    assert taken["samples"] == 4


def test_a_figure_near_its_limit_has_to_survive_one_sample_far_off() -> None:
    near, far = flow("last=5", rtt=lambda: 0.0017), flow(rtt=lambda: 0.001)
    undecided = near.rtt <= 2 * ms
    assert undecided.state == "inconclusive"
    assert "one more connection, 35 % worse than the rest, would undo it" in undecided.text
    assert len((far.rtt <= 2 * ms).evidence.rounds) == 4
    assert flow("last=5 outlier=0", rtt=lambda: 0.0017).rtt <= 2 * ms


def test_loss_at_the_limit_keeps_alpha() -> None:
    def verdict(seed: int) -> Verdict:
        rng = random.Random(seed)
        gate = flow(f"seed={seed}", loss=lambda: max(0.0, rng.gauss(0.01, 0.003)))
        return gate.loss <= 0.01

    states = Counter(verdict(seed).state for seed in range(RUNS))
    assert states["pass"] <= MOST
    assert states["fail"] <= MOST


def test_loss_in_one_connection_of_ten_is_counted_by_its_share() -> None:
    rng = random.Random(3)
    gate = flow("seed=3 last=60", loss=lambda: 0.05 if rng.random() < 0.3 else 0.0)
    verdict = gate.loss.share(below=0.001) >= 0.9
    assert verdict.state == "fail"
    assert verdict.claim.subject == "share of connections with loss of pod-pod below 0.001"
    assert judge(verdict.to_record()).to_record() == verdict.to_record()


def test_connections_without_any_loss_are_counted() -> None:
    rng = random.Random(3)
    gate = flow("seed=3 last=60", loss=lambda: 0.001 if rng.random() < 0.5 else 0.0)
    assert (gate.loss.share(below=0) >= 0.9).state == "fail"
    assert flow("last=29", loss=lambda: 0.0).loss.share(below=0) >= 0.9
    with pytest.raises(SettingsError, match="a limit for loss must be a positive number"):
        _ = gate.loss.share(above=0) >= 0.9


def test_what_cannot_be_judged_is_refused_with_what_to_write() -> None:
    with pytest.raises(SettingsError, match="a limit for loss must be a positive number"):
        _ = flow(loss=lambda: 0.0).loss <= 0
    with pytest.raises(TypeError, match="cannot compare jitter"):
        _ = flow(jitter=lambda: 0.001).jitter <= 1
    with pytest.raises(ToolError, match="the samples have no loss to judge") as caught:
        _ = flow().loss <= 0.01
    assert "loss and jitter are of UDP (udp=True)" in caught.value.remedy


# -- Differences of percentiles --------------------------------------------------------------------


def latency(label: str, base: float, rng: random.Random, terms: Judging) -> Latency:
    def take(turn: SampleRequest) -> Observation:
        answers = [base * math.exp(rng.gauss(0, 0.2)) for _ in range(turn.requests)]
        return Observation(figures={"connect": answers})

    return Latency(Arm(label=label, take=take), terms)


def difference(extra: float, seed: int) -> Verdict:
    clock, rng = Clock(), random.Random(seed)
    terms = Judging(plan=Plan(seed=seed, warmup_pairs=0), clock=clock, sleep=clock.sleep)
    pod = latency("pod", 0.004 + extra, rng, terms)
    node = latency("node", 0.004, rng, terms)
    return pod.connect.p50 - node.connect.p50 <= 1 * ms


def test_a_difference_of_percentiles_is_judged_in_pairs() -> None:
    good, bad = difference(0.0, 1), difference(0.002, 1)
    assert good
    assert bad.state == "fail"
    assert good.text.splitlines()[0] == "PASS: connect p50 of pod - node <= 1 ms"
    assert bad.estimate is not None
    assert 1 * ms < bad.estimate < 3 * ms
    assert judge(bad.to_record()).to_record() == bad.to_record()


def test_a_difference_at_the_limit_keeps_alpha() -> None:
    states = Counter(difference(0.001, seed).state for seed in range(RUNS))
    assert states["pass"] <= MOST
    assert states["fail"] <= MOST


def test_only_like_percentiles_are_subtracted() -> None:
    terms = Judging(plan=Plan(seed=1))
    one = latency("pod", 0.004, random.Random(1), terms)
    with pytest.raises(TypeError, match="needs the same phase and percentile on both sides"):
        _ = one.connect.p50 - one.connect.p95

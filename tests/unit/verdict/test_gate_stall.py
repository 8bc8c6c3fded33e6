"""A server that stalls, seen by a fixed schedule and by a closed loop."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

from pytest_k8snet import Seconds, ms
from pytest_k8snet.verdict import Arm, Judging, Latency, Observation, Plan, SampleRequest
from pytest_k8snet.verdict.intervals import sample_quantile

USUAL = 0.002
STALL, EVERY = 0.15, 2.0


def answered_at(sent: float) -> float:
    """Answer at once, but hold whatever arrives during a stall until its end."""
    into = sent % EVERY
    return sent + USUAL + (STALL - into if into < STALL else 0.0)


def scheduled(rng: random.Random) -> Iterator[float]:
    """Requests at 50/s with jitter, each timed from its own slot."""
    slot = rng.uniform(0, EVERY)
    while True:
        sent = slot + rng.uniform(0, 0.02)
        yield answered_at(sent) - sent
        slot += 0.02


def closed_loop(rng: random.Random) -> Iterator[float]:
    """The next request 20 ms after the last answer."""
    now = rng.uniform(0, EVERY)
    while True:
        answer = answered_at(now)
        yield answer - now
        now = answer + 0.02


def latency(requests: Iterator[float]) -> Latency:
    def take(turn: SampleRequest) -> Observation:
        return Observation(figures={"total": [next(requests) for _ in range(turn.requests)]})

    # Rounds of 100 requests, so each lasts for one period of the stall.
    plan = Plan(seed=1, warmup_pairs=0, span_seconds=0, requests=4_000)
    return Latency(Arm(label="node1 -> web", take=take), Judging(plan=plan))


def true_share_over(limit: float) -> float:
    """Of all instants, the share at which a request takes longer than the limit."""
    return max(0.0, STALL - (limit - USUAL)) / EVERY


@pytest.mark.parametrize(("percent", "kept"), [(50, True), (90, True), (95, False), (99, False)])
def test_the_schedule_judges_a_stall_right(percent: float, kept: bool) -> None:
    limit = 10 * ms
    assert (true_share_over(float(limit)) <= 1 - percent / 100) is kept
    verdict = latency(scheduled(random.Random(3))).total.percentile(percent) <= limit
    assert bool(verdict) is kept


def test_the_closed_loop_overlooks_the_same_stall() -> None:
    limit = 10 * ms
    # 7 % of all requests would exceed the limit; the loop stops asking while the server stalls.
    assert true_share_over(float(limit)) == pytest.approx(0.071)
    assert latency(closed_loop(random.Random(3))).total.p95 <= limit


def test_the_scheduled_estimate_is_the_true_percentile() -> None:
    source = scheduled(random.Random(5))
    values = [next(source) for _ in range(20_000)]
    # The slowest 5 % of instants lie in the first 0.1 s of each stall.
    assert sample_quantile(values, 0.95) == pytest.approx(STALL - 0.1 + USUAL, rel=0.05)
    loop = closed_loop(random.Random(5))
    assert sample_quantile([next(loop) for _ in range(20_000)], 0.95) == pytest.approx(USUAL)
    assert Seconds(sample_quantile(values, 0.5)) < 3 * ms
    assert not any(math.isinf(value) for value in values)

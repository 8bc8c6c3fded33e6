from __future__ import annotations

import math
import random

import pytest

from pytest_k8snet import ms
from pytest_k8snet.errors import SettingsError, ToolError
from pytest_k8snet.verdict import Arm, Judging, Latency, Observation, Plan, SampleRequest


class Server:
    """Answers with a share of slow requests; the phases are parts of the total."""

    def __init__(self, slow: float = 0.0, *, lost: float = 0.0, usual: float = 0.002) -> None:
        self.slow = slow
        self.lost = lost
        self.usual = usual
        self.turns: list[SampleRequest] = []
        self._rng = random.Random(6)

    def take(self, turn: SampleRequest) -> Observation:
        self.turns.append(turn)
        totals = [self._one() for _ in range(turn.requests)]
        return Observation(
            figures={
                "dns": [0.0] * turn.requests,
                "connect": [total / 4 for total in totals],
                "tls": [0.0] * turn.requests,
                "first_byte": [total / 2 for total in totals],
                "total": totals,
            },
            sample_id=f"s{len(self.turns):04}",
        )

    def _one(self) -> float:
        drawn = self._rng.random()
        if drawn < self.lost:
            return math.inf
        return self.usual * (10 if drawn < self.lost + self.slow else 1)

    def latency(self, plan: Plan | None = None) -> Latency:
        terms = Judging(plan=plan or Plan(seed=1, warmup_pairs=0, span_seconds=0))
        return Latency(Arm(label="node1 -> web", take=self.take), terms)


def test_a_kept_ceiling_passes_when_all_is_watched() -> None:
    server = Server()
    verdict = server.latency().total.p95 <= 5 * ms
    assert verdict
    assert verdict.text == (
        "PASS: total p95 of node1 -> web <= 5 ms\n"
        "  total p95 2 ms, interval [2 ms, 2 ms] (5 % risk each side), 500 requests, "
        "0 over the limit, 0 without a good answer, 5 rounds, 0 discarded\n"
        "  all 500: p50 2 ms, p90 2 ms, p95 2 ms, p99 2 ms, max 2 ms\n"
        "  the requests covered 25 s: stalls longer than 0.42 s could fill 0.05 of the time unseen "
        "(span=... in the plan watches longer)"
    )
    assert [turn.requests for turn in server.turns] == [100] * 5


def test_a_missed_ceiling_fails() -> None:
    verdict = Server(slow=0.2).latency().total.p95 <= 5 * ms
    assert not verdict
    assert verdict.finding is not None
    assert dict(verdict.finding.counts)["over the limit"] > 10


def test_a_p99_takes_the_requests_that_it_needs() -> None:
    server = Server()
    assert server.latency().connect.p99 <= 1 * ms
    assert sum(turn.requests for turn in server.turns) == 1200


def test_phases_share_their_requests() -> None:
    server = Server()
    latency = server.latency()
    assert latency.total.p95 <= 5 * ms
    taken = len(server.turns)
    assert latency.connect.p95 <= 1 * ms
    assert latency.first_byte.p90 <= 2 * ms
    assert len(server.turns) == taken


def test_a_higher_percentile_adds_to_the_requests_of_a_lower() -> None:
    server = Server()
    latency = server.latency()
    assert latency.total.p50 <= 5 * ms
    assert latency.total.p99 <= 5 * ms
    verdict = latency.total.percentile(90) <= 5 * ms
    assert verdict
    # 500 requests for p50, then on to four times the 299 that a p99 needs at least.
    assert [turn.requests for turn in server.turns] == [100] * 12


def test_requests_without_a_good_answer_exceed_every_ceiling() -> None:
    verdict = Server(lost=0.2).latency().total.p95 <= 3600 * 1000 * ms
    assert not verdict
    assert "total p95 no good answer" in verdict.text


def test_an_undecided_percentile_says_how_many_more_requests() -> None:
    plan = Plan(seed=1, warmup_pairs=0, span_seconds=0, requests=200)
    verdict = Server(slow=0.03).latency(plan).total.p95 <= 5 * ms
    assert verdict.state == "inconclusive"
    assert "the limit lies within the interval; about " in verdict.text
    assert " more requests would settle it (requests=" in verdict.text


def test_a_p99_from_a_hundred_requests_is_refused_before_measuring() -> None:
    server = Server()
    with pytest.raises(SettingsError) as caught:
        assert server.latency(Plan(requests=100)).total.p99 <= 5 * ms
    assert str(caught.value) == (
        "p99 cannot be judged from 100 requests: even if none exceeds the limit, "
        "that does not show it\n"
        "  found: 100 requests within the limit come about with probability 0.366 on a cluster "
        "where 0.01 of all exceed it; the plan's risk is 0.05\n"
        "  to do: allow 299 requests or more (requests=299 in the plan), or judge p95"
    )
    assert server.turns == []


@pytest.mark.parametrize(("requests", "percent"), [(299, 99), (59, 95), (29, 90), (5, 50)])
def test_the_fewest_requests_that_can_show_a_percentile_are_accepted(
    requests: int, percent: float
) -> None:
    server = Server()
    plan = Plan(seed=1, warmup_pairs=0, span_seconds=0, requests=requests)
    assert server.latency(plan).total.percentile(percent) <= 5 * ms
    assert requests <= sum(turn.requests for turn in server.turns) < requests + 5


def test_one_burst_is_no_clean_fail() -> None:
    bad_round = 3
    turns = 0

    def take(turn: SampleRequest) -> Observation:
        nonlocal turns
        turns += 1
        slow = turn.requests if turns == bad_round else 0
        return Observation(figures={"total": [0.5] * slow + [0.001] * (turn.requests - slow)})

    plan = Plan(seed=1, warmup_pairs=0, span_seconds=0, requests=100)
    latency = Latency(Arm(label="node1 -> web", take=take), Judging(plan=plan))
    verdict = latency.total.p95 <= 5 * ms
    assert verdict.state == "inconclusive"
    assert (
        "slow requests come in bursts: 20 of 20 in one of 5 rounds; 25.0 requests tell as much as "
        "one independent one would" in verdict.text
    )


def test_a_ratio_of_latencies_is_taken_in_pairs_of_rounds() -> None:
    direct, service = Server(usual=0.002), Server(usual=0.003)
    ratio = service.latency().total / direct.latency().total
    verdict = ratio <= 2.5
    assert verdict
    assert verdict.claim.question.quantity == "total p50 ratio"
    assert verdict.finding is not None
    assert verdict.finding.interval.estimate == pytest.approx(1.5)
    assert "4 pairs x 20 requests" in verdict.text
    assert {turn.requests for turn in direct.turns} == {20}


def test_a_ratio_of_high_percentiles_takes_longer_rounds() -> None:
    server = Server()
    assert server.latency().total.p95 / server.latency().total.p95 <= 1.1
    assert {turn.requests for turn in server.turns} == {200}


def test_a_ratio_needs_the_same_phase_and_percentile_on_both_sides() -> None:
    latency = Server().latency()
    with pytest.raises(TypeError, match="needs the same phase and percentile on both sides"):
        latency.total.p95 / latency.total.p50
    with pytest.raises(TypeError, match="cannot divide total of node1 -> web by 2"):
        latency.total / 2  # type: ignore[operator]


def test_a_ratio_of_what_was_never_answered_is_an_error() -> None:
    with pytest.raises(ToolError, match="a sample has no total p50 ratio to judge"):
        assert Server(lost=1.0).latency().total / Server().latency().total <= 2


def test_warmup_is_short() -> None:
    server = Server()
    assert server.latency(Plan(seed=1, span_seconds=0)).total.p95 <= 5 * ms
    assert (server.turns[0].warmup, server.turns[0].requests) == (True, 10)
    assert not any(turn.warmup for turn in server.turns[1:])


@pytest.mark.parametrize("percent", [0, 100, -5, 250])
def test_a_percentile_lies_inside_zero_and_a_hundred(percent: float) -> None:
    with pytest.raises(SettingsError, match="above 0 and below 100"):
        Server().latency().total.percentile(percent)


def test_a_ceiling_has_a_unit() -> None:
    with pytest.raises(TypeError, match=r"cannot compare total p95 .* with 5: write assert"):
        assert Server().latency().total.p95 <= 5


def test_a_phase_is_not_one_figure() -> None:
    latency = Server().latency()
    with pytest.raises(TypeError, match=r"is not one figure; write .* say which percentile"):
        assert latency.connect <= 5 * ms
    with pytest.raises(TypeError, match="latency of node1 -> web has no truth of its own"):
        assert latency


def test_the_limit_may_stand_on_the_left() -> None:
    limit = 5 * ms
    assert limit >= Server().latency().total.p95

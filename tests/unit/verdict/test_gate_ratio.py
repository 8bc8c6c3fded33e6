from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from simulated_cluster import SimulatedCluster, scripted

from pytest_k8snet import BitRate, Gbit, Inconclusive, Mbit, ms
from pytest_k8snet.errors import SettingsError, ToolError
from pytest_k8snet.verdict import (
    NEW_CONNECTIONS,
    Arm,
    Bandwidth,
    Connections,
    Judging,
    Latency,
    Observation,
    PairedRatio,
    Plan,
    Progress,
    SampleRequest,
    Verdict,
    judge,
)
from pytest_k8snet.verdict.verdict import limit_text

NO_WARMUP = Plan(warmup_pairs=0, seed=1, span_seconds=0, outlier=0)


def ratio_of(pod: float, node: float, plan: Plan = NO_WARMUP) -> PairedRatio:
    judging = Judging(plan=plan)
    return Bandwidth(scripted(pod), judging) / Bandwidth(scripted(node), judging)


def test_a_clear_ratio_passes_and_fails_at_the_first_look() -> None:
    ratio = ratio_of(0.97e9, 1e9)
    passed = ratio >= 0.90
    assert passed
    failed = ratio >= 0.99
    assert not failed
    assert (passed.state, failed.state) == ("pass", "fail")
    assert passed.finding is not None
    assert passed.finding.n == 4
    assert passed.finding.interval.estimate == pytest.approx(0.97)


@pytest.mark.parametrize(
    ("holds", "state"),
    [
        (ratio_of(1e9, 1e9) <= 1.1, "pass"),
        (ratio_of(1e9, 1e9) < 1.1, "pass"),
        (ratio_of(1e9, 1e9) > 0.9, "pass"),
        (ratio_of(1e9, 1e9) <= 0.9, "fail"),
        (ratio_of(1e9, 1e9) < 0.9, "fail"),
        (ratio_of(1e9, 1e9) > 1.1, "fail"),
    ],
)
def test_each_relation_goes_its_own_way(holds: Verdict, state: str) -> None:
    assert holds.state == state


def test_undecided_raises_and_says_how_many_more() -> None:
    cluster = SimulatedCluster(random.Random(4), ratio=0.92)
    with pytest.raises(Inconclusive) as caught:
        assert cluster.ratio(Plan(seed=4, last=8)) >= 0.90
    text = str(caught.value).splitlines()
    assert text[0] == "INCONCLUSIVE: pod-pod / node-node >= 0.90"
    assert text[1].endswith("8 pairs x 5 s, 0 discarded, watched 317 s")
    assert text[2].startswith("  undecided: the limit lies within the interval, and one ")
    assert " of the pairs varies by " in text[2]
    assert "; about " in text[2]
    assert "more pairs would settle it (last=" in text[2]


@pytest.mark.parametrize(("limit", "side", "more"), [(0.93, "worse", 9), (1.01, "better", 11)])
def test_a_few_equal_pairs_near_the_limit_decide_nothing(
    limit: float, side: str, more: int
) -> None:
    careful = NO_WARMUP.with_changes(outlier=0.35)
    verdict = ratio_of(0.97e9, 1e9, careful) >= limit
    assert verdict.state == "inconclusive"
    assert (
        f"undecided: one more pair, 35 % {side} than the rest, would undo it, and one of "
        f"the pairs varies by 0.0%; about {more} more pairs would settle it (last={20 + more} in "
        "the plan), fewer a limit further off; outlier=0 in the plan trusts what was met"
        in verdict.text
    )
    assert judge(verdict.to_record()).to_record() == verdict.to_record()
    # Far from the limit the same pairs are enough.
    assert len((ratio_of(0.97e9, 1e9, careful) >= 0.5).evidence.rounds) == 4


def test_negation_cannot_turn_undecided_into_a_pass() -> None:
    ratio = SimulatedCluster(random.Random(1), ratio=0.90).ratio(Plan(seed=1, last=5))
    with pytest.raises(Inconclusive):
        assert not (ratio >= 0.90)


def test_a_limit_too_close_to_tell_names_no_number_of_pairs() -> None:
    ratio = SimulatedCluster(random.Random(1), ratio=0.90).ratio(Plan(seed=1, last=5))
    verdict = ratio >= 0.90
    verdict = ratio >= (verdict.finding.interval.estimate if verdict.finding else 0)
    assert "too close to the figure for any sensible number of pairs" in verdict.text


def test_chained_bounds_share_their_samples() -> None:
    cluster = SimulatedCluster(random.Random(2), ratio=1.0)
    ratio = cluster.ratio(Plan(seed=2, warmup_pairs=0))
    assert 0.8 <= ratio <= 1.25
    lower, upper = ratio.verdicts
    assert lower.finding is not None
    assert upper.finding is not None
    assert len(cluster.turns) == 2 * max(lower.finding.n, upper.finding.n)
    assert upper.evidence.rounds[: lower.finding.n] == lower.evidence.rounds


def test_comparing_again_measures_no_more_than_the_plan_allows() -> None:
    cluster = SimulatedCluster(random.Random(1), ratio=0.90)
    ratio = cluster.ratio(Plan(seed=1, last=5, warmup_pairs=0))
    for _ in range(3):
        assert (ratio >= 0.90).state == "inconclusive"
    assert len(cluster.turns) == 10


def test_every_pair_has_one_turn_of_each_arm_and_warmup_comes_first() -> None:
    cluster = SimulatedCluster(random.Random(2), ratio=0.5)
    assert not (cluster.ratio(Plan(seed=9)) >= 0.9)
    assert [turn.warmup for turn in cluster.turns] == [True] * 2 + [False] * 8
    assert [turn.number for turn in cluster.turns[2:]] == [0, 0, 1, 1, 2, 2, 3, 3]
    pairs = [tuple(t.arm for t in cluster.turns[i : i + 2]) for i in range(2, 10, 2)]
    assert {tuple(sorted(pair)) for pair in pairs} == {(0, 1)}
    assert len(set(pairs)) == 2
    assert len({turn.seed for turn in cluster.turns}) == 10


def test_the_same_seed_gives_the_same_order() -> None:
    orders = []
    for _ in range(2):
        cluster = SimulatedCluster(random.Random(2), ratio=0.5)
        assert not (cluster.ratio(Plan(seed=77)) >= 0.9)
        orders.append([turn.arm for turn in cluster.turns])
    assert orders[0] == orders[1]


def test_two_modes_are_pointed_out() -> None:
    judging = Judging(plan=NO_WARMUP)
    slow_and_fast = scripted(*[0.70e9, 1e9, 1.01e9, 0.71e9, 0.99e9, 1e9, 0.7e9, 1e9] * 3)
    ratio = Bandwidth(slow_and_fast, judging) / Bandwidth(scripted(1e9), judging)
    text = (ratio >= 0.89).text
    assert "two groups: 8 and 12 of 20 pairs lie apart by more than half of all spread" in text


def test_monitoring_reports_and_fails_nothing() -> None:
    verdict = ratio_of(0.5e9, 1e9, NO_WARMUP.with_changes(monitor=True)) >= 0.9
    assert verdict
    assert (verdict.state, verdict.found) == ("monitor", "fail")
    assert verdict.text.startswith(
        "MONITOR (fail, not enforced): scripted / scripted >= 0.90\n  bandwidth ratio 0.500"
    )


def test_monitoring_does_not_raise_when_undecided() -> None:
    plan = Plan(seed=1, last=5, monitor=True, span_seconds=0)
    assert SimulatedCluster(random.Random(1), ratio=0.90).ratio(plan) >= 0.90


def test_observer_hears_of_each_pair_and_recorder_of_each_verdict() -> None:
    heard: list[Progress] = []
    verdicts: list[Verdict] = []
    judging = Judging(plan=NO_WARMUP, observer=heard.append, recorder=verdicts.append)
    ratio = Bandwidth(scripted(1e9), judging) / Bandwidth(scripted(2e9), judging)
    verdict = ratio >= 0.9
    assert verdicts == [verdict]
    assert [progress.taken for progress in heard] == [1, 2, 3, 4]
    assert str(heard[0]) == "scripted / scripted >= 0.90: 1 of at most 20 pairs"
    assert str(heard[-1]).startswith("scripted / scripted >= 0.90: 4 of at most 20 pairs, [0.4")


def test_an_absolute_bandwidth_is_judged_over_connections() -> None:
    verdict = Bandwidth(scripted(0.98e9), Judging(plan=NO_WARMUP)) >= 500 * Mbit
    assert verdict
    assert verdict.claim.question.quantity == "bandwidth"
    assert verdict.text.splitlines()[0] == "PASS: bandwidth of scripted >= 500 Mbit/s"
    assert "4 connections x 5 s" in verdict.text


def test_an_absolute_bandwidth_takes_bounds_on_both_sides() -> None:
    assert 0.9 * Gbit <= Bandwidth(scripted(0.98e9), Judging(plan=NO_WARMUP)) <= 1.1 * Gbit


def test_a_share_of_pairs_needs_enough_of_them() -> None:
    with pytest.raises(SettingsError) as caught:
        assert ratio_of(1e9, 1e9).share(above=0.8) >= 0.9
    assert str(caught.value) == (
        "a share >= 0.9 cannot be judged from 20 pairs\n"
        "  found: it takes 29 pairs at a risk of 0.05, even if every one is good\n"
        "  to do: allow last=29 in the plan, or more"
    )


def test_a_share_of_pairs_passes_when_all_are_good_and_fails_when_many_are_not() -> None:
    plan = NO_WARMUP.with_changes(last=29)
    good = ratio_of(1e9, 1e9, plan).share(above=0.8) >= 0.9
    assert good
    assert good.finding is not None
    assert good.finding.n == 29
    bad = ratio_of(0.7e9, 1e9, plan).share(above=0.8) >= 0.9
    assert not bad
    assert bad.finding is not None
    assert bad.finding.n == 4
    below = ratio_of(0.7e9, 1e9, plan).share(below=0.8) >= 0.9
    assert below
    assert below.text.startswith(
        "PASS: share of pairs with scripted / scripted below 0.8 >= 0.90\n"
        "  share of pairs 1.000, interval [0.90"
    )


def test_a_share_takes_one_threshold_and_a_limit_inside_zero_and_one() -> None:
    with pytest.raises(SettingsError, match=r"share\(\) needs one threshold"):
        ratio_of(1e9, 1e9).share()
    with pytest.raises(SettingsError, match="share must be compared with a number between 0 and 1"):
        assert ratio_of(1e9, 1e9).share(above=0.8) >= 1


def test_the_two_sides_need_the_same_plan() -> None:
    with pytest.raises(SettingsError, match="two sides of a ratio have different plans"):
        Bandwidth(scripted(1), Judging(plan=Plan(last=9))) / Bandwidth(scripted(1), Judging())


def test_a_figure_of_zero_is_an_error_and_no_verdict() -> None:
    with pytest.raises(ToolError, match="a sample has no bandwidth ratio to judge"):
        assert ratio_of(0.0, 1e9) >= 0.9


def test_pairs_can_be_taken_without_a_claim() -> None:
    assert ratio_of(1e9, 2e9).pairs(3) == ((1e9, 2e9),) * 3


@pytest.mark.parametrize("limit", [0.0, -1.0, math.inf, math.nan])
def test_a_limit_must_be_positive(limit: float) -> None:
    with pytest.raises(SettingsError, match="a limit for bandwidth ratio must be a positive"):
        assert ratio_of(1e9, 1e9) >= limit


def test_limits_must_have_the_figures_unit() -> None:
    bandwidth = Bandwidth(scripted(1e9), Judging())
    with pytest.raises(TypeError, match=r"cannot compare bandwidth .* with 500: write assert"):
        assert bandwidth >= 500
    with pytest.raises(TypeError, match=r"with 5 ms: write assert bandwidth\(pods\) >= 500"):
        assert bandwidth >= 5 * ms
    with pytest.raises(TypeError, match=r"with 5 ms: write assert ratio >= 0\.90"):
        assert ratio_of(1, 1) >= 5 * ms
    with pytest.raises(TypeError, match="with True"):
        assert ratio_of(1, 1) >= True
    with pytest.raises(TypeError, match="divide it by another bandwidth"):
        bandwidth / 2  # type: ignore[operator]


@pytest.mark.parametrize("lazy", [Bandwidth(scripted(1), Judging()), ratio_of(1, 1)])
def test_nothing_lazy_is_taken_for_a_value(lazy: object) -> None:
    with pytest.raises(TypeError, match="has no truth of its own; write assert"):
        assert lazy
    with pytest.raises(TypeError, match="is no number yet: it is measured while it is compared"):
        float(lazy)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cannot be compared with == or !="):
        assert lazy == 0.9
    assert lazy in {lazy}


def test_explanation_finds_the_verdict_of_a_comparison() -> None:
    ratio = ratio_of(0.5e9, 1e9)
    assert not (ratio >= 0.9)
    limit = 0.8
    assert not (limit <= ratio)
    first, second = (verdict.text.splitlines() for verdict in ratio.verdicts)
    assert ratio.explain_comparison(">=", 0.9) == first
    assert ratio.explain_comparison("<=", limit, reflected=True) == second
    assert ratio.explain_comparison(">=", 0.7) is None
    assert ratio.explain_comparison("in", 0.9, reflected=True) is None


def test_arms_are_named_in_full_where_more_than_the_scene_sets_them_apart() -> None:
    def named(scene: str, **more: Any) -> Bandwidth:
        arm = replace(scripted(1e9), label=scene, **{"ends": "a -> b", **more})
        return Bandwidth(arm, Judging(plan=NO_WARMUP))

    pods, nodes = named("pod-pod", nodes="node1 -> node2"), named("node-node", mode="Never")
    for ratio, name in (
        (named("pod-pod", mode="IPIP-Always") / nodes, "pod-pod [IPIP-Always] / node-node [Never]"),
        (named("pod-pod", mode="Never") / nodes, "pod-pod / node-node"),
        (named("pod-pod") / nodes, "pod-pod / node-node"),
        (
            pods / named("node-node", nodes="node1 -> node3"),
            "pod-pod node1 -> node2 / node-node node1 -> node3",
        ),
        (
            named("pod-pod", ends="a -> b") / named("pod-pod", ends="a -> c"),
            "pod-pod a -> b / pod-pod a -> c",
        ),
    ):
        assert repr(ratio) == name


@pytest.mark.parametrize(
    "compare", [lambda ratio: ratio >= 0.9, lambda ratio: ratio.share(above=1) >= 0.9]
)
def test_what_is_divided_by_itself_is_refused_before_it_is_measured(
    compare: Callable[[PairedRatio], object],
) -> None:
    def take(turn: SampleRequest) -> Observation:
        raise AssertionError("nothing is measured here")

    def arm() -> Arm:
        return Arm(label="pod-pod", take=take, ends="client 10.0.0.1 -> server 10.0.0.2")

    terms = Judging(plan=NO_WARMUP.with_changes(last=29))
    ratio = Bandwidth(arm(), terms) / Bandwidth(arm(), terms)
    with pytest.raises(SettingsError) as caught:
        compare(ratio)
    assert str(caught.value) == (
        "pod-pod is compared with itself, which is 1 whatever the network does\n"
        "  found: both sides measure client 10.0.0.1 -> server 10.0.0.2, with the same options\n"
        "  to do: divide by another pair, usually the nodes below it: "
        "bandwidth(pod_pair) / bandwidth(node_pair)"
    )


def test_a_bandwidth_is_compared_as_a_share_of_a_rate() -> None:
    bandwidth = Bandwidth(scripted(0.98e9, 0.97e9, 0.99e9), Judging(plan=NO_WARMUP))
    verdict = bandwidth / (1 * Gbit) >= 0.9
    assert verdict
    assert verdict.text.startswith(
        "PASS: bandwidth of scripted / 1 Gbit/s >= 0.90\n  bandwidth as a share of the rate 0.98"
    )
    assert judge(verdict.to_record()).to_record() == verdict.to_record()
    with pytest.raises(SettingsError, match="no share of a rate that is not positive"):
        bandwidth / (0 * Gbit)


def test_a_share_of_connections_counts_those_above_a_bit_rate() -> None:
    plan = NO_WARMUP.with_changes(last=29)
    bandwidth = Bandwidth(scripted(0.98e9, 0.97e9), Judging(plan=plan))
    verdict = bandwidth.share(above=500 * Mbit) >= 0.9
    assert verdict
    assert "share of connections with bandwidth of scripted above 500 Mbit/s" in verdict.text


def test_a_threshold_without_its_unit_is_refused() -> None:
    bandwidth = Bandwidth(scripted(0.98e9), Judging(plan=NO_WARMUP))
    # It would be 500 bit/s, which every connection keeps.
    with pytest.raises(TypeError, match=r"cannot compare bandwidth \(bandwidth of .+\) with 500: "):
        bandwidth.share(above=500)
    with pytest.raises(TypeError, match="cannot compare jitter"):
        bandwidth.jitter.share(below=1)
    with pytest.raises(TypeError, match="cannot compare bandwidth ratio"):
        ratio_of(1e9, 1e9).share(above=500 * Mbit)


def test_samples_that_count_connections_have_no_length_in_seconds() -> None:
    def take(turn: SampleRequest) -> Observation:
        return Observation(figures={NEW_CONNECTIONS: (300.0,)})

    gate = Connections(Arm(label="pod", take=take), Judging(plan=NO_WARMUP))
    told = (gate >= 200).text
    assert "(5 % risk each side), 4 samples, 0 discarded" in told
    assert "0 of 4 samples lay more than 10 % below the rest" in told


def test_rounds_without_a_value_are_no_verdict() -> None:
    def latency(label: str) -> Latency:
        arm = Arm(label=label, take=lambda turn: Observation(figures={"connect": ()}))
        return Latency(arm, terms)

    terms = Judging(plan=NO_WARMUP)
    with pytest.raises(ToolError, match="a sample has no connect p50 ratio to judge"):
        assert latency("pod").connect / latency("node").connect <= 1.2
    verdict = latency("pod").connect.p50 <= 5 * ms
    assert verdict.state == "inconclusive"
    assert "undecided: nothing was measured up to the plan's first look" in verdict.text


def test_a_limit_below_zero_has_the_scale_of_its_size() -> None:
    assert limit_text(-0.002, "s") == "-2 ms"


def test_estimate_and_interval_can_be_read_in_their_unit() -> None:
    plain = Bandwidth(scripted(0.98e9, 0.97e9), Judging(plan=NO_WARMUP)) >= 500 * Mbit
    assert isinstance(plain.estimate, BitRate)
    assert plain.interval is not None
    low, high = plain.interval
    assert isinstance(low, BitRate)
    assert low < plain.estimate < high
    ratio = ratio_of(0.9e9, 1e9) >= 0.8
    assert ratio.estimate == pytest.approx(0.9)
    assert not isinstance(ratio.estimate, BitRate)

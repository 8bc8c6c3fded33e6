from __future__ import annotations

import itertools
import random

from simulated_cluster import Clock, SimulatedCluster, scripted

from pytest_k8snet import Mbit
from pytest_k8snet.verdict import Arm, Bandwidth, Judging, Observation, Plan, SampleRequest


def judging(**changes: object) -> Judging:
    return Judging(
        plan=Plan(seed=1, span_seconds=0, warmup_pairs=0, outlier=0).with_changes(**changes)
    )


def test_a_discarded_sample_takes_its_partner_with_it() -> None:
    terms = judging()
    # The third node sample is bad: its pair is taken again, and the pod's third figure is lost.
    pod = scripted(1.0, 2.0, 3.0, 4.0, 5.0)
    node = scripted(10.0, 20.0, 30.0, 40.0, 50.0, discards={2: "CPU steal 9 %"})
    verdict = Bandwidth(pod, terms) / Bandwidth(node, terms) <= 0.5
    assert verdict
    assert verdict.evidence.rounds == tuple(((v,), (10 * v,)) for v in (1.0, 2.0, 4.0, 5.0))
    assert verdict.evidence.samples[2] == ("s0003", "s0003")
    assert [(d.number, d.attempt, d.cause) for d in verdict.evidence.discards] == [
        (2, 0, "CPU steal 9 %")
    ]
    assert verdict.evidence.discards[0].samples == ("s0002", "s0002")
    assert "4 pairs x 5 s, 1 discarded" in verdict.text
    assert "\n  discarded: scripted: CPU steal 9 %" in verdict.text


def test_causes_in_both_arms_count_as_one_pair() -> None:
    terms = judging()
    bad = {0: "calico-node restarted"}
    verdict = (
        Bandwidth(scripted(1.0, discards=bad), terms)
        / Bandwidth(scripted(2.0, discards=bad), terms)
        <= 0.6
    )
    assert verdict
    assert len(verdict.evidence.discards) == 2
    assert ", 1 discarded" in verdict.text


def test_more_than_a_quarter_of_discards_postpones_the_verdict() -> None:
    terms = judging()
    bad = {0: "steal", 1: "steal"}
    verdict = Bandwidth(scripted(1.0, discards=bad), terms) / Bandwidth(scripted(2.0), terms) <= 0.6
    assert verdict
    # Clear after 4 pairs, but 2 of 6 rounds were discarded; 2 of 8 are not too many.
    assert verdict.finding is not None
    assert verdict.finding.n == 6


def test_hopeless_discards_end_undecided_with_their_causes() -> None:
    terms = judging(last=12)
    always = dict.fromkeys(range(100), "CPU throttled")
    taken = 0

    def take(turn: SampleRequest) -> Observation:
        nonlocal taken
        taken += 1
        return Observation(figures={"bandwidth": (1.0,)}, discard=always[turn.number])

    verdict = Bandwidth(Arm(label="pod-pod", take=take), terms) / Bandwidth(scripted(2.0), terms)
    outcome = verdict <= 0.6
    assert outcome.state == "inconclusive"
    assert taken == 5
    assert outcome.text == (
        "INCONCLUSIVE: pod-pod / scripted <= 0.60\n"
        "  0 pairs, 5 discarded\n"
        "  undecided: 5 of 5 rounds had to be discarded: CPU throttled\n"
        "  discarded: pod-pod: CPU throttled"
    )


def test_of_many_causes_the_reason_lists_three() -> None:
    bad = {place: f"node{place} restarted" for place in range(9)}
    verdict = Bandwidth(scripted(1e9, discards=bad), judging()) >= 1 * Mbit
    assert verdict.reason == (
        "7 of 7 rounds had to be discarded: node0 restarted, node1 restarted, node2 restarted, "
        "and 4 more causes"
    )


def test_causes_that_differ_only_in_their_figures_are_told_as_one() -> None:
    busy = "node1 (10.0.0.1) was busy before the sample: {}% idle (plan: idle=0.2)"
    bad = {place: busy.format(12 - place) for place in range(9)} | {1: "node1 restarted"}
    verdict = Bandwidth(scripted(1e9, discards=bad), judging()) >= 1 * Mbit
    both = "node1 (10.0.0.1) was busy before the sample: 6 to 12% idle (plan: idle=0.2)"
    assert verdict.reason == f"7 of 7 rounds had to be discarded: {both}, node1 restarted"
    assert f"\n  discarded: {both}\n  discarded: node1 restarted" in verdict.text


def test_discards_depend_on_causes_and_never_on_figures() -> None:
    bad = {3: "steal", 5: "pod moved"}
    sets = []
    for seed in range(20):
        figures = [1.0 + i / 100 for i in range(12)]
        random.Random(seed).shuffle(figures)
        terms = judging(first=10, last=10)
        ratio = Bandwidth(scripted(*figures, discards=bad), terms) / Bandwidth(scripted(1.0), terms)
        verdict = ratio >= 0.5
        sets.append({(d.number, d.attempt, d.cause) for d in verdict.evidence.discards})
    assert all(found == {(3, 0, "steal"), (4, 0, "pod moved")} for found in sets)


def timed(clock: Clock, value: float) -> Arm:
    """An arm whose samples take 10 s."""

    def take(turn: SampleRequest) -> Observation:
        clock.sleep(10.0)
        return Observation(figures={"bandwidth": (value,)})

    return Arm(label="timed", take=take)


def test_the_budget_ends_before_a_pair_that_would_not_fit() -> None:
    clock = Clock()
    terms = Judging(
        plan=Plan(seed=1, span_seconds=0, warmup_pairs=0, budget_seconds=100), clock=clock
    )
    ratio = Bandwidth(timed(clock, 0.905), terms) / Bandwidth(timed(clock, 1.0), terms)
    verdict = ratio >= 0.9
    assert verdict.state == "inconclusive"
    assert clock.now == 100.0
    assert (
        "undecided: the time budget of 100 s is spent: 100 s used, and one more round takes 20 s"
        in verdict.text
    )


def test_a_warmup_counts_for_the_budget_and_not_for_the_verdict() -> None:
    clock = Clock()
    terms = Judging(
        plan=Plan(seed=1, span_seconds=0, warmup_pairs=1, budget_seconds=90), clock=clock
    )
    ratio = Bandwidth(timed(clock, 0.905), terms) / Bandwidth(timed(clock, 1.0), terms)
    verdict = ratio >= 0.9
    assert verdict.state == "inconclusive"
    assert (clock.now, len(verdict.evidence.rounds)) == (80.0, 3)
    assert "3 pairs, 0 discarded" in verdict.text


def test_arms_that_differ_in_what_must_be_alike_are_never_compared() -> None:
    def arm(label: str, congestion: str) -> Arm:
        def take(turn: SampleRequest) -> Observation:
            return Observation(
                figures={"bandwidth": (1.0,)}, alike={"congestion control": congestion}
            )

        return Arm(label=label, take=take)

    terms = judging()
    verdict = Bandwidth(arm("pod-pod", "bbr"), terms) / Bandwidth(arm("node-node", "cubic"), terms)
    outcome = verdict >= 0.9
    assert outcome.state == "inconclusive"
    assert (
        "discarded: pod-pod: the arms differ in congestion control: bbr and cubic" in outcome.text
    )
    same = Bandwidth(arm("pod-pod", "bbr"), terms) / Bandwidth(arm("node-node", "bbr"), terms)
    assert same >= 0.9


def test_a_warmup_is_short() -> None:
    turns: list[SampleRequest] = []

    def take(turn: SampleRequest) -> Observation:
        turns.append(turn)
        return Observation(figures={"bandwidth": (1.0,)})

    terms = Judging(plan=Plan(seed=1, span_seconds=0, seconds=5, omit_seconds=1))
    assert Bandwidth(Arm(label="a", take=take), terms) / Bandwidth(scripted(1.0), terms) >= 0.5
    assert [(turn.warmup, turn.seconds, turn.omit_seconds) for turn in turns[:2]] == [
        (True, 1, 0),
        (False, 5, 1),
    ]


def near(figure: float, *sizes: tuple[int, int]) -> Arm:
    """An arm whose samples have these segment sizes, the last one for all further samples."""

    def take(turn: SampleRequest) -> Observation:
        size = sizes[min(turn.number + turn.attempt, len(sizes) - 1)]
        return Observation(figures={"bandwidth": (figure,)}, near={"MSS": size})

    return Arm(label="near", take=take)


def test_circumstances_within_their_distance_are_no_cause() -> None:
    terms = judging()
    outcome = (
        Bandwidth(near(1.0, (1398, 50)), terms) / Bandwidth(near(2.0, (1448, 0)), terms) <= 0.6
    )
    assert outcome
    assert outcome.evidence.discards == ()


def test_circumstances_too_far_apart_are_a_cause() -> None:
    terms = judging()
    pod, node = near(1.0, (1397, 50), (1398, 50)), near(2.0, (1448, 0))
    outcome = Bandwidth(pod, terms) / Bandwidth(node, terms) <= 0.6
    assert outcome
    assert [d.cause for d in outcome.evidence.discards] == [
        "the arms differ too much in MSS: 1397 and 1448"
    ]


def test_what_befell_the_cluster_during_a_round_discards_it_and_not_what_came_before() -> None:
    befell = ["calico-node of node1 restarted"]
    asked: list[int] = []
    taken = 0

    def take(turn: SampleRequest) -> Observation:
        nonlocal taken
        taken += 1
        if taken == 3:
            befell.append("calico-node of node2 restarted")
        return Observation(figures={"bandwidth": (1.0,)})

    def watch() -> str:
        asked.append(taken)
        return befell.pop() if befell else ""

    terms = Judging(plan=Plan(seed=1, span_seconds=0, warmup_pairs=0, outlier=0), watch=watch)
    ratio = Bandwidth(Arm(label="pod-pod", take=take), terms) / Bandwidth(scripted(2.0), terms)
    outcome = ratio <= 0.6
    assert outcome
    assert [(d.number, d.attempt, d.label, d.cause) for d in outcome.evidence.discards] == [
        (2, 0, "pod-pod", "calico-node of node2 restarted")
    ]
    # Once before the first round, and once after each.
    assert asked == [0, 1, 2, 3, 4, 5]
    assert ratio <= 0.7
    assert len(asked) == 6, "a comparison that takes no further round asks nothing"


def test_a_budget_leaves_room_for_the_first_look_and_is_not_waited_out() -> None:
    cluster = SimulatedCluster(random.Random(1), ratio=0.9)
    verdict = cluster.ratio(Plan(seed=1, warmup_pairs=0, budget_seconds=120)) >= 0.9
    assert verdict.state == "inconclusive"
    assert verdict.finding is not None
    assert "the time budget of 120 s is spent" in verdict.reason
    assert cluster.clock.now <= 120


def test_pairs_lie_apart_by_random_gaps_that_the_seed_draws() -> None:
    times = []
    for seed in (1, 1, 2):
        cluster = SimulatedCluster(random.Random(1), ratio=0.9)
        times.append((cluster.ratio(Plan(seed=seed, warmup_pairs=0)) >= 0.9).evidence.times)
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(times[0])]
    assert len(gaps) == 19
    assert all(20 <= gap <= 60 for gap in gaps)
    assert 34 < sum(gaps) / len(gaps) < 48
    assert times[0] == times[1] != times[2]

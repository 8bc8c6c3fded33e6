from __future__ import annotations

import random

import pytest

from pytest_k8snet.verdict.intervals import chance_overdispersion, overdispersion, two_groups
from pytest_k8snet.verdict.plan import Plan
from pytest_k8snet.verdict.questions import (
    MOST_NAMED,
    pairs_needed,
    requests_needed,
)

PLAN = Plan()


def pairs(sd: float, margin: float, off: float = 0.0) -> int | None:
    return pairs_needed(sd, margin, PLAN, off=off)


def test_fewer_pairs_are_needed_further_from_the_limit() -> None:
    assert [pairs(0.04, margin) for margin in (0.02, 0.04, 0.08)] == [43, 13, 6]
    assert pairs(0.04, -0.04) == 13


def test_one_pair_far_off_is_to_be_survived_by_a_narrow_margin_only_after_many() -> None:
    off = PLAN.outlier_log
    assert [pairs(0.02, margin, off) for margin in (0.04, 0.07, 0.14, 0.60)] == [32, 18, 9, 2]
    # What varies as much by itself costs a few more.
    assert (pairs(0.10, 0.07), pairs(0.10, 0.07, off)) == (23, 29)


def test_hopeless_margins_name_no_number() -> None:
    assert pairs(0.04, 0.001) is None
    assert pairs(0.04, 0.0) is None
    largest = next(m for m in range(1, 99) if pairs(0.04, m / 1000) is not None)
    assert (pairs(0.04, largest / 1000) or 0) <= MOST_NAMED


def test_equal_samples_are_not_believed() -> None:
    assert pairs(0.0, 0.02) == pairs(0.01, 0.02)


def test_requests_needed_grow_towards_the_allowed_share() -> None:
    assert requests_needed(0.10, 0.05, 0.025) == 185
    assert (requests_needed(0.06, 0.05, 0.025) or 0) > 3000
    assert requests_needed(0.0, 0.01, 0.025) is not None
    assert requests_needed(0.0101, 0.01, 0.025) is None


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([1, 2, 9, 10, 1, 2, 9, 10], (4, 4)),
        ([1, 1.1, 9, 9.1, 9.2, 9.3, 9.4, 9.5, 9.6], (2, 7)),
        ([1, 9, 9.1, 9.2, 9.3, 9.4, 9.5, 9.6], None),  # one lone value is no mode
        ([1, 2, 9, 10, 1, 2, 9], None),  # too few to tell
        ([1, 2, 3, 4, 5, 6, 7, 8], None),
        ([5, 5, 5, 5, 5, 5, 5, 5], None),
    ],
)
def test_two_modes_are_two_groups_far_apart(
    values: list[float], groups: tuple[int, int] | None
) -> None:
    assert two_groups(values) == groups


def test_one_group_rarely_looks_like_two() -> None:
    rng = random.Random(2)
    runs = 4000
    alarms = sum(two_groups([rng.gauss(0, 1) for _ in range(8)]) is not None for _ in range(runs))
    assert alarms / runs < 0.045


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([1, 1, 1, 1, 1], 1.0),
        ([0, 0, 0, 0, 0], 1.0),
        ([20, 20, 20, 20, 20], 1.0),
        ([2, 0, 1, 3, 0], 1.507),  # chance alone does as much, and so do stalls
        ([20, 0, 0, 0, 0], 25.0),
        ([7], 1.0),
    ],
)
def test_clumping_is_the_spread_beyond_chance(events: list[int], expected: float) -> None:
    assert overdispersion(events, [20] * len(events)) == pytest.approx(expected, rel=1e-3)


def test_independent_events_rarely_seem_to_clump() -> None:
    rng = random.Random(4)
    runs = 2000
    alarms = 0
    for _ in range(runs):
        events = [sum(rng.random() < 0.2 for _ in range(40)) for _ in range(8)]
        alarms += overdispersion(events, [40] * 8) > chance_overdispersion(8)
    assert alarms / runs < 0.02

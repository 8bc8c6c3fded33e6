from __future__ import annotations

import pytest

from pytest_k8snet.measure.resolution import Resolution
from pytest_k8snet.verdict import Plan
from pytest_k8snet.verdict.intervals import Interval


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
        "resolves 4.0% in about 13 pairs, 182 s\n"
        "resolves 8.2% in about 6 pairs, 84 s\n"
        "set limits at least that far below (or above) the ratio you expect"
    )


def test_a_ratio_that_is_not_one_is_pointed_out() -> None:
    assert resolution().sound
    skewed = resolution(low=1.01)
    assert not skewed.sound
    assert "NOT 1, so something drifts or the arms differ" in str(skewed)


@pytest.mark.parametrize(
    ("limit", "close"), [(0.95, True), (0.93, True), (0.90, False), (0.99, True), (1.1, False)]
)
def test_a_limit_within_the_spread_is_too_close(limit: float, close: bool) -> None:
    assert resolution().too_close(0.96, limit) is close

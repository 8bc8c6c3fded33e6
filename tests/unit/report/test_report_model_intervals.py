from __future__ import annotations

import math
import random
from statistics import fmean

import pytest
from scipy import stats

from pytest_k8snet.report.model import mean, quantile, ratio_of_means


def test_the_interval_of_a_mean_is_students() -> None:
    values = [2.86e9, 2.84e9, 2.85e9, 2.83e9]
    low, high = stats.t.interval(0.95, 3, loc=fmean(values), scale=stats.sem(values))
    found = mean(values)
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)


def test_one_sample_has_no_interval() -> None:
    assert mean([5.0]).low is None
    assert ratio_of_means([5.0], [4.0, 4.1]) is not None
    assert ratio_of_means([5.0], [4.0, 4.1]).low is None  # type: ignore[union-attr]


def test_the_interval_of_a_ratio_is_welchs_on_logarithms_with_degrees_rounded_down() -> None:
    after, before = [0.97, 0.99, 0.98, 0.95, 1.01], [2.86, 2.74, 2.95, 2.80, 2.90, 2.78]
    logs = [math.log(x) for x in after], [math.log(x) for x in before]
    welch = stats.ttest_ind(*logs, equal_var=False).confidence_interval(0.95)
    found = ratio_of_means(after, before)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    # Rounding the degrees of freedom down may only widen it, and by little.
    assert found.low <= math.exp(welch.low)
    assert found.high >= math.exp(welch.high)
    assert found.high - found.low < 1.1 * (math.exp(welch.high) - math.exp(welch.low))


def test_the_interval_of_a_ratio_covers_the_truth_as_often_as_it_says() -> None:
    chance = random.Random(3)
    held = 0
    rounds = 1000
    for _ in range(rounds):
        after = [0.9 * math.exp(chance.gauss(0, 0.05)) for _ in range(5)]
        before = [math.exp(chance.gauss(0, 0.02)) for _ in range(8)]
        found = ratio_of_means(after, before)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.9 <= found.high
    assert 0.93 <= held / rounds <= 0.98


def test_a_figure_of_zero_has_no_ratio() -> None:
    assert ratio_of_means([0.0, 1.0], [1.0, 1.0]) is None
    assert ratio_of_means([], [1.0]) is None


def test_samples_that_happen_to_be_equal_claim_no_certainty() -> None:
    found = ratio_of_means([2.0, 2.0], [4.0, 4.0])
    assert found is not None
    assert found.low is not None
    assert found.low < 0.49 < found.value == 0.5


def test_a_quantile_is_one_of_the_values() -> None:
    ordered = [float(x) for x in range(1, 11)]
    assert [quantile(ordered, q) for q in (0, 0.5, 0.95, 1)] == [1, 5, 10, 10]


def test_many_samples_are_handled() -> None:
    found = mean([1.0, 3.0] * 5000)
    assert found.low == pytest.approx(2 - 1.96 / 100, rel=1e-3)
    assert ratio_of_means([1.0, 3.0] * 5000, [1.0, 3.0] * 5000) is not None

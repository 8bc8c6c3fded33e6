from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from pytest_k8snet.verdict.distributions import exceedance_bounds, student_quantile_between
from pytest_k8snet.verdict.intervals import (
    LEAST_CORRELATION,
    LEAST_DEVIATION,
    deviation,
    lag_correlation,
    log_mean_interval,
    log_ratio_interval,
    quantile_interval,
    sample_quantile,
    variance_inflation,
)
from pytest_k8snet.verdict.sequential import CountLevels


def test_interval_of_logarithms_agrees_with_scipy() -> None:
    logs = [0.11, -0.02, 0.07, 0.05, 0.16]
    interval = log_mean_interval(logs, 0.0101)
    # Neighbours do not resemble each other here: the least correlation is assumed.
    assert lag_correlation(logs) == LEAST_CORRELATION
    inflation = 1 + 2 * sum((1 - k / 5) * LEAST_CORRELATION**k for k in range(1, 5))
    scale = stats.sem(logs) * math.sqrt(4 / (5 - inflation) * inflation)
    low, high = stats.t.interval(1 - 2 * 0.0101, 5 / inflation - 1, loc=sum(logs) / 5, scale=scale)
    assert interval.estimate == pytest.approx(math.exp(sum(logs) / 5), abs=1e-12)
    assert interval.low == pytest.approx(math.exp(low), abs=1e-3)
    assert interval.high == pytest.approx(math.exp(high), abs=1e-3)


def test_values_that_resemble_their_neighbours_widen_the_interval() -> None:
    mixed = [0.0, 0.1] * 6
    sorted_in_two = [0.0] * 6 + [0.1] * 6
    assert lag_correlation(sorted_in_two) > 0.5
    wide, narrow = (log_mean_interval(values, 0.01) for values in (sorted_in_two, mixed))
    assert wide.estimate == pytest.approx(narrow.estimate)
    assert math.log(wide.high / wide.low) > 3 * math.log(narrow.high / narrow.low)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("n", [4, 20])
def test_the_variance_of_a_correlated_mean_is_that_of_its_covariance_matrix(
    correlation: float, n: int
) -> None:
    total = sum(correlation ** abs(i - j) for i in range(n) for j in range(n))
    assert variance_inflation(correlation, n) == pytest.approx(min(total / n, n - 0.5))


@pytest.mark.parametrize("dof", [1.0, 2.7, 3.5, 12.2, 200.0])
def test_quantiles_between_whole_degrees_of_freedom_agree_with_scipy(dof: float) -> None:
    for probability in (0.9, 0.95, 0.99):
        assert student_quantile_between(probability, dof) == pytest.approx(
            float(stats.t.ppf(probability, dof)), rel=0.025
        )


def test_a_ratio_is_the_inverse_of_its_inverse() -> None:
    pairs = [(0.97, 2.86), (0.99, 2.84), (0.98, 2.85), (0.95, 2.83)]
    there = log_ratio_interval(pairs, 0.01)
    back = log_ratio_interval([(b, a) for a, b in pairs], 0.01)
    assert there.estimate == pytest.approx(1 / back.estimate)
    assert (there.low, there.high) == pytest.approx((1 / back.high, 1 / back.low))


def test_equal_samples_claim_no_certainty_and_no_dependence() -> None:
    # The mean of five of these is not quite the value itself.
    assert lag_correlation([0.0017] * 5) == LEAST_CORRELATION
    interval = log_mean_interval([0.0] * 4, 0.05)
    reach = float(stats.t.ppf(0.95, 3)) * LEAST_DEVIATION / 2
    assert 0.98 * math.exp(-reach) < interval.low < math.exp(-reach)
    assert math.exp(reach) < interval.high < 1.02 * math.exp(reach)


def test_one_value_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two values or more, not 1"):
        log_mean_interval([0.1], 0.05)
    assert deviation([0.1]) == 0.0


@pytest.mark.parametrize(
    ("q", "expected"), [(0.5, 5.0), (0.9, 9.0), (0.95, 10.0), (0.05, 1.0), (0.99, 10.0)]
)
def test_sample_quantile_is_an_observed_value(q: float, expected: float) -> None:
    assert sample_quantile([float(i) for i in range(10, 0, -1)], q) == expected


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_quantile_bounds_are_the_binomial_test_read_backwards(q: float) -> None:
    rng = random.Random(11)
    values = [rng.expovariate(1.0) for _ in range(400)]
    levels = CountLevels(few=0.03, many=0.02)
    interval = quantile_interval(values, q, levels)
    for limit in [*sorted(values)[::9], *sorted(values)[-12:], 0.0, 99.0]:
        over = sum(value > limit for value in values)
        assert (interval.high <= limit) == (exceedance_bounds(over, 400, 0.03)[1] <= 1 - q)
        assert (interval.low > limit) == (exceedance_bounds(over, 400, 0.02)[0] > 1 - q)


def test_too_few_requests_leave_a_quantile_unbounded_above() -> None:
    interval = quantile_interval([0.001] * 100, 0.99, CountLevels(few=0.05, many=0.05))
    assert interval.estimate == 0.001
    assert math.isinf(interval.high)


def test_lost_requests_keep_a_quantile_defined() -> None:
    values = [0.002] * 97 + [math.inf] * 3
    assert sample_quantile(values, 0.95) == 0.002
    assert math.isinf(sample_quantile(values, 0.99))

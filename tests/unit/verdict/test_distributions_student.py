from __future__ import annotations

import pytest
from scipy import stats

from pytest_k8snet.verdict.distributions import normal_quantile, student_cdf, student_quantile

PROBABILITIES = (0.001, 0.0101, 0.05, 0.25, 0.5, 0.8, 0.95, 0.99, 0.9985, 0.99995)


@pytest.mark.parametrize("dof", [1, 2, 3, 4, 5, 6, 7, 11, 19, 20, 59, 119])
def test_quantile_agrees_with_scipy(dof: int) -> None:
    for probability in PROBABILITIES:
        expected = float(stats.t.ppf(probability, dof))
        assert student_quantile(probability, dof) == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("dof", [1, 2, 3, 8, 19, 40])
def test_distribution_function_agrees_with_scipy(dof: int) -> None:
    for t in (-6.5, -1.0, 0.0, 0.3, 2.0, 9.0):
        assert student_cdf(t, dof) == pytest.approx(float(stats.t.cdf(t, dof)), abs=1e-12)


def test_normal_quantile_agrees_with_scipy() -> None:
    for probability in PROBABILITIES:
        assert normal_quantile(probability) == pytest.approx(
            float(stats.norm.ppf(probability)), abs=1e-10
        )


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1, 1.5])
def test_a_quantile_needs_a_probability_inside_zero_and_one(probability: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        student_quantile(probability, 3)


def test_no_degrees_of_freedom_is_refused() -> None:
    with pytest.raises(ValueError, match="1 degree of freedom or more, not 0"):
        student_cdf(1.0, 0)

from __future__ import annotations

import pytest
from scipy import stats

from pytest_k8snet.verdict.distributions import (
    binomial_cdf,
    binomial_tail,
    exceedance_bounds,
    fewest_to_reject,
    most_to_accept,
)


@pytest.mark.parametrize("n", [1, 29, 100, 999, 1001, 3000])
@pytest.mark.parametrize("p", [0.001, 0.01, 0.3, 0.5, 0.95])
def test_cumulative_probabilities_agree_with_scipy(n: int, p: float) -> None:
    for k in sorted({0, 1, n // 100, n // 3, n // 2, n - 1, n} & set(range(n + 1))):
        assert binomial_cdf(k, n, p) == pytest.approx(float(stats.binom.cdf(k, n, p)), abs=1e-10)
        assert binomial_tail(k, n, p) == pytest.approx(
            float(stats.binom.sf(k - 1, n, p)), abs=1e-10
        )


@pytest.mark.parametrize(
    ("k", "n"), [(0, 1), (1, 1), (0, 59), (3, 59), (59, 59), (16, 1000), (4, 3000), (1500, 3000)]
)
@pytest.mark.parametrize("level", [0.05, 0.0101])
def test_bounds_are_those_of_clopper_and_pearson(k: int, n: int, level: float) -> None:
    low, high = exceedance_bounds(k, n, level)
    exact = stats.binomtest(k, n).proportion_ci(1 - 2 * level, method="exact")
    assert low == pytest.approx(float(exact.low), abs=1e-10)
    assert high == pytest.approx(float(exact.high), abs=1e-10)


def test_thresholds_are_the_bounds_read_backwards() -> None:
    n, share, level = 1000, 0.01, 0.05
    allowed, damning = most_to_accept(n, share, level), fewest_to_reject(n, share, level)
    assert (allowed, damning) == (4, 16)
    assert exceedance_bounds(allowed, n, level)[1] <= share
    assert exceedance_bounds(allowed + 1, n, level)[1] > share
    assert exceedance_bounds(damning, n, level)[0] > share
    assert exceedance_bounds(damning - 1, n, level)[0] <= share


def test_too_few_trials_allow_nothing_and_damn_nothing() -> None:
    assert most_to_accept(298, 0.01, 0.05) == -1
    assert most_to_accept(299, 0.01, 0.05) == 0
    assert fewest_to_reject(3, 0.5, 0.05) == 4


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_an_impossible_count_is_refused(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="is no sample"):
        exceedance_bounds(k, n, 0.05)

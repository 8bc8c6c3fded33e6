from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pytest_k8snet.verdict.sequential import crossing_probability, per_look_level

# Levels found by simulating a million paths each, independently of this code.
SIMULATED = [
    (6, 0.05, 0.0268),
    (8, 0.05, 0.0200),
    (12, 0.05, 0.0141),
    (20, 0.05, 0.0101),
    (30, 0.05, 0.0080),
    (6, 0.025, 0.0125),
    (20, 0.025, 0.0044),
    (12, 0.01, 0.0022),
    (20, 0.01, 0.0015),
]


@pytest.mark.parametrize(("last", "alpha", "level"), SIMULATED)
def test_level_agrees_with_simulated_ones(last: int, alpha: float, level: float) -> None:
    # The simulated ones are rounded to 4 digits and uncertain by about 1 %.
    assert per_look_level(4, last, alpha) == pytest.approx(level, rel=0.015, abs=0.00006)


@pytest.mark.parametrize(("first", "last", "alpha"), [(3, 5, 0.1), (4, 20, 0.05), (7, 9, 0.02)])
def test_level_spends_alpha_and_no_more(first: int, last: int, alpha: float) -> None:
    level = per_look_level(first, last, alpha)
    fine = crossing_probability(first, last, level, fineness=2)
    assert 0.985 * alpha <= fine <= alpha


def test_crossing_probability_agrees_with_simulated_paths() -> None:
    first, last, level, paths = 3, 9, 0.03, 200_000
    sums = np.random.default_rng(5).standard_normal((paths, last))
    total, squares = sums.cumsum(axis=1), (sums * sums).cumsum(axis=1)
    crossed = np.zeros(paths, dtype=bool)
    for n in range(first, last + 1):
        mean = total[:, n - 1] / n
        error = np.sqrt((squares[:, n - 1] - n * mean * mean) / (n - 1) / n)
        crossed |= mean - stats.t.ppf(1 - level, n - 1) * error >= 0
    share = float(crossed.mean())
    # Four standard errors of the simulation, and the grid's own 1 %.
    tolerance = 4 * (share * (1 - share) / paths) ** 0.5 + 0.01 * share
    assert crossing_probability(first, last, level) == pytest.approx(share, abs=tolerance)


def test_one_look_needs_no_correction() -> None:
    assert per_look_level(12, 12, 0.05) == 0.05


def test_more_looks_and_an_earlier_start_are_stricter() -> None:
    assert per_look_level(4, 12, 0.05) < per_look_level(4, 8, 0.05) < per_look_level(6, 8, 0.05)


@pytest.mark.parametrize(("first", "last", "alpha"), [(5, 4, 0.05), (1, 4, 0.05), (4, 8, 0.5)])
def test_impossible_looks_are_refused(first: int, last: int, alpha: float) -> None:
    with pytest.raises(ValueError, match="no looks"):
        per_look_level(first, last, alpha)

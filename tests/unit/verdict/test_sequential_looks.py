from __future__ import annotations

import numpy as np
import pytest

from pytest_k8snet.verdict.distributions import fewest_to_reject, most_to_accept
from pytest_k8snet.verdict.sequential import count_levels, fewest_trials


@pytest.mark.parametrize(
    ("share", "trials"), [(0.5, 5), (0.1, 29), (0.05, 59), (0.01, 299), (0.001, 2995)]
)
def test_fewest_clean_trials_at_five_per_cent(share: float, trials: int) -> None:
    assert fewest_trials(share, 0.05) == trials


@pytest.mark.parametrize(
    ("share", "looks"),
    [
        (0.01, (350, 700, 1400, 2800)),
        (0.05, (100, 200, 400, 800)),
        (0.5, (100, 200)),
        (0.1, tuple(range(4, 61))),
    ],
)
def test_each_side_spends_at_most_alpha(share: float, looks: tuple[int, ...]) -> None:
    alpha, runs = 0.05, 100_000
    levels = count_levels(share, looks, alpha)
    rng = np.random.default_rng(3)
    count, before = np.zeros(runs, dtype=int), 0
    few, many = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=bool)
    for n in looks:
        count += rng.binomial(n - before, share, size=runs)
        before = n
        few |= count <= most_to_accept(n, share, levels.few)
        many |= count >= fewest_to_reject(n, share, levels.many)
    three_errors = 3 * (alpha * (1 - alpha) / runs) ** 0.5
    # Counts are whole, so alpha cannot be spent to the last; half of it unspent would be a waste.
    assert alpha / 2 < few.mean() <= alpha + three_errors
    assert alpha / 2 < many.mean() <= alpha + three_errors


def test_one_look_acquits_at_the_textbook_number() -> None:
    levels = count_levels(0.01, (299,), 0.05)
    assert most_to_accept(299, 0.01, levels.few) == 0


def test_a_last_look_at_the_fewest_trials_can_still_acquit() -> None:
    # Looks that can only damn must not cost the acquitting side anything.
    levels = count_levels(0.1, tuple(range(4, 30)), 0.05)
    assert most_to_accept(29, 0.1, levels.few) == 0


@pytest.mark.parametrize("looks", [(), (5, 5), (9, 4), (0, 3)])
def test_looks_must_rise(looks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="looks must rise"):
        count_levels(0.1, looks, 0.05)


def test_shares_and_risks_have_bounds() -> None:
    with pytest.raises(ValueError, match="no levels"):
        count_levels(0.0, (10,), 0.05)

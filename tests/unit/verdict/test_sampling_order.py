from __future__ import annotations

from pytest_k8snet.verdict.sampling import new_seed, order_of


def test_the_order_is_repeated_from_its_seed() -> None:
    orders = [order_of(pair, 1234) for pair in range(20)]
    assert orders == [order_of(pair, 1234) for pair in range(20)]
    assert orders != [order_of(pair, 1235) for pair in range(20)]


def test_each_arm_is_first_in_half_of_the_pairs_whatever_the_pair() -> None:
    seeds = 2000
    for pair in (0, 1, 7):
        first = sum(order_of(pair, seed) == (0, 1) for seed in range(seeds))
        # Four standard errors of a fair coin.
        assert abs(first - seeds / 2) < 4 * (seeds / 4) ** 0.5


def test_neighbouring_pairs_are_drawn_apart() -> None:
    seeds = 2000
    alike = sum(order_of(0, seed) == order_of(1, seed) for seed in range(seeds))
    assert abs(alike - seeds / 2) < 4 * (seeds / 4) ** 0.5


def test_a_fresh_seed_can_be_typed() -> None:
    assert all(0 <= new_seed() < 1_000_000 for _ in range(50))

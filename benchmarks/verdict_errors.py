"""Error rates and lengths of verdicts on simulated clusters.

``python -m benchmarks verdict_errors`` runs 2,000 of each for the promises; ``python -m
benchmarks.verdict_errors`` runs 20,000 of each and prints the tables, in about ten minutes on one
core. The cluster is the tests' own model (``tests/unit/verdict/simulated_cluster.py``), judged by
the code that judges real ones.
"""

from __future__ import annotations

import math
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from benchmarks.figure import Figure
from pytest_k8snet.verdict import Plan
from pytest_k8snet.verdict.sampling import Order, order_of

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit" / "verdict"))

from simulated_cluster import SimulatedCluster

FLOOR = 0.9
PAIR_SD = 0.04
NOISES = ("normal", "heavy", "autocorrelated")
#: Expected pairs of the default plan, by margin in deviations of one pair, from the simulation
#: that the plan was designed by.
TABLE = {0.25: 18.0, 0.5: 15.3, 0.75: 11.7, 1.0: 8.8, 1.5: 6.0, 2.0: 4.9, 3.0: 4.2}


class Tally:
    """The outcomes of many runs of one setting."""

    def __init__(
        self, runs: int, *, margin: float = 0.0, noise: str = "normal", drift: float = 0.0
    ) -> None:
        rng = random.Random(f"{margin} {noise} {drift}")
        ratio = FLOOR * math.exp(PAIR_SD * margin)
        self.states: Counter[str] = Counter()
        self.runs = runs
        pairs, errors = [], []
        for seed in range(runs):
            cluster = SimulatedCluster(rng, ratio=ratio, noise=noise, drift=drift)
            verdict = cluster.ratio(Plan(seed=seed, warmup_pairs=0, outlier=0)) >= FLOOR
            assert verdict.finding is not None
            self.states[verdict.state] += 1
            pairs.append(verdict.finding.n)
            errors.append(math.log(verdict.finding.interval.estimate / ratio))
        self.pairs = sum(pairs) / runs
        self.error = sum(errors) / runs
        self.error_deviation = math.sqrt(sum((x - self.error) ** 2 for x in errors) / runs)

    def share(self, state: str) -> float:
        """The share of runs that ended so."""
        return self.states[state] / self.runs


def highest_error(runs: int) -> float:
    """Alpha and three standard errors of a share from so many runs."""
    alpha = Plan().alpha
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


def figures(runs: int = 2_000) -> Iterator[Figure]:
    """Errors at the limit under each kind of noise, and pairs to a verdict."""
    for noise in NOISES:
        for drift in (0.0, 0.01):
            tally = Tally(runs, noise=noise, drift=drift)
            worst = max(tally.share("pass"), tally.share("fail"))
            yield Figure(
                name=f"wrong verdicts at the limit, {noise} noise, drift {drift:.0%} per sample",
                measured=f"{worst:.4f} of {runs}",
                promised=f"<= {highest_error(runs):.4f}",
                holds=worst <= highest_error(runs),
            )
            noise_of_mean = tally.error_deviation / math.sqrt(runs)
            yield Figure(
                name=f"bias of the estimate, {noise} noise, drift {drift:.0%} per sample",
                measured=f"{tally.error:+.5f}",
                promised=f"0 +- {4 * noise_of_mean:.5f}",
                holds=abs(tally.error) <= 4 * noise_of_mean,
            )
    for margin, expected in TABLE.items():
        pairs = Tally(runs, margin=margin).pairs
        yield Figure(
            name=f"pairs to a verdict at a margin of {margin:g} deviations of a pair",
            measured=f"{pairs:.2f}",
            promised=f"{expected:g}, 15 % more at most",
            holds=0.95 <= pairs / expected <= 1.15,
        )


def abba(pair: int, seed: int) -> Order:
    """The fixed order that was weighed and left: every second pair reversed."""
    first = random.Random(seed).getrandbits(1)
    return (0, 1) if (pair + first) % 2 else (1, 0)


def print_tables(runs: int) -> None:
    """Print what the promises summarise, and the order that was left."""
    print(f"At the limit, {runs} runs each; allowed {highest_error(runs):.4f}\n")
    print("order    noise          drift  false pass  false fail  undecided  pairs   mean error")
    for name, order in (("drawn", order_of), ("ABBA", abba)):
        for noise in NOISES:
            for drift in (0.0, 0.01):
                with mock.patch("pytest_k8snet.verdict.sampling.order_of", order):
                    tally = Tally(runs, noise=noise, drift=drift)
                print(
                    f"{name:8} {noise:14} {drift:5.0%} {tally.share('pass'):11.4f} "
                    f"{tally.share('fail'):11.4f} {tally.share('inconclusive'):10.3f} "
                    f"{tally.pairs:6.2f} {tally.error:+12.5f}"
                )
    print(f"\nPairs to a verdict, {runs} runs each; margin in deviations of one pair\n")
    print("margin    right    wrong  undecided  pairs  table")
    for margin, expected in TABLE.items():
        tally = Tally(runs, margin=margin)
        print(
            f"{margin:6} {tally.share('pass'):8.4f} {tally.share('fail'):8.4f} "
            f"{tally.share('inconclusive'):10.4f} {tally.pairs:6.2f} {expected:6}"
        )


if __name__ == "__main__":
    print_tables(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)

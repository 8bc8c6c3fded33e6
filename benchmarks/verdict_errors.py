"""Error rates and lengths of verdicts on simulated clusters, in full: 20,000 runs of each.

    python benchmarks/verdict_errors.py [runs]

The cluster is the tests' own model (``tests/unit/verdict/simulated_cluster.py``), judged by the
code that judges real ones. Takes about ten minutes on one core.
"""

from __future__ import annotations

import math
import random
import sys
from collections import Counter
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit" / "verdict"))

from simulated_cluster import SimulatedCluster

from pytest_k8snet.verdict import Plan
from pytest_k8snet.verdict.order import Order, order_of

FLOOR = 0.9
PAIR_SD = 0.04
#: Expected pairs of the plan 4..20 at alpha 0.05, by margin in pair deviations (research, 2.4).
TABLE = {0.25: 18.0, 0.5: 15.3, 0.75: 11.7, 1.0: 8.8, 1.5: 6.0, 2.0: 4.9, 3.0: 4.2}


class Tally:
    """The outcomes of many runs of one setting."""

    def __init__(self, runs: int, *, margin: float, noise: str, drift: float, seed: int) -> None:
        rng = random.Random(seed)
        ratio = FLOOR * math.exp(PAIR_SD * margin)
        self.runs = runs
        self.states: Counter[str] = Counter()
        self.pairs = 0
        self.error = 0.0
        for run in range(runs):
            cluster = SimulatedCluster(rng, ratio=ratio, noise=noise, drift=drift)
            verdict = cluster.ratio(Plan(seed=run, warmup_pairs=0)) >= FLOOR
            assert verdict.finding is not None
            self.states[verdict.state] += 1
            self.pairs += verdict.finding.n
            self.error += math.log(verdict.finding.interval.estimate / ratio)

    def share(self, state: str) -> float:
        return self.states[state] / self.runs


def abba(pair: int, seed: int) -> Order:
    """The fixed order that was weighed and left: every second pair reversed."""
    first = random.Random(seed).getrandbits(1)
    return (0, 1) if (pair + first) % 2 else (1, 0)


def errors_at_the_limit(runs: int) -> bool:
    alpha = Plan().alpha
    bound = alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
    print(f"At the limit, {runs} runs each; allowed {bound:.4f} (alpha {alpha:g} + 3 SE)\n")
    print(
        f"{'order':8} {'noise':15} {'drift/slot':>10} {'false pass':>10} {'false fail':>10} "
        f"{'undecided':>9} {'pairs':>6} {'mean error of the estimate':>27}"
    )
    kept = True
    for name, order in (("drawn", order_of), ("ABBA", abba)):
        for noise in ("normal", "heavy", "autocorrelated"):
            for drift in (0.0, 0.01):
                with mock.patch("pytest_k8snet.verdict.sampler.order_of", order):
                    tally = Tally(runs, margin=0.0, noise=noise, drift=drift, seed=1)
                wrong = (tally.share("pass"), tally.share("fail"))
                if order is order_of:
                    kept = kept and max(wrong) <= bound
                print(
                    f"{name:8} {noise:15} {drift:>10.0%} {wrong[0]:>10.4f} {wrong[1]:>10.4f} "
                    f"{tally.share('inconclusive'):>9.3f} {tally.pairs / runs:>6.2f} "
                    f"{tally.error / runs:>+27.5f}"
                )
    return kept


def lengths(runs: int) -> bool:
    print(f"\nPairs to a verdict, {runs} runs each; margin in deviations of one pair\n")
    print(
        f"{'margin':>6} {'right':>7} {'wrong':>7} {'undecided':>9} {'pairs':>6} {'table':>6} "
        f"{'off by':>7}"
    )
    kept = True
    for margin, expected in TABLE.items():
        tally = Tally(runs, margin=margin, noise="normal", drift=0.0, seed=2)
        off = tally.pairs / runs / expected - 1
        kept = kept and abs(off) <= 0.05
        print(
            f"{margin:>6} {tally.share('pass'):>7.4f} {tally.share('fail'):>7.4f} "
            f"{tally.share('inconclusive'):>9.4f} {tally.pairs / runs:>6.2f} {expected:>6} "
            f"{off:>+7.1%}"
        )
    return kept


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    kept = errors_at_the_limit(runs)
    kept = lengths(runs) and kept
    print("\nAll as promised." if kept else "\nNOT as promised.")
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())

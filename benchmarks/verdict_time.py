"""Time to a verdict, and errors, against the usual scheme: three samples of 60 s per arm.

Both schemes measure the same simulated cluster, whose noise has the shape found in published runs
of iperf3 (InfraBuilder's benchmarks of 2024): most of it lies between connections, the rest within
one, where it averages out with time. The usual scheme passes when the ratio of means is above the
floor; each sample costs its overhead in both.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.figure import Figure
from pytest_k8snet.verdict import Arm, Bandwidth, Judging, Observation, Plan, SampleRequest

FLOOR = 0.9
#: Variance between connections, and within one for each second of it: per cent squared.
BETWEEN, WITHIN = 12.0, 207.0
#: Server, exec and parsing of one sample, in seconds: measured on the lab, rounded up.
OVERHEAD_SECONDS = 0.7
USUAL_SECONDS, USUAL_OMIT, USUAL_SAMPLES = 60, 1, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one scheme did over many runs."""

    seconds: float
    right: float
    wrong: float


class Cluster:
    """Two arms of a known ratio, and the time that measuring them takes."""

    def __init__(self, rng: random.Random, ratio: float) -> None:
        self._rng = rng
        self._means = (math.log(ratio), 0.0)
        self.seconds = 0.0

    def sample(self, arm: int, seconds: int, omit_seconds: int) -> float:
        """One connection's figure."""
        self.seconds += seconds + omit_seconds + OVERHEAD_SECONDS
        deviation = math.sqrt(BETWEEN + WITHIN / seconds) / 100
        return math.exp(self._means[arm] + self._rng.gauss(0, deviation))

    def arm(self, number: int) -> Arm:
        """The arm as a gate sees it."""

        def take(turn: SampleRequest) -> Observation:
            value = self.sample(number, turn.seconds, turn.omit_seconds)
            return Observation(figures={"bandwidth": (value,)})

        return Arm(label=("pod-pod", "node-node")[number], take=take)


def pair_deviation(seconds: int) -> float:
    """Standard deviation of the logarithm of one pair's ratio."""
    return math.sqrt(2 * (BETWEEN + WITHIN / seconds)) / 100


def gate(cluster: Cluster, seed: int) -> bool | None:
    """The gate's verdict under the default plan; None when undecided."""
    return _settled(cluster, Plan(seed=seed, span_seconds=0))


def trusting(cluster: Cluster, seed: int) -> bool | None:
    """The gate's verdict where what was met is trusted, as the usual scheme does."""
    return _settled(cluster, Plan(seed=seed, span_seconds=0, outlier=0))


def _settled(cluster: Cluster, plan: Plan) -> bool | None:
    # Time on the wire: gaps between pairs are for noise that lasts, and load nothing.
    terms = Judging(plan=plan)
    ratio = Bandwidth(cluster.arm(0), terms) / Bandwidth(cluster.arm(1), terms)
    return {"pass": True, "fail": False}.get((ratio >= FLOOR).state)


def usual(cluster: Cluster, seed: int) -> bool | None:
    """Three long samples of the one arm, then of the other; means compared."""
    pods, nodes = (
        [cluster.sample(arm, USUAL_SECONDS, USUAL_OMIT) for _ in range(USUAL_SAMPLES)]
        for arm in (0, 1)
    )
    return statistics.fmean(pods) / statistics.fmean(nodes) >= FLOOR


def run(scheme: Callable[[Cluster, int], bool | None], margin: float, runs: int) -> Outcome:
    """Let a scheme judge many clusters that keep the floor by a margin (negative: miss it)."""
    rng = random.Random(f"{scheme.__name__} {margin}")
    seconds, right, wrong = 0.0, 0, 0
    for seed in range(runs):
        cluster = Cluster(rng, FLOOR * math.exp(margin * pair_deviation(Plan().seconds)))
        passed = scheme(cluster, seed)
        seconds += cluster.seconds
        right += passed is (margin > 0)
        wrong += passed is (margin <= 0)
    return Outcome(seconds=seconds / runs, right=right / runs, wrong=wrong / runs)


def figures(runs: int = 4_000) -> Iterator[Figure]:
    """Time on the wire at margins of 1 and 2 deviations of a pair; errors nearer to the floor."""
    for scheme, margin, share in (
        (trusting, 1.0, 0.40),
        (trusting, 2.0, 0.22),
        (gate, 1.0, 0.55),
        (gate, 2.0, 0.30),
    ):
        ours, theirs = run(scheme, margin, runs), run(usual, margin, runs)
        ratio = ours.seconds / theirs.seconds
        said = "outlier=0" if scheme is trusting else "default plan"
        yield Figure(
            name=f"time on the wire at a margin of {margin:g}, {said}, of 3 x 60 s per arm",
            measured=f"{ratio:.3f} ({ours.seconds:.0f} s of {theirs.seconds:.0f} s)",
            promised=f"<= {share:.3f}",
            holds=ratio <= share,
        )
    ours, theirs = run(trusting, 0.5, runs), run(usual, 0.5, runs)
    yield Figure(
        name="good clusters failed at a margin of 0.5",
        measured=f"{ours.wrong:.4f} (usual {theirs.wrong:.4f})",
        promised="a fifth at most",
        holds=ours.wrong <= theirs.wrong / 5,
    )
    ours, theirs = run(trusting, -1e-9, runs), run(usual, -1e-9, runs)
    yield Figure(
        name="bad clusters passed, just below the floor",
        measured=f"{ours.wrong:.4f} (usual {theirs.wrong:.4f})",
        promised="a fifth at most",
        holds=ours.wrong <= theirs.wrong / 5,
    )

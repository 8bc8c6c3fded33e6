"""False passes and fails of verdicts on the noise that real clusters have, at the limit.

``python -m benchmarks.verdict_noise 2000`` prints the table, in about half an hour on one core;
``python -m benchmarks verdict_noise`` checks a part of it with fewer runs. The clusters are the
tests' own models (``tests/unit/verdict/simulated_cluster.py``), judged by the code that judges
real ones; the long-run value is the truth, and the limit lies exactly at it.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figure import Figure
from pytest_k8snet import BitRate, ms
from pytest_k8snet.measure.resolution import Resolution
from pytest_k8snet.verdict import EarlierVerdicts, Plan, Verdict
from pytest_k8snet.verdict.intervals import Interval

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit" / "verdict"))

from simulated_cluster import SimulatedCluster, Spells, StallingServer, earlier_runs

FLOOR = 0.9
ALPHA = Plan().alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of noise.

    Attributes:
        judge: one run from its seed.
        most: allowed share of false passes, and of false fails; None for alpha and three standard
            errors, infinite where nothing is promised.
    """

    name: str
    judge: Callable[[int], Verdict]
    most: tuple[float | None, float | None] = (None, None)


def plan(seed: int, text: str = "") -> Plan:
    """The default plan with changes; a warm-up changes nothing here."""
    return Plan.parse(f"seed={seed} warmup=0 {text}")


def own(rho: float, *, absolute: bool = False, text: str = "") -> Callable[[int], Verdict]:
    """Each arm its own AR(1)."""

    def judge(seed: int) -> Verdict:
        noise = f"own {rho}" if rho else "normal"
        cluster = SimulatedCluster(random.Random(f"cluster {seed}"), ratio=FLOOR, noise=noise)
        if absolute:
            return cluster.bandwidth(plan(seed, text)) >= BitRate(FLOOR * 2.85e9)
        return cluster.ratio(plan(seed, text)) >= FLOOR

    return judge


def spells(text: str = "") -> Callable[[int], Verdict]:
    """The pod path 20 % slower for 30 % of the time, in spells of 20 slots."""

    def judge(seed: int) -> Verdict:
        rng = random.Random(f"cluster {seed}")
        bad = Spells(rng, share=0.3, slots=20)
        cluster = SimulatedCluster(rng, ratio=FLOOR, pod=lambda now: math.log(0.8) * bad(now))
        return cluster.ratio(plan(seed, text)) >= FLOOR * math.exp(0.3 * math.log(0.8))

    return judge


def rare(share: float, factor: float, text: str = "") -> Callable[[int], Verdict]:
    """A share of the pod arm's connections slower by a factor."""

    def judge(seed: int) -> Verdict:
        rng = random.Random(f"cluster {seed}")
        cluster = SimulatedCluster(
            rng, ratio=FLOOR, pod=lambda now: math.log(factor) * (rng.random() < share)
        )
        return cluster.ratio(plan(seed, text)) >= FLOOR * math.exp(share * math.log(factor))

    return judge


def stolen(text: str = "") -> Callable[[int], Verdict]:
    """Steal hits the pod arm in 15 % and the node arm in 3 % of the samples: 25 % slower."""

    def judge(seed: int) -> Verdict:
        cluster = SimulatedCluster(random.Random(f"cluster {seed}"), ratio=FLOOR, hit=(0.15, 0.03))
        return cluster.ratio(plan(seed, text)) >= FLOOR * math.exp(0.12 * math.log(0.75))

    return judge


def runs_of_pairs(text: str = "last=29") -> Callable[[int], Verdict]:
    """One pair in ten is bad, in runs of four pairs."""

    def judge(seed: int) -> Verdict:
        rng = random.Random(f"cluster {seed}")
        bad = Spells(rng, share=0.1, slots=8)
        cluster = SimulatedCluster(rng, ratio=1.0, pod=lambda now: math.log(0.5) * bad(now))
        return cluster.ratio(plan(seed, text)).share(above=0.8) >= 0.9

    return judge


def stalls(percent: int, seconds: float, times: float = 1.0) -> Callable[[int], Verdict]:
    """Stalls that fill the allowed share of the time, or a multiple of it."""

    def judge(seed: int) -> Verdict:
        share = times * (1 - percent / 100)
        server = StallingServer(random.Random(f"cluster {seed}"), share=share, seconds=seconds)
        return server.latency(plan(seed)).total.percentile(percent) <= 10 * ms

    return judge


def late(percent: int) -> Callable[[int], Verdict]:
    """A perfect network, and a client that misses 4 % of its slots."""

    def judge(seed: int) -> Verdict:
        server = StallingServer(
            random.Random(f"cluster {seed}"), share=0.0, seconds=1.0, missed=0.04
        )
        return server.latency(plan(seed)).total.percentile(percent) <= 10 * ms

    return judge


def against_runs(sd: float, count: int, text: str = "") -> Callable[[int], Verdict]:
    """Runs of one cluster that differ by ``sd``, now against ``count`` earlier ones."""

    def judge(seed: int) -> Verdict:
        rng = random.Random(f"cluster {seed}")
        cluster = SimulatedCluster(rng, ratio=FLOOR * math.exp(rng.gauss(0, sd)))
        return cluster.bandwidth(plan(seed, text)) / earlier_runs(rng, sd, count) >= FLOOR

    return judge


def resumed(sessions: int = 4) -> Callable[[int], Verdict]:
    """80 pairs at most, in sessions of 20: undecided, and resumed."""
    text = f"last={20 * sessions} span=0 budget=240"

    def judge(seed: int) -> Verdict:
        cluster = SimulatedCluster(random.Random(f"cluster {seed}"), ratio=FLOOR)
        verdict = cluster.ratio(plan(seed, text)) >= FLOOR
        for _ in range(1, sessions):
            earlier = EarlierVerdicts([verdict.to_record()], "before.jsonl")
            verdict = cluster.ratio(plan(seed, text), earlier) >= FLOOR
        return verdict

    return judge


def sound(cv: float, *, proposed: float = 0.0) -> Callable[[int], Verdict]:
    """A ratio of 0.965 against a floor of 0.90, and pairs that vary by ``cv``.

    Under the default plan, or the one that the resolution proposes for a limit so far off.
    """
    known = Resolution(
        label="node-node",
        spread=cv,
        interval=Interval(estimate=1.0, low=0.99, high=1.01),
        pair_seconds=14.0,
        plan=Plan(),
    )
    found = known.propose(proposed) if proposed else Plan()
    assert found is not None

    def judge(seed: int) -> Verdict:
        rng = random.Random(f"cluster {seed}")
        cluster = SimulatedCluster(rng, ratio=0.965, sd=math.log1p(cv) / math.sqrt(2))
        terms = found.with_changes(seed=seed, warmup_pairs=0)
        return cluster.ratio(terms) >= (0.965 * (1 - proposed) if proposed > 0.1 else FLOOR)

    return judge


NOTHING = math.inf
ROWS = (
    Row(name="ratio, independent", judge=own(0.0)),
    Row(name="ratio, own AR(1) 0.3", judge=own(0.3)),
    Row(name="ratio, own AR(1) 0.6", judge=own(0.6)),
    Row(name="ratio, own AR(1) 0.8", judge=own(0.8), most=(0.10, 0.10)),
    Row(name="ratio, own AR(1) 0.8, span=0", judge=own(0.8, text="span=0"), most=(NOTHING,) * 2),
    Row(name="absolute, independent", judge=own(0.0, absolute=True)),
    Row(name="absolute, AR(1) 0.3", judge=own(0.3, absolute=True)),
    Row(name="absolute, AR(1) 0.6", judge=own(0.6, absolute=True)),
    Row(name="absolute, AR(1) 0.8", judge=own(0.8, absolute=True), most=(0.10, 0.10)),
    Row(name="spells of 20 slots", judge=spells(), most=(0.10, 0.10)),
    # Six pairs in the good state have a chance of 0.7 ** 6, however far apart they lie.
    Row(name="spells of 20 slots, outlier=0", judge=spells("outlier=0"), most=(NOTHING,) * 2),
    Row(name="spells of 20 slots, span=1h", judge=spells("span=1h"), most=(0.10, 0.10)),
    Row(name="spells of 20 slots, spell=2min", judge=spells("spell=2min"), most=(0.10, 0.10)),
    Row(name="mixture, 10 % at 0.7", judge=rare(0.10, 0.7)),
    Row(name="outages, 2 % at 0.1", judge=rare(0.02, 0.1)),
    Row(name="steal in one arm", judge=stolen()),
    # A pair in six is hit: what stops after ten has met none in 0.82 ** 10 of the runs.
    Row(name="steal in one arm, outlier=0", judge=stolen("outlier=0"), most=(NOTHING, None)),
    Row(name="share >= 0.9, runs of 4 pairs", judge=runs_of_pairs(), most=(0.10, 0.10)),
    Row(name="p95, stalls of 0.5 s", judge=stalls(95, 0.5)),
    Row(name="p95, stalls of 2 s", judge=stalls(95, 2.0)),
    Row(name="p95, twice the share, 0.5 s", judge=stalls(95, 0.5, 2.0), most=(0.01, NOTHING)),
    Row(name="p95, twice the share, 2 s", judge=stalls(95, 2.0, 2.0), most=(0.01, NOTHING)),
    Row(name="p99, stalls of 0.5 s", judge=stalls(99, 0.5)),
    Row(name="p99, stalls of 2 s", judge=stalls(99, 2.0)),
    Row(name="p99, twice the share, 0.5 s", judge=stalls(99, 0.5, 2.0), most=(0.01, NOTHING)),
    Row(name="p99, twice the share, 2 s", judge=stalls(99, 2.0, 2.0), most=(0.01, NOTHING)),
    Row(name="p95, perfect, 4 % of slots late", judge=late(95), most=(NOTHING, 0.0)),
    Row(name="p99, perfect, 4 % of slots late", judge=late(99), most=(NOTHING, 0.0)),
    Row(name="3 earlier runs, sd 2 %", judge=against_runs(0.02, 3)),
    Row(name="3 earlier runs, sd 5 %", judge=against_runs(0.05, 3)),
    Row(name="1 earlier run, sd 5 %", judge=against_runs(0.05, 1), most=(0.0, 0.0)),
    Row(name="1 earlier run, sd 5 %, between=0.05", judge=against_runs(0.05, 1, "between=0.05")),
    *(
        Row(name=f"0.965 against 0.90, CV {cv} %", judge=sound(cv / 100), most=(1.0, 0.01))
        for cv in (2, 5, 10, 20)
    ),
    *(
        Row(
            name=f"0.965, CV {cv} %, proposed for {off:.0%}",
            judge=sound(cv / 100, proposed=off),
            most=(1.0, 0.01),
        )
        for cv, off in ((2, 0.07), (5, 0.07), (10, 0.07), (20, 0.2))
    ),
    Row(name="resumed at 20, 40, 60 up to 80", judge=resumed()),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The outcomes of many runs of one row."""

    row: Row
    runs: int
    states: Counter[str]
    samples: float
    minutes: float
    error: float

    @classmethod
    def of(cls, row: Row, runs: int) -> Cell:
        """Run it."""
        states: Counter[str] = Counter()
        samples = minutes = error = 0.0
        for seed in range(runs):
            verdict = row.judge(seed)
            states[verdict.found] += 1
            assert verdict.finding is not None
            samples += verdict.finding.n
            minutes += verdict.evidence.watched_seconds / 60
            estimate = verdict.finding.interval.estimate
            error += math.log(estimate / verdict.claim.limit) if 0 < estimate < math.inf else 0.0
        return cls(
            row=row,
            runs=runs,
            states=states,
            samples=samples / runs,
            minutes=minutes / runs,
            error=error / runs,
        )

    def share(self, state: str) -> float:
        """The share of runs that ended so."""
        return self.states[state] / self.runs

    def allowed(self, which: int) -> float:
        """The share of false passes (0) or fails (1) that is allowed."""
        most = self.row.most[which]
        if most is None:
            return ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / self.runs)
        return most

    @property
    def holds(self) -> bool:
        """Whether both are within what is allowed."""
        return self.share("pass") <= self.allowed(0) and self.share("fail") <= self.allowed(1)


def figures(runs: int = 400) -> Iterator[Figure]:
    """The rows that take no more than a few seconds."""
    for row in ROWS:
        if "p99" in row.name:
            continue
        cell = Cell.of(row, runs)
        yield Figure(
            name=f"false pass, false fail at the limit: {row.name}",
            measured=f"{cell.share('pass'):.3f}, {cell.share('fail'):.3f} of {runs}",
            promised=f"<= {cell.allowed(0):.3f}, {cell.allowed(1):.3f}",
            holds=cell.holds,
        )


def print_table(runs: int, only: str = "") -> None:
    """Print every row that has the text in its name."""
    print(
        f"{runs} runs each; alpha and three standard errors: "
        f"{ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs):.4f}\n"
    )
    print(f"{'noise':36} pass   fail   undecided  samples  watched   error of ln  allowed")
    for row in ROWS:
        if only not in row.name:
            continue
        begun = time.monotonic()
        cell = Cell.of(row, runs)
        allowed = " ".join(f"{cell.allowed(i):.3f}" for i in (0, 1))
        print(
            f"{row.name:36} {cell.share('pass'):.4f} {cell.share('fail'):.4f} "
            f"{cell.share('inconclusive'):8.3f} {cell.samples:9.1f} {cell.minutes:6.1f} min "
            f"{cell.error:+10.4f}   {allowed} {'ok' if cell.holds else 'MISSED'} "
            f"({time.monotonic() - begun:.0f} s)",
            flush=True,
        )


if __name__ == "__main__":
    print_table(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000, " ".join(sys.argv[2:]))

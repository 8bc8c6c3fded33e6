"""What the report shows, as values: made from records by :mod:`.summary`, drawn by the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Literal

from pytest_k8snet.report.records import Record
from pytest_k8snet.verdict.distributions import normal_quantile, student_quantile
from pytest_k8snet.verdict.questions import welch_interval

#
# A gate's own interval (repeated looks, paired samples) comes with its verdict record and is
# never computed anew here. These are the plain ones: a fixed number of samples, looked at once.

#: Confidence of every interval of this module.
LEVEL = 0.95
#: Above this many degrees of freedom the normal distribution stands in: the error is below 1 %.
_MANY = 200


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its interval; ``low`` and ``high`` are None where there is only one sample."""

    value: float
    low: float | None = None
    high: float | None = None


def mean(values: Sequence[float]) -> Estimate:
    """The mean of independent samples with its t-interval."""
    value = fmean(values)
    if len(values) < 2:
        return Estimate(value)
    half = _t(len(values) - 1) * math.sqrt(variance(values) / len(values))
    return Estimate(value, value - half, value + half)


def ratio_of_means(after: Sequence[float], before: Sequence[float]) -> Estimate | None:
    """The ratio of two separate groups of samples, by Welch's interval on their logarithms.

    The groups are not paired and may vary differently.

    Returns:
        The ratio of the geometric means; without an interval where a group has one sample only;
        None where a figure is not positive.
    """
    if not after or not before or min(*after, *before, 1.0) <= 0:
        return None
    logs_after, logs_before = [math.log(x) for x in after], [math.log(x) for x in before]
    if len(after) < 2 or len(before) < 2:
        return Estimate(math.exp(fmean(logs_after) - fmean(logs_before)))
    found = welch_interval(logs_after, logs_before, (1 - LEVEL) / 2)
    return Estimate(found.estimate, found.low, found.high)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (no interpolation).

    Args:
        ordered: the values, ascending, at least one.
        share: between 0 and 1.
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _t(freedom: int) -> float:
    share = 1 - (1 - LEVEL) / 2
    return normal_quantile(share) if freedom > _MANY else student_quantile(share, freedom)


# -- What the report shows, as values: made from records by :mod:`.summary`, drawn by the others

#: Worst first: what a cell, a test or a run with several verdicts is called by.
STATES = ("error", "fail", "inconclusive", "pass", "monitor", "")
State = Literal["error", "fail", "inconclusive", "pass", "monitor", ""]

WORDS: Mapping[str, str] = {
    "error": "ERROR",
    "fail": "FAIL",
    "inconclusive": "INCONCLUSIVE",
    "pass": "PASS",
    "monitor": "monitor only",
    "": "not judged",
}

#: The same for figures that no gate judged: what became of their tests.
TEST_WORDS: Mapping[str, str] = {
    "error": "in a test with an error",
    "fail": "in a failed test",
    "inconclusive": "in an undecided test",
    "pass": "tests passed",
    "monitor": "",
    "": "",
}

SCENES = (
    "node-node",
    "pod-pod",
    "pod-node",
    "node-pod",
    "same-node",
    "node-clusterip",
    "pod-dns",
    "outside-loadbalancer",
)
PLACEMENTS = ("same-subnet", "cross-subnet", "same-node", "")
MODES = ("Never", "VXLAN-CrossSubnet", "VXLAN-Always", "IPIP-CrossSubnet", "IPIP-Always", "")
BASELINE_SCENE = "node-node"


@dataclass(frozen=True, slots=True)
class Key:
    """Which cell of the study a sample belongs to."""

    scene: str
    placement: str
    mode: str

    @property
    def order(self) -> tuple[int, str, int, str, int, str]:
        """The study's order of rows and columns; what is unknown comes last, by name."""
        return (
            *_rank(SCENES, self.scene),
            *_rank(PLACEMENTS, self.placement),
            *_rank(MODES, self.mode),
        )

    @property
    def row(self) -> tuple[str, str]:
        """The row of the table."""
        return self.scene, self.placement

    @property
    def row_text(self) -> str:
        """The row's heading, without repeating ``same-node``."""
        if not self.placement or self.placement == self.scene:
            return self.scene
        return f"{self.scene}, {self.placement}"

    @property
    def text(self) -> str:
        """Row and mode in one line."""
        return f"{self.row_text} [{self.mode}]" if self.mode else self.row_text


def _rank(known: tuple[str, ...], name: str) -> tuple[int, str]:
    return (known.index(name), "") if name in known else (len(known), name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One verdict, as the tables show it.

    Attributes:
        margin: how far the estimate lies from the limit, as a share of the limit; positive on
            the good side, negative beyond the limit. None where it cannot be said.
        path: the worst state of the path proofs of its samples; empty where none has one.
    """

    claim: str
    test: str
    key: Key
    quantity: str
    unit: str
    state: State
    estimate: float | None
    low: float | None
    high: float | None
    relation: str
    limit: float | None
    margin: float | None
    count: int
    discarded: int
    path: str
    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class PathTally:
    """How many samples' paths were proven, contradicted, or have no proof."""

    proven: int = 0
    contradicted: int = 0
    missing: int = 0
    text: str = ""

    @property
    def state(self) -> str:
        """The worst of the states; empty where there is none."""
        if self.contradicted:
            return "contradicted"
        if self.missing:
            return "missing"
        return "proven" if self.proven else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandwidthCell:
    """One scene in one mode: all its iperf3 samples.

    Attributes:
        figure: mean goodput in bit/s; None where every sample is an error.
        ratio: to node-node of the same placement: a verdict's own where one judged it, otherwise
            the ratio of the two means.
        ceiling: the most that headers and link rate leave, in bit/s.
        ceiling_kind: ``link`` where the link's rate is known, ``headers`` where only the share
            that headers take is known and node-node stands for the link.
        outcome: of the tests that took the samples, where no verdict judges the cell.
    """

    key: Key
    values: tuple[float, ...]
    figure: Estimate | None
    ratio: Estimate | None
    judged: tuple[Judged, ...]
    outcome: State
    path: PathTally
    retransmit_ratio: float | None
    rtt_seconds: float | None
    mss_bytes: int | None
    ceiling: float | None
    ceiling_kind: str
    errors: int
    samples: tuple[Record, ...]

    @property
    def state(self) -> State:
        """The worst verdict on the cell, else the outcome of its tests."""
        return min((one.state for one in self.judged), key=STATES.index, default=self.outcome)

    @property
    def word(self) -> str:
        """The state in words: a gate's verdict is more than a test that passed."""
        return WORDS[self.state] if self.judged else TEST_WORDS[self.outcome]


def modes_of(cells: Iterable[BandwidthCell]) -> list[str]:
    """The columns of the study: what has no mode first, as the others are compared with it."""
    modes = {cell.key.mode: cell.key.order[4:] for cell in cells}
    return sorted(modes, key=lambda mode: (bool(mode), modes[mode]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One of curl's times over all requests of a row, in seconds."""

    mean: float | None
    median: float | None
    p95: float | None
    ordered: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRow:
    """One scene's curl samples. Phases are named as curl does: connect, starttransfer, total."""

    key: Key
    requests: int
    failed: int
    phases: Mapping[str, Phase]
    judged: tuple[Judged, ...]
    outcome: State
    errors: int
    url: str
    samples: tuple[Record, ...]

    @property
    def state(self) -> State:
        """The worst verdict on the row, else the outcome of its tests."""
        return min((one.state for one in self.judged), key=STATES.index, default=self.outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """One test: its worst outcome over set-up, call and teardown."""

    name: str
    outcome: str
    phase: str
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One object that the run changed: first applied, at the end (one hopes) restored."""

    object: str
    what: str
    state: str
    applied: str
    restored: str
    seconds: float
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """What one change of Calico cost two pods that are not under test; figures None if unknown."""

    what: str
    requests: int | None
    lost: int | None
    longest_gap_seconds: float | None
    seconds: float | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Goodput from every node to every other in one mode; rows send, columns receive."""

    scene: str
    mode: str
    nodes: tuple[str, ...]
    figures: Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One figure before (baseline file) and now."""

    key: Key
    quantity: str
    unit: str
    before: Estimate
    now: Estimate
    ratio: Estimate | None
    count_before: int
    count_now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One fact that is not the same in two places."""

    fact: str
    before: str
    now: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The whole run as the report shows it.

    Attributes:
        outcome: ``passed``, ``failed``, ``inconclusive``, ``cut`` (no end record) or ``empty``.
        counts: tests by outcome.
        restored: whether everything changed was put back; None where nothing was changed.
        tools: how many samples of each tool count.
        discarded: how many samples gates discarded; they count in no figure.
        drift: facts that changed while the run measured.
    """

    run: Record
    outcome: str
    counts: Mapping[str, int]
    tests: tuple[Tested, ...]
    judged: tuple[Judged, ...]
    bandwidth: tuple[BandwidthCell, ...]
    latency: tuple[LatencyRow, ...]
    meshes: tuple[Mesh, ...]
    changes: tuple[Changed, ...]
    switches: tuple[Switched, ...]
    restored: bool | None
    facts: Record | None
    drift: tuple[Difference, ...]
    baseline: Record | None
    compared: tuple[Compared, ...]
    tools: Mapping[str, int]
    discarded: int
    path: PathTally
    begun: str
    ended: str
    seconds: float | None
    samples: tuple[Record, ...]

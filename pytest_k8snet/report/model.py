"""What reports show, as values: made from records by :mod:`.summary`, drawn by all others. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any, Literal

from pytest_k8snet.report.records import (
    Record,
    figure,
    mapping,
    objects,
    real,
    reals,
    usable,
    words,
)
from pytest_k8snet.tools import variant_of
from pytest_k8snet.tools.tool import Column
from pytest_k8snet.units import BitRate
from pytest_k8snet.verdict.distributions import normal_quantile, student_quantile
from pytest_k8snet.verdict.intervals import welch_interval

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
#: Stands for a pair where a figure is of what a change of Calico cost.
SWITCH_SCENE = "switch"


@dataclass(frozen=True, slots=True)
class Key:
    """What identifies a figure, in every table, baseline, limits file and export.

    Attributes:
        scene: the kinds of the two ends, such as ``pod-pod``.
        placement: how their nodes lie; empty where it is not known.
        mode: the Calico mode of the pods; empty for none.
        tool: what measured.
        variant: what of its options makes it another measurement; empty for the usual ones.
    """

    scene: str
    placement: str
    mode: str
    tool: str = ""
    variant: str = ""

    @property
    def order(self) -> tuple[int, str, int, str, int, str, str, str]:
        """Return the study's order of rows and columns; what is unknown comes last, by name."""
        return (
            *_rank(SCENES, self.scene),
            *_rank(PLACEMENTS, self.placement),
            *_rank(MODES, self.mode),
            self.variant,
            self.tool,
        )

    @property
    def row(self) -> tuple[str, str, str]:
        """Return the row of the table."""
        return self.scene, self.placement, self.variant

    @property
    def row_text(self) -> str:
        """Return the row's heading, without repeating ``same-node``."""
        named = not self.placement or self.placement == self.scene
        text = self.scene if named else f"{self.scene}, {self.placement}"
        return f"{text} ({self.variant})" if self.variant else text

    @property
    def is_local(self) -> bool:
        """Return whether both ends are on one node, so that no link limits them."""
        return "same-node" in (self.scene, self.placement)

    @property
    def text(self) -> str:
        """Return row and mode in one line."""
        return f"{self.row_text} [{self.mode}]".lstrip() if self.mode else self.row_text


def key_of(record: Mapping[str, Any]) -> Key:
    """Return what identifies a sample's figures, or those of an entry of a baseline record.

    Baseline records hold no command line; they name the variant, since they are of all samples.
    """
    variant = record.get("variant")
    return Key(
        scene=words(record.get("scene")),
        placement=words(record.get("placement")),
        mode=words(record.get("mode")),
        tool=words(record.get("tool")),
        variant=variant_of(record) if variant is None else words(variant),
    )


def _rank(known: tuple[str, ...], name: str) -> tuple[int, str]:
    return (known.index(name), "") if name in known else (len(known), name)


# -- Figures by tool, scene and mode --------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """One promise and what came of it: a gate's verdict, or a figure that a test compared itself.

    Attributes:
        key: what identifies the figure that the verdict is on; without a tool where no sample is
            left that says which.
        keys: those of its samples: of two directions, each is a figure of its own.
        plain: whether a test compared the figure itself: without an interval, on few samples.
        path: the worst state of the path proofs of its samples; empty where none has one.
    """

    claim: str
    test: str
    key: Key
    keys: frozenset[Key]
    quantity: str
    unit: str
    state: State
    estimate: float | None
    low: float | None
    high: float | None
    relation: str
    limit: float | None
    count: int
    discarded: int
    path: str
    record: Record
    plain: bool = False

    @property
    def subject(self) -> str:
        """Return what the claim is about, without its limit, which is told in another unit."""
        own = words(self.record.get("subject"))
        return own or self.claim.rpartition(f" {self.relation} ")[0] or self.claim

    @property
    def spare(self) -> float | None:
        """Return estimate and limit apart, in their unit; positive on the good side."""
        if self.estimate is None or self.limit is None:
            return None
        apart = self.estimate - self.limit
        return -apart if self.relation.startswith("<") else apart

    @property
    def margin(self) -> float | None:
        """Return the same as a share of the limit, by which promises of all units have an order."""
        return self.spare / abs(self.limit) if self.spare is not None and self.limit else None


def worst_first(gates: Iterable[GateResult]) -> list[GateResult]:
    """Return verdicts in the order of their states, the worst first; then by their margins."""
    return sorted(gates, key=lambda gate: (STATES.index(gate.state), gate.margin or 0.0))


def worst_state(states: Iterable[State]) -> State:
    """Return the worst of several states; empty where there is none."""
    return min(states, key=STATES.index, default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class PathCounts:
    """How many samples' paths were proven, contradicted, or have no proof; every sample is one.

    Attributes:
        missing: a path is claimed, and nobody could look, or the tool does not tell.
        not_applicable: no path is claimed: address translation, or what lies outside, decides it.
    """

    proven: int = 0
    contradicted: int = 0
    missing: int = 0
    not_applicable: int = 0
    text: str = ""

    @property
    def total(self) -> int:
        """Return how many samples there are."""
        return self.proven + self.contradicted + self.missing + self.not_applicable

    @property
    def state(self) -> str:
        """Return the worst of the states; empty where there is none."""
        if self.contradicted:
            return "contradicted"
        if self.missing:
            return "missing"
        return "proven" if self.proven else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What a measurement's samples say of a rate, e.g. goodput.

    Attributes:
        values: one per sample, in bit/s.
        mean: of them; None where every sample is an error.
        ratio: to node-node of the same placement: a gate's own where one compared it, otherwise
            the ratio of the two means.
        ceiling: the most that headers leave of the link's rate, or else of node-node, in bit/s.
        ceiling_ratio: the same as a share of node-node; None where that was not measured.
    """

    values: tuple[float, ...]
    mean: Estimate | None
    ratio: Estimate | None
    ceiling: float | None
    ceiling_ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """All samples of one key.

    Attributes:
        rate: for a tool that measures a rate.
        gates: the promises on it, worst first.
        outcome: of the tests that took the samples.
        errors: samples that gave an error instead of a figure.
        url: what was requested; empty between two endpoints.
    """

    key: Key
    samples: tuple[Record, ...]
    rate: Rate | None
    gates: tuple[GateResult, ...]
    outcome: State
    path: PathCounts
    errors: int
    url: str

    @property
    def state(self) -> State:
        """Return the worst of the promises and of the tests: none hides another."""
        return worst_state([self.outcome, *(gate.state for gate in self.gates)])

    @property
    def outcome_beside_gates(self) -> State:
        """Return the tests' outcome as far as the promises do not tell it already."""
        if not self.gates:
            return self.outcome
        worse = STATES.index(self.outcome) < STATES.index(self.gates[0].state)
        return self.outcome if worse and self.outcome != "pass" else ""

    @property
    def distorted(self) -> bool:
        """Return whether admission changed pods so that figures are not the network's alone."""
        return any(admission(one, "distorted_by") for one in self.samples)

    @property
    def word(self) -> str:
        """Return the state in words: a promise kept is more than a test that passed."""
        beside = self.outcome_beside_gates
        return WORDS[self.state] if self.gates and not beside else TEST_WORDS[beside]


def admission(sample: Record, what: Literal["distorted_by", "altered"]) -> list[str]:
    """Return what admission did to a sample's pods: what changes its figures, or all else."""
    found = sample.get(what)
    return [str(one) for one in found] if isinstance(found, list) else []


def values_of(samples: Iterable[Record], source: str) -> tuple[float, ...]:
    """Return all values of a distribution over usable samples, or of a figure, ascending."""
    found: list[float] = []
    for sample in filter(usable, samples):
        listed = reals(mapping(sample.get("distribution")).get(source))
        value = figure(sample, source)
        found += listed or ([value] if value is not None else [])
    return tuple(sorted(found))


def statistic(samples: Iterable[Record], column: Column) -> float | None:
    """Return the figure of a table's column over usable samples; None where they have none."""
    values = values_of(samples, column.source)
    if not values:
        return None
    if column.statistic == "sum":
        return sum(values)
    if column.statistic == "mean":
        return fmean(values)
    if column.statistic == "minimum":
        return values[0]
    return quantile(values, {"median": 0.5, "p95": 0.95, "p99": 0.99}[column.statistic])


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResults:
    """What one tool measured; how it is shown is the tool's own word.

    Attributes:
        name: the tool.
        known: whether this version has it; otherwise columns are the figures that samples hold.
        title, columns, rate, curves: as :class:`pytest_k8snet.tools.tool.Tool` has them.
    """

    name: str
    known: bool
    title: str
    columns: tuple[Column, ...]
    rate: Column | None
    curves: Mapping[str, str]
    measurements: tuple[Measurement, ...]
    meshes: tuple[Mesh, ...]

    @property
    def samples(self) -> list[Record]:
        """Return every sample of the tool."""
        return [sample for one in self.measurements for sample in one.samples]

    @property
    def modes(self) -> list[str]:
        """Return the modes measured: what has none first, as the others are compared with it."""
        modes = {one.key.mode: _rank(MODES, one.key.mode) for one in self.measurements}
        return sorted(modes, key=lambda mode: (bool(mode), modes[mode]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """The rate from every node to every other in one mode, in bit/s; rows send, columns receive.

    ``scene`` names the variant as well, where it is not the usual one.
    """

    scene: str
    mode: str
    nodes: tuple[str, ...]
    figures: Mapping[tuple[str, str], float]


# -- The rest of a run ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedTest:
    """One test: its worst outcome over set-up, call and teardown; and the mode that it is in.

    ``xfail`` is why it was expected to fail, where it did; ``is_file`` where a whole file could not
    be collected.
    """

    name: str
    outcome: str
    seconds: float
    reason: str
    mode: str = ""
    xfail: str | None = None
    is_file: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What of the tests and modes was tested.

    Attributes:
        modes: those of the selected tests that were tested.
        modes_skipped: those of the selected tests that were not.
        modes_left_out: those that were collected and deselected.
        skipped: how many tests were skipped for each reason.
        expected: how many failed as expected, for each reason.
        skipped_beside_modes: how many of them are of no mode, or of one that was tested otherwise.
        deselected: how many tests were left out.
        by: the options that left them out.
        unfinished: how many selected tests have no outcome.
        unfinished_names: which, as far as the run has recorded its selection.
    """

    modes: tuple[str, ...]
    modes_skipped: tuple[str, ...]
    modes_left_out: tuple[str, ...]
    skipped: Mapping[str, int]
    expected: Mapping[str, int]
    skipped_beside_modes: int
    deselected: int
    by: tuple[str, ...]
    unfinished: int
    unfinished_names: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Return whether everything that was selected was tested."""
        return not (self.skipped or self.expected or self.modes_skipped or self.unfinished)

    @property
    def missing_beside_modes(self) -> bool:
        """Return whether anything was not tested that is not of a mode left out as a whole."""
        return bool(self.skipped_beside_modes or self.expected or self.unfinished)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedObject:
    """One object that the run changed: first applied, at the end (one hopes) restored."""

    object: str
    what: str
    state: str
    applied: str
    restored: str
    seconds: float
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One figure before (baseline file) and now."""

    key: Key
    quantity: str
    unit: str
    before: Estimate
    now: Estimate
    ratio: Estimate | None
    count_before: int
    count_now: int


# -- Facts that differ ----------------------------------------------------------------------------

_ABSENT = "(absent)"
#: Facts of a node that are never the same twice.
_FLEETING = ("load_1_minute", "softnet_dropped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One fact that is not the same in two places."""

    fact: str
    before: str
    now: str


def differences_between(before: Record, now: Record) -> tuple[Difference, ...]:
    """Return the facts that are not the same in two facts records."""
    old, new = _facts(before), _facts(now)
    return tuple(
        Difference(fact=name, before=old.get(name, _ABSENT), now=new.get(name, _ABSENT))
        for name in dict.fromkeys([*old, *new])
        if old.get(name, _ABSENT) != new.get(name, _ABSENT)
        # A tunnel comes and goes with the pools that need it.
        and not (": tunnels." in name and (name not in old or name not in new))
    )


def _facts(record: Record) -> dict[str, str]:
    facts = flat(mapping(record.get("cluster")))
    for node in objects(record.get("nodes")):
        name = words(node.get("name"))
        rest = {key: value for key, value in node.items() if key not in ("name", *_FLEETING)}
        facts |= flat(rest, f"node {name}: ")
    return facts


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested facts as one level: ``{"nic": {"mtu": 1500}}`` is ``{"nic.mtu": "1500"}``."""
    found: dict[str, str] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            found |= flat(item, f"{prefix}{name}.")
        elif isinstance(item, list):
            found[prefix + name] = ", ".join(map(words, item))
        elif name.endswith("_bits_per_second") and (rate := real(item)) is not None:
            found[prefix + name] = str(BitRate(rate))
        else:
            found[prefix + name] = words(item)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The whole run as reports show it.

    Attributes:
        outcome: ``passed``, ``partly`` (passed what was tested), ``failed``, ``inconclusive``,
            ``cut`` (interrupted, or no end record), ``running`` (nothing yet) or ``empty``.
        reason: why it ended before its time; empty where that is not known.
        counts: tests by outcome.
        coverage: what of the tests was tested.
        gates: every verdict, in the order they were reached.
        promises: those of gates and of plain asserts, the worst first.
        tools: what each tool measured, in the order of reports.
        switches: the records of what changes cost pods that are not under test.
        restored: whether everything changed was restored; None where nothing was changed.
        pool_modes: the modes of the cluster's own pools; None where they are not known.
        drift: facts that changed while the run measured.
        counted: how many samples of each tool count.
        discarded: how many samples gates discarded; they count in no figure.
    """

    run: Record
    outcome: str
    reason: str
    counts: Mapping[str, int]
    coverage: Coverage
    promises: tuple[GateResult, ...]
    tests: tuple[FinishedTest, ...]
    gates: tuple[GateResult, ...]
    tools: tuple[ToolResults, ...]
    changes: tuple[ChangedObject, ...]
    switches: tuple[Record, ...]
    restored: bool | None
    facts: Record | None
    pool_modes: tuple[str, ...] | None
    drift: tuple[Difference, ...]
    baseline: Record | None
    comparisons: tuple[Comparison, ...]
    counted: Mapping[str, int]
    discarded: int
    path: PathCounts
    begun: str
    ended: str
    seconds: float | None
    samples: tuple[Record, ...]

    @property
    def differences(self) -> list[Difference]:
        """Return the facts that are not as the baseline record says that they were."""
        return [
            Difference(**{name: words(one.get(name)) for name in ("fact", "before", "now")})
            for one in objects(mapping(self.baseline).get("differences"))
        ]

    @property
    def then(self) -> dict[str, str]:
        """Return those facts as they were; empty also where the earlier run's are not known."""
        return {one.fact: one.before for one in self.differences}

    @property
    def rates(self) -> list[Measurement]:
        """Return every measurement of a rate, whichever tool took it."""
        return [one for tool in self.tools for one in tool.measurements if one.rate is not None]


# -- Statistics -----------------------------------------------------------------------------------

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
    """Return the mean of independent samples with its t-interval."""
    value = fmean(values)
    if len(values) < 2:
        return Estimate(value)
    half = _t(len(values) - 1) * math.sqrt(variance(values) / len(values))
    return Estimate(value, value - half, value + half)


def ratio_of_means(after: Sequence[float], before: Sequence[float]) -> Estimate | None:
    """Return the ratio of two separate groups of samples, by Welch's interval on their logarithms.

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
    """Return the smallest value that at least this share of all does not exceed.

    Args:
        ordered: the values, ascending, at least one.
        share: between 0 and 1.
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _t(freedom: int) -> float:
    share = 1 - (1 - LEVEL) / 2
    return normal_quantile(share) if freedom > _MANY else student_quantile(share, freedom)

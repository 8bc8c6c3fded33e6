"""Records -> :class:`~pytest_k8snet.report.model.Summary`: all that reports show. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from statistics import fmean
from typing import Any, cast

from pytest_k8snet.calico.modes import (
    OVERHEAD_BYTES,
    CalicoMode,
    Path,
    goodput_ceiling,
    ratio_ceiling,
)
from pytest_k8snet.report.model import (
    BASELINE_SCENE,
    MODES,
    ChangedObject,
    Comparison,
    Coverage,
    Estimate,
    FinishedTest,
    GateResult,
    Key,
    Measurement,
    Mesh,
    PathCounts,
    Rate,
    State,
    Summary,
    ToolResults,
    differences_between,
    key_of,
    mean,
    quantile,
    ratio_of_means,
    values_of,
    worst_first,
    worst_state,
)
from pytest_k8snet.report.records import (
    OUTCOMES,
    Record,
    figure,
    mapping,
    objects,
    real,
    reals,
    usable,
    whole,
    words,
)
from pytest_k8snet.tools import TOOLS
from pytest_k8snet.tools.tool import Column, Unit
from pytest_k8snet.verdict import NEW_CONNECTIONS

_STATE_OF_OUTCOME: Mapping[str, State] = {
    "error": "error",
    "failed": "fail",
    "inconclusive": "inconclusive",
    "passed": "pass",
}
#: Most columns that a tool gets which this version does not know.
_MOST_GUESSED = 6
#: Most values that a baseline record keeps of one figure.
KEPT_VALUES = 200
#: pytest's exit status of a run that was stopped.
_INTERRUPTED = 2

OutcomeOf = Callable[[Key, Sequence[Record]], State]


def summarise(records: Sequence[Record]) -> Summary:
    """Summarise one run.

    Args:
        records: its records in the order they were made; may end anywhere (a killed run).
    """
    kinds: dict[str, list[Record]] = {}
    for record in records:
        kinds.setdefault(record["kind"], []).append(record)
    samples = with_discards(kinds.get("sample", []), kinds.get("verdict", []))
    gates = gate_results(kinds.get("verdict", []), samples)
    tests = _tests(kinds.get("test", []))
    promised = [*gates, *_promises(kinds.get("test", []), samples)]
    run = _last(kinds.get("run")) or {}
    coverage = _coverage(mapping(run.get("selection")), tests, samples)
    end = _last(kinds.get("end"))
    changes = changed_objects(kinds.get("change", []))
    restored = all_restored(changes, end)
    facts = [one for one in kinds.get("facts", []) if one["phase"] == "before"]
    after = [one for one in kinds.get("facts", []) if one["phase"] == "after"]
    now = _last(facts) or _last(after)
    outcome_of = partial(
        _outcome_of,
        tests={test.name: test for test in tests},
        scenes_by_test=_scenes_by_test(samples),
    )
    tools = _tools(samples, promised, outcome_of, _link_rate(now))
    baseline = _last(kinds.get("baseline"))
    begun, ended = _span(records)
    return Summary(
        run=run,
        outcome=_outcome(tests, coverage, end, restored, measured=len(kinds) > 1),
        reason=words(end.get("reason")) if end is not None else "",
        coverage=coverage,
        promises=tuple(worst_first(promised)),
        counts=Counter(test.outcome for test in tests),
        gates=gates,
        tests=tests,
        tools=tools,
        changes=changes,
        switches=tuple(kinds.get("switch", [])),
        restored=restored,
        facts=now,
        pool_modes=_pool_modes(now),
        drift=differences_between(facts[-1], after[-1]) if facts and after else (),
        baseline=baseline,
        comparisons=_comparisons(baseline, tools, gates) if baseline else (),
        counted=Counter(words(sample["tool"]) for sample in samples if usable(sample)),
        discarded=sum(1 for sample in samples if sample.get("discarded")),
        path=path_counts(samples),
        begun=begun,
        ended=ended if end is not None else "",
        seconds=(real(end.get("seconds")) if end is not None else None) or _between(begun, ended),
        samples=tuple(samples),
    )


# -- What the tools measured ----------------------------------------------------------------------


def _tools(
    samples: Sequence[Record],
    gates: Sequence[GateResult],
    outcome_of: OutcomeOf,
    link_rate: float | None,
) -> tuple[ToolResults, ...]:
    """Return what each tool measured: in the registry's order, then those that it does not have."""
    by_tool: dict[str, list[Record]] = {}
    for sample in samples:
        by_tool.setdefault(words(sample["tool"]), []).append(sample)
    order = [*(name for name in TOOLS if name in by_tool), *sorted(set(by_tool) - set(TOOLS))]
    return tuple(_results(name, by_tool[name], gates, outcome_of, link_rate) for name in order)


def _results(
    name: str,
    samples: Sequence[Record],
    gates: Sequence[GateResult],
    outcome_of: OutcomeOf,
    link_rate: float | None,
) -> ToolResults:
    tool = TOOLS.get(name)
    rate = tool.rate if tool is not None else None
    own = [gate for gate in gates if gate.key.tool in (name, "")]
    groups = _by_key(samples)
    node_node = [one for key, group in groups.items() if _is_baseline(key) for one in group]
    measurements = []
    for key, group in groups.items():
        on_it = _gates_on(own, key)
        base = [one for one in node_node if _compares(key, key_of(one))]
        measurements.append(
            Measurement(
                key=key,
                samples=tuple(group),
                rate=_rate(rate, key, group, on_it, base, link_rate),
                gates=on_it,
                outcome=outcome_of(key, group),
                path=path_counts(group),
                errors=sum(1 for one in group if one.get("error")),
                url=next((words(one["url"]) for one in group if one.get("url")), ""),
            )
        )
    return ToolResults(
        name=name,
        known=tool is not None,
        title=tool.title if tool is not None else f"{name}, a tool that this version does not know",
        columns=tool.columns if tool is not None else _guessed_columns(samples),
        rate=rate,
        curves=tool.curves if tool is not None else {},
        measurements=tuple(measurements),
        meshes=_meshes(samples, rate.source) if rate is not None else (),
    )


def _guessed_columns(samples: Sequence[Record]) -> tuple[Column, ...]:
    """Return columns for the figures of an unknown tool: a newer version wrote the file."""
    units: Sequence[tuple[str, Unit]] = (
        ("_bits_per_second", "bit/s"),
        ("_seconds", "seconds"),
        ("_ratio", "ratio"),
        ("_bytes", "bytes"),
    )
    names = dict.fromkeys(name for one in samples for name in mapping(one.get("figures")))
    return tuple(
        Column(
            heading=name,
            source=name,
            statistic="mean",
            unit=next((unit for ending, unit in units if name.endswith(ending)), "count"),
        )
        for name in list(names)[:_MOST_GUESSED]
    )


def _by_key(samples: Sequence[Record]) -> dict[Key, list[Record]]:
    """Return samples by what identifies their figures, in the study's order."""
    groups: dict[Key, list[Record]] = {}
    for sample in samples:
        groups.setdefault(key_of(sample), []).append(sample)
    return dict(sorted(groups.items(), key=lambda item: item[0].order))


def _is_baseline(key: Key) -> bool:
    return key.scene == BASELINE_SCENE


def _compares(key: Key, base: Key) -> bool:
    """Return whether node-node is what a key is compared with.

    Pods on one node cross no wire to compare; otherwise the measurement is the same, and so are
    placement and mode, where both ends have them.
    """
    if _is_baseline(key) or key.is_local or key.variant != base.variant:
        return False
    same_place = base.placement in (key.placement, "") or not key.placement
    return same_place and base.mode in (key.mode, "")


def _rate(
    column: Column | None,
    key: Key,
    group: Sequence[Record],
    gates: Sequence[GateResult],
    node_node: Sequence[Record],
    link_rate: float | None,
) -> Rate | None:
    if column is None:
        return None
    values, base = values_of(group, column.source), values_of(node_node, column.source)
    ceiling = _ceiling(key, group, link_rate, base, _mss(node_node))
    return Rate(
        values=values,
        mean=mean(values) if values else None,
        ratio=_ratio(key, gates, values, base),
        ceiling=ceiling,
        ceiling_ratio=ceiling / fmean(base) if ceiling is not None and any(base) else None,
    )


def _ratio(
    key: Key, gates: Sequence[GateResult], values: Sequence[float], base: Sequence[float]
) -> Estimate | None:
    for gate in gates:
        against_node = gate.record.get("baseline") == BASELINE_SCENE
        if against_node and "ratio" in gate.quantity and gate.estimate is not None:
            return Estimate(gate.estimate, gate.low, gate.high)
    return ratio_of_means(values, base) if not _is_baseline(key) else None


def _ceiling(
    key: Key,
    group: Sequence[Record],
    link_rate: float | None,
    base: Sequence[float],
    base_mss: int | None,
) -> float | None:
    """Return the physical limit: what the link's rate, or else node-node, leaves for payload."""
    mss, path = _mss(group), _path(group[0])
    if mss is None or path is None or key.is_local:
        return None
    if link_rate:
        return float(goodput_ceiling(link_rate, mss, path))
    return fmean(base) * float(ratio_ceiling(mss, path, base_mss)) if base and base_mss else None


def _mss(group: Sequence[Record]) -> int | None:
    found = [int(value) for one in group if (value := figure(one, "mss_bytes"))]
    return min(found) if found else None


def _path(sample: Record) -> Path | None:
    expected = words(mapping(sample.get("path")).get("expected"))
    if expected in OVERHEAD_BYTES:
        return expected
    if mapping(sample.get("server")).get("kind") != "pod" or not sample.get("mode"):
        return "direct"
    try:
        mode = CalicoMode(sample["mode"])
    except ValueError:
        return None
    return mode.path(sample.get("placement") != "cross-subnet")


def _link_rate(facts: Record | None) -> float | None:
    """Return the rate of the slowest link between nodes, where the facts name one, in bit/s."""
    if facts is None:
        return None
    rates = [
        rate
        for owner in (mapping(facts.get("cluster")), *objects(facts.get("nodes")))
        if (rate := real(owner.get("link_rate_bits_per_second")))
    ]
    return min(rates) if rates else None


def _pool_modes(facts: Record | None) -> tuple[str, ...] | None:
    modes = mapping(mapping(facts).get("cluster")).get("pool_modes")
    return tuple(map(words, modes)) if isinstance(modes, list) and modes else None


def _meshes(samples: Sequence[Record], source: str) -> tuple[Mesh, ...]:
    """Return one mesh per scene and mode in which three nodes or more measured each other."""
    groups: dict[Key, dict[tuple[str, str], list[float]]] = {}
    for sample in filter(usable, samples):
        value = figure(sample, source)
        client, server = mapping(sample.get("client")), mapping(sample.get("server"))
        ends = words(client.get("node")), words(server.get("node"))
        if value is not None and all(ends):
            # Rows and columns are nodes, which lie to each other as they do.
            place = replace(key_of(sample), placement="")
            groups.setdefault(place, {}).setdefault(ends, []).append(value)
    found = []
    for key, by_ends in sorted(groups.items(), key=lambda item: item[0].order):
        nodes = tuple(sorted({node for ends in by_ends for node in ends}))
        distinct = sum(1 for client, server in by_ends if client != server)
        if len(nodes) >= 3 and distinct >= 6:
            means = {ends: fmean(values) for ends, values in by_ends.items()}
            found.append(Mesh(scene=key.row_text, mode=key.mode, nodes=nodes, figures=means))
    return tuple(found)


def path_counts(samples: Iterable[Record]) -> PathCounts:
    """Count the path proofs of every sample that has a figure, or whose proof is why it has none.

    A sample to a URL claims no path, unless its record says otherwise.
    """
    counts = {"proven": 0, "contradicted": 0, "missing": 0, "not applicable": 0}
    texts: dict[str, str] = {}
    for sample in samples:
        path = mapping(sample.get("path"))
        if sample.get("warmup") or (sample.get("error") and not path):
            continue
        state = words(path.get("state"))
        if state not in counts:
            state = "missing" if mapping(sample.get("server")) else "not applicable"
        counts[state] += 1
        texts.setdefault(state, words(path.get("text")))
    worst = next((state for state in counts if counts[state] and state != "proven"), "proven")
    return PathCounts(
        proven=counts["proven"],
        contradicted=counts["contradicted"],
        missing=counts["missing"],
        not_applicable=counts["not applicable"],
        text=texts.get(worst, ""),
    )


# -- Verdicts: states come as recorded, nothing is decided here -----------------------------------


def gate_results(verdicts: Iterable[Record], samples: Iterable[Record]) -> tuple[GateResult, ...]:
    """Return every verdict, with scene, tool and path proofs of its samples."""
    by_id = {sample["id"]: sample for sample in samples}
    return tuple(_gate_result(verdict, by_id) for verdict in verdicts)


def _gate_result(verdict: Record, samples: Mapping[str, Record]) -> GateResult:
    used = [samples[name] for name in _sample_ids(verdict) if name in samples]
    scene, mode = words(verdict.get("scene")), words(verdict.get("mode"))
    keys = [key for one in used if (key := key_of(one)).scene == scene and key.mode == mode]
    own = keys[0] if keys else None
    quantity = words(verdict.get("quantity"))
    discarded = objects(verdict.get("discarded"))
    key = Key(
        scene,
        own.placement if own else words(verdict.get("placement")),
        mode,
        words(used[0]["tool"]) if used else words(verdict.get("tool")) or _tool_of(quantity),
        # Of both directions the slower one counts, which is a figure of its own.
        words(verdict.get("variant", own.variant if own else "")),
    )
    found = _promised(verdict, words(verdict.get("test")), used, key)
    return replace(
        found,
        keys=frozenset(keys),
        count=int(real(verdict.get("n")) or 0),
        discarded=len({(one.get("number"), one.get("attempt")) for one in discarded}),
    )


def _promised(record: Record, test: str, used: Sequence[Record], key: Key) -> GateResult:
    return GateResult(
        claim=words(record.get("claim")),
        test=test,
        key=key,
        keys=frozenset(key_of(one) for one in used[:1]),
        quantity=words(record.get("quantity")),
        unit=_unit_of(record),
        state=cast(State, record.get("state")),
        estimate=real(record.get("estimate")),
        low=real(record.get("low")),
        high=real(record.get("high")),
        relation=words(record.get("relation")),
        limit=real(record.get("limit")),
        count=1,
        discarded=0,
        path=path_counts(used).state,
        record=record,
    )


def _unit_of(record: Record) -> str:
    """Return a verdict's unit; empty for shares and ratios, which are told in per cent."""
    return "per second" if record.get("quantity") == NEW_CONNECTIONS else words(record.get("unit"))


def _tool_of(quantity: str) -> str:
    """Return the tool that measures what a verdict without samples is on; empty if many might."""
    measuring = [name for name, tool in TOOLS.items() if curve_of(tool.curves, quantity)]
    if not measuring:
        measuring = [name for name, tool in TOOLS.items() if tool.rate is not None]
    return measuring[0] if len(measuring) == 1 else ""


def curve_of(curves: Mapping[str, str], quantity: str) -> str:
    """Return the distribution that a gate's quantity (``connect p95``) is on; empty if none is."""
    name = quantity.partition(" ")[0]
    return next((source for source, gated in curves.items() if gated == name), "")


def with_discards(samples: Sequence[Record], verdicts: Iterable[Record]) -> list[Record]:
    """Return the samples; those that a gate discarded get its cause as ``discarded``."""
    causes = {
        words(name): words(entry.get("cause")) or "discarded"
        for verdict in verdicts
        for entry in objects(verdict.get("discarded"))
        for name in _list(entry.get("samples"))
    }
    return [
        {**sample, "discarded": cause} if (cause := causes.get(sample["id"])) else sample
        for sample in samples
    ]


def counting_samples(records: Iterable[Record]) -> Iterator[Record]:
    """Return the samples that are figures: no warm-up, no error, none that a gate discarded."""
    kinds: dict[str, list[Record]] = {}
    for record in records:
        kinds.setdefault(record["kind"], []).append(record)
    return filter(usable, with_discards(kinds.get("sample", []), kinds.get("verdict", [])))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _sample_ids(verdict: Mapping[str, Any]) -> list[str]:
    """Return the ids of a verdict's samples, pair by pair."""
    found: list[str] = []
    for entry in _list(verdict.get("samples")):
        found += [name for name in _list(entry) or [entry] if isinstance(name, str)]
    return found


def _gates_on(gates: Iterable[GateResult], key: Key) -> tuple[GateResult, ...]:
    """Return the verdicts on a key, worst first; one that names no placement counts for each."""
    return tuple(worst_first(gate for gate in gates if key in gate.keys or _is_on(gate, key)))


def _is_on(gate: GateResult, key: Key) -> bool:
    """Return whether a verdict whose samples are not there is on a key, by what itself names."""
    named = replace(
        key, placement=gate.key.placement or key.placement, tool=gate.key.tool or key.tool
    )
    return not gate.keys and named == replace(gate.key, placement=named.placement, tool=named.tool)


def _promises(tests: Iterable[Record], samples: Iterable[Record]) -> list[GateResult]:
    """Return what plain asserts promised; of one assert that ran several times the worst."""
    by_id = {sample["id"]: sample for sample in samples}
    found: dict[tuple[object, ...], list[GateResult]] = {}
    for test in tests:
        for promise in objects(test.get("promises")):
            one = _promise(words(test["test"]), promise, by_id)
            same = (one.test, one.key, one.claim, one.relation, one.limit)
            found.setdefault(same, []).append(one)
    return [replace(worst_first(group)[0], count=len(group)) for group in found.values()]


def _promise(test: str, promise: Mapping[str, Any], samples: Mapping[str, Record]) -> GateResult:
    used = [samples[name] for name in _sample_ids(promise) if name in samples]
    key = key_of(used[0]) if used else replace(key_of(promise), tool="")
    state: State = "pass" if promise.get("state") == "pass" else "fail"
    return replace(_promised(dict(promise), test, used, key), state=state, plain=True)


# -- Tests ----------------------------------------------------------------------------------------


def _tests(records: Iterable[Record]) -> tuple[FinishedTest, ...]:
    """Return one entry per test: the first of its worst outcomes, and all its time."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(words(record["test"]), []).append(record)
    tests = []
    for name, phases in found.items():
        if all(one.get("phase") == "subtest" for one in phases):
            continue  # it never came to its own end
        worst = min(_that_count(phases), key=lambda one: OUTCOMES.index(one["outcome"]))
        tests.append(
            FinishedTest(
                name=name,
                outcome=worst["outcome"],
                seconds=sum(real(one.get("seconds")) or 0.0 for one in phases),
                reason=words(worst.get("reason")),
                mode=next((words(one["mode"]) for one in phases if one.get("mode")), ""),
                xfail=words(worst["xfail"]) if "xfail" in worst else None,
                is_file=worst.get("phase") == "collect",
            )
        )
    return tuple(tests)


_PHASES = ("setup", "call", "teardown")


def _that_count(phases: Sequence[Record]) -> list[Record]:
    """Return the last attempt of a test that was run again, and what it missed in earlier ones.

    Trouble that a later attempt did not meet says nothing; a missed promise stays one.
    """
    kept: list[Record] = []
    before = -1
    for one in phases:
        kept.append(one)
        if (phase := words(one.get("phase"))) not in _PHASES:
            continue
        at = _PHASES.index(phase)
        # Set-up is recorded where it failed only: no call follows it then.
        if at <= before or (before == 0 and at == 1):
            kept = [*(other for other in kept[:-1] if other["outcome"] == "failed"), one]
        before = at
    return kept


def _coverage(
    selection: Mapping[str, Any], tests: Sequence[FinishedTest], samples: Iterable[Record]
) -> Coverage:
    """Return what was tested of what was selected; older runs tell no selection."""
    tried = [test for test in tests if test.outcome != "skipped" or test.xfail is not None]
    tested = {test.mode for test in tried} | {words(one.get("mode")) for one in samples}
    selected = {words(mode) for mode in _list(selection.get("modes"))} | {
        test.mode for test in tests
    }
    known = [*MODES, *sorted((tested | selected) - set(MODES))]
    skipped = [test for test in tests if test.outcome == "skipped" and test.xfail is None]
    expected = [test.xfail for test in tests if test.xfail is not None]
    count = whole(selection.get("selected"))
    named, ended = map(words, _list(selection.get("tests"))), {test.name for test in tests}
    return Coverage(
        modes=tuple(mode for mode in known if mode and mode in tested),
        modes_skipped=tuple(mode for mode in known if mode and mode in selected - tested),
        modes_left_out=tuple(words(mode) for mode in _list(selection.get("modes_left_out"))),
        skipped=Counter(_why_skipped(test) for test in skipped),
        expected=Counter(expected),
        skipped_beside_modes=sum(not test.mode or test.mode in tested for test in skipped),
        deselected=whole(selection.get("deselected")) or 0,
        by=tuple(words(one) for one in _list(selection.get("by"))),
        unfinished=max(0, count - sum(not test.is_file for test in tests)) if count else 0,
        unfinished_names=tuple(name for name in named if name not in ended),
    )


def _why_skipped(test: FinishedTest) -> str:
    """Return why a test was skipped; what is true of several modes is one reason."""
    reason = test.reason.strip().partition("\n")[0] or "no reason given"
    if not test.mode:
        return reason
    return reason.replace(f"mode {test.mode}", "that mode").replace(test.mode, "that mode")


def _scenes_by_test(samples: Iterable[Record]) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for sample in samples:
        found.setdefault(words(sample.get("test")), set()).add(sample["scene"])
    return found


def _outcome_of(
    key: Key,
    samples: Iterable[Record],
    tests: Mapping[str, FinishedTest],
    scenes_by_test: Mapping[str, set[str]],
) -> State:
    """Return the worst outcome of the tests that took samples; empty where none is known.

    A baseline is not to blame for the test that used it, so node-node counts those tests only
    that measured nothing else.
    """
    names = {words(sample.get("test")) for sample in samples}
    states = [
        _STATE_OF_OUTCOME.get(tests[name].outcome, "")
        for name in sorted(names)
        if name in tests and (not _is_baseline(key) or scenes_by_test.get(name) == {key.scene})
    ]
    return worst_state(states)


def _outcome(
    tests: Sequence[FinishedTest],
    coverage: Coverage,
    end: Record | None,
    restored: bool | None,
    *,
    measured: bool,
) -> str:
    outcomes = {test.outcome for test in tests}
    if outcomes & {"failed", "error"} or (end is not None and restored is False):
        return "failed"
    if end is None:
        return "cut" if measured else "running"
    if end["exit_status"] == _INTERRUPTED:
        return "cut"
    if "inconclusive" in outcomes:
        return "inconclusive"
    if "passed" not in outcomes:
        return "failed" if any(test.xfail is not None for test in tests) else "empty"
    if end["exit_status"] not in (0, None):
        # Anything else that pytest counts as a failure (a hook, a plugin) is one here.
        return "failed"
    return "passed" if coverage.whole else "partly"


# -- Changes of the cluster, and what they cost others --------------------------------------------


def changed_objects(records: Iterable[Record]) -> tuple[ChangedObject, ...]:
    """Return one entry per object, in the order of the first change to each."""
    by_object: dict[str, list[Record]] = {}
    for record in records:
        by_object.setdefault(words(record.get("object")), []).append(record)
    return tuple(_changed_object(name, group) for name, group in by_object.items())


def _changed_object(name: str, group: Sequence[Record]) -> ChangedObject:
    first = next((one for one in group if one["state"] != "restored"), group[0])
    last = group[-1]
    # Why it is as it is matters more than what was done to it before.
    told = last if last["state"] == "failed" else first
    return ChangedObject(
        object=name,
        what=words(told.get("what")),
        state=last["state"],
        applied=words(first.get("time")) if first["state"] != "restored" else "",
        restored=words(last.get("time")) if last["state"] == "restored" else "",
        seconds=sum(real(one.get("seconds")) or 0.0 for one in group),
        records=tuple(group),
    )


def all_restored(changes: Sequence[ChangedObject], end: Record | None) -> bool | None:
    """Return whether everything was restored; None where there was nothing to restore.

    The run's own word at its end counts, unless an object says otherwise.
    """
    said = end.get("restored") if end is not None else None
    if any(one.state != "restored" for one in changes):
        return False
    if isinstance(said, bool):
        return said
    return True if changes else None


# -- Before and now: figures that two runs can be compared by -------------------------------------


def comparable(tools: Iterable[ToolResults]) -> dict[tuple[Key, str, str], tuple[float, ...]]:
    """Return all values of a run that another can be compared by: by key, quantity and unit.

    One value per sample: its rate, or the median of its distribution, because the requests of one
    sample follow each other and share its disturbances.
    """
    found: dict[tuple[Key, str, str], tuple[float, ...]] = {}
    for tool in tools:
        times = _compared_times(tool)
        for one in tool.measurements:
            if tool.rate is not None and one.rate is not None and one.rate.values:
                found[one.key, tool.rate.heading, tool.rate.unit] = one.rate.values
            for source, name in times.items():
                values = tuple(
                    quantile(of_sample, 0.5)
                    for sample in one.samples
                    if (of_sample := values_of([sample], source))
                )
                if values:
                    found[one.key, f"median {name}", "s"] = values
    return found


def _with_samples(tool: ToolResults, ids: Collection[str]) -> ToolResults:
    """Return what a tool measured in some samples only."""
    measurements = []
    for one in tool.measurements:
        samples = tuple(sample for sample in one.samples if sample["id"] in ids)
        rate = one.rate
        if rate is not None and tool.rate is not None:
            rate = replace(rate, values=values_of(samples, tool.rate.source))
        measurements.append(replace(one, samples=samples, rate=rate))
    return replace(tool, measurements=tuple(measurements))


def _compared_times(tool: ToolResults) -> Mapping[str, str]:
    """Return the durations that a tool's table shows, named as gates or else columns name them."""
    if tool.rate is not None or not tool.known:
        return {}
    found: dict[str, str] = {}
    for column in tool.columns:
        if column.unit == "seconds":
            found.setdefault(column.source, tool.curves.get(column.source, column.heading))
    return found


def thinned(values: Sequence[float]) -> list[float]:
    """Return at most ``KEPT_VALUES``, evenly from the sorted whole: records stay small."""
    if len(values) <= KEPT_VALUES:
        return list(values)
    ordered = sorted(values)
    return [quantile(ordered, (index + 0.5) / KEPT_VALUES) for index in range(KEPT_VALUES)]


def _comparisons(
    baseline: Record, tools: Sequence[ToolResults], gates: Sequence[GateResult]
) -> tuple[Comparison, ...]:
    """Return each figure that both runs have, by quantity; with the interval for unpaired runs.

    Where a gate judged the ratio to that very run, its own stands, and its samples alone count: one
    report has one figure.
    """
    source = f"baseline run {words(baseline.get('source'))}"
    judged = {
        (gate.key, gate.quantity.partition(" ratio")[0].lower()): gate
        for gate in gates
        # A damaged record may hold any ratio.
        if gate.record.get("baseline") == source and (gate.estimate or 0.0) > 0.0
    }
    ids = {name for gate in judged.values() for name in _sample_ids(gate.record)}
    of_gates = comparable(_with_samples(tool, ids) for tool in tools)

    def compared(
        key: Key, quantity: str, unit: str, now: Sequence[float], before: Sequence[float]
    ) -> Comparison:
        ratio = ratio_of_means(now, before)
        if (gate := judged.get((key, quantity.lower()))) and gate.estimate is not None:
            now = of_gates.get((key, quantity, unit), now)
            ratio = Estimate(gate.estimate, gate.low, gate.high)
        return Comparison(
            key=key,
            quantity=quantity,
            unit=unit,
            before=mean(before),
            now=mean(now),
            ratio=ratio,
            count_before=len(before),
            count_now=len(now),
        )

    then = {
        (key_of(entry), words(entry.get("quantity"))): reals(entry.get("values"))
        for entry in objects(baseline.get("figures"))
    }

    def earlier(key: Key, quantity: str) -> list[float]:
        # Before there were variants, no tool was named either.
        return then.get((key, quantity)) or then.get((replace(key, tool=""), quantity)) or []

    found = [
        compared(key, quantity, unit, now, before)
        for (key, quantity, unit), now in comparable(tools).items()
        if (before := earlier(key, quantity))
    ]
    order = list(dict.fromkeys(one.quantity for one in found))
    return tuple(sorted(found, key=lambda one: order.index(one.quantity)))


# -- Times ----------------------------------------------------------------------------------------


def _last(records: Sequence[Record] | None) -> Record | None:
    return records[-1] if records else None


def _span(records: Sequence[Record]) -> tuple[str, str]:
    times = [words(record.get("time")) for record in records]
    return (times[0], times[-1]) if times else ("", "")


def _between(begun: str, ended: str) -> float | None:
    try:
        return (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()
    except (ValueError, TypeError):
        return None

"""Records -> :class:`~pytest_k8snet.report.model.Summary`: all that the report shows. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    STATES,
    BandwidthCell,
    Changed,
    Compared,
    Difference,
    Estimate,
    Judged,
    Key,
    LatencyRow,
    Mesh,
    PathTally,
    Phase,
    State,
    Summary,
    Switched,
    Tested,
    mean,
    quantile,
    ratio_of_means,
)
from pytest_k8snet.report.records import OUTCOMES, Record
from pytest_k8snet.units import BitRate

#
# Pure.


def real(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def whole(value: object) -> int | None:
    """A whole number, or None."""
    number = real(value)
    return int(number) if number is not None and number.is_integer() else None


def reals(value: object) -> list[float]:
    """The finite numbers of a list."""
    if not isinstance(value, list):
        return []
    return [number for item in value if (number := real(item)) is not None]


def mapping(value: object) -> Mapping[str, Any]:
    """An object, or an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def words(value: object) -> str:
    """A text; null is empty, anything else is its ``str``."""
    return value if isinstance(value, str) else "" if value is None else str(value)


def figure(sample: Record, name: str) -> float | None:
    """One figure of a sample."""
    return real(mapping(sample.get("figures")).get(name))


def key_of(sample: Record) -> Key:
    """The cell that a sample belongs to."""
    return Key(
        words(sample.get("scene")), words(sample.get("placement")), words(sample.get("mode"))
    )


def usable(sample: Record) -> bool:
    """Whether a sample is a figure: no error, no warm-up, and not discarded by a gate."""
    return not (sample.get("error") or sample.get("warmup") or sample.get("discarded"))


def failed(sample: Record) -> bool:
    """Whether a sample gave an error instead of a figure."""
    return bool(sample.get("error"))


def path_tally(samples: Iterable[Record]) -> PathTally:
    """Count the path proofs; a sample to a URL crosses no single path and has none."""
    counts = {"proven": 0, "contradicted": 0, "missing": 0}
    texts: dict[str, str] = {}
    for sample in samples:
        if sample.get("tool") == "curl" or sample.get("warmup"):
            continue
        path = mapping(sample.get("path"))
        if not path and failed(sample):
            continue
        state = words(path.get("state"))
        state = state if state in counts else "missing"
        counts[state] += 1
        texts.setdefault(state, words(path.get("text")))
    worst = next((state for state in ("contradicted", "missing", "proven") if counts[state]), "")
    return PathTally(**counts, text=texts.get(worst, ""))


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested facts as one level of text: ``{"nic": {"mtu": 1500}}`` is ``{"nic.mtu": "1500"}``."""
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


def grouped(samples: Sequence[Record]) -> dict[Key, list[Record]]:
    """Samples by cell, in the study's order."""
    cells: dict[Key, list[Record]] = {}
    for sample in samples:
        cells.setdefault(key_of(sample), []).append(sample)
    return dict(sorted(cells.items(), key=lambda item: item[0].order))


# -- Verdict records -> what the tables show of them. Judges nothing: states come as recorded -----


_OF_OUTCOME: Mapping[str, State] = {
    "error": "error",
    "failed": "fail",
    "inconclusive": "inconclusive",
    "passed": "pass",
}


def judged(verdicts: Iterable[Record], samples: Mapping[str, Record]) -> tuple[Judged, ...]:
    """Every verdict, with the cell and the path proofs of its samples.

    Args:
        verdicts: verdict records.
        samples: sample records by id.
    """
    return tuple(_judged(verdict, samples) for verdict in verdicts)


def _judged(verdict: Record, samples: Mapping[str, Record]) -> Judged:
    used = [samples[name] for name in sample_ids(verdict) if name in samples]
    scene, mode = words(verdict.get("scene")), words(verdict.get("mode"))
    own = next((key_of(one) for one in used if one.get("scene") == scene), None)
    limit, estimate = real(verdict.get("limit")), real(verdict.get("estimate"))
    relation = words(verdict.get("relation"))
    discarded = verdict.get("discarded")
    return Judged(
        claim=words(verdict.get("claim")),
        test=words(verdict.get("test")),
        key=Key(scene, own.placement if own else words(verdict.get("placement")), mode),
        quantity=words(verdict.get("quantity")),
        unit=words(verdict.get("unit")),
        state=cast(State, verdict["state"]),
        estimate=estimate,
        low=real(verdict.get("low")),
        high=real(verdict.get("high")),
        relation=relation,
        limit=limit,
        margin=margin(estimate, relation, limit),
        count=int(real(verdict.get("n")) or 0),
        discarded=len({(one.get("number"), one.get("attempt")) for one in objects(discarded)}),
        path=path_tally(used).state,
        record=verdict,
    )


def with_discards(samples: Sequence[Record], verdicts: Iterable[Record]) -> list[Record]:
    """The samples; those that a gate discarded get its cause as ``discarded``."""
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


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def margin(estimate: float | None, relation: str, limit: float | None) -> float | None:
    """How far on the good side of its limit an estimate lies, as a share of the limit."""
    if estimate is None or not limit:
        return None
    share = (estimate - limit) / abs(limit)
    return -share if relation.startswith("<") else share


def sample_ids(verdict: Record) -> list[str]:
    """The ids of a verdict's samples, pair by pair."""
    found: list[str] = []
    for entry in verdict.get("samples") or []:
        if isinstance(entry, str):
            found.append(entry)
        elif isinstance(entry, list):
            found.extend(name for name in entry if isinstance(name, str))
    return found


def of_cell(verdicts: Iterable[Judged], key: Key) -> tuple[Judged, ...]:
    """The verdicts on one cell, worst first; one that names no placement counts for each."""
    own = [
        one
        for one in verdicts
        if (one.key.scene, one.key.mode) == (key.scene, key.mode)
        and one.key.placement in (key.placement, "")
    ]
    return tuple(sorted(own, key=lambda one: STATES.index(one.state)))


def outcome_of(
    key: Key,
    samples: Iterable[Record],
    tests: Mapping[str, Tested],
    alone: Mapping[str, Sequence[str]],
) -> State:
    """The worst outcome of the tests that took a cell's samples; empty where none is known.

    A baseline is not to blame for the test that used it, so node-node counts those tests only
    that measured nothing else.

    Args:
        key: the cell.
        samples: its samples.
        tests: tests by name.
        alone: the scenes that each test measured.
    """
    names = {words(sample.get("test")) for sample in samples}
    states = [
        _OF_OUTCOME.get(tests[name].outcome, "")
        for name in sorted(names)
        if name in tests and (key.scene != "node-node" or list(alone.get(name, ())) == [key.scene])
    ]
    return cast(State, min(states, key=STATES.index, default=""))


# -- iperf3 samples -> the cells of the bandwidth table, and the mesh -----------------------------


BANDWIDTH_FIGURE = "bandwidth_bits_per_second"
Outcome = Callable[[Key, Sequence[Record]], State]


def bandwidth_cells(
    samples: Sequence[Record],
    verdicts: Sequence[Judged],
    outcome: Outcome,
    link_rate: float | None,
) -> tuple[BandwidthCell, ...]:
    """All cells in the study's order."""
    groups = grouped(samples)
    baselines = {
        key: _values(group) for key, group in groups.items() if key.scene == BASELINE_SCENE
    }
    baseline_mss = _mss(
        [one for key, group in groups.items() if key.scene == BASELINE_SCENE for one in group]
    )
    cells = []
    for key, group in groups.items():
        values = _values(group)
        own = tuple(one for one in of_cell(verdicts, key) if "latency" not in one.quantity)
        base = _baseline_of(key, baselines)
        ceiling, kind = _ceiling(group, link_rate, base, baseline_mss)
        cells.append(
            BandwidthCell(
                key=key,
                values=values,
                figure=mean(values) if values else None,
                ratio=_ratio(own, values, base, key),
                judged=own,
                outcome=outcome(key, group),
                path=path_tally(group),
                retransmit_ratio=_mean_figure(group, "retransmit_ratio"),
                rtt_seconds=_mean_figure(group, "rtt_mean_seconds"),
                mss_bytes=_mss(group),
                ceiling=ceiling,
                ceiling_kind=kind,
                errors=sum(map(failed, group)),
                samples=tuple(group),
            )
        )
    return tuple(cells)


def _values(group: Sequence[Record]) -> tuple[float, ...]:
    figures = (figure(sample, BANDWIDTH_FIGURE) for sample in group if usable(sample))
    return tuple(value for value in figures if value is not None)


def _mean_figure(group: Sequence[Record], name: str) -> float | None:
    found = [value for one in group if usable(one) and (value := figure(one, name)) is not None]
    return fmean(found) if found else None


def _mss(group: Sequence[Record]) -> int | None:
    found = [int(value) for one in group if (value := figure(one, "mss_bytes"))]
    return min(found) if found else None


def _baseline_of(key: Key, baselines: Mapping[Key, tuple[float, ...]]) -> tuple[float, ...]:
    """All node-node samples of the same placement; pods on one node cross no wire to compare."""
    if key.scene == BASELINE_SCENE or key.placement == "same-node" or key.scene == "same-node":
        return ()
    return tuple(
        value
        for base, values in baselines.items()
        if base.placement in (key.placement, "") or not key.placement
        if base.mode in (key.mode, "")
        for value in values
    )


def _ratio(
    own: Sequence[Judged], values: Sequence[float], base: Sequence[float], key: Key
) -> Estimate | None:
    for verdict in own:
        against_node = verdict.record.get("baseline") == BASELINE_SCENE
        if against_node and "ratio" in verdict.quantity and verdict.estimate is not None:
            return Estimate(verdict.estimate, verdict.low, verdict.high)
    return ratio_of_means(values, base) if key.scene != BASELINE_SCENE else None


def _ceiling(
    group: Sequence[Record], link_rate: float | None, base: Sequence[float], base_mss: int | None
) -> tuple[float | None, str]:
    """The physical limit of a cell: what the link's rate, or else node-node, leaves for payload."""
    mss = _mss(group)
    path = _path(group[0])
    if mss is None or path is None or key_is_local(group[0]):
        return None, ""
    if link_rate:
        return float(goodput_ceiling(link_rate, mss, path)), "link"
    if base and base_mss:
        return fmean(base) * float(ratio_ceiling(mss, path, base_mss)), "headers"
    return None, ""


def key_is_local(sample: Record) -> bool:
    """Whether both ends are on one node, so that no link limits them."""
    return "same-node" in (sample.get("placement"), sample.get("scene"))


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


def link_rate_of(facts: Record | None) -> float | None:
    """The rate of the slowest link between nodes, where the facts name one, in bit/s."""
    if facts is None:
        return None
    rates = [
        rate
        for owner in (mapping(facts.get("cluster")), *objects(facts.get("nodes")))
        if (rate := real(owner.get("link_rate_bits_per_second")))
    ]
    return min(rates) if rates else None


def meshes(samples: Sequence[Record]) -> tuple[Mesh, ...]:
    """One mesh per scene and mode in which three nodes or more measured each other."""
    figures: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = {}
    for sample in samples:
        value = figure(sample, BANDWIDTH_FIGURE)
        client, server = mapping(sample.get("client")), mapping(sample.get("server"))
        ends = words(client.get("node")), words(server.get("node"))
        if not usable(sample) or value is None or not all(ends):
            continue
        scene, mode = words(sample.get("scene")), words(sample.get("mode"))
        figures.setdefault((scene, mode), {}).setdefault(ends, []).append(value)
    found = []
    for (scene, mode), by_ends in figures.items():
        nodes = tuple(sorted({node for ends in by_ends for node in ends}))
        distinct = sum(1 for client, server in by_ends if client != server)
        if len(nodes) >= 3 and distinct >= 6:
            means = {ends: fmean(values) for ends, values in by_ends.items()}
            found.append(Mesh(scene=scene, mode=mode, nodes=nodes, figures=means))
    return tuple(sorted(found, key=lambda mesh: Key(mesh.scene, "", mesh.mode).order))


# -- Change records -> per object: what was done to it, and whether it was put back ---------------
#
# Switch records -> what those changes cost others.


def changed(records: Iterable[Record]) -> tuple[Changed, ...]:
    """One entry per object, in the order of the first change to each."""
    by_object: dict[str, list[Record]] = {}
    for record in records:
        by_object.setdefault(words(record.get("object")), []).append(record)
    return tuple(_changed(name, group) for name, group in by_object.items())


def _changed(name: str, group: Sequence[Record]) -> Changed:
    first = next((one for one in group if one["state"] != "restored"), group[0])
    last = group[-1]
    return Changed(
        object=name,
        what=words(first.get("what")),
        state=last["state"],
        applied=words(first.get("time")) if first["state"] != "restored" else "",
        restored=words(last.get("time")) if last["state"] == "restored" else "",
        seconds=sum(real(one.get("seconds")) or 0.0 for one in group),
        records=tuple(group),
    )


def switched(records: Iterable[Record]) -> tuple[Switched, ...]:
    """One entry per switch that was watched, in order."""
    return tuple(
        Switched(
            what=words(record["what"]),
            requests=whole(record.get("requests")),
            lost=whole(record.get("lost")),
            longest_gap_seconds=real(record.get("longest_gap_seconds")),
            seconds=real(record.get("seconds")),
            error=words(record.get("error")),
        )
        for record in records
    )


def restored(changes: Sequence[Changed], end: Record | None) -> bool | None:
    """Whether everything was put back; None where there was nothing to put back.

    The run's own word at its end counts, unless an object says otherwise.
    """
    said = end.get("restored") if end is not None else None
    if any(one.state != "restored" for one in changes):
        return False
    if isinstance(said, bool):
        return said
    return True if changes else None


# -- Before and now: the figures of a baseline record beside those of this run; facts that differ

#: The quantities that are compared, with their units.
BANDWIDTH = "bandwidth"
QUANTITIES: Mapping[str, str] = {
    BANDWIDTH: "bit/s",
    "median connect time": "s",
    "median starttransfer time": "s",
    "median total time": "s",
}
#: Most values that a baseline record keeps of one figure.
KEPT_VALUES = 200
_ABSENT = "(absent)"
#: Facts of a node that are never the same twice.
_FLEETING = ("load_1_minute", "softnet_dropped")


def figures_of(
    bandwidth: Iterable[BandwidthCell], latency: Iterable[LatencyRow]
) -> dict[tuple[Key, str], tuple[float, ...]]:
    """All values of a run by cell and quantity: what can be compared."""
    found: dict[tuple[Key, str], tuple[float, ...]] = {}
    for cell in bandwidth:
        if cell.values:
            found[cell.key, BANDWIDTH] = cell.values
    for row in latency:
        for name in row.phases:
            medians = [_median(one, name) for one in row.samples if usable(one)]
            values = tuple(value for value in medians if value is not None)
            if values:
                found[row.key, f"median {name} time"] = values
    return found


def _median(sample: Record, phase: str) -> float | None:
    """One value per sample: requests of one sample follow each other and share its disturbances."""
    stated = figure(sample, f"{phase}_median_seconds")
    ordered = sorted(reals(mapping(sample.get("distribution")).get(f"{phase}_seconds")))
    return stated if stated is not None or not ordered else quantile(ordered, 0.5)


def thinned(values: Sequence[float]) -> list[float]:
    """At most ``KEPT_VALUES`` of them, evenly from the sorted whole: records stay small."""
    if len(values) <= KEPT_VALUES:
        return list(values)
    ordered = sorted(values)
    return [quantile(ordered, (index + 0.5) / KEPT_VALUES) for index in range(KEPT_VALUES)]


def compared(
    baseline: Record, bandwidth: Sequence[BandwidthCell], latency: Sequence[LatencyRow]
) -> tuple[Compared, ...]:
    """Each figure that both runs have; a ratio with the interval for two unpaired runs."""
    now = figures_of(bandwidth, latency)
    found = []
    for entry in objects(baseline.get("figures")):
        key = Key(
            words(entry.get("scene")), words(entry.get("placement")), words(entry.get("mode"))
        )
        quantity = words(entry.get("quantity"))
        before, after = reals(entry.get("values")), now.get((key, quantity))
        if not before or not after:
            continue
        found.append(
            Compared(
                key=key,
                quantity=quantity,
                unit=QUANTITIES.get(quantity, words(entry.get("unit"))),
                before=mean(before),
                now=mean(after),
                ratio=ratio_of_means(after, before),
                count_before=len(before),
                count_now=len(after),
            )
        )
    order = list(QUANTITIES)
    return tuple(
        sorted(found, key=lambda one: (order.index(one.quantity), one.key.order))
        if all(one.quantity in order for one in found)
        else found
    )


def differences_between(before: Record, now: Record) -> tuple[Difference, ...]:
    """The facts that are not the same in two facts records."""
    old, new = _facts(before), _facts(now)
    return tuple(
        Difference(fact=name, before=old.get(name, _ABSENT), now=new.get(name, _ABSENT))
        for name in dict.fromkeys([*old, *new])
        if old.get(name, _ABSENT) != new.get(name, _ABSENT)
        # A tunnel comes and goes with the pools that need it.
        and not (": tunnels." in name and (name not in old or name not in new))
    )


def differences_of(record: Record) -> tuple[Difference, ...]:
    """The differences that a baseline record names."""
    return tuple(
        Difference(
            fact=words(entry.get("fact")),
            before=words(entry.get("before")),
            now=words(entry.get("now")),
        )
        for entry in objects(record.get("differences"))
    )


def _facts(record: Record) -> dict[str, str]:
    facts = flat(mapping(record.get("cluster")))
    for node in objects(record.get("nodes")):
        name = words(node.get("name"))
        rest = {key: value for key, value in node.items() if key not in ("name", *_FLEETING)}
        facts |= flat(rest, f"node {name}: ")
    return facts


# -- curl samples -> the rows of the latency table ------------------------------------------------

#: curl's times, as its manual names them, in the order in which they pass.
PHASES = ("connect", "starttransfer", "total")


def latency_rows(
    samples: Sequence[Record], verdicts: Sequence[Judged], outcome: Outcome
) -> tuple[LatencyRow, ...]:
    """All rows in the study's order."""
    rows = []
    for key, group in grouped(samples).items():
        good = [sample for sample in group if usable(sample)]
        rows.append(
            LatencyRow(
                key=key,
                requests=sum(int(figure(one, "requests") or 0) for one in good),
                failed=sum(int(figure(one, "failed") or 0) for one in good),
                phases={name: _phase(good, name) for name in PHASES},
                judged=of_cell(verdicts, key),
                outcome=outcome(key, group),
                errors=sum(map(failed, group)),
                url=next((words(one["url"]) for one in group if one.get("url")), ""),
                samples=tuple(group),
            )
        )
    return tuple(rows)


def _phase(group: Sequence[Record], name: str) -> Phase:
    """One time over all requests: from the requests themselves where the records hold them."""
    values: list[float] = []
    for sample in group:
        values += reals(mapping(sample.get("distribution")).get(f"{name}_seconds"))
    values.sort()
    if values:
        return Phase(
            mean=_weighted(group, f"{name}_mean_seconds"),
            median=quantile(values, 0.5),
            p95=quantile(values, 0.95),
            ordered=tuple(values),
        )
    alone = group[0] if len(group) == 1 else {}
    return Phase(
        mean=_weighted(group, f"{name}_mean_seconds"),
        # Percentiles of several samples cannot be averaged; they are left out, not invented.
        median=figure(alone, f"{name}_median_seconds"),
        p95=figure(alone, f"{name}_p95_seconds"),
    )


def _weighted(group: Sequence[Record], name: str) -> float | None:
    """The mean over all answered requests of several samples."""
    total = weight = 0.0
    for sample in group:
        value = figure(sample, name)
        answered = (figure(sample, "requests") or 0) - (figure(sample, "failed") or 0)
        if value is not None and answered > 0:
            total += value * answered
            weight += answered
    return total / weight if weight else None


# -- Records -> :class:`~pytest_k8snet.report.model.Summary`: all that the report shows. Pure -----


def summarise(records: Sequence[Record]) -> Summary:
    """Summarise one run.

    Args:
        records: its records in the order they were made; may end anywhere (a killed run).
    """
    kinds: dict[str, list[Record]] = {}
    for record in records:
        kinds.setdefault(record["kind"], []).append(record)
    samples = with_discards(kinds.get("sample", []), kinds.get("verdict", []))
    verdicts = judged(kinds.get("verdict", []), {sample["id"]: sample for sample in samples})
    tests = _tests(kinds.get("test", []))
    end = _last(kinds.get("end"))
    changes = changed(kinds.get("change", []))
    back = restored(changes, end)
    by_name = {test.name: test for test in tests}
    outcome = partial(outcome_of, tests=by_name, alone=_scenes_by_test(samples))
    facts = [one for one in kinds.get("facts", []) if one["phase"] == "before"]
    after = [one for one in kinds.get("facts", []) if one["phase"] == "after"]
    now = _last(facts) or _last(after)
    iperf3 = [sample for sample in samples if sample["tool"] == "iperf3"]
    bandwidth = bandwidth_cells(iperf3, verdicts, outcome, link_rate_of(now))
    latency = latency_rows(
        [sample for sample in samples if sample["tool"] == "curl"], verdicts, outcome
    )
    baseline = _last(kinds.get("baseline"))
    begun, ended = _span(records)
    return Summary(
        run=_last(kinds.get("run")) or {},
        outcome=_outcome(tests, end, back),
        counts=Counter(test.outcome for test in tests),
        tests=tests,
        judged=verdicts,
        bandwidth=bandwidth,
        latency=latency,
        meshes=meshes(iperf3),
        changes=changes,
        switches=switched(kinds.get("switch", [])),
        restored=back,
        facts=now,
        drift=differences_between(facts[-1], after[-1]) if facts and after else (),
        baseline=baseline,
        compared=compared(baseline, bandwidth, latency) if baseline else (),
        tools=Counter(sample["tool"] for sample in samples if usable(sample)),
        discarded=sum(1 for sample in samples if sample.get("discarded")),
        path=path_tally(samples),
        begun=begun,
        ended=ended if end is not None else "",
        seconds=(real(end.get("seconds")) if end is not None else None) or _between(begun, ended),
        samples=tuple(samples),
    )


def _last(records: Sequence[Record] | None) -> Record | None:
    return records[-1] if records else None


def _tests(records: Iterable[Record]) -> tuple[Tested, ...]:
    """One entry per test: the first of its worst outcomes, and all its time."""
    found: dict[str, Tested] = {}
    for record in records:
        name = words(record["test"])
        seen = found.get(name)
        seconds = (real(record.get("seconds")) or 0.0) + (seen.seconds if seen else 0.0)
        worse = seen is None or OUTCOMES.index(record["outcome"]) < OUTCOMES.index(seen.outcome)
        if worse or seen is None:
            found[name] = Tested(
                name=name,
                outcome=record["outcome"],
                phase=words(record.get("phase")),
                seconds=seconds,
                reason=words(record.get("reason")),
            )
        else:
            found[name] = Tested(
                name=name,
                outcome=seen.outcome,
                phase=seen.phase,
                seconds=seconds,
                reason=seen.reason,
            )
    return tuple(found.values())


def _scenes_by_test(samples: Iterable[Record]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for sample in samples:
        scenes = found.setdefault(words(sample.get("test")), [])
        if sample["scene"] not in scenes:
            scenes.append(sample["scene"])
    return found


def _outcome(tests: Sequence[Tested], end: Record | None, back: bool | None) -> str:
    outcomes = {test.outcome for test in tests}
    if outcomes & {"failed", "error"} or (end is not None and back is False):
        return "failed"
    if end is None:
        return "cut"
    if "inconclusive" in outcomes:
        return "inconclusive"
    if "passed" in outcomes:
        # Anything else that pytest counts as a failure (a collection error, a hook) is one here.
        return "passed" if end["exit_status"] in (0, None) else "failed"
    return "empty"


def _span(records: Sequence[Record]) -> tuple[str, str]:
    times = [words(record.get("time")) for record in records]
    return (times[0], times[-1]) if times else ("", "")


def _between(begun: str, ended: str) -> float | None:
    try:
        return (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()
    except (ValueError, TypeError):
        return None

"""Records -> :class:`~pytest_k8snet.report.model.Summary`: all that the report shows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial

from pytest_k8snet.report.cells import bandwidth_cells, link_rate_of, meshes
from pytest_k8snet.report.changes import changed, restored, switched
from pytest_k8snet.report.compare import compared, differences_between
from pytest_k8snet.report.fields import path_tally, real, usable, words
from pytest_k8snet.report.judged import judged, outcome_of, with_discards
from pytest_k8snet.report.latency import latency_rows
from pytest_k8snet.report.model import Summary, Tested
from pytest_k8snet.report.record import OUTCOMES, Record


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

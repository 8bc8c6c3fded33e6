"""Verdict records -> what the tables show of them. Judges nothing: states come as recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from pytest_k8snet.report.fields import key_of, objects, path_tally, real, words
from pytest_k8snet.report.model import STATES, Judged, Key, State, Tested
from pytest_k8snet.report.record import Record

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

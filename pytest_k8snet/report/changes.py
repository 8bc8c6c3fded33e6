"""Change records -> per object: what was done to it, and whether it was put back.

Switch records -> what those changes cost others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_k8snet.report.fields import real, whole, words
from pytest_k8snet.report.model import Changed, Switched
from pytest_k8snet.report.record import Record


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

"""Records: the one wire between measuring and reporting. Plain, JSON-safe dicts.

Documented in ``docs/results.md`` and ``docs/results.schema.json``. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pytest_k8snet.errors import ResultsError

#: Version of the record format. A change that an older reader would misread raises it.
SCHEMA = 1

Record = dict[str, Any]

#: What every record of a kind must have, beside schema, kind, run and time.
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "run": ("tool_version",),
    "facts": ("phase", "cluster", "nodes"),
    "change": ("what", "object", "state"),
    "switch": ("what", "requests", "lost", "longest_gap_seconds"),
    "sample": ("id", "tool", "scene"),
    "verdict": ("claim", "state"),
    "test": ("test", "outcome"),
    "baseline": ("source", "figures", "differences"),
    "end": ("exit_status",),
}
KINDS = tuple(REQUIRED)

VERDICT_STATES = ("fail", "inconclusive", "pass", "monitor")
OUTCOMES = ("error", "failed", "inconclusive", "passed", "skipped")
CHANGE_STATES = ("applied", "restored", "failed")

#: Where a field may hold only some words.
_WORDS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("facts", "phase"): ("before", "after"),
    ("change", "state"): CHANGE_STATES,
    ("sample", "tool"): ("iperf3", "curl"),
    ("verdict", "state"): VERDICT_STATES,
    ("test", "outcome"): OUTCOMES,
}
#: Fields that hold an object, a list or a text where they are present and not null.
_SHAPES: Mapping[str, tuple[tuple[str, type], ...]] = {
    "run": (("command_line", list), ("settings", dict)),
    "facts": (("cluster", dict), ("nodes", list)),
    "change": (("what", str), ("object", str)),
    "switch": (("what", str), ("mode", str)),
    "sample": (
        ("id", str),
        ("scene", str),
        ("client", dict),
        ("server", dict),
        ("figures", dict),
        ("series", dict),
        ("distribution", dict),
        ("path", dict),
        ("command", list),
    ),
    "verdict": (("claim", str), ("samples", list), ("discarded", list), ("text", str)),
    "test": (("test", str),),
    "baseline": (("figures", list), ("differences", list)),
    "end": (("counts", dict),),
}


def now() -> str:
    """The time of a record: UTC, RFC 3339, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def complete(content: Mapping[str, Any], *, run: str, time: str) -> Record:
    """A whole record from its content: schema, kind, run and time come first.

    Raises:
        ResultsError: it is no record, or holds what JSON cannot.
    """
    record = {
        "schema": SCHEMA,
        "kind": content.get("kind"),
        "run": run,
        "time": time,
        **_plain(content, "record"),
    }
    check(record)
    return record


def check(record: object) -> Record:
    """Insist that something is a record of this schema.

    Raises:
        ResultsError: it is not; ``found`` says why.
    """
    fault = _fault(record)
    if fault:
        raise ResultsError(
            "not a record of a results file",
            found=fault,
            remedy="docs/results.md describes every kind of record and its fields",
        )
    assert isinstance(record, dict)
    return record


def _fault(record: object) -> str:
    if not isinstance(record, dict):
        return f"{type(record).__name__} instead of an object"
    schema = record.get("schema")
    if schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        hint = "; a newer pytest-k8snet wrote it" if newer else ""
        return f"schema {schema!r}, this version reads {SCHEMA}{hint}"
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in REQUIRED:
        return f"kind {kind!r} is none of {', '.join(KINDS)}"
    for name in ("run", "time", *REQUIRED[kind]):
        if name not in record:
            return f"a {kind} record without {name!r}"
    return _wrong_word(record, kind) or _wrong_shape(record, kind)


def _wrong_word(record: Record, kind: str) -> str:
    for (of_kind, name), words in _WORDS.items():
        if of_kind == kind and record[name] not in words:
            return f"{kind}: {name} {record[name]!r} is none of {', '.join(words)}"
    return ""


def _wrong_shape(record: Record, kind: str) -> str:
    for name, shape in (("run", str), ("time", str), *_SHAPES[kind]):
        value = record.get(name)
        if value is not None and not isinstance(value, shape):
            return f"{kind}: {name} is {type(value).__name__} instead of {shape.__name__}"
    return ""


def _plain(value: Any, where: str) -> Any:
    """A value as JSON keeps it: units become numbers, tuples lists, infinity and NaN null."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise ResultsError(
        "a record holds what JSON cannot",
        found=f"{where} is {type(value).__name__}: {value!r}",
        remedy="records are made of text, numbers, lists and objects only",
    )

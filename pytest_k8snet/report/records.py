"""Records, the one wire between measuring and reporting: plain dicts, written as JSON Lines.

Documented in ``docs/results.md`` and ``docs/results.schema.json``.
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
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
        ("tool", str),
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
    """Return the time of a record: UTC, RFC 3339, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def complete(content: Mapping[str, Any], *, run: str, time: str) -> Record:
    """Return a whole record from its content: schema, kind, run and time come first.

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
    """Return a value as JSON keeps it: units are numbers, tuples lists, infinity and NaN null."""
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


# -- Fields of a record, whatever somebody wrote into the file -------------------------------------


def real(value: object) -> float | None:
    """Return a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def whole(value: object) -> int | None:
    """Return a whole number, or None."""
    number = real(value)
    return int(number) if number is not None and number.is_integer() else None


def reals(value: object) -> list[float]:
    """Return the finite numbers of a list."""
    if not isinstance(value, list):
        return []
    return [number for item in value if (number := real(item)) is not None]


def numbers(value: object) -> Iterator[tuple[str, float]]:
    """Return the entries of an object that are finite numbers."""
    return ((name, item) for name, item in mapping(value).items() if real(item) is not None)


def mapping(value: object) -> Mapping[str, Any]:
    """Return an object, or an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[Mapping[str, Any]]:
    """Return the objects of a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def words(value: object) -> str:
    """Return a text; null is empty, anything else is its ``str``."""
    return value if isinstance(value, str) else "" if value is None else str(value)


def figure(sample: Record, name: str) -> float | None:
    """Return one figure of a sample."""
    return real(mapping(sample.get("figures")).get(name))


def usable(sample: Record) -> bool:
    """Return whether a sample is a figure: no error, no warm-up, not discarded by a gate."""
    return not (sample.get("error") or sample.get("warmup") or sample.get("discarded"))


# -- The results file: JSON Lines, only ever appended to, one record a line -----------------------
#
# Every line reaches the disk before the run goes on, so that a crash loses nothing measured.
# Several runs may follow each other in one file; the newest is the one that is drawn and judged.


_REMEDY = "give a file that --k8snet-results wrote, or a name that does not exist yet"


class ResultsWriter:
    """Appends records to a results file.

    Args:
        path: the file; made if it does not exist.

    Raises:
        ResultsError: the file cannot be written, or is something else than a results file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as exc:
            raise cannot("written", path, exc) from None
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size == 0:
            return
        with self.path.open("rb") as file:
            first = file.readline()
            file.seek(-1, os.SEEK_END)
            ended = file.read(1) == b"\n"
        try:
            check(_parse(first))
        except (ValueError, ResultsError) as exc:
            raise ResultsError(
                f"{self.path} exists and is no results file",
                found=f"line 1: {getattr(exc, 'found', '') or exc}",
                remedy=_REMEDY,
            ) from None
        if not ended:
            # A crash cut the last line of an earlier run: ours must not continue it.
            self._write(b"\n")

    def write(self, record: Record) -> None:
        """Append one record and wait until the disk has it.

        Raises:
            ResultsError: the disk refuses it.
        """
        line = json.dumps(record, separators=(",", ":"), allow_nan=False)
        self._write(line.encode("ascii") + b"\n")

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as exc:
            # A pipe or terminal has no disk to wait for.
            if exc.errno != errno.EINVAL:
                raise cannot("written", self.path, exc) from None

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a results file holds.

    Attributes:
        records: the records of the newest run in the file, in the order they were written.
        runs: the ids of all runs in the file, oldest first.
        cut_line: the number of the line at which the newest run was cut off in the middle of
            writing; None where every line is whole.
    """

    path: Path
    records: list[Record]
    runs: tuple[str, ...]
    cut_line: int | None = None

    @property
    def which(self) -> str:
        """Return which run of the file this is: ``run k8snet-3fa9c1 of 2026-11-23T01:02:03Z``."""
        others = f", the newest of {len(self.runs)} in {self.path}" if len(self.runs) > 1 else ""
        return f"run {self.runs[-1]} of {self.records[0]['time']}{others}"

    @property
    def note(self) -> str:
        """Return what the reader should know of the file; empty where it is whole."""
        if self.cut_line is None:
            return ""
        return (
            f"line {self.cut_line} of {self.path} was cut off in the middle of writing: "
            "the run died there; all lines before it are whole"
        )


def read(path: Path) -> Results:
    """Read the newest run of a results file.

    A last line that was cut off by a crash is reported (``cut_line``), not an error.

    Raises:
        ResultsError: the file cannot be read or is damaged; names the line.
    """
    return read_runs(path)[-1]


def read_runs(path: Path) -> list[Results]:
    """Read every run of a results file, oldest first.

    Raises:
        ResultsError: the file cannot be read or is damaged; names the line.
    """
    runs: list[list[Record]] = []
    cuts: list[int | None] = []
    cut: tuple[int, str] | None = None
    try:
        with path.open("rb") as file:
            for number, line in _lines(file):
                try:
                    record = check(_parse(line))
                except ValueError as exc:
                    if cut is not None:
                        raise _damaged(path, *cut) from None
                    cut = number, f"not JSON: {exc}"
                    continue
                except ResultsError as exc:
                    raise _damaged(path, number, exc.found) from None
                if not runs or record["run"] != runs[-1][0]["run"]:
                    if record["kind"] != "run":
                        raise _damaged(path, number, "a run does not begin with its 'run' record")
                    cuts += [cut[0] if cut is not None else None] if runs else []
                    runs.append([])
                    cut = None
                elif cut is not None:
                    raise _damaged(path, *cut)
                runs[-1].append(record)
    except OSError as exc:
        raise cannot("read", path, exc) from None
    if not runs:
        raise ResultsError(
            f"{path} holds no results", found=cut[1] if cut else "no line at all", remedy=_REMEDY
        )
    cuts.append(cut[0] if cut is not None else None)
    names = tuple(records[0]["run"] for records in runs)
    return [
        Results(path=path, records=records, runs=names[: index + 1], cut_line=cuts[index])
        for index, records in enumerate(runs)
    ]


def _lines(file: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, line


def _parse(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _damaged(path: Path, number: int, found: str) -> ResultsError:
    before = f"; the lines before it stand alone: head -n {number - 1} {path} > whole.jsonl"
    return ResultsError(
        f"{path} is damaged at line {number}",
        found=found,
        remedy="take an undamaged copy" + (before if number > 1 else ""),
    )


def cannot(verb: str, path: Path, exc: OSError) -> ResultsError:
    """Return the error of a file that cannot be ``read`` or ``written``."""
    return ResultsError(
        f"{path} cannot be {verb}", found=exc.strerror or str(exc), remedy="check path and rights"
    )

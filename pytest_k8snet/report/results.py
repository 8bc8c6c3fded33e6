"""The results file: JSON Lines, only ever appended to, one record a line.

Every line reaches the disk before the run goes on, so that a crash loses nothing measured. Several
runs may follow each other in one file; the newest is the one that is drawn and judged.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_k8snet.errors import ResultsError
from pytest_k8snet.report.record import Record, check

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
            raise _cannot("written", path, exc) from None
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
                raise _cannot("written", self.path, exc) from None

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
    def note(self) -> str:
        """What the reader should know of the file; empty where it is whole."""
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
    records: list[Record] = []
    runs: list[str] = []
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
                if not runs or record["run"] != runs[-1]:
                    if record["kind"] != "run":
                        raise _damaged(path, number, "a run does not begin with its 'run' record")
                    runs.append(record["run"])
                    records.clear()
                    cut = None
                elif cut is not None:
                    raise _damaged(path, *cut)
                records.append(record)
    except OSError as exc:
        raise _cannot("read", path, exc) from None
    if not records:
        raise ResultsError(
            f"{path} holds no results", found=cut[1] if cut else "no line at all", remedy=_REMEDY
        )
    return Results(
        path=path, records=records, runs=tuple(runs), cut_line=cut[0] if cut is not None else None
    )


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


def _cannot(verb: str, path: Path, exc: OSError) -> ResultsError:
    return ResultsError(
        f"{path} cannot be {verb}", found=exc.strerror or str(exc), remedy="check path and rights"
    )

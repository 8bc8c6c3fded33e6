"""The observer of a run: keeps its records, writes them as it goes, and shows what is measured.

One live line stands in the terminal while something is measured: what, sample k of n, seconds left.
It is drawn only on a terminal, not in quiet runs, and not in a worker process. The line is written
straight to the terminal, past pytest's capturing, by a thread that wakes once a second: the
measurement itself runs elsewhere and is not disturbed by it.
"""

from __future__ import annotations

import getpass
import itertools
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pytest

from pytest_k8snet.report.format import clipped, counted, duration, visible_line
from pytest_k8snet.report.records import Record, ResultsWriter, complete, now
from pytest_k8snet.report.redaction import Redactor

_TICK_SECONDS = 1.0
#: Taken for the width of a terminal that does not know its own.
_COLUMNS = 80


class Progress:
    """The live line. Every method does nothing where there is no terminal to draw on.

    Args:
        config: pytest's; decides whether the line is drawn.
        stream: where to draw instead of this process's standard output.
    """

    def __init__(self, config: pytest.Config, stream: IO[str] | None = None) -> None:
        self._config = config
        self._text = ""
        self._note = ""
        self._ends = 0.0
        self._drawn = 0
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._finished_tests = 0
        self._suite = ""
        self._stream = stream if stream is not None else _terminal(config)

    def start(self, text: str, seconds: float) -> None:
        """Show that something begins which takes about so many seconds."""
        if self._stream is None:
            return
        self.finish()
        # As everywhere here: a terminal that went away must not end a measurement.
        with suppress(OSError):
            self._begin_line()
        self._text, self._ends = visible_line(text), time.monotonic() + seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._tick, args=(self._stop,), name="k8snet-progress", daemon=True
        )
        self._draw()
        self._thread.start()

    def update(self, note: str = "") -> None:
        """Say how far it is, e.g. the current interval and the limit, until the next update."""
        self._note = visible_line(note)
        if self._thread is not None:
            self._draw()

    def test_finished(self, collected: int) -> None:
        """Say how long the other tests may take, after one more has ended.

        Args:
            collected: how many tests the run has.
        """
        self._finished_tests += 1
        left = max(0, collected - self._finished_tests)
        each = (time.monotonic() - self._begun) / self._finished_tests
        self._suite = f"{counted(left, 'test')} left, about {duration(left * each)}" if left else ""

    def finish(self) -> None:
        """Wipe the line: it has ended."""
        if self._thread is None or self._stop is None:
            return
        self._stop.set()
        self._thread.join()
        self._thread = self._stop = None
        with self._lock:
            self._write("\r" + " " * self._drawn + "\r")
            self._drawn = 0

    def close(self) -> None:
        """Wipe the line and give the terminal back."""
        self.finish()
        self._note = ""
        if self._stream is not None:
            with suppress(OSError):
                self._stream.close()
            self._stream = None

    def _tick(self, stop: threading.Event) -> None:
        while not stop.wait(_TICK_SECONDS):
            self._draw()

    def _draw(self) -> None:
        with self._lock:
            left = max(0.0, self._ends - time.monotonic())
            now = f"{round(left)} s left" if left >= 0.5 else "..."
            parts = [self._text, now, self._note, self._suite]
            line = "  " + " · ".join(part for part in parts if part)
            line = clipped(line, self._columns() - 1)
            # Spaces wipe what was longer before; escape sequences would be colour to some.
            self._write("\r" + line + " " * max(0, self._drawn - len(line)))
            self._drawn = len(line)

    def _columns(self) -> int:
        try:
            # Not shutil's: while pytest captures, this process's own output is no terminal.
            found = os.get_terminal_size(self._stream.fileno() if self._stream else 1).columns
        except (OSError, ValueError):
            found = 0
        return found or _COLUMNS

    def _write(self, text: str) -> None:
        if self._stream is not None:
            # A terminal that went away must not end a measurement.
            with suppress(OSError, ValueError):
                self._stream.write(text)
                self._stream.flush()

    def _begin_line(self) -> None:
        """Leave the line on which pytest counts its dots."""
        manager = self._config.pluginmanager
        reporter, capture = (
            manager.get_plugin("terminalreporter"),
            manager.get_plugin("capturemanager"),
        )
        if reporter is None:
            return
        if capture is None:
            reporter.ensure_newline()
            return
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()


def _terminal(config: pytest.Config) -> IO[str] | None:
    """Return this process's terminal, if the line is wanted there."""
    if hasattr(config, "workerinput") or config.get_verbosity() < 0:
        return None
    if os.environ.get("TERM") == "dumb" or os.environ.get("CI"):
        return None
    capture = config.pluginmanager.get_plugin("capturemanager")
    if capture is None:
        return _duplicate()
    with capture.global_and_fixture_disabled():
        return _duplicate()


def _duplicate() -> IO[str] | None:
    try:
        if not sys.stdout.isatty():
            return None
        return os.fdopen(
            os.dup(sys.stdout.fileno()), "w", encoding=sys.stdout.encoding, errors="replace"
        )
    except (OSError, ValueError, AttributeError):
        return None


# -- The records ----------------------------------------------------------------------------------


class Recorder:
    """The records of one run, in the order they are made; an observer of what measures.

    Args:
        results_path: the results file; None to keep the records in memory only.
        run_id: the run, ``k8snet-xxxxxx``.
        progress: the live line; None for none.
        summary_path: where the Markdown summary goes; None for none.
        report_path: where the report goes; None for none.
        redactor: keeps secrets, and what else is to stay in the house, out of every record.

    Raises:
        ResultsError: the results file cannot be written.
    """

    def __init__(
        self,
        results_path: Path | None,
        run_id: str,
        *,
        redactor: Redactor | None = None,
        progress: Progress | None = None,
        summary_path: Path | None = None,
        report_path: Path | None = None,
    ) -> None:
        self.run_id = run_id
        self.records: list[Record] = []
        self.progress = progress
        self.summary_path = summary_path
        self.redactor = redactor or Redactor()
        self.report_path = report_path
        self._writer = ResultsWriter(results_path) if results_path is not None else None
        self._ids = itertools.count(1)
        self._taken = 0

    def add(self, record: Mapping[str, Any]) -> Record:
        """Keep one record and write it to the results file.

        Args:
            record: its kind and content; schema, run, time, and for samples and verdicts the test
                and the id, are added where they are missing.

        Returns:
            The whole record, as it was written.

        Raises:
            ResultsError: it is no record, or the file cannot be written.
        """
        content = dict(record)
        if content.get("kind") in ("sample", "verdict"):
            content.setdefault("test", current_test())
        if content.get("kind") == "sample" and "id" not in content:
            content["id"] = f"s{next(self._ids):04d}"
        whole = complete(self.redactor.record(content), run=self.run_id, time=now())
        self.records.append(whole)
        if self._writer is not None:
            self._writer.write(whole)
        if whole["kind"] == "verdict" and self.progress is not None:
            self.progress.update()
        return whole

    def record(self, kind: str, **content: Any) -> Record:
        """Build a record of this kind and add it (the observer's interface)."""
        return self.add({"kind": kind, **content})

    def describe(self, **content: Any) -> None:
        """Record what the run is, with what was known before; the newest such record counts."""
        known = next((one for one in reversed(self.records) if one["kind"] == "run"), {})
        self.add({**known, "kind": "run", "time": now(), **content})

    def started(self, text: str, seconds: float) -> None:
        """Show that something begins which takes about this long."""
        if self.progress is not None:
            self.progress.start(self.redactor.text(text), seconds)

    def finished(self) -> None:
        """Show that it has ended, whatever the outcome."""
        if self.progress is not None:
            self.progress.finish()

    def noted(self, progress: object) -> None:
        """Show that a gate took another round; its ``str`` says how far it is."""
        if self.progress is not None:
            self.progress.update(self.redactor.text(str(progress)))

    def hide(self, kind: str, *names: str) -> None:
        """Keep these names out of what is written, where that was asked for."""
        self.redactor.learn(kind, *names)

    def take(self) -> list[Record]:
        """Return the records made since the last call."""
        start, self._taken = self._taken, len(self.records)
        return self.records[start:]

    def close(self) -> None:
        """Close the results file and the live line; safe to call twice."""
        if self.progress is not None:
            self.progress.close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def origin(config: pytest.Config) -> dict[str, Any]:
    """Return what a run record says of who ran what."""
    return {
        "command_line": [os.fspath(argument) for argument in config.invocation_params.args],
        "user": _user(),
        "host": socket.gethostname(),
    }


def new_run_id() -> str:
    """Return a new run's id; also the label of everything that it makes in the cluster."""
    return f"k8snet-{secrets.token_hex(3)}"


def current_test() -> str:
    """Return the test that runs now, as pytest tells every process by this variable."""
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())

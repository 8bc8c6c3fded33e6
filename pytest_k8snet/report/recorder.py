"""Collects the records of a run, completes them, and writes them to the results file as it goes."""

from __future__ import annotations

import getpass
import itertools
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import pytest_k8snet
from pytest_k8snet.report.progress import Progress
from pytest_k8snet.report.records import Record, ResultsWriter, complete, now
from pytest_k8snet.report.redaction import Redactor


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


def begin(
    config: pytest.Config,
    *,
    results: Path | None = None,
    summary: Path | None = None,
    report: Path | None = None,
) -> Recorder:
    """Return a recorder for this pytest run, with its first "run" record made.

    It says no more than that there is a run: what is to stay in the house is not known yet.

    Args:
        config: pytest's.
        results: the results file; None to keep the records in memory only.
        summary: where the Markdown summary goes; None for none.
        report: where the report goes; None for none.

    Raises:
        ResultsError: the results file cannot be written.
    """
    recorder = Recorder(
        results,
        new_run_id(),
        progress=Progress(config),
        summary_path=summary,
        report_path=report,
    )
    recorder.describe(tool_version=pytest_k8snet.__version__)
    return recorder


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

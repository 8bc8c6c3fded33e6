"""What the records tell of one test: its "test" record, JUnit properties, pytest-html's extras."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pytest_k8snet.report.extras import RawShare, extra_of
from pytest_k8snet.report.fields import mapping, real
from pytest_k8snet.report.record import Record
from pytest_k8snet.report.recorder import Recorder

#: Longest reason that a "test" record keeps, in characters.
_REASON_LIMIT = 20_000
#: pytest puts the exception's class before its text; the outcome says it already.
_CLASS_PREFIX = re.compile(r"\A(?:[\w.]+\.)?(?:AssertionError|Inconclusive|inconclusive): ")
_RAW_SHARE: pytest.StashKey[RawShare] = pytest.StashKey()


def attach(recorder: Recorder, item: pytest.Item, report: pytest.TestReport, outcome: str) -> None:
    """Record one phase of a test, and attach its figures to pytest's report of it.

    Everything attached is plain text, numbers, lists and dicts, so that it crosses processes.

    Args:
        recorder: the run's.
        item: the test.
        report: pytest's report of the phase.
        outcome: what became of it, in our words.
    """
    # Not at the tear-down: the last test's one ends the whole run, with no test left.
    measured = report.when == "call" or (report.when == "setup" and not report.passed)
    if measured and recorder.progress is not None:
        recorder.progress.test_finished(item.session.testscollected)
    if report.when != "call" and outcome == "passed":
        return
    recorder.add(
        {
            "kind": "test",
            "test": item.nodeid,
            "outcome": outcome if outcome in ("error", "inconclusive") else report.outcome,
            "phase": report.when,
            "seconds": report.duration,
            "reason": reason_of(report),
        }
    )
    taken = recorder.take()
    # On the item: JUnit reads the properties of the tear-down's report, which copies them.
    item.user_properties.extend(properties(taken))
    if item.config.pluginmanager.hasplugin("html"):
        share = item.config.stash.setdefault(_RAW_SHARE, RawShare())
        content = extra_of(taken, share)
        if content:
            extra = {
                "name": "figures",
                "format_type": "html",
                "content": content,
                "mime_type": None,
                "extension": None,
            }
            report.extras = [*getattr(report, "extras", []), extra]  # type: ignore[attr-defined]


def reason_of(report: pytest.TestReport) -> str:
    """Why a phase did not pass, in as few words as pytest has."""
    if report.passed:
        return ""
    longrepr: Any = report.longrepr
    if isinstance(longrepr, tuple):
        return str(longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(longrepr, "reprcrash", None)
    text = crash.message if crash is not None else report.longreprtext
    return _CLASS_PREFIX.sub("", str(text))[:_REASON_LIMIT]


def properties(records: list[Record]) -> list[tuple[str, object]]:
    """JUnit properties: every figure and verdict of a test, flat."""
    found: list[tuple[str, object]] = []
    for record in records:
        if record["kind"] == "sample":
            start = f"k8snet.{record['id']}.{record['scene']}"
            if record.get("mode"):
                start += f".{record['mode']}"
            for name, value in mapping(record.get("figures")).items():
                number = real(value)
                if number is not None:
                    found.append((f"{start}.{name}", number))
        elif record["kind"] == "verdict":
            found.append((f"k8snet.verdict.{record['claim']}", record["state"]))
    return found

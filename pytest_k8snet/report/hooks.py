"""What pytest gets of a run: "test" records, JUnit properties, rows of pytest-html, the summary."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import pytest

from pytest_k8snet import __version__
from pytest_k8snet.report.documents import (
    RawBudget,
    markdown,
    overview,
    render_fragment,
    render_page,
    render_test,
)
from pytest_k8snet.report.format import NAME_LIMIT, visible_line
from pytest_k8snet.report.model import flat, key_of
from pytest_k8snet.report.promises import promises
from pytest_k8snet.report.recorder import Progress, Recorder, new_run_id
from pytest_k8snet.report.records import Record, cannot, mapping, numbers, words
from pytest_k8snet.report.summary import counting_samples, summarise
from pytest_k8snet.units import Comparison

#: Longest reason that a "test" record keeps, in characters.
_REASON_LIMIT = 20_000
#: pytest puts the exception's class before its text; the outcome says it already.
_CLASS_PREFIX = re.compile(r"\A(?:[\w.]+\.)?(?:AssertionError|Inconclusive|inconclusive): ")
#: All raw outputs in pytest-html's rows together, in characters, and how many samples share it.
#: The page holds its rows a second time, escaped, so this is less than in the static part.
_RAW_TOTAL, _RAW_SAMPLES = 300_000, 40
_RAW_BUDGET: pytest.StashKey[RawBudget] = pytest.StashKey()
_HTML_HOOKS = "k8snet-html"


def attach(
    recorder: Recorder,
    item: pytest.Item,
    report: pytest.TestReport,
    outcome: str,
    compared: Sequence[Comparison] = (),
    *,
    is_subtest: bool = False,
) -> None:
    """Record one phase of a test, and attach its figures to pytest's report of it.

    Everything attached is plain text, numbers, lists and dicts, so that it crosses processes.

    Args:
        recorder: the run's.
        item: the test.
        report: pytest's report of the phase.
        outcome: what became of it, in our words.
        compared: the comparisons of figures in the test.
        is_subtest: whether the report is of a part of the test, which goes on.
    """
    report.longrepr = recorder.redactor.in_place(report.longrepr)
    report.sections = recorder.redactor.in_place(report.sections)
    # Not at the tear-down: the last test's one ends the whole run, with no test left.
    measured = report.when == "call" or (report.when == "setup" and not report.passed)
    if measured and not is_subtest and recorder.progress is not None:
        recorder.progress.test_finished(item.session.testscollected)
    if report.when != "call" and outcome == "passed":
        return
    taken = recorder.take()
    mode = _mode(item)
    # What a switch cost is measured once, and asked by every test in the mode.
    known = [*(one for one in recorder.records if one["kind"] == "switch"), *taken]
    promised = promises(compared, known, passed=outcome == "passed", mode=mode)
    record_phase(recorder, report, outcome, is_subtest=is_subtest, mode=mode, promises=promised)
    # On the item: JUnit reads the properties of the tear-down's report, which copies them.
    item.user_properties.extend(properties(taken))
    if item.config.pluginmanager.hasplugin("html"):
        empty = RawBudget(_RAW_SAMPLES, _RAW_TOTAL)
        content = render_test(taken, item.config.stash.setdefault(_RAW_BUDGET, empty))
        if content:
            extra = {
                "name": "figures",
                "format_type": "html",
                "content": content,
                "mime_type": None,
                "extension": None,
            }
            report.extras = [*getattr(report, "extras", []), extra]  # type: ignore[attr-defined]


def record_phase(
    recorder: Recorder,
    report: pytest.TestReport,
    outcome: str,
    *,
    is_subtest: bool = False,
    **content: object,
) -> None:
    """Record what became of one phase of a test; empty content is left out."""
    why = _expected_failure(report)
    recorder.record(
        "test",
        test=report.nodeid,
        outcome=outcome if outcome in ("error", "inconclusive") else report.outcome,
        # Not an attempt of its own. That of a worker has the context of pytest's SubtestReport.
        phase="subtest" if is_subtest or hasattr(report, "context") else report.when,
        seconds=report.duration,
        reason=reason_of(report),
        **({} if why is None else {"xfail": why}),
        **{name: value for name, value in content.items() if value},
    )


def _expected_failure(report: pytest.TestReport) -> str | None:
    """Return why a test was expected to fail that did; None for all others."""
    why = getattr(report, "wasxfail", None)
    if why is None or not report.skipped or "[NOTRUN]" in why:
        return None
    return str(why).removeprefix("reason: ")


def _mode(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("calico_mode", "")) if callspec is not None else ""


def record_collection_error(recorder: Recorder, report: pytest.CollectReport) -> None:
    """Record that a file could not be collected: none of its tests ran."""
    marked = [line[1:].strip() for line in report.longreprtext.splitlines() if line[:2] == "E "]
    recorder.record(
        "test",
        test=report.nodeid or ".",
        outcome="error",
        phase="collect",
        seconds=0.0,
        reason="\n".join(marked)[:_REASON_LIMIT] or reason_of(report),
    )


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return why a phase did not pass, in as few words as pytest has."""
    if report.passed:
        return ""
    longrepr: Any = report.longrepr
    if isinstance(longrepr, tuple):
        return str(longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(longrepr, "reprcrash", None)
    text = crash.message if crash is not None else report.longreprtext
    return _CLASS_PREFIX.sub("", str(text))[:_REASON_LIMIT]


def properties(records: Sequence[Record]) -> list[tuple[str, object]]:
    """Return JUnit properties: every figure and verdict of a test, flat.

    Names hold what lasts from run to run (tool, scene, mode, variant, nodes), so that trends of
    them go on; of repeated samples it is the mean.
    """
    verdicts = [record for record in records if record["kind"] == "verdict"]
    values: dict[str, list[float]] = {}
    for sample in counting_samples(records):
        key = key_of(sample)
        ends = (mapping(sample.get("client")), mapping(sample.get("server")))
        nodes = " -> ".join(words(end["node"]) for end in ends if end.get("node"))
        placement = key.placement if key.placement != key.scene else ""
        parts = ("k8snet", key.tool, key.scene, placement, key.mode, key.variant, nodes)
        for name, number in numbers(sample.get("figures")):
            values.setdefault(".".join(filter(None, (*parts, name))), []).append(number)
    found: list[tuple[str, object]] = [(name, fmean(each)) for name, each in values.items()]
    for verdict in verdicts:
        where = f" ({verdict['context']})" if verdict.get("context") else ""
        found.append((f"k8snet.verdict.{verdict['claim']}{where}", verdict["state"]))
    return found


# -- The files of a run: from its first moment on they are of this run, and of no earlier one ------


def begin(config: pytest.Config, outputs: Mapping[str, Path | None] | None = None) -> Recorder:
    """Return the recorder of a run; until that ends, its files say that it has not.

    They say no more: what is to stay in the house is not known yet.

    Args:
        config: pytest's, before conftests are loaded: they may fail.
        outputs: the ``results``, ``summary`` and ``report`` asked for.

    Raises:
        ResultsError: a file cannot be written.
    """
    # A folder that is not there is refused with all other settings.
    wanted = {name: path for name, path in (outputs or {}).items() if path and path.parent.is_dir()}
    recorder = Recorder(
        wanted.get("results"),
        new_run_id(),
        progress=Progress(config),
        summary_path=wanted.get("summary"),
        report_path=wanted.get("report"),
    )
    describe(recorder, tool_version=__version__)
    config.add_cleanup(partial(_finish_without_session, recorder))
    return recorder


def describe(recorder: Recorder, **content: Any) -> None:
    """Record what the run is, now that more is known, and say so in its files."""
    recorder.describe(**content)
    _draw(recorder)


def _draw(recorder: Recorder) -> None:
    if recorder.summary_path is not None:
        _write(recorder.summary_path, markdown(recorder.records))
    if recorder.report_path is not None:
        _write(recorder.report_path, render_page(recorder.records))


def finish(recorder: Recorder, exit_status: int) -> None:
    """Add the "end" record, write the Markdown summary, and close the results file.

    Args:
        recorder: the run's; its records stay readable.
        exit_status: pytest's.

    Raises:
        ResultsError: a file cannot be written.
    """
    if any(record["kind"] == "end" for record in recorder.records):
        return
    summary = summarise(recorder.records)
    begun = datetime.fromisoformat(recorder.records[0]["time"]) if recorder.records else None
    reason = _why_it_ends()
    recorder.record(
        "end",
        exit_status=exit_status,
        counts=dict(Counter(test.outcome for test in summary.tests)),
        restored=summary.restored,
        seconds=(datetime.now(begun.tzinfo) - begun).total_seconds() if begun else 0.0,
        **({"reason": reason} if reason else {}),
    )
    recorder.close()
    if recorder.summary_path is not None:
        _write(recorder.summary_path, markdown(recorder.records))
    # GitHub's runners show what is appended there on the job's page.
    step_summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if step_summary and summary.tests:
        _write(Path(step_summary), markdown(recorder.records), mode="a")


def _finish_without_session(recorder: Recorder) -> None:
    """End a run that had no session: the command line or a conftest was wrong."""
    if not any(record["kind"] == "end" for record in recorder.records):
        finish(recorder, int(pytest.ExitCode.USAGE_ERROR))
        _draw(recorder)


def _why_it_ends() -> str:
    """Return what pytest raises where it cannot go on: a usage error, a broken conftest."""
    raised = sys.exc_info()[1]
    if raised is None or isinstance(raised, pytest.exit.Exception | SystemExit):
        return ""
    return (str(raised) or type(raised).__name__)[:_REASON_LIMIT]


def _write(path: Path, text: str, *, mode: Literal["w", "a"] = "w") -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise cannot("written", path, exc) from None


# -- Our part of pytest-html's page ---------------------------------------------------------------
#
# pytest-html escapes neither test ids nor the environment's values, and shows no result row
# without JavaScript; so the whole report goes into its summary as static HTML, and ids are
# escaped here.


def register_html(config: pytest.Config, recorder: Recorder) -> None:
    """Hook into pytest-html, if this process writes its page."""
    manager = config.pluginmanager
    if not manager.hasplugin("html") or hasattr(config, "workerinput"):
        return
    if not manager.hasplugin(_HTML_HOOKS):
        manager.register(HtmlHooks(recorder), _HTML_HOOKS)


class HtmlHooks:
    """pytest-html's hooks."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str], session: pytest.Session) -> None:
        """Put the static report first, and the run's facts into the environment table."""
        add_environment(session.config, self._recorder)
        prefix.append(render_fragment(self._recorder.records))

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_html_results_table_row(self, report: Any, cells: list[str]) -> None:
        """Show the test's id as text, whatever a parameter put into it."""
        name = report.nodeid if report.when == "call" else f"{report.nodeid}::{report.when}"
        special = getattr(report, "k8snet_outcome", "")
        shown = escape(visible_line(name, 2 * NAME_LIMIT)) + (f" ({special})" if special else "")
        for index, cell in enumerate(cells):
            if isinstance(cell, str) and cell.startswith('<td class="col-testId">'):
                cells[index] = f'<td class="col-testId">{shown}</td>'


def add_environment(config: pytest.Config, recorder: Recorder) -> None:
    """Add verdict and cluster to pytest-metadata's table (it is kept by reference)."""
    try:
        from pytest_metadata.plugin import metadata_key
    except ImportError:
        return
    metadata = config.stash.get(metadata_key, None)
    if metadata is None:
        return
    for fact, value in metadata.items():
        if isinstance(value, dict):
            # pytest-html draws these as lists within lists, which no screen reader can follow.
            metadata[fact] = ", ".join(f"{name} {item}" for name, item in value.items())
    summary = summarise(recorder.records)
    found = {"k8snet": overview(summary)} | flat(mapping(mapping(summary.facts).get("cluster")))
    for fact, text in found.items():
        metadata[escape(visible_line(fact))] = escape(visible_line(text))

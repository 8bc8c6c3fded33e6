"""What the records tell of one test: its "test" record, JUnit properties, pytest-html's extras."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Generator, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any, Literal

import pytest

from pytest_k8snet.errors import ResultsError
from pytest_k8snet.report.format import (
    NAME_LIMIT,
    NONE,
    figure_texts,
    in_unit,
    limit_text,
    margin_text,
    visible_line,
)
from pytest_k8snet.report.html import render_fragment
from pytest_k8snet.report.markdown import markdown
from pytest_k8snet.report.markup import Markup, element
from pytest_k8snet.report.raw import RawBudget
from pytest_k8snet.report.recorder import Recorder
from pytest_k8snet.report.records import Record
from pytest_k8snet.report.sections.banner import overview
from pytest_k8snet.report.sections.parts import (
    fold,
    name,
    number_cell,
    path_mark,
    preformatted,
    row_head,
    state_mark,
    table,
)
from pytest_k8snet.report.summary import figure, flat, judged, mapping, real, summarise, words

#: All raw outputs in pytest-html's rows together, in characters. The rows are held in the page a
#: second time, escaped, so this is less than what the static part may hold.
_TOTAL = 300_000
_EXPECTED_SAMPLES = 40
#: Most samples that one test's row lists.
_MOST_ROWS = 60


class RawShare(RawBudget):
    """What the rows of one page share."""

    def __init__(self) -> None:
        super().__init__(_EXPECTED_SAMPLES, _TOTAL)


def extra_of(records: Sequence[Record], share: RawBudget) -> str:
    """The figures of a test as HTML; empty where it has none."""
    samples = [record for record in records if record["kind"] == "sample"]
    verdicts = judged(
        (record for record in records if record["kind"] == "verdict"),
        {sample["id"]: sample for sample in samples},
    )
    if not samples and not verdicts:
        return ""
    parts = [
        element(
            "p",
            state_mark(one.state),
            " ",
            name(one.claim),
            f": {' '.join(figure_texts(one))}, limit {limit_text(one)}, margin {margin_text(one)}",
        )
        for one in verdicts
    ]
    if samples:
        left = len(samples) - _MOST_ROWS
        parts.append(
            table(
                "Samples of this test" + (f" (the first {_MOST_ROWS})" if left > 0 else ""),
                ["Sample", "What", ("Figure", "num"), "Path", "Raw output"],
                [_row(sample, share) for sample in samples[:_MOST_ROWS]],
            )
        )
    return element("div", parts, class_="k8snet k-extra")


def _row(sample: Record, share: RawBudget) -> Markup:
    return element(
        "tr",
        row_head(name(sample["id"], 40)),
        element("td", name(sample.get("label"))),
        number_cell(_figure(sample)),
        element("td", path_mark(words(mapping(sample.get("path")).get("state")))),
        element("td", _raw(sample, share)),
    )


def _figure(sample: Record) -> str:
    if sample.get("error"):
        return "error: " + words(sample["error"]).partition("\n")[0]
    if sample["tool"] == "curl":
        mean = in_unit(figure(sample, "total_mean_seconds"), "s")
        return f"time_total {mean}, {figure(sample, 'failed') or 0:,.0f} failed"
    return in_unit(figure(sample, "bandwidth_bits_per_second"), "bit/s")


def _raw(sample: Record, share: RawBudget) -> Markup | str:
    raw = words(sample.get("raw"))
    if not raw:
        return NONE
    shown = share.take(raw)
    if shown is None:
        return element("a", "above, at this sample", href=f"#k8snet-{sample['id']}")
    return fold("show", preformatted(shown))


# -- What the records tell of one test: its "test" record, JUnit properties, pytest-html's extras

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


# -- The end of a run: its last record, and the Markdown summary ----------------------------------


def finish(recorder: Recorder, exit_status: int) -> None:
    """Add the "end" record, write the summary, and close the results file.

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
    recorder.add(
        {
            "kind": "end",
            "exit_status": exit_status,
            "counts": dict(Counter(test.outcome for test in summary.tests)),
            "restored": summary.restored,
            "seconds": (datetime.now(begun.tzinfo) - begun).total_seconds() if begun else 0.0,
        }
    )
    recorder.close()
    if recorder.summary_path is not None:
        _write_summary(recorder, recorder.summary_path, mode="w")
    # GitHub's runners show what is appended there on the job's page.
    step_summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if step_summary and summary.tests:
        _write_summary(recorder, Path(step_summary), mode="a")


def _write_summary(recorder: Recorder, path: Path, *, mode: Literal["w", "a"]) -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(markdown(recorder.records))
    except OSError as exc:
        raise ResultsError(
            f"the summary {path} cannot be written",
            found=exc.strerror or str(exc),
            remedy="check path and rights",
        ) from None


# -- Our part of pytest-html's page. Registered only where pytest-html is loaded ------------------
#
# pytest-html escapes neither test ids nor the environment's values, and shows no result row
# without JavaScript; so the whole report goes into its summary as static HTML, and ids are
# escaped here.


_NAME = "k8snet-html"
_TITLE = re.compile(r'(<title id="head-title">|<h1 id="title">)(.*?)(</title>|</h1>)')
_DATA_TITLE = re.compile(r"(&#34;title&#34;: )&#34;.*?&#34;(?=[,}])")
_CHECK_BOX = re.compile(r'<input checked="true" class="filter"[^>]*? data-test-result="(\w+)"')


def register_html(config: pytest.Config, recorder: Recorder) -> None:
    """Hook into pytest-html, if this process writes its page."""
    manager = config.pluginmanager
    if not manager.hasplugin("html") or hasattr(config, "workerinput"):
        return
    if not manager.hasplugin(_NAME):
        manager.register(HtmlHooks(recorder), _NAME)


class HtmlHooks:
    """pytest-html's hooks."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str], session: pytest.Session) -> None:
        """Put the static report first, and the run's facts into the environment table."""
        add_environment(session.config, self._recorder)
        prefix.append(render_fragment(self._recorder.records))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        """Mend the page once pytest-html has written it."""
        yield
        path = session.config.getoption("htmlpath", default=None)
        if path:
            title = overview(summarise(self._recorder.records))
            mend(Path(os.path.expandvars(path)).expanduser(), title)

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_html_results_table_row(self, report: Any, cells: list[str]) -> None:
        """Show the test's id as text, whatever a parameter put into it."""
        for index, cell in enumerate(cells):
            if isinstance(cell, str) and cell.startswith('<td class="col-testId">'):
                shown = escape(visible_line(_test_id(report), 2 * NAME_LIMIT))
                special = getattr(report, "k8snet_outcome", "")
                cells[index] = f'<td class="col-testId">{shown}{special and f" ({special})"}</td>'


def _test_id(report: Any) -> str:
    return report.nodeid if report.when == "call" else f"{report.nodeid}::{report.when}"


def mend(page: Path, title: str) -> None:
    """Give pytest-html's page the verdict as its title, and what a screen reader needs.

    Its own hook asks for the title before the first test has run, and its template has neither a
    language nor labels of its check boxes.
    """
    try:
        whole = page.read_text(encoding="utf-8")
    except OSError:
        # pytest-html itself reports a page that it could not write.
        return
    shown = escape(visible_line(title))
    # JavaScript writes the title anew, from the page's data.
    in_data = escape(json.dumps(visible_line(title)))
    whole = _TITLE.sub(lambda found: f"{found[1]}{shown}{found[3]}", whole, count=2)
    whole = _DATA_TITLE.sub(lambda found: found[1] + in_data, whole, count=1)
    whole = whole.replace("<html>", '<html lang="en">', 1)
    whole = _CHECK_BOX.sub(r'\g<0> aria-label="show \g<1>"', whole)
    page.write_text(whole, encoding="utf-8")


def add_environment(config: pytest.Config, recorder: Recorder) -> None:
    """Add verdict and cluster to pytest-metadata's table (it is kept by reference)."""
    try:
        from pytest_metadata.plugin import metadata_key
    except ImportError:
        return
    summary = summarise(recorder.records)
    found = {"k8snet": overview(summary)}
    if summary.facts is not None:
        found |= flat(mapping(summary.facts.get("cluster")))
    metadata = config.stash.get(metadata_key, None)
    if metadata is None:
        return
    for fact, value in metadata.items():
        if isinstance(value, dict):
            # pytest-html draws these as lists within lists, which no screen reader can follow.
            metadata[fact] = ", ".join(f"{name} {item}" for name, item in value.items())
    for fact, value in found.items():
        metadata[escape(visible_line(fact))] = escape(visible_line(value))

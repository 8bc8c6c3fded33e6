"""Our part of pytest-html's page. Registered only where pytest-html is loaded.

pytest-html escapes neither test ids nor the environment's values, and shows no result row without
JavaScript; so the whole report goes into its summary as static HTML, and ids are escaped here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator
from html import escape
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.report.fields import flat, mapping
from pytest_k8snet.report.html import render_fragment
from pytest_k8snet.report.recorder import Recorder
from pytest_k8snet.report.sections.banner import overview
from pytest_k8snet.report.summary import summarise
from pytest_k8snet.report.text import NAME_LIMIT, visible_line

_NAME = "k8snet-html"
_CHECK_BOX = re.compile(r'<input checked="true" class="filter"[^>]*? data-test-result="(\w+)"')


def register_html(
    config: pytest.Config, recorder: Recorder | Callable[[], Recorder | None]
) -> None:
    """Hook into pytest-html, if this process writes its page.

    Args:
        config: pytest's.
        recorder: the run's, or what gives it once there is one: then this may be called in
            ``pytest_configure``, early enough to put the verdict into the page's title.
    """
    manager = config.pluginmanager
    if not manager.hasplugin("html") or hasattr(config, "workerinput"):
        return
    if not manager.hasplugin(_NAME):
        held = recorder if callable(recorder) else lambda: recorder
        manager.register(HtmlHooks(held), _NAME)


class HtmlHooks:
    """pytest-html's hooks."""

    def __init__(self, recorder: Callable[[], Recorder | None]) -> None:
        self._recorder = recorder
        self._page: Any = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        """Keep hold of the page: its title is known at the end only."""
        self._page = report

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str], session: pytest.Session) -> None:
        """Put the static report first, and the run's facts into the environment table."""
        recorder = self._recorder()
        if recorder is None:
            return
        if self._page is not None:
            self._page.title = overview(summarise(recorder.records))
        add_environment(session.config, recorder)
        prefix.append(render_fragment(recorder.records))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        """Once pytest-html has written its page: say its language, label its check boxes."""
        yield
        path = session.config.getoption("htmlpath", default=None)
        if path and self._recorder() is not None:
            mend(Path(os.path.expandvars(path)).expanduser())

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


def mend(page: Path) -> None:
    """Give pytest-html's page what a screen reader needs and its template lacks."""
    try:
        whole = page.read_text(encoding="utf-8")
    except OSError:
        # pytest-html itself reports a page that it could not write.
        return
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

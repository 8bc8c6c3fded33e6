"""Our part of pytest-html's page. Registered only where pytest-html is loaded.

pytest-html escapes neither test ids nor the environment's values, and shows no result row without
JavaScript; so the whole report goes into its summary as static HTML, and ids are escaped here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator
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

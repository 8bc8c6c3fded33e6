"""The ``pytest11`` entry point: the pytest hooks, and below them what became of a test.

Every pytest run of the environment imports this module, whether it uses the plugin or not: nothing
heavy is imported until a hook needs it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeAlias

import pytest

from pytest_k8snet.fixtures import RECORDER
from pytest_k8snet.options import (
    STEPPED_ASIDE,
    add_short_flags,
    given,
    register,
    register_markers,
    set_values_of_short_flags_apart,
)

pytest_plugins = ["pytest_k8snet.fixtures"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register options and ini keys."""
    register(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None]:
    """Register ``--kubeconfig`` last, and only if nobody else has."""
    set_values_of_short_flags_apart(early_config.known_args_namespace, args)
    yield
    add_short_flags(parser, early_config, args)


@pytest.hookimpl(tryfirst=True)  # before pytest-html reads its own options
def pytest_configure(config: pytest.Config) -> None:
    """Check what is set; a bad value ends the run with one line."""
    register_markers(config)
    if given(config):
        from pytest_k8snet import settings

        settings.configure(config)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Show what was set and where it came from."""
    aside = config.stash.get(STEPPED_ASIDE, {})
    lines = [
        f"k8snet: {flag} is another plugin's here, ours is {own}" for flag, own in aside.items()
    ]
    if not given(config):
        return lines
    from pytest_k8snet import settings

    return lines + settings.header(settings.of(config))


@pytest.hookimpl(trylast=True)  # after other plugins have chosen and ordered
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the modes asked for, and group the tests by mode."""
    if any("k8snet" in getattr(item, "fixturenames", ()) for item in items):
        from pytest_k8snet import collection

        collection.apply(config, items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell failures, errors and undecided measurements apart, and record them."""
    report = yield
    _mark(report, call, item.config.stash.setdefault(_TOLD, {}))
    if RECORDER in item.config.stash:
        from pytest_k8snet.report import hooks

        hooks.attach(item.config.stash[RECORDER], item, report, _outcome(report))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> Generator[None]:
    """Let JUnit and pytest-html count an infrastructure error as one."""
    with _shown_as_error(report):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> Any:
    """Show ``I`` for inconclusive and ``E`` for infrastructure errors."""
    return _status(report)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Explain a failed comparison of a figure or a gate, on whichever side it stands."""
    for figure, limit, reflected in ((left, right, False), (right, left, True)):
        explain = getattr(figure, "explain_comparison", None)
        if callable(explain):
            lines: list[str] | None = explain(op, limit, reflected=reflected)
            return lines
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_keyboard_interrupt(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Let pytest report an interruption wherever it came."""
    _drop_entries_without_line(excinfo.tb)


@pytest.hookimpl(trylast=True)  # after an interrupted session's fixtures are torn down
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the last record and the summary."""
    if RECORDER in session.config.stash:
        from pytest_k8snet.report import hooks

        hooks.finish(session.config.stash[RECORDER], int(exitstatus))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the inconclusive tests' explanations, and the table."""
    _explain_inconclusive(terminalreporter)
    if RECORDER in config.stash:
        from pytest_k8snet.report import terminal

        terminal.summary(terminalreporter, config.stash[RECORDER].records)


# -- What became of a test: passed, failed, error, inconclusive or skipped ------------------------
#
# pytest knows only passed, failed and skipped, and says "error" for trouble outside the test
# body. Here an infrastructure error is an ERROR wherever it is raised, and an undecided
# measurement is INCONCLUSIVE; for the exit status both count as failures.

#: Attribute of a report that carries our outcome where it differs from pytest's. Plain text, so
#: that it crosses processes.
_ATTRIBUTE = "k8snet_outcome"

#: What the short summary and JUnit put before an undecided measurement's explanation.
_PREFIX = "inconclusive: "

#: The kind, problem, evidence and remedy of an infrastructure error -> where it was first reported.
_Told: TypeAlias = dict[tuple[str, ...], str]
_TOLD: pytest.StashKey[_Told] = pytest.StashKey()


def _mark(report: pytest.TestReport, call: pytest.CallInfo[None], told: _Told) -> None:
    """Note on the report what kind of failure it is, and shorten an infrastructure error's text.

    Args:
        report: pytest's, of one phase of a test.
        call: what happened in it.
        told: infrastructure errors that this session has reported in full, and where; added to.
            A cluster that cannot be reached fails every test, and is worth one explanation.
    """
    if call.excinfo is None or report.outcome != "failed":
        return
    # Only a failure pays for the import.
    from pytest_k8snet.errors import Inconclusive, K8sNetError
    from pytest_k8snet.report.format import visible

    error = call.excinfo.value
    if isinstance(error, Inconclusive):
        setattr(report, _ATTRIBUTE, "inconclusive")
        crash = getattr(report.longrepr, "reprcrash", None)
        if crash is not None:
            crash.message = f"{_PREFIX}{error}"
    elif isinstance(error, K8sNetError):
        setattr(report, _ATTRIBUTE, "error")
        # Where in our code it arose helps nobody; the test's own line does.
        where = f"{report.location[0]}:{(report.location[1] or 0) + 1}"
        text = f"{type(error).__name__}: {error}"
        here = f"{report.nodeid} ({report.when})"
        trouble = (type(error).__name__, error.problem, error.found, error.remedy)
        if (first := told.setdefault(trouble, here)) != here:
            during = f"\n  while: {error.during}" if error.during else ""
            text = f"{trouble[0]}: {error.problem}{during}\n  found: the same as at {first}"
        # What a cluster says must not colour or rewrite the reader's terminal.
        report.longrepr = visible(f"{text}\n  test:  {where} ({report.when})", None)


def _outcome(report: pytest.TestReport) -> str:
    special = getattr(report, _ATTRIBUTE, None)
    if special is not None:
        return str(special)
    if report.outcome == "failed" and report.when != "call":
        return "error"
    return report.outcome


def _status(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """The category, letter and word that the terminal shows; None where pytest's own are right."""
    special = getattr(report, _ATTRIBUTE, None)
    if special == "inconclusive":
        return "inconclusive", "I", ("INCONCLUSIVE", {"yellow": True})
    if special == "error":
        return "error", "E", ("ERROR", {"red": True})
    return None


@contextmanager
def _shown_as_error(report: pytest.TestReport) -> Generator[None]:
    """While others log the report, let them take an infrastructure error for one.

    JUnit and pytest-html call every failure outside the test body an error, and no other.
    """
    if getattr(report, _ATTRIBUTE, None) != "error" or report.when != "call":
        yield
        return
    report.when = "setup"
    try:
        yield
    finally:
        report.when = "call"


def _explain_inconclusive(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests are inconclusive: pytest only counts a category of our own."""
    reports = terminalreporter.stats.get("inconclusive", ())
    if not reports or terminalreporter.config.get_verbosity() < -1:
        return
    from pytest_k8snet.report.format import visible, visible_line

    terminalreporter.section("INCONCLUSIVE", yellow=True)
    for report in reports:
        terminalreporter.write_sep(
            "_", visible_line(report.head_line or report.nodeid), yellow=True
        )
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = crash.message.removeprefix(_PREFIX) if crash else report.longreprtext
        terminalreporter.write_line(visible(reason))


def _drop_entries_without_line(traceback: TracebackType) -> None:
    """Take out of a traceback what has no line number.

    A signal may arrive between the instructions of two lines. Python then knows no line for the
    frame, and pytest's report of the interruption breaks on it: an internal error would stand where
    the run's end should be told, and the exit status would be another.
    """
    entry: TracebackType | None = traceback
    while entry is not None:
        # None, or -1 in early Python 3.11.
        while entry.tb_next is not None and (entry.tb_next.tb_lineno or -1) < 0:
            entry.tb_next = entry.tb_next.tb_next
        entry = entry.tb_next

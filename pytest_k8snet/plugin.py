"""pytest hooks only; each is a few lines. The ``pytest11`` entry point: nothing heavy here."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pytest_k8snet import interruption, options, outcome
from pytest_k8snet.stash import RECORDER, TOLD

pytest_plugins = ["pytest_k8snet.fixtures"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register options and ini keys."""
    options.register(parser)


@pytest.hookimpl(tryfirst=True)  # before pytest-html reads its own options
def pytest_configure(config: pytest.Config) -> None:
    """Check what is set; a bad value ends the run with one line."""
    options.register_markers(config)
    if options.given(config):
        from pytest_k8snet import setup

        setup.configure(config)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Show what was set and where it came from."""
    if not options.given(config):
        return []
    from pytest_k8snet import settings

    return settings.header(settings.of(config))


@pytest.hookimpl(trylast=True)  # after other plugins have chosen and ordered
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the modes asked for, and group the tests by mode."""
    if any("k8snet" in getattr(item, "fixturenames", ()) for item in items):
        from pytest_k8snet import selection

        selection.apply(config, items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell failures, errors and undecided measurements apart."""
    report = yield
    outcome.mark(report, call, item.config.stash.setdefault(TOLD, {}))
    if RECORDER in item.config.stash:
        from pytest_k8snet.report import hooks

        hooks.attach(item.config.stash[RECORDER], item, report, outcome.of(report))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_keyboard_interrupt(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Let pytest tell of an interruption wherever it came."""
    interruption.drop_entries_without_line(excinfo.tb)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> Generator[None]:
    """Let JUnit and pytest-html count an infrastructure error as one."""
    with outcome.shown_as_error(report):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> Any:
    """Show ``I`` for inconclusive and ``E`` for infrastructure errors."""
    return outcome.status(report)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Explain a failed comparison of a measurement."""
    for measured, limit, reflected in ((left, right, False), (right, left, True)):
        explain = getattr(measured, "explain_comparison", None)
        if callable(explain):
            lines: list[str] | None = explain(op, limit, reflected=reflected)
            return lines
    return None


@pytest.hookimpl(trylast=True)  # after an interrupted session's fixtures are torn down
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the last record and the summary."""
    if RECORDER in session.config.stash:
        from pytest_k8snet.report import hooks as report_session

        report_session.finish(session.config.stash[RECORDER], int(exitstatus))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the inconclusive tests' explanations, and the table."""
    outcome.explain(terminalreporter)
    if RECORDER in config.stash:
        from pytest_k8snet.report import terminal

        terminal.summary(terminalreporter, config.stash[RECORDER].records)

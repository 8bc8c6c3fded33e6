"""What became of a test: passed, failed, error, inconclusive or skipped.

pytest knows only passed, failed and skipped, and says "error" for trouble outside the test body.
Here an infrastructure error is an ERROR wherever it is raised, and an undecided measurement is
INCONCLUSIVE; for the exit status both count as failures.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeAlias

import pytest

#: Attribute of a report that carries our outcome where it differs from pytest's. Plain text, so
#: that it crosses processes.
ATTRIBUTE = "k8snet_outcome"

#: What the short summary and JUnit put before an undecided measurement's explanation.
_PREFIX = "inconclusive: "

#: The kind, problem, evidence and remedy of an infrastructure error -> where it was first told.
Told: TypeAlias = dict[tuple[str, ...], str]


def mark(report: pytest.TestReport, call: pytest.CallInfo[None], told: Told) -> None:
    """Tell the report what kind of failure it is, and shorten an infrastructure error's text.

    Args:
        report: pytest's, of one phase of a test.
        call: what happened in it.
        told: infrastructure errors that this session has told in full, and where; added to.
            A cluster that cannot be reached fails every test, and is worth one explanation.
    """
    if call.excinfo is None or report.outcome != "failed":
        return
    # Only a failure pays for the import.
    from pytest_k8snet.errors import Inconclusive, K8sNetError
    from pytest_k8snet.report.format import visible

    error = call.excinfo.value
    if isinstance(error, Inconclusive):
        setattr(report, ATTRIBUTE, "inconclusive")
        crash = getattr(report.longrepr, "reprcrash", None)
        if crash is not None:
            crash.message = f"{_PREFIX}{error}"
    elif isinstance(error, K8sNetError):
        setattr(report, ATTRIBUTE, "error")
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


@contextmanager
def shown_as_error(report: pytest.TestReport) -> Generator[None]:
    """While others log the report, let them take an infrastructure error for one.

    JUnit and pytest-html call every failure outside the test body an error, and no other.
    """
    if getattr(report, ATTRIBUTE, None) != "error" or report.when != "call":
        yield
        return
    report.when = "setup"
    try:
        yield
    finally:
        report.when = "call"


def of(report: pytest.TestReport) -> str:
    """The outcome of one phase of a test, in our words."""
    special = getattr(report, ATTRIBUTE, None)
    if special is not None:
        return str(special)
    if report.outcome == "failed" and report.when != "call":
        return "error"
    return report.outcome


def status(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """The category, letter and word that the terminal shows; None where pytest's own are right."""
    special = getattr(report, ATTRIBUTE, None)
    if special == "inconclusive":
        return "inconclusive", "I", ("INCONCLUSIVE", {"yellow": True})
    if special == "error":
        return "error", "E", ("ERROR", {"red": True})
    return None


def explain(terminalreporter: pytest.TerminalReporter) -> None:
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

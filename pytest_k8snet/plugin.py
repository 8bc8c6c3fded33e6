"""The ``pytest11`` entry point: the pytest hooks, and below them what became of a test.

Every pytest run of the environment imports this module, whether it uses the plugin or not: nothing
heavy is imported until a hook needs it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType, TracebackType
from typing import Any, TypeAlias

import pytest

from pytest_k8snet.errors import Inconclusive, K8sNetError, ModeUnavailableError, noting
from pytest_k8snet.fixtures import CLAIMS
from pytest_k8snet.options import (
    DESELECTED,
    RECORDER,
    STEPPED_ASIDE,
    add_short_flags,
    given,
    only_looks,
    register,
    register_markers,
    set_values_of_short_flags_apart,
    writes,
)
from pytest_k8snet.units import Comparison, comparing

pytest_plugins = ["pytest_k8snet.fixtures"]


class _AsInstalled:
    """Imports the rest of this package from the bytecode that it was installed with.

    pytest compiles every module of a plugin anew to rewrite its asserts, 0.5 s in a container of
    which nothing is kept; none of these asserts is a test's.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find a module of this package as an interpreter without pytest would."""
        own = fullname.startswith("pytest_k8snet.")
        return PathFinder.find_spec(fullname, path, target) if own else None


sys.meta_path.insert(0, _AsInstalled())


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register options and ini keys."""
    register(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None]:
    """Register ``--kubeconfig`` last, and only if nobody else has.

    Before anything can fail, a run's files say that it has no result yet.
    """
    set_values_of_short_flags_apart(early_config.known_args_namespace, args)
    if writes(early_config):
        from pytest_k8snet import settings
        from pytest_k8snet.report import hooks

        try:
            early_config.stash[RECORDER] = hooks.begin(early_config, settings.outputs(early_config))
        except K8sNetError as exc:
            raise pytest.UsageError(exc.told) from None
    yield
    add_short_flags(parser, early_config, args)


@pytest.hookimpl(tryfirst=True)  # before pytest-html reads its own options
def pytest_configure(config: pytest.Config) -> None:
    """Check what is set; a bad value ends the run with one line."""
    register_markers(config)
    config.pluginmanager.register(_ShortSummary())
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

    found = settings.of(config)
    said = settings.header(found)
    if said:
        from pytest_k8snet.report.redaction import Redactor

        redactor = Redactor(names=found.redact, environ=os.environ)
        redactor.learn_record({"kind": "run", "settings": found.described()})
        said = [redactor.text(line) for line in said]
    return lines + said


@pytest.hookimpl(trylast=True)  # after other plugins have chosen and ordered
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the modes asked for, and group the tests by mode."""
    if any("k8snet" in getattr(item, "fixturenames", ()) for item in items):
        from pytest_k8snet import collection

        collection.apply(config, items)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Record files that cannot be collected: their tests do not run."""
    report = yield
    if report.failed and RECORDER in collector.config.stash:
        from pytest_k8snet.report import hooks

        hooks.record_collection_error(collector.config.stash[RECORDER], report)
    return report


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count the tests that are left out."""
    if items:
        items[0].config.stash.setdefault(DESELECTED, []).extend(items)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Record what the run is about to do, from now on also where it writes no files."""
    asking = any("k8snet" in getattr(item, "fixturenames", ()) for item in session.items)
    if RECORDER in session.config.stash or (asking and not only_looks(session.config.option)):
        from pytest_k8snet import collection, settings
        from pytest_k8snet.launch import redactor_of

        try:
            collection.describe(session, redactor_of(settings.of(session.config)))
        except K8sNetError as exc:
            raise pytest.UsageError(exc.told) from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Make an error of a skip where the test names the mode that the cluster cannot have."""
    __tracebackhide__ = True
    try:
        return (yield)
    except pytest.skip.Exception as skipped:
        cause = skipped.__cause__
        if isinstance(cause, ModeUnavailableError):
            from pytest_k8snet import collection

            if collection.names_its_mode(item):
                raise ModeUnavailableError(
                    cause.problem,
                    found=cause.found,
                    remedy=f"{cause.remedy}\nor skip it: --k8snet-missing-mode=skip".lstrip(),
                ) from None
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Fail a test that has claimed nothing with its gates, or has passed over a verdict."""
    item.stash[_PARTS] = []
    item.stash[_RUNS] = True
    try:
        with (
            noting() as item.stash[_NOTED],
            comparing() as item.stash[_COMPARED],
            _claims_looked_at(item),
        ):
            return (yield)
    finally:
        item.stash[_RUNS] = False


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around those that turn one outcome into another
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell failures, errors and undecided measurements apart, and record them."""
    raised = call.excinfo.value if call.excinfo is not None else None
    report = yield
    _mark(report, _cause(item, report, raised), item)
    _no_better_than_parts(item, report)
    _note_outcome(item, report)
    if RECORDER in item.config.stash:
        from pytest_k8snet.report import hooks

        compared = item.stash.get(_COMPARED, []) if report.when == "call" else []
        hooks.attach(
            item.config.stash[RECORDER],
            item,
            report,
            _outcome(report),
            compared,
            is_subtest=item.stash.get(_RUNS, False),
        )
        # Each stands in one report, as the samples do: a subtest's is followed by the test's.
        compared.clear()
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> Generator[None]:
    """Let JUnit and pytest-html count an infrastructure error as one; record what workers ran.

    They call every failure outside the test body an error, and no other.
    """
    _record_of_worker(report)
    if getattr(report, _ATTRIBUTE, None) != "error" or report.when != "call":
        return (yield)
    report.when = "setup"
    try:
        return (yield)
    finally:
        report.when = "call"


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> Any:
    """Show ``I`` for inconclusive and ``E`` for infrastructure errors."""
    # What reruns tests gives the reports of earlier attempts an outcome of its own.
    special = getattr(report, _ATTRIBUTE, None) if report.failed else None
    if special == "inconclusive":
        return "inconclusive", "I", ("INCONCLUSIVE", {"yellow": True})
    # A plain word is red of itself; the short summary of pytest 8.2 would print a tuple.
    return ("error", "E", "ERROR") if special == "error" else None


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
    """Take out of an interruption's traceback what has no line number.

    A signal may arrive between the instructions of two lines. Python then knows no line for the
    frame, and pytest's report of the interruption breaks on it: an internal error would stand where
    the run's end should be told, and the exit status would be another.
    """
    entry: TracebackType | None = excinfo.tb
    while entry is not None:
        # None, or -1 in early Python 3.11.
        while entry.tb_next is not None and (entry.tb_next.tb_lineno or -1) < 0:
            entry.tb_next = entry.tb_next.tb_next
        entry = entry.tb_next


@pytest.hookimpl(trylast=True)  # after an interrupted session's fixtures are torn down
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Let no run end green that has tested nothing; write the last record and the summary."""
    if exitstatus == pytest.ExitCode.OK:
        session.exitstatus = exitstatus = _status_of_green(session.config)
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
    _explain_green(terminalreporter)


# -- What became of a test: passed, failed, error, inconclusive or skipped ------------------------
#
# pytest knows only passed, failed and skipped, and says "error" for trouble outside the test
# body. Here an infrastructure error is an ERROR wherever it is raised, and an undecided
# measurement is INCONCLUSIVE; for the exit status both count as failures.

#: How a run ends that would be green, and whose tests on the cluster were all skipped.
NOTHING_TESTED = 10

#: Attribute of a report that carries our outcome where it differs from pytest's. Plain text, so
#: that it crosses processes.
_ATTRIBUTE = "k8snet_outcome"

#: What the short summary and JUnit put before an undecided measurement's explanation.
_PREFIX = "inconclusive: "

#: The kind, problem, evidence and remedy of an infrastructure error -> where it was first reported.
_Told: TypeAlias = dict[tuple[str, ...], str]
_TOLD: pytest.StashKey[_Told] = pytest.StashKey()
#: What became of each test so far.
_OUTCOMES: pytest.StashKey[dict[str, str]] = pytest.StashKey()
#: Verdicts that missed their target, by test.
_MISSED: pytest.StashKey[dict[str, str]] = pytest.StashKey()
#: Whether a test is running: reports that are made meanwhile are of its parts (subtests).
_RUNS: pytest.StashKey[bool] = pytest.StashKey()
#: The outcomes of its parts that did not pass.
_PARTS: pytest.StashKey[list[str]] = pytest.StashKey()
#: What a test with several outcomes is: the first of these.
_WORST = ("error", "failed", "inconclusive")
#: How many failures pytest-check counted, told or not.
_FAILED_CHECKS = re.compile(r"^Failed Checks: (\d+)$", re.MULTILINE)
#: Errors of ours that were made while a test ran, whoever caught them.
_NOTED: pytest.StashKey[list[Exception]] = pytest.StashKey()
#: Comparisons of figures that were made while a test ran.
_COMPARED: pytest.StashKey[list[Comparison]] = pytest.StashKey()


def _mark(report: pytest.TestReport, error: BaseException | None, item: pytest.Item) -> None:
    """Note on a phase's report what failure it is, and shorten an infrastructure error's text."""
    if isinstance(error, AttributeError | TypeError) and report.outcome == "failed":
        from pytest_k8snet.mistakes import mistake_of

        mistake = mistake_of(error)
        error = mistake and mistake.with_traceback(error.__traceback__)
    if not isinstance(error, Inconclusive | K8sNetError):
        return
    if hasattr(report, "wasxfail") and not _expected(item, error):
        # A test is expected to miss its target, never to be undecided or in trouble.
        del report.wasxfail
        report.outcome = "failed"
    if report.outcome != "failed":
        return
    # Only a failure pays for the import.
    from pytest_k8snet.report.format import visible

    if isinstance(error, Inconclusive):
        setattr(report, _ATTRIBUTE, "inconclusive")
        crash = getattr(report.longrepr, "reprcrash", None)
        if crash is not None:
            crash.message = f"{_PREFIX}{error}"
        elif not report.longrepr:
            report.longrepr = f"{_PREFIX}{error}"
    else:
        setattr(report, _ATTRIBUTE, "error")
        # Where in our code it arose helps nobody; the test's own line does.
        where = f"{report.location[0]}:{_line_of(error, item) or (report.location[1] or 0) + 1}"
        text = f"{type(error).__name__}: {error}"
        here = f"{report.nodeid} ({report.when})"
        trouble = (type(error).__name__, error.problem, error.found, error.remedy)
        # A cluster that cannot be reached fails every test, and is worth one explanation.
        if (first := item.config.stash.setdefault(_TOLD, {}).setdefault(trouble, here)) != here:
            during = f"\n  while: {error.during}" if error.during else ""
            text = f"{trouble[0]}: {error.problem}{during}\n  found: the same as at {first}"
        # What a cluster says must not colour or rewrite the reader's terminal.
        told_at = f"  test:  {where} ({report.when})\n  about: {error.link}"
        report.longrepr = visible(f"{text}\n{told_at}", None)


def _entries(error: BaseException | None) -> Iterator[TracebackType]:
    entry = error.__traceback__ if error is not None else None
    while entry is not None:
        yield entry
        entry = entry.tb_next


def _line_of(error: BaseException, item: pytest.Item) -> int:
    """The last line of the test's own file that an error came through; 0 where there is none."""
    own = [one for one in _entries(error) if one.tb_frame.f_code.co_filename == str(item.path)]
    return own[-1].tb_lineno if own else 0


def _expected(item: pytest.Item, error: BaseException) -> bool:
    """Whether a mark xfail names the error's class or one above it that is ours."""
    named = [marker.kwargs.get("raises") or () for marker in item.iter_markers("xfail")]
    kinds = [kind for one in named for kind in (one if isinstance(one, tuple) else (one,))]
    return any(isinstance(error, kind) for kind in kinds if kind not in (Exception, BaseException))


def _cause(
    item: pytest.Item, report: pytest.TestReport, raised: BaseException | None
) -> BaseException | None:
    """Return what makes a phase what it is: trouble, then a missed target, then what is undecided.

    Plugins for soft assertions catch what is raised, and make a FAILED of it afterwards. Some catch
    assertions alone, so that what is raised may hide those that were missed before. An error that
    the test itself caught and expected is not told in the report.
    """
    if report.when != "call":
        return raised
    noted = item.stash.get(_NOTED, [])
    caught = [error for error in noted if error is not raised and _left_our_code(error)]
    noted.clear()
    expected = hasattr(report, "wasxfail")
    if report.outcome != "failed" and not expected:
        return raised
    text = report.longreprtext
    counted = _FAILED_CHECKS.search(text)
    failures = int(counted[1]) if counted else 0
    plain = raised is not None and not isinstance(raised, Inconclusive | K8sNetError)
    if plain and not failures:
        # Raised in the place of another one, with its traceback.
        entries = list(_entries(raised))
        caught = [error for error in caught if error.__traceback__ in entries]
    elif text and failures == text.count("FAILURE: "):
        caught = [error for error in caught if str(error) in text]
    for error in (raised, *caught):
        if isinstance(error, K8sNetError):
            return error
    if plain:
        return raised
    missed = failures > len(caught) or (raised is None and failures < len(caught))
    if not item.stash.get(_RUNS, False):
        missed = missed or "failed" in item.stash.get(_PARTS, [])
    return None if missed and not expected else raised or next(iter(caught), None)


def _no_better_than_parts(item: pytest.Item, report: pytest.TestReport) -> None:
    """Let a test with subtests be what the worst of them is: pytest knows FAILED alone."""
    if report.when != "call":
        return
    parts = item.stash.get(_PARTS, [])
    if item.stash.get(_RUNS, False):
        parts += [_outcome(report)] if report.failed else []
        return
    own = [_outcome(report)] if report.failed else []
    worst = min(parts + own, key=_WORST.index, default="failed")
    if worst == "failed" or report.skipped:
        return
    if report.passed:
        report.outcome = "failed"
        report.longrepr = f"subtests that did not pass: {len(parts)}"
    setattr(report, _ATTRIBUTE, worst)


def _left_our_code(error: Exception) -> bool:
    """Whether an error has reached the code of whoever uses the plugin."""
    traceback = error.__traceback__
    here = os.path.dirname(__file__) + os.sep
    return traceback is not None and not traceback.tb_frame.f_code.co_filename.startswith(here)


@contextmanager
def _claims_looked_at(item: pytest.Item) -> Generator[None]:
    if CLAIMS in item.stash:
        item.stash[CLAIMS].begin()
    try:
        yield
    except pytest.skip.Exception:
        _refuse_passed_over(item)
        raise
    finally:
        if CLAIMS in item.stash:
            item.stash[CLAIMS].end()
    if CLAIMS in item.stash:
        _refuse_passed_over(item)
        item.stash[CLAIMS].require_asked()


def _refuse_passed_over(item: pytest.Item) -> None:
    """Fail a test that goes on after a verdict that is no pass: it was caught, or negated."""
    verdict = item.stash[CLAIMS].passed_over() if CLAIMS in item.stash else None
    if verdict is None:
        return
    if verdict.state == "inconclusive":
        raise Inconclusive(verdict.text)
    pytest.fail(
        f"{verdict.text}\nthe test passed over this verdict; to claim the opposite, write assert "
        f"{verdict.opposite}",
        pytrace=False,
    )


def _note_outcome(item: pytest.Item, report: pytest.TestReport) -> None:
    """Note what the end of the run asks: what was tested, and which verdicts missed a target."""
    config, name = item.config, item.nodeid
    missed = item.stash[CLAIMS].missed() if CLAIMS in item.stash else None
    if missed is not None:
        config.stash.setdefault(_MISSED, {})[name] = missed.text
    if report.when == "call" or not report.passed:
        outcomes = config.stash.setdefault(_OUTCOMES, {})
        outcomes[name] = "failed" if outcomes.get(name) == "failed" else report.outcome


def _green_but_missed(config: pytest.Config) -> dict[str, str]:
    """Return the verdicts that missed their target in tests that passed all the same."""
    outcomes = config.stash.get(_OUTCOMES, {})
    missed = config.stash.get(_MISSED, {})
    return {name: text for name, text in missed.items() if outcomes.get(name) == "passed"}


def _status_of_green(config: pytest.Config) -> int:
    """Return how a run ends in which no test failed."""
    if _green_but_missed(config):
        return pytest.ExitCode.TESTS_FAILED
    skipped = set(config.stash.get(_OUTCOMES, {}).values()) == {"skipped"}
    return NOTHING_TESTED if skipped and RECORDER in config.stash else pytest.ExitCode.OK


def _explain_green(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why a run in which no test failed does not end green."""
    from pytest_k8snet.report.format import visible

    for name, text in _green_but_missed(terminalreporter.config).items():
        terminalreporter.section("missed, and passed over", red=True)
        terminalreporter.write_line(visible(f"{name} passed, and holds this verdict:\n{text}"))
    if _status_of_green(terminalreporter.config) == NOTHING_TESTED:
        terminalreporter.write_line(
            f"Nothing was tested, every test was skipped or failed as expected: exit status "
            f"{NOTHING_TESTED} (-rsx lists the reasons)",
            yellow=True,
        )


def _outcome(report: pytest.TestReport) -> str:
    special = getattr(report, _ATTRIBUTE, None)
    if special is not None:
        return str(special)
    if report.outcome == "failed" and report.when != "call":
        return "error"
    return report.outcome


def _record_of_worker(report: pytest.TestReport) -> None:
    """Record what became of a test in a worker of pytest-xdist: the files are this process's."""
    config = getattr(getattr(report, "node", None), "config", None)
    if config is None or RECORDER not in config.stash:
        return
    # An attempt before a rerun is none of pytest's own outcomes.
    if report.outcome not in ("passed", "failed", "skipped"):
        return
    if report.when == "call" or not report.passed:
        from pytest_k8snet import settings
        from pytest_k8snet.launch import redactor_of
        from pytest_k8snet.report import hooks

        recorder = config.stash[RECORDER]
        if all(one["kind"] != "test" for one in recorder.records):
            # What is to stay in the house is told after a collection, and here is none.
            recorder.redactor = redactor_of(settings.of(config))
        hooks.record_phase(recorder, report, _outcome(report))


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
        terminalreporter.write_line(visible(_reason(report)))


def _reason(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longreprtext).removeprefix(_PREFIX)


class _ShortSummary:
    """Pytest's short summary knows no category but its own: what was undecided goes behind it."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Generator[None, None, None]:
        """List the undecided tests, each with its whole claim."""
        yield
        reports = terminalreporter.stats.get("inconclusive", ())
        if not reports or "f" not in terminalreporter.reportchars:
            return
        from pytest_k8snet.report.format import visible_line

        if not any(terminalreporter.stats.get(name) for name in ("failed", "error")):
            terminalreporter.section("short test summary info", cyan=True, bold=True)
        for report in reports:
            claim = _reason(report).partition("\n")[0].removeprefix("INCONCLUSIVE: ")
            line = f"INCONCLUSIVE {report.nodeid} - {claim}"
            terminalreporter.write_line(visible_line(line, None))

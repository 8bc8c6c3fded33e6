"""A misspelt name is no missed promise: an ERROR with what there is, and what comes near."""

from __future__ import annotations

import pytest

TESTS = """
    from pytest_k8snet import Gbit, Mbit, ms
    from pytest_k8snet.errors import Inconclusive, PathError
    from pytest_k8snet.tools.tool import Distribution
    from pytest_k8snet.units import BitRate

    RATE = 5 * Gbit

    def test_bare_number():
        assert RATE >= 900

    def test_attribute():
        connect = Distribution(name="connect", values=(), why_empty=None)
        assert connect.p96 <= 5 * ms

    def test_keyword():
        BitRate.parse(txt="5M")

    def test_missed():
        assert RATE / (10 * Gbit) >= 0.9

    def test_own_mistake():
        len(5)

    def test_trouble():
        raise PathError("no proof", found="nothing", remedy="look")

    def test_undecided():
        claim = "very " * 40 + "long / node-node >= 0.998  (Never)"
        raise Inconclusive(f"INCONCLUSIVE: {claim}\\n  more")
"""


@pytest.fixture
def result(pytester: pytest.Pytester) -> pytest.RunResult:
    pytester.makepyfile(test_m=TESTS)
    return pytester.runpytest_inprocess("-q")


def test_mistakes_are_errors_with_what_there_is_and_a_link(result: pytest.RunResult) -> None:
    result.stdout.fnmatch_lines_random(
        [
            "SettingsError: cannot compare a bit rate (5 Gbit/s) and the bare number 900",
            "  to do: give it a unit, as in 900 * Mbit",
            "  test:  test_m.py:9 (call)",
            "SettingsError: Distribution has no 'p96'",
            "  to do: perhaps p99 or p95 or p90; there are distribution, figures, *",
            # Python 3.13 adds what it takes to be meant.
            "SettingsError: BitRate.parse() got an unexpected keyword argument 'txt'*",
            "  to do: perhaps text; there are text",
            "  about: https://pytest-k8snet.github.io/pytest-k8snet/errors/#settingserror",
            "  about: https://pytest-k8snet.github.io/pytest-k8snet/errors/#patherror",
        ]
    )
    result.stdout.fnmatch_lines(["2 failed, 4 errors, 1 inconclusive*"])


def test_a_missed_limit_shows_no_frame_of_this_package(result: pytest.RunResult) -> None:
    result.stdout.fnmatch_lines(["*assert RATE / (10 ? Gbit) >= 0.9", "*44.4% below it"])
    result.stdout.no_fnmatch_line("*pytest_k8snet/units.py*")
    result.stdout.no_fnmatch_line("*bound method*")


def test_the_short_summary_ends_with_the_undecided_claims_and_their_limits(
    result: pytest.RunResult,
) -> None:
    result.stdout.fnmatch_lines(
        [
            "*short test summary info*",
            "ERROR test_m.py::test_trouble*",
            "INCONCLUSIVE test_m.py::test_undecided - very *long / node-node >= 0.998  (Never)",
            "2 failed, *",
        ]
    )

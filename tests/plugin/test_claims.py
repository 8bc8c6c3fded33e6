"""Ways to write a gate that would leave a test green and claim nothing: each ends red.

The arms are simulated; everything above them is real.
"""

from __future__ import annotations

import json

import pytest

# Before a run in this process, so that all of them share its classes.
import pytest_k8snet.collection  # noqa: F401
from pytest_k8snet.report.summary import summarise

CONFTEST = """
    import math, random
    import pytest
    from pytest_k8snet.verdict import Arm, Bandwidth, Judging, Latency, Observation, Plan

    def arm(label, base, seed):
        rng = random.Random(seed)

        def take(turn):
            value = base * math.exp(rng.gauss(0, 0.01))
            answers = tuple(0.002 * math.exp(rng.gauss(0, 0.1)) for _ in range(turn.requests or 1))
            return Observation(figures={
                "bandwidth": (value,), "connect": answers, "total": answers,
                "dns": answers, "first_byte": answers,
            })

        return Arm(label=label, take=take)

    @pytest.fixture
    def pods():
        return arm("pod-pod", 950e6, 5)

    @pytest.fixture
    def nodes():
        return arm("node-node", 1000e6, 6)

    @pytest.fixture
    def terms(_claims):
        return Judging(plan=Plan(seed=5, span_seconds=0, outlier=0), claims=_claims)

    @pytest.fixture
    def bandwidth(terms):
        return lambda one: Bandwidth(one, terms)

    @pytest.fixture
    def latency(terms):
        return lambda one: Latency(one, terms)

    @pytest.fixture
    def ratio(bandwidth, pods, nodes):
        return bandwidth(pods) / bandwidth(nodes)  # 0.95
"""

#: What stands in front of each test's body.
HEAD = """
import contextlib
import pytest
from pytest_k8snet import Gbit, Inconclusive, Mbit, ms

"""

WRITE_RATIO = "write assert ratio >= 0.90"
WRITE_BANDWIDTH = "write assert bandwidth(pods) >= 500 * Mbit"
WRITE_LATENCY = "write assert latency(pod, url).connect.p95 <= 5 * ms"
OPPOSITE = "write assert pod-pod / node-node < 0.99"

#: What is written wrongly, and the line that says what to write instead.
WRONG = {
    # Nothing is compared.
    "assert bandwidth": "write assert bandwidth(pod_pair) / bandwidth(node_pair) >= 0.90",
    "pass  # bandwidth": "write assert bandwidth(pod_pair) / bandwidth(node_pair) >= 0.90",
    "bandwidth(pods)": WRITE_BANDWIDTH,
    "assert bandwidth(pods)": WRITE_BANDWIDTH,
    "assert bandwidth(pods) is not None": WRITE_BANDWIDTH,
    "assert [bandwidth(pods)]": WRITE_BANDWIDTH,
    "assert ratio": WRITE_RATIO,
    "assert isinstance(ratio, object)": WRITE_BANDWIDTH,
    "latency(pods)": WRITE_LATENCY,
    "assert latency(pods).connect.p95": WRITE_LATENCY,
    "assert latency(pods).connect <= 5 * ms": WRITE_LATENCY,
    "assert str(latency(pods).connect.p95) != ''": WRITE_LATENCY,
    # It is compared with what it cannot be compared with.
    "assert bandwidth(pods) >= 500": WRITE_BANDWIDTH,
    "assert ratio != 0": WRITE_RATIO,
    "assert float(ratio) >= 0.90": WRITE_RATIO,
    "assert pytest.approx(0.95, abs=0.1) == ratio": WRITE_RATIO,
    "assert ratio * 100 >= 90": WRITE_RATIO,
    "assert 1 - ratio <= 0.1": WRITE_RATIO,
    "assert f'{ratio:.2f}' >= '0.90'": WRITE_RATIO,
    "assert bandwidth(pods) - bandwidth(pods) <= 5 * Mbit": WRITE_BANDWIDTH,
    "assert (ratio >= 0.99) | True": "write assert pod-pod / node-node >= 0.99",
    # Nobody asks for the outcome.
    "ratio >= 0.99": WRITE_RATIO,
    "verdict = ratio >= 0.90": WRITE_RATIO,
    "assert (ratio >= 0.99) is not None": WRITE_RATIO,
    "assert (ratio >= 0.99) is not False": WRITE_RATIO,
    "assert (ratio >= 0.99) != False": "write assert pod-pod / node-node >= 0.99",
    "assert (ratio >= 0.99) == True": "write assert pod-pod / node-node >= 0.99",
    "assert [ratio >= 0.99]": WRITE_RATIO,
    "assert (ratio >= 0.99 for one in [1])": WRITE_BANDWIDTH,
    "assert ((ratio >= 0.99), 'too slow')[:1]": WRITE_RATIO,
    "assert {'kept': ratio >= 0.99}": WRITE_RATIO,
    "print(f'{ratio >= 0.99}')": WRITE_RATIO,
    "latency(pods).connect.p50 <= 5 * ms": WRITE_LATENCY,
    # It is asked for, and passed over.
    "assert ratio >= 0.99 or True": OPPOSITE,
    "assert (kept := ratio >= 0.99) or True": OPPOSITE,
    "assert not ratio >= 0.99": OPPOSITE,
    "assert any([ratio >= 0.90, ratio >= 0.99])": WRITE_RATIO,
    "bool(ratio >= 0.99)": OPPOSITE,
    "if ratio >= 0.99: pass": OPPOSITE,
    "if not ratio >= 0.99: pytest.skip('too slow today')": OPPOSITE,
    "with pytest.raises(AssertionError): assert ratio >= 0.99": OPPOSITE,
    "with contextlib.suppress(AssertionError): assert ratio >= 0.99": OPPOSITE,
    "with contextlib.suppress(Inconclusive): assert ratio >= 0.95": "undecided: ",
    "with pytest.raises(Inconclusive): assert ratio >= 0.95": "undecided: ",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_gate_that_is_written_wrongly_is_red_and_says_what_to_write(
    pytester: pytest.Pytester, wrong: str
) -> None:
    names = [name for name in ("bandwidth", "latency", "ratio", "pods") if name in wrong]
    pytester.makeconftest(CONFTEST)
    path = pytester.makepyfile("")
    path.write_text(f"{HEAD}def test_gate({', '.join(names)}):\n    {wrong}\n", encoding="utf-8")
    result = pytester.runpytest_inprocess("-W", "ignore")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    told = " ".join(result.stdout.str().split())
    assert WRONG[wrong] in told
    assert "1 passed" not in told


def test_gates_that_are_written_well_stay_green(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        HEAD
        + """
def test_plain(ratio): assert ratio >= 0.90
def test_message(ratio): assert ratio >= 0.90, "too slow"
def test_band(ratio): assert 0.90 <= ratio <= 1.0
def test_two(bandwidth, pods): assert bandwidth(pods) >= 1 * Mbit and 1 * Gbit >= bandwidth(pods)
def test_kept(ratio):
    verdict = ratio >= 0.90
    assert verdict, verdict.text
def test_all(ratio): assert all([ratio >= 0.80, ratio >= 0.90])
def test_phases(latency, pods):
    times = latency(pods)
    assert times.connect.p50 <= 5 * ms
    assert times.total.p50 <= 5 * ms
def test_skipped(ratio): pytest.skip("another day")
def test_no_gate(pods): pass
@pytest.mark.xfail(raises=AssertionError, strict=True)
def test_expected(ratio): assert ratio >= 0.99
"""
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=8, skipped=1, xfailed=1)


# -- What turns one outcome into another -----------------------------------------------------------


def test_neither_trouble_nor_an_undecided_gate_is_an_expected_failure(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("""
        import pytest
        from pytest_k8snet import Inconclusive
        from pytest_k8snet.errors import ConnectError

        @pytest.fixture
        def cluster(): raise ConnectError("no way to the API server")

        @pytest.mark.xfail
        def test_setup(cluster): pass

        @pytest.mark.xfail(reason="slow")
        def test_trouble(): raise ConnectError("the API server is gone")

        @pytest.mark.xfail(raises=AssertionError)
        def test_undecided(): raise Inconclusive("undecided")

        @pytest.mark.xfail
        def test_undecided_too(): raise Inconclusive("undecided")

        @pytest.mark.xfail(raises=ConnectError)
        def test_named(): raise ConnectError("the API server is gone")

        @pytest.mark.xfail
        def test_slow(): assert False
    """)
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*2 xfailed*2 errors, 2 inconclusive*"])


def test_soft_assertions_make_no_failure_of_trouble(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest
        from pytest_check import check
        from pytest_k8snet.errors import ConnectError, Inconclusive

        def test_trouble():
            with check: assert 1 == 2
            with check: raise ConnectError("the API server is gone", remedy="see the VPN")

        def test_undecided():
            with check: raise Inconclusive("undecided")

        def test_missed():
            with check: assert 1 == 2
            with check: raise Inconclusive("undecided")

        def test_missed_and_expected():
            with pytest.raises(ConnectError): raise ConnectError("as it should be", found="it")
            with check: assert 1 == 2

        def test_said_otherwise():
            with pytest.raises(ConnectError) as caught: raise ConnectError("another word")
            assert "a word" in str(caught.value).split()

        def test_good():
            try: raise ConnectError("of no importance")
            except ConnectError: pass

        @pytest.mark.xfail
        def test_trouble_in_xfail():
            with check: raise ConnectError("no way")

        @pytest.mark.xfail
        def test_undecided_in_xfail():
            with check: raise Inconclusive("more pairs")

        @pytest.mark.xfail
        def test_missed_in_xfail():
            with check: assert 1 == 2
    """)
    result = pytester.runpytest_inprocess("-v")
    result.stdout.fnmatch_lines(
        [
            "*::test_trouble ERROR*",
            "*::test_undecided INCONCLUSIVE*",
            "*::test_missed FAILED*",
            "*::test_missed_and_expected FAILED*",
            "*::test_said_otherwise FAILED*",
            "*::test_good PASSED*",
            "*::test_trouble_in_xfail ERROR*",
            "*::test_undecided_in_xfail INCONCLUSIVE*",
            "*::test_missed_in_xfail XFAIL*",
            "*ConnectError: the API server is gone",
            "*to do: see the VPN",
        ]
    )


def test_what_missed_its_target_is_failed_whatever_else_is_undecided(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile("""
        from pytest_check import check

        def test_soft(ratio):
            with check: assert 1 == 2
            with check: assert ratio >= 0.951

        def test_undecided(ratio):
            with check: assert ratio >= 0.951

        def test_gates(ratio):
            undecided, missed = ratio >= 0.951, ratio >= 0.99
            try: assert undecided
            except Exception: pass
            try: assert missed
            except AssertionError: pass
    """)
    result = pytester.runpytest_inprocess("-v")
    result.stdout.fnmatch_lines(
        [
            "*::test_soft FAILED*",
            "*::test_undecided INCONCLUSIVE*",
            "*::test_gates FAILED*",
            "*FAIL: pod-pod / node-node >= 0.99*",
            "*2 failed*1 inconclusive*",
        ]
    )


def test_a_test_is_what_the_worst_of_its_subtests_is(pytester: pytest.Pytester) -> None:
    pytest.importorskip("_pytest.subtests")
    pytester.makepyfile("""
        from pytest_k8snet.errors import ConnectError, Inconclusive

        def test_trouble(subtests):
            with subtests.test("a"): assert 1 == 2
            with subtests.test("b"): raise ConnectError("the API server is gone")

        def test_undecided(subtests):
            with subtests.test("a"): raise Inconclusive("undecided")
            with subtests.test("b"): pass

        def test_missed(subtests):
            with subtests.test("a"): assert 1 == 2
            raise Inconclusive("undecided")

        def test_trouble_that_was_expected(subtests):
            with subtests.test("a"):
                try: raise ConnectError("of no importance")
                except ConnectError: pass
    """)
    result = pytester.runpytest_inprocess("-v")
    result.stdout.fnmatch_lines(
        [
            "*::test_trouble*SUBFAILED*",
            "*::test_trouble*ERROR*",
            "*::test_trouble ERROR*",
            "*::test_undecided INCONCLUSIVE*",
            "*::test_undecided INCONCLUSIVE*",
            "*::test_missed*SUBFAILED*",
            "*::test_missed FAILED*",
            "*::test_trouble_that_was_expected PASSED*",
            "*3 failed, 1 passed, 2 errors, 2 subtests passed, 2 inconclusive*",
        ]
    )


def test_a_report_holds_subtests_as_parts_of_their_test_and_each_assert_once(
    pytester: pytest.Pytester,
) -> None:
    pytest.importorskip("_pytest.subtests")
    pytester.makepyfile("""
        import pytest
        from pytest_k8snet import ms
        from pytest_k8snet.errors import Inconclusive
        from pytest_k8snet.units import Seconds

        def test_parts(subtests):
            with subtests.test("a"): assert Seconds(0.002) <= 5 * ms
            with subtests.test("b"): assert Seconds(0.003) <= 5 * ms
            assert Seconds(0.004) <= 5 * ms

        def test_skipped(subtests):
            with subtests.test("a"): raise Inconclusive("undecided")
            pytest.skip("the rest")
    """)
    found = pytester.path / "results.jsonl"
    pytester.runpytest_subprocess(f"--k8snet-results={found}")
    records = [json.loads(line) for line in found.read_text().splitlines()]
    summary = summarise(records)
    assert [test.outcome for test in summary.tests] == ["passed", "inconclusive"]
    tests = [one for one in records if one["kind"] == "test"]
    assert [one["phase"] for one in tests] == ["subtest", "subtest", "call", "subtest", "call"]
    limits = [promise["estimate"] for one in tests for promise in one.get("promises", ())]
    assert limits == [0.002, 0.003, 0.004]
    # Killed in the middle, it has no outcome yet.
    assert not summarise(records[: records.index(tests[1]) + 1]).tests


def test_a_rerun_attempt_shows_as_one_and_an_error_of_the_last_as_error(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("""
        from pytest_k8snet.errors import ConnectError

        def test_trouble(): raise ConnectError("the API server is gone")
    """)
    result = pytester.runpytest_inprocess("-v", "--reruns=1", "-rE", "-W", "ignore")
    result.stdout.fnmatch_lines(["*::test_trouble RERUN*", "*::test_trouble ERROR*"])
    result.stdout.fnmatch_lines(["ERROR *::test_trouble*", "*1 error, 1 rerun*"])


# -- Runs that would end green and have shown nothing ----------------------------------------------


def test_a_verdict_that_missed_in_a_test_that_passed_ends_the_run_red(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile("""
        import pytest

        @pytest.fixture
        def afterwards(ratio):
            yield
            ratio >= 0.99

        def test_good(ratio): assert ratio >= 0.90
        def test_green(afterwards, ratio): assert ratio >= 0.90
    """)
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*= missed, and passed over =*",
            "*::test_green passed, and holds this verdict:",
            "FAIL: pod-pod / node-node >= 0.99",
        ]
    )


#: A run whose cluster has no mode but Never.
NO_MODES = """
    import pytest
    from pytest_k8snet.errors import ModeUnavailableError

    class Run:
        def enter(self, mode):
            if str(mode) != "Never":
                raise ModeUnavailableError(f"no pool is in {mode}", remedy="--k8snet-change=...")

    @pytest.fixture(scope="session")
    def k8snet():
        return Run()
"""


@pytest.mark.parametrize(
    ("args", "test", "outcomes", "status"),
    [
        ([], "def test_m(calico_mode): pass", {"passed": 1, "skipped": 4}, 0),
        ([], "def test_m(calico_mode): assert 0", {"failed": 1, "skipped": 4}, 1),
        (
            ["--k8snet-modes=never,vxlan"],
            "def test_m(calico_mode): pass",
            {"passed": 1, "errors": 1},
            1,
        ),
        (
            ["--k8snet-modes=vxlan,ipip", "--k8snet-missing-mode=skip"],
            "def test_m(calico_mode): pass",
            {"skipped": 2},
            10,
        ),
        (
            ["--k8snet-missing-mode=error"],
            "def test_m(calico_mode): pass",
            {"passed": 1, "errors": 4},
            1,
        ),
        ([], "@pytest.mark.k8snet_modes('vxlan')\ndef test_m(calico_mode): 1", {"errors": 1}, 1),
        (
            [],
            "@pytest.mark.parametrize('calico_mode', ['VXLAN-Always'], indirect=True)\n"
            "def test_m(calico_mode): pass",
            {"errors": 1},
            1,
        ),
        ([], "def test_m(calico_mode): pytest.skip('later')", {"skipped": 5}, 10),
        ([], "def test_m(calico_mode): pytest.skip('later')\ndef test_o(): 1", None, 0),
        ([], "@pytest.mark.xfail\ndef test_m(k8snet): assert 0", {"xfailed": 1}, 10),
    ],
)
def test_what_was_asked_for_and_not_tested_is_not_green(
    pytester: pytest.Pytester,
    args: list[str],
    test: str,
    outcomes: dict[str, int] | None,
    status: int,
) -> None:
    pytester.makeconftest(NO_MODES)
    path = pytester.makepyfile("")
    path.write_text(f"import pytest\n{test}\n", encoding="utf-8")
    result = pytester.runpytest_inprocess(*args)
    if outcomes is not None:
        result.assert_outcomes(**outcomes)
    assert result.ret == status
    told = result.stdout.str()
    assert ("or skip it: --k8snet-missing-mode=skip" in told) is (
        outcomes is not None and "errors" in outcomes
    )
    assert ("Nothing was tested" in told) is (status == 10)
    if status == 10:
        assert "Passed" not in told
        result.stdout.fnmatch_lines(["*was skipped or failed as expected: exit status 10*"])

"""A gate measures once in a session, whatever would run it again: tried on the real plugins.

The arms are simulated: in the first round of runs the gate misses its target, later it keeps it.
What reruns a failed test would end green.
"""

from __future__ import annotations

import pytest

CONFTEST = """
    import itertools, math, random
    import pytest
    from pytest_k8snet.verdict import Arm, Bandwidth, Judging, Observation, Plan

    runs = itertools.count()

    @pytest.fixture
    def ratio(_claims):
        base, rng = 600e6 if next(runs) == 0 else 950e6, random.Random(5)
        terms = Judging(plan=Plan(seed=5, span_seconds=0, outlier=0), claims=_claims)

        def arm(label, base):
            def take(turn):
                value = base * math.exp(rng.gauss(0, 0.01))
                return Observation(figures={"bandwidth": (value,)})
            return Bandwidth(Arm(label=label, take=take), terms)

        return arm("pod-pod", base) / arm("node-node", 1000e6)
"""
TEST = "def test_gate(ratio): assert ratio >= 0.90"
ASKED_LATE = "def test_gate(request): assert request.getfixturevalue('ratio') >= 0.90"
MARKED = "import pytest\n@pytest.mark.{}\ndef test_gate(ratio): assert ratio >= 0.90"
#: As flaky and pytest-retry do it: the same item's phases once more, unannounced.
RETRY = """
    from _pytest.runner import runtestprotocol

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(item, nextitem):
        for attempt in range(3):
            item._initrequest()
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
            if all(report.passed for report in reports):
                break
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        return True
"""
#: How a test is run again, and in which test.
AGAIN = {
    "option": (["--reruns=2"], TEST, ""),
    "forced": (["--force-reruns=2"], TEST, ""),
    "ini": (["-o", "reruns=2"], TEST, ""),
    "marker": ([], MARKED.format("flaky(reruns=2)"), ""),
    "getfixturevalue": (["--reruns=2"], ASKED_LATE, ""),
    "count": (["--count=3"], TEST, ""),
    "repeat": ([], MARKED.format("repeat(3)"), ""),
    "unannounced": ([], TEST, RETRY),
    "unannounced-late": ([], ASKED_LATE, RETRY),
}


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-W", "ignore", *args)


@pytest.mark.parametrize("how", AGAIN)
def test_a_gate_is_not_measured_again_by_what_runs_tests_again(
    pytester: pytest.Pytester, how: str
) -> None:
    args, test, plugin = AGAIN[how]
    pytester.makeconftest(CONFTEST + plugin)
    pytester.makepyfile(test)
    result = run(pytester, *args)
    told = result.stdout.str()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "a gate must not be rerun until it passes" in told
    assert "found: the test has measured in this session already:" in told
    assert "FAIL: pod-pod / node-node >= 0.90" in told
    assert " passed" not in told


def test_a_loop_within_a_test_does_not_pass_over_what_it_measured_first(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile("""
        import tenacity

        @tenacity.retry(stop=tenacity.stop_after_attempt(3))
        def kept(bandwidths):
            assert bandwidths.pop(0) >= 0.90

        def test_gate(ratio, request):
            better = request.getfixturevalue("other")
            kept([ratio, better])
    """)
    with pytester.path.joinpath("conftest.py").open("a", encoding="utf-8") as conftest:
        conftest.write("\nother = pytest.fixture(name='other')(ratio.__wrapped__)\n")
    result = run(pytester)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*the test passed over this verdict*"])


def test_tests_without_gates_are_rerun_as_ever(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile("runs = []\ndef test_other(): runs.append(1); assert len(runs) == 2")
    result = run(pytester, "--reruns=2")
    assert result.ret == pytest.ExitCode.OK


# -- Refused before anything is measured -----------------------------------------------------------

SEEN = {
    "option": (["--reruns=2"], "bandwidth", "found: --reruns=2, and the gate"),
    "ini": (["-o", "reruns=2"], "latency", "found: reruns=2, and the gate"),
    "forced": (["--force-reruns=2"], "latency", "found: --force-reruns=2, and"),
    "count": (["--count=3"], "latency", "found: a plugin that repeats tests, and"),
    "stepwise": (["--sw", "-p", "cacheprovider"], "latency", "found: --stepwise, and the gate"),
}


@pytest.mark.parametrize("how", SEEN)
def test_what_would_rerun_a_gate_is_refused_at_once(pytester: pytest.Pytester, how: str) -> None:
    args, fixture, found = SEEN[how]
    pytester.makepyfile(f"def test_gate({fixture}): pass")
    result = run(pytester, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = result.stderr.str()
    assert "a gate must not be rerun until it passes" in told
    assert found in told


@pytest.mark.parametrize("mark", ["flaky", "flaky(reruns=2)", "repeat(2)"])
def test_a_mark_that_would_rerun_a_gate_is_refused_at_once(
    pytester: pytest.Pytester, mark: str
) -> None:
    pytester.makepyfile(f"import pytest\n@pytest.mark.{mark}\ndef test_gate(bandwidth): pass")
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*found: the marker {mark.partition('(')[0]}, and the gate *"])


def test_gates_that_failed_are_not_tried_again_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_gate(k8snet, bandwidth): pass\ndef test_other(): pass")
    cache = ("-p", "cacheprovider", "--kubeconfig=missing.yaml")
    first = run(pytester, *cache)
    first.assert_outcomes(errors=1, passed=1)
    again = run(pytester, *cache, "--lf")
    assert again.ret == pytest.ExitCode.USAGE_ERROR
    again.stderr.fnmatch_lines(["*found: --last-failed, and the gate *::test_gate"])
    run(pytester, *cache, "--ff").assert_outcomes(errors=1, passed=1)

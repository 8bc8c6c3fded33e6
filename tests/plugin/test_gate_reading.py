"""How gates read in a real pytest run: the arms are simulated, everything above them is real."""

from __future__ import annotations

import pytest

ARMS = """
    import math, random
    import pytest
    from pytest_k8snet.verdict import Arm, Bandwidth, Judging, Observation, Plan

    def gate(ratio, sd=0.01, **plan):
        rng = random.Random(5)
        terms = Judging(plan=Plan(seed=5, **plan))

        def arm(label, base, **more):
            def take(turn):
                value = base * math.exp(rng.gauss(0, sd))
                return Observation(figures={"bandwidth": (value,)})
            return Bandwidth(Arm(label=label, take=take, **more), terms)

        return arm("pod-pod", ratio * 2.85e9, context="VXLAN-Always, node1 -> node2") / arm(
            "node-node", 2.85e9
        )
"""


def test_a_failing_gate_explains_itself(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        ARMS
        + """
    def test_floor():
        assert gate(0.344) >= 0.90
    """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *assert FAIL: pod-pod / node-node >= 0.90  (VXLAN-Always, node1 -> node2)",
            "E * bandwidth ratio 0.3??, interval ?0.3??, 0.3??? (5 % risk each side), "
            "4 pairs x 5 s, 0 discarded",
            "E * pod-pod   0.9? 0.9? * Gbit/s",
            "E * node-node 2.?? 2.?? * Gbit/s",
        ]
    )


def test_an_undecided_gate_is_its_own_category_and_fails_the_run(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        ARMS
        + """
    def test_close():
        assert gate(0.905, sd=0.04, last=6) >= 0.90

    def test_negated():
        assert not (gate(0.905, sd=0.04, last=6) >= 0.90)
    """
    )
    result = pytester.runpytest_subprocess("--junitxml=junit.xml")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*II*", "*2 inconclusive*"])
    assert "undecided: the limit lies within the interval" in (
        pytester.path / "junit.xml"
    ).read_text(encoding="utf-8")


def test_a_limit_on_the_left_is_explained_too(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        ARMS
        + """
    def test_band():
        assert 0.30 <= gate(0.6) <= 0.40
    """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *assert FAIL: pod-pod / node-node <= 0.40*"])


def test_passing_and_monitored_gates_pass(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        ARMS
        + """
    def test_passes():
        assert gate(0.95) >= 0.90
        assert 0.90 <= gate(0.95) <= 1.0

    def test_monitored():
        assert gate(0.5, monitor=True) >= 0.90
    """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


def test_a_gate_alone_is_refused_with_what_to_write(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        ARMS
        + """
    def test_forgotten():
        assert gate(0.95)
    """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*TypeError: pod-pod / node-node has no truth of its own; write assert ratio >= 0.90*"]
    )


def test_a_plan_that_cannot_work_ends_the_run_with_one_message(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest_subprocess("--k8snet-plan=first=9 last=4")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*the plan cannot work: last must be first (9) or more*"])


RERUN_PLUGIN = """
    def pytest_addoption(parser):
        parser.addoption("--reruns", type=int, default=0)  # as pytest-rerunfailures has it

    def pytest_configure(config):
        config.addinivalue_line("markers", "flaky(reruns): rerun a failed test")
"""


def test_a_gate_that_would_be_rerun_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(RERUN_PLUGIN)
    pytester.makepyfile(
        test_gate="def test_gate(bandwidth): pass",
        test_flaky="import pytest\n@pytest.mark.flaky(reruns=2)\ndef test_gate(latency): pass",
        test_other="def test_other(): pass",
    )
    refused = pytester.runpytest_subprocess("--reruns=2", "test_gate.py")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(
        [
            "*a gate must not be rerun until it passes*",
            "*found: --reruns=2, and the gate test_gate.py::test_gate",
        ]
    )
    marked = pytester.runpytest_subprocess("test_flaky.py")
    assert marked.ret == pytest.ExitCode.USAGE_ERROR
    marked.stderr.fnmatch_lines(["*the marker flaky, and the gate test_flaky.py::test_gate"])
    pytester.runpytest_subprocess("--reruns=2", "test_other.py").assert_outcomes(passed=1)

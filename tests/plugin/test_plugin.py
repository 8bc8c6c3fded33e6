import xml.etree.ElementTree as ElementTree

import pytest

TESTS = """
    import pytest
    from pytest_k8snet.errors import Inconclusive, PathError

    @pytest.fixture
    def broken():
        raise PathError("no proof", found="vxlan.calico carried nothing", remedy="look at routes")

    def test_trouble_in_setup(broken): pass

    def test_trouble_in_the_test():
        raise PathError("no proof", found="vxlan.calico carried nothing", remedy="look at routes")

    def test_missed_target(): assert 0.85 >= 0.90

    def test_undecided(): raise Inconclusive("after 20 pairs the interval still holds 0.90")

    def test_good(): pass
"""


@pytest.fixture
def result(pytester: pytest.Pytester) -> pytest.RunResult:
    pytester.makepyfile(TESTS)
    return pytester.runpytest_inprocess("-v", "--junitxml=junit.xml", "-rA")


def test_error_failed_and_inconclusive_are_three_different_words(
    result: pytest.RunResult,
) -> None:
    result.stdout.fnmatch_lines(
        [
            "*::test_trouble_in_setup ERROR*",
            "*::test_trouble_in_the_test ERROR*",
            "*::test_missed_target FAILED*",
            "*::test_undecided INCONCLUSIVE*",
            "*::test_good PASSED*",
        ]
    )
    result.stdout.fnmatch_lines(["*1 failed, 1 passed, 2 errors, 1 inconclusive*"])


def test_each_of_them_makes_the_run_fail(result: pytest.RunResult) -> None:
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_infrastructure_trouble_is_told_without_a_traceback(result: pytest.RunResult) -> None:
    result.stdout.fnmatch_lines(
        [
            "*PathError: no proof",
            "*found: vxlan.calico carried nothing",
            "*to do: look at routes",
            "*test:*test_*.py:*",
        ]
    )
    result.stdout.no_fnmatch_line("*raise PathError*")


def test_the_same_trouble_is_told_in_full_once_and_by_its_first_line_after_that(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("""
        import pytest
        from pytest_k8snet.errors import ConnectError

        @pytest.fixture(scope="session")
        def cluster():
            raise ConnectError("no way to the API server", found="timeout", remedy="see the VPN")

        @pytest.mark.parametrize("number", range(3))
        def test_any(cluster, number): pass

        def test_other(cluster):
            pass
    """)
    result = pytester.runpytest_inprocess("-rN")
    result.assert_outcomes(errors=4)
    output = result.stdout.str()
    assert output.count("ConnectError: no way to the API server") == 4
    assert output.count("to do: see the VPN") == 1
    first = "test_the_same_trouble_is_told_in_full_once_and_by_its_first_line_after_that.py"
    assert output.count(f"  found: the same as at {first}::test_any[0] (setup)") == 3


def test_only_inconclusive_alone_fails_the_run_too(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        from pytest_k8snet.errors import Inconclusive
        def test_undecided(): raise Inconclusive("more pairs are needed")
    """)
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*test_only*.py I*",
            "*= INCONCLUSIVE =*",
            "*_ test_undecided _*",
            "more pairs are needed",
            "*1 inconclusive*",
        ]
    )


def test_junit_tells_errors_from_failures(
    result: pytest.RunResult, pytester: pytest.Pytester
) -> None:
    suite = ElementTree.parse(pytester.path / "junit.xml").getroot()[0]
    kinds = {
        case.get("name"): [child.tag for child in case if child.tag in ("failure", "error")]
        for case in suite.iter("testcase")
    }
    assert kinds["test_missed_target"] == ["failure"]
    assert kinds["test_trouble_in_setup"] == ["error"]
    assert kinds["test_trouble_in_the_test"] == ["error"]
    assert kinds["test_undecided"] == ["failure"]
    message = next(
        child.get("message", "")
        for case in suite.iter("testcase")
        if case.get("name") == "test_undecided"
        for child in case
    )
    assert message.startswith("inconclusive: ")


TOOLS_TEST = """
    from pytest_k8snet.tools import curl, iperf3

    def test_garbage(): iperf3.parse("Segmentation fault")
    def test_nothing(): iperf3.parse("", exit_code=0)
    def test_killed(): iperf3.parse('{"start": {"conn', exit_code=124)
    def test_curl_garbage(): curl.parse("<html>Login</html>")
    def test_curl_option(): curl.parse("", expected_requests=3, exit_code=2, stderr="curl: (2) no")
"""


def test_output_that_is_no_measurement_is_an_error_and_never_a_missed_target(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(TOOLS_TEST)
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=5)
    output = result.stdout.str()
    assert "Traceback" not in output
    assert output.count("  to do: ") == 5
    for message in (
        ["Garbage: iperf3's output is text that is no JSON", "  found: Segmentation fault"],
        ["Empty: iperf3 printed nothing", "  found: empty stdout and stderr, exit status 0"],
        [
            "CutOff: iperf3's output is cut off",
            "  found: the JSON ends in the middle; stopped from outside, exit status 124; *",
        ],
        [
            "Garbage: line 1 of curl's output is no measurement",
            "  found: line 1: <html>Login</html>",
        ],
        ["BadOption: curl does not accept an option", "  found: curl: (2) no; exit status 2"],
    ):
        result.stdout.fnmatch_lines(message, consecutive=True)


INTERRUPTED = """
    import types

    def interrupted():
        raise KeyboardInterrupt("signal SIGTERM")

    # As of a signal that arrives between the instructions of two lines: up to eight instructions
    # at a time are said to have no line.
    code = interrupted.__code__
    units = len(code.co_code) // 2
    table = bytes(0xF8 | min(8, units - start) - 1 for start in range(0, units, 8))
    nowhere = types.FunctionType(code.replace(co_linetable=table), globals())

    def test_it():
        nowhere()
"""


def test_an_interruption_between_two_lines_ends_the_run_as_any_other(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(INTERRUPTED)
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*KeyboardInterrupt: signal SIGTERM*"])
    assert "Traceback" not in result.stderr.str()


# -- Gates: the arms are simulated, everything above them is real ----------------------------------

ARMS = """
    import math, random
    import pytest
    from pytest_k8snet.verdict import Arm, Bandwidth, Judging, Observation, Plan

    def gate(ratio, sd=0.01, **plan):
        rng = random.Random(5)
        terms = Judging(plan=Plan(seed=5, span_seconds=0, outlier=0, **plan))

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
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*SettingsError: pod-pod / node-node has no truth of its own; write assert ratio >= 0.90*"]
    )

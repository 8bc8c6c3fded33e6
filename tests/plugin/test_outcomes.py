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

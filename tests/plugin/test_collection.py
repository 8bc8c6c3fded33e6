import pytest


def test_modes_not_asked_for_are_deselected(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_mode(calico_mode): pass")
    result = pytester.runpytest_inprocess("--collect-only", "-q", "--k8snet-modes=never,vxlan")
    result.stdout.fnmatch_lines(["*test_mode?Never?", "*test_mode?VXLAN-Always?"])
    result.stdout.fnmatch_lines(["2/5 tests collected (3 deselected)*"])


def test_the_marker_picks_modes_for_one_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.mark.k8snet_modes("IPIP-Always")
        def test_mode(calico_mode): pass
    """)
    result = pytester.runpytest_inprocess("--collect-only", "-q", "--strict-markers")
    result.stdout.fnmatch_lines(["*test_mode?IPIP-Always?", "1/5 tests collected*"])


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

import pytest

TEST = """
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
    pytester.makepyfile(TEST)
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*KeyboardInterrupt: signal SIGTERM*"])
    assert "Traceback" not in result.stderr.str()

import pytest

TEST = """
    import types

    def interrupted():
        raise KeyboardInterrupt("signal SIGTERM")

    # As of a signal that arrives between the instructions of two lines.
    nowhere = types.FunctionType(interrupted.__code__.replace(co_linetable=b""), globals())

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

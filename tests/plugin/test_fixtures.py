from pathlib import Path

import pytest


def test_a_fixture_of_the_users_own_wins(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.fixture
        def calico_mode(): return "mine"

        def test_mode(calico_mode): assert calico_mode == "mine"
    """)
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_run_that_is_asked_for_while_a_test_runs_ends_in_the_same_error(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    pytester.makepyfile("def test_late(request): request.getfixturevalue('k8snet')")
    result = pytester.runpytest_inprocess(f"--kubeconfig={tmp_path / 'none.yaml'}")
    output = result.stdout.str()
    assert "Not passed: 1 error" in output
    assert "KeyError" not in output
    assert "none.yaml" in output

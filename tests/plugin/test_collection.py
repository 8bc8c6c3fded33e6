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

"""Every pytest run of an environment loads the plugin: it must cost next to nothing."""

import json
import subprocess
import sys

import pytest

import pytest_k8snet

#: Whole packages, ours or others', that only a measuring run may load.
HEAVY = {
    *("kubernetes", "websocket", "urllib3", "yaml", "pytest_html", "jinja2"),
    *("asyncio", "aiohttp", "cryptography", "jsonpatch", "statistics"),
    *(f"pytest_k8snet.{part}" for part in ("lab", "cluster", "calico", "measure", "report")),
    *(f"pytest_k8snet.{part}" for part in ("tools", "verdict", "settings")),
}

#: What the extra "lab" brings.
EXTRA = ("aiohttp", "cryptography", "jsonpatch", "jsonpointer")


def loaded_by(script: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{script}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_what_the_entry_point_reaches_is_light() -> None:
    modules = loaded_by("import pytest_k8snet.plugin, pytest_k8snet.fixtures")
    # pytest itself may load some of them; what counts is our own share.
    assert modules & HEAVY - loaded_by("import pytest") == set()


@pytest.mark.parametrize(
    "args", [["--collect-only"], ["--fixtures"], ["--help"], ["--k8snet-lab", "--collect-only"]]
)
def test_a_run_that_measures_nothing_starts_nothing(
    pytester: pytest.Pytester, args: list[str]
) -> None:
    pytester.makepyfile("def test_pods(pod_pair, calico_mode): pass")
    modules = loaded_by(f"import pytest\npytest.main({['-p', 'no:html', *args]!r})")
    started = {"kubernetes", "aiohttp", "pytest_k8snet.lab", "pytest_k8snet.cluster"}
    assert modules & started == set()


@pytest.mark.parametrize(
    "args", [["lab", "--help"], ["completion", "bash"], ["completion", "zsh"], ["images"]]
)
def test_what_needs_no_lab_needs_no_package_of_its_extra(args: list[str]) -> None:
    absent = "".join(f"sys.modules[{name!r}] = None\n" for name in EXTRA)
    script = f"import sys\n{absent}from pytest_k8snet.cli import main\nsys.exit(main({args!r}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_our_modules_are_not_compiled_anew_in_every_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_loader():
            import pytest_k8snet.launch
            # Of what pytest rewrites it would be its AssertionRewritingHook.
            assert type(pytest_k8snet.launch.__loader__).__name__ == "SourceFileLoader"
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_every_public_name_is_found_where_editors_read_it() -> None:
    names = [name for name in dir(pytest_k8snet) if name[0].isalpha()]
    assert {"Run", "Pair", "CalicoMode", "Gbit", "Inconclusive"} < set(names)
    assert [name for name in names if not hasattr(pytest_k8snet, name)] == []
    with pytest.raises(AttributeError, match="module 'pytest_k8snet' has no attribute 'Gbits'"):
        pytest_k8snet.Gbits  # type: ignore[attr-defined]  # noqa: B018


def test_a_public_name_loads_nothing_but_its_home() -> None:
    modules = loaded_by("from pytest_k8snet import Gbit, ms")
    ours = {name for name in modules if name.startswith("pytest_k8snet")}
    assert ours == {"pytest_k8snet", "pytest_k8snet.units"}

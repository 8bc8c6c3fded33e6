"""Every pytest run of an environment loads the plugin: it must cost next to nothing."""

import json
import subprocess
import sys

import pytest

#: Whole packages, ours or others', that only a measuring run may load.
HEAVY = {
    *("kubernetes", "websocket", "urllib3", "yaml", "pytest_html", "jinja2"),
    *("asyncio", "aiohttp", "cryptography", "jsonpatch", "statistics"),
    *(f"pytest_k8snet.{part}" for part in ("lab", "cluster", "calico", "measure", "report")),
    *(f"pytest_k8snet.{part}" for part in ("tools", "verdict", "settings")),
}


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

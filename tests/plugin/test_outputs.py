"""A run's files are of this run from its first moment, whatever becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_k8snet.cli import main

OUTPUTS = ("--k8snet-results=r.jsonl", "--k8snet-report=r.html", "--k8snet-summary=s.md")
STALE = "Passed: yesterday's evidence"


@pytest.fixture
def folder(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the report and the summary of an earlier run."""
    for name in ("r.html", "s.md"):
        (pytester.path / name).write_text(STALE, encoding="utf-8")
    monkeypatch.chdir(pytester.path)
    return pytester.path


def drawn(folder: Path) -> dict[str, str]:
    """What each file says, and what is drawn of the results file."""
    assert main(["report", "r.jsonl", "-o", "again.html"]) == 0
    found = {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ("r.html", "s.md", "again.html")
    }
    assert STALE not in "".join(found.values())
    return found


@pytest.mark.parametrize(
    ("files", "arguments", "word", "reason"),
    [
        ({"test_a": "def test_x(: pass"}, [], "Not passed", "invalid syntax"),
        ({"test_a": "def test_x(): pass"}, ["-k", "nothing"], "Nothing was tested", "-k nothing"),
        ({"test_a": "def test_x(): pass"}, ["--no-such"], "Nothing was tested", "--no-such"),
        ({"test_a": ""}, ["none.py"], "Nothing was tested", "none.py"),
        ({"test_a": ""}, ["--k8snet-nodes=one"], "Nothing was tested", "one node makes no pair"),
        ({"conftest": "import nowhere"}, [], "Nothing was tested", "nowhere"),
        (
            {"test_a": "import pytest\ndef test_x(): pytest.exit('stopped by hand')"},
            [],
            "Cut off before its end",
            "1 test not finished: test_x",
        ),
        (
            {"conftest": "def pytest_runtest_setup(item): raise SystemExit(3)", "test_a": ""},
            [],
            "Nothing was tested",
            "",
        ),
    ],
    ids=["syntax", "k", "flag", "file", "setting", "conftest", "exit", "empty"],
)
def test_a_run_without_a_result_says_so_in_its_files(
    pytester: pytest.Pytester,
    folder: Path,
    files: dict[str, str],
    arguments: list[str],
    word: str,
    reason: str,
) -> None:
    for name, source in files.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    pytester.runpytest_subprocess(*OUTPUTS, *arguments)
    for text in drawn(folder).values():
        assert word in text
        assert reason.replace("-", "\\-") in text.replace("-", "\\-")


def test_while_it_runs_its_files_say_that_there_is_no_result_yet(
    pytester: pytest.Pytester, folder: Path
) -> None:
    pytester.makepyfile(
        """
        from pathlib import Path

        def test_look():
            for name in ("r.html", "s.md"):
                assert "Running, no result yet" in Path(name).read_text()
        """
    )
    assert pytester.runpytest_subprocess(*OUTPUTS).ret == 0
    assert all("Running" not in text for text in drawn(folder).values())


def test_a_killed_run_leaves_files_that_are_no_evidence(
    pytester: pytest.Pytester, folder: Path
) -> None:
    pytester.makepyfile("import os\ndef test_x(): os.kill(os.getpid(), 9)")
    pytester.runpytest_subprocess(*OUTPUTS)
    for text in drawn(folder).values():
        assert "Running, no result yet" in text
        assert "it was killed before it measured anything" in text


@pytest.mark.parametrize("look", ["--collect-only", "--fixtures", "--setup-plan", "--help"])
def test_what_only_looks_leaves_an_earlier_runs_files_alone(
    pytester: pytest.Pytester, folder: Path, look: str
) -> None:
    pytester.makepyfile("def test_x(): pass")
    pytester.runpytest_subprocess(*OUTPUTS, look)
    assert (folder / "r.html").read_text(encoding="utf-8") == STALE
    assert (folder / "s.md").read_text(encoding="utf-8") == STALE
    assert not (folder / "r.jsonl").exists()


def test_workers_do_not_write_what_their_controller_writes(
    pytester: pytest.Pytester, folder: Path
) -> None:
    pytester.makepyfile("def test_x(): pass")
    assert pytester.runpytest_subprocess(*OUTPUTS, "-n1").ret == 0
    runs = (folder / "r.jsonl").read_text(encoding="utf-8").count('"kind":"end"')
    assert runs == 1


@pytest.mark.parametrize(
    ("files", "arguments", "told", "hidden"),
    [
        (
            {"test_a": "import pytest\n@pytest.mark.xfail(reason='bug 12')\n"
             "def test_x(): assert 0\ndef test_y(): pass"},
            [],
            "1 passed, 1 failed as expected|1 test failed as expected (xfail: bug 12)",
            "1 skipped",
        ),
        (
            {"test_a": "import pytest\n@pytest.mark.xfail(run=False)\ndef test_x(): assert 0\n"
             "def test_y(): pass"},
            [],
            "1 passed, 1 skipped",
            "as expected",
        ),
        (
            {"test_a": "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_x(): pass"},
            [],
            "Not passed|1 failed",
            "as expected",
        ),
        (
            {"test_a": "def test_x(): assert 0\ndef test_y(): pass", "test_b": "def test_z(): 1"},
            ["-x"],
            "Not passed|1 failed, 2 not finished|2 of 3 tests did not run to an end",
            "",
        ),
        (
            {"test_a": "import nowhere", "test_b": "def test_z(): pass"},
            ["--continue-on-collection-errors"],
            "Not passed|1 error, 1 passed",
            "not finished",
        ),
        (
            {"test_a": "def test_x(): pass\ndef test_y(): assert 0"},
            ["-n1"],
            "Not passed|1 failed, 1 passed",
            "Nothing was tested",
        ),
        (
            {"test_a": "import pytest\n@pytest.mark.skipif(True, reason='not <b>here</b>')\n"
             "def test_x(): pass\ndef test_y(): pass"},
            [],
            "Passed what was tested: 1 of 2 tests|1 test skipped: not &lt;b&gt;here&lt;/b&gt;",
            "<b>",
        ),
    ],
    ids=["xfail", "not-run", "xpass", "first", "collection", "workers", "skipif"],
)  # fmt: skip
def test_what_became_of_a_run_is_told_as_pytest_has_it(
    pytester: pytest.Pytester,
    folder: Path,
    files: dict[str, str],
    arguments: list[str],
    told: str,
    hidden: str,
) -> None:
    for name, source in files.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    pytester.runpytest_subprocess(*OUTPUTS, *arguments)
    texts = drawn(folder)
    for text in (texts["s.md"].replace("\\", ""), texts["again.html"]):
        assert [one for one in told.split("|") if one not in text] == []
        assert not hidden or hidden not in text


def test_what_last_failed_leaves_out_is_said_though_nobody_counts_it(
    pytester: pytest.Pytester, folder: Path
) -> None:
    pytester.makepyfile(test_a="def test_x(): pass", test_b="import os\ndef test_y(): os.stat('b')")
    pytester.runpytest_subprocess("-p", "cacheprovider")
    (folder / "b").touch()
    pytester.runpytest_subprocess(*OUTPUTS, "-p", "cacheprovider", "--lf")
    assert "what was left out by --last-failed" in drawn(folder)["s.md"]


def test_what_was_left_out_and_what_was_skipped_is_said(
    pytester: pytest.Pytester, folder: Path
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(params=["Never", "VXLAN-Always", "IPIP-Always"])
        def calico_mode(request):
            if request.param != "Never":
                pytest.skip(f"mode {request.param} may not be made here")
            return request.param

        def test_mode(calico_mode): pass
        def test_other(): pass
        """
    )
    pytester.runpytest_subprocess(*OUTPUTS, "-k", "not other and not IPIP")
    for text in drawn(folder).values():
        text = text.replace("\\", "")
        assert "Passed what was tested: 1 of 2 modes" in text
        assert "modes VXLAN-Always; 1 test skipped: that mode may not be made here" in text
        assert "2 tests left out by -k not other and not IPIP (modes IPIP-Always)" in text

"""The report in a real pytest run: terminal, pytest-html, JUnit and results file side by side."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import termios
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pytest_k8snet.report.documents import render_page
from pytest_k8snet.report.records import read

FIXTURES = Path(__file__).parent.parent / "unit" / "report"

# Stands for the k8snet fixture: the records come from the study instead of a cluster.
CONFTEST = """
import sys
from pathlib import Path

import pytest

sys.path.insert(0, {fixtures!r})
from study_records import Study

from pytest_k8snet.report.recorder import Progress
from pytest_k8snet.report.hooks import register_html
from pytest_k8snet.report.recorder import Recorder
from pytest_k8snet.options import RECORDER


def content(record):
    return {{name: record[name] for name in record if name not in ("run", "time", "id", "test")}}


def pytest_configure(config):
    made = Study()
    made.begin()
    recorder = Recorder(
        Path("r.jsonl"), "k8snet-abc123", progress=Progress(config), summary_path=Path("s.md")
    )
    for record in made.records:
        recorder.add(content(record))
    config.stash[RECORDER] = recorder
    register_html(config, recorder)


@pytest.fixture
def measure(request):
    made, recorder = Study(), request.config.stash[RECORDER]

    def iperf3(scene, mode, **changes):
        recorder.started(f"{{scene}} node1 -> node2", 5)
        recorder.noted("pod-pod / node-node >= 0.90: 3 of at most 20 pairs")
        made.iperf3("", scene, mode, **changes)
        recorder.finished()
        return recorder.add(content(made.records[-1]))

    return iperf3
"""

TESTS = """
import pytest

from pytest_k8snet.errors import ClusterError, Inconclusive


def test_good(measure):
    measure("node-node", None)
    measure("pod-pod", "Never")


def test_bad(measure):
    measure("pod-pod", "VXLAN-Always")
    assert 0.344 >= 0.90, "ratio 0.344 is below 0.90"


def test_undecided(measure):
    raise Inconclusive("INCONCLUSIVE: 20 pairs did not decide")


@pytest.mark.parametrize("name", ["<b>bold</b><script>alert(1)</script>"])
def test_hostile(measure, name):
    measure("pod-pod", "Never", client={"kind": "pod", "name": "<img src=x>\\x1b[31m", "node": "n"})


def test_evil_words():
    raise ClusterError("no \\x1b[31m\\u202eroute", found="\\x1b]0;title\\x07", remedy="wait")


def test_far():
    pytest.skip("no two nodes lie in different subnets")
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(CONFTEST.format(fixtures=str(FIXTURES)))
    (tmp_path / "test_suite.py").write_text(TESTS)
    return tmp_path


def run(suite: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=suite,
        env={**os.environ, "COLUMNS": "120", "PY_COLORS": "0"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_terminal_ends_with_the_table_and_what_was_undecided(suite: Path) -> None:
    done = run(suite)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert "Bandwidth in Gbit/s: mean, and its ratio to node-node" in lines
    assert "Not passed: 1 failed, 1 error, 1 inconclusive, 2 passed, 1 skipped" in lines
    assert "INCONCLUSIVE: 20 pairs did not decide" in lines
    assert "\x1b" not in done.stdout
    assert "ClusterError: no \\x1b[31m\\u202eroute" in done.stdout
    assert "left" not in done.stdout


@pytest.mark.parametrize(("option", "shown"), [("-q", True), ("-qq", False), ("-v", True)])
def test_the_table_is_shown_unless_the_run_is_very_quiet(
    suite: Path, option: str, shown: bool
) -> None:
    assert ("Bandwidth in Gbit/s" in run(suite, option).stdout) is shown


def test_the_results_file_and_the_summary_are_whole(suite: Path) -> None:
    run(suite)
    results = read(suite / "r.jsonl")
    kinds = [record["kind"] for record in results.records]
    assert kinds[0] == "run"
    assert kinds[-1] == "end"
    assert kinds.count("sample") == 4
    outcomes = {
        record["test"]: record["outcome"] for record in results.records if record["kind"] == "test"
    }
    assert outcomes["test_suite.py::test_undecided"] == "inconclusive"
    reasons = [record["reason"] for record in results.records if record["kind"] == "test"]
    assert "ratio 0.344 is below 0.90\nassert 0.344 >= 0.9" in reasons
    assert "no two nodes lie in different subnets" in reasons
    assert (suite / "s.md").read_text(encoding="utf-8").startswith("## Not passed")
    samples = [record for record in results.records if record["kind"] == "sample"]
    assert samples[0]["test"] == "test_suite.py::test_good"
    assert "Not passed" in render_page(results.records)


def test_junit_has_the_figures_as_properties(suite: Path) -> None:
    run(suite, "--junitxml=j.xml")
    root = ElementTree.parse(suite / "j.xml").getroot()
    names = [found.get("name") for found in root.iter("property")]
    assert "k8snet.iperf3.node-node.same-subnet.node1 -> node2.bandwidth_bits_per_second" in names
    pods = "k8snet.iperf3.pod-pod.same-subnet.VXLAN-Always.node1 -> node2"
    assert f"{pods}.bandwidth_bits_per_second" in names
    assert not [name for name in names if re.search(r"k8snet-[0-9a-f]{6}|\bs\d{4}\b", str(name))]


def test_pytest_htmls_page_holds_the_static_report_and_the_tests_figures(suite: Path) -> None:
    run(suite, "--html=r.html", "--self-contained-html", "--k8snet-ticket=CHG-1234: new")
    page = (suite / "r.html").read_text(encoding="utf-8")
    before_script = page[: page.index("<script>")]
    assert "Not passed</h2>" in before_script
    assert "ratio 0.344 is below 0.90" in before_script
    (blob,) = re.findall(r'data-jsonblob="([^"]*)"', page)
    data: Any = json.loads(unescape(blob))
    (row,) = data["tests"]["test_suite.py::test_bad"]
    assert "Mbit/s" in row["extras"][0]["content"]
    assert "tcp_mss_default" in row["extras"][0]["content"]
    (undecided,) = data["tests"]["test_suite.py::test_undecided"]
    assert undecided["resultsTableRow"][1].endswith("test_undecided (inconclusive)</td>")
    assert data["environment"]["k8snet"] == "CHG-1234: Not passed (6 tests)"
    assert data["environment"]["calico_version"] == "v3.28.0"
    assert len(page.encode()) < 3_000_000


def test_nothing_hostile_becomes_markup_in_pytest_htmls_page(suite: Path) -> None:
    run(suite, "--html=r.html", "--self-contained-html")
    page = (suite / "r.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "<img src=x>" not in page
    (blob,) = re.findall(r'data-jsonblob="([^"]*)"', page)
    data: Any = json.loads(unescape(blob))
    for rows in data["tests"].values():
        for row in rows:
            for text in (*row["resultsTableRow"], *(one["content"] for one in row["extras"])):
                assert "<script>" not in text
                assert "<img" not in text


def test_without_pytest_html_nothing_of_it_is_missed(suite: Path) -> None:
    done = run(suite, "-p", "no:html")
    assert "Bandwidth in Gbit/s" in done.stdout
    assert done.returncode == 1


def test_on_a_terminal_progress_is_drawn_and_wiped(suite: Path) -> None:
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 140))
    environment = {
        name: value for name, value in os.environ.items() if name not in ("CI", "COLUMNS")
    }
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no"],
        cwd=suite,
        env={**environment, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.STDOUT,
    ):
        os.close(terminal)
        seen = b""
        while True:
            try:
                part = os.read(controller, 65536)
            except OSError:
                # Linux says EIO where the last writer has gone.
                break
            if not part:
                break
            seen += part
    os.close(controller)
    drawn = seen.decode()
    assert "\r  node-node node1 -> node2 · 5 s left" in drawn
    assert "3 of at most 20 pairs" in drawn
    assert "\x1b[3" not in drawn
    final = [line.rsplit("\r", 1)[-1] for line in drawn.replace("\r\n", "\n").split("\n")]
    assert not any("s left" in line for line in final)

"""Several runs side by side: figures over time, and two runs compared without a cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from study_records import Record, Study

from pytest_k8snet.cli import main
from pytest_k8snet.errors import ResultsError
from pytest_k8snet.report.records import read, read_runs
from pytest_k8snet.report.runs import compare, history


def run_of(day: int, share: float, *, kernel: str = "6.1.0-21-amd64") -> list[Record]:
    made = Study(day)
    made.begin()
    made.records.pop()
    made.facts("before", kernel=kernel)
    name = "t.py::test_overlay[VXLAN-Always]"
    ids = [
        [
            made.iperf3(name, "pod-pod", "VXLAN-Always", gbit=2.85 * share),
            made.iperf3(name, "node-node", None),
        ]
        for _ in range(4)
    ]
    made.verdict(
        name,
        "pass" if share >= 0.9 else "fail",
        mode="VXLAN-Always",
        estimate=share,
        low=share - 0.01,
        high=share + 0.01,
        samples=ids,
    )
    made.curl("t.py::test_web", "node-clusterip", requests=20)
    made.end(0, None)
    return [
        {**one, "run": f"k8snet-00000{day}", "time": one["time"].replace("11-23", f"11-0{day}")}
        for one in made.records
    ]


def written(path: Path, *runs: list[Record]) -> Path:
    path.write_text("".join(f"{json.dumps(one)}\n" for run in runs for one in run), "utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written(tmp_path / "b.jsonl", run_of(3, 0.88))
    written(tmp_path / "a.jsonl", run_of(1, 0.96), run_of(2, 0.93))
    return tmp_path


def test_a_figure_is_followed_over_all_runs_of_all_files_by_time(folder: Path) -> None:
    lines = history([folder]).text().splitlines()
    at = lines.index("pod-pod, same-subnet [VXLAN-Always]: bandwidth / node-node, %")
    rows = [re.split(" {2,}", line) for line in lines[at + 3 : at + 6]]
    assert rows == [
        ["2026-11-01 01:00:00 UTC", "k8snet-000001", "96.0 [95.0, 97.0]", "≥ 90 %", "PASS"],
        ["2026-11-02 01:00:00 UTC", "k8snet-000002", "93.0 [92.0, 94.0]", "≥ 90 %", "PASS"],
        ["2026-11-03 01:00:00 UTC", "k8snet-000003", "88.0 [87.0, 89.0]", "≥ 90 %", "FAIL"],
    ]
    assert any(line.startswith("node-clusterip: median total") for line in lines)


def test_a_page_of_history_draws_limits_red_only_where_they_are_missed(folder: Path) -> None:
    page = history([folder / "a.jsonl", folder / "b.jsonl"]).page()
    assert page.count('class="s-kept"') == 2 * 2
    assert page.count('class="s-limit"') == 2
    assert "<script" not in page


def test_a_run_that_two_files_hold_counts_once(folder: Path) -> None:
    (folder / "copy.jsonl").write_bytes((folder / "a.jsonl").read_bytes())
    assert history([folder]).runs == 3


def test_what_holds_no_figure_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", run_of(1, 0.9)[:2])
    with pytest.raises(ResultsError, match="there is no figure to follow"):
        history([path])


def test_every_run_of_a_file_is_read_and_the_newest_is_the_last(folder: Path) -> None:
    runs = read_runs(folder / "a.jsonl")
    assert [one.runs[-1] for one in runs] == ["k8snet-000001", "k8snet-000002"]
    assert runs[-1] == read(folder / "a.jsonl")
    assert ", the newest of 2 in " in runs[-1].which
    assert "newest" not in runs[0].which


def test_two_runs_are_compared_with_an_honest_interval_and_what_differs(tmp_path: Path) -> None:
    before = written(tmp_path / "before.jsonl", run_of(1, 0.96))
    after = written(tmp_path / "after.jsonl", run_of(2, 0.88, kernel="6.12.1-amd64"))
    text = compare(before, after).text()
    assert text.startswith("before: run k8snet-000001 of 2026-11-01")
    (row,) = re.findall(r"pod-pod, same-subnet \[VXLAN-Always\], bandwidth +(.*)", text)
    ratio, low, high = map(float, re.findall(r"\b\d\d\.\d(?= %|,|\])", row))
    assert low < ratio < high < 100
    assert ratio == pytest.approx(88 / 0.96, abs=2)
    assert "node node2: kernel  6.1.0-21-amd64  6.12.1-amd64" in text
    assert "not paired: the interval of a ratio is Welch's" in text


def test_runs_without_a_common_figure_are_refused(tmp_path: Path) -> None:
    made = Study()
    made.begin()
    made.iperf3("t", "pod-node", "Never")
    made.end(0)
    before = written(tmp_path / "before.jsonl", run_of(1, 0.96))
    with pytest.raises(ResultsError, match="no figure in common"):
        compare(before, written(tmp_path / "after.jsonl", made.records))


def test_the_commands_print_and_draw(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = folder / "page.html"
    assert main(["history", str(folder), "-o", str(page)]) == 0
    assert "5 figures in 3 runs" in page.read_text("utf-8")
    assert main(["compare", str(folder / "a.jsonl"), str(folder / "b.jsonl"), "-o", str(page)]) == 0
    assert "as before" in page.read_text("utf-8")
    printed = capsys.readouterr().out
    assert "No recorded fact differs." in printed
    assert f"wrote {page}" in printed
    assert main(["report", str(folder / "a.jsonl"), "-o", str(page)]) == 0
    printed = capsys.readouterr().err
    assert "run k8snet-000002 of 2026-11-02T01:00:00.250Z, the newest of 2 in" in printed

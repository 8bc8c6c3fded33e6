from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from study_records import Record, study

from pytest_k8snet.errors import ResultsError
from pytest_k8snet.report.documents import render_page
from pytest_k8snet.report.records import ResultsWriter, complete, read


def written(path: Path, records: list[Record]) -> Path:
    writer = ResultsWriter(path)
    for record in records:
        writer.write(record)
    writer.close()
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    records = study()
    results = read(written(tmp_path / "r.jsonl", records))
    assert results.records == records
    assert results.cut_line is None
    assert results.note == ""


def test_the_report_of_a_results_file_is_byte_equal_to_the_runs_own(tmp_path: Path) -> None:
    records = study()
    again = read(written(tmp_path / "r.jsonl", records)).records
    assert render_page(again) == render_page(records)


def test_a_file_holds_one_object_a_line_in_ascii(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", study())
    lines = path.read_text(encoding="ascii").splitlines()
    assert len(lines) == len(study())
    assert all(json.loads(line)["schema"] == 1 for line in lines)


def test_a_second_run_is_appended_and_is_the_one_that_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", study())
    later = [{**record, "run": "k8snet-later1"} for record in study()[:5]]
    written(path, later)
    results = read(path)
    assert results.runs == ("k8snet-5tudy1", "k8snet-later1")
    assert results.records == later


@pytest.mark.parametrize("share", [0.1, 0.37, 0.5, 0.83, 0.999])
def test_a_file_cut_anywhere_is_read_up_to_the_cut_and_drawn(tmp_path: Path, share: float) -> None:
    whole = written(tmp_path / "whole.jsonl", study()).read_bytes()
    path = tmp_path / "cut.jsonl"
    path.write_bytes(whole[: int(len(whole) * share)])
    results = read(path)
    assert results.records == study()[: len(results.records)]
    assert results.cut_line == len(results.records) + 1
    assert "was cut off in the middle of writing" in results.note
    assert "Cut off before its end" in render_page(results.records) or any(
        record["kind"] == "test" and record["outcome"] in ("failed", "error")
        for record in results.records
    )


def test_a_run_after_a_cut_one_begins_on_a_line_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", study())
    path.write_bytes(path.read_bytes()[:-30])
    later = [{**record, "run": "k8snet-later1"} for record in study()]
    written(path, later)
    assert read(path).records == later


def test_damage_in_the_middle_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", study())
    lines = path.read_bytes().splitlines(keepends=True)
    lines[6] = lines[6][:40] + b"\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(ResultsError) as caught:
        read(path)
    assert caught.value.problem == f"{path} is damaged at line 7"
    assert caught.value.found.startswith("not JSON: ")
    assert f"head -n 6 {path} > whole.jsonl" in caught.value.remedy


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"schema": 2}, "schema 2, this version reads 1; a newer pytest-k8snet wrote it"),
        ({"schema": None}, "schema None, this version reads 1"),
        ({"kind": "gossip"}, "kind 'gossip' is none of run, facts, change, switch, sample,"),
        ({"kind": ["run"]}, "kind ['run'] is none of run,"),
        ({"kind": "test", "test": "t"}, "a test record without 'outcome'"),
        ({"kind": "test", "test": "t", "outcome": "fine"}, "outcome 'fine' is none of error,"),
        ({"kind": "test", "test": 3, "outcome": "passed"}, "test is int instead of str"),
        (
            {"kind": "sample", "id": "s", "tool": "iperf3", "scene": "x", "figures": []},
            "sample: figures is list instead of dict",
        ),
    ],
)
def test_a_line_that_is_no_record_says_why(
    tmp_path: Path, change: dict[str, object], found: str
) -> None:
    first = study()[0]
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(first) + "\n" + json.dumps({**first, **change}) + "\n")
    with pytest.raises(ResultsError) as caught:
        read(path)
    assert caught.value.problem == f"{path} is damaged at line 2"
    assert found in caught.value.found


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"hello\n", b"[1, 2]\n", b'{"a": NaN}\n', b"\xff\xfe\n", b"[" * 100_000],
)
def test_something_else_is_no_results_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    with pytest.raises(ResultsError) as caught:
        read(path)
    assert str(path) in caught.value.problem
    assert caught.value.remedy


def test_a_file_that_begins_without_a_run_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", study()[1:])
    with pytest.raises(ResultsError, match="is damaged at line 1"):
        read(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError) as caught:
        read(tmp_path / "none.jsonl")
    assert caught.value.found == "No such file or directory"


def test_nothing_is_appended_to_a_file_of_somebody_elses(tmp_path: Path) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("Chapter one\n")
    with pytest.raises(ResultsError) as caught:
        ResultsWriter(path)
    assert caught.value.problem == f"{path} exists and is no results file"
    assert path.read_text() == "Chapter one\n"


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cannot be written"):
        ResultsWriter(tmp_path / "none" / "r.jsonl")


def test_a_full_disk_is_an_error_of_ours() -> None:
    writer = ResultsWriter(Path("/dev/full"))
    with pytest.raises(ResultsError) as caught:
        writer.write(study()[0])
    writer.close()
    assert caught.value.found == "No space left on device"


def test_a_killed_writer_leaves_whole_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    script = (
        "import sys, pathlib\n"
        "from pytest_k8snet.report.recorder import Recorder\n"
        "recorder = Recorder(pathlib.Path(sys.argv[1]), 'k8snet-abc123')\n"
        "recorder.add({'kind': 'run', 'tool_version': '0'})\n"
        "while True:\n"
        "    recorder.add({'kind': 'sample', 'tool': 'iperf3', 'scene': 's', 'raw': 'x' * 50000})\n"
        "    print(len(recorder.records), flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(5)][-1]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    results = read(path)
    assert len(results.records) >= told
    assert "Cut off before its end" in render_page(results.records)


def test_a_record_holds_plain_values_only() -> None:
    made = complete(
        {"kind": "end", "exit_status": 0, "seconds": float("inf"), "counts": {1: (2, 3)}},
        run="r",
        time="t",
    )
    assert made["seconds"] is None
    assert made["counts"] == {"1": [2, 3]}
    with pytest.raises(ResultsError) as caught:
        complete({"kind": "end", "exit_status": 0, "counts": {"a": {1, 2}}}, run="r", time="t")
    assert caught.value.found == "record.counts.a is set: {1, 2}"

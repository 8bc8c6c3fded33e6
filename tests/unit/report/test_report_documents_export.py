"""Figures for other programs: what is exported, what is left out, and that others can read it."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from study_records import RUN, Study, study

from pytest_k8snet.cli import main
from pytest_k8snet.report.documents import csv_text, openmetrics_text


def rows(records: list[dict[str, Any]]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(records), newline="")))


def sample(**content: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "kind": "sample",
        "run": RUN,
        "time": "2026-11-23T01:00:00.000Z",
        "id": "s1",
        "tool": "iperf3",
        "scene": "pod-pod",
        "placement": "same-subnet",
        "mode": "Never",
        "figures": {"bandwidth_bits_per_second": 1e9},
        "error": None,
        "command": [
            "timeout",
            "22",
            "iperf3",
            "-c",
            "192.168.0.12",
            "-p",
            "21601",
            "-J",
            "-t",
            "5",
        ],
        **content,
    }


def value(text: str, line: str) -> float:
    """The value of the one line that begins like this."""
    (found,) = re.findall(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
    return float(found)


def test_csv_has_a_line_for_each_figure_with_its_unit() -> None:
    one = sample(
        test="test_a.py::test_it[Never]",
        client={"kind": "pod", "name": "client", "node": "node1"},
        server={"kind": "pod", "name": "server", "node": "node2"},
        figures={"bandwidth_bits_per_second": 9.5e8, "retransmits": 3, "rtt_mean_seconds": 0.004},
    )
    found = rows([one])
    assert [(row["name"], row["value"], row["unit"]) for row in found] == [
        ("bandwidth_bits_per_second", "950000000.0", "bit/s"),
        ("retransmits", "3", ""),
        ("rtt_mean_seconds", "0.004", "s"),
    ]
    assert found[0] | {"name": "", "value": "", "unit": ""} == {
        "run": RUN,
        "time": "2026-11-23T01:00:00.000Z",
        "test": "test_a.py::test_it[Never]",
        "sample": "s1",
        "tool": "iperf3",
        "scene": "pod-pod",
        "placement": "same-subnet",
        "mode": "Never",
        "variant": "",
        "client": "node1",
        "server": "node2",
        "url": "",
        "name": "",
        "value": "",
        "unit": "",
    }


def test_what_counts_in_no_figure_of_the_report_is_not_exported() -> None:
    verdict = {
        "schema": 1,
        "kind": "verdict",
        "run": RUN,
        "time": "2026-11-23T01:00:01.000Z",
        "claim": "c",
        "state": "pass",
        "discarded": [{"cause": "node1 was busy", "samples": ["s3"]}],
    }
    records = [
        sample(id="s1", warmup=True),
        sample(id="s2", error="it broke off"),
        sample(id="s3"),
        sample(id="s4"),
        verdict,
    ]
    assert {row["sample"] for row in rows(records)} == {"s4"}
    assert value(openmetrics_text(records), LABELS % ("samples", "")) == 1


LABELS = 'k8snet_iperf3_%s{scene="pod-pod",placement="same-subnet",mode="Never",variant="%s"}'


def test_repetitions_are_averaged_and_other_measurements_are_not() -> None:
    udp = ["iperf3", "-c", "192.168.0.12", "-p", "21602", "-J", "-t", "5", "-u", "-b", "10000000"]
    text = openmetrics_text(
        [
            sample(id="s1", figures={"bandwidth_bits_per_second": 8e8}),
            sample(id="s2", figures={"bandwidth_bits_per_second": 9e8}),
            sample(id="s3", figures={"bandwidth_bits_per_second": 1e7}, command=udp),
        ]
    )
    assert value(text, LABELS % ("bandwidth_bits_per_second", "")) == 8.5e8
    assert value(text, LABELS % ("bandwidth_bits_per_second", "UDP, 10 Mbit/s")) == 1e7


def test_outcomes_and_verdicts_are_counted_also_those_that_did_not_occur() -> None:
    text = openmetrics_text(study())
    records = study()
    for outcome in ("passed", "failed", "error", "inconclusive", "skipped"):
        expected = sum(one["kind"] == "test" and one["outcome"] == outcome for one in records)
        assert value(text, f'k8snet_tests{{outcome="{outcome}"}}') == expected
    assert value(text, 'k8snet_verdicts{state="monitor"}') >= 0
    assert value(text, "k8snet_run_complete") == 1


def test_a_run_that_was_killed_is_not_complete() -> None:
    made = Study()
    made.begin()
    assert value(openmetrics_text(made.records), "k8snet_run_complete") == 0


def test_openmetrics_text_keeps_the_format() -> None:
    lines = openmetrics_text(study()).splitlines()
    assert lines[-1] == "# EOF"
    families = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    assert len(families) == len(set(families)) > 10
    seen: list[str] = []
    for line in lines[:-1]:
        if line.startswith("# TYPE "):
            seen.append(line.split()[2])
            continue
        label = r'[a-z]+="(?:[^"\\\n]|\\[\\"n])*"'
        assert re.fullmatch(rf"{seen[-1]}(\{{{label}(,{label})*\}})? [-+.e\d]+", line), line
    series = [line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")]
    assert len(series) == len(set(series))


def test_text_of_the_cluster_is_escaped_for_each_format() -> None:
    hostile = sample(scene='a"b\\c\nd', mode='=HYPERLINK("http://evil")')
    assert 'scene="a\\"b\\\\c\\nd"' in openmetrics_text([hostile])
    (row,) = rows([hostile])
    assert row["scene"] == 'a"b\\c\nd'
    assert row["mode"] == '\'=HYPERLINK("http://evil")'


@pytest.mark.parametrize(
    ("name", "first"), [("csv", "run,time,test,"), ("openmetrics", "# TYPE k8snet_")]
)
def test_the_command_prints_the_newest_run_of_a_file(
    name: str, first: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    file = tmp_path / "results.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in study()), encoding="utf-8")
    assert main(["export", f"--format={name}", str(file)]) == 0
    assert capsys.readouterr().out.startswith(first)


def test_a_file_that_is_no_results_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text("hello\n", encoding="utf-8")
    assert main(["export", "--format=csv", str(file)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "k8snet: " in told.err
    assert "Traceback" not in told.err

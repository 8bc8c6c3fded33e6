from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from study_records import Study, study

from pytest_k8snet.errors import ResultsError
from pytest_k8snet.report.recorder import Recorder
from pytest_k8snet.report.runs import Baseline, attach
from pytest_k8snet.verdict import Arm, Bandwidth, Judging, Observation, Plan, SampleRequest


def an_arm(
    scene: str,
    placement: str = "",
    mode: str | None = None,
    tool: str = "iperf3",
    variant: str = "",
) -> Arm:
    """What a gate measures now, of which only its place is asked."""

    def take(turn: SampleRequest) -> Observation:
        raise AssertionError("nothing is measured here")

    return Arm(
        label=scene,
        take=take,
        scene=scene,
        mode=mode,
        placement=placement,
        tool=tool,
        variant=variant,
    )


def test_a_figure_of_the_earlier_run_is_found() -> None:
    (found,) = Baseline("b", study()).values_of(
        an_arm("pod-pod", "same-subnet", "Never"), "bandwidth"
    )
    assert len(found) == 4
    assert all(2.6e9 < value < 2.9e9 for value in found)


def test_a_missing_figure_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(ResultsError) as caught:
        Baseline("b.jsonl", study()).values_of(
            an_arm("pod-pod", "cross-subnet", "Never"), "bandwidth"
        )
    assert caught.value.problem == (
        "the baseline b.jsonl has no bandwidth of pod-pod, cross-subnet [Never]"
    )
    assert "bandwidth of pod-pod, same-subnet [Never]" in caught.value.found


def test_a_gate_is_compared_with_the_like_of_the_earlier_run() -> None:
    def take(turn: SampleRequest) -> Observation:
        return Observation(figures={"bandwidth": (2.75e9 * (1 + 0.001 * turn.number),)})

    arm = replace(an_arm("pod-pod", "same-subnet", "Never"), take=take)
    terms = Judging(plan=Plan(span_seconds=0, between_runs=0.01))
    ratio = Bandwidth(arm, terms) / Baseline("before.jsonl", study())
    verdict = ratio >= 0.95
    assert verdict.state == "pass"
    assert "pod-pod / baseline run >= 0.95" in verdict.text
    elsewhere = replace(arm, placement="cross-subnet")
    with pytest.raises(ResultsError, match="has no bandwidth of pod-pod, cross-subnet"):
        Bandwidth(elsewhere, Judging()) / Baseline("before.jsonl", study())


def test_the_earlier_run_is_put_into_the_records_of_this_one(tmp_path: Path) -> None:
    path = tmp_path / "before.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in study()))
    recorder = Recorder(None, "k8snet-abc123")
    later = Study()
    later.facts("before", kernel="6.12.1")
    facts = {name: value for name, value in later.records[0].items() if name != "run"}
    recorder.add(facts)
    assert attach(recorder, path).source == "before.jsonl"
    record = recorder.records[-1]
    assert record["kind"] == "baseline"
    assert [one["fact"] for one in record["differences"]] == ["node node2: kernel"]


def test_latency_counts_samples_not_requests() -> None:
    (found,) = Baseline("b", study()).values_of(
        an_arm("node-clusterip", tool="curl"), "median time_connect"
    )
    assert len(found) == 2


def test_the_environments_differences_are_named() -> None:
    later = Study()
    later.begin()
    later.facts("before", kernel="6.12.1")
    facts = later.records[-1]
    facts["cluster"]["calico_version"] = "v3.30.0"
    del facts["cluster"]["backend"]
    found = Baseline("b", study()).differences(facts)
    assert [(one.fact, one.before, one.now) for one in found] == [
        ("calico_version", "v3.28.0", "v3.30.0"),
        ("backend", "bird", "(absent)"),
        ("node node2: kernel", "6.1.0-21-amd64", "6.12.1"),
    ]


def test_another_measurement_of_the_same_pair_is_no_baseline() -> None:
    made = Study()
    made.begin()
    tcp = ["timeout", "22", "iperf3", "-c", "198.18.0.9", "-p", "20001", "-J", "-t", "5"]
    paced = [*tcp, "-u", "-b", "20000000", "-l", "1200"]
    for command, gbit in ((tcp, 0.95), (tcp, 0.97), (paced, 0.02), (paced, 0.02)):
        made.iperf3("t", "pod-pod", "Never", gbit=gbit, command=command)
    earlier = Baseline("b.jsonl", made.records)
    (tcp_before,) = earlier.values_of(an_arm("pod-pod", "same-subnet", "Never"), "bandwidth")
    assert [round(value / 1e9, 1) for value in tcp_before] == [0.9, 1.0]
    udp = an_arm("pod-pod", "same-subnet", "Never", variant="UDP, 20 Mbit/s")
    (udp_before,) = earlier.values_of(udp, "bandwidth")
    assert [round(value / 1e7) for value in udp_before] == [2, 2]
    with pytest.raises(ResultsError) as caught:
        earlier.values_of(replace(udp, variant="UDP, 10 Mbit/s"), "bandwidth")
    assert caught.value.problem == (
        "the baseline b.jsonl has no bandwidth of pod-pod, same-subnet (UDP, 10 Mbit/s) [Never]"
    )
    assert "pod-pod, same-subnet (UDP, 20 Mbit/s) [Never]" in caught.value.found
    figures = earlier.to_record(None)["figures"]
    assert [(one["tool"], one["variant"]) for one in figures] == [
        ("iperf3", ""),
        ("iperf3", "UDP, 20 Mbit/s"),
    ]


def test_the_record_is_json_and_stays_small_with_many_samples() -> None:
    made = Study()
    made.begin()
    for _ in range(500):
        made.iperf3("t", "node-node", None, raw="", seconds=1)
    record = Baseline("b", made.records).to_record(made.records[1])
    (figure,) = record["figures"]
    assert figure["count"] == 500
    assert len(figure["values"]) == 200
    json.dumps(record)


def test_a_file_without_figures_is_no_baseline(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text(json.dumps(study()[0]) + "\n")
    with pytest.raises(ResultsError, match="holds no figure"):
        Baseline.load(path)


def run_named(name: str) -> list[dict[str, object]]:
    return [{**record, "run": name} for record in study()]


def test_gates_compare_with_the_like_of_every_earlier_run(tmp_path: Path) -> None:
    paths = []
    for name in ("k8snet-a", "k8snet-b"):
        paths.append(tmp_path / f"{name}.jsonl")
        paths[-1].write_text("".join(json.dumps(record) + "\n" for record in run_named(name)))
    loaded = Baseline.load(*paths)
    assert loaded.source == "k8snet-a.jsonl, k8snet-b.jsonl"

    arm = an_arm("pod-pod", "same-subnet", "Never")
    assert [len(run) for run in loaded.values_of(arm, "bandwidth")] == [4, 4]
    with pytest.raises(ResultsError, match="hold the same run more than once"):
        Baseline.load(paths[0], paths[0])

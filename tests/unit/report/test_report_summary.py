from __future__ import annotations

import pytest
from study_records import Study, study, with_baseline, with_mesh

from pytest_k8snet.calico.modes import goodput_ceiling
from pytest_k8snet.report.documents import render_page
from pytest_k8snet.report.model import Key, Measurement, Rate, Summary, statistic, values_of
from pytest_k8snet.report.sentences import path_text
from pytest_k8snet.report.summary import summarise
from pytest_k8snet.report.terminal import text_report
from pytest_k8snet.tools import TOOLS


def cell(summary: Summary, scene: str, mode: str = "") -> Measurement:
    return next(one for one in summary.rates if (one.key.scene, one.key.mode) == (scene, mode))


def rate(summary: Summary, scene: str, mode: str = "") -> Rate:
    found = cell(summary, scene, mode).rate
    assert found is not None
    return found


def measured_by(summary: Summary, tool: str) -> tuple[Measurement, ...]:
    return next(one.measurements for one in summary.tools if one.name == tool)


def figures(one: Measurement, tool: str) -> dict[str, float | None]:
    """The figures of a row by heading."""
    return {column.heading: statistic(one.samples, column) for column in TOOLS[tool].columns}


def test_the_studys_table_has_scenes_and_modes_in_the_studys_order() -> None:
    keys = [one.key for one in summarise(study()).rates]
    assert keys[:3] == [
        Key("node-node", "same-subnet", "", "iperf3"),
        Key("pod-pod", "same-subnet", "Never", "iperf3"),
        Key("pod-pod", "same-subnet", "VXLAN-CrossSubnet", "iperf3"),
    ]
    assert keys[-1] == Key("same-node", "same-node", "Never", "iperf3")


def test_other_options_make_another_figure_with_its_own_ratio() -> None:
    made = Study()
    made.begin()
    begin = ["timeout", "22", "iperf3", "-c", "198.18.0.9", "-p", "20001", "-J", "-t", "1"]
    variants = {
        "": [],
        "UDP, 10 Mbit/s": ["-u", "-b", "10000000", "-l", "1200"],
        "20 Mbit/s": ["-b", "20000000"],
        "4 streams": ["-P", "4"],
        "reverse": ["-R"],
    }
    for number, more in enumerate(variants.values(), start=1):
        made.iperf3("t", "pod-pod", None, gbit=0.1 * number, command=begin + more)
        if number != 3:
            made.iperf3("t", "node-node", None, gbit=0.2 * number, command=begin + more)
    summary = summarise(made.records)
    pods = [one for one in summary.rates if one.key.scene == "pod-pod"]
    assert {one.key.variant: len(one.samples) for one in pods} == dict.fromkeys(variants, 1)
    for one in pods:
        assert one.rate is not None
        ratio = one.rate.ratio
        if one.key.variant == "20 Mbit/s":
            assert ratio is None, "no node-node sample was limited like this"
        else:
            assert ratio is not None
            assert ratio.value == pytest.approx(0.5, abs=0.03)
    page = "\n".join(text_report(summary, 120))
    for variant in variants:
        assert f"pod-pod, same-subnet{f' ({variant})' if variant else ''}  " in page


def test_a_verdict_stands_on_the_figures_that_it_rests_on() -> None:
    made = Study()
    made.begin()
    back = ["iperf3", "-c", "198.18.0.9", "-p", "20001", "-J", "-t", "1", "-R"]
    plain = made.iperf3("t", "pod-pod", "Never")
    reverse = made.iperf3("t", "pod-pod", "Never", command=back)
    made.verdict("t", "fail", mode="Never", samples=[[reverse]], variant="reverse", tool="iperf3")
    made.verdict("t", "pass", mode="Never", samples=[], variant="", tool="iperf3")
    assert plain
    found = {one.key.variant: one.state for one in summarise(made.records).rates}
    assert found == {"": "pass", "reverse": "fail"}


def test_a_gates_ratio_and_interval_stand_in_its_cell() -> None:
    found = cell(summarise(study()), "pod-pod", "VXLAN-Always")
    ratio = rate(summarise(study()), "pod-pod", "VXLAN-Always").ratio
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high) == (0.344, 0.336, 0.353)
    assert found.state == "fail"
    assert found.gates[0].margin == pytest.approx(-0.618, abs=0.001)
    assert found.path.state == "proven"


def test_a_cell_without_a_gate_has_welchs_ratio_and_its_tests_outcome() -> None:
    found = cell(summarise(study()), "pod-node", "Never")
    ratio = rate(summarise(study()), "pod-node", "Never").ratio
    assert ratio is not None
    assert ratio.value == pytest.approx(2.78 / 2.85, abs=0.02)
    assert ratio.low is not None
    assert (found.state, found.word) == ("pass", "tests passed")


def test_the_baseline_is_not_blamed_for_the_tests_that_used_it() -> None:
    assert cell(summarise(study()), "node-node").state == ""


def test_pods_on_one_node_are_not_compared_with_a_wire() -> None:
    found = rate(summarise(study()), "same-node", "Never")
    assert found.ratio is None
    assert found.ceiling is None


def test_an_error_is_counted_and_gives_no_figure() -> None:
    found = cell(summarise(study()), "pod-pod", "IPIP-CrossSubnet")
    values = rate(summarise(study()), "pod-pod", "IPIP-CrossSubnet").values
    assert (found.errors, len(values)) == (1, 1)
    assert found.state == "error"


def test_what_a_gate_discarded_counts_in_no_figure_and_says_why() -> None:
    made = Study()
    made.begin()
    pairs = made.pairs("t.py::t", "pod-pod", "Never", 5)
    discarded = [
        # A cause in each arm, and one round all the same.
        {"number": 4, "attempt": 0, "label": scene, "cause": "CPU steal 9 %", "samples": pairs[4]}
        for scene in ("pod-pod", "node-node")
    ]
    made.verdict("t.py::t", "pass", mode="Never", samples=pairs[:4], discarded=discarded)
    summary = summarise(made.records)
    assert len(rate(summary, "pod-pod", "Never").values) == 4
    assert len(rate(summary, "node-node").values) == 4
    assert (summary.discarded, summary.gates[0].discarded) == (2, 1)
    page = render_page(made.records)
    assert page.count("discarded, not counted: CPU steal 9 %") == 2
    assert "8 samples by iperf3; 1 verdict, 2 samples discarded" in page


def test_a_warm_up_does_not_count() -> None:
    made = Study()
    made.begin()
    made.iperf3("t", "node-node", None)
    made.iperf3("t", "node-node", None, gbit=0.1, warmup=True)
    assert len(rate(summarise(made.records), "node-node").values) == 1
    assert render_page(made.records).count("warm-up, not counted") == 1


def test_without_a_link_rate_the_ceiling_is_what_headers_leave_of_node_node() -> None:
    summary = summarise(study())
    found = rate(summary, "pod-pod", "VXLAN-Always")
    base = rate(summary, "node-node").mean
    assert base is not None
    share = (1398 / (1398 + 116)) / (1448 / (1448 + 66))
    assert found.ceiling == pytest.approx(base.value * share)


def test_with_a_link_rate_the_ceiling_is_physical() -> None:
    records = study()
    records[1]["cluster"]["link_rate_bits_per_second"] = 3e8
    found = rate(summarise(records), "pod-pod", "IPIP-Always")
    assert found.ceiling == float(goodput_ceiling(3e8, 1398, "ipip"))


def test_nodes_that_carry_nothing_leave_no_share_of_them() -> None:
    made = Study()
    made.begin()
    made.records[1]["cluster"]["link_rate_bits_per_second"] = 3e8
    for scene in ("node-node", "pod-pod"):
        figures = {"bandwidth_bits_per_second": 0.0, "mss_bytes": 1448}
        made.iperf3("t", scene, "Never", gbit=1, figures=figures)
    found = rate(summarise(made.records), "pod-pod", "Never")
    assert (found.ceiling_ratio, found.ratio) == (None, None)
    assert "Goodput by mode" in render_page(made.records)


def test_placements_are_rows_of_their_own_with_their_own_baseline() -> None:
    made = Study()
    made.begin()
    for place, base in (("same-subnet", 2.0), ("cross-subnet", 1.0)):
        made.iperf3("t", "node-node", None, gbit=base, placement=place)
        made.iperf3("t", "pod-pod", "Never", gbit=1.0, placement=place)
    rates = [one.rate for one in summarise(made.records).rates if one.rate is not None]
    ratios = [one.ratio.value for one in rates if one.ratio is not None]
    assert ratios == [pytest.approx(0.5, abs=0.02), pytest.approx(1.0, abs=0.04)]


def test_latency_means_are_over_all_answered_requests() -> None:
    rows = {row.key.scene: row for row in measured_by(summarise(study()), "curl")}
    dns = figures(rows["pod-dns"], "curl")
    assert (dns["requests"], dns["failed"]) == (11, 1)
    values = values_of(rows["node-clusterip"].samples, "total_seconds")
    found = figures(rows["node-clusterip"], "curl")
    assert len(values) == 200
    assert found["time_total"] == pytest.approx(sum(values) / 200)
    assert found["total p95"] in values


def test_statistics_of_samples_without_their_values_are_left_out_not_invented() -> None:
    made = Study()
    made.begin()
    for mean in (0.002, 0.004):
        figures_ = {"requests": 10, "failed": 0, "total_mean_seconds": mean}
        figures_["total_p95_seconds"] = mean * 2
        made.add("sample", id=f"s{mean}", tool="curl", scene="pod-dns", figures=figures_)
    (row,) = measured_by(summarise(made.records), "curl")
    found = figures(row, "curl")
    assert (found["requests"], found["time_total"], found["total p95"]) == (20, None, None)


def test_a_mesh_is_found_where_three_nodes_measured_each_other() -> None:
    node, pod = summarise(with_mesh()).tools[0].meshes
    assert (node.scene, pod.scene) == ("node-node", "pod-pod")
    assert pod.nodes == ("master", "node1", "node2")
    assert min(pod.figures, key=lambda ends: pod.figures[ends]) == ("node2", "master")
    assert not any(tool.meshes for tool in summarise(study()).tools)


@pytest.mark.parametrize(
    ("outcomes", "exit_status", "expected"),
    [
        (["passed", "passed"], 0, "passed"),
        (["passed", "skipped"], 0, "partly"),
        (["passed", "failed"], 1, "failed"),
        (["passed", "error"], 1, "failed"),
        (["passed", "inconclusive"], 1, "inconclusive"),
        (["inconclusive", "failed"], 1, "failed"),
        (["passed"], 2, "cut"),
        (["passed", "error"], 2, "failed"),
        (["passed"], 1, "failed"),
        (["skipped"], 0, "empty"),
        ([], 5, "empty"),
    ],
)
def test_the_outcome_of_a_run(outcomes: list[str], exit_status: int, expected: str) -> None:
    made = Study()
    made.begin()
    for index, outcome in enumerate(outcomes):
        made.test(f"t{index}", outcome)
    made.end(exit_status)
    assert summarise(made.records).outcome == expected


def test_a_run_without_an_end_was_cut_off_even_if_all_passed() -> None:
    made = Study()
    made.begin()
    made.test("t", "passed")
    assert summarise(made.records).outcome == "cut"


def test_a_run_that_did_not_put_everything_back_has_not_passed() -> None:
    made = Study()
    made.begin()
    made.test("t", "passed")
    for state in ("applied", "failed"):
        made.add("change", what="created", object="ippools/a", state=state)
    made.end(0, restored=True)
    summary = summarise(made.records)
    assert (summary.outcome, summary.restored) == ("failed", False)


def test_a_test_that_failed_twice_counts_once_by_its_worst() -> None:
    made = Study()
    made.begin()
    made.test("t", "failed", "the figure")
    made.test("t", "error", "the tear-down", phase="teardown")
    (test,) = summarise(made.records).tests
    assert (test.outcome, test.reason, test.seconds) == ("error", "the tear-down", 43.0)


def test_facts_that_changed_during_the_run_are_found() -> None:
    made = Study()
    made.begin()
    made.facts("after", kernel="6.12.1")
    (one,) = summarise(made.records).drift
    assert (one.fact, one.before, one.now) == ("node node2: kernel", "6.1.0-21-amd64", "6.12.1")


def test_load_and_tunnels_that_come_and_go_are_no_change() -> None:
    made = Study()
    made.begin()
    made.facts("after")
    before, after = (one["nodes"][1] for one in made.records if one["kind"] == "facts")
    assert before["load_1_minute"] != after["load_1_minute"]
    before["tunnels"] = {"vxlan.calico": {"offload": {"tx-checksum-ip-generic": "on"}}}
    assert summarise(made.records).drift == ()
    after["tunnels"] = {"vxlan.calico": {"offload": {"tx-checksum-ip-generic": "off"}}}
    (one,) = summarise(made.records).drift
    fact = "node node1: tunnels.vxlan.calico.offload.tx-checksum-ip-generic"
    assert (one.fact, one.before, one.now) == (fact, "on", "off")


def test_before_and_now_are_compared_unpaired() -> None:
    summary = summarise(with_baseline())
    quantities = {one.quantity for one in summary.comparisons}
    assert "bandwidth" in quantities
    assert "median time_connect" in quantities
    found = next(one for one in summary.comparisons if one.key.mode == "Never")
    assert found.ratio is not None
    assert found.ratio.low is not None
    assert found.ratio.low < 1 < (found.ratio.high or 0)


def test_records_of_only_the_run_give_a_summary() -> None:
    assert summarise(study()[:1]).outcome == "running"
    assert summarise(study()[:3]).outcome == "cut"
    assert summarise([]).outcome == "running"


def test_every_sample_of_every_tool_is_in_the_count_of_proofs() -> None:
    made = Study()
    made.begin()
    made.iperf3("t", "pod-pod", "Never")
    made.iperf3("t", "pod-pod", "Never", path=None)
    made.iperf3("t", "pod-pod", "Never", path={"state": "what", "text": "x"})
    made.iperf3("t", "pod-pod", "Never", path="contradicted", error="tunl0 sent nothing")
    made.iperf3("t", "pod-pod", "Never", warmup=True)
    made.iperf3("t", "pod-pod", "Never", path=None, error="refused")
    for state in ("proven", "missing", "not applicable", ""):
        made.curl("t", "pod-dns")
        made.records[-1]["path"] = {"state": state, "text": state} if state else None
    found = summarise(made.records)
    counts = found.path
    assert (counts.proven, counts.contradicted, counts.missing) == (2, 1, 3)
    assert (counts.not_applicable, counts.total) == (2, 8)
    assert path_text(found).startswith("proven for 2 of 8 samples; CONTRADICTED for 1: ")
    assert path_text(found).endswith("; missing for 3; not applicable for 2")
    curl = next(tool for tool in found.tools if tool.name == "curl").measurements[0]
    assert curl.path.state == "missing"


def test_pods_of_a_mode_whose_way_is_in_none_have_a_figure_of_their_own() -> None:
    made = Study()
    made.begin()
    for mode in ("Never", "VXLAN-Always"):
        made.curl("t", "node-clusterip")
        made.records[-1]["pods_in"] = f"served in {mode}"
    rows = [one.key.text for one in measured_by(summarise(made.records), "curl")]
    assert rows == ["node-clusterip (served in Never)", "node-clusterip (served in VXLAN-Always)"]


def test_of_a_contradicted_path_the_first_disagreement_is_told() -> None:
    records = study()
    sample = next(one for one in records if one["kind"] == "sample" and one.get("path"))
    sample["path"] |= {"state": "contradicted", "text": "tunl0 sent nothing\ntunl0 is down"}
    told = path_text(summarise(records))
    assert "CONTRADICTED for 1: tunl0 sent nothing (and 1 more)" in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("phases", "outcome"),
    [
        ([("setup", "error"), ("call", "passed")], "passed"),
        ([("call", "inconclusive"), ("call", "passed")], "passed"),
        ([("call", "failed"), ("call", "passed")], "failed"),
        ([("call", "passed"), ("teardown", "error")], "error"),
        ([("call", "passed"), ("teardown", "error"), ("call", "passed")], "passed"),
        ([("setup", "error"), ("setup", "error")], "error"),
        ([("setup", "error"), ("teardown", "error")], "error"),
        ([("call", "error"), ("call", "skipped")], "skipped"),
    ],
)
def test_of_a_test_that_was_run_again_trouble_is_forgotten_and_a_missed_promise_is_not(
    phases: list[tuple[str, str]], outcome: str
) -> None:
    made = Study()
    made.begin()
    for phase, what in phases:
        made.test("t", what, phase=phase)
    assert [test.outcome for test in summarise(made.records).tests] == [outcome]


def test_a_file_that_could_not_be_collected_hides_no_test_that_did_not_finish() -> None:
    made = Study()
    made.begin(selection={"selected": 2})
    made.test("test_broken.py", "error", phase="collect")
    made.test("test_a.py::test_one", "passed")
    made.end(1)
    assert summarise(made.records).coverage.unfinished == 1

"""The first screen's sentences: approve or not, which cluster, by how much."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from study_records import Study

from pytest_k8snet.report.documents import markdown, render_page
from pytest_k8snet.report.model import GateResult
from pytest_k8snet.report.runs import Baseline
from pytest_k8snet.report.sentences import (
    answer_text,
    cluster_text,
    compared_text,
    not_tested_text,
    promise_sentence,
    unfinished_sentences,
)
from pytest_k8snet.report.summary import summarise
from pytest_k8snet.report.terminal import text_report

VXLAN, IPIP = "VXLAN-Always", "IPIP-Always"


def run(
    *outcomes: tuple[str, str], pools: list[str] | None = None, lab: bool = False, **selection: Any
) -> Study:
    """One gate for each mode and outcome; a skipped one measured nothing."""
    made = Study()
    settings = {"lab": {"value": str(lab), "origin": "default"}}
    made.begin(selection={"selected": len(outcomes)} | selection, settings=settings)
    if pools is not None:
        made.records[-1]["cluster"]["pool_modes"] = pools
    for mode, outcome in outcomes:
        name = f"t.py::t[{mode}]"
        if outcome in ("passed", "failed", "inconclusive"):
            state = {"passed": "pass", "failed": "fail"}.get(outcome, outcome)
            value = {"pass": 0.958, "fail": 0.344}.get(state, 0.904)
            pairs = made.pairs(name, "pod-pod", mode, 1)
            ends = {"low": value - 0.011, "high": value + 0.011}
            made.verdict(name, state, mode=mode, estimate=value, samples=pairs, **ends)
        reason = "why\n  found: that\n  to do: this"
        made.add(
            "test", test=name, outcome=outcome, phase="call", seconds=1.0, reason=reason, mode=mode
        )
    return made


def ended(made: Study, status: int = 0, restored: bool | None = None) -> Study:
    made.end(status, restored)
    return made


PASSED, FAILED = (VXLAN, "passed"), (IPIP, "failed")
SKIPPED, UNDECIDED, ERROR = (IPIP, "skipped"), (IPIP, "inconclusive"), (IPIP, "error")
KEPT = "the one promise was kept, by 5.8 percentage points"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ended(run(PASSED)), f"Approve, as far as the network goes: {KEPT}."),
        (
            lambda: ended(run(PASSED, (IPIP, "passed"))),
            "Approve, as far as the network goes: both promises were kept, the closest by 5.8 "
            "percentage points.",
        ),
        (
            lambda: ended(run(PASSED, selected=1, deselected=12)),
            f"Approve, as far as these 1 of 13 tests go: {KEPT}.",
        ),
        (lambda: ended(run(PASSED, lab=True)), f"Approve nothing on this: {KEPT}, but on no real"),
        (
            lambda: ended(run(PASSED, SKIPPED, lab=True, pools=[VXLAN])),
            f"Approve nothing on this: {KEPT}, but on no real",
        ),
        (
            lambda: ended(run(PASSED, SKIPPED, pools=[VXLAN])),
            "Approve, unless the change switches the network mode: the only mode that this cluster "
            "uses (VXLAN-Always) was tested and passed; 1 other was not tested (not in use). The "
            "one promise was kept, by 5.8 percentage points.",
        ),
        (
            lambda: ended(run(PASSED, (IPIP, "passed"), ("Never", "skipped"), pools=[IPIP, VXLAN])),
            "Approve, unless the change switches the network mode: the 2 modes that this cluster "
            "uses (IPIP-Always, VXLAN-Always) were tested and passed; 1 other was not",
        ),
        (
            lambda: ended(run(PASSED, SKIPPED, pools=[IPIP, VXLAN])),
            "Do not approve: IPIP-Always, which this cluster uses, was not tested. Of what was, "
            f"{KEPT}.",
        ),
        (
            lambda: ended(run(PASSED, SKIPPED)),
            "Do not approve on this alone: 1 of 2 modes was not tested.",
        ),
        (
            lambda: ended(run(PASSED, SKIPPED, ("", "skipped"), pools=[VXLAN])),
            "Do not approve on this alone: 1 of 2 modes was not tested.",
        ),
        (
            lambda: ended(run(PASSED, ("", "skipped"))),
            "Do not approve on this alone: 1 of 2 tests was not run.",
        ),
        (
            lambda: ended(run(PASSED, FAILED), 1),
            "Do not approve: 1 of 2 promises was missed, by 55.6 percentage points.",
        ),
        (
            lambda: ended(run(FAILED, (VXLAN, "failed")), 1),
            "Do not approve: 2 of 2 promises were missed, the worst by 55.6 percentage points.",
        ),
        (
            lambda: ended(run(PASSED, ERROR), 1),
            "Do not approve on this: 1 test met trouble and could not measure: why. To do: this. "
            "That proves nothing",
        ),
        (lambda: ended(run(PASSED), 1), "Do not approve on this: something beside its tests"),
        (
            lambda: ended(run(PASSED, UNDECIDED), 1),
            "Do not approve yet: 1 of 2 promises kept, 1 undecided: Pods in IPIP-Always get 90.4 "
            "% of the bandwidth between the nodes (could be anything from 89.3 % to 91.5 %); at "
            "least 90 % was promised. Measure again",
        ),
        (
            lambda: run(PASSED, selected=5),
            "Do not approve: the run recorded no end (killed, or it still runs), and 4 of 5 tests "
            "did not finish: no figure is sure. Run it again.",
        ),
        (
            lambda: ended(run(PASSED, selected=5), 2),
            "Do not approve: the run was interrupted, and 4 of 5 tests did not finish: no figure "
            "is sure.",
        ),
        (lambda: ended(run(SKIPPED)), "Do not approve: nothing was tested: why. To do: this."),
        (lambda: ended(run()), "Do not approve: nothing was tested."),
        (
            lambda: ended(run(PASSED), 0, restored=False),
            "Do not approve on this: something beside its tests went wrong. The cluster was NOT "
            "put back as it was.",
        ),
    ],
)
def test_the_answer_is_whether_to_approve_and_by_how_much(
    make: Callable[[], Study], said: str
) -> None:
    assert answer_text(summarise(make().records)).startswith(said)


def gate(**content: Any) -> GateResult:
    made = Study()
    made.begin()
    made.verdict("t", content.pop("state", "pass"), mode=content.pop("mode", None), **content)
    return summarise(made.records).gates[0]


LATENCY = {"quantity": "connect p95", "unit": "s", "scene": "node-clusterip", "relation": "<="}


@pytest.mark.parametrize(
    ("content", "ending"),
    [
        ({"estimate": 0.958}, "get 95.8 % of the bandwidth between the nodes; at least 90 % was "
         "promised: kept by 5.8"),
        ({"estimate": 0.9004}, "get 90.04 % of the bandwidth between the nodes; at least 90 % was "
         "promised: kept by 0.04 percentage points"),
        ({"estimate": 0.9, "limit": 0.875}, "get 90.0 % of the bandwidth between the nodes; at "
         "least 87.5 % was promised: kept by 2.5"),
        ({"estimate": 0.0012, "limit": 0.005, **LATENCY}, "95 % of the connections from a node to "
         "the Service's cluster address took at most 1.2 ms; at most 5 ms was promised: kept "
         "by 3.8 ms"),
        ({"estimate": 0.0062, "limit": 0.005, "state": "fail", **LATENCY}, "6.2 ms; at most 5 ms "
         "was promised: missed by 1.2 ms"),
        ({"estimate": 8e8, "limit": 9e8, "unit": "bit/s", "quantity": "bandwidth", "baseline": None,
          "state": "fail"}, "800 Mbit/s; at least 900 Mbit/s was promised: missed by 100 Mbit/s"),
    ],
)  # fmt: skip
def test_a_distance_is_the_difference_of_the_two_figures_that_stand_there(
    content: dict[str, Any], ending: str
) -> None:
    assert ending in promise_sentence(gate(**content))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"context": "prod"}, "real cluster prod, https://192.168.0.10:6443, Kubernetes v1.29.4,"),
        ({"kubernetes_version": "unknown", "context": "prod"}, "cluster prod, https://"),
        ({"kubernetes_version": "v1.33.4+k8snet-lab"}, "EMBEDDED LAB, no real cluster, https://"),
    ],
)
def test_a_cluster_is_called_real_or_the_lab_where_that_is_known(
    facts: dict[str, str], said: str
) -> None:
    made = Study()
    made.begin()
    made.records[-1]["cluster"] |= facts
    assert cluster_text(summarise(made.records)).startswith(said)


def test_what_was_measured_in_a_test_that_did_not_end_is_told() -> None:
    made = run(PASSED)
    made.iperf3("t.py::cut", "pod-pod", IPIP, gbit=0.98)
    made.iperf3("t.py::cut", "node-node", None)
    made.curl("t.py::cut", "pod-dns")
    bandwidth, latency = unfinished_sentences(summarise(made.records))
    assert bandwidth.startswith("Pods in IPIP-Always had 34.")
    assert bandwidth.endswith(
        " % of the bandwidth between the nodes, from 1 sample only: not finished"
    )
    assert latency == "pod-dns, from 1 sample only: not finished"
    assert unfinished_sentences(summarise(ended(run(PASSED)).records)) == []
    assert bandwidth in text_report(summarise(made.records), 140)
    assert f"- {latency}" in markdown(made.records)
    assert f"NOT FINISHED</span> <bdi>{bandwidth}" in render_page(made.records)


def test_of_a_run_that_was_cut_off_no_figure_is_sure_but_what_was_seen_is_told() -> None:
    names = [f"t.py::t[{mode}]" for mode in (VXLAN, "Never", IPIP)]
    made = run(PASSED, selected=4, tests=names)
    made.iperf3(f"t.py::t[{IPIP}]", "pod-pod", IPIP, gbit=0.98)
    summary = summarise(made.records)
    answer = answer_text(summary)
    assert answer.startswith(
        "Do not approve: the run recorded no end (killed, or it still runs), and 3 of 4 tests did "
        "not finish: no figure is sure. Seen by then: pods in IPIP-Always had 34."
    )
    assert answer.endswith(
        " % of the bandwidth between the nodes (90 % was promised of other modes), from 1 sample "
        "only: not finished. Run it again."
    )
    assert (
        "3 tests not finished: t[IPIP-Always] (had begun to measure), t[Never] and 1 more"
    ) in not_tested_text(summary)


def test_what_no_sample_was_taken_of_is_not_tested_also_in_a_pass() -> None:
    made = ended(run(PASSED))
    one_subnet = "node master; pairs across subnets (the nodes lie in one)"
    assert not_tested_text(summarise(made.records)) == one_subnet
    for node in made.records[1]["nodes"][:1]:
        node["subnet"] = "10.0.0.0/24"
    assert not_tested_text(summarise(made.records)) == "node master; pairs across subnets"
    made.iperf3("t", "pod-pod", VXLAN, nodes=("master", "node1"), placement="cross-subnet")
    assert not_tested_text(summarise(made.records)) == ""
    assert not_tested_text(summarise(ended(run()).records)) == ""


def test_a_reader_sees_whether_a_figure_is_of_before_the_change_or_after_it() -> None:
    made = ended(run(PASSED))
    alone = "no earlier run was given, the limits only; measured now: Calico v3.28.0; node-node"
    assert compared_text(summarise(made.records)).startswith(alone)
    earlier = ended(run(PASSED))
    earlier.records[1]["cluster"]["calico_version"] = "v3.27.2"
    unknown = Baseline("before.jsonl", earlier.records).to_record(None)
    told = compared_text(summarise([*made.records, {**made.records[0], **unknown}]))
    assert told.startswith("earlier run before.jsonl; measured now: Calico v3.28.0; node-node")
    made.add(**Baseline("before.jsonl", earlier.records).to_record(made.records[1]))
    both = "earlier run before.jsonl (Calico v3.27.2); measured now: Calico v3.28.0; node-node"
    assert compared_text(summarise(made.records)).startswith(both)
    assert compared_text(summarise(ended(run(SKIPPED)).records)) == "nothing: there is no figure"


def test_promises_that_the_chart_does_not_draw_are_named_below_it() -> None:
    made = run(PASSED)
    latency = {"estimate": 0.0012, "limit": 0.005, **LATENCY}
    made.verdict("t.py::quick", "pass", mode=None, **latency)
    told = (
        "Not in this chart: 95 % of the connections from a node to the Service's cluster address "
        "took at most 1.2 ms, at most 5 ms promised: kept"
    )
    assert f"{told}</bdi>" in unescape(render_page(made.records))
    assert "Not in this chart" not in render_page(run(PASSED).records)
    assert answer_text(summarise(ended(made).records)).endswith(
        "both promises were kept, by 5.8 percentage points and by 3.8 ms."
    )


def test_a_rehearsal_is_called_one_before_it_passed() -> None:
    made = ended(run(PASSED, lab=True))
    page = render_page(made.records)
    title = "Rehearsal on the embedded lab: no real cluster was tested"
    assert f"<h1>{title}</h1>" in page
    assert "Passed, on the embedded lab only: 1 passed" in page
    assert markdown(made.records).startswith(f"## {title}")

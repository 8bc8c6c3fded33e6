"""Plain asserts leave their limit: what was compared, on which sample, and how it ended."""

from __future__ import annotations

import linecache
from typing import Any

import pytest
from study_records import Study

from pytest_k8snet.report.documents import markdown, render_page
from pytest_k8snet.report.promises import promises
from pytest_k8snet.report.records import Record
from pytest_k8snet.report.sentences import promise_sentence
from pytest_k8snet.report.summary import summarise
from pytest_k8snet.report.terminal import text_report
from pytest_k8snet.units import BitRate, Ratio, Seconds, comparing


def sample(scene: str, mode: str | None, **figures: float) -> Record:
    return {"kind": "sample", "id": f"{scene}-{mode}", "scene": scene, "mode": mode} | {
        "tool": "iperf3",
        "placement": "same-subnet",
        "figures": figures,
    }


SAMPLES = [
    sample("node-node", None, bandwidth_bits_per_second=100e6),
    sample("pod-pod", "VXLAN-Always", bandwidth_bits_per_second=96.4e6, retransmit_ratio=0.004),
    sample("node-clusterip", None, total_p95_seconds=0.0042),
]
FIGURES = {
    "node": BitRate(100e6),
    "pod": BitRate(96.4e6),
    "lost": Ratio(0.004),
    "p95": Seconds(0.0042),
    "Mbit": BitRate(1e6),
    "ms": Seconds(1e-3),
}


def promised(
    source: str, name: str = "test_written.py", samples: list[Record] = SAMPLES, mode: str = ""
) -> list[dict[str, Any]]:
    """Run the body of a test, and return what it promised."""
    text = "def test():\n" + "".join(f"    {line}\n" for line in source.splitlines())
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    scope: dict[str, Any] = dict(FIGURES)
    exec(compile(text, name, "exec"), scope)
    passed = True
    with comparing() as compared:
        try:
            scope["test"]()
        except AssertionError:
            passed = False
    return promises(compared, samples, passed=passed, mode=mode)


RATIO = "bandwidth ratio"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("assert pod / node >= 0.90", (RATIO, ">=", 0.9, "pass", "pod-pod")),
        ("assert 0.90 <= pod / node", (RATIO, ">=", 0.9, "pass", "pod-pod")),
        ("assert pod / node >= 0.98", (RATIO, ">=", 0.98, "fail", "pod-pod")),
        ("r = pod / node\nlimit = 0.9\nassert r > limit", (RATIO, ">", 0.9, "pass", "pod-pod")),
        ("fine = pod / node >= 0.9\nassert fine", (RATIO, ">=", 0.9, "pass", "pod-pod")),
        ("assert (pod /\n  node >=\n  0.9), 'why'", (RATIO, ">=", 0.9, "pass", "pod-pod")),
        ("assert pod >= 90 * Mbit", ("bandwidth", ">=", 90e6, "pass", "pod-pod")),
        ("assert 90 * Mbit < pod", ("bandwidth", ">", 90e6, "pass", "pod-pod")),
        ("assert p95 <= 5 * ms", ("total p95", "<=", 0.005, "pass", "node-clusterip")),
        ("assert lost < 0.001", ("retransmit ratio", "<", 0.001, "fail", "pod-pod")),
        ("assert lost <= 0", ("retransmit ratio", "<=", 0.0, "fail", "pod-pod")),
    ],
)
def test_an_assert_on_a_figure_is_a_promise(source: str, expected: tuple[object, ...]) -> None:
    (one,) = promised(source, name=f"test_{abs(hash(source))}.py")
    keys = ("quantity", "relation", "limit", "state", "scene")
    assert tuple(one[key] for key in keys) == expected


@pytest.mark.parametrize(
    "source",
    [
        "if pod / node >= 0.9: pass",
        "max(pod, node); sorted([node, pod]); min(p95, 5 * ms)",
        "assert pod > 0",
        "assert not pod / node < 0.5",
        "assert pod / node >= 0.98 or pod >= 90 * Mbit or 1",
    ],
    ids=["branch", "order", "sense", "negated", "alternative"],
)
def test_what_is_no_claim_is_no_promise(source: str) -> None:
    found = promised(source, name=f"test_{abs(hash(source))}.py")
    assert [one["state"] for one in found] in ([], ["pass"])
    assert all(one["limit"] == 90e6 for one in found)


def test_margins_are_shares_of_the_limit_and_positive_on_the_good_side() -> None:
    (kept,) = promised("assert pod / node >= 0.9", "test_kept.py")
    (missed,) = promised("assert p95 <= 4 * ms", "test_missed.py")
    assert kept["margin"] == pytest.approx(0.0711, abs=1e-4)
    assert missed["margin"] == pytest.approx(-0.05)
    assert kept["baseline"] == "node-node"
    assert (kept["claim"], kept["written"]) == (
        "pod-pod, same-subnet / node-node >= 0.90",
        "pod / node >= 0.9",
    )
    assert missed["claim"] == "total p95 of node-clusterip, same-subnet <= 4 ms"


def test_the_same_promise_on_pairs_that_lie_otherwise_is_not_the_same_claim() -> None:
    claims = []
    for placement in ("same-subnet", "cross-subnet", "same-node"):
        samples = [{**one, "placement": placement} for one in SAMPLES]
        (one,) = promised("assert pod / node >= 0.9", "test_kept.py", samples)
        claims.append(one["claim"])
    assert len(set(claims)) == 3
    assert claims[1] == "pod-pod, cross-subnet / node-node >= 0.90"


SWITCHES: list[Record] = [
    {"kind": "switch", "what": "making pools", "mode": "Never", "longest_gap_seconds": 0.62},
    {"kind": "switch", "what": "unknown", "mode": "IPIP-Always", "longest_gap_seconds": None},
]


@pytest.mark.parametrize("mode", ["Never", "VXLAN-Always"])
@pytest.mark.parametrize("source", ["assert gap <= 2 * s", "assert 2 * s >= gap"])
def test_what_a_switch_cost_is_promised_of_the_mode_that_it_led_to(source: str, mode: str) -> None:
    FIGURES.update(gap=Seconds(0.62), s=Seconds(1.0))
    (one,) = promised(source, f"test_{abs(hash(source))}.py", [*SWITCHES, *SAMPLES], mode)
    keys = ("claim", "scene", "mode", "samples", "limit", "relation")
    claim = "longest gap of switch <= 2 s"
    assert [one[key] for key in keys] == [claim, "switch", mode, [], 2.0, "<="]
    made = Study()
    made.begin()
    made.add("test", test=f"t[{mode}]", outcome="passed", phase="call", promises=[one], mode=mode)
    summary = summarise(made.records)
    assert promise_sentence(summary.promises[0]) == (
        f"Switching to {mode} left pods beside the test without an answer for at most 0.62 s; at "
        "most 2 s was promised: kept by 1.38 s"
    )
    assert f"longest gap of switch [{mode}]" in "\n".join(text_report(summary, 120))
    assert f"switch [{mode}]" in render_page(made.records)


def test_what_two_tests_promise_alike_is_two_rows_and_one_sentence() -> None:
    made = Study()
    made.begin()
    for name in ("t.py::test_one[Never]", "t.py::test_two[Never]"):
        made.verdict(name, "pass", mode="Never", estimate=0.96)
    lines = text_report(summarise(made.records), 140)
    rows = [line.partition("]")[0] for line in lines if line.startswith("pod-pod / node-node [")]
    assert rows == [f"pod-pod / node-node [Never, test_{name}" for name in ("one", "two")]
    for text in ("\n".join(lines), markdown(made.records), render_page(made.records)):
        assert text.count("kept by 6.0 percentage points") == 1


def test_a_computed_figure_is_of_the_one_place_that_was_measured() -> None:
    (one,) = promised("assert (pod + node) / 2 >= 90 * Mbit", "test_mean.py", SAMPLES[:2])
    assert (one["scene"], one["mode"], one["samples"]) == (
        "pod-pod",
        "VXLAN-Always",
        ["pod-pod-VXLAN-Always"],
    )
    (one,) = promised("assert (pod + node) / 2 >= 90 * Mbit", "test_mean2.py")
    assert (one["scene"], one["mode"]) == ("", None)
    assert one["claim"] == "(pod + node) / 2 >= 90 * Mbit"


def test_a_failed_plain_assert_is_not_hidden_behind_a_gate_in_the_same_cell() -> None:
    made = Study()
    made.begin()
    pairs = made.pairs("t.py::test_gate", "pod-pod", "VXLAN-Always")
    made.verdict(
        "t.py::test_gate", "pass", mode="VXLAN-Always", limit=0.2, estimate=0.344, samples=pairs
    )
    made.test("t.py::test_gate", "passed")
    pod = made.iperf3("t.py::test_plain", "pod-pod", "VXLAN-Always")
    node = made.iperf3("t.py::test_plain", "node-node", None)
    one = {
        "claim": "pod / node >= 0.98",
        "quantity": "bandwidth ratio",
        "unit": "",
        "relation": ">=",
        "limit": 0.98,
        "estimate": 0.344,
        "margin": 0.344 / 0.98 - 1,
        "state": "fail",
        "scene": "pod-pod",
        "mode": "VXLAN-Always",
        "baseline": "node-node",
        "samples": [pod, node],
    }
    made.add("test", test="t.py::test_plain", outcome="failed", promises=[one], reason="assert")
    made.end(1)
    summary = summarise(made.records)
    (cell,) = [one for one in summary.rates if one.key.scene == "pod-pod"]
    assert cell.state == "fail"
    assert summary.promises[0].margin == pytest.approx(-0.649, abs=1e-3)
    lines = text_report(summary, 120)
    at = next(index for index, line in enumerate(lines) if line.startswith("pod-pod"))
    assert "FAIL 34.4 %, promised ≥ 98 %" in lines[at + 1]
    assert "PASS ≥ 20 %" in lines[at + 2]
    sentence = (
        "Pods in VXLAN-Always get 34.4 % of the bandwidth between the nodes; at least 98 % was "
        "promised: missed by 63.6 percentage points"
    )
    assert sentence in " ".join(" ".join(lines).split())
    assert "FAIL 34.4 %, promised ≥ 98 %, PASS ≥ 20 %" in markdown(made.records).replace("\\", "")
    assert 'class="k-cell k-cell-fail"' in render_page(made.records)


def test_a_failed_test_without_a_limit_shows_beside_a_gate_that_passed() -> None:
    made = Study()
    made.begin()
    pairs = made.pairs("t.py::test_gate", "pod-pod", "Never")
    made.verdict("t.py::test_gate", "pass", mode="Never", estimate=0.96, samples=pairs)
    made.test("t.py::test_gate", "passed")
    made.iperf3("t.py::test_own", "pod-pod", "Never")
    made.test("t.py::test_own", "failed", "assert something_of_mine()")
    made.end(1)
    lines = text_report(summarise(made.records), 120)
    at = next(index for index, line in enumerate(lines) if line.startswith("pod-pod"))
    assert "in a failed test" in lines[at + 2]


@pytest.mark.parametrize(
    ("sample", "verdict", "told"),
    [
        ("placement", "", ["same-subnet", "cross-subnet"]),
        ("variant", "", ["", "4 streams"]),
        ("", "context", ["node1 -> node2", "node2 -> node1"]),
        ("", "", ["1", "2"]),
    ],
)
def test_promises_of_the_same_words_name_what_tells_them_apart(
    sample: str, verdict: str, told: list[str]
) -> None:
    made = Study()
    made.begin()
    for number, part in enumerate(told, start=1):
        own: Any = {sample: part} if sample else {}
        pod = made.iperf3(f"t[{number}]", "pod-pod", "Never", **own)
        said = {verdict: f"pool mode Never, {part}"} if verdict else {}
        made.verdict(f"t[{number}]", "pass", mode="Never", estimate=0.96, samples=[[pod]], **said)
    lines = text_report(summarise(made.records), 140)
    claims = [line for line in lines if line.startswith("pod-pod / node-node [")]
    places = [line.partition("[Never")[2].partition("]")[0] for line in claims]
    assert [place.removeprefix(", ") for place in places] == told

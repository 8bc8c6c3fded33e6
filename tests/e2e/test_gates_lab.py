"""Gates as a user runs them: on the lab, with its links as the known truth."""

from __future__ import annotations

from typing import Any

import pytest
from user_runs import recorded

from pytest_k8snet.verdict import judge

# Header arithmetic: VXLAN's 50 bytes leave 0.966 of a shaped link's goodput.
GATES = """
import pytest
from pytest_k8snet import Mbit, ms

@pytest.mark.k8snet_modes("VXLAN-Always")
def test_kept(calico_mode, bandwidth, pod_pair, node_pair):
    assert bandwidth(pod_pair) / bandwidth(node_pair) >= 0.5

@pytest.mark.k8snet_modes("VXLAN-Always")
def test_missed(calico_mode, bandwidth, pod_pair, node_pair):
    assert bandwidth(pod_pair) / bandwidth(node_pair) >= 1.5

@pytest.mark.k8snet_modes("VXLAN-Always")
@pytest.mark.k8snet_plan("last=3")
def test_at_once(calico_mode, bandwidth, pod_pair, k8snet):
    ends = pod_pair.server.node, pod_pair.client.node
    back = k8snet.pod_pair(calico_mode, nodes=ends)
    assert bandwidth(pod_pair) + bandwidth(back) >= 1 * Mbit

@pytest.mark.k8snet_plan("last=3")
def test_in_bounds(bandwidth, node_pair):
    assert 10 * Mbit <= bandwidth(node_pair) <= 200 * Mbit

@pytest.mark.k8snet_plan(first=3, last=3, alpha=0.0001)
def test_undecided(bandwidth, node_pair, k8snet):
    # As like as two measurements can be that are not the same one.
    back = k8snet.node_pair(nodes=(node_pair.server.node, node_pair.client.node))
    assert bandwidth(node_pair) / bandwidth(back) >= 1.0

def test_quick(latency, node, web_service):
    assert latency(node, web_service.cluster_ip_url, plan="requests=30").total.p50 <= 1000 * ms

def test_hopeless(latency, node, web_service):
    assert latency(node, web_service.cluster_ip_url, plan="requests=100").total.p99 <= 5 * ms
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """What pytest printed, and the records that it wrote."""
    folder = tmp_path_factory.mktemp("gates")
    (folder / "test_gates.py").write_text(GATES, encoding="utf-8")
    # How busy the machine is says nothing of the shaped links, and no limit lies near to them: the
    # undecided gate is asked for more certainty than three pairs can give.
    plan = "--k8snet-plan=first=3 seconds=1 omit=0 warmup=0 steal=1 idle=0 rate=10 span=0"
    plan += " outlier=0"
    return recorded(folder, "gates", plan)


def of_test(records: list[dict[str, Any]], kind: str, name: str) -> list[dict[str, Any]]:
    return [
        record
        for record in records
        if record["kind"] == kind and f"::{name}" in str(record.get("test", ""))
    ]


@pytest.mark.parametrize(
    ("name", "outcome", "states"),
    [
        ("test_kept", "passed", ["pass"]),
        ("test_missed", "failed", ["fail"]),
        ("test_at_once", "passed", ["pass"]),
        ("test_in_bounds", "passed", ["pass", "pass"]),
        ("test_undecided", "inconclusive", ["inconclusive"]),
        ("test_quick", "passed", ["pass"]),
        ("test_hopeless", "error", []),
    ],
)
def test_each_gate_ends_as_the_truth_demands(
    run: tuple[str, list[dict[str, Any]]], name: str, outcome: str, states: list[str]
) -> None:
    output, records = run
    assert [record["state"] for record in of_test(records, "verdict", name)] == states, output
    (told,) = {record["outcome"] for record in of_test(records, "test", name)}
    assert told == outcome


def test_verdicts_are_repeated_offline_from_the_results_file(
    run: tuple[str, list[dict[str, Any]]],
) -> None:
    verdicts = [record for record in run[1] if record["kind"] == "verdict"]
    assert len(verdicts) == 7
    for record in verdicts:
        again = judge(record)
        assert again.to_record() == {name: record[name] for name in again.to_record()}


def test_parts_of_a_sum_ran_at_once_and_each_has_its_proof(
    run: tuple[str, list[dict[str, Any]]],
) -> None:
    samples = of_test(run[1], "sample", "test_at_once")
    assert [sample["at_once"] for sample in samples] == [["pod-pod", "pod-pod"]] * 6
    assert {sample["path"]["state"] for sample in samples} == {"proven"}
    (verdict,) = of_test(run[1], "verdict", "test_at_once")
    assert verdict["context"] == "VXLAN-Always, node1 -> node2 + node2 -> node1"
    assert not verdict["discarded"]


def test_a_verdict_names_its_samples(run: tuple[str, list[dict[str, Any]]]) -> None:
    (verdict,) = of_test(run[1], "verdict", "test_missed")
    taken = {record["id"]: record for record in of_test(run[1], "sample", "test_missed")}
    for pod, node in verdict["samples"]:
        assert taken[pod]["scene"] == "pod-pod"
        assert taken[node]["scene"] == "node-node"
    assert (verdict["mode"], verdict["scene"], verdict["baseline"]) == (
        "VXLAN-Always",
        "pod-pod",
        "node-node",
    )


def test_failures_explain_themselves_in_the_terminal(
    run: tuple[str, list[dict[str, Any]]],
) -> None:
    output = run[0]
    assert "FAIL: pod-pod / node-node >= 1.50  (VXLAN-Always, " in output
    assert "note: headers leave at most 0.96" in output
    assert "INCONCLUSIVE: node-node node1 -> node2 / node-node node2 -> node1 >= 1.00" in output
    assert "p99 cannot be judged from 100 requests" in output

"""What a gate on the lab says of its circumstances: calico-node, an earlier run, the nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from user_runs import recorded

from pytest_k8snet.verdict import judge

# How busy the machine is says nothing of the shaped links.
PLAN = "--k8snet-plan=first=3 last=12 seconds=1 omit=0 warmup=0 steal=1 idle=0"
BEFORE = """
def test_before(bandwidth, pod_pair, node_pair):
    assert bandwidth(pod_pair) / bandwidth(node_pair) >= 0.5
"""
# The gate of the second test waits for nothing: its calico-node is deleted while it samples.
NOW = """
import threading
import pytest
from pytest_k8snet import Gbit

@pytest.mark.k8snet_plan("last=5")
def test_near(bandwidth, pod_pair, node_pair):
    ratio = bandwidth(pod_pair) / bandwidth(node_pair)
    for verdict in (ratio >= LIMIT, ratio >= 0.5):
        print(verdict.state)

def test_restarted(k8snet, bandwidth, pod_pair):
    gate = bandwidth(pod_pair)
    assert gate >= 0.001 * Gbit
    (pod,) = [
        pod for pod in k8snet.api.list("/api/v1/pods", labels="k8s-app=calico-node")
        if pod["spec"]["nodeName"] == pod_pair.client.node
    ]
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
    deleting = threading.Timer(0.5, k8snet.api.delete, (path,))
    deleting.start()
    try:
        assert bandwidth(pod_pair) >= 0.001 * Gbit
    finally:
        deleting.join()

@pytest.mark.k8snet_modes("VXLAN-Always")
def test_slow(calico_mode, bandwidth, pod_pair):
    assert bandwidth(pod_pair) >= 10 * Gbit
"""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A folder with the results of an earlier run, and the ratio that it saw."""
    folder = tmp_path_factory.mktemp("circumstances")
    (folder / "test_before.py").write_text(BEFORE, encoding="utf-8")
    output, records = recorded(folder, "before", PLAN)
    (verdict,) = [record for record in records if record["kind"] == "verdict"]
    assert verdict["state"] == "pass", output
    return folder, float(verdict["estimate"])


@pytest.fixture(scope="module")
def now(before: tuple[Path, float]) -> tuple[str, list[dict[str, Any]]]:
    folder, ratio = before
    (folder / "test_now.py").write_text(NOW.replace("LIMIT", f"{ratio:.4f}"), encoding="utf-8")
    return recorded(
        folder, "now", PLAN, "--k8snet-baseline=before.jsonl", "--k8snet-report=report.html", "-s"
    )


def verdicts(records: list[dict[str, Any]], test: str) -> list[dict[str, Any]]:
    return [r for r in records if r["kind"] == "verdict" and f"::{test}" in r["test"]]


def test_a_calico_node_that_is_replaced_during_a_gate_discards_a_round(
    now: tuple[str, list[dict[str, Any]]],
) -> None:
    calm, disturbed = verdicts(now[1], "test_restarted")
    assert calm["discarded"] == [], now[0]
    causes = {one["cause"] for one in disturbed["discarded"]}
    assert causes, now[0]
    # Looked at while its successor comes up, it is gone or not Ready for a round.
    assert causes <= {
        f"calico-node of node1 {befell}" for befell in ("is gone", "was replaced", "is not Ready")
    }
    assert "discarded: calico-node of node1 " in disturbed["text"]
    assert disturbed["state"] == "pass"


def test_a_limit_at_the_earlier_runs_ratio_is_noted_and_one_far_from_it_is_not(
    now: tuple[str, list[dict[str, Any]]], before: tuple[Path, float]
) -> None:
    output, records = now
    near, far = verdicts(records, "test_near")
    note = f"note: the ratio was {before[1]:.3f} in before.jsonl, and one pair varies by "
    assert note in near["text"]
    assert "note: the ratio was" not in far["text"]
    # At the run's end it is told of gates that passed: who failed is told in full anyway.
    assert (f"{near['claim']}: {note}" in output) == (near["state"] == "pass"), output
    assert note in (before[0] / "report.html").read_text("utf-8")


def test_facts_of_nodes_and_tunnels_are_recorded_before_and_after(
    now: tuple[str, list[dict[str, Any]]],
) -> None:
    facts = [record for record in now[1] if record["kind"] == "facts"]
    newest = {record["phase"]: record["nodes"] for record in facts}
    for phase in ("before", "after"):
        known = {node["name"]: node for node in newest[phase]}
        for name in ("node1", "node2"):
            assert known[name]["nic"]["name"] == "eth0"
            assert known[name]["nic"]["mtu_bytes"] == 1500
            assert known[name]["cpu_count"] >= 1
            assert known[name]["load_1_minute"] >= 0


def test_hints_are_given_where_the_facts_support_them(
    now: tuple[str, list[dict[str, Any]]],
) -> None:
    (slow,) = verdicts(now[1], "test_slow")
    assert slow["state"] == "fail"
    *_, facts = [r for r in now[1] if r["kind"] == "facts" and r["phase"] == "before"]
    node = next(node for node in facts["nodes"] if node["name"] == "node1")
    offload = node["tunnels"]["vxlan.calico"].get("offload", {})
    version = tuple(int(part) for part in node["kernel"].split(".")[:2])
    # Without ethtool the flag is not known, and points to nothing.
    known = offload.get("tx-checksum-ip-generic") == "on" and version >= (6, 12)
    assert any("projectcalico/calico#11435" in hint for hint in slow["hints"]) is known
    assert judge(slow).to_record() == {name: slow[name] for name in judge(slow).to_record()}

"""What a gate on the lab says of its circumstances: calico-node and the nodes."""

from __future__ import annotations

from typing import Any

import pytest
from user_runs import recorded

from pytest_k8snet.verdict import judge

# How busy the machine is says nothing of the shaped links.
PLAN = "--k8snet-plan=first=3 last=12 seconds=1 omit=0 warmup=0 steal=1 idle=0 span=0 outlier=0"
# The second gate waits for nothing: its calico-node is deleted while it samples.
NOW = """
import threading
import pytest
from pytest_k8snet import Gbit

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
def now(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("circumstances")
    (folder / "test_now.py").write_text(NOW, encoding="utf-8")
    return recorded(folder, "now", PLAN)


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

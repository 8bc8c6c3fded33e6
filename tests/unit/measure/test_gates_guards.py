"""What befell the CPU of a client or server while it measured is a cause of the gate's."""

from __future__ import annotations

from dataclasses import replace

from notebook import Notebook
from recorded_tools import RecordedTools

from pytest_k8snet import Mbit, second
from pytest_k8snet.measure.endpoints import Endpoint, Pair
from pytest_k8snet.measure.gates import Gates
from pytest_k8snet.verdict import Plan

pytest_plugins = ["loopback"]

QUICK = Plan(first=3, last=3, seconds=1, omit_seconds=0, warmup_pairs=0, seed=1, span_seconds=0)
BUSY = "cpu  0 0 0 0 0 0 0 0 0 0\ncpu  9 0 0 1 0 0 0 0 0 0\n"
CAUSE = (
    "node1 was busy before the sample: 10% idle (plan: idle=0.2; --k8snet-plan=idle=0 counts it)"
)


def test_a_bandwidth_sample_on_a_busy_node_is_taken_again(pair: Pair, observer: Notebook) -> None:
    # Busy at a glance, and when looked at for longer.
    client = replace(pair.client, shell=RecordedTools(stats=[BUSY, BUSY]))
    measured = replace(pair, client=client, server=replace(pair.server, shell=RecordedTools()))
    verdict = Gates(observer=observer, plan=QUICK).bandwidth(measured, bitrate=30 * Mbit) >= Mbit
    assert verdict
    assert [discard.cause for discard in verdict.evidence.discards] == [CAUSE]
    assert len([one for one in observer.records if one["kind"] == "sample"]) == 4


def test_latencies_of_a_busy_client_are_taken_again(node: Endpoint, observer: Notebook) -> None:
    busy = replace(node, shell=RecordedTools(stats=[BUSY, BUSY]))
    latency = Gates(observer=observer, plan=QUICK).latency(
        busy, "http://127.0.0.1:8080/", plan="rate=40 requests=100"
    )
    verdict = latency.total.p50 <= 2 * second
    assert verdict
    assert [discard.cause for discard in verdict.evidence.discards] == [CAUSE]


def test_connections_of_a_busy_client_are_counted_again(node: Endpoint, observer: Notebook) -> None:
    busy = replace(node, shell=RecordedTools(stats=[BUSY, BUSY]))
    verdict = Gates(observer=observer, plan=QUICK).connections(busy, "http://127.0.0.1:80/") >= 10
    assert verdict
    assert [discard.cause for discard in verdict.evidence.discards] == [CAUSE]

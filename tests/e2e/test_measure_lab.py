"""Every way of measuring with iperf3, through a tunnel of the lab: right figures, proven paths."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

# On a link of 100 Mbit/s, of which a tunnelled pod pair gets about 92 with TCP. A busy machine may
# get a small part of what was asked for, and never much more.
WAYS = """
import pytest
from pytest_k8snet import Mbit, second
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.errors import SettingsError

pytestmark = pytest.mark.k8snet_modes("VXLAN-Always")

def test_udp(calico_mode, pod_pair):
    result = pod_pair.iperf3(udp=True, bitrate=20 * Mbit, seconds=1, omit_seconds=0)
    assert result.protocol == "UDP"
    assert 2 * Mbit < result.bandwidth < 22 * Mbit
    assert result.lost_ratio < 0.9
    assert result.jitter is not None
    assert result.retransmits is None

def test_udp_reverse(calico_mode, pod_pair):
    result = pod_pair.iperf3(udp=True, bitrate=20 * Mbit, seconds=1, omit_seconds=0, reverse=True)
    assert 2 * Mbit < result.bandwidth < 22 * Mbit
    assert result.lost_ratio < 0.9

def test_udp_bidirectional(calico_mode, pod_pair):
    once = {"seconds": 1, "omit_seconds": 0}
    result = pod_pair.iperf3(udp=True, bitrate=10 * Mbit, bidirectional=True, **once)
    assert 1 * Mbit < result.bandwidth < 11 * Mbit
    assert 1 * Mbit < result.reverse_bandwidth < 11 * Mbit
    assert result.opposite.jitter is not None

def test_udp_streams(calico_mode, pod_pair):
    result = pod_pair.iperf3(udp=True, bitrate=20 * Mbit, streams=2, seconds=1, omit_seconds=0)
    assert len(result.streams) == 2
    assert 2 * Mbit < result.bandwidth < 44 * Mbit
    apart = [stream.sent_bandwidth for stream in result.streams]
    assert max(apart) < result.sent_bandwidth < 1.1 * sum(apart)

def test_reverse(calico_mode, pod_pair):
    result = pod_pair.iperf3(seconds=1, omit_seconds=0, reverse=True)
    assert result.direction == "reverse"
    assert 5 * Mbit < result.bandwidth < 100 * Mbit

def test_bidirectional(calico_mode, pod_pair):
    result = pod_pair.iperf3(seconds=1, omit_seconds=0, bidirectional=True)
    assert result.direction == "bidirectional"
    assert 5 * Mbit < result.bandwidth < 100 * Mbit
    assert 5 * Mbit < result.reverse_bandwidth < 100 * Mbit

def test_streams_and_omit(calico_mode, pod_pair):
    result = pod_pair.iperf3(seconds=2, omit_seconds=1, streams=4)
    assert len(result.streams) == 4
    assert len(result.intervals) == 2
    assert 5 * Mbit < result.bandwidth < 100 * Mbit

@pytest.mark.k8snet_modes("Never", "VXLAN-Always", "VXLAN-CrossSubnet", "IPIP-Always")
def test_headers(calico_mode, pod_pair, cross_subnet_pair):
    for pair in (pod_pair, cross_subnet_pair):
        pair.iperf3(udp=True, bitrate=10 * Mbit, length_bytes=1000, seconds=1, omit_seconds=0)

def test_ping(calico_mode, pod_pair):
    result = pod_pair.ping(count=100, interval_seconds=0.01, size_bytes=1000)
    assert (result.sent, result.lost) == (100, 0)
    assert 0 < result.rtt.minimum <= result.rtt.median <= result.rtt.p95

@pytest.mark.k8snet_modes("VXLAN-Always", "IPIP-Always")
def test_requests(calico_mode, pod, node, pod_pair, same_node_pair, web_service, k8snet):
    near = k8snet.web(calico_mode, node=pod.node)
    for url in (web_service.cluster_ip_url, web_service.dns_url, near.cluster_ip_url):
        assert not pod.curl(url, requests=3).failed
    assert not node.curl(web_service.cluster_ip_url, requests=3).failed
    # No Service: the way is that of the pair, and so is its proof.
    for pair in (pod_pair, same_node_pair):
        assert not pair.curl(requests=3).failed
    behind = (web_service.replica, near.replica, pod_pair.web.server)
    far = k8snet.server_node.name
    assert [one.node for one in behind] == [far, pod.node, far]
    own = k8snet.api.get(f"/apis/crd.projectcalico.org/v1/ippools/{pod.pool}")["spec"]["cidr"]
    assert all(one.address.startswith(own.rpartition(".")[0]) for one in behind), (own, behind)
    with pytest.raises(SettingsError, match="there is no web server at the far end of node-node"):
        k8snet.node_pair().curl()

def test_request_gate(calico_mode, pod_pair, latency):
    plan = "requests=30 span=0 steal=1 idle=0"
    assert latency(pod_pair, "/", plan=plan).connect.p50 <= 1 * second

def test_ping_between_nodes(node_pair):
    assert node_pair.ping(count=3, interval_seconds=0.01).lost == 0

def test_modes_by_their_names(k8snet):
    pair = k8snet.pod_pair("vxlan-always")
    assert pair.mode is pair.client.mode is pair.baseline.mode is CalicoMode.VXLAN_ALWAYS
    for make in (k8snet.pod_pair, k8snet.node_pair, k8snet.pod, k8snet.node_to_pod):
        with pytest.raises(SettingsError, match="There is no Calico mode 'overlay'"):
            make("overlay")
"""


Run = tuple[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What pytest printed, and the samples."""
    folder = tmp_path_factory.mktemp("ways")
    (folder / "test_ways.py").write_text(WAYS, encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir=."),
            *("--k8snet-lab", "--k8snet-results=results.jsonl", "-o", "k8snet_lab_rate=100M"),
            "test_ways.py",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return done.stdout + done.stderr, [one for one in records if one["kind"] == "sample"]


def test_every_way_gives_the_figures_that_were_asked_for(run: Run) -> None:
    assert "17 passed" in run[0], run[0]


def test_every_way_proves_the_path_of_both_directions(run: Run) -> None:
    promised = {
        (None, "same-subnet"): "direct",
        ("Never", "same-subnet"): "direct",
        ("Never", "cross-subnet"): "direct",
        ("VXLAN-CrossSubnet", "same-subnet"): "direct",
        ("IPIP-Always", "same-subnet"): "ipip",
        ("IPIP-Always", "cross-subnet"): "ipip",
    }
    samples = [sample for sample in run[1] if sample["tool"] != "curl"]
    assert len(samples) == 9 + 2 * 4
    for sample in samples:
        assert sample["path"]["state"] == "proven", (sample["test"], sample["path"]["text"])
        expected = promised.get((sample["mode"], sample["placement"]), "vxlan")
        assert sample["path"]["expected"] == expected, sample["label"]


def test_requests_are_proven_where_they_are_in_a_mode_and_not_labelled_where_not(run: Run) -> None:
    tunnels = {"VXLAN-Always": "vxlan", "IPIP-Always": "ipip"}
    found = [sample for sample in run[1] if "test_request" in sample["test"]]
    assert len(found) >= 2 * 6 + 1
    for sample in found:
        name, path = sample["test"].partition("[")[2].rstrip("]"), sample["path"]
        if sample["scene"] == "node-clusterip":
            assert (sample["mode"], sample["pods_in"]) == (None, f"served in {name}")
            assert path["state"] == "not applicable", path
            continue
        assert sample["mode"] == name
        assert path["state"] == "proven", (sample["label"], path)
        if sample["scene"] in ("pod-pod", "pod-dns"):
            assert path["expected"] == tunnels[name]
    crossed = {s["path"]["expected"] for s in found if s["scene"] == "pod-clusterip"}
    assert crossed == {"vxlan", "ipip", "direct"}
    assert "; not applicable for 2" in run[0]


def test_encapsulation_costs_what_its_headers_take(run: Run) -> None:
    # What the sending node's NIC counted, per datagram: no load of the machine changes that. Around
    # 1000 bytes of payload stand Ethernet 14, IPv4 20 and UDP 8; VXLAN puts another 50 before them,
    # IPIP another 20.
    taken = {}
    for sample in run[1]:
        if "test_headers" in sample["test"]:
            sent = json.loads(sample["raw"])["end"]["sum_sent"]
            nic = sample["path"]["counters"][sample["client"]["node"]]["eth0"]
            taken[sample["mode"], sample["placement"]] = nic["tx_bytes"] / sent["packets"] - 1000
    # iperf3's control connection and the probes of the path are counted, too.
    assert taken == {
        ("Never", "same-subnet"): pytest.approx(42, abs=4),
        ("Never", "cross-subnet"): pytest.approx(42, abs=4),
        ("VXLAN-CrossSubnet", "same-subnet"): pytest.approx(42, abs=4),
        ("VXLAN-CrossSubnet", "cross-subnet"): pytest.approx(92, abs=4),
        ("VXLAN-Always", "same-subnet"): pytest.approx(92, abs=4),
        ("VXLAN-Always", "cross-subnet"): pytest.approx(92, abs=4),
        ("IPIP-Always", "same-subnet"): pytest.approx(62, abs=4),
        ("IPIP-Always", "cross-subnet"): pytest.approx(62, abs=4),
    }

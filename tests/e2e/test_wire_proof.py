"""The wire proof on the lab: real captures of every mode, lies seen on the wire alone, refusals."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from calico_run import objects
from user_runs import fault, finished, message, patched

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.change.decision import ChangeSettings
from pytest_k8snet.change.readiness import wait_until_good
from pytest_k8snet.cluster.api import Api, connect
from pytest_k8snet.cluster.pods import PodSettings
from pytest_k8snet.errors import NotConvergedError, PathError
from pytest_k8snet.lab import LabProcess
from pytest_k8snet.measure.endpoints import Pair
from pytest_k8snet.measure.run import Run, RunSpec
from pytest_k8snet.options import DEFAULT_IMAGE, DEFAULT_WEB_IMAGE
from pytest_k8snet.report.recorder import Recorder
from pytest_k8snet.tools import capture
from pytest_k8snet.tools.iperf3 import Iperf3, Iperf3Options
from pytest_k8snet.units import Seconds

FELIX = "/apis/crd.projectcalico.org/v1/felixconfigurations/default"
VXLAN, NEVER = CalicoMode.VXLAN_ALWAYS, CalicoMode.NEVER
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="in a lab of an ordinary user, tcpdump does not start"
)
#: What each mode puts on the wire within a subnet, and across the router.
PATHS = {
    "Never": ("direct", "direct"),
    "VXLAN-CrossSubnet": ("direct", "vxlan"),
    "VXLAN-Always": ("vxlan", "vxlan"),
    "IPIP-CrossSubnet": ("direct", "ipip"),
    "IPIP-Always": ("ipip", "ipip"),
}


@pytest.fixture(scope="module")
def api(lab: LabProcess) -> Api:
    return connect(kubeconfig=lab.kubeconfig, context=None)


@pytest.fixture(autouse=True)
def as_it_was(api: Api) -> Generator[None]:
    before = objects(api)
    yield
    assert objects(api) == before


@contextmanager
def ebpf(api: Api) -> Generator[None]:
    """Let the cluster say that routes prove nothing; its packets go as before."""
    with patched(api, FELIX, {"spec": {"bpfEnabled": True}}, {"spec": {"bpfEnabled": None}}):
        yield


@contextmanager
def opened(api: Api, *modes: CalicoMode, wire_proof: bool = True) -> Generator[Run]:
    run_id = f"k8snet-{secrets.token_hex(3)}"
    spec = RunSpec(
        run_id=run_id,
        change=ChangeSettings(strategy="dedicated", timeout_seconds=10),
        modes=modes,
        pods=PodSettings(
            image=DEFAULT_IMAGE,
            web_image=DEFAULT_WEB_IMAGE,
        ),
        pod_timeout=Seconds(60),
        wire_proof=wire_proof,
    )
    with Run(api, spec, Recorder(None, run_id)) as run:
        yield run


def sample(run: Run, pair: Pair) -> dict[str, Any]:
    """The proof in the record of one short sample."""
    options = Iperf3Options(server=pair.server.address, seconds=1, omit_seconds=0)
    taken = run.sampler.sample(Iperf3(), pair, options)
    path: dict[str, Any] = taken.record["path"]
    return path


@needs_root
def test_on_ebpf_the_wire_proves_every_mode_before_and_after_each_sample(api: Api) -> None:
    with ebpf(api), opened(api, *CalicoMode) as run:
        assert not run.installation.routes_prove
        for mode in CalicoMode:
            near, far = PATHS[str(mode)]
            places = [(run.cross_subnet_pair(mode), "node3", far)]
            if near != far:
                places.append((run.pod_pair(mode), "node2", near))
            for pair, node, way in places:
                proof = sample(run, pair)
                assert proof["state"] == "proven", proof["text"]
                assert proof["text"].endswith(
                    f"; on the wire: node1 -> {node} {way}, {node} -> node1 {way}"
                )
                assert [one["moment"] for one in proof["wire"]] == ["before", "after"]
                for look in proof["wire"]:
                    assert len(look["sightings"]) == 4
                    assert all(one["packets"] > 0 for one in look["sightings"])


@needs_root
def test_where_routes_prove_the_wire_is_looked_at_for_every_kind_of_pair(api: Api) -> None:
    with opened(api, VXLAN) as run:
        for pair, text in (
            (run.pod_pair(VXLAN), "node1 -> node2 vxlan, node2 -> node1 vxlan"),
            (run.node_to_pod(VXLAN), "node1 -> node2 vxlan, node2 -> node1 vxlan"),
            (run.pod_to_node(VXLAN), "node1 -> node2 direct, node2 -> node1 direct"),
            (run.node_pair(VXLAN), "node1 -> node2 direct, node2 -> node1 direct"),
            (run.same_node_pair(VXLAN), "nothing, as both ends are on one node"),
        ):
            proof = sample(run, pair)
            assert proof["state"] == "proven", proof["text"]
            assert proof["text"].endswith(f"; on the wire: {text}")
            assert [one["moment"] for one in proof["wire"]] == ["once"]


@needs_root
def test_on_ebpf_a_pair_whose_packets_go_elsewhere_does_not_converge(api: Api) -> None:
    with (
        ebpf(api),
        opened(api, VXLAN) as run,
        fault(api, path_not_taken="node1"),
        pytest.raises(NotConvergedError) as caught,
    ):
        run.pod_pair(VXLAN)
    sent, *others = caught.value.found.splitlines()
    assert sent.startswith("on the wire, node1 sent 198.18.")
    assert sent.endswith(" unencapsulated, expected in VXLAN to 192.168.0.12")
    # The other direction is as promised, and no route or counter was asked.
    assert [line.partition(" 198.")[0] for line in others] == ["on the wire, node2 received"]


@needs_root
@pytest.mark.parametrize("dataplane", ["eBPF", "iptables"])
def test_packets_that_go_elsewhere_later_on_make_the_sample_an_error(
    api: Api, dataplane: str
) -> None:
    with ebpf(api) if dataplane == "eBPF" else nullcontext(), opened(api, VXLAN) as run:
        pair = run.pod_pair(VXLAN)
        with fault(api, path_not_taken="node1"):
            wait_until_good(
                lambda: lies_to_come(run),
                what="the lie",
                timeout_seconds=20,
                stability_seconds=0,
            )
            with pytest.raises(PathError) as caught:
                sample(run, pair)
    moment = "before the sample, " if dataplane == "eBPF" else ""
    way = f"{pair.client.address} -> {pair.server.address}"
    assert (
        f"{moment}on the wire, node1 sent {way} unencapsulated, expected in VXLAN"
        in caught.value.found
    )


def lies_to_come(run: Run) -> list[str]:
    """Whether the lab has yet to lie on node1: it does so by a rule that marks packets."""
    rules = run.node("node1").run(["ip", "rule", "show"]).stdout
    return [] if "fwmark" in rules else [rules]


def test_without_it_no_pod_may_capture(api: Api) -> None:
    with opened(api, wire_proof=False) as run:
        node = run.node()
        (pod,) = [
            one
            for one in api.list(f"/api/v1/namespaces/{run.run_id}/pods")
            if one["spec"]["nodeName"] == node.node
        ]
        context = pod["spec"]["containers"][0]["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        done = node.run(capture.start_argv("refused", "eth0", "tcp"))
        with pytest.raises(capture.CaptureError, match="tcpdump may not capture on the node"):
            capture.check_start(done.stderr, done.exit_code)


@needs_root
def test_with_it_host_network_pods_may_capture_and_nothing_more(api: Api) -> None:
    with opened(api) as run:
        node, pod = run.node(), run.pod()
        status = node.run(["cat", "/proc/self/status"]).stdout
        # CAP_SETGID, CAP_SETUID and CAP_NET_RAW.
        assert f"CapEff:\t{1 << 6 | 1 << 7 | 1 << 13:016x}\n" in status
        assert "NoNewPrivs:\t1\n" in status
        assert "CapEff:\t0000000000000000\n" in pod.run(["cat", "/proc/self/status"]).stdout
        left = node.run(["sh", "-c", "ls /tmp; ps -e -o comm"]).stdout.split()
        assert [name for name in left if "capture" in name or "tcpdump" in name] == []


def measured(pytester: pytest.Pytester, lab: LabProcess, *options: str) -> str:
    pytester.makepyfile("def test_one(node_pair): node_pair.iperf3(seconds=1, omit_seconds=0)")
    options = ("-o", "k8snet_wire_proof=true", *options)
    return finished(pytester.path, f"--kubeconfig={lab.kubeconfig}", *options)


def test_an_image_without_tcpdump_is_named_before_anything_is_measured(
    lab: LabProcess, pytester: pytest.Pytester
) -> None:
    text = message(measured(pytester, lab, "-o", "k8snet_image=alpine:3.20"), "test_one")
    assert text.startswith(
        "ToolMissingError: the path cannot be proven on the wire of node1: there is no tcpdump "
        "where the command ran\n"
        "  found: tcpdump: not found\n"
    )
    assert text.rstrip().endswith("; or go without: -o k8snet_wire_proof=false")


def test_a_cluster_that_forbids_the_pods_is_named(
    api: Api, lab: LabProcess, pytester: pytest.Pytester
) -> None:
    with fault(api, forbid="create:pods"):
        text = message(measured(pytester, lab), "test_one")
    assert text.startswith(
        "SettingsError: the wire proof needs host-network pods that may capture, and the cluster "
        "forbids them\n"
    )
    assert "allow the Pod Security level privileged in the namespace, or go without" in text


@needs_root
def test_a_user_gets_it_by_one_option(lab: LabProcess, pytester: pytest.Pytester) -> None:
    output = measured(pytester, lab, "--k8snet-results=results.jsonl")
    assert "1 passed" in output, output
    lines = (pytester.path / "results.jsonl").read_text().splitlines()
    (taken,) = [one for one in map(json.loads, lines) if one["kind"] == "sample"]
    assert taken["path"]["wire"][0]["sightings"][0]["seen"].keys() == {"unencapsulated"}
    assert "wire_proof True (ini k8snet_wire_proof)" in output

"""Pods: what is asked of the cluster, and what a pod's own status says against it."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.cluster import pods
from pytest_k8snet.cluster.access import OPT_OUT_LABELS
from pytest_k8snet.cluster.pods import (
    PodRequest,
    PodSettings,
    read_pod,
    this_process,
)
from pytest_k8snet.cluster.startup import is_ready, start_failure

SETTINGS = PodSettings(image="i", web_image="w")
REQUEST = PodRequest(role="client", node="Node1.example.com")


def manifest(request: PodRequest = REQUEST) -> dict[str, Any]:
    return pods.pod_manifest("p", "x", "k8snet-abc123", request, settings=SETTINGS, hostname="h")


def test_a_pod_is_restricted_and_ends_by_itself() -> None:
    spec = manifest()["spec"]
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["activeDeadlineSeconds"] == 21600
    assert spec["terminationGracePeriodSeconds"] == 1
    assert spec["restartPolicy"] == "Never"
    assert container["command"][:2] == ["sh", "-c"]
    assert "limits" not in container["resources"]
    assert "hostNetwork" not in spec


def test_a_pod_chooses_its_node_by_label_so_that_the_scheduler_speaks() -> None:
    spec = manifest()["spec"]
    assert spec["nodeSelector"] == {"kubernetes.io/hostname": "h"}
    assert "nodeName" not in spec
    assert {t["key"] for t in spec["tolerations"]} == {
        "node-role.kubernetes.io/control-plane",
        "node-role.kubernetes.io/master",
    }


def test_a_pod_may_serve_http_as_the_web_service_does_and_is_then_as_restricted() -> None:
    spec = manifest(PodRequest(role="web-x", node="n", serves_http=True))["spec"]
    (container,) = spec["containers"]
    deployment = pods.web_deployment("web", "x", "r", settings=SETTINGS, replicas=1)
    assert container == deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["netexec", "--http-port=8080"]
    assert "command" not in container
    assert spec["restartPolicy"] == "Never"
    assert spec["securityContext"] == manifest()["spec"]["securityContext"]


def test_labels_and_pool_are_on_the_pod() -> None:
    made = manifest(PodRequest(role="server", node="n", pool="k8snet-vxlan"))
    assert made["metadata"]["labels"] == {
        **OPT_OUT_LABELS,
        "app.kubernetes.io/managed-by": "pytest-k8snet",
        "k8snet/run": "k8snet-abc123",
        "k8snet/role": "server",
    }
    pool = "cni.projectcalico.org/ipv4pools"
    assert made["metadata"]["annotations"][pool] == '["k8snet-vxlan"]'
    assert pool not in manifest()["metadata"]["annotations"]


def test_a_pod_names_the_process_that_made_it() -> None:
    assert manifest()["metadata"]["annotations"]["k8snet/process"] == this_process()


def test_a_host_network_pod_differs_in_its_network_alone() -> None:
    host = manifest(PodRequest(role="client", node="Node1.example.com", host_network=True))
    assert host["spec"].pop("hostNetwork") is True
    assert host["spec"].pop("dnsPolicy") == "ClusterFirstWithHostNet"
    plain = manifest()
    # The node's network is not a pod's to set.
    assert plain["spec"]["securityContext"].pop("sysctls") == [
        {"name": "net.ipv4.ping_group_range", "value": "0 65535"}
    ]
    assert host == plain


def test_a_pod_that_may_capture_is_root_with_what_that_takes_and_nothing_more() -> None:
    request = PodRequest(role="client", node="Node1.example.com", capture=True)
    made, plain = manifest(request), manifest()
    context = made["spec"]["containers"][0].pop("securityContext")
    assert context == {
        **plain["spec"]["containers"][0].pop("securityContext"),
        "runAsNonRoot": False,
        "runAsUser": 0,
        "runAsGroup": 0,
        "capabilities": {"drop": ["ALL"], "add": ["NET_RAW", "SETGID", "SETUID"]},
    }
    assert context["allowPrivilegeEscalation"] is False
    assert made == plain


def test_names_fit_a_hostname_whatever_the_node_is_called() -> None:
    assert pods.pod_name("k8snet-abc123", REQUEST, 7) == (
        "k8snet-abc123-client-node1-example-com-7"
    )
    assert pods.pod_name("abc", REQUEST, 1).startswith("k8snet-abc-client-")
    long = PodRequest(role="client", node="ip-10-0-0-1." + "x" * 200)
    name = pods.pod_name("k8snet-abc123", long, 12345)
    assert len(name) == 63
    assert name.endswith("-12345")


def test_a_namespace_of_a_run_admits_host_network_pods() -> None:
    labels = pods.namespace_manifest("k8snet-abc123", "k8snet-abc123")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"
    assert labels["k8snet/run"] == "k8snet-abc123"


def test_the_web_service_selects_its_own_replicas() -> None:
    deployment = pods.web_deployment("web", "x", "r", settings=SETTINGS, replicas=3)
    service = pods.web_service("web", "x", "r")
    template = deployment["spec"]["template"]
    selected = service["spec"]["selector"]
    assert deployment["spec"]["selector"]["matchLabels"] == selected
    assert selected.items() <= template["metadata"]["labels"].items()
    # Clusters may have Windows nodes, which do not run the image.
    assert template["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}
    (container,) = template["spec"]["containers"]
    assert container["args"] == ["netexec", "--http-port=8080"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert service["spec"]["type"] == "LoadBalancer"
    assert "ipFamilies" not in service["spec"]
    # In a mode it is of IPv4, also where that is the second family (core/v1 ServiceSpec).
    assert pods.web_service("web", "x", "r", ipv4=True)["spec"]["ipFamilies"] == ["IPv4"]


def pod(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "x", "uid": "u", **metadata}, "status": status}


def waiting(reason: str, message: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return pod(
        {"phase": "Pending", "containerStatuses": [{"image": "reg/iperf3:1", "state": state}]}
    )


READY = {
    "phase": "Running",
    "podIP": "10.244.1.2",
    "conditions": [{"type": "Ready", "status": "True"}],
}


def test_a_pod_is_ready_when_kubernetes_says_so_and_its_address_is_there() -> None:
    assert is_ready(pod(READY))
    assert not is_ready(pod(READY | {"podIP": ""}))
    assert not is_ready(pod(READY | {"phase": "Pending"}))
    assert not is_ready(pod(READY | {"conditions": [{"type": "Ready", "status": "False"}]}))
    assert not is_ready(pod(READY, deletionTimestamp="2026-01-01T00:00:00Z"))


def test_a_pod_is_read() -> None:
    containers = [{"name": "k8snet"}]
    raw = pod(READY) | {
        "spec": {"nodeName": "node1", "hostNetwork": True, "containers": containers}
    }
    found = read_pod(raw, raw)
    assert (found.namespace, found.name, found.node, found.uid) == ("x", "p", "node1", "u")
    assert (found.address, found.host_network) == ("10.244.1.2", True)


def test_of_two_families_a_pod_is_known_by_its_ipv4_address() -> None:
    both = {"podIP": "fd00::2", "podIPs": [{"ip": "fd00::2"}, {"ip": "10.244.1.2"}]}
    for status, address in ((both, "10.244.1.2"), ({"podIP": "fd00::2"}, "fd00::2"), ({}, "")):
        raw = pod(status) | {"spec": {"containers": [{"name": "k8snet"}]}}
        assert read_pod(raw, raw).address == address


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"phase": "Pending"},
        READY,
        {
            "phase": "Pending",
            "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}],
        },
        {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]},
    ],
)
def test_a_pod_on_its_way_is_no_trouble(status: dict[str, Any]) -> None:
    assert start_failure(pod(status)) is None


def test_the_schedulers_reason_is_passed_on() -> None:
    message = "0/4 nodes are available: 1 Insufficient cpu, 3 node(s) didn't match Pod's node"
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
    }
    found = start_failure(pod({"phase": "Pending", "conditions": [condition]}))
    assert found is not None
    assert (found.reason, found.message, found.passing) == ("Unschedulable", message, True)


@pytest.mark.parametrize(
    ("reason", "message", "passing"),
    [
        ("ErrImagePull", "manifest for reg/iperf3:1 not found", False),
        ("ErrImagePull", "dial tcp 10.0.0.9:443: i/o timeout", True),
        ("ImagePullBackOff", 'Back-off pulling image "reg/iperf3:1"', True),
        ("InvalidImageName", "couldn't parse image name", False),
        ("ErrImageNeverPull", "not present with pull policy of Never", False),
    ],
)
def test_trouble_with_an_image_names_the_image(reason: str, message: str, passing: bool) -> None:
    found = start_failure(waiting(reason, message))
    assert found is not None
    assert (found.reason, found.passing) == (reason, passing)
    assert "reg/iperf3:1" in found.message
    assert message in found.message
    assert "-o k8snet_image" in found.remedy


@pytest.mark.parametrize(
    ("reason", "passing", "wants_logs"),
    [
        ("CreateContainerConfigError", True, False),
        ("CreateContainerError", True, False),
        ("RunContainerError", True, False),
        ("CrashLoopBackOff", False, True),
    ],
)
def test_trouble_with_a_container(reason: str, passing: bool, wants_logs: bool) -> None:
    found = start_failure(waiting(reason, "no such user"))
    assert found is not None
    assert (found.reason, found.message) == (reason, "no such user")
    assert (found.passing, found.wants_logs) == (passing, wants_logs)


def test_an_eviction_is_named() -> None:
    found = start_failure(pod({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}))
    assert found is not None
    assert (found.reason, found.message) == ("Evicted", "low on memory")
    assert not found.passing


def test_a_container_that_ended_tells_its_exit_code() -> None:
    ended = {"reason": "StartError", "exitCode": 128, "message": 'exec: "sleep": not found'}
    found = start_failure(
        pod({"phase": "Failed", "containerStatuses": [{"state": {"terminated": ended}}]})
    )
    assert found is not None
    assert found.reason == "StartError"
    assert found.message == 'exit code 128. exec: "sleep": not found'
    assert found.wants_logs


def test_a_pod_that_is_being_deleted_will_not_start() -> None:
    found = start_failure(pod(READY, deletionTimestamp="2026-01-01T00:00:00Z"))
    assert found is not None
    assert found.reason == "Deleted"

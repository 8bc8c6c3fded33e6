"""What admission has made of a pod: refused, or told as what distorts figures."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pytest_k8snet.cluster.access import alterations, distortions
from pytest_k8snet.cluster.api_errors import admission_remedy
from pytest_k8snet.cluster.nodes import Toleration
from pytest_k8snet.cluster.pods import PodRequest, PodSettings, pod_manifest, web_deployment
from pytest_k8snet.errors import PodError

REQUEST = PodRequest(role="client", node="n", pool="k8snet-pool")
SETTINGS = PodSettings(image="i", web_image="w")
ISTIO = {"name": "istio-proxy", "image": "istio/proxyv2:1.24"}


def asked(settings: PodSettings = SETTINGS) -> dict[str, Any]:
    return pod_manifest("p", "x", "k8snet-abc123", REQUEST, settings=settings, hostname="n")


def changed(
    *, pod: Any = None, container: Any = None, settings: PodSettings = SETTINGS, **metadata: Any
) -> dict[str, Any]:
    """The manifest as an API server has it, with changes."""
    made = copy.deepcopy(asked(settings))
    made["spec"] |= {"schedulerName": "default-scheduler", "nodeName": "n"}
    made["spec"]["tolerations"] += [{"key": "node.kubernetes.io/not-ready"}]
    made["spec"].setdefault("dnsPolicy", "ClusterFirst")
    made["spec"] |= pod or {}
    made["spec"]["containers"][0] |= container or {}
    for name, values in metadata.items():
        made["metadata"][name] |= values
    return made


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": {"kyverno/seen": "yes"}, "annotations": {"a": "1"}},
        {"container": {"image": "mirror.example/i", "env": [{"name": "DD_AGENT_HOST"}]}},
        {"container": {"resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "1"}}}},
    ],
)
def test_what_changes_no_figure_is_passed_over(changes: dict[str, Any]) -> None:
    assert distortions(asked(), changed(**changes)) == ()


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"container": {"image": "mirror.example/i"}}, "image: mirror.example/i instead of i"),
        ({"container": {"resources": {"limits": {"memory": "1Gi"}}}}, "limits.memory: 1Gi"),
        ({"container": {"resources": {"requests": {"cpu": "1"}}}}, "requests.cpu: 1 instead of"),
        ({"pod": {"dnsPolicy": "Default"}}, "dnsPolicy: Default instead of ClusterFirst"),
        ({"pod": {"dnsConfig": {"options": [{"name": "ndots"}]}}}, "dnsConfig"),
        ({"pod": {"shareProcessNamespace": True}}, "shareProcessNamespace: True"),
        ({"pod": {"securityContext": {"runAsUser": 1000650000}}}, "securityContext"),
        ({"container": {"securityContext": {"runAsUser": 1000650000}}}, "securityContext"),
        (
            {"container": {"env": [{"name": "DD_AGENT_HOST", "value": "secret"}]}},
            "environment: DD_AGENT_HOST added",
        ),
    ],
)
def test_what_else_admission_has_made_different_is_named(
    changes: dict[str, Any], phrase: str
) -> None:
    assert alterations(asked(), changed()) == ()
    (said,) = alterations(asked(), changed(**changes))
    assert phrase in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"pod": {"containers": [*asked()["spec"]["containers"], ISTIO]}}, "istio-proxy"),
        ({"pod": {"initContainers": [ISTIO]}}, "(istio/proxyv2:1.24) ran before it"),
        # A native sidecar of Kubernetes 1.29.
        ({"pod": {"initContainers": [ISTIO | {"restartPolicy": "Always"}]}}, "runs beside it"),
        # shared/real/api/admission.json: "limit range: default put in".
        (
            {
                "container": {"resources": {"limits": {"cpu": "200m"}}},
                "annotations": {
                    "kubernetes.io/limit-ranger": "LimitRanger plugin set: cpu request for "
                    "container k8snet; cpu limit for container k8snet"
                },
            },
            "its CPU is limited to 200m by a LimitRange",
        ),
        (
            {"container": {"resources": {"limits": {"cpu": "1"}}}},
            "its CPU is limited to 1 by admission",
        ),
        (
            {"pod": {"resources": {"limits": {"cpu": "500m"}}}},
            "the CPU of all its containers is limited to 500m",
        ),
        ({"annotations": {"kubernetes.io/egress-bandwidth": "10M"}}, "egress-bandwidth: 10M"),
        # Calico 3.30: felix/.. QoS controls by pod annotation.
        ({"annotations": {"qos.projectcalico.org/ingressBandwidth": "1G"}}, "ingressBandwidth"),
        # cni-plugin/pkg/k8s/k8s.go (v3.28).
        ({"annotations": {"cni.projectcalico.org/ipAddrs": '["10.244.0.9"]'}}, "10.244.0.9"),
        ({"annotations": {"ambient.istio.io/redirection": "enabled"}}, "ambient.istio.io"),
        ({"annotations": {"v1.multus-cni.io/default-network": "macvlan"}}, "default-network"),
        ({"pod": {"runtimeClassName": "gvisor"}}, "the runtime class gvisor"),
        (
            {
                "pod": {
                    "securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem", "value": "1"}]}
                }
            },
            "sysctl net.ipv4.tcp_rmem: 1",
        ),
        (
            {"container": {"env": [{"name": "HTTPS_PROXY", "value": "http://user:secret@p"}]}},
            "its environment names a proxy (HTTPS_PROXY)",
        ),
    ],
)
def test_what_changes_figures_is_named(changes: dict[str, Any], phrase: str) -> None:
    (said,) = distortions(asked(), changed(**changes))
    assert phrase in said
    # Values of an environment may be secrets.
    assert "secret" not in said


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"pod": {"hostNetwork": True}}, "hostNetwork: True instead of the opposite"),
        ({"pod": {"containers": [ISTIO]}}, 'it has no container "k8snet"'),
        ({"pod": {"nodeSelector": {}}}, "nodeSelector kubernetes.io/hostname: None instead of n"),
        ({"labels": {"k8snet/run": "other"}}, "label k8snet/run: other instead of k8snet-abc123"),
        ({"annotations": {"cni.projectcalico.org/ipv4pools": "[]"}}, "ipv4pools: [] instead of"),
    ],
)
def test_a_pod_that_is_another_one_is_refused(changes: dict[str, Any], lost: str) -> None:
    with pytest.raises(PodError, match="admission has made another pod of x/p") as caught:
        distortions(asked(), changed(**changes))
    assert lost in caught.value.found


def test_limits_that_the_user_has_named_are_no_change() -> None:
    settings = PodSettings(image="i", web_image="w", limits={"cpu": "4", "memory": "1Gi"})
    made = changed(settings=settings)
    # The API server takes limits for requests that are missing.
    made["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "4", "memory": "1Gi"}
    assert distortions(asked(settings), made) == ()


def test_a_quantity_is_the_same_however_it_is_written() -> None:
    # apimachinery/pkg/api/resource/quantity.go: an API server writes the canonical form.
    settings = PodSettings(
        image="i",
        web_image="w",
        limits={"cpu": "4000m", "memory": "1024Mi"},
        requests={"cpu": "0.5", "memory": "512Mi"},
    )
    made = changed(settings=settings)
    made["spec"]["containers"][0]["resources"] = {
        "limits": {"cpu": "4", "memory": "1Gi"},
        "requests": {"cpu": "500m", "memory": "512Mi"},
    }
    assert distortions(asked(settings), made) == ()


def test_what_a_user_sets_for_pods_is_on_all_of_them() -> None:
    settings = PodSettings(
        image="r/i@sha256:" + "0" * 64,
        web_image="w",
        pull_secrets=("registry",),
        tolerations=(Toleration.parse("dedicated=net:NoSchedule"),),
        priority_class="high",
        requests={"cpu": "1"},
        limits={"cpu": "2"},
        node_labels={"pool": "net"},
    )
    pod = asked(settings)["spec"]
    web = web_deployment("web", "x", "r", settings=settings, replicas=1)
    template = web["spec"]["template"]["spec"]
    for spec in (pod, template):
        assert spec["imagePullSecrets"] == [{"name": "registry"}]
        assert spec["priorityClassName"] == "high"
        resources = spec["containers"][0]["resources"]
        assert (resources["requests"]["cpu"], resources["limits"]) == ("1", {"cpu": "2"})
        assert {"key": "dedicated", "value": "net", "effect": "NoSchedule"} in spec["tolerations"]
    assert template["nodeSelector"] == {"kubernetes.io/os": "linux", "pool": "net"}
    assert pod["containers"][0]["image"] == settings.image


# The messages are those of shared/real/api/admission.json.
@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        (
            'pods "a" is forbidden: failed quota: q: must specify limits.cpu for: c; '
            "requests.memory for: c",
            "-o k8snet_pod_limits=cpu=... -o k8snet_pod_requests=memory=...",
        ),
        (
            'pods "a" is forbidden: failed quota: q: must specify limits.cpu,limits.memory',
            "-o k8snet_pod_limits=cpu=...,memory=...",
        ),
        (
            'pods "a" is forbidden: exceeded quota: q, requested: limits.cpu=2, used: limits.cpu=0',
            "raise the namespace's ResourceQuota",
        ),
        (
            'pods "a" is forbidden: maximum cpu usage per Container is 200m, but limit is 1',
            "stay within it by -o k8snet_pod_limits=",
        ),
        (
            'pods "a" is forbidden: no PriorityClass with name nope was found',
            "-o k8snet_priority_class=",
        ),
        (
            'admission webhook "validate.kyverno.svc-fail" denied the request: resource Pod/x/a '
            "was blocked due to the following policies: require-quota: label PodSecurity",
            "ask the owner of the admission policy",
        ),
        (
            "ValidatingAdmissionPolicy 'quota' with binding 'all' denied request: per Pod",
            "ask the owner of the admission policy",
        ),
    ],
)
def test_what_a_quota_or_limit_range_wants_is_offered(message: str, remedy: str) -> None:
    assert remedy in admission_remedy(message)

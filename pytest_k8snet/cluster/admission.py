"""What admission may make of a run's pods: sidecars asked away, and what has changed all the same.

Webhooks, a LimitRange and the defaults of a namespace change a pod between the request and the
kubelet. What distorts a figure is told apart from what does not. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.cluster.exec import CONTAINER
from pytest_k8snet.errors import PodError

#: How injectors of sidecars, agents and meshes are asked to leave a pod alone. Most read the
#: annotation, newer ones the label of the same name (Istio and Kuma both).
OPT_OUT_LABELS: Mapping[str, str] = {
    "sidecar.istio.io/inject": "false",
    # Istio's ambient mode redirects traffic without a sidecar.
    "istio.io/dataplane-mode": "none",
    "kuma.io/sidecar-injection": "disabled",
    "admission.datadoghq.com/enabled": "false",
}
OPT_OUT_ANNOTATIONS: Mapping[str, str] = {
    "sidecar.istio.io/inject": "false",
    "linkerd.io/inject": "disabled",
    "kuma.io/sidecar-injection": "disabled",
    "consul.hashicorp.com/connect-inject": "false",
    "consul.hashicorp.com/mesh-inject": "false",
    "openservicemesh.io/sidecar-injection": "disabled",
    "appmesh.k8s.aws/sidecarInjectorWebhook": "disabled",
    "injector.nsm.nginx.com/auto-inject": "false",
    "vault.hashicorp.com/agent-inject": "false",
    "sidecar.opentelemetry.io/inject": "false",
    "dapr.io/enabled": "false",
}

#: Annotations that limit, redirect or replace a pod's network: Kubernetes' bandwidth plugin,
#: Calico's QoS controls, Istio's ambient mode, Multus.
_DISTORTING_ANNOTATIONS = (
    "kubernetes.io/ingress-bandwidth",
    "kubernetes.io/egress-bandwidth",
    "qos.projectcalico.org/",
    "ambient.istio.io/redirection",
    "k8s.v1.cni.cncf.io/networks",
    "v1.multus-cni.io/default-network",
)
#: Written by Kubernetes' LimitRanger where it has put in defaults.
_LIMIT_RANGER = "kubernetes.io/limit-ranger"
_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})
#: What of a pod and its container is compared, and does not distort figures by itself.
_OF_POD = (
    "dnsPolicy",
    "dnsConfig",
    "hostAliases",
    "hostPID",
    "hostIPC",
    "shareProcessNamespace",
    "schedulerName",
    "securityContext",
    "activeDeadlineSeconds",
)
_OF_CONTAINER = ("image", "command", "args", "securityContext", "envFrom")
#: The API server's own defaults for what a manifest leaves out.
_DEFAULTS: Mapping[str, object] = {
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What is different about a pod from what was asked for, one phrase each.

    Attributes:
        distorting: what changes figures: sidecars, a CPU limit, limited bandwidth.
        other: what does not, e.g. an image from a mirror.
    """

    distorting: tuple[str, ...] = ()
    other: tuple[str, ...] = ()


def compare(asked: Mapping[str, Any], made: Mapping[str, Any]) -> Admitted:
    """Compare a pod with the manifest that it was asked for by.

    Args:
        asked: the manifest, or a workload's template.
        made: the Pod object as the API server has it.

    Raises:
        PodError: it is no longer the pod that was asked for: another network, node or pool, no
            container of ours, or not known by its labels.
    """
    if (lost := _lost(asked, made)) is not None:
        metadata = made.get("metadata") or {}
        raise PodError(
            f"admission has made another pod of {metadata.get('namespace')}/{metadata.get('name')}",
            found=lost,
            remedy="find the webhook (`kubectl get mutatingwebhookconfigurations`) and let it pass "
            "over the run's namespace, or name another by `-o k8snet_namespace=...`",
        )
    return Admitted(distorting=tuple(_distorting(asked, made)), other=tuple(_other(asked, made)))


def _lost(asked: Mapping[str, Any], made: Mapping[str, Any]) -> str | None:
    was, spec = asked.get("spec") or {}, made.get("spec") or {}
    if not any(one.get("name") == CONTAINER for one in spec.get("containers") or []):
        return f'it has no container "{CONTAINER}"'
    if bool(was.get("hostNetwork")) != bool(spec.get("hostNetwork")):
        return f"hostNetwork: {bool(spec.get('hostNetwork'))} instead of the opposite"
    pairs = [
        ("nodeSelector", was.get("nodeSelector"), spec.get("nodeSelector"), ""),
        ("label", _metadata(asked, "labels"), _metadata(made, "labels"), ""),
        (
            "annotation",
            _metadata(asked, "annotations"),
            _metadata(made, "annotations"),
            "cni.projectcalico.org/",
        ),
    ]
    for what, wanted, found, prefix in pairs:
        for key, value in (wanted or {}).items():
            # A mesh that is not to be refused overwrites its own label; its sidecar tells more.
            ours = key.startswith(prefix) and key not in OPT_OUT_LABELS
            if ours and (now := (found or {}).get(key)) != value:
                return f"{what} {key}: {now} instead of {value}"
    return None


def _distorting(asked: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    was, spec = asked.get("spec") or {}, made.get("spec") or {}
    known = {one.get("name") for one in was.get("containers") or []}
    for one in spec.get("containers") or []:
        if one.get("name") not in known:
            yield f"container {one.get('name')} ({one.get('image')}) runs beside it"
    for one in spec.get("initContainers") or []:
        how = "runs beside it" if one.get("restartPolicy") == "Always" else "ran before it"
        yield f"init container {one.get('name')} ({one.get('image')}) {how}"
    before, now = _ours(was), _ours(spec)
    limit = _quantity(now, "limits", "cpu")
    if limit and limit != _quantity(before, "limits", "cpu"):
        ranger = _metadata(made, "annotations").get(_LIMIT_RANGER, "")
        why = "by a LimitRange" if "cpu limit" in ranger else "by admission"
        yield f"its CPU is limited to {limit} {why}"
    for key, value in sorted(_metadata(made, "annotations").items()):
        if key not in _metadata(asked, "annotations") and key.startswith(_DISTORTING_ANNOTATIONS):
            yield f"annotation {key}: {value}"
    if runtime := spec.get("runtimeClassName"):
        yield f"it runs in the runtime class {runtime}"
    names = [str(one.get("name")) for one in now.get("env") or []]
    if proxies := sorted(name for name in names if name.lower() in _PROXIES):
        yield f"its environment names a proxy ({', '.join(proxies)})"


def _other(asked: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    was, spec = asked.get("spec") or {}, made.get("spec") or {}
    before, now = _ours(was), _ours(spec)
    for old, new, fields in ((was, spec, _OF_POD), (before, now, _OF_CONTAINER)):
        for name in fields:
            wanted = old.get(name) or _DEFAULTS.get(name)
            if (found := new.get(name)) and found != wanted:
                yield f"{name}: {found} instead of {wanted or 'none'}"
    for kind, name in (
        ("limits", "memory"),
        ("limits", "ephemeral-storage"),
        ("requests", "cpu"),
        ("requests", "memory"),
    ):
        found = _quantity(now, kind, name)
        wanted = _quantity(before, kind, name)
        # The API server itself takes a limit for the request that is missing.
        if found and found != wanted and found != _quantity(before, "limits", name):
            yield f"{kind}.{name}: {found} instead of {wanted or 'none'}"
    names = [str(one.get("name")) for one in now.get("env") or []]
    asked_names = {one.get("name") for one in before.get("env") or []}
    if added := [one for one in names if one not in asked_names and one.lower() not in _PROXIES]:
        yield f"environment: {', '.join(sorted(added))} added"


def _ours(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((one for one in spec.get("containers") or [] if one.get("name") == CONTAINER), {})


def _quantity(container: Mapping[str, Any], kind: str, name: str) -> str:
    return str(((container.get("resources") or {}).get(kind) or {}).get(name) or "")


def _metadata(item: Mapping[str, Any], name: str) -> Mapping[str, str]:
    found: Mapping[str, str] = (item.get("metadata") or {}).get(name) or {}
    return found

"""The values that the API server fills in where a client left a field out."""

from __future__ import annotations

import base64
from collections.abc import Callable

from pytest_k8snet.lab.api.objects import Object, dig, mapping, name_of
from pytest_k8snet.lab.api.resources import CALICO_V3, Resource


def set_defaults(resource: Resource, obj: Object) -> None:
    """Fill in an object in place; malformed parts are left for validation to refuse."""
    if resource.group == CALICO_V3 and resource.kind == "IPPool":
        _ip_pool(obj)
    elif resource.kind in _DEFAULTS and not resource.custom:
        _DEFAULTS[resource.kind](obj)


def keep_allocated(resource: Resource, new: Object, old: Object) -> None:
    """Carry over what was allocated for a service, where its replacement does not name it."""
    if resource.key != "services":
        return
    spec, before = mapping(new, "spec"), dig(old, "spec", {})
    if spec.get("type") == "ExternalName":
        return
    for field in ("clusterIP", "clusterIPs"):
        if not spec.get(field) and before.get(field):
            spec[field] = before[field]
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        ports = {
            (port.get("protocol"), port.get("port")): port.get("nodePort")
            for port in _objects(before.get("ports"))
        }
        for port in _objects(spec.get("ports")):
            kept = ports.get((port.get("protocol"), port.get("port")))
            if kept and not port.get("nodePort"):
                port["nodePort"] = kept


def _namespace(obj: Object) -> None:
    mapping(mapping(obj, "metadata"), "labels")["kubernetes.io/metadata.name"] = name_of(obj)
    mapping(obj, "spec").setdefault("finalizers", ["kubernetes"])
    mapping(obj, "status").setdefault("phase", "Active")


def _pod(obj: Object) -> None:
    spec = mapping(obj, "spec")
    _pod_spec(spec)
    # Only pods themselves, not the templates of pods, get what admission plugins add.
    service_account = spec.setdefault("serviceAccountName", "default")
    spec["serviceAccount"] = service_account
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    tolerations = spec.setdefault("tolerations", [])
    if isinstance(tolerations, list):
        for condition in ("not-ready", "unreachable"):
            key = f"node.kubernetes.io/{condition}"
            if not any(_tolerates(toleration, key) for toleration in tolerations):
                tolerations.append(
                    {
                        "key": key,
                        "operator": "Exists",
                        "effect": "NoExecute",
                        "tolerationSeconds": 300,
                    }
                )
    status = mapping(obj, "status")
    status.setdefault("phase", "Pending")
    status.setdefault("qosClass", _qos_class(spec))


def _tolerates(toleration: object, key: str) -> bool:
    if not isinstance(toleration, dict):
        return False
    everything = not toleration.get("key") and toleration.get("operator") == "Exists"
    return (everything or toleration.get("key") == key) and toleration.get("effect") in (
        None,
        "",
        "NoExecute",
    )


def _qos_class(spec: Object) -> str:
    claims = [dig(container, "resources", {}) for container in _objects(spec.get("containers"))]
    if not any(claim.get("requests") or claim.get("limits") for claim in claims):
        return "BestEffort"
    for claim in claims:
        limits, requests = claim.get("limits") or {}, claim.get("requests") or {}
        if {"cpu", "memory"} - set(limits) or any(
            limits[name] != requests.get(name, limits[name]) for name in ("cpu", "memory")
        ):
            return "Burstable"
    return "Guaranteed"


def _pod_spec(spec: Object) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("enableServiceLinks", True)
    for container in [*_objects(spec.get("initContainers")), *_objects(spec.get("containers"))]:
        _container(container, host_network=bool(spec.get("hostNetwork")))
    for volume in _objects(spec.get("volumes")):
        for source in ("configMap", "secret"):
            if isinstance(volume.get(source), dict):
                volume[source].setdefault("defaultMode", 0o644)
        if isinstance(volume.get("hostPath"), dict):
            volume["hostPath"].setdefault("type", "")


def _container(container: Object, *, host_network: bool) -> None:
    image = str(container.get("image") or "")
    untagged = ":" not in image.rpartition("/")[2]
    latest = "@" not in image and (untagged or image.endswith(":latest"))
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    resources = mapping(container, "resources")
    if isinstance(resources.get("limits"), dict):
        requests = mapping(resources, "requests")
        for name, quantity in resources["limits"].items():
            requests.setdefault(name, quantity)
    for port in _objects(container.get("ports")):
        port.setdefault("protocol", "TCP")
        if host_network and "containerPort" in port:
            port.setdefault("hostPort", port["containerPort"])
    for probe_name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(probe_name)
        if isinstance(probe, dict):
            probe.setdefault("timeoutSeconds", 1)
            probe.setdefault("periodSeconds", 10)
            probe.setdefault("successThreshold", 1)
            probe.setdefault("failureThreshold", 3)
            if isinstance(probe.get("httpGet"), dict):
                probe["httpGet"].setdefault("path", "/")
                probe["httpGet"].setdefault("scheme", "HTTP")


def _service(obj: Object) -> None:
    spec = mapping(obj, "spec")
    kind = spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if kind != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
    if kind in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    for port in _objects(spec.get("ports")):
        port.setdefault("protocol", "TCP")
        if "port" in port:
            port.setdefault("targetPort", port["port"])
    mapping(mapping(obj, "status"), "loadBalancer")


def _deployment(obj: Object) -> None:
    spec = mapping(obj, "spec")
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = mapping(spec, "strategy")
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = mapping(strategy, "rollingUpdate")
        rolling.setdefault("maxSurge", "25%")
        rolling.setdefault("maxUnavailable", "25%")
    _template(spec)


def _replica_set(obj: Object) -> None:
    spec = mapping(obj, "spec")
    spec.setdefault("replicas", 1)
    _template(spec)
    mapping(obj, "status").setdefault("replicas", 0)


def _daemon_set(obj: Object) -> None:
    spec = mapping(obj, "spec")
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = mapping(spec, "updateStrategy")
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = mapping(strategy, "rollingUpdate")
        rolling.setdefault("maxSurge", 0)
        rolling.setdefault("maxUnavailable", 1)
    _template(spec)
    status = mapping(obj, "status")
    for count in ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled"):
        status.setdefault(count, 0)
    status.setdefault("numberReady", 0)


def _template(spec: Object) -> None:
    template = spec.get("template")
    if isinstance(template, dict):
        mapping(mapping(template, "metadata"), "labels")
        _pod_spec(mapping(template, "spec"))


def _secret(obj: Object) -> None:
    obj.setdefault("type", "Opaque")
    plain = obj.pop("stringData", None)
    if isinstance(plain, dict):
        data = mapping(obj, "data")
        for key, text in plain.items():
            data[key] = base64.b64encode(str(text).encode()).decode()


def _ip_pool(obj: Object) -> None:
    """The defaults of projectcalico.org/v3; a raw crd.projectcalico.org/v1 object gets none."""
    spec = mapping(obj, "spec")
    spec.setdefault("ipipMode", "Never")
    spec.setdefault("vxlanMode", "Never")
    spec.setdefault("blockSize", 122 if ":" in str(spec.get("cidr")) else 26)
    spec.setdefault("nodeSelector", "all()")
    spec.setdefault("allowedUses", ["Workload", "Tunnel"])
    spec.setdefault("assignmentMode", "Automatic")


def _objects(value: object) -> list[Object]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


_DEFAULTS: dict[str, Callable[[Object], None]] = {
    "Namespace": _namespace,
    "Pod": _pod,
    "Service": _service,
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "DaemonSet": _daemon_set,
    "Secret": _secret,
}

"""The tables that ``kubectl get`` prints: which columns a kind has, and a Table of objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.resources import Resource

NONE = "<none>"


def age(moment: Any) -> str:
    """The time since a time stamp, as ``kubectl`` abbreviates it; ``<unknown>`` without one."""
    if not isinstance(moment, str) or not moment:
        return "<unknown>"
    try:
        then = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    except ValueError:
        return "<unknown>"
    return duration(max(0, int((datetime.now(UTC) - then).total_seconds())))


def duration(seconds: int) -> str:
    """A duration with as many digits as a person wants: ``95s``, ``5m10s``, ``3h``, ``2d4h``."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 2 * 365:
        return f"{days}d"
    return f"{days // 365}y{days % 365}d"


def created(obj: Object) -> str:
    """The object's age."""
    return age(dig(obj, "metadata.creationTimestamp"))


def pod_ready(pod: Object) -> str:
    """Ready containers of all: ``1/2``."""
    ready = sum(bool(state.get("ready")) for state in dig(pod, "status.containerStatuses", []))
    return f"{ready}/{len(dig(pod, 'spec.containers', []))}"


def pod_restarts(pod: Object) -> str:
    """How often containers were restarted, and when last."""
    states = dig(pod, "status.containerStatuses", [])
    count = sum(int(state.get("restartCount") or 0) for state in states)
    last = max((dig(state, "lastState.terminated.finishedAt", "") for state in states), default="")
    return f"{count} ({age(last)} ago)" if count and last else str(count)


def pod_status(pod: Object) -> str:
    """The phase, or the reason that explains it better."""
    reason = str(dig(pod, "status.reason") or dig(pod, "status.phase", "Unknown"))
    if any(
        condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated"
        for condition in dig(pod, "status.conditions", [])
    ):
        reason = "SchedulingGated"
    running = False
    for state in reversed(dig(pod, "status.containerStatuses", [])):
        waiting, ended = dig(state, "state.waiting.reason"), dig(state, "state.terminated")
        if waiting:
            reason = waiting
        elif ended:
            signal, code = ended.get("signal"), ended.get("exitCode", 0)
            reason = ended.get("reason") or (f"Signal:{signal}" if signal else f"ExitCode:{code}")
        elif state.get("ready") and dig(state, "state.running") is not None:
            running = True
    if reason == "Completed" and running:
        reason = "Running" if pod_condition(pod, "Ready") else "NotReady"
    if dig(pod, "metadata.deletionTimestamp"):
        return "Unknown" if dig(pod, "status.reason") == "NodeLost" else "Terminating"
    return reason


def pod_condition(pod: Object, name: str) -> bool:
    """Whether a condition of any object's status is True."""
    return any(
        condition.get("type") == name and condition.get("status") == "True"
        for condition in dig(pod, "status.conditions", [])
    )


def node_status(node: Object) -> str:
    """``Ready``, ``NotReady`` or ``Unknown``, and whether scheduling is off."""
    states = {
        condition.get("type"): condition.get("status")
        for condition in dig(node, "status.conditions", [])
    }
    state = {"True": "Ready", None: "Unknown"}.get(states.get("Ready"), "NotReady")
    return f"{state},SchedulingDisabled" if dig(node, "spec.unschedulable") else state


def node_roles(node: Object) -> str:
    """The roles that the node's labels name."""
    prefix = "node-role.kubernetes.io/"
    labels = dig(node, "metadata.labels", {})
    roles = [key.removeprefix(prefix) for key in labels if key.startswith(prefix)]
    return ",".join(sorted(roles)) or NONE


def node_address(node: Object, kind: str) -> str:
    """The node's address of a kind, e.g. ``InternalIP``."""
    for address in dig(node, "status.addresses", []):
        if address.get("type") == kind:
            return str(address.get("address"))
    return NONE


def service_external(service: Object) -> str:
    """The addresses by which a service is reached from outside."""
    spec = service.get("spec") or {}
    kind, more = spec.get("type"), spec.get("externalIPs") or []
    if kind == "ExternalName":
        return str(spec.get("externalName"))
    if kind == "LoadBalancer":
        ingress = dig(service, "status.loadBalancer.ingress", [])
        given = [str(entry.get("ip") or entry.get("hostname")) for entry in ingress]
        return ",".join([*given, *more]) or "<pending>"
    return ",".join(more) or NONE


def service_ports(service: Object) -> str:
    """``80:30080/TCP,443/TCP``."""
    texts = []
    for port in dig(service, "spec.ports", []):
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        texts.append(f"{port.get('port')}{node_port}/{port.get('protocol')}")
    return ",".join(texts) or NONE


def endpoint_addresses(endpoints: Object) -> str:
    """The first three addresses with ports, and how many more there are."""
    found = [
        f"{address.get('ip')}:{port.get('port')}" if port else str(address.get("ip"))
        for subset in endpoints.get("subsets") or []
        for address in subset.get("addresses") or []
        for port in subset.get("ports") or [None]
    ]
    more = f" + {len(found) - 3} more..." if len(found) > 3 else ""
    return (",".join(found[:3]) + more) or NONE


def selector_text(labels: Mapping[str, str] | None) -> str:
    """``a=1,b=2``."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def label_selector_text(selector: Object | None) -> str:
    """A LabelSelector object in the notation of the command line."""
    terms = []
    for key, value in sorted(((selector or {}).get("matchLabels") or {}).items()):
        terms.append(f"{key}={value}")
    for term in (selector or {}).get("matchExpressions") or []:
        values = ",".join(term.get("values") or [])
        terms.append(
            {
                "In": f"{term['key']} in ({values})",
                "NotIn": f"{term['key']} notin ({values})",
                "Exists": term["key"],
                "DoesNotExist": f"!{term['key']}",
            }[term["operator"]]
        )
    return ",".join(terms) or NONE


def containers(workload: Object, field: str) -> str:
    """A field of every container of a workload's template: ``name`` or ``image``."""
    listed = dig(workload, "spec.template.spec.containers", [])
    return ",".join(str(container.get(field)) for container in listed)


def count(obj: Object, path: str) -> int:
    """A number of the object; 0 where it is absent."""
    return int(dig(obj, path, 0))


def data_count(obj: Object) -> int:
    """How many entries a config map or secret has."""
    return len(obj.get("data") or {}) + len(obj.get("binaryData") or {})


# -- The tables that ``kubectl get`` prints: which columns a kind has, and a Table of objects -----


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its title, what stands in it, and whether only ``-o wide`` shows it."""

    title: str
    cell: Callable[[Object], Any]
    wide: bool = False

    def definition(self) -> Object:
        """The column as a Table defines it."""
        return {
            "name": self.title,
            "type": "string",
            "format": "name" if self.title == "Name" else "",
            "description": "",
            "priority": 1 if self.wide else 0,
        }


def _at(path: str, default: Any = NONE) -> Callable[[Object], Any]:
    return lambda obj: dig(obj, path, default)


def _count(path: str) -> Callable[[Object], Any]:
    return lambda obj: count(obj, path)


_NAME = Column("Name", _at("metadata.name"))
_AGE = Column("Age", created)
_WORKLOAD = (
    Column("Containers", lambda obj: containers(obj, "name"), wide=True),
    Column("Images", lambda obj: containers(obj, "image"), wide=True),
    Column("Selector", lambda obj: label_selector_text(dig(obj, "spec.selector")), wide=True),
)


def _ready_of(deployment: Object) -> str:
    return f"{count(deployment, 'status.readyReplicas')}/{count(deployment, 'spec.replicas')}"


def _api_service(service: Object) -> str:
    target = dig(service, "spec.service")
    return f"{target['namespace']}/{target['name']}" if target else "Local"


def _condition(name: str) -> Callable[[Object], str]:
    def status_of(obj: Object) -> str:
        states = dig(obj, "status.conditions", [])
        return next((str(state["status"]) for state in states if state.get("type") == name), "")

    return status_of


_COLUMNS: dict[str, tuple[Column, ...]] = {
    "pods": (
        _NAME,
        Column("Ready", pod_ready),
        Column("Status", pod_status),
        Column("Restarts", pod_restarts),
        _AGE,
        Column("IP", _at("status.podIP"), wide=True),
        Column("Node", _at("spec.nodeName"), wide=True),
        Column("Nominated Node", _at("status.nominatedNodeName"), wide=True),
        Column("Readiness Gates", lambda _: NONE, wide=True),
    ),
    "nodes": (
        _NAME,
        Column("Status", node_status),
        Column("Roles", node_roles),
        _AGE,
        Column("Version", _at("status.nodeInfo.kubeletVersion", "")),
        Column("Internal-IP", lambda obj: node_address(obj, "InternalIP"), wide=True),
        Column("External-IP", lambda obj: node_address(obj, "ExternalIP"), wide=True),
        Column("OS-Image", _at("status.nodeInfo.osImage", "<unknown>"), wide=True),
        Column("Kernel-Version", _at("status.nodeInfo.kernelVersion", "<unknown>"), wide=True),
        Column(
            "Container-Runtime",
            _at("status.nodeInfo.containerRuntimeVersion", "<unknown>"),
            wide=True,
        ),
    ),
    "services": (
        _NAME,
        Column("Type", _at("spec.type")),
        Column("Cluster-IP", _at("spec.clusterIP")),
        Column("External-IP", service_external),
        Column("Port(s)", service_ports),
        _AGE,
        Column("Selector", lambda obj: selector_text(dig(obj, "spec.selector")), wide=True),
    ),
    "endpoints": (_NAME, Column("Endpoints", endpoint_addresses), _AGE),
    "endpointslices.discovery.k8s.io": (
        _NAME,
        Column("AddressType", _at("addressType")),
        Column("Ports", lambda obj: ",".join(str(p.get("port")) for p in obj.get("ports") or [])),
        Column(
            "Endpoints",
            lambda obj: ",".join(
                address
                for end in obj.get("endpoints") or []
                for address in end.get("addresses") or []
            ),
        ),
        _AGE,
    ),
    "deployments.apps": (
        _NAME,
        Column("Ready", _ready_of),
        Column("Up-to-date", _count("status.updatedReplicas")),
        Column("Available", _count("status.availableReplicas")),
        _AGE,
        *_WORKLOAD,
    ),
    "replicasets.apps": (
        _NAME,
        Column("Desired", _count("spec.replicas")),
        Column("Current", _count("status.replicas")),
        Column("Ready", _count("status.readyReplicas")),
        _AGE,
        *_WORKLOAD,
    ),
    "daemonsets.apps": (
        _NAME,
        Column("Desired", _count("status.desiredNumberScheduled")),
        Column("Current", _count("status.currentNumberScheduled")),
        Column("Ready", _count("status.numberReady")),
        Column("Up-to-date", _count("status.updatedNumberScheduled")),
        Column("Available", _count("status.numberAvailable")),
        Column(
            "Node Selector",
            lambda obj: selector_text(dig(obj, "spec.template.spec.nodeSelector")),
        ),
        _AGE,
        *_WORKLOAD,
    ),
    "namespaces": (_NAME, Column("Status", _at("status.phase", "")), _AGE),
    "configmaps": (_NAME, Column("Data", data_count), _AGE),
    "secrets": (_NAME, Column("Type", _at("type")), Column("Data", data_count), _AGE),
    "serviceaccounts": (
        _NAME,
        Column("Secrets", lambda obj: len(obj.get("secrets") or [])),
        _AGE,
    ),
    "leases.coordination.k8s.io": (_NAME, Column("Holder", _at("spec.holderIdentity", "")), _AGE),
    "events": (
        Column("Last Seen", lambda obj: age(obj.get("lastTimestamp") or obj.get("eventTime"))),
        Column("Type", _at("type", "")),
        Column("Reason", _at("reason", "")),
        Column(
            "Object",
            lambda obj: (
                f"{dig(obj, 'involvedObject.kind', '').lower()}/"
                f"{dig(obj, 'involvedObject.name', '')}"
            ),
        ),
        Column("Message", lambda obj: str(obj.get("message", "")).strip()),
    ),
    "customresourcedefinitions.apiextensions.k8s.io": (
        _NAME,
        Column("Created At", _at("metadata.creationTimestamp")),
    ),
    "apiservices.apiregistration.k8s.io": (
        _NAME,
        Column("Service", _api_service),
        Column("Available", _condition("Available")),
        _AGE,
    ),
    "tigerastatuses.operator.tigera.io": (
        _NAME,
        Column("Available", _condition("Available")),
        Column("Progressing", _condition("Progressing")),
        Column("Degraded", _condition("Degraded")),
        _AGE,
    ),
}

_DEFAULT = (_NAME, _AGE)


def render(
    resource: Resource, objects: Sequence[Object], meta: Object, *, include: str = "Metadata"
) -> Object:
    """A Table of objects.

    Args:
        resource: what the objects are.
        objects: one for each row.
        meta: the list's metadata.
        include: what comes with each row: ``None``, ``Metadata`` or ``Object``.
    """
    columns = _COLUMNS.get(resource.key, _DEFAULT)
    rows = []
    for obj in objects:
        row: Object = {"cells": [column.cell(obj) for column in columns]}
        if include == "Object":
            row["object"] = obj
        elif include != "None":
            row["object"] = partial_metadata(obj)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": [column.definition() for column in columns],
        "rows": rows,
    }


def partial_metadata(obj: Object) -> Object:
    """The object's metadata alone."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }


def form(accept: str) -> str:
    """What an Accept header prefers: ``Table``, ``PartialObjectMetadata`` or plain objects ("")."""
    for choice in accept.split(","):
        media_type, *parameters = (part.strip() for part in choice.split(";"))
        wanted = dict(part.partition("=")[::2] for part in parameters)
        if wanted.get("as") and wanted.get("g") == "meta.k8s.io" and wanted.get("v") == "v1":
            return wanted["as"]
        if media_type in ("application/json", "application/yaml", "*/*") and "as" not in wanted:
            return ""
    return ""

"""The tables that ``kubectl get`` prints: which columns a kind has, and a Table of objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.resources import Resource

NONE = "<none>"

#: A column: its title (with a star where only ``-o wide`` shows it), and what stands in it: a
#: function of the object, or a path (with ``#`` for a number that is 0 where it is absent).
Column = tuple[str, Callable[[Object], Any] | str]


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
    columns = [_NAME, *_COLUMNS.get(resource.key, resource.columns or (_AGE,))]
    if resource.key == "events":
        del columns[0]
    rows = []
    for obj in objects:
        row: Object = {"cells": [_cell(obj, content) for _, content in columns]}
        if include != "None":
            row["object"] = obj if include == "Object" else partial_metadata(obj)
        rows.append(row)
    definitions = [
        {
            "name": title.removesuffix("*"),
            "type": "string",
            "format": "name" if title == "Name" else "",
            "description": "",
            "priority": int(title.endswith("*")),
        }
        for title, _ in columns
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": definitions,
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


def _cell(obj: Object, content: Callable[[Object], Any] | str) -> Any:
    if callable(content):
        return content(obj)
    if content.startswith("#"):
        return int(dig(obj, content[1:], 0))
    return dig(obj, content, NONE)


# -- Cells ---------------------------------------------------------------------------------------


def age(moment: Any) -> str:
    """The time since a time stamp, as ``kubectl`` abbreviates it; ``<unknown>`` without one."""
    try:
        then = datetime.fromisoformat(moment)
    except (TypeError, ValueError):
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


def pod_status(pod: Object) -> str:
    """The phase, or the reason that explains it better."""
    reason = str(dig(pod, "status.reason") or dig(pod, "status.phase", "Unknown"))
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
        reason = "Running" if _condition("Ready")(pod) == "True" else "NotReady"
    return "Terminating" if dig(pod, "metadata.deletionTimestamp") else reason


def _pod_ready(pod: Object) -> str:
    ready = sum(bool(state.get("ready")) for state in dig(pod, "status.containerStatuses", []))
    return f"{ready}/{len(dig(pod, 'spec.containers', []))}"


def _pod_restarts(pod: Object) -> str:
    """How often containers were restarted, and when last."""
    states = dig(pod, "status.containerStatuses", [])
    count = sum(int(state.get("restartCount") or 0) for state in states)
    last = max((dig(state, "lastState.terminated.finishedAt", "") for state in states), default="")
    return f"{count} ({age(last)} ago)" if count and last else str(count)


def _condition(name: str) -> Callable[[Object], str]:
    def status_of(obj: Object) -> str:
        states = dig(obj, "status.conditions", [])
        return next((str(state["status"]) for state in states if state.get("type") == name), "")

    return status_of


def _node_status(node: Object) -> str:
    ready = _condition("Ready")(node)
    state = {"True": "Ready", "": "Unknown"}.get(ready, "NotReady")
    return f"{state},SchedulingDisabled" if dig(node, "spec.unschedulable") else state


def _node_roles(node: Object) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = dig(node, "metadata.labels", {})
    roles = [key.removeprefix(prefix) for key in labels if key.startswith(prefix)]
    return ",".join(sorted(roles)) or NONE


def _node_address(kind: str) -> Callable[[Object], str]:
    def address_of(node: Object) -> str:
        found = [one for one in dig(node, "status.addresses", []) if one.get("type") == kind]
        return str(found[0].get("address")) if found else NONE

    return address_of


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


def _service_ports(service: Object) -> str:
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


def _slice_ports(endpoint_slice: Object) -> str:
    return ",".join(str(port.get("port")) for port in endpoint_slice.get("ports") or [])


def _slice_addresses(endpoint_slice: Object) -> str:
    ends = endpoint_slice.get("endpoints") or []
    return ",".join(address for end in ends for address in end.get("addresses") or [])


def _labels(path: str) -> Callable[[Object], str]:
    def text_of(obj: Object) -> str:
        labels: Mapping[str, str] = dig(obj, path, {})
        return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or NONE

    return text_of


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


def _containers(field: str) -> Callable[[Object], str]:
    """A field of every container of a workload's template: ``name`` or ``image``."""

    def text_of(workload: Object) -> str:
        listed = dig(workload, "spec.template.spec.containers", [])
        return ",".join(str(container.get(field)) for container in listed)

    return text_of


def _job_status(job: Object) -> str:
    ended = [
        one["type"]
        for one in dig(job, "status.conditions", [])
        if one["status"] == "True" and one["type"] in ("Complete", "Failed", "Suspended")
    ]
    return ended[0] if ended else "Running"


def _job_completions(job: Object) -> str:
    return f"{dig(job, 'status.succeeded', 0)}/{dig(job, 'spec.completions', 1)}"


def _job_duration(job: Object) -> str:
    begun, ended = dig(job, "status.startTime"), dig(job, "status.completionTime")
    if begun and ended:
        first, last = (datetime.fromisoformat(one) for one in (begun, ended))
        return duration(int((last - first).total_seconds()))
    return age(begun) if begun else ""


def _quota_of(field: str) -> Callable[[Object], str]:
    """How much of a quota is used: its limits, or all else."""

    def text_of(quota: Object) -> str:
        hard, used = dig(quota, "status.hard", {}), dig(quota, "status.used", {})
        return ", ".join(
            f"{name}: {used.get(name, 0)}/{hard[name]}"
            for name in sorted(hard)
            if name.startswith("limits.") == (field == "limits")
        )

    return text_of


def _data_count(obj: Object) -> int:
    return len(obj.get("data") or {}) + len(obj.get("binaryData") or {})


def _event_object(event: Object) -> str:
    involved = event.get("involvedObject") or {}
    return f"{involved.get('kind', '').lower()}/{involved.get('name', '')}"


def _api_service(service: Object) -> str:
    target = dig(service, "spec.service")
    return f"{target['namespace']}/{target['name']}" if target else "Local"


# -- Columns -------------------------------------------------------------------------------------

_NAME: Column = ("Name", "metadata.name")
_AGE: Column = ("Age", lambda obj: age(dig(obj, "metadata.creationTimestamp")))
_WORKLOAD: tuple[Column, ...] = (
    _AGE,
    ("Containers*", _containers("name")),
    ("Images*", _containers("image")),
    ("Selector*", lambda obj: label_selector_text(dig(obj, "spec.selector"))),
)
#: After the name, but for events.
_COLUMNS: dict[str, tuple[Column, ...]] = {
    "pods": (
        ("Ready", _pod_ready), ("Status", pod_status), ("Restarts", _pod_restarts), _AGE,
        ("IP*", "status.podIP"), ("Node*", "spec.nodeName"),
        ("Nominated Node*", "status.nominatedNodeName"), ("Readiness Gates*", lambda _: NONE),
    ),
    "nodes": (
        ("Status", _node_status), ("Roles", _node_roles), _AGE,
        ("Version", "status.nodeInfo.kubeletVersion"),
        ("Internal-IP*", _node_address("InternalIP")),
        ("External-IP*", _node_address("ExternalIP")),
        ("OS-Image*", "status.nodeInfo.osImage"),
        ("Kernel-Version*", "status.nodeInfo.kernelVersion"),
        ("Container-Runtime*", "status.nodeInfo.containerRuntimeVersion"),
    ),
    "services": (
        ("Type", "spec.type"), ("Cluster-IP", "spec.clusterIP"), ("External-IP", service_external),
        ("Port(s)", _service_ports), _AGE, ("Selector*", _labels("spec.selector")),
    ),
    "endpoints": (("Endpoints", endpoint_addresses), _AGE),
    "endpointslices.discovery.k8s.io": (
        ("AddressType", "addressType"), ("Ports", _slice_ports), ("Endpoints", _slice_addresses),
        _AGE,
    ),
    "deployments.apps": (
        ("Ready", lambda obj: f"{dig(obj, 'status.readyReplicas', 0)}/"
                              f"{dig(obj, 'spec.replicas', 0)}"),
        ("Up-to-date", "#status.updatedReplicas"), ("Available", "#status.availableReplicas"),
        *_WORKLOAD,
    ),
    "replicationcontrollers": (
        ("Desired", "#spec.replicas"), ("Current", "#status.replicas"),
        ("Ready", "#status.readyReplicas"), _AGE,
    ),
    "replicasets.apps": (
        ("Desired", "#spec.replicas"), ("Current", "#status.replicas"),
        ("Ready", "#status.readyReplicas"), *_WORKLOAD,
    ),
    "daemonsets.apps": (
        ("Desired", "#status.desiredNumberScheduled"),
        ("Current", "#status.currentNumberScheduled"), ("Ready", "#status.numberReady"),
        ("Up-to-date", "#status.updatedNumberScheduled"), ("Available", "#status.numberAvailable"),
        ("Node Selector", _labels("spec.template.spec.nodeSelector")), *_WORKLOAD,
    ),
    "jobs.batch": (
        ("Status", _job_status), ("Completions", _job_completions), ("Duration", _job_duration),
        _AGE,
    ),
    "networkpolicies.networking.k8s.io": ((
        "Pod-Selector", lambda obj: label_selector_text(dig(obj, "spec.podSelector"))
    ), _AGE),
    "resourcequotas": (
        ("Request", _quota_of("requests")), ("Limit", _quota_of("limits")), _AGE,
    ),
    "limitranges": (("Created At", "metadata.creationTimestamp"),),
    "namespaces": (("Status", "status.phase"), _AGE),
    "configmaps": (("Data", _data_count), _AGE),
    "secrets": (("Type", "type"), ("Data", _data_count), _AGE),
    "serviceaccounts": (("Secrets", lambda obj: len(obj.get("secrets") or [])), _AGE),
    "leases.coordination.k8s.io": (("Holder", "spec.holderIdentity"), _AGE),
    "events": (
        ("Last Seen", lambda obj: age(obj.get("lastTimestamp") or obj.get("eventTime"))),
        ("Type", "type"), ("Reason", "reason"), ("Object", _event_object), ("Message", "message"),
    ),
    "customresourcedefinitions.apiextensions.k8s.io": (
        ("Created At", "metadata.creationTimestamp"),
    ),
    "apiservices.apiregistration.k8s.io": (
        ("Service", _api_service), ("Available", _condition("Available")), _AGE,
    ),
    "tigerastatuses.operator.tigera.io": (
        ("Available", _condition("Available")), ("Progressing", _condition("Progressing")),
        ("Degraded", _condition("Degraded")), _AGE,
    ),
}  # fmt: skip

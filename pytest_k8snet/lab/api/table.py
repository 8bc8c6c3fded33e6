"""The tables that ``kubectl get`` prints: which columns a kind has, and a Table of objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.lab.api import cells
from pytest_k8snet.lab.api.cells import NONE, age, count, created
from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.resources import Resource


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
    Column("Containers", lambda obj: cells.containers(obj, "name"), wide=True),
    Column("Images", lambda obj: cells.containers(obj, "image"), wide=True),
    Column("Selector", lambda obj: cells.label_selector_text(dig(obj, "spec.selector")), wide=True),
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
        Column("Ready", cells.pod_ready),
        Column("Status", cells.pod_status),
        Column("Restarts", cells.pod_restarts),
        _AGE,
        Column("IP", _at("status.podIP"), wide=True),
        Column("Node", _at("spec.nodeName"), wide=True),
        Column("Nominated Node", _at("status.nominatedNodeName"), wide=True),
        Column("Readiness Gates", lambda _: NONE, wide=True),
    ),
    "nodes": (
        _NAME,
        Column("Status", cells.node_status),
        Column("Roles", cells.node_roles),
        _AGE,
        Column("Version", _at("status.nodeInfo.kubeletVersion", "")),
        Column("Internal-IP", lambda obj: cells.node_address(obj, "InternalIP"), wide=True),
        Column("External-IP", lambda obj: cells.node_address(obj, "ExternalIP"), wide=True),
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
        Column("External-IP", cells.service_external),
        Column("Port(s)", cells.service_ports),
        _AGE,
        Column("Selector", lambda obj: cells.selector_text(dig(obj, "spec.selector")), wide=True),
    ),
    "endpoints": (_NAME, Column("Endpoints", cells.endpoint_addresses), _AGE),
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
            lambda obj: cells.selector_text(dig(obj, "spec.template.spec.nodeSelector")),
        ),
        _AGE,
        *_WORKLOAD,
    ),
    "namespaces": (_NAME, Column("Status", _at("status.phase", "")), _AGE),
    "configmaps": (_NAME, Column("Data", cells.data_count), _AGE),
    "secrets": (_NAME, Column("Type", _at("type")), Column("Data", cells.data_count), _AGE),
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

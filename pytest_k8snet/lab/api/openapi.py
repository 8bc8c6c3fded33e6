"""The OpenAPI documents, made from the registry and the table of kinds.

kubectl reads three things in them: that the server validates fields itself (``fieldValidation``),
that it knows dry runs, and which lists a strategic merge patch merges by which key.
"""

from __future__ import annotations

from typing import Any

from pytest_k8snet.lab.api.discovery import KUBERNETES_VERSION
from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.patch import accepted_media_types
from pytest_k8snet.lab.api.resources import Registry, Resource
from pytest_k8snet.lab.api.schema import Field, types

#: The type of the protobuf answer. (Clients ask for it with "@" in place of the first dot after
#: "v2", which is no valid media type.)
V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

_SCALARS: dict[str, Object] = {
    "s": {"type": "string"},
    "i": {"type": "integer"},
    "b": {"type": "boolean"},
    "t": {"type": "string", "format": "date-time"},
    "x": {"type": "string", "format": "byte"},
    "q": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "is": {"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"},
    "o": {"type": "object"},
    "*": {},
}


def index(registry: Registry) -> Object:
    """The answer to ``/openapi/v3``: where the document of each group version is."""
    paths = [_place(group, version) for group, version in registry.group_versions()]
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in paths}}


def document(registry: Registry, place: str) -> Object | None:
    """The OpenAPI v3 document of one place, e.g. ``apis/apps/v1``; None when it is not served."""
    resources = [
        resource
        for resource in registry.served()
        if _place(resource.group, resource.version) == place
    ]
    if not resources:
        return None
    paths: Object = {}
    for resource in resources:
        scope = "namespaces/{namespace}/" if resource.namespaced else ""
        collection = f"/{place}/{scope}{resource.plural}"
        if "create" in resource.verbs:
            paths[collection] = {"post": _operation(resource, "post")}
        if "patch" in resource.verbs:
            paths[f"{collection}/{{name}}"] = {
                "put": _operation(resource, "put"),
                "patch": _operation(resource, "patch"),
            }
    return {
        "openapi": "3.0.0",
        "info": _info(),
        "paths": paths,
        "components": {"schemas": _schemas(resources)},
    }


def _place(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _info() -> Object:
    return {"title": "Kubernetes", "version": KUBERNETES_VERSION}


def _operation(resource: Resource, method: str) -> Object:
    accepted = accepted_media_types(resource) if method == "patch" else ["application/json"]
    schema = {} if method == "patch" else {"schema": _reference(_component(resource))}
    return {
        "x-kubernetes-action": method,
        "x-kubernetes-group-version-kind": _group_version_kind(resource),
        "parameters": [
            {"name": name, "in": "query", "schema": {"type": "string"}}
            for name in ("dryRun", "fieldManager", "fieldValidation")
        ],
        "requestBody": {"content": dict.fromkeys(accepted, schema)},
        "responses": {"200": {"description": "OK"}},
    }


def _group_version_kind(resource: Resource) -> Object:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _component(resource: Resource) -> str:
    return resource.kind


def _reference(name: str) -> Object:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas(resources: list[Resource]) -> Object:
    schemas: Object = {}
    waiting = [_component(resource) for resource in resources]
    while waiting:
        name = waiting.pop()
        if name in schemas:
            continue
        known = types().get(name)
        if known is None:
            schemas[name] = {"type": "object"}
            continue
        schemas[name] = {
            "type": "object",
            "properties": {
                field_name: _property(field) for field_name, field in known.fields.items()
            },
        }
        waiting += [field.of for field in known.fields.values() if field.of in types()]
    for resource in resources:
        schemas[_component(resource)]["x-kubernetes-group-version-kind"] = [
            _group_version_kind(resource)
        ]
    return schemas


def _property(field: Field) -> Object:
    item: Object = _SCALARS.get(field.of) or (
        # The reference stands in allOf, as beside extensions OpenAPI ignores it otherwise.
        {"default": {}, "allOf": [_reference(field.of)]} if field.of in types() else {}
    )
    if field.shape == "map":
        return {"type": "object", "additionalProperties": item}
    if field.shape == "value":
        return dict(item)
    listed: dict[str, Any] = {"type": "array", "items": item}
    if field.merge_key == "+":
        listed |= {"x-kubernetes-patch-strategy": "merge", "x-kubernetes-list-type": "set"}
    elif field.merge_key:
        listed |= {
            "x-kubernetes-patch-strategy": "merge",
            "x-kubernetes-patch-merge-key": field.merge_key,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": [field.merge_key],
        }
    return listed


def version_2() -> Object:
    """The OpenAPI v2 document: it describes nothing, so that clients validate nothing by it."""
    return {"swagger": "2.0", "info": _info(), "paths": {}, "definitions": {}}


def version_2_protobuf() -> bytes:
    """The same in the protobuf encoding of the only form that kubectl reads."""

    def field(number: int, payload: bytes) -> bytes:
        return bytes([number << 3 | 2, len(payload)]) + payload

    info = field(1, b"Kubernetes") + field(2, KUBERNETES_VERSION.encode())
    return field(1, b"2.0") + field(2, info) + field(8, b"") + field(9, b"")

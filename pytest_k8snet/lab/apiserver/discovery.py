"""How clients find out what is served: groups, resources, versions."""

from __future__ import annotations

import platform
from collections.abc import Collection
from typing import Any

from pytest_k8snet.lab.api.definitions import CRDS
from pytest_k8snet.lab.api.objects import Object, condition
from pytest_k8snet.lab.api.patch import accepted_media_types
from pytest_k8snet.lab.api.resources import CALICO_V3, SUBRESOURCES, Registry, Resource
from pytest_k8snet.lab.api.schema import Field, types
from pytest_k8snet.lab.api.store import Store

#: The Kubernetes whose API the lab speaks.
KUBERNETES_VERSION = "v1.34.4"

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def version() -> Object:
    """The answer to ``/version``."""
    major, minor, _ = KUBERNETES_VERSION.lstrip("v").split(".")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": f"{KUBERNETES_VERSION}+k8snet-lab",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": f"linux/{machine}",
    }


def api_versions() -> Object:
    """The answer to ``/api``."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def groups(registry: Registry) -> Object:
    """The answer to ``/apis``."""
    names = dict.fromkeys(group for group, _ in registry.group_versions() if group)
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_group(registry, name) for name in names],
    }


def group(registry: Registry, name: str) -> Object | None:
    """The answer to ``/apis/GROUP``, None for a group that is not served."""
    if not name or name not in {served for served, _ in registry.group_versions()}:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(registry, name)}


def _group(registry: Registry, name: str) -> Object:
    versions = [
        {"groupVersion": f"{name}/{version}", "version": version}
        for served, version in registry.group_versions()
        if served == name
    ]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def resources(registry: Registry, name: str, version: str) -> Object | None:
    """The answer to ``/api/v1`` and ``/apis/GROUP/VERSION``, None when that is not served."""
    if (name, version) not in registry.group_versions():
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{name}/{version}" if name else version,
        "resources": _resources(registry, name, version),
    }


def _resources(registry: Registry, name: str, version: str) -> list[Object]:
    """The APIResources of a group version; subresources follow what they belong to."""
    listed = []
    for resource in registry.served():
        if (resource.group, resource.version) != (name, version):
            continue
        own: Object = {
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            own["shortNames"] = list(resource.short_names)
        if resource.in_all:
            own["categories"] = ["all"]
        listed.append(own)
        for subresource in resource.subresources:
            kind, verbs = SUBRESOURCES[subresource]
            listed.append(
                {
                    "name": f"{resource.plural}/{subresource}",
                    "singularName": "",
                    "namespaced": resource.namespaced,
                    "kind": resource.kind,
                    **kind,
                    "verbs": list(verbs),
                }
            )
    return listed


def aggregated(registry: Registry, *, core: bool, stale: Collection[str] = ()) -> Object:
    """``/api`` (core) or ``/apis`` in one answer, resources and all.

    Args:
        registry: what is served.
        core: the core group, or all others.
        stale: the groups whose server does not answer now.
    """
    items: dict[str, list[Object]] = {}
    for name, version in registry.group_versions():
        if bool(name) == core:
            continue
        found: list[Object] = []
        for item in _resources(registry, name, version):
            plural, _, subresource = item["name"].partition("/")
            place = {"group": item.get("group", name), "version": item.get("version", version)}
            common = {"responseKind": {**place, "kind": item["kind"]}, "verbs": item["verbs"]}
            if subresource:
                entry = {"subresource": subresource, **common}
                found[-1].setdefault("subresources", []).append(entry)
                continue
            scope = "Namespaced" if item["namespaced"] else "Cluster"
            entry = {"resource": plural, "scope": scope, "singularResource": item["singularName"]}
            more: Object = {key: item[key] for key in ("shortNames", "categories") if key in item}
            found.append({**entry, **common, **more})
        freshness = "Stale" if name in stale else "Current"
        items.setdefault(name, []).append(
            {"version": version, "freshness": freshness, "resources": found}
        )
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [
            {"metadata": {"name": name} if name else {}, "versions": versions}
            for name, versions in items.items()
        ],
    }


# -- CustomResourceDefinitions and APIServices ----------------------------------------------------

_CALICO_API = {"name": "calico-api", "namespace": "calico-apiserver", "port": 443}
#: The storage key of APIServices.
API_SERVICES = "apiservices.apiregistration.k8s.io"


def publish(store: Store) -> None:
    """Put the definitions of everything that is served into the store, where they are not yet."""
    aggregated = store.calico.api_shape == "B"
    present = {obj["metadata"]["name"] for obj in store.list(API_SERVICES)}
    if present:
        return
    for resource in store.registry.served():
        if resource.custom and not (aggregated and resource.group == CALICO_V3):
            store.create(CRDS, _definition(resource))
    for group, version in store.registry.group_versions():
        # Only Calico's own API server stands behind a service; all else is the server itself.
        behind_service = aggregated and group == CALICO_V3
        store.create(API_SERVICES, _api_service(group, version, behind_service=behind_service))


def _definition(resource: Resource) -> Object:
    names = {"plural": resource.plural, "kind": resource.kind}
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version: Object = {
        "name": resource.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": anything},
    }
    if resource.has_status:
        version["subresources"] = {"status": {}}
    return {
        "metadata": {"name": resource.qualified_plural},
        "spec": {
            "group": resource.group,
            "names": names,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "versions": [version],
        },
    }


def _api_service(group: str, version: str, *, behind_service: bool) -> Object:
    local = condition("Available", True, "Local", "Local APIServices are always available")
    available = availability(group) if behind_service else local
    return {
        "metadata": {"name": f"{version}.{group}"},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            **({"service": _CALICO_API} if behind_service else {}),
        },
        "status": {"conditions": [available]},
    }


def availability(group: str, *, down: bool = False) -> Object:
    """The condition of an API group whose server stands behind a service.

    Args:
        group: the group.
        down: whether that server does not answer.
    """
    if not down:
        return condition("Available", True, "Passed", "all checks passed")
    host = "{name}.{namespace}.svc:{port}".format(**_CALICO_API)
    url = f"https://{host}/apis/{group}/v3"
    why = f'failing or missing response from {url}: Get "{url}": context deadline exceeded'
    return condition("Available", False, "FailedDiscoveryCheck", why)


# -- OpenAPI -------------------------------------------------------------------------------------
#
# Made from the registry and the table of kinds.
# kubectl reads three things in them: that the server validates fields itself
# (``fieldValidation``), that it knows dry runs, and which lists a strategic merge patch merges
# by which key.

#: The type of the protobuf answer. (Clients ask for it with "@" in place of the first dot after
#: "v2", which is no valid media type.)
V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

_SCALARS: dict[str, Object] = {
    "s": {"type": "string"},
    "i": {"type": "integer"},
    "b": {"type": "boolean"},
    "t": {"type": "string", "format": "date-time"},
    "u": {"type": "string", "format": "date-time"},
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
        "info": _INFO,
        "paths": paths,
        "components": {"schemas": _schemas(resources)},
    }


def _place(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


_INFO = {"title": "Kubernetes", "version": KUBERNETES_VERSION}


def _operation(resource: Resource, method: str) -> Object:
    accepted = accepted_media_types(resource) if method == "patch" else ["application/json"]
    schema = {} if method == "patch" else {"schema": _reference(resource.kind)}
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


def _reference(name: str) -> Object:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas(resources: list[Resource]) -> Object:
    schemas: Object = {}
    schemas |= {one.kind: {"type": "object"} for one in resources if not one.type_name}
    waiting = [resource.kind for resource in resources]
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
        schemas[resource.kind]["x-kubernetes-group-version-kind"] = [_group_version_kind(resource)]
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
    return {"swagger": "2.0", "info": _INFO, "paths": {}, "definitions": {}}


def version_2_protobuf() -> bytes:
    """The same in the protobuf encoding of the only form that kubectl reads."""

    def field(number: int, payload: bytes) -> bytes:
        return bytes([number << 3 | 2, len(payload)]) + payload

    info = field(1, b"Kubernetes") + field(2, KUBERNETES_VERSION.encode())
    return field(1, b"2.0") + field(2, info) + field(8, b"") + field(9, b"")

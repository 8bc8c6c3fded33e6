"""How clients find out what is served: groups, resources, versions."""

from __future__ import annotations

import platform
from collections.abc import Collection

from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.resources import Registry, Resource

#: The Kubernetes whose API the lab speaks.
KUBERNETES_VERSION = "v1.32.0"

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def version() -> Object:
    """The answer to ``/version``."""
    major, minor, _ = KUBERNETES_VERSION.lstrip("v").split(".")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": major,
        "minor": minor,
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
    listed = []
    for resource in _of(registry, name, version):
        listed.append(
            {
                "name": resource.plural,
                "singularName": resource.singular,
                "namespaced": resource.namespaced,
                "kind": resource.kind,
                "verbs": list(resource.verbs),
                **({"shortNames": list(resource.short_names)} if resource.short_names else {}),
                **({"categories": ["all"]} if resource.in_all else {}),
            }
        )
        for subresource in resource.subresources:
            kind, verbs = _subresource(resource, subresource)
            listed.append(
                {
                    "name": f"{resource.plural}/{subresource}",
                    "singularName": "",
                    "namespaced": resource.namespaced,
                    **kind,
                    "verbs": verbs,
                }
            )
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{name}/{version}" if name else version,
        "resources": listed,
    }


def aggregated(registry: Registry, *, core: bool, stale: Collection[str] = ()) -> Object:
    """``/api`` (core) or ``/apis`` in one answer, resources and all.

    Args:
        registry: what is served.
        core: the core group, or all others.
        stale: the groups whose server does not answer now.
    """
    items = []
    for name in dict.fromkeys(served for served, _ in registry.group_versions()):
        if bool(name) == core:
            continue
        versions = [
            {
                "version": version,
                "freshness": "Stale" if name in stale else "Current",
                "resources": [_aggregated_resource(item) for item in _of(registry, name, version)],
            }
            for served, version in registry.group_versions()
            if served == name
        ]
        items.append({"metadata": {"name": name} if name else {}, "versions": versions})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _aggregated_resource(resource: Resource) -> Object:
    entry: Object = {
        "resource": resource.plural,
        "responseKind": _kind(resource.group, resource.version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.in_all:
        entry["categories"] = ["all"]
    if resource.subresources:
        entry["subresources"] = []
    for subresource in resource.subresources:
        kind, verbs = _subresource(resource, subresource)
        response = _kind(
            kind.get("group", resource.group), kind.get("version", resource.version), kind["kind"]
        )
        entry["subresources"].append(
            {"subresource": subresource, "responseKind": response, "verbs": verbs}
        )
    return entry


def _kind(group_name: str, version_name: str, kind: str) -> Object:
    return {"group": group_name, "version": version_name, "kind": kind}


def _subresource(resource: Resource, name: str) -> tuple[Object, list[str]]:
    """The kind that a subresource speaks (with its group where it is another), and its verbs."""
    if name == "scale":
        scale = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
        return scale, ["get", "patch", "update"]
    if name == "eviction":
        return {"group": "policy", "version": "v1", "kind": "Eviction"}, ["create"]
    if name == "binding":
        return {"kind": "Binding"}, ["create"]
    if name in ("exec", "attach", "portforward"):
        options = {"exec": "PodExecOptions", "attach": "PodAttachOptions"}
        return {"kind": options.get(name, "PodPortForwardOptions")}, ["create", "get"]
    verbs = {"log": ["get"], "finalize": ["update"]}.get(name, ["get", "patch", "update"])
    return {"kind": resource.kind}, verbs


def _of(registry: Registry, name: str, version: str) -> list[Resource]:
    return [
        resource
        for resource in registry.served()
        if (resource.group, resource.version) == (name, version)
    ]

"""The objects that say what the API server serves: CustomResourceDefinitions and APIServices."""

from __future__ import annotations

from pytest_k8snet.lab.api.objects import Object, timestamp
from pytest_k8snet.lab.api.resources import CALICO_V3, Resource
from pytest_k8snet.lab.api.store import Store

_CRDS = "customresourcedefinitions.apiextensions.k8s.io"
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
            store.create(_CRDS, _definition(resource))
    for group, version in store.registry.group_versions():
        # Only Calico's own API server stands behind a service; all else is the server itself.
        behind_service = aggregated and group == CALICO_V3
        store.create(API_SERVICES, _api_service(group, version, behind_service=behind_service))


def _definition(resource: Resource) -> Object:
    conditions = [
        {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": timestamp(),
        }
        for kind, reason, message in (
            ("NamesAccepted", "NoConflicts", "no conflicts found"),
            ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        )
    ]
    names = {
        "plural": resource.plural,
        "singular": resource.singular,
        "kind": resource.kind,
        "listKind": f"{resource.kind}List",
    }
    return {
        "metadata": {"name": resource.qualified_plural},
        "spec": {
            "group": resource.group,
            "names": names,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "versions": [
                {
                    "name": resource.version,
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "x-kubernetes-preserve-unknown-fields": True,
                        }
                    },
                    **({"subresources": {"status": {}}} if resource.has_status else {}),
                }
            ],
            "conversion": {"strategy": "None"},
        },
        "status": {
            "conditions": conditions,
            "acceptedNames": names,
            "storedVersions": [resource.version],
        },
    }


def _api_service(group: str, version: str, *, behind_service: bool) -> Object:
    local = ("True", "Local", "Local APIServices are always available")
    condition = availability(group) if behind_service else _available(*local)
    return {
        "metadata": {"name": f"{version}.{group}"},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            **({"service": _CALICO_API} if behind_service else {}),
        },
        "status": {"conditions": [condition]},
    }


def availability(group: str, *, down: bool = False) -> Object:
    """The condition of an API group whose server stands behind a service.

    Args:
        group: the group.
        down: whether that server does not answer.
    """
    if not down:
        return _available("True", "Passed", "all checks passed")
    host = "{name}.{namespace}.svc:{port}".format(**_CALICO_API)
    url = f"https://{host}/apis/{group}/v3"
    why = f'failing or missing response from {url}: Get "{url}": context deadline exceeded'
    return _available("False", "FailedDiscoveryCheck", why)


def _available(status: str, reason: str, message: str) -> Object:
    return {
        "type": "Available",
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": timestamp(),
    }

"""The objects that say what the API server serves: CustomResourceDefinitions and APIServices."""

from __future__ import annotations

from pytest_k8snet.lab.api.objects import Object, timestamp
from pytest_k8snet.lab.api.resources import CALICO_V3, Resource
from pytest_k8snet.lab.api.store import Store

_CRDS = "customresourcedefinitions.apiextensions.k8s.io"
_API_SERVICES = "apiservices.apiregistration.k8s.io"


def publish(store: Store) -> None:
    """Put the definitions of everything that is served into the store, where they are not yet."""
    aggregated = store.calico.api_shape == "B"
    present = {obj["metadata"]["name"] for obj in store.list(_API_SERVICES)}
    if present:
        return
    for resource in store.registry.served():
        if resource.custom and not (aggregated and resource.group == CALICO_V3):
            store.create(_CRDS, _definition(resource))
    for group, version in store.registry.group_versions():
        # Only Calico's own API server stands behind a service; all else is the server itself.
        behind_service = aggregated and group == CALICO_V3
        store.create(_API_SERVICES, _api_service(group, version, behind_service=behind_service))


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
    service = {"name": "calico-api", "namespace": "calico-apiserver", "port": 443}
    return {
        "metadata": {"name": f"{version}.{group}"},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            **({"service": service} if behind_service else {}),
        },
        "status": {
            "conditions": [
                {
                    "type": "Available",
                    "status": "True",
                    "reason": "Passed" if behind_service else "Local",
                    "message": "all checks passed"
                    if behind_service
                    else "Local APIServices are always available",
                    "lastTransitionTime": timestamp(),
                }
            ]
        },
    }

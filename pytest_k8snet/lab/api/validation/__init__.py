"""Refusing bad objects as a Kubernetes API server does: 422 with a cause for each bad field."""

from __future__ import annotations

from collections.abc import Callable

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.objects import Object, name_of
from pytest_k8snet.lab.api.resources import Resource
from pytest_k8snet.lab.api.validation import calico as calico_checks
from pytest_k8snet.lab.api.validation import core, pods, workloads
from pytest_k8snet.lab.api.validation.causes import Causes
from pytest_k8snet.lab.api.validation.metadata import check_metadata
from pytest_k8snet.lab.spec import CalicoSpec

Check = Callable[[Causes, Object], None]
UpdateCheck = Callable[[Causes, Object, Object], None]

_CHECKS: dict[str, Check] = {
    "pods": pods.check_pod,
    "services": core.check_service,
    "endpoints": core.check_endpoints,
    "configmaps": core.check_config_map,
    "secrets": core.check_config_map,
    "nodes": core.check_node,
    "leases.coordination.k8s.io": core.check_lease,
    "deployments.apps": workloads.check_deployment,
    "replicasets.apps": workloads.check_replica_set,
    "daemonsets.apps": workloads.check_daemon_set,
    "installations.operator.tigera.io": calico_checks.check_installation,
}

_UPDATE_CHECKS: dict[str, UpdateCheck] = {
    "services": core.check_service_update,
    "deployments.apps": workloads.check_selector_unchanged,
    "replicasets.apps": workloads.check_selector_unchanged,
    "daemonsets.apps": workloads.check_selector_unchanged,
}


def check_new(resource: Resource, obj: Object, calico: CalicoSpec) -> None:
    """Refuse a new object that is not valid.

    Raises:
        StatusError: 422, with all its faults.
    """
    causes = _check(resource, obj, calico)
    _refuse(resource, obj, causes)


def check_update(
    resource: Resource, new: Object, old: Object, subresource: str, calico: CalicoSpec
) -> None:
    """Refuse a new state that is not valid, or that changes what may not change.

    Raises:
        StatusError: 422, with all its faults.
    """
    causes = _check(resource, new, calico)
    if resource.key == "pods":
        pods.check_pod_update(causes, new, old, subresource)
    elif resource.kind == "IPPool":
        if calico_checks.strict_pools(resource, calico):
            calico_checks.check_pool_update(causes, new, old)
    elif resource.key in _UPDATE_CHECKS:
        _UPDATE_CHECKS[resource.key](causes, new, old)
    _refuse(resource, new, causes)


def _check(resource: Resource, obj: Object, calico: CalicoSpec) -> Causes:
    causes = Causes()
    check_metadata(causes, resource, obj)
    if resource.kind == "IPPool":
        calico_checks.check_pool(causes, obj, strict=calico_checks.strict_pools(resource, calico))
    elif resource.key in _CHECKS:
        _CHECKS[resource.key](causes, obj)
    return causes


def _refuse(resource: Resource, obj: Object, causes: Causes) -> None:
    if causes.found:
        raise status.invalid(resource, name_of(obj), causes.found)

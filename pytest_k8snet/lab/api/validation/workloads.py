"""Deployments, replica sets and daemon sets."""

from __future__ import annotations

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.validation.causes import Causes
from pytest_k8snet.lab.api.validation.metadata import check_selector_matches
from pytest_k8snet.lab.api.validation.pods import check_pod_spec


def check_deployment(causes: Causes, deployment: Object) -> None:
    """A deployment."""
    spec = deployment.get("spec") or {}
    causes.one_of("spec.strategy.type", dig(spec, "strategy.type"), ("Recreate", "RollingUpdate"))
    if dig(spec, "strategy.type") == "Recreate" and dig(spec, "strategy.rollingUpdate"):
        causes.forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        )
    check_replica_set(causes, deployment)


def check_replica_set(causes: Causes, workload: Object) -> None:
    """A replica set, or what a deployment shares with one."""
    spec = workload.get("spec") or {}
    causes.not_negative("spec.replicas", spec.get("replicas"))
    check_daemon_set(causes, workload)


def check_daemon_set(causes: Causes, workload: Object) -> None:
    """A daemon set, or what every workload shares with one."""
    spec = workload.get("spec") or {}
    causes.not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    check_selector_matches(causes, spec)
    template = dig(spec, "template.spec", {})
    check_pod_spec(causes, "spec.template.spec", template)
    causes.one_of("spec.template.spec.restartPolicy", template.get("restartPolicy"), ("Always",))


def check_selector_unchanged(causes: Causes, new: Object, old: Object) -> None:
    """A workload keeps its selector for life."""
    causes.unchanged("spec.selector", dig(new, "spec.selector"), dig(old, "spec.selector"))

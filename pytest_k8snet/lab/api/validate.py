"""Validation."""

from __future__ import annotations

from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.resources import Resource
from pytest_k8snet.lab.spec import CalicoSpec


def check_new(resource: Resource, obj: Object, calico: CalicoSpec) -> None:
    return


def check_update(
    resource: Resource, new: Object, old: Object, subresource: str, calico: CalicoSpec
) -> None:
    return

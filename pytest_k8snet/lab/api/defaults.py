"""Defaults."""

from __future__ import annotations

from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.resources import Resource


def set_defaults(resource: Resource, obj: Object) -> None:
    return

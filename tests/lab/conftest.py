"""What the tests on the lab share: kubectl in a namespace of the test's own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from lab_kubectl import Kubectl

from pytest_k8snet.lab import LabProcess


@pytest.fixture
def kubectl(lab: LabProcess) -> Iterator[Kubectl]:
    """kubectl on the shared lab, in a namespace that goes away with the test."""
    found = Kubectl(lab.kubeconfig, f"t-{secrets.token_hex(4)}")
    found("create", "namespace", found.namespace)
    yield found
    found("delete", "namespace", found.namespace)

"""Small objects, and where they live."""

from __future__ import annotations

from typing import Any

PODS = "/api/v1/namespaces/default/pods"
POOLS = "/apis/crd.projectcalico.org/v1/ippools"
MAPS = "/api/v1/namespaces/default/configmaps"


def pod(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "tools"}], **spec},
    }


def pool(name: str = "pool", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "IPPool",
        "metadata": {"name": name},
        "spec": {"cidr": "198.18.0.0/24", **spec},
    }

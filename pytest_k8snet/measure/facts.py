"""What is known of the cluster around the figures: gathered before and after, never during."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_k8snet.calico.installation import Installation
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.nodes import Node
    from pytest_k8snet.measure.machines import Machines


def cluster_facts(
    api: Api, installation: Installation, nodes: Sequence[Node], machines: Machines
) -> dict[str, Any]:
    """The ``cluster`` and ``nodes`` of a "facts" record."""
    return {
        "cluster": {"server": api.host, "context": api.context, **installation.facts()},
        "nodes": [
            {
                "name": node.name,
                "internal_ip": node.internal_ip,
                "subnet": str(node.interface.network) if node.interface else "unknown",
                "kernel": node.kernel_version,
                "os": node.os_image,
                "kubelet": node.kubelet_version,
                **(known.to_record() if (known := machines.of(node.name)) is not None else {}),
            }
            for node in nodes
        ],
    }


def pods_left(run_id: str) -> dict[str, object]:
    """The "change" record of a run whose own pods could not be deleted."""
    return {
        "what": "made pods",
        "object": f"pods of run {run_id}",
        "state": "failed",
        "before": None,
        "after": None,
        "seconds": 0.0,
    }

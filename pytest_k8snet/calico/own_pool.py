"""The IPPool object that a run makes for one mode. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico.addressing import BLOCK_SIZE
from pytest_k8snet.calico.groups import Group
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.version import MANUAL_ASSIGNMENT, Version
from pytest_k8snet.cluster.pods import run_labels

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node


def pool_name(run_id: str, mode: CalicoMode) -> str:
    """The name of a run's pool for a mode."""
    return f"{run_id}-{mode.value.lower()}"


def node_selector(nodes: Sequence[Node]) -> str:
    """A Calico selector for just these nodes."""
    names = sorted(node.labels.get("kubernetes.io/hostname", node.name) for node in nodes)
    quoted = ", ".join(f"'{name}'" for name in names)
    return f"kubernetes.io/hostname in {{ {quoted} }}"


def pool_object(
    *,
    group: Group,
    run_id: str,
    mode: CalicoMode,
    cidr: IPv4Network,
    nodes: Sequence[Node],
    nat_outgoing: bool,
    version: Version | None,
) -> dict[str, Any]:
    """A pool with every field explicit, since a raw v1 write fills in no defaults.

    Args:
        group: the API group that it is written through.
        run_id: whose pool it is.
        mode: its encapsulation.
        cidr: its addresses.
        nodes: where it serves tunnel addresses and, before v3.30, pods that name no pool.
        nat_outgoing: as the cluster's own pools have it.
        version: Calico's; from v3.30 on only pods that name the pool get its addresses.
    """
    spec: dict[str, Any] = {
        "cidr": str(cidr),
        "blockSize": BLOCK_SIZE,
        **mode.pool_fields,
        "natOutgoing": nat_outgoing,
        "nodeSelector": node_selector(nodes),
        "allowedUses": ["Workload", "Tunnel"],
        "disabled": False,
        "disableBGPExport": False,
    }
    if version is not None and version >= MANUAL_ASSIGNMENT:
        spec["assignmentMode"] = "Manual"
    return {
        "apiVersion": group,
        "kind": "IPPool",
        "metadata": {"name": pool_name(run_id, mode), "labels": run_labels(run_id)},
        "spec": spec,
    }

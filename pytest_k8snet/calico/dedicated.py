"""The strategy that makes small pools of the run's own, one per mode, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico import groups
from pytest_k8snet.calico.addressing import choose_networks
from pytest_k8snet.calico.changes import Changes
from pytest_k8snet.calico.groups import Group
from pytest_k8snet.calico.installation import Installation
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.own_pool import pool_object
from pytest_k8snet.calico.refusals import refused
from pytest_k8snet.errors import (
    InvalidError,
)

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.nodes import Node


def plan_pools(
    installation: Installation,
    *,
    group: Group,
    modes: Iterable[CalicoMode],
    nodes: Sequence[Node],
    every_node: Sequence[Node],
    run_id: str,
    within: IPv4Network,
) -> list[dict[str, Any]]:
    """The pools that a run needs, as objects to create.

    Raises:
        ModeUnavailableError: the address range isn't free, or too small.
    """
    wanted = list(modes)
    networks = choose_networks(
        within,
        len(wanted),
        node_count=len(nodes),
        pools=installation.pools,
        node_addresses=[node.internal_ip for node in every_node],
        service_networks=installation.service_networks,
    )
    ordinary = [pool for pool in installation.pools if not pool.run_id and not pool.disabled]
    return [
        pool_object(
            group=group,
            run_id=run_id,
            mode=mode,
            cidr=cidr,
            nodes=nodes,
            nat_outgoing=all(pool.nat_outgoing for pool in ordinary),
            version=installation.version,
        )
        for mode, cidr in zip(wanted, networks, strict=True)
    ]


def create_pool(api: Api, group: Group, pool: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """Create a planned pool; returns it as the API server has it.

    Raises:
        ModeUnavailableError: this cluster accepts no such pool.
    """
    name, spec = pool["metadata"]["name"], pool["spec"]
    mode = mode_of_plan(pool)
    with changes.recording(
        f"created IPPool {name}: {spec['cidr']}, mode {mode}",
        object_path=f"ippools/{name}",
        before=None,
        after=spec,
    ):
        try:
            return api.create(groups.path(group, "ippools"), pool)
        except InvalidError as exc:
            raise refused(mode, exc) from exc


def mode_of_plan(pool: dict[str, Any]) -> CalicoMode:
    """The mode of a planned pool."""
    return CalicoMode.of_pool(pool["spec"]["ipipMode"], pool["spec"]["vxlanMode"])

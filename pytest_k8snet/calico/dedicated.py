"""The strategy that makes small pools of the run's own, one per mode, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Network, ip_network
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico import groups
from pytest_k8snet.calico.addressing import choose_networks
from pytest_k8snet.calico.changes import Changes
from pytest_k8snet.calico.groups import V1, ApiShape, Group
from pytest_k8snet.calico.installation import Installation
from pytest_k8snet.calico.ippool import labels_of
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.own_pool import pool_object
from pytest_k8snet.calico.refusals import refused
from pytest_k8snet.cluster.manifests import RUN_LABEL
from pytest_k8snet.errors import (
    ApiError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    RestoreError,
)

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.nodes import Node

#: How long calico-node gets to give back the tunnel addresses of a pool that goes, in seconds.
_RELEASE_SECONDS = 4.0
#: How long a pool may take to vanish, finalizers included, in seconds.
_GONE_SECONDS = 30.0


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


def remove_pool(
    api: Api,
    name: str,
    *,
    run_id: str,
    shape: ApiShape,
    group: Group,
    changes: Changes,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Delete a pool of the run's own, with the IPAM blocks in it; fine if it is gone.

    Only ``projectcalico.org/v3`` cleans up behind a pool. Through the raw v1 CRDs it is done
    here in the same order: disable, let calico-node give its tunnel addresses back, release the
    blocks, delete.

    Raises:
        RestoreError: the pool isn't the run's own, or doesn't go away.
    """
    path = groups.path(group, "ippools", name)
    try:
        raw = api.get(path)
    except NotFoundError:
        return
    owner = labels_of(raw).get(RUN_LABEL)
    if owner != run_id:
        raise RestoreError(
            f"IPPool {name} was not made by run {run_id}, so it is not deleted",
            found=f"label {RUN_LABEL} is {owner or 'missing'}",
            remedy="Find out who made it.",
        )
    cidr = ip_network(str(raw["spec"]["cidr"]))
    assert isinstance(cidr, IPv4Network)
    with changes.recording(
        f"deleted IPPool {name}",
        object_path=f"ippools/{name}",
        before=raw["spec"],
        after=None,
        state="restored",
    ):
        if group == V1:
            api.patch(path, {"spec": {"disabled": True}})
            _release_blocks(api, cidr, sleep)
        api.delete(path)
        _await_gone(api, path, name, sleep)
        if shape != "C":
            _release_blocks(api, cidr, sleep)


def _release_blocks(api: Api, cidr: IPv4Network, sleep: Callable[[float], None]) -> None:
    """Delete the empty IPAM blocks in a network and what ties them to nodes."""
    deadline = time.monotonic() + _RELEASE_SECONDS
    try:
        while True:
            inside = [
                block
                for block in api.list(groups.path(V1, "ipamblocks"))
                if _lies_in(str((block.get("spec") or {}).get("cidr", "")), cidr)
            ]
            empty = [block for block in inside if not _allocated(block)]
            for block in empty:
                api.delete(groups.path(V1, "ipamblocks", block["metadata"]["name"]))
            if len(empty) == len(inside) or time.monotonic() > deadline:
                break
            sleep(0.05)
        if len(empty) == len(inside):
            for affinity in api.list(groups.path(V1, "blockaffinities")):
                if _lies_in(str((affinity.get("spec") or {}).get("cidr", "")), cidr):
                    api.delete(groups.path(V1, "blockaffinities", affinity["metadata"]["name"]))
    except (ForbiddenError, NotFoundError):
        # calico-kube-controllers collects blocks without a pool in time; it only takes longer.
        return


def _lies_in(block: str, cidr: IPv4Network) -> bool:
    try:
        network = ip_network(block, strict=False)
    except ValueError:
        return False
    return isinstance(network, IPv4Network) and network.subnet_of(cidr)


def _allocated(block: dict[str, Any]) -> bool:
    allocations = (block.get("spec") or {}).get("allocations") or ()
    return any(index is not None for index in allocations)


def _await_gone(api: Api, path: str, name: str, sleep: Callable[[float], None]) -> None:
    deadline = time.monotonic() + _GONE_SECONDS
    pause = 0.02
    while True:
        try:
            raw = api.get(path)
        except NotFoundError:
            return
        except ApiError:
            raw = {}
        if time.monotonic() > deadline:
            finalizers = (raw.get("metadata") or {}).get("finalizers") or []
            raise RestoreError(
                f"IPPool {name} does not go away",
                found=f"finalizers: {', '.join(finalizers) or 'none'}",
                remedy="See whether pods or IPAM blocks still use it; then `k8snet restore`.",
            )
        sleep(pause)
        pause = min(0.5, pause * 1.5)

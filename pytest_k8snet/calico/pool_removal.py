"""Deletes the pools that a run has made, with all that Calico's IPAM keeps of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv4Network, ip_network
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico import groups
from pytest_k8snet.calico.addressing import lies_in
from pytest_k8snet.calico.changes import Changes
from pytest_k8snet.calico.groups import V1, ApiShape, Group
from pytest_k8snet.calico.ippool import labels_of
from pytest_k8snet.cluster.pods import RUN_LABEL, addresses_of, pauses
from pytest_k8snet.errors import ApiError, ForbiddenError, NotFoundError, RestoreError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

#: How long calico-node gets to give back the tunnel addresses of a pool that goes, in seconds.
_RELEASE_SECONDS = 4.0
#: How long a pool may take to vanish, finalizers included, in seconds.
_GONE_SECONDS = 30.0


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
        RestoreError: the pool isn't the run's own, others use it, or it doesn't go away.
    """
    path = groups.path(group, "ippools", name)
    try:
        raw = api.get(path)
    except NotFoundError:
        changes.found_undone(f"IPPool {name} is gone", object_path=f"ippools/{name}", after=None)
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
    _refuse_while_used(api, path, name, cidr)
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


def _refuse_while_used(api: Api, path: str, name: str, cidr: IPv4Network) -> None:
    """Keep a pool whose addresses pods have: without it they would have no routes.

    Pods of others name it themselves, or, before v3.30, were given to it by Calico.
    """
    try:
        pods = api.list("/api/v1/pods")
    except ForbiddenError:
        return
    users = [
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']} ({address})"
        for pod in pods
        if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        for address in addresses_of(pod)
        if lies_in(address, cidr)
    ]
    if not users:
        return
    # Not disabled: the nodes would lose their tunnel addresses of it, and these pods their routes.
    kept = api.patch(path, {"spec": {"allowedUses": ["Tunnel"]}})
    # Before v3.21 there is no such field, and it is dropped.
    closed = (kept.get("spec") or {}).get("allowedUses") == ["Tunnel"]
    anew = "as it gives out no more" if closed else "on other nodes, as it still gives out more"
    raise RestoreError(
        # All of it here: of several troubles in a restore, no remedies are told.
        f"IPPool {name} is kept, as pods have addresses in it; have them made anew, {anew}",
        found=", ".join(sorted(users)),
        remedy="Then run `k8snet restore`.",
    )


def _release_blocks(api: Api, cidr: IPv4Network, sleep: Callable[[float], None]) -> None:
    """Delete the empty IPAM blocks in a network and what ties them to nodes."""
    deadline = time.monotonic() + _RELEASE_SECONDS
    rest = pauses(sleep=sleep)
    try:
        while True:
            inside = [
                block
                for block in api.list(groups.path(V1, "ipamblocks"))
                if lies_in(str((block.get("spec") or {}).get("cidr", "")), cidr)
            ]
            empty = [block for block in inside if not _allocated(block)]
            for block in empty:
                api.delete(groups.path(V1, "ipamblocks", block["metadata"]["name"]))
            if len(empty) == len(inside) or time.monotonic() > deadline:
                break
            rest()
        if len(empty) == len(inside):
            for affinity in api.list(groups.path(V1, "blockaffinities")):
                if lies_in(str((affinity.get("spec") or {}).get("cidr", "")), cidr):
                    api.delete(groups.path(V1, "blockaffinities", affinity["metadata"]["name"]))
    except (ForbiddenError, NotFoundError):
        # calico-kube-controllers collects blocks without a pool in time; it only takes longer.
        return


def _allocated(block: dict[str, Any]) -> bool:
    allocations = (block.get("spec") or {}).get("allocations") or ()
    return any(index is not None for index in allocations)


def _await_gone(api: Api, path: str, name: str, sleep: Callable[[float], None]) -> None:
    deadline = time.monotonic() + _GONE_SECONDS
    rest = pauses(sleep=sleep)
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
        rest()

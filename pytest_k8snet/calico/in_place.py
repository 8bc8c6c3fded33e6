"""The strategy that flips one existing pool from mode to mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_k8snet.calico import groups
from pytest_k8snet.calico.changes import Changes
from pytest_k8snet.calico.decision import Decision
from pytest_k8snet.calico.groups import V1, ApiShape, Group
from pytest_k8snet.calico.journal import OriginalPool
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.pool_writer import (
    read_pool,
    write_installation_entry,
    write_mode_fields,
)
from pytest_k8snet.calico.refusals import refused
from pytest_k8snet.errors import InvalidError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api


def capture(api: Api, decision: Decision, shape: ApiShape) -> OriginalPool:
    """Read the pool as it is now, in every view that a flip may touch.

    Args:
        api: the connection.
        decision: how the pool will be flipped.
        shape: how Calico's objects are served.
    """
    assert decision.pool is not None
    assert decision.group is not None
    name = decision.pool.name
    raw = api.get(groups.path(decision.group, "ippools", name))
    v1 = api.get(groups.path(V1, "ippools", name)) if shape == "B" else None
    cidr = str(raw["spec"]["cidr"])
    entry = None
    if decision.writer == "installation":
        network = (api.get(groups.INSTALLATION_PATH).get("spec") or {}).get("calicoNetwork") or {}
        entry = next((one for one in network.get("ipPools") or () if one.get("cidr") == cidr), None)
    return OriginalPool(
        name=name,
        cidr=cidr,
        spec=raw["spec"],
        v1_spec=v1["spec"] if v1 is not None else None,
        installation_entry=entry,
        written_directly=decision.writer == "ippool" or decision.also_v1,
    )


def flip(api: Api, decision: Decision, changes: Changes) -> None:
    """Write a mode as it was decided.

    Raises:
        ModeUnavailableError: the API server accepts no such mode.
        CalicoError: others change the same object.
    """
    try:
        _flip(api, decision, changes)
    except InvalidError as exc:
        raise refused(decision.mode, exc) from exc


def _flip(api: Api, decision: Decision, changes: Changes) -> None:
    assert decision.pool is not None
    assert decision.group is not None
    pool, mode = decision.pool, decision.mode
    cidr = str(pool.raw["spec"]["cidr"])
    if decision.writer == "installation":
        with changes.recording(
            f"set encapsulation {mode.encapsulation} of pool {cidr} in the Installation",
            object_path="installations/default",
            before=str(pool.mode),
            after=str(mode),
        ):
            write_installation_entry(api, cidr, mode.encapsulation)
        if not decision.also_v1:
            return
    with changes.recording(
        f"set mode {mode} on IPPool {pool.name} by {decision.group}",
        object_path=f"ippools/{pool.name}",
        before=str(pool.mode),
        after=str(mode),
    ):
        write_mode_fields(api, decision.group, pool.name, mode.pool_fields, cidr=cidr)


def pool_complaints(api: Api, group: Group, name: str, mode: CalicoMode) -> list[str]:
    """Whether the pool is in a mode; an operator may not have followed yet, or have reverted."""
    found = read_pool(api, group, name).mode
    if found is mode:
        return []
    return [f"IPPool {name} is in mode {found}, expected {mode}: not yet applied, or reverted"]

"""Writes the mode of an existing pool, through the right object and never over anyone's change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico import groups
from pytest_k8snet.calico.groups import Group
from pytest_k8snet.calico.ippool import IPPool
from pytest_k8snet.errors import (
    ApiError,
    CalicoError,
    ConflictError,
    ConnectError,
    InvalidError,
    NotFoundError,
)

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

#: The two fields of a pool's spec that make its mode.
MODE_FIELDS = ("ipipMode", "vxlanMode")
#: How often a write is tried again when others write the same object.
_TRIES = 5


def read_pool(api: Api, group: Group, name: str) -> IPPool:
    """Read a pool.

    Raises:
        NotFoundError: there is none of that name.
    """
    pool = IPPool.of(api.get(groups.path(group, "ippools", name)))
    if pool is None:
        raise CalicoError(f"IPPool {name} is no IPv4 pool")
    return pool


def write_mode_fields(
    api: Api, group: Group, name: str, fields: Mapping[str, str | None], *, cidr: str
) -> None:
    """Write both mode fields of a pool in one patch; None removes a field.

    Args:
        api: the connection.
        group: the group to write through.
        name: the pool.
        fields: the value of each of the two fields.
        cidr: the pool's addresses; one of the same name with others is left alone.

    Raises:
        CalicoError: the pool was replaced by another, or others keep changing it.
    """

    def change(spec: Mapping[str, Any]) -> Mapping[str, Any]:
        if str(spec.get("cidr")) != cidr:
            raise CalicoError(
                f"IPPool {name} is no longer the pool that it was",
                found=f"cidr {spec.get('cidr')}, expected {cidr}",
                remedy="Somebody replaced it: compare it with the journal by hand.",
            )
        there = all(spec.get(field) == value for field, value in fields.items())
        return {} if there else fields

    patch_spec(api, group, name, change)


def patch_spec(
    api: Api,
    group: Group,
    name: str,
    change: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> None:
    """Patch a pool's spec as it is now, anew whenever somebody else has changed the pool.

    Args:
        api: the connection.
        group: the group to write through.
        name: the pool.
        change: from the spec to the fields to write; None removes one, no field writes nothing.

    Raises:
        CalicoError: others keep changing the pool.
    """
    path = groups.path(group, "ippools", name)
    for _ in range(_TRIES):
        raw = api.get(path)
        fields = change(raw.get("spec") or {})
        if not fields:
            return
        body = {
            "metadata": {"resourceVersion": raw["metadata"]["resourceVersion"]},
            "spec": dict(fields),
        }
        try:
            api.patch(path, body)
        except ConflictError:
            continue
        return
    raise CalicoError(
        f"IPPool {name} could not be written: others change it all the time",
        found=f"{_TRIES} conflicts in a row",
        remedy="Find out who else changes it.",
    )


def write_installation_entry(api: Api, cidr: str, encapsulation: str | None) -> None:
    """Write the encapsulation of one pool of the operator's Installation; None removes it.

    Raises:
        InvalidError: the API server refuses the value.
        CalicoError: the Installation has no such pool, or others keep changing it.
    """
    failed: list[dict[str, Any]] = []
    trouble: ApiError | None = None
    for _ in range(_TRIES):
        installation = api.get(groups.INSTALLATION_PATH)
        index, entry = _entry_of(installation, cidr)
        if entry.get("encapsulation") == encapsulation:
            return
        place = f"/spec/calicoNetwork/ipPools/{index}"
        # The tests keep the patch from hitting another pool if the list changes meanwhile, and
        # from undoing what others write when it is repeated. No test finds a field absent, so
        # there the whole object has to be the same.
        guards = {f"{place}/cidr": cidr}
        if "encapsulation" in entry:
            guards[f"{place}/encapsulation"] = entry["encapsulation"]
        else:
            guards["/metadata/resourceVersion"] = installation["metadata"]["resourceVersion"]
        tests = [{"op": "test", "path": path, "value": value} for path, value in guards.items()]
        if tests == failed and trouble is not None:
            # They hold: it was not they that failed.
            raise trouble
        change: dict[str, Any] = {"op": "add", "path": f"{place}/encapsulation"}
        change |= {"op": "remove"} if encapsulation is None else {"value": encapsulation}
        try:
            api.patch(groups.INSTALLATION_PATH, [*tests, change], kind="json", idempotent=True)
        except ConflictError as exc:
            failed, trouble = [], exc
        except InvalidError as exc:
            failed, trouble = tests, exc
        else:
            return
    assert trouble is not None
    raise CalicoError(
        "The operator's Installation could not be written: others change it all the time",
        found=f"{_TRIES} failed patches in a row, the last: {trouble.brief}",
        remedy="Find out who else changes it.",
    )


def _entry_of(installation: Mapping[str, Any], cidr: str) -> tuple[int, Mapping[str, Any]]:
    network = (installation.get("spec") or {}).get("calicoNetwork") or {}
    entries = network.get("ipPools") or []
    for index, entry in enumerate(entries):
        if entry.get("cidr") == cidr:
            return index, entry
    raise CalicoError(
        f"The operator's Installation lists no pool {cidr}",
        found="pools: " + (", ".join(str(one.get("cidr")) for one in entries) or "none"),
        remedy="Test with --k8snet-change=dedicated.",
    )


def v3_is_cut_off(error: Exception) -> bool:
    """Whether an error means that the aggregated Calico API server cannot be reached."""
    if isinstance(error, NotFoundError):
        return False
    return isinstance(error, ConnectError) or (
        isinstance(error, ApiError) and error.status in (500, 502, 503, 504)
    )

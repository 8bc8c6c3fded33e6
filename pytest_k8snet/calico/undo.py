"""Takes a run's changes back from its journal alone, however often it is tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico import groups
from pytest_k8snet.calico.changes import Changes
from pytest_k8snet.calico.groups import V1, V3, Group
from pytest_k8snet.calico.journal import Journal, OriginalPool
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.pool_removal import remove_pool
from pytest_k8snet.calico.pool_writer import (
    MODE_FIELDS,
    patch_spec,
    read_pool,
    v3_is_cut_off,
    write_installation_entry,
    write_mode_fields,
)
from pytest_k8snet.cluster.pods import pauses
from pytest_k8snet.errors import (
    ApiError,
    ConnectError,
    ForbiddenError,
    K8sNetError,
    NotFoundError,
    RestoreError,
)

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

#: How long the operator gets to carry a restored Installation over to its pool, in seconds.
_OPERATOR_SECONDS = 20.0
#: What the v3 view of a pool fills in for absent fields.
_DEFAULTS: dict[str, Any] = {
    "allowedUses": ["Workload", "Tunnel"],
    "assignmentMode": "Automatic",
    "blockSize": 26,
    "disableBGPExport": False,
    "disabled": False,
    "ipipMode": "Never",
    "natOutgoing": False,
    "nodeSelector": "all()",
    "vxlanMode": "Never",
}


def take_back(
    api: Api,
    journal: Journal,
    changes: Changes,
    *,
    end_pods: Callable[[], object] = lambda: None,
) -> None:
    """Undo everything that a journal tells of, except the journal itself.

    Every step looks first whether it is still needed, so it can be repeated after any failure.
    One step that fails doesn't keep the others from being tried.

    Args:
        api: the connection.
        journal: what is to be undone.
        changes: is told of everything that is undone.
        end_pods: deletes the run's pods and waits for that: own pools go only after their pods.
            A pool of the cluster's own is put back before, as it doesn't wait for them; where its
            mode has cut the Calico API server off, no namespace could be deleted before.

    Raises:
        RestoreError: names everything that could not be undone.
    """
    troubles: list[str] = []
    steps: list[Callable[[], object]] = []
    if journal.original is not None:
        original = journal.original
        steps.append(lambda: _put_back(api, journal, original, changes))
    steps.append(end_pods)
    for name in journal.own_pools:
        steps.append(lambda name=name: _remove(api, journal, name, changes))  # type: ignore[misc]
    for step in steps:
        try:
            step()
        except ConnectError as exc:
            # Nothing else would get through either, and each try costs the API's whole patience.
            troubles.append(exc.brief)
            break
        except K8sNetError as exc:
            troubles.append(exc.brief)
    if troubles:
        raise RestoreError(
            f"The changes of run {journal.run_id} could not all be taken back",
            found="\n".join(troubles),
            remedy="Run `k8snet restore` when the cause is gone; the journal stays until then.",
        )


def _remove(api: Api, journal: Journal, name: str, changes: Changes) -> None:
    group = journal.group
    try:
        remove_pool(
            api, name, run_id=journal.run_id, shape=journal.shape, group=group, changes=changes
        )
    except (ApiError, ConnectError) as exc:
        if journal.shape != "B" or group != V3 or not v3_is_cut_off(exc):
            raise
        remove_pool(
            api, name, run_id=journal.run_id, shape=journal.shape, group=V1, changes=changes
        )


def _put_back(api: Api, journal: Journal, original: OriginalPool, changes: Changes) -> None:
    mode = mode_of(original)
    path = f"ippools/{original.name}"
    if _is_back(api, journal, original):
        changes.found_undone(
            f"IPPool {original.name} is back in {mode}", object_path=path, after=str(mode)
        )
        return
    entry = original.installation_entry
    with changes.recording(
        f"put IPPool {original.name} back to {mode}",
        object_path=path,
        before=None,
        after=str(mode),
        state="restored",
    ):
        if entry is not None:
            write_installation_entry(api, original.cidr, entry.get("encapsulation"))
        if original.written_directly or not _operator_follows(api, journal, original):
            _write_pool(api, journal, original)
        _write_v1_details(api, original, changes)


def mode_of(original: OriginalPool) -> CalicoMode:
    """The mode that a journalled pool was in."""
    return CalicoMode.of_pool(original.spec.get("ipipMode"), original.spec.get("vxlanMode"))


def _mode_fields(spec: Mapping[str, Any]) -> dict[str, str | None]:
    return {field: spec.get(field) for field in MODE_FIELDS}


def _is_back(api: Api, journal: Journal, original: OriginalPool) -> bool:
    views = [(journal.group, original.spec)]
    if original.v1_spec is not None:
        views.append((V1, original.v1_spec))
    for group, spec in views:
        try:
            found = api.get(groups.path(group, "ippools", original.name))
        except NotFoundError:
            raise RestoreError(
                f"IPPool {original.name} has been deleted, so its mode cannot be put back",
                found=f"it was {dict(original.spec)}",
                remedy="Make it anew if it is missed; then delete the journal.",
            ) from None
        except (ApiError, ConnectError):
            return False
        now = found.get("spec") or {}
        if _mode_fields(now) != _mode_fields(spec):
            return False
        if group == V1 and original.v1_spec is not None and set(now) - set(spec):
            return False
    if original.installation_entry is None:
        return True
    installation = api.get(groups.INSTALLATION_PATH)
    network = (installation.get("spec") or {}).get("calicoNetwork") or {}
    return any(
        entry.get("cidr") == original.cidr
        and entry.get("encapsulation") == original.installation_entry.get("encapsulation")
        for entry in network.get("ipPools") or ()
    )


def _operator_follows(api: Api, journal: Journal, original: OriginalPool) -> bool:
    """Wait until the operator has carried the Installation over to the pool, if it can."""
    deadline = time.monotonic() + _OPERATOR_SECONDS
    rest = pauses(1.0)
    while time.monotonic() < deadline:
        try:
            if read_pool(api, journal.group, original.name).mode is mode_of(original):
                return True
        except (ApiError, ConnectError) as exc:
            if v3_is_cut_off(exc):
                return False
            raise
        rest()
    return False


def _write_pool(api: Api, journal: Journal, original: OriginalPool) -> None:
    fields = _mode_fields(original.spec)
    try:
        write_mode_fields(api, journal.group, original.name, fields, cidr=original.cidr)
    except (ApiError, ConnectError) as exc:
        # With the pods' network broken, the aggregated API server may be cut off: the CRD below
        # it is served by kube-apiserver itself.
        group: Group = journal.group
        if journal.shape != "B" or group != V3 or not v3_is_cut_off(exc):
            raise
        v1_fields = _mode_fields(original.v1_spec or original.spec)
        write_mode_fields(api, V1, original.name, v1_fields, cidr=original.cidr)


def _write_v1_details(api: Api, original: OriginalPool, changes: Changes) -> None:
    """Remove what a write through the v3 view has filled in: absent it shall be again.

    Only fields that were absent and now hold Calico's own default are removed, which changes
    nothing in meaning; whatever else has changed meanwhile is somebody's will. So a user who may
    not do it is told, and the pool counts as put back all the same.
    """
    before = original.v1_spec
    if before is None:
        return

    def filled(spec: Mapping[str, Any]) -> dict[str, None]:
        return {
            field: None
            for field, value in spec.items()
            if field not in before and value == _DEFAULTS.get(field)
        }

    try:
        patch_spec(api, V1, original.name, filled)
    except ForbiddenError as exc:
        changes.note(
            f"left Calico's defaults in absent fields of IPPool {original.name} in {V1}: "
            f"{exc.problem}",
            object_path=f"ippools/{original.name}",
        )

"""Restoring a cluster after a run that could not do it itself: `k8snet restore`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico.installation import INSTALLATION_PATH, V1, V3, ApiGroup, calico_path
from pytest_k8snet.calico.journal import Journal, JournalStore, OriginalPool
from pytest_k8snet.calico.lease import Holder, Lock
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.pools import (
    MODE_FIELDS,
    Changes,
    OnChange,
    patch_spec,
    read_pool,
    remove_pool,
    v3_is_cut_off,
    write_installation_entry,
    write_mode_fields,
)
from pytest_k8snet.cluster.pods import MANAGED_BY, MANAGED_BY_LABEL, pauses
from pytest_k8snet.cluster.workspace import Leftover, delete_labelled, find_leftovers, sweep
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


def restore_changes(
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
    for name in journal.dedicated_pools:
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
            f"The changes of run {journal.run_id} could not all be restored",
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
        changes.found_restored(
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
            found = api.get(calico_path(group, "ippools", original.name))
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
    installation = api.get(INSTALLATION_PATH)
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
        group: ApiGroup = journal.group
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


# -- Restoring a cluster after a run that could not do it itself: `k8snet restore` ----------------

#: Where Lease and journal are kept.
STATE_NAMESPACE = "kube-system"


def restore_cluster(
    api: Api,
    *,
    on_change: OnChange = lambda change: None,
    on_wait: Callable[[str], None] = lambda why: None,
    wait_seconds: float = 0.0,
    state_namespace: str = STATE_NAMESPACE,
) -> list[str]:
    """Take back what a run has left, if there is anything to take back.

    Args:
        api: the connection.
        on_change: receives the fields of each "change" record.
        on_wait: called once with a line for people, if a run elsewhere has to be waited for.
        wait_seconds: how long to wait for a run that is still at work.
        state_namespace: where Lease and journal are kept.

    Returns:
        What was done, line by line, for people.

    Raises:
        LockedError: a run is at work; its changes are its own business.
        ForbiddenError: the user may not delete what a dead run has left.
        RestoreError: something could not be taken back, or the journal isn't understood.
    """
    store = JournalStore(api, state_namespace)
    lock = Lock(
        api,
        holder=Holder.of_this_process("k8snet restore"),
        namespace=state_namespace,
        on_wait=on_wait,
    )
    try:
        lock.acquire(wait_seconds=wait_seconds)
    except ForbiddenError as exc:
        lines = _without_lease(store, exc)
        return [*lines, *(_clear(api) or ["No run has left pods or a namespace."])]
    try:
        lines = []
        journal = store.read()
        if journal is not None:
            changes = Changes(on_change)
            swept = finish(api, store, journal, changes)
            lines = [
                f"Restored the changes of {journal.owner}, begun {journal.time}:",
                *(f"  deleted {what}" for what in swept),
                *(f"  {change['what']} ({change['seconds']:.1f} s)" for change in changes.told),
                *([] if changes.told else ["  the pools were as they had been"]),
            ]
        lines += _clear(api)
        return lines or ["Nothing to restore: no run has left anything that needs it."]
    finally:
        lock.release()


def _without_lease(store: JournalStore, refusal: ForbiddenError) -> list[str]:
    """What can be said of changes of Calico by someone who may not hold the Lease.

    Raises:
        RestoreError: there are some, which only the holder of the Lease may take back.
    """
    try:
        journal = store.read()
    except ForbiddenError:
        return [
            f"Not looked at, whether a run has left Calico changed: {refusal.problem}. That takes "
            "the Role k8snet-state (docs/rbac.yaml)."
        ]
    if journal is None:
        return []
    raise RestoreError(
        f"{journal.owner} has changed Calico, and you may not take that back",
        found=f"{store.where} of {journal.time}; {refusal.problem}",
        remedy="If that run is dead, run `k8snet restore` as someone with the roles k8snet-state "
        f"and k8snet-{journal.strategy} (docs/rbac.yaml).",
    )


def _clear(api: Api) -> list[str]:
    """Delete what dead runs have left beside changes of Calico, and name what others may need."""
    try:
        found = find_leftovers(api)
    except ForbiddenError as exc:
        by_hand = delete_labelled("NAMESPACE", f"{MANAGED_BY_LABEL}={MANAGED_BY}")
        return [
            f"Not looked for, what killed runs have left: {exc.problem}. In the namespace that you "
            f"gave them, while none is at work: {by_hand}"
        ]
    lines = [f"Deleted {what}, left by a run that is gone" for what in _sweep(api, found)]
    lines += [
        f"Left alone: {one}. Whether it is at work cannot be told from here; if it is dead: "
        f"{one.by_hand}"
        for one in found
        if one.alive is None
    ]
    return lines


def finish(api: Api, store: JournalStore, journal: Journal, changes: Changes) -> list[str]:
    """Take a dead run's changes back: the original pool, its pods, its pools, the journal.

    The caller holds the Lease.

    Returns:
        The objects that were deleted, besides pools.

    Raises:
        RestoreError: something could not be taken back; the journal stays.
    """
    swept: list[str] = []

    def end_pods() -> None:
        try:
            swept.extend(sweep(api, journal.run_id))
        except ForbiddenError as exc:
            # The pools matter more to the cluster than pods that end by themselves.
            swept.append(f"no pods: {exc.problem}")

    restore_changes(api, journal, changes, end_pods=end_pods)
    store.delete(journal.run_id)
    return swept


def sweep_dead_runs(api: Api) -> None:
    """Delete what runs have left that were killed on this machine before they changed Calico."""
    try:
        found = find_leftovers(api)
    except ForbiddenError:
        return
    _sweep(api, found)


def _sweep(api: Api, found: Iterable[Leftover]) -> list[str]:
    return [what for one in found if one.alive is False for what in sweep(api, one.run_id)]

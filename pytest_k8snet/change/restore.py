"""Restoring what a run has changed, from its journal alone: at its end, or by `k8snet restore`.

Every step looks first whether it is still needed, so it can be repeated after any failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.calico.installation import (
    INSTALLATION_PATH,
    OPERATOR_INSTALLATION,
    V1,
    V3,
    ApiGroup,
    IPPool,
    ObjectRef,
    calico_path,
)
from pytest_k8snet.calico.kernel import Prober
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.change.addresses import lies_in
from pytest_k8snet.change.journal import (
    JOURNAL_NAME,
    Changes,
    Journal,
    JournalStore,
    OriginalPool,
)
from pytest_k8snet.change.lease import STATE_NAMESPACE, Holder, Lock
from pytest_k8snet.change.pools import (
    encapsulation_of,
    entry_change,
    installation_entries,
    is_in_mode,
    is_own_pool,
    patch_pool,
    pool_change,
    read_pool,
    remove_pool,
    write_installation_entry,
    write_mode_fields,
    written_by_others,
)
from pytest_k8snet.change.readiness import NodeReadiness, wait_until_good
from pytest_k8snet.cluster.api import pauses
from pytest_k8snet.cluster.api_errors import collection, object_path
from pytest_k8snet.cluster.nodes import list_nodes
from pytest_k8snet.cluster.pods import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    ROLE_LABEL,
    addresses_of,
    selector,
)
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
    from pytest_k8snet.cluster.nodes import Node


def restore_cluster(
    api: Api,
    *,
    force: bool = False,
    on_wait: Callable[[str], None] = lambda why: None,
) -> list[str]:
    """Restore what a run has left changed, and delete what it has left behind.

    Args:
        api: the connection.
        force: put pools back also where somebody has changed them since, or where it is not known.
        on_wait: called once with a line for people, if a run elsewhere has to be waited for.

    Returns:
        What was done, line by line, for people.

    Raises:
        LockedError: a run is at work; its changes are its own business.
        ForbiddenError: the user may not delete what a dead run has left.
        RestoreError: something could not be restored, or the journal is not understood.
    """
    store = JournalStore(api)
    lock = Lock(api, holder=Holder.of_this_process("k8snet restore"), on_wait=on_wait)
    try:
        lock.acquire()
    except ForbiddenError as exc:
        lines = _without_lease(store, exc)
        return [*lines, *(_clear(api) or ["No run has left pods or a namespace."])]
    try:
        lines = []
        journal = store.read()
        if journal is not None:
            changes = Changes(lambda change: None)
            swept = restore_dead_run(
                api, store, journal, changes, last_holder=lock.last_holder, force=force
            )
            lines = [
                f"Restored the changes of {journal.owner}, begun {journal.time}:",
                *(f"  deleted {what}" for what in swept),
                *(f"  {change['what']} ({change['seconds']:.1f} s)" for change in changes.records),
                *([] if changes.records else ["  the pools were as they had been"]),
            ]
        lines += _clear(api)
        return lines or ["Nothing to restore: no run has left anything that needs it."]
    finally:
        lock.release()


def _without_lease(store: JournalStore, refusal: ForbiddenError) -> list[str]:
    """What can be said of changes of Calico by someone who may not hold the Lease.

    Raises:
        RestoreError: there are some, which only the holder of the Lease may restore.
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
        f"{journal.owner} has changed Calico, and you may not restore that",
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


def _sweep(api: Api, found: Iterable[Leftover]) -> list[str]:
    return [what for one in found if one.alive is False for what in sweep(api, one.run_id)]


# -- Dead runs ------------------------------------------------------------------------------------


def restore_dead_run(
    api: Api,
    store: JournalStore,
    journal: Journal,
    changes: Changes,
    *,
    last_holder: str,
    force: bool = False,
) -> list[str]:
    """Restore what a dead run has changed: the original pool, its pods, its pools, the journal.

    The caller holds the Lease, so no run that changes Calico is at work. The journal's word alone
    does not make a run one of those: another may be measuring under the same id.

    Args:
        api: the connection.
        store: where the journal is kept.
        journal: what the run has changed.
        changes: records everything that is restored.
        last_holder: who held the Lease before the caller.
        force: as in :func:`restore_cluster`.

    Returns:
        The objects that were deleted, besides pools.

    Raises:
        RestoreError: something could not be restored; the journal stays.
    """
    swept: list[str] = []
    changed_calico = last_holder.startswith(f"{journal.run_id} (") or _is_proven(api, journal)

    def end_pods() -> None:
        if not _is_dead(api, journal.run_id, changed_calico):
            return
        try:
            swept.extend(sweep(api, journal.run_id))
        except ForbiddenError as exc:
            # The pools matter more to the cluster than pods that end by themselves.
            swept.append(f"no pods: {exc.problem}")

    with _host_pods(api, journal.run_id) as readiness:
        restore_changes(api, journal, changes, end_pods=end_pods, readiness=readiness, force=force)
    store.delete(journal.run_id)
    return swept


@contextmanager
def _host_pods(api: Api, run_id: str) -> Generator[NodeReadiness | None]:
    """Ask nodes through the host-network pods that a dead run has left; None without two."""
    places: dict[str, tuple[str, str]] = {}
    nodes: list[Node] = []
    with suppress(ForbiddenError):
        pods = api.list("/api/v1/pods", labels=f"{selector(run_id)},{ROLE_LABEL}=host")
        places = {
            pod["spec"]["nodeName"]: (pod["metadata"]["namespace"], pod["metadata"]["name"])
            for pod in pods
            if (pod.get("status") or {}).get("phase") == "Running"
        }
        nodes = [node for node in list_nodes(api) if node.name in places]
    if len(nodes) < 2:
        yield None
        return
    prober = Prober(
        {node: partial(api.exec, *place, timeout_seconds=10.0) for node, place in places.items()}
    )
    try:
        yield NodeReadiness(api, nodes=nodes, prober=prober)
    finally:
        prober.close()


def _is_dead(api: Api, run_id: str, changed_calico: bool) -> bool:
    try:
        found = [one for one in find_leftovers(api) if one.run_id == run_id]
    except ForbiddenError:
        return changed_calico
    return all(one.alive is False or (one.alive is None and changed_calico) for one in found)


def _is_proven(api: Api, journal: Journal) -> bool:
    """Whether objects of Calico bear a journal out: then its run held the Lease while it lived."""
    names = journal.dedicated_pools
    if journal.original is not None:
        names = (journal.original.name,)
    for name in names:
        for group, uid in _views(journal):
            try:
                raw = api.get(calico_path(group, "ippools", name))
            except (ApiError, ConnectError):
                continue
            same = bool(uid) and raw["metadata"].get("uid") == uid
            if is_own_pool(raw, journal.run_id) if journal.original is None else same:
                return True
    return False


def _views(journal: Journal) -> list[tuple[ApiGroup, str]]:
    """The groups in which a pool of the journal is seen, with the original's id there."""
    original = journal.original
    views = [(journal.group, original.uid if original else "")]
    if journal.shape == "B" and journal.group != V1:
        views.append((V1, original.v1_uid if original else ""))
    return views


def sweep_dead_runs(api: Api) -> None:
    """Delete what runs have left that were killed on this machine before they changed Calico.

    As far as the user may: it stands in no later run's way.
    """
    with suppress(ForbiddenError):
        _sweep(api, find_leftovers(api))


# -- One journal ----------------------------------------------------------------------------------

#: How long the operator gets to carry a restored Installation over to its pool, in seconds.
_OPERATOR_SECONDS = 20.0
#: How long the nodes get to follow a pool that is back in its mode, in seconds.
FOLLOW_SECONDS = 60.0
#: How long a run's own pods may take to vanish, in seconds.
_PODS_GONE_SECONDS = 60.0
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
    end_pods: Callable[[], object],
    readiness: NodeReadiness | None = None,
    follow_seconds: float = FOLLOW_SECONDS,
    force: bool = False,
) -> None:
    """Restore everything that a journal lists, and leave the journal itself.

    One step that fails does not keep the others from being tried.

    Args:
        api: the connection.
        journal: what is to be restored.
        changes: records everything that is restored.
        end_pods: deletes the run's pods and waits for that: dedicated pools go only after their
            pods. A pool of the cluster's own is restored before, as it does not wait for them;
            where its mode has cut the Calico API server off, no namespace could be deleted before.
        readiness: looks at the nodes: a pool is back only when their kernels have followed it;
            until then pods may be cut off. None: nobody can look.
        follow_seconds: how long the nodes get for that.
        force: write over what somebody else has changed since.

    Raises:
        RestoreError: names everything that could not be restored.
    """
    troubles: list[str] = []
    steps: list[Callable[[], object]] = []
    if journal.original is not None:
        original = journal.original
        steps.append(lambda: _restore_pool(api, journal, original, changes, force=force))
        steps.append(lambda: _await_nodes(api, original, readiness, changes, follow_seconds))
    steps.append(end_pods)
    run_id, shape = journal.run_id, journal.shape
    for name in journal.dedicated_pools:
        remove = partial(remove_pool, api, name, run_id=run_id, shape=shape, changes=changes)
        steps.append(partial(_through_v3_or_v1, journal, remove))
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


def end_pods_in(api: Api, run_id: str, pools: Sequence[IPPool]) -> None:
    """Delete a run's pods with addresses of its dedicated pools, and wait until they are gone.

    Raises:
        RestoreError: one does not go away.
    """
    if not pools:
        return
    deadline = time.monotonic() + _PODS_GONE_SECONDS
    asked: set[str] = set()
    rest = pauses(1.0)
    while True:
        try:
            pods = api.list("/api/v1/pods", labels=selector(run_id))
        except ForbiddenError:
            return  # allowed in its own namespace only; the run deletes its pods by itself
        paths = {
            object_path(
                collection("pods", namespace=pod["metadata"]["namespace"]), pod["metadata"]["name"]
            )
            for pod in pods
            if any(lies_in(address, pool.cidr) for address in addresses_of(pod) for pool in pools)
        }
        if not paths:
            return
        for path in paths - asked:
            api.delete(path, grace_seconds=1)
        asked |= paths
        if time.monotonic() > deadline:
            raise RestoreError(
                f"Pods of run {run_id} do not go away, so their pools cannot either",
                found=", ".join(sorted(asked)),
                remedy="Delete them by force, then run `k8snet restore`.",
            )
        rest()


def _restore_pool(
    api: Api, journal: Journal, original: OriginalPool, changes: Changes, *, force: bool
) -> None:
    mode = original.mode
    if _is_restored(api, journal, original):
        for target in original.objects:
            what = f"IPPool {original.name} is back in {mode}"
            changes.found_restored(what, target, there=str(mode))
        return
    if not force:
        _refuse_others_changes(api, journal, original, changes)
    for target in original.objects:
        with changes.recording(
            f"restored IPPool {original.name} to {mode}"
            + (" by the operator's Installation" if target == OPERATOR_INSTALLATION else ""),
            target,
            before=None,
            after=str(mode),
            state="restored",
        ):
            if target == OPERATOR_INSTALLATION:
                assert original.installation_entry is not None
                write_installation_entry(
                    api,
                    original.cidr,
                    original.installation_entry.get("encapsulation"),
                    expected=None if force else _our_encapsulations(journal, original),
                )
            else:
                _write_pool(api, journal, original, force=force)
            if target == original.objects[-1]:
                if not original.written_directly:
                    _await_operator(api, journal, original, changes, force=force)
                _remove_v1_defaults(api, original, changes)


def _await_nodes(
    api: Api,
    original: OriginalPool,
    readiness: NodeReadiness | None,
    changes: Changes,
    timeout_seconds: float,
) -> None:
    """Wait until the nodes have followed a pool that is back in its mode."""
    installation = inspect(api)
    pool = installation.pool(original.name)
    if pool is None or pool.mode is not original.mode:
        # Then it is not back, which is trouble of its own.
        return
    target = original.objects[-1]
    if readiness is None or len(readiness.readable()) < 2:
        if any(one["object"] == str(target) for one in changes.records):
            changes.note(
                f"not looked at, whether the nodes have followed IPPool {pool.name} back to "
                f"{pool.mode}: no two nodes can be asked",
                target,
            )
        return
    what = f"The nodes have followed IPPool {pool.name} back to {pool.mode}"
    with changes.recording(what, target, before=None, after=str(pool.mode), state="restored"):
        blocks = readiness.blocks(installation, pool)
        wait_until_good(
            lambda: readiness.mismatches(installation, {pool.mode}, pool=pool, blocks=blocks),
            what=what,
            timeout_seconds=timeout_seconds,
            look_closer=readiness.look_closer,
        )


#: What follows where somebody else's change is found.
_FORCE = (
    "It is left as it is. `k8snet restore --force` puts it back all the same; if it shall stay so, "
    f"delete the journal: `kubectl -n {STATE_NAMESPACE} delete configmap {JOURNAL_NAME}`"
)


def _our_modes(journal: Journal, original: OriginalPool) -> set[CalicoMode]:
    """The modes that the pool may be in by the run's doing, or by nobody's."""
    return {original.mode, *journal.written}


def _our_encapsulations(journal: Journal, original: OriginalPool) -> set[str]:
    assert original.installation_entry is not None
    return {
        encapsulation_of(original.installation_entry),
        *(mode.encapsulation for mode in journal.written),
    }


def _refuse_others_changes(
    api: Api, journal: Journal, original: OriginalPool, changes: Changes
) -> None:
    """Leave everything as it is where it is not as the run has left it.

    Raises:
        RestoreError: who has changed what since, or why that is not known.
    """
    left = {}
    for target in original.objects:
        by_operator = target == OPERATOR_INSTALLATION
        look = _change_of_installation if by_operator else _change_of_pool
        if why := look(api, journal, original):
            left[target] = why
    for target, why in left.items():
        changes.note(f"not put back: {why}", target, state="failed")
    if left:
        raise RestoreError(
            f"IPPool {original.name} is not put back to {original.mode}: {'; '.join(left.values())}"
            f". {_FORCE}"
        )


def _change_of_pool(api: Api, journal: Journal, original: OriginalPool) -> str:
    for group, uid in _views(journal):
        try:
            raw = api.get(calico_path(group, "ippools", original.name))
        except (ApiError, ConnectError) as exc:
            if group == V1 or journal.shape != "B" or not _is_cut_off(exc):
                raise
            continue
        cidr = str((raw.get("spec") or {}).get("cidr"))
        if cidr != original.cidr:
            return f"it is another of that name, with cidr {cidr}, expected {original.cidr}"
        ours = _our_modes(journal, original)
        if not is_in_mode(raw.get("spec") or {}, ours):
            return pool_change(raw, ours)
        # Beneath an aggregated API server, it is that server which has written.
        others = written_by_others(raw, original.spec) if journal.shape != "B" else ""
        return others or _identity(f"IPPool {original.name}", raw, uid)
    return ""


def _change_of_installation(api: Api, journal: Journal, original: OriginalPool) -> str:
    installation = api.get(INSTALLATION_PATH)
    ours = _our_encapsulations(journal, original)
    entry = next(
        (one for one in installation_entries(installation) if one.get("cidr") == original.cidr),
        None,
    )
    if entry is not None and encapsulation_of(entry) not in ours:
        return entry_change(installation, entry, ours)
    return _identity("the Installation", installation, original.installation_uid)


def _identity(what: str, raw: Mapping[str, Any], uid: str) -> str:
    """Why an object may be another than the one that the run has read; empty if it is the same.

    The server's id of an object is on no other, and is known only to who may read it.
    """
    if raw["metadata"].get("uid") != uid:
        return f"{what} is another than the run has read, or the journal is not the run's"
    return ""


def _is_restored(api: Api, journal: Journal, original: OriginalPool) -> bool:
    views = [(journal.group, original.spec)]
    if original.v1_spec is not None:
        views.append((V1, original.v1_spec))
    for group, spec in views:
        try:
            found = api.get(calico_path(group, "ippools", original.name))
        except NotFoundError as exc:
            if not exc.absent:
                return False
            raise RestoreError(
                f"IPPool {original.name} has been deleted, so its mode cannot be restored",
                found=f"it was {dict(original.spec)}",
                remedy="Make it anew if it is missed; then delete the journal.",
            ) from None
        except (ApiError, ConnectError):
            return False
        now = found.get("spec") or {}
        if _mode_fields(now) != _mode_fields(spec):
            return False
        if group == V1 and original.v1_spec is not None and set(now) - set(original.v1_fields):
            return False
    if original.installation_entry is None:
        return True
    return any(
        entry.get("cidr") == original.cidr
        and entry.get("encapsulation") == original.installation_entry.get("encapsulation")
        for entry in installation_entries(api.get(INSTALLATION_PATH))
    )


def _await_operator(
    api: Api, journal: Journal, original: OriginalPool, changes: Changes, *, force: bool
) -> None:
    """Wait until the operator has carried the Installation over; else write the pool as well."""
    deadline = time.monotonic() + _OPERATOR_SECONDS
    rest = pauses(1.0)
    while time.monotonic() < deadline:
        try:
            if read_pool(api, journal.group, original.name).mode is original.mode:
                return
        except (ApiError, ConnectError) as exc:
            if not _is_cut_off(exc):
                raise
            break
        rest()
    what = f"restored IPPool {original.name} to {original.mode}, as the operator did not follow"
    target, mode = ObjectRef.pool(original.name), str(original.mode)
    with changes.recording(what, target, before=None, after=mode, state="restored"):
        _write_pool(api, journal, original, force=force)


def _write_pool(api: Api, journal: Journal, original: OriginalPool, *, force: bool) -> None:
    def write(group: ApiGroup) -> None:
        spec = original.spec if group == journal.group else original.v1_spec or original.spec
        expected = None if force else _our_modes(journal, original)
        fields = _mode_fields(spec)
        write_mode_fields(api, group, original.name, fields, cidr=original.cidr, expected=expected)

    _through_v3_or_v1(journal, write)


def _is_cut_off(error: ApiError | ConnectError) -> bool:
    """Whether an error means that the aggregated Calico API server cannot be reached."""
    if isinstance(error, NotFoundError):
        # Its group may have been taken away, as by whoever deletes the APIServer.
        return not error.absent
    return not isinstance(error, ApiError) or error.status in (500, 502, 503, 504)


def _through_v3_or_v1(journal: Journal, write: Callable[[ApiGroup], None]) -> None:
    """Write through the journal's group, or beneath it where nothing answers there.

    With the pods' network broken, the aggregated API server may be cut off: the CRD below it is
    served by kube-apiserver itself.
    """
    try:
        write(journal.group)
    except (ApiError, ConnectError) as exc:
        if journal.shape != "B" or journal.group != V3 or not _is_cut_off(exc):
            raise
        write(V1)


def _mode_fields(spec: Mapping[str, Any]) -> dict[str, str | None]:
    return {field: spec.get(field) for field in ("ipipMode", "vxlanMode")}


def _remove_v1_defaults(api: Api, original: OriginalPool, changes: Changes) -> None:
    """Remove what a write through the v3 view has filled in: absent it shall be again.

    Only fields that were absent and now hold Calico's own default are removed, which changes
    nothing in meaning; whatever else has changed meanwhile is somebody's will. So where this is
    forbidden it is recorded, and the pool counts as restored all the same.
    """
    if original.v1_spec is None:
        return
    removed: list[str] = []

    def filled(raw: Mapping[str, Any]) -> dict[str, None]:
        removed[:] = [
            field
            for field, value in (raw.get("spec") or {}).items()
            if field not in original.v1_fields and value == _DEFAULTS.get(field)
        ]
        return dict.fromkeys(removed)

    pool = f"IPPool {original.name} in {V1}"
    try:
        patch_pool(api, V1, original.name, filled)
    except ForbiddenError as exc:
        said = f"left Calico's defaults in absent fields of {pool}: {exc.problem}"
    else:
        if not removed:
            return
        said = f"removed Calico's defaults from {pool}: {', '.join(sorted(removed))}"
    changes.note(said, ObjectRef.pool(original.name))

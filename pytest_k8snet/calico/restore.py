"""Restoring a cluster after a run that could not do it itself: `k8snet restore`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pytest_k8snet.calico.changes import Changes, OnChange
from pytest_k8snet.calico.journal import Journal, JournalStore
from pytest_k8snet.calico.lease import Holder
from pytest_k8snet.calico.lock import Lock
from pytest_k8snet.calico.undo import take_back
from pytest_k8snet.cluster.pods import MANAGED_BY, MANAGED_BY_LABEL
from pytest_k8snet.cluster.workspace import Leftover, delete_labelled, find_leftovers, sweep
from pytest_k8snet.errors import ForbiddenError, RestoreError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

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
                f"Took back the changes of {journal.owner}, begun {journal.time}:",
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

    take_back(api, journal, changes, end_pods=end_pods)
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

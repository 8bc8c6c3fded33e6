"""Restoring a cluster after a run that could not do it itself: `k8snet restore`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_k8snet.calico.changes import Changes, OnChange
from pytest_k8snet.calico.journal import Journal, JournalStore
from pytest_k8snet.calico.lock import Holder, Lock
from pytest_k8snet.calico.undo import take_back
from pytest_k8snet.cluster.sweep import find_dead_runs, sweep
from pytest_k8snet.errors import ForbiddenError

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
        RestoreError: something could not be taken back, or the journal isn't understood.
    """
    store = JournalStore(api, state_namespace)
    lock = Lock(
        api,
        holder=Holder.of_this_process("k8snet restore"),
        namespace=state_namespace,
        on_wait=on_wait,
    )
    lock.acquire(wait_seconds=wait_seconds)
    try:
        lines: list[str] = []
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
        lines += [f"Deleted {what}, left by a run that is gone" for what in sweep_dead_runs(api)]
        return lines or ["Nothing to restore: no run has left anything that needs it."]
    finally:
        lock.release()


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


def sweep_dead_runs(api: Api) -> list[str]:
    """Delete what runs have left that were killed on this machine before they changed Calico.

    Returns:
        The objects that were deleted.
    """
    try:
        dead = find_dead_runs(api)
    except ForbiddenError:
        return []
    return [what for run_id in dead for what in sweep(api, run_id)]

"""A run's right to change a cluster: the Lease, and the journal of what it will have to undo."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_k8snet.calico.changes import Changes
from pytest_k8snet.calico.decision import Strategy
from pytest_k8snet.calico.installation import Installation
from pytest_k8snet.calico.journal import Journal, JournalStore, OriginalPool
from pytest_k8snet.calico.lease import Holder
from pytest_k8snet.calico.lock import Lock
from pytest_k8snet.calico.restore import finish, sweep_dead_runs
from pytest_k8snet.errors import ConnectError, ForbiddenError, LockedError, RestoreError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api


class Tenure:
    """From before the first change of a run until everything is taken back.

    Attributes:
        journal: what this run has promised to undo; None before the first change.
    """

    def __init__(
        self, api: Api, *, run_id: str, namespace: str, wait_seconds: float, changes: Changes
    ) -> None:
        self._api = api
        self._run_id = run_id
        self._wait_seconds = wait_seconds
        self._changes = changes
        self._holder = Holder.of_this_process(run_id)
        self._lock = Lock(api, holder=self._holder, namespace=namespace)
        self._store = JournalStore(api, namespace)
        self.journal: Journal | None = None
        #: Whether there may be a journal of ours: its answer may have got lost.
        self._promised = False

    def begin(self) -> bool:
        """Hold the Lease, and take back what dead runs have left.

        Returns:
            Whether it has just begun: the cluster may be another than it was.

        Raises:
            LockedError: another run holds the cluster, or has taken it over.
            RestoreError: what a dead run has left can't be taken back.
        """
        if self._lock.held or self.journal is not None:
            self._lock.check()
            return False
        self._lock.acquire(wait_seconds=self._wait_seconds)
        left = self._store.read()
        if left is not None:
            finish(self._api, self._store, left, self._changes)
        sweep_dead_runs(self._api)
        return True

    def check(self) -> None:
        """Insist that the Lease is still ours, if there is anything that it protects.

        Raises:
            LockedError: it was lost.
        """
        if self.journal is not None:
            self._lock.check()

    def silence(self, seconds: float) -> AbstractContextManager[None]:
        """Keep the Lease for so long without asking anything of the API server."""
        return self._lock.silence(seconds)

    def record(
        self,
        installation: Installation,
        strategy: Strategy,
        *,
        original: OriginalPool | None = None,
        own_pools: tuple[str, ...] = (),
    ) -> None:
        """Write the journal; before the first change, and once only."""
        assert installation.shape is not None
        assert installation.group is not None
        journal = Journal(
            run_id=self._run_id,
            strategy=strategy,
            owner=self._holder.identity,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            shape=installation.shape,
            group=installation.group,
            original=original,
            own_pools=own_pools,
        )
        self._lock.check()
        if self._promised:
            self._store.delete(self._run_id)
        self._promised = True
        self._store.write(journal)
        self.journal = journal

    def refuse_others_changes(self) -> None:
        """Refuse a cluster that another run is changing, or has left changed.

        Raises:
            RestoreError: names that run.
        """
        try:
            journal = self._store.read()
        except ForbiddenError:
            return
        if journal is not None:
            raise RestoreError(
                "Another run is changing this cluster, or was killed before it could restore it",
                found=f"{self._store.where} of {journal.owner}, {journal.time}",
                remedy="Wait for that run; if it is dead, run `k8snet restore`.",
            )

    def end(self, undo: Callable[[Journal], None]) -> None:
        """Take everything back and give up the Lease; fine if there is nothing to take back.

        Args:
            undo: takes back what the journal tells of.

        Raises:
            RestoreError: something could not be taken back; the journal stays.
            LockedError: another run has taken the cluster over.
        """
        try:
            if self._promised:
                self._lock.check()
                if self.journal is not None:
                    undo(self.journal)
                self._store.delete(self._run_id)
                self.journal, self._promised = None, False
        except LockedError:
            self.journal, self._promised = None, False
            raise
        except ConnectError as exc:
            raise RestoreError(
                "The cluster could not be restored: its API server does not answer",
                found=exc.brief,
                remedy="Run `k8snet restore` as soon as it does: all that it needs is kept in the "
                f"{self._store.where}.",
            ) from None
        finally:
            self._lock.release()

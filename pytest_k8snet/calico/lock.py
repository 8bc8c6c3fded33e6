"""One switcher at a time: a Lease that a run holds while it has changed a cluster."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster import liveness
from pytest_k8snet.errors import ConflictError, K8sNetError, LockedError, NotFoundError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

LEASE_NAME = "k8snet-switcher"
#: A holder that has not renewed for so long is gone, in seconds.
LEASE_SECONDS = 15
_RENEW_SECONDS = 5.0
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds the cluster.

    Attributes:
        identity: run, user, host and process id, for people.
        process: by which ``cluster.liveness`` tells whether it still lives.
    """

    identity: str
    process: str

    @classmethod
    def of_this_process(cls, run_id: str) -> Holder:
        """Describe the running process."""
        user = os.environ.get("USER") or f"uid {os.getuid()}"
        return cls(
            identity=f"{run_id} ({user}@{socket.gethostname()}, process {os.getpid()})",
            process=liveness.this_process(),
        )

    @property
    def alive(self) -> bool | None:
        """Whether the process lives, if it ran on this very machine; None if that's unknown."""
        return liveness.is_alive(self.process)


def current_holder(api: Api, namespace: str) -> Holder | None:
    """Who holds the cluster, dead or alive; None if nobody does."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{LEASE_NAME}"
    try:
        return _holder(api.get(path))
    except NotFoundError:
        return None


class Lock:
    """A held Lease, renewed by a thread until it is released."""

    def __init__(
        self,
        api: Api,
        *,
        holder: Holder,
        namespace: str,
        on_wait: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._api = api
        self._holder = holder
        self._on_wait = on_wait
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{LEASE_NAME}"
        self._stop = threading.Event()
        self._renewer: threading.Thread | None = None
        self._renewing = threading.Lock()
        self._silences = 0
        self._runs_out_at = 0.0
        self._lost: str = ""

    @property
    def held(self) -> bool:
        """Whether this object holds the Lease."""
        return self._renewer is not None and not self._lost

    def acquire(
        self,
        *,
        wait_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the Lease.

        A holder that renews is waited for as long as is allowed. One that doesn't is given the
        Lease's own duration to do so, measured by this machine's clock: the holder's may differ.
        One whose process is known to be dead is not waited for.

        Raises:
            LockedError: somebody else holds the cluster, and who.
        """
        begun = clock()
        seen_version, seen_at = "", begun
        waiting = False
        while True:
            lease = self._read()
            if lease is None:
                if self._create():
                    break
                continue
            version = str(lease["metadata"]["resourceVersion"])
            if version != seen_version:
                renewed = bool(seen_version)
                seen_version, seen_at = version, clock()
                if renewed and clock() - begun >= wait_seconds:
                    raise self._locked(lease)
            if _holder(lease).alive and clock() - begun >= wait_seconds:
                raise self._locked(lease)
            if _gone(lease, clock() - seen_at):
                if self._take_over(lease):
                    break
                continue
            if not waiting:
                waiting = True
                self._on_wait(
                    f"waiting for {_identity(lease)}: if it is gone, its Lease runs out in "
                    f"{_duration_seconds(lease):.0f} s"
                )
            sleep(_POLL_SECONDS)
        self._start()

    def check(self) -> None:
        """Insist that the Lease is still ours; asked before every write.

        Raises:
            LockedError: it was lost to somebody else.
        """
        if self.held and time.monotonic() > self._runs_out_at:
            # The process was stopped, or a renewal failed before a long sample: since then
            # anybody may have taken it.
            with self._renewing, suppress(K8sNetError):
                self._renew_once()
        if self._lost:
            raise LockedError(
                "This run no longer holds the cluster",
                found=f"the Lease {LEASE_NAME} is now held by {self._lost}",
                remedy="Wait for that run, then run `k8snet restore`.",
            )

    @contextmanager
    def silence(self, seconds: float) -> Iterator[None]:
        """Ask nothing of the API server while the block runs, and keep the Lease nevertheless.

        Where the Lease might run out in so many seconds, it is first renewed for longer.
        """
        if not self.held:
            yield
            return
        with self._renewing:
            if time.monotonic() + seconds > self._runs_out_at - _RENEW_SECONDS:
                # As with the renewals in between: the Lease outlasts a moment's trouble.
                with suppress(K8sNetError):
                    self._renew_once(math.ceil(LEASE_SECONDS + seconds))
            # Counted, as threads may measure at the same time.
            self._silences += 1
        try:
            yield
        finally:
            with self._renewing:
                self._silences -= 1

    def release(self) -> None:
        """Give the Lease back; fine if it isn't held or can't be reached: it runs out by itself."""
        renewer, self._renewer = self._renewer, None
        if renewer is None:
            return
        self._stop.set()
        renewer.join()
        with suppress(K8sNetError):
            lease = self._read()
            if lease is not None and _identity(lease) == self._holder.identity:
                self._api.delete(self._path)

    def _read(self) -> dict[str, Any] | None:
        try:
            return self._api.get(self._path)
        except NotFoundError:
            return None

    def _body(self, transitions: int) -> dict[str, Any]:
        now = _timestamp()
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": LEASE_NAME,
                "annotations": {liveness.PROCESS_ANNOTATION: self._holder.process},
            },
            "spec": {
                "holderIdentity": self._holder.identity,
                "leaseDurationSeconds": LEASE_SECONDS,
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }

    def _create(self) -> bool:
        try:
            created = self._api.create(self._collection, self._body(0))
        except ConflictError:
            return False
        return _identity(created) == self._holder.identity

    def _take_over(self, lease: dict[str, Any]) -> bool:
        body = self._body(int((lease.get("spec") or {}).get("leaseTransitions") or 0) + 1)
        body["metadata"]["resourceVersion"] = lease["metadata"]["resourceVersion"]
        try:
            self._api.replace(self._path, body)
        except (ConflictError, NotFoundError):
            return False
        return True

    def _locked(self, lease: dict[str, Any]) -> LockedError:
        spec = lease.get("spec") or {}
        return LockedError(
            f"Another run holds this cluster: {_identity(lease)}",
            found=f"Lease {LEASE_NAME}, taken {spec.get('acquireTime')}, "
            f"renewed {spec.get('renewTime')}",
            remedy="Wait until that run has ended.",
        )

    def _start(self) -> None:
        self._stop.clear()
        self._lost = ""
        self._runs_out_at = time.monotonic() + LEASE_SECONDS
        self._renewer = threading.Thread(target=self._renew, name="k8snet-lease", daemon=True)
        self._renewer.start()

    def _renew(self) -> None:
        while not self._lost and not self._stop.wait(_RENEW_SECONDS):
            # An API server that is away for a moment gives the Lease to no one else either.
            with self._renewing, suppress(K8sNetError):
                if not self._silences:
                    self._renew_once()

    def _renew_once(self, duration_seconds: int = LEASE_SECONDS) -> None:
        try:
            lease = self._api.get(self._path)
        except NotFoundError:
            self._lost = "nobody (it was deleted)"
            return
        if _identity(lease) != self._holder.identity:
            self._lost = _identity(lease)
            return
        asked = time.monotonic()
        lease["spec"] |= {"renewTime": _timestamp(), "leaseDurationSeconds": duration_seconds}
        self._api.replace(self._path, lease)
        self._runs_out_at = asked + duration_seconds


def _holder(lease: dict[str, Any]) -> Holder:
    annotations = lease["metadata"].get("annotations") or {}
    return Holder(
        identity=_identity(lease), process=annotations.get(liveness.PROCESS_ANNOTATION, "")
    )


def _gone(lease: dict[str, Any], unchanged_seconds: float) -> bool:
    holder = _holder(lease)
    # A live process that doesn't renew is stuck; what it holds may still be half done, so the
    # duration counts for it as for any other.
    ran_out = unchanged_seconds > _duration_seconds(lease)
    return not holder.identity or holder.alive is False or ran_out


def _duration_seconds(lease: dict[str, Any]) -> float:
    return float((lease.get("spec") or {}).get("leaseDurationSeconds") or LEASE_SECONDS)


def _identity(lease: dict[str, Any]) -> str:
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


def _timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

"""One run at a time: a Lease that a run holds from before its first change to its last.

Where Calico is changed, the Lease keeps two runs from changing one cluster. It tells people who
holds it, and others on the same machine whether that process still lives.
"""

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

from pytest_k8snet.causes import Cause
from pytest_k8snet.cluster import pods
from pytest_k8snet.cluster.api import pauses
from pytest_k8snet.cluster.api_errors import ServerBusyError
from pytest_k8snet.errors import (
    ApiError,
    ConflictError,
    ForbiddenError,
    K8sNetError,
    LockedError,
    NotFoundError,
)

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api


#: Where the Lease and the journal are kept.
STATE_NAMESPACE = "kube-system"
#: As ``--k8snet-change`` says what its holder may do.
LEASE_NAME = "k8snet-change"
_COLLECTION = f"/apis/coordination.k8s.io/v1/namespaces/{STATE_NAMESPACE}/leases"
_PATH = f"{_COLLECTION}/{LEASE_NAME}"
#: A holder that has not renewed for so long is gone, in seconds.
LEASE_SECONDS = 15
_RENEW_SECONDS = 5.0
_POLL_SECONDS = 0.5
#: How long a Lease that has run out is tried to be renewed before a write is refused.
_INSIST_SECONDS = 15.0


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
            process=pods.this_process(),
        )

    @classmethod
    def of(cls, lease: dict[str, Any]) -> Holder:
        """Read who holds a Lease; an empty identity stands for nobody."""
        annotations = lease["metadata"].get("annotations") or {}
        return cls(
            identity=str((lease.get("spec") or {}).get("holderIdentity") or ""),
            process=annotations.get(pods.PROCESS_ANNOTATION, ""),
        )

    @property
    def alive(self) -> bool | None:
        """Whether the process lives, if it ran on this very machine; None if that is unknown."""
        return pods.is_alive(self.process)


def current_holder(api: Api) -> Holder | None:
    """Say who holds the cluster, dead or alive; None if nobody does."""
    lease = api.find(_PATH)
    return None if lease is None else Holder.of(lease)


def seconds_now() -> float:
    """Return the time on a clock that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lock:
    """A held Lease, renewed by a thread until it is released."""

    def __init__(
        self,
        api: Api,
        *,
        holder: Holder,
        on_wait: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._api = api
        self._holder = holder
        self._on_wait = on_wait
        self._stop = threading.Event()
        self._renewer: threading.Thread | None = None
        self._renewing = threading.Lock()
        self._quiet = 0
        self._runs_out_at = 0.0
        self._lost: str = ""
        #: The identity of whoever held the Lease before; empty if nobody did.
        self.last_holder = ""
        self._tried = False

    @property
    def held(self) -> bool:
        """Whether this object holds the Lease."""
        return self._renewer is not None and not self._lost

    def acquire(
        self,
        *,
        clock: Callable[[], float] = seconds_now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the Lease.

        A holder that renews is not waited for. One that does not is given the Lease's own duration
        to do so, measured by this machine's clock: the holder's may differ. One whose process is
        known to be dead is not waited for either.

        Raises:
            LockedError: somebody else holds the cluster, and who.
        """
        seen_version, seen_at = "", clock()
        waiting = False
        while True:
            lease = self._api.find(_PATH)
            if lease is None:
                if self._create():
                    break
                continue
            if self._tried and Holder.of(lease) == self._holder:
                # The answer to our own request got lost. When it had its effect is not known, so
                # the Lease is renewed before it is relied on.
                if self._take_over(lease):
                    break
                continue
            version = str(lease["metadata"]["resourceVersion"])
            if version != seen_version:
                if seen_version:
                    raise _locked(lease)
                seen_version, seen_at = version, clock()
            holder = Holder.of(lease)
            if holder.alive:
                raise _locked(lease)
            self.last_holder = holder.identity
            lasts = float((lease.get("spec") or {}).get("leaseDurationSeconds") or LEASE_SECONDS)
            # A live process that does not renew is stuck; what it holds may still be half done, so
            # the duration counts for it as for any other.
            ran_out = clock() - seen_at > lasts
            if not holder.identity or holder.alive is False or ran_out:
                if self._take_over(lease):
                    break
                continue
            if not waiting:
                waiting = True
                self._on_wait(
                    f"waiting for {holder.identity}: if it is gone, its Lease runs out in "
                    f"{lasts:.0f} s"
                )
            sleep(_POLL_SECONDS)
        self._stop.clear()
        self._lost = ""
        self._runs_out_at = seconds_now() + LEASE_SECONDS
        self._renewer = threading.Thread(target=self._renew, name="k8snet-lease", daemon=True)
        self._renewer.start()

    def check(self) -> None:
        """Insist that the Lease is still ours; asked before every write.

        Raises:
            LockedError: it was lost to somebody else, or nobody can tell.
            ConnectError: nobody can tell, as the API server does not answer.
        """
        if self.held and seconds_now() > self._runs_out_at:
            # The process was stopped, the machine slept, or a renewal failed before a long
            # sample: since then anybody may have taken it.
            self._insist()
        if self._lost:
            raise LockedError(
                "This run no longer holds the cluster",
                found=f"the Lease {LEASE_NAME} is now held by {self._lost}",
                remedy="Wait for that run, then run `k8snet restore`.",
            )

    def _insist(self) -> None:
        deadline = seconds_now() + _INSIST_SECONDS
        rest = pauses(1.0)
        while True:
            try:
                with self._renewing:
                    self._renew_once()
                return
            except ApiError as exc:
                passing = isinstance(exc, (ConflictError, ServerBusyError))
                if not passing or seconds_now() > deadline:
                    cause = Cause.API_TROUBLE
                    if isinstance(exc, ConflictError):
                        cause = Cause.LEASE_CONTESTED
                    elif isinstance(exc, ForbiddenError):
                        cause = Cause.LEASE_FORBIDDEN
                    raise LockedError(
                        "This run may no longer hold the cluster, so it changes nothing more",
                        found=f"the Lease {LEASE_NAME} ran out and cannot be renewed: {exc.brief}",
                        remedy=cause.remedy,
                    ) from exc
            rest()

    @contextmanager
    def quiet_period(self, seconds: float) -> Iterator[None]:
        """Ask nothing of the API server while the block runs, and keep the Lease nevertheless.

        Where the Lease might run out in so many seconds, it is first renewed for longer.
        """
        if not self.held:
            yield
            return
        with self._renewing:
            if seconds_now() + seconds > self._runs_out_at - _RENEW_SECONDS:
                # As with the renewals in between: the Lease outlasts a moment's trouble.
                with suppress(K8sNetError):
                    self._renew_once(math.ceil(LEASE_SECONDS + seconds))
            # Counted, as threads may measure at the same time.
            self._quiet += 1
        try:
            yield
        finally:
            with self._renewing:
                self._quiet -= 1

    def release(self) -> None:
        """Give the Lease back; fine if it is not held, or out of reach: it runs out by itself."""
        renewer, self._renewer = self._renewer, None
        tried, self._tried = self._tried, False
        # It may be ours as well when the answer to our request never came.
        if not tried:
            return
        if renewer is not None:
            self._stop.set()
            renewer.join()
        with suppress(K8sNetError):
            lease = self._api.find(_PATH)
            if lease is not None and Holder.of(lease).identity == self._holder.identity:
                # Not one that somebody takes over at this very moment.
                version = lease["metadata"]["resourceVersion"]
                self._api.delete(_PATH, resource_version=version)

    def _create(self) -> bool:
        self._tried = True
        try:
            created = self._api.create(_COLLECTION, _new_lease(self._holder, transitions=0))
        except ConflictError:
            return False
        return Holder.of(created).identity == self._holder.identity

    def _take_over(self, lease: dict[str, Any]) -> bool:
        transitions = int((lease.get("spec") or {}).get("leaseTransitions") or 0) + 1
        body = _new_lease(self._holder, transitions=transitions)
        body["metadata"]["resourceVersion"] = lease["metadata"]["resourceVersion"]
        self._tried = True
        try:
            self._api.replace(_PATH, body)
        except (ConflictError, NotFoundError):
            return False
        return True

    def _renew(self) -> None:
        while not self._lost and not self._stop.wait(_RENEW_SECONDS):
            # An API server that is away for a moment gives the Lease to no one else either.
            with self._renewing, suppress(K8sNetError):
                if not self._quiet:
                    self._renew_once()

    def _renew_once(self, duration_seconds: int = LEASE_SECONDS) -> None:
        lease = self._api.find(_PATH)
        if lease is None:
            self._lost = "nobody (it was deleted)"
            return
        if Holder.of(lease).identity != self._holder.identity:
            self._lost = Holder.of(lease).identity
            return
        asked = seconds_now()
        lease["spec"] |= {"renewTime": _timestamp(), "leaseDurationSeconds": duration_seconds}
        self._api.replace(_PATH, lease)
        self._runs_out_at = asked + duration_seconds


# -- The Lease as an object -----------------------------------------------------------------------


def _new_lease(holder: Holder, *, transitions: int) -> dict[str, Any]:
    """A Lease that is taken now, having gone from one holder to another so often."""
    now = _timestamp()
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": LEASE_NAME,
            "annotations": {pods.PROCESS_ANNOTATION: holder.process},
        },
        "spec": {
            "holderIdentity": holder.identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        },
    }


def _timestamp() -> str:
    """The time now, as a Lease says it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _locked(lease: dict[str, Any]) -> LockedError:
    spec = lease.get("spec") or {}
    return LockedError(
        f"Another run holds this cluster: {Holder.of(lease).identity}",
        found=f"Lease {LEASE_NAME}, taken {spec.get('acquireTime')}, "
        f"renewed {spec.get('renewTime')}",
        remedy="Wait until that run has ended.",
    )

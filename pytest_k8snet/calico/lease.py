"""The Lease that keeps two runs from changing one cluster: what it says of its holder. Pure."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pytest_k8snet.cluster import liveness

LEASE_NAME = "k8snet-switcher"
#: A holder that has not renewed for so long is gone, in seconds.
LEASE_SECONDS = 15


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

    @classmethod
    def of(cls, lease: dict[str, Any]) -> Holder:
        """Read who holds a Lease; an empty identity stands for nobody."""
        annotations = lease["metadata"].get("annotations") or {}
        return cls(
            identity=str((lease.get("spec") or {}).get("holderIdentity") or ""),
            process=annotations.get(liveness.PROCESS_ANNOTATION, ""),
        )

    @property
    def alive(self) -> bool | None:
        """Whether the process lives, if it ran on this very machine; None if that's unknown."""
        return liveness.is_alive(self.process)


def new_lease(holder: Holder, *, transitions: int) -> dict[str, Any]:
    """A Lease that is taken now.

    Args:
        holder: who takes it.
        transitions: how often it has gone from one holder to another.
    """
    now = timestamp()
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": LEASE_NAME,
            "annotations": {liveness.PROCESS_ANNOTATION: holder.process},
        },
        "spec": {
            "holderIdentity": holder.identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        },
    }


def is_free(lease: dict[str, Any], unchanged_seconds: float) -> bool:
    """Whether a Lease may be taken over.

    Args:
        lease: the Lease.
        unchanged_seconds: for how long it has been seen unchanged.
    """
    holder = Holder.of(lease)
    # A live process that doesn't renew is stuck; what it holds may still be half done, so the
    # duration counts for it as for any other.
    ran_out = unchanged_seconds > lasts_seconds(lease)
    return not holder.identity or holder.alive is False or ran_out


def lasts_seconds(lease: dict[str, Any]) -> float:
    """For how long a Lease lasts after it was renewed."""
    return float((lease.get("spec") or {}).get("leaseDurationSeconds") or LEASE_SECONDS)


def timestamp() -> str:
    """The time now, as a Lease says it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

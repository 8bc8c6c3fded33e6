"""The kubelets' sign of life: one Lease for each node, renewed as long as the lab runs."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.store import StatusError, Store
from pytest_k8snet.lab.spec import LabSpec

_NAMESPACE = "kube-node-lease"
_LEASES = "leases.coordination.k8s.io"
_PERIOD_SECONDS = 10.0
_DURATION_SECONDS = 40


class Heartbeat:
    """Renews the nodes' leases.

    Args:
        store: the cluster's objects.
        spec: the nodes.
    """

    def __init__(self, store: Store, spec: LabSpec) -> None:
        self._store = store
        self._nodes = [node.name for node in spec.nodes]

    async def run(self) -> None:
        """Renew for ever."""
        while True:
            for node in self._nodes:
                self._renew(node)
            await asyncio.sleep(_PERIOD_SECONDS)

    def _renew(self, node: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: Object = {
            "holderIdentity": node,
            "leaseDurationSeconds": _DURATION_SECONDS,
            "renewTime": now,
        }

        def change(lease: Object) -> None:
            lease["spec"] = spec

        try:
            self._store.mutate(_LEASES, node, _NAMESPACE, change)
        except StatusError:
            # Without their namespace there are no leases; the next beat tries again.
            with contextlib.suppress(StatusError):
                self._store.create(_LEASES, {"metadata": {"name": node}, "spec": spec}, _NAMESPACE)

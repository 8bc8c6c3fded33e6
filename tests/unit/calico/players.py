"""What a cluster does by itself after a write, at once and on a store: by the lab's own rules."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from store_api import StoreApi

from pytest_k8snet.lab.calico.calico_node import TUNNELS
from pytest_k8snet.lab.calico.operator import STATUSES, Operator
from pytest_k8snet.lab.calico.pools import OWNER_LABEL, POOLS, read_pools, tunnel_pools

MANAGED = dict([OWNER_LABEL])


class Players:
    """Runs after each write to the store, as controllers would a moment later.

    Args:
        api: the store.
        operator: whether the operator carries the Installation over to its pools, and so undoes
            direct edits.
        deaf: families that the nodes never bring up.
    """

    def __init__(
        self, api: StoreApi, *, operator: bool = False, deaf: Collection[str] = ()
    ) -> None:
        self._store = api.store
        self._operator = Operator(api.store) if operator else None
        self._deaf = deaf
        if operator:
            self._store.create(
                STATUSES, {"metadata": {"name": "ippools"}, "status": {"conditions": []}}
            )
        api.after_write = self.run
        self.run()

    def run(self) -> None:
        if self._operator is not None:
            self._operator.reconcile()
        self._annotate()

    def _annotate(self) -> None:
        """Publish the tunnel addresses that the nodes have; the same at any time, unlike IPAM's."""
        pools = read_pools(self._store.list(POOLS))
        for index, node in enumerate(self._store.list("nodes")):
            labels = node["metadata"]["labels"]
            addresses = {
                annotation: f"10.244.{index}.1"
                for family, (annotation, *_) in TUNNELS.items()
                if family not in self._deaf and tunnel_pools(pools, family, labels)
            }

            def change(found: dict[str, Any], wanted: dict[str, str] = addresses) -> None:
                own = found["metadata"]["annotations"]
                for annotation, *_ in TUNNELS.values():
                    own.pop(annotation, None)
                own.update(wanted)

            self._store.mutate("nodes", node["metadata"]["name"], None, change)


class Kubelet:
    """Ends pods as soon as they are deleted, after whatever else runs after a write."""

    def __init__(self, api: StoreApi) -> None:
        self._store = api.store
        self._others = api.after_write
        api.after_write = self.run

    def run(self) -> None:
        self._others()
        for pod in self._store.list("pods"):
            metadata = pod["metadata"]
            if "deletionTimestamp" in metadata:
                self._store.delete("pods", metadata["name"], metadata["namespace"], grace_seconds=0)

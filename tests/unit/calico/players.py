"""What a cluster does by itself after a write, played on a store: calico-node and the operator."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from store_api import StoreApi

from pytest_k8snet.calico.modes import CalicoMode

_ANNOTATIONS = {
    "vxlan": "projectcalico.org/IPv4VXLANTunnelAddr",
    "ipip": "projectcalico.org/IPv4IPIPTunnelAddr",
}
MANAGED = {"app.kubernetes.io/managed-by": "tigera-operator"}


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
        self._operator = operator
        self._deaf = deaf
        api.after_write = self.run
        self.run()

    def run(self) -> None:
        if self._operator:
            self._carry_over()
        self._annotate()

    def _carry_over(self) -> None:
        (installation,) = self._store.list("installations.operator.tigera.io")
        wanted = {
            entry["cidr"]: CalicoMode.parse(entry.get("encapsulation") or "IPIP")
            for entry in installation["spec"]["calicoNetwork"]["ipPools"]
        }
        for pool in self._store.list("ippools.crd.projectcalico.org"):
            mode = wanted.get(pool["spec"]["cidr"])
            if mode is None or _mode(pool) is mode:
                continue

            def change(found: dict[str, Any], mode: CalicoMode = mode) -> None:
                # As the operator writes it: nothing at all for None.
                found["spec"].pop("ipipMode", None)
                found["spec"].pop("vxlanMode", None)
                if mode is not CalicoMode.NEVER:
                    found["spec"].update(mode.pool_fields)

            self._store.mutate(
                "ippools.crd.projectcalico.org", pool["metadata"]["name"], None, change
            )

    def _annotate(self) -> None:
        pools = self._store.list("ippools.crd.projectcalico.org")
        families = {_mode(pool).family for pool in pools if not pool["spec"].get("disabled")}
        for index, node in enumerate(self._store.list("nodes")):
            annotations = {
                name: f"10.244.{index}.1"
                for family, name in _ANNOTATIONS.items()
                if family in families and family not in self._deaf
            }

            def change(found: dict[str, Any], wanted: dict[str, str] = annotations) -> None:
                own = found["metadata"]["annotations"]
                for name in _ANNOTATIONS.values():
                    own.pop(name, None)
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


def _mode(pool: dict[str, Any]) -> CalicoMode:
    return CalicoMode.of_pool(pool["spec"].get("ipipMode"), pool["spec"].get("vxlanMode"))

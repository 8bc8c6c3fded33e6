"""kube-apiserver's word on the Calico API server behind it: whether the APIService is available."""

from __future__ import annotations

from pytest_k8snet.lab.api.definitions import API_SERVICES, availability
from pytest_k8snet.lab.api.faults import calico_api_server_is_down
from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.resources import CALICO_V3
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.kube.reconcile import reconcile_on_change


class Aggregation:
    """Keeps the condition of the aggregated API group; there is one in API shape B only.

    Args:
        store: the cluster's objects.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self) -> None:
        """Follow the faults for ever."""
        await reconcile_on_change(self._store, ("configmaps",), self.reconcile)

    def reconcile(self) -> None:
        """Say whether the group's server answers now."""
        condition = availability(CALICO_V3, down=calico_api_server_is_down(self._store))

        def change(service: Object) -> None:
            (before,) = service["status"]["conditions"]
            if before["status"] != condition["status"]:
                service["status"]["conditions"] = [condition]

        self._store.mutate(API_SERVICES, f"v3.{CALICO_V3}", None, change)

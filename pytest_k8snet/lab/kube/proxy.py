"""kube-proxy of all nodes, and the speaker of load balancer addresses: services to rulesets."""

from __future__ import annotations

from pytest_k8snet.lab.api.objects import dig, name_of, namespace_of
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.dataplane import service_proxy
from pytest_k8snet.lab.kube.reconcile import reconcile_on_change
from pytest_k8snet.lab.spec import LabSpec

_POOLS = "ippools.crd.projectcalico.org"


class ServiceProxy:
    """Keeps the nodes' rulesets up to date.

    Args:
        store: the cluster's objects.
        spec: the nodes.
    """

    def __init__(self, store: Store, spec: LabSpec) -> None:
        self._store = store
        self._spec = spec
        self._ruleset = ""
        self._announced: list[str] = []

    async def run(self) -> None:
        """Reconcile for ever."""
        await reconcile_on_change(self._store, ("services", "endpoints", _POOLS), self._program)

    async def _program(self) -> None:
        endpoints = {
            f"{namespace_of(one)}/{name_of(one)}": one for one in self._store.list("endpoints")
        }
        ports = service_proxy.service_ports(self._store.list("services"), endpoints)
        pools = [str(dig(pool, "spec.cidr")) for pool in self._store.list(_POOLS)]
        ruleset = service_proxy.ruleset(ports, pools)
        if ruleset != self._ruleset:
            await service_proxy.apply(self._spec, ruleset)
            self._ruleset = ruleset
        addresses = service_proxy.external_addresses(ports)
        if addresses != self._announced:
            stale = [address for address in self._announced if address not in addresses]
            await service_proxy.announce(self._spec, addresses, stale)
            self._announced = addresses

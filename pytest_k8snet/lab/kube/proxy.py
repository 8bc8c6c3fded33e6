"""kube-proxy of all nodes, and the speaker of load balancer addresses: services to rulesets."""

from __future__ import annotations

from ipaddress import collapse_addresses

from pytest_k8snet.lab.api.objects import name_of, namespace_of
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.pools import POOLS, read_pools
from pytest_k8snet.lab.dataplane import service_proxy
from pytest_k8snet.lab.kube.reconcile import reconcile_on_change
from pytest_k8snet.lab.spec import LabSpec


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
        await reconcile_on_change(self._store, ("services", "endpoints", POOLS), self._program)

    async def _program(self) -> None:
        endpoints = {
            f"{namespace_of(one)}/{name_of(one)}": one for one in self._store.list("endpoints")
        }
        ports = service_proxy.service_ports(self._store.list("services"), endpoints)
        pools = [pool.cidr for pool in read_pools(self._store.list(POOLS))]
        # nft takes no set whose intervals overlap.
        ruleset = service_proxy.ruleset(ports, list(map(str, collapse_addresses(pools))))
        if ruleset != self._ruleset:
            await service_proxy.apply(self._spec, ruleset)
            self._ruleset = ruleset
        addresses = service_proxy.external_addresses(ports)
        if addresses != self._announced:
            stale = [address for address in self._announced if address not in addresses]
            await service_proxy.announce(self._spec, addresses, stale)
            self._announced = addresses

"""kube-proxy and the load balancer's speaker of every node, as one controller."""

from __future__ import annotations

import asyncio

from pytest_k8snet.lab.api.objects import name_of, namespace_of
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.dataplane import service_proxy
from pytest_k8snet.lab.kube.reconcile import reconcile_on_change
from pytest_k8snet.lab.spec import LabSpec


class KubeProxy:
    """Keeps the nodes' service rules as services and endpoints say.

    Args:
        store: the cluster's objects.
        spec: the nodes.
    """

    def __init__(self, store: Store, spec: LabSpec) -> None:
        self._store = store
        self._spec = spec
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Reconcile for ever."""
        resources = ("services", "endpoints", "ippools.crd.projectcalico.org")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reconcile_on_change(self._store, resources, self._wanted.set))
            tasks.create_task(self._program())

    async def _program(self) -> None:
        loaded = ""
        announced: list[str] = []
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            ports = service_proxy.service_ports(
                self._store.list("services"),
                {f"{namespace_of(one)}/{name_of(one)}": one
                 for one in self._store.list("endpoints")},
            )  # fmt: skip
            text = service_proxy.ruleset(ports, self._pod_networks())
            if text != loaded:
                await service_proxy.apply(self._spec, text)
                loaded = text
            addresses = service_proxy.external_addresses(ports)
            if addresses != announced:
                stale = [address for address in announced if address not in addresses]
                await service_proxy.announce(self._spec, addresses, stale)
                announced = addresses

    def _pod_networks(self) -> list[str]:
        pools = self._store.list("ippools.crd.projectcalico.org")
        return sorted(pool["spec"]["cidr"] for pool in pools if ":" not in pool["spec"]["cidr"])

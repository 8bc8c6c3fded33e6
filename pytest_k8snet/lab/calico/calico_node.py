"""calico-node of every node, as one controller: datastore in, tunnel addresses and kernels out.

Event driven: every change of a pool, node, block or fault causes one look at everything. What a
node holds already is not programmed again, unless it may have lost it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import replace

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.api.faults import NAME as FAULTS_NAME
from pytest_k8snet.lab.api.faults import asked_for
from pytest_k8snet.lab.api.objects import Object, dig, name_of
from pytest_k8snet.lab.api.status import Cause, invalid
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.convergence import Convergence, Programme
from pytest_k8snet.lab.calico.faults import Faults
from pytest_k8snet.lab.calico.ipam import BLOCKS, Ipam
from pytest_k8snet.lab.calico.pools import POOLS, IPPool, read_pools
from pytest_k8snet.lab.calico.tunnels import Tunnels
from pytest_k8snet.lab.dataplane import bypass, felix, ipip, kernel, rules
from pytest_k8snet.lab.dataplane.datastore import Behaviour, Datastore, Host
from pytest_k8snet.lab.dataplane.ipip import Ipip
from pytest_k8snet.lab.dataplane.netns import DataplaneError
from pytest_k8snet.lab.dataplane.state import IPIP_DEVICE, NodeState
from pytest_k8snet.lab.dataplane.underlay import ROUTER, node_namespace, router_interface
from pytest_k8snet.lab.log import explain, log
from pytest_k8snet.lab.spec import LabSpec

#: How often everything is compared with the kernels though nothing changed, in seconds.
ROUTE_REFRESH_SECONDS = 90.0
_RETRY_SECONDS = 1.0

#: Both hold a ``programClusterRoutes``, which says who programs which routes.
_FELIX_CONFIGURATIONS = "felixconfigurations.crd.projectcalico.org"
_BGP_CONFIGURATIONS = "bgpconfigurations.crd.projectcalico.org"


class CalicoNode:
    """Keeps tunnel addresses, annotations and kernels as pools, nodes and blocks say.

    Args:
        store: the cluster's objects.
        spec: the lab.
        ipam: gives the tunnel addresses.

    Attributes:
        ipip: how this machine does IPIP; known after ``prepare``.
    """

    ipip: Ipip

    def __init__(self, store: Store, spec: LabSpec, *, ipam: Ipam) -> None:
        self._store = store
        self._spec = spec
        self._ipam = ipam
        self._behaviour = Behaviour.of(spec.calico.version, spec.calico.backend)
        self._tunnels = Tunnels(store, ipam)
        self._changed = asyncio.Event()
        self._convergence = Convergence()
        self._loaded: dict[str, Programme] = {}
        # Namespaces that may hold something else than was last loaded.
        self._dirty: set[str] = set()
        self._pod_mtu_bytes: int | None = None

    async def prepare(self) -> None:
        """Find out what this machine can do; the underlay must be there.

        Raises:
            LabError: a pool wants IPIP, and this machine cannot do it.
        """
        self.ipip = await ipip.detect(self._spec, self._spec.ipip_driver)
        self.ipip.on_loss = self._mend_ipip
        if self.ipip.available:
            return
        if any(pool.routed().family == "ipip" for pool in self._pools()):
            raise LabError(
                "the lab cannot do IPIP on this machine, and its pool wants it",
                found=self.ipip.implementation,
            )
        self._store.admission[POOLS].append(self._refuse_ipip)

    async def make_ipip_ready(self) -> None:
        """Give the nodes their tunl0 before a pool wants it: then it costs no change of mode."""
        # Whoever needs it meets the same error, and tries again.
        with contextlib.suppress(DataplaneError):
            await self.ipip.ensure()

    def pod_mtu(self, node: str) -> int:
        """The MTU that new pods of a node get, in bytes."""
        wrong = self._faults().wrong_mtu_bytes
        if wrong is not None:
            return wrong
        if self._pod_mtu_bytes is None:
            pools = [pool.routed() for pool in self._pools()]
            return felix.pod_mtu(pools, self._spec.link_mtu_bytes)
        return self._pod_mtu_bytes

    async def run(self) -> None:
        """Reconcile after every change, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for resource in (POOLS, "nodes", BLOCKS, _FELIX_CONFIGURATIONS, _BGP_CONFIGURATIONS):
                tasks.create_task(self._follow(resource))
            tasks.create_task(self._follow_faults())
            tasks.create_task(self._reconcile_for_ever())

    async def _follow(self, resource: str) -> None:
        async for _ in self._store.watch(resource):
            self._changed.set()

    async def _follow_faults(self) -> None:
        async for _, found in self._store.watch("configmaps"):
            if name_of(found) == FAULTS_NAME:
                self._changed.set()

    async def _reconcile_for_ever(self) -> None:
        wait_seconds = ROUTE_REFRESH_SECONDS
        while True:
            try:
                await asyncio.wait_for(self._changed.wait(), wait_seconds)
            except TimeoutError:
                if wait_seconds == ROUTE_REFRESH_SECONDS:
                    self._dirty.update(self._loaded)
            # Let those who are in the middle of several writes finish them.
            await asyncio.sleep(0)
            self._changed.clear()
            try:
                wait_seconds = min(ROUTE_REFRESH_SECONDS, await self.reconcile())
            except Exception as error:
                # A namespace, a device or an object that has just gone: no reason to end the lab.
                # Felix tries again after a second.
                log(f"calico-node: {explain(error)}")
                wait_seconds = _RETRY_SECONDS

    async def reconcile(self) -> float:
        """Make everything as it should be now.

        Returns:
            After how many seconds a fault lets the next node follow; infinite if all are there.

        Raises:
            DataplaneError: a kernel refused something; the other nodes are done.
        """
        pools, faults = self._pools(), self._faults()
        hosts = self._tunnels.hosts(self._spec.nodes, pools)
        self._ipam.drop_outside(pools)
        data = self._datastore(pools, hosts)
        if "ipip" in data.families:
            await self.ipip.ensure()
        clock = asyncio.get_running_loop().time
        wanted = self._programmes(data, faults)
        moment = self._convergence.at(
            clock(), wanted, self._loaded, families=data.families, faults=faults
        )
        if not moment.restarting:
            self._pod_mtu_bytes = felix.pod_mtu(data.pools, self._spec.link_mtu_bytes)
        done = await asyncio.gather(
            *(self._program(name, programme) for name, programme in moment.programmes.items()),
            return_exceptions=True,
        )
        for result in done:
            if isinstance(result, BaseException):
                raise result
        return moment.next_seconds - clock()

    def _mend_ipip(self, reason: str) -> None:
        log(f"calico-node: every node has lost its {IPIP_DEVICE}: {reason}")
        self._dirty.update(self._loaded)
        self._changed.set()

    def _pools(self) -> list[IPPool]:
        return read_pools(self._store.list(POOLS))

    def _faults(self) -> Faults:
        return Faults.read(asked_for(self._store))

    def _cluster_routes(self, resource: str) -> str:
        found = [one for one in self._store.list(resource) if name_of(one) == "default"]
        return str(dig(found[0], "spec.programClusterRoutes", "")) if found else ""

    def _datastore(self, pools: list[IPPool], hosts: list[Host]) -> Datastore:
        subnets = self._spec.subnets()
        return Datastore(
            hosts=hosts,
            pools=[pool.routed() for pool in pools],
            blocks=self._ipam.blocks(),
            routers={subnet: self._spec.router_address(subnet).ip for subnet in subnets},
            behaviour=replace(
                self._behaviour,
                felix_cluster_routes=self._cluster_routes(_FELIX_CONFIGURATIONS),
                bird_cluster_routes=self._cluster_routes(_BGP_CONFIGURATIONS),
            ),
            link_mtu_bytes=self._spec.link_mtu_bytes,
        )

    def _programmes(self, data: Datastore, faults: Faults) -> dict[str, Programme]:
        """What each namespace should get, faults included that do not concern time."""
        spec, text = self._spec, rules.ruleset(data)
        interfaces = {node.address.network: router_interface(spec, node) for node in spec.nodes}
        found = {ROUTER: Programme(state=NodeState(routes=felix.router_routes(data, interfaces)))}
        for host in data.hosts:
            around = host.name in faults.path_not_taken
            found[node_namespace(host.name)] = Programme(
                state=faults.spoil(felix.node_state(data, host.name), host.name, data),
                rules=text,
                bypass=tuple(bypass.routes_around(data, host.name)) if around else (),
            )
        return found

    async def _program(self, namespace: str, wanted: Programme) -> None:
        loaded, unknown = self._loaded.get(namespace), namespace in self._dirty
        if loaded == wanted and not unknown:
            return
        if loaded is None:
            # The lab has just made it.
            loaded = Programme()
        # At once: what is lost while it is being programmed has to be seen the next time.
        self._dirty.discard(namespace)
        errors: list[DataplaneError] = []

        async def attempt(step: Awaitable[object]) -> None:
            try:
                await step
            except DataplaneError as error:
                errors.append(error)

        try:
            await attempt(kernel.apply(namespace, wanted.state))
            if wanted.rules and (unknown or wanted.rules != loaded.rules):
                await attempt(rules.apply(namespace, wanted.rules))
            if unknown or wanted.bypass != loaded.bypass:
                await attempt(bypass.apply(namespace, list(wanted.bypass)))
            if errors:
                raise errors[0]
        except BaseException:
            self._dirty.add(namespace)
            raise
        self._loaded[namespace] = wanted

    def _refuse_ipip(self, new: Object, old: Object | None) -> None:
        if IPPool.read(new).routed().family != "ipip":
            return
        row = self._store.resource(POOLS)
        why = f"Forbidden: this lab cannot do IPIP: {self.ipip.implementation}"
        raise invalid(row, name_of(new), [Cause("FieldValueForbidden", "spec.ipipMode", why)])

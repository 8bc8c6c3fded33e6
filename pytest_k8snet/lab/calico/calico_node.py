"""calico-node of every node, as one controller: datastore in, tunnel addresses and kernels out.

Event driven: every change of a pool, node, block or fault causes one look at everything. What a
node holds already is not programmed again.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass, replace

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.api.faults import NAME as FAULTS_NAME
from pytest_k8snet.lab.api.faults import asked_for
from pytest_k8snet.lab.api.objects import Object, dig, name_of
from pytest_k8snet.lab.api.status import Cause, StatusError, invalid
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.faults import Faults, during_restart
from pytest_k8snet.lab.calico.ipam import BLOCKS, Ipam
from pytest_k8snet.lab.calico.pools import POOLS, IPPool, read_pools
from pytest_k8snet.lab.calico.tunnels import Tunnels
from pytest_k8snet.lab.dataplane import bypass, felix, ipip, kernel, rules
from pytest_k8snet.lab.dataplane.datastore import Behaviour, Datastore, Family, Host
from pytest_k8snet.lab.dataplane.ipip import Ipip
from pytest_k8snet.lab.dataplane.netns import DataplaneError
from pytest_k8snet.lab.dataplane.state import NodeState, Route
from pytest_k8snet.lab.dataplane.underlay import ROUTER, node_namespace, router_interface
from pytest_k8snet.lab.spec import LabSpec

#: How often everything is compared with the kernels though nothing changed, in seconds.
ROUTE_REFRESH_SECONDS = 90.0
_RETRY_SECONDS = 1.0

#: Both hold a ``programClusterRoutes``, which says who programs which routes.
_FELIX_CONFIGURATIONS = "felixconfigurations.crd.projectcalico.org"
_BGP_CONFIGURATIONS = "bgpconfigurations.crd.projectcalico.org"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Programme:
    """All that one namespace gets."""

    state: NodeState
    rules: str = ""
    bypass: tuple[Route, ...] = ()


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
        self._loaded: dict[str, _Programme] = {}
        self._families: set[Family] | None = None
        self._pod_mtu_bytes: int | None = None

    async def prepare(self) -> None:
        """Find out what this machine can do; the underlay must be there.

        Raises:
            LabError: a pool wants IPIP, and this machine cannot do it.
        """
        self.ipip = await ipip.detect(self._spec, self._spec.ipip_driver)
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
                self._loaded.clear()
            # Let those who are in the middle of several writes finish them.
            await asyncio.sleep(0)
            self._changed.clear()
            try:
                await self.reconcile()
                wait_seconds = ROUTE_REFRESH_SECONDS
            except (DataplaneError, StatusError) as error:
                # A namespace or an object that has just gone; Felix tries again after a second.
                print(f"calico-node: {error}", file=sys.stderr)  # noqa: T201 -- the lab's log
                wait_seconds = _RETRY_SECONDS

    async def reconcile(self) -> None:
        """Make everything as it should be now.

        Raises:
            DataplaneError: a kernel refused something; the other nodes are done.
        """
        pools, faults = self._pools(), self._faults()
        hosts = [self._tunnels.host(node, pools) for node in self._spec.nodes]
        self._ipam.drop_outside(pools)
        data = self._datastore(pools, hosts)
        if "ipip" in data.families:
            await self.ipip.ensure()
        wanted = self._programmes(data, faults)
        restarts = self._families is not None and self._families != data.families
        if restarts and faults.felix_restart_gap_seconds:
            await self._restart(wanted, faults)
        self._pod_mtu_bytes = felix.pod_mtu(data.pools, self._spec.link_mtu_bytes)
        self._families = data.families
        delays = faults.convergence_delays(list(wanted))
        done = await asyncio.gather(
            *(self._program(name, programme, delays[name]) for name, programme in wanted.items()),
            return_exceptions=True,
        )
        for result in done:
            if isinstance(result, BaseException):
                raise result

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

    def _programmes(self, data: Datastore, faults: Faults) -> dict[str, _Programme]:
        """What each namespace should get, faults included."""
        spec, text = self._spec, rules.ruleset(data)
        interfaces = {node.address.network: router_interface(spec, node) for node in spec.nodes}
        found = {ROUTER: _Programme(state=NodeState(routes=felix.router_routes(data, interfaces)))}
        for node in spec.nodes:
            namespace = node_namespace(node.name)
            around = node.name in faults.path_not_taken
            programme = _Programme(
                state=faults.spoil(felix.node_state(data, node.name), node.name, data),
                rules=text,
                bypass=tuple(bypass.routes_around(data, node.name)) if around else (),
            )
            stale = self._loaded.get(namespace) if node.name in faults.stale_route_on else None
            found[namespace] = stale or programme
        return found

    async def _restart(self, wanted: dict[str, _Programme], faults: Faults) -> None:
        """Leave the nodes without the routes that are to change, for a while."""
        for namespace, programme in wanted.items():
            old = self._loaded.get(namespace)
            if old is not None:
                state = during_restart(old.state, programme.state)
                await self._program(namespace, _Programme(state=state, rules=old.rules), 0)
        await asyncio.sleep(faults.felix_restart_gap_seconds)

    async def _program(self, namespace: str, wanted: _Programme, delay_seconds: float) -> None:
        loaded = self._loaded.get(namespace)
        if loaded == wanted:
            return
        await asyncio.sleep(delay_seconds)
        await kernel.apply(namespace, wanted.state)
        if wanted.rules and (loaded is None or loaded.rules != wanted.rules):
            await rules.apply(namespace, wanted.rules)
        if wanted.bypass != (loaded.bypass if loaded else ()):
            await bypass.apply(namespace, list(wanted.bypass))
        self._loaded[namespace] = wanted

    def _refuse_ipip(self, new: Object, old: Object | None) -> None:
        if IPPool.read(new).routed().family != "ipip":
            return
        row = self._store.resource(POOLS)
        why = f"Forbidden: this lab cannot do IPIP: {self.ipip.implementation}"
        raise invalid(row, name_of(new), [Cause("FieldValueForbidden", "spec.ipipMode", why)])

"""calico-node of every node, as one controller: datastore in, tunnel addresses and kernels out.

Event driven: every change of a pool, node, block or fault causes one look at everything. What a
node holds already is not programmed again, unless it may have lost it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.api.fieldmanager import ACTING, OF_CALICO
from pytest_k8snet.lab.api.objects import Object, dig, mapping, name_of
from pytest_k8snet.lab.api.status import Cause, invalid
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.ipam import BLOCKS, Ipam, NoAddressError
from pytest_k8snet.lab.calico.pools import POOLS, IPPool, read_pools, tunnel_pools
from pytest_k8snet.lab.dataplane import felix, ipip, kernel, nat
from pytest_k8snet.lab.dataplane.felix import (
    IPIP_DEVICE,
    Behaviour,
    Datastore,
    Family,
    Host,
    NodeState,
    Route,
)
from pytest_k8snet.lab.dataplane.ipip import Ipip
from pytest_k8snet.lab.dataplane.kernel import Overlay
from pytest_k8snet.lab.dataplane.netns import DataplaneError
from pytest_k8snet.lab.dataplane.underlay import ROUTER, UNDERLAY, node_namespace, router_interface
from pytest_k8snet.lab.faults import CalicoFaults, during_restart
from pytest_k8snet.lab.reconcile import Controller, log
from pytest_k8snet.lab.spec import TIMINGS, LabSpec, NodeSpec, Timing

#: How often everything is compared with the kernels though nothing changed, in seconds.
ROUTE_REFRESH_SECONDS = 90.0

#: Both hold a ``programClusterRoutes``, which says who programs which routes.
_FELIX_CONFIGURATIONS = "felixconfigurations.crd.projectcalico.org"
_BGP_CONFIGURATIONS = "bgpconfigurations.crd.projectcalico.org"


class CalicoNode(Controller):
    """Keeps tunnel addresses, annotations and kernels as pools, nodes and blocks say.

    Args:
        store: the cluster's objects.
        spec: the lab.
        ipam: gives the tunnel addresses.

    Attributes:
        ipip: how this machine does IPIP; known after ``prepare``.
    """

    manager = OF_CALICO
    watched = (POOLS, "nodes", BLOCKS, _FELIX_CONFIGURATIONS, _BGP_CONFIGURATIONS, "configmaps")

    ipip: Ipip

    def __init__(self, store: Store, spec: LabSpec, *, ipam: Ipam) -> None:
        super().__init__(store)
        self._spec = spec
        self._ipam = ipam
        self._behaviour = Behaviour.of(spec.calico.version, spec.calico.backend)
        self._tunnels = Tunnels(store, ipam)
        self._compare_at_seconds = 0.0
        self._convergence = Convergence(TIMINGS[spec.timing])
        self._loaded: dict[str, Programme] = {}
        # Namespaces that may hold something else than was last loaded.
        self._dirty: set[str] = set()
        self._pod_mtu_bytes: int | None = None
        #: What the bridges between the nodes were last told to drop.
        self._fabric = ""

    async def prepare(self) -> None:
        """Find out what this machine can do; the underlay must be there.

        Raises:
            LabError: a pool wants IPIP, and this machine cannot do it.
        """
        ACTING.set(self.manager)
        for node in self._spec.nodes:
            kernel.show_node(node.name)
        self.ipip = await ipip.detect(self._spec, self._spec.ipip_driver)
        self.ipip.on_loss = self._mend_ipip
        if self.ipip.available:
            return
        if any(pool.family == "ipip" for pool in self._pools()):
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
        wrong = CalicoFaults.asked_for(self._store).wrong_mtu_bytes
        if wrong is not None:
            return wrong
        if self._pod_mtu_bytes is None:
            return felix.pod_mtu(self._pools(), self._spec.link_mtu_bytes)
        return self._pod_mtu_bytes

    async def reconcile(self) -> float:
        """Make everything as it should be now.

        Returns:
            After how many seconds a fault lets the next node follow, or all is to be compared
            with the kernels once more.

        Raises:
            DataplaneError: a kernel refused something; the other nodes are done.
        """
        clock = asyncio.get_running_loop().time
        if clock() >= self._compare_at_seconds:
            self._compare_at_seconds = clock() + ROUTE_REFRESH_SECONDS
            self._dirty.update(self._loaded)
        pools, faults = self._pools(), CalicoFaults.asked_for(self._store)
        hosts = self._tunnels.hosts(self._spec.nodes, pools)
        self._ipam.drop_outside(pools)
        data = self._datastore(pools, hosts)
        if "ipip" in data.families:
            await self.ipip.ensure()
        wanted = self._programmes(data, faults)
        moment = self._convergence.at(
            clock(), wanted, self._loaded, tunnels=data.tunnels, faults=faults
        )
        if not moment.restarting:
            self._pod_mtu_bytes = felix.pod_mtu(data.pools, self._spec.link_mtu_bytes)
        await self._spoil_fabric(faults, data)
        done = await asyncio.gather(
            *(self._program(name, programme) for name, programme in moment.programmes.items()),
            return_exceptions=True,
        )
        for result in done:
            if isinstance(result, BaseException):
                raise result
        return min(moment.next_seconds, self._compare_at_seconds) - clock()

    def _mend_ipip(self, reason: str) -> None:
        log(f"calico-node: every node has lost its {IPIP_DEVICE}: {reason}")
        self._dirty.update(self._loaded)
        self._changed.set()

    def _pools(self) -> list[IPPool]:
        return read_pools(self._store.list(POOLS))

    def _configuration(self, resource: str) -> Object:
        """The spec of the object that holds for all nodes."""
        found = [one for one in self._store.list(resource) if name_of(one) == "default"]
        return dict(dig(found[0], "spec", {})) if found else {}

    def _datastore(self, pools: list[IPPool], hosts: list[Host]) -> Datastore:
        subnets = self._spec.subnets()
        felix_spec = self._configuration(_FELIX_CONFIGURATIONS)
        bgp_spec = self._configuration(_BGP_CONFIGURATIONS)
        return Datastore(
            hosts=hosts,
            pools=pools,
            blocks=self._ipam.blocks(),
            routers={subnet: self._spec.router_address(subnet).ip for subnet in subnets},
            behaviour=replace(
                self._behaviour,
                felix_cluster_routes=felix_spec.get("programClusterRoutes", ""),
                bird_cluster_routes=bgp_spec.get("programClusterRoutes", ""),
                vxlan_vni=felix_spec.get("vxlanVNI") or felix.VXLAN_VNI,
                vxlan_port=felix_spec.get("vxlanPort") or felix.VXLAN_PORT,
                nat_exclusions=felix_spec.get("natOutgoingExclusions", ""),
            ),
            link_mtu_bytes=self._spec.link_mtu_bytes,
        )

    def _programmes(self, data: Datastore, faults: CalicoFaults) -> dict[str, Programme]:
        """What each namespace should get, faults included that do not concern time."""
        spec, text = self._spec, nat.calico_rules(data)
        overlaid = faults.foreign_overlay_on
        interfaces = {node.address.network: router_interface(spec, node) for node in spec.nodes}
        found = {ROUTER: Programme(state=NodeState(routes=felix.router_routes(data, interfaces)))}
        for host in data.hosts:
            around = host.name in faults.path_not_taken
            found[node_namespace(host.name)] = Programme(
                lacking=faults.lacking(host.name),
                refused=faults.lacking(host.name) & data.families,
                state=faults.spoil(felix.node_state(data, host.name), host.name, data),
                rules=text,
                bypass=tuple(kernel.routes_around(data, host.name)) if around else (),
                overlay=kernel.overlay(data, host.name, carries=host.name in overlaid)
                if overlaid
                else Overlay(),
            )
        return found

    async def _spoil_fabric(self, faults: CalicoFaults, data: Datastore) -> None:
        # Never loaded where nobody has asked: a kernel may have no tables for bridges.
        rules = nat.fabric_rules(faults.fabric_drops, data)
        if rules != self._fabric and (faults.fabric_drops or self._fabric):
            await nat.load(UNDERLAY, rules)
            self._fabric = rules

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
            if (wanted.lacking, wanted.refused) != (loaded.lacking, loaded.refused):
                node = namespace.removeprefix(node_namespace(""))
                step = kernel.apply_drivers(node, wanted.lacking, wanted.refused)
                await attempt(step)
            await attempt(kernel.apply(namespace, wanted.state))
            if wanted.rules and (unknown or wanted.rules != loaded.rules):
                await attempt(nat.load(namespace, wanted.rules))
            if unknown or wanted.bypass != loaded.bypass:
                await attempt(kernel.apply_bypass(namespace, list(wanted.bypass)))
            if unknown or wanted.overlay != loaded.overlay:
                await attempt(kernel.apply_overlay(namespace, wanted.overlay))
            if errors:
                raise errors[0]
        except BaseException:
            self._dirty.add(namespace)
            raise
        self._loaded[namespace] = wanted

    def _refuse_ipip(self, new: Object, old: Object | None) -> None:
        if IPPool.read(new).family != "ipip":
            return
        row = self._store.resource(POOLS)
        why = f"Forbidden: this lab cannot do IPIP: {self.ipip.implementation}"
        raise invalid(row, name_of(new), [Cause("FieldValueForbidden", "spec.ipipMode", why)])


# -- Who is late: what each namespace is to hold by now --------------------------------------------
#
# Delays count from when a namespace fell behind, and are asked anew each time: the end of a
# fault ends its delays, and who was late follows what is wanted by then.


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """All that one namespace gets.

    Attributes:
        lacking: the tunnels that its kernel has no driver for.
        refused: those among them that Felix would make.
    """

    state: NodeState = field(default_factory=NodeState)
    rules: str = ""
    bypass: tuple[Route, ...] = ()
    overlay: Overlay = field(default_factory=Overlay)
    lacking: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is to be so now.

    Attributes:
        programmes: what each namespace is to hold.
        restarting: Felix restarts, and does not know yet which tunnels there are.
        next_seconds: when the next namespace is to follow; infinite if none is late.
    """

    programmes: Mapping[str, Programme]
    restarting: bool
    next_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Restart:
    """Felix of all nodes restarts, and how long each namespace takes to each step.

    Attributes:
        began_seconds: when, on the clock.
        steps_seconds: until BIRD has followed, Felix has its devices, and then its routes.
    """

    began_seconds: float
    steps_seconds: Mapping[str, tuple[float, float, float]]

    def times(self, name: str, gap_seconds: float) -> list[float]:
        """When a namespace takes each step, if Felix is away for at least so long."""
        bird, device, routes = self.steps_seconds[name]
        felix = bird if name == ROUTER else max(device, gap_seconds)
        return [self.began_seconds + after for after in (bird, felix, felix + routes)]


class Convergence:
    """Remembers who is late since when, and what those keep that follow nothing.

    Args:
        timing: how long nodes take when all is well.
    """

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._tunnels: frozenset[object] | None = None
        self._restart: _Restart | None = None
        self._stale: dict[str, Programme] = {}
        self._behind: dict[str, tuple[Programme, float]] = {}

    def at(
        self,
        now_seconds: float,
        wanted: Mapping[str, Programme],
        loaded: Mapping[str, Programme],
        *,
        tunnels: Collection[object],
        faults: CalicoFaults,
    ) -> Moment:
        """What each namespace is to hold at a time.

        Args:
            now_seconds: the time, on any steady clock.
            wanted: what each namespace should hold in the end.
            loaded: what each was last programmed to hold; none at first, and nothing delays that.
            tunnels: what Felix, which restarts with another, has of tunnels.
            faults: that are asked for.
        """
        wanted = self._without_stale(wanted, loaded, faults)
        restart = self._restarting(now_seconds, frozenset(tunnels), list(wanted), faults)
        programmes, due = {}, []
        delays = faults.convergence_delays(list(wanted))
        for name, programme in wanted.items():
            held = loaded.get(name)
            if held is not None and restart is not None and name in restart.steps_seconds:
                times = restart.times(name, faults.felix_restart_gap_seconds)
                if now_seconds < times[-1]:
                    done = sum(now_seconds >= at for at in times)
                    programmes[name] = _partly(held, programme, done)
                    due.append(times[done])
                    continue
            behind = self._behind_until(name, programme, held, now_seconds, delays[name])
            programmes[name] = programme if held is None or now_seconds >= behind else held
            due += [behind] if now_seconds < behind else []
        return Moment(
            programmes=programmes,
            restarting=restart is not None,
            next_seconds=min(due, default=math.inf),
        )

    def _without_stale(
        self, wanted: Mapping[str, Programme], loaded: Mapping[str, Programme], faults: CalicoFaults
    ) -> dict[str, Programme]:
        """What is wanted, but of stale nodes what they had when they became so."""
        names = {node_namespace(node) for node in faults.stale_route_on}
        self._stale = {
            name: self._stale.get(name) or loaded.get(name, programme)
            for name, programme in wanted.items()
            if name in names
        }
        return {**wanted, **self._stale}

    def _restarting(
        self, now_seconds: float, tunnels: frozenset[object], names: list[str], faults: CalicoFaults
    ) -> _Restart | None:
        """The restart of Felix that is under way; it comes up with what is asked for by then."""
        if self._restart is None and self._tunnels not in (None, tunnels):
            steps = {name: self._steps(name) for name in names}
            self._restart = _Restart(began_seconds=now_seconds, steps_seconds=steps)
        self._tunnels = tunnels
        gap = faults.felix_restart_gap_seconds
        if self._restart is not None and all(
            now_seconds >= self._restart.times(name, gap)[-1]
            for name in self._restart.steps_seconds
        ):
            self._restart = None
        return self._restart

    def _steps(self, name: str) -> tuple[float, float, float]:
        timing = self._timing
        after = (0.0, 0.0) if name == ROUTER else timing.felix_routes
        bird, device = random.uniform(*timing.routes), random.uniform(*timing.device)
        return bird, device, random.uniform(*after)

    def _behind_until(
        self,
        name: str,
        programme: Programme,
        held: Programme | None,
        now_seconds: float,
        delay_seconds: float,
    ) -> float:
        """When a namespace that has fallen behind follows; the past if it has not."""
        if held is None or held == programme:
            self._behind.pop(name, None)
            return -math.inf
        known = self._behind.get(name)
        if known is None or known[0] is not held:
            late = now_seconds + random.uniform(*self._timing.routes)
            known = self._behind[name] = held, late
        return known[1] + delay_seconds


def _partly(held: Programme, wanted: Programme, steps: int) -> Programme:
    """What a namespace holds after so many steps of Felix's restart."""
    if steps == 0:
        return held
    state = during_restart(held.state, wanted.state)
    if steps > 1:
        state = replace(wanted.state, routes=state.routes)
    return Programme(state=state, rules=held.rules, lacking=wanted.lacking, refused=held.refused)


# -- Tunnel addresses, and the annotations that tell them ------------------------------------------

#: The node annotation with the node's address and the prefix of its subnet.
ADDRESS_ANNOTATION = "projectcalico.org/IPv4Address"

#: Per tunnel family: the node annotation with its address, the IPAM handle's beginning, and what
#: the block says of it.
TUNNELS: Mapping[Family, tuple[str, str, str]] = {
    "vxlan": (
        "projectcalico.org/IPv4VXLANTunnelAddr",
        "vxlan-tunnel-addr",
        "vxlanTunnelAddress",
    ),
    "ipip": ("projectcalico.org/IPv4IPIPTunnelAddr", "ipip-tunnel-addr", "ipipTunnelAddress"),
}


class Tunnels:
    """Gives every node an address in each tunnel family that has a pool, and takes it back.

    Args:
        store: the cluster's objects.
        ipam: where the addresses come from.
    """

    def __init__(self, store: Store, ipam: Ipam) -> None:
        self._store = store
        self._ipam = ipam

    def hosts(self, nodes: Sequence[NodeSpec], pools: Sequence[IPPool]) -> list[Host]:
        """The nodes with their tunnel addresses as they should be now; writes their annotations.

        A node without an object is left out: nobody knows it.
        """
        present = {name_of(found): found for found in self._store.list("nodes")}
        return [
            self._host(node, present[node.name], pools) for node in nodes if node.name in present
        ]

    def _host(self, node: NodeSpec, found: Object, pools: Sequence[IPPool]) -> Host:
        labels: dict[str, str] = dig(found, "metadata.labels", {})
        addresses = {
            family: self._address(
                tunnel_pools(pools, family, labels), f"{handle}-{node.name}", node, kind
            )
            for family, (_, handle, kind) in TUNNELS.items()
        }
        wanted = {ADDRESS_ANNOTATION: str(node.calico_address)}
        for family, (annotation, *_) in TUNNELS.items():
            address = addresses[family]
            wanted[annotation] = "" if address is None else str(address)
        self._annotate(found, wanted)
        return Host(
            name=node.name,
            address=node.calico_address,
            device=node.device,
            wire=node.wire,
            link=node.address,
            vxlan_tunnel=addresses["vxlan"],
            ipip_tunnel=addresses["ipip"],
        )

    def _address(
        self, pools: list[IPPool], handle: str, node: NodeSpec, kind: str
    ) -> IPv4Address | None:
        """The address that the handle has, if its pool still serves; else a new one, or none."""
        for present in self._ipam.addresses(handle):
            if any(present in pool.cidr for pool in pools):
                return present
        self._ipam.release(handle)
        try:
            told = {"type": kind}
            return self._ipam.assign(pools, node.name, handle, told) if pools else None
        except NoAddressError:
            return None

    def _annotate(self, node: Object, wanted: Mapping[str, str]) -> None:
        """Write annotations where they differ; an empty value means none."""
        annotations = mapping(mapping(node, "metadata"), "annotations")
        if all(annotations.get(key, "") == value for key, value in wanted.items()):
            return

        def change(found: Object) -> None:
            annotations = mapping(mapping(found, "metadata"), "annotations")
            for key, value in wanted.items():
                if value:
                    annotations[key] = value
                else:
                    annotations.pop(key, None)

        self._store.mutate("nodes", node["metadata"]["name"], None, change)

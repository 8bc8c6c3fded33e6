"""calico-node of every node, as one controller: datastore in, tunnel addresses and kernels out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from pytest_k8snet.lab.api.objects import dig
from pytest_k8snet.lab.api.store import StatusError, Store
from pytest_k8snet.lab.calico.cni import POOLS
from pytest_k8snet.lab.calico.ipam import BLOCKS, Ipam, NoAddressError
from pytest_k8snet.lab.calico.pools import IPPool, read_pools, tunnel_pools
from pytest_k8snet.lab.dataplane import felix, ipip, kernel, masquerade
from pytest_k8snet.lab.dataplane.datastore import Behaviour, Datastore, Family, Host
from pytest_k8snet.lab.dataplane.ipip import Ipip
from pytest_k8snet.lab.dataplane.state import NodeState
from pytest_k8snet.lab.dataplane.underlay import ROUTER, node_namespace, router_interface
from pytest_k8snet.lab.spec import CalicoSpec, LabSpec, NodeSpec

ADDRESS_ANNOTATION = "projectcalico.org/IPv4Address"
_TUNNELS: Mapping[Family, tuple[str, str]] = {
    "vxlan": ("projectcalico.org/IPv4VXLANTunnelAddr", "vxlan-tunnel-addr"),
    "ipip": ("projectcalico.org/IPv4IPIPTunnelAddr", "ipip-tunnel-addr"),
}


def behaviour(calico: CalicoSpec) -> Behaviour:
    """How the version that the lab plays programs routes."""
    match = re.match(r"v?(\d+)\.(\d+)", calico.version)
    version = (int(match[1]), int(match[2])) if match else (3, 31)
    return Behaviour(version=version, backend=calico.backend)


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
        self._behaviour = behaviour(spec.calico)
        self._changed = asyncio.Event()
        self._loaded: dict[str, tuple[NodeState, str]] = {}

    async def prepare(self) -> None:
        """Find out what this machine can do; the underlay must be there."""
        self.ipip = await ipip.detect(self._spec)

    async def run(self) -> None:
        """Reconcile after every change, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for resource in (POOLS, "nodes", BLOCKS):
                tasks.create_task(self._follow(resource))
            tasks.create_task(self._reconcile_for_ever())

    async def _follow(self, resource: str) -> None:
        async for _ in self._store.watch(resource):
            self._changed.set()

    async def _reconcile_for_ever(self) -> None:
        while True:
            await self._changed.wait()
            # Let those who are in the middle of several writes finish them.
            await asyncio.sleep(0)
            self._changed.clear()
            await self.reconcile()

    def pod_mtu(self, node: str) -> int:
        """The MTU that new pods of a node get, in bytes."""
        pools = [pool.routed() for pool in self._pools()]
        return felix.pod_mtu(pools, self._spec.link_mtu_bytes)

    def _pools(self) -> list[IPPool]:
        return read_pools(self._store.list(POOLS))

    async def reconcile(self) -> None:
        """Make everything as it should be now."""
        pools = self._pools()
        self._ipam.drop_outside(pools)
        hosts = [self._host(node, pools) for node in self._spec.nodes]
        if any(pool.routed().family == "ipip" for pool in pools):
            await self.ipip.ensure()
        data = self._datastore(pools, hosts)
        nat = masquerade.ruleset(data.pools)
        interfaces = {
            node.address.network: router_interface(self._spec, node) for node in self._spec.nodes
        }
        router = NodeState(routes=felix.router_routes(data, interfaces))
        await asyncio.gather(
            self._program(ROUTER, router, ""),
            *(
                self._program(node_namespace(node.name), felix.node_state(data, node.name), nat)
                for node in self._spec.nodes
            ),
        )

    def _datastore(self, pools: list[IPPool], hosts: list[Host]) -> Datastore:
        routed = [pool.routed() for pool in pools]
        if not self.ipip.available:
            routed = [pool for pool in routed if pool.family != "ipip"]
        return Datastore(
            hosts=hosts,
            pools=routed,
            blocks=self._ipam.blocks(),
            routers={
                subnet: self._spec.router_address(subnet).ip for subnet in self._spec.subnets()
            },
            behaviour=self._behaviour,
            link_mtu_bytes=self._spec.link_mtu_bytes,
        )

    async def _program(self, namespace: str, state: NodeState, nat: str) -> None:
        if self._loaded.get(namespace) == (state, nat):
            return
        await kernel.apply(namespace, state)
        if nat and self._loaded.get(namespace, (None, ""))[1] != nat:
            await masquerade.apply(namespace, nat)
        self._loaded[namespace] = (state, nat)

    def _host(self, node: NodeSpec, pools: list[IPPool]) -> Host:
        """A node with its tunnel addresses; writes its annotations."""
        found = self._store.get("nodes", node.name)
        annotations: dict[str, str] = dig(found, "metadata.annotations", {}) or {}
        labels = dig(found, "metadata.labels", {}) or {}
        wanted: dict[str, str | None] = {ADDRESS_ANNOTATION: str(node.address)}
        tunnels: dict[Family, IPv4Address | None] = {}
        for family, (annotation, handle) in _TUNNELS.items():
            present = annotations.get(annotation)
            address = self._tunnel_address(
                tunnel_pools(pools, family, labels), present, node.name, f"{handle}-{node.name}"
            )
            tunnels[family] = address
            wanted[annotation] = None if address is None else str(address)
        if any(annotations.get(key) != value for key, value in wanted.items()):
            self._annotate(node.name, wanted)
        return Host(
            name=node.name,
            address=node.address,
            vxlan_tunnel=tunnels["vxlan"],
            ipip_tunnel=tunnels["ipip"],
        )

    def _tunnel_address(
        self, pools: list[IPPool], present: str | None, node: str, handle: str
    ) -> IPv4Address | None:
        if present is not None and any(IPv4Address(present) in pool.cidr for pool in pools):
            return IPv4Address(present)
        self._ipam.release(handle)
        try:
            return self._ipam.assign(pools, node, handle) if pools else None
        except NoAddressError:
            return None

    def _annotate(self, node: str, wanted: Mapping[str, str | None]) -> None:
        def change(found: dict[str, Any]) -> None:
            annotations = found["metadata"].setdefault("annotations", {})
            for key, value in wanted.items():
                if value is None:
                    annotations.pop(key, None)
                else:
                    annotations[key] = value

        try:
            self._store.mutate("nodes", node, None, change)
        except StatusError as exc:
            if exc.code != 404:
                raise

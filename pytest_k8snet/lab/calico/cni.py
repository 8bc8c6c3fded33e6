"""The CNI plugin: an address from the right pool, and the cable to the node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.lab.api.objects import dig, name_of, namespace_of
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.ipam import Ipam, NoAddressError
from pytest_k8snet.lab.calico.pools import (
    POOLS,
    POOLS_ANNOTATION,
    PoolRequestError,
    pools_for_pod,
    read_pools,
)
from pytest_k8snet.lab.dataplane import veth
from pytest_k8snet.lab.dataplane.netns import DataplaneError


class CniError(Exception):
    """The pod gets no network; the text is for its events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNetwork:
    """What a pod got."""

    address: str
    mtu: int


class Cni:
    """Connects pods.

    Args:
        store: the cluster's objects.
        ipam: gives the addresses.
        pod_mtu: what the node agent has written to ``/var/lib/calico/mtu``, by node.
        route_metric: of the routes to pods, by Calico's version.
        sysctls: of the pods' namespaces, paths below ``/proc/sys/net``.
    """

    def __init__(
        self,
        store: Store,
        *,
        ipam: Ipam,
        pod_mtu: Callable[[str], int],
        route_metric: int,
        sysctls: Mapping[str, str],
    ) -> None:
        self._store = store
        self._ipam = ipam
        self._pod_mtu = pod_mtu
        self._route_metric = route_metric
        self._sysctls = dict(sysctls)

    async def add(self, pod: dict[str, Any], netns_name: str) -> PodNetwork:
        """Give a pod its address and cable.

        Raises:
            CniError: it gets none; nothing is left behind.
        """
        node, handle = pod["spec"]["nodeName"], _handle(pod)
        labels = dig(self._store.get("nodes", node), "metadata.labels", {})
        pools = read_pools(self._store.list(POOLS))
        try:
            chosen = pools_for_pod(pools, self._annotation(pod), labels)
            address = self._ipam.assign(chosen, node, handle)
        except (PoolRequestError, NoAddressError) as exc:
            raise CniError(f'plugin type="calico" failed (add): {exc}') from None
        mtu = self._pod_mtu(node)
        cable = veth.Cable(
            node=node,
            interface=_interface(pod),
            pod_namespace=netns_name,
            address=address,
            mtu_bytes=mtu,
            metric=self._route_metric,
        )
        try:
            await veth.plug(cable, self._sysctls)
        except DataplaneError as exc:
            self._ipam.release(handle)
            raise CniError(f'plugin type="calico" failed (add): {exc}') from None
        return PodNetwork(address=str(address), mtu=mtu)

    async def delete(self, pod: dict[str, Any]) -> None:
        """Take cable and address away; missing is fine."""
        node = pod["spec"].get("nodeName")
        if node:
            await veth.unplug(node, _interface(pod))
        self._ipam.release(_handle(pod))

    def _annotation(self, pod: dict[str, Any]) -> str | None:
        own = dig(pod, "metadata.annotations", {}).get(POOLS_ANNOTATION)
        if own is not None:
            return str(own)
        namespace = self._store.get("namespaces", namespace_of(pod))
        found = dig(namespace, "metadata.annotations", {}).get(POOLS_ANNOTATION)
        return None if found is None else str(found)


def _handle(pod: dict[str, Any]) -> str:
    return f"k8s-pod-network.{pod['metadata']['uid']}"


def _interface(pod: dict[str, Any]) -> str:
    return veth.host_interface(namespace_of(pod), name_of(pod))

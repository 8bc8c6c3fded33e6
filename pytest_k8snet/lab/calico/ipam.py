"""Calico's IPAM: addresses in blocks, each block affine to a node and routed to it.

Keeps its own books and mirrors them as IPAMBlock and BlockAffinity objects, for those who look.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from pytest_k8snet.lab.api.objects import dig, name_of, namespace_of
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.pools import (
    POOLS,
    POOLS_ANNOTATION,
    IPPool,
    PoolRequestError,
    pools_for_pod,
    read_pools,
)
from pytest_k8snet.lab.dataplane import underlay
from pytest_k8snet.lab.dataplane.felix import Block
from pytest_k8snet.lab.dataplane.netns import DataplaneError

BLOCKS = "ipamblocks.crd.projectcalico.org"
AFFINITIES = "blockaffinities.crd.projectcalico.org"


class NoAddressError(Exception):
    """Every pool that was allowed is full."""


class _Book:
    """One block: its node, who has which address (handle and using node), and what is free."""

    def __init__(self, cidr: IPv4Network, node: str) -> None:
        self.cidr = cidr
        self.node = node
        self.taken: dict[IPv4Address, tuple[str, str]] = {}
        # Every address of a block is usable, the first and last as well. What is given back goes
        # to the end, so that a new pod never gets the address that an old one has just left.
        self.free = deque(cidr)

    def take(self, handle: str, user: str) -> IPv4Address:
        address = self.free.popleft()
        self.taken[address] = handle, user
        return address

    def give_back(self, handle: str) -> bool:
        mine = [address for address, (owner, _) in self.taken.items() if owner == handle]
        for address in mine:
            del self.taken[address]
            self.free.append(address)
        return bool(mine)


class Ipam:
    """Gives and takes addresses. Only the lab's event loop may call it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._books: dict[IPv4Network, _Book] = {}

    def assign(self, pools: Sequence[IPPool], node: str, handle: str) -> IPv4Address:
        """Take an address for a node, from the first pool that has one.

        A node takes from its own blocks, then claims a new one, then borrows from another's.

        Args:
            pools: where it may come from, in order.
            node: which node uses it.
            handle: what it belongs to, for ``release``.

        Raises:
            NoAddressError: all are full.
        """
        for pool in pools:
            book = self._book_with_room(pool, node)
            if book is not None:
                address = book.take(handle, node)
                self._mirror(book)
                return address
        names = ", ".join(str(pool.cidr) for pool in pools)
        raise NoAddressError(f"no IPs available in pools: {names or 'no configured pools'}")

    def release(self, handle: str) -> None:
        """Give back every address of a handle; none is fine."""
        for book in self._books.values():
            if book.give_back(handle):
                self._mirror(book)

    def addresses(self, handle: str) -> list[IPv4Address]:
        """What a handle has."""
        return [
            address
            for book in self._books.values()
            for address, (owner, _) in book.taken.items()
            if owner == handle
        ]

    def drop_outside(self, pools: Iterable[IPPool]) -> None:
        """Forget empty blocks that lie in no pool any more."""
        cidrs = [pool.cidr for pool in pools]
        for cidr, book in list(self._books.items()):
            if not book.taken and not any(cidr.subnet_of(pool) for pool in cidrs):
                del self._books[cidr]
                self._unmirror(book)

    def blocks(self) -> list[Block]:
        """All blocks, as routes depend on them."""
        return [
            Block(
                cidr=book.cidr,
                node=book.node,
                borrowed={
                    address: user for address, (_, user) in book.taken.items() if user != book.node
                },
            )
            for book in self._books.values()
        ]

    def _book_with_room(self, pool: IPPool, node: str) -> _Book | None:
        books = [book for book in self._books.values() if book.cidr.subnet_of(pool.cidr)]
        for book in books:
            if book.node == node and book.free:
                return book
        for cidr in pool.cidr.subnets(new_prefix=max(pool.block_size, pool.cidr.prefixlen)):
            if not any(cidr.overlaps(book.cidr) for book in books):
                self._books[cidr] = claimed = _Book(cidr, node)
                return claimed
        return next((book for book in books if book.free), None)

    def _mirror(self, book: _Book) -> None:
        name = str(book.cidr).replace(".", "-").replace("/", "-")
        first = int(book.cidr.network_address)
        handles = list(dict.fromkeys(handle for handle, _ in book.taken.values()))
        spec: dict[str, object] = {
            "cidr": str(book.cidr),
            "affinity": f"host:{book.node}",
            "strictAffinity": False,
            "deleted": False,
            "allocations": [
                handles.index(book.taken[address][0]) if address in book.taken else None
                for address in book.cidr
            ],
            "unallocated": [int(address) - first for address in book.free],
            "attributes": [{"handle_id": handle, "secondary": {}} for handle in handles],
        }
        affinity: dict[str, object] = {
            "cidr": str(book.cidr),
            "node": book.node,
            "state": "confirmed",
            "deleted": "false",
            "type": "host",
        }
        self._write(BLOCKS, name, spec)
        self._write(AFFINITIES, f"{book.node}-{name}", affinity)

    def _write(self, resource: str, name: str, spec: dict[str, object]) -> None:
        try:
            self._store.mutate(resource, name, None, lambda found: found.update(spec=spec))
        except StatusError as exc:
            if exc.code != 404:
                raise
            self._store.create(resource, {"metadata": {"name": name}, "spec": spec})

    def _unmirror(self, book: _Book) -> None:
        name = str(book.cidr).replace(".", "-").replace("/", "-")
        for resource, full in ((BLOCKS, name), (AFFINITIES, f"{book.node}-{name}")):
            try:
                self._store.delete(resource, full)
            except StatusError as exc:
                if exc.code != 404:
                    raise


# -- The CNI plugin: an address from the right pool, and the cable to the node --------------------


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
        cable = underlay.Cable(
            node=node,
            interface=_interface(pod),
            pod_namespace=netns_name,
            address=address,
            mtu_bytes=mtu,
            metric=self._route_metric,
        )
        try:
            await underlay.plug(cable, self._sysctls)
        except DataplaneError as exc:
            self._ipam.release(handle)
            raise CniError(f'plugin type="calico" failed (add): {exc}') from None
        return PodNetwork(address=str(address), mtu=mtu)

    async def delete(self, pod: dict[str, Any]) -> None:
        """Take cable and address away; missing is fine."""
        node = pod["spec"].get("nodeName")
        if node:
            await underlay.unplug(node, _interface(pod))
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
    return underlay.host_interface(namespace_of(pod), name_of(pod))

"""Calico's IPAM: addresses in blocks, each block affine to a node and routed to it.

Keeps its own books and mirrors them as IPAMBlock, BlockAffinity and IPAMHandle objects, for those
who look.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from pytest_k8snet.lab.api.objects import (
    Object,
    compact,
    dig,
    mapping,
    name_of,
    namespace_of,
    timestamp,
)
from pytest_k8snet.lab.api.resources import CALICO_V1
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.pools import (
    METADATA_ANNOTATION,
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
HANDLES = "ipamhandles.crd.projectcalico.org"


class NoAddressError(Exception):
    """Every pool that was allowed is full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """Who has an address: what it belongs to, the node that uses it, and what is told of it."""

    handle: str
    user: str
    told: Mapping[str, str]
    number: int


class _Book:
    """One block: its node, who has which address, and what is free."""

    def __init__(self, cidr: IPv4Network, node: str) -> None:
        self.cidr = cidr
        self.node = node
        self.claimed = timestamp()
        self.numbers = itertools.count(time.time_ns())
        self.taken: dict[IPv4Address, _Taken] = {}
        # Every address of a block is usable, the first and last as well. What is given back goes
        # to the end, so that a new pod never gets the address that an old one has just left.
        self.free = deque(cidr)

    @property
    def name(self) -> str:
        return str(self.cidr).replace(".", "-").replace("/", "-")

    def take(self, handle: str, user: str, told: Mapping[str, str]) -> IPv4Address:
        address = self.free.popleft()
        number = next(self.numbers)
        self.taken[address] = _Taken(handle=handle, user=user, told=told, number=number)
        return address

    def give_back(self, handle: str) -> bool:
        mine = [address for address, by in self.taken.items() if by.handle == handle]
        for address in mine:
            del self.taken[address]
            self.free.append(address)
        return bool(mine)

    def spec(self) -> Object:
        """The spec of its IPAMBlock."""
        first = int(self.cidr.network_address)
        holders = {by.handle: by for by in self.taken.values()}
        handles = list(holders)
        return {
            "affinity": f"host:{self.node}",
            "affinityClaimTime": self.claimed,
            "allocations": [
                handles.index(self.taken[address].handle) if address in self.taken else None
                for address in self.cidr
            ],
            "attributes": [
                {"handle_id": handle, "secondary": dict(by.told)} for handle, by in holders.items()
            ],
            "cidr": str(self.cidr),
            "deleted": False,
            "sequenceNumber": next(self.numbers),
            "sequenceNumberForAllocation": {
                str(int(address) - first): by.number for address, by in self.taken.items()
            },
            "strictAffinity": False,
            "unallocated": [int(address) - first for address in self.free],
        }


def _claimable(pool: IPPool, node: str) -> Iterator[IPv4Network]:
    """The blocks of a pool in the order in which a node tries to claim them.

    Where it begins is the node's own, so that nodes do not get into each other's way
    (``determineSeed`` in libcalico-go's ipam_block_reader_writer.go, v3.33; its generator of random
    numbers is Go's, and not played).
    """
    prefix = max(pool.block_size, pool.cidr.prefixlen)
    count, size = 1 << (prefix - pool.cidr.prefixlen), 1 << (32 - prefix)
    begin = int.from_bytes(hashlib.sha1(node.encode()).digest()) % count
    for step in range(count):
        offset = (begin + step) % count * size
        yield IPv4Network((int(pool.cidr.network_address) + offset, prefix))


class Ipam:
    """Gives and takes addresses. Only the lab's event loop may call it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._books: dict[IPv4Network, _Book] = {}

    def assign(
        self, pools: Sequence[IPPool], node: str, handle: str, told: Mapping[str, str]
    ) -> IPv4Address:
        """Take an address for a node, from the first pool that has one.

        A node takes from its own blocks, then claims a new one, then borrows from another's.

        Args:
            pools: where it may come from, in order.
            node: which node uses it.
            handle: what it belongs to, for ``release``.
            told: what the block tells of it: its pod, or of which tunnel it is.

        Raises:
            NoAddressError: all are full.
        """
        for pool in pools:
            book = self._book_with_room(pool, node)
            if book is not None:
                address = book.take(handle, node, {**told, "node": node})
                self._mirror(book)
                self._mirror_handle(handle)
                return address
        names = ", ".join(str(pool.cidr) for pool in pools)
        raise NoAddressError(f"no IPs available in pools: {names or 'no configured pools'}")

    def release(self, handle: str) -> None:
        """Give back every address of a handle; none is fine."""
        for book in self._books.values():
            if book.give_back(handle):
                self._mirror(book)
                self._mirror_handle(handle)

    def addresses(self, handle: str) -> list[IPv4Address]:
        """What a handle has."""
        return [
            address
            for book in self._books.values()
            for address, by in book.taken.items()
            if by.handle == handle
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
                    address: by.user for address, by in book.taken.items() if by.user != book.node
                },
            )
            for book in self._books.values()
        ]

    def _book_with_room(self, pool: IPPool, node: str) -> _Book | None:
        books = [book for book in self._books.values() if book.cidr.subnet_of(pool.cidr)]
        for book in books:
            if book.node == node and book.free:
                return book
        for cidr in _claimable(pool, node):
            if not any(cidr.overlaps(book.cidr) for book in books):
                self._books[cidr] = claimed = _Book(cidr, node)
                return claimed
        return next((book for book in books if book.free), None)

    def _mirror(self, book: _Book) -> None:
        self._write(BLOCKS, book.name, book.spec())
        affinity: Object = {
            "cidr": str(book.cidr),
            "node": book.node,
            "state": "confirmed",
            "deleted": "false",
            "type": "host",
        }
        digest = base64.b32encode(hashlib.sha3_256(book.node.encode()).digest())
        labels = {
            "projectcalico.org/affinity-type": "host",
            "projectcalico.org/hostname-hash": digest.decode().rstrip("="),
            "projectcalico.org/ip-version": "4",
        }
        self._write(AFFINITIES, f"{book.node}-{book.name}", affinity, labels)

    def _mirror_handle(self, handle: str) -> None:
        blocks = Counter(
            str(book.cidr)
            for book in self._books.values()
            for by in book.taken.values()
            if by.handle == handle
        )
        if blocks:
            spec = {"block": dict(blocks), "deleted": False, "handleID": handle}
            self._write(HANDLES, handle.lower(), spec)
        else:
            self._delete(HANDLES, handle.lower())

    def _write(
        self, resource: str, name: str, spec: Object, labels: Mapping[str, str] | None = None
    ) -> None:
        if self._store.has(resource, name):
            self._store.mutate(resource, name, None, lambda found: found.update(spec=spec))
            return
        told = {"labels": dict(labels)} if labels else {}
        meta: Object = {"name": name, **told}
        if self._store.resource(resource).group == CALICO_V1:
            hidden = compact(told)
            meta["annotations"] = {METADATA_ANNOTATION: hidden}
        self._store.create(resource, {"metadata": meta, "spec": spec})

    def _unmirror(self, book: _Book) -> None:
        self._delete(BLOCKS, book.name)
        self._delete(AFFINITIES, f"{book.node}-{book.name}")

    def _delete(self, resource: str, name: str) -> None:
        if self._store.has(resource, name):
            self._store.delete(resource, name)


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
            told = {
                "namespace": namespace_of(pod),
                "pod": name_of(pod),
                "timestamp": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f000} +0000 UTC",
            }
            address = self._ipam.assign(chosen, node, handle, told)
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
        self._annotate(pod, address=f"{address}/32")
        return PodNetwork(address=str(address), mtu=mtu)

    async def delete(self, pod: dict[str, Any]) -> None:
        """Take cable and address away; missing is fine."""
        node = pod["spec"].get("nodeName")
        if node:
            await underlay.unplug(node, _interface(pod))
        if self._ipam.addresses(_handle(pod)):
            self._ipam.release(_handle(pod))
            self._annotate(pod, address="")

    def _annotate(self, pod: dict[str, Any], *, address: str) -> None:
        of_cni = {"containerID": sandbox_id(pod), "podIP": address, "podIPs": address}
        told = {f"cni.projectcalico.org/{key}": value for key, value in of_cni.items()}

        def change(found: Object) -> None:
            # Another pod of the same name is not ours.
            if found["metadata"]["uid"] == pod["metadata"]["uid"]:
                annotations = mapping(found["metadata"], "annotations")
                annotations |= told

        if self._store.has("pods", name_of(pod), namespace_of(pod)):
            self._store.mutate("pods", name_of(pod), namespace_of(pod), change)

    def _annotation(self, pod: dict[str, Any]) -> str | None:
        own = dig(pod, "metadata.annotations", {}).get(POOLS_ANNOTATION)
        if own is not None:
            return str(own)
        namespace = self._store.get("namespaces", namespace_of(pod))
        found = dig(namespace, "metadata.annotations", {}).get(POOLS_ANNOTATION)
        return None if found is None else str(found)


def sandbox_id(pod: dict[str, Any]) -> str:
    """The id of a pod's sandbox, as a container runtime writes it."""
    return hashlib.sha256(pod["metadata"]["uid"].encode()).hexdigest()


def _handle(pod: dict[str, Any]) -> str:
    return f"k8s-pod-network.{sandbox_id(pod)}"


def _interface(pod: dict[str, Any]) -> str:
    return underlay.host_interface(namespace_of(pod), name_of(pod))

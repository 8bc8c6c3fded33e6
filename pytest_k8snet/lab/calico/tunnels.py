"""Each node's tunnel addresses and the annotations that tell them, as calico-node keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from pytest_k8snet.lab.api.objects import Object, dig, mapping, name_of
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.ipam import Ipam, NoAddressError
from pytest_k8snet.lab.calico.pools import IPPool, tunnel_pools
from pytest_k8snet.lab.dataplane.datastore import Family, Host
from pytest_k8snet.lab.spec import NodeSpec

#: The node annotation with the node's address and the prefix of its subnet.
ADDRESS_ANNOTATION = "projectcalico.org/IPv4Address"

#: Per tunnel family: the node annotation with its address, and the IPAM handle's beginning.
TUNNELS: Mapping[Family, tuple[str, str]] = {
    "vxlan": ("projectcalico.org/IPv4VXLANTunnelAddr", "vxlan-tunnel-addr"),
    "ipip": ("projectcalico.org/IPv4IPIPTunnelAddr", "ipip-tunnel-addr"),
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
                tunnel_pools(pools, family, labels), f"{handle}-{node.name}", node
            )
            for family, (_, handle) in TUNNELS.items()
        }
        wanted = {ADDRESS_ANNOTATION: str(node.address)}
        for family, (annotation, _) in TUNNELS.items():
            address = addresses[family]
            wanted[annotation] = "" if address is None else str(address)
        self._annotate(found, wanted)
        return Host(
            name=node.name,
            address=node.address,
            vxlan_tunnel=addresses["vxlan"],
            ipip_tunnel=addresses["ipip"],
        )

    def _address(self, pools: list[IPPool], handle: str, node: NodeSpec) -> IPv4Address | None:
        """The address that the handle has, if its pool still serves; else a new one, or none."""
        for present in self._ipam.addresses(handle):
            if any(present in pool.cidr for pool in pools):
                return present
        self._ipam.release(handle)
        try:
            return self._ipam.assign(pools, node.name, handle) if pools else None
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

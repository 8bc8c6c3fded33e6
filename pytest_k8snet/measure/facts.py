"""What is known of the cluster around the figures: read before and after them, never during one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from pytest_k8snet.calico.installation import Installation
from pytest_k8snet.calico.kernel import TUNNEL_DEVICES, Shell
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.nodes import Node
from pytest_k8snet.errors import K8sNetError
from pytest_k8snet.tools import host
from pytest_k8snet.tools.host import Machine
from pytest_k8snet.units import BitRate


class Machines:
    """What nodes are made of (kernel, NIC, tunnel devices), as they were last read.

    Args:
        shells: per node name; a node without one is not known.
    """

    def __init__(self, shells: Mapping[str, Shell]) -> None:
        self._shells = shells
        self._known: dict[str, Machine] = {}
        self._addresses: dict[str, str] = {}

    def of(self, node: str) -> Machine | None:
        """Return what is known of a node; None if it could not be read."""
        return self._known.get(node)

    def read(self, nodes: Iterable[Node]) -> None:
        """Read these nodes at once, each by one command; one that cannot be read stays unknown."""
        readable = [node for node in nodes if node.name in self._shells]
        self._addresses |= {node.name: node.address for node in readable}
        if readable:
            with ThreadPoolExecutor(max_workers=min(8, len(readable))) as pool:
                list(pool.map(self._read_one, readable))

    def lacking(self, nodes: Iterable[Node], device: str) -> list[Node]:
        """Return those of the nodes of which nothing is known of this tunnel device."""
        return [
            node
            for node in nodes
            if node.name in self._shells
            and ((known := self.of(node.name)) is None or device not in known.tunnels)
        ]

    def _read_one(self, node: Node) -> None:
        # Any other node shows by which device this one sends.
        others = (one for name, one in self._addresses.items() if name != node.name)
        argv = host.argv(next(others, node.address), tuple(TUNNEL_DEVICES.values()))
        self._known.pop(node.name, None)
        # Facts are never worth a run: what cannot be read is not known.
        with suppress(K8sNetError):
            self._known[node.name] = host.parse(self._shells[node.name](argv).stdout)


def cluster_facts(
    api: Api,
    installation: Installation,
    nodes: Sequence[Node],
    machines: Machines,
    link_rate: BitRate | None,
) -> dict[str, Any]:
    """Return the ``cluster`` and ``nodes`` of a "facts" record.

    Args:
        api: the cluster.
        installation: what Calico is there.
        nodes: the usable ones.
        machines: what they are made of.
        link_rate: of the nodes' links, where the user has named it.
    """
    cluster: dict[str, Any] = {
        "server": api.host,
        "context": api.context,
        **installation.facts(),
    }
    if link_rate is not None:
        cluster["link_rate_bits_per_second"] = float(link_rate)
    return {
        "cluster": cluster,
        "nodes": [
            {
                "name": node.name,
                "address": node.address,
                "internal_ip": node.internal_ip,
                "subnet": str(node.interface.network) if node.interface else "unknown",
                "kernel": node.kernel_version,
                "os": node.os_image,
                "architecture": node.architecture or "unknown",
                "zone": node.zone or "unknown",
                "kubelet": node.kubelet_version,
                **(known.to_record() if (known := machines.of(node.name)) is not None else {}),
            }
            for node in nodes
        ],
    }

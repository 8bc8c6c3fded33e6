"""What the nodes under test are made of, read through their host-network pods between samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_k8snet.calico.kernel import TUNNEL_DEVICES
from pytest_k8snet.calico.path import calico_address
from pytest_k8snet.errors import K8sNetError
from pytest_k8snet.tools import host
from pytest_k8snet.tools.host import Machine

if TYPE_CHECKING:
    from pytest_k8snet.calico.kernel import Shell
    from pytest_k8snet.cluster.nodes import Node


class Machines:
    """The nodes' machines as they were last read.

    Args:
        shells: per node name; a node without one is not known.
    """

    def __init__(self, shells: Mapping[str, Shell]) -> None:
        self._shells = shells
        self._known: dict[str, Machine] = {}

    def of(self, node: str) -> Machine | None:
        """What is known of a node; None if it could not be read."""
        return self._known.get(node)

    def read(self, nodes: Iterable[Node]) -> None:
        """Read these nodes at once, each by one command; one that cannot be read stays unknown."""
        readable = [node for node in nodes if node.name in self._shells]
        if readable:
            with ThreadPoolExecutor(max_workers=min(8, len(readable))) as pool:
                list(pool.map(self._read_one, readable))

    def lacking(self, nodes: Iterable[Node], device: str) -> list[Node]:
        """Those of the nodes of which nothing is known of this tunnel device."""
        return [
            node
            for node in nodes
            if node.name in self._shells
            and ((known := self.of(node.name)) is None or device not in known.tunnels)
        ]

    def _read_one(self, node: Node) -> None:
        argv = host.argv(calico_address(node), tuple(TUNNEL_DEVICES.values()))
        self._known.pop(node.name, None)
        # Facts are never worth a run: what cannot be read is not known.
        with suppress(K8sNetError):
            self._known[node.name] = host.parse(self._shells[node.name](argv).stdout)

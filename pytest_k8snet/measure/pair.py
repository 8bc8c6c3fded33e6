"""A client and a server to measure between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_k8snet.calico.modes import CalicoMode
    from pytest_k8snet.measure.endpoint import Endpoint
    from pytest_k8snet.measure.sampler import Sampler
    from pytest_k8snet.tools.iperf3 import Iperf3Result


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Pair:
    """A client endpoint and a server endpoint, and what kind of path lies between them.

    Attributes:
        scene: the kinds of the two, as in the study's table: ``pod-pod``, ``node-node``,
            ``pod-node``, ``node-pod``.
        placement: ``same-subnet``, ``cross-subnet`` or ``same-node``.
        mode: the Calico mode of the pods' pool; None where none was asked for.
    """

    client: Endpoint
    server: Endpoint
    scene: str
    placement: str
    sampler: Sampler = field(repr=False, compare=False)
    make_baseline: Callable[[], Pair] = field(repr=False, compare=False)
    mode: CalicoMode | None = None

    @property
    def baseline(self) -> Pair:
        """The node-node pair on the same two nodes: what the wire itself gives."""
        return self if self.scene == "node-node" else self.make_baseline()

    @property
    def label(self) -> str:
        """Scene, nodes and mode in one line."""
        mode = f" [{self.mode}]" if self.mode is not None else ""
        return f"{self.scene} {self.client.node} -> {self.server.node}{mode}"

    def iperf3(self, *, seconds: int = 10, **options: Any) -> Iperf3Result:
        """Run iperf3 once, from the client to a one-off server.

        Args:
            seconds: measured time; ``omit_seconds`` (default 1) come before it.
            options: the other fields of :class:`pytest_k8snet.tools.iperf3.Iperf3Options`
                (streams, reverse, bidirectional, udp, bitrate, omit_seconds, ...).

        Returns:
            The parsed figures with the raw JSON and the exact command.

        Raises:
            Iperf3Error: iperf3 gave no usable figure.
            PathError: the traffic did not take the path that the mode promises.
        """
        return self.sampler.iperf3(self, seconds=seconds, **options).result

    def __str__(self) -> str:
        return self.label

    def __repr__(self) -> str:
        # A failing test prints its arguments: names and addresses are what a reader looks for.
        client, server = self.client, self.server
        return f"<{self.label}: {client.name} {client.address} -> {server.name} {server.address}>"

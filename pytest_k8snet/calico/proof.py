"""Which path a sample took: the claim, the evidence, and the verdict on it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_k8snet.calico.modes import Path
from pytest_k8snet.errors import PathError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class PathEnd:
    """One end of a measured pair: a pod or a node, the node below it, and the address used."""

    kind: Literal["pod", "node"]
    name: str
    node: Node
    address: str
    #: The MTU of the pod's own interface, if it was read in the pod; else the node's view counts.
    mtu_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Payload that a sample moved, per direction, in bytes, and the MSS of its connection."""

    to_server_bytes: int = 0
    to_client_bytes: int = 0
    mss_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PathProof:
    """The judgement on one sample's path."""

    state: Literal["proven", "contradicted", "missing"]
    text: str
    #: What the mode promises from client to server.
    expected: Path
    route: tuple[dict[str, Any], ...] = ()
    counters: dict[str, Any] = field(default_factory=dict)
    mtu: dict[str, Any] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        """The JSON-safe "path" part of a sample's record."""
        return {
            "state": self.state,
            "text": self.text,
            "expected": self.expected,
            "route": list(self.route),
            "counters": self.counters,
            "mtu": self.mtu,
        }

    def require(self) -> None:
        """Insist that the path was not contradicted; a missing proof passes, marked as missing.

        Raises:
            PathError: the figure belongs to another path than it claims.
        """
        if self.state == "contradicted":
            raise PathError("The traffic did not take the path of its mode", found=self.text)

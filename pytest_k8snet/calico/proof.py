"""Which path a sample took: the claim, the evidence, and the verdict on it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pytest_k8snet.calico.counters import counter_complaints, counter_record
from pytest_k8snet.calico.expectation import Station, route_complaints
from pytest_k8snet.calico.headers import Encapsulation
from pytest_k8snet.calico.ippool import IPPool, pool_of
from pytest_k8snet.calico.legs import Leg, legs
from pytest_k8snet.calico.modes import CalicoMode, Path
from pytest_k8snet.calico.mtu import mtu_complaints, mtu_record
from pytest_k8snet.errors import PathError

if TYPE_CHECKING:
    from pytest_k8snet.calico.kernel import KernelState
    from pytest_k8snet.calico.wire import Moment, WireFinding
    from pytest_k8snet.cluster.nodes import Node

_AT: dict[Moment, str] = {
    "once": "",
    "before": "before the sample, ",
    "after": "after the sample, ",
}


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
class PathSnapshot:
    """Both nodes' kernel states at one moment; a node that could not be read says why."""

    client: PathEnd
    server: PathEnd
    states: Mapping[str, KernelState]
    missing: Mapping[str, str] = field(default_factory=dict)

    def station(self, end: PathEnd) -> Station:
        """The node below an end, with its state."""
        return Station(node=end.node, state=self.states[end.node.name])


@dataclass(frozen=True, slots=True, kw_only=True)
class PathContext:
    """What the cluster looked like while the sample ran, beside the two nodes' kernels.

    Attributes:
        pools: the pools as they were then.
        encapsulations: those that are enabled anywhere, which cost MTU.
        routes_prove: False on dataplanes (eBPF) that forward beside the kernel's routes.
        mtu_bytes: an explicit MTU of the installation; None if it follows the host's;
            ``mtu_known`` False if that could not be read.
        pools_unread: why the pools could not be read; empty if they were.
    """

    pools: tuple[IPPool, ...]
    encapsulations: Collection[Encapsulation]
    routes_prove: bool = True
    mtu_bytes: int | None = None
    mtu_known: bool = True
    pools_unread: str = ""


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
    #: What was seen on the wire; None where it was not looked at.
    wire: tuple[dict[str, Any], ...] | None = None

    def to_record(self) -> dict[str, Any]:
        """The JSON-safe "path" part of a sample's record."""
        return {
            "state": self.state,
            "text": self.text,
            "expected": self.expected,
            "route": list(self.route),
            "counters": self.counters,
            "mtu": self.mtu,
            "wire": list(self.wire) if self.wire is not None else None,
        }

    def require(self) -> None:
        """Insist that the path was not contradicted; a missing proof passes, marked as missing.

        Raises:
            PathError: the figure belongs to another path than it claims.
        """
        if self.state == "contradicted":
            raise PathError(
                "The traffic did not take the path that its mode promises",
                found=self.text,
                remedy="Check the routes and tunnel devices of both nodes; trust no figure of "
                "this mode before they are right. This one is kept in the report as an error.",
            )


def judge(
    mode: CalicoMode | None,
    before: PathSnapshot,
    after: PathSnapshot,
    transfer: Transfer,
    context: PathContext,
    wire: Mapping[Moment, WireFinding] = MappingProxyType({}),
) -> PathProof:
    """Judge which path a sample took, from the state of both nodes before and after it.

    Args:
        mode: the mode that the sample claims; None if it claims none (node to node).
        before: the nodes before the sample.
        after: the nodes after it.
        transfer: what the sample moved.
        context: pools, encapsulations and MTU settings.
        wire: what was seen on the wire around it; empty where it was not looked at.

    Returns:
        ``proven`` if routes and counters of both nodes and both directions, and the wire if it
        was looked at, agree with the claim, ``missing`` if a node, the pools or the wire could
        not be read, ``contradicted`` with every disagreement.
    """
    if context.pools_unread and "pod" in (before.client.kind, before.server.kind):
        return PathProof(
            state="missing",
            text=f"IPPools: {context.pools_unread}",
            expected=_promise(mode, before.client, before.server, context.pools),
        )
    complaints = list(claim_complaints(mode, before.client, before.server, context.pools))
    unread = {**before.missing, **after.missing}
    if unread and not complaints:
        return PathProof(
            state="missing",
            text="; ".join(f"{node}: {why}" for node, why in sorted(unread.items())),
            expected=_promise(mode, before.client, before.server, context.pools),
        )
    if unread:
        return PathProof(
            state="contradicted",
            text="\n".join(complaints),
            expected=_promise(mode, before.client, before.server, context.pools),
        )
    directions = legs(before, transfer, context.pools)
    for leg in directions:
        if context.routes_prove:
            for moment, snapshot in (("before", before), ("after", after)):
                complaints += [
                    f"{moment} the sample, {complaint}"
                    for complaint in route_complaints(
                        leg.path,
                        leg.destination,
                        snapshot.station(leg.sender),
                        snapshot.station(leg.receiver),
                    )
                ]
        complaints += counter_complaints(leg, before, after)
    complaints += mtu_complaints(before, transfer, directions, context)
    for moment, finding in wire.items():
        complaints += [f"{_AT[moment]}{complaint}" for complaint in finding.complaints]
    gaps = [f"on the wire: {gap}" for finding in wire.values() for gap in finding.gaps]
    praise = [_praise(directions, before, context)]
    praise += dict.fromkeys(finding.praise() for finding in wire.values())
    return PathProof(
        state="contradicted" if complaints else "missing" if gaps else "proven",
        text="\n".join(dict.fromkeys(complaints or gaps)) or "; ".join(praise),
        expected=directions[0].path,
        route=tuple(_route_record(leg, after) for leg in directions),
        counters=counter_record(before, after),
        mtu=mtu_record(before, transfer),
        wire=tuple(one.to_record(moment) for moment, one in wire.items()) if wire else None,
    )


def claim_complaints(
    mode: CalicoMode | None, client: PathEnd, server: PathEnd, pools: Iterable[IPPool]
) -> list[str]:
    """What keeps a pair from being in the mode that is claimed: the pools of its pods."""
    pools = list(pools)
    complaints = []
    inside: dict[str, IPPool] = {}
    for end in (client, server):
        if end.kind != "pod":
            continue
        pool = pool_of(end.address, pools)
        if pool is None:
            complaints.append(f"pod {end.name} has {end.address}, which lies in no pool")
            continue
        inside[end.name] = pool
        if mode is not None and pool.mode is not mode:
            complaints.append(
                f"pod {end.name} has {end.address} of pool {pool.name}, which is in mode "
                f"{pool.mode}, not {mode}"
            )
    if len({pool.mode for pool in inside.values()}) > 1:
        complaints.append(
            "the pods lie in pools of different modes, so their two directions differ: "
            + ", ".join(f"{name} in {pool.name} ({pool.mode})" for name, pool in inside.items())
        )
    return complaints


def _promise(
    mode: CalicoMode | None, client: PathEnd, server: PathEnd, pools: Iterable[IPPool]
) -> Path:
    pool = pool_of(server.address, pools)
    promised = pool.mode if pool is not None else mode if server.kind == "pod" else None
    if promised is None or client.node.name == server.node.name:
        return "direct"
    return promised.path(client.node.same_subnet(server.node))


def _praise(directions: Iterable[Leg], before: PathSnapshot, context: PathContext) -> str:
    parts = []
    for leg in directions:
        device = before.station(leg.sender).state.route(leg.destination).device
        counted = f", {leg.payload_bytes} bytes of payload counted" if leg.countable else ""
        parts.append(
            f"{leg.sender.node.name} -> {leg.receiver.node.name} {leg.path}"
            f"{f' by {device}' if context.routes_prove else ''}{counted}"
        )
    asymmetric = len({leg.path for leg in directions}) > 1
    return "; ".join(parts) + ("; the directions differ, as promised" if asymmetric else "")


def _route_record(leg: Leg, snapshot: PathSnapshot) -> dict[str, Any]:
    route = snapshot.station(leg.sender).state.route(leg.destination)
    return {
        "from": leg.sender.node.name,
        "to": leg.receiver.node.name,
        "destination": route.destination,
        "expected": leg.path,
        "device": route.device,
        "gateway": route.gateway,
        "error": route.error,
    }

"""Watches the path of a sample: a snapshot before it, one after it, and the judgement on both.

With the wire proof there are captures as well: around every sample where routes prove nothing,
else once for a pair in its mode. None of it happens during a sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from pytest_k8snet.calico.path import PathEnd, PathProof, PathSnapshot, Transfer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_k8snet.calico.capture import Moment, WireFinding
    from pytest_k8snet.calico.modes import CalicoMode
    from pytest_k8snet.calico.session import CalicoSession
    from pytest_k8snet.cluster.nodes import Node
    from pytest_k8snet.measure.endpoint import Endpoint
    from pytest_k8snet.measure.pair import Pair
    from pytest_k8snet.tools.iperf3 import Iperf3Result

#: Sends payload between the ends of a pair; see ``Sampler.probe``.
Probe: TypeAlias = Callable[["Pair", Callable[[int], None]], "str | None"]


@dataclass(frozen=True, slots=True)
class Prover:
    """Proves the paths of pairs within one Calico session.

    Attributes:
        wire: whether captures belong to the proof.
    """

    session: CalicoSession
    nodes: Mapping[str, Node]
    wire: bool = False
    #: Pairs whose wire has been looked at in their mode.
    _seen: dict[tuple[CalicoMode | None, str, str], WireFinding] = field(default_factory=dict)

    def end(self, endpoint: Endpoint) -> PathEnd:
        """One end of a path as the proof sees it."""
        return PathEnd(
            kind="pod" if endpoint.kind == "pod" else "node",
            name=endpoint.name,
            node=self.nodes[endpoint.node],
            address=endpoint.address,
        )

    def watch(self, pair: Pair, probe: Probe) -> Watch:
        """Take the snapshot before a sample, and look at the wire where that is due.

        Args:
            pair: whom to watch.
            probe: sends payload that may be captured.
        """
        before = self.session.snapshot(self.end(pair.client), self.end(pair.server))
        wire: dict[Moment, WireFinding] = {}
        if self.wire and self.session.installation.routes_prove:
            wire["once"] = self._once(pair, before, probe)
        elif self.wire:
            wire["before"] = self._look(pair, before, probe)
        return Watch(self, pair, before, wire, probe)

    def _once(self, pair: Pair, snapshot: PathSnapshot, probe: Probe) -> WireFinding:
        key = (pair.mode, pair.client.name, pair.server.name)
        found = self._seen.get(key)
        if found is None or found.trouble() is not None:
            found = self._seen[key] = self._look(pair, snapshot, probe)
        return found

    def _look(self, pair: Pair, snapshot: PathSnapshot, probe: Probe) -> WireFinding:
        return self.session.watch_wire(snapshot, partial(probe, pair))

    def payload_trouble(self, pair: Pair, probe: Probe) -> str | None:
        """What keeps payload from its way between the ends of a pair, or None.

        Where routes prove nothing, the way of the payload is looked at on the wire.
        """
        if not self.wire or self.session.installation.routes_prove:
            return probe(pair, lambda port: None)
        snapshot = self.session.snapshot(self.end(pair.client), self.end(pair.server))
        return self._look(pair, snapshot, probe).trouble()


@dataclass(frozen=True, slots=True)
class Watch:
    """One sample's snapshot from before it, waiting for its end."""

    prover: Prover
    pair: Pair
    before: PathSnapshot
    wire: dict[Moment, WireFinding]
    probe: Probe

    def judge(self, result: Iperf3Result) -> PathProof:
        """Take the snapshot after the sample, and judge which path its bytes took."""
        session = self.prover.session
        after = session.snapshot(self.before.client, self.before.server)
        wire = dict(self.wire)
        if "before" in wire:
            wire["after"] = session.watch_wire(after, partial(self.probe, self.pair))
        transfer = Transfer(
            to_server_bytes=result.to_server_bytes,
            to_client_bytes=result.to_client_bytes,
            mss_bytes=result.mss_bytes,
        )
        return session.prove(self.pair.mode, self.before, after, transfer, wire)

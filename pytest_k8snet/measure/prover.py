"""Watches the path of a sample: a snapshot before it, one after it, and the judgement on both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_k8snet.calico.proof import PathEnd, PathProof, PathSnapshot, Transfer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_k8snet.calico.session import CalicoSession
    from pytest_k8snet.cluster.nodes import Node
    from pytest_k8snet.measure.endpoint import Endpoint
    from pytest_k8snet.measure.pair import Pair
    from pytest_k8snet.tools.iperf3 import Iperf3Result


@dataclass(frozen=True, slots=True)
class Prover:
    """Proves the paths of pairs within one Calico session."""

    session: CalicoSession
    nodes: Mapping[str, Node]

    def end(self, endpoint: Endpoint) -> PathEnd:
        """One end of a path as the proof sees it."""
        return PathEnd(
            kind="pod" if endpoint.kind == "pod" else "node",
            name=endpoint.name,
            node=self.nodes[endpoint.node],
            address=endpoint.address,
        )

    def watch(self, pair: Pair) -> Watch:
        """Take the snapshot before a sample."""
        client, server = self.end(pair.client), self.end(pair.server)
        return Watch(self.session, pair, client, server, self.session.snapshot(client, server))


@dataclass(frozen=True, slots=True)
class Watch:
    """One sample's snapshot from before it, waiting for its end."""

    session: CalicoSession
    pair: Pair
    client: PathEnd
    server: PathEnd
    before: PathSnapshot

    def judge(self, result: Iperf3Result) -> PathProof:
        """Take the snapshot after the sample, and judge which path its bytes took."""
        after = self.session.snapshot(self.client, self.server)
        transfer = Transfer(
            to_server_bytes=result.to_server_bytes,
            to_client_bytes=result.to_client_bytes,
            mss_bytes=result.mss_bytes,
        )
        return self.session.prove(self.pair.mode, self.before, after, transfer)

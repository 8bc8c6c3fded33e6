"""What to ask two nodes about a pair, and whether their answers are the path that is promised."""

from __future__ import annotations

from pytest_k8snet.calico.expectation import route_complaints
from pytest_k8snet.calico.legs import legs, return_addresses
from pytest_k8snet.calico.prober import Answers, Question
from pytest_k8snet.calico.proof import PathContext, PathEnd, PathSnapshot, Transfer


def pair_questions(client: PathEnd, server: PathEnd) -> dict[str, Question]:
    """The routes that matter to a pair, per node."""
    there = (server.address,)
    back = tuple(return_addresses(client, server))
    if client.node.name == server.node.name:
        return {client.node.name: Question(destinations=there + back, pod_address=_pod(client))}
    return {
        client.node.name: Question(destinations=there, pod_address=_pod(client)),
        server.node.name: Question(destinations=back, pod_address=_pod(server)),
    }


def _pod(end: PathEnd) -> str | None:
    return end.address if end.kind == "pod" else None


def snapshot_of(answers: Answers, client: PathEnd, server: PathEnd) -> PathSnapshot:
    """The answers of a pair's nodes, as a snapshot."""
    return PathSnapshot(
        client=client, server=server, states=answers.states, missing=answers.missing
    )


def pair_complaints(snapshot: PathSnapshot, context: PathContext) -> list[str]:
    """What keeps a pair's packets from the promised path, in both directions.

    Nodes without a host-network pod and dataplanes that forward beside the kernel's routes are
    given no complaint: there the API is all that can be asked.
    """
    unreadable = [
        f"{node}: {why}"
        for node, why in snapshot.missing.items()
        if "no host-network pod" not in why
    ]
    if snapshot.missing or not context.routes_prove:
        return unreadable
    return [
        complaint
        for leg in legs(snapshot, Transfer(), context.pools)
        for complaint in route_complaints(
            leg.path,
            leg.destination,
            snapshot.station(leg.sender),
            snapshot.station(leg.receiver),
        )
    ]

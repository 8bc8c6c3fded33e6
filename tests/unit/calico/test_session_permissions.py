"""What the documented roles grant is what runs and restores ask for, and enough for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from documented_roles import enforce
from store_sessions import (
    IPIP,
    KINDS,
    NEVER,
    VXLAN,
    a_cluster,
    crash_at,
    objects,
    session,
)

from pytest_k8snet.change.decision import Strategy
from pytest_k8snet.change.restore import restore_cluster

STRATEGIES: list[Strategy] = ["dedicated", "in-place"]


def roles_of(strategy: Strategy) -> tuple[str, ...]:
    # k8snet-service as well: what a run may have made is looked for before pools go.
    basics = ("k8snet-measure", "k8snet-namespaces", "k8snet-pods", "k8snet-service")
    return (*basics, f"k8snet-{strategy}", "k8snet-state")


def clusters() -> Iterator[tuple[str, Strategy]]:
    for kind in KINDS:
        for strategy in STRATEGIES:
            yield kind, strategy


@pytest.mark.parametrize(("kind", "strategy"), list(clusters()))
def test_a_run_that_changes_calico_is_granted_all_that_it_asks_for(
    kind: str, strategy: Strategy
) -> None:
    api = a_cluster(kind)
    before = objects(api)
    refused = enforce(api, *roles_of(strategy))
    # Nothing sends payload on a store.
    with session(api, strategy, prove_first=True, prove_hops=lambda *_: None) as calico:
        for mode in (VXLAN, NEVER, IPIP):
            calico.enter(mode)
    assert refused == []
    assert objects(api) == before


@pytest.mark.parametrize(("kind", "strategy"), list(clusters()))
def test_restoring_is_granted_all_that_it_asks_for(kind: str, strategy: Strategy) -> None:
    for request in range(20, 1000, 20):
        api = a_cluster(kind)
        before = objects(api)
        if not crash_at(api, strategy, request=request):
            break
        refused = enforce(api, *roles_of(strategy))
        restore_cluster(api)
        assert refused == []
        assert objects(api) == before
    assert request > 40

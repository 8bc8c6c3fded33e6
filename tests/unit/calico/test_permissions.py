"""What the documented roles grant is what runs and restores ask for, and enough for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from store_api import StoreApi
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

from pytest_k8snet.calico.restore import restore_cluster
from pytest_k8snet.calico.session import Strategy
from pytest_k8snet.cluster.target import Target, parse
from pytest_k8snet.errors import ForbiddenError

RBAC = Path(__file__).parents[3] / "docs" / "rbac.yaml"
ROLES = {
    role["metadata"]["name"]: role["rules"]
    for role in yaml.safe_load_all(RBAC.read_text(encoding="utf-8"))
}
STRATEGIES: list[Strategy] = ["dedicated", "in-place"]


def grants(rule: dict[str, Any], target: Target) -> bool:
    resource = target.resource + (f"/{target.subresource}" if target.subresource else "")
    return (
        target.group in rule["apiGroups"]
        and resource in rule["resources"]
        and target.verb in rule["verbs"]
        and target.name in rule.get("resourceNames", [target.name])
    )


def enforce(api: StoreApi, *roles: str) -> list[str]:
    """Answer what these roles don't grant with 403; returns the list of what was refused."""
    refused: list[str] = []

    def refuse(method: str, path: str) -> None:
        target = parse(method, path)
        if not any(grants(rule, target) for role in roles for rule in ROLES[role]):
            refused.append(f"{target.verb} {target}")
            raise ForbiddenError(f"user may not {target.verb} {target}", status=403)

    api.refuse = refuse
    return refused


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
    with session(api, strategy) as calico:
        for mode in (VXLAN, NEVER, IPIP):
            calico.enter(mode)
    assert refused == []
    assert objects(api) == before


@pytest.mark.parametrize(("kind", "strategy"), list(clusters()))
def test_restoring_is_granted_all_that_it_asks_for(kind: str, strategy: Strategy) -> None:
    for request in range(20, 1000, 20):
        api = a_cluster(kind)
        before = objects(api)
        if not crash_at(api, strategy, request, after=True):
            break
        refused = enforce(api, *roles_of(strategy))
        restore_cluster(api)
        assert refused == []
        assert objects(api) == before
    assert request > 40

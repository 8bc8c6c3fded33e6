"""What a run records of its changes: at its end each object counts as restored, in every report."""

from __future__ import annotations

from typing import Any

import pytest
from cluster_shapes import DEFAULT_POOL
from players import Players
from store_api import StoreApi
from store_sessions import IPIP, KINDS, NEVER, VXLAN, VXLAN_CS, a_cluster, objects, session

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.change import restore
from pytest_k8snet.change.decision import Strategy
from pytest_k8snet.report.summary import all_restored, changed_objects

POOL, INSTALLATION = f"ippools/{DEFAULT_POOL}", "installations/default"
WRITTEN = {
    "manifest-A": {POOL},
    "manifest-B": {POOL},
    "manifest-C": {POOL},
    "operator-A": {INSTALLATION, POOL},
    "operator-B": {INSTALLATION},
    "operator-C": {INSTALLATION},
}


def records_of(api: StoreApi, strategy: Strategy, modes: list[CalicoMode]) -> list[dict[str, Any]]:
    """The "change" records of a run through some modes, as a results file has them."""
    made: list[dict[str, Any]] = []
    with session(api, strategy, made) as calico:
        for mode in modes:
            calico.enter(mode)
    return [
        {**one, "kind": "change", "time": f"2026-01-01T00:00:{at:02}Z"}
        for at, one in enumerate(made)
    ]


@pytest.mark.parametrize("modes", [[IPIP], [VXLAN_CS, NEVER, VXLAN], [VXLAN, VXLAN_CS]])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strategy", ["none", "dedicated", "in-place"])
def test_every_object_that_a_run_changes_is_recorded_as_restored(
    strategy: Strategy, kind: str, modes: list[CalicoMode]
) -> None:
    api = a_cluster(kind)
    before = objects(api)
    records = records_of(api, strategy, [VXLAN_CS] if strategy == "none" else modes)
    assert objects(api) == before
    summary = changed_objects(records)
    assert {one.object: one.state for one in summary} == dict.fromkeys(
        [one.object for one in summary], "restored"
    )
    assert all_restored(summary, None) is (None if strategy == "none" else True)
    if strategy == "in-place":
        assert {one.object for one in summary} == WRITTEN[kind]


def test_an_operator_that_does_not_follow_has_the_pool_recorded_beside_its_installation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restore, "_OPERATOR_SECONDS", 0.1)  # 20 seconds in earnest
    api = a_cluster("operator-B")
    made: list[dict[str, Any]] = []
    calico = session(api, "in-place", made)
    calico.enter(IPIP)
    Players(api)  # from here on nobody carries the Installation over
    calico.close()
    assert [(one["object"], one["state"]) for one in made] == [
        (INSTALLATION, "applied"),
        (POOL, "restored"),
        # Calico's defaults, which the write has filled in beneath.
        (POOL, "restored"),
        (INSTALLATION, "restored"),
        # The nodes have followed.
        (INSTALLATION, "restored"),
    ]


def test_an_object_that_could_not_be_restored_is_named() -> None:
    api = a_cluster("operator-B")
    made: list[dict[str, Any]] = []
    calico = session(api, "in-place", made)
    calico.enter(IPIP)
    api.store.mutate(
        "installations.operator.tigera.io",
        "default",
        None,
        lambda found: found["spec"]["calicoNetwork"].update(ipPools=[]),
    )
    with pytest.raises(Exception, match="lists no pool"):
        calico.close()
    (found,) = changed_objects([{**one, "kind": "change", "time": ""} for one in made])
    assert (found.object, found.state) == (INSTALLATION, "failed")

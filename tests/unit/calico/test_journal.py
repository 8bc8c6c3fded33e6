"""The one journal of a cluster: whose it is, and who may delete it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from store_sessions import a_cluster

from pytest_k8snet.change.journal import Journal, JournalStore
from pytest_k8snet.errors import RestoreError

MINE = Journal(
    run_id="k8snet-0a0a0a",
    strategy="dedicated",
    owner="me",
    time="2026-01-01T00:00:00+00:00",
    shape="A",
    group="crd.projectcalico.org/v1",
    dedicated_pools=("k8snet-0a0a0a-never",),
)
OTHERS = replace(
    MINE,
    run_id="k8snet-0b0b0b",
    owner="somebody",
    dedicated_pools=("k8snet-0b0b0b-never",),
)


def test_a_journal_survives_its_text() -> None:
    assert Journal.from_json(MINE.to_json(), where="here") == MINE


def test_another_runs_journal_is_neither_overwritten_nor_deleted() -> None:
    store = JournalStore(a_cluster("manifest-A"))
    store.write(OTHERS)
    with pytest.raises(RestoreError, match="have not been restored") as caught:
        store.write(MINE)
    assert caught.value.found == "ConfigMap kube-system/k8snet-journal exists"
    store.delete(MINE.run_id)
    assert store.read() == OTHERS
    store.delete(OTHERS.run_id)
    assert store.read() is None
    # Nor is it missed.
    store.delete(OTHERS.run_id)

from __future__ import annotations

import pytest
from controller_play import furnished_store

from pytest_k8snet.lab import reconcile
from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.reconcile import Recorder


@pytest.fixture
def store() -> Store:
    return furnished_store()


def about(name: str) -> Object:
    meta = {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "1"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta}


def told(store: Store) -> dict[str, int]:
    """How often each message has been told."""
    return {event["message"]: event["count"] for event in store.list("events")}


def test_the_same_again_counts_up(store: Store) -> None:
    recorder = Recorder(store, "kubelet", host="node1")
    for _ in range(3):
        recorder.record(about("p"), "Failed", "no image", kind="Warning")
    recorder.record(about("q"), "Failed", "no command", kind="Warning")
    assert told(store) == {"no image": 3, "no command": 1}


def test_those_that_were_not_told_for_longest_are_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fewer than a lab keeps, to be read at a glance.
    monkeypatch.setattr(reconcile, "KEPT_EVENTS", 2)
    recorder = Recorder(store, "kubelet")
    for message in ("one", "two", "one", "three"):
        recorder.record(about("p"), "Failed", message)
    assert told(store) == {"one": 2, "three": 1}
    recorder.record(about("p"), "Failed", "two")
    assert told(store) == {"two": 1, "three": 1}
    Recorder(store, "scheduler").record(about("p"), "Scheduled", "to node1")
    assert len(told(store)) == 3

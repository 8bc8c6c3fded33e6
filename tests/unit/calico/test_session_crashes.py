"""A run that dies at any moment, or gets no answer to any of its writes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count

import pytest
from store_api import StoreApi
from store_sessions import (
    JOURNAL,
    KINDS,
    VXLAN,
    a_cluster,
    crash_at,
    dies,
    leave_changed,
    objects,
    run_through_three_modes,
    session,
)

from pytest_k8snet.change import restore
from pytest_k8snet.change.decision import Strategy
from pytest_k8snet.change.restore import restore_cluster
from pytest_k8snet.errors import ConnectError, K8sNetError, RestoreError

NOTHING = ["Nothing to restore: no run has left anything that needs it."]


def clusters() -> Iterator[tuple[str, Strategy]]:
    for kind in KINDS:
        yield kind, "in-place"
        yield kind, "dedicated"


@pytest.mark.parametrize(("kind", "strategy"), list(clusters()))
def test_after_a_crash_before_any_request_restore_puts_everything_back(
    kind: str, strategy: Strategy
) -> None:
    for request in count(1):
        api = a_cluster(kind)
        before = objects(api)
        if not crash_at(api, strategy, request=request):
            break
        restore_cluster(api)
        assert objects(api) == before, f"died before request {request}"
        assert restore_cluster(api) == NOTHING
    assert request > 20


@pytest.mark.parametrize("controllers", ["at-once", "after-the-restore"])
@pytest.mark.parametrize(("kind", "strategy"), list(clusters()))
def test_after_a_crash_right_after_any_write_restore_puts_everything_back(
    monkeypatch: pytest.MonkeyPatch, kind: str, strategy: Strategy, controllers: str
) -> None:
    if controllers == "after-the-restore":
        monkeypatch.setattr(restore, "_OPERATOR_SECONDS", 0.0)  # 20 seconds in earnest
    for write in count(1):
        api = a_cluster(kind)
        before = objects(api)
        if not crash_at(api, strategy, write=write):
            break
        played = api.after_write
        if controllers == "after-the-restore":
            api.after_write = lambda: None
        restore_cluster(api)
        played()
        assert objects(api) == before, f"died after write {write}"
    assert write > 7


# What is restored, and through which group: each way that there is, once.
@pytest.mark.parametrize(
    ("kind", "strategy"),
    [
        ("manifest-A", "dedicated"),
        ("manifest-B", "in-place"),
        ("operator-A", "in-place"),
        ("operator-B", "in-place"),
        ("operator-C", "dedicated"),
    ],
)
def test_a_restore_that_dies_itself_is_repeated(kind: str, strategy: Strategy) -> None:
    for request in count(1):
        api = a_cluster(kind)
        before = objects(api)
        leave_changed(api, strategy)
        survived = not dies(partial(restore_cluster, api), api, request=request)
        restore_cluster(api)
        assert objects(api) == before, f"died before request {request}"
        if survived:
            break
    assert request > 7


def lose_answer(api: StoreApi, number: int) -> list[int]:
    """Lose the answer to a write, counted from one, beyond all repeats; whether it came to that."""
    played = api.after_write
    written = count(1)
    lost: list[int] = []

    def after_write() -> None:
        played()
        if next(written) == number:
            lost.append(number)
            raise ConnectError("the API server does not answer")

    api.after_write = after_write
    return lost


@pytest.mark.parametrize(("kind", "strategy"), list(clusters()))
def test_a_write_whose_answer_is_lost_is_taken_back_with_all_others(
    kind: str, strategy: Strategy
) -> None:
    for number in count(1):
        api = a_cluster(kind)
        before = objects(api)
        calico = session(api, strategy)
        lost = lose_answer(api, number)
        try:
            run_through_three_modes(calico)
        except RestoreError:
            # It met the putting back, which is then done from outside.
            restore_cluster(api)
        except K8sNetError:
            calico.close()
        assert objects(api) == before, f"no answer to write {number}"
        if not lost:
            break
    assert number > 7


@pytest.mark.parametrize(("number", "what"), [(1, "the Lease"), (2, "the journal")])
def test_a_run_goes_on_after_the_answer_to_its_claim_was_lost(number: int, what: str) -> None:
    api = a_cluster("manifest-A")
    before = objects(api)
    lose_answer(api, number)
    with session(api, "in-place") as calico:
        with pytest.raises(ConnectError):
            calico.enter(VXLAN)
        assert calico.enter(VXLAN).mode is VXLAN, what
        assert api.get(JOURNAL)
    assert objects(api) == before

"""Two runs at the same Lease at the same moment, and the thread that renews it."""

from __future__ import annotations

import threading

import pytest
from store_api import StoreApi, meanwhile
from store_sessions import LEASE, a_cluster, bury

from pytest_k8snet.change.lease import Holder, Lock
from pytest_k8snet.cluster.api_errors import ServerBusyError
from pytest_k8snet.errors import ConflictError, LockedError


def a_lock(api: StoreApi, name: str) -> Lock:
    """A lock of a process on another machine."""
    return Lock(api, holder=Holder(identity=name, process=""))


def holder(api: StoreApi) -> str:
    identity: str = api.get(LEASE)["spec"]["holderIdentity"]
    return identity


@pytest.mark.parametrize(("method", "of"), [("POST", LEASE.rpartition("/")[0]), ("PUT", LEASE)])
def test_of_two_runs_that_see_a_free_cluster_one_gets_it(method: str, of: str) -> None:
    api = a_cluster("manifest-A")
    if method == "PUT":
        dead = a_lock(api, "k8snet-dead")
        dead.acquire()
        dead._stop.set()
        bury(api)
    other, mine = a_lock(api, "k8snet-other"), a_lock(api, "k8snet-mine")
    meanwhile(api, method, of, other.acquire)
    clock = iter(range(100))
    with pytest.raises(LockedError, match="Another run holds this cluster: k8snet-other"):
        mine.acquire(clock=lambda: next(clock), sleep=lambda seconds: other._renew_once())
    assert not mine.held
    assert holder(api) == "k8snet-other"
    other.release()


def test_a_renewal_does_not_undo_a_takeover_of_the_same_moment() -> None:
    api = a_cluster("manifest-A")
    mine = a_lock(api, "k8snet-mine")
    mine.acquire()
    mine._stop.set()

    def take_over() -> None:
        lease = api.get(LEASE)
        lease["spec"]["holderIdentity"] = "k8snet-other"
        api.replace(LEASE, lease)

    meanwhile(api, "PUT", LEASE, take_over)
    with pytest.raises(ConflictError):
        mine._renew_once()
    assert holder(api) == "k8snet-other"
    mine._renew_once()
    with pytest.raises(LockedError, match="no longer holds the cluster"):
        mine.check()
    mine.release()
    assert holder(api) == "k8snet-other"


class Rounds(threading.Event):
    """What a renewer waits for: its pauses are over at once, and can be waited for in turn."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self._begun.release()
        return super().wait(0.001)

    def pass_by(self) -> None:
        """Return after a whole round that began after now."""
        while self._begun.acquire(blocking=False):
            pass
        for _ in range(2):
            assert self._begun.acquire(timeout=10)


def renewing_fast(api: StoreApi) -> tuple[Lock, Rounds]:
    lock, rounds = a_lock(api, "k8snet-mine"), Rounds()
    lock._stop = rounds
    lock.acquire()
    rounds.pass_by()
    return lock, rounds


def test_a_moments_trouble_does_not_end_the_renewing() -> None:
    api = a_cluster("manifest-A")
    lock, rounds = renewing_fast(api)

    def refuse(method: str, path: str) -> None:
        raise ServerBusyError("the API server could not get it (HTTP 503)", status=503)

    api.refuse = refuse
    rounds.pass_by()
    api.refuse = lambda method, path: None
    before = api.get(LEASE)["metadata"]["resourceVersion"]
    rounds.pass_by()
    assert api.get(LEASE)["metadata"]["resourceVersion"] != before
    lock.release()


def test_nothing_is_asked_until_the_last_of_several_silences_has_ended() -> None:
    api = a_cluster("manifest-A")
    lock, rounds = renewing_fast(api)
    with lock.quiet_period(1):
        with lock.quiet_period(1):
            rounds.pass_by()
        api.requests.clear()
        rounds.pass_by()
        assert api.requests == []
    rounds.pass_by()
    assert ("PUT", LEASE) in api.requests
    lock.release()
    assert not api.store.list("leases.coordination.k8s.io")

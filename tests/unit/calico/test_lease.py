from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from store_api import StoreApi
from store_sessions import IPIP, JOURNAL, LEASE, NEVER, a_cluster, objects, session

from pytest_k8snet.causes import Cause
from pytest_k8snet.change import lease as locks
from pytest_k8snet.change.lease import LEASE_SECONDS, Holder, Lock
from pytest_k8snet.change.restore import restore_cluster
from pytest_k8snet.change.session import CalicoSession
from pytest_k8snet.cluster.api_errors import ServerBusyError
from pytest_k8snet.errors import ApiError, ConflictError, ForbiddenError, LockedError, NotFoundError


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self, every_five_seconds: Callable[[], None] = lambda: None) -> None:
        self.now = 0.0
        self._then = every_five_seconds

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now % 5 < seconds:
            self._then()


def held_elsewhere(api: StoreApi) -> Lock:
    """The cluster, held by a process on another machine."""
    holder = Holder(identity="k8snet-far (x@y)", process="")
    lock = Lock(api, holder=holder)
    lock.acquire()
    return lock


def two_seconds_after_its_end(calico: CalicoSession) -> Lock:
    """A Lease that has run out unseen, as when the process was stopped."""
    lock = calico._lock
    lock._stop.set()
    lock._runs_out_at = locks.seconds_now() - 2
    return lock


def test_a_second_run_is_refused_with_the_name_of_the_first() -> None:
    api = a_cluster("manifest-A")
    with session(api) as first:
        first.enter(NEVER)
        second = session(api, "in-place")
        with pytest.raises(LockedError) as caught:
            second.enter(IPIP)
        assert caught.value.problem.startswith("Another run holds this cluster: k8snet-abc123 (")
        assert f"process {os.getpid()}" in caught.value.problem
        second.close()
        assert api.get(LEASE)
        with pytest.raises(LockedError):
            restore_cluster(api)
    assert not api.store.list("leases.coordination.k8s.io")


def test_a_lease_that_is_lost_ends_the_writing() -> None:
    api = a_cluster("manifest-A")
    calico = session(api, "in-place")
    calico.enter(IPIP)
    lease = api.get(LEASE)
    lease["spec"]["holderIdentity"] = "k8snet-other (someone@else)"
    api.replace(LEASE, lease)
    lock = calico._lock
    lock._renew_once()
    with pytest.raises(LockedError, match="no longer holds the cluster"):
        calico.enter(NEVER)
    with pytest.raises(LockedError):
        calico.close()
    # The other's Lease is not deleted, and what must be restored is still on record.
    assert api.get(LEASE)["spec"]["holderIdentity"] == "k8snet-other (someone@else)"
    assert api.get(JOURNAL)


def test_a_page_from_in_between_does_not_say_that_the_lease_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = a_cluster("manifest-A")
    calico = session(api, "in-place")
    calico.enter(IPIP)
    foreign = NotFoundError("no such page", status=404)
    foreign.absent = False

    def get(path: str, **query: str) -> dict[str, Any]:
        raise foreign

    # A store names every object that it does not have: a load balancer's page has to be played.
    with monkeypatch.context() as patched:
        patched.setattr(api, "get", get)
        with pytest.raises(NotFoundError, match="no such page"):
            calico._lock._renew_once()
    calico.close()
    assert not api.store.list("leases.coordination.k8s.io")


def test_a_lease_that_ran_out_unseen_is_looked_at_before_the_next_write() -> None:
    api = a_cluster("manifest-A")
    calico = session(api, "in-place")
    calico.enter(IPIP)
    lease = api.get(LEASE)
    lease["spec"]["holderIdentity"] = "k8snet-other (someone@else)"
    api.replace(LEASE, lease)
    two_seconds_after_its_end(calico)
    writes = len([method for method, _ in api.requests if method != "GET"])
    with pytest.raises(LockedError, match="no longer holds the cluster"):
        calico.enter(NEVER)
    assert len([method for method, _ in api.requests if method != "GET"]) == writes
    with pytest.raises(LockedError):
        calico.close()


def busy(api: StoreApi, times: int) -> None:
    """Have the server answer so many requests for the Lease with 503."""
    refused: list[str] = []

    def refuse(method: str, path: str) -> None:
        if path == LEASE and len(refused) < times:
            refused.append(method)
            raise ServerBusyError("the API server could not get it (HTTP 503)", status=503)

    api.refuse = refuse


def lost_answer(api: StoreApi, method: str) -> None:
    """Lose the answer to the first such request: sent again, it meets its own effect."""
    real = getattr(api, method)
    lost: list[str] = []

    def send(path: str, body: dict[str, Any]) -> Any:
        answer = real(path, body)
        if not lost:
            lost.append(path)
            raise ConflictError("exists already, or changed by someone else", status=409)
        return answer

    # The wire is the only thing that is not real here.
    setattr(api, method, send)


def _writes(api: StoreApi) -> int:
    """Count the requests that change anything but the Lease."""
    return len([path for method, path in api.requests if method != "GET" and path != LEASE])


@pytest.mark.parametrize(
    ("refused", "error", "cause"),
    [
        (
            "GET",
            ServerBusyError("the API server could not get it (HTTP 503)", status=503),
            Cause.API_TROUBLE,
        ),
        ("PUT", ConflictError("changed by someone else", status=409), Cause.LEASE_CONTESTED),
        ("PUT", ForbiddenError("may not update leases", status=403), Cause.LEASE_FORBIDDEN),
    ],
)
def test_where_nobody_can_tell_whether_the_lease_is_held_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, refused: str, error: ApiError, cause: Cause
) -> None:
    monkeypatch.setattr(locks, "_INSIST_SECONDS", 0.3)  # a quarter of a minute in earnest
    api = a_cluster("manifest-A")
    calico = session(api, "in-place")
    calico.enter(IPIP)
    two_seconds_after_its_end(calico)
    writes = _writes(api)

    def refuse(method: str, path: str) -> None:
        if path == LEASE and method == refused:
            raise error

    api.refuse = refuse
    for change in (lambda: calico.enter(NEVER), calico.close):
        with pytest.raises(LockedError) as caught:
            change()
        assert str(caught.value) == (
            "This run may no longer hold the cluster, so it changes nothing more\n"
            f"  found: the Lease k8snet-change ran out and cannot be renewed: {error.problem}\n"
            f"  to do: {cause.remedy}"
        )
    assert _writes(api) == writes
    assert api.get(JOURNAL)


@pytest.mark.parametrize("trouble", ["busy", "conflict"])
def test_a_lease_that_ran_out_survives_a_moments_trouble_before_all_is_put_back(
    trouble: str,
) -> None:
    api = a_cluster("manifest-A")
    before = objects(api)
    calico = session(api, "in-place")
    calico.enter(IPIP)
    lock = two_seconds_after_its_end(calico)
    if trouble == "busy":
        busy(api, 2)
    else:
        lost_answer(api, "replace")
    lock.check()
    assert lock._runs_out_at > locks.seconds_now()
    calico.close()
    assert objects(api) == before


def test_a_machine_that_slept_looks_at_its_lease_before_the_next_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = a_cluster("manifest-A")
    calico = session(api, "in-place")
    calico.enter(IPIP)
    calico._lock._stop.set()
    lease = api.get(LEASE)
    lease["spec"]["holderIdentity"] = "k8snet-other (someone@else)"
    api.replace(LEASE, lease)
    real = time.clock_gettime

    def after_a_minute_of_sleep(clock: int) -> float:
        return real(clock) + (60 if clock == time.CLOCK_BOOTTIME else 0)

    # A machine cannot be put to sleep by a test.
    monkeypatch.setattr(time, "clock_gettime", after_a_minute_of_sleep)
    with pytest.raises(LockedError, match="no longer holds the cluster"):
        calico.enter(NEVER)
    with pytest.raises(LockedError):
        calico.close()


@pytest.mark.parametrize("method", ["create", "replace"])
def test_a_run_knows_its_own_lease_when_the_answer_got_lost(method: str) -> None:
    api = a_cluster("manifest-A")
    if method == "replace":
        held_elsewhere(api)._stop.set()
    lost_answer(api, method)
    clock = Clock()
    mine = Lock(api, holder=Holder.of_this_process("k8snet-me"))
    mine.acquire(clock=clock, sleep=clock.sleep)
    assert mine.held
    assert api.get(LEASE)["spec"]["holderIdentity"].startswith("k8snet-me (")
    assert clock.now <= (LEASE_SECONDS + 2 if method == "replace" else 0)
    mine.release()
    assert not api.store.list("leases.coordination.k8s.io")


def test_a_lease_that_is_taken_over_at_the_last_moment_is_not_deleted() -> None:
    api = a_cluster("manifest-A")
    mine = Lock(api, holder=Holder.of_this_process("k8snet-me"))
    mine.acquire()
    real = api.delete

    def delete(path: str, **options: Any) -> None:
        lease = api.get(LEASE)
        lease["spec"]["holderIdentity"] = "k8snet-other (someone@else)"
        api.replace(LEASE, lease)
        real(path, **options)

    # Stands for somebody who is faster.
    api.delete = delete  # type: ignore[method-assign]
    mine.release()
    assert api.get(LEASE)["spec"]["holderIdentity"] == "k8snet-other (someone@else)"


def test_a_holder_elsewhere_that_does_not_renew_is_given_the_leases_time() -> None:
    api = a_cluster("manifest-A")
    foreign = held_elsewhere(api)
    foreign._stop.set()
    clock = Clock()
    told: list[str] = []
    mine = Lock(
        api,
        holder=Holder.of_this_process("k8snet-me"),
        on_wait=told.append,
    )
    mine.acquire(clock=clock, sleep=clock.sleep)
    assert told == ["waiting for k8snet-far (x@y): if it is gone, its Lease runs out in 15 s"]
    assert LEASE_SECONDS < clock.now < LEASE_SECONDS + 2
    assert api.get(LEASE)["spec"]["holderIdentity"].startswith("k8snet-me")
    assert api.get(LEASE)["spec"]["leaseTransitions"] == 1
    mine.release()
    assert not api.store.list("leases.coordination.k8s.io")


def test_a_run_that_waits_for_a_lease_says_so() -> None:
    api = a_cluster("manifest-A")
    held_elsewhere(api)._stop.set()
    lease = api.get(LEASE)
    lease["spec"]["leaseDurationSeconds"] = 1
    api.replace(LEASE, lease)
    told: list[str] = []
    with session(api, on_wait=told.append) as calico:
        calico.begin()
    assert told == ["waiting for k8snet-far (x@y): if it is gone, its Lease runs out in 1 s"]


def test_a_holder_that_measures_in_silence_keeps_the_lease_for_as_long() -> None:
    api = a_cluster("manifest-A")
    foreign = held_elsewhere(api)
    clock = Clock()
    mine = Lock(api, holder=Holder.of_this_process("k8snet-me"))
    with foreign.quiet_period(0.1):
        assert api.get(LEASE)["spec"]["leaseDurationSeconds"] == LEASE_SECONDS
    # The second may end first: threads may measure at the same time.
    with foreign.quiet_period(59.5):
        with foreign.quiet_period(0.1):
            pass
        mine.acquire(clock=clock, sleep=clock.sleep)
    assert clock.now > LEASE_SECONDS + 59.5
    mine.release()


def test_a_holder_elsewhere_that_renews_is_not_waited_for() -> None:
    api = a_cluster("manifest-A")
    foreign = held_elsewhere(api)
    clock = Clock(every_five_seconds=foreign._renew_once)
    mine = Lock(api, holder=Holder.of_this_process("k8snet-me"))
    with pytest.raises(LockedError, match=r"Another run holds this cluster: k8snet-far \(x@y\)"):
        mine.acquire(clock=clock, sleep=clock.sleep)
    assert 5 <= clock.now <= 6
    foreign.release()


def test_whether_a_process_lives_is_known_on_its_own_machine_only() -> None:
    here = Holder.of_this_process("k8snet-1")
    assert here.alive is True
    machine, _, _ = here.process.rpartition("/")
    assert Holder(identity="x", process=f"{machine}/1").alive is False
    assert Holder(identity="x", process="other-boot/pid:[1]/17/99").alive is None
    assert Holder(identity="x", process="").alive is None

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from cluster_shapes import (
    DEFAULT_POOL,
    FAR,
    NODE1,
    NODE2,
    cluster,
    installation_object,
    raw_pool,
)
from players import MANAGED, Players
from store_api import StoreApi

from pytest_k8snet.calico import lock as locks
from pytest_k8snet.calico.inspection import inspect
from pytest_k8snet.calico.journal import Journal, JournalStore
from pytest_k8snet.calico.lock import LEASE_NAME, Holder, Lock
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.restore import restore_cluster
from pytest_k8snet.calico.session import CalicoSession, ChangeSettings, Strategy
from pytest_k8snet.cluster import liveness
from pytest_k8snet.cluster.nodes import Node
from pytest_k8snet.errors import (
    ApiError,
    ForbiddenError,
    LockedError,
    ModeUnavailableError,
    NotConvergedError,
    RestoreError,
)
from pytest_k8snet.lab.api.status import StatusError

NEVER = CalicoMode.NEVER
VXLAN, VXLAN_CS = CalicoMode.VXLAN_ALWAYS, CalicoMode.VXLAN_CROSS_SUBNET
IPIP, IPIP_CS = CalicoMode.IPIP_ALWAYS, CalicoMode.IPIP_CROSS_SUBNET
JOURNAL = "/api/v1/namespaces/kube-system/configmaps/k8snet-journal"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{LEASE_NAME}"


def a_cluster(kind: str, pool: dict[str, Any] | None = None) -> StoreApi:
    """A cluster by a short name: ``manifest-A``, ``operator-B``..., with its controllers."""
    install, _, shape = kind.partition("-")
    operated = install == "operator"
    raw = pool or raw_pool(mode=VXLAN_CS, labels=dict(MANAGED) if operated else None)
    api = cluster(shape=shape, install=install, pools=(raw,))  # type: ignore[arg-type]
    if operated:
        mode = CalicoMode.of_pool(raw["spec"].get("ipipMode"), raw["spec"].get("vxlanMode"))
        api.create(
            "/apis/operator.tigera.io/v1/installations",
            installation_object(encapsulation=mode.encapsulation),
        )
        made = api.store.create("tigerastatuses.operator.tigera.io", available("apiserver"))
        made["status"] = available("apiserver")["status"]
        api.store.update("tigerastatuses.operator.tigera.io", made, subresource="status")
    Players(api, operator=operated)
    return api


def available(name: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "status": {"conditions": [{"type": "Available", "status": "True"}]},
    }


def session(
    api: StoreApi,
    strategy: Strategy = "dedicated",
    told: list[dict[str, Any]] | None = None,
    nodes: Sequence[Node] = (NODE1, NODE2),
    **change: Any,
) -> CalicoSession:
    return CalicoSession(
        api,
        installation=inspect(api),
        nodes=nodes,
        run_id="k8snet-abc123",
        change=ChangeSettings(
            strategy=strategy, pool=DEFAULT_POOL, stability_seconds=0, timeout_seconds=1, **change
        ),
        shells={},
        on_change=(told if told is not None else []).append,
    )


def objects(api: StoreApi) -> dict[str, Any]:
    """Everything that a run may touch, without versions and times, which no one can put back."""
    found: dict[str, Any] = {}
    for row in api.store.registry.served():
        if row.plural in ("subjectaccessreviews", "namespaces") or not row.verbs.count("list"):
            continue
        for one in api.store.list(row):
            metadata = one["metadata"]
            place = f"{row.group}/{row.plural}/{metadata.get('namespace', '')}"
            name = f"{place}/{metadata['name']}"
            found[name] = {
                "spec": one.get("spec"),
                "data": one.get("data"),
                "labels": one["metadata"].get("labels"),
                "annotations": one["metadata"].get("annotations"),
            }
    return found


KINDS = ["manifest-A", "manifest-B", "manifest-C", "operator-B"]


@pytest.mark.parametrize("kind", KINDS)
def test_dedicated_makes_a_pool_per_mode_at_once_and_deletes_them_all(kind: str) -> None:
    api = a_cluster(kind)
    before = objects(api)
    told: list[dict[str, Any]] = []
    with session(api, told=told) as calico:
        pools = {mode: calico.enter(mode) for mode in CalicoMode}
        assert {pool.name for pool in pools.values()} == {
            f"k8snet-abc123-{mode.value.lower()}" for mode in CalicoMode
        }
        assert {pool.name: pool.mode for pool in inspect(api).pools if pool.run_id} == {
            pool.name: mode for mode, pool in pools.items()
        }
        assert calico.enter(VXLAN) is pools[VXLAN]
        created = [change["state"] for change in told]
        assert created == ["applied"] * 5
    assert objects(api) == before
    assert [change["state"] for change in told[5:]] == ["restored"] * 5


@pytest.mark.parametrize("families", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_that_pods_of_others_have_addresses_of_is_kept_until_they_are_gone(
    kind: str, families: int
) -> None:
    api = a_cluster(kind)
    before = objects(api)
    calico = session(api)
    address = calico.enter(VXLAN).cidr.replace("0/", "7/").partition("/")[0]
    pod = {
        "metadata": {"name": "stranger"},
        "spec": {"nodeName": NODE1.name, "containers": [{"name": "main", "image": "web"}]},
    }
    made = api.store.create("pods", pod, "kube-system")
    made["status"] = {"phase": "Running", "podIP": address}
    if families == 2:
        made["status"] |= {"podIP": "fd00::7", "podIPs": [{"ip": "fd00::7"}, {"ip": address}]}
    api.store.update("pods", made, "kube-system", subresource="status")
    with pytest.raises(RestoreError) as caught:
        calico.close()
    assert (
        "vxlan-always is kept, as pods that are not the run's have addresses in it; have them made "
        "anew, as it gives out no more"
    ) in str(caught.value)
    assert f"kube-system/stranger ({address})" in caught.value.found
    (kept,) = [pool for pool in inspect(api).pools if pool.run_id]
    assert (kept.mode, kept.disabled) == (VXLAN, True)
    with pytest.raises(RestoreError, match="is kept"):
        restore_cluster(api)
    api.store.delete("pods", "stranger", "kube-system", grace_seconds=0)
    restore_cluster(api)
    assert objects(api) == before


def test_it_is_known_beforehand_which_entering_changes_the_cluster() -> None:
    with session(a_cluster("manifest-A"), "none") as calico:
        assert not any(calico.would_change(mode) for mode in CalicoMode)
    with session(a_cluster("manifest-A"), "dedicated") as calico:
        assert all(calico.would_change(mode) for mode in CalicoMode)
        calico.enter(VXLAN)
        # The pools of all modes were made with the first.
        assert not any(calico.would_change(mode) for mode in CalicoMode)
    with session(a_cluster("manifest-A"), "in-place") as calico:
        assert not calico.would_change(VXLAN_CS)
        assert calico.would_change(VXLAN)
        calico.enter(VXLAN)
        assert not calico.would_change(VXLAN)
        assert calico.would_change(VXLAN_CS)


@pytest.mark.parametrize("kind", KINDS)
def test_in_place_flips_the_pool_and_puts_it_back(kind: str) -> None:
    api = a_cluster(kind)
    before = objects(api)
    epochs = []
    with session(api, "in-place") as calico:
        for mode in CalicoMode:
            entered = calico.enter(mode)
            assert (entered.name, entered.mode) == (DEFAULT_POOL, mode)
            assert inspect(api).pools[0].mode is mode
            epochs.append(entered.epoch)
    assert epochs == [1, 2, 3, 4, 5]
    assert objects(api) == before


@pytest.mark.parametrize("kind", ["manifest-A", "manifest-B"])
def test_absent_fields_are_absent_again(kind: str) -> None:
    api = a_cluster(kind, raw_pool(mode=None, extraField="kept"))
    before = objects(api)
    assert "ipipMode" not in raw_spec(api)
    with session(api, "in-place") as calico:
        calico.enter(VXLAN)
        assert raw_spec(api)["ipipMode"] == "Never"
    assert objects(api) == before
    assert "ipipMode" not in raw_spec(api)


def raw_spec(api: StoreApi) -> dict[str, Any]:
    spec: dict[str, Any] = api.store.get("ippools.crd.projectcalico.org", DEFAULT_POOL)["spec"]
    return spec


def test_both_mode_fields_go_in_one_patch_with_the_resource_version() -> None:
    api = a_cluster("manifest-A")
    patches: list[tuple[str, Any]] = []
    real = api.patch

    def patch(path: str, body: Any, **more: Any) -> dict[str, Any]:
        patches.append((path, body))
        return real(path, body, **more)

    # Watches the wire: what is written is the point of the test.
    api.patch = patch  # type: ignore[method-assign]
    version = api.store.get("ippools.crd.projectcalico.org", DEFAULT_POOL)["metadata"][
        "resourceVersion"
    ]
    with session(api, "in-place") as calico:
        calico.enter(IPIP)
        assert patches == [
            (
                f"/apis/crd.projectcalico.org/v1/ippools/{DEFAULT_POOL}",
                {
                    "metadata": {"resourceVersion": version},
                    "spec": {"ipipMode": "Always", "vxlanMode": "Never"},
                },
            )
        ]


def test_without_permission_the_existing_pool_serves_and_nothing_is_written() -> None:
    api = a_cluster("manifest-A")
    with session(api, "none") as calico:
        assert calico.enter(VXLAN_CS).name == DEFAULT_POOL
        with pytest.raises(ModeUnavailableError, match="No pool of this cluster is in mode IPIP"):
            calico.enter(IPIP)
    assert not [request for request in api.requests[20:] if request[0] in ("PATCH", "PUT")]
    offers = {offer.mode: offer for offer in session(api, "none").modes()}
    assert [mode for mode, offer in offers.items() if offer.available] == [VXLAN_CS]
    assert offers[NEVER].remedy.startswith("Allow pools of the run's own")


def test_an_impossible_mode_is_left_out_of_the_pools_and_refused_before_any_write() -> None:
    api = a_cluster("manifest-A")
    api.create(
        "/apis/crd.projectcalico.org/v1/felixconfigurations",
        {"metadata": {"name": "default"}, "spec": {"ipipEnabled": False}},
    )
    before = objects(api)
    with session(api) as calico:
        with pytest.raises(ModeUnavailableError, match="would be a black hole"):
            calico.enter(IPIP)
        assert objects(api) == before
        calico.enter(NEVER)
        assert sorted(pool.mode.value for pool in inspect(api).pools if pool.run_id) == [
            "Never",
            "VXLAN-Always",
            "VXLAN-CrossSubnet",
        ]


def without_ipip(new: dict[str, Any], old: dict[str, Any] | None) -> None:
    if new["spec"].get("ipipMode", "Never") != "Never":
        raise StatusError(422, "Invalid", "spec.ipipMode: Forbidden: this cluster cannot do IPIP")


@pytest.mark.parametrize("strategy", ["dedicated", "in-place"])
def test_a_mode_that_the_api_server_refuses_is_unavailable_and_costs_no_other(
    strategy: Strategy,
) -> None:
    api = a_cluster("manifest-A")
    api.store.admission["ippools.crd.projectcalico.org"].append(without_ipip)
    before = objects(api)
    told: list[dict[str, Any]] = []
    with session(api, strategy, told) as calico:
        for mode in (IPIP, IPIP_CS):
            with pytest.raises(ModeUnavailableError, match=f"accepts no pool in mode {mode}") as no:
                calico.enter(mode)
            assert no.value.found == "spec.ipipMode: Forbidden: this cluster cannot do IPIP"
        assert calico.enter(VXLAN).mode is VXLAN
    assert objects(api) == before
    assert {change["state"] for change in told} == {"applied", "restored"}
    assert "IPIP" not in str(told)


def test_a_family_that_never_comes_up_costs_only_its_own_modes() -> None:
    api = a_cluster("manifest-A")
    Players(api, deaf=["ipip"])
    before = objects(api)
    with session(api) as calico:
        assert calico.enter(VXLAN).mode is VXLAN
        assert calico.enter(NEVER).mode is NEVER
        for mode in (IPIP, IPIP_CS):
            with pytest.raises(NotConvergedError) as caught:
                calico.enter(mode)
            assert "node1 has no IPIP tunnel address yet" in caught.value.found
    assert objects(api) == before


def test_across_subnets_a_pool_may_go_back_to_the_mode_that_it_was_in_and_to_no_other() -> None:
    nodes = (NODE1, FAR)
    with session(a_cluster("manifest-A"), "in-place", nodes=nodes) as calico:
        original = calico.installation.pools[0].mode
        assert original is VXLAN_CS
        with pytest.raises(ModeUnavailableError, match="could cut the pods of this cluster off"):
            calico.enter(NEVER)
    api = a_cluster("manifest-A", raw_pool(mode=NEVER))
    told: list[dict[str, Any]] = []
    with session(api, "in-place", told, nodes=nodes) as calico:
        calico.enter(VXLAN_CS)
        assert calico.would_change(NEVER)
        assert calico.enter(NEVER).mode is NEVER
    # The last mode was the first: there was nothing to write, and all the same it is put back.
    assert [(one["state"], one["what"]) for one in told][-1] == (
        "restored",
        f"IPPool {DEFAULT_POOL} is back in Never",
    )


def test_an_own_pool_that_somebody_deleted_is_not_told_as_left_behind() -> None:
    api = a_cluster("manifest-A")
    told: list[dict[str, Any]] = []
    with session(api, "dedicated", told) as calico:
        mine = calico.enter(VXLAN).name
        api.delete(f"/apis/crd.projectcalico.org/v1/ippools/{mine}")
    last = [one for one in told if one["object"] == f"ippools/{mine}"][-1]
    assert (last["state"], last["what"]) == ("restored", f"IPPool {mine} is gone")


def test_an_operator_that_reverts_is_named_at_the_time_out_and_all_is_put_back() -> None:
    api = a_cluster("manifest-A")
    before = objects(api)

    def revert() -> None:
        api.store.mutate(
            "ippools.crd.projectcalico.org",
            DEFAULT_POOL,
            None,
            lambda found: found["spec"].update(VXLAN_CS.pool_fields),
        )

    with session(api, "in-place") as calico:
        api.after_write = revert
        with pytest.raises(NotConvergedError) as caught:
            calico.enter(IPIP)
    assert caught.value.found == (
        f"IPPool {DEFAULT_POOL} is in mode VXLAN-CrossSubnet, expected IPIP-Always: not yet "
        "applied, or reverted"
    )
    assert objects(api) == before


def test_an_operator_without_an_api_server_has_its_pool_written_as_well() -> None:
    api = cluster(
        shape="A",
        install="operator",
        pools=(raw_pool(mode=VXLAN_CS, labels=dict(MANAGED)),),
    )
    api.create(
        "/apis/operator.tigera.io/v1/installations",
        installation_object(encapsulation="VXLANCrossSubnet"),
    )
    Players(api)  # nobody carries the Installation over
    before = objects(api)
    with session(api, "in-place") as calico:
        calico.enter(IPIP)
        assert inspect(api).pools[0].mode is IPIP
    assert objects(api) == before


# Crashes at every point.


class CrashError(BaseException):
    """Stands for kill -9: nothing of the run's own code gets to clean up after it."""


def crash_at(api: StoreApi, strategy: Strategy, request: int, *, after: bool) -> bool:
    """Run through three modes, and die right before or after a request; False if it survived."""
    count = 0
    died = False

    def refuse(method: str, path: str) -> None:
        nonlocal count, died
        count += 1
        if died or (count == request and not after) or (count == request + 1 and after):
            died = True
            raise CrashError

    calico = session(api, strategy)
    api.refuse = refuse
    try:
        for mode in (VXLAN, NEVER, IPIP):
            calico.enter(mode)
        calico.close()
    except CrashError:
        return True
    finally:
        api.refuse = lambda method, path: None
        bury(api)
    return False


def bury(api: StoreApi) -> None:
    """Make the Lease's holder a process that has ended."""
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    start = liveness._start_time(child.pid)
    child.communicate()
    for lease in api.store.list("leases.coordination.k8s.io"):
        lease["metadata"]["annotations"]["k8snet/process"] = (
            f"{liveness._machine()}/{child.pid}/{start}"
        )
        lease["spec"]["holderIdentity"] = "k8snet-abc123 (dead)"
        api.store.update("leases.coordination.k8s.io", lease)


def leave_changed(api: StoreApi, strategy: Strategy) -> None:
    """Leave a cluster as a run does that is killed right after its first change."""
    writes = 0

    def die() -> None:
        nonlocal writes
        writes += any("ippools" in path for _, path in api.requests[-1:])
        if writes:
            raise CrashError

    played, api.after_write = api.after_write, die
    with pytest.raises(CrashError):
        session(api, strategy).enter(VXLAN)
    api.after_write = played
    bury(api)


def crash_points() -> Iterator[tuple[str, Strategy]]:
    for kind in KINDS:
        yield kind, "in-place"
        yield kind, "dedicated"


@pytest.mark.parametrize(("kind", "strategy"), list(crash_points()))
def test_after_a_crash_at_any_request_restore_puts_everything_back(
    kind: str, strategy: Strategy
) -> None:
    # Every third request, by turns before and after it: some forty deaths for each cluster.
    request = 1
    while True:
        api = a_cluster(kind)
        before = objects(api)
        if not crash_at(api, strategy, request, after=request % 2 == 0):
            break
        restore_cluster(api)
        assert objects(api) == before, f"died at request {request}"
        assert restore_cluster(api) == [
            "Nothing to restore: no run has left anything that needs it."
        ]
        request += 3
    assert request > 20


@pytest.mark.parametrize("strategy", ["in-place", "dedicated"])
def test_the_next_run_heals_the_cluster_and_goes_on(strategy: Strategy) -> None:
    api = a_cluster("manifest-A")
    before = objects(api)
    leave_changed(api, strategy)
    with session(api, strategy) as calico:
        calico.enter(VXLAN)
    assert objects(api) == before


def test_a_run_that_may_change_nothing_refuses_a_cluster_left_changed() -> None:
    api = a_cluster("manifest-A")
    leave_changed(api, "dedicated")
    with session(api, "none") as calico, pytest.raises(RestoreError) as caught:
        calico.enter(VXLAN_CS)
    assert "was killed before it could restore it" in caught.value.problem
    assert "run `k8snet restore`" in caught.value.remedy


# Restoring against odds.


def test_restore_uses_the_v1_objects_when_the_calico_api_server_is_cut_off() -> None:
    api = a_cluster("manifest-B")
    before = objects(api)
    calico = session(api, "in-place")
    calico.enter(NEVER)

    def refuse(method: str, path: str) -> None:
        if path.startswith("/apis/projectcalico.org/v3"):
            raise ApiError("the server is currently unable to handle the request", status=503)

    api.refuse = refuse
    calico.close()
    api.refuse = lambda method, path: None
    assert objects(api) == before


def test_a_journal_of_a_newer_version_is_neither_obeyed_nor_overwritten() -> None:
    api = a_cluster("manifest-A")
    text = '{"schema": 2, "run": "k8snet-new"}'
    api.create(
        "/api/v1/namespaces/kube-system/configmaps",
        {"metadata": {"name": "k8snet-journal"}, "data": {"journal.json": text}},
    )
    with session(api) as calico, pytest.raises(RestoreError) as caught:
        calico.enter(VXLAN)
    assert caught.value.found == "schema 2, this version knows 1"
    with pytest.raises(RestoreError, match="another version of pytest-k8snet"):
        restore_cluster(api)
    assert api.get(JOURNAL)["data"]["journal.json"] == text
    assert not api.store.list("leases.coordination.k8s.io")


@pytest.mark.parametrize("data", [{"journal.json": "not json"}, {"other": "x"}, {}])
def test_a_foreign_journal_is_left_alone(data: dict[str, str]) -> None:
    api = a_cluster("manifest-A")
    api.create(
        "/api/v1/namespaces/kube-system/configmaps",
        {"metadata": {"name": "k8snet-journal"}, "data": data},
    )
    with pytest.raises(RestoreError, match="is no journal of pytest-k8snet"):
        restore_cluster(api)
    assert api.get(JOURNAL).get("data", {}) == data


def test_a_journal_survives_its_text() -> None:
    journal = Journal(
        run_id="k8snet-1",
        strategy="dedicated",
        owner="me",
        time="now",
        shape="A",
        group="crd.projectcalico.org/v1",
        own_pools=("k8snet-1-never",),
    )
    assert Journal.from_json(journal.to_json(), where="here") == journal


def test_a_pool_that_is_not_the_runs_own_is_never_deleted() -> None:
    api = a_cluster("manifest-A")
    api.create(
        "/apis/crd.projectcalico.org/v1/ippools",
        {
            **raw_pool("k8snet-abc123-never", "10.9.0.0/16"),
            "metadata": {"name": "k8snet-abc123-never"},
        },
    )
    JournalStore(api, "kube-system").write(
        Journal(
            run_id="k8snet-abc123",
            strategy="dedicated",
            owner="me",
            time="now",
            shape="A",
            group="crd.projectcalico.org/v1",
            own_pools=("k8snet-abc123-never",),
        )
    )
    with pytest.raises(RestoreError) as caught:
        restore_cluster(api)
    assert "was not made by run k8snet-abc123, so it is not deleted" in caught.value.found
    assert api.get(JOURNAL)


def test_a_pool_that_was_replaced_meanwhile_is_left_alone() -> None:
    api = a_cluster("manifest-A")
    calico = session(api, "in-place")
    calico.enter(IPIP)
    path = f"/apis/crd.projectcalico.org/v1/ippools/{DEFAULT_POOL}"
    api.delete(path)
    replacement = raw_pool(cidr="10.8.0.0/16")
    replacement["metadata"].pop("resourceVersion")
    api.create("/apis/crd.projectcalico.org/v1/ippools", replacement)
    with pytest.raises(RestoreError) as caught:
        calico.close()
    assert "cidr 10.8.0.0/16, expected 10.244.0.0/16" in caught.value.found
    assert raw_spec(api)["ipipMode"] == "Never"


def test_blocks_of_own_pools_go_with_them_where_no_server_cleans_up() -> None:
    api = a_cluster("manifest-A")
    before = objects(api)
    with session(api) as calico:
        pool = calico.enter(NEVER)
        block = str(pool.cidr).replace("/25", "/28")
        name = block.replace(".", "-").replace("/", "-")
        api.create(
            "/apis/crd.projectcalico.org/v1/ipamblocks",
            {
                "metadata": {"name": name},
                "spec": {"cidr": block, "affinity": "host:node1", "allocations": [None] * 16},
            },
        )
        api.create(
            "/apis/crd.projectcalico.org/v1/blockaffinities",
            {
                "metadata": {"name": f"node1-{name}"},
                "spec": {"cidr": block, "node": "node1", "state": "confirmed"},
            },
        )
    assert objects(api) == before


@pytest.mark.parametrize("strategy", ["in-place", "dedicated"])
def test_a_user_who_may_not_list_pods_everywhere_can_run_and_restore(strategy: Strategy) -> None:
    api = a_cluster("manifest-A")
    before = objects(api)

    def refuse(method: str, path: str) -> None:
        if path in ("/api/v1/pods", "/api/v1/services", "/apis/apps/v1/deployments"):
            raise ForbiddenError(f'user "tester" may not list {path}', status=403)

    api.refuse = refuse
    with session(api, strategy) as calico:
        calico.enter(IPIP)
    assert objects(api) == before
    leave_changed(api, strategy)
    restore_cluster(api)
    assert objects(api) == before


# The lock.


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
    lock = calico._switcher._tenure._lock
    lock._renew_once()
    with pytest.raises(LockedError, match="no longer holds the cluster"):
        calico.enter(NEVER)
    with pytest.raises(LockedError):
        calico.close()
    # The other's Lease is not deleted, and what must be restored is still on record.
    assert api.get(LEASE)["spec"]["holderIdentity"] == "k8snet-other (someone@else)"
    assert api.get(JOURNAL)


def test_a_lease_that_ran_out_unseen_is_looked_at_before_the_next_write() -> None:
    api = a_cluster("manifest-A")
    calico = session(api, "in-place")
    calico.enter(IPIP)
    lock = calico._switcher._tenure._lock
    lock._stop.set()
    lease = api.get(LEASE)
    lease["spec"]["holderIdentity"] = "k8snet-other (someone@else)"
    api.replace(LEASE, lease)
    # As after a process that was stopped for longer than the Lease lasts.
    lock._runs_out_at = time.monotonic() - 1
    writes = len([method for method, _ in api.requests if method != "GET"])
    with pytest.raises(LockedError, match="no longer holds the cluster"):
        calico.enter(NEVER)
    assert len([method for method, _ in api.requests if method != "GET"]) == writes
    with pytest.raises(LockedError):
        calico.close()


def test_a_holder_elsewhere_that_does_not_renew_is_given_the_leases_time() -> None:
    api = a_cluster("manifest-A")
    foreign = Lock(
        api, holder=Holder(identity="k8snet-far (x@y)", process=""), namespace="kube-system"
    )
    foreign.acquire()
    foreign._stop.set()
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    mine = Lock(api, holder=Holder.of_this_process("k8snet-me"), namespace="kube-system")
    mine.acquire(clock=lambda: now, sleep=sleep)
    assert locks.LEASE_SECONDS < now < locks.LEASE_SECONDS + 2
    assert api.get(LEASE)["spec"]["holderIdentity"].startswith("k8snet-me")
    assert api.get(LEASE)["spec"]["leaseTransitions"] == 1
    mine.release()
    assert not api.store.list("leases.coordination.k8s.io")


def test_a_holder_that_measures_in_silence_keeps_the_lease_for_as_long() -> None:
    api = a_cluster("manifest-A")
    foreign = Lock(
        api, holder=Holder(identity="k8snet-far (x@y)", process=""), namespace="kube-system"
    )
    foreign.acquire()
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    mine = Lock(api, holder=Holder.of_this_process("k8snet-me"), namespace="kube-system")
    with foreign.silence(0.1):
        assert api.get(LEASE)["spec"]["leaseDurationSeconds"] == locks.LEASE_SECONDS
    # The second may end first: threads may measure at the same time.
    with foreign.silence(59.5):
        with foreign.silence(0.1):
            pass
        mine.acquire(clock=lambda: now, sleep=sleep)
    assert now > locks.LEASE_SECONDS + 59.5
    mine.release()


def test_a_holder_elsewhere_that_renews_is_waited_for_no_longer_than_allowed() -> None:
    api = a_cluster("manifest-A")
    foreign = Lock(
        api, holder=Holder(identity="k8snet-far (x@y)", process=""), namespace="kube-system"
    )
    foreign.acquire()
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        if now % 5 < seconds:
            foreign._renew_once()

    mine = Lock(api, holder=Holder.of_this_process("k8snet-me"), namespace="kube-system")
    with pytest.raises(LockedError, match=r"Another run holds this cluster: k8snet-far \(x@y\)"):
        mine.acquire(wait_seconds=12, clock=lambda: now, sleep=sleep)
    assert 12 <= now <= 16
    foreign.release()


def test_whether_a_process_lives_is_known_on_its_own_machine_only() -> None:
    here = Holder.of_this_process("k8snet-1")
    assert here.alive is True
    machine, _, _ = here.process.rpartition("/")
    assert Holder(identity="x", process=f"{machine}/1").alive is False
    assert Holder(identity="x", process="other-boot/pid:[1]/17/99").alive is None
    assert Holder(identity="x", process="").alive is None

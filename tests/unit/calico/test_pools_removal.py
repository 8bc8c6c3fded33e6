"""Deleting the pools of a run's own: what keeps them, what goes with them, in which order."""

from __future__ import annotations

from typing import Any

import pytest
from cluster_shapes import raw_pool
from players import MANAGED, Kubelet
from store_api import StoreApi
from store_sessions import (
    JOURNAL,
    KINDS,
    NEVER,
    VXLAN,
    a_cluster,
    bury,
    leave_changed,
    objects,
    run_pod,
    session,
)

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.change import pools
from pytest_k8snet.change.journal import Journal, JournalStore
from pytest_k8snet.change.restore import restore_cluster
from pytest_k8snet.change.session import PoolRef
from pytest_k8snet.cluster.pods import run_labels
from pytest_k8snet.errors import ApiError, RestoreError

BLOCKS = "/apis/crd.projectcalico.org/v1/ipamblocks"


def address_in(pool: PoolRef) -> str:
    return pool.cidr.replace("0/", "7/").partition("/")[0]


@pytest.mark.parametrize("families", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_that_pods_of_others_have_addresses_of_is_kept_until_they_are_gone(
    kind: str, families: int
) -> None:
    # No other pool needs tunnels.
    api = a_cluster(kind, raw_pool(mode=NEVER, labels=dict(MANAGED) if "op" in kind else None))
    before = objects(api)
    calico = session(api)
    address = address_in(calico.enter(VXLAN))
    run_pod(api, address, families=families)
    with pytest.raises(RestoreError) as caught:
        calico.close()
    assert (
        "vxlan-always is kept, as pods have addresses in it; have them made anew, as it gives out "
        "no more"
    ) in str(caught.value)
    assert f"kube-system/stranger ({address})" in caught.value.found
    (kept,) = [pool for pool in inspect(api).pools if pool.run_id]
    assert (kept.mode, kept.disabled, kept.allowed_uses) == (VXLAN, False, ("Tunnel",))
    # calico-node takes it back with the last pool of its family that is not disabled.
    node = api.get("/api/v1/nodes/node1")["metadata"]["annotations"]
    assert "projectcalico.org/IPv4VXLANTunnelAddr" in node
    with pytest.raises(RestoreError, match="is kept"):
        restore_cluster(api)
    api.store.delete("pods", "stranger", "kube-system", grace_seconds=0)
    restore_cluster(api)
    assert objects(api) == before


def test_a_pool_in_use_stays_open_where_calico_knows_no_uses_of_pools() -> None:
    api = a_cluster("manifest-A", raw_pool(mode=NEVER))
    calico = session(api)
    run_pod(api, address_in(calico.enter(VXLAN)))

    def prune(new: dict[str, Any], old: dict[str, Any] | None) -> None:
        new["spec"].pop("allowedUses", None)

    api.store.admission["ippools.crd.projectcalico.org"].append(prune)
    with pytest.raises(RestoreError) as caught:
        calico.close()
    assert "have them made anew, on other nodes, as it still gives out more" in caught.value.found
    (kept,) = [pool for pool in inspect(api).pools if pool.run_id]
    assert not kept.disabled


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_keeps_no_pool(phase: str) -> None:
    api = a_cluster("manifest-A")
    with session(api) as calico:
        run_pod(api, address_in(calico.enter(VXLAN)), phase=phase)
    assert not [pool for pool in inspect(api).pools if pool.run_id]


def test_an_own_pool_that_somebody_deleted_is_not_told_as_left_behind() -> None:
    api = a_cluster("manifest-A")
    told: list[dict[str, Any]] = []
    with session(api, "dedicated", told) as calico:
        mine = calico.enter(VXLAN).name
        api.delete(f"/apis/crd.projectcalico.org/v1/ippools/{mine}")
    last = [one for one in told if one["object"] == f"ippools/{mine}"][-1]
    assert (last["state"], last["what"]) == ("restored", f"IPPool {mine} is gone")


def test_a_pool_that_is_not_the_runs_own_is_never_deleted() -> None:
    api = a_cluster("manifest-A")
    api.create(
        "/apis/crd.projectcalico.org/v1/ippools",
        {
            **raw_pool("k8snet-abc123-never", "10.9.0.0/16"),
            "metadata": {"name": "k8snet-abc123-never"},
        },
    )
    JournalStore(api).write(
        Journal(
            run_id="k8snet-abc123",
            strategy="dedicated",
            owner="me",
            time="2026-01-01T00:00:00+00:00",
            shape="A",
            group="crd.projectcalico.org/v1",
            dedicated_pools=("k8snet-abc123-never",),
        )
    )
    with pytest.raises(RestoreError) as caught:
        restore_cluster(api)
    assert "was not made by run k8snet-abc123, so it is not deleted" in caught.value.found
    assert api.get(JOURNAL)


def test_a_pool_of_the_runs_own_goes_only_after_the_runs_pods() -> None:
    api = a_cluster("manifest-A")
    before = objects(api)
    Kubelet(api)
    leave_changed(api, "dedicated")
    (pool,) = [pool for pool in inspect(api).pools if pool.run_id]
    run_pod(api, str(pool.cidr[5]), name="k8snet-abc123-left", labels=run_labels("k8snet-abc123"))

    def refuse(method: str, path: str) -> None:
        if method == "DELETE" and "/pods/" in path:
            raise ApiError("the API server could not delete pods", status=500)

    api.refuse = refuse
    with pytest.raises(RestoreError) as caught:
        restore_cluster(api)
    assert "the API server could not delete pods\n" in caught.value.found
    assert f"IPPool {pool.name} is kept, as pods have addresses in it" in caught.value.found
    assert f"kube-system/k8snet-abc123-left ({pool.cidr[5]})" in caught.value.found
    api.refuse = lambda method, path: None
    restore_cluster(api)
    assert objects(api) == before


def changes_of_pods_and_pools(api: StoreApi) -> list[tuple[str, str]]:
    return [
        (method, path.rpartition("/")[2])
        for method, path in api.requests
        if method in ("PATCH", "DELETE") and ("/pods/" in path or "/ippools/" in path)
    ]


@pytest.mark.parametrize("killed", [False, True], ids=["at-the-end", "restored"])
def test_the_runs_pods_go_before_the_pools_of_its_own(killed: bool) -> None:
    api = a_cluster("manifest-A")
    before = objects(api)
    Kubelet(api)
    calico = session(api)
    run_pod(
        api,
        address_in(calico.enter(VXLAN)),
        name="k8snet-abc123-mine",
        labels=run_labels("k8snet-abc123"),
    )
    if killed:
        bury(api)
    api.requests.clear()
    if killed:
        restore_cluster(api)
    else:
        calico.close()
    first, *others = changes_of_pods_and_pools(api)
    assert first == ("DELETE", "k8snet-abc123-mine")
    assert ("DELETE", "k8snet-abc123-vxlan-always") in others
    assert objects(api) == before


def test_a_pool_of_the_clusters_own_is_put_back_before_the_runs_pods_go() -> None:
    api = a_cluster("manifest-A")
    before = objects(api)
    Kubelet(api)
    leave_changed(api, "in-place")
    run_pod(api, "10.244.1.7", name="k8snet-abc123-mine", labels=run_labels("k8snet-abc123"))
    api.requests.clear()
    restore_cluster(api)
    assert changes_of_pods_and_pools(api) == [
        ("PATCH", "default-ipv4-ippool"),
        ("DELETE", "k8snet-abc123-mine"),
    ]
    assert objects(api) == before


def block_in(api: StoreApi, pool: PoolRef, *, allocated: bool = False) -> str:
    """Have an IPAM block of a pool on a node; returns its name."""
    cidr = pool.cidr.replace("/25", "/28")
    name = cidr.replace(".", "-").replace("/", "-")
    allocations = [0 if allocated else None, *[None] * 15]
    api.create(
        BLOCKS,
        {
            "metadata": {"name": name},
            "spec": {"cidr": cidr, "affinity": "host:node1", "allocations": allocations},
        },
    )
    api.create(
        "/apis/crd.projectcalico.org/v1/blockaffinities",
        {
            "metadata": {"name": f"node1-{name}"},
            "spec": {"cidr": cidr, "node": "node1", "state": "confirmed"},
        },
    )
    return name


def test_where_no_server_cleans_up_a_pool_is_closed_then_emptied_then_deleted() -> None:
    api = a_cluster("manifest-A")
    before = objects(api)
    calico = session(api)
    pool = calico.enter(NEVER)
    block = block_in(api, pool)
    api.requests.clear()
    calico.close()
    path = f"/apis/crd.projectcalico.org/v1/ippools/{pool.name}"
    steps = [("PATCH", path), ("DELETE", f"{BLOCKS}/{block}"), ("DELETE", path)]
    assert [one for one in api.requests if one in steps] == steps
    assert objects(api) == before


def test_a_block_with_addresses_in_use_stays_and_so_does_what_ties_it_to_its_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools, "_RELEASE_SECONDS", 0.0)  # some seconds in earnest
    api = a_cluster("manifest-A")
    with session(api) as calico:
        block = block_in(api, calico.enter(NEVER), allocated=True)
    assert not [pool for pool in inspect(api).pools if pool.run_id]
    for kind, name in (("ipamblocks", block), ("blockaffinities", f"node1-{block}")):
        (left,) = api.store.list(f"{kind}.crd.projectcalico.org")
        assert left["metadata"]["name"] == name


def test_a_block_goes_as_soon_as_its_last_address_is_given_back() -> None:
    api = a_cluster("manifest-A")
    before = objects(api)
    calico = session(api)
    pool = calico.enter(NEVER)
    block = block_in(api, pool, allocated=True)
    looks = 0

    def give_back(method: str, path: str) -> None:
        nonlocal looks
        found = api.store.list("ippools.crd.projectcalico.org", fields=f"metadata.name={pool.name}")
        disabled = any(one["spec"]["disabled"] for one in found)
        looks += disabled and (method, path) == ("GET", BLOCKS)
        if looks == 3:
            # As calico-node does, a moment after the pool was disabled.
            api.store.mutate(
                "ipamblocks.crd.projectcalico.org",
                block,
                None,
                lambda found: found["spec"].update(allocations=[None] * 16),
            )
            looks += 1

    api.refuse = give_back
    calico.close()
    assert objects(api) == before

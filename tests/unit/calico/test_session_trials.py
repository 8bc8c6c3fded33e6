"""What in-place rests on is proven in pools of the run's own first, and put back where it fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from cluster_shapes import DEFAULT_POOL, raw_pool
from players import Players
from store_api import StoreApi
from store_sessions import (
    IPIP,
    IPIP_CS,
    NEVER,
    VXLAN,
    a_cluster,
    dies,
    objects,
    raw_spec,
    session,
)

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.change.restore import restore_cluster
from pytest_k8snet.change.session import PoolRef
from pytest_k8snet.cluster.nodes import Node, Toleration
from pytest_k8snet.errors import ForbiddenError, ModeUnavailableError, NotConvergedError, PodError


class Trials:
    """Sends payload in every mode but those whose packets the fabric drops."""

    def __init__(self, *dropped: str) -> None:
        self.dropped = dropped
        self.hops: dict[CalicoMode, list[str]] = {}

    def __call__(self, mode: CalicoMode, pool: PoolRef, hops: Sequence[tuple[Node, Node]]) -> None:
        assert pool.name == f"k8snet-abc123-{str(mode).lower()}"
        self.hops[mode] = [f"{near.name} {far.name}" for near, far in hops]
        if mode.family in self.dropped:
            raise NotConvergedError("no payload came", found="TCP payload: no route to host")


def test_every_mode_is_tried_on_all_nodes_before_the_first_flip() -> None:
    api, trials = a_cluster("manifest-A"), Trials()
    before, told = objects(api), list[dict[str, Any]]()
    with session(api, "in-place", told, prove_first=True, prove_hops=trials) as calico:
        for mode in (VXLAN, IPIP, NEVER):
            assert calico.enter(mode).name == DEFAULT_POOL
    # The pool is VXLAN-CrossSubnet: what it does already is not tried, and node3 is not under test.
    # The pool is VXLAN-CrossSubnet: what it does already is not tried. node3 is not under test, but
    # a flip would hit it.
    assert trials.hops == {
        VXLAN: ["node1 node2"],
        NEVER: ["node1 node3", "node2 node3"],
        IPIP_CS: ["node1 node3", "node2 node3"],
        IPIP: ["node1 node3", "node2 node3", "node1 node2"],
    }
    said = [str(change["what"]) for change in told]
    flips = [number for number, what in enumerate(said) if what.startswith("set mode")]
    gone = [number for number, what in enumerate(said) if what.startswith("deleted IPPool")]
    assert len(gone) == 4
    assert max(gone) < min(flips)
    assert objects(api) == before


@pytest.mark.parametrize("dropped", ["ipip", "vxlan"])
def test_a_family_that_the_fabric_drops_never_reaches_the_pool(dropped: str) -> None:
    pool_mode, wanted = (VXLAN, IPIP) if dropped == "ipip" else (IPIP, VXLAN)
    api = a_cluster("manifest-A", raw_pool(mode=pool_mode))
    before = objects(api)
    with session(api, "in-place", prove_first=True, prove_hops=Trials(dropped)) as calico:
        with pytest.raises(ModeUnavailableError) as caught:
            calico.enter(wanted)
        assert caught.value.problem == (
            f"{wanted} is not proven to work here, so pool {DEFAULT_POOL} is not switched to it"
        )
        assert "no payload came" in caught.value.found
        assert (
            objects(api)[f"crd.projectcalico.org/ippools//{DEFAULT_POOL}"]
            == before[f"crd.projectcalico.org/ippools//{DEFAULT_POOL}"]
        )
        # Another family may work all the same.
        assert calico.enter(NEVER).mode is NEVER
    assert objects(api) == before


def test_a_node_whose_taint_is_tolerated_can_be_tried() -> None:
    api, trials = a_cluster("manifest-A"), Trials()
    node = api.store.get("nodes", "node3")
    node["spec"]["taints"] = [{"key": "dedicated", "value": "net", "effect": "NoSchedule"}]
    api.store.update("nodes", node)
    with session(
        api,
        "in-place",
        prove_first=True,
        prove_hops=trials,
        tolerations=[Toleration.parse("dedicated=net:NoSchedule")],
    ) as calico:
        assert calico.enter(NEVER).mode is NEVER
    assert trials.hops[NEVER] == ["node1 node3", "node2 node3"]


def test_a_pod_that_cannot_be_made_proves_nothing() -> None:
    def unscheduled(*_: object) -> None:
        raise PodError("pod does not start", found="0/3 nodes are available")

    api = a_cluster("manifest-A")
    before = objects(api)
    with session(api, "in-place", prove_first=True, prove_hops=unscheduled) as calico:
        with pytest.raises(ModeUnavailableError, match="is not proven to work here") as caught:
            calico.enter(IPIP)
        assert "0/3 nodes are available" in caught.value.found
    assert objects(api) == before


def test_who_may_make_no_pools_is_told_so_and_nothing_is_flipped() -> None:
    api = a_cluster("manifest-A")
    before = objects(api)

    def refuse(method: str, path: str) -> None:
        if method == "POST" and "ippools" in path:
            raise ForbiddenError("may not create ippools", status=403)

    api.refuse = refuse
    with session(api, "in-place", prove_first=True, prove_hops=Trials()) as calico:
        with pytest.raises(ModeUnavailableError) as caught:
            calico.enter(IPIP)
        assert "may not create ippools" in caught.value.found
    assert objects(api) == before


@pytest.mark.parametrize("kind", ["manifest-A", "operator-B", "manifest-C"])
def test_a_run_that_dies_while_modes_are_tried_leaves_what_restore_takes_back(kind: str) -> None:
    def process(api: StoreApi) -> None:
        with session(api, "in-place", prove_first=True, prove_hops=Trials()) as calico:
            calico.enter(VXLAN)

    for request in range(10, 400, 12):
        api = a_cluster(kind)
        before = objects(api)
        if not dies(lambda api=api: process(api), api, request=request):  # type: ignore[misc]
            break
        restore_cluster(api)
        assert objects(api) == before, request
    assert request > 60


def test_a_mode_that_does_not_come_is_put_back_first_and_explained_afterwards() -> None:
    api = a_cluster("manifest-A")
    before = objects(api)
    Players(api, deaf=("ipip",))
    with session(api, "in-place", timeout_seconds=0.1) as calico:
        with pytest.raises(NotConvergedError) as caught:
            calico.enter(IPIP)
        # While the run goes on.
        assert raw_spec(api)["vxlanMode"] == "CrossSubnet"
        assert caught.value.problem == (
            f"IPIP-Always did not come on pool {DEFAULT_POOL}, which was put back to "
            "VXLAN-CrossSubnet first"
        )
        assert "has no IPIP tunnel address yet" in caught.value.found
        # It is not tried again, and other modes are.
        with pytest.raises(ModeUnavailableError, match="is not proven to work here"):
            calico.enter(IPIP)
        assert calico.enter(VXLAN).mode is VXLAN
    Players(api)
    assert objects(api) == before


@pytest.mark.parametrize(("asked", "waited"), [(180.0, 30.0), (5.0, 5.0)])
def test_in_place_waits_no_longer_than_its_own_limit(asked: float, waited: float) -> None:
    with session(a_cluster("manifest-A"), "in-place", timeout_seconds=asked) as calico:
        assert calico._limit_seconds == waited
    with session(a_cluster("manifest-A"), "dedicated", timeout_seconds=asked) as calico:
        assert calico._limit_seconds == asked

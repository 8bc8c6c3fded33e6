from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from cluster_shapes import (
    DEFAULT_POOL,
    NODE1,
    NODE2,
    cluster,
    installation_object,
    raw_pool,
)
from players import MANAGED, Players
from store_sessions import (
    IPIP,
    IPIP_CS,
    KINDS,
    NEVER,
    VXLAN,
    VXLAN_CS,
    a_cluster,
    objects,
    raw_spec,
    session,
    unseen,
)

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.path import PathEnd
from pytest_k8snet.causes import Cause
from pytest_k8snet.change import session as sessions
from pytest_k8snet.change.decision import Decision, Strategy, decide
from pytest_k8snet.cluster.nodes import list_nodes
from pytest_k8snet.errors import ApiError, ModeUnavailableError, NotConvergedError
from pytest_k8snet.lab.api.status import StatusError


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


class Decisions:
    """Counts the decisions of a session, per mode."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: Counter[CalicoMode] = Counter()

        def counted(*args: Any, mode: CalicoMode, **more: Any) -> Decision:
            self.made[mode] += 1
            return decide(*args, mode=mode, **more)

        # The decision itself is a pure function: only a count tells how often it was made.
        monkeypatch.setattr(sessions, "decide", counted)

    def since(self) -> dict[CalicoMode, int]:
        """How many there were since this was last asked."""
        made, self.made = self.made, Counter()
        return dict(made)


def test_a_mode_takes_one_decision_and_a_second_where_the_cluster_was_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decisions = Decisions(monkeypatch)
    with session(a_cluster("manifest-A"), "none") as calico:
        calico.begin()
        decisions.since()
        calico.enter(VXLAN_CS)
        assert decisions.since() == {VXLAN_CS: 1}
        calico.enter(VXLAN_CS)
        assert decisions.since() == {}
    with session(a_cluster("manifest-A"), "in-place") as calico:
        calico.enter(VXLAN)
        assert decisions.since() == {VXLAN: 2}  # once before the Lease was held, once after
        calico.enter(IPIP)
        assert decisions.since() == {IPIP: 1}
    with session(a_cluster("manifest-A"), "dedicated") as calico:
        calico.begin()
        assert decisions.since() == {VXLAN: 2}
        calico.enter(VXLAN)
        assert decisions.since() == dict.fromkeys(CalicoMode, 1)  # all pools are made at once
        calico.enter(IPIP)
        assert decisions.since() == {IPIP: 1}


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
    calico = session(api, "none")
    api.requests.clear()
    with calico:
        assert calico.enter(VXLAN_CS).name == DEFAULT_POOL
        for mode in set(CalicoMode) - {VXLAN_CS}:
            with pytest.raises(ModeUnavailableError) as caught:
                calico.enter(mode)
            assert caught.value.problem == (
                f"No pool of this cluster is in mode {mode}, and nothing may be changed"
            )
            assert caught.value.remedy.startswith("Allow pools of the run's own")
    assert {method for method, _ in api.requests} == {"GET"}


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


def test_what_does_not_change_while_a_mode_is_awaited_is_read_once() -> None:
    api = a_cluster("manifest-A")
    with session(api, "in-place", stability_seconds=0.2) as calico:
        api.requests.clear()
        calico.enter(VXLAN)
        asked = [path for method, path in api.requests if method == "GET"]
    assert asked.count("/apis/crd.projectcalico.org/v1/ipamblocks") == 1
    assert asked.count("/api/v1/nodes") > 1


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


def test_pools_are_waited_for_also_where_making_another_one_failed() -> None:
    api = a_cluster("manifest-A")
    Players(api, deaf=["ipip"])
    before = objects(api)
    posts: list[str] = []

    def refuse(method: str, path: str) -> None:
        if (method, path) == ("POST", "/apis/crd.projectcalico.org/v1/ippools"):
            posts.append(path)
            if len(posts) == len(CalicoMode):
                raise ApiError("the last one met an overloaded server", status=500)

    api.refuse = refuse
    with session(api) as calico:
        with pytest.raises(ApiError, match="overloaded"):
            calico.enter(IPIP_CS)
        with pytest.raises(NotConvergedError, match="the pools of run"):
            calico.enter(IPIP_CS)
        assert calico.enter(NEVER).mode is NEVER
    assert objects(api) == before


def test_a_pool_may_go_where_it_has_been_and_nowhere_else_without_the_users_word() -> None:
    # The nodes under test are in one subnet; node3, which the flip hits as well, is not.
    with session(a_cluster("manifest-A"), "in-place", underlay_routes_pods=False) as calico:
        assert calico.installation.pools[0].mode is VXLAN_CS
        calico.enter(VXLAN)
        calico.enter(IPIP_CS)
        with pytest.raises(ModeUnavailableError, match="could cut the pods of this cluster off"):
            calico.enter(NEVER)
    api = a_cluster("manifest-A", raw_pool(mode=NEVER))
    told: list[dict[str, Any]] = []
    with session(api, "in-place", told, underlay_routes_pods=False) as calico:
        calico.enter(VXLAN_CS)
        assert calico.would_change(NEVER)
        assert calico.enter(NEVER).mode is NEVER
    # The last mode was the first: there was nothing to write, and all the same it is put back.
    assert [(one["state"], one["what"]) for one in told][-2:] == [
        ("restored", f"IPPool {DEFAULT_POOL} is back in Never"),
        ("restored", unseen(DEFAULT_POOL, NEVER)),
    ]


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


def test_a_pair_that_gets_no_payload_through_is_told_with_where_to_look() -> None:
    api = a_cluster("manifest-A")
    ends = [
        PathEnd(kind="pod", name=node.name, node=node, address=f"10.244.{index}.7")
        for index, node in enumerate((NODE1, NODE2))
    ]
    with session(api, "none") as calico, pytest.raises(NotConvergedError) as caught:
        calico.converge(VXLAN_CS, *ends, probe=lambda: "payload is lost")
    assert caught.value.found == "payload is lost"
    # Nobody has seen the nodes' routes here, so the fabric is not blamed.
    assert caught.value.remedy == Cause.CALICO_NODE.remedy


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


def test_each_node_names_the_pool_that_its_own_rack_uses() -> None:
    racks = [
        raw_pool(f"rack{number}", f"10.{number}.0.0/16", VXLAN, nodeSelector=f"rack == '{number}'")
        for number in (1, 2)
    ]
    api = cluster(pools=tuple(racks))
    for node, number in (("node1", "1"), ("node2", "2")):
        api.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": {"rack": number}}})
    with session(api, "none", nodes=list_nodes(api)[:2]) as calico:
        pool = calico.enter(VXLAN)
        assert [pool.on(node) for node in ("node1", "node2", "elsewhere")] == [
            *("rack1", "rack2", "rack1")
        ]
        with pytest.raises(ModeUnavailableError, match="No pool of this cluster is in mode"):
            calico.enter(IPIP)

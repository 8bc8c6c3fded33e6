"""Modes by flipping the cluster's own pool; and what is offered without leave to change."""

from __future__ import annotations

import pytest
from calico_run import POOL, objects, opened
from user_runs import fault

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.cluster.api import Api, connect
from pytest_k8snet.errors import ModeUnavailableError
from pytest_k8snet.lab import LabProcess


@pytest.fixture(scope="module")
def api(lab: LabProcess) -> Api:
    return connect(kubeconfig=lab.kubeconfig, context=None)


@pytest.fixture(scope="module")
def before(api: Api) -> dict[str, object]:
    return objects(api)


def test_in_place_walks_one_pool_through_all_modes_with_each_ones_own_mtu(
    api: Api, before: dict[str, object]
) -> None:
    mtus = {}
    with opened(api, "in-place", prove_first=True) as run:
        for mode in CalicoMode:
            pool = run.session.enter(mode)
            assert pool.name == POOL
            for server in ("node2", "node3"):
                pods = run.pods(pool, "node1", server)
                run.session.converge(mode, *map(run.end, pods))
                proof = run.sample(mode, *pods)
                assert proof.state == "proven", proof.text
                assert proof.expected == mode.path(same_subnet=server == "node2")
                mtus[mode.family] = proof.mtu["client"]["pod"]
            run.workspace.delete_pods([pod for pod in run.workspace.pods() if not pod.host_network])
    assert mtus == {"vxlan": 1450, "none": 1500, "ipip": 1480}
    # Each mode but the pool's own was tried in a pool of the run's own, before the first flip.
    said = [str(change["what"]) for change in run.changes]
    flips = [number for number, what in enumerate(said) if what.startswith("set mode")]
    tried = [number for number, what in enumerate(said) if what.startswith("created IPPool")]
    assert len(tried) == 4
    assert max(tried) < min(flips)
    assert objects(api) == before


@pytest.mark.parametrize(
    ("trouble", "found"),
    [
        ({"routes_missing_on": "node3"}, "node3"),
        # Protocol 4 or UDP 4789 closed: every route and device is right.
        ({"fabric_drops": "vxlan"}, "no payload to"),
        ({"fabric_drops": "ipip"}, "no payload to"),
    ],
    ids=str,
)
def test_a_mode_that_does_not_work_is_refused_before_any_pod_of_the_pool_notices(
    api: Api, before: dict[str, object], trouble: dict[str, str], found: str
) -> None:
    ipip = trouble.get("fabric_drops") == "ipip"
    mode = CalicoMode.IPIP_ALWAYS if ipip else CalicoMode.VXLAN_ALWAYS
    with (
        fault(api, **trouble),
        opened(api, "in-place", modes=[mode], prove_first=True, timeout_seconds=2.0) as run,
    ):
        with pytest.raises(ModeUnavailableError) as caught:
            run.session.enter(mode)
        assert "is not proven to work here" in caught.value.problem
        assert found in caught.value.found
        said = [str(one["what"]) for one in run.changes]
        assert any(what.startswith("created IPPool") for what in said)
        assert not any(what.startswith("set mode") for what in said)
    assert objects(api) == before


def test_pods_from_before_a_flip_are_caught_by_their_stale_mtu(api: Api) -> None:
    with opened(api, "in-place") as run:
        pods = run.pods(run.session.enter(CalicoMode.NEVER), "node1", "node2")
        run.session.enter(CalicoMode.VXLAN_ALWAYS)
        proof = run.sample(CalicoMode.VXLAN_ALWAYS, *pods)
        assert proof.state == "contradicted"
        assert "stale MTU: pod" in proof.text
        assert "has 1500, expected 1450 with vxlan enabled" in proof.text


def test_without_permission_only_the_modes_of_existing_pools_can_be_entered(
    api: Api, before: dict[str, object]
) -> None:
    with opened(api, "none") as run:
        pods = run.pods(run.session.enter(CalicoMode.NEVER), "node1", "node2")
        assert run.sample(CalicoMode.NEVER, *pods).state == "proven"
        with pytest.raises(ModeUnavailableError, match="nothing may be changed"):
            run.session.enter(CalicoMode.IPIP_ALWAYS)
        assert run.changes == []
    assert objects(api) == before

"""An operator that rules its pools: it is waited for, asked first, and found out when it lies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from calico_run import POOL, objects, opened, played
from user_runs import fault, start

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.errors import ModeUnavailableError, NotConvergedError
from pytest_k8snet.lab import LabProcess
from pytest_k8snet.lab.spec import CalicoSpec

VXLAN, NEVER = CalicoMode.VXLAN_ALWAYS, CalicoMode.NEVER
V1_POOL = f"/apis/crd.projectcalico.org/v1/ippools/{POOL}"


@pytest.fixture(scope="module")
def cluster() -> Generator[tuple[LabProcess, Api]]:
    calico = CalicoSpec(install="operator", api_shape="B", vxlan_mode="CrossSubnet")
    with played(calico) as found:
        yield found


@pytest.fixture(scope="module")
def api(cluster: tuple[LabProcess, Api]) -> Api:
    return cluster[1]


@pytest.fixture(autouse=True)
def _as_before(api: Api) -> Generator[None]:
    before = objects(api)
    yield
    assert objects(api) == before


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def edit(api: Api, mode: CalicoMode) -> None:
    api.patch(V1_POOL, {"spec": dict(mode.pool_fields)})


def pool_mode(api: Api) -> CalicoMode:
    (pool,) = inspect(api).pools
    return pool.mode


def test_a_users_run_in_place_ends_with_all_put_back_and_exit_status_0(
    cluster: tuple[LabProcess, Api], tmp_path: Path
) -> None:
    (tmp_path / "test_pair.py").write_text(
        "def test_pair(calico_mode, pod_pair): pod_pair.ping(count=3)"
    )
    run = start(
        tmp_path,
        f"--kubeconfig={cluster[0].kubeconfig}",
        f"--k8snet-change=in-place:{POOL}",
        "--k8snet-modes=VXLAN-Always,Never",
        *("-o", "k8snet_fabric_routes_pods=true"),
        *("--k8snet-report=r.html", "--k8snet-results=r.jsonl", "--k8snet-summary=s.md"),
    )
    output = run.communicate(timeout=120)[0]
    assert run.returncode == 0, output
    assert "put back  yes, all of it" in output
    for name in ("r.html", "s.md"):
        assert "yes, all of it" in (tmp_path / name).read_text(encoding="utf-8")
    end = json.loads((tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert (end["kind"], end["restored"]) == ("end", True)


def test_an_operator_that_takes_its_time_is_waited_for(api: Api) -> None:
    with fault(api, operator_delay="1"), opened(api, "in-place") as run:
        begun = time.monotonic()
        pods = run.pods(run.session.enter(VXLAN), "node1", "node2")
        assert time.monotonic() - begun > 1
        run.session.converge(VXLAN, *map(run.end, pods))
        assert run.sample(VXLAN, *pods).state == "proven"


def test_an_edit_past_the_operator_spoils_the_sample_until_it_is_reverted(api: Api) -> None:
    with opened(api, "in-place") as run:
        pods = run.pods(run.session.enter(VXLAN), "node1", "node2")
        run.session.converge(VXLAN, *map(run.end, pods))
        with fault(api, operator_degraded="it reverts nothing as long as the test looks"):
            edit(api, NEVER)
            wait_for(lambda: run.sample(VXLAN, *pods).state == "contradicted")
            assert pool_mode(api) is NEVER
        wait_for(lambda: pool_mode(api) is VXLAN)
        run.session.converge(VXLAN, *map(run.end, pods))
        assert run.sample(VXLAN, *pods).state == "proven"


def test_an_operator_that_stops_following_is_named(api: Api) -> None:
    with opened(api, "in-place", timeout_seconds=3.0) as run:
        run.session.enter(VXLAN)
        with (
            fault(api, operator_degraded="the disk is full"),
            pytest.raises(NotConvergedError) as caught,
        ):
            run.session.enter(NEVER)
        assert caught.value.found == (
            f"IPPool {POOL} is in mode VXLAN-Always, expected Never: not yet applied, or reverted"
        )
        assert "TigeraStatus" in caught.value.remedy


def test_a_degraded_operator_is_refused_before_the_first_write(api: Api) -> None:
    before = objects(api)
    with fault(api, operator_degraded="the disk is full"):
        wait_for(lambda: inspect(api).operator_degraded)
        with opened(api, "in-place") as run:
            with pytest.raises(ModeUnavailableError) as caught:
                run.session.enter(VXLAN)
            assert run.changes == []
            names = set(objects(api)) - set(before)
        assert caught.value.problem.startswith("The operator's pools are degraded")
        assert caught.value.found == "the disk is full"
        # Its pods are there, and the fault; but neither Lease nor journal.
        assert [name for name in names if "kube-system/" in name] == [
            "/api/v1/namespaces/kube-system/configmaps/kube-system/k8snet-lab-faults"
        ]
        # Pools of the run's own are no business of the operator's.
        with opened(api, "dedicated") as run:
            assert run.session.enter(VXLAN).mode is VXLAN
    wait_for(lambda: not inspect(api).operator_degraded)


def test_a_pool_that_lost_its_label_is_refused_until_the_operator_can_adopt_it(api: Api) -> None:
    mark = "projectcalico.org/metadata"
    annotations = api.get(V1_POOL)["metadata"]["annotations"]
    hidden = {**json.loads(annotations[mark]), "labels": {}}
    meta = {"annotations": {mark: json.dumps(hidden)}}
    api.patch(V1_POOL, {"metadata": meta, "spec": dict(VXLAN.pool_fields)})
    wait_for(lambda: inspect(api).operator_degraded)
    with opened(api, "in-place") as run, pytest.raises(ModeUnavailableError) as caught:
        run.session.enter(NEVER)
    assert caught.value.found == f"Cannot update an IP pool not owned by the operator: {POOL}"
    edit(api, CalicoMode.VXLAN_CROSS_SUBNET)
    wait_for(lambda: api.get(V1_POOL)["metadata"].get("annotations") == annotations)
    wait_for(lambda: not inspect(api).operator_degraded)

"""The Calico API server cut off from kube-apiserver: what was changed is put back all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, cast

import pytest
from calico_run import objects, opened, played
from user_runs import fault

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.change.decision import Strategy
from pytest_k8snet.change.restore import restore_cluster
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.errors import ApiError, RestoreError
from pytest_k8snet.lab import LabProcess
from pytest_k8snet.lab.spec import CalicoSpec

VXLAN = CalicoMode.VXLAN_ALWAYS

#: A run that has changed the cluster, says so, and waits to be killed.
RUN = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from calico_run import opened
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.cluster.api import connect
with opened(connect(kubeconfig=Path(sys.argv[1]), context=None), sys.argv[2]) as run:
    run.session.enter(CalicoMode.VXLAN_ALWAYS)
    print("entered", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module", params=["manifest", "operator"])
def cluster(request: pytest.FixtureRequest) -> Generator[tuple[LabProcess, Api]]:
    install = cast(Literal["manifest", "operator"], request.param)
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        played(CalicoSpec(install=install, api_shape="B", vxlan_mode="CrossSubnet")) as running,
    ):
        # Ten seconds of patience with that server would be spent in each test.
        monkeypatch.setattr("pytest_k8snet.cluster.http._GROUP_PATIENCE_SECONDS", 0.5)
        yield running


def pools(api: Api) -> dict[str, CalicoMode]:
    """Every pool's mode; read below the Calico API server where that is cut off."""
    return {pool.name: pool.mode for pool in inspect(api).pools}


@pytest.mark.parametrize("strategy", ["in-place", "dedicated"])
def test_a_killed_run_is_taken_back_through_the_v1_objects(
    cluster: tuple[LabProcess, Api], monkeypatch: pytest.MonkeyPatch, strategy: Strategy
) -> None:
    # No namespace goes while that server is cut off: a minute would be spent on it.
    monkeypatch.setattr("pytest_k8snet.cluster.workspace.NAMESPACE_END_SECONDS", 1.0)
    lab, api = cluster
    before, modes = objects(api), pools(api)
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(lab.kubeconfig), strategy],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "entered\n"
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    assert VXLAN in pools(api).values()
    with fault(api, calico_apiserver_down="true"):
        with pytest.raises(ApiError, match="503"):
            api.list("/apis/projectcalico.org/v3/ippools")
        with pytest.raises(RestoreError, match="could not all be restored") as caught:
            restore_cluster(api)
        assert "complete list of server APIs: projectcalico.org/v3" in caught.value.found
        assert pools(api) == modes
    # On a cluster whose pods reach each other again, so does that server.
    restore_cluster(api)
    assert objects(api) == before


def test_a_run_in_place_works_through_the_v1_objects(cluster: tuple[LabProcess, Api]) -> None:
    api = cluster[1]
    before, modes = objects(api), pools(api)
    with ExitStack() as leaving, fault(api, calico_apiserver_down="true"):
        run = leaving.enter_context(opened(api, "in-place"))
        pods = run.pods(run.session.enter(VXLAN), "node1", "node2")
        run.session.converge(VXLAN, *map(run.end, pods))
        assert run.sample(VXLAN, *pods).state == "proven"
        run.session.close()
        assert pools(api) == modes
    assert objects(api) == before


def test_pools_of_a_runs_own_go_through_the_v1_objects_after_their_pods(
    cluster: tuple[LabProcess, Api],
) -> None:
    api = cluster[1]
    before, modes = objects(api), pools(api)
    with opened(api, "dedicated") as run:
        pods = run.pods(run.session.enter(VXLAN), "node1", "node2")
        run.session.converge(VXLAN, *map(run.end, pods))
        with fault(api, calico_apiserver_down="true"):
            run.session.close()
            assert pools(api) == modes
    assert objects(api) == before

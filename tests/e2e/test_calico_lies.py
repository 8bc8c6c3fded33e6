"""The lab lies about its paths: no lie passes as a figure, and each message names its lie."""

from __future__ import annotations

import time
from collections.abc import Generator

import pytest
from calico_run import CalicoRun, objects, opened
from user_runs import fault

from pytest_k8snet.calico.convergence import wait_until_good
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.connect import connect
from pytest_k8snet.cluster.pods import Pod
from pytest_k8snet.errors import NotConvergedError
from pytest_k8snet.lab import LabProcess

NEVER = CalicoMode.NEVER
VXLAN, VXLAN_CS = CalicoMode.VXLAN_ALWAYS, CalicoMode.VXLAN_CROSS_SUBNET
IPIP, IPIP_CS = CalicoMode.IPIP_ALWAYS, CalicoMode.IPIP_CROSS_SUBNET


@pytest.fixture(scope="module")
def api(lab: LabProcess) -> Api:
    return connect(kubeconfig=lab.kubeconfig, context=None)


@pytest.fixture
def run(api: Api, request: pytest.FixtureRequest) -> Generator[CalicoRun]:
    """A run that gives the lab time; or, by ``hasty``, little, where it is not to get there."""
    before = objects(api)
    with opened(api, "in-place", timeout_seconds=getattr(request, "param", 20.0)) as opened_run:
        yield opened_run
    assert objects(api) == before


hasty = pytest.mark.parametrize("run", [4.0], indirect=True, ids=["hasty"])


def refused(run: CalicoRun, mode: CalicoMode, server: str = "node2") -> str:
    """Enter a mode and pair pods in it; the message with which either times out."""

    def attempt() -> None:
        pods = run.pods(run.session.enter(mode), "node1", server)
        run.session.converge(mode, *map(run.end, pods))

    with pytest.raises(NotConvergedError) as caught:
        attempt()
    return str(caught.value)


@pytest.mark.parametrize(
    ("mode", "device"), [(VXLAN, "vxlan.calico"), (IPIP, "tunl0")], ids=["vxlan", "ipip"]
)
def test_a_tunnel_that_the_traffic_does_not_take(
    api: Api, run: CalicoRun, mode: CalicoMode, device: str
) -> None:
    pods = run.pods(run.session.enter(mode), "node1", "node2")
    run.session.converge(mode, *map(run.end, pods))
    with fault(api, path_not_taken="node1"):
        text = contradicted(run, mode, pods)
    assert f"{device} of node1 sent no packet" in text or f"expected dev {device}" in text


def contradicted(run: CalicoRun, mode: CalicoMode, pods: tuple[Pod, Pod]) -> str:
    """Take samples until the lab has begun to lie; what the proof then says."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        proof = run.sample(mode, *pods)
        if proof.state != "proven":
            assert proof.state == "contradicted"
            return proof.text
    raise AssertionError(f"the lie was never noticed: {proof.text}")


@hasty
def test_a_node_without_routes(api: Api, run: CalicoRun) -> None:
    with fault(api, routes_missing_on="node1"):
        text = refused(run, VXLAN)
    assert "node1" in text
    assert "expected dev vxlan.calico" in text or "has no route to" in text


@hasty
def test_one_direction_only(api: Api, run: CalicoRun) -> None:
    with fault(api, one_direction="node1"):
        text = refused(run, IPIP)
    # The others cannot answer node1: it is they who lack the route.
    assert "node2" in text
    assert "expected dev tunl0" in text or "has no route to" in text


@hasty
def test_a_node_that_keeps_its_old_routes(api: Api, run: CalicoRun) -> None:
    run.session.enter(VXLAN)
    with fault(api, stale_route_on="node1"):
        text = refused(run, NEVER)
    assert "node1 still has vxlan.calico" in text or "node1 sends" in text


@hasty
def test_a_tunnel_device_that_never_comes(api: Api, run: CalicoRun) -> None:
    with fault(api, device_missing_on="node2"):
        text = refused(run, VXLAN)
    assert "node2 has no vxlan.calico yet" in text


@hasty
def test_a_tunnel_without_its_address(api: Api, run: CalicoRun) -> None:
    with fault(api, device_missing_on="node2"):
        text = refused(run, IPIP)
    assert "tunl0 of node2 has no tunnel address yet" in text or "node2 has no tunl0 yet" in text


@pytest.mark.parametrize(("mode", "expected"), [(VXLAN, 1450), (IPIP_CS, 1480), (NEVER, 1500)])
def test_pods_that_got_a_wrong_mtu(
    api: Api, run: CalicoRun, mode: CalicoMode, expected: int
) -> None:
    with fault(api, wrong_mtu="1400"):
        pods = run.pods(run.session.enter(mode), "node1", "node2")
        run.session.converge(mode, *map(run.end, pods))
        proof = run.sample(mode, *pods)
    assert proof.state == "contradicted"
    assert f"has 1400, expected {expected} with" in proof.text


def test_routes_that_go_wrong_during_the_sample(api: Api, run: CalicoRun) -> None:
    pods = run.pods(run.session.enter(VXLAN), "node1", "node2")
    ends = [run.end(pod) for pod in pods]
    run.session.converge(VXLAN, *ends)
    before = run.session.snapshot(*ends)
    transfer = run.transfer(*pods)
    with fault(api, routes_missing_on="node2"):
        wait_until_good(
            lambda: [] if dead_routes(run, pods) else ["node2 still has its routes"],
            what="the lie",
            timeout_seconds=10,
            stability_seconds=0,
        )
        proof = run.session.prove(VXLAN, before, run.session.snapshot(*ends), transfer)
    assert proof.state == "contradicted"
    assert "after the sample, node2" in proof.text
    assert "before the sample" not in proof.text


def dead_routes(run: CalicoRun, pods: tuple[Pod, Pod]) -> bool:
    client, server = map(run.end, pods)
    route = run.session.snapshot(client, server).states["node2"].route(client.address)
    return route.device != "vxlan.calico"


def test_a_pool_that_somebody_flips_back_during_a_mode(api: Api, run: CalicoRun) -> None:
    pods = run.pods(run.session.enter(VXLAN), "node1", "node2")
    run.session.converge(VXLAN, *map(run.end, pods))
    api.patch(
        "/apis/crd.projectcalico.org/v1/ippools/default-ipv4-ippool",
        {"spec": {"vxlanMode": "Never", "ipipMode": "Never"}},
    )
    assert "expected dev vxlan.calico" in contradicted(run, VXLAN, pods)


def test_a_slow_dataplane_is_waited_for_and_watched_for_longer(api: Api, run: CalicoRun) -> None:
    with fault(api, slow_convergence="1"):
        run.session.enter(VXLAN)
        pods = run.pods(run.session.enter(VXLAN_CS), "node1", "node2")
        run.session.converge(VXLAN_CS, *map(run.end, pods))
    assert run.sample(VXLAN_CS, *pods).state == "proven"


def test_a_restart_of_felix_is_waited_for(api: Api, run: CalicoRun) -> None:
    with fault(api, felix_restart_gap="1"):
        pods = run.pods(run.session.enter(VXLAN), "node1", "node2")
        run.session.converge(VXLAN, *map(run.end, pods))
        assert run.sample(VXLAN, *pods).state == "proven"

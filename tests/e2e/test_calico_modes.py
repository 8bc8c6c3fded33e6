"""Modes by pools of the run's own: entered, proven by real packets, contradicted when false."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from calico_run import CalicoRun, objects, opened

from pytest_k8snet.calico.modes import STUDY_ORDER, CalicoMode
from pytest_k8snet.cluster.api import connect
from pytest_k8snet.errors import PathError
from pytest_k8snet.lab import LabProcess


@pytest.fixture(scope="module")
def dedicated(lab: LabProcess) -> Generator[CalicoRun]:
    api = connect(kubeconfig=lab.kubeconfig, context=None)
    before = objects(api)
    with opened(api, "dedicated") as run:
        yield run
    assert objects(api) == before


@pytest.mark.parametrize("mode", STUDY_ORDER, ids=str)
@pytest.mark.parametrize("server", ["node2", "node3"])
def test_a_dedicated_pool_gives_its_mode_and_the_proof_says_so(
    dedicated: CalicoRun, mode: CalicoMode, server: str
) -> None:
    pool = dedicated.session.enter(mode)
    pods = dedicated.pods(pool, "node1", server)
    dedicated.session.converge(mode, *map(dedicated.end, pods))
    proof = dedicated.sample(mode, *pods)
    assert proof.state == "proven", proof.text
    assert proof.expected == mode.path(same_subnet=server == "node2")
    # All families are on at once, so all pods have the smallest MTU.
    assert proof.mtu["client"]["pod"] == 1450


@pytest.mark.parametrize("claimed", STUDY_ORDER, ids=str)
def test_a_false_claim_is_contradicted(dedicated: CalicoRun, claimed: CalicoMode) -> None:
    real = CalicoMode.VXLAN_ALWAYS if claimed.path(True) != "vxlan" else CalicoMode.NEVER
    pods = dedicated.pods(dedicated.session.enter(real), "node1", "node2")
    proof = dedicated.sample(claimed, *pods)
    assert proof.state == "contradicted"
    assert f"which is in mode {real}, not {claimed}" in proof.text
    with pytest.raises(PathError, match="did not take the path that its mode promises"):
        proof.require()


def test_a_pair_in_other_pools_is_refused_before_it_is_waited_for(dedicated: CalicoRun) -> None:
    pods = dedicated.pods(dedicated.session.enter(CalicoMode.NEVER), "node1", "node2")
    with pytest.raises(PathError) as caught:
        dedicated.session.converge(CalicoMode.IPIP_ALWAYS, *map(dedicated.end, pods))
    assert caught.value.problem == "This pair of pods cannot show IPIP-Always"


@pytest.mark.parametrize("mode", STUDY_ORDER, ids=str)
def test_mixed_pairs_have_paths_of_their_own_and_are_proven_too(
    dedicated: CalicoRun, mode: CalicoMode
) -> None:
    pool = dedicated.session.enter(mode)
    client, server = dedicated.pods(pool, "node1", "node2")
    near, far = dedicated.host("node1"), dedicated.host("node2")
    for one, other, expected in (
        (near, far, "direct"),
        (client, far, "direct"),
        (near, server, mode.path(same_subnet=True)),
    ):
        proof = dedicated.sample(mode, one, other)
        assert (proof.state, proof.expected) == ("proven", expected), proof.text


def test_two_pods_on_one_node_are_proven_to_use_no_wire(dedicated: CalicoRun) -> None:
    mode = CalicoMode.VXLAN_ALWAYS
    proof = dedicated.sample(mode, *dedicated.pods(dedicated.session.enter(mode), "node1", "node1"))
    assert (proof.state, proof.expected) == ("proven", "direct"), proof.text

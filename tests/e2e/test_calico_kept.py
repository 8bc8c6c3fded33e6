"""Pools of the run's own that pods of others live in."""

from __future__ import annotations

import time

import pytest
from calico_run import objects, opened

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.change.restore import restore_cluster
from pytest_k8snet.cluster.api import Api, connect
from pytest_k8snet.cluster.pods import Pod
from pytest_k8snet.errors import RestoreError
from pytest_k8snet.lab import LabProcess

PODS = "/api/v1/namespaces/default/pods"


def stranger(api: Api, name: str, node: str, pool: str) -> None:
    """Make a pod of somebody else's that names a pool."""
    annotations = {"cni.projectcalico.org/ipv4pools": f'["{pool}"]'}
    container = {"name": "main", "image": "networkstatic/iperf3:3.12"}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [container | {"command": ["sleep", "600"]}],
        },
    }
    api.create(PODS, body)


def running(api: Api, name: str) -> Pod:
    deadline = time.monotonic() + 10
    while not (found := api.get(f"{PODS}/{name}"))["status"].get("podIP"):
        assert time.monotonic() < deadline, found["status"]
        time.sleep(0.05)
    return Pod(
        namespace="default",
        name=name,
        node=found["spec"]["nodeName"],
        address=found["status"]["podIP"],
        host_network=False,
        container="main",
    )


def refusal(api: Api, name: str) -> str:
    """Why a pod gets no network."""
    deadline = time.monotonic() + 10
    while True:
        for event in api.list("/api/v1/namespaces/default/events"):
            if event["involvedObject"]["name"] == name and "Failed" in event["reason"]:
                return str(event["message"])
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_pool_kept_for_pods_of_others_keeps_their_routes_and_gives_out_no_more(
    lab: LabProcess,
) -> None:
    api = connect(kubeconfig=lab.kubeconfig, context=None)
    before = objects(api)
    with opened(api, "dedicated") as run:
        pool = run.session.enter(CalicoMode.VXLAN_ALWAYS)
        for name, node in (("one", "node1"), ("other", "node2")):
            stranger(api, name, node, pool.name)
        pods = running(api, "one"), running(api, "other")
        with pytest.raises(RestoreError, match="could not all be restored") as caught:
            run.session.close()
        assert f"IPPool {pool.name} is kept, as pods have addresses in it" in caught.value.found
        # By the time that a later pod is refused, the nodes have long followed.
        stranger(api, "late", "node1", pool.name)
        assert "no pools match the required use (Workload)" in refusal(api, "late")
        route = run.run(run.host("node1"), ["ip", "route", "get", pods[1].address])
        assert "dev vxlan.calico" in route.stdout
        run.transfer(*pods)
        for name in ("one", "other", "late"):
            api.delete(f"{PODS}/{name}", grace_seconds=0)
        restore_cluster(api)
    assert objects(api) == before

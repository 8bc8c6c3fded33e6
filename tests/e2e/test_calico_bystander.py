"""What a switch on the lab costs pods that have nothing to do with it."""

from __future__ import annotations

import pytest
from calico_run import CalicoRun, opened

from pytest_k8snet.calico.bystander import Bystander
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.cluster.connection import connect
from pytest_k8snet.cluster.services import make_web_service
from pytest_k8snet.lab import LabProcess
from pytest_k8snet.units import second

CONFIG_MAP = "/api/v1/namespaces/kube-system/configmaps"


def bystander(run: CalicoRun) -> Bystander:
    web = make_web_service(run.workspace, replicas=1)
    (pod,) = run.api.list(f"/api/v1/namespaces/{web.namespace}/pods", labels="k8snet/role=web")
    elsewhere = next(name for name in ("node1", "node2") if name != pod["spec"]["nodeName"])
    client, _ = run.pods(None, elsewhere, elsewhere)
    url = f"http://{pod['status']['podIP']}:8080/"
    return Bystander(lambda argv: run.run(client, argv), url)


def test_pools_beside_the_others_cost_a_bystander_nothing(lab: LabProcess) -> None:
    api = connect(kubeconfig=lab.kubeconfig, context=None)
    with opened(api, "dedicated") as run, bystander(run) as watching:
        run.session.enter(CalicoMode.VXLAN_ALWAYS)
    assert watching.cost.requests > 0
    assert watching.cost.lost == 0


@pytest.mark.parametrize("gap_seconds", [1])
def test_a_restart_of_felix_costs_what_it_lasts(lab: LabProcess, gap_seconds: int) -> None:
    api = connect(kubeconfig=lab.kubeconfig, context=None)
    name = "k8snet-lab-faults"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    with opened(api, "in-place") as run:
        watching = bystander(run)
        api.create(CONFIG_MAP, {**body, "data": {"felix-restart-gap": str(gap_seconds)}})
        try:
            with watching:
                run.session.enter(CalicoMode.VXLAN_ALWAYS)
        finally:
            api.delete(f"{CONFIG_MAP}/{name}")
    cost = watching.cost
    assert cost.longest_gap >= 0.5 * gap_seconds * second
    assert cost.lost >= 1 or cost.longest_gap >= 0.9 * gap_seconds * second

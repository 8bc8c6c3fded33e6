"""What only kubelets, scheduler, controllers and kube-proxy can show of the cluster layer.

Requests, errors and streams are tested against a scripted server in ``tests/unit/cluster``.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Generator
from typing import Any

import pytest

from pytest_k8snet.cluster import workspace as workspace_module
from pytest_k8snet.cluster.api import Api, connect
from pytest_k8snet.cluster.pods import PodRequest, PodSettings, selector
from pytest_k8snet.cluster.services import existing_web_service, make_web_service, serve_from
from pytest_k8snet.cluster.startup import wait_ready
from pytest_k8snet.cluster.workspace import Workspace
from pytest_k8snet.errors import NotFoundError, PodError
from pytest_k8snet.lab import LabProcess

NAMESPACES = "/api/v1/namespaces"
POOLS = "/apis/crd.projectcalico.org/v1/ippools"


@pytest.fixture(scope="module")
def api(lab: LabProcess) -> Generator[Api]:
    made = connect(kubeconfig=lab.kubeconfig)
    yield made
    made.close()


def new_workspace(api: Api, **changes: Any) -> Workspace:
    options: dict[str, Any] = {
        "run_id": f"k8snet-{secrets.token_hex(3)}",
        "namespace": None,
        "settings": PodSettings(
            image="networkstatic/iperf3:3.12",
            web_image="registry.k8s.io/e2e-test-images/agnhost:2.53",
        ),
        "pod_timeout_seconds": 30.0,
    }
    return Workspace(api, **(options | changes))


@pytest.fixture
def workspace(api: Api) -> Generator[Workspace]:
    with new_workspace(api) as made:
        yield made


@pytest.fixture
def pool(api: Api, workspace: Workspace) -> Generator[str]:
    """An IPPool of the test's own, 198.19.7.0/24."""
    name = f"{workspace.run_id}-test"
    spec = {"cidr": "198.19.7.0/24", "blockSize": 28, "natOutgoing": False}
    body = {"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "spec": spec}
    api.create(POOLS, body | {"metadata": {"name": name}})
    yield name
    workspace.close()
    api.delete(f"{POOLS}/{name}")


# -- Exec ------------------------------------------------------------------------------------------


def test_exec_brings_what_a_process_did(api: Api, workspace: Workspace) -> None:
    (pod,) = workspace.ensure_pods([PodRequest(role="client", node="node1")])
    where = pod.namespace, pod.name
    done = api.exec(*where, ["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (done.exit_code, done.stdout, done.stderr) == (7, "out\n", "err\n")
    words = ["a b", "c&d=e", "$HOME", "ü", ""]
    assert api.exec(*where, ["printf", "%s|", *words]).stdout == "a b|c&d=e|$HOME|ü||"
    long = ["sh", "-c", "head -c 2000000 /dev/zero | tr '\\0' x"]
    assert len(api.exec(*where, long).stdout) == 2_000_000


# -- Pods ------------------------------------------------------------------------------------------


def test_pods_come_up_where_they_were_asked_for_and_are_shared(
    api: Api, workspace: Workspace
) -> None:
    wanted = [
        PodRequest(role="client", node="node1"),
        PodRequest(role="server", node="node3"),
        PodRequest(role="host", node="node2", host_network=True),
        PodRequest(role="client", node="node1"),
    ]
    pods = workspace.ensure_pods(wanted)
    assert [pod.node for pod in pods] == ["node1", "node3", "node2", "node1"]
    assert pods[3] is pods[0]
    assert pods[2].address == "192.168.0.12"
    assert pods[0].address.startswith("10.244.")
    assert workspace.ensure_pods(wanted) == pods
    assert len(workspace.pods()) == 3
    hostile = ["sh", "-c", "id -u; touch /file; touch /tmp/file && echo tmp"]
    done = api.exec(pods[0].namespace, pods[0].name, hostile)
    assert done.stdout == "65532\ntmp\n"


def test_a_pod_that_someone_deleted_is_made_anew(api: Api, workspace: Workspace) -> None:
    request = PodRequest(role="client", node="node1")
    (first,) = workspace.ensure_pods([request])
    api.delete(f"{NAMESPACES}/{first.namespace}/pods/{first.name}", grace_seconds=0)
    (second,) = workspace.ensure_pods([request])
    assert second.uid != first.uid
    assert api.exec(second.namespace, second.name, ["true"]).exit_code == 0


def test_a_pod_takes_its_address_from_the_pool_asked_for(workspace: Workspace, pool: str) -> None:
    (pod,) = workspace.ensure_pods([PodRequest(role="client", node="node1", pool=pool)])
    assert pod.address.startswith("198.19.7.")


#: Without it a container would be ready for the blink of an eye before it ends.
NEVER = {"exec": {"command": ["false"]}}


@pytest.mark.parametrize(
    ("container", "spec", "problem", "found"),
    [
        (
            {"command": ["sh", "-c", "echo boom; exit 3"], "readinessProbe": NEVER},
            {"restartPolicy": "Never"},
            "does not start: Error",
            "exit code 3.\nlast lines of its log:\nboom",
        ),
        (
            {"command": ["no-such-program"]},
            {"restartPolicy": "Never"},
            "does not start: (StartError|RunContainerError|ContainerCannotRun)",
            "no-such-program",
        ),
        (
            {
                "command": ["sleep", "9"],
                "env": [
                    {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "absent", "key": "k"}}}
                ],
            },
            {},
            "does not start: CreateContainerConfigError",
            "absent",
        ),
        (
            {"command": ["sh", "-c", "echo no config; exit 1"], "readinessProbe": NEVER},
            {},
            "does not start: CrashLoopBackOff",
            "no config",
        ),
    ],
)
def test_a_container_that_does_not_start_says_why(
    api: Api,
    workspace: Workspace,
    container: dict[str, Any],
    spec: dict[str, Any],
    problem: str,
    found: str,
) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "failing", "labels": {"k8snet/role": "failing"}},
        "spec": {"nodeName": "node1", "terminationGracePeriodSeconds": 0, **spec}
        | {"containers": [{"name": "c", "image": "busybox:1", **container}]},
    }
    api.create(f"{NAMESPACES}/{workspace.namespace}/pods", body)
    with pytest.raises(PodError, match=problem) as caught:
        wait_ready(
            api,
            workspace.namespace,
            labels="k8snet/role=failing",
            count=1,
            names={"failing"},
            timeout_seconds=60,
        )
    assert found in caught.value.found


# -- Services --------------------------------------------------------------------------------------


def test_a_web_service_answers_on_every_way_in(
    api: Api, lab: LabProcess, workspace: Workspace
) -> None:
    web = make_web_service(workspace)
    (pod, host) = workspace.ensure_pods(
        [
            PodRequest(role="client", node="node1"),
            PodRequest(role="host", node="node3", host_network=True),
        ]
    )
    curl = ["curl", "-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}"]
    for client, url in (
        (pod, web.cluster_ip_url),
        (pod, web.dns_url),
        (pod, web.node_port_url),
        (host, web.cluster_ip_url),
    ):
        done = api.exec(client.namespace, client.name, [*curl, url])
        assert (done.stdout, done.stderr) == ("200", ""), url
    outside = subprocess.run(
        [*lab.outside_prefix, *curl, web.external_url], capture_output=True, text=True, check=True
    )
    assert outside.stdout == "200"
    replicas = api.list(f"{NAMESPACES}/{web.namespace}/pods", labels="k8snet/role=web")
    assert len({replica["spec"]["nodeName"] for replica in replicas}) == 3
    assert make_web_service(workspace) == web
    same = existing_web_service(api, f"{web.namespace}/{web.name}")
    assert same.cluster_ip_url == web.cluster_ip_url


def test_a_web_service_in_a_pool_stands_beside_that_of_the_cluster(
    api: Api, workspace: Workspace, pool: str
) -> None:
    request = PodRequest(role="web-own", node="node2", pool=pool, serves_http=True)
    own = serve_from(workspace, request, served_in="IPIP-Always")
    other = make_web_service(workspace)
    assert own.name != other.name
    pods = f"{NAMESPACES}/{own.namespace}/pods"
    for web, start in ((own, "198.19.7."), (other, "10.244.")):
        replicas = api.list(pods, labels=f"k8snet/role={web.name}")
        assert replicas
        assert all(one["status"]["podIP"].startswith(start) for one in replicas)
    assert own.replica is not None
    assert (own.replica.node, own.served_in) == ("node2", "IPIP-Always")
    assert (other.replica, other.served_in) == (None, "")
    assert serve_from(workspace, request, served_in="IPIP-Always") == own


# -- Nothing left behind ---------------------------------------------------------------------------


def left_of(api: Api, run_id: str) -> list[str]:
    """What bears a run's label, as ``kind name``, whatever the package would look at."""
    core, apps = "/api/v1", "/apis/apps/v1"
    places = [f"{core}/{kind}" for kind in ("namespaces", "pods", "services", "configmaps")]
    places += [f"{apps}/{kind}" for kind in ("deployments", "replicasets")]
    return [
        f"{place.rpartition('/')[2]} {one['metadata']['name']}"
        for place in places
        for one in api.list(place, labels=selector(run_id))
    ]


def test_leaving_a_workspace_removes_everything_and_its_namespace(api: Api) -> None:
    with new_workspace(api) as workspace:
        workspace.ensure_pods([PodRequest(role="client", node="node1")])
        make_web_service(workspace)
        namespace = workspace.namespace
    with pytest.raises(NotFoundError):
        api.get(f"{NAMESPACES}/{namespace}")
    assert left_of(api, workspace.run_id) == []
    workspace.close()


def test_a_given_namespace_is_emptied_of_the_run_and_kept(api: Api) -> None:
    name = f"given-{secrets.token_hex(3)}"
    metadata = {"name": name}
    api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    stranger = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger"}}
    container = {"name": "c", "image": "busybox", "command": ["sleep", "infinity"]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    api.create(f"{NAMESPACES}/{name}/pods", stranger | {"spec": spec})
    try:
        with new_workspace(api, namespace=name) as workspace:
            workspace.ensure_pods([PodRequest(role="client", node="node1")])
            make_web_service(workspace)
        left = [item["metadata"]["name"] for item in api.list(f"{NAMESPACES}/{name}/pods")]
        assert left == ["stranger"]
        assert api.list(f"{NAMESPACES}/{name}/services") == []
    finally:
        api.delete(f"{NAMESPACES}/{name}")


def test_what_a_killed_run_left_is_found_and_swept_by_its_label(api: Api) -> None:
    killed, other = new_workspace(api), new_workspace(api)
    with other:
        (kept,) = other.ensure_pods([PodRequest(role="client", node="node2")])
        killed.ensure_pods([PodRequest(role="client", node="node1")])
        make_web_service(killed)
        # No close: the run was killed here.
        left = left_of(api, killed.run_id)
        assert f"namespaces {killed.namespace}" in left
        deleted = workspace_module.sweep(api, killed.run_id)
        assert deleted == [f"namespaces {killed.namespace}"]
        assert workspace_module.sweep(api, killed.run_id) == []
        assert left_of(api, killed.run_id) == []
        assert api.exec(kept.namespace, kept.name, ["true"]).exit_code == 0
    assert left_of(api, other.run_id) == []

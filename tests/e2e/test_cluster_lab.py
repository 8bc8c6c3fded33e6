"""The cluster layer on the lab: real pods, real exec, real trouble, nothing left behind."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Generator
from typing import Any

import pytest
from user_runs import fault

from pytest_k8snet.cluster import workspace as workspace_module
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.connect import connect
from pytest_k8snet.cluster.nodes import choose_nodes, list_nodes, placement, usable_nodes
from pytest_k8snet.cluster.pods import Pod, PodRequest, selector, wait_ready
from pytest_k8snet.cluster.rbac import check
from pytest_k8snet.cluster.services import existing_web_service, make_web_service
from pytest_k8snet.cluster.workspace import Workspace
from pytest_k8snet.errors import (
    ClusterError,
    ConflictError,
    ConnectionLostError,
    ExecTimeoutError,
    ForbiddenError,
    InvalidError,
    NodesError,
    NotFoundError,
    PodError,
    ToolMissingError,
    UnauthorizedError,
)
from pytest_k8snet.lab import LabProcess, LabSpec, start, study_nodes

NAMESPACES = "/api/v1/namespaces"


@pytest.fixture(scope="module")
def lab() -> Generator[LabProcess]:
    with start(LabSpec(nodes=study_nodes())) as process:
        yield process


@pytest.fixture(scope="module")
def api(lab: LabProcess) -> Generator[Api]:
    made = connect(kubeconfig=lab.kubeconfig)
    yield made
    made.close()


def new_workspace(api: Api, **changes: Any) -> Workspace:
    options: dict[str, Any] = {
        "run_id": f"k8snet-{secrets.token_hex(3)}",
        "namespace": None,
        "image": "networkstatic/iperf3:3.12",
        "web_image": "registry.k8s.io/e2e-test-images/agnhost:2.53",
        "pod_timeout_seconds": 30.0,
    }
    return Workspace(api, **(options | changes))


@pytest.fixture
def workspace(api: Api) -> Generator[Workspace]:
    with new_workspace(api) as made:
        yield made


@pytest.fixture(scope="module")
def pod(api: Api) -> Generator[Pod]:
    """One pod for all tests that only exec."""
    with new_workspace(api) as made:
        (found,) = made.ensure_pods([PodRequest(role="client", node="node1")])
        yield found


# -- connection and nodes ------------------------------------------------------------------------


def test_the_lab_is_a_cluster_like_any(api: Api) -> None:
    nodes = list_nodes(api)
    assert [node.name for node in nodes] == ["master", "node1", "node2", "node3"]
    assert all(node.usable and node.kernel_version and node.kubelet_version for node in nodes)
    assert str(nodes[3].interface) == "192.168.1.13/24"
    client, server = choose_nodes(nodes, "cross-subnet")
    assert (client.name, server.name) == ("node1", "node3")
    assert placement(client, nodes[2]) == "same-subnet"
    assert check(api).problems == ()


def test_a_wrong_token_is_refused(lab: LabProcess, tmp_path: Any) -> None:
    import yaml

    config = yaml.safe_load(lab.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "wrong"}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(UnauthorizedError, match="does not accept the credentials"):
        connect(kubeconfig=path)


def test_a_cordoned_node_is_not_used_and_named(api: Api) -> None:
    api.patch("/api/v1/nodes/node2", {"spec": {"unschedulable": True}})
    try:
        assert [node.name for node in usable_nodes(api)] == ["master", "node1", "node3"]
        with pytest.raises(NodesError, match='node "node2" cannot be used: cordoned'):
            choose_nodes(list_nodes(api), names=["node1", "node2"])
    finally:
        api.patch("/api/v1/nodes/node2", {"spec": {"unschedulable": None}})


# -- requests ------------------------------------------------------------------------------------


def test_a_stale_resource_version_is_a_conflict(api: Api) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "k8snet-test"}}
    path = f"{NAMESPACES}/default/configmaps"
    first = api.create(path, body)
    try:
        api.patch(f"{path}/k8snet-test", {"data": {"a": "1"}})
        with pytest.raises(ConflictError, match="was changed by someone else"):
            api.replace(f"{path}/k8snet-test", first | {"data": {"a": "2"}})
        stale = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}}
        with pytest.raises(ConflictError, match="was changed by someone else"):
            api.patch(f"{path}/k8snet-test", stale | {"data": {"a": "3"}})
        with pytest.raises(ConflictError, match="exists already"):
            api.create(path, body)
        assert api.get(f"{path}/k8snet-test")["data"] == {"a": "1"}
    finally:
        api.delete(f"{path}/k8snet-test")
    with pytest.raises(NotFoundError, match='there is no configmaps "k8snet-test"'):
        api.get(f"{path}/k8snet-test")


def test_a_bad_object_is_refused_with_the_field(api: Api) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {"containers": []},
    }
    with pytest.raises(InvalidError, match="refuses to create pods") as caught:
        api.create(f"{NAMESPACES}/default/pods", body)
    assert "spec.containers" in caught.value.found


@pytest.mark.parametrize("trouble", [{"api_error": "503:2"}, {"api_reset": "2"}])
def test_trouble_of_the_api_server_is_waited_out(api: Api, trouble: dict[str, str]) -> None:
    with fault(api, **trouble):
        assert len(api.list("/api/v1/nodes")) == 4


def test_a_missing_permission_names_verb_and_resource(api: Api) -> None:
    with fault(api, forbid="list:nodes"):
        with pytest.raises(ForbiddenError, match="may not list nodes") as caught:
            list_nodes(api)
        assert "kubectl auth can-i list nodes" in caught.value.remedy
        assert not api.can("list", "nodes")
    assert api.can("list", "nodes")


# -- exec ----------------------------------------------------------------------------------------


def test_exec_returns_status_and_channels_apart(api: Api, pod: Pod) -> None:
    done = api.exec(pod.namespace, pod.name, ["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (done.exit_code, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_exec_passes_arguments_as_they_are(api: Api, pod: Pod) -> None:
    words = ["a b", "c&d=e", "$HOME", "ü", ""]
    done = api.exec(pod.namespace, pod.name, ["printf", "%s|", *words])
    assert done.stdout == "a b|c&d=e|$HOME|ü||"


def test_exec_brings_two_megabytes_whole(api: Api, pod: Pod) -> None:
    argv = ["sh", "-c", "head -c 2000000 /dev/zero | tr '\\0' x"]
    assert len(api.exec(pod.namespace, pod.name, argv).stdout) == 2_000_000


def test_exec_by_many_threads_at_once(api: Api, pod: Pod) -> None:
    wrong: list[object] = []

    def work(thread: int) -> None:
        for i in range(20):
            word = f"{thread}-{i}"
            done = api.exec(pod.namespace, pod.name, ["echo", word])
            if (done.exit_code, done.stdout) != (0, f"{word}\n"):
                wrong.append(done)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_exec_gives_up_at_its_deadline_with_the_output_so_far(api: Api, pod: Pod) -> None:
    argv = ["sh", "-c", "echo started; exec timeout 5 sleep 60"]
    with pytest.raises(ExecTimeoutError, match="still running after 1 s") as caught:
        api.exec(pod.namespace, pod.name, argv, timeout_seconds=1)
    assert caught.value.stdout == "started\n"


def test_exec_of_a_missing_program(api: Api, pod: Pod) -> None:
    with pytest.raises(ToolMissingError, match='has no program "no-such-tool"'):
        api.exec(pod.namespace, pod.name, ["no-such-tool"])


def test_exec_in_a_pod_that_is_gone(api: Api, pod: Pod) -> None:
    with pytest.raises(PodError, match="absent is gone"):
        api.exec(pod.namespace, "absent", ["true"])


def test_exec_without_permission_names_the_subresource(api: Api, pod: Pod) -> None:
    with (
        fault(api, forbid="*:pods/exec"),
        pytest.raises(ForbiddenError, match=r"may not (get|create) pods/exec in namespace"),
    ):
        api.exec(pod.namespace, pod.name, ["true"])


def test_a_dropped_exec_stream_is_told(api: Api, pod: Pod) -> None:
    with (
        fault(api, exec_drop="1"),
        pytest.raises(ConnectionLostError, match="broke off") as caught,
    ):
        api.exec(pod.namespace, pod.name, ["echo", "nearly"])
    assert "output so far: nearly" in caught.value.found
    assert api.exec(pod.namespace, pod.name, ["true"]).exit_code == 0


# -- pods ----------------------------------------------------------------------------------------


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


def test_deleted_pods_are_gone_when_the_call_returns(api: Api, workspace: Workspace) -> None:
    pods = workspace.ensure_pods(
        [PodRequest(role="client", node="node1"), PodRequest(role="server", node="node2")]
    )
    workspace.delete_pods(pods)
    assert workspace.pods() == []
    assert api.list(f"{NAMESPACES}/{workspace.namespace}/pods") == []


def test_a_pod_takes_its_address_from_the_pool_asked_for(api: Api, workspace: Workspace) -> None:
    pools = "/apis/crd.projectcalico.org/v1/ippools"
    name = f"{workspace.run_id}-test"
    spec = {"cidr": "198.19.7.0/24", "blockSize": 28, "natOutgoing": False}
    body = {"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "spec": spec}
    api.create(pools, body | {"metadata": {"name": name}})
    try:
        (pod,) = workspace.ensure_pods([PodRequest(role="client", node="node1", pool=name)])
        assert pod.address.startswith("198.19.7.")
        workspace.delete_pods([pod])
    finally:
        api.delete(f"{pools}/{name}")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("registry.invalid/iperf3:3.12", "lookup registry.invalid: no such host"),
        ("example.com/iperf3:missing", "example.com/iperf3:missing: not found"),
    ],
)
def test_an_image_that_cannot_be_pulled_is_named_early(api: Api, image: str, words: str) -> None:
    with new_workspace(api, image=image, pod_timeout_seconds=600.0) as workspace:
        with pytest.raises(
            PodError, match=r"on node1 does not start: (ErrImagePull|Image)"
        ) as caught:
            workspace.ensure_pods([PodRequest(role="client", node="node1")])
        assert words in caught.value.found
        assert "-o k8snet_image" in caught.value.remedy


def test_a_node_that_does_not_exist_is_the_schedulers_word(api: Api) -> None:
    with new_workspace(api, pod_timeout_seconds=600.0) as workspace:
        with pytest.raises(PodError, match="on nowhere does not start: Unschedulable") as caught:
            workspace.ensure_pods([PodRequest(role="client", node="nowhere")])
        assert "0/4 nodes are available" in caught.value.found


#: Without it a container would be ready for the blink of an eye before it ends.
NEVER = {"exec": {"command": ["false"]}}


def _try(api: Api, namespace: str, container: dict[str, Any], **spec: Any) -> None:
    """Make a pod by hand and wait for it as the workspace does."""
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "trouble", "labels": {"k8snet/role": "trouble"}},
        "spec": {"nodeName": "node1", "terminationGracePeriodSeconds": 0, **spec}
        | {"containers": [{"name": "c", "image": "busybox:1", **container}]},
    }
    api.create(f"{NAMESPACES}/{namespace}/pods", body)
    wait_ready(
        api,
        namespace,
        labels="k8snet/role=trouble",
        count=1,
        names={"trouble"},
        timeout_seconds=60,
    )


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
    with pytest.raises(PodError, match=problem) as caught:
        _try(api, workspace.namespace, container, **spec)
    assert found in caught.value.found


def test_a_container_that_keeps_crashing_shows_its_log(api: Api, workspace: Workspace) -> None:
    crash = {"command": ["sh", "-c", "echo no config; exit 1"], "readinessProbe": NEVER}
    with pytest.raises(PodError, match="does not start: CrashLoopBackOff") as caught:
        _try(api, workspace.namespace, crash)
    assert "no config" in caught.value.found


def test_forbidden_pods_are_told_before_any_wait(api: Api, workspace: Workspace) -> None:
    _ = workspace.namespace
    with (
        fault(api, forbid="create:pods"),
        pytest.raises(ForbiddenError, match="may not create pods in namespace"),
    ):
        workspace.ensure_pods([PodRequest(role="client", node="node1")])


# -- services ------------------------------------------------------------------------------------


def test_a_web_service_answers_on_every_way_in(
    api: Api, lab: LabProcess, workspace: Workspace
) -> None:
    import subprocess

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


def test_a_missing_service_lists_what_there_is(api: Api) -> None:
    with pytest.raises(ClusterError, match='no Service "shop" in namespace "default"') as caught:
        existing_web_service(api, "default/shop")
    assert "kubernetes" in caught.value.found


# -- nothing left behind -------------------------------------------------------------------------


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
        make_web_service(workspace, replicas=1)
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
            make_web_service(workspace, replicas=1)
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
        make_web_service(killed, replicas=1)
        # No close: the run was killed here.
        left = left_of(api, killed.run_id)
        assert f"namespaces {killed.namespace}" in left
        deleted = workspace_module.sweep(api, killed.run_id)
        assert f"services {killed.namespace}/web" in deleted
        assert workspace_module.sweep(api, killed.run_id) == []
        assert left_of(api, killed.run_id) == []
        assert api.exec(kept.namespace, kept.name, ["true"]).exit_code == 0
    assert left_of(api, other.run_id) == []

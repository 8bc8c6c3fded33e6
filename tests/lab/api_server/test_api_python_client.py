"""The Kubernetes client for Python, whatever its version, at work on the API server."""

from __future__ import annotations

import json
from typing import Any

import kubernetes
import pytest
from kubernetes import config, watch

from .local_server import ApiServer

# Every version takes plain dicts, but the types of the newest want its models.
client: Any = kubernetes.client

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "labels": {"run": "x"}},
    "spec": {"containers": [{"name": "main", "image": "tools"}]},
}
POOL: dict[str, Any] = {
    "apiVersion": "crd.projectcalico.org/v1",
    "kind": "IPPool",
    "metadata": {"name": "small"},
    "spec": {"cidr": "198.18.0.0/24"},
}
POOLS = ("crd.projectcalico.org", "v1", "ippools")


@pytest.fixture
def api_client(api: ApiServer) -> Any:
    configuration = client.Configuration()
    config.load_kube_config(config_file=str(api.kubeconfig), client_configuration=configuration)
    configuration.retries = False
    with client.ApiClient(configuration) as made:
        yield made


def test_objects_through_the_typed_api(api: ApiServer, api_client: Any) -> None:
    core = client.CoreV1Api(api_client)
    created = core.create_namespaced_pod("default", POD)
    assert (created.metadata.name, created.status.phase) == ("p", "Pending")
    assert [pod.metadata.name for pod in core.list_pod_for_all_namespaces().items] == ["p"]
    labelled = core.patch_namespaced_pod("p", "default", {"metadata": {"labels": {"a": "b"}}})
    assert labelled.metadata.labels == {"run": "x", "a": "b"}
    deleted = core.delete_namespaced_pod("p", "default", grace_period_seconds=0)
    assert deleted.metadata.name == "p"
    with pytest.raises(client.ApiException) as missing:
        core.read_namespaced_pod("p", "default")
    assert missing.value.status == 404
    assert json.loads(missing.value.body)["message"] == 'pods "p" not found'


def test_kinds_that_the_client_models_strictly(api: ApiServer, api_client: Any) -> None:
    core, apps = client.CoreV1Api(api_client), client.AppsV1Api(api_client)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": POD["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    apps.create_namespaced_deployment("default", {"metadata": {"name": "d"}, "spec": spec})
    apps.create_namespaced_daemon_set(
        "default",
        {"metadata": {"name": "d"}, "spec": {k: v for k, v in spec.items() if k != "replicas"}},
    )
    core.create_namespaced_config_map("default", {"metadata": {"name": "c"}, "data": {"a": "b"}})
    core.create_node({"metadata": {"name": "n"}})
    ports = [{"port": 80}]
    core.create_namespaced_service("default", {"metadata": {"name": "s"}, "spec": {"ports": ports}})
    lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}
    client.CoordinationV1Api(api_client).create_namespaced_lease("default", lease)
    assert apps.list_namespaced_deployment("default").items[0].spec.replicas == 1
    assert apps.list_namespaced_daemon_set("default").items[0].metadata.name == "d"
    assert core.list_node().items[0].metadata.name == "n"
    assert core.list_namespace().items[0].status.phase == "Active"
    assert client.VersionApi(api_client).get_code().major == "1"
    review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    allowed = client.AuthorizationV1Api(api_client).create_self_subject_access_review(review)
    assert allowed.status.allowed is True


def test_custom_resources_with_their_patch_types(api: ApiServer, api_client: Any) -> None:
    custom = client.CustomObjectsApi(api_client)
    created = custom.create_cluster_custom_object(*POOLS, POOL)
    version = created["metadata"]["resourceVersion"]
    modes = {"metadata": {"resourceVersion": version}, "spec": {"ipipMode": "Always"}}
    patched = custom.patch_cluster_custom_object(*POOLS, "small", modes)
    assert patched["spec"]["ipipMode"] == "Always"
    with pytest.raises(client.ApiException) as stale:
        custom.patch_cluster_custom_object(*POOLS, "small", modes)
    assert stale.value.status == 409
    listed = custom.list_cluster_custom_object(*POOLS)
    assert (listed["kind"], len(listed["items"])) == ("IPPoolList", 1)
    assert listed["items"][0]["kind"] == "IPPool"
    custom.delete_cluster_custom_object(*POOLS, "small")


def test_a_watch_sees_what_happens(api: ApiServer, api_client: Any) -> None:
    core = client.CoreV1Api(api_client)
    core.create_namespaced_pod("default", POD)
    seen = []
    watching = watch.Watch()
    for event in watching.stream(core.list_namespaced_pod, "default", timeout_seconds=20):
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "ADDED":
            core.patch_namespaced_pod("p", "default", {"metadata": {"labels": {"a": "b"}}})
        elif event["type"] == "MODIFIED":
            core.delete_namespaced_pod("p", "default")
        else:
            watching.stop()
    assert seen == [("ADDED", "p"), ("MODIFIED", "p"), ("DELETED", "p")]


def test_exec_through_the_stream_module(api: ApiServer, api_client: Any) -> None:
    from kubernetes import stream

    api.start_pod("web")
    core = client.CoreV1Api(api_client)
    running = stream.stream(
        core.connect_get_namespaced_pod_exec,
        "web",
        "default",
        command=["sh", "-c", "echo out; echo err >&2; exit 4"],
        stdout=True,
        stderr=True,
        stdin=False,
        tty=False,
        _preload_content=False,
    )
    running.run_forever(timeout=20)
    assert (running.read_stdout(), running.read_stderr()) == ("out\n", "err\n")
    assert running.returncode == 4
    running.sock.shutdown()


def test_logs_and_raw_answers(api: ApiServer, api_client: Any) -> None:
    api.start_pod("web")
    api.runtime.lines = [b"one\n", b"two\n"]
    core = client.CoreV1Api(api_client)
    # Version 36 makes a Python literal of a text that it decodes itself.
    text = core.read_namespaced_pod_log("web", "default", tail_lines=1, _preload_content=False)
    assert text.data == b"two\n"
    raw = core.list_namespaced_pod("default", _preload_content=False)
    assert json.loads(raw.data)["items"][0]["metadata"]["name"] == "web"

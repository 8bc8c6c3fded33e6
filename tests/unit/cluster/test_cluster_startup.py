"""Waiting for pods: early ends with Kubernetes' own reasons, and what is said at the time limit.

The lab shows the common reasons for real (tests/e2e). Here a scripted server plays those that
need a cluster in trouble.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from scripted_server import ScriptedServer, status

from pytest_k8snet.cluster import startup
from pytest_k8snet.cluster import workspace as workspace_module
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.pods import PodRequest, PodSettings, pod_manifest
from pytest_k8snet.cluster.startup import StartFailure, wait_ready
from pytest_k8snet.cluster.workspace import Workspace
from pytest_k8snet.errors import ApiError, ClusterError, ForbiddenError, PodError

pytest_plugins = ["scripted_server_fixtures"]

PODS = "/api/v1/namespaces/x/pods"
READY = {
    "phase": "Running",
    "podIP": "10.244.1.2",
    "conditions": [{"type": "Ready", "status": "True"}],
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seconds of tolerance are for clusters; the tests need only that there is some."""
    monkeypatch.setattr(startup, "TOLERANCE_SECONDS", 0.2)


def pod(pod_status: dict[str, Any], name: str = "a") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "x", "uid": f"uid-{name}"},
        "spec": {"nodeName": "node1", "containers": [{"name": "k8snet"}]},
        "status": pod_status,
    }


def pods(*items: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {}, "items": [*items]}


def waiting(reason: str, message: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return pod({"phase": "Pending", "containerStatuses": [{"image": "img:1", "state": state}]})


def unschedulable() -> dict[str, Any]:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/2 nodes are available: 2 Insufficient cpu.",
    }
    return pod({"phase": "Pending", "conditions": [condition]})


def wait(api: Api, **changes: Any) -> list[dict[str, Any]]:
    options: dict[str, Any] = {"labels": "l", "count": 1, "names": {"a"}, "timeout_seconds": 10}
    return wait_ready(api, "x", **(options | changes))


def test_pods_that_become_ready_are_returned(server: ScriptedServer, api: Api) -> None:
    server.on(f"GET {PODS}", pods(pod({})), pods(pod({"phase": "Pending"})), pods(pod(READY)))
    assert [p["metadata"]["name"] for p in wait(api)] == ["a"]


def test_trouble_that_passes_is_no_trouble(server: ScriptedServer, api: Api) -> None:
    server.on(f"GET {PODS}", pods(unschedulable()), pods(pod({})), pods(pod(READY)))
    assert len(wait(api)) == 1


def test_trouble_that_stays_ends_the_wait_early(server: ScriptedServer, api: Api) -> None:
    server.on(f"GET {PODS}", pods(unschedulable()))
    with pytest.raises(PodError) as caught:
        wait(api, timeout_seconds=600)
    assert caught.value.problem == "pod x/a on node1 does not start: Unschedulable"
    assert caught.value.found == "0/2 nodes are available: 2 Insufficient cpu."


def test_the_registrys_words_outlive_the_back_off(server: ScriptedServer, api: Api) -> None:
    server.on(
        f"GET {PODS}",
        pods(waiting("ErrImagePull", "img:1: dial tcp 10.9.9.9:443: i/o timeout (and more)")),
        pods(waiting("ImagePullBackOff", 'Back-off pulling image "img:1"')),
    )
    with pytest.raises(PodError, match="does not start: ImagePullBackOff") as caught:
        wait(api)
    assert caught.value.found == "img:1: dial tcp 10.9.9.9:443: i/o timeout (and more)"


def test_a_crashing_container_shows_its_last_lines(server: ScriptedServer, api: Api) -> None:
    server.on(f"GET {PODS}", pods(waiting("CrashLoopBackOff", "back-off 10s")))
    server.on(f"GET {PODS}/a/log", web.Response(text="cannot open /etc/x\n"))
    with pytest.raises(PodError, match="CrashLoopBackOff") as caught:
        wait(api)
    assert caught.value.found == "back-off 10s\nlast lines of its log:\ncannot open /etc/x"


def test_a_pod_that_vanishes_is_told(server: ScriptedServer, api: Api) -> None:
    server.on(f"GET {PODS}", pods(pod({})), pods())
    with pytest.raises(PodError, match="pod x/a has vanished before it was ready"):
        wait(api)


def test_the_time_limit_quotes_state_and_events(server: ScriptedServer, api: Api) -> None:
    creating = {
        "phase": "Pending",
        "conditions": [{"type": "PodReadyToStartContainers", "status": "False"}],
        "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}],
    }
    server.on(f"GET {PODS}", pods(pod(creating)))
    event = {"reason": "FailedCreatePodSandBox", "message": "no IP addresses available"}
    server.on("GET /api/v1/namespaces/x/events", {"items": [event]})
    with pytest.raises(PodError) as caught:
        wait(api, timeout_seconds=0.1)
    assert caught.value.problem == "pod x/a on node1 is not ready after 0.1 s"
    assert "ContainerCreating" in caught.value.found
    assert "event FailedCreatePodSandBox: no IP addresses available" in caught.value.found
    assert any("involvedObject.name%3Da" in seen for seen in server.seen)
    assert caught.value.remedy.startswith("its network could not be set up: see calico-node")


@pytest.mark.parametrize(
    ("status_of_pod", "node", "reasons", "remedy"),
    [
        ({}, "", (), "nothing has scheduled it, nor said why: see whether kube-scheduler runs"),
        ({}, "", ("FailedScheduling",), "no node takes it"),
        ({}, "node1", ("Scheduled",), "the kubelet of its node has not begun with it"),
        ({}, "node1", ("Scheduled", "Pulling"), "its image is still being pulled"),
        (
            {"containerStatuses": [{"state": {}}]},
            "node1",
            ("Pulling", "Pulled", "Started", "Unhealthy"),
            "its readiness probe fails",
        ),
    ],
)
def test_the_time_limit_names_the_cause_that_the_evidence_points_to(
    server: ScriptedServer,
    api: Api,
    status_of_pod: dict[str, Any],
    node: str,
    reasons: tuple[str, ...],
    remedy: str,
) -> None:
    waiting = pod({"phase": "Pending", **status_of_pod})
    waiting["spec"]["nodeName"] = node
    server.on(f"GET {PODS}", pods(waiting))
    items = [{"reason": reason, "message": "m"} for reason in reasons]
    server.on("GET /api/v1/namespaces/x/events", {"items": items})
    with pytest.raises(PodError) as caught:
        wait(api, timeout_seconds=0.1)
    assert caught.value.remedy.startswith(remedy)


def test_events_that_may_not_be_read_do_not_hide_the_error(
    server: ScriptedServer, api: Api
) -> None:
    server.on(f"GET {PODS}", pods(pod({"phase": "Pending"})))
    server.on(
        "GET /api/v1/namespaces/x/events",
        status(403, "Forbidden", 'User "jane" cannot list resource "events"'),
    )
    with pytest.raises(PodError, match=r"is not ready after 0.1 s"):
        wait(api, timeout_seconds=0.1)


def test_a_deployment_that_makes_no_pods_says_why(server: ScriptedServer, api: Api) -> None:
    server.on(f"GET {PODS}", pods())
    with pytest.raises(PodError, match=r"3 pods are wanted .* and 0 were made") as caught:
        wait(
            api,
            count=3,
            names=None,
            maker=lambda: StartFailure(reason="R", message="exceeded quota"),
        )
    assert caught.value.found == "exceeded quota"


def test_no_pod_at_all_points_at_the_control_plane(server: ScriptedServer, api: Api) -> None:
    server.on(f"GET {PODS}", pods())
    with pytest.raises(PodError, match=r"no pod has appeared in namespace x within 0.1 s"):
        wait(api, names=None, timeout_seconds=0.1)


SETTINGS = PodSettings(image="img:1", web_image="web:1")
CLIENT = PodRequest(role="client", node="node1")


def made(name: str) -> dict[str, Any]:
    """A client pod as the cluster has it."""
    manifest = pod_manifest(name, "x", "k8snet-abc123", CLIENT, settings=SETTINGS, hostname="node1")
    return {**manifest, "metadata": {**manifest["metadata"], "uid": "u"}, "status": READY}


def workspace(api: Api, namespace: str | None = "x") -> Workspace:
    return Workspace(
        api,
        run_id="k8snet-abc123",
        namespace=namespace,
        settings=SETTINGS,
        pod_timeout_seconds=5,
    )


def test_a_young_namespace_is_given_time_for_its_service_account(
    server: ScriptedServer, api: Api
) -> None:
    young = 'error looking up service account x/default: serviceaccount "default" not found'
    name = "k8snet-abc123-client-node1-1"
    server.on("GET /api/v1/namespaces/x", {"status": {"phase": "Active"}})
    server.on("GET /api/v1/nodes", {"items": []})
    server.on(f"POST {PODS}", status(403, "Forbidden", f'pods "p" is forbidden: {young}'), {})
    server.on(f"GET {PODS}", pods(made(name)))
    (found,) = workspace(api).ensure_pods([CLIENT])
    assert found.name == name
    assert found.distorted_by == ()


def test_a_pod_that_admission_has_moved_to_the_hosts_network_is_refused_and_dropped(
    server: ScriptedServer, api: Api
) -> None:
    name = "k8snet-abc123-client-node1-1"
    other = made(name)
    other["spec"]["hostNetwork"] = True
    server.on("GET /api/v1/namespaces/x", {"status": {"phase": "Active"}})
    server.on("GET /api/v1/nodes", {"items": []})
    server.on(f"POST {PODS}", {})
    server.on(f"GET {PODS}", pods(other))
    with pytest.raises(PodError, match=f"admission has made another pod of x/{name}"):
        workspace(api).ensure_pods([CLIENT])
    assert f"DELETE {PODS}/{name}" in server.seen


def test_admission_that_refuses_a_pod_is_told_at_once(server: ScriptedServer, api: Api) -> None:
    server.on("GET /api/v1/namespaces/x", {"status": {"phase": "Active"}})
    server.on("GET /api/v1/nodes", {"items": []})
    message = 'pods "p" is forbidden: violates PodSecurity "restricted:latest": host namespaces'
    server.on(f"POST {PODS}", status(403, "Forbidden", message))
    with pytest.raises(ForbiddenError, match="admission rules refuse") as caught:
        workspace(api).ensure_pods([PodRequest(role="host", node="node1", host_network=True)])
    assert caught.value.found == message
    assert any(seen.startswith(f"DELETE {PODS}/") for seen in server.seen)


def test_a_namespace_that_is_missing_or_going_is_refused(server: ScriptedServer, api: Api) -> None:
    server.on("GET /api/v1/namespaces/x", status(404, "NotFound", 'namespaces "x" not found'))
    with pytest.raises(ClusterError, match='the namespace "x" does not exist'):
        _ = workspace(api).namespace
    server.on("GET /api/v1/namespaces/x", {"status": {"phase": "Terminating"}})
    with pytest.raises(ClusterError, match='the namespace "x" is being deleted'):
        _ = workspace(api).namespace


def test_a_workspace_that_made_nothing_asks_nothing(server: ScriptedServer, api: Api) -> None:
    with workspace(api, None) as space:
        assert space.pods() == []
    assert server.seen == []


def test_a_pod_that_does_not_end_is_dropped_and_then_told(
    server: ScriptedServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limits are there to bound a wait; the test need not wait that long.
    monkeypatch.setattr(workspace_module, "POD_END_SECONDS", 0.1)
    server.on(f"GET {PODS}", pods(pod(READY)))
    server.on(f"DELETE {PODS}/a", {})
    with pytest.raises(ClusterError, match="1 pods could not be deleted") as caught:
        workspace_module.end_pods(api, "r", "x", lambda _: True)
    assert caught.value.found == "x/a"
    # Asked to end once, and dropped once.
    graces = [json.loads(body)["gracePeriodSeconds"] for body in server.bodies if b"grace" in body]
    assert graces == [1, 0]


def test_a_later_pod_of_the_same_name_is_left_alone(server: ScriptedServer, api: Api) -> None:
    earlier, later = pod(READY), pod(READY)
    earlier["metadata"]["uid"] = "earlier"
    server.on(f"GET {PODS}", pods(earlier), pods(later))
    conflict = status(409, "Conflict", "Precondition failed: UID in precondition: earlier")
    server.on(f"DELETE {PODS}/a", conflict)
    found = workspace_module.end_pods(
        api, "r", "x", lambda pod: pod["metadata"]["uid"] == "earlier"
    )
    (body,) = (json.loads(body) for body in server.bodies if b"preconditions" in body)
    assert (body["preconditions"], found) == ({"uid": "earlier"}, ["x/a"])


DEPLOYMENTS = "/apis/apps/v1/namespaces/x/deployments"
WEB = {"metadata": {"name": "web", "labels": {"k8snet/run": "k8snet-abc123"}}}


@pytest.mark.parametrize(
    "refusal",
    [
        status(409, "AlreadyExists", 'deployments.apps "web" already exists'),
        status(403, "Forbidden", 'deployments.apps "web" is forbidden: exceeded quota'),
    ],
)
def test_what_a_run_could_not_make_is_not_deleted_and_whoever_asks_again_hears_why(
    server: ScriptedServer, api: Api, refusal: web.Response
) -> None:
    server.on("GET /api/v1/namespaces/x", {})
    server.on(f"POST {DEPLOYMENTS}", refusal)
    server.on(f"GET {PODS}", pods())
    space = workspace(api)
    _ = space.namespace
    for _ in range(2):
        with pytest.raises(ApiError) as caught:
            space.make(DEPLOYMENTS, WEB)
        assert caught.value.status == refusal.status
    space.close()
    assert [one for one in server.seen if one.startswith("DELETE")] == []


@pytest.mark.parametrize(("run", "deleted"), [("k8snet-abc123", 1), ("another", 0)])
def test_what_may_have_been_made_is_deleted_if_it_is_the_runs_own(
    server: ScriptedServer, api: Api, run: str, deleted: int
) -> None:
    api._client.patience_seconds = 0.0
    server.on("GET /api/v1/namespaces/x", {})
    server.on(f"POST {DEPLOYMENTS}", status(500, "InternalError", "etcdserver: request timed out"))
    there = {"metadata": {"name": "web", "uid": "u-1", "labels": {"k8snet/run": run}}}
    server.on(f"GET {DEPLOYMENTS}/web", there)
    server.on(f"DELETE {DEPLOYMENTS}/web", {})
    server.on(f"GET {PODS}", pods())
    space = workspace(api)
    _ = space.namespace
    with pytest.raises(ApiError):
        space.make(DEPLOYMENTS, WEB)
    space.close()
    bodies = [json.loads(body) for body in server.bodies if b"preconditions" in body]
    assert [body["preconditions"] for body in bodies] == [{"uid": "u-1"}] * deleted


def test_a_namespace_that_stays_is_told_with_its_conditions(
    server: ScriptedServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limits are there to bound a wait; the test need not wait that long.
    monkeypatch.setattr(workspace_module, "NAMESPACE_END_SECONDS", 0.1)
    mine: dict[str, Any] = {
        "metadata": {"name": "k8snet-abc123", "labels": {"k8snet/run": "k8snet-abc123"}}
    }
    condition = {"type": "NamespaceContentRemaining", "message": "Some resources remain: foos"}
    mine["status"] = {"phase": "Terminating", "conditions": [condition]}
    server.on("GET /api/v1/namespaces", {"items": [mine]})
    server.on("DELETE /api/v1/namespaces/k8snet-abc123", {})
    with pytest.raises(
        ClusterError, match=r"namespace k8snet-abc123 is still there after 0.1 s"
    ) as caught:
        workspace_module.sweep(api, "k8snet-abc123")
    assert caught.value.found == "Some resources remain: foos"

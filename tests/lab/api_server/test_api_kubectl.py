"""An ordinary kubectl at work on the API server."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.spec import CalicoSpec

from .local_server import ApiServer

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

POOL = """\
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {name: small}
spec: {cidr: 198.18.0.0/24, ipipMode: Never}
"""
POOLS = "ippools.crd.projectcalico.org"
POOL_NAME = "ippool.crd.projectcalico.org/small"
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: server:1
        env: [{name: A, value: "1"}, {name: B, value: "2"}]
        ports: [{containerPort: 80}]
"""


def settled(deployment: Object) -> None:
    """The status that the controllers report when all is done."""
    replicas = deployment["spec"]["replicas"]
    deployment["status"] = {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": replicas,
        "availableReplicas": replicas,
        "conditions": [{"type": "Available", "status": "True"}],
    }


def node(name: str) -> Object:
    return {
        "metadata": {"name": name, "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.168.0.10"}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {
                "kubeletVersion": "v1.32.4",
                "osImage": "Debian",
                "kernelVersion": "6.1",
                "containerRuntimeVersion": "lab://1",
            },
        },
    }


def columns(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


def test_get_shows_the_usual_columns(api: ApiServer) -> None:
    api.start_pod("web")
    api.on_loop(lambda: api.store.create("nodes", node("master")))
    api.kubectl("create", "service", "clusterip", "web", "--tcp=80:8080")
    text = api.kubectl("get", "nodes,pods,svc", "-A", "-o", "wide")
    rows = columns(text)
    assert rows[1][:3] == ["node/master", "Ready", "control-plane"]
    assert rows[1][-5:] == ["192.168.0.10", "<none>", "Debian", "6.1", "lab://1"]
    assert rows[4][:5] == ["default", "pod/web", "1/1", "Running", "0"]
    assert rows[4][-4:] == ["10.244.1.5", "node1", "<none>", "<none>"]
    assert rows[7][:6] == ["default", "service/web", "ClusterIP", "<none>", "<none>", "80/TCP"]


def test_a_pod_is_run_labelled_annotated_described_and_deleted(api: ApiServer) -> None:
    kubectl = api.kubectl
    assert kubectl("run", "p", "--image=tools", "--", "sleep", "1") == "pod/p created\n"
    kubectl("label", "pod", "p", "team=net")
    kubectl("annotate", "pod", "p", "note=hello")
    assert kubectl("get", "pods", "-l", "team in (net,other),!x", "-o", "name") == "pod/p\n"
    assert kubectl("get", "pods", "--field-selector=status.phase=Running", "-o", "name") == ""
    described = kubectl("describe", "pod", "p")
    assert "Annotations:      note: hello" in described
    assert "Status:           Pending" in described
    assert kubectl("delete", "pod", "p") == 'pod "p" deleted\n'
    assert 'pods "p" not found' in kubectl.fails("get", "pod", "p")


def test_apply_creates_changes_and_removes_what_is_gone_from_the_file(api: ApiServer) -> None:
    kubectl = api.kubectl
    assert kubectl("apply", "-f", "-", stdin=DEPLOYMENT) == "deployment.apps/web created\n"
    assert kubectl("apply", "-f", "-", stdin=DEPLOYMENT) == "deployment.apps/web unchanged\n"
    changed = DEPLOYMENT.replace(', {name: B, value: "2"}', "").replace("server:1", "server:2")
    difference = kubectl.run("diff", "-f", "-", stdin=changed)
    assert difference.returncode == 1
    assert re.search(r"^- +- name: B$", difference.stdout, re.MULTILINE)
    assert kubectl("apply", "-f", "-", stdin=changed) == "deployment.apps/web configured\n"
    names = "{.spec.template.spec.containers[0].env[*].name}"
    assert kubectl("get", "deploy", "web", "-o", f"jsonpath={names}") == "A"
    container = "{.spec.template.spec.containers[0].image}"
    assert kubectl("get", "deploy", "web", "-o", f"jsonpath={container}") == "server:2"


def test_apply_of_a_custom_resource_and_of_a_list(api: ApiServer) -> None:
    kubectl = api.kubectl
    assert kubectl("apply", "-f", "-", stdin=POOL) == f"{POOL_NAME} created\n"
    kubectl("apply", "-f", "-", stdin=POOL.replace("Never", "Always"))
    assert "ipipMode: Always" in kubectl("get", POOLS, "-o", "yaml")
    # What kubectl prints of a collection is a List, which it validates in a way of its own.
    listed = kubectl("get", POOLS, "-o", "yaml")
    assert kubectl("apply", "-f", "-", stdin=listed) == f"{POOL_NAME} configured\n"


def test_server_side_apply(api: ApiServer) -> None:
    first = api.kubectl("apply", "--server-side", "-f", "-", stdin=DEPLOYMENT)
    assert first == "deployment.apps/web serverside-applied\n"
    scaled = DEPLOYMENT.replace("replicas: 2", "replicas: 3")
    api.kubectl("apply", "--server-side", "-f", "-", stdin=scaled)
    replicas = api.kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}")
    assert replicas == "3"


def test_bad_objects_are_refused_by_field(api: ApiServer) -> None:
    typo = POOL.replace("cidr:", "cider:")
    refused = api.kubectl.fails("create", "-f", "-", stdin=typo)
    assert 'strict decoding error: unknown field "spec.cider"' in refused
    two = DEPLOYMENT.replace("image: server:1", "imagePullPolicy: Sometimes")
    refused = api.kubectl.fails("create", "-f", "-", stdin=two)
    assert "* spec.template.spec.containers[0].image: Required value" in refused
    assert (
        '* spec.template.spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes":'
        ' supported values: "Always", "IfNotPresent", "Never"' in refused
    )


def test_typed_commands_that_send_protobuf(api: ApiServer, tmp_path: Path) -> None:
    kubectl = api.kubectl
    (tmp_path / "bytes").write_bytes(b"\xff\x00")
    kubectl("create", "namespace", "team")
    kubectl("create", "configmap", "c", "--from-literal=a=b", f"--from-file={tmp_path / 'bytes'}")
    kubectl("create", "secret", "generic", "s", "--from-literal=a=b")
    kubectl("create", "serviceaccount", "robot")
    kubectl("create", "deployment", "d", "--image=i", "--port=80", "--replicas=0")
    values = "jsonpath={.data.a} {.binaryData.bytes}"
    assert kubectl("get", "configmap", "c", "-o", values) == "b /wA="
    assert kubectl("get", "secret", "s", "-o", "jsonpath={.data.a} {.type}") == "Yg== Opaque"
    assert kubectl("get", "deploy", "d", "-o", "jsonpath={.spec.replicas}") == "0"
    assert "robot" in kubectl("get", "serviceaccounts")
    assert kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    api.set_faults(forbid="patch:ippools.crd.projectcalico.org")
    assert kubectl.run("auth", "can-i", "patch", POOLS).stdout.strip() == "no"
    assert kubectl("auth", "can-i", "get", "pods", "--subresource=exec").strip() == "yes"


def test_a_node_is_cordoned_tainted_and_drained(api: ApiServer) -> None:
    api.start_pod("web")
    api.on_loop(lambda: api.store.create("nodes", node("node1")))
    api.kubectl("taint", "node", "node1", "a=b:NoSchedule")
    # The kubelet that would end the pod is not there, so it is to end at once.
    drained = api.kubectl("drain", "node1", "--force", "--grace-period=0", "--timeout=20s")
    assert "pod/web evicted" in drained
    assert "Ready,SchedulingDisabled" in api.kubectl("get", "nodes")


def test_scale_and_rollout_status(api: ApiServer) -> None:
    kubectl = api.kubectl
    kubectl("create", "-f", "-", stdin=DEPLOYMENT)
    kubectl("scale", "deployment", "web", "--replicas=4")
    refused = kubectl.fails("scale", "deployment", "web", "--current-replicas=2", "--replicas=1")
    assert "Expected replicas to be 2, was 4" in refused
    key = ("deployments.apps", "web", "default")
    api.on_loop(lambda: api.store.mutate(*key, settled, subresource="status"))
    done = kubectl("rollout", "status", "deployment", "web", "--timeout=20s")
    assert done == 'deployment "web" successfully rolled out\n'
    assert columns(kubectl("get", "deploy"))[1][:4] == ["web", "4/4", "4", "4"]


def test_wait_ends_when_the_condition_comes(api: ApiServer) -> None:
    api.kubectl("run", "web", "--image=tools")
    waiting = subprocess.Popen(
        api.kubectl.command("wait", "--for=condition=Ready", "pod/web", "--timeout=20s"),
        stdout=subprocess.PIPE,
        text=True,
    )
    with waiting:

        def ready(pod: Object) -> None:
            pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]

        api.on_loop(lambda: api.store.mutate("pods", "web", "default", ready, subresource="status"))
        assert waiting.communicate(timeout=30)[0] == "pod/web condition met\n"
    phase = "--for=jsonpath={.status.phase}=Pending"
    assert api.kubectl("wait", phase, "pod/web", "--timeout=20s") == "pod/web condition met\n"


def test_get_w_shows_each_change(api: ApiServer) -> None:
    api.kubectl("run", "web", "--image=tools")
    watching = subprocess.Popen(
        api.kubectl.command("get", "pods", "-w"), stdout=subprocess.PIPE, text=True
    )
    with watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
        assert watching.stdout.readline().split()[:3] == ["web", "0/1", "Pending"]

        def run(pod: Object) -> None:
            pod["status"]["phase"] = "Running"

        api.on_loop(lambda: api.store.mutate("pods", "web", "default", run, subresource="status"))
        assert watching.stdout.readline().split()[:3] == ["web", "0/1", "Running"]
        watching.terminate()


def test_deleting_waits_for_finalizers(api: ApiServer) -> None:
    api.kubectl(
        "create",
        "-f",
        "-",
        stdin=POOL.replace("{name: small}", "{name: small, finalizers: [example.com/keep]}"),
    )
    deleting = subprocess.Popen(
        api.kubectl.command("delete", POOLS, "small"), stdout=subprocess.PIPE, text=True
    )
    with deleting:
        deadline = time.monotonic() + 20
        pool = api.store.get(POOLS, "small")
        while "deletionTimestamp" not in pool["metadata"]:
            assert time.monotonic() < deadline
            pool = api.on_loop(lambda: api.store.get(POOLS, "small"))
        pool["metadata"]["finalizers"] = []
        api.on_loop(lambda: api.store.update(POOLS, pool))
        assert "deleted" in deleting.communicate(timeout=30)[0]
    assert api.kubectl("get", POOLS, "-o", "name") == ""


def test_what_is_not_there_is_named(api: ApiServer) -> None:
    assert "the server doesn't have a resource type" in api.kubectl.fails("get", "bananas")
    assert 'pods "nope" not found' in api.kubectl.fails("get", "pod", "nope")
    missing = api.kubectl.fails("get", POOLS, "nope")
    assert 'ippools.crd.projectcalico.org "nope" not found' in missing


def test_pools_through_the_aggregated_group(
    start_server: Callable[[CalicoSpec], ApiServer],
) -> None:
    api = start_server(CalicoSpec(api_shape="B", install="operator"))
    new = POOL.replace("crd.projectcalico.org/v1", "projectcalico.org/v3")
    created = api.kubectl("create", "-f", "-", stdin=new)
    assert created == "ippool.projectcalico.org/small created\n"
    assert api.kubectl("get", POOLS, "-o", "name") == f"{POOL_NAME}\n"
    both = new.replace("ipipMode: Never", "ipipMode: Always, vxlanMode: Always").replace(
        "small", "both"
    )
    refused = api.kubectl.fails("create", "-f", "-", stdin=both)
    assert "ipipMode and vxlanMode cannot both be enabled" in refused
    assert "tigerastatuses" in api.kubectl("api-resources", "--api-group=operator.tigera.io")


def test_the_old_group_serves_kubectl_while_the_aggregated_one_is_cut_off(
    start_server: Callable[[CalicoSpec], ApiServer],
) -> None:
    api = start_server(CalicoSpec(api_shape="B"))
    api.kubectl("create", "-f", "-", stdin=POOL)
    api.set_faults(calico_apiserver_down="true")
    assert api.kubectl("get", POOLS, "-o", "name") == f"{POOL_NAME}\n"
    refused = api.kubectl.fails("get", "--raw", "/apis/projectcalico.org/v3/ippools")
    assert "the server is currently unable to handle the request" in refused

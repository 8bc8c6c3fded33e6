"""What people type: an ordinary kubectl works on the lab as on any cluster."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from lab_kubectl import Kubectl, need_kubectl, pod_object

from pytest_k8snet.lab import LabProcess


def test_get_shows_what_a_calico_cluster_has(kubectl: Kubectl) -> None:
    nodes = kubectl("get", "nodes", "-o", "wide").splitlines()
    assert [line.split()[0] for line in nodes[1:]] == ["master", "node1", "node2", "node3"]
    assert all(" Ready " in line for line in nodes[1:])
    assert "control-plane" in nodes[1]
    assert os.uname().release in nodes[1]
    system = kubectl("get", "pods", "-n", "kube-system", "-o", "wide")
    assert system.count("calico-node-") == 4
    assert system.count("coredns-") == 2
    assert kubectl("get", "ippools.crd.projectcalico.org", "-o", "name") == (
        "ippool.crd.projectcalico.org/default-ipv4-ippool\n"
    )
    information = kubectl.get("clusterinformations.crd.projectcalico.org", "default")
    assert information["spec"]["calicoVersion"] == "v3.31.2"
    daemonset = kubectl.get("daemonset", "calico-node", "-n", "kube-system")
    assert daemonset["status"]["numberReady"] == 4
    lease = kubectl.get("lease", "node1", "-n", "kube-node-lease")
    assert lease["spec"]["holderIdentity"] == "node1"


@pytest.fixture(params=["websocket", "spdy"])
def protocol(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How kubectl streams: as it does from 1.31 on, or as it did before."""
    for name in ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS"):
        monkeypatch.setenv(name, str(request.param == "websocket").lower())
    return str(request.param)


@pytest.mark.usefixtures("protocol")
def test_run_exec_logs_and_delete(kubectl: Kubectl) -> None:
    kubectl("run", "p", "--image=example.org/x", "--command", "--", "sh", "-c",
            "echo hello; trap 'exit 0' TERM; while :; do sleep 0.05; done")  # fmt: skip
    kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=10s")
    assert kubectl("logs", "p") == "hello\n"
    done = kubectl.run(
        "exec", "-i", "p", "--", "sh", "-c", "cat; echo bad >&2; exit 7", stdin="good\n"
    )
    assert done.stdout == "good\n"
    assert done.stderr == "bad\ncommand terminated with exit code 7\n"
    assert done.returncode == 7
    done = kubectl.run("exec", "p", "--", "iperf99")
    assert 'exec: "iperf99": executable file not found in $PATH' in done.stderr
    assert kubectl("delete", "pod", "p") == 'pod "p" deleted\n'


@pytest.mark.usefixtures("protocol")
def test_a_port_is_forwarded_and_a_pod_attached_to(kubectl: Kubectl) -> None:
    reader = "while read line; do echo got $line; done; echo over"
    container = {"stdin": True, "stdinOnce": True}
    kubectl.apply(
        pod_object("web", (), container={"image": "nginx"}),
        pod_object("reader", ("sh", "-c", reader), container=container, restartPolicy="Never"),
    )
    kubectl("wait", "--for=condition=Ready", "pod/web", "pod/reader", "--timeout=10s")
    assert "got one\ngot two\nover\n" in kubectl("attach", "-i", "reader", stdin="one\ntwo\n")
    forwarding = subprocess.Popen(
        kubectl.command("port-forward", "pod/web", ":80"), stdout=subprocess.PIPE, text=True
    )
    try:
        assert forwarding.stdout is not None
        port = forwarding.stdout.readline().split()[2].rpartition(":")[2]
        for _ in range(2):
            page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10)
            assert page.status == 200
            page.close()
    finally:
        forwarding.terminate()
        forwarding.communicate()


def test_files_are_copied_both_ways(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.apply(pod_object("p"))
    kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=10s")
    (tmp_path / "here").write_text("content")
    kubectl("cp", str(tmp_path / "here"), "p:/tmp/there")
    assert kubectl.sh("p", "cat /tmp/there") == "content"
    kubectl("cp", "p:/tmp/there", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "content"


def test_exec_with_a_terminal(kubectl: Kubectl) -> None:
    kubectl.apply(pod_object("p"))
    kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=10s")
    command = f"kubectl -n {kubectl.namespace} exec -it p -- sh -c 'tty; stty size; exit 5'"
    done = subprocess.run(
        # script gives kubectl a terminal of its own.
        ["script", "--quiet", "--return", "--command", command, os.devnull],
        env={
            **os.environ,
            "KUBECONFIG": str(kubectl.kubeconfig),
            "TERM": "xterm",
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false",  # see Kubectl.run
        },
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )
    assert "/dev/pts/" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 5


def test_the_roles_of_a_run_can_be_applied_and_they_rule(kubectl: Kubectl) -> None:
    roles = Path(__file__).parents[2] / "docs" / "rbac.yaml"
    Kubectl(kubectl.kubeconfig, "kube-system")("apply", "-f", str(roles))
    binding = ("clusterrolebinding", "jane", "--clusterrole=k8snet-measure", "--user=jane")
    kubectl("create", *binding)
    kubectl("create", "rolebinding", "jane", "--clusterrole=view", "--user=jane")
    assert kubectl("auth", "can-i", "list", "nodes", "--as=jane") == "yes\n"
    assert kubectl("get", "pods", "--as=jane") == ""
    refused = kubectl.fails("run", "p", "--image=x", "--as=jane")
    assert (
        f'cannot create resource "pods" in API group "" in the namespace "{kubectl.namespace}"'
        in refused
    )
    assert 'User "jane" cannot list' in kubectl.fails("get", "pods", "-A", "--as=jane")
    kubectl("create", "serviceaccount", "tests")
    account = f"system:serviceaccount:{kubectl.namespace}:tests"
    assert kubectl.run("auth", "can-i", "list", "pods", f"--as={account}").stdout == "no\n"
    assert "kubernetes-admin" in kubectl("auth", "whoami")
    token = f"--token={kubectl('create', 'token', 'tests').strip()}"
    assert account in kubectl("auth", "whoami", token)
    assert f'User "{account}" cannot list' in kubectl.fails("get", "pods", token)
    kubectl("create", "rolebinding", "tests", "--clusterrole=view",
            f"--serviceaccount={kubectl.namespace}:tests")  # fmt: skip
    assert kubectl("get", "pods", token) == ""
    assert "cannot impersonate" in kubectl.fails("get", "pods", token, "--as=jane")
    assert "less than 10 minutes" in kubectl.fails("create", "token", "tests", "--duration=60s")
    assert "must be logged in" in kubectl.fails("get", "pods", "--token=nonsense")
    changed = kubectl.fails(
        "patch", "clusterrolebinding", "jane", "-p", '{"roleRef": {"name": "view"}}'
    )
    assert "cannot change roleRef" in changed
    # Others test the roles on this lab, too.
    Kubectl(kubectl.kubeconfig, "kube-system")("delete", "-f", str(roles))
    kubectl("delete", "clusterrolebinding", "jane")


def test_a_namespace_takes_its_contents_along(lab: LabProcess) -> None:
    kubectl = Kubectl(lab.kubeconfig, "goes-away")
    kubectl("create", "namespace", "goes-away")
    kubectl.apply(pod_object("p"))
    kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=10s")
    kubectl("delete", "namespace", "goes-away")
    assert "NotFound" in kubectl.run("get", "namespace", "goes-away").stderr
    assert "goes-away" not in kubectl("get", "pods", "--all-namespaces")


class TestCommand:
    """``k8snet lab``."""

    command = (sys.executable, "-m", "pytest_k8snet.cli", "lab", "--nodes", "1")

    def test_it_runs_a_command_with_the_lab_and_ends_with_its_status(self) -> None:
        need_kubectl()
        # The image's program is the option's, as the pod names none.
        script = (
            "kubectl get nodes -o name; $K8SNET_OUTSIDE ip -o -4 addr show eth0;"
            " kubectl run p --image=example.org/probe:1"
            """ --overrides='{"spec":{"nodeName":"master"}}' >&2;"""
            " kubectl wait --for=condition=Ready pod/p --timeout=10s; exit 9"
        )
        image = "--image=probe=sleep 60"
        done = subprocess.run(
            [*self.command, image, "--", "sh", "-c", script],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 9, done.stderr
        assert "pod/p condition met" in done.stdout, done.stderr
        assert "node/master\n" in done.stdout
        assert "203.0.113.10/24" in done.stdout

    def test_a_command_that_is_not_there_is_said(self) -> None:
        done = subprocess.run(
            [*self.command, "--", "no-such-program"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 127
        assert done.stderr == "k8snet lab: there is no program 'no-such-program'\n"

    def test_in_the_foreground_it_says_how_to_use_it_and_ends_on_ctrl_c(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "kubeconfig"
        with subprocess.Popen(
            [*self.command, "--kubeconfig", str(path)], stdout=subprocess.PIPE, text=True
        ) as shown:
            assert shown.stdout is not None
            lines = []
            try:
                for line in shown.stdout:
                    lines.append(line)
                    if line.startswith("Ctrl-C"):
                        break
                mode = path.stat().st_mode & 0o777
            finally:
                # Else a failure would wait for the lab for ever.
                shown.send_signal(signal.SIGINT)
            assert shown.wait(10) == 0
        assert not path.exists()
        assert mode == 0o600
        assert f"  export KUBECONFIG={shlex.quote(str(path))}\n" in lines
        (outside,) = (line for line in lines if "export K8SNET_OUTSIDE=" in line)
        assert "run/netns/outside" in outside
        assert any(": $K8SNET_OUTSIDE " in line for line in lines)

    def test_it_never_overwrites_a_kubeconfig(self, tmp_path: Path) -> None:
        path = tmp_path / "mine"
        path.write_text("precious")
        done = subprocess.run(
            [*self.command, "--kubeconfig", str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        assert "the kubeconfig would overwrite a file" in done.stderr
        assert path.read_text() == "precious"

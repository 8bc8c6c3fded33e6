"""Pods: what runs in them, how they fail, and how they end; seen through kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab_kubectl import Kubectl, Object, pod_object

from pytest_k8snet.lab import LabProcess

HARDENED = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def until(kubectl: Kubectl, pod: str, holds: Callable[[Object], Any]) -> Object:
    """Wait until something holds of a pod; the pod then."""
    deadline = time.monotonic() + 10
    while True:
        found = kubectl.get("pod", pod)
        try:
            if holds(found):
                return found
        except (KeyError, IndexError):
            pass
        assert time.monotonic() < deadline, json.dumps(found["status"], indent=1)
        time.sleep(0.02)


def state(pod: Object, index: int = 0) -> Object:
    found: Object = pod["status"]["containerStatuses"][index]["state"]
    return found


def events(kubectl: Kubectl, pod: str) -> list[tuple[str, str]]:
    found = kubectl.get("events", f"--field-selector=involvedObject.name={pod}")
    return [(event["reason"], event["message"]) for event in found["items"]]


def start_pod(kubectl: Kubectl, pod: Object) -> str:
    kubectl.apply(pod)
    name = str(pod["metadata"]["name"])
    kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=10s")
    return name


class TestRunning:
    def test_a_pod_has_its_own_name_address_files_and_processes(self, kubectl: Kubectl) -> None:
        pod = start_pod(kubectl, pod_object("p"))
        found = kubectl.get("pod", pod)
        address = found["status"]["podIP"]
        assert kubectl.sh(pod, "hostname") == "p\n"
        assert address in kubectl.sh(pod, "ip -4 -o addr show dev eth0")
        assert f"{address}\tp\n" in kubectl.sh(pod, "cat /etc/hosts")
        assert kubectl.sh(pod, "cat /etc/resolv.conf") == (
            f"search {kubectl.namespace}.svc.cluster.local svc.cluster.local cluster.local\n"
            "nameserver 10.96.0.10\n"
            "options ndots:5\n"
        )
        assert kubectl.sh(pod, "cat /proc/1/cmdline").split("\0")[:2] == ["sleep", "infinity"]
        assert kubectl.sh(pod, "ls /tmp; echo x > /tmp/mine; cat /tmp/mine") == "x\n"
        assert not Path("/tmp/mine").exists()

    def test_the_hosts_own_files_cannot_be_changed_from_a_pod(
        self, kubectl: Kubectl, tmp_path: Path
    ) -> None:
        context = {"securityContext": {"privileged": True}}
        pod = start_pod(kubectl, pod_object("p", container=context))
        for place in ("/etc/k8snet-was-here", "/usr/k8snet-was-here"):
            done = kubectl.run("exec", pod, "--", "touch", place)
            assert "Read-only file system" in done.stderr
            assert not Path(place).exists()

    def test_a_hardened_pod_has_no_privileges_and_still_measures(self, kubectl: Kubectl) -> None:
        pod = start_pod(kubectl, pod_object("p", container={"securityContext": HARDENED}))
        status = kubectl.sh(pod, "cat /proc/self/status")
        assert "CapEff:\t0000000000000000" in status
        assert "CapBnd:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        if os.geteuid() == 0:
            assert "Uid:\t65532\t65532" in status
        kubectl.sh(pod, "iperf3 -s -1 -D -I /tmp/pid && sleep 0.2 && iperf3 -c 127.0.0.1 -n 1M")

    def test_an_ordinary_pod_may_look_at_the_network_but_not_change_it(
        self, kubectl: Kubectl
    ) -> None:
        pod = start_pod(kubectl, pod_object("p"))
        done = kubectl.run("exec", pod, "--", "ip", "link", "set", "eth0", "down")
        assert "Operation not permitted" in done.stderr

    def test_a_pod_on_the_host_network_is_the_node(self, kubectl: Kubectl) -> None:
        pod = start_pod(kubectl, pod_object("p", hostNetwork=True, nodeName="node1"))
        assert kubectl.get("pod", pod)["status"]["podIP"] == "192.168.0.11"
        assert "192.168.0.11/24" in kubectl.sh(pod, "ip -4 -o addr show dev eth0")
        assert kubectl.sh(pod, "hostname") == "node1\n"

    def test_environment_arguments_and_directory_are_the_containers(self, kubectl: Kubectl) -> None:
        field = {"fieldRef": {"fieldPath": "status.podIP"}}
        container = {
            "env": [{"name": "IP", "valueFrom": field}, {"name": "URL", "value": "http://$(IP)"}],
            "args": ["-c", "echo $URL $(HOSTNAME) $PWD; exec sleep infinity"],
            "workingDir": "/usr",
        }
        pod = start_pod(kubectl, pod_object("p", ["sh"], container=container))
        address = kubectl.get("pod", pod)["status"]["podIP"]
        assert kubectl("logs", pod) == f"http://{address} p /usr\n"
        assert kubectl.sh(pod, "echo $URL; pwd") == f"http://{address}\n/usr\n"

    def test_containers_of_a_pod_share_network_and_volumes_but_not_tmp(
        self, kubectl: Kubectl
    ) -> None:
        mount = {"volumeMounts": [{"name": "shared", "mountPath": "/mnt"}]}
        pod = pod_object("p", container=mount, volumes=[{"name": "shared", "emptyDir": {}}])
        second = {**pod["spec"]["containers"][0], "name": "d"}
        pod["spec"]["containers"].append(second)
        start_pod(kubectl, pod)
        kubectl("exec", "p", "-c", "c", "--", "sh", "-c", "echo a > /mnt/f; echo b > /tmp/f")
        listing = "ip -4 -o addr show dev eth0 | cut -d' ' -f7; cat /mnt/f; ls /tmp"
        seen = kubectl("exec", "p", "-c", "d", "--", "sh", "-c", listing)
        address = kubectl.get("pod", "p")["status"]["podIP"]
        assert seen == f"{address}/32\na\n"

    def test_init_containers_come_first_and_one_after_another(self, kubectl: Kubectl) -> None:
        script = "date +%s%N > /mnt/$HOSTNAME-{}; ls /mnt | wc -l"
        mount = {"volumeMounts": [{"name": "shared", "mountPath": "/mnt"}]}
        first, second = (
            {"name": name, "image": "x", "command": ["sh", "-c", script.format(name)], **mount}
            for name in ("one", "two")
        )
        pod = pod_object(
            "p",
            ["sh", "-c", "ls /mnt; exec sleep infinity"],
            container=mount,
            initContainers=[first, second],
            volumes=[{"name": "shared", "emptyDir": {}}],
        )
        start_pod(kubectl, pod)
        assert kubectl("logs", "p", "-c", "two") == "2\n"
        assert kubectl("logs", "p") == "p-one\np-two\n"
        statuses = kubectl.get("pod", "p")["status"]["initContainerStatuses"]
        reasons = [entry["state"]["terminated"]["reason"] for entry in statuses]
        assert reasons == ["Completed", "Completed"]

    def test_the_events_tell_the_story_of_a_start(self, kubectl: Kubectl) -> None:
        start_pod(kubectl, pod_object("p"))
        place = kubectl.get("pod", "p")["spec"]["nodeName"]
        assert events(kubectl, "p") == [
            ("Scheduled", f"Successfully assigned {kubectl.namespace}/p to {place}"),
            ("Pulled", 'Container image "example.org/probe:1" already present on machine'),
            ("Created", "Created container: c"),
            ("Started", "Started container c"),
        ]


class TestReadiness:
    def test_a_pod_is_ready_when_its_probe_says_so(self, kubectl: Kubectl) -> None:
        probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1}
        kubectl.apply(pod_object("p", container={"readinessProbe": probe}))
        found = until(kubectl, "p", lambda pod: "running" in state(pod))
        assert not found["status"]["containerStatuses"][0]["ready"]
        kubectl.sh("p", "touch /tmp/ready")
        kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=5s")
        kubectl.sh("p", "rm /tmp/ready")
        kubectl("wait", "--for=condition=Ready=false", "pod/p", "--timeout=10s")

    def test_http_and_tcp_probes_ask_the_pod(self, kubectl: Kubectl) -> None:
        for name, probe in (
            ("http", {"httpGet": {"path": "/healthz", "port": "web"}}),
            ("tcp", {"tcpSocket": {"port": 8080}}),
        ):
            container = {
                "image": "registry.k8s.io/e2e-test-images/agnhost:2.53",
                "args": ["netexec", "--http-port=8080"],
                "ports": [{"name": "web", "containerPort": 8080}],
                "readinessProbe": probe,
            }
            start_pod(kubectl, pod_object(name, (), container=container))

    def test_a_probe_that_fails_is_an_event_and_keeps_the_pod_unready(
        self, kubectl: Kubectl
    ) -> None:
        probe = {"httpGet": {"path": "/none", "port": 80}, "failureThreshold": 1}
        container = {"image": "nginx", "readinessProbe": probe}
        kubectl.apply(pod_object("p", (), container=container))
        unhealthy = "Readiness probe failed: HTTP probe failed with statuscode: 404"
        until(kubectl, "p", lambda pod: ("Unhealthy", unhealthy) in events(kubectl, "p"))

    def test_a_container_that_is_not_alive_is_started_again(self, kubectl: Kubectl) -> None:
        probe = {
            "exec": {"command": ["test", "!", "-e", "/tmp/dead"]},
            "periodSeconds": 1,
            "failureThreshold": 1,
        }
        pod = start_pod(kubectl, pod_object("p", container={"livenessProbe": probe}))
        kubectl.sh(pod, "touch /tmp/dead")
        until(kubectl, pod, lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] == 1)
        message = "Container c failed liveness probe, will be restarted"
        assert ("Killing", message) in events(kubectl, pod)


class TestTrouble:
    @pytest.mark.parametrize(
        ("image", "text"),
        [
            ("registry.invalid/probe:1", "lookup registry.invalid: no such host"),
            ("example.org/probe:missing", "example.org/probe:missing: not found"),
        ],
    )
    def test_an_image_that_cannot_be_pulled(self, kubectl: Kubectl, image: str, text: str) -> None:
        kubectl.apply(pod_object("p", container={"image": image}))
        found = until(kubectl, "p", lambda pod: state(pod)["waiting"]["reason"] == "ErrImagePull")
        assert text in state(found)["waiting"]["message"]
        assert found["status"]["phase"] == "Pending"
        found = until(
            kubectl, "p", lambda pod: state(pod)["waiting"]["reason"] == "ImagePullBackOff"
        )
        assert state(found)["waiting"]["message"].startswith(f'Back-off pulling image "{image}"')
        reasons = [reason for reason, _ in events(kubectl, "p")]
        assert reasons == ["Scheduled", "Pulling", "Failed", "Failed", "BackOff", "Failed"]

    def test_a_program_that_is_not_there(self, kubectl: Kubectl) -> None:
        kubectl.apply(pod_object("p", ["iperf99"]))
        found = until(
            kubectl, "p", lambda pod: state(pod)["waiting"]["reason"] == "RunContainerError"
        )
        missing = 'exec: "iperf99": executable file not found in $PATH'
        assert missing in state(found)["waiting"]["message"]
        last = found["status"]["containerStatuses"][0]["lastState"]["terminated"]
        assert (last["reason"], last["exitCode"]) == ("StartError", 128)
        kubectl.apply(pod_object("q", ["/usr/bin/iperf99"], restartPolicy="Never"))
        found = until(kubectl, "q", lambda pod: pod["status"]["phase"] == "Failed")
        assert state(found)["terminated"]["reason"] == "StartError"
        assert state(found)["terminated"]["exitCode"] == 128
        missing = 'exec: "/usr/bin/iperf99": stat /usr/bin/iperf99: no such file or directory'
        assert missing in state(found)["terminated"]["message"]

    def test_an_image_without_a_command(self, kubectl: Kubectl) -> None:
        kubectl.apply(pod_object("p", ()))
        found = until(
            kubectl, "p", lambda pod: state(pod)["waiting"]["reason"] == "CreateContainerError"
        )
        assert "no command specified" in state(found)["waiting"]["message"]

    def test_root_where_root_is_forbidden(self, kubectl: Kubectl) -> None:
        kubectl.apply(pod_object("p", securityContext={"runAsNonRoot": True}))
        found = until(
            kubectl,
            "p",
            lambda pod: state(pod)["waiting"]["reason"] == "CreateContainerConfigError",
        )
        message = state(found)["waiting"]["message"]
        assert message == "container has runAsNonRoot and image will run as root"

    def test_a_container_that_keeps_ending(self, kubectl: Kubectl) -> None:
        kubectl.apply(pod_object("p", ["sh", "-c", "echo oh; exit 3"]))
        found = until(
            kubectl, "p", lambda pod: state(pod)["waiting"]["reason"] == "CrashLoopBackOff"
        )
        entry = found["status"]["containerStatuses"][0]
        assert entry["lastState"]["terminated"]["exitCode"] == 3
        assert entry["lastState"]["terminated"]["reason"] == "Error"
        assert entry["restartCount"] == 1
        assert entry["state"]["waiting"]["message"].startswith(
            f"back-off 10s restarting failed container=c pod=p_{kubectl.namespace}("
        )
        assert kubectl("logs", "p") == "oh\n"
        assert kubectl("logs", "p", "--previous") == "oh\n"

    def test_a_pod_that_no_node_fits(self, kubectl: Kubectl) -> None:
        kubectl.apply(pod_object("p", nodeSelector={"disk": "ssd"}))
        message = until(
            kubectl,
            "p",
            lambda pod: pod["status"]["conditions"][0]["reason"] == "Unschedulable",
        )["status"]["conditions"][0]["message"]
        assert message.startswith("0/4 nodes are available: ")
        assert "3 node(s) didn't match Pod's node affinity/selector" in message
        assert ("FailedScheduling", message) in events(kubectl, "p")

    def test_a_pool_that_does_not_exist(self, kubectl: Kubectl) -> None:
        pod = pod_object("p")
        pools = {"cni.projectcalico.org/ipv4pools": '["no-such-pool"]'}
        pod["metadata"]["annotations"] = pools
        kubectl.apply(pod)

        def failed(pod: Object) -> bool:
            return any(
                reason == "FailedCreatePodSandBox" and "no-such-pool" in message
                for reason, message in events(kubectl, "p")
            )

        found = until(kubectl, "p", failed)
        assert state(found)["waiting"]["reason"] == "ContainerCreating"


class TestEnd:
    def test_a_finished_pod_has_its_exit_status_and_log(self, kubectl: Kubectl) -> None:
        for name, code, phase in (("good", 0, "Succeeded"), ("bad", 4, "Failed")):
            command = ["sh", "-c", f"echo out; echo err >&2; exit {code}"]
            kubectl.apply(pod_object(name, command, restartPolicy="Never"))
            found = until(kubectl, name, lambda pod: "terminated" in state(pod))
            assert found["status"]["phase"] == phase
            assert state(found)["terminated"]["exitCode"] == code
            assert sorted(kubectl("logs", name).split()) == ["err", "out"]

    def test_deleting_a_pod_ends_everything_in_it(self, kubectl: Kubectl, lab: LabProcess) -> None:
        pod = start_pod(kubectl, pod_object("p"))
        mark = f"86{os.getpid()}"
        kubectl.sh(pod, f"sleep {mark} > /dev/null 2>&1 & sleep 0.01")

        def running() -> str:
            done = subprocess.run(
                ["pgrep", "-f", f"^sleep {mark}$"], capture_output=True, text=True, check=False
            )
            return done.stdout

        assert running()
        kubectl("delete", "pod", pod)
        assert not running()

    def test_a_container_that_hears_sigterm_ends_in_time(self, kubectl: Kubectl) -> None:
        command = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"]
        start_pod(kubectl, pod_object("p", command, terminationGracePeriodSeconds=30))
        begun = time.monotonic()
        kubectl("delete", "pod", "p")
        # Far from the 30 s that one deaf to it would have been given.
        assert time.monotonic() - begun < 10

    def test_one_that_does_not_is_killed_after_its_grace_period(self, kubectl: Kubectl) -> None:
        start_pod(kubectl, pod_object("p", terminationGracePeriodSeconds=1))
        kubectl("delete", "pod", "p")
        assert kubectl.run("get", "pod", "p").returncode == 1

    def test_a_pod_that_lives_too_long_is_ended(self, kubectl: Kubectl) -> None:
        start_pod(kubectl, pod_object("p", activeDeadlineSeconds=1))
        found = until(kubectl, "p", lambda pod: pod["status"]["phase"] == "Failed")
        assert found["status"]["reason"] == "DeadlineExceeded"
        assert found["status"]["message"] == (
            "Pod was active on the node longer than the specified deadline"
        )

    def test_a_name_can_be_used_again_at_once(self, kubectl: Kubectl) -> None:
        for _ in range(3):
            pod = start_pod(kubectl, pod_object("p", nodeName="node2"))
            kubectl.sh(pod, "ip route get 192.168.0.10")
            kubectl("delete", "pod", pod, "--force", "--grace-period=0")


class TestLogs:
    def test_tail_timestamps_and_follow(self, kubectl: Kubectl) -> None:
        script = "for i in 1 2 3 4; do echo line $i; done"
        kubectl.apply(pod_object("p", ["sh", "-c", script], restartPolicy="Never"))
        until(kubectl, "p", lambda pod: pod["status"]["phase"] == "Succeeded")
        assert kubectl("logs", "p", "--tail=2") == "line 3\nline 4\n"
        assert kubectl("logs", "p", "--follow").count("\n") == 4
        stamped = kubectl("logs", "p", "--timestamps", "--tail=1").split()
        assert stamped[0].endswith("Z")
        assert stamped[1:] == ["line", "4"]

    def test_a_container_that_never_started_has_none(self, kubectl: Kubectl) -> None:
        kubectl.apply(pod_object("p", container={"image": "registry.invalid/probe:1"}))
        until(kubectl, "p", lambda pod: "waiting" in state(pod))
        done = kubectl.run("logs", "p")
        assert done.returncode == 1
        assert 'container "c" in pod "p" is waiting to start' in done.stderr

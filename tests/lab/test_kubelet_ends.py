"""Pods: how they fail, how they end, and what they wrote; seen through kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest
from lab_kubectl import Kubectl, Object, events, pod_object, start_pod, state, until

from pytest_k8snet.lab import LabProcess


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

    def test_what_cannot_be_given_to_a_program(self, kubectl: Kubectl) -> None:
        kubectl.apply(
            pod_object("nul", ["echo", "a\0b"]),
            pod_object("long", ["echo", "x" * 200_000]),
            pod_object("big", container={"env": [{"name": "BIG", "value": "x" * 200_000}]}),
        )
        for name in ("nul", "long", "big"):
            until(kubectl, name, lambda pod: state(pod)["waiting"]["reason"] == "RunContainerError")
        kubectl("delete", "pod", "nul", "long", "big")

    def test_a_secret_that_cannot_be_read(self, kubectl: Kubectl) -> None:
        # Bytes that are no text: a variable of an environment cannot have them.
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
        kubectl("apply", "-f", "-", stdin=json.dumps({**secret, "data": {"key": "//79"}}))
        source = {"secretKeyRef": {"name": "s", "key": "key"}}
        container = {"env": [{"name": "KEY", "valueFrom": source}]}
        kubectl.apply(pod_object("p", container=container))
        found = until(
            kubectl,
            "p",
            lambda pod: state(pod)["waiting"]["reason"] == "CreateContainerConfigError",
        )
        assert "couldn't decode key key in Secret s" in state(found)["waiting"]["message"]

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
        # Without a grace period the object goes at once, and its kubelet follows.
        deadline = time.monotonic() + 10
        while running():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def test_probes_that_are_cut_off_keep_no_pod(self, kubectl: Kubectl) -> None:
        # Both the helper that entered the container and the command are killed, in either order.
        probe = {"exec": {"command": ["sleep", "600"]}, "periodSeconds": 1, "failureThreshold": 1}
        names = "pqrstuvw"
        for name in names:
            spec = pod_object(name, container={"livenessProbe": probe})
            spec["spec"]["terminationGracePeriodSeconds"] = 1
            kubectl.apply(spec)
        for name in names:
            until(kubectl, name, lambda pod: pod["status"]["containerStatuses"][0]["restartCount"])
        kubectl("delete", "pod", *names)

    def test_a_container_that_hears_sigterm_ends_in_time(self, kubectl: Kubectl) -> None:
        command = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"]
        start_pod(kubectl, pod_object("p", command, terminationGracePeriodSeconds=30))
        begun = time.monotonic()
        kubectl("delete", "pod", "p")
        # Far from the 30 s that one deaf to it would have been given.
        assert time.monotonic() - begun < 10

    def test_a_pause_container_ends_as_soon_as_it_is_told(self, kubectl: Kubectl) -> None:
        container = {"image": "registry.k8s.io/pause:3.10"}
        kubectl.apply(pod_object("p", (), container=container, terminationGracePeriodSeconds=30))
        kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=10s")
        begun = time.monotonic()
        kubectl("delete", "pod", "p")
        assert time.monotonic() - begun < 10

    def test_its_pre_stop_hook_runs_before_the_signal(self, kubectl: Kubectl) -> None:
        hook = {"exec": {"command": ["sh", "-c", "echo asked > /mnt/order"]}}
        mount = {"volumeMounts": [{"name": "shared", "mountPath": "/mnt"}]}
        script = "trap 'cat /mnt/order; exit 0' TERM; while :; do sleep 0.05; done"
        pod = pod_object(
            "p",
            ["sh", "-c", script],
            container={"lifecycle": {"preStop": hook}, **mount},
            volumes=[{"name": "shared", "emptyDir": {}}],
            terminationGracePeriodSeconds=30,
            activeDeadlineSeconds=1,
        )
        kubectl.apply(pod)
        # Ended by its deadline, it stays and can still be read.
        until(kubectl, "p", lambda pod: pod["status"]["phase"] == "Failed")
        until(kubectl, "p", lambda pod: "terminated" in state(pod))
        assert kubectl("logs", "p") == "asked\n"

    def test_one_that_does_not_is_killed_after_its_grace_period(self, kubectl: Kubectl) -> None:
        start_pod(kubectl, pod_object("p", terminationGracePeriodSeconds=1))
        kubectl("delete", "pod", "p")
        assert kubectl.run("get", "pod", "p").returncode == 1

    @pytest.mark.parametrize("hook", [{}, {"preStop": {"sleep": {"seconds": 60}}}])
    def test_a_shorter_grace_period_counts_when_it_comes_later(
        self, kubectl: Kubectl, hook: Object
    ) -> None:
        container = {"lifecycle": hook}
        start_pod(kubectl, pod_object("p", container=container, terminationGracePeriodSeconds=90))
        kubectl("delete", "pod", "p", "--wait=false")
        # kubectl gives up after 60 s, in which the pod would still be ending.
        kubectl("delete", "pod", "p", "--grace-period=1")

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

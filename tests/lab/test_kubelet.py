"""Pods: what runs in them, when they are ready; seen through kubectl."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

from lab_kubectl import Kubectl, Object, events, pod_object, start_pod, state, until

HARDENED = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


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

    def test_whole_maps_aliases_sysctls_and_post_start_hooks_are_played(
        self, kubectl: Kubectl
    ) -> None:
        kubectl("create", "configmap", "settings", "--from-literal=COLOUR=blue")
        hook = {"exec": {"command": ["touch", "/tmp/started"]}}
        container = {
            "envFrom": [{"configMapRef": {"name": "settings"}}],
            "lifecycle": {"postStart": hook},
        }
        sysctls = [{"name": "net.ipv4.ip_local_port_range", "value": "40000 40999"}]
        pod = pod_object(
            "p",
            container=container,
            hostAliases=[{"ip": "10.9.8.7", "hostnames": ["far", "away"]}],
            securityContext={"sysctls": sysctls},
        )
        start_pod(kubectl, pod)
        assert kubectl.sh("p", "echo $COLOUR") == "blue\n"
        assert "10.9.8.7\tfar away\n" in kubectl.sh("p", "cat /etc/hosts")
        ports = kubectl.sh("p", "cat /proc/sys/net/ipv4/ip_local_port_range")
        assert ports.split() == ["40000", "40999"]
        kubectl.sh("p", "until [ -e /tmp/started ]; do sleep 0.05; done")

    def test_what_the_lab_does_not_play_is_an_event(self, kubectl: Kubectl) -> None:
        kubectl.apply(pod_object("p", shareProcessNamespace=True))
        told = ("Failed", "Error: the lab does not play spec.shareProcessNamespace")
        until(kubectl, "p", lambda pod: told in events(kubectl, "p"))


class TestReadiness:
    def test_a_pod_is_not_ready_before_its_startup_probe_passes(self, kubectl: Kubectl) -> None:
        startup = {
            "exec": {"command": ["test", "-e", "/tmp/up"]},
            "periodSeconds": 1,
            "failureThreshold": 60,
        }
        kubectl.apply(pod_object("p", container={"startupProbe": startup}))
        found = until(kubectl, "p", lambda pod: "running" in state(pod))
        assert not found["status"]["containerStatuses"][0]["ready"]
        kubectl.sh("p", "touch /tmp/up")
        kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=5s")

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
        # The kubelet's own words: k8s.io/kubernetes/pkg/probe, 1.34.
        failures: dict[str, tuple[dict[str, Any], str]] = {
            "wrong": (
                {"httpGet": {"path": "/none", "port": 80}},
                "HTTP probe failed with statuscode: 404",
            ),
            "get": (
                {"httpGet": {"path": "/x", "port": 81}},
                'Get "http://{ip}:81/x": dial tcp {ip}:81: connect: connection refused',
            ),
            "dial": (
                {"tcpSocket": {"port": 81}},
                "dial tcp {ip}:81: connect: connection refused",
            ),
        }
        for name, (probe, _) in failures.items():
            container = {"image": "nginx", "readinessProbe": {**probe, "failureThreshold": 1}}
            kubectl.apply(pod_object(name, (), container=container))
        for name, (_, told) in failures.items():
            found = until(kubectl, name, lambda pod: pod["status"].get("podIP"))
            text = f"Readiness probe failed: {told}".format(ip=found["status"]["podIP"])
            until(kubectl, name, partial(_was_told, kubectl, name, text))

    def test_a_command_that_does_not_answer_in_time_is_ended(self, kubectl: Kubectl) -> None:
        mark = f"87{os.getpid()}"
        probe = {
            # Two processes, of which the asker knows one.
            "exec": {"command": ["sh", "-c", f"sleep {mark}; true"]},
            "periodSeconds": 1,
            "failureThreshold": 100,
        }
        pod = start_pod(kubectl, pod_object("p", container={"livenessProbe": probe}))

        def failures(found: Object) -> int:
            listed = kubectl.get("events", "--field-selector=reason=Unhealthy")["items"]
            return sum(event["count"] for event in listed)

        until(kubectl, pod, lambda found: failures(found) >= 3)
        done = subprocess.run(
            ["pgrep", "-cf", f"^sleep {mark}$"], capture_output=True, text=True, check=False
        )
        # The one that is being asked now, at most.
        assert int(done.stdout) <= 1

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


def _was_told(kubectl: Kubectl, pod: str, unhealthy: str, _: object) -> bool:
    return ("Unhealthy", unhealthy) in events(kubectl, pod)

"""The real kubectl on a lab or on the lab's API server alone, and ready-made pods for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

Object = dict[str, Any]


def need_kubectl() -> None:
    """Skip the test where there is no kubectl, which Debian and Ubuntu do not bring along."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: https://kubernetes.io/docs/tasks/tools/")


@dataclass(frozen=True)
class Kubectl:
    """The real kubectl on one server, in one namespace."""

    kubeconfig: Path
    namespace: str = "default"

    def __post_init__(self) -> None:
        need_kubectl()

    def command(self, *words: str) -> list[str]:
        """Its command line. Servers of other tests had the same port: the cache is our own."""
        return [
            "kubectl",
            f"--kubeconfig={self.kubeconfig}",
            f"--cache-dir={self.kubeconfig.parent / 'kubectl-cache'}",
            f"--namespace={self.namespace}",
            *words,
        ]

    def run(
        self, *words: str, stdin: str | None = None, timeout_seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run it, whatever comes of it.

        Streams are SPDY's unless a test says otherwise: by WebSocket, client-go 1.32 throws away
        ("Unknown stream id") what a command prints before kubectl has made ready to hear it.
        """
        return subprocess.run(
            self.command(*words),
            env={"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", **os.environ},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )

    def __call__(self, *words: str, stdin: str | None = None) -> str:
        """Run it, and insist that it succeeds; its standard output."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def fails(self, *words: str, stdin: str | None = None) -> str:
        """Run it, and insist that it fails; its standard error."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode != 0, f"kubectl {' '.join(words)}\n{done.stdout}"
        return done.stderr

    def get(self, *words: str) -> Object:
        """``kubectl get -o json``."""
        found: Object = json.loads(self("get", *words, "-o", "json"))
        return found

    def apply(self, *objects: Object) -> None:
        """``kubectl apply`` of objects."""
        body = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self("apply", "-f", "-", stdin=json.dumps(body))

    def sh(self, pod: str, script: str) -> str:
        """Run a shell script in a pod; its standard output."""
        return self("exec", pod, "--", "sh", "-c", script)


def pod_object(name: str, command: Sequence[str] = ("sleep", "infinity"), **spec: Any) -> Object:
    """A Pod with one container ``c``; ``container=`` adds to that, the rest to the pod's spec."""
    container = {"name": "c", "image": "example.org/probe:1", **spec.pop("container", {})}
    if command:
        container["command"] = list(command)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec},
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
    """The state of one of its containers."""
    found: Object = pod["status"]["containerStatuses"][index]["state"]
    return found


def events(kubectl: Kubectl, pod: str) -> list[tuple[str, str]]:
    """Reason and message of each event about a pod."""
    found = kubectl.get("events", f"--field-selector=involvedObject.name={pod}")
    return [(event["reason"], event["message"]) for event in found["items"]]


def start_pod(kubectl: Kubectl, pod: Object) -> str:
    """Make a pod and wait until it is ready; its name."""
    kubectl.apply(pod)
    name = str(pod["metadata"]["name"])
    kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=10s")
    return name

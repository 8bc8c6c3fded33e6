"""What thousands of nodes cost those who look at them: objects only, in the lab's API."""

from __future__ import annotations

import asyncio
import copy
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure
from pytest_k8snet.lab import credentials
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.apiserver.server import serve
from pytest_k8snet.lab.kube import system
from pytest_k8snet.lab.kube.services import ServiceAddresses
from pytest_k8snet.lab.spec import LabSpec, study_nodes

NODES = (50, 500, 5000)
PROMISED_SECONDS, PROMISED_MIB = 5.0, 300
#: What a run does before it picks its nodes.
CHOICE = """
import sys, pathlib
from pytest_k8snet.cluster.api import connect
from pytest_k8snet.cluster.nodes import usable_nodes
usable_nodes(connect(kubeconfig=pathlib.Path(sys.argv[1]), context=None))
"""


def figures() -> Iterator[Figure]:
    """`k8snet doctor` and the choice of nodes, at 50, 500 and 5,000 nodes."""
    for count in NODES:
        with tempfile.TemporaryDirectory() as folder:
            kubeconfig = Path(folder, "kubeconfig")
            with served(cluster_of(count), kubeconfig):
                doctor = str(Path(sys.executable).with_name("k8snet"))
                yield _figure(
                    f"k8snet doctor at {count:,} nodes",
                    [doctor, "doctor", "--kubeconfig", str(kubeconfig)],
                )
                yield _figure(
                    f"the choice of nodes at {count:,} nodes",
                    [sys.executable, "-c", CHOICE, str(kubeconfig)],
                )


def cluster_of(count: int) -> Store:
    """Make the objects of a cluster: one calico-node pod on each node, as on a real one."""
    spec = LabSpec(nodes=study_nodes())
    store = Store(calico=spec.calico)
    ServiceAddresses(store, spec).register()
    for resource, body in system.objects(spec):
        store.create(resource, body)
    example = store.list("nodes")[-1]
    for number in range(len(store.list("nodes")), count):
        name = f"worker-{number}"
        node: dict[str, Any] = copy.deepcopy(example)
        labels = {**node["metadata"]["labels"], "kubernetes.io/hostname": name}
        node["metadata"] = {
            "name": name,
            "labels": labels,
            "annotations": node["metadata"].get("annotations", {}),
        }
        node["status"]["addresses"] = [
            {"type": "InternalIP", "address": f"10.{number // 256}.{number % 256}.1"},
            {"type": "Hostname", "address": name},
        ]
        store.create("nodes", node)
    pod = {
        "labels": {"k8s-app": "calico-node"},
        "containers": [{"name": "calico-node", "image": "docker.io/calico/node:v3.29.0"}],
    }
    for node in store.list("nodes"):
        name = node["metadata"]["name"]
        store.create(
            "pods",
            {
                "metadata": {"name": f"calico-node-{name}", "labels": pod["labels"]},
                "spec": {"nodeName": name, "hostNetwork": True, "containers": pod["containers"]},
            },
            "kube-system",
        )
    return store


@contextmanager
def served(store: Store, kubeconfig: Path) -> Generator[None]:
    """Serve these objects by the lab's API server, in a thread."""
    loop = asyncio.new_event_loop()
    secrets = credentials.make()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        kubeconfig.write_text(secrets.kubeconfig(f"https://{host}:{port}"), encoding="utf-8")
        nobody: Any = None  # there are no containers in which anything could run
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            serving = serve(store, nobody, sock=listener, tls=secrets.tls(), token=secrets.token)
            server = asyncio.run_coroutine_threadsafe(serving, loop).result()
            yield
            asyncio.run_coroutine_threadsafe(server.close(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def _figure(name: str, argv: list[str]) -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "said")
        begun = time.perf_counter()
        with said.open("wb") as output:
            process = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"{argv}: {said.read_text(encoding='utf-8')}")
    mib = usage.ru_maxrss / 1024
    return Figure(
        name=name,
        measured=f"{seconds:.1f} s, {mib:.0f} MiB",
        promised=f"<= {PROMISED_SECONDS:g} s, {PROMISED_MIB} MiB",
        holds=seconds <= PROMISED_SECONDS and mib <= PROMISED_MIB,
    )

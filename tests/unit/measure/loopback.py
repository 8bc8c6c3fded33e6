"""Two "nodes" that are two shells on this machine, and a web server, for real tools on loopback.

Test modules name it in ``pytest_plugins``.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from notebook import Notebook

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.measure.endpoints import Endpoint, LocalShell, Pair
from pytest_k8snet.measure.sampler import Sampler


@pytest.fixture
def observer() -> Notebook:
    return Notebook()


@pytest.fixture
def sampler(observer: Notebook) -> Sampler:
    return Sampler(observer)


@pytest.fixture
def node(sampler: Sampler) -> Endpoint:
    """A node on this machine; what asks for it is skipped where the tools are missing."""
    if shutil.which("iperf3") is None or shutil.which("curl") is None:
        pytest.skip("needs iperf3 and curl: apt-get install iperf3 curl")
    return Endpoint(
        kind="node",
        name="node1",
        node="node1",
        address="127.0.0.1",
        shell=LocalShell(),
        sampler=sampler,
    )


@pytest.fixture
def pair(sampler: Sampler, node: Endpoint) -> Pair:
    loopback = Pair(
        client=node,
        server=node,
        scene="node-node",
        placement="same-node",
        mode=CalicoMode.parse("VXLAN-Always"),
        sampler=sampler,
        make_baseline=lambda: loopback,
    )
    return loopback


@pytest.fixture
def pingable(pair: Pair) -> Pair:
    """The pair, where this user may ping."""
    probe = ["ping", "-c", "1", "-i", "0.01", "-W", "1", "127.0.0.1"]
    found = shutil.which("ping") is not None
    if not found or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("needs a ping that this user may run: apt-get install iputils-ping")
    return pair


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 503)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()

"""An API server on loopback, with TLS and a kubeconfig, for kubectl and the Python client."""

from __future__ import annotations

import asyncio
import datetime
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pytest_k8snet.lab.api.server import Server, serve
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.api.streams import ExecutableNotFound
from pytest_k8snet.lab.spec import CalicoSpec

TOKEN = "token-of-the-test"

T = TypeVar("T")


class LocalProcess:
    """A command on this machine."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        self._process = process
        self.pid = process.pid
        self.stdin = process.stdin
        self.stdout = process.stdout
        self.stderr = process.stderr
        self.size: tuple[int, int] | None = None

    async def wait(self) -> int:
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        if self._process.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)

    def resize(self, columns: int, rows: int) -> None:
        self.size = (columns, rows)


@dataclass
class LocalRuntime:
    """A kubelet without containers: commands run on this machine, logs are what the test says.

    It stands in for the lab's kubelet because that one needs nodes, pods and privileges, and what
    is tested here is the wire between a client and the API server.
    """

    lines: list[bytes] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    started: list[LocalProcess] = field(default_factory=list)

    async def exec(
        self, namespace: str, pod: str, container: str, argv: list[str], *, stdin: bool, tty: bool
    ) -> LocalProcess:
        if shutil.which(argv[0]) is None:
            raise ExecutableNotFound(argv[0])
        process = LocalProcess(
            await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT if tty else asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        )
        self.started.append(process)
        return process

    async def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool,
        tail_lines: int | None,
        timestamps: bool,
        previous: bool,
    ) -> AsyncIterator[bytes]:
        lines = self.lines if tail_lines is None else self.lines[-tail_lines:]
        for line in list(lines):
            yield line
        if follow:
            await self.more.wait()
            yield b"the end\n"


class Kubectl:
    """kubectl with this server's kubeconfig and a cache of its own."""

    def __init__(self, kubeconfig: Path) -> None:
        self._base = [
            "kubectl",
            f"--kubeconfig={kubeconfig}",
            f"--cache-dir={kubeconfig.parent / 'cache'}",
        ]

    def command(self, *arguments: str) -> list[str]:
        return [*self._base, *arguments]

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """Its standard output; a failure is the test's failure."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, *arguments: str, stdin: str = "") -> str:
        """Its standard error; success is the test's failure."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode != 0, done.stdout
        return done.stderr


@dataclass
class ApiServer:
    """A running server, its store and how to reach it."""

    store: Store
    runtime: LocalRuntime
    url: str
    kubeconfig: Path
    kubectl: Kubectl
    loop: asyncio.AbstractEventLoop

    def on_loop(self, function: Callable[[], T]) -> T:
        """Call a function of the store on the server's event loop."""

        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(10)

    def start_pod(self, name: str, **more: Any) -> None:
        """A pod that runs, as the kubelet would report it."""

        def start() -> None:
            container = {"name": "main", "image": "tools"}
            spec = {"nodeName": "node1", "containers": [container], **more}
            self.store.create("pods", {"metadata": {"name": name}, "spec": spec})

            def running(pod: dict[str, Any]) -> None:
                pod["status"] |= {
                    "phase": "Running",
                    "podIP": "10.244.1.5",
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "containerStatuses": [
                        {
                            "name": "main",
                            "image": "tools",
                            "imageID": "",
                            "ready": True,
                            "restartCount": 0,
                            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                        }
                    ],
                }

            self.store.mutate("pods", name, "default", running, subresource="status")

        self.on_loop(start)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file with a self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "lab")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=12))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def _kubeconfig(url: str, certificate: Path, token: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "clusters": [
                {
                    "name": "lab",
                    "cluster": {"server": url, "certificate-authority": str(certificate)},
                }
            ],
            "users": [{"name": "lab", "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        }
    )


StartServer = Callable[..., ApiServer]


@pytest.fixture
def start_server(tmp_path: Path, certificate: Path) -> Iterator[StartServer]:
    """Starts servers that end with the test; takes the Calico to play."""
    ends: list[Callable[[], None]] = []

    def start(calico: CalicoSpec | None = None) -> ApiServer:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="api-server")
        thread.start()
        listening = socket.create_server(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)

        async def begin() -> tuple[Store, LocalRuntime, Server]:
            store, runtime = Store(calico=calico), LocalRuntime()
            for name in ("default", "kube-system"):
                store.create("namespaces", {"metadata": {"name": name}})
            server = await serve(store, runtime, sock=listening, tls=tls, token=TOKEN)
            return store, runtime, server

        store, runtime, server = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)

        def end() -> None:
            asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

        ends.append(end)
        kubeconfig = tmp_path / f"kubeconfig-{len(ends)}"
        kubeconfig.write_text(_kubeconfig(url, certificate, TOKEN))
        return ApiServer(store, runtime, url, kubeconfig, Kubectl(kubeconfig), loop)

    yield start
    for end in ends:
        end()


@pytest.fixture
def api(start_server: StartServer) -> ApiServer:
    """A server of its own for the test."""
    return start_server()

"""The lab's API server alone, on loopback, for kubectl, the Python client and bare requests.

No nodes and no containers stand behind it, so that it needs no privileges and starts at once.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lab_kubectl import Kubectl

from pytest_k8snet.lab import credentials
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.apiserver.exec import ExecutableNotFound, LogOptions
from pytest_k8snet.lab.apiserver.server import Server, serve
from pytest_k8snet.lab.spec import CalicoSpec

#: Made once: signing takes longer than starting a server.
CREDENTIALS = credentials.make()
TOKEN = CREDENTIALS.token

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

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    async def wait(self) -> int:
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        if not self.ended:
            os.killpg(self.pid, signal.SIGKILL)

    def resize(self, columns: int, rows: int) -> None:
        self.size = (columns, rows)

    async def close(self) -> None:
        """End it, and let go of its pipes."""
        self.kill()
        await self._process.communicate()


@dataclass
class LocalRuntime:
    """A kubelet without containers: commands run on this machine, logs are what the test says.

    It stands in for the lab's kubelet because that one needs nodes, pods and privileges, and what
    is tested here is the wire between a client and the API server.
    """

    lines: list[bytes] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    started: list[LocalProcess] = field(default_factory=list)

    async def close(self) -> None:
        for process in self.started:
            await process.close()

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

    async def attach(self, namespace: str, pod: str, container: str) -> LocalProcess:
        raise NotImplementedError("commands of this machine are run, never attached to")

    async def connect(
        self, namespace: str, pod: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port)

    async def logs(
        self, namespace: str, pod: str, container: str, options: LogOptions
    ) -> AsyncIterator[bytes]:
        lines = self.lines if options.tail_lines is None else self.lines[-options.tail_lines :]
        for number, line in enumerate(list(lines)):
            yield b"2026-01-01T00:00:%02d.5Z %s" % (number, line) if options.timestamps else line
        if options.follow:
            await self.more.wait()
            yield b"the end\n"


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    code: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> dict[str, Any]:
        data = json.loads(self.text)
        assert isinstance(data, dict)
        return data


@dataclass
class ApiServer:
    """A running server, its store and how to reach it."""

    store: Store
    runtime: LocalRuntime
    server: Server
    port: int
    kubeconfig: Path
    kubectl: Kubectl
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def on_loop(self, function: Callable[[], T]) -> T:
        """Call a function of the store on the server's event loop."""

        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(10)

    def client_tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=CREDENTIALS.authority.decode())

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = TOKEN,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own; dicts and lists are sent as JSON."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        data = body if isinstance(body, str | bytes | None) else json.dumps(body)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=20, context=self.client_tls()
        )
        try:
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read().decode())
        finally:
            connection.close()

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
                            "name": container["name"],
                            "image": container["image"],
                            "imageID": "",
                            "ready": True,
                            "restartCount": 0,
                            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                        }
                        for container in spec["containers"]
                    ],
                }

            self.store.mutate("pods", name, "default", running, subresource="status")

        self.on_loop(start)

    def set_faults(self, **faults: str) -> None:
        """Ask for faults by the config map that holds them; ``_`` stands for ``-``."""

        def write() -> None:
            data = {name.replace("_", "-"): value for name, value in faults.items()}
            name, space = "k8snet-lab-faults", "kube-system"
            if self.store.has("configmaps", name, space):
                self.store.patch("configmaps", name, {"data": data}, "merge", space)
            else:
                self.store.create("configmaps", {"metadata": {"name": name}, "data": data}, space)

        self.on_loop(write)


@contextmanager
def running_server(directory: Path, calico: CalicoSpec | None = None) -> Iterator[ApiServer]:
    """A server on a thread and an event loop of its own, until the context ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="api-server")
    thread.start()
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = directory / "server.pem"
    pem.write_bytes(CREDENTIALS.key + CREDENTIALS.certificate)
    tls.load_cert_chain(pem)

    async def begin() -> tuple[Store, LocalRuntime, Server]:
        store, runtime = Store(calico=calico), LocalRuntime()
        for name in ("default", "kube-system"):
            store.create("namespaces", {"metadata": {"name": name}})
        server = await serve(store, runtime, sock=listening, tls=tls, token=TOKEN)
        return store, runtime, server

    try:
        store, runtime, server = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)
        kubeconfig = directory / f"kubeconfig-{port}"
        kubeconfig.write_text(CREDENTIALS.kubeconfig(f"https://127.0.0.1:{port}"))
        try:
            yield ApiServer(
                store=store,
                runtime=runtime,
                server=server,
                port=port,
                kubeconfig=kubeconfig,
                kubectl=Kubectl(kubeconfig),
                loop=loop,
            )
        finally:
            for end in (server.close(), runtime.close()):
                asyncio.run_coroutine_threadsafe(end, loop).result(10)
    finally:
        listening.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()

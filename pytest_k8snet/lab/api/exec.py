"""Commands in containers over a WebSocket: Kubernetes' protocols v4 and v5 ``.channel.k8s.io``.

Each message begins with a byte that names its channel. As on a real cluster, a command goes on when
its client hangs up, and a stream ends only when the command has ended *and* everyone who inherited
its output has closed it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from aiohttp import WSMsgType, web

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.faults import ApiFaults, abort
from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.request import Target, integer, is_true
from pytest_k8snet.lab.api.store import Store


class ExecutableNotFound(Exception):  # noqa: N818 -- the OCI runtime's own words
    """The container has no such program; nothing was started.

    Args:
        executable: the name that was looked for.
    """

    def __init__(self, executable: str) -> None:
        super().__init__(f'exec: "{executable}": executable file not found in $PATH')
        self.executable = executable


class RunningProcess(Protocol):
    """A command that runs in a container."""

    stdin: asyncio.StreamWriter | None
    stdout: asyncio.StreamReader
    #: None when there is a terminal: then everything comes through ``stdout``.
    stderr: asyncio.StreamReader | None

    async def wait(self) -> int:
        """Its exit status; 128 + n after signal n."""

    def kill(self) -> None:
        """End it at once."""

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal its size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """Which lines of a container's output are wanted, and how.

    Attributes:
        follow: go on until the container ends.
        tail_lines: only so many of the last lines that there are; None for all.
        timestamps: each line begins with its time and a space.
        previous: of the run before.
    """

    follow: bool = False
    tail_lines: int | None = None
    timestamps: bool = False
    previous: bool = False


class ContainerRuntime(Protocol):
    """What the kubelets offer to the API server."""

    async def exec(
        self,
        namespace: str,
        pod: str,
        container: str,
        argv: list[str],
        *,
        stdin: bool,
        tty: bool,
    ) -> RunningProcess:
        """Start a command in a container; ``container`` is never empty.

        Raises:
            StatusError: the container does not run, as a kubelet would say it.
            ExecutableNotFound: the container has no such program.
        """

    def logs(
        self, namespace: str, pod: str, container: str, options: LogOptions
    ) -> AsyncIterator[bytes]:
        """The container's output, line by line."""


def container_of(store: Store, target: Target, wanted: str) -> str:
    """The container that a request means: the one named, or the only one there is.

    Raises:
        StatusError: 404, no such pod; 400, no such container, a choice not made, or no node yet.
    """
    pod = store.get(target.resource, target.name, target.namespace)
    listed = [
        str(container["name"])
        for group in ("containers", "initContainers")
        for container in dig(pod, f"spec.{group}", [])
    ]
    if not wanted:
        if len(dig(pod, "spec.containers", [])) > 1:
            raise status.bad_request(
                f"a container name must be specified for pod {target.name},"
                f" choose one of: [{' '.join(listed)}]"
            )
        wanted = listed[0]
    if wanted not in listed:
        raise status.bad_request(f"container {wanted} is not valid for pod {target.name}")
    if not dig(pod, "spec.nodeName"):
        raise status.bad_request(f"pod {target.name} does not have a host assigned")
    return wanted


PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")

STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255

_CHUNK_BYTES = 32 * 1024


class Commands:
    """The commands that run for clients, or for nobody any more."""

    def __init__(self, store: Store, runtime: ContainerRuntime, faults: ApiFaults) -> None:
        self._store = store
        self._runtime = runtime
        self._faults = faults
        self._running: dict[asyncio.Task[None], RunningProcess] = {}

    async def serve(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Run a command for a client and stream it.

        Raises:
            StatusError: the request, or the kubelet, refuses; before the WebSocket opens.
        """
        query = request.query
        argv = query.getall("command", [])
        container = container_of(self._store, target, query.get("container", ""))
        if not argv:
            raise status.bad_request("you must specify at least 1 command for the container")
        wants = {name: is_true(query.get(name)) for name in ("stdin", "stdout", "stderr", "tty")}
        if not any(wants[name] for name in ("stdin", "stdout", "stderr")):
            raise status.bad_request("you must specify at least 1 of stdin, stdout, stderr")
        socket = web.WebSocketResponse(protocols=PROTOCOLS, compress=False, max_msg_size=0)
        ready = socket.can_prepare(request)
        if not ready.ok or ready.protocol is None:
            raise status.bad_request(
                "unable to upgrade: the lab streams over WebSocket only, by the protocols "
                + ", ".join(PROTOCOLS)
            )
        process: RunningProcess | None = None
        outcome: Object = {}
        try:
            process = await self._runtime.exec(
                target.namespace,
                target.name,
                container,
                list(argv),
                stdin=wants["stdin"],
                tty=wants["tty"],
            )
        except ExecutableNotFound as error:
            outcome = not_started(error)
        await socket.prepare(request)
        client = _Client(socket, request)
        if process is not None:
            await self._converse(process, client, argv, wants)
        elif not self._faults.takes_exec_stream():
            await client.send(STATUS, json.dumps(outcome).encode())
        if await socket.close() and not client.gone:
            # Both sides have said goodbye: no need to do it once more in the words of TLS.
            client.cut()
        return socket

    async def _converse(
        self,
        process: RunningProcess,
        client: _Client,
        argv: Sequence[str],
        wants: dict[str, bool],
    ) -> None:
        output = asyncio.create_task(self._outlive(process, client, argv, wants))
        self._running[output] = process
        output.add_done_callback(lambda task: self._running.pop(task, None))
        incoming = asyncio.create_task(_receive(client.socket, process))
        try:
            # The client's leave ends this conversation, not the command.
            await asyncio.wait({output, incoming}, return_when=asyncio.FIRST_COMPLETED)
            if not client.gone:
                await asyncio.shield(output)
        finally:
            incoming.cancel()
            if not output.done():
                client.gone = True

    async def _outlive(
        self,
        process: RunningProcess,
        client: _Client,
        argv: Sequence[str],
        wants: dict[str, bool],
    ) -> None:
        """Pass on all output, then the status; read on when nobody listens, so nothing blocks."""
        streams = [_pump(process.stdout, client, STDOUT, wanted=wants["stdout"])]
        if process.stderr is not None:
            streams.append(_pump(process.stderr, client, STDERR, wanted=wants["stderr"]))
        await asyncio.gather(*streams)
        code = await process.wait()
        if self._faults.takes_exec_stream():
            client.cut()
        else:
            await client.send(STATUS, json.dumps(ended(argv, code)).encode())

    async def close(self) -> None:
        """End every command that still runs."""
        running = dict(self._running)
        for task, process in running.items():
            process.kill()
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class _Client:
    """The other end of a stream, until it goes."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.socket = socket
        self._request = request
        self.gone = False

    async def send(self, channel: int, data: bytes) -> None:
        if self.gone or self.socket.closed:
            return
        try:
            await self.socket.send_bytes(bytes([channel]) + data)
        except (ConnectionError, RuntimeError):
            self.gone = True

    def cut(self) -> None:
        """Break the connection off, as a lost network would."""
        self.gone = True
        abort(self._request.transport)


async def _pump(
    reader: asyncio.StreamReader, client: _Client, channel: int, *, wanted: bool
) -> None:
    while chunk := await reader.read(_CHUNK_BYTES):
        if wanted:
            await client.send(channel, chunk)


async def _receive(socket: web.WebSocketResponse, process: RunningProcess) -> None:
    """Pass on what the client sends, until it hangs up."""
    stdin = process.stdin
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            data = message.data.encode()
        elif message.type is WSMsgType.BINARY:
            data = message.data
        else:
            continue
        channel, payload = data[:1], data[1:]
        if channel == bytes([STDIN]) and stdin is not None:
            try:
                stdin.write(payload)
                await stdin.drain()
            except ConnectionError:
                # The command does not read any more; what is sent to it is lost, as in a pipe.
                stdin = None
        elif channel == bytes([CLOSE]) and payload[:1] == bytes([STDIN]) and stdin is not None:
            stdin.close()
            stdin = None
        elif channel == bytes([RESIZE]):
            size = json.loads(payload)
            process.resize(int(size["Width"]), int(size["Height"]))


def ended(argv: Sequence[str], code: int) -> Object:
    """The Status of a command that has ended."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    command = " ".join(argv)
    return {
        "metadata": {},
        "status": "Failure",
        "message": "command terminated with non-zero exit code: error executing command"
        f" [{command}], exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def not_started(error: ExecutableNotFound) -> Object:
    """The Status of a command that the container does not have: no exit code, as none was run."""
    why = (
        "error executing command in container: failed to exec in container: failed to start exec:"
        f" OCI runtime exec failed: exec failed: unable to start container process: {error}:"
        " unknown"
    )
    refused = status.internal_error(why)
    refused.details = {"causes": [{"message": why}]}
    return refused.to_dict()


# -- Logs ------------------------------------------------------------------------------------------

#: How long the headers of a log wait for the kubelet to refuse.
_REFUSAL_SECONDS = 0.05


async def send_logs(
    request: web.Request, store: Store, runtime: ContainerRuntime, target: Target
) -> web.StreamResponse:
    """Stream a container's output as plain text.

    Raises:
        StatusError: the request, or the kubelet, refuses.
    """
    query = request.query
    limit, since = integer(query, "limitBytes"), _since(query)
    timestamps = is_true(query.get("timestamps"))
    chunks = runtime.logs(
        target.namespace,
        target.name,
        container_of(store, target, query.get("container", "")),
        LogOptions(
            follow=is_true(query.get("follow")),
            tail_lines=integer(query, "tailLines"),
            timestamps=timestamps or since is not None,
            previous=is_true(query.get("previous")),
        ),
    )
    if since is not None:
        chunks = _newer(chunks, since, timestamps=timestamps)
    # A refusal comes before the first chunk; but a silent container must not hold up the headers.
    first = asyncio.ensure_future(anext(chunks, None))
    await asyncio.wait({first}, timeout=_REFUSAL_SECONDS)
    if first.done():
        first.result()
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    response.enable_chunked_encoding()
    try:
        await response.prepare(request)
        chunk = await first
        while chunk is not None and (limit is None or limit > 0):
            if limit is not None:
                chunk, limit = chunk[:limit], limit - len(chunk)
            await response.write(chunk)
            chunk = await anext(chunks, None)
    finally:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
    return response


def _since(query: Mapping[str, str]) -> datetime | None:
    """The time from which on lines are wanted.

    Raises:
        StatusError: 400, it is not a time.
    """
    seconds, moment = integer(query, "sinceSeconds"), query.get("sinceTime", "")
    if seconds is not None:
        return datetime.now(UTC) - timedelta(seconds=seconds)
    if not moment:
        return None
    try:
        return datetime.fromisoformat(moment.replace("Z", "+00:00"))
    except ValueError:
        raise status.bad_request(f"sinceTime: cannot parse {moment!r} as a time") from None


async def _newer(
    lines: AsyncIterator[bytes], since: datetime, *, timestamps: bool
) -> AsyncIterator[bytes]:
    async for line in lines:
        moment, _, text = line.partition(b" ")
        if datetime.fromisoformat(moment.decode().replace("Z", "+00:00")) >= since:
            yield line if timestamps else text

"""Commands in containers, and their output.

As on a real cluster, a command goes on when its client hangs up, and a stream ends only when the
command has ended *and* everyone who inherited its output has closed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from aiohttp import web

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.request import Target, integer, is_true
from pytest_k8snet.lab.api.status import Cause, StatusError
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.apiserver.channels import (
    CLOSE,
    RESIZE,
    STATUS,
    STDERR,
    STDIN,
    STDOUT,
    V5,
    Channels,
    agree,
    upgrades,
)
from pytest_k8snet.lab.faults import ApiFaults


class NotStarted(Exception):  # noqa: N818 -- what has become of the command
    """A command was not started, for the reason that the OCI runtime gives."""


class ExecutableNotFound(NotStarted):
    """The container has no such program, or none that may be executed.

    Args:
        executable: the name that was looked for.
        why: what is the matter with it.
    """

    def __init__(self, executable: str, why: str = "executable file not found in $PATH") -> None:
        said = f'exec: "{executable}": {why}'
        super().__init__(f"exec failed: unable to start container process: {said}")
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

    async def attach(self, namespace: str, pod: str, container: str) -> RunningProcess:
        """What runs in a container, as if it had been started just now.

        Raises:
            StatusError: the container does not run, as a kubelet would say it.
        """

    async def connect(
        self, namespace: str, pod: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port of a pod's own loopback.

        Raises:
            OSError: nobody listens there.
            StatusError: the pod does not run.
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


_CHUNK_BYTES = 32 * 1024
_UPGRADE = "unable to upgrade connection: "


class Commands:
    """The commands that run for clients, or for nobody any more."""

    def __init__(self, store: Store, runtime: ContainerRuntime, faults: ApiFaults) -> None:
        self._store = store
        self._runtime = runtime
        self._faults = faults
        self._running: dict[asyncio.Task[None], RunningProcess] = {}

    async def serve(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Run a command for a client, or attach it to what runs, and stream it.

        Raises:
            StatusError: the request, or the kubelet, refuses; before the connection is upgraded.
        """
        query = request.query
        argv = query.getall("command", [])
        if not upgrades(request):
            raise status.bad_request("Upgrade request required")
        container = container_of(self._store, target, query.get("container", ""))
        wants = {name: is_true(query.get(name)) for name in ("stdin", "stdout", "stderr", "tty")}
        if not any(wants[name] for name in ("stdin", "stdout", "stderr")):
            raise status.bad_request("you must specify at least 1 of stdin, stdout, stderr")
        client = agree(request, wants)
        if client is None:
            return web.Response(status=403)
        process: RunningProcess | None = None
        outcome: Object = {}
        newest = client.protocol == V5
        try:
            if target.subresource == "attach":
                process = await self._runtime.attach(target.namespace, target.name, container)
            elif not argv:
                raise NotStarted("exec failed: args must not be empty")
            else:
                process = await self._runtime.exec(
                    target.namespace,
                    target.name,
                    container,
                    list(argv),
                    stdin=wants["stdin"],
                    tty=wants["tty"],
                )
        except NotStarted as error:
            outcome = not_started(error, newest=newest)
        except StatusError as error:
            if error.code != 500:
                raise
            if not newest:
                # The kubelet's own answer, which the API server passes on as it is.
                why = error.message.removeprefix("Internal error occurred: ")
                return web.Response(status=500, text=why.removeprefix(_UPGRADE))
            outcome = refused(error.message.removeprefix("Internal error occurred: "))
        response = await client.open()
        if wants["stdout"]:
            # A kubelet opens its channels so.
            await client.send(STDOUT, b"")
        if process is not None:
            await self._converse(process, client, argv, wants)
        elif not self._faults.takes_exec_stream():
            await client.send(STATUS, json.dumps(outcome).encode())
        await client.close()
        return response

    async def _converse(
        self,
        process: RunningProcess,
        client: Channels,
        argv: Sequence[str],
        wants: dict[str, bool],
    ) -> None:
        output = asyncio.create_task(self._outlive(process, client, argv, wants))
        self._running[output] = process
        output.add_done_callback(lambda task: self._running.pop(task, None))
        incoming = asyncio.create_task(_receive(client, process))
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
        client: Channels,
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
            outcome = ended(argv, code, newest=client.protocol == V5)
            await client.send(STATUS, json.dumps(outcome).encode())

    async def close(self) -> None:
        """End every command that still runs."""
        running = dict(self._running)
        for task, process in running.items():
            process.kill()
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _pump(
    reader: asyncio.StreamReader, client: Channels, channel: int, *, wanted: bool
) -> None:
    while chunk := await reader.read(_CHUNK_BYTES):
        if wanted:
            await client.send(channel, chunk)


async def _receive(client: Channels, process: RunningProcess) -> None:
    """Pass on what the client sends, until it hangs up."""
    stdin = process.stdin
    async for channel, payload in client.messages():
        if channel == STDIN and stdin is not None:
            try:
                stdin.write(payload)
                await stdin.drain()
            except ConnectionError:
                # The command does not read any more; what is sent to it is lost, as in a pipe.
                stdin = None
        elif channel == CLOSE and payload[:1] == bytes([STDIN]) and stdin is not None:
            stdin.close()
            stdin = None
        elif channel == RESIZE:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                size = json.loads(payload)
                process.resize(int(size["Width"]), int(size["Height"]))


def ended(argv: Sequence[str], code: int, *, newest: bool) -> Object:
    """The Status of a command that has ended; v5 of the protocol words it otherwise than v4."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    said = f"error executing command [{' '.join(argv)}], exit code {code}"
    if newest:
        said = f"command terminated with exit code {code}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {said}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def not_started(error: NotStarted, *, newest: bool) -> Object:
    """The Status of a command that the container does not have: no exit code, as none was run."""
    why = (
        "error executing command in container: failed to exec in container: failed to start exec"
        f' "{uuid.uuid4().hex * 2}": OCI runtime exec failed: {error}: unknown'
    )
    return refused(f"Internal error occurred: {why}" if newest else why)


def refused(why: str) -> Object:
    """The Status of a command that the kubelet does not run."""
    error = status.internal_error(why)
    error.details = {"causes": [{"message": why}]}
    told = error.to_dict()
    return {key: value for key, value in told.items() if key not in ("kind", "apiVersion")}


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
    for name in ("tailLines", "sinceSeconds", "limitBytes"):
        low = 0 if name == "tailLines" else 1
        if (integer(query, name) or low) < low:
            said = "greater than or equal to 0" if low == 0 else "greater than 0"
            cause = Cause(
                "FieldValueInvalid", name, f"Invalid value: {query[name]}: must be {said}"
            )
            options = replace(target.resource, kind="PodLogOptions")
            raise status.invalid(options, target.name, [cause])
    pod = store.get(target.resource, target.name, target.namespace)
    if not dig(pod, "spec.nodeName"):
        return web.Response(status=204)
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
        return datetime.fromisoformat(moment)
    except ValueError:
        why = f'sinceTime: cannot parse "{moment}" as a time'
        raise status.bad_request(why) from None


async def _newer(
    lines: AsyncIterator[bytes], since: datetime, *, timestamps: bool
) -> AsyncIterator[bytes]:
    async for line in lines:
        moment, _, text = line.partition(b" ")
        if datetime.fromisoformat(moment.decode()) >= since:
            yield line if timestamps else text

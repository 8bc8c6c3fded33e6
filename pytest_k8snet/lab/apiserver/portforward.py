"""Connections to the ports of pods through the API server: ``kubectl port-forward``.

Over SPDY/3.1 (``portforward.k8s.io``) each connection is a pair of streams that the client opens.
Over a WebSocket (``v4.channel.k8s.io``, as the Python client has it) each port that is asked for is
one connection, with two channels.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import WSMsgType, web

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.objects import dig
from pytest_k8snet.lab.api.request import Target
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.apiserver.channels import V4, spdy_protocol, upgrades
from pytest_k8snet.lab.apiserver.exec import ContainerRuntime
from pytest_k8snet.lab.apiserver.spdy import Connection, Stream

_PROTOCOL = "portforward.k8s.io"
_CHUNK_BYTES = 32 * 1024

#: Sends bytes to the client.
Send = Callable[[bytes], Awaitable[None]]


async def serve(
    request: web.Request, store: Store, runtime: ContainerRuntime, target: Target
) -> web.StreamResponse:
    """Forward ports of a pod to a client until it goes.

    Raises:
        StatusError: 400, it is no upgrade, or the pod does not run; 404, there is no such pod.
    """
    pod = store.get(target.resource, target.name, target.namespace)
    if not upgrades(request):
        raise status.bad_request("Upgrade request required")
    if not dig(pod, "spec.nodeName"):
        raise status.bad_request(f"pod {target.name} does not have a host assigned")
    if dig(pod, "status.phase") != "Running":
        phase = dig(pod, "status.phase", "Pending")
        why = f"unable to forward port because pod is not running. Current status={phase}"
        raise status.bad_request(why)
    forwarder = _Forwarder(runtime, target)
    version = spdy_protocol(request, (_PROTOCOL,))
    if version:
        return await forwarder.over_spdy(Connection(request))
    socket = web.WebSocketResponse(protocols=(V4,), compress=False, max_msg_size=0)
    ready = socket.can_prepare(request)
    if version is None or not ready.ok or ready.protocol is None:
        # A newer kubectl asks for SPDY within a WebSocket first, and takes no for an answer.
        return web.Response(status=403)
    return await forwarder.over_websocket(socket, request)


class _Forwarder:
    def __init__(self, runtime: ContainerRuntime, target: Target) -> None:
        self._runtime = runtime
        self._target = target

    async def over_spdy(self, connection: Connection) -> web.StreamResponse:
        response = await connection.open(_PROTOCOL)
        errors: dict[str, Stream] = {}
        async with asyncio.TaskGroup() as forwarding:
            async for stream in connection.streams():
                of = stream.headers.get("requestid", "")
                if stream.headers.get("streamtype") == "error":
                    errors[of] = stream
                elif of in errors:
                    forwarding.create_task(self._pair(stream, errors.pop(of)))
        return response

    async def _pair(self, data: Stream, error: Stream) -> None:
        port = int(data.headers.get("port", "0"))
        why = await self._forward(port, data.data(), data.send)
        if why:
            await error.send(why.encode())
        await data.finish()
        await error.finish()

    async def over_websocket(
        self, socket: web.WebSocketResponse, request: web.Request
    ) -> web.WebSocketResponse:
        ports = [
            int(word) for text in request.query.getall("ports", []) for word in text.split(",")
        ]
        await socket.prepare(request)
        arrived: list[asyncio.Queue[bytes | None]] = [asyncio.Queue() for _ in ports]
        async with asyncio.TaskGroup() as forwarding:
            tasks = [
                forwarding.create_task(self._channel(socket, number, port, arrived[number]))
                for number, port in enumerate(ports)
            ]
            async for message in socket:
                if message.type is WSMsgType.BINARY and message.data:
                    channel, payload = message.data[0], message.data[1:]
                    if channel % 2 == 0 and channel // 2 < len(ports):
                        arrived[channel // 2].put_nowait(payload)
            for task in tasks:
                task.cancel()
        return socket

    async def _channel(
        self,
        socket: web.WebSocketResponse,
        number: int,
        port: int,
        arrived: asyncio.Queue[bytes | None],
    ) -> None:
        async def send(channel: int, data: bytes) -> None:
            if not socket.closed:
                await socket.send_bytes(bytes([channel]) + data)

        async def incoming() -> AsyncIterator[bytes]:
            while (piece := await arrived.get()) is not None:
                yield piece

        for channel in (number * 2, number * 2 + 1):
            # Both channels begin with their port.
            await send(channel, struct.pack("<H", port))
        why = await self._forward(port, incoming(), lambda data: send(number * 2, data))
        if why:
            await send(number * 2 + 1, why.encode())
        await socket.close()

    async def _forward(self, port: int, incoming: AsyncIterator[bytes], send: Send) -> str:
        """Pass bytes on both ways until the pod's side is done; why it could not be, or empty."""
        pod = f"{self._target.name}_{self._target.namespace}"
        try:
            reader, writer = await self._runtime.connect(
                self._target.namespace, self._target.name, port
            )
        except (OSError, StatusError) as error:
            text = error.message if isinstance(error, StatusError) else error.strerror
            return (
                f"error forwarding port {port} to pod {pod}, uid : failed to connect to"
                f" localhost:{port} inside its namespace: {text}"
            )

        async def to_pod() -> None:
            with contextlib.suppress(ConnectionError):
                async for piece in incoming:
                    writer.write(piece)
                    await writer.drain()
                writer.write_eof()

        sending = asyncio.create_task(to_pod())
        try:
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(_CHUNK_BYTES):
                    await send(piece)
        finally:
            sending.cancel()
            writer.close()
        return ""

"""The channels of ``exec`` and ``attach``, over a WebSocket or over SPDY/3.1.

Over a WebSocket each message begins with a byte that names its channel (``v4`` and
``v5.channel.k8s.io``); over SPDY each channel is a stream of its own, and the protocol is ``v4``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from aiohttp import WSMsgType, web

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.apiserver.spdy import Connection, Stream
from pytest_k8snet.lab.faults import abort

STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
#: How long a client may take to open its streams, or to close a connection that is done.
_PATIENCE_SECONDS = 10.0


class Channels(Protocol):
    """The other end of a stream, until it goes.

    Attributes:
        protocol: the version that was agreed on.
        gone: whether it has gone.
    """

    protocol: str
    gone: bool

    async def open(self) -> web.StreamResponse:
        """Upgrade the connection; the response to return when all is said."""

    async def send(self, channel: int, data: bytes) -> None:
        """Send data on a channel; what nobody reads any more is lost."""

    def messages(self) -> AsyncIterator[tuple[int, bytes]]:
        """What comes, with its channel, until the client goes; a ``CLOSE`` names the channel."""

    async def close(self) -> None:
        """Say that all is said."""

    def cut(self) -> None:
        """Break the connection off, as a lost network would."""


def upgrades(request: web.Request) -> bool:
    """Whether a request asks for another protocol."""
    words = request.headers.get("Connection", "").lower().split(",")
    return "upgrade" in (word.strip() for word in words)


def spdy_protocol(request: web.Request, offered: Sequence[str]) -> str | None:
    """The version of the protocol that a client wants over SPDY; empty when it asks for no SPDY."""
    if not upgrades(request) or request.headers.get("Upgrade", "").lower() != "spdy/3.1":
        return ""
    listed = request.headers.getall("X-Stream-Protocol-Version", [])
    wanted = {word.strip() for line in listed for word in line.split(",")}
    return next((version for version in offered if version in wanted), None)


def agree(request: web.Request, wants: Mapping[str, bool]) -> Channels | None:
    """The channels that a client asks for; None when it knows no version that is spoken here.

    Args:
        request: an upgrade.
        wants: which of stdin, stdout, stderr and tty.

    Raises:
        StatusError: 400, it is no upgrade.
    """
    version = spdy_protocol(request, (V4,))
    if version is None:
        return None
    if version:
        return _OverSpdy(request, wants, version)
    socket = web.WebSocketResponse(protocols=(V5, V4), compress=False, max_msg_size=0)
    ready = socket.can_prepare(request)
    if not ready.ok:
        raise status.bad_request("Upgrade request required")
    return _OverWebSocket(socket, request, ready.protocol) if ready.protocol else None


class _OverWebSocket:
    def __init__(self, socket: web.WebSocketResponse, request: web.Request, protocol: str) -> None:
        self.protocol = protocol
        self.gone = False
        self._socket = socket
        self._request = request

    async def open(self) -> web.StreamResponse:
        await self._socket.prepare(self._request)
        return self._socket

    async def send(self, channel: int, data: bytes) -> None:
        if self.gone or self._socket.closed:
            return
        try:
            await self._socket.send_bytes(bytes([channel]) + data)
        except (ConnectionError, RuntimeError):
            self.gone = True

    async def messages(self) -> AsyncIterator[tuple[int, bytes]]:
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                data = message.data.encode()
            elif message.type is WSMsgType.BINARY:
                data = message.data
            else:
                continue
            if data:
                yield data[0], data[1:]

    async def close(self) -> None:
        if await self._socket.close() and not self.gone:
            # Both sides have said goodbye: no need to do it once more in the words of TLS.
            self.cut()

    def cut(self) -> None:
        self.gone = True
        abort(self._request.transport)


_OF_TYPE = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": STATUS, "resize": RESIZE}


class _OverSpdy:
    def __init__(self, request: web.Request, wants: Mapping[str, bool], protocol: str) -> None:
        self.protocol = protocol
        self._connection = Connection(request)
        self._streams: dict[int, Stream] = {}
        self._expected = {STATUS} | {
            channel for word, channel in _OF_TYPE.items() if wants.get(word)
        }
        if wants["tty"]:
            # A terminal has one output, and a size.
            self._expected = self._expected - {STDERR} | {RESIZE}

    @property
    def gone(self) -> bool:
        return self._connection.gone.is_set()

    @gone.setter
    def gone(self, _: bool) -> None:
        self._connection.gone.set()

    async def open(self) -> web.StreamResponse:
        response = await self._connection.open(self.protocol)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                async for stream in self._connection.streams():
                    self._streams[_OF_TYPE.get(stream.headers.get("streamtype", ""), -1)] = stream
                    if self._expected <= set(self._streams):
                        break
        return response

    async def send(self, channel: int, data: bytes) -> None:
        if data and channel in self._streams:
            await self._streams[channel].send(data)

    async def messages(self) -> AsyncIterator[tuple[int, bytes]]:
        arrived: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()

        async def follow(channel: int) -> None:
            async for data in self._streams[channel].data():
                arrived.put_nowait((channel, data))
            arrived.put_nowait((CLOSE, bytes([channel])))

        async def end() -> None:
            await self._connection.gone.wait()
            arrived.put_nowait(None)

        following = [follow(channel) for channel in (STDIN, RESIZE) if channel in self._streams]
        tasks = [asyncio.create_task(step) for step in (*following, end())]
        try:
            while (message := await arrived.get()) is not None:
                yield message
        finally:
            for task in tasks:
                task.cancel()

    async def close(self) -> None:
        for channel in (STDOUT, STDERR, STATUS):
            if channel in self._streams:
                await self._streams[channel].finish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._connection.gone.wait()

    def cut(self) -> None:
        self._connection.cut()

"""SPDY/3.1 as Kubernetes speaks it: streams of one upgraded connection, which the client opens.

kubectl before 1.31 and client-go's ``NewSPDYExecutor`` stream by it. Priorities, pushes and flow
control are not used there. The protocol: https://www.chromium.org/spdy/spdy-protocol/ (3.1).
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from aiohttp import web

from pytest_k8snet.lab.faults import abort

_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
_FIN = 1
_CONTROL = 1 << 31
_VERSION = 3


class Stream:
    """One stream: both sides send, each until it has finished.

    Attributes:
        headers: what the client opened it with, names in lower case.
    """

    def __init__(self, connection: Connection, number: int, headers: Mapping[str, str]) -> None:
        self.headers = headers
        self._connection = connection
        self._number = number
        self._arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._finished = False

    async def send(self, data: bytes) -> None:
        """Send data; what a client does not read any more is lost."""
        if not self._finished:
            await self._connection.write(_frame(self._number, 0, data))

    async def finish(self) -> None:
        """Say that there will be no more."""
        if not self._finished:
            self._finished = True
            await self._connection.write(_frame(self._number, _FIN, b""))

    async def data(self) -> AsyncIterator[bytes]:
        """What the client sends, until it has finished or gone."""
        while (piece := await self._arrived.get()) is not None:
            yield piece

    def arrive(self, data: bytes | None) -> None:
        """Take in what came for this stream; None for the end."""
        self._arrived.put_nowait(data)


class Connection:
    """A connection that was upgraded: what aiohttp calls a parser of its payload."""

    def __init__(self, request: web.Request) -> None:
        self.gone = asyncio.Event()
        self._request = request
        self._buffer = b""
        self._streams: dict[int, Stream] = {}
        self._opened: asyncio.Queue[Stream | None] = asyncio.Queue()
        self._inflate = zlib.decompressobj(zdict=_DICTIONARY)
        self._deflate = zlib.compressobj(zdict=_DICTIONARY)

    async def open(self, protocol: str) -> web.StreamResponse:
        """Upgrade the connection; the response to return when all is said."""
        self._response = web.StreamResponse(
            status=101,
            headers={
                "Connection": "Upgrade",
                "Upgrade": "SPDY/3.1",
                "X-Stream-Protocol-Version": protocol,
            },
        )
        self._response.force_close()
        # Before the answer: the client may speak as soon as it has it.
        parser: Any = self  # aiohttp asks for its own class, and calls what this one has.
        self._request.protocol.set_parser(parser)
        await self._response.prepare(self._request)
        return self._response

    async def streams(self) -> AsyncIterator[Stream]:
        """Every stream that the client opens, until it goes."""
        while (stream := await self._opened.get()) is not None:
            yield stream

    async def write(self, frame: bytes) -> None:
        """Send a frame, unless the client has gone."""
        if not self.gone.is_set():
            try:
                await self._response.write(frame)
            except ConnectionError:
                self.feed_eof()

    def cut(self) -> None:
        """Break the connection off, as a lost network would."""
        self.feed_eof()
        abort(self._request.transport)

    # -- What aiohttp calls --------------------------------------------------------------------

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take in bytes from the client."""
        self._buffer += data
        while len(self._buffer) >= 8:
            word, length = struct.unpack(">II", self._buffer[:8])
            flags, length = length >> 24, length & 0xFFFFFF
            if len(self._buffer) < 8 + length:
                break
            payload, self._buffer = self._buffer[8 : 8 + length], self._buffer[8 + length :]
            try:
                self._take(word, flags, payload)
            except (struct.error, zlib.error, UnicodeDecodeError):
                self.cut()
        return False, b""

    def feed_eof(self) -> None:
        """The client has gone."""
        self.gone.set()
        self._opened.put_nowait(None)
        for stream in self._streams.values():
            stream.arrive(None)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """The connection is lost."""
        self.feed_eof()

    # ------------------------------------------------------------------------------------------

    def _take(self, word: int, flags: int, payload: bytes) -> None:
        kind = word & 0xFFFF if word & _CONTROL else None
        if kind is None:
            stream = self._streams.get(word)
            if stream is not None and payload:
                stream.arrive(payload)
            if stream is not None and flags & _FIN:
                stream.arrive(None)
        elif kind == _SYN_STREAM:
            (number,) = struct.unpack(">I", payload[:4])
            headers = dict(_headers(self._inflate.decompress(payload[10:])))
            stream = self._streams[number] = Stream(self, number, headers)
            none = self._deflate.compress(struct.pack(">I", 0))
            block = none + self._deflate.flush(zlib.Z_SYNC_FLUSH)
            self._reply(_SYN_REPLY, struct.pack(">I", number) + block)
            self._opened.put_nowait(stream)
        elif kind == _RST_STREAM:
            (number,) = struct.unpack(">I", payload[:4])
            if number in self._streams:
                self._streams[number].arrive(None)
        elif kind == _PING:
            self._reply(_PING, payload)
        elif kind == _GOAWAY:
            self._opened.put_nowait(None)

    def _reply(self, kind: int, payload: bytes) -> None:
        transport = self._request.transport
        if transport is not None and not transport.is_closing():
            transport.write(_frame(_CONTROL | _VERSION << 16 | kind, 0, payload))


def _frame(word: int, flags: int, payload: bytes) -> bytes:
    return struct.pack(">II", word, flags << 24 | len(payload)) + payload


def _headers(block: bytes) -> Iterator[tuple[str, str]]:
    at = 4
    for _ in range(struct.unpack(">I", block[:4])[0]):
        words = []
        for _ in range(2):
            (length,) = struct.unpack(">I", block[at : at + 4])
            words.append(block[at + 4 : at + 4 + length].decode())
            at += 4 + length
        yield words[0].lower(), words[1]


#: The words that both sides' compression begins with: part of the protocol.
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language"
    " accept-ranges age allow authorization cache-control connection content-base content-encoding"
    " content-language content-length content-location content-md5 content-range content-type date"
    " etag expect expires from host if-match if-modified-since if-none-match if-range"
    " if-unmodified-since last-modified location max-forwards pragma proxy-authenticate"
    " proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade"
    " user-agent vary via warning www-authenticate method get status"
)
_MORE_WORDS = (
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
)
_REST = (
    b"100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    b"203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    b"401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    b"503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue,"
    b" Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    b"application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,"
    b"deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
_DICTIONARY = (
    b"".join(
        struct.pack(">I", len(word)) + word.encode() for word in (*_WORDS.split(), *_MORE_WORDS)
    )
    + _REST
)

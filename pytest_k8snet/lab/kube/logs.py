"""What a container wrote: the last part of it, for ``kubectl logs``."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime

#: How many bytes of one container's output are kept.
CAPACITY_BYTES = 1 << 20
_PIECE_BYTES = 1 << 16


class LogBuffer:
    """The output of one run of a container, both streams in the order they came."""

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._lines: deque[tuple[str, bytes]] = deque()
        self._free = capacity_bytes
        self._first = 0
        self._closed = False
        self._news = asyncio.Event()

    async def fill(self, *streams: asyncio.StreamReader) -> None:
        """Read the streams to their ends, then close."""
        try:
            await asyncio.gather(*(self._read(stream) for stream in streams))
        finally:
            self.close()

    async def _read(self, stream: asyncio.StreamReader) -> None:
        pending = b""
        while piece := await stream.read(_PIECE_BYTES):
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                self.append(line + b"\n")
            if len(pending) > _PIECE_BYTES:
                self.append(pending)
                pending = b""
        if pending:
            self.append(pending)

    def append(self, line: bytes) -> None:
        """Add a line; the oldest ones make room for it."""
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._lines.append((now, line))
        self._free -= len(line)
        while self._free < 0 and len(self._lines) > 1:
            self._free += len(self._lines.popleft()[1])
            self._first += 1
        self._wake()

    def close(self) -> None:
        """There will be no more: whoever follows comes to the end."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def read(
        self, *, follow: bool, tail_lines: int | None, timestamps: bool
    ) -> AsyncIterator[bytes]:
        """The lines kept, from the last ``tail_lines`` on; with ``follow`` until the end."""
        end = self._first + len(self._lines)
        position = self._first if tail_lines is None else max(self._first, end - tail_lines)
        while True:
            # All of one instant: while a line is on its way to the reader, more may come.
            lines = self._since(position)
            position = self._first + len(self._lines)
            news, closed = self._news, self._closed
            for time, line in lines:
                yield b"%s %s" % (time.encode(), line) if timestamps else line
            if closed or not follow:
                return
            await news.wait()

    def _since(self, position: int) -> list[tuple[str, bytes]]:
        return list(self._lines)[max(0, position - self._first) :]

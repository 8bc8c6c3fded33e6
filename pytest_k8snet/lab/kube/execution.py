"""A command that ``kubectl exec`` started in a container: pipes, or a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import termios
from collections.abc import Mapping, Sequence

# Enough for a fast writer to get ahead of the client, in bytes.
_BUFFER_BYTES = 1 << 18


class Execution:
    """A running command; what the API server calls a RunningProcess."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        *,
        stdin: asyncio.StreamWriter | None,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader | None,
        terminal: int | None = None,
    ) -> None:
        self._process = process
        self._terminal = terminal
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr

    async def wait(self) -> int:
        """Its exit status; 128 + n after signal n."""
        status = await self._process.wait()
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None
        return status if status >= 0 else 128 - status

    def kill(self) -> None:
        """Let go of it.

        As with a real kubelet the command itself goes on, until it writes to nobody.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal its size."""
        if self._terminal is not None:
            size = struct.pack("HHHH", rows, columns, 0, 0)
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)


async def run_with_pipes(
    argv: Sequence[str], environment: Mapping[str, str], *, stdin: bool
) -> Execution:
    """Start a command with three pipes, or with an empty standard input."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        limit=_BUFFER_BYTES,
    )
    assert process.stdout is not None
    return Execution(process, stdin=process.stdin, stdout=process.stdout, stderr=process.stderr)


async def run_with_terminal(argv: Sequence[str], environment: Mapping[str, str]) -> Execution:
    """Start a command on a new terminal; all that it writes comes through ``stdout``."""
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=theirs, stdout=theirs, stderr=theirs, env={"TERM": "xterm", **environment}
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_BUFFER_BYTES)
    await loop.connect_read_pipe(lambda: _TerminalProtocol(reader), os.fdopen(os.dup(ours), "rb"))
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(os.dup(ours), "wb")
    )
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    return Execution(process, stdin=writer, stdout=reader, stderr=None, terminal=ours)


class _TerminalProtocol(asyncio.StreamReaderProtocol):
    """A terminal says EIO, not end of file, when its last user has gone."""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(None if isinstance(exc, OSError) else exc)

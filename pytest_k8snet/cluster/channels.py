"""The channel protocol of Kubernetes' exec over one WebSocket.

Knows frames, channels and deadlines; neither paths nor permissions nor pods. stdin, stdout, stderr
and the command's status have channels of their own, named by the first byte of each message.
"""

from __future__ import annotations

import json
import selectors
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_k8snet.errors import ExecError, ToolMissingError

if TYPE_CHECKING:
    from websocket import WebSocket

STDIN, STDOUT, STDERR, STATUS, CLOSE = 0, 1, 2, 3, 255
_CHUNK_BYTES = 16 * 1024
#: How long a server may take to close the stream after it has sent the command's status.
_FAREWELL_SECONDS = 1.0


def query(argv: Sequence[str], *, container: str, stdin: bool) -> list[tuple[str, str]]:
    """The query of an exec request."""
    pairs = [("command", word) for word in argv]
    if container:
        pairs.append(("container", container))
    if stdin:
        pairs.append(("stdin", "true"))
    return [*pairs, ("stdout", "true"), ("stderr", "true")]


class Channels:
    """What has arrived so far, by channel."""

    def __init__(self) -> None:
        self._received = {STDOUT: bytearray(), STDERR: bytearray(), STATUS: bytearray()}

    def feed(self, message: bytes) -> None:
        """Take one WebSocket message; messages of unknown channels are dropped."""
        if message and (channel := self._received.get(message[0])) is not None:
            channel += message[1:]

    @property
    def stdout(self) -> str:
        """Standard output so far."""
        return self._received[STDOUT].decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Standard error so far."""
        return self._received[STDERR].decode("utf-8", "replace")

    @property
    def status(self) -> dict[str, Any] | None:
        """The command's Status object; None until it has arrived whole."""
        try:
            status = json.loads(self._received[STATUS])
        except ValueError:
            return None
        return status if isinstance(status, dict) else None


def exit_code(status: dict[str, Any], argv: Sequence[str], where: str) -> int:
    """The exit status that a Status object stands for.

    Args:
        status: the object from the status channel.
        argv: the command.
        where: the pod, for the message.

    Raises:
        ToolMissingError: the program is not in the image.
        ExecError: the container runtime could not run the command.
    """
    if status.get("status") == "Success":
        return 0
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    for cause in causes or []:
        if cause.get("reason") == "ExitCode":
            try:
                return int(cause.get("message"))
            except (TypeError, ValueError):
                break
    message = str(status.get("message") or status)
    program = argv[0] if argv else ""
    if "executable file not found" in message or "no such file or directory" in message:
        raise ToolMissingError(
            f'{where} has no program "{program}"',
            found=message,
            remedy="use an image that has it: -o k8snet_image=...",
        )
    raise ExecError(
        f'the container runtime could not run "{program}" in {where}',
        found=message,
        remedy="`kubectl describe pod` shows the container's state",
    )


def converse(
    stream: WebSocket, channels: Channels, *, stdin: bytes | None, deadline: float
) -> None:
    """Send stdin and collect messages until the server closes the stream.

    One thread does both by polling: a command that answers while it still reads would else block
    both sides as soon as the buffers between them are full.

    Args:
        stream: the open WebSocket.
        channels: filled with what arrives, also when this raises.
        stdin: what to send; None when the command has no stdin.
        deadline: on ``time.monotonic``'s clock.

    Raises:
        TimeoutError: the deadline has passed before the command's status arrived.
        OSError, websocket.WebSocketException: the stream broke off.
    """
    import websocket

    waiting = memoryview(stdin or b"")
    must_end_stdin = stdin is not None
    ended = False
    with selectors.DefaultSelector() as selector:
        selector.register(stream.fileno(), selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                if ended:
                    return
                raise TimeoutError
            # The time limit holds within a frame, too: half a frame and silence must not hang.
            stream.settimeout(left)
            if must_end_stdin and not waiting:
                stream.send_binary(bytes([CLOSE, STDIN]))
                must_end_stdin = False
            if not _buffered(stream):
                write = selectors.EVENT_WRITE if waiting else 0
                selector.modify(stream.fileno(), selectors.EVENT_READ | write)
                ready = selector.select(left)
                if not ready:
                    continue
                if not ready[0][1] & selectors.EVENT_READ:
                    stream.send_binary(bytes([STDIN]) + waiting[:_CHUNK_BYTES])
                    waiting = waiting[_CHUNK_BYTES:]
                    continue
            try:
                opcode, data = stream.recv_data(control_frame=True)
            except websocket.WebSocketTimeoutException:
                continue
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return
            if opcode in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT):
                message = data.encode() if isinstance(data, str) else bytes(data)
                channels.feed(message)
                if not ended and message[:1] == bytes([STATUS]) and channels.status is not None:
                    ended = True
                    deadline = min(deadline, time.monotonic() + _FAREWELL_SECONDS)


def _buffered(stream: WebSocket) -> bool:
    # Messages that came in one TLS record are in the TLS layer already, unseen by the selector.
    pending = getattr(stream.sock, "pending", None)
    return bool(pending and pending())

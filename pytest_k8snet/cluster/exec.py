"""Run a command in a pod to its end.

Closing the stream does not end the command: what runs in a pod must bound itself (``timeout``).
"""

from __future__ import annotations

import json
import selectors
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.api_errors import ServerBusyError, collection
from pytest_k8snet.cluster.http import HandshakeRefusedError, Rest, as_object, is_repeatable
from pytest_k8snet.errors import (
    ApiError,
    ConnectError,
    ConnectionLostError,
    ExecError,
    ExecTimeoutError,
    NotFoundError,
    PodError,
    ToolMissingError,
    quote,
)

if TYPE_CHECKING:
    from websocket import WebSocket

#
# Knows frames, channels and deadlines; neither paths nor permissions nor pods. stdin, stdout,
# stderr and the command's status have channels of their own, named by the first byte of each
# message.


STDIN, STDOUT, STDERR, STATUS, CLOSE = 0, 1, 2, 3, 255
_CHUNK_BYTES = 16 * 1024
#: How long a server may take to close the stream after it has sent the command's status.
_FAREWELL_SECONDS = 1.0


def exec_query(argv: Sequence[str], *, container: str, stdin: bool) -> list[tuple[str, str]]:
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


# -- Run a command in a pod to its end ------------------------------------------------------------

#: Longest argument, and longest command line, that a message shows, in characters.
_WORD_LIMIT, _LINE_LIMIT = 80, 160

#: Refusals that the pod's own state may explain.
_TELLING = frozenset({400, 404, 500})


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A command that ran to its end.

    Attributes:
        argv: the command.
        exit_code: its exit status; not judged here.
        stdout: what it wrote, decoded once as UTF-8, undecodable bytes replaced.
        stderr: likewise.
        seconds: from the start of the call to the end of the stream.
    """

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str
    seconds: float


def run(
    rest: Rest,
    namespace: str,
    pod: str,
    argv: Sequence[str],
    *,
    container: str,
    stdin: str | None,
    timeout_seconds: float,
) -> Completed:
    """Run a command; see ``Api.exec``."""
    import websocket

    where = f"pod {namespace}/{pod}"
    started = time.monotonic()
    deadline = started + timeout_seconds
    received = Channels()
    try:
        stream = _open(rest, namespace, pod, argv, container, stdin is not None, deadline)
    except ApiError as error:
        if error.status not in _TELLING:
            raise
        raise pod_trouble(rest, namespace, pod, error.found or error.problem) or error from None
    try:
        if stdin is not None and stream.getsubprotocol() == "v4.channel.k8s.io":
            raise ExecError(
                f"{where} cannot be given stdin: the API server has no way to end it",
                found="it speaks v4.channel.k8s.io only",
                remedy="Kubernetes 1.30 and later speak v5.channel.k8s.io",
            )
        data = None if stdin is None else stdin.encode()
        converse(stream, received, stdin=data, deadline=deadline)
        cause = "the server closed the stream"
    except TimeoutError:
        raise ExecTimeoutError(
            f'"{in_short(argv)}" in {where} was still running after {timeout_seconds:g} s',
            stdout=received.stdout,
            stderr=received.stderr,
            remedy="allow it more time, or see what it waits for",
        ) from None
    except (websocket.WebSocketException, OSError) as error:
        cause = str(error) or type(error).__name__
    finally:
        # Not close(): that would wait up to three seconds for the server's farewell.
        stream.shutdown()
    seconds = time.monotonic() - started
    status = received.status
    if status is None:
        output = (received.stderr or received.stdout).strip()
        broken = ConnectionLostError(
            f'the exec stream of "{in_short(argv)}" in {where} broke off after {seconds:.1f} s '
            "without an exit status",
            found=f"{cause}; output so far: {quote(output, 500) or 'none'}",
            remedy="the node, its kubelet or the API server restarted, or a load balancer in front "
            "of the API server cut the connection",
        )
        raise pod_trouble(rest, namespace, pod, broken.found) or broken
    return Completed(
        argv=tuple(argv),
        exit_code=exit_code(status, argv, where),
        stdout=received.stdout,
        stderr=received.stderr,
        seconds=seconds,
    )


def in_short(argv: Sequence[str]) -> str:
    """A command line for a message: one line, scripts and long arguments left out."""
    words = ["..." if "\n" in word or len(word) > _WORD_LIMIT else word for word in argv]
    text = " ".join(words)
    return text if len(text) <= _LINE_LIMIT else f"{text[:_LINE_LIMIT]} ..."


def _open(
    rest: Rest,
    namespace: str,
    pod: str,
    argv: Sequence[str],
    container: str,
    stdin: bool,
    deadline: float,
) -> WebSocket:
    path = f"{collection('pods', namespace=namespace)}/{pod}/exec"
    query = exec_query(argv, container=container, stdin=stdin)

    def once() -> WebSocket:
        left = min(rest.read_seconds, max(0.1, deadline - time.monotonic()))
        try:
            return rest.transport.open_stream(path, query, timeout_seconds=left)
        except HandshakeRefusedError as refused:
            raise rest.error(refused.answer, "GET", path) from None

    return rest.repeat(once, repeatable=_never_started, limit_seconds=deadline - time.monotonic())


def _never_started(error: BaseException) -> bool:
    """Whether a failed handshake may be tried again without running the command twice.

    It may have started when the answer got lost. It has not when the API server says that it
    could not reach the kubelet, which it words as an internal error.
    """
    if isinstance(error, ServerBusyError) and "dialing backend" in error.found:
        return True
    return is_repeatable(error, idempotent=False)


def pod_trouble(rest: Rest, namespace: str, name: str, found: str) -> PodError | None:
    """What befell a pod, when that explains why something in it failed.

    Args:
        rest: the way to the cluster.
        namespace: the pod's.
        name: the pod's.
        found: what failed, as the error's evidence.
    """
    path = f"{collection('pods', namespace=namespace)}/{name}"
    try:
        pod = as_object(rest.once("GET", path), rest.host)
    except NotFoundError:
        trouble = "is gone"
    except (ApiError, ConnectError):
        return None
    else:
        status = pod.get("status") or {}
        phase = status.get("phase") or "Unknown"
        if (pod.get("metadata") or {}).get("deletionTimestamp"):
            trouble = "is being deleted"
        elif phase != "Running":
            why = " ".join(filter(None, (status.get("reason"), status.get("message"))))
            trouble = f"does not run: phase {phase}" + (f", {why}" if why else "")
        else:
            return None
    return PodError(
        f"pod {namespace}/{name} {trouble}",
        found=found,
        remedy=f"`kubectl get events -n {namespace}` tells who or what ended it",
    )

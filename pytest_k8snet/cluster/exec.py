"""Runs a command in a pod to its end, over one WebSocket of Kubernetes' channel protocol.

Closing the stream does not end the command: what runs in a pod must bound itself (``timeout``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.api_errors import ServerBusyError, collection, object_path
from pytest_k8snet.cluster.http import HttpClient, is_repeatable
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
from pytest_k8snet.tools.tool import not_runnable

if TYPE_CHECKING:
    from websocket import WebSocket

#: The container of a run's pods. An exec names it: else a pod that a sidecar was injected into
#: would leave the choice to the API server.
CONTAINER = "k8snet"

#: Stdout, stderr and the command's status have channels of their own, named by the first byte of
#: each message.
STDOUT, STDERR, STATUS = 1, 2, 3
#: How long a server may take to close the stream after it has sent the command's status.
_FAREWELL_SECONDS = 1.0
#: Longest argument, and longest command line, that a message shows, in characters.
_WORD_LIMIT, _LINE_LIMIT = 80, 160


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
    client: HttpClient,
    namespace: str,
    pod: str,
    argv: Sequence[str],
    *,
    container: str,
    timeout_seconds: float,
) -> Completed:
    """Run a command; see ``Api.exec``."""
    import websocket

    where = f"pod {namespace}/{pod}"
    started = time.monotonic()
    deadline = started + timeout_seconds
    received = Channels()
    path = object_path(collection("pods", namespace=namespace), pod) + "/exec"
    query = [("command", word) for word in argv]
    query += [("container", container), ("stdout", "true"), ("stderr", "true")]

    def open_once() -> WebSocket:
        left = min(client.read_seconds, max(0.1, deadline - time.monotonic()))
        return client.open_websocket(path, query, timeout_seconds=left)

    try:
        stream = client.repeat(open_once, repeatable=_never_started, limit_seconds=timeout_seconds)
    except ApiError as error:
        if error.status not in (400, 404, 500):  # which the pod's own state may explain
            raise
        raise pod_trouble(client, namespace, pod, error.found or error.problem) or error from None
    try:
        _receive(stream, received, deadline, client.ping_seconds)
        cause = "the server closed the stream"
    except TimeoutError:
        raise ExecTimeoutError(
            f'"{in_short(argv)}" in {where} was still running after {timeout_seconds:g} s',
            stdout=received.text(STDOUT),
            stderr=received.text(STDERR),
            remedy="allow it more time, or see what it waits for",
        ) from None
    except (websocket.WebSocketException, OSError) as error:
        cause = str(error) or type(error).__name__
    finally:
        # Not stream.close(): that would wait up to three seconds for the server's farewell. And
        # shutdown() alone leaves a socket open that is TLS within a proxy's TLS.
        if stream.sock is not None:
            stream.sock.close()
        stream.shutdown()
    seconds = time.monotonic() - started
    status = received.status
    if status is None:
        output = (received.text(STDERR) or received.text(STDOUT)).strip()
        broken = ConnectionLostError(
            f'the exec stream of "{in_short(argv)}" in {where} broke off after {seconds:.1f} s '
            "without an exit status",
            found=f"{cause}; output so far: {quote(output, 500) or 'none'}",
            remedy="the node, its kubelet or the API server restarted, or a load balancer in front "
            "of the API server cut the connection",
        )
        raise pod_trouble(client, namespace, pod, broken.found) or broken
    return Completed(
        argv=tuple(argv),
        exit_code=_exit_code(status, argv, where),
        stdout=received.text(STDOUT),
        stderr=received.text(STDERR),
        seconds=seconds,
    )


def _never_started(error: BaseException) -> bool:
    """Tell whether a failed handshake may be tried again without running the command twice.

    It may have started when the answer got lost. It has not when the API server says that it
    could not reach the kubelet, which it words as an internal error.
    """
    if isinstance(error, ServerBusyError) and "dialing backend" in error.found:
        return True
    return is_repeatable(error, idempotent=False)


class Channels:
    """What has arrived so far, by channel."""

    def __init__(self) -> None:
        self._received = {STDOUT: bytearray(), STDERR: bytearray(), STATUS: bytearray()}

    def feed(self, message: bytes) -> None:
        """Take one WebSocket message; messages of unknown channels are dropped."""
        if message and (channel := self._received.get(message[0])) is not None:
            channel += message[1:]

    def text(self, channel: int) -> str:
        """Return what has come on a channel, decoded once as UTF-8."""
        return self._received[channel].decode("utf-8", "replace")

    @property
    def status(self) -> dict[str, Any] | None:
        """The command's Status object; None until it has arrived whole."""
        try:
            status = json.loads(self._received[STATUS])
        except ValueError:
            return None
        return status if isinstance(status, dict) else None


def _receive(stream: WebSocket, channels: Channels, deadline: float, ping_seconds: float) -> None:
    """Collect messages until the server closes the stream, and keep it alive meanwhile.

    A load balancer may count each direction by itself, so what the command writes is no reason not
    to ping; the pong goes the other way. The channels hold what has arrived also when this raises.

    Raises:
        TimeoutError: the deadline has passed before the command's status arrived.
        OSError, websocket.WebSocketException: the stream broke off.
    """
    import websocket

    ended = False
    ping_due = time.monotonic() + ping_seconds
    while True:
        now = time.monotonic()
        if now >= deadline:
            if ended:
                return
            raise TimeoutError
        try:
            if now >= ping_due:
                stream.settimeout(deadline - now)
                stream.ping()
                ping_due = now + ping_seconds
            # The time limit holds within a frame, too: half a frame and silence must not hang.
            stream.settimeout(min(deadline, ping_due) - now)
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


def _exit_code(status: dict[str, Any], argv: Sequence[str], where: str) -> int:
    """Return the exit status that the Status object of an ended command stands for.

    Raises:
        ToolMissingError: the program is not in the image.
        ToolNotRunnableError: it is, and may not be run.
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
    refusal = not_runnable(f'{where} has a program "{program}"', message, found=message)
    if refusal is not None:
        raise refusal
    raise ExecError(
        f'the container runtime could not run "{program}" in {where}',
        found=message,
        remedy="`kubectl describe pod` shows the container's state",
    )


def pod_trouble(client: HttpClient, namespace: str, name: str, found: str) -> PodError | None:
    """Return the pod failure that explains a failed command; see ``Api.pod_trouble``."""
    path = object_path(collection("pods", namespace=namespace), name)
    try:
        pod = client.once("GET", path).object
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


def in_short(argv: Sequence[str]) -> str:
    """Write a command line for a message: one line, scripts and long arguments left out."""
    words = ["..." if "\n" in word or len(word) > _WORD_LIMIT else word for word in argv]
    text = " ".join(words)
    return text if len(text) <= _LINE_LIMIT else f"{text[:_LINE_LIMIT]} ..."

"""Run a command in a pod to its end.

Closing the stream does not end the command: what runs in a pod must bound itself (``timeout``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_k8snet.cluster import channels as protocol
from pytest_k8snet.cluster.rest import Rest, as_object
from pytest_k8snet.cluster.retry import is_repeatable
from pytest_k8snet.cluster.status import ServerBusyError
from pytest_k8snet.cluster.target import collection
from pytest_k8snet.cluster.transport import HandshakeRefusedError
from pytest_k8snet.errors import (
    ApiError,
    ConnectError,
    ConnectionLostError,
    ExecError,
    ExecTimeoutError,
    NotFoundError,
    PodError,
    quote,
)

if TYPE_CHECKING:
    from websocket import WebSocket

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
    received = protocol.Channels()
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
        protocol.converse(stream, received, stdin=data, deadline=deadline)
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
        exit_code=protocol.exit_code(status, argv, where),
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
    query = protocol.query(argv, container=container, stdin=stdin)

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

"""Requests by path with plain bytes and dicts: one error each, repeated where that is safe."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from pytest_k8snet.cluster.retry import PATIENCE_SECONDS, is_repeatable, repeat
from pytest_k8snet.cluster.status import AggregatedServerError, error_of
from pytest_k8snet.cluster.target import parse
from pytest_k8snet.cluster.transport import READ_SECONDS, Answer, Transport
from pytest_k8snet.cluster.unreachable import UnreachableError
from pytest_k8snet.errors import ApiError, ConnectError, K8sNetError

T = TypeVar("T")

#: How long a server that has been given up may take to answer, in seconds.
_LAST_CHANCE_SECONDS = 5.0
#: A server that a request waited for no longer than this may yet come back.
_ENOUGH_PATIENCE_SECONDS = 8.0
#: How long the server of one API group behind a sound API server is asked again. Where it matters
#: there is another way, and what is to be put back should not wait for long.
_GROUP_PATIENCE_SECONDS = 10.0


@dataclass(slots=True, kw_only=True)
class Rest:
    """The way to one API server as one user.

    Patience is spent once: a server that did not answer within it is asked a single time by each
    later request, until it answers again. Else the end of a run whose API server has died would
    take that long for each object to be deleted.

    Attributes:
        transport: makes the connections.
        user: named in errors.
        patience_seconds: how long an unreachable or overloaded server is asked again.
    """

    transport: Transport
    user: str
    patience_seconds: float = PATIENCE_SECONDS
    # After how long the server was given up, in words; empty while it answers.
    _given_up: str = field(default="", init=False)
    # The API groups behind it that were given up, each in such words.
    _cut_off: dict[str, str] = field(default_factory=dict, init=False)

    @property
    def read_seconds(self) -> float:
        """How long the server may take to answer one request."""
        return _LAST_CHANCE_SECONDS if self._given_up else READ_SECONDS

    @property
    def host(self) -> str:
        """The server's URL."""
        return self.transport.host

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        content_type: str = "application/json",
        idempotent: bool = True,
    ) -> Answer:
        """Send a request, again where that is safe.

        Raises:
            ApiError: the server refuses.
            ConnectError: the server does not answer.
        """
        answer = self.repeat(
            lambda: self.once(method, path, query=query, body=body, content_type=content_type),
            repeatable=partial(is_repeatable, idempotent=idempotent),
        )
        self._cut_off.pop(parse(method, path).group, None)
        return answer

    def once(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        """Send a request a single time."""
        answer = self.transport.request(
            method,
            path,
            query=query,
            body=body,
            content_type=content_type,
            timeout_seconds=self.read_seconds,
        )
        if answer.status >= 300:
            raise self.error(answer, method, path)
        return answer

    def repeat(
        self,
        request: Callable[[], T],
        *,
        repeatable: Callable[[BaseException], bool],
        limit_seconds: float | None = None,
    ) -> T:
        """Call until it works or cannot work, within this way's patience."""
        patience = 0.0 if self._given_up else self.patience_seconds
        if limit_seconds is not None:
            patience = min(patience, limit_seconds)
        begun = time.monotonic()

        def again(error: BaseException) -> bool:
            if isinstance(error, AggregatedServerError) and self._is_cut_off(
                error, time.monotonic() - begun
            ):
                return False
            return repeatable(error)

        try:
            value = repeat(request, repeatable=again, patience_seconds=patience)
        except AggregatedServerError:
            # The API server itself is sound.
            self._given_up = ""
            raise
        except K8sNetError as error:
            if not repeatable(error):
                if not isinstance(error, UnreachableError):
                    self._given_up = ""
            elif 0 < patience <= (waited := time.monotonic() - begun):
                words = f" (asked again and again for {waited:.0f} s)"
                error.found += words
                if patience >= min(_ENOUGH_PATIENCE_SECONDS, self.patience_seconds):
                    self._given_up = words
            else:
                # In the same words as the first time: it is the same trouble.
                error.found += self._given_up
            raise
        self._given_up = ""
        return value

    def _is_cut_off(self, error: AggregatedServerError, waited_seconds: float) -> bool:
        """Whether the server behind an API group has been asked often enough."""
        if error.group not in self._cut_off:
            if waited_seconds < min(_GROUP_PATIENCE_SECONDS, self.patience_seconds):
                return False
            self._cut_off[error.group] = f" (asked again and again for {waited_seconds:.0f} s)"
        error.found += self._cut_off[error.group]
        return True

    def error(self, answer: Answer, method: str, path: str) -> ApiError:
        """The error that an answer stands for."""
        target = parse(method, path)
        return error_of(answer.status, answer.body, target, user=self.user, headers=answer.headers)


def as_object(answer: Answer, host: str) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        ConnectError: it is none, so this is no Kubernetes API server.
    """
    try:
        value = json.loads(answer.body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ConnectError(
            f"{host} does not answer like a Kubernetes API server",
            found=answer.body[:200].decode("utf-8", "replace") or "an empty answer",
            remedy="check the server's URL in the kubeconfig, and any proxy in between",
        )
    return value

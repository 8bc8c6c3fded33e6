"""One request, one answer: HTTPS and WebSocket to one API server, without any retry.

Knows connections and bytes, not Kubernetes objects.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

from pytest_k8snet.cluster.api_errors import (
    AggregatedServerError,
    ServerBusyError,
    UnreachableError,
    error_of,
    explain,
    parse,
)
from pytest_k8snet.errors import ApiError, ConnectError, K8sNetError

if TYPE_CHECKING:
    from tenacity import RetryCallState
    from websocket import WebSocket

#
# The client library does the work; this makes it safe for threads, keeps it from running a
# plugin for each request, and turns a plugin's failure, which the library only logs, into an
# error.

#: How long a header is used before the library is asked again. The library runs a plugin anew for
#: each request once its token has less than five minutes left; a token outlives half a minute.
REUSE_SECONDS = 30.0


class Credentials:
    """The headers that authenticate this side; safe to use from several threads.

    Args:
        load: returns a client configuration with fresh credentials; called again after a 401.
    """

    def __init__(self, configuration: Any, load: Callable[[], Any]) -> None:
        self._configuration = configuration
        self._load = load
        self._lock = threading.Lock()
        self._headers: dict[str, str] = {}
        self._until = 0.0

    def headers(self) -> dict[str, str]:
        """The headers to send with a request."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._headers = _auth_headers(self._configuration)
                self._until = time.monotonic() + REUSE_SECONDS
            return dict(self._headers)

    def renew(self, refused: Mapping[str, str]) -> bool:
        """Load the credentials anew after a 401.

        Args:
            refused: the headers that the server did not accept.

        Returns:
            whether there are other headers to try now.
        """
        with self._lock:
            # Another thread may have renewed them while this one waited for its 401.
            if self._headers == dict(refused):
                self._configuration = self._load()
                self._headers = _auth_headers(self._configuration)
                self._until = time.monotonic() + REUSE_SECONDS
            return self._headers != dict(refused)


def _auth_headers(configuration: Any) -> dict[str, str]:
    with plugin_errors():
        settings = configuration.auth_settings()
    return {
        str(setting["key"]).lower(): str(setting["value"])
        for setting in settings.values()
        if setting["value"] and setting["in"] == "header"
    }


@contextmanager
def plugin_errors() -> Iterator[list[str]]:
    """Collect what the client library logs about a failing credential plugin in this thread.

    It catches every exception of a plugin, logs it on the root logger and goes on without
    credentials: the log is the only place where the plugin's own words appear.
    """
    collected: list[str] = []
    here = threading.get_ident()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == here and record.module == "kube_config":
                collected.append(record.getMessage())

    root = logging.getLogger()
    collector = Collector(logging.ERROR)
    root.addHandler(collector)
    try:
        yield collected
    finally:
        root.removeHandler(collector)


# -- One request, one answer: HTTPS and WebSocket to one API server, without any retry ------------


CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0

#: Newest first. Only v5 can end stdin without ending the whole stream.
CHANNEL_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HandshakeRefusedError(Exception):
    """The server answered a WebSocket handshake with an ordinary HTTP answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"HTTP {answer.status}")
        self.answer = answer


class Transport:
    """Connections to one API server; safe to use from several threads.

    Args:
        host: the server's URL.
        pool: urllib3's pool manager, set up by the client library.
        tls: the context for WebSockets; None for plain HTTP.
        server_name: the name expected in the certificate when it is not the host's.
        proxy: the proxy's URL, or None.
        credentials: the source of the Authorization header.
        user_agent: what the server's audit log shows.
    """

    def __init__(
        self,
        *,
        host: str,
        pool: Any,
        tls: ssl.SSLContext | None,
        server_name: str | None,
        proxy: str | None,
        credentials: Credentials,
        user_agent: str,
    ) -> None:
        self.host = host
        self.proxy = proxy
        self._pool = pool
        self._tls = tls
        self._server_name = server_name
        self._credentials = credentials
        self._user_agent = user_agent

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout_seconds: float = READ_SECONDS,
    ) -> Answer:
        """Send one request; once more when a 401 can be cured by newer credentials.

        Raises:
            ConnectError: no answer; an ``UnreachableError`` when trying again can help.
        """
        auth = self._credentials.headers()
        answer = self._once(method, path, query, body, content_type, timeout_seconds, auth)
        if answer.status == 401 and self._credentials.renew(auth):
            auth = self._credentials.headers()
            answer = self._once(method, path, query, body, content_type, timeout_seconds, auth)
        return answer

    def _once(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]],
        body: bytes | None,
        content_type: str,
        timeout_seconds: float,
        auth: Mapping[str, str],
    ) -> Answer:
        import urllib3

        if self._tls is not None and self._tls.verify_mode == ssl.CERT_NONE:
            # The kubeconfig asks for it. Said once per request, it would fail tests under -W error.
            warnings.filterwarnings("ignore", category=urllib3.exceptions.InsecureRequestWarning)
        headers = {"accept": "application/json", "user-agent": self._user_agent, **auth}
        if body is not None:
            headers["content-type"] = content_type
        try:
            response = self._pool.request(
                method,
                self.host + _with_query(path, query),
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(
                    connect=min(CONNECT_SECONDS, timeout_seconds), read=timeout_seconds
                ),
                # urllib3 would try four times and quadruple every time limit.
                retries=False,
                redirect=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise explain(error, host=self.host, proxy=self.proxy) from error
        return Answer(
            status=response.status, headers=dict(response.headers), body=bytes(response.data)
        )

    def open_stream(
        self, path: str, query: Sequence[tuple[str, str]], *, timeout_seconds: float
    ) -> WebSocket:
        """Open a WebSocket that speaks Kubernetes' channel protocol.

        Made from websocket-client itself: the client library's own wrapper has no time limit for
        connecting, cannot end stdin before release 36, loses frames that share a TLS record
        before 37 and copies long output over and over in 37.

        Raises:
            HandshakeRefusedError: the server answered with something else than an upgrade.
            ConnectError: no answer.
        """
        auth = self._credentials.headers()
        try:
            return self._stream_once(path, query, timeout_seconds, auth)
        except HandshakeRefusedError as error:
            if error.answer.status != 401 or not self._credentials.renew(auth):
                raise
        return self._stream_once(path, query, timeout_seconds, self._credentials.headers())

    def _stream_once(
        self,
        path: str,
        query: Sequence[tuple[str, str]],
        timeout_seconds: float,
        auth: Mapping[str, str],
    ) -> WebSocket:
        import websocket

        sslopt: dict[str, Any] = {}
        if self._tls is not None:
            sslopt = {
                "context": self._tls,
                "cert_reqs": self._tls.verify_mode,
                "check_hostname": self._tls.check_hostname,
            }
            if self._server_name:
                sslopt["server_hostname"] = self._server_name
        stream = websocket.WebSocket(sslopt=sslopt, skip_utf8_validation=True)
        try:
            stream.connect(
                "ws" + (self.host + _with_query(path, query)).removeprefix("http"),
                timeout=timeout_seconds,
                header={"user-agent": self._user_agent, **auth},
                subprotocols=list(CHANNEL_PROTOCOLS),
                # An origin makes some servers apply a browser's rules.
                suppress_origin=True,
                **_proxy_options(self.proxy),
            )
        except websocket.WebSocketBadStatusException as error:
            stream.shutdown()
            raise HandshakeRefusedError(
                Answer(
                    status=error.status_code,
                    headers=dict(error.resp_headers or {}),
                    body=bytes(error.resp_body or b""),
                )
            ) from error
        except (websocket.WebSocketException, OSError) as error:
            stream.shutdown()
            raise explain(error, host=self.host, proxy=self.proxy) from error
        if not stream.connected or stream.getstatus() != 101:
            stream.shutdown()
            raise ConnectError(
                f"{self.host} does not speak WebSocket",
                found=f"HTTP {stream.getstatus()} to the upgrade request",
                remedy="a proxy in front of the API server must let WebSocket upgrades pass",
            )
        return stream

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.clear()


def _with_query(path: str, query: Sequence[tuple[str, str]]) -> str:
    return f"{quote(path)}?{urlencode(query)}" if query else quote(path)


def _proxy_options(proxy: str | None) -> dict[str, Any]:
    if proxy is None:
        # Else websocket-client looks into the environment itself, by rules of its own.
        return {"http_no_proxy": ["*"]}
    parts = urlsplit(proxy)
    options: dict[str, Any] = {
        "http_proxy_host": parts.hostname,
        "http_proxy_port": parts.port or (443 if parts.scheme == "https" else 80),
        "http_no_proxy": ["none.invalid"],
        "proxy_type": parts.scheme if parts.scheme.startswith("socks") else "http",
    }
    if parts.username:
        options["http_proxy_auth"] = (unquote(parts.username), unquote(parts.password or ""))
    return options


# -- The only layer that repeats requests: which failures, for how long, with what pauses ---------
#
# A request is repeated when it certainly had no effect, or when having it twice is having it
# once. A conflict (409) is never repeated here: its cure is to read again, which only the caller
# can do.


T = TypeVar("T")

#: How long an unreachable or overloaded API server is asked again. A control-plane node that
#: restarts its API server, or a change of the overlay below it, takes this long at times.
PATIENCE_SECONDS = 30.0
#: A server that says "internal error" this often means it.
INTERNAL_ERROR_ATTEMPTS = 5
#: The longest pause that a server's Retry-After is granted.
RETRY_AFTER_LIMIT_SECONDS = 10.0

_SURELY_UNDONE = frozenset({429, 503})


def is_repeatable(error: BaseException, *, idempotent: bool) -> bool:
    """Whether a failed request may be sent again.

    Args:
        error: what the request ended with.
        idempotent: whether a second effect of the request is none.
    """
    if isinstance(error, UnreachableError):
        return idempotent or not error.sent
    if isinstance(error, ServerBusyError):
        return idempotent or error.status in _SURELY_UNDONE
    return False


def repeat(
    request: Callable[[], T],
    *,
    repeatable: Callable[[BaseException], bool],
    patience_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Call until it works, it fails for good, or patience ends; then the last error is raised.

    Args:
        request: sends one request; called anew each time.
        repeatable: whether an error may go away.
        patience_seconds: how long to go on after the first try; 0 tries once.
        sleep: waits some seconds.
    """
    import tenacity

    backoff = tenacity.wait_exponential(multiplier=0.1, max=2.0) + tenacity.wait_random(0, 0.1)

    def wait(state: RetryCallState) -> float:
        error = _error(state)
        asked = (error.retry_after_seconds if isinstance(error, ServerBusyError) else None) or 0.0
        return max(backoff(state), min(asked, RETRY_AFTER_LIMIT_SECONDS))

    patience_ends = tenacity.stop_after_delay(patience_seconds)

    def stop(state: RetryCallState) -> bool:
        error = _error(state)
        if isinstance(error, ServerBusyError) and error.status == 500:
            return patience_ends(state) or state.attempt_number >= INTERNAL_ERROR_ATTEMPTS
        return patience_ends(state)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(repeatable),
        wait=wait,
        stop=stop,
        sleep=sleep,
        reraise=True,
    )(request)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


# -- Requests by path with plain bytes and dicts: one error each, repeated where that is safe -----


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

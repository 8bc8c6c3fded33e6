"""The HTTP client of one API server as one user: requests, WebSockets, and when to try again.

Knows connections, credentials and paths, not Kubernetes objects. A request is sent again when it
certainly had no effect, or when having it twice is having it once. A conflict (409) never is: its
cure is to read again, which only the caller can do.
"""

from __future__ import annotations

import json
import logging
import random
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
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
    from websocket import WebSocket

T = TypeVar("T")
Query: TypeAlias = Sequence[tuple[str, str]]

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
#: How long a server that has been given up may take to answer.
_LAST_CHANCE_SECONDS = 5.0

#: How long an unreachable or overloaded API server is asked again. A control-plane node that
#: restarts its API server, or a change of the overlay below it, takes this long at times.
PATIENCE_SECONDS = 30.0
#: A server that a request waited for no longer than this may yet come back.
_ENOUGH_PATIENCE_SECONDS = 8.0
#: How long the server of one API group behind a sound API server is asked again. Where it matters
#: there is another way, and what is to be restored should not wait for long.
_GROUP_PATIENCE_SECONDS = 10.0
#: A server that says "internal error" this often means it.
INTERNAL_ERROR_ATTEMPTS = 5
#: The longest pause that a server's Retry-After is granted.
RETRY_AFTER_LIMIT_SECONDS = 10.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, _JITTER_SECONDS = 0.1, 2.0, 0.1

#: 429 and 503 come before the request had any effect.
_SURELY_UNDONE = frozenset({429, 503})

#: Newest first. They differ only for commands with stdin, which are not used here.
CHANNEL_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server answered: HTTP status, headers and body."""

    host: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def object(self) -> dict[str, Any]:
        """The JSON object in the body.

        Raises:
            ConnectError: there is none, so this is no Kubernetes API server.
        """
        try:
            value = json.loads(self.body)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ConnectError(
                f"{self.host} does not answer like a Kubernetes API server",
                found=self.body[:200].decode("utf-8", "replace") or "an empty answer",
                remedy="check the server's URL in the kubeconfig, and any proxy in between",
            )
        return value


class HttpClient:
    """Requests and WebSockets to one API server as one user; safe to use from several threads.

    Patience is spent once: a server that did not answer within it is asked a single time by each
    later request, until it answers again. Else the end of a run whose API server has died would
    take that long for each object to be deleted.

    Args:
        host: the server's URL.
        pool: urllib3's pool manager.
        tls: the context for WebSockets; None for plain HTTP.
        server_name: the name expected in the certificate when it is not the host's.
        proxy: the proxy's URL, or None.
        credentials: the source of the Authorization header.
        user_agent: what the server's audit log shows.

    Attributes:
        user: named in errors.
        patience_seconds: how long an unreachable or overloaded server is asked again.
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
        user: str,
        patience_seconds: float,
    ) -> None:
        self.host = host
        self.user = user
        self.patience_seconds = patience_seconds
        self._pool = pool
        self._tls = tls
        self._server_name = server_name
        self._proxy = proxy
        self._credentials = credentials
        self._user_agent = user_agent
        # After how long the server was given up, in words; empty while it answers.
        self._given_up = ""
        # The API groups behind it that were given up, each in such words.
        self._cut_off: dict[str, str] = {}

    @property
    def read_seconds(self) -> float:
        """How long the server may take to answer one request."""
        return _LAST_CHANCE_SECONDS if self._given_up else READ_SECONDS

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: object = None,
        content_type: str = "application/json",
        idempotent: bool = True,
    ) -> Answer:
        """Send a request, again where that is safe.

        Args:
            method: the HTTP method, upper case.
            path: the path, unquoted.
            query: the query's names and values.
            body: sent as JSON; None sends no body.
            content_type: how the server is to read the body.
            idempotent: whether a second effect of the request is none.

        Raises:
            ApiError: the server refuses.
            ConnectError: the server does not answer.
        """
        answer = self.repeat(
            lambda: self.once(method, path, query=query, body=body, content_type=content_type),
            repeatable=lambda error: is_repeatable(error, idempotent=idempotent),
        )
        self._cut_off.pop(parse(method, path).group, None)
        return answer

    def once(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: object = None,
        content_type: str = "application/json",
    ) -> Answer:
        """Send a request a single time; a second time if newer credentials can cure a 401."""
        import urllib3

        if self._tls is not None and self._tls.verify_mode == ssl.CERT_NONE:
            # The kubeconfig asks for it. Said once per request, it would fail tests under -W error.
            warnings.filterwarnings("ignore", category=urllib3.exceptions.InsecureRequestWarning)
        data = None if body is None else json.dumps(body).encode()
        headers = {"accept": "application/json", "user-agent": self._user_agent}
        if data is not None:
            headers["content-type"] = content_type
        seconds = self.read_seconds
        renewed = False
        while True:
            auth = self._credentials.headers()
            try:
                response = self._pool.request(
                    method,
                    self.host + _with_query(path, query),
                    body=data,
                    headers=headers | auth,
                    timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, seconds), read=seconds),
                    # urllib3 would try four times and quadruple every time limit.
                    retries=False,
                    redirect=False,
                )
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise explain(error, host=self.host, proxy=self._proxy) from error
            if response.status == 401 and not renewed and self._credentials.renew(auth):
                renewed = True
                continue
            answer = self._answer(response.status, response.headers, response.data)
            if answer.status >= 300:
                raise self._refusal(answer, method, path)
            return answer

    def open_websocket(self, path: str, query: Query, *, timeout_seconds: float) -> WebSocket:
        """Open a WebSocket that speaks Kubernetes' channel protocol; a single try, like ``once``.

        Made from websocket-client itself: the client library's own wrapper has no time limit for
        connecting, loses frames that share a TLS record before release 37 and copies long output
        over and over in 37.

        Raises:
            ApiError: the server answered with something else than an upgrade.
            ConnectError: the server does not answer.
        """
        import websocket

        tls: dict[str, Any] = {}
        if self._tls is not None:
            tls = {
                "context": self._tls,
                "cert_reqs": self._tls.verify_mode,
                "check_hostname": self._tls.check_hostname,
            }
            if self._server_name:
                tls["server_hostname"] = self._server_name
        renewed = False
        while True:
            auth = self._credentials.headers()
            stream = websocket.WebSocket(sslopt=tls, skip_utf8_validation=True)
            try:
                stream.connect(
                    "ws" + (self.host + _with_query(path, query)).removeprefix("http"),
                    timeout=timeout_seconds,
                    header={"user-agent": self._user_agent} | auth,
                    subprotocols=list(CHANNEL_PROTOCOLS),
                    # An origin makes some servers apply a browser's rules.
                    suppress_origin=True,
                    **_proxy_options(self._proxy),
                )
            except websocket.WebSocketBadStatusException as error:
                stream.shutdown()
                if error.status_code == 401 and not renewed and self._credentials.renew(auth):
                    renewed = True
                    continue
                answer = self._answer(error.status_code, error.resp_headers, error.resp_body)
                raise self._refusal(answer, "GET", path) from None
            except (websocket.WebSocketException, OSError) as error:
                stream.shutdown()
                raise explain(error, host=self.host, proxy=self._proxy) from error
            if not stream.connected or stream.getstatus() != 101:
                stream.shutdown()
                raise ConnectError(
                    f"{self.host} does not speak WebSocket",
                    found=f"HTTP {stream.getstatus()} to the upgrade request",
                    remedy="a proxy in front of the API server must let WebSocket upgrades pass",
                )
            return stream

    def repeat(
        self,
        request: Callable[[], T],
        *,
        repeatable: Callable[[BaseException], bool],
        limit_seconds: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> T:
        """Call until it works, fails for good, or patience ends; then raise the last error.

        Args:
            request: sends one request; called anew each time.
            repeatable: whether an error may go away.
            limit_seconds: ends this client's patience earlier.
            sleep: waits some seconds.
        """
        patience = 0.0 if self._given_up else self.patience_seconds
        if limit_seconds is not None:
            patience = min(patience, limit_seconds)
        begun = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            try:
                value = request()
            except K8sNetError as error:
                waited = time.monotonic() - begun
                again = repeatable(error) and not self._is_cut_off(error, waited)
                internal = isinstance(error, ServerBusyError) and error.status == 500
                exhausted = internal and attempt >= INTERNAL_ERROR_ATTEMPTS
                if not again or waited >= patience or exhausted:
                    self._note_failure(error, again, waited, patience)
                    raise
                pause = pause_seconds(attempt, error)
            else:
                self._given_up = ""
                return value
            sleep(pause)

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.clear()

    def _note_failure(
        self, error: K8sNetError, may_pass: bool, waited_seconds: float, patience_seconds: float
    ) -> None:
        """Remember whether the server has been given up, and say so in the error."""
        if isinstance(error, AggregatedServerError):
            # The API server itself is sound.
            self._given_up = ""
        elif not may_pass:
            if not isinstance(error, UnreachableError):
                self._given_up = ""
        elif 0 < patience_seconds <= waited_seconds:
            words = f" (asked again and again for {waited_seconds:.0f} s)"
            error.found += words
            if patience_seconds >= min(_ENOUGH_PATIENCE_SECONDS, self.patience_seconds):
                self._given_up = words
        else:
            # In the same words as the first time: it is the same trouble.
            error.found += self._given_up

    def _is_cut_off(self, error: BaseException, waited_seconds: float) -> bool:
        """Whether the server behind an API group has been asked often enough."""
        if not isinstance(error, AggregatedServerError):
            return False
        if error.group not in self._cut_off:
            if waited_seconds < min(_GROUP_PATIENCE_SECONDS, self.patience_seconds):
                return False
            self._cut_off[error.group] = f" (asked again and again for {waited_seconds:.0f} s)"
        error.found += self._cut_off[error.group]
        return True

    def _answer(self, status: int, headers: Mapping[str, str] | None, body: object) -> Answer:
        data = body if isinstance(body, bytes) else b""
        return Answer(host=self.host, status=status, headers=dict(headers or {}), body=data)

    def _refusal(self, answer: Answer, method: str, path: str) -> ApiError:
        target = parse(method, path)
        return error_of(answer.status, answer.body, target, user=self.user, headers=answer.headers)


def is_repeatable(error: BaseException, *, idempotent: bool) -> bool:
    """Tell whether a failed request may be sent again.

    Args:
        error: what the request ended with.
        idempotent: whether a second effect of the request is none.
    """
    if isinstance(error, UnreachableError):
        return idempotent or not error.sent
    if isinstance(error, ServerBusyError):
        return idempotent or error.status in _SURELY_UNDONE
    return False


def pause_seconds(attempt: int, error: BaseException) -> float:
    """Return how long to wait after a failed attempt, in seconds: doubling, and as it was asked.

    Args:
        attempt: the number of attempts so far, 1 or more.
        error: what the last one ended with; its Retry-After counts up to a limit.
    """
    backoff = min(_FIRST_PAUSE_SECONDS * 2.0 ** (attempt - 1), _LONGEST_PAUSE_SECONDS)
    asked = (error.retry_after_seconds if isinstance(error, ServerBusyError) else None) or 0.0
    return max(backoff + random.uniform(0, _JITTER_SECONDS), min(asked, RETRY_AFTER_LIMIT_SECONDS))


def _with_query(path: str, query: Query) -> str:
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


# -- Credentials --------------------------------------------------------------------------------
#
# The client library does the work; this makes it safe for threads, keeps it from running a plugin
# for each request, and turns a plugin's failure, which the library only logs, into an error.


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

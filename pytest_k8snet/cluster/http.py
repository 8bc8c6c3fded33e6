"""The HTTP client of one API server as one user: requests, WebSockets, and when to try again.

Knows connections, credentials and paths, not Kubernetes objects. A request is sent again when it
certainly had no effect, or when having it twice is having it once. A conflict (409) never is: its
cure is to read again, which only the caller can do.
"""

from __future__ import annotations

import json
import socket
import ssl
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

from pytest_k8snet.cluster.api_errors import (
    AggregatedServerError,
    Answer,
    CertificateRefusedError,
    ServerBusyError,
    UnreachableError,
    error_of,
    explain,
    parse,
    refused_upgrade,
)
from pytest_k8snet.cluster.credentials import Credentials, Login
from pytest_k8snet.cluster.kubeconfig import passwords_in
from pytest_k8snet.errors import ConnectError, K8sNetError, KubeconfigError

if TYPE_CHECKING:
    from tenacity import RetryCallState
    from urllib3 import BaseHTTPResponse, PoolManager
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
#: How often kubectl, too, pings on an exec. kubeadm's example of a load balancer (HAProxy) cuts
#: connections that are silent for 20 s.
PING_SECONDS = 5.0
#: A server that says "internal error" this often means it.
INTERNAL_ERROR_ATTEMPTS = 5
#: The longest pause that a server's Retry-After is granted.
RETRY_AFTER_LIMIT_SECONDS = 10.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, _JITTER_SECONDS = 0.1, 2.0, 0.1

#: The API server itself, beside API groups that are left to other servers.
_SERVER = "/"

#: 429 and 503 come before the request had any effect.
_SURELY_UNDONE = frozenset({429, 503})

#: What the API server keeps as the manager of the fields that are written here, sent with each
#: write: else it takes the first word of the user agent (``endpoints/handlers/create.go`` of
#: k8s.io/apiserver v0.34), which a gateway on the way may replace by its own.
FIELD_MANAGER = "pytest-k8snet"
AS_MANAGER = (("fieldManager", FIELD_MANAGER),)

#: Newest first. They differ only for commands with stdin, which are not used here.
CHANNEL_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An API server and the way to it.

    Attributes:
        url: its URL.
        authority: the authorities that may have signed its certificate, PEM; empty takes the
            system's.
        verify: False accepts any certificate (``insecure-skip-tls-verify``).
        name: the name expected in the certificate; empty takes the URL's host.
        proxy: the proxy's URL; empty for none.
    """

    url: str
    authority: bytes = field(default=b"", repr=False)
    verify: bool = True
    name: str = ""
    proxy: str = field(default="", repr=False)

    @property
    def shown_proxy(self) -> str:
        """The proxy's URL without its password, for messages."""
        # Not by urlsplit: what cannot be parsed is shown as well.
        scheme, separator, rest = self.proxy.rpartition("://")
        return f"{scheme}{separator}{rest.rpartition('@')[2]}"


class HttpClient:
    """Requests and WebSockets to one API server as one user; safe to use from several threads.

    Patience is spent once: a server that did not answer within it is asked a single time by each
    later request, until it answers again. Else the end of a run whose API server has died would
    take that long for each object to be deleted.

    Attributes:
        host: the server's URL.
        user: named in errors.
        patience_seconds: how long an unreachable or overloaded server is asked again.
        ping_seconds: how often a WebSocket that its user reads from is to be kept alive.
    """

    def __init__(
        self,
        server: Server,
        credentials: Credentials,
        *,
        user: str,
        ping_seconds: float,
    ) -> None:
        self.host = server.url
        self.user = user
        self.patience_seconds = PATIENCE_SECONDS
        self.ping_seconds = ping_seconds
        self._server = server
        self._proxy_passwords = passwords_in(server.proxy)
        self._credentials = credentials
        self._user_agent = f"{FIELD_MANAGER}/{version('pytest-k8snet')}"
        # The connections of the client certificate in use.
        self._pools: PoolManager | None = None
        self._pools_of: tuple[bytes, bytes] = (b"", b"")
        self._pools_lock = threading.Lock()
        # After how long the server, or the one of an API group behind it, was given up, in words.
        self._given_up: dict[str, str] = {}

    @property
    def read_seconds(self) -> float:
        """How long the server may take to answer one request."""
        return _LAST_CHANCE_SECONDS if _SERVER in self._given_up else READ_SECONDS

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
        """Send a request, again where that is safe: a second effect of an idempotent one is none.

        Raises:
            ApiError: the server refuses.
            ConnectError: the server does not answer.
        """
        answer = self.repeat(
            lambda: self.once(method, path, query=query, body=body, content_type=content_type),
            repeatable=lambda error: is_repeatable(error, idempotent=idempotent),
        )
        self._given_up.pop(parse(method, path).group, None)
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
        """Send a request a single time; a second time if a newer login can cure its refusal."""
        data = None if body is None else json.dumps(body).encode()

        def request(login: Login) -> Answer:
            sent = self._request(login, method, path, query, body=data, content_type=content_type)
            return self._answer(sent.status, sent.headers, sent.data)

        answer = self._logged_in(request)
        if answer.status >= 300:
            raise error_of(answer, parse(method, path), user=self.user)
        return answer

    def lines(self, path: str, query: Query, *, seconds: float) -> Iterator[bytes]:
        """Yield the lines of an answer as they arrive, for so many seconds: a watch; a single try.

        Raises:
            ApiError: the server refuses.
            ConnectError: the server does not answer, or the answer broke off.
        """
        import urllib3

        login = self._credentials.current()
        stream = self._request(login, "GET", path, query, stream_seconds=seconds)
        try:
            if stream.status >= 300:
                answer = self._answer(stream.status, stream.headers, stream.data)
                raise error_of(answer, parse("GET", path), user=self.user)
            rest = b""
            for chunk in stream.stream():
                *whole, rest = (rest + chunk).split(b"\n")
                yield from filter(None, whole)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(error) from error
        finally:
            # Whoever has seen enough ends the stream with it.
            stream.close()

    def _request(
        self,
        login: Login,
        method: str,
        path: str,
        query: Query,
        *,
        body: bytes | None = None,
        content_type: str = "",
        stream_seconds: float | None = None,
    ) -> BaseHTTPResponse:
        """Send a request once; its response is read to the end unless it is to stream."""
        import urllib3

        headers = urllib3.HTTPHeaderDict(accept="application/json")
        headers["user-agent"] = self._user_agent
        if body is not None:
            headers["content-type"] = content_type
        for name, value in login.headers:
            # Text is sent as Latin-1. The bytes shall be those of UTF-8, as kubectl's are: else
            # whoever impersonates "jörg" would be somebody else.
            headers.add(name, value.encode().decode("latin-1"))
        seconds = self.read_seconds
        limits = urllib3.Timeout(
            connect=min(CONNECT_SECONDS, seconds), read=seconds + (stream_seconds or 0)
        )
        try:
            return self._connections(login).request(
                method,
                self.host + _with_query(path, query),
                body=body,
                headers=headers,
                timeout=limits,
                # urllib3 would try four times and quadruple every time limit.
                retries=False,
                redirect=False,
                preload_content=stream_seconds is None,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(error) from error

    def open_websocket(self, path: str, query: Query, *, timeout_seconds: float) -> WebSocket:
        """Open a WebSocket that speaks Kubernetes' channel protocol; a single try, like ``once``.

        Its socket comes from the connections that requests use, so that both take the same proxy
        and show the same certificate.

        Raises:
            ApiError: the server refuses.
            ConnectError: the server does not answer, or does not speak WebSocket.
        """
        import urllib3
        import websocket

        def upgrade(login: Login) -> Answer | WebSocket:
            stream = websocket.WebSocket(skip_utf8_validation=True)
            headers = [f"{name}: {value}" for name, value in login.headers]
            try:
                stream.connect(
                    "ws" + (self.host + _with_query(path, query)).removeprefix("http"),
                    socket=self._open_socket(login, timeout_seconds),
                    timeout=timeout_seconds,
                    header=[f"user-agent: {self._user_agent}", *headers],
                    subprotocols=list(CHANNEL_PROTOCOLS),
                    # An origin makes some servers apply a browser's rules.
                    suppress_origin=True,
                    # Credentials must not follow to wherever a login page is.
                    redirect_limit=0,
                )
            except websocket.WebSocketBadStatusException as error:
                stream.shutdown()
                return self._answer(error.status_code, error.resp_headers, error.resp_body)
            except (
                urllib3.exceptions.HTTPError,
                websocket.WebSocketException,
                OSError,
            ) as error:
                stream.shutdown()
                if (answered := stream.handshake_response) is None:
                    raise self._unreachable(error) from error
                # A redirection, which is not followed.
                return self._answer(answered.status, answered.headers, b"")
            return stream

        opened = self._logged_in(upgrade)
        if not isinstance(opened, Answer):
            return opened
        raise refused_upgrade(opened, parse("GET", path), user=self.user)

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
        # Loaded with the first request: a pytest run without a cluster pays nothing for it.
        import tenacity

        patience = 0.0 if _SERVER in self._given_up else self.patience_seconds
        if limit_seconds is not None:
            patience = min(patience, limit_seconds)
        begun = time.monotonic()
        again = False

        def may_pass(error: BaseException) -> bool:
            nonlocal again
            again = repeatable(error)
            if again and isinstance(error, AggregatedServerError):
                waited = time.monotonic() - begun
                enough = min(_GROUP_PATIENCE_SECONDS, self.patience_seconds)
                if again := error.group not in self._given_up and waited < enough:
                    return True
                error.found += self._given_up.setdefault(error.group, _for_so_long(waited))
            return again

        patience_ends = tenacity.stop_after_delay(patience)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(may_pass),
            stop=lambda state: patience_ends(state) or _means_its_error(state),
            wait=_pause,
            sleep=sleep,
            reraise=True,
        )
        try:
            value = retrying(request)
        except K8sNetError as error:
            self._note_failure(error, again, time.monotonic() - begun, patience)
            raise
        self._given_up.pop(_SERVER, None)
        return value

    def secrets(self) -> set[str]:
        """Return what no file may hold: the login that is shown now, and the proxy's password."""
        login = self._credentials.last()
        # Behind the word "Bearer"; whom a user acts as is no secret.
        shown = {text.partition(" ")[2] for name, text in login.headers if name == "Authorization"}
        found = {*shown, login.key.decode("ascii", "replace").strip()}
        return {secret for secret in (*found, *self._proxy_passwords) if secret}

    def close(self) -> None:
        """Close the idle connections; new ones are opened when needed."""
        with self._pools_lock:
            if self._pools is not None:
                self._pools.clear()

    def _logged_in(self, request: Callable[[Login], T]) -> T:
        """Send a request with the login in use, and again with a newer one if it is refused."""
        login = self._credentials.current()
        try:
            answer = request(login)
        except CertificateRefusedError:
            if not login.certificate or not self._credentials.renew(login):
                raise
        else:
            refused = isinstance(answer, Answer) and answer.status == 401
            if not refused or not self._credentials.renew(login):
                return answer
        return request(self._credentials.current())

    def _connections(self, login: Login) -> PoolManager:
        """Return the connections that show a login's client certificate."""
        certificate = (login.certificate, login.key)
        with self._pools_lock:
            if self._pools is None or self._pools_of != certificate:
                if self._pools is not None:
                    self._pools.clear()
                self._pools = _open_pools(self._server, *certificate)
                self._pools_of = certificate
            return self._pools

    def _open_socket(self, login: Login, seconds: float) -> socket.socket:
        """Open a connection as urllib3 does for a request, and hand out its socket."""
        pools = self._connections(login)
        pool = pools.connection_from_url(self.host)
        connection: Any = pool._new_conn()
        connection.timeout = min(CONNECT_SECONDS, seconds)
        proxied = pools.proxy is not None
        if proxied and self.host.startswith("https:"):
            pool._prepare_proxy(connection)
        else:
            if proxied:
                parts = urlsplit(self.host)
                connection.set_tunnel(parts.hostname, parts.port or 80, pool.proxy_headers)
            connection.connect()
        opened: socket.socket = connection.sock
        opened.settimeout(seconds)
        return opened

    def _unreachable(self, error: BaseException) -> ConnectError:
        return explain(error, host=self.host, proxy=self._server.shown_proxy)

    def _note_failure(
        self, error: K8sNetError, may_pass: bool, waited_seconds: float, patience_seconds: float
    ) -> None:
        """Remember whether a server has been given up, and say so in the error."""
        if not may_pass or isinstance(error, AggregatedServerError):
            # Whatever answers is sound.
            if not isinstance(error, UnreachableError):
                self._given_up.pop(_SERVER, None)
        elif 0 < patience_seconds <= waited_seconds:
            words = _for_so_long(waited_seconds)
            error.found += words
            if patience_seconds >= min(_ENOUGH_PATIENCE_SECONDS, self.patience_seconds):
                self._given_up[_SERVER] = words
        else:
            # In the same words as the first time: it is the same trouble.
            error.found += self._given_up.get(_SERVER, "")

    def _answer(self, status: int, headers: Mapping[str, str] | None, body: object) -> Answer:
        return Answer(
            host=self.host,
            status=status,
            headers={name.lower(): value for name, value in (headers or {}).items()},
            body=body if isinstance(body, bytes) else b"",
        )


def is_repeatable(error: BaseException, *, idempotent: bool) -> bool:
    """Tell whether a request that failed may be sent again."""
    if isinstance(error, UnreachableError):
        return idempotent or not error.sent
    if isinstance(error, ServerBusyError):
        return idempotent or error.status in _SURELY_UNDONE
    return False


def _for_so_long(seconds: float) -> str:
    return f" (asked again and again for {seconds:.0f} s)"


def _means_its_error(state: RetryCallState) -> bool:
    """Whether a server has said "internal error" so often that it means it."""
    error = _error(state)
    internal = isinstance(error, ServerBusyError) and error.status == 500
    return internal and state.attempt_number >= INTERNAL_ERROR_ATTEMPTS


def _pause(state: RetryCallState) -> float:
    """Return how long to wait after a failed attempt, in seconds: doubling, and as it was asked."""
    import tenacity

    backoff = tenacity.wait_exponential(multiplier=_FIRST_PAUSE_SECONDS, max=_LONGEST_PAUSE_SECONDS)
    jitter = tenacity.wait_random(0, _JITTER_SECONDS)
    error = _error(state)
    asked = error.retry_after_seconds if isinstance(error, ServerBusyError) else 0.0
    return max(backoff(state) + jitter(state), min(asked, RETRY_AFTER_LIMIT_SECONDS))


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _with_query(path: str, query: Query) -> str:
    # Names within it are quoted already.
    quoted = quote(path, safe="/%")
    return f"{quoted}?{urlencode(query)}" if query else quoted


# -- Connections -----------------------------------------------------------------------------------

#: TCP's own sign of life, in seconds and tries, where the system has it by this name.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


def _open_pools(server: Server, certificate: bytes, key: bytes) -> PoolManager:
    """Make the connections to a server with a client certificate; none is opened yet.

    Raises:
        KubeconfigError: a certificate, a key or the proxy cannot be used.
    """
    import urllib3
    from urllib3.connection import HTTPConnection

    options: dict[str, Any] = {
        "maxsize": 32,
        # A silent stream whose peer has vanished ends within a minute.
        "socket_options": [
            *HTTPConnection.default_socket_options,
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            *(
                (socket.IPPROTO_TCP, getattr(socket, name), value)
                for name, value in _KEEPALIVE.items()
                if hasattr(socket, name)
            ),
        ],
    }
    if server.url.startswith("https://"):
        options["ssl_context"] = tls_context(server, certificate, key)
        if server.name:
            options["server_hostname"] = server.name
    if not server.verify:
        # The kubeconfig asks for it. Said once per request, it would fail tests under -W error.
        warnings.filterwarnings("ignore", category=urllib3.exceptions.InsecureRequestWarning)
    if not server.proxy:
        return urllib3.PoolManager(**options)
    parts = urlsplit(server.proxy)
    if parts.scheme.startswith("socks"):
        try:
            import socks  # noqa: F401 -- else urllib3 would warn before it fails
            from urllib3.contrib.socks import SOCKSProxyManager
        except ImportError as error:
            raise KubeconfigError(
                f"the proxy {server.shown_proxy} needs a Python package that is not installed",
                found=str(error),
                remedy="pip install PySocks (or pytest-k8snet[socks])",
            ) from error
        # As with kubectl, either kind resolves the server's name (net/http/transport.go, Go 1.24).
        resolving = server.proxy.replace("socks5://", "socks5h://", 1)
        return SOCKSProxyManager(resolving, **options)
    headers = None
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=login)
    return urllib3.ProxyManager(
        server.proxy,
        proxy_headers=headers,
        proxy_ssl_context=_proxy_tls(server) if parts.scheme == "https" else None,
        **options,
    )


def _proxy_tls(server: Server) -> ssl.SSLContext:
    """Make the client side of TLS for a proxy: the system's authorities and the cluster's."""
    made = tls_context(server, b"", b"")
    if server.verify and server.authority:
        made.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return made


def tls_context(server: Server, certificate: bytes, key: bytes) -> ssl.SSLContext:
    """Make the client side of TLS for a server.

    Without OpenSSL's strict X.509 mode, which Python 3.13 turns on by default and which refuses
    the certificates of many real clusters that kubectl accepts.

    Raises:
        KubeconfigError: a certificate or key cannot be used.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not server.verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    elif server.authority:
        try:
            made.load_verify_locations(cadata=server.authority.decode("ascii"))
        except (ValueError, ssl.SSLError) as error:
            raise KubeconfigError(
                "the certificate authority of the kubeconfig's cluster cannot be used",
                found=str(error),
                remedy="certificate-authority(-data) must hold PEM certificates (the data in "
                "base64)",
            ) from error
    else:
        made.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if certificate:
        # OpenSSL reads them from files only. This one is gone as soon as it is read.
        with tempfile.NamedTemporaryFile(prefix="k8snet-") as file:
            file.write(certificate + b"\n" + key)
            file.flush()
            try:
                made.load_cert_chain(file.name, password=_no_passphrase)
            except (OSError, ValueError) as error:
                raise KubeconfigError(
                    "the client certificate of the kubeconfig's user cannot be used",
                    found=str(error),
                    remedy="client-certificate(-data) and client-key(-data) must be PEM, belong "
                    "together, and the key must have no passphrase",
                ) from error
    return made


def _no_passphrase() -> str:
    # Without this, OpenSSL would ask for it on the terminal.
    raise ValueError("the key has a passphrase")

"""One request, one answer: HTTPS and WebSocket to one API server, without any retry.

Knows connections and bytes, not Kubernetes objects.
"""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from pytest_k8snet.cluster.credentials import Credentials
from pytest_k8snet.cluster.unreachable import explain
from pytest_k8snet.errors import ConnectError

if TYPE_CHECKING:
    from websocket import WebSocket

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

"""A scripted API server, for what a real one would never say: real HTTPS, real WebSockets.

The tests have two doubles of an API server. The lab's own API is the one for everything that a
Kubernetes API server does: over HTTPS in ``tests/lab`` and ``tests/e2e``, and its store alone
behind ``Api`` in ``tests/unit/calico/store_api.py``. This one is for the way to a cluster and its
troubles: it loses answers, sends half a frame, presents a wrong certificate. It knows no objects;
it listens on loopback and does per request just what the test says.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import ipaddress
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pytest_k8snet.lab.faults import abort

TOKEN = "secret-token"

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Script = Callable[[web.WebSocketResponse, list[str]], Awaitable[None]]


def status(code: int, reason: str, message: str) -> web.Response:
    """An error as an API server words it."""
    body = {"kind": "Status", "status": "Failure", "reason": reason, "message": message}
    return web.json_response(body | {"code": code}, status=code)


def success() -> bytes:
    """The message that ends a command of exit status 0."""
    return b"\x03" + json.dumps({"status": "Success"}).encode()


def failure(code: int) -> bytes:
    """The message that ends a command of another exit status."""
    causes = [{"reason": "ExitCode", "message": str(code)}]
    body = {
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": causes},
    }
    return b"\x03" + json.dumps(body).encode()


@dataclass
class ScriptedServer:
    """The scripted server while it runs.

    Attributes:
        port: its port on 127.0.0.1.
        seen: ``METHOD path?query`` of each request, in order.
        headers: the headers of the last request; ``header_lines`` one by one.
        clients: the common names of the client certificates, one a request that had one.
        answers: what to do for ``METHOD path``; a list is used up one by one, its last stays.
        script: what an exec does.
        protocols: the channel protocols offered.
        token: the bearer token that is accepted.
        basic_accepted: the user and password that are accepted, with a colon between.
        clients_accepted: the common names whose certificates are accepted.
    """

    authority: Authority
    port: int = 0
    seen: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    header_lines: list[tuple[str, str]] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    answers: dict[str, Handler | list[Handler]] = field(default_factory=dict)
    script: Script | None = None
    protocols: tuple[str, ...] = ("v5.channel.k8s.io", "v4.channel.k8s.io")
    token: str = TOKEN
    basic_accepted: str = ""
    clients_accepted: set[str] = field(default_factory=set)
    transports: set[asyncio.Transport] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def kubeconfig(self, directory: Path, **changes: Any) -> Path:
        """Write a kubeconfig for this server.

        ``cluster`` and ``context`` add to their entries, ``user`` replaces its entry.
        """
        cluster = {
            "server": self.url,
            "certificate-authority-data": base64.b64encode(self.authority.pem).decode(),
        } | changes.get("cluster", {})
        user = changes.get("user", {"token": TOKEN})
        context = {"cluster": "scripted", "user": "tester"} | changes.get("context", {})
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "scripted",
            "contexts": [{"name": "scripted", "context": context}],
            "clusters": [
                {"name": "scripted", "cluster": {k: v for k, v in cluster.items() if v is not None}}
            ],
            "users": [{"name": "tester", "user": user}],
        }
        path = directory / str(changes.get("name", "kubeconfig.yaml"))
        path.write_text(yaml.safe_dump(config))
        return path

    def on(self, target: str, *handlers: Handler | web.Response | dict[str, Any]) -> None:
        """Set what ``METHOD path`` answers: handlers, responses or JSON objects, in order."""
        self.answers[target] = [_handler(handler) for handler in handlers]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        self.transports.add(request.transport)
        client = ""
        if certificate := request.transport.get_extra_info("peercert"):
            client = certificate["subject"][0][0][1]
            self.clients.append(client)
        self.seen.append(f"{request.method} {request.path_qs}")
        self.header_lines = [*request.headers.items()]
        self.headers = {k.lower(): v for k, v in request.headers.items()}
        self.bodies.append(await request.read())
        # The scheme's case does not count (RFC 9110), and the client writes it either way.
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        basic = base64.b64encode(self.basic_accepted.encode()).decode()
        if (scheme.lower(), token) not in (("bearer", self.token), ("basic", basic or None)) and (
            client not in self.clients_accepted
        ):
            return status(401, "Unauthorized", "Unauthorized")
        if "watch=true" in request.query_string and f"WATCH {request.path}" not in self.answers:
            # Who may not watch polls; a script then says what each look finds.
            return status(403, "Forbidden", 'User "jane" cannot watch resource "things"')
        verb = "WATCH" if "watch=true" in request.query_string else request.method
        handler = self.answers.get(f"{verb} {request.path}")
        if isinstance(handler, list):
            handler = handler.pop(0) if len(handler) > 1 else handler[0]
        if handler is not None:
            return await handler(request)
        if request.path.endswith("/exec") and self.script is not None:
            return await self._exec(request, self.script)
        if request.path.endswith("/selfsubjectreviews"):
            return web.json_response({"status": {"userInfo": {"username": "jane"}}}, status=201)
        return status(404, "NotFound", "the server could not find the requested resource")

    async def _exec(self, request: web.BaseRequest, script: Script) -> web.WebSocketResponse:
        stream = web.WebSocketResponse(protocols=self.protocols, max_msg_size=0)
        await stream.prepare(request)
        await script(stream, request.query.getall("command"))
        await stream.close()
        return stream


def _handler(value: Handler | web.Response | dict[str, Any]) -> Handler:
    if isinstance(value, dict):
        return lambda _request: _json(value)
    if isinstance(value, web.Response):
        text, code, headers = value.body, value.status, value.headers.copy()
        return lambda _request: _response(text, code, headers)
    return value


async def _json(value: dict[str, Any]) -> web.Response:
    return web.json_response(value)


async def _response(body: Any, code: int, headers: Any) -> web.Response:
    return web.Response(body=body, status=code, headers=headers)


async def cut_off(request: web.BaseRequest) -> web.StreamResponse:
    """Close the connection instead of answering."""
    abort(request.transport)
    return web.Response()


@contextmanager
def running(
    authority: Authority | None = None, *, names: tuple[str, ...] = ("127.0.0.1",), days: int = 1
) -> Generator[ScriptedServer]:
    """Run a server in a thread of its own until the block ends."""
    authority = authority or default_authority()
    api = ScriptedServer(authority)
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        runner = web.ServerRunner(web.Server(api.handle), shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.server_tls(names, days))
        await site.start()
        assert site._server is not None
        api.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        ready.set()
        await stop.wait()
        # A polite end of TLS would wait for clients that have nothing more to say.
        for transport in api.transports:
            abort(transport)
        await runner.cleanup()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield api
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive()


class Authority:
    """A certificate authority of its own."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), days=2, authority=True)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, names: tuple[str, ...] = (), days: int = 1) -> tuple[bytes, bytes]:
        """A certificate and its key, both PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), days=days, names=names)
        return (
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def server_tls(self, names: tuple[str, ...], days: int) -> ssl.SSLContext:
        import tempfile

        certificate, key = self.issue("server", names, days)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.pem.decode())
        with tempfile.NamedTemporaryFile() as file:
            file.write(certificate + key)
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def _sign(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        *,
        days: int,
        names: tuple[str, ...] = (),
        authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        end = now + datetime.timedelta(days=days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, end) - datetime.timedelta(days=1))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=False)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@cache
def default_authority() -> Authority:
    return Authority("scripted authority")

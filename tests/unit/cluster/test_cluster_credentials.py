"""Credentials that change while a run lasts: certificates of plugins, tokens, files."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from scripted_server import (
    TOKEN,
    Authority,
    ScriptedServer,
    default_authority,
    success,
)

from pytest_k8snet.cluster.api import connect
from pytest_k8snet.cluster.credentials import REREAD_SECONDS, Credentials, Login
from pytest_k8snet.errors import ConnectError, KubeconfigError, UnauthorizedError

pytest_plugins = ["scripted_server_fixtures"]

VERSION = {"gitVersion": "v1.32.0"}
V1 = "client.authentication.k8s.io/v1"


class Plugin:
    """An exec credential plugin that gives what a file holds, and logs when it is asked."""

    def __init__(self, directory: Path) -> None:
        self._answer, self._log = directory / "answer", directory / "asked"
        self._path = directory / "plugin"
        self._path.write_text(
            f"#!/bin/sh\necho asked >> {self._log}\ncat {self._answer} || exit 1\n"
        )
        self._path.chmod(0o700)
        self._log.write_text("")

    @property
    def asked(self) -> int:
        return len(self._log.read_text().split())

    @property
    def user(self) -> dict[str, Any]:
        plugin = {"apiVersion": V1, "command": str(self._path), "interactiveMode": "Never"}
        return {"exec": plugin}

    def gives(self, authority: Authority | None = None, name: str = "", **status: Any) -> None:
        """Give a certificate for a name, and whatever else the status shall hold."""
        if authority is not None:
            certificate, key = authority.issue(name)
            status |= {
                "clientCertificateData": certificate.decode(),
                "clientKeyData": key.decode(),
            }
        answer = {"apiVersion": V1, "kind": "ExecCredential", "status": status}
        self._answer.write_text(json.dumps(answer))

    def fails(self) -> None:
        self._answer.unlink()


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path)


async def _succeed(stream: web.WebSocketResponse, _argv: list[str]) -> None:
    await stream.send_bytes(success())


# -- Certificates of plugins -----------------------------------------------------------------------


def test_a_renewed_certificate_is_shown_by_requests_and_by_exec(
    server: ScriptedServer, tmp_path: Path, plugin: Plugin
) -> None:
    plugin.gives(default_authority(), "first")
    server.clients_accepted = {"first"}
    server.on("GET /version", VERSION)
    api = connect(kubeconfig=server.kubeconfig(tmp_path, user=plugin.user))
    plugin.gives(default_authority(), "second")
    server.clients_accepted = {"second"}
    server.clients.clear()
    assert api.get("/version") == VERSION
    server.script = _succeed
    assert api.exec("x", "a", ["true"]).exit_code == 0
    assert server.clients == ["first", "second", "second"]
    assert plugin.asked == 2


def test_an_exec_that_is_refused_renews_the_certificate_as_well(
    server: ScriptedServer, tmp_path: Path, plugin: Plugin
) -> None:
    plugin.gives(default_authority(), "first")
    server.clients_accepted = {"first"}
    server.script = _succeed
    api = connect(kubeconfig=server.kubeconfig(tmp_path, user=plugin.user))
    plugin.gives(default_authority(), "second")
    server.clients_accepted = {"second"}
    assert api.exec("x", "a", ["true"]).exit_code == 0


@contextmanager
def _strict_server(authority: Authority) -> Generator[str]:
    """A server that ends the handshake with whoever has no certificate of the authority."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            certificate: Any = self.connection.getpeercert()
            body = json.dumps({"client": certificate["subject"][0][0][1]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            return

    tls = authority.server_tls(("127.0.0.1",), 1)
    tls.verify_mode = ssl.CERT_REQUIRED
    # In TLS 1.3 the alert comes after the handshake, and may be lost with the connection.
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(10)


def test_a_certificate_that_the_handshake_refuses_is_renewed(
    server: ScriptedServer, tmp_path: Path, plugin: Plugin
) -> None:
    with _strict_server(default_authority()) as url:
        path = server.kubeconfig(tmp_path, user=plugin.user, cluster={"server": url})
        plugin.gives(Authority("another authority"), "stranger")
        with pytest.raises(ConnectError, match="ends the TLS handshake"):
            connect(kubeconfig=path)
        plugin.gives(default_authority(), "first", expirationTimestamp="2020-01-01T00:00:00Z")
        api = connect(kubeconfig=path)
        assert api.get("/version") == {"client": "first"}
        plugin.gives(Authority("another authority"), "stranger")
        # The first has expired.
        api._client._credentials._due = 0.0
        with pytest.raises(ConnectError, match="ends the TLS handshake"):
            api.get("/version")
        plugin.gives(default_authority(), "second")
        assert api.get("/version") == {"client": "second"}


def test_half_a_certificate_is_the_plugins_failure(
    server: ScriptedServer, tmp_path: Path, plugin: Plugin
) -> None:
    plugin.gives(clientCertificateData="PEM")
    with pytest.raises(KubeconfigError, match=r"the credential plugin .* failed") as caught:
        connect(kubeconfig=server.kubeconfig(tmp_path, user=plugin.user))
    assert caught.value.found == "it gave only one of clientCertificateData and clientKeyData"


# -- Tokens of plugins -----------------------------------------------------------------------------


def test_a_401_asks_the_plugin_once_more(
    server: ScriptedServer, tmp_path: Path, plugin: Plugin
) -> None:
    plugin.gives(token=TOKEN)
    server.on("GET /version", VERSION)
    api = connect(kubeconfig=server.kubeconfig(tmp_path, user=plugin.user))
    plugin.gives(token="newer")
    server.token = "newer"
    for _ in range(3):
        assert api.get("/version") == VERSION
    assert plugin.asked == 2
    server.token = "revoked"
    with pytest.raises(UnauthorizedError):
        api.get("/version")
    assert plugin.asked == 3


def test_a_token_is_renewed_before_it_expires_and_without_a_401(
    server: ScriptedServer, tmp_path: Path, plugin: Plugin
) -> None:
    def stamp(seconds: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))

    plugin.gives(token=TOKEN, expirationTimestamp=stamp(3600))
    server.on("GET /version", VERSION)
    api = connect(kubeconfig=server.kubeconfig(tmp_path, user=plugin.user))
    clock = time.time()
    # A run takes two hours, a test may not.
    api._client._credentials._clock = lambda: clock
    plugin.gives(token="newer", expirationTimestamp=stamp(7200))
    server.token = "newer"
    clock += 3580
    server.token = TOKEN
    assert api.get("/version") == VERSION
    assert plugin.asked == 1
    clock += 15
    server.token = "newer"
    server.seen.clear()
    assert api.get("/version") == VERSION
    assert (plugin.asked, len(server.seen)) == (2, 1)


def test_a_session_that_ends_during_a_run_is_told_as_such(
    server: ScriptedServer, tmp_path: Path, plugin: Plugin
) -> None:
    plugin.gives(token=TOKEN)
    api = connect(kubeconfig=server.kubeconfig(tmp_path, user=plugin.user))
    server.token = "newer"
    plugin.fails()
    with pytest.raises(KubeconfigError, match=r"the credential plugin .* failed") as caught:
        api.get("/version")
    assert "exit status 1; cat: " in caught.value.found


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("token: x", "its output is no JSON"),
        ('{"kind": "Status"}', "its output is no ExecCredential"),
        (
            '{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1beta1"}',
            "it speaks client.authentication.k8s.io/v1beta1, and "
            "client.authentication.k8s.io/v1 was asked for",
        ),
        (f'{{"kind": "ExecCredential", "apiVersion": "{V1}", "status": null}}', "it gave neither"),
        (
            f'{{"kind": "ExecCredential", "apiVersion": "{V1}", "status": '
            '{"token": "s3cret", "expirationTimestamp": "soon"}}',
            "its expirationTimestamp is 'soon'",
        ),
        (
            f'{{"kind": "ExecCredential", "apiVersion": "{V1}", "status": '
            '{"token": ["s3cret"]}}',
            "its token is no text",
        ),
    ],
)
def test_an_answer_that_is_no_credential_is_explained_without_its_secrets(
    server: ScriptedServer, tmp_path: Path, plugin: Plugin, answer: str, found: str
) -> None:
    (tmp_path / "answer").write_text(answer)
    with pytest.raises(KubeconfigError) as caught:
        connect(kubeconfig=server.kubeconfig(tmp_path, user=plugin.user))
    assert caught.value.found.startswith(found)
    assert "s3cret" not in str(caught.value)


def test_a_plugin_is_told_of_the_cluster_as_by_kubectl(
    server: ScriptedServer, tmp_path: Path, plugin: Plugin
) -> None:
    plugin.gives(token=TOKEN)
    told = tmp_path / "told"
    asks = tmp_path / "asks"
    asks.write_text(f'#!/bin/sh\necho "$KUBERNETES_EXEC_INFO" > {told}\nexec {tmp_path}/plugin\n')
    asks.chmod(0o700)
    user = {"exec": plugin.user["exec"] | {"command": "./asks", "provideClusterInfo": True}}
    cluster = {
        "tls-server-name": "127.0.0.1",
        "extensions": [
            {"name": "minikube", "extension": {"version": "1"}},
            {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}},
        ],
    }
    connect(kubeconfig=server.kubeconfig(tmp_path, user=user, cluster=cluster))
    assert json.loads(told.read_text()) == {
        "apiVersion": V1,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": server.url,
                "tls-server-name": "127.0.0.1",
                "certificate-authority-data": base64.b64encode(server.authority.pem).decode(),
                "config": {"audience": "a"},
            },
        },
    }


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"interactiveMode": "Sometimes"}, "interactiveMode: Sometimes"),
        ({"interactiveMode": None}, "interactiveMode: missing"),
        ({"command": ""}, "command: missing"),
        ({"apiVersion": None}, "apiVersion: missing"),
    ],
)
def test_a_plugin_that_is_not_described_whole_is_refused(
    server: ScriptedServer, tmp_path: Path, plugin: Plugin, change: dict[str, Any], found: str
) -> None:
    user = {"exec": plugin.user["exec"] | change}
    with pytest.raises(KubeconfigError, match="the credential plugin of user") as caught:
        connect(kubeconfig=server.kubeconfig(tmp_path, user=user))
    assert caught.value.found == found
    assert plugin.asked == 0


def test_a_plugin_that_waits_for_somebody_is_given_up(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two minutes in earnest: a login in a browser takes a while.
    monkeypatch.setattr("pytest_k8snet.cluster.credentials.PLUGIN_SECONDS", 0.2)
    plugin = {"apiVersion": V1, "command": "sleep", "args": ["60"], "interactiveMode": "Never"}
    with pytest.raises(KubeconfigError) as caught:
        connect(kubeconfig=server.kubeconfig(tmp_path, user={"exec": plugin}))
    assert caught.value.found == "it gave nothing within 0.2 s"


# -- Files -----------------------------------------------------------------------------------------


def test_a_token_file_is_read_again_in_time(tmp_path: Path) -> None:
    now, held = 1000.0, ["first"]
    kept = Credentials(
        lambda: Login(headers=(("Authorization", held[0]),)), changeable=True, clock=lambda: now
    )
    first = kept.current()
    held[0] = "second"
    now += REREAD_SECONDS - 1
    assert kept.current() is first
    now += 1
    assert kept.current().headers == (("Authorization", "second"),)


def test_a_file_that_is_gone_for_a_moment_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    now = 1000.0

    def load() -> Login:
        try:
            return Login(headers=(("Authorization", path.read_text()),))
        except OSError as error:
            raise KubeconfigError("gone") from error

    kept = Credentials(load, changeable=True, clock=lambda: now)
    first = kept.current()
    path.unlink()
    now += REREAD_SECONDS
    assert kept.current() is first
    path.write_text("second")
    now += REREAD_SECONDS
    assert kept.current().headers == (("Authorization", "second"),)


def test_what_has_expired_is_not_used_when_nothing_newer_comes() -> None:
    now, fine = 1000.0, True

    def load() -> Login:
        if not fine:
            raise KubeconfigError("the session has ended")
        return Login(headers=(("Authorization", "a"),), expires=1060.0)

    kept = Credentials(load, changeable=False, clock=lambda: now)
    kept.current()
    fine = False
    now = 1055.0
    assert kept.current().headers
    now = 1061.0
    with pytest.raises(KubeconfigError, match="the session has ended"):
        kept.current()


def test_a_login_that_rewrites_the_kubeconfig_is_picked_up(
    server: ScriptedServer, tmp_path: Path
) -> None:
    path = server.kubeconfig(tmp_path)
    server.on("GET /version", VERSION)
    api = connect(kubeconfig=path)
    server.token = "newer"
    server.kubeconfig(tmp_path, user={"token": "newer"})
    assert api.get("/version") == VERSION


def test_whoever_is_impersonated_stays_so_whatever_becomes_of_the_file(
    server: ScriptedServer, tmp_path: Path
) -> None:
    api = connect(kubeconfig=server.kubeconfig(tmp_path, user={"token": TOKEN, "as": "auditor"}))
    server.on("GET /version", VERSION)
    server.token = "newer"
    server.kubeconfig(tmp_path, user={"token": "newer"})
    assert api.get("/version") == VERSION
    assert server.headers["impersonate-user"] == "auditor"


def _id_token(expires: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).decode().rstrip("=")
    return f"e30.{claims}.signature"


def test_an_id_token_is_used_while_it_lasts(server: ScriptedServer, tmp_path: Path) -> None:
    server.token = _id_token(time.time() + 3600)
    user = {"auth-provider": {"name": "oidc", "config": {"id-token": server.token}}}
    api = connect(kubeconfig=server.kubeconfig(tmp_path, user=user))
    server.on("GET /version", VERSION)
    # kubectl has renewed it in the file.
    server.token = _id_token(time.time() + 7200)
    user["auth-provider"]["config"] = {"id-token": server.token}
    server.kubeconfig(tmp_path, user=user)
    assert api.get("/version") == VERSION


def test_no_secret_shows_in_a_traceback() -> None:
    login = Login(headers=(("Authorization", "Bearer s3cret"),), key=b"s3cret")
    assert "s3cret" not in repr(login)

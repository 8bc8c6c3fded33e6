"""Connecting: from a kubeconfig to an API that has answered, and each way that this goes wrong."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from aiohttp import web
from scripted_server import (
    TOKEN,
    Authority,
    ScriptedServer,
    default_authority,
    running,
    status,
    success,
)

from pytest_k8snet.cluster import credentials
from pytest_k8snet.cluster.api import connect
from pytest_k8snet.cluster.http import Server, tls_context
from pytest_k8snet.errors import ConnectError, KubeconfigError, UnauthorizedError

pytest_plugins = ["scripted_server_fixtures"]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever this machine has configured must not decide these tests."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_a_kubeconfig_leads_to_an_api_that_knows_its_user(
    server: ScriptedServer, tmp_path: Path
) -> None:
    api = connect(kubeconfig=server.kubeconfig(tmp_path))
    assert (api.host, api.context, api.user) == (server.url, "scripted", "jane")
    assert server.headers["authorization"] == f"Bearer {TOKEN}"
    assert server.headers["user-agent"].startswith("pytest-k8snet/")


def test_a_server_that_does_not_tell_the_user_is_asked_for_its_version(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.on(
        "POST /apis/authentication.k8s.io/v1/selfsubjectreviews",
        status(404, "NotFound", "the server could not find the requested resource"),
    )
    server.on("GET /version", {"gitVersion": "v1.25.0"})
    assert connect(kubeconfig=server.kubeconfig(tmp_path)).user == "tester"


def test_kubeconfig_variable_is_read_at_call_time_and_merged(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("contexts: [{name: far, context: {cluster: gone, user: x}}]")
    mine = server.kubeconfig(tmp_path)
    monkeypatch.setenv("KUBECONFIG", f"{other}{os.pathsep}{tmp_path / 'no'}{os.pathsep}{mine}")
    assert connect().context == "scripted"


def test_the_default_file_is_found_in_the_home_directory(
    server: ScriptedServer, tmp_path: Path
) -> None:
    directory = tmp_path / "home" / ".kube"
    directory.mkdir(parents=True)
    server.kubeconfig(directory, name="config")
    assert connect().context == "scripted"


def test_keys_from_the_kubeconfig_do_not_stay_on_disk(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "tmp"
    private.mkdir()
    # Where certificate and key have to lie for OpenSSL to read them.
    monkeypatch.setattr("tempfile.tempdir", str(private))
    certificate, key = default_authority().issue("jane")
    user = {
        "token": TOKEN,
        "client-certificate-data": base64.b64encode(certificate).decode(),
        "client-key-data": base64.b64encode(key).decode(),
    }
    path = server.kubeconfig(tmp_path, user=user)
    for _ in range(2):
        api = connect(kubeconfig=path)
        server.on("GET /version", {"gitVersion": "v1.32.0"})
        assert api.get("/version") == {"gitVersion": "v1.32.0"}
    assert list(private.iterdir()) == []


def test_a_client_certificate_is_shown_by_requests_and_by_exec(
    server: ScriptedServer, tmp_path: Path
) -> None:
    certificate, key = default_authority().issue("jane")
    (tmp_path / "jane.crt").write_bytes(certificate)
    (tmp_path / "jane.key").write_bytes(key)
    # Relative paths count from the kubeconfig's directory.
    user = {"token": TOKEN, "client-certificate": "jane.crt", "client-key": "jane.key"}
    api = connect(kubeconfig=server.kubeconfig(tmp_path, user=user))
    server.script = _succeed
    assert api.exec("x", "a", ["true"]).exit_code == 0
    assert server.clients == ["jane", "jane"]


def test_a_missing_certificate_file_is_named(server: ScriptedServer, tmp_path: Path) -> None:
    user = {"client-certificate": "gone.crt", "client-key": "gone.key"}
    with pytest.raises(KubeconfigError) as caught:
        connect(kubeconfig=server.kubeconfig(tmp_path, user=user))
    assert caught.value.problem == (
        'the file that client-certificate of user "tester" of '
        f"{tmp_path / 'kubeconfig.yaml'} names cannot be read"
    )
    assert "gone.crt" in caught.value.found


async def _succeed(stream: web.WebSocketResponse, _argv: list[str]) -> None:
    await stream.send_bytes(success())


def test_no_kubeconfig_at_all_names_what_was_looked_at(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError) as caught:
        connect()
    assert str(caught.value) == (
        "there is no kubeconfig, so no cluster to test\n"
        "  found: no --k8snet-kubeconfig, KUBECONFIG is not set, no ~/.kube/config "
        f"(HOME={tmp_path / 'home'}), and this is no pod (KUBERNETES_SERVICE_HOST is not set)\n"
        "  to do: give --k8snet-kubeconfig=FILE or set KUBECONFIG (several files: joined by ':'); "
        "without a cluster, --k8snet-lab starts one"
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match=r"the kubeconfig .*/absent\.yaml does not exist"):
        connect(kubeconfig=tmp_path / "absent.yaml")


def test_a_variable_that_names_only_missing_files_is_quoted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/absent/a:/absent/b")
    with pytest.raises(KubeconfigError, match="no file that KUBECONFIG names exists") as caught:
        connect()
    assert caught.value.found == "KUBECONFIG=/absent/a:/absent/b"


@pytest.mark.parametrize(
    ("text", "problem", "found"),
    [
        ("a: [1", "is not valid YAML", "expected ',' or ']'"),
        ("", "is not a kubeconfig", "the file is empty"),
        ("- 1", "is not a kubeconfig", "a YAML list"),
        ("contexts: 3", "is not a kubeconfig", "contexts is not a list"),
        ("contexts: [{context: {}}]", "is not a kubeconfig", "contexts is not a list of entries"),
        ("contexts: []", "has no contexts", ""),
        ("contexts: [{name: a}, {name: b}]", "has no current-context", "contexts: a, b"),
        (
            "current-context: c\ncontexts: [{name: a}, {name: b}]",
            'has no context "c"',
            "contexts: a, b",
        ),
        (
            "current-context: a\ncontexts: [{name: a, context: {cluster: x}}]",
            'names the cluster "x", which is not there',
            "clusters: none",
        ),
        (
            "current-context: a\ncontexts: [{name: a, context: {cluster: x, user: u}}]\n"
            "clusters: [{name: x, cluster: {server: 'https://h'}}]\nusers: [{name: v}]",
            'names the user "u", which is not there',
            "users: v",
        ),
        (
            "current-context: a\ncontexts: [{name: a, context: {cluster: x}}]\n"
            "clusters: [{name: x, cluster: {server: 'h:6443'}}]",
            'cluster "x" of .* has no usable server',
            "server: h:6443",
        ),
    ],
)
def test_a_kubeconfig_that_makes_no_sense_is_explained(
    tmp_path: Path, text: str, problem: str, found: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(KubeconfigError, match=problem) as caught:
        connect(kubeconfig=path)
    assert str(path) in caught.value.problem
    assert found in caught.value.found
    assert caught.value.remedy


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="cannot be read"):
        connect(kubeconfig=tmp_path)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(KubeconfigError, match="binary cannot be read"):
        connect(kubeconfig=binary)


def test_an_unknown_context_lists_the_known_ones(server: ScriptedServer, tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match='has no context "prod"') as caught:
        connect(kubeconfig=server.kubeconfig(tmp_path), context="prod")
    assert caught.value.found == "contexts: scripted"


def test_a_broken_authority_is_told_from_a_wrong_one(
    server: ScriptedServer, tmp_path: Path
) -> None:
    broken = {"certificate-authority-data": base64.b64encode(b"no PEM").decode()}
    with pytest.raises(KubeconfigError, match=r"certificate authority .* cannot be used"):
        connect(kubeconfig=server.kubeconfig(tmp_path, cluster=broken))


def test_credentials_that_are_not_accepted(server: ScriptedServer, tmp_path: Path) -> None:
    with pytest.raises(UnauthorizedError) as caught:
        connect(kubeconfig=server.kubeconfig(tmp_path, user={"token": "stale"}))
    assert caught.value.problem == (
        'the API server does not accept the credentials of user "tester"'
    )
    assert "log in again or renew" in caught.value.remedy


def _plugin(directory: Path, text: str) -> str:
    path = directory / "plugin"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def _exec_user(command: str, **more: str) -> dict[str, object]:
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": command,
            "interactiveMode": "Never",
            **more,
        }
    }


_CREDENTIAL = (
    '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", '
    '"status": {"token": "%s"%s}}'
)


def test_a_credential_plugin_gives_the_token(server: ScriptedServer, tmp_path: Path) -> None:
    command = _plugin(tmp_path, f"echo '{_CREDENTIAL % (TOKEN, '')}'")
    assert connect(kubeconfig=server.kubeconfig(tmp_path, user=_exec_user(command))).user == "jane"


def test_a_plugin_is_not_run_for_each_request(server: ScriptedServer, tmp_path: Path) -> None:
    soon = ', "expirationTimestamp": "$(date -u -d +60seconds +%Y-%m-%dT%H:%M:%SZ)"'
    credential = (_CREDENTIAL % (TOKEN, soon)).replace('"', r"\"")
    log = tmp_path / "runs"
    command = _plugin(tmp_path, f'echo run >> {log}\necho "{credential}"')
    api = connect(kubeconfig=server.kubeconfig(tmp_path, user=_exec_user(command)))
    server.on("GET /version", {"gitVersion": "v1.32.0"})
    for _ in range(5):
        api.get("/version")
    assert len(log.read_text().split()) <= 2


def test_a_refused_token_is_renewed_once(server: ScriptedServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    api = connect(kubeconfig=server.kubeconfig(tmp_path, user={"tokenFile": str(token)}))
    server.on("GET /version", {"gitVersion": "v1.32.0"})
    server.token = "rotated"
    token.write_text("rotated")
    assert api.get("/version") == {"gitVersion": "v1.32.0"}
    server.token = "revoked"
    before = len(server.seen)
    with pytest.raises(UnauthorizedError):
        api.get("/version")
    assert len(server.seen) == before + 1


def test_a_failing_plugin_speaks_for_itself(server: ScriptedServer, tmp_path: Path) -> None:
    command = _plugin(tmp_path, "echo 'your session has ended' >&2\nexit 3")
    user = _exec_user(command, installHint="run: corp-login")
    with pytest.raises(KubeconfigError) as caught:
        connect(kubeconfig=server.kubeconfig(tmp_path, user=user))
    assert caught.value.problem == f'the credential plugin "{command}" of user "tester" failed'
    assert "your session has ended" in caught.value.found
    assert caught.value.remedy == "run: corp-login"
    assert server.seen == []


def test_a_missing_plugin_is_named(server: ScriptedServer, tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError) as caught:
        connect(kubeconfig=server.kubeconfig(tmp_path, user=_exec_user("no-such-plugin")))
    assert "No such file or directory: 'no-such-plugin'" in caught.value.found


def test_a_refused_connection_says_where_to(server: ScriptedServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    url = f"https://127.0.0.1:{port}"
    with pytest.raises(
        ConnectError, match=f"the API server {url} refuses the connection"
    ) as caught:
        connect(kubeconfig=server.kubeconfig(tmp_path, cluster={"server": url}))
    assert "Connection refused" in caught.value.found


def test_a_name_that_does_not_resolve(server: ScriptedServer, tmp_path: Path) -> None:
    url = "https://api.nowhere.invalid:6443"
    with pytest.raises(ConnectError, match=r"api.nowhere.invalid:6443 cannot be resolved"):
        connect(kubeconfig=server.kubeconfig(tmp_path, cluster={"server": url}))


def test_a_silent_server_is_given_up(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limits are there to bound a wait; the test need not wait that long.
    monkeypatch.setattr("pytest_k8snet.cluster.http.CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectError, match=r"(cannot be reached|did not answer in time)"):
            connect(kubeconfig=server.kubeconfig(tmp_path, cluster={"server": url}))


def test_an_unknown_authority_is_not_trusted(server: ScriptedServer, tmp_path: Path) -> None:
    other = base64.b64encode(Authority("another authority").pem).decode()
    path = server.kubeconfig(tmp_path, cluster={"certificate-authority-data": other})
    with pytest.raises(ConnectError, match=r"certificate .* is not trusted") as caught:
        connect(kubeconfig=path)
    assert "self-signed certificate in certificate chain" in caught.value.found
    assert "is not the authority that signed it" in caught.value.remedy


def test_a_certificate_for_other_names(tmp_path: Path) -> None:
    with running(names=("api.example.com",)) as server:
        path = server.kubeconfig(tmp_path)
        with pytest.raises(ConnectError, match="is not trusted") as caught:
            connect(kubeconfig=path)
        assert "tls-server-name" in caught.value.remedy
        named = {"tls-server-name": "api.example.com"}
        assert connect(kubeconfig=server.kubeconfig(tmp_path, cluster=named)).user == "jane"


def test_an_expired_certificate(tmp_path: Path) -> None:
    with (
        running(days=-1) as server,
        pytest.raises(ConnectError, match="is not trusted") as caught,
    ):
        connect(kubeconfig=server.kubeconfig(tmp_path))
    assert "certificate has expired" in caught.value.found
    assert "clock" in caught.value.remedy


def test_verification_can_be_switched_off_by_the_kubeconfig(tmp_path: Path) -> None:
    with running(names=("elsewhere.example",)) as server:
        loose = {"certificate-authority-data": None, "insecure-skip-tls-verify": True}
        path = server.kubeconfig(tmp_path, cluster=loose)
        assert connect(kubeconfig=path).user == "jane"


def test_a_port_without_tls(server: ScriptedServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.recv(1)
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{plain.getsockname()[1]}"
        with pytest.raises(ConnectError, match="cannot be spoken to by TLS") as caught:
            connect(kubeconfig=server.kubeconfig(tmp_path, cluster={"server": url}))
        thread.join(5)
    assert "plain HTTP" in caught.value.remedy


def test_something_else_than_an_api_server(server: ScriptedServer, tmp_path: Path) -> None:
    page = web.Response(text="<html>Please log in</html>", content_type="text/html")
    server.on("POST /apis/authentication.k8s.io/v1/selfsubjectreviews", page)
    with pytest.raises(ConnectError, match="does not answer like a Kubernetes API") as caught:
        connect(kubeconfig=server.kubeconfig(tmp_path))
    assert caught.value.found == "<html>Please log in</html>"


def test_in_a_pod_its_service_account_leads_to_the_api_also_with_a_newer_token(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "ca.crt").write_bytes(server.authority.pem)
    # A pod has these files below /var/run, which is not the test's to write.
    monkeypatch.setattr(credentials, "SERVICE_ACCOUNT", tmp_path)
    api = connect()
    assert (api.host, api.user) == (server.url, "jane")
    # The kubelet rotates the token while the pod runs.
    server.token = "rotated"
    (tmp_path / "token").write_text("rotated")
    server.on("GET /version", {"gitVersion": "v1.32.0"})
    assert api.get("/version") == {"gitVersion": "v1.32.0"}


def test_in_a_pod_without_a_token_the_service_account_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(KubeconfigError, match="service account cannot be used"):
        connect()
    with pytest.raises(KubeconfigError, match='there is no context "prod": this is a pod'):
        connect(context="prod")


def test_tls_of_real_clusters_is_accepted_on_every_python() -> None:
    made = tls_context(Server(url="https://10.0.0.1:6443"), b"", b"")
    assert not made.verify_flags & ssl.VERIFY_X509_STRICT
    assert made.verify_mode == ssl.CERT_REQUIRED
    assert made.check_hostname

"""Every field of a kubeconfig is honoured, has no effect by nature, or is refused by its name."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from scripted_server import TOKEN, ScriptedServer, default_authority, success

from pytest_k8snet.cluster.api import connect
from pytest_k8snet.cluster.kubeconfig import FIELDS, secrets_and_names
from pytest_k8snet.errors import KubeconfigError

pytest_plugins = ["scripted_server_fixtures"]

Change = Callable[[ScriptedServer, Path], dict[str, Any]]


async def _succeed(stream: web.WebSocketResponse, _argv: list[str]) -> None:
    await stream.send_bytes(success())


def _write(directory: Path, name: str, content: bytes | str) -> str:
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o700)
    return name


def _certificate(directory: Path, *, data: bool) -> dict[str, str]:
    certificate, key = default_authority().issue("jane")
    if data:
        return {
            "client-certificate-data": base64.b64encode(certificate).decode(),
            "client-key-data": base64.b64encode(key).decode(),
        }
    return {
        "client-certificate": _write(directory, "jane.crt", certificate),
        "client-key": _write(directory, "jane.key", key),
    }


def _plugin(directory: Path, check: str = "true", **more: Any) -> dict[str, Any]:
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": TOKEN},
    }
    script = f"#!/bin/sh\n{check} || exit 9\necho '{json.dumps(credential)}'\n"
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": f"./{_write(directory, 'plugin', script)}",
        "interactiveMode": "Never",
    }
    return {"user": {"exec": plugin | more}}


#: For each field a kubeconfig that connects only if the field is honoured, or the words by which
#: it is refused. ``None`` for what has no effect here: it must not be in the way.
CASES: dict[str, Change | str] = {
    "cluster.server": lambda server, d: {"cluster": {"server": server.url + "/"}},
    "cluster.tls-server-name": "not valid for 'elsewhere.example'",
    "cluster.insecure-skip-tls-verify": lambda server, d: {
        "cluster": {"certificate-authority-data": None, "insecure-skip-tls-verify": True}
    },
    "cluster.certificate-authority": lambda server, d: {
        "cluster": {
            "certificate-authority-data": None,
            "certificate-authority": _write(d, "ca.crt", server.authority.pem),
        }
    },
    "cluster.certificate-authority-data": lambda server, d: {},
    "cluster.proxy-url": "through the proxy http://127.0.0.1:1",
    "cluster.disable-compression": lambda server, d: {"cluster": {"disable-compression": True}},
    "cluster.extensions": lambda server, d: {"cluster": {"extensions": [{"name": "minikube"}]}},
    "user.client-certificate": lambda server, d: {"user": _certificate(d, data=False)},
    "user.client-certificate-data": lambda server, d: {"user": _certificate(d, data=True)},
    "user.client-key": lambda server, d: {"user": _certificate(d, data=False)},
    "user.client-key-data": lambda server, d: {"user": _certificate(d, data=True)},
    "user.token": lambda server, d: {"user": {"token": TOKEN}},
    "user.tokenFile": lambda server, d: {"user": {"tokenFile": _write(d, "token", TOKEN + "\n")}},
    "user.as": lambda server, d: {"user": {"token": TOKEN, "as": "deploy-bot"}},
    "user.as-uid": lambda server, d: {"user": {"token": TOKEN, "as": "a", "as-uid": "u-1"}},
    "user.as-groups": lambda server, d: {"user": {"token": TOKEN, "as": "a", "as-groups": ["g"]}},
    "user.as-user-extra": lambda server, d: {
        "user": {"token": TOKEN, "as": "a", "as-user-extra": {"reason": ["ticket"]}}
    },
    "user.username": lambda server, d: {"user": {"username": "u", "password": "p"}},
    "user.password": lambda server, d: {"user": {"username": "u", "password": "p"}},
    "user.auth-provider": 'the auth-provider "gcp" of user "tester"',
    "user.exec": lambda server, d: _plugin(d),
    "user.extensions": lambda server, d: {"user": {"token": TOKEN, "extensions": []}},
    "context.cluster": lambda server, d: {},
    "context.user": lambda server, d: {},
    "context.namespace": lambda server, d: {"context": {"namespace": "team-a"}},
    "context.extensions": lambda server, d: {"context": {"extensions": []}},
    "exec.command": lambda server, d: _plugin(d),
    "exec.args": lambda server, d: _plugin(
        d, '[ "$1 $2" = "get --token" ]', args=["get", "--token"]
    ),
    "exec.env": lambda server, d: _plugin(d, '[ "$A" = b ]', env=[{"name": "A", "value": "b"}]),
    "exec.apiVersion": "found: apiVersion: client.authentication.k8s.io/v1alpha1",
    "exec.installHint": "to do: brew install it",
    "exec.provideClusterInfo": lambda server, d: _plugin(
        d, f'echo "$KUBERNETES_EXEC_INFO" | grep -q {server.url}', provideClusterInfo=True
    ),
    "exec.interactiveMode": "here is no terminal to ask on",
    "auth-provider.name": 'the auth-provider "gcp" of user "tester"',
    "auth-provider.config": 'the id-token of user "tester" of .* has expired',
}
EXPIRED = "e30." + base64.urlsafe_b64encode(b'{"exp": 1}').decode().rstrip("=") + ".x"
#: The kubeconfigs of those that are refused, or fail as they say.
REFUSED: dict[str, Change] = {
    "cluster.tls-server-name": lambda server, d: {
        "cluster": {"tls-server-name": "elsewhere.example"}
    },
    "cluster.proxy-url": lambda server, d: {"cluster": {"proxy-url": "http://127.0.0.1:1"}},
    "user.auth-provider": lambda server, d: {"user": {"auth-provider": {"name": "gcp"}}},
    "exec.apiVersion": lambda server, d: _plugin(
        d, apiVersion="client.authentication.k8s.io/v1alpha1"
    ),
    "exec.installHint": lambda server, d: _plugin(d, "false", installHint="brew install it"),
    "exec.interactiveMode": lambda server, d: _plugin(d, interactiveMode="Always"),
    "auth-provider.name": lambda server, d: {"user": {"auth-provider": {"name": "gcp"}}},
    "auth-provider.config": lambda server, d: {
        "user": {"auth-provider": {"name": "oidc", "config": {"id-token": EXPIRED}}}
    },
}
#: What the server sees, for the fields by which it knows the user.
SEEN: dict[str, dict[str, str]] = {
    "user.as": {"impersonate-user": "deploy-bot"},
    "user.as-uid": {"impersonate-uid": "u-1"},
    "user.as-groups": {"impersonate-group": "g"},
    "user.as-user-extra": {"impersonate-extra-reason": "ticket"},
    "user.username": {"authorization": "Basic dTpw"},
    "user.password": {"authorization": "Basic dTpw"},
}


def test_every_field_of_client_go_has_a_case() -> None:
    fields = {f"{kind}.{name}" for kind, names in FIELDS.items() for name in names}
    assert set(CASES) == fields


@pytest.mark.parametrize("field", CASES)
def test_a_field_is_honoured_or_refused_by_name(
    server: ScriptedServer, tmp_path: Path, field: str
) -> None:
    case = CASES[field]
    server.clients_accepted = {"jane"}
    server.basic_accepted = "u:p"
    if isinstance(case, str):
        with pytest.raises(Exception, match=case):
            connect(kubeconfig=server.kubeconfig(tmp_path, **REFUSED[field](server, tmp_path)))
        return
    api = connect(kubeconfig=server.kubeconfig(tmp_path, **case(server, tmp_path)))
    server.script = _succeed
    wanted = SEEN.get(field, {}).items()
    assert wanted <= server.headers.items()
    assert api.exec("x", "a", ["true"]).exit_code == 0
    assert wanted <= server.headers.items()


def test_impersonation_is_complete_on_requests_and_on_exec(
    server: ScriptedServer, tmp_path: Path
) -> None:
    user = {
        "token": TOKEN,
        "as": "system:serviceaccount:ci:net",
        "as-uid": "0815",
        "as-groups": ["netöps \u0142", "viewers"],
        "as-user-extra": {"100%": ["sure"], "Example.com/Reason": ["a", "b"]},
    }
    api = connect(kubeconfig=server.kubeconfig(tmp_path, user=user))
    server.script = _succeed
    for send in (
        lambda: api.can("get", "pods"),
        lambda: api.exec("x", "a", ["true"]),
    ):
        server.on(
            "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {"status": {"allowed": True}},
        )
        send()
        assert [
            (name, value)
            for name, value in server.header_lines
            if name.lower().startswith("impersonate")
        ] == [
            ("Impersonate-User", "system:serviceaccount:ci:net"),
            ("Impersonate-Uid", "0815"),
            ("Impersonate-Group", "netöps \u0142"),
            ("Impersonate-Group", "viewers"),
            ("Impersonate-Extra-100%25", "sure"),
            ("Impersonate-Extra-Example.com%2FReason", "a"),
            ("Impersonate-Extra-Example.com%2FReason", "b"),
        ]


@pytest.mark.parametrize(
    "user",
    [
        {"token": f"{TOKEN}\n"},
        {"token": TOKEN, "as": "me\r\nImpersonate-Group: system:masters"},
        {"token": TOKEN, "as": "me", "as-user-extra": {"scopes": ["a\x00b"]}},
    ],
)
def test_a_header_of_several_lines_is_refused_and_quoted_by_nobody(
    server: ScriptedServer, tmp_path: Path, user: dict[str, object]
) -> None:
    with pytest.raises(KubeconfigError, match="of this user cannot be sent") as caught:
        connect(kubeconfig=server.kubeconfig(tmp_path, user=user))
    assert TOKEN not in str(caught.value)
    assert server.seen == []


@pytest.mark.parametrize("key", ["as-groups", "as-uid", "as-user-extra"])
def test_groups_without_a_user_are_refused(
    server: ScriptedServer, tmp_path: Path, key: str
) -> None:
    value = {"as-groups": ["g"], "as-uid": "u", "as-user-extra": {"a": ["b"]}}[key]
    path = server.kubeconfig(tmp_path, user={"token": TOKEN, key: value})
    with pytest.raises(KubeconfigError, match=f"has {key} and no user to act as"):
        connect(kubeconfig=path)
    assert server.seen == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"user": {"token": TOKEN, "as-team": "x"}}, 'the field "as-team" of user "tester"'),
        ({"user": {"token": TOKEN, "impersonate": "x"}}, 'the field "impersonate" of user'),
        ({"cluster": {"proxy": "http://x:1"}}, 'the field "proxy" of cluster "scripted"'),
        ({"user": {"token": 12345}}, 'the field "token" of user "tester" of .* wrong type'),
        ({"user": {"token": TOKEN, "as": ["x"]}}, 'the field "as" of user .* wrong type'),
        ({"user": {"exec": {"cmd": "x"}}}, 'the field "exec.cmd" of user'),
        ({"user": {"token": "t", "exec": {"command": "x"}}}, "has more than one way to log in"),
        ({"user": {"token": "t", "username": "x"}}, "has more than one way to log in"),
        (
            {"user": {"client-certificate-data": "eA=="}},
            "has a client-certificate and no client-key",
        ),
        ({"user": {"client-key-data": "eA=="}}, "has a client-key and no client-certificate"),
        ({"cluster": {"certificate-authority-data": "no base64!"}}, "is no base64"),
        (
            {"cluster": {"insecure-skip-tls-verify": True}},
            "has an authority and tells not to verify",
        ),
        (
            {"user": {"token": "t", "as": "a", "as-user-extra": {"k": "v"}}},
            'as-user-extra "k" of user',
        ),
        (
            {"cluster": {"server": "https://jane:canary@api:6443"}},
            'the server\'s URL of cluster "scripted" of .* holds a login',
        ),
        ({"cluster": {"proxy-url": "http://u:canary@[::1"}}, "the proxy that proxy-url of the"),
        ({"cluster": {"server": "jane:canary@api:6443"}}, 'cluster "scripted" of .* has no usable'),
        ({"cluster": {"server": "https://api:port"}}, 'cluster "scripted" of .* has no usable'),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_request(
    server: ScriptedServer, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(KubeconfigError, match=problem) as caught:
        connect(kubeconfig=server.kubeconfig(tmp_path, **changes))
    assert caught.value.remedy
    assert "canary" not in str(caught.value)
    assert server.seen == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            'users:\n- user: {token: "canary\n',
            "found unexpected end of stream in line 3",
        ),
        ("token: canary: x", "mapping values are not allowed here in line 1, column 14"),
        ("token: *canary", "ComposerError in line 1, column 8"),
        ("token: !canary x", "ConstructorError in line 1, column 8"),
    ],
)
def test_a_damaged_kubeconfig_is_told_by_its_place_and_not_by_what_stands_there(
    tmp_path: Path, text: str, found: str
) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(KubeconfigError, match="is not valid YAML") as caught:
        connect(kubeconfig=path)
    assert caught.value.found.startswith(found)
    assert "canary" not in str(caught.value)


def test_whom_a_user_acts_as_is_no_secret_that_reports_would_have_to_hide(
    server: ScriptedServer, tmp_path: Path
) -> None:
    user = {"token": TOKEN, "as": "jane", "as-groups": ["Domain Administrators", "no\xa0break"]}
    assert connect(kubeconfig=server.kubeconfig(tmp_path, user=user)).secrets() == {TOKEN}


def test_what_no_report_may_hold_is_known_also_of_a_kubeconfig_that_cannot_be_used(
    tmp_path: Path,
) -> None:
    env = [{"name": "KEY", "value": "of-the-plugin"}]
    user = {"exec": {"command": "login", "env": env}, "password": ["wrong", "type"]}
    cluster = {"server": "https://a:p%40ss@api:x", "proxy-url": "http://u:of-the-proxy@[::1"}
    path = tmp_path / "config"
    entries = {
        "users": [{"name": "u", "user": user}],
        "clusters": [{"name": "c", "cluster": cluster}],
    }
    path.write_text(yaml.safe_dump(entries))
    secrets, names = secrets_and_names((path,))
    assert secrets == {"of-the-plugin", "wrong", "type", "p%40ss", "p@ss", "of-the-proxy"}
    assert names["cluster"] == {"c"}


def test_paths_count_from_the_file_that_names_them(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "team"
    elsewhere.mkdir()
    _write(elsewhere, "token", TOKEN)
    users = {"users": [{"name": "tester", "user": {"tokenFile": "token"}}]}
    _write(elsewhere, "users.yaml", yaml.safe_dump(users))
    main = server.kubeconfig(tmp_path, user={"token": "stale"})
    monkeypatch.setenv("KUBECONFIG", f"{elsewhere / 'users.yaml'}:{main}")
    monkeypatch.chdir("/")
    assert connect().user == "jane"

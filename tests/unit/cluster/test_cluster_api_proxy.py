"""Proxies: which is used, by kubectl's rules, and that requests and exec both take it."""

from __future__ import annotations

import base64
import socket
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from aiohttp import web
from loopback_proxy import running_proxy
from scripted_server import Authority, ScriptedServer, default_authority, running, success

from pytest_k8snet.cluster.api import Api, connect, proxy_for
from pytest_k8snet.errors import ConnectError, KubeconfigError

pytest_plugins = ["scripted_server_fixtures"]

PROXY = "http://proxy.corp:3128"


@pytest.mark.parametrize(
    ("server", "environ", "proxy"),
    [
        ("https://api.corp:6443", {}, None),
        ("https://api.corp:6443", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://api.corp:6443", {"https_proxy": "proxy.corp:3128"}, PROXY),
        ("https://api.corp:6443", {"HTTP_PROXY": PROXY}, None),
        ("http://api.corp", {"HTTP_PROXY": PROXY}, PROXY),
        ("https://127.0.0.1:6443", {"HTTPS_PROXY": PROXY}, None),
        ("https://localhost:6443", {"HTTPS_PROXY": PROXY}, None),
        ("https://[::1]:6443", {"HTTPS_PROXY": PROXY}, None),
        ("https://api.corp:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "corp"}, None),
        ("https://api.corp:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "x, .corp"}, None),
        ("https://api.corp:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ("https://api.corp:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "api.corp:6443"}, None),
        ("https://api.corp:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "api.corp:443"}, PROXY),
        ("https://apicorp:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "corp"}, PROXY),
        ("https://10.1.2.3:6443", {"HTTPS_PROXY": PROXY, "no_proxy": "10.0.0.0/8"}, None),
        ("https://11.1.2.3:6443", {"HTTPS_PROXY": PROXY, "no_proxy": "10.0.0.0/8"}, PROXY),
        # golang.org/x/net v0.43 http/httpproxy/proxy.go: getEnvAny, config.init, canonicalAddr.
        ("https://api.corp", {"HTTPS_PROXY": PROXY, "https_proxy": "http://other:1"}, PROXY),
        ("https://api.corp", {"HTTPS_PROXY": PROXY, "NO_PROXY": "x", "no_proxy": "*"}, PROXY),
        ("https://corp:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": ".corp"}, PROXY),
        ("https://corp:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "*.corp"}, PROXY),
        ("https://api.corp:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "*.CORP"}, None),
        ("https://api.corp", {"HTTPS_PROXY": PROXY, "NO_PROXY": "api.corp:443"}, None),
        ("https://[fd00::1]:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "[fd00::1]:6443"}, None),
        ("https://[fd00::1]:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "[fd00::1]"}, None),
        ("https://[fd00::1]:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "fd00::/8"}, None),
        ("https://api.corp:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "api.corp:port"}, PROXY),
        ("https://api.corp", {"ALL_PROXY": PROXY}, None),
        ("https://10.1.2.3:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "2.3, 10.1.2.4"}, PROXY),
        ("https://10.1.2.3", {"HTTPS_PROXY": PROXY, "NO_PROXY": "10.1.2.3:443"}, None),
        ("https://a.corp:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "*.corp:6443"}, None),
        ("https://[fd00::1]:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "[fd00::1]:443"}, PROXY),
        ("https://[fd00::1]:6443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "fd00:0::1"}, None),
    ],
)
def test_the_environment_chooses(server: str, environ: dict[str, str], proxy: str | None) -> None:
    assert proxy_for(server, proxy_url="", environ=environ) == (proxy or "")


def test_the_kubeconfigs_proxy_wins() -> None:
    environ = {"HTTPS_PROXY": "http://other:1", "NO_PROXY": "*"}
    assert proxy_for("https://api.corp", proxy_url=PROXY, environ=environ) == PROXY


@pytest.mark.parametrize(
    "proxy",
    ["ftp://proxy.corp:21", "http://", "http://proxy.corp:port", "socks4://proxy.corp:1080"],
)
def test_another_kind_of_proxy_is_refused_by_its_name(proxy: str) -> None:
    with pytest.raises(KubeconfigError, match="the proxy that HTTPS_PROXY names") as caught:
        proxy_for("https://api.corp", proxy_url="", environ={"HTTPS_PROXY": proxy})
    assert caught.value.found == proxy
    with pytest.raises(KubeconfigError, match="the proxy that proxy-url of the kubeconfig names"):
        proxy_for("https://api.corp", proxy_url=proxy, environ={})


# -- Real proxies ----------------------------------------------------------------------------------


async def _succeed(stream: web.WebSocketResponse, _argv: list[str]) -> None:
    await stream.send_bytes(success())


def _use(server: ScriptedServer, path: Path) -> None:
    """Connect by a kubeconfig, read something and exec something."""
    server.script = _succeed
    server.on("GET /version", {"gitVersion": "v1.32.0"})
    api: Api = connect(kubeconfig=path)
    assert api.get("/version") == {"gitVersion": "v1.32.0"}
    assert api.exec("x", "a", ["true"]).exit_code == 0
    api.close()


@pytest.fixture
def named_server() -> Generator[ScriptedServer]:
    """A server with a name that no resolver knows: whoever gets there has asked a proxy."""
    with running(names=("api.invalid",)) as api:
        yield api


def _kubeconfig(server: ScriptedServer, directory: Path, **cluster: str) -> Path:
    url = f"https://api.invalid:{server.port}"
    return server.kubeconfig(directory, cluster={"server": url, **cluster})


def test_requests_and_exec_take_an_http_proxy_and_log_in_to_it(
    named_server: ScriptedServer, tmp_path: Path
) -> None:
    with running_proxy() as proxy:
        proxy.resolves = {"api.invalid": "127.0.0.1"}
        url = f"http://jane:p%40ss@127.0.0.1:{proxy.port}"
        _use(named_server, _kubeconfig(named_server, tmp_path, **{"proxy-url": url}))
    assert proxy.asked == [f"api.invalid:{named_server.port}"] * 2
    assert proxy.logins == ["Basic " + base64.b64encode(b"jane:p@ss").decode()] * 2


def test_requests_and_exec_take_an_https_proxy(
    named_server: ScriptedServer, tmp_path: Path
) -> None:
    tls = default_authority().server_tls(("127.0.0.1",), 1)
    with running_proxy(tls=tls) as proxy:
        proxy.resolves = {"api.invalid": "127.0.0.1"}
        url = f"https://127.0.0.1:{proxy.port}"
        _use(named_server, _kubeconfig(named_server, tmp_path, **{"proxy-url": url}))
    assert proxy.asked == [f"api.invalid:{named_server.port}"] * 2


# "socks5" is treated the same as "socks5h": net/http, Transport.Proxy, Go 1.24.
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_resolves_the_name(
    named_server: ScriptedServer, tmp_path: Path, scheme: str
) -> None:
    pytest.importorskip("socks", reason="PySocks is not installed")
    with running_proxy("socks") as proxy:
        proxy.resolves = {"api.invalid": "127.0.0.1"}
        url = f"{scheme}://jane:pass@127.0.0.1:{proxy.port}"
        _use(named_server, _kubeconfig(named_server, tmp_path, **{"proxy-url": url}))
    assert proxy.asked == [f"api.invalid:{named_server.port}"] * 2
    assert proxy.logins == ["jane:pass"] * 2


def test_a_proxy_that_is_not_trusted_is_told_from_a_server_that_is_not(
    server: ScriptedServer, tmp_path: Path
) -> None:
    with running_proxy(tls=Authority("another").server_tls(("127.0.0.1",), 1)) as proxy:
        url = f"https://127.0.0.1:{proxy.port}"
        with pytest.raises(ConnectError) as caught:
            connect(kubeconfig=server.kubeconfig(tmp_path, cluster={"proxy-url": url}))
    assert caught.value.problem == f"the certificate of the proxy {url} is not trusted"
    assert caught.value.remedy.startswith("its authority must be one that this machine trusts")


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_socks_without_its_package_says_what_to_install(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    # As where PySocks is not installed.
    monkeypatch.setitem(sys.modules, "socks", None)
    path = server.kubeconfig(tmp_path, cluster={"proxy-url": f"{scheme}://jane:pass@127.0.0.1:9"})
    with pytest.raises(KubeconfigError) as caught:
        connect(kubeconfig=path)
    assert caught.value.problem == (
        f"the proxy {scheme}://127.0.0.1:9 needs a Python package that is not installed"
    )
    assert "pip install PySocks" in caught.value.remedy


def test_the_environments_proxy_is_taken_by_both_or_by_none(
    named_server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_proxy() as proxy:
        proxy.resolves = {"api.invalid": "127.0.0.1"}
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        _use(named_server, _kubeconfig(named_server, tmp_path))
        assert proxy.asked == [f"api.invalid:{named_server.port}"] * 2


@pytest.mark.parametrize("no_proxy", ["", "127.0.0.0/8", "localhost"])
def test_a_loopback_server_is_reached_directly_by_both(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    with running_proxy() as proxy:
        for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", no_proxy)
        _use(server, server.kubeconfig(tmp_path))
        assert proxy.asked == []


@pytest.mark.parametrize("scheme", ["http", "https", "socks5h"])
def test_a_proxy_that_cannot_be_reached_is_named_without_its_password(
    server: ScriptedServer, tmp_path: Path, scheme: str
) -> None:
    if scheme == "socks5h":
        pytest.importorskip("socks", reason="PySocks is not installed")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    path = server.kubeconfig(tmp_path, cluster={"proxy-url": f"{scheme}://jane:s3cret@{address}"})
    with pytest.raises(ConnectError, match=rf"through the proxy {scheme}://{address}\)") as caught:
        connect(kubeconfig=path)
    assert "NO_PROXY" in caught.value.remedy
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("answer", ["407 Proxy Authentication Required", "403 Forbidden"])
def test_a_proxy_that_refuses_is_told_from_a_server_that_does(
    server: ScriptedServer, tmp_path: Path, answer: str
) -> None:
    with running_proxy() as proxy:
        proxy.refuses = answer
        url = f"http://127.0.0.1:{proxy.port}"
        path = server.kubeconfig(tmp_path, cluster={"proxy-url": url})
        with pytest.raises(ConnectError) as caught:
            connect(kubeconfig=path)
    assert caught.value.problem == (
        f"the proxy {url} does not connect to the API server {server.url}"
    )
    assert answer in caught.value.found

"""Which proxy is used: kubectl's rules."""

from __future__ import annotations

import pytest

from pytest_k8snet.cluster.connect import proxy_for

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
    ],
)
def test_the_environment_chooses(server: str, environ: dict[str, str], proxy: str | None) -> None:
    assert proxy_for(server, proxy_url="", environ=environ) == (proxy or "")


def test_the_kubeconfigs_proxy_wins() -> None:
    environ = {"HTTPS_PROXY": "http://other:1", "NO_PROXY": "*"}
    assert proxy_for("https://api.corp", proxy_url=PROXY, environ=environ) == PROXY

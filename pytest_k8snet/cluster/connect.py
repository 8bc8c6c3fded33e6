"""Connects to a cluster: from a kubeconfig, or a pod's service account, to an ``Api``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from pytest_k8snet.cluster import credentials
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.http import PATIENCE_SECONDS, PING_SECONDS, HttpClient, Server
from pytest_k8snet.cluster.kubeconfig import Kubeconfig, locate, nothing_found, read
from pytest_k8snet.errors import ApiError, KubeconfigError, UnauthorizedError

IN_CLUSTER = "in-cluster"
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
_SELF_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def connect(
    *,
    kubeconfig: Path | None = None,
    context: str | None = None,
    ping_seconds: float = PING_SECONDS,
) -> Api:
    """Connect to a cluster and prove that it answers and knows this user.

    Args:
        kubeconfig: the file; None takes ``KUBECONFIG`` (read now, several files merged), then
            ``~/.kube/config``, then a pod's service account.
        context: the context's name; None takes the current one.
        ping_seconds: how often a silent exec is kept alive.

    Raises:
        KubeconfigError: there is none, or it cannot be used.
        ConnectError: the API server cannot be reached or trusted.
        UnauthorizedError: the server does not accept the credentials.
    """
    paths = locate(kubeconfig, os.environ)
    if paths:
        config = read(paths, context)
        name = config.context
        client = HttpClient(
            server_of(config, os.environ),
            credentials.of_kubeconfig(config),
            user=config.user.name or "(none)",
            patience_seconds=PATIENCE_SECONDS,
            ping_seconds=ping_seconds,
        )
    elif not os.environ.get("KUBERNETES_SERVICE_HOST"):
        raise nothing_found(os.environ)
    elif context:
        raise KubeconfigError(
            f'there is no context "{context}": this is a pod without a kubeconfig',
            remedy="leave the context out, or give a kubeconfig",
        )
    else:
        name = IN_CLUSTER
        client = HttpClient(
            server_in_cluster(os.environ),
            credentials.of_service_account(os.environ),
            user="(service account)",
            patience_seconds=PATIENCE_SECONDS,
            ping_seconds=ping_seconds,
        )
    try:
        # A single try: a wrong address is told at once.
        client.user = _who_am_i(client) or client.user
    except BaseException:
        client.close()
        raise
    return Api(client, context=name)


def _who_am_i(client: HttpClient) -> str:
    """Return the user's name as the server knows it; empty when it does not say (before 1.28)."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = client.once("POST", _SELF_REVIEWS, body=review).object
    except UnauthorizedError:
        raise
    except ApiError:
        _ = client.once("GET", "/version").object
        return ""
    return str(((answer.get("status") or {}).get("userInfo") or {}).get("username") or "")


def server_of(config: Kubeconfig, environ: Mapping[str, str]) -> Server:
    """Return the API server of a context, and the way to it.

    Raises:
        KubeconfigError: the cluster's entry cannot be used.
    """
    cluster = config.cluster
    verify = not cluster.fields.get("insecure-skip-tls-verify")
    authority = cluster.content("certificate-authority")
    if authority and not verify:
        raise KubeconfigError(
            f"{cluster} has an authority and tells not to verify by it",
            found="certificate-authority and insecure-skip-tls-verify",
            remedy="leave one of them, as kubectl wants it",
        )
    proxy = proxy_for(config.server, proxy_url=cluster.text("proxy-url"), environ=environ)
    if proxy and config.server.startswith("http:") and config.user.text("as"):
        raise KubeconfigError(
            f"{config.user} acts as somebody else, and plain HTTP through a proxy cannot say so",
            found="such a proxy joins headers of one name, so that groups would get other names",
            remedy="use an https:// server, or reach it without the proxy",
        )
    return Server(
        url=config.server,
        authority=authority,
        verify=verify,
        name=cluster.text("tls-server-name"),
        proxy=proxy,
    )


def server_in_cluster(environ: Mapping[str, str]) -> Server:
    """Return the API server as a pod reaches it.

    Raises:
        KubeconfigError: the service account's authority is not there.
    """
    account = credentials.service_account(environ)
    url, authority = account.host, Path(account.ssl_ca_cert).read_bytes()
    return Server(url=url, authority=authority, proxy=proxy_for(url, proxy_url="", environ=environ))


# -- Proxies ---------------------------------------------------------------------------------------
#
# By the rules that kubectl follows, decided once for requests and exec.


def proxy_for(server: str, *, proxy_url: str, environ: Mapping[str, str]) -> str:
    """Return the proxy's URL, or nothing for a direct connection.

    Args:
        server: the API server's URL.
        proxy_url: ``proxy-url`` of the kubeconfig's cluster entry; it ignores ``NO_PROXY``.
        environ: the environment.

    Raises:
        KubeconfigError: it is a kind of proxy that is not supported.
    """
    proxy, source = proxy_url, "proxy-url of the kubeconfig"
    if not proxy:
        parts = urlsplit(server)
        source = f"{parts.scheme}_proxy".upper()
        proxy = environ.get(source.lower()) or environ.get(source) or ""
        no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
        host = (parts.hostname or "").lower()
        if host == "localhost" or _is_loopback(host) or _bypassed(host, parts.port, no_proxy):
            return ""
        if proxy and "://" not in proxy:
            proxy = f"http://{proxy}"
    try:
        parts = urlsplit(proxy)
        usable = not proxy or (parts.scheme in PROXY_SCHEMES and bool(parts.hostname))
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        raise KubeconfigError(
            f"the proxy that {source} names cannot be used",
            found=Server(url=server, proxy=proxy).shown_proxy,
            remedy=f"it must be a URL of {', '.join(PROXY_SCHEMES)}, or be left out",
        )
    return proxy


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _bypassed(host: str, port: int | None, no_proxy: str) -> bool:
    for entry in (part.strip().lower() for part in no_proxy.split(",")):
        if entry == "*":
            return True
        name, _, wanted_port = entry.partition(":") if entry.count(":") == 1 else (entry, "", "")
        if not name or (wanted_port and wanted_port != str(port or "")):
            continue
        name = name.removeprefix("*")
        if host == name.lstrip(".") or host.endswith("." + name.lstrip(".")):
            return True
        try:
            if ip_address(host) in ip_network(name, strict=False):
                return True
        except ValueError:
            continue
    return False

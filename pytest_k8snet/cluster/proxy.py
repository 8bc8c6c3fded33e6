"""Which proxy leads to the API server, by the rules that kubectl follows.

Pure. The client library's releases disagree here (31 ignores the environment, 35 ignores
``NO_PROXY``, 37 reads both), so the choice is made once, and REST and exec share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit


def proxy_for(server: str, *, proxy_url: str | None, environ: Mapping[str, str]) -> str | None:
    """The proxy's URL, or None for a direct connection.

    Args:
        server: the API server's URL.
        proxy_url: ``proxy-url`` of the kubeconfig's cluster entry; it ignores ``NO_PROXY``.
        environ: the environment.
    """
    if proxy_url:
        return proxy_url
    parts = urlsplit(server)
    name = f"{parts.scheme}_proxy"
    proxy = environ.get(name) or environ.get(name.upper())
    if not proxy:
        return None
    no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    host = (parts.hostname or "").lower()
    if host == "localhost" or _is_loopback(host) or _bypassed(host, parts.port, no_proxy):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


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

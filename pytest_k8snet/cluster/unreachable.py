"""From a failed connection to one error that says what stands in the way.

Pure: an exception of urllib3, websocket-client, ssl or socket in, a ``ConnectError`` out. The
libraries' own classes are not imported: what matters is the operating system's error within.
"""

from __future__ import annotations

import errno
import socket
import ssl

from pytest_k8snet.errors import ConnectError

#: OpenSSL's verify codes for a certificate that is made for another name or address.
_NAME_CODES = frozenset({62, 64})
_EXPIRED_CODES = frozenset({9, 10})


class UnreachableError(ConnectError):
    """The API server cannot be reached now; it may be reachable in a moment.

    Attributes:
        sent: whether the request may have reached the server, so that its effect is unknown.
    """

    def __init__(self, problem: str, *, found: str = "", remedy: str = "", sent: bool) -> None:
        super().__init__(problem, found=found, remedy=remedy)
        self.sent = sent


def explain(error: BaseException, *, host: str, proxy: str | None) -> ConnectError:
    """Say what kept a request from being answered.

    Args:
        error: what the library raised.
        host: the server's URL.
        proxy: the proxy's URL when one is in use.

    Returns:
        an ``UnreachableError`` when trying again can help, else a plain ``ConnectError``.
    """
    chain = _chain(error)
    for link in chain:
        if isinstance(link, ssl.SSLCertVerificationError):
            return _untrusted(link, host)
    for link in chain:
        if isinstance(link, ssl.SSLError) and not isinstance(
            link, (ssl.SSLEOFError, ssl.SSLZeroReturnError)
        ):
            return _no_tls(link, host)
    through = f" (through the proxy {proxy})" if proxy else ""
    about_proxy = (
        "; the proxy comes from proxy-url in the kubeconfig or from HTTPS_PROXY: if the API "
        "server is to be reached without it, add its host to NO_PROXY"
        if proxy
        else ""
    )
    found = _innermost(chain)
    for link in chain:
        if isinstance(link, socket.gaierror):
            return UnreachableError(
                f"the name of the API server {host} cannot be resolved{through}",
                found=found,
                remedy="check the server's name in the kubeconfig, the VPN and the DNS settings"
                + about_proxy,
                sent=False,
            )
        if isinstance(link, ConnectionRefusedError):
            return UnreachableError(
                f"the API server {host} refuses the connection{through}",
                found=found,
                remedy="nothing listens there: check address and port in the kubeconfig, and that "
                "the cluster (or the tunnel to it) is up" + about_proxy,
                sent=False,
            )
    names = {type(link).__name__ for link in chain}
    if names & {"ConnectTimeoutError", "NewConnectionError"} or _has_errno(
        chain, errno.ENETUNREACH, errno.EHOSTUNREACH
    ):
        return UnreachableError(
            f"the API server {host} cannot be reached{through}",
            found=found,
            remedy="check the network, the VPN and firewalls between this machine and the server"
            + about_proxy,
            sent=False,
        )
    if any(isinstance(link, TimeoutError) or "Timeout" in type(link).__name__ for link in chain):
        return UnreachableError(
            f"the API server {host} did not answer in time{through}",
            found=found,
            remedy="the server is overloaded, or the connection is cut silently" + about_proxy,
            sent=True,
        )
    return UnreachableError(
        f"the connection to the API server {host} broke off{through}",
        found=found,
        remedy="the server restarts, or something between cuts the connection" + about_proxy,
        sent=True,
    )


def _untrusted(error: ssl.SSLCertVerificationError, host: str) -> ConnectError:
    if error.verify_code in _NAME_CODES:
        remedy = (
            "the certificate is made for other names: use one of them as the server in the "
            "kubeconfig, or set tls-server-name of the cluster entry to it"
        )
    elif error.verify_code in _EXPIRED_CODES:
        remedy = "renew the certificate (kubeadm certs renew), or correct this machine's clock"
    else:
        remedy = (
            "certificate-authority(-data) of the kubeconfig's cluster entry is not the authority "
            "that signed it: fetch the kubeconfig again from the cluster"
        )
    return ConnectError(
        f"the certificate of the API server {host} is not trusted",
        found=error.verify_message or str(error),
        remedy=remedy,
    )


def _no_tls(error: ssl.SSLError, host: str) -> ConnectError:
    if "ALERT" in (error.reason or ""):
        return ConnectError(
            f"the API server {host} ends the TLS handshake",
            found=str(error),
            remedy="it does not accept the client certificate of the kubeconfig's user",
        )
    return ConnectError(
        f"the API server {host} cannot be spoken to by TLS",
        found=str(error),
        remedy="the port may speak plain HTTP, or belong to something else: check the server's URL",
    )


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and all that it wraps, outermost first."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        link = waiting.pop(0)
        if isinstance(link, BaseException) and link not in found:
            found.append(link)
            waiting += [getattr(link, "reason", None), link.__cause__, link.__context__, *link.args]
    return found


def _innermost(chain: list[BaseException]) -> str:
    for link in reversed(chain):
        if isinstance(link, OSError) and str(link):
            return str(link)
    return str(chain[0]) or type(chain[0]).__name__


def _has_errno(chain: list[BaseException], *numbers: int) -> bool:
    return any(isinstance(link, OSError) and link.errno in numbers for link in chain)

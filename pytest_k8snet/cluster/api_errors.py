"""What an error answer, or none, of the API server means: one error with its cause and remedy.

Pure. An HTTP status with its body (a ``Status`` object when all is well with the server, anything
when a proxy answers) becomes an ``ApiError``; an exception of urllib3, websocket-client, ssl or
socket becomes a ``ConnectError``.
"""

from __future__ import annotations

import errno
import json
import re
import socket
import ssl
import urllib.parse
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from pytest_k8snet.errors import (
    ApiError,
    ConflictError,
    ConnectError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    SettingsError,
    UnauthorizedError,
)

# -- An error answer -------------------------------------------------------------------------------

_RBAC = re.compile(r'User "(?P<user>[^"]+)" cannot (?P<verb>\S+) (?:resource|path) "')
#: How kube-aggregator begins when the server behind an API group does not answer: plain text.
_BEHIND = ("service unavailable", "error trying to reach service")
_ANONYMOUS = "system:anonymous"
_LOAD_BALANCER = (
    "the answer is no Kubernetes object: a load balancer in front of the API server may have given "
    "it, because it reaches none; "
)
_PORTAL = (
    "this looks like a login or portal page: a gateway in front of the API server must pass "
    "requests and WebSocket upgrades on; check the server's URL in the kubeconfig"
)
_READING = frozenset({"get", "list", "watch"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server answered: HTTP status, headers (their names in lower case) and body."""

    host: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes

    @property
    def object(self) -> dict[str, Any]:
        """The JSON object in the body.

        Raises:
            ConnectError: there is none, so this is no Kubernetes API server.
        """
        if (value := self._json()) is None:
            raise self.no_api_server()
        return value

    def no_api_server(self) -> ConnectError:
        """Return the error for an answer that no Kubernetes API server gives."""
        return ConnectError(
            f"{self.host} does not answer like a Kubernetes API server",
            found=self.body[:200].decode("utf-8", "replace") or "an empty answer",
            remedy="check the server's URL in the kubeconfig, and any proxy in between",
        )

    def read_status(self) -> tuple[str, str, bool]:
        """Return reason and message of an error, and whether they stand in a Status object.

        Other text is the message of whatever stands in front of the API server.
        """
        value = self._json()
        if value is not None and value.get("kind") == "Status":
            return str(value.get("reason") or ""), str(value.get("message") or ""), True
        return "", self.body.decode("utf-8", "replace").strip() or _phrase(self.status), False

    def _json(self) -> dict[str, Any] | None:
        try:
            value = json.loads(self.body)
        except ValueError:
            return None
        return value if isinstance(value, dict) else None


class ServerBusyError(ApiError):
    """429 or 5xx: the server may do it when asked again.

    Attributes:
        retry_after_seconds: what the server asks to wait; 0 when it does not say.
    """

    retry_after_seconds = 0.0


class AggregatedServerError(ServerBusyError):
    """503: kube-apiserver cannot reach the server that it leaves an API group to.

    Attributes:
        group: that group.
    """

    def __init__(self, target: Target, *, found: str) -> None:
        super().__init__(
            f"the server of {target.group} behind the API server could not {target.verb} {target} "
            "(HTTP 503 Service Unavailable)",
            status=503,
            found=found,
            remedy="see why it cannot be reached: `kubectl get apiservices | grep "
            f"{target.group}`, then its pods",
        )
        self.group = target.group


#: The API server's own page for a path of no group that it serves (Kubernetes 1.34).
_NO_SUCH_PATH = "404 page not found"


def error_of(answer: Answer, target: Target, *, user: str) -> ApiError | ConnectError:
    """Return the error that an answer with an HTTP status of 300 or more stands for.

    The user is as this side knows it: the server's own word wins.
    """
    status = answer.status
    reason, message, is_status = answer.read_status()
    if status < 400:
        return ConnectError(
            f"{answer.host} does not answer like a Kubernetes API server",
            found=_in_words(answer),
            remedy=_PORTAL,
        )
    if status == 401:
        return UnauthorizedError(
            f'the API server does not accept the credentials of user "{user}"',
            status=status,
            reason=reason,
            found=message,
            remedy="log in again or renew the token or certificate in the kubeconfig; "
            "`kubectl get nodes` with the same kubeconfig and context must work first",
        )
    if status == 403 and not is_status and not _RBAC.search(message):
        return ForbiddenError(
            f"something in front of the API server refuses to {target.verb} {target}",
            status=status,
            found=message,
            remedy="the answer is no Kubernetes object: a proxy, gateway or firewall gave it; ask "
            "its owner to let this user and path pass",
        )
    if status == 403:
        return _forbidden(reason, message, target, user)
    if status == 404 and (is_status or message == _NO_SUCH_PATH):
        return _not_found(reason, message, target)
    if status == 404:
        return ApiError(
            f"something between here and the API server does not let {target.path} through",
            status=status,
            found=message,
            remedy="the answer is no Kubernetes object: check the server's URL, and any proxy",
        )
    if status == 409:
        exists = reason == "AlreadyExists"
        return ConflictError(
            f"{target} exists already" if exists else f"{target} was changed by someone else",
            status=status,
            reason=reason,
            found=message,
            remedy="another run or person works on it: find out who before trying again"
            if exists
            else "read it again and repeat the change on what is there now",
        )
    if status == 503 and target.group and message.startswith(_BEHIND):
        return AggregatedServerError(target, found=message)
    if status == 429 or status >= 500:
        busy = ServerBusyError(
            f"the API server could not {target.verb} {target} (HTTP {status} {_phrase(status)})",
            status=status,
            reason=reason,
            found=message,
            # The API server itself says 429 in plain text (``apiserver/pkg/server/filters/
            # maxinflight.go``, Kubernetes 1.34: tooManyRequests).
            remedy=("" if is_status or status == 429 else _LOAD_BALANCER)
            + "see whether the control plane is healthy: `kubectl get --raw /readyz?verbose`",
        )
        with suppress(ValueError):  # it may be a date as well
            busy.retry_after_seconds = float(answer.headers.get("retry-after") or 0)
        return busy
    return InvalidError(
        f"the API server refuses to {target.verb} {target} (HTTP {status} {_phrase(status)})",
        status=status,
        reason=reason,
        found=message,
        remedy="the message names what it does not accept",
    )


def _in_words(answer: Answer, to: str = "") -> str:
    _, message, _ = answer.read_status()
    phrase = _phrase(answer.status)
    found = f"HTTP {answer.status} {phrase}{to}" + (f": {message}" if message != phrase else "")
    location = answer.headers.get("location")
    return f"{found}, to {location}" if location else found


def refused_upgrade(answer: Answer, target: Target, *, user: str) -> ApiError | ConnectError:
    """Return the error that another answer than 101 to a WebSocket handshake stands for."""
    status = answer.status
    _, message, is_status = answer.read_status()
    # Kubernetes' own words for a request that has lost its headers on the way (``apimachinery/pkg/
    # util/httpstream/wsstream`` and ``spdy``, Kubernetes 1.34).
    stripped = "pgrade request required" in message or "unable to upgrade" in message
    if status == 400 and (not is_status or stripped):
        remedy = (
            "something between takes the Upgrade header out of the request: a proxy, load balancer "
            "or gateway in front of the API server must let WebSocket upgrades pass"
        )
    elif status < 400:
        remedy = _PORTAL
    elif not is_status and status < 500 and status not in (401, 429):
        remedy = (
            "the answer is no Kubernetes object: a proxy, gateway or firewall in front of the API "
            "server gave it, and must let WebSocket upgrades pass"
        )
    else:
        return error_of(answer, target, user=user)
    found = _in_words(answer, to=" to the upgrade request")
    return ConnectError(f"{answer.host} does not speak WebSocket", found=found, remedy=remedy)


def _forbidden(reason: str, message: str, target: Target, user: str) -> ForbiddenError:
    rbac = _RBAC.search(message)
    # Reading is a matter of permissions alone; writing also one of the objects written.
    if rbac is None and target.verb not in _READING:
        return ForbiddenError(
            f"the cluster's admission rules refuse to {target.verb} {target}",
            status=403,
            reason=reason,
            found=message,
            remedy=admission_remedy(message),
        )
    who = rbac["user"] if rbac else user
    verb = rbac["verb"] if rbac else target.verb
    where = f' in namespace "{target.namespace}"' if target.namespace else ""
    if who == _ANONYMOUS:
        remedy = (
            "the request arrived without credentials that the server knows: check the user entry "
            "of the kubeconfig's context, and any proxy that drops the Authorization header"
        )
    else:
        remedy = (
            f"grant the verb {verb} on {target.kind} by a Role or ClusterRole "
            f"(test: `{replace(target, verb=verb).can_i}`; "
            "`k8snet doctor` lists every permission needed)"
        )
    return ForbiddenError(
        f'user "{who}" may not {verb} {target.kind}{where}',
        status=403,
        reason=reason,
        found=message,
        remedy=remedy,
    )


def admission_remedy(message: str) -> str:
    """Say what can be done about an object that admission refuses, in Kubernetes' own words."""
    if "admission webhook" in message or "ValidatingAdmissionPolicy" in message:
        # Its text is its author's, and may name what Kubernetes' own admission is about.
        return "ask the owner of the admission policy for an exception for this run's namespace"
    if "PodSecurity" in message:
        return (
            "use a namespace whose label pod-security.kubernetes.io/enforce allows it "
            "(host-network pods need the level privileged), or let the run make its own"
        )
    if "being terminated" in message:
        return "the namespace is being deleted: use another one"
    if "must specify" in message:
        # "failed quota: q: must specify limits.cpu for: c; requests.memory for: c"
        lacking = [
            (kind, ",".join(f"{one}=..." for one in dict.fromkeys(found)))
            for kind in ("limits", "requests")
            if (found := re.findall(rf"\b{kind}\.([a-z-]+)", message))
        ]
        options = " ".join(f"-o k8snet_pod_{kind}={values}" for kind, values in lacking)
        return f"the quota wants them of every pod: {options}, or choose another namespace"
    if "per Container" in message or "per Pod" in message:
        return (
            "a LimitRange bounds what a pod may ask for: stay within it by -o "
            "k8snet_pod_limits=... and -o k8snet_pod_requests=..., or choose another namespace"
        )
    if "quota" in message:
        return "raise the namespace's ResourceQuota or choose another namespace"
    if "PriorityClass" in message:
        return "`kubectl get priorityclasses` lists those for -o k8snet_priority_class=..."
    return "ask the owner of the admission policy for an exception for this run's namespace"


def _not_found(reason: str, message: str, target: Target) -> NotFoundError:
    absent = "could not find the requested resource" not in message and message != _NO_SUCH_PATH
    if target.name and absent:
        return NotFoundError(
            f"there is no {target}",
            status=404,
            reason=reason,
            found=message,
            remedy="check the name and the namespace, and that nothing deletes it meanwhile",
        )
    unknown = NotFoundError(
        f"the API server does not know {target.kind} ({target.path})",
        status=404,
        reason=reason,
        found=message,
        remedy="the cluster is older or newer than this path, or an add-on is not installed",
    )
    unknown.absent = False
    return unknown


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"


# -- A failed connection ---------------------------------------------------------------------------
#
# The libraries' own classes are not imported: what matters is the operating system's error within.

#: OpenSSL's verify codes for a certificate that is made for another name or address.
_NAME_CODES = frozenset({62, 64})
_EXPIRED_CODES = frozenset({9, 10})
_ABOUT_PROXY = (
    "; the proxy comes from proxy-url in the kubeconfig or from HTTPS_PROXY: if the API server is "
    "to be reached without it, add its host to NO_PROXY"
)


class UnreachableError(ConnectError):
    """The API server cannot be reached now; it may be reachable in a moment.

    Attributes:
        sent: whether the request may have reached the server, so that its effect is unknown.
    """

    def __init__(self, problem: str, *, found: str = "", remedy: str = "", sent: bool) -> None:
        super().__init__(problem, found=found, remedy=remedy)
        self.sent = sent


class CertificateRefusedError(ConnectError):
    """The API server ends the TLS handshake: it does not accept the client certificate."""


def explain(error: BaseException, *, host: str, proxy: str) -> ConnectError:
    """Say what kept a request from being answered.

    Returns:
        an ``UnreachableError`` when trying again can help, else a plain ``ConnectError``.
    """
    chain = _chain(error)
    names = {type(link).__name__ for link in chain}
    for link in chain:
        if isinstance(link, ssl.SSLCertVerificationError):
            # urllib3's word for what happens before a proxy has been reached.
            return _untrusted(link, host, proxy=proxy if "ProxyError" in names else "")
        if isinstance(link, ssl.SSLError) and not isinstance(
            link, (ssl.SSLEOFError, ssl.SSLZeroReturnError)
        ):
            return _no_tls(link, host)
    system_errors = [link for link in chain if isinstance(link, OSError)]
    found = next((text for link in reversed(system_errors) if (text := str(link))), "")
    found = found or str(error) or type(error).__name__
    if proxy and "Tunnel connection failed" in found:
        return ConnectError(
            f"the proxy {proxy} does not connect to the API server {host}",
            found=found,
            remedy="407: put user and password into its URL; 403: it must allow this host and "
            "port; or add the host to NO_PROXY",
        )

    def unreachable(what: str, remedy: str, *, sent: bool) -> UnreachableError:
        return UnreachableError(
            what + (f" (through the proxy {proxy})" if proxy else ""),
            found=found,
            remedy=remedy + (_ABOUT_PROXY if proxy else ""),
            sent=sent,
        )

    if any(isinstance(link, socket.gaierror) for link in chain):
        return unreachable(
            f"the name of the API server {host} cannot be resolved",
            "check the server's name in the kubeconfig, the VPN and the DNS settings",
            sent=False,
        )
    if any(isinstance(link, ConnectionRefusedError) for link in chain):
        return unreachable(
            f"the API server {host} refuses the connection",
            "nothing listens there: check address and port in the kubeconfig, and that the cluster "
            "(or the tunnel to it) is up",
            sent=False,
        )
    if names & {"ConnectTimeoutError", "NewConnectionError"} or any(
        link.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH) for link in system_errors
    ):
        return unreachable(
            f"the API server {host} cannot be reached",
            "check the network, the VPN and firewalls between this machine and the server",
            sent=False,
        )
    if any(isinstance(link, TimeoutError) or "Timeout" in type(link).__name__ for link in chain):
        return unreachable(
            f"the API server {host} did not answer in time",
            "the server is overloaded, or the connection is cut silently",
            sent=True,
        )
    return unreachable(
        f"the connection to the API server {host} broke off",
        "the server restarts, or something between cuts the connection",
        sent=True,
    )


def _untrusted(error: ssl.SSLCertVerificationError, host: str, *, proxy: str) -> ConnectError:
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
    if proxy:
        remedy = (
            "its authority must be one that this machine trusts or that the kubeconfig's cluster "
            "entry names, and its name one of the certificate's" + _ABOUT_PROXY
        )
    return ConnectError(
        f"the certificate of the {f'proxy {proxy}' if proxy else f'API server {host}'} "
        "is not trusted",
        found=error.verify_message or str(error),
        remedy=remedy,
    )


def _no_tls(error: ssl.SSLError, host: str) -> ConnectError:
    if "ALERT" in (error.reason or ""):
        return CertificateRefusedError(
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
    """List the exception and all that it wraps, outermost first."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        link = waiting.pop(0)
        if isinstance(link, BaseException) and link not in found:
            found.append(link)
            waiting += [getattr(link, "reason", None), link.__cause__, link.__context__, *link.args]
    return found


# -- What a request is about -----------------------------------------------------------------------
#
# Errors and permission checks speak of ``create pods/exec in namespace "x"``, and requests are
# made by path; this is the one place that knows how the two belong together.

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The object or collection that a request addresses, in the words of RBAC."""

    verb: str
    resource: str = ""
    group: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def kind(self) -> str:
        """The resource as RBAC rules write it: ``pods/exec``."""
        return f"{self._of_group}/{self.subresource}" if self.subresource else self._of_group

    @property
    def _of_group(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource or self.path

    @property
    def can_i(self) -> str:
        """The command that asks the server whether this is allowed."""
        # With a slash, kubectl would take the subresource for the name of a pod.
        subresource = f" --subresource={self.subresource}" if self.subresource else ""
        namespace = f" -n {self.namespace}" if self.namespace else ""
        return f"kubectl auth can-i {self.verb} {self._of_group}{subresource}{namespace}"

    def __str__(self) -> str:
        text = f'{self.kind} "{self.name}"' if self.name and self.resource else self.kind
        return f'{text} in namespace "{self.namespace}"' if self.namespace else text


def parse(method: str, path: str) -> Target:
    """Read the target of a request from its method and path (without the query).

    Args:
        method: the HTTP method, upper case.
        path: e.g. ``/apis/apps/v1/namespaces/x/deployments/web``.
    """
    parts = [urllib.parse.unquote(part) for part in path.split("/") if part]
    if len(parts) >= 3 and parts[0] == "api":
        group, rest = "", parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, rest = parts[1], parts[3:]
    else:
        return Target(verb=_VERBS.get(method, method.lower()), path=path)
    namespace = ""
    if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = (*rest, "", "")[:3]
    if method == "GET":
        verb = "get" if name else "list"
    elif method == "DELETE":
        verb = "delete" if name else "deletecollection"
    else:
        verb = _VERBS.get(method, method.lower())
    return Target(
        verb=verb,
        resource=resource,
        group=group,
        subresource=subresource,
        namespace=namespace,
        name=name,
        path=path,
    )


def collection(resource: str, *, namespace: str = "", group: str = "", version: str = "v1") -> str:
    """Return the path of a collection, e.g. ``/api/v1/namespaces/x/pods``."""
    base = f"/apis/{group}/{version}" if group else f"/api/{version}"
    inside = object_path(f"{base}/namespaces", namespace) if namespace else base
    return f"{inside}/{resource}"


def object_path(collection: str, name: str) -> str:
    """Return the path of one object of a collection, whatever its name is made of.

    A slash or a percent sign is refused rather than quoted, as client-go does: the API server
    splits a path after it has decoded it, so that ``..%2Fsecrets`` would reach a secret. An empty
    name would address the collection itself.

    Raises:
        SettingsError: no object can have this name.
    """
    if name in ("", ".", "..") or "/" in name or "%" in name:
        raise SettingsError(
            "No Kubernetes object can have this name, so it is asked for nowhere",
            found=ascii(name),
            remedy='Name it without "/" and "%"; "", "." and ".." are no names.',
        )
    return f"{collection}/{urllib.parse.quote(name, safe='')}"

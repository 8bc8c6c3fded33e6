"""From an error answer of the API server to one error that names verb, resource and remedy.

Pure: an HTTP status, the body (a ``Status`` object when all is well with the server, anything
when a proxy answers) and the target in, an ``ApiError`` out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus

from pytest_k8snet.cluster.target import Target
from pytest_k8snet.errors import (
    ApiError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnauthorizedError,
)

_RBAC = re.compile(r'User "(?P<user>[^"]+)" cannot (?P<verb>\S+) (?:resource|path) "')
#: How kube-aggregator begins when the server behind an API group does not answer: plain text.
_BEHIND = ("service unavailable", "error trying to reach service")
_ANONYMOUS = "system:anonymous"
_READING = frozenset({"get", "list", "watch"})


class ServerBusyError(ApiError):
    """429 or 5xx: the server may do it when asked again.

    Attributes:
        retry_after_seconds: what the server asks to wait; None when it does not say.
    """

    def __init__(
        self,
        problem: str,
        *,
        status: int,
        reason: str = "",
        found: str = "",
        remedy: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(problem, status=status, reason=reason, found=found, remedy=remedy)
        self.retry_after_seconds = retry_after_seconds


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


def read_status(status: int, body: bytes) -> tuple[str, str]:
    """The reason and message of an error answer; the plain text when it is no Status object."""
    text = body.decode("utf-8", "replace").strip()
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if isinstance(answer, dict) and answer.get("kind") == "Status":
        return str(answer.get("reason") or ""), str(answer.get("message") or "")
    return "", text or _phrase(status)


def error_of(
    status: int, body: bytes, target: Target, *, user: str, headers: Mapping[str, str] | None = None
) -> ApiError:
    """The error that an answer with an HTTP status of 400 or more stands for.

    Args:
        status: the HTTP status code.
        body: the answer's body.
        target: what the request was about.
        user: the user as this side knows it; the server's own word wins.
        headers: the answer's headers, for ``Retry-After``.
    """
    reason, message = read_status(status, body)
    if status == 401:
        return UnauthorizedError(
            f'the API server does not accept the credentials of user "{user}"',
            status=status,
            reason=reason,
            found=message,
            remedy="log in again or renew the token or certificate in the kubeconfig; "
            "`kubectl get nodes` with the same kubeconfig and context must work first",
        )
    if status == 403:
        return _forbidden(reason, message, target, user)
    if status == 404:
        return _not_found(reason, message, target)
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
        return ServerBusyError(
            f"the API server could not {target.verb} {target} (HTTP {status} {_phrase(status)})",
            status=status,
            reason=reason,
            found=message,
            remedy="see whether the control plane is healthy: `kubectl get --raw /readyz?verbose`",
            retry_after_seconds=_retry_after(headers or {}),
        )
    return InvalidError(
        f"the API server refuses to {target.verb} {target} (HTTP {status} {_phrase(status)})",
        status=status,
        reason=reason,
        found=message,
        remedy="the message names what it does not accept",
    )


def _forbidden(reason: str, message: str, target: Target, user: str) -> ForbiddenError:
    rbac = _RBAC.search(message)
    # Reading is a matter of permissions alone; writing also one of the objects written.
    if rbac is None and target.verb not in _READING:
        return ForbiddenError(
            f"the cluster's admission rules refuse to {target.verb} {target}",
            status=403,
            reason=reason,
            found=message,
            remedy=_admission_remedy(message),
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


def _admission_remedy(message: str) -> str:
    if "PodSecurity" in message:
        return (
            "use a namespace whose label pod-security.kubernetes.io/enforce allows it "
            "(host-network pods need the level privileged), or let the run make its own"
        )
    if "being terminated" in message:
        return "the namespace is being deleted: use another one"
    if "quota" in message:
        return "raise the namespace's ResourceQuota or choose another namespace"
    return "ask the owner of the admission policy for an exception for this run's namespace"


def _not_found(reason: str, message: str, target: Target) -> NotFoundError:
    if target.name and "could not find the requested resource" not in message:
        return NotFoundError(
            f"there is no {target}",
            status=404,
            reason=reason,
            found=message,
            remedy="check the name and the namespace, and that nothing deletes it meanwhile",
        )
    return NotFoundError(
        f"the API server does not know {target.kind} ({target.path})",
        status=404,
        reason=reason,
        found=message,
        remedy="the cluster is older or newer than this path, or an add-on is not installed",
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    for key, value in headers.items():
        if key.lower() == "retry-after":
            try:
                return max(0.0, float(value))
            except ValueError:
                return None
    return None

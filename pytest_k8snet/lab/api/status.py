"""The errors of an API server: Status objects in Kubernetes' own words, with their HTTP codes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.resources import Resource

#: The machine-readable reason that belongs to an HTTP status code.
REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


#: What a client is to be warned of, beside its answer.
_WARNINGS: ContextVar[list[str] | None] = ContextVar("warnings", default=None)


def warn(text: str) -> None:
    """Warn whoever sent the request that is worked on; what nobody asked for warns nobody."""
    warnings = _WARNINGS.get()
    if warnings is not None and text not in warnings:
        warnings.append(text)


@contextmanager
def warnings_collected() -> Iterator[list[str]]:
    """The warnings that are given until the context ends."""
    found: list[str] = []
    token = _WARNINGS.set(found)
    try:
        yield found
    finally:
        _WARNINGS.reset(token)


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason why an object is refused.

    Attributes:
        reason: ``FieldValueRequired``, ``FieldValueInvalid``, ...
        field: the dotted path of the field.
        message: what is wrong, without the path.
    """

    reason: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class StatusError(Exception):
    """A request refused: carries the Status object that the client gets.

    Attributes:
        code: the HTTP status code.
        reason: the machine-readable reason, e.g. ``NotFound``.
        message: the sentence a person reads.
        details: what it concerns: group, kind, name, causes. Empty and none differ on the wire.
        retry_after_seconds: sent as ``Retry-After`` when not None.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Object | None = None,
        *,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after_seconds = retry_after_seconds

    def to_dict(self) -> Object:
        """The Status object."""
        status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status


def _about(resource: Resource, name: str, *, kind: str = "", **more: Any) -> Object:
    details: Object = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    details["kind"] = kind or resource.plural
    return details | more


def not_found(resource: Resource, name: str) -> StatusError:
    """404: no object of that name."""
    return StatusError(
        404, "NotFound", f'{resource.qualified_plural} "{name}" not found', _about(resource, name)
    )


def no_such_resource() -> StatusError:
    """404: the path leads to nothing that is served."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(resource: Resource, name: str) -> StatusError:
    """409: the name is taken."""
    return StatusError(
        409,
        "AlreadyExists",
        f'{resource.qualified_plural} "{name}" already exists',
        _about(resource, name),
    )


def conflict(resource: Resource, name: str, why: str = "", *, kind: str = "") -> StatusError:
    """409: a stale resourceVersion, or a precondition that does not hold.

    Args:
        resource: what the object is.
        name: the object's.
        why: instead of the usual sentence.
        kind: what it is called instead of its plural.
    """
    why = why or (
        "the object has been modified; please apply your changes to the latest version"
        " and try again"
    )
    return StatusError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {kind or resource.qualified_plural} "{name}": {why}',
        _about(resource, name, kind=kind.partition(".")[0]),
    )


def invalid(
    resource: Resource, name: str, causes: Iterable[Cause], *, kind: str = ""
) -> StatusError:
    """422: the object is refused, with one cause for each bad field.

    Args:
        resource: what the object is.
        name: the object's.
        causes: what is wrong.
        kind: what it is called instead of its kind.
    """
    causes = list(causes)
    kind = kind or resource.kind
    qualified = f"{kind}.{resource.group}" if resource.group else kind
    text = ", ".join(str(cause) for cause in causes)
    if len(causes) > 1:
        text = f"[{text}]"
    return StatusError(
        422,
        "Invalid",
        f'{qualified} "{name}" is invalid: {text}',
        _about(
            resource,
            name,
            kind=kind,
            causes=[
                {"reason": cause.reason, "message": cause.message, "field": cause.field}
                for cause in causes
            ],
        ),
    )


def invalid_options(kind: str, cause: Cause) -> StatusError:
    """422: a parameter of the request is refused; the kind is that of the options."""
    causes = [{"reason": cause.reason, "message": cause.message, "field": cause.field}]
    details = {"group": "meta.k8s.io", "kind": kind, "causes": causes}
    return StatusError(422, "Invalid", f'{kind}.meta.k8s.io "" is invalid: {cause}', details)


def unfit_patch(obj: Object, why: str) -> StatusError:
    """422: what a patch makes of an object cannot be decoded."""
    value = json.dumps(json.dumps(obj, separators=(",", ":"), sort_keys=True))
    message = f"Invalid value: {value}: {why}"
    causes = [{"reason": "FieldValueInvalid", "message": message, "field": "patch"}]
    return StatusError(422, "Invalid", f' "" is invalid: patch: {message}', {"causes": causes})


def forbidden(resource: Resource, name: str, why: str, **details: Any) -> StatusError:
    """403: not allowed, for the reason given."""
    subject = f'{resource.qualified_plural} "{name}"' if name else resource.qualified_plural
    about = _about(resource, name, **details)
    return StatusError(403, "Forbidden", f"{subject} is forbidden: {why}", about)


def bad_request(message: str) -> StatusError:
    """400: the request itself cannot be understood."""
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    """401: the token is not known."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def method_not_allowed() -> StatusError:
    """405: the path is served, but not with this method."""
    return StatusError(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        {},
    )


def unsupported_media_type(accepted: Iterable[str]) -> StatusError:
    """415: the body's type is not one of those accepted."""
    return StatusError(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(accepted),
    )


def expired(message: str) -> StatusError:
    """410: a resourceVersion or continue token that is older than what is remembered."""
    return StatusError(410, "Expired", message)


def internal_error(message: str) -> StatusError:
    """500: the server's own trouble."""
    return StatusError(500, "InternalError", f"Internal error occurred: {message}")

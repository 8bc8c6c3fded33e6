"""Request bodies and responses: JSON, YAML or protobuf in, checked field by field; JSON out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml
from aiohttp import web

from pytest_k8snet.lab.api import protobuf, status
from pytest_k8snet.lab.api.objects import Object, name_of
from pytest_k8snet.lab.api.resources import Resource
from pytest_k8snet.lab.api.schema import Problem, conform, json_type
from pytest_k8snet.lab.api.status import Cause, StatusError
from pytest_k8snet.lab.api.target import Target

_YAML = ("application/yaml", "text/yaml", "application/x-yaml")
_ACCEPTED = ("application/json", "application/yaml", protobuf.MEDIA_TYPE)

#: Larger bodies are refused, as etcd would.
BODY_LIMIT_BYTES = 3 * 1024 * 1024


async def read_data(request: web.Request, media_type: str = "") -> Any:
    """The request's body as JSON data, whatever its encoding; None when it is empty.

    A missing Content-Type means JSON.

    Raises:
        StatusError: 400, it cannot be parsed; 413, it is too large; 415, it is something else.
    """
    media_type = media_type or content_type(request)
    if media_type not in (*_YAML, *_ACCEPTED):
        raise status.unsupported_media_type(_ACCEPTED)
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise StatusError(
            413,
            "RequestEntityTooLarge",
            f"Request entity too large: limit is {BODY_LIMIT_BYTES}",
        ) from None
    if not body.strip():
        return None
    if media_type == protobuf.MEDIA_TYPE:
        return protobuf.decode(body)
    try:
        if media_type in _YAML:
            return yaml.load(body, _YamlLoader)
        return json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise status.bad_request(f"couldn't get version/kind; json parse error: {reason}") from None


def _no_number(text: str) -> None:
    """Refuse what Python takes for numbers in JSON, but JSON does not.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"invalid character {text!r}")


def content_type(request: web.Request) -> str:
    """The body's media type without parameters; JSON when none is named."""
    header = request.headers.get("Content-Type", "")
    return header.partition(";")[0].strip().lower() or "application/json"


class _YamlLoader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: time stamps are just strings."""


_YamlLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


async def read_object(request: web.Request, target: Target) -> tuple[Object, list[str]]:
    """The object that a client sends to a target, without the fields that nobody knows.

    Returns:
        The object, and warnings to send back.

    Raises:
        StatusError: 400, it is not an object of the target's kind.
    """
    data = await read_data(request)
    resource = target.resource
    if not isinstance(data, dict):
        raise status.bad_request(
            f"the object provided is unrecognized (must be of type {resource.kind}): "
            f"couldn't get version/kind; json parse error: found {json.dumps(data)[:60]}"
        )
    check_identity(data, target)
    return data, conformed(resource, data, request.query)


def check_identity(obj: Object, target: Target) -> None:
    """Refuse an object of another kind, name or namespace than the path says; fill in its own.

    Raises:
        StatusError: 400.
    """
    resource = target.resource
    kind, api_version = obj.get("kind"), obj.get("apiVersion")
    if resource.custom and not kind:
        raise status.bad_request(f"Object 'Kind' is missing in '{json.dumps(obj)[:200]}'")
    if api_version and api_version != resource.api_version:
        raise status.bad_request(
            f"the API version in the data ({api_version}) does not match the expected API"
            f" version ({resource.api_version})"
        )
    if kind and kind != resource.kind:
        raise status.bad_request(
            f'{kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f'no kind "{kind}" is served at {resource.plural}'
        )
    meta = obj.setdefault("metadata", {})
    if not isinstance(meta, dict):
        raise _wrong_type(resource, json_type(meta), f"{resource.kind}.metadata", "v1.ObjectMeta")
    namespace = meta.get("namespace")
    if namespace and resource.namespaced and namespace != target.namespace:
        raise status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if resource.namespaced:
        meta["namespace"] = target.namespace
    if target.name and meta.setdefault("name", target.name) != target.name:
        raise status.bad_request(
            f"the name of the object ({meta['name']}) does not match the name on the URL"
            f" ({target.name})"
        )


def conformed(resource: Resource, obj: Object, query: Mapping[str, str]) -> list[str]:
    """Check an object against its kind's fields, dropping unknown ones.

    Returns:
        Warnings, when the request wants unknown fields to be warned of (the default).

    Raises:
        StatusError: 400 for a value of a wrong type, or for unknown fields in a strict request.
    """
    mode = query.get("fieldValidation") or "Warn"
    if mode not in ("Ignore", "Warn", "Strict"):
        raise status.bad_request(
            f'fieldValidation: Unsupported value: "{mode}": supported values: "Ignore", "Strict",'
            ' "Warn"'
        )
    problems = conform(resource.kind, obj)
    wrong = [problem for problem in problems if problem.kind == "type"]
    if wrong and resource.custom and not wrong[0].path.startswith("metadata"):
        # The schema of a custom resource is part of its validation, not of decoding.
        raise status.invalid(resource, name_of(obj), [_schema_cause(problem) for problem in wrong])
    if wrong:
        first = wrong[0]
        field = f"{first.owner}.{_plain(first.path)}"
        raise _wrong_type(resource, first.found, field, first.wanted)
    unknown = [f'unknown field "{item.path}"' for item in problems if item.kind == "unknown"]
    if unknown and mode == "Strict":
        raise status.bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a '
            f"{resource.kind}: strict decoding error: {', '.join(unknown)}"
        )
    return unknown if mode == "Warn" else []


def _schema_cause(problem: Problem) -> Cause:
    wanted = {"int32": "integer", "bool": "boolean", "string": "string"}.get(
        problem.wanted, "array" if problem.wanted.startswith("[]") else "object"
    )
    why = f'{problem.path} in body must be of type {wanted}: "{problem.found}"'
    message = f'Invalid value: "{problem.found}": {why}'
    return Cause("FieldValueTypeInvalid", problem.path, message)


def _plain(path: str) -> str:
    """A path without its indices."""
    return ".".join(step.partition("[")[0] for step in path.split("."))


def _wrong_type(resource: Resource, found: str, field: str, wanted: str) -> StatusError:
    if (found, wanted) == ("string", "v1.Time"):
        return status.bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a '
            f'{resource.kind}: {field}: parsing time: cannot parse as "2006-01-02T15:04:05Z07:00"'
        )
    if (found, wanted) == ("string", "resource.Quantity"):
        return status.bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a '
            f"{resource.kind}: {field}: quantities must match the regular expression"
            " '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        )
    return status.bad_request(
        f'{resource.kind} in version "{resource.version}" cannot be handled as a '
        f"{resource.kind}: json: cannot unmarshal {found} into Go struct field {field} of type"
        f" {wanted}"
    )


def respond(
    data: Object, *, code: int = 200, warnings: list[str] | None = None, media_type: str = ""
) -> web.Response:
    """A JSON response."""
    response = web.Response(
        body=json.dumps(data, separators=(",", ":")).encode(),
        status=code,
        headers={"Content-Type": media_type or "application/json", "Cache-Control": "no-cache"},
    )
    for warning in warnings or ():
        response.headers.add("Warning", f"299 - {json.dumps(warning)}")
    return response


def respond_error(error: StatusError) -> web.Response:
    """The response to a request that is refused."""
    response = respond(error.to_dict(), code=error.code)
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response

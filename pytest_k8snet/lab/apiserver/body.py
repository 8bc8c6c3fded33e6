"""Bodies: JSON, YAML or protobuf in, checked field by field; JSON out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from aiohttp import web

from pytest_k8snet.lab.api import definitions, patch, schema, status
from pytest_k8snet.lab.api.objects import Object, clone, compact, dig
from pytest_k8snet.lab.api.request import Target
from pytest_k8snet.lab.api.resources import Resource
from pytest_k8snet.lab.api.schema import Problem, conform, json_type
from pytest_k8snet.lab.api.status import Cause, StatusError

_YAML = ("application/yaml", "text/yaml", "application/x-yaml")
_ACCEPTED = ("application/json", "application/yaml", schema.MEDIA_TYPE)

#: Larger bodies are refused, as etcd would.
BODY_LIMIT_BYTES = 3 * 1024 * 1024


async def read_data(request: web.Request, media_type: str = "") -> Any:
    """The request's body as JSON data, whatever its encoding; None when it is empty.

    A missing Content-Type means JSON.

    Raises:
        StatusError: 413, it is too large; 415, it is something else.
        Unparsed: it is not what its type says.
    """
    media_type = media_type or _content_type(request)
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
    if media_type == schema.MEDIA_TYPE:
        return schema.decode(body)
    try:
        if media_type in _YAML:
            return yaml.load(body, _YamlLoader)
        return json.loads(body, parse_constant=_no_number, object_pairs_hook=_Pairs.made)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        reason = f"yaml: {line}{_yaml_problem(str(getattr(error, 'problem', '')))}"
    except json.JSONDecodeError as error:
        reason = syntax_error(error)
    except UnicodeDecodeError as error:
        reason = f"invalid character {_quoted(body[error.start])} looking for beginning of value"
    except RecursionError:
        reason = "exceeded max depth"
    except ValueError as error:
        reason = str(error)
    raise Unparsed(reason)


def _yaml_problem(words: str) -> str:
    """What Go's parser says where Python's says something in words of its own."""
    for python, go in _YAML_PROBLEMS.items():
        if words.startswith(python):
            return go
    return words or "it cannot be parsed"


_YAML_PROBLEMS = {
    "expected the node content": "did not find expected node content",
    "expected ',' or": "did not find expected ',' or ']'",
    "expected <block end>": "did not find expected key",
    "expected '<document start>'": "did not find expected <document start>",
    "expected alphabetic or numeric": "did not find expected alphabetic or numeric character",
}


class Unparsed(StatusError):  # noqa: N818 -- it is the state of the body
    """400: a body is not what its type says; verbs put it in words of their own.

    Args:
        reason: in the words of Go's decoder.
    """

    def __init__(self, reason: str) -> None:
        why = reason
        if not reason.startswith("yaml: "):
            why = f"couldn't get version/kind; json parse error: {reason}"
        super().__init__(400, "BadRequest", why)
        self.reason_of_decoder = reason


def _no_number(text: str) -> None:
    """Refuse what Python takes for numbers in JSON, but JSON does not.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"invalid character '{text[0]}' looking for beginning of value")


def syntax_error(error: json.JSONDecodeError) -> str:
    """What Go's decoder says of a text that is no JSON."""
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated"):
        return "unexpected end of JSON input"
    character = _quoted(ord(error.doc[error.pos]))
    for words, told in _SYNTAX.items():
        if error.msg.startswith(words):
            return f"invalid character {character} {told}"
    return f"invalid character {character} in string literal"


#: Python's words, and Go's.
_SYNTAX = {
    "Expecting property name": "looking for beginning of object key string",
    "Expecting value": "looking for beginning of value",
    "Expecting ':'": "after object key",
    "Expecting ','": "after object key:value pair",
    "Illegal trailing comma": "looking for beginning of object key string",
    "Extra data": "after top-level value",
}


def _quoted(code: int) -> str:
    text = chr(code) if 32 <= code < 127 else json.dumps(chr(code))[1:-1]
    return f"'{text}'"


class _Pairs(dict[str, Any]):
    """An object of JSON that knows which of its fields stood there twice."""

    doubled: Sequence[str] = ()

    @classmethod
    def made(cls, pairs: list[tuple[str, Any]]) -> _Pairs:
        found = cls(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            found.doubled = sorted({name for name in names if names.count(name) > 1})
        return found


def _doubled(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all fields that a body has twice."""
    if isinstance(value, dict):
        for name in getattr(value, "doubled", ()):
            yield f"{path}.{name}" if path else name
        for name, item in value.items():
            yield from _doubled(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _doubled(item, f"{path}[{index}]")


def _content_type(request: web.Request) -> str:
    """The body's media type without parameters; JSON when none is named."""
    header = request.headers.get("Content-Type", "")
    return header.partition(";")[0].strip().lower() or "application/json"


class _YamlLoader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: time stamps are just strings."""


_YamlLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


async def read_object(request: web.Request, target: Target) -> Object:
    """The object that a client sends to a target, without the fields that nobody knows.

    Raises:
        StatusError: 400, it is not an object of the target's kind.
    """
    resource = target.resource
    unrecognized = f"the object provided is unrecognized (must be of type {resource.kind}): "
    try:
        data = await read_data(request)
        data = {} if data is None and await request.read() else data
        _check_type_meta(data)
    except Unparsed as error:
        body = await request.read()
        raise status.bad_request(f"{unrecognized}{error.message} ({_snippet(body)})") from None
    check_identity(data, target)
    conformed(resource, data, request.query)
    found: Object = data
    return found


def _check_type_meta(data: Any) -> None:
    """Refuse what has no version and kind that could be read.

    Raises:
        Unparsed: it is no object, or they are no text.
    """
    if data is None:
        raise Unparsed("unexpected end of JSON input")
    if not isinstance(data, dict):
        raise Unparsed(
            f"json: cannot unmarshal {json_type(data)} into Go value of type {TYPE_META}"
        )
    for key in ("apiVersion", "kind"):
        value = data.get(key)
        if value is not None and not isinstance(value, str):
            where = f"Go struct field .{key} of type string"
            raise Unparsed(f"json: cannot unmarshal {json_type(value)} into {where}")


#: What the decoder looks for first.
TYPE_META = (
    r'struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string'
    r' "json:\"kind,omitempty\"" }'
)


def _snippet(body: bytes) -> str:
    """The beginning of a body: of JSON its text, of all else its bytes."""
    if not body.strip():
        return "<empty>"
    is_json = body.lstrip().startswith(b"{")
    shown = body[:30].decode(errors="replace") if is_json else body[:30].hex()
    return shown + (" ..." if len(body) > 30 else "")


def check_identity(obj: Object, target: Target, *, patched: bool = False) -> None:
    """Refuse an object of another kind, name or namespace than the path says; fill in its own.

    Args:
        obj: what a client sent, or what its patch makes of an object.
        target: the path.
        patched: which of the two.

    Raises:
        StatusError: 400, or 422 of a patch.
    """
    resource = target.resource
    meta = obj.setdefault("metadata", {})
    if not isinstance(meta, dict):
        why = _wrong_type(
            Problem("type", "metadata", resource.kind, "v1.ObjectMeta", json_type(meta))
        )
        raise status.unfit_patch(obj, why) if patched else _undecodable(resource, why)
    for owner, path, value in (
        (resource.kind, "apiVersion", obj.get("apiVersion")),
        (resource.kind, "kind", obj.get("kind")),
        ("ObjectMeta", "metadata.name", meta.get("name")),
        ("ObjectMeta", "metadata.namespace", meta.get("namespace")),
    ):
        if value is not None and not isinstance(value, str):
            why = _wrong_type(Problem("type", path, owner, "string", json_type(value)))
            raise status.unfit_patch(obj, why) if patched else _undecodable(resource, why)
    kind, api_version = obj.get("kind"), obj.get("apiVersion")
    if resource.custom and not kind:
        text = json.dumps(obj)
        why = f"Object 'Kind' is missing in '{text}' ({_snippet(text.encode())})"
        raise status.bad_request(
            f"the object provided is unrecognized (must be of type {resource.kind}): {why}"
        )
    given = api_version or resource.api_version
    if resource.custom and not resource.aggregated and given != resource.api_version:
        raise status.bad_request(
            f"the API version in the data ({given}) does not match the expected API version"
            f" ({resource.api_version})"
        )
    if resource.custom and not resource.aggregated and kind != resource.kind:
        cause = Cause(
            "FieldValueInvalid", "kind", f'Invalid value: "{kind}": must be {resource.kind}'
        )
        name = str(dig(obj, "metadata.name", ""))
        raise status.invalid(resource, name, [cause], kind=str(kind))
    if (kind and kind != resource.kind) or given != resource.api_version:
        for problem in conform(str(kind), clone(obj)):
            # It is decoded as what it says that it is.
            if problem.kind == "type":
                why = _wrong_type(problem)
                raise status.unfit_patch(obj, why) if patched else _undecodable(resource, why)
        version = str(given).rpartition("/")[2]
        why = f'no kind "{kind}" is registered for version "{given}" in scheme "{SCHEME}"'
        if kind in schema.types() and given == resource.api_version:
            group = resource.group.partition(".")[0] or "core"
            ours = f"{group}.{resource.kind}"
            why = f"converting ({version}.{kind}) to ({ours}): unknown conversion"
        raise status.bad_request(
            f'{kind} in version "{version}" cannot be handled as a {resource.kind}: {why}'
        )
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


#: Where Kubernetes keeps what it knows, as its messages say.
SCHEME = "pkg/runtime/scheme.go:110"


def validated(query: Mapping[str, str], options: str) -> str:
    """How strictly fields are to be looked at.

    Raises:
        StatusError: 422, it cannot be done so.
    """
    mode = query.get("fieldValidation") or "Warn"
    if mode not in ("Ignore", "Warn", "Strict"):
        text = f'Unsupported value: "{mode}": supported values: "", "Ignore", "Strict", "Warn"'
        cause = Cause("FieldValueNotSupported", "fieldValidation", text)
        raise status.invalid_options(options, cause)
    return mode


def conformed(
    resource: Resource, obj: Object, query: Mapping[str, str], *, patched: bool = False
) -> None:
    """Check an object against its kind's fields, dropping unknown ones.

    Doubled and unknown fields are warned of, unless the request wants it otherwise.

    Args:
        resource: its kind.
        obj: what a client sent, or what its patch makes of an object.
        query: the parameters of the request.
        patched: which of the two.

    Raises:
        StatusError: 400 (422 of a patch) for a value of a wrong type, or for unknown or doubled
            fields in a strict request.
    """
    mode = validated(query, "PatchOptions" if patched else "CreateOptions")
    twice = list(_doubled(obj))
    sent = clone(obj)
    problems = conform(resource.type_name, obj)
    # The schema of a custom resource is part of its validation, not of decoding.
    by_schema = resource.custom and not resource.aggregated
    wrong = [
        problem
        for problem in problems
        if problem.kind == "type" and not (by_schema and not problem.path.startswith("metadata"))
    ]
    paths = [item.path for item in problems if item.kind == "unknown"]
    if resource.schema is not None:
        paths += definitions.prune(resource.schema, obj)
    unknown = [f'unknown field "{path}"' for path in paths]
    doubled = [f'duplicate field "{path}"' for path in twice if path not in paths]
    why = ""
    if wrong:
        why = _wrong_type(wrong[0])
    elif mode == "Strict" and (doubled or unknown):
        why = f"strict decoding error: {', '.join([*doubled, *unknown])}"
    if why:
        raise status.unfit_patch(sent, why) if patched else _undecodable(resource, why)
    for warning in [*doubled, *unknown] if mode == "Warn" else []:
        status.warn(warning)


def _wrong_type(problem: Problem) -> str:
    """What Go's decoder says of a value of the wrong type."""
    if problem.why:
        return problem.why
    plain = ".".join(step.partition("[")[0] for step in problem.path.split("."))
    where = f"Go struct field {problem.owner}.{plain} of type {problem.wanted}"
    return f"json: cannot unmarshal {problem.found} into {where}"


def _undecodable(resource: Resource, why: str) -> StatusError:
    return status.bad_request(
        f'{resource.kind} in version "{resource.version}" cannot be handled as a '
        f"{resource.kind}: {why}"
    )


def respond(data: Object, *, code: int = 200, media_type: str = "") -> web.Response:
    """A JSON response."""
    return web.Response(
        body=compact(data).encode() + b"\n",
        status=code,
        headers={"Content-Type": media_type or "application/json", "Cache-Control": "no-cache"},
    )


def respond_error(error: StatusError) -> web.Response:
    """The response to a request that is refused."""
    response = respond(error.to_dict(), code=error.code)
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


async def read_patch(request: web.Request, target: Target) -> tuple[str, Any]:
    """The kind of the patch in a request, and the patch.

    Raises:
        StatusError: 400, 415; 422, an apply configuration without a manager.
    """
    media_type = _content_type(request)
    accepted = patch.accepted_media_types(target.resource)
    if media_type not in accepted and (target.resource.aggregated or not target.resource.custom):
        raise StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    if media_type not in accepted:
        raise status.unsupported_media_type(accepted)
    kind = patch.MEDIA_TYPES[media_type]
    if kind == "apply" and not request.query.get("fieldManager"):
        why = "Required value: is required for apply patch"
        raise status.invalid_options(
            "PatchOptions", Cause("FieldValueRequired", "fieldManager", why)
        )
    as_type = "application/yaml" if kind == "apply" else "application/json"
    try:
        if kind != "apply" and not (await request.read()).strip():
            raise Unparsed("unexpected end of JSON input")
        return kind, await read_data(request, as_type)
    except Unparsed as error:
        why = f"error decoding patch: {error.reason_of_decoder}"
        if target.resource.aggregated:
            why = "invalid JSON patch"
        elif kind == "apply":
            why = f"error decoding YAML: error converting YAML to JSON: {error.reason_of_decoder}"
        raise status.bad_request(why) from None

"""The verbs on objects and collections: get, list, watch, create, update, patch, delete."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from aiohttp import web

from pytest_k8snet.lab.api import kubectl, patch, request, schema, status
from pytest_k8snet.lab.api.kubectl import label_selector_text
from pytest_k8snet.lab.api.objects import Object, condition, dig, name_of, namespace_of
from pytest_k8snet.lab.api.request import Target, integer, is_true, matcher
from pytest_k8snet.lab.api.resources import Resource
from pytest_k8snet.lab.api.schema import Problem, conform, json_type
from pytest_k8snet.lab.api.status import Cause, StatusError
from pytest_k8snet.lab.api.store import Event, Store, put_condition

Handler = Callable[[web.Request, Store, Target], Awaitable[web.StreamResponse]]

# Kinds whose deletion answers with the object instead of a Status.
_RETURNED_WHEN_DELETED = {"pods", "services", "serviceaccounts"}


async def handle(request: web.Request, store: Store, target: Target) -> web.StreamResponse:
    """Answer a request for an object or a collection.

    Raises:
        StatusError: the request is refused.
    """
    return await _HANDLERS[target.verb](request, store, target)


async def _get(request: web.Request, store: Store, target: Target) -> web.StreamResponse:
    obj = store.get(target.resource, target.name, target.namespace)
    return _shown(request, target, obj)


async def _list(request: web.Request, store: Store, target: Target) -> web.StreamResponse:
    query = request.query
    meta: Object = {"resourceVersion": str(store.version)}
    _check_not_ahead(store, query)
    objects = store.list(
        target.resource,
        target.namespace,
        labels=query.get("labelSelector", ""),
        fields=query.get("fieldSelector", ""),
    )
    objects = _page(objects, query, meta)
    form = kubectl.form(request.headers.get("Accept", ""))
    if form == "Table":
        include = query.get("includeObject", "Metadata")
        return respond(kubectl.render(target.resource, objects, meta, include=include))
    if form == "PartialObjectMetadataList":
        items = [kubectl.partial_metadata(obj) for obj in objects]
        kind, api_version = form, "meta.k8s.io/v1"
    else:
        # Within a list, objects do not repeat their kind.
        items = [_without_kind(obj) for obj in objects] if not target.resource.custom else objects
        kind, api_version = f"{target.resource.kind}List", target.resource.api_version
    return respond({"kind": kind, "apiVersion": api_version, "metadata": meta, "items": items})


def _without_kind(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}


def _check_not_ahead(store: Store, query: Mapping[str, str]) -> None:
    wanted = integer(query, "resourceVersion") or 0
    if wanted > store.version:
        raise status.StatusError(
            504,
            "Timeout",
            f"Too large resource version: {wanted}, current: {store.version}",
            {"causes": [{"reason": "ResourceVersionTooLarge", "message": "too large"}]},
            retry_after_seconds=1,
        )


def _page(objects: list[Object], query: Mapping[str, str], meta: Object) -> list[Object]:
    """The part of a list that is asked for; says in ``meta`` how to go on."""
    if query.get("continue"):
        try:
            token = json.loads(base64.urlsafe_b64decode(query["continue"]))
            start = (str(token["start"][0]), str(token["start"][1]))
        except (ValueError, KeyError, IndexError, TypeError):
            raise status.bad_request("continue key is not valid: illegal base64 data") from None
        objects = [obj for obj in objects if (namespace_of(obj), name_of(obj)) > start]
    limit = integer(query, "limit") or 0
    if 0 < limit < len(objects):
        last = objects[limit - 1]
        token = {"start": [namespace_of(last), name_of(last)]}
        meta["continue"] = base64.urlsafe_b64encode(json.dumps(token).encode()).decode()
        meta["remainingItemCount"] = len(objects) - limit
        objects = objects[:limit]
    return objects


async def _create(request: web.Request, store: Store, target: Target) -> web.StreamResponse:
    body, warnings = await read_object(request, target)
    obj = store.create(target.resource, body, target.namespace, dry_run=_dry_run(request.query))
    return _shown(request, target, obj, code=201, warnings=warnings)


async def _update(request: web.Request, store: Store, target: Target) -> web.StreamResponse:
    body, warnings = await read_object(request, target)
    obj = store.update(
        target.resource,
        body,
        target.namespace,
        subresource=target.subresource,
        dry_run=_dry_run(request.query),
    )
    return _shown(request, target, obj, warnings=warnings)


async def _patch(request: web.Request, store: Store, target: Target) -> web.StreamResponse:
    kind, data = await _read_patch(request, target)
    query, resource = request.query, target.resource
    if kind == "apply":
        if not isinstance(data, dict):
            raise status.bad_request("the apply configuration must be an object")
        _check_identity(data, target)
        if not store.has(resource, target.name, target.namespace):
            warnings = _conformed(resource, data, query)
            obj = store.create(resource, data, target.namespace, dry_run=_dry_run(query))
            return _shown(request, target, obj, code=201, warnings=warnings)
    # Nothing else runs between the read and the write, so the result is checked like any update.
    new = patch.apply(resource, store.get(resource, target.name, target.namespace), data, kind)
    _check_identity(new, target)
    warnings = _conformed(resource, new, query)
    obj = store.update(
        resource,
        new,
        target.namespace,
        subresource=target.subresource,
        dry_run=_dry_run(query),
    )
    return _shown(request, target, obj, warnings=warnings)


async def _delete(request: web.Request, store: Store, target: Target) -> web.StreamResponse:
    options = await _delete_options(request)
    obj = store.delete(
        target.resource,
        target.name,
        target.namespace,
        grace_seconds=options.get("gracePeriodSeconds"),
        propagation=options.get("propagationPolicy"),
        preconditions=options.get("preconditions"),
        dry_run=bool(options.get("dryRun")),
    )
    pending = "deletionTimestamp" in obj["metadata"]
    if pending or target.resource.key in _RETURNED_WHEN_DELETED:
        return _shown(request, target, obj)
    details = {"name": target.name, "kind": target.resource.plural, "uid": obj["metadata"]["uid"]}
    if target.resource.group:
        details["group"] = target.resource.group
    return respond(_success(details))


async def _delete_collection(
    request: web.Request, store: Store, target: Target
) -> web.StreamResponse:
    options = await _delete_options(request)
    objects = store.list(
        target.resource,
        target.namespace,
        labels=request.query.get("labelSelector", ""),
        fields=request.query.get("fieldSelector", ""),
    )
    for obj in objects:
        store.delete(
            target.resource,
            name_of(obj),
            namespace_of(obj),
            grace_seconds=options.get("gracePeriodSeconds"),
            propagation=options.get("propagationPolicy"),
            dry_run=bool(options.get("dryRun")),
        )
    return respond(
        {
            "kind": f"{target.resource.kind}List",
            "apiVersion": target.resource.api_version,
            "metadata": {"resourceVersion": str(store.version)},
            "items": objects,
        }
    )


async def _delete_options(request: web.Request) -> Object:
    """The options of a deletion: from the body, or else from the query."""
    options = await read_data(request) or {}
    if not isinstance(options, dict) or dig(options, "kind", "DeleteOptions") != "DeleteOptions":
        raise status.bad_request("the body of a deletion must be DeleteOptions")
    query = request.query
    given = {
        "gracePeriodSeconds": integer(query, "gracePeriodSeconds"),
        "propagationPolicy": query.get("propagationPolicy"),
        "dryRun": [query["dryRun"]] if "dryRun" in query else None,
    }
    options = {**{key: value for key, value in given.items() if value is not None}, **options}
    policy = options.get("propagationPolicy")
    if policy not in (None, "", "Background", "Foreground", "Orphan"):
        raise status.bad_request(
            f'propagationPolicy: Unsupported value: "{policy}": supported values: "Background",'
            ' "Foreground", "Orphan"'
        )
    return options


def _success(details: Object | None = None) -> Object:
    """The Status that says that all went well."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        **({"details": details} if details else {}),
    }


def _shown(
    request: web.Request,
    target: Target,
    obj: Object,
    *,
    code: int = 200,
    warnings: list[str] | None = None,
) -> web.Response:
    """One object in the form that the client asked for."""
    accept = request.headers.get("Accept", "")
    form = kubectl.form(accept)
    if form == "Table":
        meta = {"resourceVersion": obj["metadata"]["resourceVersion"]}
        include = request.query.get("includeObject", "Metadata")
        obj = kubectl.render(target.resource, [obj], meta, include=include)
    elif form:
        obj = kubectl.partial_metadata(obj)
    elif accept.partition(",")[0].strip() == "application/yaml" and not is_true(
        request.query.get("pretty")
    ):
        text = yaml.safe_dump(obj, sort_keys=False).encode()
        return web.Response(body=text, status=code, content_type="application/yaml")
    return respond(obj, code=code, warnings=warnings)


def _dry_run(query: Mapping[str, str]) -> bool:
    """Whether nothing is to be stored.

    Raises:
        StatusError: 400, the parameter is not ``All``.
    """
    value = query.get("dryRun", "")
    if value not in ("", "All"):
        raise status.bad_request(
            f'Invalid value: "{value}": dryRun: Unsupported value: "{value}": supported values:'
            ' "All"'
        )
    return bool(value)


# -- Watches ---------------------------------------------------------------------------------------

#: A watch without a time limit of its own ends after this long, as on a real cluster.
DEFAULT_TIMEOUT_SECONDS = 1800
#: How often a watch that allows bookmarks gets one.
BOOKMARK_SECONDS = 60.0


async def _watch(request: web.Request, store: Store, target: Target) -> web.StreamResponse:
    """Stream events until the time is over or the client goes.

    Without a resourceVersion, what exists comes first as ADDED. A version that is no longer
    remembered gives an ERROR event with Status 410, as Kubernetes' watch cache does.

    Raises:
        StatusError: 400, a parameter cannot be understood.
    """
    query = request.query
    labels = query.get("labelSelector", "")
    fields = query.get("fieldSelector", "")
    if target.name:
        fields = ",".join(filter(None, [fields, f"metadata.name={target.name}"]))
    chosen = matcher(target.resource.key, labels, fields)
    since = integer(query, "resourceVersion") or 0
    limit = integer(query, "timeoutSeconds") or DEFAULT_TIMEOUT_SECONDS
    bookmarks = is_true(query.get("allowWatchBookmarks"))
    initial = is_true(query.get("sendInitialEvents")) or not since

    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    form = kubectl.form(request.headers.get("Accept", ""))
    writer = _Writer(response, target, form, query.get("includeObject", "Metadata"))
    history = store.history(target.resource)
    with history.subscription() as queue:
        # The snapshot and the subscription belong to one instant: nothing is missed or doubled.
        version = store.version
        present = (
            store.list(target.resource, target.namespace, labels=labels, fields=fields)
            if initial
            else []
        )
        missed = [] if initial else history.since(since)
        await response.prepare(request)
        if not initial and since < history.forgotten:
            gone = status.expired(f"too old resource version: {since} ({history.forgotten + 1})")
            await response.write(_encode("ERROR", gone.to_dict()))
            return response
        if present:
            await writer.write_many(
                [("ADDED", obj, int(obj["metadata"]["resourceVersion"])) for obj in present]
            )
        if is_true(query.get("sendInitialEvents")) and bookmarks:
            await writer.bookmark(version, initial=True)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit
        next_bookmark = loop.time() + BOOKMARK_SECONDS
        pending = iter(missed)
        while True:
            event = next(pending, None)
            if event is None:
                until = min(deadline, next_bookmark) if bookmarks else deadline
                try:
                    event = await asyncio.wait_for(queue.get(), until - loop.time())
                except TimeoutError:
                    if bookmarks:
                        await writer.bookmark(version)
                    if loop.time() >= deadline:
                        return response
                    next_bookmark = loop.time() + BOOKMARK_SECONDS
                    continue
            version = event.version
            for kind, obj in _visible(event, target.namespace, chosen):
                await writer.write(kind, obj, event.version)


def _visible(event: Event, namespace: str, chosen: request.Matcher) -> Iterator[tuple[str, Object]]:
    """The event as a watch with selectors sees it: objects come into view and go out of it."""
    meta = event.object["metadata"]
    if namespace and meta.get("namespace") != namespace:
        return
    now = chosen(event.object) and event.type != "DELETED"
    before = event.previous is not None and chosen(event.previous)
    if now:
        yield ("MODIFIED" if before else "ADDED"), event.object
    elif before:
        yield "DELETED", event.object


@dataclass(slots=True)
class _Writer:
    """Writes events in the form that the client asked for: objects, tables or metadata."""

    response: web.StreamResponse
    target: Target
    form: str
    include: str

    async def write(self, kind: str, obj: Object, version: int) -> None:
        await self.write_many([(kind, obj, version)])

    async def write_many(self, events: list[tuple[str, Object, int]]) -> None:
        # One write for many events: a watch begins with everything there is.
        lines = (self._line(kind, obj, version) for kind, obj, version in events)
        await self.response.write(b"".join(lines))

    def _line(self, kind: str, obj: Object, version: int) -> bytes:
        seen: Object = {**obj, "apiVersion": self.target.resource.api_version}
        seen["metadata"] = {**obj["metadata"], "resourceVersion": str(version)}
        if self.form == "Table":
            meta = {"resourceVersion": str(version)}
            seen = kubectl.render(self.target.resource, [seen], meta, include=self.include)
        elif self.form:
            seen = kubectl.partial_metadata(seen)
        return _encode(kind, seen)

    async def bookmark(self, version: int, *, initial: bool = False) -> None:
        meta: Object = {"resourceVersion": str(version), "creationTimestamp": None}
        if initial:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        resource = self.target.resource
        bookmark: Object = {
            "kind": resource.kind,
            "apiVersion": resource.api_version,
            "metadata": meta,
        }
        if self.form == "Table":
            bookmark = {
                "kind": "Table",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": meta,
                "columnDefinitions": [],
                "rows": [],
            }
        await self.response.write(_encode("BOOKMARK", bookmark))


def _encode(kind: str, obj: Object) -> bytes:
    return json.dumps({"type": kind, "object": obj}, separators=(",", ":")).encode() + b"\n"


_HANDLERS: dict[str, Handler] = {
    "get": _get,
    "list": _list,
    "watch": _watch,
    "create": _create,
    "update": _update,
    "patch": _patch,
    "delete": _delete,
    "deletecollection": _delete_collection,
}


# -- What hangs below an object: scale, binding, eviction ------------------------------------------


async def scale(request: web.Request, store: Store, target: Target) -> web.Response:
    """The number of replicas, as a Scale of its own.

    Raises:
        StatusError: the request is refused.
    """
    workload = store.get(target.resource, target.name, target.namespace)
    current = _scale_of(workload)
    if target.verb == "get":
        return respond(current)
    if target.verb == "update":
        wanted = await read_data(request)
    else:
        kind, data = await _read_patch(request, target)
        # A Scale has no lists that strategic merge would treat in a way of its own.
        plain = "merge" if kind in ("strategic", "apply") else kind
        wanted = patch.apply(target.resource, current, data, plain)
    if not isinstance(wanted, dict) or wanted.get("kind", "Scale") != "Scale":
        raise status.bad_request("the object provided is unrecognized (must be of type Scale)")
    replicas = dig(wanted, "spec.replicas", 0)
    if not isinstance(replicas, int) or replicas < 0:
        cause = Cause(
            "FieldValueInvalid",
            "spec.replicas",
            f"Invalid value: {replicas}: must be greater than or equal to 0",
        )
        raise status.invalid(target.resource, target.name, [cause])
    workload["spec"]["replicas"] = replicas
    version = dig(wanted, "metadata.resourceVersion")
    if version:
        workload["metadata"]["resourceVersion"] = version
    updated = store.update(
        target.resource, workload, target.namespace, dry_run=_dry_run(request.query)
    )
    return respond(_scale_of(updated))


def _scale_of(workload: Object) -> Object:
    meta = workload["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in kept},
        "spec": {"replicas": dig(workload, "spec.replicas", 0)},
        "status": {
            "replicas": dig(workload, "status.replicas", 0),
            "selector": label_selector_text(dig(workload, "spec.selector")),
        },
    }


async def bind(request: web.Request, store: Store, target: Target) -> web.Response:
    """Put a pod on a node, as a scheduler does.

    Raises:
        StatusError: 404, no such pod; 409, it is on a node already; 422, no node is named.
    """
    binding = await read_data(request)
    node = str(dig(binding, "target.name", ""))
    if not node:
        cause = Cause("FieldValueRequired", "target.name", "Required value")
        raise status.invalid(target.resource, target.name, [cause])
    assign_node(store, target.namespace, target.name, node)
    return respond(_success(), code=201)


def assign_node(store: Store, namespace: str, name: str, node: str) -> None:
    """Set a pod's node, once, and its condition ``PodScheduled``.

    Raises:
        StatusError: 404, no such pod; 409, it is on a node already or about to be deleted.
    """
    pod = store.get("pods", name, namespace)
    row = store.resource("pods")
    if dig(pod, "metadata.deletionTimestamp"):
        raise status.conflict(
            row, name, f"pod {name} is being deleted, cannot be assigned to a host"
        )
    if assigned := dig(pod, "spec.nodeName"):
        raise status.conflict(row, name, f'pod {name} is already assigned to node "{assigned}"')
    pod["spec"]["nodeName"] = node
    store.update("pods", pod, namespace, subresource="binding")
    put_condition(store, "pods", pod, condition("PodScheduled", True))


async def evict(request: web.Request, store: Store, target: Target) -> web.Response:
    """Delete a pod in the name of a drain.

    Raises:
        StatusError: 404, no such pod.
    """
    eviction = await read_data(request) or {}
    options = eviction.get("deleteOptions") or {}
    store.delete(
        target.resource,
        target.name,
        target.namespace,
        grace_seconds=options.get("gracePeriodSeconds"),
        preconditions=options.get("preconditions"),
        dry_run=bool(options.get("dryRun")) or _dry_run(request.query),
    )
    return respond(_success(), code=201)


# -- Bodies: JSON, YAML or protobuf in, checked field by field; JSON out ---------------------------

_YAML = ("application/yaml", "text/yaml", "application/x-yaml")
_ACCEPTED = ("application/json", "application/yaml", schema.MEDIA_TYPE)

#: Larger bodies are refused, as etcd would.
BODY_LIMIT_BYTES = 3 * 1024 * 1024


async def read_data(request: web.Request, media_type: str = "") -> Any:
    """The request's body as JSON data, whatever its encoding; None when it is empty.

    A missing Content-Type means JSON.

    Raises:
        StatusError: 400, it cannot be parsed; 413, it is too large; 415, it is something else.
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
    _check_identity(data, target)
    return data, _conformed(resource, data, request.query)


def _check_identity(obj: Object, target: Target) -> None:
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


def _conformed(resource: Resource, obj: Object, query: Mapping[str, str]) -> list[str]:
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
        raise _undecodable(resource, f"strict decoding error: {', '.join(unknown)}")
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
    why = {
        ("string", "v1.Time"): 'parsing time: cannot parse as "2006-01-02T15:04:05Z07:00"',
        ("string", "resource.Quantity"): "quantities must match the regular expression"
        " '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    }.get((found, wanted))
    if why is not None:
        return _undecodable(resource, f"{field}: {why}")
    return _undecodable(
        resource,
        f"json: cannot unmarshal {found} into Go struct field {field} of type {wanted}",
    )


def _undecodable(resource: Resource, why: str) -> StatusError:
    return status.bad_request(
        f'{resource.kind} in version "{resource.version}" cannot be handled as a '
        f"{resource.kind}: {why}"
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


async def _read_patch(request: web.Request, target: Target) -> tuple[str, object]:
    """The kind of the patch in a request, and the patch.

    Raises:
        StatusError: 400 or 415.
    """
    media_type = _content_type(request)
    accepted = patch.accepted_media_types(target.resource)
    if media_type not in accepted:
        raise status.unsupported_media_type(accepted)
    kind = patch.MEDIA_TYPES[media_type]
    as_type = "application/yaml" if kind == "apply" else "application/json"
    return kind, await read_data(request, as_type)

"""The verbs on objects and collections: get, list, watch, create, update, patch, delete."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Mapping, Sequence
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

#: A watch without a time limit of its own ends after this long, as on a real cluster.
DEFAULT_TIMEOUT_SECONDS = 1800
#: How often a watch that allows bookmarks gets one.
BOOKMARK_SECONDS = 60.0

# Kinds whose deletion answers with the object instead of a Status.
_RETURNED_WHEN_DELETED = {"pods", "services", "serviceaccounts"}


async def answer(request: web.Request, store: Store, target: Target) -> web.StreamResponse:
    """Answer a request for an object, for a collection, or for what hangs below an object.

    Raises:
        StatusError: the request is refused.
    """
    call = _Call(request, store, target)
    match target.subresource, target.verb:
        case "scale", _:
            return await call.scale()
        case "binding", _:
            return await call.bind()
        case "eviction", _:
            return await call.evict()
        case _, "get":
            return call.shown(call.current())
        case _, "list":
            return call.list()
        case _, "watch":
            return await call.watch()
        case _, "create":
            return await call.create()
        case _, "update":
            return await call.update()
        case _, "patch":
            return await call.patch()
        case _, "delete":
            return await call.delete()
    return await call.delete_collection()


@dataclass(frozen=True, slots=True)
class _Call:
    """One request, and what it is about."""

    request: web.Request
    store: Store
    target: Target

    @property
    def resource(self) -> Resource:
        return self.target.resource

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query

    @property
    def selectors(self) -> dict[str, str]:
        """The label and the field selector, as ``Store.list`` takes them."""
        labels, fields = self.query.get("labelSelector", ""), self.query.get("fieldSelector", "")
        return {"labels": labels, "fields": fields}

    @property
    def dry_run(self) -> bool:
        """Whether nothing is to be stored.

        Raises:
            StatusError: 400, the parameter is not ``All``.
        """
        value = self.query.get("dryRun", "")
        if value not in ("", "All"):
            raise status.bad_request(
                f'Invalid value: "{value}": dryRun: Unsupported value: "{value}": supported'
                ' values: "All"'
            )
        return bool(value)

    def current(self) -> Object:
        return self.store.get(self.resource, self.target.name, self.target.namespace)

    def list(self) -> web.Response:
        meta: Object = {"resourceVersion": str(self.store.version)}
        wanted = integer(self.query, "resourceVersion") or 0
        if wanted > self.store.version:
            raise StatusError(
                504,
                "Timeout",
                f"Too large resource version: {wanted}, current: {self.store.version}",
                {"causes": [{"reason": "ResourceVersionTooLarge", "message": "too large"}]},
                retry_after_seconds=1,
            )
        objects = self.store.list(self.resource, self.target.namespace, **self.selectors)
        objects = _page(objects, self.query, meta)
        form = kubectl.form(self.request.headers.get("Accept", ""))
        kind, api_version = f"{self.resource.kind}List", self.resource.api_version
        if form == "Table":
            include = self.query.get("includeObject", "Metadata")
            return respond(kubectl.render(self.resource, objects, meta, include=include))
        if form == "PartialObjectMetadataList":
            objects = [kubectl.partial_metadata(obj) for obj in objects]
            kind, api_version = form, "meta.k8s.io/v1"
        elif not self.resource.custom:
            # Within a list, objects do not repeat their kind.
            objects = [
                {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}
                for obj in objects
            ]
        return respond(
            {"kind": kind, "apiVersion": api_version, "metadata": meta, "items": objects}
        )

    async def create(self) -> web.Response:
        body, warnings = await read_object(self.request, self.target)
        obj = self.store.create(self.resource, body, self.target.namespace, dry_run=self.dry_run)
        return self.shown(obj, code=201, warnings=warnings)

    async def update(self) -> web.Response:
        body, warnings = await read_object(self.request, self.target)
        return self.shown(self._replace(body), warnings=warnings)

    def _replace(self, body: Object) -> Object:
        return self.store.update(
            self.resource,
            body,
            self.target.namespace,
            subresource=self.target.subresource,
            dry_run=self.dry_run,
        )

    async def patch(self) -> web.Response:
        kind, data = await _read_patch(self.request, self.target)
        if kind == "apply" and not isinstance(data, dict):
            raise status.bad_request("the apply configuration must be an object")
        exists = self.store.has(self.resource, self.target.name, self.target.namespace)
        if kind == "apply" and not exists:
            new: Object = data
        else:
            # Nothing runs between the read and the write: the result is checked like any update.
            new = patch.apply(self.resource, self.current(), data, kind)
        _check_identity(new, self.target)
        warnings = _conformed(self.resource, new, self.query)
        if exists:
            return self.shown(self._replace(new), warnings=warnings)
        obj = self.store.create(self.resource, new, self.target.namespace, dry_run=self.dry_run)
        return self.shown(obj, code=201, warnings=warnings)

    async def delete(self) -> web.Response:
        options = await self._delete_options()
        obj = self._delete(self.target.name, self.target.namespace, options)
        pending = "deletionTimestamp" in obj["metadata"]
        if pending or self.resource.key in _RETURNED_WHEN_DELETED:
            return self.shown(obj)
        uid = obj["metadata"]["uid"]
        details = {"name": self.target.name, "kind": self.resource.plural, "uid": uid}
        if self.resource.group:
            details["group"] = self.resource.group
        return respond(_success(details))

    async def delete_collection(self) -> web.Response:
        options = await self._delete_options()
        objects = self.store.list(self.resource, self.target.namespace, **self.selectors)
        for obj in objects:
            self._delete(name_of(obj), namespace_of(obj), {**options, "preconditions": None})
        return respond(
            {
                "kind": f"{self.resource.kind}List",
                "apiVersion": self.resource.api_version,
                "metadata": {"resourceVersion": str(self.store.version)},
                "items": objects,
            }
        )

    def _delete(self, name: str, namespace: str, options: Object) -> Object:
        return self.store.delete(
            self.resource,
            name,
            namespace,
            grace_seconds=options.get("gracePeriodSeconds"),
            propagation=options.get("propagationPolicy"),
            preconditions=options.get("preconditions"),
            dry_run=bool(options.get("dryRun")) or self.dry_run,
        )

    async def _delete_options(self) -> Object:
        """The options of a deletion: from the body, or else from the query."""
        options = await read_data(self.request) or {}
        kind = dig(options, "kind", "DeleteOptions")
        if not isinstance(options, dict) or kind != "DeleteOptions":
            raise status.bad_request("the body of a deletion must be DeleteOptions")
        given = {
            "gracePeriodSeconds": integer(self.query, "gracePeriodSeconds"),
            "propagationPolicy": self.query.get("propagationPolicy"),
        }
        options = {**{key: value for key, value in given.items() if value is not None}, **options}
        policy = options.get("propagationPolicy")
        if policy not in (None, "", "Background", "Foreground", "Orphan"):
            raise status.bad_request(
                f'propagationPolicy: Unsupported value: "{policy}": supported values:'
                ' "Background", "Foreground", "Orphan"'
            )
        return options

    def shown(self, obj: Object, *, code: int = 200, warnings: Sequence[str] = ()) -> web.Response:
        """One object in the form that the client asked for."""
        accept = self.request.headers.get("Accept", "")
        form = kubectl.form(accept)
        if form == "Table":
            meta = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            include = self.query.get("includeObject", "Metadata")
            obj = kubectl.render(self.resource, [obj], meta, include=include)
        elif form:
            obj = kubectl.partial_metadata(obj)
        elif accept.partition(",")[0].strip() == "application/yaml" and not is_true(
            self.query.get("pretty")
        ):
            text = yaml.safe_dump(obj, sort_keys=False).encode()
            return web.Response(body=text, status=code, content_type="application/yaml")
        return respond(obj, code=code, warnings=warnings)

    async def scale(self) -> web.Response:
        """The number of replicas, as a Scale of its own."""
        workload = self.current()
        current = _scale_of(workload)
        if self.target.verb == "get":
            return respond(current)
        if self.target.verb == "update":
            wanted = await read_data(self.request)
        else:
            kind, data = await _read_patch(self.request, self.target)
            # A Scale has no lists that strategic merge would treat in a way of its own.
            plain = "merge" if kind in ("strategic", "apply") else kind
            wanted = patch.apply(self.resource, current, data, plain)
        if not isinstance(wanted, dict) or wanted.get("kind", "Scale") != "Scale":
            raise status.bad_request("the object provided is unrecognized (must be of type Scale)")
        replicas = dig(wanted, "spec.replicas", 0)
        if not isinstance(replicas, int) or replicas < 0:
            why = f"Invalid value: {replicas}: must be greater than or equal to 0"
            cause = Cause("FieldValueInvalid", "spec.replicas", why)
            raise status.invalid(self.resource, self.target.name, [cause])
        workload["spec"]["replicas"] = replicas
        if version := dig(wanted, "metadata.resourceVersion"):
            workload["metadata"]["resourceVersion"] = version
        updated = self.store.update(
            self.resource, workload, self.target.namespace, dry_run=self.dry_run
        )
        return respond(_scale_of(updated))

    async def bind(self) -> web.Response:
        """Put a pod on a node, as a scheduler does."""
        node = str(dig(await read_data(self.request), "target.name", ""))
        if not node:
            cause = Cause("FieldValueRequired", "target.name", "Required value")
            raise status.invalid(self.resource, self.target.name, [cause])
        assign_node(self.store, self.target.namespace, self.target.name, node)
        return respond(_success(), code=201)

    async def evict(self) -> web.Response:
        """Delete a pod in the name of a drain."""
        options = dig(await read_data(self.request), "deleteOptions", {})
        self._delete(self.target.name, self.target.namespace, options)
        return respond(_success(), code=201)

    async def watch(self) -> web.StreamResponse:
        """Stream events until the time is over or the client goes.

        Without a resourceVersion, what exists comes first as ADDED. A version that is no longer
        remembered gives an ERROR event with Status 410, as Kubernetes' watch cache does.
        """
        query, target, selectors = self.query, self.target, self.selectors
        if target.name:
            fields = [selectors["fields"], f"metadata.name={target.name}"]
            selectors["fields"] = ",".join(filter(None, fields))
        chosen = matcher(self.resource.key, **selectors)
        since = integer(query, "resourceVersion") or 0
        limit = integer(query, "timeoutSeconds") or DEFAULT_TIMEOUT_SECONDS
        bookmarks = is_true(query.get("allowWatchBookmarks"))
        initial = is_true(query.get("sendInitialEvents")) or not since

        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        history = self.store.history(self.resource)
        with history.subscription() as queue:
            # The snapshot and the subscription belong to one instant: nothing is missed or doubled.
            version = self.store.version
            present = (
                self.store.list(self.resource, target.namespace, **selectors) if initial else []
            )
            missed = [] if initial else history.since(since)
            await response.prepare(self.request)
            if not initial and since < history.forgotten:
                gone = status.expired(
                    f"too old resource version: {since} ({history.forgotten + 1})"
                )
                await response.write(_encode("ERROR", gone.to_dict()))
                return response
            if present:
                # One write for many events: a watch begins with everything there is.
                versions = (int(obj["metadata"]["resourceVersion"]) for obj in present)
                events = zip(present, versions, strict=True)
                await response.write(b"".join(self.event("ADDED", *event) for event in events))
            if is_true(query.get("sendInitialEvents")) and bookmarks:
                await response.write(self.bookmark(version, initial=True))
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
                            await response.write(self.bookmark(version))
                        if loop.time() >= deadline:
                            return response
                        next_bookmark = loop.time() + BOOKMARK_SECONDS
                        continue
                version = event.version
                for kind, obj in _visible(event, target.namespace, chosen):
                    await response.write(self.event(kind, obj, event.version))

    def event(self, kind: str, obj: Object, version: int) -> bytes:
        """An event in the form that the client asked for: an object, a table or metadata."""
        seen: Object = {**obj, "apiVersion": self.resource.api_version}
        seen["metadata"] = {**obj["metadata"], "resourceVersion": str(version)}
        form = kubectl.form(self.request.headers.get("Accept", ""))
        if form == "Table":
            meta = {"resourceVersion": str(version)}
            include = self.query.get("includeObject", "Metadata")
            seen = kubectl.render(self.resource, [seen], meta, include=include)
        elif form:
            seen = kubectl.partial_metadata(seen)
        return _encode(kind, seen)

    def bookmark(self, version: int, *, initial: bool = False) -> bytes:
        """The event that says how far the watch has come."""
        meta: Object = {"resourceVersion": str(version), "creationTimestamp": None}
        if initial:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        if kubectl.form(self.request.headers.get("Accept", "")) == "Table":
            return _encode("BOOKMARK", kubectl.render(self.resource, [], meta))
        kind, api_version = self.resource.kind, self.resource.api_version
        return _encode("BOOKMARK", {"kind": kind, "apiVersion": api_version, "metadata": meta})


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


def _success(details: Object | None = None) -> Object:
    """The Status that says that all went well."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        **({"details": details} if details else {}),
    }


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


def _encode(kind: str, obj: Object) -> bytes:
    return json.dumps({"type": kind, "object": obj}, separators=(",", ":")).encode() + b"\n"


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
    data: Object, *, code: int = 200, warnings: Sequence[str] = (), media_type: str = ""
) -> web.Response:
    """A JSON response."""
    response = web.Response(
        body=json.dumps(data, separators=(",", ":")).encode(),
        status=code,
        headers={"Content-Type": media_type or "application/json", "Cache-Control": "no-cache"},
    )
    for warning in warnings:
        response.headers.add("Warning", f"299 - {json.dumps(warning)}")
    return response


def respond_error(error: StatusError) -> web.Response:
    """The response to a request that is refused."""
    response = respond(error.to_dict(), code=error.code)
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


async def _read_patch(request: web.Request, target: Target) -> tuple[str, Any]:
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

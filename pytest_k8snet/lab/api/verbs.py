"""The verbs on objects and collections: get, list, create, update, patch, delete."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping

import yaml
from aiohttp import web

from pytest_k8snet.lab.api import bodies, patch, status, table
from pytest_k8snet.lab.api.objects import Object, dig, name_of, namespace_of
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.api.target import Target, integer, is_true
from pytest_k8snet.lab.api.watching import watch

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
    return shown(request, target, obj)


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
    form = table.form(request.headers.get("Accept", ""))
    if form == "Table":
        include = query.get("includeObject", "Metadata")
        return bodies.respond(table.render(target.resource, objects, meta, include=include))
    if form == "PartialObjectMetadataList":
        items = [table.partial_metadata(obj) for obj in objects]
        kind, api_version = form, "meta.k8s.io/v1"
    else:
        # Within a list, objects do not repeat their kind.
        items = [_without_kind(obj) for obj in objects] if not target.resource.custom else objects
        kind, api_version = f"{target.resource.kind}List", target.resource.api_version
    return bodies.respond(
        {"kind": kind, "apiVersion": api_version, "metadata": meta, "items": items}
    )


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
    body, warnings = await bodies.read_object(request, target)
    obj = store.create(target.resource, body, target.namespace, dry_run=dry_run(request.query))
    return shown(request, target, obj, code=201, warnings=warnings)


async def _update(request: web.Request, store: Store, target: Target) -> web.StreamResponse:
    body, warnings = await bodies.read_object(request, target)
    obj = store.update(
        target.resource,
        body,
        target.namespace,
        subresource=target.subresource,
        dry_run=dry_run(request.query),
    )
    return shown(request, target, obj, warnings=warnings)


async def _patch(request: web.Request, store: Store, target: Target) -> web.StreamResponse:
    kind, data = await read_patch(request, target)
    query, resource = request.query, target.resource
    options = {"subresource": target.subresource}
    if kind == "apply":
        if not isinstance(data, dict):
            raise status.bad_request("the apply configuration must be an object")
        bodies.check_identity(data, target)
        if not _exists(store, target):
            warnings = bodies.conformed(resource, data, query)
            obj = store.create(resource, data, target.namespace, dry_run=dry_run(query))
            return shown(request, target, obj, code=201, warnings=warnings)
    # Nothing else runs between the read and the write, so the result is checked like any update.
    new = patch.apply(resource, store.get(resource, target.name, target.namespace), data, kind)
    bodies.check_identity(new, target)
    warnings = bodies.conformed(resource, new, query)
    obj = store.update(resource, new, target.namespace, dry_run=dry_run(query), **options)
    return shown(request, target, obj, warnings=warnings)


async def read_patch(request: web.Request, target: Target) -> tuple[str, object]:
    """The kind of the patch in a request, and the patch.

    Raises:
        StatusError: 400 or 415.
    """
    media_type = bodies.content_type(request)
    accepted = patch.accepted_media_types(target.resource)
    if media_type not in accepted:
        raise status.unsupported_media_type(accepted)
    kind = patch.MEDIA_TYPES[media_type]
    as_type = "application/yaml" if kind == "apply" else "application/json"
    return kind, await bodies.read_data(request, as_type)


def _exists(store: Store, target: Target) -> bool:
    try:
        store.get(target.resource, target.name, target.namespace)
    except status.StatusError:
        return False
    return True


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
        return shown(request, target, obj)
    details = {"name": target.name, "kind": target.resource.plural, "uid": obj["metadata"]["uid"]}
    if target.resource.group:
        details["group"] = target.resource.group
    return bodies.respond(success(details))


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
    return bodies.respond(
        {
            "kind": f"{target.resource.kind}List",
            "apiVersion": target.resource.api_version,
            "metadata": {"resourceVersion": str(store.version)},
            "items": objects,
        }
    )


async def _delete_options(request: web.Request) -> Object:
    """The options of a deletion: from the body, or else from the query."""
    options = await bodies.read_data(request) or {}
    if not isinstance(options, dict) or dig(options, "kind", "DeleteOptions") != "DeleteOptions":
        raise status.bad_request("the body of a deletion must be DeleteOptions")
    grace = integer(request.query, "gracePeriodSeconds")
    if grace is not None:
        options.setdefault("gracePeriodSeconds", grace)
    if "propagationPolicy" in request.query:
        options.setdefault("propagationPolicy", request.query["propagationPolicy"])
    if "dryRun" in request.query:
        options.setdefault("dryRun", [request.query["dryRun"]])
    policy = options.get("propagationPolicy")
    if policy not in (None, "", "Background", "Foreground", "Orphan"):
        raise status.bad_request(
            f'propagationPolicy: Unsupported value: "{policy}": supported values: "Background",'
            ' "Foreground", "Orphan"'
        )
    return options


def success(details: Object | None = None) -> Object:
    """The Status that says that all went well."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        **({"details": details} if details else {}),
    }


def shown(
    request: web.Request,
    target: Target,
    obj: Object,
    *,
    code: int = 200,
    warnings: list[str] | None = None,
) -> web.Response:
    """One object in the form that the client asked for."""
    accept = request.headers.get("Accept", "")
    form = table.form(accept)
    if form == "Table":
        meta = {"resourceVersion": obj["metadata"]["resourceVersion"]}
        include = request.query.get("includeObject", "Metadata")
        obj = table.render(target.resource, [obj], meta, include=include)
    elif form:
        obj = table.partial_metadata(obj)
    elif accept.partition(",")[0].strip() == "application/yaml" and not is_true(
        request.query.get("pretty")
    ):
        text = yaml.safe_dump(obj, sort_keys=False).encode()
        return web.Response(body=text, status=code, content_type="application/yaml")
    return bodies.respond(obj, code=code, warnings=warnings)


def dry_run(query: Mapping[str, str]) -> bool:
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


_HANDLERS: dict[str, Handler] = {
    "get": _get,
    "list": _list,
    "watch": watch,
    "create": _create,
    "update": _update,
    "patch": _patch,
    "delete": _delete,
    "deletecollection": _delete_collection,
}

"""The verbs on objects and collections: get, list, watch, create, update, patch, delete."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml
from aiohttp import web

from pytest_k8snet.lab.api import fieldmanager, patch, request, status
from pytest_k8snet.lab.api.objects import Object, compact, condition, dig, name_of, namespace_of
from pytest_k8snet.lab.api.request import Target, integer, is_true, matcher
from pytest_k8snet.lab.api.resources import Resource
from pytest_k8snet.lab.api.schema import conform, json_type
from pytest_k8snet.lab.api.status import Cause, StatusError
from pytest_k8snet.lab.api.store import Event, Store, put_condition
from pytest_k8snet.lab.apiserver import kubectl
from pytest_k8snet.lab.apiserver.body import (
    SCHEME,
    TYPE_META,
    Unparsed,
    check_identity,
    conformed,
    read_data,
    read_object,
    read_patch,
    respond,
    syntax_error,
    validated,
)
from pytest_k8snet.lab.apiserver.kubectl import label_selector_text

#: A watch without a time limit of its own ends after this long, as on a real cluster.
DEFAULT_TIMEOUT_SECONDS = 1800
#: How often a watch that allows bookmarks gets one.
BOOKMARK_SECONDS = 60.0

#: The forms that answers have; the last one is asked for by many, who all take JSON as well.
_OFFERED = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_OPTIONS = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}
_DEPRECATED = {
    "endpoints": "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
}

# Kinds whose deletion answers with the object instead of a Status.
_RETURNED_WHEN_DELETED = {"pods", "services", "serviceaccounts"}


async def answer(request: web.Request, store: Store, target: Target) -> web.StreamResponse:
    """Answer a request for an object, for a collection, or for what hangs below an object.

    Raises:
        StatusError: the request is refused.
    """
    call = _Call(request, store, target)
    call.check_accepted()
    fieldmanager.ACTING.set(call.manager())
    if target.resource.key in _DEPRECATED:
        status.warn(_DEPRECATED[target.resource.key])
    match target.subresource, target.verb:
        case "scale", _:
            return await call.scale()
        case "binding", _:
            return await call.bind()
        case "eviction", _:
            return await call.evict()
        case _, "get":
            try:
                call.wait_for(_version(call.query))
            except ValueError as error:
                raise StatusError(500, "", str(error)) from None
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
            StatusError: 422, the parameter is not ``All``.
        """
        value = self.query.get("dryRun", "")
        if value not in ("", "All"):
            why = f'Unsupported value: ["{value}"]: supported values: "All"'
            raise self._refused(Cause("FieldValueNotSupported", "dryRun", why))
        return bool(value)

    def manager(self) -> str:
        """Who writes: the field manager that the request names, or its client's program.

        Raises:
            StatusError: 422, no manager can be called so.
        """
        manager, longest = self.query.get("fieldManager", ""), 128
        for index, character in enumerate(manager):
            if not character.isprintable():
                why = f"invalid character U+{ord(character):04X} (at position {index})"
                text = f"Invalid value: {json.dumps(manager)}: {why}"
                raise self._refused(Cause("FieldValueInvalid", "fieldManager", text))
        if len(manager.encode()) > longest:
            text = f"Too long: may not be more than {longest} bytes"
            raise self._refused(Cause("FieldValueTooLong", "fieldManager", text))
        program = self.request.headers.get("User-Agent", "").partition("/")[0][:longest]
        return manager or program or "unknown"

    def _refused(self, cause: Cause) -> StatusError:
        options = _OPTIONS.get(self.target.verb, "DeleteOptions")
        return status.invalid_options(options, cause)

    def check_accepted(self) -> None:
        """Refuse a client that takes none of the forms that an answer can have.

        Raises:
            StatusError: 406.
        """
        accept = self.request.headers.get("Accept") or "*/*"
        types = [clause.partition(";")[0].strip() for clause in accept.split(",")]
        if not {"*/*", "application/*", *_OFFERED} & set(types):
            streams = [f"{kind};stream=watch" for kind in (_OFFERED[0], _OFFERED[2])]
            listed = ", ".join([*_OFFERED, *streams])
            why = f"406: Not Acceptable\n\nAvailable representations: {listed}"
            raise StatusError(406, "NotAcceptable", why, {})

    def current(self) -> Object:
        return self.store.get(self.resource, self.target.name, self.target.namespace)

    def wait_for(self, version: int) -> None:
        """Refuse a version that has not come yet.

        Raises:
            StatusError: 504.
        """
        if version > self.store.version:
            too_large = "Too large resource version"
            raise StatusError(
                504,
                "Timeout",
                f"Timeout: {too_large}: {version}, current: {self.store.version}",
                {
                    "causes": [{"reason": "ResourceVersionTooLarge", "message": too_large}],
                    "retryAfterSeconds": 1,
                },
                retry_after_seconds=1,
            )

    def list(self) -> web.Response:
        meta: Object = {"resourceVersion": str(self.store.version)}
        _check_options(self.query, watch=False)
        try:
            wanted = _version(self.query)
        except ValueError as error:
            raise status.bad_request(f"invalid resource version: {error}") from None
        self.wait_for(wanted)
        exact = self.query.get("resourceVersionMatch") == "Exact"
        if exact and not self.store.history(self.resource).still_as_at(wanted):
            raise status.expired("The resourceVersion for the provided list is too old.")
        go_on = self.query.get("continue")
        if go_on and wanted:
            why = "specifying resource version is not allowed when using continue"
            raise status.bad_request(why)
        objects, left = self.store.page(
            self.resource,
            self.target.namespace,
            **self.selectors,
            after=_continued(go_on) if go_on else ("", ""),
            limit=integer(self.query, "limit") or 0,
        )
        if left:
            last = objects[-1]
            token = {"start": [namespace_of(last), name_of(last)]}
            meta["continue"] = base64.urlsafe_b64encode(json.dumps(token).encode()).decode()
            meta["remainingItemCount"] = left
        form = kubectl.form(self.request.headers.get("Accept", ""))
        kind, api_version = f"{self.resource.kind}List", self.resource.api_version
        if form == "Table":
            include = self.query.get("includeObject", "Metadata")
            return respond(kubectl.render(self.resource, objects, meta, include=include))
        if form == "PartialObjectMetadataList":
            objects = [kubectl.partial_metadata(obj) for obj in objects]
            kind, api_version = form, "meta.k8s.io/v1"
        else:
            objects = _as_items(self.resource, objects)
        return respond(
            {"kind": kind, "apiVersion": api_version, "metadata": meta, "items": objects}
        )

    async def create(self) -> web.Response:
        body = await read_object(self.request, self.target)
        obj = self.store.create(self.resource, body, self.target.namespace, dry_run=self.dry_run)
        return self.shown(obj, code=201)

    async def update(self) -> web.Response:
        return self.shown(self._replace(await read_object(self.request, self.target)))

    def _replace(self, body: Object, *, applied: bool = False) -> Object:
        return self.store.update(
            self.resource,
            body,
            self.target.namespace,
            subresource=self.target.subresource,
            dry_run=self.dry_run,
            applied=applied,
        )

    async def patch(self) -> web.Response:
        kind, data = await read_patch(self.request, self.target)
        if kind == "apply":
            return await self.apply(data)
        if "force" in self.query:
            text = "Forbidden: may not be specified for non-apply patch"
            cause = Cause("FieldValueForbidden", "force", text)
            raise status.invalid_options("PatchOptions", cause)
        # Nothing runs between the read and the write: the result is checked like any update.
        new = patch.apply(self.resource, self.current(), data, kind)
        check_identity(new, self.target, patched=True)
        conformed(self.resource, new, self.query, patched=True)
        return self.shown(self._replace(new))

    async def apply(self, config: Any) -> web.Response:
        """Server-side apply, which creates what is missing."""
        config = {} if config is None else config
        if not isinstance(config, dict):
            decoding = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal"
            why = f"{decoding} {json_type(config)} into Go value of type map[string]interface {{}}"
            raise status.bad_request(f"error decoding YAML: {why}")
        version, kind = str(config.get("apiVersion") or ""), str(config.get("kind") or "")
        if (version, kind) != (self.resource.api_version, self.resource.kind):
            shown = version if "/" in version else f"/{version}"
            raise status.bad_request(f"invalid object type: {shown}, Kind={kind}")
        validated(self.query, "PatchOptions")
        target = self.target
        exists = self.store.has(self.resource, target.name, target.namespace)
        new = fieldmanager.applied(
            self.resource,
            self.current() if exists or target.subresource else None,
            config,
            subresource=target.subresource,
            force=is_true(self.query.get("force")),
        )
        check_identity(new, target)
        is_tracked = not self.resource.aggregated
        if exists:
            return self.shown(self._replace(new, applied=is_tracked))
        obj = self.store.create(
            self.resource, new, target.namespace, dry_run=self.dry_run, applied=is_tracked
        )
        return self.shown(obj, code=201)

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
        limit = integer(self.query, "limit") or 0
        space = self.target.namespace
        labels, fields = self.selectors.values()
        objects, _ = self.store.page(
            self.resource, space, labels=labels, fields=fields, limit=limit
        )
        for obj in objects:
            self._delete(name_of(obj), namespace_of(obj), {**options, "preconditions": None})
        return respond(
            {
                "kind": f"{self.resource.kind}List",
                "apiVersion": self.resource.api_version,
                "metadata": {"resourceVersion": str(self.store.version)},
                "items": _as_items(self.resource, objects),
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
            dry_run=bool(options.get("dryRun")),
        )

    async def _delete_options(self) -> Object:
        """The options of a deletion: from the body, or else from the query."""
        try:
            sent = await read_data(self.request)
        except Unparsed as error:
            raise StatusError(500, "", error.message) from None
        if sent is None:
            orphans = self.query.get("orphanDependents")
            options = {
                "gracePeriodSeconds": integer(self.query, "gracePeriodSeconds"),
                "propagationPolicy": self.query.get("propagationPolicy"),
                "orphanDependents": None if orphans is None else is_true(orphans),
                "dryRun": self.request.query.getall("dryRun", []),
            }
        else:
            options = sent
        return self._checked(options)

    @staticmethod
    def _checked(options: Any) -> Object:
        """What asks for a deletion.

        Raises:
            StatusError: 422, or 500 for what is none.
        """
        if why := _no_options(options):
            raise StatusError(500, "", why)
        if {*(options.get("dryRun") or ())} - {"", "All"}:
            text = f'Unsupported value: {compact(options["dryRun"])}: supported values: "All"'
            cause = Cause("FieldValueNotSupported", "dryRun", text)
            raise status.invalid_options("DeleteOptions", cause)
        policy = options.get("propagationPolicy")
        if policy not in (None, "", "Background", "Foreground", "Orphan"):
            text = (
                f'Unsupported value: "{policy}": supported values: "Foreground", "Background",'
                ' "Orphan", "nil"'
            )
            cause = Cause("FieldValueNotSupported", "propagationPolicy", text)
            raise status.invalid_options("DeleteOptions", cause)
        if (orphans := options.get("orphanDependents")) is not None:
            if policy:
                why = "orphanDependents and deletionPropagation cannot be both set"
                cause = Cause(
                    "FieldValueInvalid", "propagationPolicy", f'Invalid value: "{policy}": {why}'
                )
                raise status.invalid_options("DeleteOptions", cause)
            options = {**options, "propagationPolicy": "Orphan" if orphans else "Background"}
        return dict(options)

    def shown(self, obj: Object, *, code: int = 200) -> web.Response:
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
        return respond(obj, code=code)

    async def scale(self) -> web.Response:
        """The number of replicas, as a Scale of its own."""
        workload = self.current()
        current = _scale_of(workload)
        if self.target.verb == "get":
            return respond(current)
        if self.target.verb == "update":
            wanted = await read_data(self.request)
        else:
            kind, data = await read_patch(self.request, self.target)
            # A Scale has no lists that strategic merge would treat in a way of its own.
            plain = "merge" if kind in ("strategic", "apply") else kind
            wanted = patch.apply(self.resource, current, data, plain)
        if not isinstance(wanted, dict) or wanted.get("kind", "Scale") != "Scale":
            raise status.bad_request("the object provided is unrecognized (must be of type Scale)")
        scale = replace(self.resource, kind="Scale", group="autoscaling")
        conformed(scale, wanted, self.query, patched=self.target.verb == "patch")
        if (other := dig(wanted, "metadata.name", self.target.name)) != self.target.name:
            why = f"does not match the name on the URL ({self.target.name})"
            raise status.bad_request(f"the name of the object ({other}) {why}")
        replicas = dig(wanted, "spec.replicas", 0)
        if replicas < 0:
            why = f"Invalid value: {replicas}: must be greater than or equal to 0"
            cause = Cause("FieldValueInvalid", "spec.replicas", why)
            raise status.invalid(scale, self.target.name, [cause])
        workload["spec"]["replicas"] = replicas
        if version := dig(wanted, "metadata.resourceVersion"):
            workload["metadata"]["resourceVersion"] = version
        return respond(_scale_of(self._replace(workload)))

    async def bind(self) -> web.Response:
        """Put a pod on a node, as a scheduler does."""
        node = str(dig(await read_data(self.request), "target.name", ""))
        if not node:
            raise StatusError(500, "", "target.name: Required value")
        if self.dry_run:
            self.current()
        else:
            assign_node(self.store, self.target.namespace, self.target.name, node)
        return respond(_success(), code=201)

    async def evict(self) -> web.Response:
        """Delete a pod in the name of a drain."""
        sent = await read_data(self.request) or {}
        if dig(sent, "metadata.name", self.target.name) != self.target.name:
            raise status.bad_request("name in URL does not match name in Eviction object")
        options = self._checked(dig(sent, "deleteOptions", {}))
        if self.dry_run:
            options = {**options, "dryRun": ["All"]}
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
        chosen = matcher(self.resource, **selectors)
        _check_options(query, watch=True)
        try:
            since = _version(query)
        except ValueError as error:
            raise StatusError(500, "", str(error)) from None
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
                if version <= since:
                    # The client knows a future that has not come yet.
                    continue
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


def _no_options(options: Any) -> str:
    """Why a body is no DeleteOptions; empty when it is."""
    if not isinstance(options, dict):
        why = f"json: cannot unmarshal {json_type(options)} into Go value of type {TYPE_META}"
        return f"couldn't get version/kind; json parse error: {why}"
    kind, version = options.get("kind") or "DeleteOptions", options.get("apiVersion") or "v1"
    if kind != "DeleteOptions":
        return f'no kind "{kind}" is registered for version "{version}" in scheme "{SCHEME}"'
    wrong = [problem for problem in conform("DeleteOptions", options) if problem.kind == "type"]
    if wrong:
        where = f"Go struct field DeleteOptions.{wrong[0].path} of type"
        wanted = wrong[0].wanted.replace("int32", "int64")
        return f"json: cannot unmarshal {wrong[0].found} into {where} {wanted}"
    return ""


def _as_items(resource: Resource, objects: Sequence[Object]) -> Sequence[Object]:
    """Objects as items of a list, where they do not repeat their kind."""
    if resource.custom:
        return objects
    moot = ("kind", "apiVersion")
    return [{key: value for key, value in obj.items() if key not in moot} for obj in objects]


def _check_options(query: Mapping[str, str], *, watch: bool) -> None:
    """Refuse parameters of a list or a watch that contradict each other.

    Raises:
        StatusError: 422.
    """
    match, initial = query.get("resourceVersionMatch", ""), "sendInitialEvents" in query
    supported = ("NotOlderThan",) if watch else ("Exact", "NotOlderThan", "")
    why = ""
    if watch and initial and match != "NotOlderThan":
        why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
    elif watch and match and not initial:
        why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
    elif match and not watch and not query.get("resourceVersion"):
        why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
    elif (match or watch) and query.get("continue"):
        why = "resourceVersionMatch is forbidden when continue is provided"
    if why:
        cause = Cause("FieldValueForbidden", "resourceVersionMatch", f"Forbidden: {why}")
        raise status.invalid_options("ListOptions", cause)
    if match and match not in supported:
        listed = ", ".join(f'"{value}"' for value in supported)
        text = f'Unsupported value: "{match}": supported values: {listed}'
        cause = Cause("FieldValueNotSupported", "resourceVersionMatch", text)
        raise status.invalid_options("ListOptions", cause)
    if match == "Exact" and query.get("resourceVersion") == "0":
        text = 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        cause = Cause("FieldValueForbidden", "resourceVersionMatch", text)
        raise status.invalid_options("ListOptions", cause)
    if initial and not watch:
        text = "Forbidden: sendInitialEvents is forbidden for list"
        cause = Cause("FieldValueForbidden", "sendInitialEvents", text)
        raise status.invalid_options("ListOptions", cause)


def _version(query: Mapping[str, str]) -> int:
    """The resourceVersion that is asked for; 0 for none.

    Raises:
        ValueError: it is no number, as Go says it.
    """
    text = query.get("resourceVersion", "")
    if text and not (text.isascii() and text.isdigit()):
        why = f'strconv.ParseUint: parsing "{text}": invalid syntax'
        raise ValueError(f'resourceVersion: Invalid value: "{text}": {why}')
    return int(text or 0)


def _continued(text: str) -> tuple[str, str]:
    """Namespace and name of the last object of the page before.

    Raises:
        StatusError: 400.
    """
    said = "invalid continue token: continue key is not valid: "
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("latin-1")
        token = json.loads(data)
        return str(token["start"][0]), str(token["start"][1])
    except json.JSONDecodeError as error:
        raise status.bad_request(f"{said}{syntax_error(error)}") from None
    except binascii.Error:
        raise status.bad_request(f"{said}illegal base64 data at input byte 0") from None
    except (KeyError, IndexError, TypeError):
        why = "incorrect encoded start resourceVersion"
        raise status.bad_request(f"{said}{why}") from None


def _scale_of(workload: Object) -> Object:
    meta, selector = workload["metadata"], dig(workload, "spec.selector")
    if workload["kind"] == "ReplicationController":
        selector = {"matchLabels": selector}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in kept},
        "spec": {"replicas": dig(workload, "spec.replicas", 0)},
        "status": {
            "replicas": dig(workload, "status.replicas", 0),
            "selector": label_selector_text(selector),
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
    return compact({"type": kind, "object": obj}).encode() + b"\n"


def assign_node(store: Store, namespace: str, name: str, node: str) -> None:
    """Set a pod's node, once, and its condition ``PodScheduled``.

    Raises:
        StatusError: 404, no such pod; 409, it is on a node already or about to be deleted.
    """
    pod = store.get("pods", name, namespace)
    row = store.resource("pods")
    if dig(pod, "metadata.deletionTimestamp"):
        why = f"pod {name} is being deleted, cannot be assigned to a host"
        raise status.conflict(row, name, why, kind="pods/binding")
    if assigned := dig(pod, "spec.nodeName"):
        why = f'pod {name} is already assigned to node "{assigned}"'
        raise status.conflict(row, name, why, kind="pods/binding")
    pod["spec"]["nodeName"] = node
    store.update("pods", pod, namespace, subresource="binding")
    put_condition(store, "pods", pod, condition("PodScheduled", True))

"""The HTTPS server: routes each request to what answers it, and turns refusals into Status."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
from weakref import WeakSet

from aiohttp import web

from pytest_k8snet.lab.api import plugins, status
from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.request import PageNotFound, parse
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.apiserver import discovery, exec, portforward, verbs
from pytest_k8snet.lab.apiserver.access import Access, Tokens, User
from pytest_k8snet.lab.apiserver.body import BODY_LIMIT_BYTES, read_object, respond, respond_error
from pytest_k8snet.lab.apiserver.discovery import publish
from pytest_k8snet.lab.apiserver.exec import Commands, ContainerRuntime
from pytest_k8snet.lab.faults import ApiFaults, Cut, CutOff, abort

_log = logging.getLogger(__name__)

#: How long requests under way may still take when the server closes.
_SHUTDOWN_SECONDS = 0.2
#: How long a client that is done may take to say so; until then its connection uses resources.
_GOODBYE_SECONDS = 2.0


async def serve(
    store: Store,
    runtime: ContainerRuntime,
    *,
    sock: socket.socket,
    tls: ssl.SSLContext,
    token: str,
) -> Server:
    """Serve a store's objects over HTTPS.

    Args:
        store: the objects; the definitions of what is served are added to it.
        runtime: runs commands and reads logs.
        sock: bound to where the server is to listen.
        tls: the server's certificate; HTTP/1.1 is all that is spoken.
        token: the bearer token of the one user, who may do everything.
    """
    publish(store)
    plugins.register(store)
    store.forget()
    server = Server(store, runtime, token)
    await server.listen(sock, tls)
    return server


class Server:
    """The API server: made by :func:`serve`."""

    def __init__(self, store: Store, runtime: ContainerRuntime, token: str) -> None:
        self._store = store
        self._runtime = runtime
        self._tokens = Tokens(token)
        self._faults = ApiFaults(store)
        self._commands = Commands(store, runtime, self._faults)
        self._transports: WeakSet[asyncio.BaseTransport] = WeakSet()
        app = web.Application(client_max_size=BODY_LIMIT_BYTES)
        app.router.add_route("*", "/{path:.*}", self._answer)
        # Watches wait for events, not for their client: only cancelling them tells them it has
        # gone.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS
        )

    async def listen(self, sock: socket.socket, tls: ssl.SSLContext) -> None:
        """Begin to serve."""
        await self._runner.setup()
        assert self._runner.server is not None
        self._listener = await asyncio.get_running_loop().create_server(
            self._runner.server, sock=sock, ssl=tls, ssl_shutdown_timeout=_GOODBYE_SECONDS
        )

    async def close(self) -> None:
        """Stop serving: watches end, commands are killed, the socket closes."""
        self._listener.close()
        await self._commands.close()
        await self._runner.cleanup()
        # Else TLS would wait for every client to say goodbye.
        for transport in list(self._transports):
            abort(transport)
        await asyncio.sleep(0)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            self._transports.add(request.transport)
        try:
            if delay := self._faults.delay_seconds:
                await asyncio.sleep(delay)
            with status.warnings_collected() as warnings:
                user = self._tokens.authenticate(request)
                response = await self._route(request, user)
            for warning in warnings:
                response.headers.add("Warning", f"299 - {json.dumps(warning)}")
            return response
        except PageNotFound:
            return web.Response(status=404, text="404 page not found\n")
        except StatusError as error:
            return respond_error(error)
        except CutOff:
            # Plain text, as kube-aggregator has it: there is no API server that could say more.
            return web.Response(status=503, text="service unavailable\n")
        except Cut:
            abort(request.transport)
            raise web.HTTPInternalServerError from None
        except (ConnectionError, asyncio.CancelledError, web.HTTPException):
            raise
        except Exception as error:
            _log.exception("%s %s", request.method, request.path)
            why = f"the lab failed at this request, and its log says how ({type(error).__name__})"
            return respond_error(status.internal_error(why))

    async def _route(self, request: web.Request, user: User) -> web.StreamResponse:
        steps = [step for step in request.path.split("/") if step]
        match steps:
            case ["api", _, _, *_] | ["apis", _, _, _, *_]:
                return await self._resource(request, user)
        verb = "get" if request.method == "HEAD" else request.method.lower()
        Access(self._store, self._faults, user).check_path(verb, request.path)
        if verb != "get":
            raise status.method_not_allowed()
        match steps:
            case ["healthz" | "livez" | "readyz", *_]:
                if "verbose" not in request.query:
                    return web.Response(text="ok")
                checks = "".join(f"[+]{name} ok\n" for name in ("ping", "log", "etcd"))
                return web.Response(text=f"{checks}{steps[0]} check passed\n")
            case ["version"]:
                return respond(discovery.version())
            case ["openapi", *rest]:
                return self._openapi(request, rest)
            case ["api"] | ["api", _] | ["apis"] | ["apis", _] | ["apis", _, _]:
                return self._discovery(request, steps)
            case _:
                raise PageNotFound

    def _discovery(self, request: web.Request, steps: list[str]) -> web.Response:
        registry = self._store.registry
        accept = request.headers.get("Accept", "").replace(" ", "")
        found: Object | None
        match steps:
            case ["api" | "apis"] if discovery.AGGREGATED in accept:
                stale = self._faults.cut_off_groups()
                listed = discovery.aggregated(registry, core=steps == ["api"], stale=stale)
                return respond(listed, media_type=discovery.AGGREGATED)
            case ["api"]:
                found = discovery.api_versions()
            case ["apis"]:
                found = discovery.groups(registry)
            case ["api", version]:
                found = discovery.resources(registry, "", version)
            case ["apis", group]:
                found = discovery.group(registry, group)
            case ["apis", group, _] if group in self._faults.cut_off_groups():
                raise CutOff
            case ["apis", group, version]:
                found = discovery.resources(registry, group, version)
            case _:
                found = None
        if found is None:
            raise PageNotFound
        return respond(found)

    def _openapi(self, request: web.Request, rest: list[str]) -> web.Response:
        registry = self._store.registry
        if rest == ["v2"]:
            if "protobuf" in request.headers.get("Accept", ""):
                body = discovery.version_2_protobuf()
                return web.Response(body=body, headers={"Content-Type": discovery.V2_PROTOBUF})
            return respond(discovery.version_2())
        if rest[:1] == ["v3"]:
            place = "/".join(rest[1:])
            found = discovery.document(registry, place) if place else discovery.index(registry)
            if found is not None:
                return respond(found)
        raise PageNotFound

    async def _resource(self, request: web.Request, user: User) -> web.StreamResponse:
        registry = self._store.registry
        target = parse(registry, request.method, request.path, request.query)
        self._faults.check(target)
        access = Access(self._store, self._faults, user)
        access.check(target)
        if target.resource.kind == "TokenReview":
            return respond(self._tokens.review(await read_object(request, target)), code=201)
        if target.resource.group in _REVIEWS:
            review = access.review(target, await read_object(request, target))
            return respond(review, code=201)
        if target.subresource == "token":
            return await self._tokens.issue(request, self._store, target)
        if target.subresource in ("exec", "attach"):
            return await self._commands.serve(request, target)
        if target.subresource == "portforward":
            return await portforward.serve(request, self._store, self._runtime, target)
        if target.subresource == "log":
            return await exec.send_logs(request, self._store, self._runtime, target)
        return await verbs.answer(request, self._store, target)


#: The API groups of what is asked about oneself.
_REVIEWS = ("authorization.k8s.io", "authentication.k8s.io")

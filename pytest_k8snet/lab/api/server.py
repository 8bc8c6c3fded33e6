"""The HTTPS server: routes each request to what answers it, and turns refusals into Status."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from weakref import WeakSet

from aiohttp import web

from pytest_k8snet.lab.api import (
    access,
    bodies,
    discovery,
    openapi,
    status,
    streams,
    subresources,
    verbs,
)
from pytest_k8snet.lab.api.definitions import publish
from pytest_k8snet.lab.api.faults import Cut, CutOff, Faults
from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.remote_command import Commands
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.api.streams import ContainerRuntime
from pytest_k8snet.lab.api.target import Target, parse
from pytest_k8snet.lab.api.transports import abort

_log = logging.getLogger(__name__)

#: How long requests under way may still take when the server closes.
_SHUTDOWN_SECONDS = 0.2
#: How long a client that is done may take to say so; until then its connection uses resources.
_GOODBYE_SECONDS = 2.0

_NOT_OFFERED = {
    "attach": "the lab's kubelet attaches to no running process; use exec",
    "portforward": "the lab's kubelet forwards no ports; use exec, or reach the pod's address"
    " from another pod",
}


class Server:
    """A running API server."""

    def __init__(
        self,
        listener: asyncio.Server,
        runner: web.AppRunner,
        commands: Commands,
        transports: WeakSet[asyncio.BaseTransport],
    ) -> None:
        self._listener = listener
        self._runner = runner
        self._commands = commands
        self._transports = transports

    async def close(self) -> None:
        """Stop serving: watches end, commands are killed, the socket closes."""
        self._listener.close()
        await self._commands.close()
        await self._runner.cleanup()
        # Else TLS would wait for every client to say goodbye.
        for transport in list(self._transports):
            abort(transport)
        await asyncio.sleep(0)


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
    faults = Faults(store)
    commands = Commands(store, runtime, faults)
    api = _Api(store, runtime, commands, faults, token)
    app = web.Application(client_max_size=bodies.BODY_LIMIT_BYTES)
    app.router.add_route("*", "/{path:.*}", api.answer)
    # Watches wait for events, not for their client: only cancelling them tells them it has gone.
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS
    )
    await runner.setup()
    assert runner.server is not None
    listener = await asyncio.get_running_loop().create_server(
        runner.server, sock=sock, ssl=tls, ssl_shutdown_timeout=_GOODBYE_SECONDS
    )
    return Server(listener, runner, commands, api.transports)


class _Api:
    def __init__(
        self,
        store: Store,
        runtime: ContainerRuntime,
        commands: Commands,
        faults: Faults,
        token: str,
    ) -> None:
        self._store = store
        self._runtime = runtime
        self._commands = commands
        self._faults = faults
        self._token = token
        #: The connections that there are.
        self.transports: WeakSet[asyncio.BaseTransport] = WeakSet()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer any request."""
        if request.transport is not None:
            self.transports.add(request.transport)
        try:
            if delay := self._faults.delay_seconds:
                await asyncio.sleep(delay)
            access.authenticate(request, self._token)
            return await self._route(request)
        except StatusError as error:
            return bodies.respond_error(error)
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
            return bodies.respond_error(status.internal_error(repr(error)))

    async def _route(self, request: web.Request) -> web.StreamResponse:
        steps = [step for step in request.path.split("/") if step]
        match steps:
            case ["healthz" | "livez" | "readyz", *_]:
                return web.Response(text="ok")
            case ["version"]:
                return bodies.respond(discovery.version())
            case ["openapi", *rest]:
                return self._openapi(request, rest)
            case ["api"] | ["api", _] | ["apis"] | ["apis", _] | ["apis", _, _]:
                return self._discovery(request, steps)
            case ["api" | "apis", *_]:
                return await self._resource(request)
            case _:
                raise status.no_such_resource()

    def _discovery(self, request: web.Request, steps: list[str]) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            raise status.method_not_allowed()
        registry = self._store.registry
        accept = request.headers.get("Accept", "").replace(" ", "")
        found: Object | None
        match steps:
            case ["api" | "apis"] if discovery.AGGREGATED in accept:
                stale = self._faults.cut_off_groups()
                listed = discovery.aggregated(registry, core=steps == ["api"], stale=stale)
                return bodies.respond(listed, media_type=discovery.AGGREGATED)
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
            raise status.no_such_resource()
        return bodies.respond(found)

    def _openapi(self, request: web.Request, rest: list[str]) -> web.Response:
        registry = self._store.registry
        if rest == ["v2"]:
            if "protobuf" in request.headers.get("Accept", ""):
                body = openapi.version_2_protobuf()
                return web.Response(body=body, headers={"Content-Type": openapi.V2_PROTOBUF})
            return bodies.respond(openapi.version_2())
        if rest[:1] == ["v3"]:
            place = "/".join(rest[1:])
            found = openapi.document(registry, place) if place else openapi.index(registry)
            if found is not None:
                return bodies.respond(found)
        raise status.no_such_resource()

    async def _resource(self, request: web.Request) -> web.StreamResponse:
        registry = self._store.registry
        target = parse(registry, request.method, request.path, request.query)
        self._faults.check(target)
        access.authorize(target, self._faults)
        if target.resource.group == "authorization.k8s.io":
            return await access.review(request, target, self._faults)
        if target.subresource in _NOT_OFFERED:
            why = _NOT_OFFERED[target.subresource]
            raise StatusError(501, "NotImplemented", why)
        if target.subresource == "exec":
            return await self._commands.serve(request, target)
        if target.subresource == "log":
            return await streams.send_logs(request, self._store, self._runtime, target)
        handler = _SUBRESOURCES.get(target.subresource, verbs.handle)
        return await handler(request, self._store, target)


_SUBRESOURCES: dict[str, Callable[[web.Request, Store, Target], Awaitable[web.StreamResponse]]] = {
    "scale": subresources.scale,
    "binding": subresources.bind,
    "eviction": subresources.evict,
}

"""The HTTPS server: routes each request to what answers it, and turns refusals into Status."""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import secrets
import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from weakref import WeakSet

from aiohttp import web

from pytest_k8snet.lab.api import discovery, exec, status, verbs
from pytest_k8snet.lab.api.discovery import publish
from pytest_k8snet.lab.api.exec import Commands, ContainerRuntime
from pytest_k8snet.lab.api.faults import ApiFaults, Cut, CutOff, abort
from pytest_k8snet.lab.api.objects import Object, dig, timestamp
from pytest_k8snet.lab.api.request import Target, match_labels, parse
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.store import Store

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
        app = web.Application(client_max_size=verbs.BODY_LIMIT_BYTES)
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
            user = self._tokens.authenticate(request)
            return await self._route(request, user)
        except StatusError as error:
            return verbs.respond_error(error)
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
            return verbs.respond_error(status.internal_error(repr(error)))

    async def _route(self, request: web.Request, user: User) -> web.StreamResponse:
        steps = [step for step in request.path.split("/") if step]
        match steps:
            case ["healthz" | "livez" | "readyz", *_]:
                if "verbose" not in request.query:
                    return web.Response(text="ok")
                checks = "".join(f"[+]{name} ok\n" for name in ("ping", "log", "etcd"))
                return web.Response(text=f"{checks}{steps[0]} check passed\n")
            case ["version"]:
                return verbs.respond(discovery.version())
            case ["openapi", *rest]:
                return self._openapi(request, rest)
            case ["api"] | ["api", _] | ["apis"] | ["apis", _] | ["apis", _, _]:
                return self._discovery(request, steps)
            case ["api" | "apis", *_]:
                return await self._resource(request, user)
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
                return verbs.respond(listed, media_type=discovery.AGGREGATED)
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
        return verbs.respond(found)

    def _openapi(self, request: web.Request, rest: list[str]) -> web.Response:
        registry = self._store.registry
        if rest == ["v2"]:
            if "protobuf" in request.headers.get("Accept", ""):
                body = discovery.version_2_protobuf()
                return web.Response(body=body, headers={"Content-Type": discovery.V2_PROTOBUF})
            return verbs.respond(discovery.version_2())
        if rest[:1] == ["v3"]:
            place = "/".join(rest[1:])
            found = discovery.document(registry, place) if place else discovery.index(registry)
            if found is not None:
                return verbs.respond(found)
        raise status.no_such_resource()

    async def _resource(self, request: web.Request, user: User) -> web.StreamResponse:
        registry = self._store.registry
        target = parse(registry, request.method, request.path, request.query)
        self._faults.check(target)
        access = Access(self._store, self._faults, user)
        access.check(target)
        if target.resource.group in _REVIEWS:
            body, _ = await verbs.read_object(request, target)
            body |= {"kind": target.resource.kind, "apiVersion": target.resource.api_version}
            return verbs.respond({**body, "status": access.review(target, body)}, code=201)
        if target.subresource == "token":
            return await self._tokens.issue(request, self._store, target)
        if target.subresource in _NOT_OFFERED:
            why = _NOT_OFFERED[target.subresource]
            raise StatusError(501, "NotImplemented", why)
        if target.subresource == "exec":
            return await self._commands.serve(request, target)
        if target.subresource == "log":
            return await exec.send_logs(request, self._store, self._runtime, target)
        return await verbs.answer(request, self._store, target)


#: The API groups of what is asked about oneself.
_REVIEWS = ("authorization.k8s.io", "authentication.k8s.io")


# -- Who may do what: the token, RBAC, and the reviews of both -------------------------------------
#
# The lab's own token is that of a member of ``system:masters``, who may do everything. RBAC rules
# those whom that user impersonates (``kubectl --as``) and service accounts (``kubectl create
# token``), and the fault ``forbid`` rules everybody.

#: What anyone may read.
_OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version"})
_RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class User:
    """Whom a request is made for."""

    name: str
    groups: frozenset[str]


_ADMIN = User("kubernetes-admin", frozenset({"system:masters", "system:authenticated"}))


class Tokens:
    """Who is who: the administrator's token, and those of service accounts.

    Args:
        token: the administrator's.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self._issued: dict[str, tuple[User, float]] = {}

    def authenticate(self, request: web.Request) -> User:
        """Let only the holder of a token in; who the request is made for.

        Raises:
            StatusError: 401 for a wrong token; 403 for none, as anonymous clients may do nothing,
                and for who is no administrator and impersonates somebody.
        """
        header = request.headers.get("Authorization", "")
        if not header:
            if request.path in _OPEN_PATHS:
                return User("system:anonymous", frozenset({"system:unauthenticated"}))
            raise StatusError(
                403,
                "Forbidden",
                f'forbidden: User "system:anonymous" cannot {request.method.lower()} path'
                f' "{request.path}"',
            )
        scheme, _, given = header.partition(" ")
        user, ends = self._issued.get(given, (_ADMIN, math.inf))
        issued = given in self._issued and time.monotonic() < ends
        if scheme.lower() != "bearer" or not (
            issued or hmac.compare_digest(given.encode(), self._token.encode())
        ):
            raise status.unauthorized()
        name = request.headers.get("Impersonate-User", "")
        if not name:
            return user
        if user is not _ADMIN:
            why = f'users "{name}" is forbidden: User "{user.name}" cannot impersonate'
            raise StatusError(403, "Forbidden", f'{why} resource "users" in API group ""')
        return _user(name, request.headers.getall("Impersonate-Group", []))

    async def issue(self, request: web.Request, store: Store, target: Target) -> web.Response:
        """Make a token for a service account: answer a TokenRequest.

        Raises:
            StatusError: 404, there is no such account; 422, the token would live too shortly.
        """
        store.get(target.resource, target.name, target.namespace)
        body = await verbs.read_data(request) or {}
        seconds = int(dig(body, "spec.expirationSeconds", 3600))
        if seconds < 600:
            why = f"Invalid value: {seconds}: may not specify a duration less than 10 minutes"
            cause = status.Cause("FieldValueInvalid", "spec.expirationSeconds", why)
            raise status.invalid(target.resource, target.name, [cause])
        token = secrets.token_urlsafe(32)
        account = _user(f"system:serviceaccount:{target.namespace}:{target.name}")
        self._issued[token] = account, time.monotonic() + seconds
        ends = timestamp(after_seconds=seconds)
        answer: Object = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": target.name, "namespace": target.namespace},
            "spec": {**dig(body, "spec", {}), "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": ends},
        }
        return verbs.respond(answer, code=201)


def _user(name: str, groups: Iterable[str] = ()) -> User:
    found = {"system:authenticated", *groups}
    if name.startswith("system:serviceaccount:"):
        namespace = name.split(":")[2]
        found |= {"system:serviceaccounts", f"system:serviceaccounts:{namespace}"}
    return User(name, frozenset(found))


class Access:
    """What the rules of access allow a user.

    Args:
        store: has the roles and bindings.
        faults: what is forbidden to everybody at the moment.
        user: whom it is about.
    """

    def __init__(self, store: Store, faults: ApiFaults, user: User) -> None:
        self._store = store
        self._faults = faults
        self._user = user

    def allows(self, verb: str, group: str, resource: str, namespace: str, name: str) -> bool:
        """Whether the user may do this; the resource may be one like ``pods/exec``."""
        plural, slash, subresource = resource.partition("/")
        qualified = f"{plural}.{group}" if group else plural
        return self._faults.allows(verb, f"{qualified}{slash}{subresource}") and any(
            {"*", verb} & set(rule.get("verbs") or [])
            and {"*", group} & set(rule.get("apiGroups") or [])
            and {"*", resource, f"*/{subresource}"} & set(rule.get("resources") or [])
            and (not rule.get("resourceNames") or name in rule["resourceNames"])
            for rule in self.rules(namespace)
        )

    def rules(self, namespace: str) -> list[Object]:
        """Every PolicyRule that holds for the user in a namespace."""
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        if "system:masters" in self._user.groups:
            return [everything]
        bindings = self._store.list(f"clusterrolebindings.{_RBAC}")
        if namespace:
            bindings += self._store.list(f"rolebindings.{_RBAC}", namespace)
        return [
            rule
            for binding in bindings
            if any(self._is(subject) for subject in binding.get("subjects") or [])
            for rule in self._role(binding["roleRef"], namespace)
        ]

    def _is(self, subject: Object) -> bool:
        if subject["kind"] == "Group":
            return subject["name"] in self._user.groups
        if subject["kind"] == "ServiceAccount":
            whole = f"system:serviceaccount:{subject.get('namespace', '')}:{subject['name']}"
            return whole == self._user.name
        return bool(subject["name"] == self._user.name)

    def _role(self, reference: Object, namespace: str) -> list[Object]:
        resource = f"{reference['kind'].lower()}s.{_RBAC}"
        where = namespace if reference["kind"] == "Role" else None
        if not self._store.has(resource, reference["name"], where):
            return []
        role = self._store.get(resource, reference["name"], where)
        found: list[Object] = list(role.get("rules") or [])
        for selector in dig(role, "aggregationRule.clusterRoleSelectors", []):
            for other in self._store.list(resource):
                if match_labels(selector, dig(other, "metadata.labels", {})):
                    found += other.get("rules") or []
        return found

    def check(self, target: Target) -> None:
        """Refuse what the rules of access forbid.

        Raises:
            StatusError: 403, naming user, verb, resource and group.
        """
        group, plural = target.resource.group, target.resource.plural
        if target.subresource:
            plural += f"/{target.subresource}"
        if self.allows(target.verb, group, plural, target.namespace, target.name):
            return
        scope = f'in the namespace "{target.namespace}"' if target.namespace else ""
        raise status.forbidden(
            target.resource,
            target.name,
            f'User "{self._user.name}" cannot {target.verb} resource "{plural}" in API group'
            f' "{group}" {scope or "at the cluster scope"}',
        )

    def review(self, target: Target, body: Object) -> Object:
        """The status of a review of the user.

        Raises:
            StatusError: 422, the review cannot be understood.
        """
        if target.resource.kind == "SelfSubjectReview":
            who = {"username": self._user.name, "groups": sorted(self._user.groups)}
            return {"userInfo": who}
        if target.resource.kind == "SelfSubjectRulesReview":
            return {
                "resourceRules": self.rules(dig(body, "spec.namespace", "")),
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                "incomplete": False,
            }
        attributes = dig(body, "spec.resourceAttributes")
        if attributes is None and not dig(body, "spec.nonResourceAttributes"):
            cause = status.Cause(
                "FieldValueInvalid",
                "spec.resourceAttributes",
                "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes"
                " must be specified",
            )
            raise status.invalid(target.resource, "", [cause])
        if attributes is None:
            return {"allowed": True}
        words = {key: str(attributes.get(key) or "") for key in _REVIEWED}
        resource = words["resource"]
        if words["subresource"]:
            resource += f"/{words['subresource']}"
        return {
            "allowed": self.allows(
                words["verb"], words["group"], resource, words["namespace"], words["name"]
            )
        }


_REVIEWED = ("verb", "group", "resource", "subresource", "namespace", "name")

"""The Kubernetes API by path: plain dicts in and out, bounded, repeated where that is safe.

Paths instead of typed calls, because they serve every resource and version (Calico's too), keep
fields that a client library does not know, and cost none of its imports.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pytest_k8snet.cluster import credentials
from pytest_k8snet.cluster import exec as podexec
from pytest_k8snet.cluster.api_errors import (
    Answer,
    ServerBusyError,
    UnreachableError,
    collection,
    object_path,
)
from pytest_k8snet.cluster.exec import CONTAINER, Completed
from pytest_k8snet.cluster.http import (
    AS_MANAGER,
    PING_SECONDS,
    HttpClient,
    Server,
    is_repeatable,
)
from pytest_k8snet.cluster.kubeconfig import Kubeconfig, is_url, locate, nothing_found, read
from pytest_k8snet.errors import (
    ApiError,
    ConflictError,
    ConnectError,
    KubeconfigError,
    NotFoundError,
    PodError,
)

Object: TypeAlias = dict[str, Any]
# In the class, `list` is the method.
Objects: TypeAlias = list[Object]
JsonPatch: TypeAlias = list[Any]

_PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
_PAGE = "500"
_ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class Api:
    """One API server as one user; safe to use from several threads.

    Attributes:
        host: the server's URL.
        context: the kubeconfig context's name.
        user: who the server says this is, else the kubeconfig's user entry.
    """

    def __init__(self, client: HttpClient, *, context: str) -> None:
        self.host = client.host
        self.context = context
        self.user = client.user
        self._client = client

    def get(self, path: str, **query: str) -> Object:
        """Read one object.

        Raises:
            NotFoundError: there is no such object or resource.
            ApiError: the server refuses.
            ConnectError: the server does not answer.
        """
        return self._client.send("GET", path, query=[*query.items()]).object

    def find(self, path: str) -> Object | None:
        """Get an object; None where the server says that this very object is not there.

        Raises:
            NotFoundError: the server does not know the resource, so nobody knows of the object.
        """
        try:
            return self.get(path)
        except NotFoundError as error:
            if not error.absent:
                raise
            return None

    def list(self, path: str, *, labels: str = "", fields: str = "") -> Objects:
        """Read a collection by a label and a field selector, however many pages it has."""
        return self.list_at(path, labels=labels, fields=fields)[0]

    def list_at(self, path: str, *, labels: str = "", fields: str = "") -> tuple[Objects, str]:
        """Read a collection as :meth:`list` does, and its version, from which it can be watched."""
        selectors = _selectors(labels, fields)
        items: Objects = []
        token = ""
        while True:
            query = [*selectors, ("limit", _PAGE)] + ([("continue", token)] if token else [])
            try:
                answer = self._client.send("GET", path, query=query)
            except ApiError as error:
                if error.status != 410 or not token:
                    raise
                # The list has changed too much since its first page: begin again.
                items, token = [], ""
                continue
            page = answer.object
            if "items" not in page:
                # Of something else than an API server: nothing has been read, which is not none.
                raise answer.no_api_server()
            items += page["items"] or []
            metadata = page.get("metadata") or {}
            token = metadata.get("continue") or ""
            if not token:
                return items, str(metadata.get("resourceVersion") or "")

    def watch(
        self, path: str, *, version: str, seconds: int, labels: str = "", fields: str = ""
    ) -> Iterator[tuple[str, Object]]:
        """Yield what has changed in a collection since a version of it, with the event's type.

        Raises:
            ApiError: the server refuses; 410 where the version is too old.
            ConnectError: the server does not answer, or the stream broke off.
        """
        query = [
            *_selectors(labels, fields),
            ("watch", "true"),
            ("resourceVersion", version),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(seconds)),
        ]
        for line in self._client.lines(path, query, seconds=seconds):
            event = Answer(host=self.host, status=200, body=line).object
            kind, item = event.get("type"), event.get("object") or {}
            if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
                message = str(item.get("message") or "the watch has ended")
                code = int(item.get("code") or 410)
                raise ApiError(message, status=code, reason=str(item.get("reason") or ""))
            yield kind, item

    def create(self, path: str, body: Object) -> Object:
        """Create an object.

        When an answer got lost and the object is there at the next try, it is read back and
        returned if it carries every label that was sent: then it is this very object.

        Raises:
            ConflictError: an object of that name exists already.
        """
        metadata = body.get("metadata") or {}
        name, sent = metadata.get("name") or "", metadata.get("labels") or {}
        unsure = False

        def once() -> Object:
            nonlocal unsure
            try:
                return self._client.once("POST", path, query=AS_MANAGER, body=body).object
            except (UnreachableError, ServerBusyError):
                unsure = True
                raise
            except ConflictError as error:
                if not unsure or error.reason != "AlreadyExists":
                    raise
                there = self._client.once("GET", object_path(path, name)).object
                labels = (there.get("metadata") or {}).get("labels") or {}
                if not sent or labels != {**labels, **sent}:
                    raise
                return there

        # Without a name a second object would appear; only reviews leave nothing behind.
        safe = bool(name) or path.endswith("reviews")
        return self._client.repeat(
            once, repeatable=lambda error: is_repeatable(error, idempotent=safe)
        )

    def patch(
        self,
        path: str,
        body: Object | JsonPatch,
        *,
        kind: Literal["merge", "json", "strategic"] = "merge",
        idempotent: bool = False,
    ) -> Object:
        """Patch an object.

        With ``metadata.resourceVersion`` in a merge patch, a change by someone else since then is
        a ``ConflictError``; without it, theirs is overwritten silently.

        It is sent again when an answer got lost if that is said to be idempotent, as a merge patch
        always is: a second effect is none, or its ``test`` operations refuse it.
        """
        return self._client.send(
            "PATCH",
            path,
            query=AS_MANAGER,
            body=body,
            content_type=_PATCH_TYPES[kind],
            idempotent=idempotent or kind == "merge",
        ).object

    def replace(self, path: str, body: Object) -> Object:
        """Replace an object; a stale ``metadata.resourceVersion`` is a ``ConflictError``."""
        return self._client.send("PUT", path, query=AS_MANAGER, body=body).object

    def delete(
        self,
        path: str,
        *,
        grace_seconds: int | None = None,
        propagation: str | None = None,
        resource_version: str | None = None,
        uid: str = "",
    ) -> None:
        """Delete an object; one that is missing is fine.

        Args:
            path: the object's path.
            grace_seconds: time for a pod to end; 0 drops it without the kubelet's word.
            propagation: ``Foreground``, ``Background`` or ``Orphan``.
            resource_version: the version to delete; another one is a ``ConflictError``.
            uid: the object to delete; a later one of the same name is a ``ConflictError``.
        """
        preconditions = {"resourceVersion": resource_version, "uid": uid or None}
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": grace_seconds,
            "propagationPolicy": propagation,
            "preconditions": _given(preconditions) or None,
        }
        try:
            self._client.send("DELETE", path, body=_given(options))
        except NotFoundError as error:
            if not error.absent:
                raise

    def can(self, verb: str, resource: str, **where: str) -> bool:
        """Ask whether this user may do something (SelfSubjectAccessReview).

        ``where`` is the group, subresource, name and namespace: without a name any object is meant,
        without a namespace all of them.
        """
        attributes = {"verb": verb, "resource": resource, **where}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {k: v for k, v in attributes.items() if v}},
        }
        return bool((self.create(_ACCESS_REVIEWS, body).get("status") or {}).get("allowed"))

    def exec(
        self,
        namespace: str,
        pod: str,
        argv: Sequence[str],
        *,
        container: str = CONTAINER,
        timeout_seconds: float = 30.0,
    ) -> Completed:
        """Run a command in a pod and wait for its end.

        No shell reads it. It goes on in the pod when this gives up: bound it by ``timeout``. The
        time limit is for all of it, the connection included.

        Raises:
            ExecTimeoutError: still running at the deadline; carries the output so far.
            ConnectionLostError: the stream broke off.
            PodError: the pod is gone, was evicted or does not run.
            ToolMissingError: the program is not in the image.
            ExecError: the command could not be run.
            ForbiddenError: the user may not exec.
        """
        return podexec.run(
            self._client, namespace, pod, argv, container=container, timeout_seconds=timeout_seconds
        )

    def pod_trouble(self, namespace: str, pod: str, found: str) -> PodError | None:
        """Return the pod failure that explains a failed command: deleted, evicted, not running.

        None when the pod runs, or nothing can be learned of it; ``found`` is the error's evidence.
        """
        return podexec.pod_trouble(self._client, namespace, pod, found)

    def logs(self, namespace: str, pod: str, *, tail_lines: int = 50) -> str:
        """Return the last lines that a pod's container wrote."""
        path = object_path(collection("pods", namespace=namespace), pod) + "/log"
        answer = self._client.send("GET", path, query=[("tailLines", str(tail_lines))])
        return answer.body.decode("utf-8", "replace")

    def secrets(self) -> set[str]:
        """Return the secrets of this connection, so that they can be kept out of files."""
        return self._client.secrets()

    def close(self) -> None:
        """Close the idle connections; the object works on and opens new ones when needed."""
        self._client.close()


def _selectors(labels: str, fields: str) -> list[tuple[str, str]]:
    pairs = (("labelSelector", labels), ("fieldSelector", fields))
    return [(name, text) for name, text in pairs if text]


def _given(values: Mapping[str, object]) -> Object:
    return {name: value for name, value in values.items() if value is not None}


# -- Following a collection: listed once, then watched ---------------------------------------------
#
# Each watch lasts a few seconds and the next goes on where it ended: nothing hangs on a stream
# that has silently died. Who may not watch polls.

#: How long the first watch lasts, and the longest; who follows may look at the clock after each.
_FIRST_SECONDS, _LONGEST_SECONDS = 2, 4
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.5


def follow(api: Api, path: str, *, labels: str = "", fields: str = "") -> Iterator[Objects]:
    """Yield what a collection holds: now, after each change, and every few seconds.

    Raises:
        ForbiddenError: the user may not list it.
        ConnectError: the server does not answer.
    """
    rest = pauses()
    may_watch = True
    while True:
        items, version = api.list_at(path, labels=labels, fields=fields)
        yield items
        if may_watch and version:
            known = {_uid(item): item for item in items}
            try:
                yield from _watched(api, path, labels, fields, known, version)
            except ConnectError:
                pass
            except ApiError as error:
                # 410: what has changed since is not remembered any more. 401: listing logs in anew.
                may_watch = error.status in (401, 410) or isinstance(error, ServerBusyError)
        rest()


def _watched(
    api: Api, path: str, labels: str, fields: str, known: dict[str, Object], version: str
) -> Iterator[Objects]:
    seconds = _FIRST_SECONDS
    while True:
        began, silent = time.monotonic(), True
        for kind, item in api.watch(
            path, version=version, seconds=seconds, labels=labels, fields=fields
        ):
            silent = False
            version = str((item.get("metadata") or {}).get("resourceVersion") or version)
            if kind == "BOOKMARK":
                continue
            if kind == "DELETED":
                known.pop(_uid(item), None)
            else:
                known[_uid(item)] = item
            yield [*known.values()]
        if silent and time.monotonic() - began < seconds / 2:
            # Something between lets no stream pass: one after the other would be a flood.
            return
        yield [*known.values()]
        seconds = min(seconds * 2, _LONGEST_SECONDS)


def _uid(item: Object) -> str:
    metadata = item.get("metadata") or {}
    return str(metadata.get("uid") or metadata.get("name"))


def pauses(longest_seconds: float = _LONGEST_PAUSE_SECONDS) -> Callable[[], None]:
    """Make a function that sleeps, a little longer each time it is called."""
    pause = _FIRST_PAUSE_SECONDS

    def rest() -> None:
        nonlocal pause
        time.sleep(pause)
        pause = min(pause * 1.5, longest_seconds)

    return rest


# -- Connecting: from a kubeconfig, or a pod's service account -------------------------------------


IN_CLUSTER = "in-cluster"
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
_SELF_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def connect(
    *,
    kubeconfig: Path | None = None,
    context: str | None = None,
    ping_seconds: float = PING_SECONDS,
) -> Api:
    """Connect to a cluster and prove that it answers and knows this user.

    Args:
        kubeconfig: the file; None takes ``KUBECONFIG`` (read now, several files merged), then
            ``~/.kube/config``, then a pod's service account.
        context: the context's name; None takes the current one.
        ping_seconds: how often a silent exec is kept alive.

    Raises:
        KubeconfigError: there is none, or it cannot be used.
        ConnectError: the API server cannot be reached or trusted.
        UnauthorizedError: the server does not accept the credentials.
    """
    if paths := locate(kubeconfig, os.environ):
        config = read(paths, context)
        name, user = config.context, config.user.name or "(none)"
        server, login = server_of(config, os.environ), credentials.of_kubeconfig(config)
    elif not os.environ.get("KUBERNETES_SERVICE_HOST"):
        raise nothing_found(os.environ)
    elif context:
        raise KubeconfigError(
            f'there is no context "{context}": this is a pod without a kubeconfig',
            remedy="leave the context out, or give a kubeconfig",
        )
    else:
        name, user = IN_CLUSTER, "(service account)"
        server = server_in_cluster(os.environ)
        login = credentials.of_service_account(os.environ)
    client = HttpClient(server, login, user=user, ping_seconds=ping_seconds)
    try:
        # A single try: a wrong address is told at once.
        client.user = _who_am_i(client) or user
    except BaseException:
        client.close()
        raise
    return Api(client, context=name)


def _who_am_i(client: HttpClient) -> str:
    """Return the user's name as the server knows it; empty when it does not say (before 1.28)."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = client.once("POST", _SELF_REVIEWS, body=review).object
    except ApiError as error:
        if error.status == 401:
            raise
        _ = client.once("GET", "/version").object
        return ""
    return str(((answer.get("status") or {}).get("userInfo") or {}).get("username") or "")


def server_of(config: Kubeconfig, environ: Mapping[str, str]) -> Server:
    """Return the API server of a context, and the way to it.

    Raises:
        KubeconfigError: the cluster's entry cannot be used.
    """
    cluster = config.cluster
    verify = not cluster.fields.get("insecure-skip-tls-verify")
    authority = cluster.content("certificate-authority")
    if authority and not verify:
        raise KubeconfigError(
            f"{cluster} has an authority and tells not to verify by it",
            found="certificate-authority and insecure-skip-tls-verify",
            remedy="leave one of them, as kubectl wants it",
        )
    if "@" in config.server:
        raise KubeconfigError(
            f"the server's URL of {cluster} holds a login, which would be shown with it",
            found=f"a user before @{config.server.rpartition('@')[2]}",
            remedy="write it as username and password, or as token, of the user's entry",
        )
    proxy = proxy_for(config.server, proxy_url=cluster.text("proxy-url"), environ=environ)
    if proxy and config.server.startswith("http:") and config.user.text("as"):
        raise KubeconfigError(
            f"{config.user} acts as somebody else, and plain HTTP through a proxy cannot say so",
            found="such a proxy joins headers of one name, so that groups would get other names",
            remedy="use an https:// server, or reach it without the proxy",
        )
    return Server(
        url=config.server,
        authority=authority,
        verify=verify,
        name=cluster.text("tls-server-name"),
        proxy=proxy,
    )


def server_in_cluster(environ: Mapping[str, str]) -> Server:
    """Return the API server as a pod reaches it.

    Raises:
        KubeconfigError: the service account's authority is not there.
    """
    account = credentials.service_account(environ)
    url, authority = account.host, Path(account.ssl_ca_cert).read_bytes()
    return Server(url=url, authority=authority, proxy=proxy_for(url, proxy_url="", environ=environ))


# -- Proxies ---------------------------------------------------------------------------------------
#
# By the rules that kubectl follows (golang.org/x/net/http/httpproxy/proxy.go, v0.33), decided once
# for requests and exec.


def proxy_for(server: str, *, proxy_url: str, environ: Mapping[str, str]) -> str:
    """Return the proxy's URL, or nothing for a direct connection.

    ``proxy-url`` of the kubeconfig's cluster entry wins, and ignores ``NO_PROXY``.

    Raises:
        KubeconfigError: it is a kind of proxy that is not supported.
    """
    proxy, source = proxy_url, "proxy-url of the kubeconfig"
    if not proxy:
        parts = urlsplit(server)
        source = f"{parts.scheme}_proxy".upper()
        # In this order (``golang.org/x/net/http/httpproxy``: getEnvAny).
        proxy = environ.get(source) or environ.get(source.lower()) or ""
        no_proxy = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
        if not proxy or _reached_directly(parts, no_proxy):
            return ""
        if "://" not in proxy:
            proxy = f"http://{proxy}"
    if not is_url(proxy, *PROXY_SCHEMES):
        raise KubeconfigError(
            f"the proxy that {source} names cannot be used",
            found=Server(url=server, proxy=proxy).shown_proxy,
            remedy=f"it must be a URL of {', '.join(PROXY_SCHEMES)}, or be left out",
        )
    return proxy


def _reached_directly(server: SplitResult, no_proxy: str) -> bool:
    """Tell whether no proxy of the environment is to be asked for a server."""
    host = server.hostname or ""
    port = server.port or (443 if server.scheme == "https" else 80)
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    if host == "localhost" or (address and address.is_loopback):
        return True
    for entry in (part.strip().lower() for part in no_proxy.split(",")):
        if entry == "*":
            return True
        with suppress(ValueError):
            if address and address in ip_network(entry, strict=False):
                return True
        with suppress(ValueError):
            parts = urlsplit(f"//{entry}")
            if parts.port not in (None, port):
                continue
            name = (parts.hostname or "").removeprefix("*")
            # With a dot in front a name means what is below it, and not itself.
            below = not address and host.endswith(f".{name.removeprefix('.')}")
            if name and (host == name or below):
                return True
    return False

"""The Kubernetes API by path: plain dicts in and out, bounded, repeated where that is safe.

Paths instead of typed calls, because they serve every resource and version (Calico's too), keep
fields that a client library does not know, and cost none of its imports.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

from pytest_k8snet.cluster import exec as podexec
from pytest_k8snet.cluster.api_errors import (
    ServerBusyError,
    UnreachableError,
    collection,
    object_path,
)
from pytest_k8snet.cluster.exec import CONTAINER, Completed
from pytest_k8snet.cluster.http import HttpClient, is_repeatable
from pytest_k8snet.errors import ApiError, ConflictError, NotFoundError, PodError

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

    def list(self, path: str, *, labels: str = "", fields: str = "") -> Objects:
        """Read a collection, whole, however many pages it has.

        Args:
            path: the collection's path.
            labels: a label selector.
            fields: a field selector.
        """
        return self.list_at(path, labels=labels, fields=fields)[0]

    def list_at(self, path: str, *, labels: str = "", fields: str = "") -> tuple[Objects, str]:
        """Read a collection as :meth:`list` does, and its version, from which it can be watched."""
        selectors = _selectors(labels, fields)
        items: Objects = []
        token = ""
        while True:
            query = [*selectors, ("limit", _PAGE)] + ([("continue", token)] if token else [])
            try:
                page = self._client.send("GET", path, query=query).object
            except ApiError as error:
                if error.status != 410 or not token:
                    raise
                # The list has changed too much since its first page: begin again.
                items, token = [], ""
                continue
            items += page.get("items") or []
            metadata = page.get("metadata") or {}
            token = metadata.get("continue") or ""
            if not token:
                return items, str(metadata.get("resourceVersion") or "")

    def watch(
        self, path: str, *, version: str, seconds: int, labels: str = "", fields: str = ""
    ) -> Iterator[tuple[str, Object]]:
        """Yield what changes in a collection, each with its event's type, for some seconds.

        Args:
            path: the collection's path.
            version: of the collection, after which changes count.
            seconds: how long the server shall watch.
            labels: a label selector.
            fields: a field selector.

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
            event = json.loads(line)
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
        name = (body.get("metadata") or {}).get("name") or ""
        unsure = False

        def once() -> Object:
            nonlocal unsure
            try:
                return self._client.once("POST", path, body=body).object
            except (UnreachableError, ServerBusyError):
                unsure = True
                raise
            except ConflictError as error:
                if not unsure or error.reason != "AlreadyExists":
                    raise
                there = self._client.once("GET", object_path(path, name)).object
                if not _has_labels(there, body):
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

        Args:
            path: the object's path.
            body: the patch.
            kind: how it is to be read.
            idempotent: whether it may be sent again when an answer got lost, as a merge patch
                always is: a second effect is none, or its ``test`` operations refuse it.
        """
        return self._client.send(
            "PATCH",
            path,
            body=body,
            content_type=_PATCH_TYPES[kind],
            idempotent=idempotent or kind == "merge",
        ).object

    def replace(self, path: str, body: Object) -> Object:
        """Replace an object; a stale ``metadata.resourceVersion`` is a ``ConflictError``."""
        return self._client.send("PUT", path, body=body).object

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
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if propagation is not None:
            options["propagationPolicy"] = propagation
        preconditions = {"resourceVersion": resource_version, "uid": uid or None}
        if wanted := {name: value for name, value in preconditions.items() if value is not None}:
            options["preconditions"] = wanted
        try:
            self._client.send("DELETE", path, body=options)
        except NotFoundError:
            return

    def can(
        self,
        verb: str,
        resource: str,
        *,
        group: str = "",
        subresource: str = "",
        name: str = "",
        namespace: str = "",
    ) -> bool:
        """Ask whether this user may do something (SelfSubjectAccessReview).

        Args:
            verb: an RBAC verb.
            resource: the plural resource.
            group: its API group; empty for core.
            subresource: e.g. ``exec``.
            name: one object; empty asks for any.
            namespace: empty asks for all namespaces.
        """
        attributes = {
            "verb": verb,
            "resource": resource,
            "group": group,
            "subresource": subresource,
            "name": name,
            "namespace": namespace,
        }
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

        The command goes on in the pod when this gives up: bound it by ``timeout``.

        Args:
            namespace: the pod's namespace.
            pod: the pod's name.
            argv: the command, no shell.
            container: the container in it.
            timeout_seconds: for all of it, the connection included.

        Raises:
            ExecTimeoutError: still running at the deadline; carries the output so far.
            ConnectionLostError: the stream broke off.
            PodError: the pod is gone, was evicted or does not run.
            ToolMissingError: the program is not in the image.
            ExecError: the command could not be run.
            ForbiddenError: the user may not exec.
        """
        return podexec.run(
            self._client,
            namespace,
            pod,
            argv,
            container=container,
            timeout_seconds=timeout_seconds,
        )

    def pod_trouble(self, namespace: str, pod: str, found: str) -> PodError | None:
        """Return the pod failure that explains a failed command: deleted, evicted, not running.

        Args:
            namespace: the pod's namespace.
            pod: the pod's name.
            found: what failed, as the error's evidence.

        Returns:
            None when the pod runs, or nothing can be learned of it.
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


def _has_labels(there: Object, sent: Object) -> bool:
    wanted = (sent.get("metadata") or {}).get("labels") or {}
    labels = (there.get("metadata") or {}).get("labels") or {}
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())

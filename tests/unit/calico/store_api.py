"""The lab's object store behind the plugin's Api, in one process: real versions and refusals.

No HTTP in between, so that tests of what is written to a cluster take microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pytest_k8snet.cluster import api_errors as client_target
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.api_errors import Answer, error_of
from pytest_k8snet.cluster.http import FIELD_MANAGER
from pytest_k8snet.errors import NotFoundError
from pytest_k8snet.lab.api.fieldmanager import ACTING
from pytest_k8snet.lab.api.request import PageNotFound, Target, parse
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.spec import CalicoSpec

Body = dict[str, Any]


class StoreApi(Api):
    """An Api whose server is a Store.

    ``refuse`` may raise before each request, as a fault does; ``after_write`` is called after
    each change, for what controllers do then.
    """

    def __init__(self, calico: CalicoSpec | None = None) -> None:
        self.host, self.context, self.user = "https://store", "store", "tester"
        self.store = Store(calico=calico)
        self.requests: list[tuple[str, str]] = []
        self.refuse: Callable[[str, str], None] = lambda method, path: None
        self.after_write: Callable[[], None] = lambda: None
        #: Who writes, as the server keeps it of each field.
        self.manager = FIELD_MANAGER
        self.create("/api/v1/namespaces", {"metadata": {"name": "kube-system"}})

    def _target(self, method: str, path: str) -> Target:
        self.requests.append((method, path))
        self.refuse(method, path)
        try:
            return parse(self.store.registry, method, path, {})
        except PageNotFound:
            page = Answer(host=self.host, status=404, body=b"404 page not found")
            raise error_of(page, client_target.parse(method, path), user=self.user) from None
        except StatusError as exc:
            raise self._error(exc, method, path) from None

    @contextmanager
    def _acting(self) -> Iterator[None]:
        before = ACTING.set(self.manager)
        try:
            yield
        finally:
            ACTING.reset(before)

    def _error(self, exc: StatusError, method: str, path: str) -> Exception:
        import json

        body = json.dumps(exc.to_dict()).encode()
        answer = Answer(host=self.host, status=exc.code, body=body)
        return error_of(answer, client_target.parse(method, path), user=self.user)

    def get(self, path: str, **query: str) -> Body:
        if path == "/apis":
            self.requests.append(("GET", path))
            served = sorted(row for row in self.store.registry.group_versions() if row[0])
            return {
                "groups": [
                    {"name": name, "preferredVersion": {"groupVersion": f"{name}/{version}"}}
                    for name, version in served
                ]
            }
        if path == "/version":
            return {"gitVersion": "v1.32.1"}
        target = self._target("GET", path)
        try:
            return self.store.get(target.resource, target.name, target.namespace)
        except StatusError as exc:
            raise self._error(exc, "GET", path) from None

    def list(self, path: str, *, labels: str = "", fields: str = "") -> list[Body]:
        target = self._target("GET", path)
        try:
            return self.store.list(target.resource, target.namespace, labels=labels, fields=fields)
        except StatusError as exc:
            raise self._error(exc, "GET", path) from None

    def list_at(self, path: str, *, labels: str = "", fields: str = "") -> tuple[list[Body], str]:  # type: ignore[valid-type]  # `list` is the method above
        # Without a version there is nothing to watch from: who follows polls.
        return self.list(path, labels=labels, fields=fields), ""

    def create(self, path: str, body: Body) -> Body:
        target = self._target("POST", path)
        try:
            with self._acting():
                changed = self.store.create(target.resource, body, target.namespace)
        except StatusError as exc:
            raise self._error(exc, "POST", path) from None
        self.after_write()
        return changed

    def patch(
        self,
        path: str,
        body: Body | list[Any],  # type: ignore[valid-type]  # `list` is the method above
        *,
        kind: Literal["merge", "json", "strategic"] = "merge",
        idempotent: bool = False,
    ) -> Body:
        target = self._target("PATCH", path)
        try:
            with self._acting():
                changed = self.store.patch(
                    target.resource, target.name, body, kind, target.namespace
                )
        except StatusError as exc:
            raise self._error(exc, "PATCH", path) from None
        self.after_write()
        return changed

    def replace(self, path: str, body: Body) -> Body:
        target = self._target("PUT", path)
        try:
            with self._acting():
                changed = self.store.update(target.resource, body, target.namespace)
        except StatusError as exc:
            raise self._error(exc, "PUT", path) from None
        self.after_write()
        return changed

    def delete(
        self,
        path: str,
        *,
        grace_seconds: int | None = None,
        propagation: str | None = None,
        resource_version: str | None = None,
        uid: str = "",
    ) -> None:
        target = self._target("DELETE", path)
        wanted = {"resourceVersion": resource_version, "uid": uid or None}
        try:
            self.store.delete(target.resource, target.name, target.namespace, preconditions=wanted)
        except StatusError as exc:
            if not isinstance(self._error(exc, "DELETE", path), NotFoundError):
                raise self._error(exc, "DELETE", path) from None
        else:
            self.after_write()


def meanwhile(api: StoreApi, method: str, path: str, act: Callable[[], object]) -> None:
    """Have somebody else act once, right before the next such request gets to the store."""

    def refuse(asked: str, of: str) -> None:
        if (asked, of) == (method, path):
            api.refuse = lambda method, path: None
            act()

    api.refuse = refuse

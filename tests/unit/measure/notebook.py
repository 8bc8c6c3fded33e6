"""An observer that keeps what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.services import ServiceUrl, WebService
from pytest_k8snet.errors import ForbiddenError


class Notebook:
    """An observer that keeps its records, and numbers the samples."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def record(self, kind: str, **content: Any) -> Mapping[str, Any]:
        record = {"kind": kind, "id": f"s{len(self.records):04}", **content}
        self.records.append(record)
        return record

    def hide(self, kind: str, *names: str) -> None:
        pass

    def started(self, text: str, seconds: float) -> None:
        """Show nothing."""

    def finished(self) -> None:
        """Show nothing."""


def service_url(url: str, way: str, *, ready: bool | None = True, **facts: Any) -> ServiceUrl:
    """A URL of a Service.

    Args:
        url: the URL.
        way: its way to the Service.
        ready: whether it has an endpoint; None: they may not be listed.
        facts: others of the Service.
    """

    class Endpoints:
        def list(self, path: str, *, labels: str) -> list[dict[str, Any]]:
            if ready is None:
                raise ForbiddenError("endpointslices may not be listed", status=403)
            return [{"endpoints": [{"addresses": ["127.0.0.1"]}]}] if ready else []

    # Nothing else of the API is asked.
    api = cast(Api, Endpoints())
    return ServiceUrl(url, way, WebService(namespace="x", name="web", _api=api, **facts))

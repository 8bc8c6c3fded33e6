"""Reads objects that may be absent or forbidden, and remembers what stayed unknown and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_k8snet.errors import ApiError, ConnectError, ForbiddenError, NotFoundError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api


class Reader:
    """A connection through which a refusal is a fact to report, not the end.

    Attributes:
        unknown: topic -> reason, for everything that could not be read. What does not exist is
            known to be absent, and not in here.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self.unknown: dict[str, str] = {}

    def get(self, path: str, topic: str) -> dict[str, Any] | None:
        """One object; None if it doesn't exist or could not be read."""
        try:
            return self._api.get(path)
        except NotFoundError:
            return None
        except (ApiError, ConnectError) as exc:
            self._remember(topic, exc)
            return None

    def list(self, path: str, topic: str, *, labels: str = "") -> list[dict[str, Any]] | None:
        """A collection; empty if the resource isn't served, None if it could not be read."""
        try:
            return self._api.list(path, labels=labels)
        except NotFoundError:
            return []
        except (ApiError, ConnectError) as exc:
            self._remember(topic, exc)
            return None

    def _remember(self, topic: str, exc: ApiError | ConnectError) -> None:
        if isinstance(exc, ForbiddenError):
            reason = f"not permitted: {exc.problem}"
        elif isinstance(exc, ApiError):
            reason = f"HTTP {exc.status}: {exc.problem}"
        else:
            reason = exc.problem
        self.unknown.setdefault(topic, reason)

"""Trouble on request: the faults of the API server that a config map asks for.

``kube-system/k8snet-lab-faults`` holds them by name; the map always says what is still to come:

- ``forbid``: ``create:pods,patch:ippools.crd.projectcalico.org,create:pods/exec``; ``*`` for any
  verb or resource. Those requests get 403 for as long as the entry stands.
- ``api-error``: ``503:3`` answers the next three requests with 503; ``503:3:create:pods`` only
  those that create pods. The entry counts down and vanishes.
- ``api-reset``: ``2`` or ``2:create:pods`` cuts the connection of the next two requests unanswered.
- ``api-delay``: ``0.5`` delays every answer by half a second.
- ``exec-drop``: ``2`` cuts the next two exec streams when the command ends, before its status.

Requests for the map itself are never disturbed, so that trouble can be ended.
"""

from __future__ import annotations

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.api.target import Target

NAMESPACE, NAME = "kube-system", "k8snet-lab-faults"

_REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Cut(Exception):  # noqa: N818 -- not an error of ours: the connection is to break off
    """The connection is to be cut without an answer."""


class Faults:
    """The faults that are asked for at this moment."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _data(self) -> Object:
        try:
            found = self._store.get("configmaps", NAME, NAMESPACE)
        except StatusError:
            return {}
        return found.get("data") or {}

    @property
    def delay_seconds(self) -> float:
        """How long every answer is to be delayed."""
        try:
            return float(self._data().get("api-delay", 0))
        except ValueError:
            return 0.0

    def allows(self, verb: str, resource: str) -> bool:
        """Whether the rules of access allow a verb on a resource (``pods``, ``pods/exec``)."""
        for rule in str(self._data().get("forbid", "")).split(","):
            denied_verb, _, denied_resource = rule.strip().partition(":")
            if denied_verb in ("*", verb) and denied_resource in ("*", resource):
                return False
        return True

    def check(self, target: Target) -> None:
        """Let a request pass, or not.

        Raises:
            StatusError: the error that was asked for.
            Cut: the connection is to be cut.
        """
        if target.resource.key == "configmaps" and target.name == NAME:
            return
        if self._take("api-reset", target):
            raise Cut
        code = self._take("api-error", target)
        if code:
            raise _injected(int(code))

    def takes_exec_stream(self) -> bool:
        """Whether this exec stream is one of those to be cut."""
        return bool(self._take("exec-drop", None))

    def _take(self, fault: str, target: Target | None) -> str:
        """Use up one count of a fault; what it says (the code, or ``1``), or empty."""
        text = str(self._data().get(fault, ""))
        if not text:
            return ""
        parts = text.split(":")
        code = parts.pop(0) if fault == "api-error" else "1"
        count = int(parts[0]) if parts and parts[0].isdigit() else 1
        rule = tuple(parts[1:3])
        if target is not None and rule and rule != target.rule:
            return ""
        left = ":".join([*([code] if fault == "api-error" else []), str(count - 1), *rule])

        def count_down(config_map: Object) -> None:
            if count > 1:
                config_map["data"][fault] = left
            else:
                del config_map["data"][fault]

        self._store.mutate("configmaps", NAME, NAMESPACE, count_down)
        return code


def _injected(code: int) -> StatusError:
    if code == 401:
        return status.unauthorized()
    return StatusError(
        code,
        _REASONS.get(code, ""),
        f"the lab was asked for this error by the config map {NAMESPACE}/{NAME}",
        retry_after_seconds=1 if code in (429, 503) else None,
    )

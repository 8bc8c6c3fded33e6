"""Trouble on request: the faults of the API server that a config map asks for.

``kube-system/k8snet-lab-faults`` holds them by name; the map always says what is still to come.
Requests for the map itself are never disturbed, so that trouble can be ended.
"""

from __future__ import annotations

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.resources import CALICO_V3
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.api.target import Target
from pytest_k8snet.lab.trouble import number

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


class CutOff(Exception):  # noqa: N818 -- the aggregator's answer, which is no Status object
    """The server behind this API group cannot be reached."""


def asked_for(store: Store) -> Object:
    """The data of the config map: every fault that is asked for at this moment."""
    try:
        found = store.get("configmaps", NAME, NAMESPACE)
    except StatusError:
        return {}
    data: Object = dig(found, "data", {})
    return data


def calico_api_server_is_down(store: Store) -> bool:
    """Whether the aggregated Calico API server is cut off from kube-apiserver."""
    return store.calico.api_shape == "B" and "calico-apiserver-down" in asked_for(store)


class Faults:
    """The faults that are asked for at this moment."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def cut_off_groups(self) -> frozenset[str]:
        """The API groups whose server cannot be reached."""
        return frozenset({CALICO_V3} if calico_api_server_is_down(self._store) else ())

    @property
    def delay_seconds(self) -> float:
        """How long every answer is to be delayed."""
        return number(str(asked_for(self._store).get("api-delay", "0")))

    def allows(self, verb: str, resource: str) -> bool:
        """Whether the rules of access allow a verb on a resource (``pods``, ``pods/exec``)."""
        for rule in str(asked_for(self._store).get("forbid", "")).split(","):
            denied_verb, _, denied_resource = rule.strip().partition(":")
            if denied_verb in ("*", verb) and denied_resource in ("*", resource):
                return False
        return True

    def check(self, target: Target) -> None:
        """Let a request pass, or not.

        Raises:
            StatusError: the error that was asked for.
            Cut: the connection is to be cut.
            CutOff: the server behind the request's API group cannot be reached.
        """
        if target.resource.key == "configmaps" and target.name == NAME:
            return
        if target.resource.group in self.cut_off_groups():
            raise CutOff
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
        text = str(asked_for(self._store).get(fault, ""))
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

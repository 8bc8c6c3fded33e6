"""What a request asks for: the path and query of the Kubernetes API, understood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.resources import Registry, Resource

_VERBS = {
    "GET": ("list", "get"),
    "HEAD": ("list", "get"),
    "POST": ("create", "create"),
    "PUT": ("", "update"),
    "PATCH": ("", "patch"),
    "DELETE": ("deletecollection", "delete"),
}

#: Subresources that a client opens a stream to: GET and POST mean the same there.
STREAMS = frozenset({"exec", "attach", "portforward"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a request is about.

    Attributes:
        resource: the kind of object, as the path's group serves it.
        namespace: empty for all namespaces or for what belongs to the cluster.
        name: empty for a collection.
        subresource: ``status``, ``log``, ... or empty.
        verb: ``get``, ``list``, ``watch``, ``create``, ... as RBAC calls it.
    """

    resource: Resource
    namespace: str
    name: str
    subresource: str
    verb: str

    @property
    def rule(self) -> tuple[str, str]:
        """Verb and resource as a rule of access names them: ``("create", "pods/exec")``."""
        suffix = f"/{self.subresource}" if self.subresource else ""
        return self.verb, f"{self.resource.qualified_plural}{suffix}"


def parse(registry: Registry, method: str, path: str, query: Mapping[str, str]) -> Target:
    """Understand a request for a resource.

    Raises:
        StatusError: 404, nothing is served there; 405, the method is not.
    """
    steps = [step for step in path.split("/") if step]
    if steps[0] == "api" and len(steps) >= 3:
        group, version, rest = "", steps[1], steps[2:]
    elif steps[0] == "apis" and len(steps) >= 4:
        group, version, rest = steps[1], steps[2], steps[3:]
    else:
        raise status.no_such_resource()
    namespace = ""
    # /namespaces/NAME and its subresources are the namespace itself, all else is in it.
    if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    resource = registry.find(group, version, rest[0])
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    if (
        resource is None
        or len(rest) > 3
        or (subresource and subresource not in resource.subresources)
        or (namespace and not resource.namespaced)
        or (name and not namespace and resource.namespaced)
    ):
        raise status.no_such_resource()
    target = Target(
        resource=resource,
        namespace=namespace,
        name=name,
        subresource=subresource,
        verb=_verb(method, name, subresource, query),
    )
    _check_method(target)
    return target


def _verb(method: str, name: str, subresource: str, query: Mapping[str, str]) -> str:
    verb = _VERBS.get(method, ("", ""))[bool(name)]
    if subresource in STREAMS and verb in ("get", "create"):
        return "create" if method == "POST" else "get"
    if verb == "list" and is_true(query.get("watch")):
        return "watch"
    return verb


def _check_method(target: Target) -> None:
    resource, verb, subresource = target.resource, target.verb, target.subresource
    if subresource:
        allowed = {
            "log": ("get",),
            "binding": ("create",),
            "eviction": ("create",),
            "finalize": ("update",),
            **dict.fromkeys(STREAMS, ("get", "create")),
        }.get(subresource, ("get", "update", "patch"))
    elif verb == "create" and target.name:
        allowed = ()
    else:
        allowed = resource.verbs
    in_all_namespaces = resource.namespaced and not target.namespace
    if verb not in allowed or (in_all_namespaces and verb not in ("list", "watch")):
        raise status.method_not_allowed()


def is_true(value: str | None) -> bool:
    """Whether a query parameter says yes, as Go parses booleans."""
    return value in ("1", "t", "T", "true", "TRUE", "True")


def integer(query: Mapping[str, str], name: str) -> int | None:
    """A whole number of the query, or None when it is absent.

    Raises:
        StatusError: 400, it is no number.
    """
    text = query.get(name, "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise status.bad_request(
            f'strconv.ParseInt: parsing "{text}": invalid syntax (parameter {name})'
        ) from None

"""What a request to the API server is about: verb, resource, namespace and name, read from a path.

Pure. Errors and permission checks speak of ``create pods/exec in namespace "x"``, and requests
are made by path; this is the one place that knows how the two belong together.
"""

from __future__ import annotations

from dataclasses import dataclass

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The object or collection that a request addresses, in the words of RBAC."""

    verb: str
    resource: str = ""
    group: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def kind(self) -> str:
        """The resource as RBAC rules write it: ``pods/exec``."""
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{resource}/{self.subresource}" if self.subresource else resource or self.path

    @property
    def can_i(self) -> str:
        """The command that asks the server whether this is allowed."""
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        words = ["kubectl auth can-i", self.verb, resource or self.path]
        if self.subresource:
            # With a slash, kubectl would take it for the name of a pod.
            words.append(f"--subresource={self.subresource}")
        return " ".join([*words, *(["-n", self.namespace] if self.namespace else [])])

    def __str__(self) -> str:
        text = f'{self.kind} "{self.name}"' if self.name and self.resource else self.kind
        return f'{text} in namespace "{self.namespace}"' if self.namespace else text


def parse(method: str, path: str) -> Target:
    """Read the target of a request from its method and path (without the query).

    Args:
        method: the HTTP method, upper case.
        path: e.g. ``/apis/apps/v1/namespaces/x/deployments/web``.
    """
    parts = [part for part in path.split("/") if part]
    if len(parts) >= 3 and parts[0] == "api":
        group, rest = "", parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, rest = parts[1], parts[3:]
    else:
        return Target(verb=_VERBS.get(method, method.lower()), path=path)
    namespace = ""
    if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = (*rest, "", "")[:3]
    if method == "GET":
        verb = "get" if name else "list"
    elif method == "DELETE":
        verb = "delete" if name else "deletecollection"
    else:
        verb = _VERBS.get(method, method.lower())
    return Target(
        verb=verb,
        resource=resource,
        group=group,
        subresource=subresource,
        namespace=namespace,
        name=name,
        path=path,
    )


def collection(resource: str, *, namespace: str = "", group: str = "", version: str = "v1") -> str:
    """The path of a collection, e.g. ``/api/v1/namespaces/x/pods``."""
    base = f"/apis/{group}/{version}" if group else f"/api/{version}"
    return f"{base}/namespaces/{namespace}/{resource}" if namespace else f"{base}/{resource}"

"""What a run needs of a cluster, checked before it starts: permissions, versions, nodes.

``k8snet doctor`` prints the report; nothing in the cluster is changed by making it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_k8snet.cluster.nodes import Node, list_nodes
from pytest_k8snet.cluster.permissions import CRD_GROUP, Level, Permission, permissions
from pytest_k8snet.errors import ApiError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

#: The oldest Kubernetes whose API has all that is used.
OLDEST_MINOR = 21


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found.

    Attributes:
        host: the API server's URL.
        context: the kubeconfig's context.
        user: who the server says this is.
        kubernetes_version: e.g. ``v1.32.1``.
        allowed: each permission and whether it is granted.
        nodes: all nodes, usable or not.
        problems: what keeps every run from working, permissions apart; one sentence each.
        places: the namespace of each kind of place; empty where all of them are meant.
    """

    host: str
    context: str
    user: str
    kubernetes_version: str
    allowed: Mapping[Permission, bool]
    nodes: tuple[Node, ...]
    problems: tuple[str, ...]
    places: Mapping[str, str]

    def missing(self, level: Level) -> list[str]:
        """Permissions that a level needs and that are not granted, in words."""
        return self._told(
            one
            for one, granted in self.allowed.items()
            if level in one.levels and not granted and not one.optional
        )

    def missing_optional(self) -> list[str]:
        """Permissions without which a run has less to say, in words."""
        return self._told(
            one for one, granted in self.allowed.items() if one.optional and not granted
        )

    def _told(self, permissions: Iterable[Permission]) -> list[str]:
        """In words, those for one resource together: ``get/list pods in x``."""
        verbs: dict[str, list[str]] = {}
        for permission in permissions:
            place = self.places[permission.place]
            what = f"{permission.what} in {place}" if place else permission.what
            verbs.setdefault(what, []).append(permission.verb)
        return [f"{'/'.join(dict.fromkeys(each))} {what}" for what, each in verbs.items()]

    def lines(self) -> list[str]:
        """The cluster as text, one fact a line."""
        usable = [node for node in self.nodes if node.usable]
        return [
            f"server      {self.host} (context {self.context}, user {self.user})",
            f"kubernetes  {self.kubernetes_version}",
            f"nodes       {len(usable)} of {len(self.nodes)} usable",
            *(
                f"  {node.name:<20} {node.interface or node.internal_ip}  "
                f"{node.trouble or 'usable'}"
                for node in self.nodes
            ),
            *(f"problem     {problem}" for problem in self.problems),
        ]


def check(
    api: Api,
    *,
    namespace: str | None = None,
    state_namespace: str = "kube-system",
    calico_group: str = CRD_GROUP,
    stored_group: str = CRD_GROUP,
) -> Report:
    """Look what runs of each level can do.

    Args:
        api: the cluster.
        namespace: the namespace of the run's pods; None stands for one that it makes.
        state_namespace: the namespace that keeps Lease and journal.
        calico_group: see :func:`pytest_k8snet.cluster.permissions.permissions`.
        stored_group: see there.

    Raises:
        ConnectError: the server does not answer.
    """
    needed = [
        permission
        for permission in permissions(calico_group, stored_group)
        if not (permission.own_namespace and namespace is not None)
    ]
    places = {"cluster": "", "pods": namespace or "", "state": state_namespace}

    def ask(permission: Permission) -> bool:
        return api.can(
            permission.verb,
            permission.resource,
            group=permission.group,
            subresource=permission.subresource,
            name=permission.name,
            namespace=places[permission.place],
        )

    with ThreadPoolExecutor(max_workers=8) as pool:
        allowed = dict(zip(needed, pool.map(ask, needed), strict=True))
    version = str(api.get("/version").get("gitVersion", ""))
    problems: list[str] = []
    nodes: list[Node] = []
    try:
        nodes = list_nodes(api)
    except ApiError as error:
        problems.append(error.problem)
    else:
        if (count := sum(node.usable for node in nodes)) < 2:
            problems.append(f"two usable nodes are needed and there are {count}")
    if _minor(version) < OLDEST_MINOR:
        problems.append(f"Kubernetes {version} is older than 1.{OLDEST_MINOR}")
    return Report(
        host=api.host,
        context=api.context,
        user=api.user,
        kubernetes_version=version,
        allowed=allowed,
        nodes=tuple(nodes),
        problems=tuple(problems),
        places=places,
    )


def _minor(version: str) -> int:
    parts = version.removeprefix("v").split(".")
    digits = "".join(c for c in parts[1] if c.isdigit()) if len(parts) > 1 else ""
    # A version that cannot be read is no reason to stop.
    return int(digits) if digits else OLDEST_MINOR

"""What a run needs of a cluster, checked before it starts: permissions, versions, nodes.

``k8snet doctor`` prints the report; nothing in the cluster is changed by making it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from pytest_k8snet.cluster.nodes import Node, list_nodes
from pytest_k8snet.errors import ApiError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

#: What a run may be allowed to do: each level needs those before it.
Level: TypeAlias = Literal["measure", "service", "dedicated", "in-place"]
LEVELS: tuple[Level, ...] = ("measure", "service", "dedicated", "in-place")

#: The oldest Kubernetes whose API has all that is used.
OLDEST_MINOR = 21


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """One thing that the user must be allowed to do, in the words of RBAC.

    Attributes:
        level: what it is needed for.
        place: where it is needed: in all of the cluster, in the namespace of the run's pods, or
            in the one that keeps the state of changes (Lease and journal).
        optional: whether a run works without it, with less to say.
        own_namespace: whether it is needed only when the run makes its namespace.
    """

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    level: Level = "measure"
    place: Literal["cluster", "pods", "state"] = "pods"
    optional: bool = False
    own_namespace: bool = False

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {resource}" + (f"/{self.subresource}" if self.subresource else "")


def _several(verbs: str, resource: str, **rest: object) -> list[Permission]:
    return [Permission(verb=verb, resource=resource, **rest) for verb in verbs.split()]  # type: ignore[arg-type]


def permissions(calico_group: str = "crd.projectcalico.org") -> list[Permission]:
    """Everything that runs of all levels need.

    Args:
        calico_group: the API group that serves Calico's resources in this cluster.
    """
    calico, blocks = calico_group, "crd.projectcalico.org"
    return [
        *_several("get list", "nodes", place="cluster"),
        *_several("create get list delete", "pods"),
        # get until 1.34, create as well from 1.35: exec comes by WebSocket.
        *_several("create get", "pods", subresource="exec"),
        *_several("get", "pods", subresource="log", optional=True),
        *_several("list", "events", optional=True),
        *_several("create get list delete", "namespaces", place="cluster", own_namespace=True),
        *_several("get list", "ippools", group=calico, place="cluster"),
        *_several("get list", "felixconfigurations", group=calico, place="cluster"),
        *_several("get list", "clusterinformations", group=calico, place="cluster", optional=True),
        *_facts(calico),
        *_several("create get list delete", "deployments", group="apps", level="service"),
        *_several("list delete", "replicasets", group="apps", level="service", optional=True),
        *_several("create get list delete", "services", level="service"),
        *_several("list", "endpointslices", group="discovery.k8s.io", level="service"),
        # patch: a pool that is to go is disabled first.
        *_several(
            "create patch delete", "ippools", group=calico, level="dedicated", place="cluster"
        ),
        *(
            permission
            for resource in ("ipamblocks", "blockaffinities")
            for permission in _several(
                "list delete",
                resource,
                group=blocks,
                level="dedicated",
                place="cluster",
                optional=True,
            )
        ),
        *_several("create get update patch delete", "configmaps", level="dedicated", place="state"),
        *_several(
            "create get update delete",
            "leases",
            group="coordination.k8s.io",
            level="dedicated",
            place="state",
        ),
        *_several(
            "patch",
            "installations",
            group="operator.tigera.io",
            level="in-place",
            place="cluster",
            optional=True,
        ),
    ]


def _facts(calico: str) -> list[Permission]:
    """What tells which Calico this is; what may not be read is reported as unknown."""
    operator = "operator.tigera.io"
    return [
        permission
        for verbs, resource, group in (
            ("get list", "bgppeers", calico),
            ("get list", "ipamblocks", calico),
            ("get list", "installations", operator),
            ("get list", "tigerastatuses", operator),
            ("get list", "apiservers", operator),
            ("get", "daemonsets", "apps"),
            ("get list", "services", ""),
            ("list", "servicecidrs", "networking.k8s.io"),
            ("get", "apiservices", "apiregistration.k8s.io"),
            ("list", "datastoremigrations", "migration.projectcalico.org"),
        )
        for permission in _several(verbs, resource, group=group, place="cluster", optional=True)
    ]


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
        problems: what keeps a run of the level asked for from working, one sentence each.
        places: the namespace of each kind of place; empty where all of them are meant.
    """

    host: str
    context: str
    user: str
    kubernetes_version: str
    level: Level
    allowed: Mapping[Permission, bool]
    nodes: tuple[Node, ...]
    problems: tuple[str, ...]
    places: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether a run of the level can work."""
        return not self.problems

    def missing(self) -> list[Permission]:
        """Permissions that are needed and not granted."""
        return [p for p, granted in self.allowed.items() if not granted and not p.optional]

    def told(self, permissions: Iterable[Permission]) -> list[str]:
        """Permissions in words, those for one resource together: ``get/list pods in x``."""
        return _told(permissions, self.places)

    def lines(self) -> list[str]:
        """The report as text, one fact a line."""
        usable = [node for node in self.nodes if node.usable]
        out = [
            f"server      {self.host} (context {self.context}, user {self.user})",
            f"kubernetes  {self.kubernetes_version}",
            f"nodes       {len(usable)} of {len(self.nodes)} usable",
        ]
        out += [
            f"  {node.name:<20} {node.interface or node.internal_ip}  {node.trouble or 'usable'}"
            for node in self.nodes
        ]
        granted = sum(self.allowed.values())
        out.append(f"permissions {granted} of {len(self.allowed)} granted for level {self.level}")
        out += [
            f"  no: {self.told([permission])[0]}" + (" (optional)" if permission.optional else "")
            for permission, yes in self.allowed.items()
            if not yes
        ]
        out += [f"problem     {problem}" for problem in self.problems]
        return out


def check(
    api: Api,
    *,
    level: Level = "measure",
    namespace: str | None = None,
    state_namespace: str = "kube-system",
    calico_group: str = "crd.projectcalico.org",
) -> Report:
    """Look whether a run of a level can work.

    Args:
        api: the cluster.
        level: what the run may do.
        namespace: the namespace it would use; None stands for one of its own.
        state_namespace: the namespace that keeps Lease and journal.
        calico_group: the API group that serves Calico's resources.

    Raises:
        ConnectError: the server does not answer.
    """
    needed = [
        permission
        for permission in permissions(calico_group)
        if LEVELS.index(permission.level) <= LEVELS.index(level)
        and not (permission.own_namespace and namespace is not None)
    ]

    places = {"cluster": "", "pods": namespace or "", "state": state_namespace}

    def ask(permission: Permission) -> bool:
        return api.can(
            permission.verb,
            permission.resource,
            group=permission.group,
            subresource=permission.subresource,
            namespace=places[permission.place],
        )

    with ThreadPoolExecutor(max_workers=8) as pool:
        allowed = dict(zip(needed, pool.map(ask, needed), strict=True))
    version = str(api.get("/version").get("gitVersion", ""))
    problems = [
        f'user "{api.user}" may not {_told([permission], places)[0]}'
        for permission, yes in allowed.items()
        if not yes and not permission.optional
    ]
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
        level=level,
        allowed=allowed,
        nodes=tuple(nodes),
        problems=tuple(problems),
        places=places,
    )


def _told(permissions: Iterable[Permission], places: Mapping[str, str]) -> list[str]:
    verbs: dict[str, list[str]] = {}
    for permission in permissions:
        what = str(permission).removeprefix(f"{permission.verb} ")
        if place := places[permission.place]:
            what += f" in {place}"
        verbs.setdefault(what, []).append(permission.verb)
    return [f"{'/'.join(several)} {what}" for what, several in verbs.items()]


def _minor(version: str) -> int:
    parts = version.removeprefix("v").split(".")
    digits = "".join(c for c in parts[1] if c.isdigit()) if len(parts) > 1 else ""
    # A version that cannot be read is no reason to stop.
    return int(digits) if digits else OLDEST_MINOR

"""Access control: what RBAC must grant a run, and what admission makes of its pods.

``docs/rbac.yaml`` grants exactly the permissions here; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pytest_k8snet.cluster.exec import CONTAINER
from pytest_k8snet.cluster.nodes import Node, list_nodes
from pytest_k8snet.errors import ApiError, PodError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api


#: What a run may be allowed to do: each level needs the first, and none of the others.
Level: TypeAlias = Literal["measure", "service", "dedicated", "in-place"]
LEVELS: tuple[Level, ...] = ("measure", "service", "dedicated", "in-place")

#: The group of Calico's own CRDs, beneath its API server where there is one.
CRD_GROUP = "crd.projectcalico.org"
_OPERATOR = "operator.tigera.io"
_POLICY = "policy.networking.k8s.io"
#: How many nodes are described one by one.
_MOST_NODES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """One thing that the user must be allowed to do.

    Attributes:
        name: the one object that it is about; empty for any.
        levels: what it is needed for.
        place: where it is needed: in all of the cluster, in the namespace of the run's pods, or
            in the one that keeps the state of changes (Lease and journal).
        optional: whether a run works without it, with less to say.
        own_namespace: whether it is needed only when the run makes its namespace.
    """

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    name: str = ""
    levels: tuple[Level, ...] = ("measure",)
    place: Literal["cluster", "pods", "state"] = "pods"
    optional: bool = False
    own_namespace: bool = False

    @property
    def what(self) -> str:
        """The resource, as ``kubectl auth can-i`` names it, and the object."""
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        resource += f"/{self.subresource}" if self.subresource else ""
        return f"{resource} {self.name}" if self.name else resource

    def __str__(self) -> str:
        return f"{self.verb} {self.what}"


def permissions(
    calico_group: str = CRD_GROUP, stored_group: str = CRD_GROUP
) -> tuple[Permission, ...]:
    """List everything that runs of all levels need.

    Args:
        calico_group: the API group through which Calico's resources are read and written.
        stored_group: that of the CRDs which hold them; another one beneath an aggregated API.
    """
    core: _Terms = {"place": "cluster"}
    # What tells which Calico this is; what may not be read is reported as unknown.
    fact: _Terms = {"place": "cluster", "optional": True}
    service: _Terms = {"levels": ("service",)}
    changed: tuple[Level, ...] = ("dedicated", "in-place")
    in_place: tuple[Level, ...] = ("in-place",)
    pools: _Terms = {"resource": "ippools", "group": calico_group, "place": "cluster"}
    state: _Terms = {"place": "state", "levels": changed}
    lease: _Terms = {"resource": "leases", "group": "coordination.k8s.io", **state}
    found = [
        *_several("list", "nodes", **core),
        *_several("create get list delete", "pods"),
        # Without it pods are polled.
        *_several("watch", "pods", optional=True),
        # get until 1.34, create as well from 1.35: exec comes by WebSocket.
        *_several("create get", "pods", subresource="exec"),
        *_several("get", "pods", subresource="log", optional=True),
        *_several("list", "events", optional=True),
        *_several("create list delete", "namespaces", **core, own_namespace=True),
        *_several("get watch", "namespaces", **fact, own_namespace=True),
        *_several("list", "ippools", group=calico_group, **core),
        *_several("list", "felixconfigurations", group=calico_group, **core),
        *_several("get", "clusterinformations", group=calico_group, **fact),
        *_several("list", "bgppeers", group=calico_group, **fact),
        *_several("list", "bgpfilters", group=calico_group, **fact),
        *_several("list", "bgpconfigurations", group=calico_group, **fact),
        # Named where a connection is refused or silent.
        *_several("list", "globalnetworkpolicies", group=calico_group, **fact),
        *_several("list", "hostendpoints", group=calico_group, **fact),
        *_several("list", "networkpolicies", group=calico_group, optional=True),
        *_several("list", "networkpolicies", group="networking.k8s.io", optional=True),
        *_several("list", "adminnetworkpolicies", group=_POLICY, **fact),
        *_several("list", "baselineadminnetworkpolicies", group=_POLICY, **fact),
        *_several("list", "clusternetworkpolicies", group=_POLICY, **fact),
        *_several("list", "caliconodestatuses", group=calico_group, **fact),
        *_several("list", "ipamblocks", group=stored_group, **fact),
        *_several("list", "ipreservations", group=calico_group, **fact),
        # One kind, of another name in each group.
        *_several(
            "list",
            "ipamconfigs" if stored_group == CRD_GROUP else "ipamconfigurations",
            group=stored_group,
            **fact,
        ),
        *_several("get", "installations", group=_OPERATOR, **fact),
        *_several("get", "tigerastatuses", group=_OPERATOR, **fact),
        *_several("list", "apiservers", group=_OPERATOR, **fact),
        *_several("get", "daemonsets", group="apps", **fact),
        *_several("get", "configmaps", name="calico-config", **fact),
        *_several("get", "configmaps", name="kube-proxy", **fact),
        # get: of a Service that exists already.
        *_several("get list", "services", **fact),
        *_several("list", "servicecidrs", group="networking.k8s.io", **fact),
        *_several("get", "apiservices", group="apiregistration.k8s.io", **fact),
        *_several("list", "datastoremigrations", group="migration.projectcalico.org", **fact),
        # The web service.
        *_several("create get delete", "deployments", group="apps", **service),
        *_several("create get delete", "services", **service),
        # What a killed run has left in a namespace that it was given is looked for.
        *_several("list", "deployments", group="apps", optional=True, **service),
        *_several("list", "services", optional=True, **service),
        *_several("list", "endpointslices", group="discovery.k8s.io", **service),
        # Where it is unknown who routes the pods, nothing is changed.
        *_several("get", "daemonsets", group="apps", **core, levels=changed),
        # patch: a pool of the run's own that is to go is disabled first.
        *_several("get patch", **pools, levels=changed),
        # In place, each mode is tried in a pool of the run's own first.
        *_several("create delete", **pools, levels=changed),
        *_several("patch", "installations", group=_OPERATOR, **fact, levels=in_place),
        # The state of changes. RBAC cannot bind the making of an object to its name.
        *_several("create", "configmaps", **state),
        *_several("get update delete", "configmaps", **state, name="k8snet-journal"),
        *_several("create", **lease),
        *_several("get update delete", **lease, name="k8snet-change"),
    ]
    if stored_group != calico_group:
        pools["group"] = stored_group
        found += [
            # What a pool was is read beneath the aggregated API.
            *_several("get", **pools, levels=in_place),
            # To leave no field that was absent, and where the aggregated API server is cut off.
            *_several("patch", **pools, levels=in_place, optional=True),
            *_several("list", **pools, optional=True),
            *_several("get patch delete", **pools, levels=("dedicated",), optional=True),
        ]
    if stored_group == CRD_GROUP:
        # What the run's own pools leave behind where no Calico API server cleans up.
        for resource in ("ipamblocks", "blockaffinities"):
            found += _several("list delete", resource, group=CRD_GROUP, **fact, levels=changed)
    return tuple(found)


#: Attributes that several permissions have in common.
_Terms: TypeAlias = dict[str, Any]


def _several(verbs: str, resource: str, **rest: Any) -> list[Permission]:
    return [Permission(verb=verb, resource=resource, **rest) for verb in verbs.split()]


# -- Preflight -------------------------------------------------------------------------------------
#
# ``k8snet doctor`` prints the report; nothing in the cluster is changed by making it.

#: The oldest Kubernetes whose API has all that is used.
OLDEST_MINOR = 21


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a check has found.

    Attributes:
        server: the API server, and as whom it is asked.
        allowed: each permission and whether it is granted.
        nodes: all nodes, usable or not.
        problems: what keeps every run from working, permissions apart; one sentence each.
        places: the namespace of each kind of place; empty where all of them are meant.
    """

    server: str
    kubernetes_version: str
    allowed: Mapping[Permission, bool]
    nodes: tuple[Node, ...]
    problems: tuple[str, ...]
    places: Mapping[str, str]

    def missing(self, level: Level) -> list[str]:
        """Return the permissions that a level needs and lacks, in words."""
        return self._in_words(
            one
            for one, granted in self.allowed.items()
            if level in one.levels and not granted and not one.optional
        )

    def missing_optional(self) -> list[str]:
        """Return the permissions that are lacking and without which a run has less to say."""
        return self._in_words(
            one for one, granted in self.allowed.items() if one.optional and not granted
        )

    def _in_words(self, permissions: Iterable[Permission]) -> list[str]:
        """Put permissions in words, those for one resource together: ``get/list pods in x``."""
        verbs: dict[str, list[str]] = {}
        for permission in permissions:
            place = self.places[permission.place]
            what = f"{permission.what} in {place}" if place else permission.what
            verbs.setdefault(what, []).append(permission.verb)
        return [f"{'/'.join(dict.fromkeys(each))} {what}" for what, each in verbs.items()]

    def lines(self) -> list[str]:
        """Describe the cluster as text, one fact a line."""
        # Of thousands of nodes those that cannot be used matter, and a few of the others.
        chosen = sorted(self.nodes, key=lambda node: node.usable)[:_MOST_NODES]
        shown = {node.name for node in chosen}
        left = len(self.nodes) - len(shown)
        return [
            f"server      {self.server}",
            f"kubernetes  {self.kubernetes_version}",
            f"nodes       {sum(node.usable for node in self.nodes)} of {len(self.nodes)} usable",
            *(
                f"  {node.name:<20} {node.interface or node.internal_ip}  "
                f"{node.trouble or 'usable'}"
                for node in self.nodes
                if node.name in shown
            ),
            *([f"  and {left:,} more, see kubectl get nodes"] if left else []),
            *(f"problem     {problem}" for problem in self.problems),
        ]


def check(
    api: Api,
    *,
    namespace: str | None = None,
    state_namespace: str = "kube-system",
    calico_group: str = CRD_GROUP,
    stored_group: str = CRD_GROUP,
    nodes: Sequence[Node] = (),
) -> Report:
    """Check what runs of each level may do, and whether the cluster is fit for them.

    Without a namespace, the run makes one for its pods. The state namespace keeps Lease and
    journal; the groups are those of :func:`permissions`. Nodes that are given are not read again.

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
    try:
        nodes = nodes or list_nodes(api)
    except ApiError as error:
        problems.append(error.problem)
    else:
        if (count := sum(node.usable for node in nodes)) < 2:
            problems.append(f"two usable nodes are needed and there are {count}")
    if _minor(version) < OLDEST_MINOR:
        problems.append(f"Kubernetes {version} is older than 1.{OLDEST_MINOR}")
    return Report(
        server=f"{api.host} (context {api.context}, user {api.user})",
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


# -- Admission: sidecars asked away, and what has changed all the same -----------------------------
#
# Webhooks, a LimitRange and the defaults of a namespace change a pod between the request and the
# kubelet. Pure.

#: How injectors of sidecars, agents and meshes are asked to leave a pod alone. Most read the
#: annotation, newer ones the label of the same name (Istio and Kuma both).
OPT_OUT_LABELS: Mapping[str, str] = {
    "sidecar.istio.io/inject": "false",
    # Istio's ambient mode redirects traffic without a sidecar.
    "istio.io/dataplane-mode": "none",
    "kuma.io/sidecar-injection": "disabled",
    "admission.datadoghq.com/enabled": "false",
}
OPT_OUT_ANNOTATIONS: Mapping[str, str] = {
    "sidecar.istio.io/inject": "false",
    "linkerd.io/inject": "disabled",
    "kuma.io/sidecar-injection": "disabled",
    "consul.hashicorp.com/connect-inject": "false",
    "consul.hashicorp.com/mesh-inject": "false",
    "openservicemesh.io/sidecar-injection": "disabled",
    "appmesh.k8s.aws/sidecarInjectorWebhook": "disabled",
    "injector.nsm.nginx.com/auto-inject": "false",
    "vault.hashicorp.com/agent-inject": "false",
    "sidecar.opentelemetry.io/inject": "false",
    "dapr.io/enabled": "false",
}

_OF_CALICO = "cni.projectcalico.org/"
#: Annotations that limit, redirect or replace a pod's network: Kubernetes' bandwidth plugin,
#: Calico's QoS controls, pools and fixed addresses, Istio's ambient mode, Multus.
_DISTORTING_ANNOTATIONS = (
    "kubernetes.io/ingress-bandwidth",
    "kubernetes.io/egress-bandwidth",
    "qos.projectcalico.org/",
    "cni.projectcalico.org/ip",
    "ambient.istio.io/redirection",
    "k8s.v1.cni.cncf.io/networks",
    "v1.multus-cni.io/default-network",
)
_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})

#: What else admission may write, of a pod and of a container, and the API server's own defaults.
_OF_POD = (
    "dnsPolicy",
    "dnsConfig",
    "hostAliases",
    "hostPID",
    "hostIPC",
    "shareProcessNamespace",
    "schedulerName",
    "securityContext",
    "activeDeadlineSeconds",
)
_OF_CONTAINER = ("image", "command", "args", "securityContext", "envFrom")
_DEFAULTS: Mapping[str, object] = {
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
}
_QUANTITIES = (
    ("limits", "memory"),
    ("limits", "ephemeral-storage"),
    ("requests", "cpu"),
    ("requests", "memory"),
)


def distortions(asked: Mapping[str, Any], made: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what changes figures of a pod, beside what its manifest, or its template, asked for.

    Raises:
        PodError: it is no longer the pod that was asked for: another network, node or pool, no
            container of ours, or not known by its labels.
    """
    if (lost := _lost(asked, made)) is not None:
        metadata = made.get("metadata") or {}
        raise PodError(
            f"admission has made another pod of {metadata.get('namespace')}/{metadata.get('name')}",
            found=lost,
            remedy="find the webhook (`kubectl get mutatingwebhookconfigurations`) and let it pass "
            "over the run's namespace, or name another by `-o k8snet_namespace=...`",
        )
    return tuple(_distortions(asked, made))


def alterations(asked: Mapping[str, Any], made: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what else is different about a pod: an image from a mirror, a security context.

    It changes no figure by itself, as :func:`distortions` do, and is good to know where two
    clusters differ.
    """
    return tuple(_alterations(asked, made))


def _lost(asked: Mapping[str, Any], made: Mapping[str, Any]) -> str | None:
    was, spec = asked.get("spec") or {}, made.get("spec") or {}
    if not any(one.get("name") == CONTAINER for one in spec.get("containers") or []):
        return f'it has no container "{CONTAINER}"'
    if bool(was.get("hostNetwork")) != bool(spec.get("hostNetwork")):
        return f"hostNetwork: {bool(spec.get('hostNetwork'))} instead of the opposite"
    annotations = _metadata(asked, "annotations").items()
    for what, wanted, found in (
        ("nodeSelector", was.get("nodeSelector") or {}, spec.get("nodeSelector") or {}),
        ("label", _metadata(asked, "labels"), _metadata(made, "labels")),
        (
            "annotation",
            {key: value for key, value in annotations if key.startswith(_OF_CALICO)},
            _metadata(made, "annotations"),
        ),
    ):
        for key, value in wanted.items():
            # A mesh that is not to be refused overwrites its own label; its sidecar tells more.
            if key not in OPT_OUT_LABELS and (now := found.get(key)) != value:
                return f"{what} {key}: {now} instead of {value}"
    return None


def _distortions(asked: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    was, spec = asked.get("spec") or {}, made.get("spec") or {}
    known = {one.get("name") for one in was.get("containers") or []}
    for one in spec.get("containers") or []:
        if one.get("name") not in known:
            yield f"container {one.get('name')} ({one.get('image')}) runs beside it"
    for one in spec.get("initContainers") or []:
        how = "runs beside it" if one.get("restartPolicy") == "Always" else "ran before it"
        yield f"init container {one.get('name')} ({one.get('image')}) {how}"
    now = _ours(spec)
    annotations = _metadata(made, "annotations")
    limit, before = _quantity(now, "limits", "cpu"), _quantity(_ours(was), "limits", "cpu")
    if limit and not _same(limit, before):
        # Written by Kubernetes' LimitRanger where it has put in defaults.
        ranged = "cpu limit" in annotations.get("kubernetes.io/limit-ranger", "")
        yield f"its CPU is limited to {limit} by {'a LimitRange' if ranged else 'admission'}"
    # Of all containers together (KEP-2837, Kubernetes 1.34); none is asked for.
    if limit := _quantity(spec, "limits", "cpu"):
        yield f"the CPU of all its containers is limited to {limit} by admission"
    for key, value in sorted(annotations.items()):
        if key not in _metadata(asked, "annotations") and key.startswith(_DISTORTING_ANNOTATIONS):
            yield f"annotation {key}: {value}"
    for one in _sysctls(spec):
        if one not in _sysctls(was):
            yield f"sysctl {one.get('name')}: {one.get('value')}"
    if runtime := spec.get("runtimeClassName"):
        yield f"it runs in the runtime class {runtime}"
    names = [str(one.get("name")) for one in now.get("env") or []]
    if proxies := sorted(name for name in names if name.lower() in _PROXIES):
        yield f"its environment names a proxy ({', '.join(proxies)})"


def _sysctls(spec: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return (spec.get("securityContext") or {}).get("sysctls") or ()


def _alterations(asked: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    was, spec = asked.get("spec") or {}, made.get("spec") or {}
    before, now = _ours(was), _ours(spec)
    for old, new, fields in ((was, spec, _OF_POD), (before, now, _OF_CONTAINER)):
        for name in fields:
            wanted = old.get(name) or _DEFAULTS.get(name)
            if (found := new.get(name)) and found != wanted:
                yield f"{name}: {found} instead of {wanted or 'none'}"
    for kind, name in _QUANTITIES:
        quantity = _quantity(now, kind, name)
        # The API server itself takes a limit for the request that is missing.
        known = (_quantity(before, kind, name), _quantity(before, "limits", name))
        if quantity and not any(_same(quantity, one) for one in known):
            yield f"{kind}.{name}: {quantity} instead of {known[0] or 'none'}"
    asked_names = {one.get("name") for one in before.get("env") or []}
    added = {str(one.get("name")) for one in now.get("env") or []} - asked_names
    if others := sorted(name for name in added if name.lower() not in _PROXIES):
        # Their values may be secrets.
        yield f"environment: {', '.join(others)} added"


def _ours(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((one for one in spec.get("containers") or [] if one.get("name") == CONTAINER), {})


def _quantity(container: Mapping[str, Any], kind: str, name: str) -> str:
    return str(((container.get("resources") or {}).get(kind) or {}).get(name) or "")


def _same(one: str, other: str) -> bool:
    """Whether two quantities are one: the API server writes 1000m as 1, and 1024Mi as 1Gi."""
    from kubernetes.utils.quantity import parse_quantity

    try:
        return bool(parse_quantity(one) == parse_quantity(other))
    except ValueError:
        return one == other


def _metadata(item: Mapping[str, Any], name: str) -> Mapping[str, str]:
    found: Mapping[str, str] = (item.get("metadata") or {}).get(name) or {}
    return found

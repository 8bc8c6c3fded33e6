"""What the API server serves: one table, and a registry that answers questions about it.

An object's *storage key* is its plural with its group (``pods``, ``ippools.crd.projectcalico.org``)
and never changes; the *groups it is served in* depend on how Calico is installed:

=====  ==========================  =======================
shape  ``crd.projectcalico.org``   ``projectcalico.org/v3``
=====  ==========================  =======================
A      served                      absent
B      served                      the same objects (aggregated API server)
C      absent                      the same objects (native custom resources)
=====  ==========================  =======================
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.spec import CalicoSpec

CALICO_V1 = "crd.projectcalico.org"
CALICO_V3 = "projectcalico.org"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One row of the table.

    Attributes:
        kind: ``Pod``.
        plural: ``pods``: the name in paths.
        group: the API group, empty for the core.
        version: the API version within the group.
        namespaced: whether objects live in namespaces.
        short_names: what kubectl accepts too, e.g. ``po``.
        subresources: what can follow the name in a path.
        verbs: what may be done with it.
        in_all: whether ``kubectl get all`` shows it.
        custom: whether it is defined by a CustomResourceDefinition: no strategic merge patch, and
            every update needs a resourceVersion.
        aggregated: whether another API server than kube-apiserver serves it, and stores it as
            custom resources.
        key: the storage key.
        columns: what kubectl shows of it beside its name, of a client's own definition.
        schema: what a client's own definition says of its objects.
    """

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    in_all: bool = False
    custom: bool = False
    aggregated: bool = False
    key: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    schema: Object | None = None

    @property
    def api_version(self) -> str:
        """``v1`` or ``apps/v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified_plural(self) -> str:
        """``pods`` or ``deployments.apps``, as error messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        """``Pod`` or ``Deployment.apps``, as error messages name it."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def singular(self) -> str:
        """``pod``."""
        return self.kind.lower()

    @property
    def type_name(self) -> str:
        """Its name in the table of types; empty where a definition says what its objects are."""
        own = not self.custom or self.group in (CALICO_V1, CALICO_V3)
        # Of the two kinds of this name the table has Kubernetes' own.
        return "" if not own or (self.custom and self.kind == "NetworkPolicy") else self.kind

    @property
    def has_status(self) -> bool:
        """Whether ``status`` is written through a subresource of its own."""
        return "status" in self.subresources

    @property
    def counts_generations(self) -> bool:
        """Whether ``metadata.generation`` grows with each change of the spec."""
        return self.custom or self.key == "pods" or self.group in _COUNTING


#: The groups of Kubernetes' own whose objects count the changes of their specs.
_COUNTING = ("apps", "batch", "apiextensions.k8s.io", "networking.k8s.io", "discovery.k8s.io")

_ALL = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
#: What may be done with what a client defines.
EVERY_VERB = _ALL
_READ = ("get", "list", "watch")
_CREATE = ("create",)

_OPERATOR = "operator.tigera.io"
_AUTHZ = "authorization.k8s.io"
_RBAC = "rbac.authorization.k8s.io"

# kind, plural, group/version, scope, verbs, short names, subresources, flags
_TABLE: tuple[tuple[str, str, str, str, tuple[str, ...], str, str, str], ...] = (
    ("Namespace", "namespaces", "v1", "cluster", _ALL, "ns", "status finalize", ""),
    ("Node", "nodes", "v1", "cluster", _ALL, "no", "status", ""),
    ("Pod", "pods", "v1", "ns", _ALL, "po", "status log exec attach portforward binding eviction",
     "all"),
    ("Service", "services", "v1", "ns", _ALL, "svc", "status", "all"),
    ("Endpoints", "endpoints", "v1", "ns", _ALL, "ep", "", ""),
    ("ConfigMap", "configmaps", "v1", "ns", _ALL, "cm", "", ""),
    ("Secret", "secrets", "v1", "ns", _ALL, "", "", ""),
    ("ServiceAccount", "serviceaccounts", "v1", "ns", _ALL, "sa", "token", ""),
    ("Event", "events", "v1", "ns", _ALL, "ev", "", ""),
    ("ReplicationController", "replicationcontrollers", "v1", "ns", _ALL, "rc", "status scale",
     "all"),
    ("Deployment", "deployments", "apps/v1", "ns", _ALL, "deploy", "status scale", "all"),
    ("ReplicaSet", "replicasets", "apps/v1", "ns", _ALL, "rs", "status scale", "all"),
    ("DaemonSet", "daemonsets", "apps/v1", "ns", _ALL, "ds", "status", "all"),
    ("EndpointSlice", "endpointslices", "discovery.k8s.io/v1", "ns", _ALL, "", "", ""),
    ("ResourceQuota", "resourcequotas", "v1", "ns", _ALL, "quota", "status", ""),
    ("LimitRange", "limitranges", "v1", "ns", _ALL, "limits", "", ""),
    ("Job", "jobs", "batch/v1", "ns", _ALL, "", "status", "all"),
    ("NetworkPolicy", "networkpolicies", "networking.k8s.io/v1", "ns", _ALL, "netpol", "", ""),
    ("Lease", "leases", "coordination.k8s.io/v1", "ns", _ALL, "", "", ""),
    ("Role", "roles", f"{_RBAC}/v1", "ns", _ALL, "", "", ""),
    ("RoleBinding", "rolebindings", f"{_RBAC}/v1", "ns", _ALL, "", "", ""),
    ("ClusterRole", "clusterroles", f"{_RBAC}/v1", "cluster", _ALL, "", "", ""),
    ("ClusterRoleBinding", "clusterrolebindings", f"{_RBAC}/v1", "cluster", _ALL, "", "", ""),
    ("TokenReview", "tokenreviews", "authentication.k8s.io/v1", "cluster", _CREATE, "", "", ""),
    ("SelfSubjectReview", "selfsubjectreviews", "authentication.k8s.io/v1", "cluster", _CREATE, "",
     "", ""),
    ("SelfSubjectAccessReview", "selfsubjectaccessreviews", f"{_AUTHZ}/v1", "cluster", _CREATE, "",
     "", ""),
    ("SelfSubjectRulesReview", "selfsubjectrulesreviews", f"{_AUTHZ}/v1", "cluster", _CREATE, "",
     "", ""),
    ("CustomResourceDefinition", "customresourcedefinitions", "apiextensions.k8s.io/v1", "cluster",
     _ALL, "crd crds", "", ""),
    ("APIService", "apiservices", "apiregistration.k8s.io/v1", "cluster", _READ, "", "", ""),
    *(
        (kind, plural, f"{CALICO_V1}/v1", "cluster", _ALL, "", "", "custom")
        for kind, plural in (
            ("IPPool", "ippools"),
            ("IPAMBlock", "ipamblocks"),
            ("IPAMHandle", "ipamhandles"),
            ("IPAMConfig", "ipamconfigs"),
            ("BlockAffinity", "blockaffinities"),
            ("FelixConfiguration", "felixconfigurations"),
            ("BGPConfiguration", "bgpconfigurations"),
            ("BGPPeer", "bgppeers"),
            ("ClusterInformation", "clusterinformations"),
            ("GlobalNetworkPolicy", "globalnetworkpolicies"),
            ("HostEndpoint", "hostendpoints"),
            ("Tier", "tiers"),
        )
    ),
    ("NetworkPolicy", "networkpolicies", f"{CALICO_V1}/v1", "ns", _ALL, "", "", "custom"),
    ("KubeControllersConfiguration", "kubecontrollersconfigurations", f"{CALICO_V1}/v1", "cluster",
     _ALL, "", "status", "custom"),
    ("CalicoNodeStatus", "caliconodestatuses", f"{CALICO_V1}/v1", "cluster", _ALL, "", "status",
     "custom"),
    ("Installation", "installations", f"{_OPERATOR}/v1", "cluster", _ALL, "", "status",
     "custom operator"),
    ("TigeraStatus", "tigerastatuses", f"{_OPERATOR}/v1", "cluster", _ALL, "", "status",
     "custom operator"),
)  # fmt: skip


_WRITTEN = ("get", "patch", "update")
#: Subresource -> its kind (the resource's own where nothing else is said), and its verbs.
SUBRESOURCES: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "status": ({}, _WRITTEN),
    "scale": ({"group": "autoscaling", "version": "v1", "kind": "Scale"}, _WRITTEN),
    "finalize": ({}, ("update",)),
    "log": ({}, ("get",)),
    "exec": ({"kind": "PodExecOptions"}, ("create", "get")),
    "attach": ({"kind": "PodAttachOptions"}, ("create", "get")),
    "portforward": ({"kind": "PodPortForwardOptions"}, ("create", "get")),
    "binding": ({"kind": "Binding"}, _CREATE),
    "token": (
        {"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"},
        _CREATE,
    ),
    "eviction": ({"group": "policy", "version": "v1", "kind": "Eviction"}, _CREATE),
}


def _rows() -> list[tuple[Resource, str]]:
    rows = []
    for kind, plural, group_version, scope, verbs, short, subresources, flags in _TABLE:
        group, _, version = group_version.rpartition("/")
        resource = Resource(
            kind=kind,
            plural=plural,
            group=group,
            version=version,
            namespaced=scope == "ns",
            short_names=tuple(short.split()),
            subresources=tuple(subresources.split()),
            verbs=verbs,
            in_all="all" in flags.split(),
            custom="custom" in flags.split(),
            key=f"{plural}.{group}" if group else plural,
        )
        rows.append((resource, flags))
    return rows


class Registry:
    """The resources of one lab: what is stored, and where it is served.

    Args:
        calico: decides the groups that Calico's and the operator's resources are served in.
    """

    def __init__(self, calico: CalicoSpec) -> None:
        self._stored: dict[str, Resource] = {}
        self._defined: set[str] = set()
        self._served: dict[tuple[str, str, str], Resource] = {}
        for resource, flags in _rows():
            if "operator" in flags.split() and calico.install != "operator":
                continue
            views = self._views(resource, calico.api_shape)
            self._stored[resource.key] = views[0]
            for view in views:
                self._served[view.group, view.version, view.plural] = view

    def define(self, key: str, views: list[Resource]) -> None:
        """Serve a resource that a client has defined, in these versions; or in others now."""
        places = [(view.group, view.version, view.plural) for view in views]
        known = {self._served[place].key for place in places if place in self._served}
        if key in self._stored:
            known.add(key)
        if not known <= self._defined:
            # The lab's own have definitions, too: they stay what they are.
            return
        self.undefine(key)
        if not views:
            return
        self._defined.add(key)
        self._stored[key] = views[0]
        for view in views:
            self._served[view.group, view.version, view.plural] = view

    def undefine(self, key: str) -> None:
        """Serve it no more, if a client has defined it."""
        if key in self._defined:
            self._defined.remove(key)
            del self._stored[key]
            served = [place for place, view in self._served.items() if view.key == key]
            for place in served:
                del self._served[place]

    @staticmethod
    def _views(resource: Resource, api_shape: str) -> list[Resource]:
        if resource.group != CALICO_V1 or api_shape == "A":
            return [resource]
        native = replace(resource, group=CALICO_V3, version="v3")
        return [resource, replace(native, aggregated=True)] if api_shape == "B" else [native]

    def stored(self, key: str) -> Resource:
        """The resource with this storage key, in the version it is stored in.

        Raises:
            KeyError: the lab has no such resource.
        """
        return self._stored[key]

    def namespaced_keys(self) -> list[str]:
        """The storage keys of everything that namespaces hold."""
        return [key for key, resource in self._stored.items() if resource.namespaced]

    def stored_keys(self) -> list[str]:
        """The storage keys of everything there is."""
        return list(self._stored)

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource served at this place, or None."""
        return self._served.get((group, version, plural))

    def is_built_in(self, group: str, version: str) -> bool:
        """Whether the API server itself knows the group, and not only through definitions."""
        return any(
            not resource.custom and (resource.group, resource.version) == (group, version)
            for resource in self._served.values()
        )

    def served(self) -> list[Resource]:
        """Everything served, in the order of the table."""
        return list(self._served.values())

    def of_kind(self, api_version: str, kind: str) -> Resource | None:
        """The resource whose objects say this ``apiVersion`` and ``kind``, or None."""
        for resource in self._served.values():
            if resource.kind == kind and resource.api_version == api_version:
                return resource
        return None

    def group_versions(self) -> list[tuple[str, str]]:
        """Each served (group, version) once, the core first."""
        return list(dict.fromkeys((group, version) for group, version, _ in self._served))

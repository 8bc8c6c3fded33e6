"""Which policies may be what keeps a connection from its other end, by their names.

Asked only after a connection was refused or stayed silent: nothing here says that a policy *did*
drop a packet, only that it is about this end and does not plainly let it through. A connection
needs its client's egress and its server's ingress; replies pass by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pytest_k8snet.calico.installation import ApiGroup, annotations_of, calico_path, labels_of
from pytest_k8snet.calico.selectors import SelectorError, selects
from pytest_k8snet.cluster.api_errors import collection, object_path
from pytest_k8snet.errors import K8sNetError, NotFoundError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.pods import Pod

_ADMIN_GROUP = "policy.networking.k8s.io"

Direction: TypeAlias = Literal["Ingress", "Egress"]

#: The profile that lets everything through; host endpoints that Calico makes itself have it
#: (``kube-controllers/pkg/controllers/node/hostendpoints.go``, v3.28).
_ALLOWING_PROFILE = "projectcalico-default-allow"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyEnd:
    """What policies select: a pod, or a node's own network; and which way the connection goes."""

    direction: Direction
    node: str
    #: Empty for a node's own network.
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_pod(cls, api: Api, pod: Pod, direction: Direction) -> PolicyEnd:
        """Describe a pod of a run by the labels that it has now; on the host network, its node."""
        if pod.host_network:
            return cls(direction=direction, node=pod.node)
        path = object_path(collection("pods", namespace=pod.namespace), pod.name)
        labels: dict[str, str] = {}
        with suppress(K8sNetError):
            labels = labels_of(api.get(path))
        return cls(direction=direction, node=pod.node, namespace=pod.namespace, labels=labels)


def suspects(
    api: Api, group: ApiGroup | None, ends: Sequence[PolicyEnd], *, url: str = ""
) -> list[str]:
    """Name the policies that are about these ends and do not let everything through.

    Args:
        api: the connection.
        group: the group through which Calico's policies are read; None without Calico.
        ends: both ends of the connection, as far as they are known.
        url: what was requested; the pods behind a Service are ends as well.

    Returns:
        One line for each; also for what could not be read.
    """
    found: dict[str, None] = {}
    reader = _Reader(api)
    for end in (*ends, *_behind(reader, url, [one.namespace for one in ends if one.namespace])):
        if end.namespace:
            found |= dict.fromkeys(_of_kubernetes(reader, end))
            found |= dict.fromkeys(_of_administrators(reader, end))
        if group is not None:
            found |= dict.fromkeys(_of_calico(reader, group, end))
    return [*found, *reader.unread]


class _Reader:
    """Lists each collection once; what may not be read is a line of its own."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.unread: list[str] = []
        self.list = cache(self._list)

    def _list(self, path: str, what: str, labels: str = "") -> list[dict[str, Any]]:
        try:
            return self._api.list(path, labels=labels)
        except NotFoundError:
            return []
        except K8sNetError as exc:
            self.unread.append(f"{what} could not be read: {exc.problem}")
            return []

    def serves(self, group: str) -> bool:
        """Whether the API server knows an API group; True where it does not say."""
        try:
            return group in {one.get("name") for one in self._api.get("/apis").get("groups") or ()}
        except K8sNetError:
            return True

    def labels_of_namespace(self, name: str) -> dict[str, str]:
        """The labels of a namespace; those that Kubernetes gives it where they are not told."""
        known = {"kubernetes.io/metadata.name": name, "projectcalico.org/name": name}
        try:
            raw = self._api.get(object_path(collection("namespaces"), name))
        except K8sNetError:
            return known
        return {**labels_of(raw), **known}


# -- The pods behind a Service ---------------------------------------------------------------------


def _behind(reader: _Reader, url: str, namespaces: Iterable[str]) -> Iterator[PolicyEnd]:
    """The pods of the Service that a URL leads to; none where it leads to no Service's."""
    parts = urlsplit(url)
    # Before all others those of the clients' namespaces: there a run may always look.
    places = [*dict.fromkeys(namespaces), ""]
    for place in places if parts.hostname else ():
        path = collection("services", namespace=place)
        for raw in reader.list(path, f"Services{f' of {place}' if place else ''}"):
            if not _leads_to(raw, str(parts.hostname), parts.port):
                continue
            space = str(raw["metadata"].get("namespace"))
            selector = (raw.get("spec") or {}).get("selector") or {}
            pods = reader.list(
                collection("pods", namespace=space),
                f"pods behind Service {space}/{raw['metadata']['name']}",
                labels=",".join(f"{key}={value}" for key, value in selector.items()),
            )
            # Without a selector, somebody else says who is behind it.
            for pod in pods if selector else ():
                below = pod.get("spec") or {}
                of_node = bool(below.get("hostNetwork"))
                yield PolicyEnd(
                    direction="Ingress",
                    node=str(below.get("nodeName") or ""),
                    namespace="" if of_node else space,
                    labels={} if of_node else labels_of(pod),
                )
            return


def _leads_to(service: Mapping[str, Any], host: str, port: int | None) -> bool:
    """Whether a host, and for a node port the port, are those of a Service."""
    metadata, spec = service["metadata"], service.get("spec") or {}
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    addresses = {*(spec.get("clusterIPs") or ()), spec.get("clusterIP"), spec.get("loadBalancerIP")}
    addresses |= set(spec.get("externalIPs") or ())
    for ingress in balancer.get("ingress") or ():
        addresses |= {ingress.get("ip"), ingress.get("hostname")}
    name = f"{metadata['name']}.{metadata.get('namespace')}.svc"
    node_ports = {one.get("nodePort") for one in spec.get("ports") or ()} - {None}
    return host in addresses or f"{host}.".startswith(f"{name}.") or port in node_ports


# -- NetworkPolicies of Kubernetes -----------------------------------------------------------------


def _of_kubernetes(reader: _Reader, end: PolicyEnd) -> Iterator[str]:
    path = collection(
        "networkpolicies", group="networking.k8s.io", version="v1", namespace=end.namespace
    )
    rules = end.direction.lower()
    closing = []
    for raw in reader.list(path, f"NetworkPolicies of {end.namespace}"):
        spec = raw.get("spec") or {}
        types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
        if end.direction in types and _matches(spec.get("podSelector") or {}, end.labels):
            if any(not rule for rule in spec.get(rules) or ()):
                # They add up: what one lets through, no other takes back.
                return
            closing.append(str(raw["metadata"]["name"]))
    for name in closing:
        yield f"NetworkPolicy {end.namespace}/{name} ({end.direction})"


#: Policies of a cluster's administrators: the first two from Calico v3.29 and v3.30 on, the last
#: from v3.33 (``libcalico-go/lib/backend/k8s/resources``).
_ADMINISTRATORS = (
    ("v1alpha1", "AdminNetworkPolicy", "adminnetworkpolicies"),
    ("v1alpha1", "BaselineAdminNetworkPolicy", "baselineadminnetworkpolicies"),
    ("v1alpha2", "ClusterNetworkPolicy", "clusternetworkpolicies"),
)


def _of_administrators(reader: _Reader, end: PolicyEnd) -> Iterator[str]:
    for version, kind, plural in _ADMINISTRATORS if reader.serves(_ADMIN_GROUP) else ():
        path = collection(plural, group=_ADMIN_GROUP, version=version)
        for raw in reader.list(path, f"{plural}.{_ADMIN_GROUP}"):
            spec = raw.get("spec") or {}
            subject = spec.get("subject") or {}
            pods = subject.get("pods")
            spaces = pods.get("namespaceSelector") if pods else subject.get("namespaces")
            if (
                any(one.get("action") == "Deny" for one in spec.get(end.direction.lower()) or ())
                and _matches((pods or {}).get("podSelector") or {}, end.labels)
                and _matches(spaces or {}, reader.labels_of_namespace(end.namespace))
            ):
                yield f"{kind} {raw['metadata']['name']} ({end.direction})"


def _matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector of Kubernetes selects these labels."""
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(one, labels) for one in selector.get("matchExpressions") or ()
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or ()
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }.get(str(expression.get("operator")), False)


# -- Policies and host endpoints of Calico ---------------------------------------------------------


def _of_calico(reader: _Reader, group: ApiGroup, end: PolicyEnd) -> Iterator[str]:
    everywhere = reader.list(calico_path(group, "globalnetworkpolicies"), "GlobalNetworkPolicies")
    if not end.namespace:
        yield from _of_host(reader, group, end, everywhere)
        return
    labels = {
        **end.labels,
        "projectcalico.org/namespace": end.namespace,
        "projectcalico.org/orchestrator": "k8s",
    }
    path = f"/apis/{group}/namespaces/{end.namespace}/networkpolicies"
    own = reader.list(path, "Calico's NetworkPolicies")
    for kind, policies in (("NetworkPolicy of Calico", own), ("GlobalNetworkPolicy", everywhere)):
        for raw in policies:
            spec = raw.get("spec") or {}
            spaces = str(spec.get("namespaceSelector") or "")
            if spaces and not _selected(spaces, reader.labels_of_namespace(end.namespace)):
                continue
            if _selected(str(spec.get("selector") or ""), labels):
                yield from _closing(kind, raw, end.direction)


def _of_host(
    reader: _Reader, group: ApiGroup, end: PolicyEnd, everywhere: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    for raw in reader.list(calico_path(group, "hostendpoints"), "HostEndpoints"):
        spec = raw.get("spec") or {}
        if spec.get("node") != end.node:
            continue
        labels = labels_of(raw)
        about = [
            policy
            for policy in everywhere
            if _selected(str((policy.get("spec") or {}).get("selector") or ""), labels)
        ]
        if not about and _ALLOWING_PROFILE not in (spec.get("profiles") or ()):
            # Without a policy, only the failsafe ports are open.
            yield f"HostEndpoint {raw['metadata']['name']} of {end.node}, which no policy opens"
        kind = f"HostEndpoint {raw['metadata']['name']} by GlobalNetworkPolicy"
        for policy in about:
            yield from _closing(kind, policy, end.direction)


def _closing(kind: str, raw: Mapping[str, Any], direction: Direction) -> Iterator[str]:
    """A policy of Calico's, where it does not let everything through in a direction."""
    spec = raw.get("spec") or {}
    # As Calico fills it in (``defaultPolicyTypesField`` in ``libcalico-go/lib/clientv3``, v3.28).
    defaults = ["Egress"] if spec.get("egress") else []
    defaults += ["Ingress"] if spec.get("ingress") or not defaults else []
    types = spec.get("types") or defaults
    first: Mapping[str, Any] = next(iter(spec.get(direction.lower()) or ()), {})
    open_ = first.get("action") == "Allow" and not set(first) - {"action", "metadata"}
    if direction in types and not open_:
        # The name that users know: the v1 view puts the tier in front of it.
        name = annotations_of(raw).get("projectcalico.org/name", raw["metadata"]["name"])
        yield f"{kind} {name} ({direction})"


def _selected(selector: str, labels: Mapping[str, str]) -> bool:
    try:
        return selects(selector, labels)
    except SelectorError:
        # Who cannot be ruled out is named.
        return True

"""Nodes: what they are, which of them can be used, and which two to measure between."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pytest_k8snet.errors import NodesError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

Placement: TypeAlias = Literal["same-node", "same-subnet", "cross-subnet", ""]

#: The node's address with its subnet's prefix, as Calico's node agent has found it.
CALICO_ADDRESS = "projectcalico.org/IPv4Address"
#: How control-plane nodes are labelled, and tainted.
_CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
#: The label by which pods choose a node.
_HOSTNAME = "kubernetes.io/hostname"
#: The labels of a node's zone: that of today, and that of before Kubernetes 1.17.
_ZONES = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
_REPELLING = frozenset({"NoSchedule", "NoExecute"})
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_TAINTS_OF_NOT_READY = tuple(
    f"node.kubernetes.io/{name}" for name in ("unschedulable", "not-ready", "unreachable")
)
#: Conditions that hold a node back when they are True, in the kubelet's words.
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """A taint that the pods of a run tolerate.

    Attributes:
        key: the taint's key; empty tolerates every taint.
        value: its value; None tolerates any.
        effect: its effect; empty tolerates each.
    """

    key: str
    value: str | None = None
    effect: str = ""

    @classmethod
    def parse(cls, text: str) -> Toleration:
        """Read ``KEY[=VALUE][:EFFECT]``, as ``kubectl taint`` has it, or ``*``."""
        pair, _, effect = text.partition(":")
        key, equals, value = pair.partition("=")
        if effect not in ("", *_EFFECTS) or not key or (key == "*" and text != "*"):
            raise ValueError(
                f"{text!r} is no taint: KEY[=VALUE][:EFFECT] with an effect of "
                f"{', '.join(_EFFECTS)}, or *"
            )
        return cls(key="" if key == "*" else key, value=value if equals else None, effect=effect)

    def __str__(self) -> str:
        value = "" if self.value is None else f"={self.value}"
        return f"{self.key or '*'}{value}" + (f":{self.effect}" if self.effect else "")

    def manifest(self) -> dict[str, str]:
        """Return it as a pod has it."""
        found = {"key": self.key} if self.key else {}
        found |= {"operator": "Exists"} if self.value is None else {"value": self.value}
        return found | ({"effect": self.effect} if self.effect else {})

    def covers(self, taint: Mapping[str, Any]) -> bool:
        """Tell whether a taint is tolerated."""
        return (
            self.key in ("", taint.get("key"))
            and self.value in (None, taint.get("value") or "")
            and self.effect in ("", taint.get("effect"))
        )


#: What the pods of every run tolerate.
CONTROL_PLANE = tuple(Toleration(key=key) for key in _CONTROL_PLANE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node.

    Attributes:
        internal_ip: its InternalIP address (IPv4 when it has one).
        interface: its address with the prefix of its subnet, from Calico's annotation; None when
            Calico has not written it.
        status_addresses: all IP addresses that Kubernetes knows of it, the InternalIPs first.
        system: ``linux`` or ``windows``.
        architecture: e.g. ``amd64`` or ``arm64``.
        kernel_version: e.g. ``6.1.0-18-amd64``.
        os_image: e.g. ``Debian GNU/Linux 12 (bookworm)``.
        kubelet_version: e.g. ``v1.32.1``.
        trouble: why it cannot be used; empty when it can.
    """

    name: str
    internal_ip: str
    interface: IPv4Interface | None = None
    status_addresses: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    annotations: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    system: str = "linux"
    architecture: str = ""
    kernel_version: str = ""
    os_image: str = ""
    kubelet_version: str = ""
    ready: bool = True
    trouble: str = ""
    control_plane: bool = False

    @property
    def address(self) -> str:
        """The address by which Calico's routes and tunnels reach this node; empty if it has none.

        As Felix chooses it (felix/calc/l3_route_resolver.go of v3.31): the one of the BGP spec,
        which the annotation is, else the InternalIP, else another address of the status.
        """
        if self.interface is not None:
            return str(self.interface.ip)
        return self.internal_ip or prefer_ipv4(self.status_addresses)

    @property
    def addresses(self) -> tuple[str, ...]:
        """All that are known of this node's own addresses, but for those of its tunnels."""
        return tuple(
            dict.fromkeys(filter(None, (self.address, self.internal_ip, *self.status_addresses)))
        )

    @property
    def usable(self) -> bool:
        """Whether it is ready and a run's pods can be placed on it."""
        return not self.trouble

    @property
    def hostname(self) -> str:
        """The value of its hostname label, by which pods choose it."""
        return self.labels.get(_HOSTNAME, self.name)

    @property
    def zone(self) -> str:
        """The value of its zone label; empty where it has none."""
        return next((self.labels[key] for key in _ZONES if key in self.labels), "")

    def same_subnet(self, other: Node) -> bool:
        """Tell whether this node's own subnet contains the other node.

        This is how Calico decides for packets that *this* node sends in a CrossSubnet mode. With
        this node's subnet unknown the answer is False, as Calico's is: it encapsulates.
        """
        if self.interface is None:
            return False
        try:
            return IPv4Address(other.address) in self.interface.network
        except ValueError:
            return False


def read_node(node: Mapping[str, Any], tolerations: Sequence[Toleration] = ()) -> Node:
    """Read a ``Node`` from a Kubernetes Node object.

    What is tolerated comes beside the taints of control-plane nodes.
    """
    metadata, status = node.get("metadata") or {}, node.get("status") or {}
    info = status.get("nodeInfo") or {}
    labels = dict(metadata.get("labels") or {})
    annotations = dict(metadata.get("annotations") or {})
    not_ready = _not_ready(status.get("conditions") or [])
    system = labels.get("kubernetes.io/os") or info.get("operatingSystem") or "linux"
    foreign = "" if system == "linux" else f"runs {system}"
    repelled = _repelled(node.get("spec") or {}, (*CONTROL_PLANE, *tolerations))
    return Node(
        name=metadata["name"],
        internal_ip=prefer_ipv4(_addresses(status, "InternalIP")),
        interface=_interface(annotations.get(CALICO_ADDRESS, "")),
        status_addresses=(*_addresses(status, "InternalIP"), *_addresses(status, "ExternalIP")),
        labels=labels,
        annotations=annotations,
        system=system,
        architecture=info.get("architecture", ""),
        kernel_version=info.get("kernelVersion", ""),
        os_image=info.get("osImage", ""),
        kubelet_version=info.get("kubeletVersion", ""),
        ready=not not_ready,
        trouble="; ".join(filter(None, (not_ready, foreign, repelled))),
        control_plane=any(label in labels for label in _CONTROL_PLANE),
    )


def list_nodes(
    api: Api, *, hostnames: Collection[str] = (), tolerations: Sequence[Toleration] = ()
) -> list[Node]:
    """List the nodes of the cluster, or those with these hostname labels, in natural order.

    Tolerations are those of :func:`read_node`.
    """
    labels = f"{_HOSTNAME} in ({','.join(sorted(hostnames))})" if hostnames else ""
    return read_nodes(api.list("/api/v1/nodes", labels=labels), tolerations)


def read_nodes(
    nodes: Iterable[Mapping[str, Any]], tolerations: Sequence[Toleration] = ()
) -> list[Node]:
    """Read Node objects, and return them in natural order of their names."""
    found = [read_node(node, tolerations) for node in nodes]
    return sorted(found, key=lambda node: _natural(node.name))


def usable_nodes(source: Api | Iterable[Node], *, at_least: int = 2) -> list[Node]:
    """Return the nodes, of a cluster or of those given, that are ready and take a run's pods.

    Raises:
        NodesError: there are fewer than needed; each unusable one is named with its reason.
    """
    nodes = list(source) if isinstance(source, Iterable) else list_nodes(source)
    usable = [node for node in nodes if node.usable]
    if len(usable) < at_least:
        raise NodesError(
            f"{at_least} usable nodes are needed and this cluster has {len(usable)}",
            found=_in_words(nodes),
            remedy="make nodes ready (kubectl describe node), uncordon them, or remove the taints",
        )
    return usable


def measured_address(node: Node, nodes: Iterable[Node]) -> str:
    """Return the address by which a node itself is measured: the one that carries its pods.

    Among all nodes of the cluster it must be the only one of its address.

    Raises:
        NodesError: it has no address, or another node has the same.
    """
    if not node.address:
        raise NodesError(
            f"{node.name} has no address to measure it by",
            found=f"neither the annotation {CALICO_ADDRESS} nor an InternalIP",
            remedy="see why calico-node or the kubelet does not know its address (kubectl "
            f"describe node {node.name})",
        )
    alike = [one.name for one in nodes if one.address == node.address and one.name != node.name]
    if alike:
        raise NodesError(
            f"{node.name} cannot be measured by {node.address}: other nodes have the same address",
            found=", ".join([node.name, *alike]),
            remedy="let calico-node find the address of the nodes' network (IP_AUTODETECTION_METHOD"
            ", or nodeAddressAutodetectionV4 of the Installation), not that of a bridge",
        )
    return node.address


def placement(a: Node, b: Node) -> Placement:
    """Tell whether two nodes share a subnet; empty when Calico does not know one of theirs."""
    if a.name == b.name:
        return "same-node"
    if a.interface is None or b.interface is None:
        return ""
    return "same-subnet" if a.same_subnet(b) and b.same_subnet(a) else "cross-subnet"


def choose_nodes(
    nodes: Sequence[Node],
    wanted: Literal["same-node", "same-subnet", "cross-subnet", "any"] = "any",
    names: Sequence[str] = (),
    *,
    zones: Sequence[str] = (),
) -> tuple[Node, Node]:
    """Choose two nodes to measure between, the client's first; the same ones every time.

    Workers come before control-plane nodes, then the order of names counts. ``any`` takes two
    nodes of one subnet where there are such.

    Args:
        nodes: the cluster's nodes, usable or not.
        wanted: how the two shall lie to each other.
        names: nodes to choose among, in order of preference; two names mean just this pair.
        zones: the client's zone and the server's, or one for both; empty takes any.

    Raises:
        NodesError: no two nodes fit; each unusable one is named with its reason.
    """
    candidates = _candidates(nodes, names)
    near, far = (zones[0], zones[-1]) if zones else ("", "")
    clients = [node for node in candidates if near in ("", node.zone)]
    if wanted == "same-node":
        if clients:
            return clients[0], clients[0]
        raise _none_fit("no node is usable", nodes, zones)
    order = {node.name: place for place, node in enumerate(candidates)}
    servers = [node for node in candidates if far in ("", node.zone)]
    beside = _beside(servers) if wanted == "same-subnet" else lambda _: servers
    # Lazily: thousands of nodes have millions of pairs, and the first that fits is taken.
    pairs = (
        (a, b)
        for a in clients
        for b in beside(a)
        if a is not b and (near != far or order[a.name] < order[b.name])
    )
    if wanted == "any":
        if (first := next(pairs, None)) is None:
            raise _none_fit("there are no two usable nodes", nodes, zones)
        try:
            return choose_nodes(nodes, "same-subnet", names, zones=zones)
        except NodesError:
            return first
    subnets = {node.interface.network for node in candidates if node.interface is not None}
    if wanted == "same-subnet" or len(subnets) > 1:
        for pair in pairs:
            if placement(*pair) == wanted:
                return pair
    where = "in one subnet" if wanted == "same-subnet" else "in different subnets"
    raise _none_fit(f"no two usable nodes lie {where}", nodes, zones)


def _beside(nodes: Sequence[Node]) -> Callable[[Node], Iterator[Node]]:
    """Make a function that returns the nodes in whose subnet a node lies, without trying all."""
    by_subnet: dict[IPv4Network, list[Node]] = {}
    for node in nodes:
        if node.interface is not None:
            by_subnet.setdefault(node.interface.network, []).append(node)
    lengths = {subnet.prefixlen for subnet in by_subnet}

    def of(node: Node) -> Iterator[Node]:
        if node.interface is not None:
            for length in lengths:
                subnet = IPv4Interface((node.interface.ip, length)).network
                yield from by_subnet.get(subnet, ())

    return of


def _candidates(nodes: Sequence[Node], names: Sequence[str]) -> list[Node]:
    usable = [node for node in nodes if node.usable]
    if not names:
        return sorted(usable, key=lambda node: (node.control_plane, _natural(node.name)))
    by_name = {node.name: node for node in nodes}
    for name in names:
        if name not in by_name:
            raise NodesError(
                f'there is no usable node "{name}"',
                found=_in_words(nodes),
                remedy="name nodes as `kubectl get nodes` does",
            )
        if not by_name[name].usable:
            raise NodesError(
                f'the node "{name}" cannot be used: {by_name[name].trouble}',
                found=_in_words(nodes),
                remedy="make it ready, uncordon it or remove the taint, or name another node",
            )
    return [by_name[name] for name in dict.fromkeys(names)]


def _none_fit(problem: str, nodes: Sequence[Node], zones: Sequence[str]) -> NodesError:
    return NodesError(
        problem + (f" (zones asked for: {', '.join(zones)})" if zones else ""),
        found=_in_words(nodes),
        remedy="add or repair nodes, or name others; a node's subnet is what Calico writes into "
        f"its annotation {CALICO_ADDRESS}",
    )


def _in_words(nodes: Sequence[Node]) -> str:
    return (
        "\n".join(
            f"{node.name}: {node.trouble or 'usable'}"
            + (f", {node.interface}" if node.interface else ", subnet unknown")
            for node in nodes
        )
        or "no nodes"
    )


def _not_ready(conditions: Sequence[Mapping[str, Any]]) -> str:
    ready = next((one for one in conditions if one.get("type") == "Ready"), None)
    if ready is None:
        return "not ready (the kubelet has not reported)"
    if ready.get("status") == "True":
        return ""
    true = [one["type"] for one in conditions if one.get("status") == "True"]
    words = [ready.get("reason"), ready.get("message"), *(one for one in true if one in _PRESSURES)]
    reason = ", ".join(str(word) for word in words if word)
    return f"not ready ({reason})" if reason else "not ready"


def _repelled(spec: Mapping[str, Any], tolerations: Sequence[Toleration]) -> str:
    reasons = ["cordoned"] if spec.get("unschedulable") else []
    for taint in spec.get("taints") or []:
        key, effect = taint.get("key", ""), taint.get("effect", "")
        # Cordoning and missing readiness show as taints, too, and have been said.
        if key in _TAINTS_OF_NOT_READY:
            continue
        if effect in _REPELLING and not any(one.covers(taint) for one in tolerations):
            value = f"={taint['value']}" if taint.get("value") else ""
            reasons.append(f"taint {key}{value}:{effect}")
    return "; ".join(reasons)


def _addresses(status: Mapping[str, Any], kind: str) -> list[str]:
    found = status.get("addresses") or []
    return [str(one["address"]) for one in found if one.get("type") == kind]


def _interface(text: str) -> IPv4Interface | None:
    try:
        return IPv4Interface(text) if text else None
    except ValueError:
        return None


def _natural(name: str) -> list[tuple[int, str]]:
    """Make a sort key by which node2 comes before node10."""
    return [
        (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)
    ]


def prefer_ipv4(addresses: Sequence[str]) -> str:
    """Return the first IPv4 address, else the first, else nothing.

    Modes are modes of IPv4 pools; on clusters of two families the IPv4 address may be the second.
    """
    return next((one for one in addresses if ":" not in one), "".join(addresses[:1]))

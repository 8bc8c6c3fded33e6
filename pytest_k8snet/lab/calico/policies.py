"""Network policies as Felix enforces them: packet rules of each node, an nftables table.

NetworkPolicies of Kubernetes and of Calico and GlobalNetworkPolicies, tier by tier, at pods' cables
and at host endpoints. As with Calico, a node always reaches its own pods, answers of an established
connection pass, and what a policy selects gets nothing that no rule allows. A policy with a rule
that is not played enforces nothing; a Warning event of it says so.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, collapse_addresses
from typing import Any, Literal, get_args

from pytest_k8snet.lab.api.objects import Object, dig, name_of, namespace_of
from pytest_k8snet.lab.api.resources import CALICO_V1
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.pools import SelectorError, selects
from pytest_k8snet.lab.dataplane import nat
from pytest_k8snet.lab.dataplane.felix import VXLAN_PORT
from pytest_k8snet.lab.dataplane.underlay import host_interface, node_namespace
from pytest_k8snet.lab.reconcile import Controller, Recorder, is_over
from pytest_k8snet.lab.spec import LabSpec

KUBERNETES_POLICIES = "networkpolicies.networking.k8s.io"
CALICO_POLICIES = f"networkpolicies.{CALICO_V1}"
GLOBAL_POLICIES = f"globalnetworkpolicies.{CALICO_V1}"
HOST_ENDPOINTS = f"hostendpoints.{CALICO_V1}"
TIERS = f"tiers.{CALICO_V1}"

Direction = Literal["Ingress", "Egress"]
_DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

#: The place of Kubernetes' policies among those of the default tier (libcalico-go's conversion.go).
_KUBERNETES_ORDER = 1000.0
#: The profile of host endpoints that lets everything through.
_ALLOWING_PROFILE = "projectcalico-default-allow"
#: The ports that no policy closes to a host (Felix's FailsafeInboundHostPorts and
#: FailsafeOutboundHostPorts, v3.31).
_FAILSAFE: Mapping[Direction, str] = {
    "Ingress": "tcp . 22, udp . 68, tcp . 179, tcp . 2379, tcp . 2380, tcp . 5473, tcp . 6443, "
    "tcp . 6666, tcp . 6667",
    "Egress": "udp . 53, udp . 67, tcp . 179, tcp . 2379, tcp . 2380, tcp . 5473, tcp . 6443, "
    "tcp . 6666, tcp . 6667",
}
_TABLE = "calico-policy"


class NotPlayedError(ValueError):
    """A policy asks for what the lab does not play."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A pod or a host endpoint, as policies see it.

    Attributes:
        labels: its own, and those that Calico adds.
        namespace: of a pod; empty for a host endpoint.
        space: the labels of its namespace.
        addresses: those that are known by now.
        node: where its interface is.
        interface: ``cali...`` of a pod; of a host, ``*`` for all that lead out.
        ports: the numbers of its named ports, by protocol and name.
        closed: whether nothing passes where no policy is about it.
    """

    labels: Mapping[str, str]
    node: str
    interface: str
    namespace: str = ""
    space: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[IPv4Address, ...] = ()
    ports: Mapping[tuple[str, str], int] = field(default_factory=dict)
    closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One policy: whom it is about, and its nft rules in each direction that it is about.

    Attributes:
        place: where it stands in its tier.
    """

    tier: str = "default"
    place: tuple[float, str]
    selects: Callable[[Endpoint], bool]
    rules: Mapping[Direction, list[str]]


# -- Endpoints -------------------------------------------------------------------------------------


def pod_endpoints(
    pods: Sequence[Object], spaces: Mapping[str, Mapping[str, str]]
) -> list[Endpoint]:
    """The pods that have a cable, with an address or not yet.

    Args:
        pods: all pods.
        spaces: the labels of each namespace.
    """
    return [
        _pod(pod, spaces.get(namespace_of(pod), {}))
        for pod in pods
        if dig(pod, "spec.nodeName") and not dig(pod, "spec.hostNetwork") and not is_over(pod)
    ]


def _pod(pod: Object, space: Mapping[str, str]) -> Endpoint:
    namespace, address = namespace_of(pod), dig(pod, "status.podIP")
    named = [port for one in dig(pod, "spec.containers", []) for port in one.get("ports") or ()]
    return Endpoint(
        labels={
            **{f"pcns.{key}": value for key, value in space.items()},
            **dig(pod, "metadata.labels", {}),
            "projectcalico.org/namespace": namespace,
            "projectcalico.org/orchestrator": "k8s",
        },
        namespace=namespace,
        space=space,
        addresses=(IPv4Address(address),) if address else (),
        node=pod["spec"]["nodeName"],
        interface=host_interface(namespace, name_of(pod)),
        ports={
            (port.get("protocol", "TCP").lower(), port["name"]): port["containerPort"]
            for port in named
            if port.get("name")
        },
    )


def host_endpoints(objects: Sequence[Object], spec: LabSpec) -> list[Endpoint]:
    """The host endpoints of the lab's nodes."""
    found = []
    nodes = {node.name: node for node in spec.nodes}
    for obj in objects:
        node = nodes.get(dig(obj, "spec.node", ""))
        if node is not None:
            found.append(
                Endpoint(
                    labels=dig(obj, "metadata.labels", {}),
                    addresses=tuple(map(IPv4Address, dig(obj, "spec.expectedIPs", []))),
                    node=node.name,
                    interface=dig(obj, "spec.interfaceName") or node.wire,
                    closed=_ALLOWING_PROFILE not in dig(obj, "spec.profiles", []),
                )
            )
    return found


# -- NetworkPolicies of Kubernetes, which Calico makes policies of its own -----------------------


def of_kubernetes(policy: Object) -> Object:
    """A NetworkPolicy of Kubernetes, whose defaults are set, as Calico's (conversion.go, v3.31)."""
    spec = policy["spec"]
    return {
        "metadata": {**policy["metadata"], "name": f"knp.default.{name_of(policy)}"},
        "spec": {
            "order": _KUBERNETES_ORDER,
            "selector": _selector(spec.get("podSelector") or {}),
            "types": spec.get("policyTypes") or [],
            "ingress": [
                one
                for rule in spec.get("ingress") or ()
                for one in _converted(rule, rule.get("from"), "source")
            ],
            "egress": [
                one
                for rule in spec.get("egress") or ()
                for one in _converted(rule, rule.get("to"), "destination")
            ],
        },
    }


def _converted(rule: Object, peers: Sequence[Object] | None, side: str) -> Iterator[Object]:
    """A rule for each port and peer."""
    for port, peer in itertools.product(rule.get("ports") or [{}], peers or [{}]):
        block, entity = peer.get("ipBlock"), Object()
        if block:
            entity = {"nets": [block["cidr"]], "notNets": block.get("except")}
        for name, key in (("selector", "podSelector"), ("namespaceSelector",) * 2):
            if peer.get(key) is not None:
                entity[name] = _selector(peer[key])
        found: Object = {"action": "Allow", side: entity}
        if port:
            number, last = port.get("port"), port.get("endPort")
            ports = [f"{number}:{last}" if last else number] if number is not None else []
            found["protocol"] = port.get("protocol", "TCP")
            found["destination"] = {**found.get("destination", {}), "ports": ports}
        yield found


def _selector(selector: Object) -> str:
    """A LabelSelector of Kubernetes as Calico's."""
    terms = [f"{key} == '{value}'" for key, value in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or ():
        key, values = one["key"], ", ".join(f"'{value}'" for value in one.get("values") or ())
        terms.append(
            {
                "In": f"{key} in {{ {values} }}",
                "NotIn": f"{key} not in {{ {values} }}",
                "Exists": f"has({key})",
                "DoesNotExist": f"!has({key})",
            }[one["operator"]]
        )
    return " && ".join(terms) or "all()"


# -- Policies of Calico ----------------------------------------------------------------------------

_VERDICTS = {"Allow": "accept", "Deny": "drop", "Pass": "return"}
_POLICY_FIELDS = {
    *("tier", "order", "selector", "namespaceSelector", "types", "ingress", "egress"),
    "performanceHints",
}
_RULE_FIELDS = {"action", "protocol", "source", "destination", "metadata", "ipVersion"}
_ENTITY_FIELDS = {"nets", "notNets", "selector", "namespaceSelector", "ports", "notPorts"}


def calico_policy(policy: Object, endpoints: Sequence[Endpoint]) -> Policy:
    """A NetworkPolicy or GlobalNetworkPolicy of Calico.

    Raises:
        NotPlayedError: it has a part that the lab does not play.
    """
    spec, namespace = policy.get("spec") or {}, namespace_of(policy)
    _only(spec, _POLICY_FIELDS, "spec")
    selector, spaces = spec.get("selector") or "all()", spec.get("namespaceSelector") or ""

    def about(one: Endpoint) -> bool:
        if namespace and one.namespace != namespace:
            return False
        if spaces and not (one.namespace and selects(spaces, one.space)):
            return False
        return selects(selector, one.labels)

    _probe(selector)
    _probe(spaces)
    order = spec.get("order")
    return Policy(
        tier=spec.get("tier") or "default",
        place=(math.inf if order is None else float(order), name_of(policy)),
        selects=about,
        rules={
            direction: [
                line
                for rule in spec.get(direction.lower()) or ()
                for line in _calico_rule(rule, namespace, endpoints)
            ]
            for direction in spec.get("types") or _types(spec)
        },
    )


def _types(spec: Object) -> list[Direction]:
    """The directions of a policy that names none (the comments of Calico's API, v3.31)."""
    egress: list[Direction] = ["Egress"] if spec.get("egress") else []
    return ["Ingress", *egress] if spec.get("ingress") or not egress else egress


def _only(obj: Object, known: set[str], where: str) -> None:
    strange = sorted(key for key in obj.keys() - known if obj[key])
    if strange:
        raise NotPlayedError(f"{where}.{strange[0]}")


def _probe(selector: str) -> None:
    try:
        selects(selector, {})
    except SelectorError as error:
        raise NotPlayedError(str(error)) from None


def _calico_rule(rule: Object, namespace: str, endpoints: Sequence[Endpoint]) -> Iterator[str]:
    _only(rule, _RULE_FIELDS, "rule")
    action = rule.get("action")
    if action == "Log":
        return
    if action not in _VERDICTS:
        raise NotPlayedError(f"rule.action {action}")
    kind = str(rule.get("protocol") or "").lower()
    matches = [[f"meta l4proto {kind}" if kind else ""]]
    for name, side in (("source", "s"), ("destination", "d")):
        entity = rule.get(name) or {}
        _only(entity, _ENTITY_FIELDS, name)
        peers, networks = _entity(entity, namespace, endpoints)
        if networks is not None:
            # nft takes no set whose intervals overlap; nothing is in no network.
            listed = ", ".join(map(str, collapse_addresses(networks)))
            matches.append([f"ip {side}addr {{ {listed} }}"] if listed else [])
        if entity.get("notNets"):
            matches.append([f"ip {side}addr != {{ {', '.join(entity['notNets'])} }}"])
        if entity.get("notPorts"):
            matches.append([f"th {side}port != {{ {_port_set(entity['notPorts'])} }}"])
        if entity.get("ports"):
            matches.append(_ports(entity["ports"], kind, side, peers))
    for choice in itertools.product(*matches):
        yield " ".join(filter(None, [*choice, _VERDICTS[action]]))


def _entity(
    entity: Object, namespace: str, endpoints: Sequence[Endpoint]
) -> tuple[Sequence[Endpoint], list[IPv4Network] | None]:
    """The endpoints and the networks that a source or destination names; None for all."""
    selector, spaces = entity.get("selector") or "", entity.get("namespaceSelector") or ""
    blocks = [IPv4Network(net, strict=False) for net in entity.get("nets") or () if ":" not in net]
    if not selector and not spaces:
        return endpoints, blocks if entity.get("nets") else None
    _probe(selector)
    _probe(spaces)
    peers = [
        one
        for one in endpoints
        if selects(selector, one.labels)
        and (one.namespace and selects(spaces, one.space) if spaces else True)
        and (spaces or namespace in ("", one.namespace))
    ]
    found = [IPv4Network(address) for one in peers for address in one.addresses]
    if entity.get("nets"):
        found = [net for net in found if any(net.subnet_of(block) for block in blocks)]
    return peers, found


def _port_set(ports: Sequence[Any]) -> str:
    for port in ports:
        if not str(port).replace(":", "").isdigit():
            raise NotPlayedError(f"notPorts with the name {port}")
    return ", ".join(str(port).replace(":", "-") for port in ports)


def _ports(ports: Sequence[Any], kind: str, side: str, peers: Sequence[Endpoint]) -> list[str]:
    """The matches of ports, each a choice; a name is each peer's own number."""
    named = [str(port) for port in ports if not str(port).replace(":", "").isdigit()]
    numbers = [port for port in ports if str(port) not in named]
    if named and side == "s":
        raise NotPlayedError(f"source.ports with the name {named[0]}")
    found = [f"th {side}port {{ {_port_set(numbers)} }}"] if numbers else []
    return found + [
        f"ip daddr {address} th dport {one.ports[kind, name]}"
        for name in named
        for one in peers
        if (kind, name) in one.ports
        for address in one.addresses
    ]


# -- The table of a node ---------------------------------------------------------------------------


def node_rules(
    endpoints: Sequence[Endpoint],
    policies: Sequence[Policy],
    tiers: Sequence[str],
    nodes: Iterable[IPv4Address],
) -> str:
    """The whole table of one node as nft reads it; loading it replaces the former one. Pure.

    Args:
        endpoints: those of the node.
        policies: all that there are.
        tiers: their names, in order.
        nodes: the addresses of all nodes, whose tunnels no policy closes.
    """
    chains: dict[str, list[str]] = {}
    jumps: dict[tuple[bool, Direction], list[str]] = defaultdict(list)
    for one in endpoints:
        is_host = not one.namespace
        for direction in _DIRECTIONS:
            side = "iifname" if is_host == (direction == "Ingress") else "oifname"
            match = f'{side} "{one.interface}"'
            if one.interface == "*":
                match = f'{side} != "lo" {side} != "cali*"'
            for step, body in enumerate(_steps(one, direction, policies, tiers)):
                name = f"{direction.lower()}-{one.interface}-{step}".replace("*", "host")
                if name not in chains:
                    chains[name] = body
                    jumps[is_host, direction].append(f"{match} jump {name}")
    lines = [f"table ip {_TABLE}", f"delete table ip {_TABLE}"]
    if not chains:
        return "\n".join(lines) + "\n"
    lines.append(f"table ip {_TABLE} {{")
    for name, body in chains.items():
        lines += [f"chain {name} {{", *body, "}"]
    # What leaves a pod is asked first, and then what enters one.
    for hook, priority, is_host, direction in (
        ("forward", -2, False, "Egress"),
        ("input", -2, False, "Egress"),
        ("forward", -1, False, "Ingress"),
        ("input", -1, True, "Ingress"),
        ("output", -1, True, "Egress"),
    ):
        lines += [
            f"chain {hook}-{direction.lower()}{'-host' * is_host} {{",
            f"type filter hook {hook} priority {priority};",
            "ct state established,related accept",
            *(_always_open(direction, nodes) if is_host else ()),
            *jumps[is_host, direction],
            "}",
        ]
    return "\n".join([*lines, "}"]) + "\n"


def _always_open(direction: Direction, nodes: Iterable[IPv4Address]) -> Iterator[str]:
    yield f"meta l4proto . th dport {{ {_FAILSAFE[direction]} }} accept"
    side = "saddr" if direction == "Ingress" else "daddr"
    known = f"ip {side} {{ {', '.join(map(str, nodes))} }}"
    yield f"{known} udp dport {VXLAN_PORT} accept"
    yield f"{known} ip protocol 4 accept"


def _steps(
    one: Endpoint, direction: Direction, policies: Sequence[Policy], tiers: Sequence[str]
) -> Iterator[list[str]]:
    """The rules of each tier for one endpoint; none where everything passes.

    A rule that passes a packet on returns, to the next tier.
    """
    about = [p for p in policies if direction in p.rules and p.selects(one)]
    for tier in tiers:
        own = sorted((p for p in about if p.tier == tier), key=lambda policy: policy.place)
        if own:
            yield [*(line for policy in own for line in policy.rules[direction]), "drop"]
    if one.closed:
        yield ["drop"]


class Policies(Controller):
    """Felix of all nodes, as far as policies are concerned: keeps their tables up to date.

    Args:
        store: the cluster's objects.
        spec: the nodes.
    """

    watched = (
        *(KUBERNETES_POLICIES, CALICO_POLICIES, GLOBAL_POLICIES, HOST_ENDPOINTS, TIERS),
        *("pods", "namespaces"),
    )

    def __init__(self, store: Store, spec: LabSpec) -> None:
        super().__init__(store)
        self._spec = spec
        self._events = Recorder(store, "k8snet-lab")
        self._told: set[tuple[str, str]] = set()
        self._loaded: dict[str, str] = {}

    async def reconcile(self) -> None:
        """Load the tables that have changed.

        Raises:
            DataplaneError: nft refuses one.
        """
        objects = {key: self._store.list(key) for key in self.watched[:-2]}
        if not any(objects[key] for key in self.watched[:-3]) and not self._loaded:
            return
        spaces = {
            name_of(one): dig(one, "metadata.labels", {}) for one in self._store.list("namespaces")
        }
        pods = pod_endpoints(self._store.list("pods"), spaces)
        ends = [*pods, *host_endpoints(objects[HOST_ENDPOINTS], self._spec)]
        kubernetes = [of_kubernetes(one) for one in objects[KUBERNETES_POLICIES]]
        own = [*objects[CALICO_POLICIES], *objects[GLOBAL_POLICIES]]
        policies = list(self._played([*kubernetes, *own], ends))
        orders = {name_of(one): dig(one, "spec.order", math.inf) for one in objects[TIERS]}
        orders.setdefault("default", math.inf)
        tiers = sorted(orders, key=lambda name: (orders[name], name == "default", name))
        addresses = [node.calico_address.ip for node in self._spec.nodes]
        wanted = {
            node.name: node_rules(
                [one for one in ends if one.node == node.name], policies, tiers, addresses
            )
            for node in self._spec.nodes
        }
        changed = {name: text for name, text in wanted.items() if self._loaded.get(name) != text}
        await asyncio.gather(
            *(nat.load(node_namespace(name), text) for name, text in changed.items())
        )
        self._loaded |= changed

    def _played(self, objects: Sequence[Object], ends: Sequence[Endpoint]) -> Iterator[Policy]:
        for one in objects:
            try:
                yield calico_policy(one, ends)
            except NotPlayedError as error:
                told = (one["metadata"]["uid"], str(error))
                if told not in self._told:
                    self._told.add(told)
                    why = f"the lab does not enforce this policy, for it does not play {error}"
                    self._events.record(one, "NotPlayed", why, kind="Warning")

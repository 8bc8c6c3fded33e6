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
from functools import partial
from ipaddress import IPv4Address, IPv4Network, collapse_addresses
from typing import Any, Literal, get_args

from pytest_k8snet.lab.api.objects import Object, dig, name_of, namespace_of
from pytest_k8snet.lab.api.request import match_labels
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
    addresses: tuple[IPv4Address, ...] = ()
    ports: Mapping[tuple[str, str], int] = field(default_factory=dict)
    closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One policy: whom it is about, and its rules in each direction that it is about.

    Attributes:
        place: where it stands in its tier.
        rules: makes the nft rules for one of the endpoints.
    """

    tier: str = "default"
    place: tuple[float, str]
    selects: Callable[[Endpoint], bool]
    rules: Mapping[Direction, Callable[[Endpoint], list[str]]]


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


# -- NetworkPolicies of Kubernetes -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What rules are about.

    Attributes:
        endpoints: pods and host endpoints.
        spaces: the labels of each namespace.
    """

    endpoints: Sequence[Endpoint]
    spaces: Mapping[str, Mapping[str, str]]

    def peers(self, selected: Callable[[Endpoint], bool]) -> list[Endpoint]:
        """The endpoints that are selected."""
        return [one for one in self.endpoints if selected(one)]

    def namespaces(self, selected: Callable[[Mapping[str, str]], bool]) -> set[str]:
        """The namespaces whose labels are selected."""
        return {name for name, labels in self.spaces.items() if selected(labels)}


def kubernetes_policy(policy: Object, world: World) -> Policy:
    """A NetworkPolicy of Kubernetes; its defaults are in it."""
    spec, namespace = policy["spec"], namespace_of(policy)
    selector = spec.get("podSelector") or {}

    def about(one: Endpoint) -> bool:
        return one.namespace == namespace and match_labels(selector, one.labels)

    found = {}
    for direction in _DIRECTIONS:
        if direction in spec.get("policyTypes", ()):
            rules = spec.get(direction.lower()) or []
            found[direction] = partial(_kubernetes_rules, rules, direction, namespace, world)
    place = _KUBERNETES_ORDER, f"knp.default.{name_of(policy)}"
    return Policy(place=place, selects=about, rules=found)


def _kubernetes_rules(
    rules: Sequence[Object], direction: Direction, namespace: str, world: World, end: Endpoint
) -> list[str]:
    lines = []
    for rule in rules:
        peers = rule.get("from" if direction == "Ingress" else "to")
        pods: list[Endpoint] = []
        networks: list[IPv4Network] | None = None
        if peers:
            pods = [one for peer in peers for one in _kubernetes_peers(peer, namespace, world)]
            blocks = [net for peer in peers for net in _block(peer.get("ipBlock") or {})]
            networks = [*_addresses(pods), *blocks]
        else:
            pods = list(world.endpoints)
        where = _among("ip saddr" if direction == "Ingress" else "ip daddr", networks)
        if where is None:
            continue
        named = [end] if direction == "Ingress" else pods
        ports = rule.get("ports") or []
        lines += [_rule(where, "accept")] if not ports else []
        for port in ports:
            kind = port.get("protocol", "TCP").lower()
            number, last = port.get("port"), port.get("endPort")
            if number is None:
                lines.append(_rule(where, f"meta l4proto {kind}", "accept"))
            elif isinstance(number, int):
                numbers = f"{number}-{last}" if last else f"{number}"
                lines.append(_rule(where, f"{kind} dport {numbers}", "accept"))
            else:
                lines += [_rule(where, at, "accept") for at in _named_port(kind, number, named)]
    return lines


def _kubernetes_peers(peer: Object, namespace: str, world: World) -> list[Endpoint]:
    spaces, pods = peer.get("namespaceSelector"), peer.get("podSelector")
    if spaces is None and pods is None:
        return []
    names = {namespace}
    if spaces is not None:
        names = world.namespaces(lambda labels: match_labels(spaces, dict(labels)))
    return world.peers(
        lambda one: one.namespace in names and match_labels(pods or {}, dict(one.labels))
    )


def _block(block: Object) -> list[IPv4Network]:
    """An ipBlock without its exceptions."""
    if not block or ":" in block["cidr"]:
        return []
    found = [IPv4Network(block["cidr"], strict=False)]
    for text in block.get("except") or ():
        hole = IPv4Network(text, strict=False)
        found = [
            part
            for net in found
            for part in (net.address_exclude(hole) if hole.subnet_of(net) else [net])
            if not part.subnet_of(hole)
        ]
    return found


def _addresses(endpoints: Iterable[Endpoint]) -> list[IPv4Network]:
    return [IPv4Network(address) for one in endpoints for address in one.addresses]


def _among(what: str, networks: Iterable[IPv4Network] | None) -> str | None:
    """The match of an address with networks; empty for anywhere, None where nothing can match."""
    if networks is None:
        return ""
    # nft takes no set whose intervals overlap.
    listed = ", ".join(map(str, collapse_addresses(networks)))
    return f"{what} {{ {listed} }}" if listed else None


def _rule(*parts: str) -> str:
    return " ".join(filter(None, parts))


def _named_port(kind: str, name: str, endpoints: Iterable[Endpoint]) -> Iterator[str]:
    for one in endpoints:
        number = one.ports.get((kind, name))
        for address in one.addresses if number else ():
            yield f"ip daddr {address} {kind} dport {number}"


# -- Policies of Calico ----------------------------------------------------------------------------

_VERDICTS = {"Allow": "accept", "Deny": "drop", "Pass": "return"}
_POLICY_FIELDS = {
    *("tier", "order", "selector", "namespaceSelector", "types", "ingress", "egress"),
    "performanceHints",
}
_RULE_FIELDS = {"action", "protocol", "source", "destination", "metadata", "ipVersion"}
_ENTITY_FIELDS = {"nets", "notNets", "selector", "namespaceSelector", "ports", "notPorts"}


def calico_policy(policy: Object, world: World) -> Policy:
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
        if spaces and not (one.namespace and selects(spaces, world.spaces[one.namespace])):
            return False
        return selects(selector, one.labels)

    _probe(selector)
    _probe(spaces)
    found: dict[Direction, Callable[[Endpoint], list[str]]] = {}
    for direction in spec.get("types") or _types(spec):
        lines = [
            line
            for rule in spec.get(direction.lower()) or ()
            for line in _calico_rule(rule, namespace, world)
        ]
        found[direction] = lambda _, lines=lines: lines  # type: ignore[misc]
    order = spec.get("order")
    return Policy(
        tier=spec.get("tier") or "default",
        place=(math.inf if order is None else float(order), name_of(policy)),
        selects=about,
        rules=found,
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


def _calico_rule(rule: Object, namespace: str, world: World) -> list[str]:
    _only(rule, _RULE_FIELDS, "rule")
    action = rule.get("action")
    if action == "Log":
        return []
    if action not in _VERDICTS:
        raise NotPlayedError(f"rule.action {action}")
    protocol = rule.get("protocol")
    kind = str(protocol).lower() if protocol is not None else ""
    matches = [[f"meta l4proto {kind}"]] if kind else []
    for name, side in (("source", "s"), ("destination", "d")):
        entity = rule.get(name) or {}
        _only(entity, _ENTITY_FIELDS, name)
        peers, networks = _entity(entity, namespace, world)
        where = _among(f"ip {side}addr", networks)
        if where is None:
            return []
        matches.append([where])
        if entity.get("notNets"):
            matches.append([f"ip {side}addr != {{ {', '.join(entity['notNets'])} }}"])
        if entity.get("notPorts"):
            matches.append([f"th {side}port != {{ {_port_set(entity['notPorts'])} }}"])
        if entity.get("ports"):
            matches.append(_ports(entity["ports"], kind, side, peers))
    return [_rule(*choice, _VERDICTS[action]) for choice in itertools.product(*matches)]


def _entity(
    entity: Object, namespace: str, world: World
) -> tuple[list[Endpoint], list[IPv4Network] | None]:
    """The endpoints and the networks that a source or destination names; None for all."""
    selector, spaces = entity.get("selector") or "", entity.get("namespaceSelector") or ""
    nets = entity.get("nets")
    blocks = [IPv4Network(net, strict=False) for net in nets or () if ":" not in net]
    if not selector and not spaces:
        return list(world.endpoints), blocks if nets else None
    _probe(selector)
    _probe(spaces)
    names = {namespace} if namespace else None
    if spaces:
        names = world.namespaces(lambda labels: selects(spaces, labels))
    peers = world.peers(
        lambda one: (names is None or one.namespace in names) and selects(selector, one.labels)
    )
    found = _addresses(peers)
    if nets:
        found = [net for net in found if any(net.subnet_of(block) for block in blocks)]
    return peers, found


def _port_set(ports: Sequence[Any]) -> str:
    for port in ports:
        if not str(port).replace(":", "").isdigit():
            raise NotPlayedError(f"notPorts with the name {port}")
    return ", ".join(str(port).replace(":", "-") for port in ports)


def _ports(ports: Sequence[Any], kind: str, side: str, peers: Sequence[Endpoint]) -> list[str]:
    named = [str(port) for port in ports if not str(port).replace(":", "").isdigit()]
    numbers = [port for port in ports if str(port) not in named]
    found = [f"th {side}port {{ {_port_set(numbers)} }}"] if numbers else []
    if side == "d":
        found += [text for name in named for text in _named_port(kind, name, peers)]
    elif named:
        raise NotPlayedError(f"source.ports with the name {named[0]}")
    return found or ["th dport 0"]


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
            yield [*(line for policy in own for line in policy.rules[direction](one)), "drop"]
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
        world = World(endpoints=ends, spaces=spaces)
        policies = [kubernetes_policy(one, world) for one in objects[KUBERNETES_POLICIES]]
        policies += self._of_calico([*objects[CALICO_POLICIES], *objects[GLOBAL_POLICIES]], world)
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

    def _of_calico(self, objects: Sequence[Object], world: World) -> Iterator[Policy]:
        for one in objects:
            try:
                yield calico_policy(one, world)
            except NotPlayedError as error:
                told = (one["metadata"]["uid"], str(error))
                if told not in self._told:
                    self._told.add(told)
                    why = f"the lab does not enforce this policy, for it does not play {error}"
                    self._events.record(one, "NotPlayed", why, kind="Warning")

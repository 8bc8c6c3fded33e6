"""A node's network state: read from its kernel, and compared with what a path needs.

Links, counters, routes, neighbours and FDB are read by one command in a host-network pod, without
privileges. Each comparison returns mismatches in words: what was expected and what was found. None
looks at a route's ``proto``: who writes the routes differs between versions and settings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Self

from pytest_k8snet.calico.installation import Version
from pytest_k8snet.calico.modes import FALLBACK_HOST_MTU_BYTES, Family, Path
from pytest_k8snet.causes import Cause, Evidence
from pytest_k8snet.errors import ConnectError, K8sNetError
from pytest_k8snet.tools import ip
from pytest_k8snet.tools.ip import Link, Route, underside

if TYPE_CHECKING:
    from pytest_k8snet.cluster.exec import Completed
    from pytest_k8snet.cluster.nodes import Node

#: The devices of the tunnelled paths; Calico gives them these names everywhere.
TUNNEL_DEVICES: dict[Path, str] = {"vxlan": "vxlan.calico", "ipip": "tunl0"}
#: The node annotation by which calico-node publishes its tunnel address, per family.
TUNNEL_ANNOTATIONS: dict[Family, str] = {
    "vxlan": "projectcalico.org/IPv4VXLANTunnelAddr",
    "ipip": "projectcalico.org/IPv4IPIPTunnelAddr",
}
TUNNEL_FAMILIES: tuple[Literal["vxlan", "ipip"], ...] = ("vxlan", "ipip")
#: What connects pods to their node, beside Felix's interfacePrefix, which may be any.
_POD_KINDS = frozenset({"veth", "netkit", "tun"})
#: Where a kernel has no IPIP, a program behind a TUN device may speak it.
_CALICO_KINDS: dict[Path, tuple[str, ...]] = {"vxlan": ("vxlan",), "ipip": ("ipip", "tun")}


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelState:
    """What one node's kernel said at one moment."""

    node: str
    links: Mapping[str, Link]
    #: The node's own packets, by destination.
    routes: Mapping[str, Route]
    #: Packets forwarded for the pod that was asked for, by destination.
    forwarded: Mapping[str, Route]
    #: On ``vxlan.calico``: tunnel address -> MAC.
    neighbours: Mapping[str, str]
    #: On ``vxlan.calico``: MAC -> node address; None if the image has no ``bridge`` command.
    fdb: Mapping[str, str] | None
    #: By destination: why its route holds for some packets only, as rules look at more of them
    #: than their addresses.
    doubts: Mapping[str, str] = field(default_factory=dict)
    #: Whether the kernel has keys of IPsec in use. Which packets they encrypt is told to
    #: administrators of the network alone, and the routes do not show it.
    ipsec: bool = False

    def knows(self, destination: str) -> bool:
        """Return whether the route to a destination was asked for."""
        return destination in self.forwarded or destination in self.routes

    def route(self, destination: str) -> Route:
        """Return where a packet goes: as forwarded for the pod, if that was asked."""
        known = self.forwarded.get(destination) or self.routes.get(destination)
        return known or Route(destination=destination, error="not asked")

    def link_of(self, address: str) -> Link | None:
        """Return the device that owns an address."""
        return next((link for link in self.links.values() if address in hosts(link)), None)

    def uplinks(self) -> tuple[str, ...]:
        """Return the physical devices, but for the pods' cables."""
        return tuple(
            name
            for name in self.links
            if underside(self.links, name).wires == (name,) and not name.startswith("cali")
        )

    def way(self, destination: str, peer: str) -> Way:
        """Follow the packets to a destination down to the physical devices.

        Args:
            destination: whose route was asked for, and leads somewhere.
            peer: the receiving node's own address, to which tunnels send.
        """
        route = self.route(destination)
        link = self.links.get(route.device)
        for family, device in TUNNEL_DEVICES.items():
            if link is not None and link.name == device and link.kind in _CALICO_KINDS[family]:
                if more := ", ".join(filter(None, (route.encap, *route.others))):
                    return Way(unknown=f"{device} is not all that the route has: {more}")
                return replace(self._facing(link, peer), path=family)
        if route.device.startswith("cali") or (link is not None and link.link_type == "loopback"):
            return Way(path="local")
        below = self._below(route)
        return replace(below, path="unknown" if below.unknown else "direct")

    def _facing(self, tunnel: Link, peer: str) -> Way:
        """The way of a tunnel's own packets; nothing is known of it where nobody asked.

        They go where the kernel routes them: the device that a VXLAN lies on binds only what has
        no FDB entry (drivers/net/vxlan/vxlan_core.c of Linux 6.1, vxlan_get_route).
        """
        route = self.routes.get(peer)
        if route is not None and not route.error:
            return self._below(route)
        if tunnel.below:
            return self._below(Route(destination=peer, device=tunnel.below))
        only = self.uplinks()
        if len(only) == 1:
            return Way(devices=only, wires=only)
        return Way(unknown=f"it is not known by which device {tunnel.name} reaches {peer}")

    def _below(self, route: Route) -> Way:
        if route.encap:
            # What a program (bpf) does to a packet is anything.
            return Way(
                unknown=f"the route itself encapsulates: {route.encap}",
                tunnel=route.encap != "bpf",
            )
        devices = (route.device, *route.others)
        parts = [underside(self.links, device) for device in devices]
        unknown = next((one for one in parts if one.unknown), None)
        if unknown is not None:
            return Way(unknown=unknown.unknown, tunnel=unknown.tunnel)
        wires = dict.fromkeys(wire for one in parts for wire in one.wires)
        return Way(devices=devices, wires=tuple(wires))


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How packets leave a node.

    Attributes:
        path: which of Calico's paths they take; ``local`` stays on the node.
        devices: those that face the wire: the route's own, or below a tunnel of Calico's.
        wires: the physical devices below these.
        unknown: what lies below and is not known, so that nothing is proven.
        tunnel: whether that is a tunnel that is not Calico's.
    """

    path: Path | Literal["local", "unknown"] = "unknown"
    devices: tuple[str, ...] = ()
    wires: tuple[str, ...] = ()
    unknown: str = ""
    tunnel: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """A node, with what its kernel said."""

    node: Node
    kernel: KernelState


def hosts(link: Link) -> list[str]:
    """Return a device's IPv4 addresses without their prefix lengths."""
    return [one.partition("/")[0] for one in link.addresses if ":" not in one]


# -- What a path needs -----------------------------------------------------------------------------


def route_mismatches(
    path: Path,
    destination: str,
    sender: NodeState,
    receiver: NodeState,
    nodes: Iterable[Node],
) -> Iterator[str]:
    """Return what keeps the sender's packets to a destination from taking a path.

    A device of which nobody knows where it leads is none: :func:`route_gaps` has it.

    Args:
        path: the path that is promised.
        destination: the address, a pod's or a node's own.
        sender: the sending node; its route to the destination was asked for.
        receiver: the receiving node.
        nodes: all nodes of the cluster.
    """
    for text in _route_mismatches(path, destination, sender, receiver, nodes):
        yield Evidence(text, Cause.NO_ROUTE)


def _route_mismatches(
    path: Path,
    destination: str,
    sender: NodeState,
    receiver: NodeState,
    nodes: Iterable[Node],
) -> Iterator[str]:
    route = sender.kernel.route(destination)
    if route.error:
        yield f"{sender.node.name} has no route to {destination}, expected {path}: {route.error}"
        return
    found = f"{sender.node.name} sends {route}"
    taken = sender.kernel.way(destination, receiver.node.address).path
    if sender.node.name == receiver.node.name:
        link = sender.kernel.links.get(route.device)
        cable = link is not None and link.kind in _POD_KINDS and not route.gateway
        if taken != "local" and not cable:
            yield f"{found}, expected the pod's own device"
    elif taken == "unknown":
        return
    elif taken != path:
        device = TUNNEL_DEVICES.get(path)
        absent = "" if device in sender.kernel.links else ", which does not exist there"
        wanted = f"dev {device}{absent}" if device else "the node's own NIC (direct)"
        yield f"{found}, expected {wanted}"
    elif path == "vxlan":
        yield from _vxlan_route_mismatches(route, sender, receiver, found)
    elif route.gateway not in ("", receiver.node.address) and (
        path == "ipip" or _by_another_node(route, sender, receiver, nodes)
    ):
        yield (
            f"{found}, expected the next hop {receiver.node.address} of "
            f"{receiver.node.name}: a stale route"
        )


def route_gaps(destination: str, sender: NodeState, receiver: NodeState) -> Iterator[str]:
    """Return what is not known of the way between two nodes, so that it is not proven."""
    route = sender.kernel.route(destination)
    if route.error or sender.node.name == receiver.node.name:
        return
    unknown = sender.kernel.way(destination, receiver.node.address).unknown
    if unknown:
        yield f"{sender.node.name} sends {route}, whose path is not known: {unknown}"


def _by_another_node(
    route: Route, sender: NodeState, receiver: NodeState, nodes: Iterable[Node]
) -> bool:
    """Whether the next hop is a node that has no part in it.

    A router's business it is to know the pods, within a subnet as well (BGP peers that set
    themselves as the next hop); and a node may be the router by which the nodes themselves are
    reached.
    """
    usual = sender.kernel.route(receiver.node.address).gateway
    return route.gateway != usual and any(
        route.gateway in node.addresses for node in nodes if node.name != receiver.node.name
    )


def _vxlan_route_mismatches(
    route: Route, sender: NodeState, receiver: NodeState, found: str
) -> Iterator[str]:
    remote = receiver.kernel.links.get(TUNNEL_DEVICES["vxlan"])
    if remote is None:
        yield f"{receiver.node.name} has no vxlan.calico to receive what {sender.node.name} sends"
    elif not route.gateway:
        return  # a borrowed or /32 tunnel address: scope link, nothing to compare
    elif route.gateway not in hosts(remote):
        yield (
            f"{found}, expected {receiver.node.name}'s tunnel address "
            f"{', '.join(hosts(remote)) or '(it has none)'}: a stale route"
        )
    else:
        yield from _endpoint_mismatches(route.gateway, remote, sender, receiver.node)


def _endpoint_mismatches(gateway: str, remote: Link, sender: NodeState, to: Node) -> Iterator[str]:
    own = sender.kernel.links.get(remote.name)
    if own is not None and (own.vni, own.port) != (remote.vni, remote.port):
        yield (
            f"{own.name} of {sender.node.name} has VNI {own.vni} and UDP port {own.port}, that of "
            f"{to.name} has VNI {remote.vni} and port {remote.port}"
        )
        return
    mac = sender.kernel.neighbours.get(gateway)
    if mac != remote.mac:
        yield (
            f"{sender.node.name} has {mac or 'no MAC'} for {gateway} on vxlan.calico, expected "
            f"{remote.mac} of {to.name}"
        )
        return
    fdb = sender.kernel.fdb
    if fdb is not None and fdb.get(mac) != to.address:
        yield (
            f"{sender.node.name}'s FDB sends {mac} to {fdb.get(mac) or 'nowhere'}, expected "
            f"{to.address} of {to.name}"
        )


def vxlan_peer_mismatches(sender: NodeState, receiver: NodeState) -> Iterator[str]:
    """Return what keeps a node from another's VXLAN endpoint: neighbour and FDB entry.

    There may be no pods yet when this is asked, so no route names the gateway: it is the address
    of the receiving node's tunnel device.
    """
    remote = receiver.kernel.links.get(TUNNEL_DEVICES["vxlan"])
    address = next(iter(hosts(remote)), "") if remote else ""
    if remote is not None and address:  # else device_mismatches says so
        for text in _endpoint_mismatches(address, remote, sender, receiver.node):
            yield Evidence(text, Cause.NO_ROUTE)


def device_mismatches(
    node_state: NodeState,
    *,
    required: Collection[Family],
    allowed: Collection[Family],
    flow_based: bool = False,
) -> list[str]:
    """Return what keeps a node's tunnel devices from being those of the modes that are wanted.

    Args:
        node_state: the node.
        required: the encapsulations that must work on it.
        allowed: those that other pools or settings enable beside; they may have a device or not.
        flow_based: the eBPF dataplane, whose VXLAN device carries no VNI and may be there and
            without address in every mode.
    """
    mismatches: list[str] = []
    for family in TUNNEL_FAMILIES:
        device = TUNNEL_DEVICES[family]
        link = node_state.kernel.links.get(device)
        if family in required:
            if link is None:
                mismatches.append(MissingDevice(node_state.node.name, family))
            else:
                mismatches += _wanted_tunnel(link, node_state.node, flow_based=flow_based)
        elif flow_based or family in allowed or link is None:
            continue
        # vxlan.calico is deleted when its family goes; tunl0 stays and only loses its address.
        elif device == "vxlan.calico" or hosts(link):
            mismatches.append(
                f"{node_state.node.name} still has {device} {' '.join(hosts(link))}".rstrip()
            )
    return mismatches


class MissingDevice(Evidence):
    """A tunnel that a node has not made.

    Attributes:
        node: the node's name.
        family: the tunnel's.
    """

    node: str
    family: Literal["vxlan", "ipip"]

    def __new__(cls, node: str, family: Literal["vxlan", "ipip"]) -> Self:
        """Say that a node has no such tunnel."""
        text = f"{node} has no {TUNNEL_DEVICES[family]} yet"
        self = super().__new__(cls, text, Cause.NO_TUNNEL_DEVICE)
        self.node, self.family = node, family
        return self


#: Functions of these drivers, which a kernel that has them names to everybody, be they built in or
#: loaded (Linux 6.1: net/ipv4/ipip.c, drivers/net/vxlan/vxlan_core.c, kernel/kallsyms.c). Felix has
#: asked for the device by then, and so for the module to be loaded.
_DRIVER_SYMBOLS = {"vxlan": "vxlan_rcv", "ipip": "ipip_rcv"}
_SUPPORT_SCRIPT = """\
[ -n "$(head -n 1 /proc/kallsyms 2> /dev/null)" ] || { echo unknown; exit; }
grep -q " $1" /proc/kallsyms && echo some || echo none
"""


def support_argv(family: Literal["vxlan", "ipip"]) -> list[str]:
    """Return the command that says ``none`` where the kernel has no such tunnels."""
    return ["sh", "-c", _SUPPORT_SCRIPT, "k8snet", _DRIVER_SYMBOLS[family]]


def _wanted_tunnel(link: Link, node: Node, *, flow_based: bool) -> Iterator[str]:
    device = link.name
    if link.state == "DOWN":
        yield Evidence(f"{device} of {node.name} is down", Cause.NO_TUNNEL_DEVICE)
    if flow_based:
        return
    if not hosts(link):
        text = f"{device} of {node.name} has no tunnel address yet"
        yield Evidence(text, Cause.NO_TUNNEL_ADDRESS)
    if link.kind == "vxlan" and link.local not in ("", node.address):
        text = f"{device} of {node.name} is bound to {link.local}, expected {node.address}"
        yield Evidence(text, Cause.NO_TUNNEL_DEVICE)


#: The interfaces whose MTU counts as the host's by Felix's default: what may follow ``en``, ``wl``
#: and so on, by version (``MTUIfacePattern`` in ``felix/config/config_params.go``, v3.21 on).
_INTERFACE_LETTERS = (
    (Version(3, 27), "Pcopsvx"),
    (Version(3, 26), "Pcopsx"),
    (Version(3, 25), "copsx"),
    (Version(0, 0), "opsx"),
)


def host_mtus(state: KernelState, version: Version | None) -> frozenset[int]:
    """Return the MTU that Felix detects on a node; several where its version is not known."""
    fit = [letters for since, letters in _INTERFACE_LETTERS if version is None or version >= since]
    return frozenset(
        min(
            (
                link.mtu_bytes
                for link in state.links.values()
                if link.state != "DOWN"
                and re.fullmatch(rf"(en|wl|ww|sl|ib)[{one}].*|(eth|wlan|wwan).*", link.name)
            ),
            default=FALLBACK_HOST_MTU_BYTES,
        )
        for one in (fit if version is None else fit[:1])
    )


# -- Reading nodes ---------------------------------------------------------------------------------

#: Runs a command in a host-network pod on one node.
Shell = Callable[[Sequence[str]], "Completed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of one node: the routes to destinations, as for a pod's packets if given.

    Attributes:
        destinations: addresses whose routes are of interest.
        pod_address: a pod on the node whose packets are of interest; None for the node's own.
        own_address: the node's, which its own packets bear where a rule may look at that; empty
            leaves it open.
    """

    destinations: tuple[str, ...] = ()
    pod_address: str | None = None
    own_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The states of the nodes that answered, and why the others did not."""

    states: Mapping[str, KernelState] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


#: Why a node is missing that nobody can ask, which is no trouble of its own.
NO_HOST_POD = "no host-network pod on this node, so its kernel was not read"


class Prober:
    """Asks nodes for their state.

    Args:
        shells: per node name; a node without one cannot be asked.
    """

    def __init__(self, shells: Mapping[str, Shell]) -> None:
        self._shells = shells
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="k8snet-probe")

    def ask(self, questions: Mapping[str, Question]) -> Answers:
        """Ask several nodes at once; a node that cannot be read is in ``missing``.

        Raises:
            ConnectError: the API server does not answer, so no node can be asked.
        """
        done = self.each(
            {node: argv(one) for node, one in questions.items() if node in self._shells}
        )
        states: dict[str, KernelState] = {}
        missing = {node: NO_HOST_POD for node in questions if node not in self._shells}
        for node, answer in done.items():
            try:
                if isinstance(answer, K8sNetError):
                    raise answer
                states[node] = parse(
                    node, answer.stdout, stderr=answer.stderr, exit_code=answer.exit_code
                )
            except K8sNetError as exc:
                missing[node] = f"{exc.problem}: {exc.found}" if exc.found else exc.problem
        return Answers(states=states, missing=missing)

    def each(self, commands: Mapping[str, Sequence[str]]) -> dict[str, Completed | K8sNetError]:
        """Run a command on each of several nodes at once; what could not be run is its error.

        Raises:
            ConnectError: the API server does not answer.
        """
        futures = {
            node: self._pool.submit(self._shells[node], argv) for node, argv in commands.items()
        }
        done: dict[str, Completed | K8sNetError] = {}
        for node, future in futures.items():
            try:
                done[node] = future.result()
            except ConnectError:
                raise
            except K8sNetError as exc:
                done[node] = exc
        return done

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


# -- The command, and what it prints ---------------------------------------------------------------

# Everything in one exec, as each one costs a round trip, and most of it in one process of ip, as
# each one costs some milliseconds as well. Arguments: the address of a pod on this node or "-",
# the node's own or "-", and the destinations. A route is looked up as the kernel would forward a
# packet from that pod, or send one from the node's address, because policy rules may tell them
# apart. Rules may look at marks, too, which nobody sees from here: every mark is asked for.
_SCRIPT = """\
pod=$1 own=$2; shift 2
asked='address show
neighbour show dev vxlan.calico
'
ask() { asked="${asked}route get $*
"; }
marks= beyond=
rules=$(ip rule show 2> /dev/null)
while read -r rule; do
  case $rule in
    *" dport "* | *" sport "* | *" ipproto "* | *" uidrange "*) beyond="$beyond$rule; " ;;
    *" tos "* | *" dscp "* | *" tun_id "*)
      beyond="$beyond$rule; " ;;
  esac
  case $rule in *" fwmark "*) mark=${rule##* fwmark }; marks="$marks ${mark%%[ /]*}" ;; esac
done << EOF
$rules
EOF
from=
if [ "$pod" != - ]; then
  ask "$pod"
  device=$(ip -o route get "$pod" 2> /dev/null)
  device=${device#* dev }; device=${device%% *}
  [ -z "$device" ] || from="from $pod iif $device"
fi
for destination; do
  ask "$destination"
  [ "$own" = - ] || ask "$destination from $own"
  [ -z "$from" ] || ask "$destination $from"
  ask "fibmatch $destination $from"
  for mark in $marks; do ask "$destination $from mark $mark"; done
done
printf '\\036asked\\n%s' "$asked"
printf '\\036beyond\\n%s\\n' "$beyond"
printf '\\036answers\\n'; printf %s "$asked" | ip -j -s -d -force -batch -
case $(cat /proc/crypto 2> /dev/null) in
  *"seqiv("* | *"echainiv("*)
    policies=$(ip xfrm policy show dir out 2> /dev/null) && [ -z "$policies" ] ||
      { printf '\\036ipsec\\n'; cat /proc/crypto; } ;;
esac
printf '\\036fdb\\n'; bridge -j fdb show dev vxlan.calico 2> /dev/null
exit 0
"""

_FAILED = re.compile(r"^Command failed -:(\d+)$")


def argv(asked: Question) -> list[str]:
    """Return the command that prints a node's state."""
    ends = (asked.pod_address or "-", asked.own_address or "-")
    return ["sh", "-c", _SCRIPT, "k8snet", *ends, *dict.fromkeys(asked.destinations)]


def parse(node: str, stdout: str, *, stderr: str = "", exit_code: int | None = None) -> KernelState:
    """Read what the command of :func:`argv` printed.

    Raises:
        ToolError: the output cannot be read.
        ToolMissingError: the image has no ``ip``.
    """
    pieces = (piece.partition("\n") for piece in stdout.split("\x1e")[1:])
    sections = {head.strip(): body.strip() for head, _, body in pieces}
    answers = _answers(sections.get("asked", ""), sections.get("answers", ""), stderr)
    links = ip.parse_links(answers.get("address show", ""), stderr=stderr, exit_code=exit_code)
    routes, forwarded, marked = _routes(answers)
    neighbours, fdb = answers.get("neighbour show dev vxlan.calico", ""), sections.get("fdb", "")
    state = KernelState(
        node=node,
        links=links,
        routes=routes,
        forwarded=forwarded,
        neighbours=dict(_pairs(neighbours, "dst", "lladdr")),
        fdb=dict(_pairs(fdb, "mac", "dst")) if fdb.startswith("[") else None,
        ipsec=_ipsec(sections.get("ipsec", "")),
    )
    return replace(state, doubts=dict(_doubts(state, marked, sections.get("beyond", ""))))


def _routes(
    answers: Mapping[str, str],
) -> tuple[dict[str, Route], dict[str, Route], dict[str, dict[str, Route]]]:
    """The routes of the node's own packets, of a pod's, and by mark of either, by destination."""
    routes: dict[str, Route] = {}
    forwarded: dict[str, Route] = {}
    matched: dict[str, Route] = {}
    marked: dict[str, dict[str, Route]] = {}
    for command, answer in answers.items():
        words = command.removeprefix("route get ").split()
        if len(words) == len(command.split()):
            continue
        if words[0] == "fibmatch":
            matched[words[1]] = _route(words[1], answer)
            continue
        destination, given = words[0], dict(zip(words[1::2], words[2::2], strict=False))
        route = _route(destination, answer)
        if "mark" in given:
            marked.setdefault(destination, {})[given["mark"]] = route
        elif "iif" in given:
            forwarded[destination] = route
        elif "from" not in given:
            routes[destination] = route
        elif not route.error:
            routes[destination] = replace(route, source=routes[destination].source)
    for known in (routes, forwarded):
        for destination, route in known.items():
            whole = matched.get(destination, route)
            if not route.error and not whole.error:
                others = (one for one in (whole.device, *whole.others) if one != route.device)
                encap = route.encap or whole.encap
                known[destination] = replace(route, others=tuple(others), encap=encap)
    return routes, forwarded, marked


def _doubts(
    state: KernelState, marked: Mapping[str, Mapping[str, Route]], beyond: str
) -> Iterator[tuple[str, str]]:
    """By destination, by which device the kernel may send instead of the one that it names."""
    for destination in {**state.routes, **state.forwarded}:
        route = state.route(destination)
        if beyond:
            yield destination, f"rules look at more than addresses: {beyond.rstrip('; ')}"
        for mark, other in marked.get(destination, {}).items():
            if (other.device, other.gateway) != (route.device, route.gateway):
                yield destination, f"packets with the mark {mark} take another route: {other}"


def _answers(asked: str, said: str, stderr: str) -> dict[str, str]:
    """What ip said to each command of a batch; for one that failed, why.

    Each answer is a line of its own, none where a command failed: that is told by its number.
    """
    reasons: dict[int, str] = {}
    before: list[str] = []
    for line in stderr.splitlines():
        failed = _FAILED.match(line)
        if failed:
            reasons[int(failed[1])] = " ".join(before)
            before = []
        else:
            before.append(line)
    # Without a single answer, what was said instead is all that there is.
    lines = iter([line for line in said.splitlines() if line.startswith("[")] or [said])
    return {
        command: reasons[number] if number in reasons else next(lines, "")
        for number, command in enumerate(asked.splitlines(), start=1)
    }


def _route(destination: str, body: str) -> Route:
    try:
        return ip.parse_route(body, destination)
    except ip.NoRouteError as exc:
        return Route(destination=destination, error=exc.found or exc.problem)


def _ipsec(crypto: str) -> bool:
    """Whether /proc/crypto has algorithms in use that ESP alone has: it generates its own IVs.

    ``esp_init_aead`` and ``esp_init_authenc`` in net/ipv4/esp4.c of Linux 6.1.
    """
    return any(
        re.search(r"^name\s*: (seqiv|echainiv)\(", one, re.M)
        and re.search(r"^refcnt\s*: ([2-9]|\d\d)", one, re.M)
        for one in crypto.split("\n\n")
    )


def _pairs(body: str, key: str, value: str) -> Iterator[tuple[str, str]]:
    try:
        entries = json.loads(body)
    except ValueError:
        return  # the device does not exist, or the image has no such command
    for entry in entries:
        if key in entry and value in entry:
            yield str(entry[key]), str(entry[value])

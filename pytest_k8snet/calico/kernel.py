"""A node's network state: read from its kernel, and compared with what a path needs.

Links, counters, routes, neighbours and FDB are read by one command in a host-network pod, without
privileges. Each comparison returns mismatches in words: what was expected and what was found. None
looks at a route's ``proto``: who writes the routes differs between versions and settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pytest_k8snet.calico.modes import Family, Path
from pytest_k8snet.errors import ConnectError, K8sNetError, ToolError
from pytest_k8snet.tools import ip
from pytest_k8snet.tools.ip import Link, Route

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
_FAMILIES: tuple[Literal["vxlan", "ipip"], ...] = ("vxlan", "ipip")
#: The VNI that Calico uses for every pool.
_VNI = 4096


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

    def route(self, destination: str) -> Route:
        """Where a packet to this destination goes: as forwarded for the pod, if that was asked."""
        known = self.forwarded.get(destination) or self.routes.get(destination)
        return known or Route(destination=destination, error="not asked")

    def link_of(self, address: str) -> Link | None:
        """The device that owns an address, e.g. the NIC of the node's own."""
        return next((link for link in self.links.values() if address in hosts(link)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """A node, with what its kernel said."""

    node: Node
    kernel: KernelState


def hosts(link: Link) -> list[str]:
    """A device's IPv4 addresses without their prefix lengths."""
    return [one.partition("/")[0] for one in link.addresses if ":" not in one]


def calico_address(node: Node) -> str:
    """The address by which Calico's routes and tunnels reach a node."""
    return str(node.interface.ip) if node.interface is not None else node.internal_ip


def nic_of(node: Node, state: KernelState) -> Link | None:
    """The network interface that has the address by which Calico reaches a node."""
    return state.link_of(calico_address(node)) or state.link_of(node.internal_ip)


# -- What a path needs -----------------------------------------------------------------------------


def route_mismatches(
    path: Path, destination: str, sender: NodeState, receiver: NodeState
) -> Iterator[str]:
    """What keeps the sender's packets to a destination from taking a path.

    Args:
        path: the path that is promised.
        destination: the address, a pod's or a node's own.
        sender: the sending node; its route to the destination was asked for.
        receiver: the receiving node.
    """
    route = sender.kernel.route(destination)
    if route.error:
        yield f"{sender.node.name} has no route to {destination}, expected {path}: {route.error}"
        return
    found = f"{sender.node.name} sends {route}"
    taken = _path_of_device(route.device)
    if sender.node.name == receiver.node.name:
        if taken != "local":
            yield f"{found}, expected the pod's own cali device"
    elif taken != path:
        yield f"{found}, expected {_wanted_device(path, sender.kernel)}"
    elif path == "vxlan":
        yield from _vxlan_route_mismatches(route, sender, receiver, found)
    elif _gateway_matters(path, sender.node, receiver.node) and route.gateway not in (
        "",
        calico_address(receiver.node),
    ):
        yield (
            f"{found}, expected the next hop {calico_address(receiver.node)} of "
            f"{receiver.node.name}: a stale route"
        )


def _gateway_matters(path: Path, sender: Node, receiver: Node) -> bool:
    # Between subnets a direct route goes via a router, whose business it is to know the pods.
    return path == "ipip" or sender.same_subnet(receiver)


def _wanted_device(path: Path, sender: KernelState) -> str:
    if path == "direct":
        return "the node's own NIC (direct)"
    device = TUNNEL_DEVICES[path]
    return f"dev {device}" + ("" if device in sender.links else ", which does not exist there")


def _vxlan_route_mismatches(
    route: Route, sender: NodeState, receiver: NodeState, found: str
) -> Iterator[str]:
    remote = receiver.kernel.links.get(TUNNEL_DEVICES["vxlan"])
    if remote is None:
        yield (f"{receiver.node.name} has no vxlan.calico to receive what {sender.node.name} sends")
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
    mac = sender.kernel.neighbours.get(gateway)
    if mac != remote.mac:
        yield (
            f"{sender.node.name} has {mac or 'no MAC'} for {gateway} on vxlan.calico, expected "
            f"{remote.mac} of {to.name}"
        )
        return
    fdb = sender.kernel.fdb
    if fdb is not None and fdb.get(mac) != calico_address(to):
        yield (
            f"{sender.node.name}'s FDB sends {mac} to {fdb.get(mac) or 'nowhere'}, expected "
            f"{calico_address(to)} of {to.name}"
        )


def vxlan_peer_mismatches(sender: NodeState, receiver: NodeState) -> Iterator[str]:
    """What keeps a node from reaching another's VXLAN tunnel endpoint: neighbour and FDB entry.

    There may be no pods yet when this is asked, so no route names the gateway: it is the address
    of the receiving node's tunnel device.
    """
    remote = receiver.kernel.links.get(TUNNEL_DEVICES["vxlan"])
    address = next(iter(hosts(remote)), "") if remote else ""
    if remote is not None and address:  # else device_mismatches says so
        yield from _endpoint_mismatches(address, remote, sender, receiver.node)


def device_mismatches(
    node_state: NodeState,
    *,
    required: Collection[Family],
    allowed: Collection[Family],
    flow_based: bool = False,
) -> list[str]:
    """What keeps a node's tunnel devices from being those of the modes that are wanted.

    Args:
        node_state: the node.
        required: the encapsulations that must work on it.
        allowed: those that other pools or settings enable beside; they may have a device or not.
        flow_based: the eBPF dataplane, whose VXLAN device carries no VNI and may be there and
            without address in every mode.
    """
    mismatches: list[str] = []
    for family in _FAMILIES:
        device = TUNNEL_DEVICES[family]
        link = node_state.kernel.links.get(device)
        if family in required:
            mismatches += _wanted_tunnel(device, link, node_state.node, flow_based=flow_based)
        elif flow_based or family in allowed or link is None:
            continue
        # vxlan.calico is deleted when its family goes; tunl0 stays and only loses its address.
        elif device == "vxlan.calico" or hosts(link):
            mismatches.append(
                f"{node_state.node.name} still has {device} {' '.join(hosts(link))}".rstrip()
            )
    return mismatches


def _wanted_tunnel(
    device: str, link: Link | None, node: Node, *, flow_based: bool
) -> Iterator[str]:
    if link is None:
        yield f"{node.name} has no {device} yet"
        return
    if link.state == "DOWN":
        yield f"{device} of {node.name} is down"
    if not hosts(link) and not flow_based:
        yield f"{device} of {node.name} has no tunnel address yet"
    if flow_based:
        return
    if link.vni not in (None, _VNI):
        yield f"{device} of {node.name} has VNI {link.vni}, expected {_VNI}"
    if link.kind == "vxlan" and link.local not in ("", calico_address(node)):
        yield f"{device} of {node.name} is bound to {link.local}, expected {calico_address(node)}"


def _path_of_device(device: str) -> str:
    """The path that a route through a device takes; ``local`` for a pod on the node itself."""
    for path, name in TUNNEL_DEVICES.items():
        if device == name:
            return path
    if device.startswith("wireguard"):
        return "wireguard"
    return "local" if device.startswith("cali") or device == "lo" else "direct"


# -- Reading nodes ---------------------------------------------------------------------------------

#: Runs a command in a host-network pod on one node.
Shell = Callable[[Sequence[str]], "Completed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of one node: the routes to destinations, as for a pod's packets if given."""

    destinations: tuple[str, ...] = ()
    pod_address: str | None = None


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
            {
                node: argv(pod_address=one.pod_address, destinations=one.destinations)
                for node, one in questions.items()
                if node in self._shells
            }
        )
        states: dict[str, KernelState] = {}
        missing = {node: NO_HOST_POD for node in questions if node not in self._shells}
        for node, answer in done.items():
            try:
                states[node] = _state(node, answer)
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


def _state(node: str, answer: Completed | K8sNetError) -> KernelState:
    if isinstance(answer, K8sNetError):
        raise answer
    return parse(node, answer.stdout, stderr=answer.stderr, exit_code=answer.exit_code)


# -- The command, and what it prints ---------------------------------------------------------------

# Everything in one exec, as each one costs a round trip. Arguments: the address of a pod on this
# node, or "-", and the destinations. A route is looked up as the kernel would forward a packet
# from that pod, because policy rules may tell it apart from the node's own packets.
_SCRIPT = """\
section() { printf '\\036%s\\n' "$*"; }
pod=$1; shift
section links; ip -j -s -d address show || exit
section neighbours; ip -j neighbour show dev vxlan.calico 2>/dev/null
section fdb; bridge -j fdb show dev vxlan.calico 2>/dev/null
device=
if [ "$pod" != - ]; then
  section "route $pod"; ip -j route get "$pod" 2>&1
  device=$(ip -o route get "$pod" | sed -n 's/^[^ ]* dev \\([^ ]*\\) .*/\\1/p')
fi
for destination; do
  section "route $destination"; ip -j route get "$destination" 2>&1
  if [ -n "$device" ]; then
    section "forward $destination"; ip -j route get "$destination" from "$pod" iif "$device" 2>&1
  fi
done
exit 0
"""


def argv(*, pod_address: str | None, destinations: Sequence[str]) -> list[str]:
    """The command that prints a node's state.

    Args:
        pod_address: a pod on the node whose packets are of interest; None for the node's own.
        destinations: addresses whose routes are of interest.
    """
    return ["sh", "-c", _SCRIPT, "k8snet", pod_address or "-", *dict.fromkeys(destinations)]


def parse(node: str, stdout: str, *, stderr: str = "", exit_code: int | None = None) -> KernelState:
    """Read what the command of :func:`argv` printed.

    Raises:
        ToolError: the output cannot be read.
        ToolMissingError: the image has no ``ip``.
    """
    sections = dict(_sections(stdout))
    links = ip.parse_links(sections.get("links", ""), stderr=stderr, exit_code=exit_code)
    return KernelState(
        node=node,
        links=links,
        routes=_routes(sections, "route "),
        forwarded=_routes(sections, "forward "),
        neighbours=dict(_pairs(sections.get("neighbours", ""), "dst", "lladdr")),
        fdb=(
            dict(_pairs(sections["fdb"], "mac", "dst"))
            if sections.get("fdb", "").startswith("[")
            else None
        ),
    )


def _sections(stdout: str) -> list[tuple[str, str]]:
    pieces = stdout.split("\x1e")[1:]
    return [(head.strip(), body.strip()) for head, _, body in (p.partition("\n") for p in pieces)]


def _routes(sections: Mapping[str, str], prefix: str) -> dict[str, Route]:
    return {
        name.removeprefix(prefix): _route(name.removeprefix(prefix), body)
        for name, body in sections.items()
        if name.startswith(prefix)
    }


def _route(destination: str, body: str) -> Route:
    try:
        return ip.parse_route(body, destination)
    except ToolError as exc:
        return Route(destination=destination, error=exc.found or exc.problem)


def _pairs(body: str, key: str, value: str) -> Iterator[tuple[str, str]]:
    try:
        entries = json.loads(body)
    except ValueError:
        return  # the device does not exist, or the image has no such command
    for entry in entries:
        if key in entry and value in entry:
            yield str(entry[key]), str(entry[value])

"""The proof on the wire: captures on both nodes while payload is sent, and what they say.

A capture of packets that are promised and seen proves; one that saw nothing proves nothing.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico.kernel import TUNNEL_DEVICES, hosts
from pytest_k8snet.calico.modes import Path
from pytest_k8snet.calico.path import WireFinding, path_to
from pytest_k8snet.errors import K8sNetError, ToolError
from pytest_k8snet.tools import capture
from pytest_k8snet.tools.ip import underside

if TYPE_CHECKING:
    from pytest_k8snet.calico.installation import IPPool
    from pytest_k8snet.calico.kernel import KernelState, Prober
    from pytest_k8snet.calico.path import PathEnd, PathSnapshot
    from pytest_k8snet.cluster.exec import Completed
    from pytest_k8snet.cluster.nodes import Node
    from pytest_k8snet.tools.capture import Capture, Carrier, Packet


_WORDS: dict[Carrier, str] = {
    "none": "unencapsulated",
    "vxlan": "in VXLAN",
    "ipip": "in IPIP",
}
_CARRIERS: dict[Path, Carrier] = {"direct": "none", "vxlan": "vxlan", "ipip": "ipip"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """TCP payload that was sent between two ends while both nodes captured.

    Attributes:
        client: who connected.
        server: to whom.
        port: the server's; with its address it tells the exchange from all other traffic.
        devices: per node, where it was captured.
        vni: the network identifier of Calico's VXLAN; None where it is not known.
        captures: per node, what was seen there.
        missing: why the exchange or a capture of it did not come about.
    """

    client: PathEnd
    server: PathEnd
    port: int
    devices: Mapping[str, str] = field(default_factory=dict)
    vni: int | None = None
    captures: Mapping[str, Capture] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def judge_exchange(exchange: Exchange, pools: Iterable[IPPool]) -> WireFinding:
    """Compare what was seen on the wire with what the pools' modes promise.

    Both nodes and both directions count: each must have seen payload, and all of it as promised;
    between two ends on one node none may be seen.
    """
    pools = tuple(pools)
    client, server = exchange.client, exchange.server
    mismatches: list[str] = []
    gaps = list(exchange.missing)
    sightings: list[dict[str, Any]] = []
    for sender, receiver, to_server in ((client, server, True), (server, client, False)):
        verbs = {receiver.node.name: "received", sender.node.name: "sent"}
        for node in {one.node.name: one.node for one in (sender, receiver)}.values():
            capture = exchange.captures.get(node.name)
            if capture is None:
                continue  # `missing` says why
            seen = [one for one in capture.packets if _belongs(one, exchange, to_server=to_server)]
            said = f"on the wire, {node.name} {verbs[node.name]}"
            device = exchange.devices[node.name]
            mismatches += _mismatches(seen, said, sender.node, receiver.node, pools, exchange.vni)
            if sender.node.name == receiver.node.name:
                if lost := capture.dropped:
                    gaps.append(
                        f"{device} of {node.name}: {lost} packets were dropped by the capture"
                    )
            elif not seen:
                way = f"{sender.node.name} -> {receiver.node.name}"
                gaps.append(f"{device} of {node.name} saw no payload of {way}")
            # Replies to a node may go to its tunnel's address: what was seen decides.
            address = seen[0].destination if seen else receiver.address
            sightings.append(
                {
                    "node": node.name,
                    "device": device,
                    "from": sender.node.name,
                    "to": receiver.node.name,
                    "expected": path_to(address, sender.node, receiver.node, pools),
                    "packets": len(seen),
                    "seen": dict(Counter(map(_shape, seen))),
                    "dropped": capture.dropped,
                }
            )
    return WireFinding(
        mismatches=tuple(dict.fromkeys(mismatches)),
        gaps=tuple(dict.fromkeys(gaps)),
        sightings=tuple(sightings),
    )


def _belongs(packet: Packet, exchange: Exchange, *, to_server: bool) -> bool:
    """Whether a packet carries the exchange's payload in one direction."""
    address, port = (
        (packet.destination, packet.destination_port)
        if to_server
        else (packet.source, packet.source_port)
    )
    ours = (address, port) == (exchange.server.address, exchange.port)
    return ours and packet.payload_bytes > 0


def _mismatches(
    seen: Iterable[Packet],
    said: str,
    sender: Node,
    receiver: Node,
    pools: Iterable[IPPool],
    vni: int | None,
) -> Iterator[str]:
    for packet in seen:
        found = f"{said} {packet.source} -> {packet.destination}"
        path = path_to(packet.destination, sender, receiver, pools)
        outer = "" if path == "direct" else receiver.address
        if sender.name == receiver.name:
            yield f"{found} {_shape(packet)}, though both ends are on that node"
        elif (packet.carrier, packet.outer_destination) != (_CARRIERS[path], outer):
            yield f"{found} {_shape(packet)}, expected {_words(_CARRIERS[path], outer)}"
        if packet.carrier == "vxlan" and vni is not None and packet.vni != vni:
            yield f"{found} in VXLAN of VNI {packet.vni}, and Calico's is {vni}"


def _shape(packet: Packet) -> str:
    return _words(packet.carrier, packet.outer_destination)


def _words(carrier: Carrier, outer_destination: str) -> str:
    return _WORDS[carrier] + (f" to {outer_destination}" if outer_destination else "")


# -- Capturing ------------------------------------------------------------------------------------

#: Sends payload between the ends of a pair, and calls back with the server's port before the
#: first byte; returns what went wrong, or None.
Send = Callable[[Callable[[int], None]], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WireCapture:
    """Captures on nodes.

    Args:
        prober: the way to the nodes.
        vxlan_port: the UDP port of Calico's VXLAN, where no device tells it.
        vni: the network identifier of Calico's VXLAN, where no device tells it: eBPF's has none.
    """

    prober: Prober
    vxlan_port: int
    vni: int

    def watch(self, snapshot: PathSnapshot, send: Send) -> Exchange:
        """Capture while payload is sent. What could not be captured is in ``missing``.

        Args:
            snapshot: the nodes, with their network interfaces.
            send: sends the payload.
        """
        client, server = snapshot.client, snapshot.server
        devices = {
            end.node.name: found
            for end, other in ((client, server), (server, client))
            if end.node.name in snapshot.states
            and (found := _facing(end, other, snapshot.states[end.node.name]))
        }
        tunnels = [
            state.links[device]
            for state in snapshot.states.values()
            if (device := TUNNEL_DEVICES["vxlan"]) in state.links
        ]
        vxlan_port = next((one.port for one in tunnels if one.port), self.vxlan_port)
        missing = [f"{node}: {why}" for node, why in snapshot.missing.items()]
        missing += [
            f"{node}: no device is known that leads to the other node"
            for node in snapshot.states
            if node not in devices
        ]
        ports: list[int] = []
        running: list[dict[str, str]] = []

        def listen(port: int) -> None:
            ports.append(port)
            address = ip_address(server.address)
            if not isinstance(address, IPv4Address):
                missing.append(f"{address} is not IPv4, which alone is captured")
                return
            what = capture.filter_of(address, port, vxlan_port=vxlan_port)
            for place in range(max(map(len, devices.values()), default=0)):
                started, troubles = self._start(
                    {node: (on[place], what) for node, on in devices.items() if place < len(on)}
                )
                running.append(started)
                missing.extend(f"{node}: {trouble.brief}" for node, trouble in troubles.items())

        try:
            trouble = send(listen)
        except BaseException:
            # What was started is ended, but an interrupt must not be lost in trouble with that.
            with suppress(K8sNetError):
                self._stop(running, vxlan_port)
            raise
        captures, troubles = self._stop(running, vxlan_port)
        missing += [f"{node}: {trouble.brief}" for node, trouble in troubles.items()]
        if trouble is not None:
            missing.append(trouble)
        return Exchange(
            client=client,
            server=server,
            port=ports[0] if ports else 0,
            devices={node: " and ".join(on) for node, on in devices.items()},
            vni=next((one.vni for one in tunnels if one.vni is not None), self.vni),
            captures=captures,
            missing=tuple(missing),
        )

    def check(self, nodes: list[str]) -> None:
        """Make sure that captures are possible on nodes, by one that sees nothing.

        Raises:
            ToolMissingError: the image has no tcpdump.
            ToolError: it may not capture there.
        """
        nowhere = capture.filter_of(IPv4Address("127.0.0.1"), 9)
        running, troubles = self._start(dict.fromkeys(nodes, ("lo", nowhere)))
        _, late = self._stop([running], self.vxlan_port)
        for node, trouble in (troubles | late).items():
            if not isinstance(trouble, ToolError):
                raise trouble
            raise type(trouble)(
                f"the path cannot be proven on the wire of {node}: {trouble.problem}",
                found=trouble.found,
                remedy=f"{trouble.remedy}; or go without: -o k8snet_wire_proof=false",
            )

    def _start(
        self, wanted: Mapping[str, tuple[str, str]]
    ) -> tuple[dict[str, str], dict[str, K8sNetError]]:
        """Start captures; the names of those that run, and why the others do not."""
        name = secrets.token_hex(4)
        commands = {node: capture.start_argv(name, *one) for node, one in wanted.items()}
        running: dict[str, str] = {}
        troubles: dict[str, K8sNetError] = {}
        for node, one in self.prober.each(commands).items():
            try:
                done = _done(one)
                capture.check_start(done.stderr, done.exit_code)
                running[node] = name
            except K8sNetError as exc:
                troubles[node] = exc
        return running, troubles

    def _stop(
        self, running: Iterable[Mapping[str, str]], vxlan_port: int
    ) -> tuple[dict[str, Capture], dict[str, K8sNetError]]:
        """End captures; what they saw, by node, and why some saw nothing."""
        captures: dict[str, Capture] = {}
        troubles: dict[str, K8sNetError] = {}
        for names in running:
            commands = {node: capture.stop_argv(name) for node, name in names.items()}
            for node, one in self.prober.each(commands).items():
                try:
                    done = _done(one)
                    seen = capture.parse(
                        done.stdout, done.stderr, done.exit_code, vxlan_port=vxlan_port
                    )
                except K8sNetError as exc:
                    troubles[node] = exc
                    continue
                before = captures.get(node, capture.Capture(packets=(), dropped=0))
                captures[node] = capture.Capture(
                    packets=before.packets + seen.packets, dropped=before.dropped + seen.dropped
                )
        return captures, troubles


def _facing(end: PathEnd, other: PathEnd, state: KernelState) -> tuple[str, ...]:
    """The devices by which packets leave a node to the other, and may come in from it."""
    found: dict[str, None] = {}
    if end.node.name != other.node.name:
        for destination in (other.address, other.node.address):
            if state.knows(destination) and not state.route(destination).error:
                found |= dict.fromkeys(state.way(destination, other.node.address).devices)
    # They may come in by another than they leave by, as networks route either way differently.
    found |= dict.fromkeys(
        link.name
        for link in state.links.values()
        if hosts(link) and underside(state.links, link.name).wires
    )
    return tuple(found) or state.uplinks()[:1]


def _done(answer: Completed | K8sNetError) -> Completed:
    if isinstance(answer, K8sNetError):
        raise answer
    return answer

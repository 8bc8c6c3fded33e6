"""Captures one exchange of payload on both nodes of a pair, through their host-network pods."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING

from pytest_k8snet.calico.expectation import nic_of
from pytest_k8snet.calico.wire import Exchange
from pytest_k8snet.errors import K8sNetError, ToolError
from pytest_k8snet.tools import capture

if TYPE_CHECKING:
    from pytest_k8snet.calico.prober import Prober
    from pytest_k8snet.calico.proof import PathSnapshot
    from pytest_k8snet.cluster.exec import Completed
    from pytest_k8snet.tools.capture import Capture

#: Sends payload between the ends of a pair, and calls back with the server's port before the
#: first byte; returns what went wrong, or None.
Send = Callable[[Callable[[int], None]], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WireTap:
    """Captures on nodes.

    Args:
        prober: the way to the nodes.
        vxlan_port: the UDP port of Calico's VXLAN.
    """

    prober: Prober
    vxlan_port: int

    def watch(self, snapshot: PathSnapshot, send: Send) -> Exchange:
        """Capture while payload is sent. What could not be captured is told in ``missing``.

        Args:
            snapshot: the nodes; tells their network interfaces.
            send: sends the payload.
        """
        client, server = snapshot.client, snapshot.server
        devices = {
            node.name: link.name
            for node in (client.node, server.node)
            if node.name in snapshot.states
            and (link := nic_of(node, snapshot.states[node.name])) is not None
        }
        missing = [f"{node}: {why}" for node, why in snapshot.missing.items()]
        missing += [
            f"{node}: no network interface has the node's address"
            for node in snapshot.states
            if node not in devices
        ]
        ports: list[int] = []
        running: dict[str, str] = {}

        def listen(port: int) -> None:
            ports.append(port)
            address = ip_address(server.address)
            if not isinstance(address, IPv4Address):
                missing.append(f"{address} is not IPv4, which alone is captured")
                return
            what = capture.filter_of(address, port, vxlan_port=self.vxlan_port)
            started, troubles = self._start({node: (on, what) for node, on in devices.items()})
            running.update(started)
            missing.extend(f"{node}: {trouble.brief}" for node, trouble in troubles.items())

        try:
            trouble = send(listen)
        except BaseException:
            # What was started is ended, but an interrupt must not be lost in trouble with that.
            with suppress(K8sNetError):
                self._stop(running)
            raise
        captures, troubles = self._stop(running)
        missing += [f"{node}: {trouble.brief}" for node, trouble in troubles.items()]
        if trouble is not None:
            missing.append(trouble)
        return Exchange(
            client=client,
            server=server,
            port=ports[0] if ports else 0,
            devices=devices,
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
        _, late = self._stop(running)
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
        """Start captures; the names of those that run, and why the others don't."""
        name = secrets.token_hex(4)
        done = self.prober.each(
            {node: capture.start_argv(name, *one) for node, one in wanted.items()}
        )
        troubles = {node: _start_trouble(one) for node, one in done.items()}
        return (
            {node: name for node, trouble in troubles.items() if trouble is None},
            {node: trouble for node, trouble in troubles.items() if trouble is not None},
        )

    def _stop(
        self, running: Mapping[str, str]
    ) -> tuple[dict[str, Capture], dict[str, K8sNetError]]:
        """End captures; what they saw, and why some saw nothing."""
        done = self.prober.each({node: capture.stop_argv(name) for node, name in running.items()})
        captures: dict[str, Capture] = {}
        troubles: dict[str, K8sNetError] = {}
        for node, one in done.items():
            try:
                captures[node] = self._read(one)
            except K8sNetError as exc:
                troubles[node] = exc
        return captures, troubles

    def _read(self, done: Completed | K8sNetError) -> Capture:
        if isinstance(done, K8sNetError):
            raise done
        return capture.parse(done.stdout, done.stderr, done.exit_code, vxlan_port=self.vxlan_port)


def _start_trouble(done: Completed | K8sNetError) -> K8sNetError | None:
    if isinstance(done, K8sNetError):
        return done
    try:
        capture.check_start(done.stderr, done.exit_code)
    except ToolError as exc:
        return exc
    return None

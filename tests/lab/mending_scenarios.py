"""What tests of kernels in trouble do inside a sandbox; returns JSON-safe facts."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from dataplane_scenarios import SPEC, datastore, program

from pytest_k8snet.lab import namespaces
from pytest_k8snet.lab.dataplane import felix, ipip, kernel, netns, underlay
from pytest_k8snet.lab.dataplane.felix import VXLAN_PORT, Host

NODE1 = "node-node1"


def _elsewhere(address: IPv4Address | None) -> IPv4Address | None:
    return None if address is None else address + 9


#: What becomes of the hosts' tunnel addresses.
_CHANGES: dict[str, Callable[[Host], Host]] = {
    "another": lambda host: (
        replace(
            host,
            vxlan_tunnel=_elsewhere(host.vxlan_tunnel),
            ipip_tunnel=_elsewhere(host.ipip_tunnel),
        )
        if host.name == "node1"
        else host
    ),
    "another on every node": lambda host: replace(
        host, vxlan_tunnel=_elsewhere(host.vxlan_tunnel), ipip_tunnel=_elsewhere(host.ipip_tunnel)
    ),
    "none": lambda host: (
        replace(host, vxlan_tunnel=None, ipip_tunnel=None) if host.name == "node1" else host
    ),
}


async def addresses(mode: str) -> dict[str, Any]:
    """A tunnel address changes or goes: the error, what is missing then, and what is left to do."""
    await underlay.build(SPEC)
    tunnels = await ipip.detect(SPEC)
    await tunnels.ensure()
    found: dict[str, Any] = {"ipip": tunnels.implementation}
    data = datastore(mode)
    for name, change in _CHANGES.items():
        await program(data)
        wanted = felix.node_state(replace(data, hosts=list(map(change, data.hosts))), "node1")
        error = ""
        try:
            await kernel.apply(NODE1, wanted)
        except netns.DataplaneError as problem:
            error = str(problem)
        missing = wanted.routes - (await kernel.read(NODE1)).routes
        again = await kernel.apply(NODE1, wanted)
        found[name] = {"error": error, "missing": sorted(map(str, missing)), "again": again}
    await tunnels.close()
    return found


async def set_down() -> dict[str, Any]:
    """Someone sets vxlan.calico down."""
    await underlay.build(SPEC)
    data = datastore("VXLAN-Always")
    await program(data)
    wanted = await kernel.read(NODE1)
    await netns.batch(NODE1, ["link set vxlan.calico down"])
    await program(data)
    return {"mended": await kernel.read(NODE1) == wanted}


@contextlib.contextmanager
def vxlan_port_taken() -> Iterator[None]:
    """Nobody can set vxlan.calico up in the calling thread's namespace meanwhile."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", VXLAN_PORT))
        yield


async def half_done() -> dict[str, Any]:
    """A pass in which vxlan.calico cannot be set up, and the next."""
    # Whatever kernel this is: on an older one the device must not segment.
    namespaces.kernel_version = lambda: (6, 1)
    await underlay.build(SPEC)
    data = datastore("VXLAN-CrossSubnet")
    wanted = felix.node_state(data, "node1")
    found: dict[str, Any] = {}
    taken = vxlan_port_taken()
    await netns.run(NODE1, taken.__enter__)
    try:
        await kernel.apply(NODE1, wanted)
    except netns.DataplaneError as error:
        found["error"] = str(error)
    state = await kernel.read(NODE1)
    found["direct"] = sorted(str(r) for r in state.routes if r.device == "eth0")
    taken.__exit__(None, None, None)
    await kernel.apply(NODE1, wanted)
    found["again"] = await kernel.apply(NODE1, wanted)
    found["missing"] = len(wanted.routes - (await kernel.read(NODE1)).routes)
    features = await netns.output(NODE1, ["ethtool", "-k", "vxlan.calico"])
    found["segmentation"] = [
        line.split()[1] for line in features.splitlines() if line.startswith("generic-segmentation")
    ]
    return found


async def half_made() -> dict[str, Any]:
    """A namespace that cannot be finished, and a name without a namespace."""
    found: dict[str, Any] = {}
    try:
        await netns.create("bad", sysctls={"ipv4/ip_forward": "no number"})
    except netns.DataplaneError as error:
        found["error"] = error.problem
    found["left"] = netns.exists("bad")
    await netns.create("bad")
    netns.path("name").touch()
    await netns.delete("name")
    found["name left"] = netns.exists("name")
    return found


async def flood() -> dict[str, Any]:
    """More routes change than the forwarder's socket of events can hold."""
    await underlay.build(SPEC)
    tunnels = await ipip.detect(SPEC, "tun")
    if not tunnels.available:
        return {"unavailable": tunnels.implementation}
    return await netns.run(NODE1, _flood)


def _flood() -> dict[str, Any]:
    found: dict[str, Any] = {}
    tunnel = ipip.Tunnel(str(SPEC.nodes[1].address.ip))
    ordinary = ipip.open_route_events()
    # As Linux has it by default.
    ordinary.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 212992 // 2)
    netns.batch_here([f"route add blackhole 10.{i // 256}.{i % 256}.0/24" for i in range(1500)])
    for name, events in (("ordinary", ordinary), ("forwarder's", tunnel.routes)):
        found[name] = _lost(events)
    tunnel.routes.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    netns.batch_here([f"route del blackhole 10.{i // 256}.{i % 256}.0/24" for i in range(1500)])
    tunnel.forget_routes()
    found["left"] = select.select([tunnel.routes], [], [], 0)[0]
    return found


def _lost(events: socket.socket) -> bool:
    """Whether a socket says that it could not hold all events."""
    try:
        while True:
            events.recv(65536)
    except OSError as error:
        return error.errno == errno.ENOBUFS

"""What tests of Calico's recovery from trouble do inside a sandbox; returns JSON-safe facts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from calico_scenarios import SPEC, Play, playing, routes, through, until
from dataplane_traffic import Sniffer, fetch, serve
from mending_scenarios import vxlan_port_taken

from pytest_k8snet.lab.calico import calico_node
from pytest_k8snet.lab.dataplane import kernel, netns
from pytest_k8snet.lab.dataplane.underlay import ROUTER, node_namespace

FAULTS = "k8snet-lab-faults"
PEERS = {"node1": "10.244.230.128/26", "node2": "10.244.239.128/26"}


async def router_knows_blocks(wanted: bool) -> bool:
    """Whether the router, which is never late, knows blocks or none: those without a tunnel."""
    text = await netns.output(ROUTER, ["ip", "route", "show", "proto", "bird"])
    return ("/26" in text) == wanted


async def until_true(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so."""
    begin = time.monotonic()
    while not await condition():
        assert time.monotonic() < begin + 10
        await asyncio.sleep(0.01)


async def has_device(node: str, device: str) -> bool:
    text = await netns.output(node_namespace(node), ["ip", "-brief", "link", "show"])
    return device in text


async def is_led_around(node: str) -> bool:
    return kernel.BYPASS_TABLE in await netns.output(
        node_namespace(node), ["nft", "list", "tables"]
    )


@contextlib.asynccontextmanager
async def vxlan_refused(node: str) -> AsyncIterator[None]:
    """The node's kernel refuses to set vxlan.calico up meanwhile."""
    taken = vxlan_port_taken()
    await netns.run(node_namespace(node), taken.__enter__)
    try:
        yield
    finally:
        taken.__exit__(None, None, None)


@contextlib.asynccontextmanager
async def with_pods(**spec: Any) -> AsyncIterator[Play]:
    """A pod on node1 and one on node2, reached without a tunnel."""
    async with playing(replace(SPEC, **spec)) as play:
        for node in PEERS:
            await play.pod(f"pod-{node}", node)
        for node in PEERS:
            await until(lambda found: sum("proto bird" in line for line in found) == 2, node)
        yield play


def end_faults(play: Play) -> None:
    play.store.delete("configmaps", FAULTS, "kube-system")


async def fault_ends(name: str) -> dict[str, Any]:
    """A fault of minutes is taken back after a moment, and everyone follows."""
    async with with_pods() as play:
        play.faults(**{name: "300"})
        play.modes("Never", "Always")
        await until_true(lambda: router_knows_blocks(False))
        end_faults(play)
        for node in ("node1", "node2", "node3"):
            await until(through("vxlan.calico"), node)
    return {"all": True}


async def newest_first() -> dict[str, Any]:
    """While the last node is late, the mode changes again; what each then gets."""
    found: dict[str, Any] = {}
    async with with_pods() as play:
        play.faults(slow_convergence="300")
        play.modes("Never", "Always")
        await until_true(lambda: router_knows_blocks(False))
        play.modes("Never", "CrossSubnet")
        play.modes("Never", "Never")
        await until_true(lambda: router_knows_blocks(True))
        found["late"] = await routes("node1")
    return found


async def _lacks(node: str, device: str) -> bool:
    return not await has_device(node, device)


async def bypass_ends() -> dict[str, Any]:
    """The fault path-not-taken ends while the kernel refuses something else."""
    found: dict[str, Any] = {}
    async with with_pods() as play:
        play.modes("Never", "Always")
        await until(through("vxlan.calico"))
        play.faults(path_not_taken="node1")
        await until_true(lambda: is_led_around("node1"))
        await netns.batch("node-node1", ["link del vxlan.calico"])
        async with vxlan_refused("node1"):
            end_faults(play)
            await until_true(lambda: has_device("node1", "vxlan.calico"))
        await until_true(lambda: _is_not_led_around("node1"))
        await until(through("vxlan.calico"))
        found["rules"] = await netns.output("node-node1", ["ip", "rule", "show", "pref", "50"])
    return found


async def _is_not_led_around(node: str) -> bool:
    return not await is_led_around(node)


async def flip_back() -> dict[str, Any]:
    """A mode that one kernel takes half-way, and back before it has taken it whole."""
    async with with_pods() as play:
        # Every node has a block then, so that Never is twice the same.
        play.modes("Never", "Always")
        await until(through("vxlan.calico"))
        play.modes("Never", "Never")
        await until(lambda found: sum("proto bird" in line for line in found) == 4)
        async with vxlan_refused("node1"):
            play.modes("Never", "Always")
            await until_true(lambda: has_device("node1", "vxlan.calico"))
            play.modes("Never", "Never")
            await until_true(lambda: _lacks("node1", "vxlan.calico"))
        await until(lambda found: any(line.startswith(PEERS["node2"]) for line in found))
    return {"back": True}


async def stale_for_good() -> dict[str, Any]:
    """All kernels are compared again and again while one node is stale."""
    # Not 90 s: what others broke shows that the time has come.
    calico_node.ROUTE_REFRESH_SECONDS = 0.2
    found: dict[str, Any] = {}
    async with with_pods() as play:
        play.faults(stale_route_on="node1")
        play.modes("Never", "Always")
        tunnelled = f"{PEERS['node1']} via 10.244.230.129 dev vxlan.calico"
        await until(lambda found: any(tunnelled in line for line in found), "node2")
        for _ in range(2):
            await netns.batch("node-node2", [f"route del {PEERS['node1']}"])
            await until(lambda found: any(tunnelled in line for line in found), "node2")
        found["stale"] = await routes("node1")
        end_faults(play)
        await until(through("vxlan.calico"), "node1")
    return found


async def node_deleted() -> dict[str, Any]:
    """A Node object goes, and comes again; the others follow a change of mode meanwhile."""
    found: dict[str, Any] = {}
    async with with_pods() as play:
        await play.pod("pod-node3", "node3")
        await until(lambda lines: any("10.244.79.128/26" in line for line in lines))
        gone = play.store.delete("nodes", "node3")
        play.modes("Never", "Always")
        await until(through("vxlan.calico"))
        found["without"] = await routes("node1")
        play.store.create("nodes", {"metadata": {"name": gone["metadata"]["name"]}})
        await until(lambda lines: sum("dev vxlan.calico" in line for line in lines) == 3)
    return found


async def tunl0_deleted() -> dict[str, Any]:
    """Someone deletes one node's tunl0: the forwarder ends, and with it every other's."""
    found: dict[str, Any] = {}
    async with with_pods(ipip_driver="tun") as play:
        if not play.calico.ipip.available:
            return {"unavailable": play.calico.ipip.implementation}
        play.modes("Always", "Never")
        # One route comes after the other, and all have to come back: those to the other nodes,
        # which have blocks for their tunnel addresses.
        for node in PEERS:
            await until(
                lambda lines: sum("/26 via" in one and "tunl0" in one for one in lines) == 3, node
            )
        before = {node: await routes(node) for node in PEERS}
        await netns.batch("node-node2", ["link del tunl0"])
        await until(lambda lines: not through("tunl0")(lines))
        for node in PEERS:
            await until(before[node].__eq__, node)
        async with serve("pod-node2") as port:
            with await netns.run("node-node1", Sniffer) as sniffer:
                reply = await fetch("pod-node1", IPv4Address("10.244.239.128"), port)
                found["error"], found["wire"] = reply.error, sorted(sniffer.seen())
        await play.calico.ipip.close()
    return found

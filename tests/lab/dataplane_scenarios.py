"""What the tests of the dataplane do inside a sandbox: coroutines that return JSON-safe facts.

Pools, blocks and tunnel addresses are given here; no API server and no controller runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from dataplane_traffic import Sniffer, fetch, serve

from pytest_k8snet.lab.dataplane import felix, ipip, kernel, nat, netns, underlay
from pytest_k8snet.lab.dataplane import kernel as kernel_module
from pytest_k8snet.lab.dataplane import underlay as underlay_module
from pytest_k8snet.lab.dataplane.felix import Block, Datastore, Encapsulation, Host, NodeState, Pool
from pytest_k8snet.lab.dataplane.nat import ServicePort
from pytest_k8snet.lab.spec import LabSpec, study_nodes

MODES: Mapping[str, tuple[Encapsulation, Encapsulation]] = {
    "Never": ("Never", "Never"),
    "VXLAN-CrossSubnet": ("Never", "CrossSubnet"),
    "VXLAN-Always": ("Never", "Always"),
    "IPIP-CrossSubnet": ("CrossSubnet", "Never"),
    "IPIP-Always": ("Always", "Never"),
}
SPEC = LabSpec(nodes=study_nodes(4))
PODS = {name: f"pod-{name}" for name in ("node1", "node2", "node3")}


def datastore(mode: str) -> Datastore:
    """One pool in the mode and a /26 per node, whose first address is the node's tunnel's."""
    ipip_mode, vxlan_mode = MODES[mode]
    pool = Pool(
        name="p",
        cidr=SPEC.pod_cidr,
        ipip_mode=ipip_mode,
        vxlan_mode=vxlan_mode,
        nat_outgoing=True,
    )
    pairs = list(zip(SPEC.nodes, SPEC.pod_cidr.subnets(new_prefix=26), strict=False))
    return Datastore(
        hosts=[
            Host(
                name=node.name,
                address=node.address,
                vxlan_tunnel=block[0] if pool.family == "vxlan" else None,
                ipip_tunnel=block[0] if pool.family == "ipip" else None,
            )
            for node, block in pairs
        ],
        pools=[pool],
        blocks=[Block(cidr=block, node=node.name) for node, block in pairs],
        routers={subnet: SPEC.router_address(subnet).ip for subnet in SPEC.subnets()},
    )


async def program(data: Datastore) -> int:
    """Make all kernels hold what the datastore says; how many commands that took."""
    interfaces = {
        node.address.network: underlay.router_interface(SPEC, node) for node in SPEC.nodes
    }
    router = NodeState(routes=felix.router_routes(data, interfaces))
    names = [node.name for node in SPEC.nodes]
    done = await asyncio.gather(
        kernel.apply(underlay.ROUTER, router),
        *(
            kernel.apply(underlay.node_namespace(name), felix.node_state(data, name))
            for name in names
        ),
    )
    text = nat.calico_rules(data)
    await asyncio.gather(*(nat.load(underlay.node_namespace(name), text) for name in names))
    return sum(done)


async def plug_pods(data: Datastore) -> dict[str, IPv4Address]:
    """One pod on each node but the master."""
    addresses = {}
    for block in data.blocks:
        if block.node in PODS:
            await netns.create(PODS[block.node])
            cable = underlay_module.Cable(
                node=block.node,
                interface=underlay_module.host_interface("default", block.node),
                pod_namespace=PODS[block.node],
                address=block.cidr[5],
                mtu_bytes=felix.pod_mtu(data.pools, SPEC.link_mtu_bytes),
            )
            await underlay_module.plug(cable, underlay.endpoint_sysctls(SPEC))
            addresses[block.node] = block.cidr[5]
    return addresses


async def unplug_pods() -> None:
    for node, namespace in PODS.items():
        await underlay_module.unplug(node, underlay_module.host_interface("default", node))
        await netns.delete(namespace)


async def paths(modes: list[str]) -> dict[str, Any]:
    """In each mode, what pod to pod traffic is on the wire, and what the pods notice."""
    await underlay.build(SPEC)
    tunnels = await ipip.detect(SPEC)
    found: dict[str, Any] = {"ipip": tunnels.implementation}
    for mode in modes:
        data = datastore(mode)
        if "ipip" in data.families:
            await tunnels.ensure()
        first, again = await program(data), await program(data)
        addresses = await plug_pods(data)
        facts: dict[str, Any] = {"commands": first > 0, "commands_again": again}
        for server in ("node2", "node3"):
            async with serve(PODS[server]) as port:
                with await netns.run("node-node1", Sniffer) as sniffer:
                    reply = await fetch(PODS["node1"], addresses[server], port)
                    facts[server] = {"wire": sniffer.seen(), "mss": reply.mss, "peer": reply.peer}
        found[mode] = facts
        await unplug_pods()
    await tunnels.close()
    return found


async def leftovers() -> dict[str, Any]:
    """After each mode and back to Never, what is left of the tunnels on a node."""
    await underlay.build(SPEC)
    tunnels = await ipip.detect(SPEC)
    await tunnels.ensure()
    found = {}
    for mode in ("VXLAN-Always", "IPIP-Always"):
        await program(datastore(mode))
        used = await kernel.read("node-node1")
        await program(datastore("Never"))
        left = await kernel.read("node-node1")
        found[mode] = {
            "used": [str(used.vxlan and used.vxlan.address), str(used.ipip and used.ipip.address)],
            "left": [str(left.vxlan), str(left.ipip and left.ipip.address)],
            "routes": sorted(map(str, left.routes)),
        }
    return found


async def mending() -> dict[str, Any]:
    """What others did to a node's kernel is seen and mended."""
    await underlay.build(SPEC)
    data = datastore("VXLAN-Always")
    await program(data)
    wanted = await kernel.read("node-node1")
    peer = str(datastore("VXLAN-Always").blocks[2].cidr)
    await netns.batch(
        "node-node1",
        [
            f"route del {peer}",
            "route add 10.244.99.0/26 via 192.168.0.12 dev eth0 proto bird",
            "neigh flush dev vxlan.calico nud permanent",
            "link set vxlan.calico mtu 1400",
        ],
    )
    broken = await kernel.read("node-node1")
    commands = await program(data)
    return {
        "broken": broken != wanted,
        "commands": commands,
        "mended": await kernel.read("node-node1") == wanted,
    }


async def sources() -> dict[str, Any]:
    """Under which address a node and a pod appear to whom they talk to."""
    await underlay.build(SPEC)
    tunnels = await ipip.detect(SPEC)
    found: dict[str, Any] = {"ipip": tunnels.implementation}
    for mode in ("Never", "VXLAN-Always", "IPIP-Always"):
        if mode.startswith("IPIP"):
            if not tunnels.available:
                continue
            await tunnels.ensure()
        await program(datastore(mode))
        addresses = await plug_pods(datastore(mode))
        async with (
            serve(PODS["node2"]) as port,
            serve("node-node2") as node_port,
            serve(underlay.OUTSIDE) as outside_port,
        ):
            node2, outside = IPv4Address("192.168.0.12"), SPEC.outside_address.ip
            found[mode] = {
                "node to pod": (await fetch("node-node1", addresses["node2"], port)).peer,
                "pod to node": (await fetch(PODS["node1"], node2, node_port)).peer,
                "pod to outside": (await fetch(PODS["node1"], outside, outside_port)).peer,
            }
        await unplug_pods()
    return found


async def services() -> dict[str, Any]:
    """Through each kind of service address: who answers, and whom the server takes us for."""
    await underlay.build(SPEC)
    data = datastore("Never")
    await program(data)
    addresses = await plug_pods(data)
    outside = underlay.OUTSIDE
    async with serve(PODS["node2"]) as port2, serve(PODS["node3"]) as port3:
        backends = ((str(addresses["node2"]), port2), (str(addresses["node3"]), port3))
        ports = [
            ServicePort(
                name="web",
                protocol="tcp",
                port=80,
                cluster_ips=("10.96.0.5",),
                external_ips=("192.168.0.240",),
                node_port=30080,
                backends=backends,
            ),
            ServicePort(name="alone", protocol="tcp", port=80, cluster_ips=("10.96.0.6",),
                        backends=backends[:1]),
            ServicePort(name="empty", protocol="tcp", port=80, cluster_ips=("10.96.0.7",)),
        ]  # fmt: skip
        rules = nat.service_rules(ports, [str(SPEC.pod_cidr)])
        for node in SPEC.nodes:
            await nat.load(underlay.node_namespace(node.name), rules)
        await nat.announce(SPEC, nat.external_addresses(ports), [])
        cluster_ip, balancer = IPv4Address("10.96.0.5"), IPv4Address("192.168.0.240")
        pods = [await fetch(PODS["node1"], cluster_ip, 80) for _ in range(12)]
        return {
            "pod peers": sorted({reply.peer for reply in pods}),
            "pod servers": len({reply.server for reply in pods}),
            "own service": (await fetch(PODS["node2"], IPv4Address("10.96.0.6"), 80)).peer,
            "other backend": sorted(
                {(await fetch(PODS["node2"], cluster_ip, 80)).peer for _ in range(12)}
            ),
            "node": (await fetch("node-node1", cluster_ip, 80)).server != "",
            "node port": (await fetch(outside, IPv4Address("192.168.0.11"), 30080)).server != "",
            "balancer": (await fetch(outside, balancer, 80)).server != "",
            "balancer from a pod": (await fetch(PODS["node3"], balancer, 80)).server != "",
            "empty": (await fetch(PODS["node1"], IPv4Address("10.96.0.7"), 80)).error,
            "empty from a node": (await fetch("node-node1", IPv4Address("10.96.0.7"), 80)).error,
        }


async def around(mode: str) -> dict[str, Any]:
    """The routing table says one thing, the wire another; and then it is mended."""
    await underlay.build(SPEC)
    data = datastore(mode)
    tunnels = await ipip.detect(SPEC)
    if "ipip" in data.families:
        await tunnels.ensure()
    await program(data)
    addresses = await plug_pods(data)
    target = addresses["node2"]
    found: dict[str, Any] = {"ipip": tunnels.implementation}
    for name, routes in (("around", kernel_module.routes_around(data, "node1")), ("mended", [])):
        await kernel_module.apply_bypass("node-node1", routes)
        async with serve(PODS["node2"]) as port:
            with await netns.run("node-node1", Sniffer) as sniffer:
                await fetch(PODS["node1"], target, port)
                found[name] = sniffer.seen()
        question = ["ip", "route", "get", str(target)]
        found[f"{name} promised"] = await netns.output("node-node1", question)
    await tunnels.close()
    return found


async def trouble() -> dict[str, str]:
    """The texts of what goes wrong."""
    await underlay.build(SPEC)
    found = {}
    lines = ["link set lo up", "route add 10.9.9.0/24 via 203.0.113.99", "link set nic up"]
    for name, call in (
        ("batch", netns.batch("node-node1", lines)),
        ("neighbour", netns.batch("node-node1", [lines[2], "neigh del 10.9.9.9 dev eth0", *lines])),
        ("namespace", netns.output("node-node9", ["true"])),
        ("program", netns.output("node-node1", ["no-such-program"])),
        ("twice", netns.create("node-node1")),
    ):
        try:
            await call
        except netns.DataplaneError as error:
            found[name] = str(error)
    return found

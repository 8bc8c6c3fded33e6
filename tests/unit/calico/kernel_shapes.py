"""Kernel states of two nodes as Calico makes them, to be bent by tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from cluster_shapes import FAR, NODE1, NODE2, installation, pool

from pytest_k8snet.calico.installation import FelixSetting, Installation, IPPool
from pytest_k8snet.calico.kernel import KernelState
from pytest_k8snet.calico.modes import CalicoMode, Path
from pytest_k8snet.calico.path import PathEnd, PathSnapshot
from pytest_k8snet.cluster.nodes import Node
from pytest_k8snet.tools.ip import Counters, Link, Route
from pytest_k8snet.tools.tool import Payload

POD1, POD2 = "10.244.1.3", "10.244.2.4"
TUNNEL = {"node1": "10.244.1.1", "node2": "10.244.2.1", "node3": "10.244.3.1"}
MAC = {"node1": "66:00:00:00:00:01", "node2": "66:00:00:00:00:02", "node3": "66:00:00:00:00:03"}


def link(
    name: str,
    *addresses: str,
    kind: str = "",
    mtu: int = 1500,
    sent: int = 0,
    received: int = 0,
    mac: str = "02:00:00:00:00:01",
    vni: int | None = None,
    local: str = "",
    **more: Any,
) -> Link:
    def counters(count: int) -> Counters:
        return Counters(bytes=count, packets=count // 1000 + 10, errors=0, dropped=0)

    return Link(
        name=name,
        kind=kind,
        mtu_bytes=mtu,
        state="UP",
        mac=mac,
        addresses=addresses,
        sent=counters(sent),
        received=counters(received),
        vni=vni,
        local=local,
        **more,
    )


def state(
    node: Node,
    peer: Node,
    path: Path,
    *,
    pod: str,
    to: str,
    pod_mtu: int = 1450,
    families: tuple[str, ...] = ("vxlan", "ipip"),
) -> KernelState:
    """A node with all tunnel devices, whose route to one address takes a path."""
    routes = {
        "direct": Route(destination=to, device="eth0", gateway=peer.internal_ip),
        "vxlan": Route(destination=to, device="vxlan.calico", gateway=TUNNEL[peer.name]),
        "ipip": Route(destination=to, device="tunl0", gateway=peer.internal_ip),
    }
    links = [
        link("eth0", str(node.interface)),
        link("cali123", mtu=pod_mtu),
    ]
    if "vxlan" in families:
        links.append(
            link(
                "vxlan.calico",
                f"{TUNNEL[node.name]}/32",
                kind="vxlan",
                mtu=1450,
                mac=MAC[node.name],
                vni=4096,
                port=4789,
                local=node.internal_ip,
            )
        )
    if "ipip" in families:
        links.append(link("tunl0", f"{TUNNEL[node.name]}/32", kind="ipip", mtu=1480))
    return KernelState(
        node=node.name,
        links={one.name: one for one in links},
        routes={
            pod: Route(destination=pod, device="cali123"),
            to: routes[path],
            peer.address: Route(destination=peer.address, device="eth0", source=node.address),
        },
        forwarded={to: routes[path]},
        neighbours={TUNNEL[peer.name]: MAC[peer.name]},
        fdb={MAC[peer.name]: peer.internal_ip},
    )


def ends() -> tuple[PathEnd, PathEnd]:
    return (
        PathEnd(kind="pod", name="client", node=NODE1, address=POD1),
        PathEnd(kind="pod", name="server", node=NODE2, address=POD2),
    )


def snapshot(there: Path, back: Path | None = None, pod_mtu: int = 1450) -> PathSnapshot:
    """Two pods on two nodes of one subnet, with a path for each direction."""
    client, server = ends()
    return PathSnapshot(
        client=client,
        server=server,
        states={
            "node1": state(NODE1, NODE2, there, pod=POD1, to=POD2, pod_mtu=pod_mtu),
            "node2": state(NODE2, NODE1, back or there, pod=POD2, to=POD1, pod_mtu=pod_mtu),
        },
    )


def counted(before: PathSnapshot, device: str, *, there: int, back: int = 100_000) -> PathSnapshot:
    """The snapshot after traffic that a device carried; a tunnel's goes through the NIC, too."""
    devices = {device, "eth0"}
    states = {}
    for name, sent, received in (("node1", there, back), ("node2", back, there)):
        links = dict(before.states[name].links)
        for one in devices & set(links):
            links[one] = grow(grow(links[one], "sent", sent), "received", received)
        states[name] = replace(before.states[name], links=links)
    return replace(before, states=states)


def grow(one: Link, way: Literal["sent", "received"], size: int) -> Link:
    counters = one.sent if way == "sent" else one.received
    assert counters is not None
    more = replace(counters, bytes=counters.bytes + size, packets=counters.packets + size // 1000)
    return replace(one, sent=more) if way == "sent" else replace(one, received=more)


def known_as(
    mode: CalicoMode | None = None,
    *,
    pools: tuple[IPPool, ...] = (),
    mtu_bytes: int | None = None,
    routes_prove: bool = True,
) -> Installation:
    """A cluster with both families on, and one pool in a mode unless others are given."""
    on = (FelixSetting(value="true", where="FelixConfiguration default"),)
    return installation(
        pools=pools or (pool(mode=mode),),
        nodes=(NODE1, NODE2, FAR),
        vxlan_enabled=on,
        ipip_enabled=on,
        mtu_bytes=mtu_bytes,
        dataplane="iptables" if routes_prove else "eBPF",
    )


PAYLOAD = 10_000_000
TRANSFER = Payload(to_server_bytes=PAYLOAD, mss_bytes=1398)

"""The lab held against a real cluster: kernels, objects and timelines, field by field.

``tests/data/real/recorded.json`` is from four nodes with Kubernetes 1.34.4 and Calico 3.33-dev
(manifests, BIRD, one pool), recorded on 30 November 2026.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.calico_node import ADDRESS_ANNOTATION, TUNNELS, Convergence, Programme
from pytest_k8snet.lab.calico.ipam import BLOCKS, Ipam
from pytest_k8snet.lab.calico.pools import POOLS, read_pools
from pytest_k8snet.lab.dataplane import felix, kernel
from pytest_k8snet.lab.dataplane.felix import Behaviour, Block, Datastore, Host, NodeState, Vtep
from pytest_k8snet.lab.dataplane.underlay import node_namespace
from pytest_k8snet.lab.faults import CalicoFaults
from pytest_k8snet.lab.kube import system
from pytest_k8snet.lab.spec import TIMINGS, CalicoSpec, LabSpec, study_nodes

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "data" / "real" / "recorded.json").read_text(encoding="utf-8")
)
MODES = ("never", "vxlan-always", "vxlan-cross-subnet")
NODES = ("master", "node1", "node2", "node3")


def datastore(mode: str) -> Datastore:
    """What Calico knew of the cluster in a mode."""
    hosts = [host(node["metadata"]) for node in RECORDED["nodes"][mode]]
    return Datastore(
        hosts=hosts,
        pools=read_pools(RECORDED["pools"][mode]),
        blocks=[
            Block(cidr=IPv4Network(one["cidr"]), node=one["affinity"].removeprefix("host:"))
            for one in RECORDED["blocks"][mode]
        ],
        routers={one.address.network: one.address.network[1] for one in hosts},
        behaviour=Behaviour.of("v3.33.0-0.dev", "bird"),
    )


def host(metadata: dict[str, Any]) -> Host:
    annotations = metadata["annotations"]
    tunnel = annotations.get(TUNNELS["vxlan"][0])
    return Host(
        name=metadata["name"],
        address=IPv4Interface(annotations[ADDRESS_ANNOTATION]),
        vxlan_tunnel=IPv4Address(tunnel) if tunnel else None,
    )


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("mode", MODES)
def test_a_nodes_kernel_is_as_recorded(mode: str, node: str) -> None:
    answers = RECORDED["kernels"][mode][node]
    real = kernel.parse(answers["routes"], answers["links"], answers["neighbours"], answers["fdb"])
    played = felix.node_state(datastore(mode), node)
    assert played.vxlan == real.vxlan
    assert played.ipip == real.ipip
    assert played.routes == real.routes
    # The kernel has two entries of each peer.
    entries = {Vtep(mac=one.mac, tunnel=one.tunnel, underlay=None) for one in played.vteps}
    entries |= {Vtep(mac=one.mac, tunnel=None, underlay=one.underlay) for one in played.vteps}
    assert entries == real.vteps


# -- Objects ---------------------------------------------------------------------------------------

CALICO = CalicoSpec(vxlan_mode="Always", version="v3.33.0")
#: Calico's objects that the lab does not make, or not whole, and why.
NOT_MADE = {
    "bgppeers": "the recorded one was made by hand, for that cluster's router",
    "status": "no kube-controllers run, which would tell how they are set up",
}
#: What is of one cluster alone.
OWN = ("calicoVersion", "clusterGUID")
#: What calico-node writes into a node while it runs.
WRITTEN_LATER = {ADDRESS_ANNOTATION, TUNNELS["vxlan"][0]}


def test_a_node_is_as_recorded() -> None:
    made = system.node_objects(LabSpec(nodes=study_nodes(), calico=CALICO))
    recorded = RECORDED["node"]["metadata"]["annotations"].items()
    annotations = {name: value for name, value in recorded if name not in WRITTEN_LATER}
    assert made[0]["metadata"]["annotations"] == annotations


@pytest.fixture(scope="module")
def store() -> Store:
    """What the lab has of Calico with one pod and the tunnel of one node."""
    store, spec = Store(calico=CALICO), LabSpec(nodes=study_nodes(), calico=CALICO)
    for key, body in system.objects(spec):
        if key.endswith(".crd.projectcalico.org"):
            store.create(key, body)
    ipam, pools = Ipam(store), read_pools(store.list(POOLS))
    pod = {"namespace": "default", "pod": "web", "timestamp": "now"}
    ipam.assign(pools, "node1", "k8s-pod-network.1", pod)
    ipam.assign(pools, "node1", "vxlan-tunnel-addr-node1", {"type": "vxlanTunnelAddress"})
    return store


@pytest.mark.parametrize("plural", sorted(RECORDED["calico"].keys() - NOT_MADE.keys()))
def test_an_object_of_calico_is_as_recorded(store: Store, plural: str) -> None:
    recorded = RECORDED["calico"][plural][0]
    made = store.list(f"{plural}.crd.projectcalico.org")[0]
    assert recorded.keys() - made.keys() <= NOT_MADE.keys()
    for place in ("annotations", "labels"):
        assert made["metadata"].get(place, {}).keys() == recorded["metadata"].get(place, {}).keys()
    if plural.startswith(("ipamblock", "ipamhandle", "blockaff")):
        assert made["spec"].keys() == recorded["spec"].keys()
    else:
        own = {key: made["spec"][key] for key in OWN if key in made["spec"]}
        if plural == "ippools":
            recorded = RECORDED["pools"]["vxlan-always"][0]
        assert made["spec"] == recorded["spec"] | own


def test_a_block_tells_of_each_address_whose_it_is(store: Store) -> None:
    def told(blocks: list[dict[str, Any]]) -> set[tuple[str, ...]]:
        attributes = [one for block in blocks for one in block["spec"]["attributes"]]
        return {tuple(sorted(one["secondary"])) for one in attributes}

    # Blocks were recorded with pods, but without a tunnel.
    tunnel = ("node", "type")
    assert told(store.list(BLOCKS)) == told(RECORDED["calico"]["ipamblocks"]) | {tunnel}


def test_blocks_of_nodes_lie_scattered(store: Store) -> None:
    ipam, pools = Ipam(store), read_pools(store.list(POOLS))
    for node in NODES:
        ipam.assign(pools, node, node, {})
    found = sorted(int(block.cidr.network_address) for block in ipam.blocks())
    recorded = sorted(
        int(IPv4Network(one["cidr"]).network_address) for one in RECORDED["blocks"]["never"]
    )
    for addresses in (found, recorded):
        assert min(b - a for a, b in itertools.pairwise(addresses)) > 64


# -- Timelines -------------------------------------------------------------------------------------

#: A look every so many seconds, as the recorder's.
STEP_SECONDS = 0.02
#: What the lab does not play, and why.
NOT_PLAYED = {
    "felix_restarted": "no process stands for Felix",
    "tunnel_address_annotation_changed": "annotations are written at once, 0.1 to 0.7 s too early",
    "address_changed": "the address comes and goes with the device",
    "first_route_lost": "where VXLAN goes, a route is replaced in one step; recorded: lost 0.04 s",
}


def played(former: str, mode: str, seed: int) -> dict[str, list[tuple[float, NodeState]]]:
    """What each node holds from a change of the pool on, as the lab plays it."""
    random.seed(seed)
    convergence, loaded = Convergence(TIMINGS["recorded"]), dict[str, Programme]()
    found: dict[str, list[tuple[float, NodeState]]] = {node: [] for node in NODES}
    for step in range(-1, 300):
        data = datastore(former if step < 0 else mode)
        moment = convergence.at(
            step * STEP_SECONDS,
            {node_namespace(n): Programme(state=felix.node_state(data, n)) for n in NODES},
            loaded,
            tunnels=data.tunnels,
            faults=CalicoFaults(),
        )
        loaded = dict(moment.programmes)
        for node in NODES:
            found[node].append((step * STEP_SECONDS, loaded[node_namespace(node)].state))
    return found


def measured(states: list[tuple[float, NodeState]]) -> dict[str, float]:
    """The figures of the recorder's summary, of one node."""
    (_, before), (_, after) = states[0], states[-1]

    def remote(state: NodeState) -> set[IPv4Network]:
        return {route.destination for route in state.routes if not route.blackhole}

    def first(times: Iterator[float]) -> float | None:
        return next(times, None)

    figures = {
        "first_route_lost": first(at for at, one in states if remote(before) - remote(one)),
        "first_route_changed": first(at for at, one in states if one.routes != before.routes),
        "all_routes_back": first(
            at for at, one in states if before.routes != one.routes == after.routes
        ),
        "device_changed": first(at for at, one in states if one.vxlan != before.vxlan),
        "without_any_route": sum(not remote(one) for _, one in states) * STEP_SECONDS,
    }
    return {name: value for name, value in figures.items() if value is not None}


#: The recorder looked every 20 ms, its clock began when the patch was sent, and nodes shared two
#: processors: what the lab does within this of a recorded minimum or maximum is as recorded.
SLACK_SECONDS = 0.06


@pytest.mark.parametrize(
    "transition", [name for name in RECORDED["transitions"] if "without-fabric" not in name]
)
def test_each_step_of_a_transition_falls_within_what_was_recorded(transition: str) -> None:
    former, _, mode = transition.partition("-to-")
    figures = RECORDED["transitions"][transition].items()
    recorded = {name: figure for name, figure in figures if figure}
    compared = set()
    for seed in range(5):
        for node, states in played(former, mode, seed).items():
            for name, value in measured(states).items():
                least, most = recorded[name]["min"], recorded[name]["max"]
                within = least - SLACK_SECONDS <= value <= most + SLACK_SECONDS
                assert within, f"{name} of {node}: {value}, recorded {least} to {most}"
                compared.add(name)
    assert compared | NOT_PLAYED.keys() >= recorded.keys()

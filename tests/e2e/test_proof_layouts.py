"""Lies and layouts: a lie is never proven, and an honest cluster is never refused.

Each row says where packets go in truth. The routes' proof and the wire's are asked by themselves;
each must agree with the truth, and so with the other. A lie is told before the nodes have
converged, which then never succeeds, or once a pair is there, and samples after it notice.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import pytest
from calico_run import POOL, objects
from user_runs import fault, patched

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.change.decision import ChangeSettings, Strategy
from pytest_k8snet.change.readiness import wait_until_good
from pytest_k8snet.cluster.api import Api, connect
from pytest_k8snet.cluster.pods import PodSettings
from pytest_k8snet.errors import LabError, ModeUnavailableError, NotConvergedError, PathError
from pytest_k8snet.lab import LabProcess, LabSpec, start, study_nodes
from pytest_k8snet.lab.spec import Layout, laid_out
from pytest_k8snet.measure.endpoints import Pair
from pytest_k8snet.measure.run import Run, RunSpec
from pytest_k8snet.options import DEFAULT_IMAGE, DEFAULT_WEB_IMAGE
from pytest_k8snet.report.recorder import Recorder
from pytest_k8snet.tools.iperf3 import Iperf3, Iperf3Options
from pytest_k8snet.tools.tool import Payload
from pytest_k8snet.units import Seconds

NEVER = CalicoMode.NEVER
VXLAN, VXLAN_CS = CalicoMode.VXLAN_ALWAYS, CalicoMode.VXLAN_CROSS_SUBNET
IPIP, IPIP_CS = CalicoMode.IPIP_ALWAYS, CalicoMode.IPIP_CROSS_SUBNET
POOLS = "/apis/crd.projectcalico.org/v1/ippools"
FELIX = "/apis/crd.projectcalico.org/v1/felixconfigurations/default"

Scene = Literal["pod_pair", "node_pair", "pod_to_node", "node_to_pod"]
#: Changes a cluster's objects until its block ends.
Change = Callable[[Api], AbstractContextManager[None]]
#: In the lab of an ordinary user tcpdump does not start: there the routes' proof alone is asked.
WIRE = os.geteuid() == 0
#: What gets through of the sampler's probe at least. On a busy machine 1.6 MiB of it
#: were seen to arrive: iperf3 may leave the rest in its buffer.
PROBE_BYTES = 1 << 20
#: How long a lie may take to come true in the kernels.
NOTICED_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cluster, and whether packets go there as its pools say.

    Attributes:
        former: a mode that is entered before.
        lie: what keeps them from it; None for an honest cluster.
        told: when: before the mode is entered, before its pods are made, or once they are there.
        says: what the message has to say of the lie.
        change: how the cluster is set up.
        reverse: whether the server sends.
    """

    mode: CalicoMode | None = VXLAN
    scene: Scene = "pod_pair"
    nodes: tuple[str, ...] = ("node1", "node2")
    former: CalicoMode | None = None
    lie: Change | None = None
    told: Literal["mode", "pods", "pair"] = "pair"
    says: str = ""
    change: Change = field(default=lambda api: nullcontext())
    strategy: Strategy = "in-place"
    reverse: bool = False


@contextmanager
def opened(api: Api, row: Row, timeout_seconds: float = 20.0) -> Iterator[Run]:
    run_id = f"k8snet-{secrets.token_hex(3)}"
    spec = RunSpec(
        run_id=run_id,
        change=ChangeSettings(
            strategy=row.strategy,
            pool=POOL,
            underlay_routes_pods=True,
            timeout_seconds=timeout_seconds,
        ),
        modes=tuple(mode for mode in (row.former, row.mode) if mode is not None),
        pods=PodSettings(image=DEFAULT_IMAGE, web_image=DEFAULT_WEB_IMAGE),
        pod_timeout=Seconds(60),
        node_names=row.nodes,
        wire_proof=WIRE,
    )
    with Run(api, spec, Recorder(None, run_id)) as run:
        assert run.sampler.prover is not None
        # Each proof by itself.
        run.sampler.prover = replace(run.sampler.prover, wire=False)
        yield run


def paired(run: Run, row: Row) -> Pair:
    pair: Pair = getattr(run, row.scene)(row.mode, row.nodes)
    return pair


def proofs(run: Run, pair: Pair, row: Row) -> tuple[str, str, str | None]:
    """What routes and counters say of an exchange, in a word and a text; what the wire lacks."""
    prover, probe = run.sampler.prover, run.sampler.probe
    assert prover is not None
    watch, trouble = prover.watch(pair, probe), None
    if row.reverse:
        options = Iperf3Options(server=pair.server.address, seconds=1, omit_seconds=0, reverse=True)
        try:
            path = run.sampler.sample(Iperf3(), pair, options).record["path"]
        except PathError as exc:
            return "contradicted", exc.found, None
        return path["state"], path["text"], None
    if WIRE:
        # Both look at the same packets.
        trouble = prover.session.watch_wire(watch.before, partial(probe, pair)).trouble()
    else:
        assert probe(pair) is None
    proof = watch.judge(Payload(to_server_bytes=PROBE_BYTES))
    return proof.state, proof.text, trouble


def told(api: Api, row: Row, moment: str) -> AbstractContextManager[None]:
    return nullcontext() if row.lie is None or moment != row.told else row.lie(api)


def agree(api: Api, row: Row) -> None:
    """Play a row; neither proof may say anything else than the truth."""
    before = objects(api)
    hasty = row.lie is not None and row.told == "mode"
    with row.change(api), opened(api, row, 2.0 if hasty else 20.0) as run, ExitStack() as lies:
        if row.former is not None:
            run.enter(row.former)
        lies.enter_context(told(api, row, "mode"))
        if hasty:
            # A mode is tried by a pool of the run's own before a pool of the cluster's is switched.
            with pytest.raises((NotConvergedError, ModeUnavailableError)) as refused:
                paired(run, row)
            assert re.search(row.says, str(refused.value)), refused.value
            return
        lies.enter_context(told(api, row, "pods"))
        if row.lie is None:
            is_honest(run, row)
            return
        pair = paired(run, row)
        lies.enter_context(told(api, row, "pair"))
        is_a_lie(run, pair, row)
    assert objects(api) == before


def is_honest(run: Run, row: Row) -> None:
    try:
        state, text, trouble = proofs(run, paired(run, row), row)
    except (NotConvergedError, ModeUnavailableError) as exc:
        raise AssertionError(f"an honest cluster is refused: {exc}") from exc
    assert (state, trouble) == ("proven", None), (text, trouble)


def is_a_lie(run: Run, pair: Pair, row: Row) -> None:
    # Pods of another MTU send where they should.
    honest_on_the_wire = not WIRE or row.told == "pods"
    deadline = time.monotonic() + NOTICED_SECONDS
    while True:
        state, text, trouble = proofs(run, pair, row)
        # On its way to the lie a kernel may say something else for a moment, and wrong as well.
        noticed = state != "proven" and re.search(row.says, text) is not None
        if noticed and (honest_on_the_wire or trouble is not None):
            assert (trouble is None) == honest_on_the_wire, trouble
            return
        assert time.monotonic() < deadline, f"{state}, and a lie: {text}, on the wire: {trouble}"


def rows(table: dict[str, Row]) -> list[object]:
    return [pytest.param(row, id=name) for name, row in table.items()]


# -- The lies ------------------------------------------------------------------------------------


def faulty(**data: str) -> Change:
    return lambda api: fault(api, **data)


@contextmanager
def flipped_back(api: Api) -> Iterator[None]:
    """Somebody else takes the pool out of its mode, and leaves it so."""
    api.patch(f"{POOLS}/{POOL}", {"spec": {"vxlanMode": "Never", "ipipMode": "Never"}})
    yield


WRONG_MTU = faulty(wrong_mtu="1400")
OVERLAY = faulty(foreign_overlay_on="node1,node2,node3,master")
LIES = {
    "the traffic does not take vxlan": Row(
        lie=faulty(path_not_taken="node1"),
        says="vxlan.calico of node1 sent no packet|expected dev vxlan.calico",
    ),
    "the traffic does not take ipip": Row(
        mode=IPIP,
        lie=faulty(path_not_taken="node1"),
        says="tunl0 of node1 sent no packet|expected dev tunl0",
    ),
    "a node without routes": Row(
        lie=faulty(routes_missing_on="node1"),
        told="mode",
        says="node1.*(expected dev vxlan.calico|has no route to)",
    ),
    # The others cannot answer node1: it is they who lack the route.
    "one direction only": Row(
        mode=IPIP,
        lie=faulty(one_direction="node1"),
        told="mode",
        says="node[23].*(expected dev tunl0|has no route to)",
    ),
    "a node that keeps its old routes": Row(
        former=VXLAN,
        mode=NEVER,
        lie=faulty(stale_route_on="node1"),
        told="mode",
        says="node1 still has vxlan.calico|node1 sends",
    ),
    "a pool that somebody flips back": Row(lie=flipped_back, says="expected dev vxlan.calico"),
    "a tunnel device that never comes": Row(
        lie=faulty(device_missing_on="node2"), told="mode", says="node2 has no vxlan.calico yet"
    ),
    "a tunnel without its address": Row(
        mode=IPIP,
        lie=faulty(device_missing_on="node2"),
        told="mode",
        says="tunl0 of node2 has no tunnel address yet|node2 has no tunl0 yet",
    ),
    "pods with a wrong MTU in vxlan": Row(
        lie=WRONG_MTU, told="pods", says="has 1400, expected 1450 with"
    ),
    "pods with a wrong MTU in ipip": Row(
        mode=IPIP_CS, lie=WRONG_MTU, told="pods", says="has 1400, expected 1480 with"
    ),
    "pods with a wrong MTU in never": Row(
        mode=NEVER, lie=WRONG_MTU, told="pods", says="has 1400, expected 1500 with"
    ),
    "another CNI tunnels what goes direct": Row(mode=NEVER, lie=OVERLAY, says="flannel.1"),
    "another CNI tunnels what goes direct by a router": Row(
        mode=NEVER, nodes=("node1", "node3"), lie=OVERLAY, says="flannel.1"
    ),
}


@pytest.fixture(scope="module")
def api(lab: LabProcess) -> Api:
    return connect(kubeconfig=lab.kubeconfig, context=None)


@pytest.mark.parametrize("row", rows(LIES))
def test_a_lie_is_proven_neither_by_routes_nor_on_the_wire(api: Api, row: Row) -> None:
    agree(api, row)


def test_routes_that_go_wrong_during_the_sample_prove_nothing(api: Api) -> None:
    row = Row()
    with opened(api, row) as run:
        pair, prover = paired(run, row), run.sampler.prover
        assert prover is not None
        watch = prover.watch(pair, run.sampler.probe)
        assert run.sampler.probe(pair) is None
        with fault(api, routes_missing_on="node2"):
            wait_until_good(
                lambda: ["node2 still has its routes"] * goes_by_vxlan(run, pair),
                what="the lie",
                timeout_seconds=NOTICED_SECONDS,
                stability_seconds=0,
            )
            proof = watch.judge(Payload(to_server_bytes=1 << 20))
    assert proof.state == "contradicted"
    assert "after the sample, node2" in proof.text
    assert "before the sample" not in proof.text


def goes_by_vxlan(run: Run, pair: Pair) -> bool:
    assert run.sampler.prover is not None
    client, server = map(run.sampler.prover.end, (pair.client, pair.server))
    state = run.sampler.prover.session.snapshot(client, server).states["node2"]
    return state.route(client.address).device == "vxlan.calico"


# -- The honest clusters ---------------------------------------------------------------------------


def felix(**spec: object) -> Change:
    return lambda api: patched(api, FELIX, {"spec": spec}, {"spec": dict.fromkeys(spec)})


@contextmanager
def pool(api: Api, name: str, **spec: object) -> Generator[None]:
    body = {"ipipMode": "Never", "vxlanMode": "Never", **spec}
    api.create(
        POOLS,
        {
            "apiVersion": "crd.projectcalico.org/v1",
            "kind": "IPPool",
            "metadata": {"name": name},
            "spec": body,
        },
    )
    try:
        yield
    finally:
        api.delete(f"{POOLS}/{name}")


def nodes_kept_from_nat(api: Api) -> AbstractContextManager[None]:
    """The usual remedy against masquerade of packets to nodes."""
    return pool(api, "no-nat-nodes", cidr="192.168.0.0/24", disabled=True)


@contextmanager
def racks(api: Api) -> Generator[None]:
    """A pool for node2 alone, and the other for all the others."""
    here, there = (f"kubernetes.io/hostname {sign} 'node2'" for sign in ("==", "!="))
    default = f"{POOLS}/{POOL}"
    with (
        pool(api, "rack", cidr="10.245.0.0/16", natOutgoing=True, nodeSelector=here),
        patched(
            api, default, {"spec": {"nodeSelector": there}}, {"spec": {"nodeSelector": "all()"}}
        ),
    ):
        yield


HONEST = {
    "a slow dataplane": Row(mode=VXLAN_CS, change=lambda api: fault(api, slow_convergence="0.5")),
    "Felix restarts": Row(change=lambda api: fault(api, felix_restart_gap="1")),
    "a VNI and a port of its own": Row(change=felix(vxlanVNI=8192, vxlanPort=8473)),
    "nodes kept from NAT": Row(scene="pod_to_node", change=nodes_kept_from_nat),
    "nodes kept from NAT, replies": Row(
        scene="pod_to_node", change=nodes_kept_from_nat, reverse=True
    ),
    "hosts excluded from NAT": Row(
        scene="pod_to_node", change=felix(natOutgoingExclusions="IPPoolsAndHostIPs"), reverse=True
    ),
    "a pool for each rack": Row(mode=None, strategy="none", change=racks),
}


@pytest.mark.parametrize("row", rows(HONEST))
def test_an_honest_cluster_is_proven_by_routes_and_on_the_wire(api: Api, row: Row) -> None:
    agree(api, row)


def test_routes_and_wire_agree_in_every_mode_and_scene(api: Api) -> None:
    far: tuple[str, ...] = ("node1", "node3")
    scenes: tuple[Scene, ...] = ("pod_pair", "pod_to_node", "node_to_pod")
    with opened(api, Row(mode=None, strategy="dedicated", nodes=far)) as run:
        for mode in CalicoMode:
            for scene in scenes:
                is_honest(run, Row(mode=mode, scene=scene, nodes=far))


def test_pods_without_a_mode_measure_before_and_after_a_mode(api: Api) -> None:
    row = Row(strategy="dedicated")
    with opened(api, row) as run:
        for mode in (None, VXLAN, None):
            state, text, _ = proofs(run, run.pod_pair(mode), row)
            assert state == "proven", text


# -- The layouts -----------------------------------------------------------------------------------

LAYOUTS: dict[str, Layout] = {
    "node1": "two-nics",
    "node2": "two-nics",
    "node3": "loopback",
    "node4": "bridge",
    "node5": "macvlan",
}
TWO_NICS, LOOPBACK, STACKED = ("node1", "node2"), ("node1", "node3"), ("node4", "node5")


SCENES: tuple[tuple[str, tuple[str, str], Scene, CalicoMode], ...] = (
    ("InternalIP elsewhere", TWO_NICS, "pod_pair", NEVER),
    ("InternalIP elsewhere", TWO_NICS, "node_pair", NEVER),
    ("InternalIP elsewhere", TWO_NICS, "pod_to_node", VXLAN),
    ("InternalIP elsewhere", TWO_NICS, "node_to_pod", VXLAN),
    ("an address on lo", LOOPBACK, "pod_pair", NEVER),
    ("an address on lo", LOOPBACK, "node_pair", NEVER),
    ("an address on lo", LOOPBACK, "pod_pair", VXLAN_CS),
    ("an address on lo", LOOPBACK, "pod_pair", IPIP),
    ("a bridge and a macvlan", STACKED, "pod_pair", VXLAN_CS),
    ("a bridge and a macvlan", STACKED, "node_pair", NEVER),
    ("a bridge and a macvlan", STACKED, "pod_pair", VXLAN),
)
LAID_OUT = {
    f"{name}, {scene}, {mode}": Row(mode=mode, scene=scene, nodes=nodes, strategy="dedicated")
    for name, nodes, scene, mode in SCENES
}


@pytest.fixture(scope="module")
def laid_out_run() -> Generator[Run]:
    """A run on nodes that are laid out in many ways; node6 is behind the router."""
    layouts = [f"{node}={kind}" for node, kind in LAYOUTS.items()]
    with start(LabSpec(nodes=laid_out(study_nodes(7), layouts))) as running:
        api = connect(kubeconfig=running.kubeconfig, context=None)
        with opened(api, Row(mode=None, strategy="dedicated", nodes=tuple(LAYOUTS))) as run:
            yield run
        running.check()


@pytest.mark.parametrize("row", rows(LAID_OUT))
def test_an_honest_layout_is_proven_by_routes_and_on_the_wire(laid_out_run: Run, row: Row) -> None:
    is_honest(laid_out_run, row)


def test_a_vlan_and_a_bond_are_proven_where_the_kernel_has_them() -> None:
    nodes = laid_out(study_nodes(3), ["node1=vlan", "node2=bond"])
    try:
        running = start(LabSpec(nodes=nodes))
    except LabError as exc:
        pytest.skip(f"{exc.problem}: {exc.found}")
    with running:
        api = connect(kubeconfig=running.kubeconfig, context=None)
        for mode in (NEVER, VXLAN):
            agree(api, Row(mode=mode, strategy="dedicated"))

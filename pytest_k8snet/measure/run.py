"""One run on one cluster: its modes, its endpoints, and the pairs made of them."""

from __future__ import annotations

import socket
from functools import cached_property, partial
from typing import TYPE_CHECKING, Self, TypeAlias

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.node_pods import NodePodWatch
from pytest_k8snet.cluster.nodes import choose_nodes, placement
from pytest_k8snet.cluster.pods import PodRequest
from pytest_k8snet.cluster.services import existing_web_service, make_web_service
from pytest_k8snet.errors import NodesError
from pytest_k8snet.measure.endpoint import Endpoint, LocalShell, PodShell
from pytest_k8snet.measure.pair import Pair
from pytest_k8snet.measure.sampler import Sampler
from pytest_k8snet.measure.stage import RunSpec, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_k8snet.calico.bystander import SwitchCost
    from pytest_k8snet.calico.installation import Installation
    from pytest_k8snet.calico.session import PoolRef
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.nodes import Node
    from pytest_k8snet.cluster.pods import Pod
    from pytest_k8snet.cluster.services import WebService
    from pytest_k8snet.measure.observer import Observer
    from pytest_k8snet.tools.host import Machine

__all__ = ["Run", "RunSpec"]

#: A mode, or its name as options and test ids have it.
Mode: TypeAlias = CalicoMode | str


def _known(mode: Mode | None) -> CalicoMode | None:
    return None if mode is None else CalicoMode.parse(str(mode))


class Run:
    """A run on a cluster. A context manager: leaving it deletes and restores everything.

    Attributes:
        run_id: the label of everything that the run makes.
        api: the cluster.
        spec: what the run was asked for.
        sampler: takes the samples.
    """

    def __init__(self, api: Api, spec: RunSpec, observer: Observer) -> None:
        self.run_id = spec.run_id
        self.api = api
        self.spec = spec
        self.sampler = Sampler(observer)
        self._observer = observer
        self._stage = Stage(api, spec, observer)
        self._mode: CalicoMode | None = None
        self._converged: set[tuple[PoolRef, str, str]] = set()

    def __enter__(self) -> Self:
        self._stage.__enter__()
        self.sampler.prover = self._stage.prover
        self.sampler.silence = self._stage.calico.silence
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stage.__exit__(*exc_info)

    @property
    def nodes(self) -> list[Node]:
        """The cluster's usable nodes."""
        return self._stage.nodes

    @property
    def nodes_under_test(self) -> list[Node]:
        """Those that pods are put on, the client's first."""
        return self._stage.nodes_under_test

    @property
    def installation(self) -> Installation:
        """What Calico is here."""
        return self._stage.installation

    def node_pod_watch(self) -> NodePodWatch:
        """Watches the calico-node pods of the nodes that the run has pods on."""
        return NodePodWatch(self.api, lambda: {pod.node for pod in self._stage.workspace.pods()})

    def machine_of(self, node: str) -> Machine | None:
        """What is known of a node's kernel, NIC and tunnels; None if it could not be read."""
        return self._stage.machines.of(node)

    def _ensure(self, wanted: Sequence[PodRequest]) -> list[Pod]:
        return self._stage.workspace.ensure_pods(wanted)

    # -- modes ---------------------------------------------------------------------------------

    def enter(self, mode: Mode) -> PoolRef:
        """Make the mode ready for pods.

        Raises:
            ModeUnavailableError: the cluster cannot have it, or may not be changed.
            NotConvergedError: the nodes did not get there in time.
            SettingsError: there is no mode of that name.
        """
        mode = CalicoMode.parse(str(mode))
        offer = next(offer for offer in self._stage.calico.modes() if offer.mode is mode)
        if offer.available and mode is not self._mode:
            self._observer.started(f"entering {mode}", 3.0)
        try:
            with self._stage.switches.entering(mode):
                pool = self._stage.calico.enter(mode)
        finally:
            self._observer.finished()
        if self._mode is not mode and self.spec.change.strategy == "in-place":
            # Pods keep the MTU of the mode that they were made in.
            self._stage.delete_pods()
        self._mode = mode
        return pool

    def switch_cost(self, mode: Mode) -> SwitchCost:
        """What the change that led to a mode cost two pods that are not under test.

        Raises:
            NothingSwitchedError: no change led to it.
            SettingsError: the run does not watch its changes.
            K8sNetError: why the cost is not known.
        """
        return self._stage.switches.cost(CalicoMode.parse(str(mode)))

    def watch_no_more(self) -> None:
        """Put everything back without watching what that costs: the run was interrupted."""
        self._stage.switches.watched = False

    # -- endpoints -----------------------------------------------------------------------------

    def node(self, name: str | None = None) -> Endpoint:
        """A node by its host network; the client node of ``pod_pair`` unless named."""
        wanted = self._stage.node_named(name) if name else self._stage.client_node
        return Endpoint(
            kind="node",
            name=wanted.name,
            node=wanted.name,
            address=wanted.internal_ip,
            shell=PodShell(self.api, self._stage.host_pod(wanted)),
            sampler=self.sampler,
        )

    def pod(self, mode: Mode | None = None, node: str | None = None) -> Endpoint:
        """A client pod, in the pool of a mode where one is given."""
        pool = self.enter(mode).name if mode is not None else None
        wanted = self._stage.node_named(node) if node else self._stage.client_node
        (pod,) = self._ensure([PodRequest(role="client", node=wanted.name, pool=pool)])
        return self._pod_endpoint(pod, pool, _known(mode))

    @cached_property
    def outside(self) -> Endpoint:
        """The client outside the cluster."""
        prefix = self.spec.outside_prefix
        return Endpoint(
            kind="outside",
            name=" ".join(prefix[:2]) if prefix else socket.gethostname(),
            shell=LocalShell(prefix),
            sampler=self.sampler,
        )

    def _pod_endpoint(self, pod: Pod, pool: str | None, mode: CalicoMode | None) -> Endpoint:
        return Endpoint(
            kind="pod",
            name=pod.name,
            node=pod.node,
            address=pod.address,
            pool=pool,
            mode=mode,
            shell=PodShell(self.api, pod),
            sampler=self.sampler,
        )

    # -- pairs ---------------------------------------------------------------------------------

    def pod_pair(self, mode: Mode | None = None, nodes: tuple[str, str] | None = None) -> Pair:
        """Two pods on two distinct nodes (client's node first), in the pool of a mode."""
        client, server = self._two_nodes(nodes)
        return self._pods_between(client, server, mode)

    def node_pair(self, mode: Mode | None = None, nodes: tuple[str, str] | None = None) -> Pair:
        """Two nodes by their host networks; ``mode`` only says in which mode it is measured."""
        client, server = self._two_nodes(nodes)
        return self._pair("node-node", self.node(client.name), self.node(server.name), mode)

    def pod_to_node(self, mode: Mode | None = None, nodes: tuple[str, str] | None = None) -> Pair:
        """A client pod, and a server in the other node's host network."""
        client, server = self._two_nodes(nodes)
        return self._pair("pod-node", self.pod(mode, client.name), self.node(server.name), mode)

    def node_to_pod(self, mode: Mode | None = None, nodes: tuple[str, str] | None = None) -> Pair:
        """A client in a node's host network, and a server pod on the other node."""
        client, server = self._two_nodes(nodes)
        pool = self.enter(mode).name if mode is not None else None
        (pod,) = self._ensure([PodRequest(role="server", node=server.name, pool=pool)])
        far = self._pod_endpoint(pod, pool, _known(mode))
        return self._pair("node-pod", self.node(client.name), far, mode)

    def same_node_pair(self, mode: Mode | None = None, node: str | None = None) -> Pair:
        """Two pods on one node."""
        wanted = self._stage.node_named(node) if node else self._stage.client_node
        return self._pods_between(wanted, wanted, mode)

    def cross_subnet_pair(self, mode: Mode | None = None) -> Pair:
        """Two pods whose nodes lie in different subnets.

        Raises:
            NodesError: all usable nodes lie in one subnet, or their subnets are unknown.
        """
        far = self._stage.node_across()
        if far is None:
            # Raises with the reason.
            choose_nodes(self._stage.every_node, "cross-subnet", self.spec.node_names)
            raise NodesError("no two usable nodes lie in different subnets")
        return self._pods_between(self._stage.client_node, far, mode)

    def mesh(self, mode: Mode | None = None) -> list[Pair]:
        """Every ordered pair of the nodes under test, as pod pairs.

        Under test are the nodes that the run was told (``--k8snet-nodes``), else those it chose.
        """
        nodes = self.nodes_under_test
        return [
            self._pods_between(client, server, mode)
            for client in nodes
            for server in nodes
            if client is not server
        ]

    def _two_nodes(self, names: tuple[str, str] | None) -> tuple[Node, Node]:
        if names is None:
            return self._stage.client_node, self._stage.server_node
        return self._stage.node_named(names[0]), self._stage.node_named(names[1])

    def _pods_between(self, client: Node, server: Node, named: Mode | None) -> Pair:
        mode = _known(named)
        pool = self.enter(mode) if mode is not None else None
        name = pool.name if pool is not None else None
        near, far = self._ensure(
            [
                PodRequest(role="client", node=client.name, pool=name),
                PodRequest(role="server", node=server.name, pool=name),
            ]
        )
        ends = self._pod_endpoint(near, name, mode), self._pod_endpoint(far, name, mode)
        pair = self._pair("pod-pod", *ends, mode)
        if pool is not None and mode is not None and client is not server:
            self._converge(pool, mode, pair)
        return pair

    def _converge(self, pool: PoolRef, mode: CalicoMode, pair: Pair) -> None:
        key = (pool, pair.client.name, pair.server.name)
        if key in self._converged or self.sampler.prover is None:
            return
        prover = self.sampler.prover
        probed: list[str | None] = []

        def probe() -> str | None:
            # Payload that has passed once says no more the second time; routes are asked again.
            if not probed or probed[-1] is not None:
                probed.append(prover.payload_trouble(pair, self.sampler.probe))
            return probed[-1]

        ends = prover.end(pair.client), prover.end(pair.server)
        self._stage.calico.converge(mode, *ends, probe=probe)
        self._converged.add(key)
        self._stage.look_at_tunnels(mode, [ends[0].node, ends[1].node])

    def _pair(self, scene: str, client: Endpoint, server: Endpoint, mode: Mode | None) -> Pair:
        nodes = (client.node, server.node)
        known = _known(mode)
        return Pair(
            client=client,
            server=server,
            scene="same-node" if client.node == server.node else scene,
            placement=placement(*map(self._stage.node_named, nodes)),
            mode=known,
            sampler=self.sampler,
            make_baseline=partial(self.node_pair, known, nodes),
        )

    # -- services ------------------------------------------------------------------------------

    @cached_property
    def web_service(self) -> WebService:
        """The HTTP target of ``curl``."""
        if self.spec.service is not None:
            return existing_web_service(self.api, self.spec.service)
        self._observer.started("web service of three replicas", 3.0)
        try:
            return make_web_service(self._stage.workspace)
        finally:
            self._observer.finished()

"""One run on one cluster: its nodes, its pods, its modes, and the pairs made of them."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Self

from pytest_k8snet.calico.inspection import inspect
from pytest_k8snet.calico.restore import sweep_dead_runs
from pytest_k8snet.calico.session import CalicoSession, ChangeSettings, PoolRef, Shell
from pytest_k8snet.cluster.nodes import choose_nodes, list_nodes, placement, usable_nodes
from pytest_k8snet.cluster.pods import PodRequest
from pytest_k8snet.cluster.services import existing_web_service, make_web_service
from pytest_k8snet.cluster.workspace import Workspace
from pytest_k8snet.errors import ForbiddenError, K8sNetError, NodesError
from pytest_k8snet.measure.endpoint import Endpoint, LocalShell, PodShell
from pytest_k8snet.measure.facts import cluster_facts, pods_left
from pytest_k8snet.measure.interrupts import first_interrupt_held_back
from pytest_k8snet.measure.pair import Pair
from pytest_k8snet.measure.prover import Prover
from pytest_k8snet.measure.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_k8snet.calico.modes import CalicoMode
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.exec import Completed
    from pytest_k8snet.cluster.nodes import Node
    from pytest_k8snet.cluster.pods import Pod
    from pytest_k8snet.cluster.services import WebService
    from pytest_k8snet.measure.observer import Observer
    from pytest_k8snet.units import BitRate, Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What a run was asked for.

    Attributes:
        run_id: ``k8snet-xxxxxx``; names and labels everything that the run makes.
        link_rate: of the nodes' links, where it is known.
    """

    run_id: str
    change: ChangeSettings
    modes: tuple[CalicoMode, ...]
    node_names: tuple[str, ...]
    namespace: str | None
    image: str
    web_image: str
    pod_timeout: Seconds
    service: str | None
    outside_prefix: tuple[str, ...]
    link_rate: BitRate | None = None


class Run:
    """A run on a cluster. A context manager: leaving it deletes and restores everything.

    Attributes:
        run_id: the label of everything that the run makes.
        nodes: the cluster's usable nodes.
        nodes_under_test: those that pods are put on, the client's first.
        installation: what Calico is here.
        sampler: takes the samples.
    """

    def __init__(self, api: Api, spec: RunSpec, observer: Observer) -> None:
        self.run_id = spec.run_id
        self.api = api
        self.spec = spec
        self._observer = observer
        self._stack = ExitStack()
        self._mode: CalicoMode | None = None
        self._converged: set[tuple[PoolRef, str, str]] = set()
        self.sampler = Sampler(observer)

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._close()

    def _close(self) -> None:
        with first_interrupt_held_back():
            try:
                self._observer.started("putting the cluster back (Ctrl-C twice: leave it)", 2.0)
            finally:
                # Whatever became of the terminal.
                try:
                    self._stack.close()
                finally:
                    self._observer.finished()

    def _open(self) -> None:
        # With those that cannot be used: errors name each with its reason.
        self._every_node = list_nodes(self.api)
        self.nodes = usable_nodes(self._every_node)
        self.installation = inspect(self.api)
        self._record_facts("before")
        names = self.spec.node_names
        self._client_node, self._server_node = choose_nodes(self._every_node, "any", names)
        named = [self._node_named(name) for name in names]
        far = self._node_across()
        chosen = [self._client_node, self._server_node, *([far] if far is not None else [])]
        under_test = self.nodes_under_test = list(
            {node.name: node for node in [*chosen, *named]}.values()
        )
        shells: dict[str, Shell] = {}
        self.calico = self._stack.enter_context(
            CalicoSession(
                self.api,
                installation=self.installation,
                nodes=under_test,
                run_id=self.run_id,
                change=self.spec.change,
                shells=shells,
                on_change=lambda change: self._record_change(change),
                modes=self.spec.modes,
            )
        )
        # Before anything is made in the cluster: what is made from here on is found and deleted
        # by `k8snet restore`, however the run ends.
        self.calico.begin()
        # Runs that change nothing hold no Lease, so beginning has not looked for them.
        with suppress(ForbiddenError):
            sweep_dead_runs(self.api)
        self._workspace = Workspace(
            self.api,
            run_id=self.run_id,
            namespace=self.spec.namespace,
            image=self.spec.image,
            web_image=self.spec.web_image,
            pod_timeout_seconds=float(self.spec.pod_timeout),
        )
        self._stack.callback(self._close_workspace)
        # The session is closed before the workspace is left: own pools go only after their pods.
        self._stack.callback(self._close_calico)
        self._hosts = {host.node: host for host in self._make_hosts(under_test)}
        shells.update({name: partial(self._in_host_pod, it) for name, it in self._hosts.items()})
        self.sampler.prover = Prover(self.calico, {node.name: node for node in self.nodes})

    def _make_hosts(self, nodes: Sequence[Node]) -> list[Pod]:
        """Host-network pods, which are endpoints and see each node's routes.

        Where they are forbidden (PodSecurity, policies), pods can be measured all the same; each
        sample's proof of path then says that it is missing.
        """
        self._observer.started(f"host-network pods on {len(nodes)} nodes", 3.0)
        try:
            return self._ensure([_on_host(node) for node in nodes])
        except ForbiddenError:
            return []
        finally:
            self._observer.finished()

    def _record_facts(self, phase: str) -> None:
        facts = cluster_facts(self.api, self.installation, self.nodes)
        if self.spec.link_rate is not None:
            facts["cluster"]["link_rate_bits_per_second"] = float(self.spec.link_rate)
        self._observer.record("facts", phase=phase, **facts)

    def _record_change(self, change: dict[str, object]) -> None:
        self._observer.record("change", **change)

    def _close_calico(self) -> None:
        # Pods have to go before the pools that their addresses are from; the host-network pods
        # are still needed to see the routes go back.
        try:
            self._delete_pods()
        finally:
            self.calico.close()
        # What cannot be read any more is no trouble of its own at the end.
        with suppress(K8sNetError):
            self.nodes = usable_nodes(self.api)
            self.installation = inspect(self.api)
            self._record_facts("after")

    def _close_workspace(self) -> None:
        try:
            self._workspace.close()
        except K8sNetError:
            # Else the report would say that there was nothing to put back.
            self._record_change(pods_left(self.run_id))
            raise

    def _delete_pods(self) -> None:
        self._workspace.delete_pods([pod for pod in self._workspace.pods() if not pod.host_network])

    def _in_host_pod(self, host: Pod, argv: Sequence[str]) -> Completed:
        return self.api.exec(host.namespace, host.name, argv, timeout_seconds=10.0)

    def _ensure(self, wanted: Sequence[PodRequest]) -> list[Pod]:
        return self._workspace.ensure_pods(wanted)

    # -- modes ---------------------------------------------------------------------------------

    def enter(self, mode: CalicoMode) -> PoolRef:
        """Make the mode ready for pods.

        Raises:
            ModeUnavailableError: the cluster cannot have it, or may not be changed.
            NotConvergedError: the nodes did not get there in time.
        """
        offer = next(offer for offer in self.calico.modes() if offer.mode is mode)
        if offer.available and mode is not self._mode:
            self._observer.started(f"entering {mode}", 3.0)
        try:
            pool = self.calico.enter(mode)
        finally:
            self._observer.finished()
        if self._mode is not mode and self.spec.change.strategy == "in-place":
            # Pods keep the MTU of the mode that they were made in.
            self._delete_pods()
        self._mode = mode
        return pool

    # -- endpoints -----------------------------------------------------------------------------

    def node(self, name: str | None = None) -> Endpoint:
        """A node by its host network; the client node of ``pod_pair`` unless named."""
        wanted = self._node_named(name) if name else self._client_node
        if wanted.name not in self._hosts:
            (host,) = self._ensure([_on_host(wanted)])
            self._hosts[wanted.name] = host
        host = self._hosts[wanted.name]
        return Endpoint(
            kind="node",
            name=wanted.name,
            node=wanted.name,
            address=wanted.internal_ip,
            shell=PodShell(self.api, host),
            sampler=self.sampler,
        )

    def pod(self, mode: CalicoMode | None = None, node: str | None = None) -> Endpoint:
        """A client pod, in the pool of a mode where one is given."""
        pool = self.enter(mode).name if mode is not None else None
        wanted = self._node_named(node) if node else self._client_node
        (pod,) = self._ensure([PodRequest(role="client", node=wanted.name, pool=pool)])
        return self._pod_endpoint(pod, pool)

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

    def _pod_endpoint(self, pod: Pod, pool: str | None) -> Endpoint:
        return Endpoint(
            kind="pod",
            name=pod.name,
            node=pod.node,
            address=pod.address,
            pool=pool,
            shell=PodShell(self.api, pod),
            sampler=self.sampler,
        )

    def _node_named(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.nodes)
        raise NodesError(
            f"no usable node is called {name!r}", found=known, remedy="name one of these"
        )

    # -- pairs ---------------------------------------------------------------------------------

    def pod_pair(
        self, mode: CalicoMode | None = None, nodes: tuple[str, str] | None = None
    ) -> Pair:
        """Two pods on two distinct nodes (client's node first), in the pool of a mode."""
        client, server = self._two_nodes(nodes)
        return self._pods_between(client, server, mode)

    def node_pair(
        self, mode: CalicoMode | None = None, nodes: tuple[str, str] | None = None
    ) -> Pair:
        """Two nodes by their host networks; ``mode`` only says in which mode it is measured."""
        client, server = self._two_nodes(nodes)
        return self._pair("node-node", self.node(client.name), self.node(server.name), mode)

    def pod_to_node(
        self, mode: CalicoMode | None = None, nodes: tuple[str, str] | None = None
    ) -> Pair:
        """A client pod, and a server in the other node's host network."""
        client, server = self._two_nodes(nodes)
        return self._pair("pod-node", self.pod(mode, client.name), self.node(server.name), mode)

    def node_to_pod(
        self, mode: CalicoMode | None = None, nodes: tuple[str, str] | None = None
    ) -> Pair:
        """A client in a node's host network, and a server pod on the other node."""
        client, server = self._two_nodes(nodes)
        pool = self.enter(mode).name if mode is not None else None
        (pod,) = self._ensure([PodRequest(role="server", node=server.name, pool=pool)])
        return self._pair("node-pod", self.node(client.name), self._pod_endpoint(pod, pool), mode)

    def same_node_pair(self, mode: CalicoMode | None = None, node: str | None = None) -> Pair:
        """Two pods on one node."""
        wanted = self._node_named(node) if node else self._client_node
        return self._pods_between(wanted, wanted, mode)

    def cross_subnet_pair(self, mode: CalicoMode | None = None) -> Pair:
        """Two pods whose nodes lie in different subnets.

        Raises:
            NodesError: all usable nodes lie in one subnet, or their subnets are unknown.
        """
        far = self._node_across()
        if far is None:
            # Raises with the reason.
            choose_nodes(self._every_node, "cross-subnet", self.spec.node_names)
            raise NodesError("no two usable nodes lie in different subnets")
        return self._pods_between(self._client_node, far, mode)

    def mesh(self, mode: CalicoMode | None = None) -> list[Pair]:
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
            return self._client_node, self._server_node
        return self._node_named(names[0]), self._node_named(names[1])

    def _node_across(self) -> Node | None:
        """A node in another subnet than the client node's, if there is one."""
        for node in self.nodes:
            if placement(self._client_node, node) == "cross-subnet":
                return node
        return None

    def _pods_between(self, client: Node, server: Node, mode: CalicoMode | None) -> Pair:
        pool = self.enter(mode) if mode is not None else None
        name = pool.name if pool is not None else None
        near, far = self._ensure(
            [
                PodRequest(role="client", node=client.name, pool=name),
                PodRequest(role="server", node=server.name, pool=name),
            ]
        )
        ends = self._pod_endpoint(near, name), self._pod_endpoint(far, name)
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
                probed.append(self.sampler.probe(pair))
            return probed[-1]

        ends = prover.end(pair.client), prover.end(pair.server)
        self.calico.converge(mode, *ends, probe=probe)
        self._converged.add(key)

    def _pair(
        self, scene: str, client: Endpoint, server: Endpoint, mode: CalicoMode | None
    ) -> Pair:
        nodes = (client.node, server.node)
        return Pair(
            client=client,
            server=server,
            scene="same-node" if client.node == server.node else scene,
            placement=placement(*map(self._node_named, nodes)),
            mode=mode,
            sampler=self.sampler,
            make_baseline=partial(self.node_pair, mode, nodes),
        )

    # -- services ------------------------------------------------------------------------------

    @cached_property
    def web_service(self) -> WebService:
        """The HTTP target of ``curl``."""
        if self.spec.service is not None:
            return existing_web_service(self.api, self.spec.service)
        self._observer.started("web service of three replicas", 3.0)
        try:
            return make_web_service(self._workspace)
        finally:
            self._observer.finished()


def _on_host(node: Node) -> PodRequest:
    return PodRequest(role="host", node=node.name, host_network=True)

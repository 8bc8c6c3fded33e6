"""One run on one cluster: its modes, its endpoints, and the pairs made of them."""

from __future__ import annotations

import hashlib
import signal
import socket
import threading
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from types import FrameType
from typing import Self, TypeAlias

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.calico.installation import Installation
from pytest_k8snet.calico.kernel import TUNNEL_DEVICES, Shell
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.policies import PolicyEnd, suspects
from pytest_k8snet.change.addresses import masquerade
from pytest_k8snet.change.decision import ChangeSettings
from pytest_k8snet.change.lease import LEASE_SECONDS
from pytest_k8snet.change.restore import sweep_dead_runs
from pytest_k8snet.change.session import CalicoSession, PoolRef
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.nodes import (
    Node,
    choose_nodes,
    list_nodes,
    measured_address,
    placement,
    usable_nodes,
)
from pytest_k8snet.cluster.pods import Pod, PodRequest, PodSettings
from pytest_k8snet.cluster.services import (
    WebService,
    begin_web_service,
    existing_web_service,
    make_web_service,
    serve_from,
)
from pytest_k8snet.cluster.workspace import Workspace
from pytest_k8snet.errors import (
    ConnectError,
    ForbiddenError,
    K8sNetError,
    LockedError,
    NodesError,
    NotConvergedError,
    PodError,
    RestoreError,
    SettingsError,
)
from pytest_k8snet.measure.disruption import SwitchCost, Switches
from pytest_k8snet.measure.endpoints import Endpoint, LocalShell, Pair, PodShell
from pytest_k8snet.measure.facts import Machines, cluster_facts
from pytest_k8snet.measure.guards import NodePodWatch
from pytest_k8snet.measure.sampler import Observer, PathProver, Sampler
from pytest_k8snet.tools.host import Machine
from pytest_k8snet.units import BitRate, Seconds

#: A mode, or its name as options and test ids have it.
Mode: TypeAlias = CalicoMode | str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What a run was asked for.

    Attributes:
        run_id: ``k8snet-xxxxxx``; names and labels everything that the run makes.
        pods: what the user has set for all pods.
        node_names: the nodes under test, client first; empty leaves the choice to the run.
        zones: the client's zone and the server's, or one for both; empty takes any.
        fixtures: those by which tests without a mode will ask for pods, which then start at once.
        link_rate: of the nodes' links, where it is known.
        watch_switches: whether to watch what changes of Calico cost other pods.
        wire_proof: whether paths are to be proven by captures as well.
    """

    run_id: str
    change: ChangeSettings
    modes: tuple[CalicoMode, ...]
    pods: PodSettings
    pod_timeout: Seconds
    node_names: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    namespace: str | None = None
    service: str | None = None
    fixtures: frozenset[str] = frozenset()
    outside_prefix: tuple[str, ...] = ()
    link_rate: BitRate | None = None
    watch_switches: bool = False
    wire_proof: bool = False


class Run:
    """A run on a cluster. A context manager: leaving it deletes and restores everything.

    Attributes:
        run_id: the label of everything that the run makes.
        api: the cluster.
        spec: what the run was asked for.
        sampler: takes the samples.
        nodes: the cluster's usable nodes.
        nodes_under_test: those that pods are put on, the client's first.
        installation: what Calico is here.
        client_node: where clients are, unless a node is named.
        server_node: where servers are, unless a node is named.
    """

    nodes: list[Node]
    nodes_under_test: list[Node]
    installation: Installation
    client_node: Node
    server_node: Node

    def __init__(self, api: Api, spec: RunSpec, observer: Observer) -> None:
        self.run_id = spec.run_id
        self.api = api
        self.spec = spec
        self.sampler = Sampler(observer)
        self._observer = observer
        self._stack = ExitStack()
        #: Run commands in host-network pods, which see each node's routes; by node name.
        self._shells: dict[str, Shell] = {}
        self._machines = Machines(self._shells)
        self._mode: CalicoMode | None = None
        self._converged: set[tuple[PoolRef, str, str]] = set()

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._close()

    # -- Modes --------------------------------------------------------------------------------

    def enter(self, mode: Mode) -> PoolRef:
        """Make a mode ready for pods, and return the pool that has it.

        Raises:
            ModeUnavailableError: the cluster cannot have it, or may not be changed.
            NotConvergedError: the nodes did not get there in time.
            SettingsError: there is no mode of that name.
        """
        mode = CalicoMode.parse(str(mode))
        if mode is not self._mode:
            self._observer.started(f"entering {mode}", 3.0)
        try:
            # Before a switch is watched: it is no part of what the switch costs.
            self._calico.prove_first()
            with self._switches.entering(mode):
                pool = self._calico.enter(mode)
        finally:
            self._observer.finished()
        if self._mode is not mode and self.spec.change.strategy == "in-place":
            # Pods keep the MTU of the mode that they were made in.
            self._delete_pods()
        self._mode = mode
        return pool

    def switch_cost(self, mode: Mode) -> SwitchCost:
        """Return what the change that led to a mode cost two pods that are not under test.

        Raises:
            NothingSwitchedError: no change led to it.
            SettingsError: the run does not watch its changes.
            K8sNetError: why the cost is not known.
        """
        return self._switches.cost(CalicoMode.parse(str(mode)))

    def watch_no_more(self) -> None:
        """Put everything back without watching what that costs: the run was interrupted."""
        self._switches.watched = False

    # -- Endpoints ----------------------------------------------------------------------------

    def node(self, name: str | None = None) -> Endpoint:
        """Return a node, measured by its host network; the client's node unless named.

        Raises:
            NodesError: there is no usable node of that name, or it has no address of its own.
            PodError: its host-network pod did not start.
        """
        wanted = self._node_named(name) if name else self.client_node
        if wanted.name not in self._hosts:
            (self._hosts[wanted.name],) = self._workspace.ensure_pods([self._on_host(wanted)])
        host = self._hosts[wanted.name]
        # A node that may not be read has the address of its host-network pod.
        read = bool(wanted.address or wanted.labels)
        return Endpoint(
            kind="node",
            name=wanted.name,
            node=wanted.name,
            address=measured_address(wanted, self._every_node) if read else host.address,
            shell=PodShell(self.api, host),
            sampler=self.sampler,
        )

    def pod(self, mode: Mode | None = None, node: str | None = None) -> Endpoint:
        """Return a client pod.

        Args:
            mode: whose pool the pods take addresses from; entered first. None leaves that to the
                cluster.
            node: where it runs; the client's node unless named.

        Raises:
            CalicoError: the mode cannot be had, or did not come into effect.
            NodesError: there is no usable node of that name.
            PodError: a pod did not start.
        """
        wanted = self._node_named(node) if node else self.client_node
        pool = self.enter(mode).on(wanted.name) if mode is not None else None
        (pod,) = self._workspace.ensure_pods([self._pod_request("client", wanted, pool)])
        return self._pod_endpoint(pod, pool, _known(mode))

    @cached_property
    def outside(self) -> Endpoint:
        """The client outside the cluster: this machine, or where ``--k8snet-outside`` leads."""
        prefix = self.spec.outside_prefix
        return Endpoint(
            kind="outside",
            name=" ".join(prefix[:2]) if prefix else socket.gethostname(),
            shell=LocalShell(prefix),
            sampler=self.sampler,
        )

    def _pod_request(self, role: str, node: Node, pool: str | None) -> PodRequest:
        # Pods keep the MTU of their making: once a mode has changed it, there are new ones.
        epoch = self._calico.installation.mtu_overhead_bytes()
        return PodRequest(role=role, node=node.name, pool=pool, epoch=epoch)

    def _pod_endpoint(self, pod: Pod, pool: str | None, mode: CalicoMode | None) -> Endpoint:
        return Endpoint(
            kind="pod",
            name=pod.name,
            node=pod.node,
            address=pod.address,
            pool=pool,
            mode=mode,
            masqueraded=masquerade(self.installation, pod.address),
            shell=PodShell(self.api, pod),
            sampler=self.sampler,
        )

    # -- Pairs --------------------------------------------------------------------------------

    def pod_pair(self, mode: Mode | None = None, nodes: tuple[str, str] | None = None) -> Pair:
        """Return a client pod and a server pod on two distinct nodes.

        Args:
            mode: whose pool the pods take addresses from; entered first. None leaves that to the
                cluster.
            nodes: names of the client's node and the server's; the run's own two unless named.

        Raises:
            CalicoError: the mode cannot be had, or did not come into effect.
            NodesError: there is no usable node of that name.
            PodError: a pod did not start.
        """
        client, server = self._two_nodes(nodes)
        return self._pods_between(client, server, mode)

    def node_pair(self, mode: Mode | None = None, nodes: tuple[str, str] | None = None) -> Pair:
        """Return two nodes, measured by their host networks: the baseline of ``pod_pair``.

        Args:
            mode: recorded with the samples; nothing is entered.
            nodes: names of the client's node and the server's; the run's own two unless named.

        Raises:
            NodesError: there is no usable node of that name.
            PodError: a host-network pod did not start.
        """
        client, server = self._two_nodes(nodes)
        return self._pair("node-node", self.node(client.name), self.node(server.name), mode)

    def pod_to_node(self, mode: Mode | None = None, nodes: tuple[str, str] | None = None) -> Pair:
        """Return a client pod, and a server in the other node's host network.

        Takes and raises what :meth:`pod_pair` does.
        """
        client, server = self._two_nodes(nodes)
        return self._pair("pod-node", self.pod(mode, client.name), self.node(server.name), mode)

    def node_to_pod(self, mode: Mode | None = None, nodes: tuple[str, str] | None = None) -> Pair:
        """Return a client in a node's host network, and a server pod on the other node.

        Takes and raises what :meth:`pod_pair` does.
        """
        client, server = self._two_nodes(nodes)
        pool = self.enter(mode).on(server.name) if mode is not None else None
        (pod,) = self._workspace.ensure_pods([self._pod_request("server", server, pool)])
        far = self._pod_endpoint(pod, pool, _known(mode))
        return self._pair("node-pod", self.node(client.name), far, mode)

    def same_node_pair(self, mode: Mode | None = None, node: str | None = None) -> Pair:
        """Return two pods on one node, the client's unless named: no wire lies between them.

        Raises what :meth:`pod_pair` does.
        """
        wanted = self._node_named(node) if node else self.client_node
        return self._pods_between(wanted, wanted, mode)

    def cross_subnet_pair(self, mode: Mode | None = None) -> Pair:
        """Return two pods whose nodes lie in different subnets.

        Raises:
            NodesError: all usable nodes lie in one subnet, or their subnets are unknown.
        """
        far = self._node_across()
        if far is None:
            # Raises with the reason.
            choose_nodes(
                self._every_node, "cross-subnet", self.spec.node_names, zones=self.spec.zones
            )
            raise NodesError("no two usable nodes lie in different subnets")
        return self._pods_between(self.client_node, far, mode)

    def mesh(self, mode: Mode | None = None) -> list[Pair]:
        """Return a pod pair for every ordered pair of the nodes under test.

        Under test are the nodes of ``--k8snet-nodes``, else those that the run chose.
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
            return self.client_node, self.server_node
        return self._node_named(names[0]), self._node_named(names[1])

    def _pods_between(self, client: Node, server: Node, named: Mode | None) -> Pair:
        mode = _known(named)
        pool = self.enter(mode) if mode is not None else None
        names = [pool.on(node.name) if pool is not None else None for node in (client, server)]
        near, far = self._workspace.ensure_pods(
            [
                self._pod_request("client", client, names[0]),
                self._pod_request("server", server, names[1]),
            ]
        )
        ends = self._pod_endpoint(near, names[0], mode), self._pod_endpoint(far, names[1], mode)
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
        try:
            self._calico.converge(mode, *ends, probe=probe)
        except NotConvergedError as exc:
            if said := self._suspects([pair.client, pair.server], ""):
                exc.found = f"{exc.found}\n{said}"
            raise
        self._converged.add(key)
        if mode.family != "none":
            # Their tunnels may have come up since they were read.
            device, nodes = TUNNEL_DEVICES[mode.family], [end.node for end in ends]
            self._look_at_machines(self._machines.lacking(nodes, device))

    def _prove_hops(
        self, mode: CalicoMode, pool: PoolRef, hops: Sequence[tuple[Node, Node]]
    ) -> None:
        """Send payload between pods of a pool, on the nodes of each hop."""
        nodes = list({node.name: node for hop in hops for node in hop}.values())
        pods = self._workspace.ensure_pods(
            [self._pod_request("trial", node, pool.name) for node in nodes]
        )
        try:
            ends = {pod.node: self._pod_endpoint(pod, pool.name, mode) for pod in pods}
            for near, far in hops:
                pair = self._pair("pod-pod", ends[near.name], ends[far.name], mode)
                self._converge(pool, mode, pair)
        finally:
            self._workspace.delete_pods(pods)

    def _suspects(self, endpoints: Sequence[Endpoint], url: str) -> str:
        """Name the policies that may keep a client from the others; empty if there is none."""
        ends = [
            PolicyEnd.of_pod(self.api, one.shell.pod, "Ingress" if number else "Egress")
            for number, one in enumerate(endpoints)
            if isinstance(one.shell, PodShell)
        ]
        found = suspects(self.api, self.installation.group, ends, url=url)
        return f"policies that may stand in the way: {'; '.join(found)}" if found else ""

    def _pair(self, scene: str, client: Endpoint, server: Endpoint, mode: Mode | None) -> Pair:
        nodes = (client.node, server.node)
        known = _known(mode)
        return Pair(
            client=client,
            server=server,
            scene="same-node" if client.node == server.node else scene,
            placement=placement(*map(self._node_named, nodes)),
            mode=known,
            sampler=self.sampler,
            make_baseline=partial(self.node_pair, known, nodes),
            make_web=(
                partial(self._web_pair, client, server, known) if server.kind == "pod" else None
            ),
        )

    # -- Services -----------------------------------------------------------------------------

    def web(self, mode: Mode | None = None, node: str | None = None) -> WebService:
        """Return the HTTP target of ``curl``.

        Args:
            mode: in whose pool the pod behind it has its address; entered first. None makes three
                replicas, anywhere, unless a node is named.
            node: where the pod runs; with a mode the server's node, so that the wire lies between,
                unless named.

        Returns:
            A Service of the run's own, or that of ``--k8snet-service``, which is as it is.

        Raises:
            CalicoError: the mode cannot be had, or did not come into effect.
            NodesError: there is no usable node of that name.
            ClusterError: its pods did not start, or the existing Service cannot be used.
        """
        if self.spec.service is not None or (mode is None and node is None):
            return self.web_service
        known = _known(mode)
        pool = self.enter(known).name if known is not None else None
        wanted = self._node_named(node) if node else self.server_node
        self._observer.started(f"web service on {wanted.name}", 3.0)
        try:
            request = self._web_request(wanted, pool, known)
            return serve_from(self._workspace, request, served_in=str(known or ""))
        finally:
            self._observer.finished()

    @cached_property
    def web_service(self) -> WebService:
        """The HTTP target of no mode: a Service of the run's own, or ``--k8snet-service``."""
        if self.spec.service is not None:
            return existing_web_service(self.api, self.spec.service)
        self._observer.started("web service of three replicas", 3.0)
        try:
            return make_web_service(self._workspace)
        finally:
            self._observer.finished()

    def _web_request(self, node: Node, pool: str | None, mode: CalicoMode | None) -> PodRequest:
        # The role selects the pod for its Service, which is no other mode's nor node's.
        told_apart = hashlib.sha256(f"{mode} {pool} {node.name}".encode()).hexdigest()[:8]
        return replace(self._pod_request(f"web-{told_apart}", node, pool), serves_http=True)

    def _web_pair(self, client: Endpoint, server: Endpoint, mode: CalicoMode | None) -> Pair:
        """Return a pair of the same client and a web server beside the server, in its pool."""
        request = self._web_request(self._node_named(server.node), server.pool, mode)
        (pod,) = self._workspace.ensure_pods([request])
        web = self._pod_endpoint(pod, server.pool, mode)
        return self._pair(f"{client.kind}-pod", client, web, mode)

    # -- What the gates ask -------------------------------------------------------------------

    def node_pod_watch(self) -> NodePodWatch:
        """Watch the calico-node pods of the nodes that the run has pods on."""
        return NodePodWatch(self.api, lambda: {pod.node for pod in self._workspace.pods()})

    def machine_of(self, node: str) -> Machine | None:
        """Return what is known of a node's kernel, NIC and tunnels; None if it is unknown."""
        return self._machines.of(node)

    # -- Beginning ----------------------------------------------------------------------------

    def _open(self) -> None:
        self.installation = inspect(
            self.api,
            tolerations=self.spec.pods.tolerations,
            own_pools=self.spec.change.makes_pools,
        )
        self._every_node = self._wanted_nodes()
        self._observer.hide("node", *(node.name for node in self._every_node))
        self.nodes = usable_nodes(self._every_node)
        self._record_facts("before")
        names, zones = self.spec.node_names, self.spec.zones
        self.client_node, self.server_node = choose_nodes(
            self._every_node, "any", names, zones=zones
        )
        named = [self._node_named(name) for name in names]
        far = self._node_across()
        chosen = [self.client_node, self.server_node, *([far] if far is not None else [])]
        every = {node.name: node for node in [*chosen, *named]}
        under_test = self.nodes_under_test = list(every.values())
        self._calico = self._stack.enter_context(
            CalicoSession(
                self.api,
                installation=self.installation,
                nodes=under_test,
                run_id=self.spec.run_id,
                change=self.spec.change,
                shells=self._shells,
                on_change=self._record_change,
                modes=self.spec.modes,
                prove_hops=self._prove_hops,
                tolerations=self.spec.pods.tolerations,
                on_wait=lambda why: self._observer.started(why, LEASE_SECONDS),
            )
        )
        # Before anything is made in the cluster: what is made from here on is found and deleted
        # by `k8snet restore`, however the run ends.
        try:
            self._calico.begin()
        finally:
            self._observer.finished()
        # Runs that change nothing hold no Lease, so beginning has not looked for them.
        sweep_dead_runs(self.api)
        self._workspace = Workspace(
            self.api,
            run_id=self.spec.run_id,
            namespace=self.spec.namespace,
            settings=self.spec.pods,
            pod_timeout_seconds=float(self.spec.pod_timeout),
            nodes=self._every_node,
        )
        self._switches = Switches(
            self._calico,
            self._workspace,
            self._observer,
            nodes=(self.client_node.name, self.server_node.name),
            watched=self.spec.watch_switches,
        )
        self._stack.push(self._close_workspace)
        # The session is closed before the workspace is left: own pools go only after their pods.
        self._stack.callback(self._close_calico)
        self._hosts = {host.node: host for host in self._make_hosts(under_test)}
        self._shells |= {
            name: partial(self.api.exec, host.namespace, host.name, timeout_seconds=10.0)
            for name, host in self._hosts.items()
        }
        if self.spec.wire_proof:
            self._calico.check_wire()
        nodes_by_name = {node.name: node for node in self.nodes}
        self.sampler.prover = PathProver(self._calico, nodes_by_name, wire=self.spec.wire_proof)
        self.sampler.quiet_period = self._calico.quiet_period
        self.sampler.suspects = self._suspects
        self._look_at_machines(under_test)
        if "web_service" in self.spec.fixtures:
            # Its pods would else start while the first sample is taken.
            with suppress(K8sNetError):
                _ = self.web_service

    def _wanted_nodes(self) -> list[Node]:
        """Return the nodes that the user wants to be used.

        Raises:
            ForbiddenError: the user may not list nodes, and names none.
        """
        wanted = self.spec.pods.node_labels.items()
        nodes: Sequence[Node] = self.installation.nodes
        try:
            if not nodes:
                # Says why.
                nodes = list_nodes(self.api, tolerations=self.spec.pods.tolerations)
        except ForbiddenError:
            if not self.spec.node_names or wanted:
                raise
            # Of a node that may not be read its name is known, and the scheduler says the rest.
            return [Node(name=name, internal_ip="") for name in self.spec.node_names]
        return [node for node in nodes if wanted <= node.labels.items()]

    def _make_hosts(self, nodes: Sequence[Node]) -> list[Pod]:
        """Host-network pods, which are endpoints and see each node's routes.

        Where they are forbidden (PodSecurity, policies), pods can be measured all the same; each
        sample's proof of path then says that it is missing.

        Raises:
            SettingsError: they are forbidden, and the wire proof was asked for.
        """
        hosts = [self._on_host(node) for node in nodes]
        expected = [*hosts, *self._expected_pods()]
        self._observer.started(f"{len(expected)} pods on {len(nodes)} nodes", 3.0)
        try:
            if "web_service" in self.spec.fixtures and self.spec.service is None:
                # What keeps it from being made is told to the test that asks for it.
                with suppress(K8sNetError):
                    begin_web_service(self._workspace)
            try:
                return self._workspace.ensure_pods(expected)[: len(hosts)]
            except PodError:
                # Whichever test needs the one that does not start will hear of it.
                return self._workspace.ensure_pods(hosts)
        except ForbiddenError as exc:
            if self.spec.wire_proof:
                raise SettingsError(
                    "the wire proof needs host-network pods that may capture, and the cluster "
                    "forbids them",
                    found=exc.brief,
                    remedy="allow the Pod Security level privileged in the namespace, or go "
                    "without: -o k8snet_wire_proof=false",
                ) from exc
            return []
        finally:
            self._observer.finished()

    def _expected_pods(self) -> list[PodRequest]:
        """Return the pods of the client's and the server's node that tests will ask for."""
        clients = {"pod_pair", "pod_to_node", "same_node_pair", "cross_subnet_pair", "pod"}
        servers = {"pod_pair", "node_to_pod"}
        return [
            PodRequest(role=role, node=node.name)
            for role, node, fixtures in (
                ("client", self.client_node, clients),
                ("server", self.server_node, servers),
            )
            if fixtures & self.spec.fixtures
        ]

    def _on_host(self, node: Node) -> PodRequest:
        return PodRequest(
            role="host", node=node.name, host_network=True, capture=self.spec.wire_proof
        )

    def _node_named(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.nodes)
        raise NodesError(
            f"no usable node is called {name!r}", found=known, remedy="name one of these"
        )

    def _node_across(self) -> Node | None:
        """Return a node in another subnet than the client node's, if there is one."""
        across = (
            node for node in self.nodes if placement(self.client_node, node) == "cross-subnet"
        )
        return next(across, None)

    def _look_at_machines(self, nodes: Sequence[Node]) -> None:
        """Read and record what these nodes are made of."""
        if any(node.name in self._hosts for node in nodes):
            self._machines.read(nodes)
            self._record_facts("before")

    def _record_facts(self, phase: str) -> None:
        facts = cluster_facts(
            self.api, self.installation, self.nodes, self._machines, self.spec.link_rate
        )
        self._observer.record("facts", phase=phase, **facts)

    def _record_change(self, change: dict[str, object]) -> None:
        self._observer.record("change", **change)

    # -- End ----------------------------------------------------------------------------------

    def _close(self) -> None:
        with interrupts_held_back():
            try:
                self._observer.started("restoring the cluster (Ctrl-C twice: leave it)", 2.0)
            finally:
                # Whatever became of the terminal.
                try:
                    self._stack.close()
                finally:
                    self._observer.finished()

    def _close_calico(self) -> None:
        # Pods have to go before pools of the run's own; a pool of the cluster's own waits for
        # none. The host-network pods are still needed to see the routes go back.
        try:
            if self.spec.change.strategy == "dedicated":
                self._delete_pods()
        finally:
            with self._switches.restoring():
                self._calico.close()
        # What cannot be read any more is no trouble of its own at the end.
        with suppress(K8sNetError):
            self.installation = inspect(
                self.api, tolerations=self.spec.pods.tolerations, known=self.installation
            )
            names = {node.name for node in self.nodes}
            self.nodes = [node for node in self.installation.nodes if node.name in names]
            self._machines.read(self.nodes_under_test)
            self._record_facts("after")

    def _close_workspace(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self._workspace.close()
        except K8sNetError:
            # Else the report would say that there was nothing to put back.
            what, made = "made pods", f"pods of run {self.run_id}"
            nothing = {"before": None, "after": None, "seconds": 0.0}
            self._record_change({"what": what, "object": made, "state": "failed", **nothing})
            # That Calico could not be restored is worse, and what restores it deletes the pods.
            if not isinstance(error, RestoreError | LockedError | ConnectError):
                raise

    def _delete_pods(self) -> None:
        """Delete the run's pods, but for those of the host network and of the switches' watch."""
        pods = [pod for pod in self._workspace.pods() if not pod.host_network]
        self._workspace.delete_pods([pod for pod in pods if pod not in self._switches.pods])


def _known(mode: Mode | None) -> CalicoMode | None:
    return None if mode is None else CalicoMode.parse(str(mode))


@contextmanager
def interrupts_held_back() -> Generator[None]:
    """Let the block come to its end whatever asks the process to end.

    One SIGINT passes without effect, as of an impatient key; the next one ends the block as ever.
    SIGTERM and SIGHUP are answered after the block, by whoever answered them before. Those that are
    ignored, or left to the kernel, stay so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if callable(handler := signal.getsignal(number))
    }
    held: list[signal.Signals] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(number, before[signal.SIGINT])
        else:
            held.append(signal.Signals(number))

    for number in before:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if held:
        before[held[0]](held[0], None)

"""What a run sets up on a cluster, and takes down again whatever happens.

Knows nothing of pairs and figures.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.calico.kernel import TUNNEL_DEVICES, Shell
from pytest_k8snet.calico.restore import sweep_dead_runs
from pytest_k8snet.calico.session import CalicoSession, ChangeSettings
from pytest_k8snet.cluster.nodes import choose_nodes, list_nodes, placement, usable_nodes
from pytest_k8snet.cluster.pods import PodRequest
from pytest_k8snet.cluster.workspace import Workspace
from pytest_k8snet.errors import ForbiddenError, K8sNetError, NodesError, SettingsError
from pytest_k8snet.measure.facts import cluster_facts, pods_left
from pytest_k8snet.measure.interrupts import interrupts_held_back
from pytest_k8snet.measure.machines import Machines
from pytest_k8snet.measure.prover import Prover
from pytest_k8snet.measure.switches import Switches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_k8snet.calico.modes import CalicoMode
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.exec import Completed
    from pytest_k8snet.cluster.nodes import Node
    from pytest_k8snet.cluster.pods import Pod
    from pytest_k8snet.measure.observer import Observer
    from pytest_k8snet.units import BitRate, Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What a run was asked for.

    Attributes:
        run_id: ``k8snet-xxxxxx``; names and labels everything that the run makes.
        link_rate: of the nodes' links, where it is known.
        watch_switches: whether to watch what changes of Calico cost other pods.
        wire_proof: whether paths are to be proven by captures as well.
    """

    run_id: str
    change: ChangeSettings
    modes: tuple[CalicoMode, ...]
    image: str
    web_image: str
    pod_timeout: Seconds
    node_names: tuple[str, ...] = ()
    namespace: str | None = None
    service: str | None = None
    outside_prefix: tuple[str, ...] = ()
    link_rate: BitRate | None = None
    watch_switches: bool = False
    wire_proof: bool = False


class Stage:
    """Nodes, Calico and pods of one run. A context manager: leaving it deletes and restores all.

    Attributes:
        api: the cluster.
        spec: what the run was asked for.
        every_node: the cluster's nodes, with those that cannot be used: errors name each.
        nodes: the usable ones.
        nodes_under_test: those that pods are put on, the client's first.
        client_node: where clients are, unless a node is named.
        server_node: where servers are, unless a node is named.
        installation: what Calico is here.
        calico: the modes, and how they are entered.
        workspace: the run's pods.
        switches: watches what changes of Calico cost other pods.
        prover: proves the path of a sample.
        machines: what the nodes under test are made of.
    """

    def __init__(self, api: Api, spec: RunSpec, observer: Observer) -> None:
        self.api = api
        self.spec = spec
        self._observer = observer
        self._stack = ExitStack()
        self._shells: dict[str, Shell] = {}
        self.machines = Machines(self._shells)

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
        with interrupts_held_back():
            try:
                self._observer.started("putting the cluster back (Ctrl-C twice: leave it)", 2.0)
            finally:
                # Whatever became of the terminal.
                try:
                    self._stack.close()
                finally:
                    self._observer.finished()

    def _open(self) -> None:
        self.every_node = list_nodes(self.api)
        self.nodes = usable_nodes(self.every_node)
        self.installation = inspect(self.api)
        self._record_facts("before")
        names = self.spec.node_names
        self.client_node, self.server_node = choose_nodes(self.every_node, "any", names)
        named = [self.node_named(name) for name in names]
        far = self.node_across()
        chosen = [self.client_node, self.server_node, *([far] if far is not None else [])]
        under_test = self.nodes_under_test = list(
            {node.name: node for node in [*chosen, *named]}.values()
        )
        self.calico = self._stack.enter_context(
            CalicoSession(
                self.api,
                installation=self.installation,
                nodes=under_test,
                run_id=self.spec.run_id,
                change=self.spec.change,
                shells=self._shells,
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
        self.workspace = Workspace(
            self.api,
            run_id=self.spec.run_id,
            namespace=self.spec.namespace,
            image=self.spec.image,
            web_image=self.spec.web_image,
            pod_timeout_seconds=float(self.spec.pod_timeout),
        )
        self.switches = Switches(
            self.calico,
            self.workspace,
            self._observer,
            nodes=(self.client_node.name, self.server_node.name),
            watched=self.spec.watch_switches,
        )
        self._stack.callback(self._close_workspace)
        # The session is closed before the workspace is left: own pools go only after their pods.
        self._stack.callback(self._close_calico)
        self._hosts = {host.node: host for host in self._make_hosts(under_test)}
        self._shells |= {name: partial(self._in_host_pod, it) for name, it in self._hosts.items()}
        if self.spec.wire_proof:
            self.calico.check_wire()
        nodes_by_name = {node.name: node for node in self.nodes}
        self.prover = Prover(self.calico, nodes_by_name, wire=self.spec.wire_proof)
        self.look_at_machines(under_test)

    def _make_hosts(self, nodes: Sequence[Node]) -> list[Pod]:
        """Host-network pods, which are endpoints and see each node's routes.

        Where they are forbidden (PodSecurity, policies), pods can be measured all the same; each
        sample's proof of path then says that it is missing.

        Raises:
            SettingsError: they are forbidden, and the wire proof was asked for.
        """
        self._observer.started(f"host-network pods on {len(nodes)} nodes", 3.0)
        try:
            return self.workspace.ensure_pods([self._on_host(node) for node in nodes])
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

    def host_pod(self, node: Node) -> Pod:
        """The host-network pod of a node; made where there is none yet."""
        if node.name not in self._hosts:
            (self._hosts[node.name],) = self.workspace.ensure_pods([self._on_host(node)])
        return self._hosts[node.name]

    def look_at_machines(self, nodes: Sequence[Node]) -> None:
        """Read and record what these nodes are made of. Not during a sample."""
        if any(node.name in self._hosts for node in nodes):
            self.machines.read(nodes)
            self._record_facts("before")

    def look_at_tunnels(self, mode: CalicoMode, nodes: Sequence[Node]) -> None:
        """The same, of those whose tunnel of a mode has come up since they were read."""
        if mode.family != "none":
            device = TUNNEL_DEVICES[mode.family]
            self.look_at_machines(self.machines.lacking(nodes, device))

    def _record_facts(self, phase: str) -> None:
        facts = cluster_facts(self.api, self.installation, self.nodes, self.machines)
        if self.spec.link_rate is not None:
            facts["cluster"]["link_rate_bits_per_second"] = float(self.spec.link_rate)
        self._observer.record("facts", phase=phase, **facts)

    def _record_change(self, change: dict[str, object]) -> None:
        self._observer.record("change", **change)

    def _close_calico(self) -> None:
        # Pods have to go before pools of the run's own; a pool of the cluster's own waits for
        # none. The host-network pods are still needed to see the routes go back.
        try:
            if self.spec.change.strategy != "in-place":
                self.delete_pods()
        finally:
            with self.switches.restoring():
                self.calico.close()
        # What cannot be read any more is no trouble of its own at the end.
        with suppress(K8sNetError):
            self.nodes = usable_nodes(self.api)
            self.installation = inspect(self.api)
            self.machines.read(self.nodes_under_test)
            self._record_facts("after")

    def _close_workspace(self) -> None:
        try:
            self.workspace.close()
        except K8sNetError:
            # Else the report would say that there was nothing to put back.
            self._record_change(pods_left(self.spec.run_id))
            raise

    def delete_pods(self) -> None:
        """Delete the run's pods, but for those of the host network and the bystanders."""
        pods = [pod for pod in self.workspace.pods() if not pod.host_network]
        self.workspace.delete_pods([pod for pod in pods if pod not in self.switches.pods])

    def _in_host_pod(self, host: Pod, argv: Sequence[str]) -> Completed:
        return self.api.exec(host.namespace, host.name, argv, timeout_seconds=10.0)

    def node_named(self, name: str) -> Node:
        """A usable node by its name."""
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.nodes)
        raise NodesError(
            f"no usable node is called {name!r}", found=known, remedy="name one of these"
        )

    def node_across(self) -> Node | None:
        """A node in another subnet than the client node's, if there is one."""
        for node in self.nodes:
            if placement(self.client_node, node) == "cross-subnet":
                return node
        return None

    def _on_host(self, node: Node) -> PodRequest:
        return PodRequest(
            role="host", node=node.name, host_network=True, capture=self.spec.wire_proof
        )

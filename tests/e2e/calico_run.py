"""A small run on a cluster, by the cluster and calico layers alone."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.calico.kernel import Shell
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.path import PathEnd, PathProof
from pytest_k8snet.change.decision import ChangeSettings, Strategy
from pytest_k8snet.change.session import CalicoSession, PoolRef
from pytest_k8snet.cluster.api import Api, connect
from pytest_k8snet.cluster.exec import Completed
from pytest_k8snet.cluster.nodes import Node, list_nodes
from pytest_k8snet.cluster.pods import Pod, PodRequest, PodSettings
from pytest_k8snet.cluster.workspace import Workspace
from pytest_k8snet.lab import LabProcess, LabSpec, start, study_nodes
from pytest_k8snet.lab.spec import CalicoSpec
from pytest_k8snet.tools.tool import Payload

POOL = "default-ipv4-ippool"
#: Two nodes of one subnet, and one behind the router.
NODES = ("node1", "node2", "node3")


@dataclass(kw_only=True)
class CalicoRun:
    """A workspace and a session on one cluster."""

    api: Api
    workspace: Workspace
    session: CalicoSession
    nodes: dict[str, Node]
    changes: list[dict[str, Any]] = field(default_factory=list)

    def pods(self, pool: PoolRef | None, client: str, server: str) -> tuple[Pod, Pod]:
        name = pool.name if pool is not None else None
        one, other = self.workspace.ensure_pods(
            [
                PodRequest(role="client", node=client, pool=name),
                PodRequest(role="server", node=server, pool=name),
            ]
        )
        return one, other

    def end(self, pod: Pod) -> PathEnd:
        kind = "node" if pod.host_network else "pod"
        return PathEnd(
            kind=kind,  # type: ignore[arg-type]  # the two literals above
            name=pod.name,
            node=self.nodes[pod.node],
            address=pod.address,
        )

    def prove_hops(
        self, mode: CalicoMode, pool: PoolRef, hops: Sequence[tuple[Node, Node]]
    ) -> None:
        """Have each hop's routes and payload arrive, as a run does by its sampler."""
        names = list(dict.fromkeys(node.name for hop in hops for node in hop))
        pods = self.workspace.ensure_pods(
            [PodRequest(role="trial", node=name, pool=pool.name) for name in names]
        )
        of = {pod.node: pod for pod in pods}
        for near, far in hops:
            ends = of[near.name], of[far.name]
            self.session.converge(
                mode, *map(self.end, ends), probe=partial(self.payload_trouble, *ends)
            )
        self.workspace.delete_pods(pods)

    def payload_trouble(self, client: Pod, server: Pod) -> str | None:
        port = str(20000 + secrets.randbelow(9000))
        self.run(server, ["sh", "-c", 'iperf3 -s -1 -D -p "$1"', "sh", port])
        argv = [
            "iperf3",
            "-n",
            "64K",
            "--connect-timeout",
            "1000",
            "-c",
            server.address,
            "-p",
            port,
        ]
        done = self.run(client, ["timeout", "5", *argv])
        return None if done.exit_code == 0 else f"no payload to {server.name}: {done.stdout}"

    def host(self, node: str) -> Pod:
        (pod,) = self.workspace.ensure_pods([PodRequest(role="host", node=node, host_network=True)])
        return pod

    def sample(self, mode: CalicoMode | None, client: Pod, server: Pod) -> PathProof:
        """Move some payload from client to server and judge its path as it was claimed."""
        ends = self.end(client), self.end(server)
        before = self.session.snapshot(*ends)
        transfer = self.transfer(client, server)
        return self.session.prove(mode, before, self.session.snapshot(*ends), transfer)

    def transfer(self, client: Pod, server: Pod) -> Payload:
        """Send one megabyte by iperf3, in whatever time it takes."""
        port = str(20000 + secrets.randbelow(9000))
        serve = ["sh", "-c", 'iperf3 -s -1 -D -J -p "$1"', "sh", port]
        self.run(server, serve)
        listening = f":{int(port):04X} "
        deadline = time.monotonic() + 5
        while listening not in self.run(server, ["cat", "/proc/net/tcp6"]).stdout:
            assert time.monotonic() < deadline, "iperf3 does not listen"
        done = self.run(
            client,
            [
                *("timeout", "15", "iperf3", "-J", "-n", "1M", "-c", server.address, "-p", port),
                "--get-server-output",
            ],
        )
        result = json.loads(done.stdout)
        assert "error" not in result, result["error"]
        seen = result["server_output_json"]["start"]["accepted_connection"]["host"]
        return Payload(
            client_address=seen.removeprefix("::ffff:"),
            to_server_bytes=result["end"]["sum_received"]["bytes"],
            mss_bytes=result["start"]["tcp_mss_default"],
        )

    def run(self, pod: Pod, argv: Sequence[str]) -> Completed:
        return self.api.exec(
            pod.namespace, pod.name, argv, container=pod.container, timeout_seconds=30
        )


@contextmanager
def played(calico: CalicoSpec) -> Generator[tuple[LabProcess, Api]]:
    """A lab of its own that plays another installation than the shared one does."""
    with start(LabSpec(nodes=study_nodes(), calico=calico)) as lab:
        yield lab, connect(kubeconfig=lab.kubeconfig, context=None)
        lab.check()


@contextmanager
def opened(
    api: Api, strategy: Strategy, *, modes: Iterable[CalicoMode] = tuple(CalicoMode), **change: Any
) -> Generator[CalicoRun]:
    """A run that has claimed the cluster and has host-network pods on its nodes."""
    run_id = f"k8snet-{secrets.token_hex(3)}"
    nodes = {node.name: node for node in list_nodes(api)}
    shells: dict[str, Shell] = {}
    changes: list[dict[str, Any]] = []
    settings: dict[str, Any] = {
        "underlay_routes_pods": True,
        # It takes seconds for each mode: a test that is about it asks for it.
        "prove_first": False,
        "timeout_seconds": 20.0,
        **change,
    }
    made: list[CalicoRun] = []
    session = CalicoSession(
        api,
        installation=inspect(api),
        nodes=[nodes[name] for name in NODES],
        run_id=run_id,
        change=ChangeSettings(strategy=strategy, pool=POOL, **settings),
        shells=shells,
        on_change=changes.append,
        modes=modes,
        prove_hops=lambda mode, pool, hops: made[0].prove_hops(mode, pool, hops),
    )
    workspace = Workspace(
        api,
        run_id=run_id,
        namespace=None,
        settings=PodSettings(
            image="networkstatic/iperf3:3.12",
            web_image="registry.k8s.io/e2e-test-images/agnhost:2.53",
        ),
        pod_timeout_seconds=30.0,
    )
    with session:
        session.begin()
        with workspace:
            run = CalicoRun(
                api=api, workspace=workspace, session=session, nodes=nodes, changes=changes
            )
            made.append(run)
            for name in NODES:
                shells[name] = partial(run.run, run.host(name))
            yield run


def objects(api: Api) -> dict[str, Any]:
    """What a run may touch, as it is now, without versions and times."""
    found: dict[str, Any] = {}
    served = {group["name"] for group in api.get("/apis")["groups"]}
    for path in (
        "/apis/crd.projectcalico.org/v1/ippools",
        "/apis/crd.projectcalico.org/v1/felixconfigurations",
        "/apis/projectcalico.org/v3/ippools",
        "/apis/operator.tigera.io/v1/installations",
    ):
        if path.split("/")[2] in served:
            for item in api.list(path):
                metadata = item["metadata"]
                marks = {key: metadata.get(key) for key in ("labels", "annotations")}
                found[f"{path}/{metadata['name']}"] = {"spec": item.get("spec"), **marks}
    # Of these it counts that they are there; what they say is the cluster's own business.
    for path in (
        "/api/v1/namespaces",
        "/api/v1/pods",
        "/api/v1/namespaces/kube-system/configmaps",
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases",
    ):
        for item in api.list(path):
            metadata = item["metadata"]
            found[f"{path}/{metadata.get('namespace', '')}/{metadata['name']}"] = None
    return found

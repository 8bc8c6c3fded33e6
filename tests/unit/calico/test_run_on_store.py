"""A run on a store: which pods it makes where, in what it puts them, and what it leaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster_shapes import DEFAULT_POOL, FAR, NODE1, NODE2, raw_pool
from kernel_shapes import POD1, POD2, state
from kernel_shells import KernelShell
from store_api import StoreApi
from store_sessions import NEVER, VXLAN, a_cluster, objects

from pytest_k8snet.change.decision import ChangeSettings, Strategy
from pytest_k8snet.cluster.exec import Completed
from pytest_k8snet.cluster.pods import POOL_ANNOTATION, PodSettings
from pytest_k8snet.errors import (
    ClusterError,
    ForbiddenError,
    NodesError,
    NothingSwitchedError,
    PodError,
    SettingsError,
)
from pytest_k8snet.measure.run import Run, RunSpec
from pytest_k8snet.units import Mbit, second

SPACE = "tests"
PODS = f"/api/v1/namespaces/{SPACE}/pods"
IPERF3 = Path(__file__).parents[2] / "data" / "iperf3" / "3.12-tcp.json"
FACTS = "\x1efacts\nkernel\t6.12.1-amd64\ncpu_count\t4\n"
#: The first pod of each node, as the kernels have its routes.
FIRST = {"node1": POD1, "node2": POD2, "node3": "10.244.3.5"}


class Kubelet:
    """Starts pods with an address of their node's, and ends them as soon as they are deleted.

    Attributes:
        stuck: the roles of pods that no node has room for.
    """

    def __init__(self, api: StoreApi) -> None:
        self.stuck: set[str] = set()
        self._store, self._others = api.store, api.after_write
        self._addresses = {name: [address] for name, address in FIRST.items()}
        # Pods are made by several threads at once.
        self._lock = threading.RLock()
        api.after_write = self.run

    def run(self) -> None:
        with self._lock:
            self._others()
            for pod in self._store.list("pods"):
                metadata = pod["metadata"]
                if "deletionTimestamp" in metadata:
                    self._store.delete("pods", metadata["name"], SPACE, grace_seconds=0)
                elif not (pod.get("status") or {}).get("conditions"):
                    self._start(pod)

    def _start(self, pod: dict[str, Any]) -> None:
        node = pod["spec"]["nodeSelector"]["kubernetes.io/hostname"]
        condition = {"type": "Ready", "status": "True"}
        status: dict[str, Any] = {"phase": "Running", "podIP": self._address(pod, node)}
        if pod["metadata"]["labels"]["k8snet/role"] in self.stuck:
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            status = {"phase": "Pending"}
        pod["spec"]["nodeName"] = node
        bound = self._store.update("pods", pod, SPACE, subresource="binding")
        bound["status"] = {**status, "conditions": [condition]}
        self._store.update("pods", bound, SPACE, subresource="status")

    def _address(self, pod: Mapping[str, Any], node: str) -> str:
        if pod["spec"].get("hostNetwork"):
            return next(one.internal_ip for one in (NODE1, NODE2, FAR) if one.name == node)
        known = self._addresses[node]
        known.append(f"10.244.{node[-1]}.{10 + len(known)}")
        return known[-2]


def kernel_of(node: str) -> KernelShell:
    one, other = (NODE1, NODE2) if node == "node1" else (NODE2, NODE1)
    own, to = (POD1, POD2) if node == "node1" else (POD2, POD1)
    return KernelShell(state(one, other, "vxlan", pod=own, to=to, families=("vxlan",)))


def shell(api: StoreApi) -> Callable[..., Completed]:
    """Pods in which iperf3 is a recording, and nodes whose pods are routed by VXLAN."""

    def run(
        space: str, pod: str, argv: Sequence[str], *, container: str = "", timeout_seconds: float
    ) -> Completed:
        words, said = list(argv), ""
        node = api.get(f"{PODS}/{pod}")["spec"]["nodeName"]
        if any("neighbour show" in word for word in words):
            return kernel_of(node)(argv)
        if any("cpu_model" in word for word in words):
            said = FACTS
        elif "-c" in words and "iperf3" in words:
            said = IPERF3.read_text(encoding="utf-8")
        return Completed(argv=tuple(argv), exit_code=0, stdout=said, stderr="", seconds=0.0)

    return run


class Records:
    """An observer that keeps records, and what was hidden."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.hidden: list[str] = []

    def record(self, kind: str, **content: Any) -> Mapping[str, Any]:
        self.records.append({"kind": kind, **content})
        return self.records[-1]

    def hide(self, kind: str, *names: str) -> None:
        self.hidden += names

    def started(self, text: str, seconds: float) -> None:
        """Show nothing."""

    def finished(self) -> None:
        """Show nothing."""

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.records if one["kind"] == kind]


@pytest.fixture
def observer() -> Records:
    return Records()


@pytest.fixture
def api() -> StoreApi:
    api = a_cluster("manifest-A", raw_pool(mode=VXLAN))
    api.create("/api/v1/namespaces", {"metadata": {"name": SPACE}})
    api.exec = shell(api)  # type: ignore[method-assign]  # nothing runs in a store's pods
    return api


@pytest.fixture
def kubelet(api: StoreApi) -> Kubelet:
    return Kubelet(api)


@contextmanager
def opened(
    api: StoreApi, observer: Records, strategy: Strategy = "none", **spec: Any
) -> Iterator[Run]:
    change = ChangeSettings(
        strategy=strategy,
        pool=DEFAULT_POOL,
        underlay_routes_pods=True,
        prove_first=False,
        timeout_seconds=2,
        stability_seconds=0,
    )
    settings = {
        "run_id": "k8snet-abc123",
        "change": change,
        "modes": (),
        "pods": PodSettings(image="tools", web_image="web"),
        "pod_timeout": 0.2 * second,
        "namespace": SPACE,
        **spec,
    }
    with Run(api, RunSpec(**settings), observer) as run:
        yield run


def roles(api: StoreApi) -> list[tuple[str, str]]:
    """Role and node of each pod that there is."""
    pods = (one for one in api.list(PODS))
    return sorted(
        (one["metadata"]["labels"]["k8snet/role"], one["spec"]["nodeName"]) for one in pods
    )


HOSTS = [("host", "node1"), ("host", "node2"), ("host", "node3")]


@pytest.mark.usefixtures("kubelet")
def test_each_pair_has_its_pods_where_its_name_says_and_equal_ones_are_shared(
    api: StoreApi, observer: Records
) -> None:
    before = objects(api)
    with opened(api, observer) as run:
        assert roles(api) == HOSTS
        pair = run.pod_pair()
        assert (pair.scene, pair.placement, pair.mode) == ("pod-pod", "same-subnet", None)
        assert (pair.client.address, pair.server.address) == (POD1, POD2)
        assert run.pod_pair().ends == pair.ends
        assert pair.baseline.ends == run.node_pair().ends
        assert run.node_pair().ends == "node1 192.168.0.11 -> node2 192.168.0.12"
        assert run.pod_to_node().ends == f"{pair.client.name} {POD1} -> node2 192.168.0.12"
        assert run.node_to_pod().ends == f"node1 192.168.0.11 -> {pair.server.name} {POD2}"
        assert roles(api) == [("client", "node1"), *HOSTS, ("server", "node2")]
        assert [one.nodes for one in (run.same_node_pair(), run.cross_subnet_pair())] == [
            "node1 -> node1",
            "node1 -> node3",
        ]
        assert run.same_node_pair().scene == "same-node"
        assert [one.nodes for one in run.mesh()] == [
            *("node1 -> node2", "node1 -> node3", "node2 -> node1"),
            *("node2 -> node3", "node3 -> node1", "node3 -> node2"),
        ]
        assert run.pod(node="node2").node == "node2"
    assert objects(api) == before
    assert observer.of("change") == []


@pytest.mark.usefixtures("kubelet")
def test_facts_are_recorded_before_and_after_with_what_the_nodes_are_made_of(
    api: StoreApi, observer: Records
) -> None:
    with opened(api, observer, link_rate=100 * Mbit) as run:
        assert (found := run.machine_of("node1"))
        assert found.cpu_count == 4
        assert run.machine_of("node9") is None
    assert [one["phase"] for one in observer.of("facts")] == ["before", "before", "after"]
    first, *_, last = observer.of("facts")
    assert [one["name"] for one in last["nodes"]] == ["node1", "node2", "node3"]
    assert ["cpu_count" in one for one in (first["nodes"][0], last["nodes"][0])] == [False, True]
    assert last["cluster"]["link_rate_bits_per_second"] == 100e6
    assert observer.hidden == ["node1", "node2", "node3"]


@pytest.mark.usefixtures("kubelet")
def test_nodes_that_there_are_not_are_named_with_those_that_there_are(
    api: StoreApi, observer: Records
) -> None:
    with opened(api, observer, node_names=("node1", "node2")) as run:
        with pytest.raises(NodesError, match="no usable node is called 'node9'") as caught:
            run.pod_pair(nodes=("node1", "node9"))
        assert caught.value.found == "node1, node2, node3"
    for node in ("node1", "node2", "node3"):
        rack = {"rack": "a" if node != FAR.name else "b"}
        api.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": rack}})
    pods = PodSettings(image="tools", web_image="web", node_labels={"rack": "a"})
    with opened(api, observer, pods=pods) as run:
        assert [node.name for node in run.nodes_under_test] == ["node1", "node2"]
        with pytest.raises(NodesError, match="lie in different subnets"):
            run.cross_subnet_pair()


@pytest.mark.usefixtures("kubelet")
def test_pods_in_a_mode_name_its_pool_and_wait_for_their_payload(
    api: StoreApi, observer: Records
) -> None:
    with opened(api, observer) as run:
        pair = run.pod_pair("vxlan-always")
        assert (pair.mode, pair.client.pool) == (VXLAN, DEFAULT_POOL)
        asked = [one["metadata"]["annotations"].get(POOL_ANNOTATION) for one in api.list(PODS)]
        assert asked.count(json.dumps([DEFAULT_POOL])) == 2
        with pytest.raises(SettingsError, match="There is no Calico mode 'sideways'"):
            run.pod_pair("sideways")
        with pytest.raises(NothingSwitchedError, match="nothing was switched to get to VXLAN-Alw"):
            run.switch_cost(VXLAN)


@pytest.mark.usefixtures("kubelet")
def test_a_switch_in_place_has_pods_made_anew_and_is_put_back(
    api: StoreApi, observer: Records
) -> None:
    before = objects(api)
    # Nobody looks at these nodes' kernels, which would have to follow.
    forbid_host_pods(api)
    with opened(api, observer, "in-place", modes=(VXLAN, NEVER)) as run:
        first = run.pod(VXLAN)
        assert run.pod(VXLAN).name == first.name
        second_one = run.pod(NEVER)
        assert [one["metadata"]["name"] for one in api.list(PODS)] == [second_one.name]
        with pytest.raises(SettingsError, match="what a switch costs was not watched"):
            run.switch_cost(NEVER)
    assert objects(api) == before
    assert [one["state"] for one in observer.of("change")][:2] == ["applied", "restored"]


@pytest.mark.usefixtures("kubelet")
@pytest.mark.parametrize(("strategy", "pods_first"), [("dedicated", True), ("in-place", False)])
def test_pools_of_the_runs_own_wait_for_its_pods_and_others_do_not(
    api: StoreApi, observer: Records, strategy: Strategy, pods_first: bool
) -> None:
    forbid_host_pods(api)
    with opened(api, observer, strategy, modes=(NEVER,)) as run:
        run.pod(NEVER)
        api.requests.clear()
    asked = [(verb, path.rpartition("/")[0]) for verb, path in api.requests]
    pods = [number for number, one in enumerate(asked) if one == ("DELETE", PODS)]
    pools = "/apis/crd.projectcalico.org/v1/ippools"
    written = [number for number, one in enumerate(asked) if one[1] == pools and one[0] != "GET"]
    assert (pods[0] < written[0]) is pods_first


def forbid_host_pods(api: StoreApi) -> None:
    create = api.create

    def created(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == PODS and body["spec"].get("hostNetwork"):
            raise ForbiddenError('violates PodSecurity "baseline": host namespaces', status=403)
        return create(path, body)

    api.create = created  # type: ignore[method-assign]  # what admission does


@pytest.mark.usefixtures("kubelet")
def test_without_host_network_pods_there_are_pairs_but_no_wire_proof(
    api: StoreApi, observer: Records
) -> None:
    forbid_host_pods(api)
    with opened(api, observer) as run:
        assert run.pod_pair("VXLAN-Always").server.address == POD2
        with pytest.raises(ForbiddenError, match="PodSecurity"):
            run.node_pair()
    with (
        pytest.raises(SettingsError, match="the wire proof needs host-network pods") as caught,
        opened(api, observer, wire_proof=True),
    ):
        pass
    assert "-o k8snet_wire_proof=false" in caught.value.remedy
    assert api.list(PODS) == []


def test_pods_that_tests_will_ask_for_are_started_with_the_run_and_missed_by_those_tests_alone(
    api: StoreApi, observer: Records, kubelet: Kubelet
) -> None:
    with opened(api, observer, fixtures=frozenset({"pod_pair"})):
        assert roles(api) == [("client", "node1"), *HOSTS, ("server", "node2")]
    kubelet.stuck = {"server"}
    with opened(api, observer, fixtures=frozenset({"pod_pair"})) as run:
        assert run.pod().node == "node1"
        with pytest.raises(PodError, match="k8snet-abc123-server-node2-"):
            run.pod_pair()
    assert api.list(PODS) == []


@pytest.mark.usefixtures("kubelet")
def test_nodes_that_may_not_be_listed_are_used_where_they_are_named(
    api: StoreApi, observer: Records
) -> None:
    def refuse(method: str, path: str) -> None:
        if path == "/api/v1/nodes":
            raise ForbiddenError('user "tester" may not list nodes', status=403)

    api.refuse = refuse
    with pytest.raises(ForbiddenError, match="may not list nodes"), opened(api, observer):
        pass
    with opened(api, observer, node_names=("node1", "node2")) as run:
        assert run.pod_pair().nodes == "node1 -> node2"
        # Its own address is not known: that of its host-network pod is.
        assert run.node_pair().server.address == "192.168.0.12"


@pytest.mark.usefixtures("kubelet")
def test_requests_go_to_the_service_that_the_user_names(api: StoreApi, observer: Records) -> None:
    spec = {"clusterIP": "10.96.0.7", "ports": [{"port": 80, "name": "http"}]}
    services = f"/api/v1/namespaces/{SPACE}/services"
    api.create(services, {"metadata": {"name": "shop"}, "spec": spec})
    with opened(api, observer, service=f"{SPACE}/shop") as run:
        service = run.web("VXLAN-Always")
        assert service is run.web_service
        assert (service.cluster_ip_url, service.own) == ("http://10.96.0.7/", False)
    assert [one["metadata"]["name"] for one in api.list(services)] == ["shop"]


def test_the_outside_client_is_this_machine_or_where_the_prefix_leads(
    api: StoreApi, observer: Records, kubelet: Kubelet
) -> None:
    del kubelet
    with opened(api, observer, outside_prefix=("ssh", "bastion", "-p", "22")) as run:
        assert str(run.outside) == "outside ssh bastion"
        assert run.outside is run.outside


@pytest.mark.usefixtures("kubelet")
def test_pods_that_cannot_be_deleted_are_on_record_and_an_error(
    api: StoreApi, observer: Records
) -> None:
    def refuse(method: str, path: str) -> None:
        if method == "DELETE" and path.startswith(PODS):
            raise ForbiddenError("may not delete pods", status=403)

    with pytest.raises(ClusterError, match="could not all be deleted"), opened(api, observer):
        api.refuse = refuse
    (change,) = observer.of("change")
    assert (change["what"], change["object"], change["state"]) == (
        "made pods",
        "pods of run k8snet-abc123",
        "failed",
    )

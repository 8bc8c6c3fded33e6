"""Sessions on a store: clusters of every kind, with controllers, and all that a run may touch."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from cluster_shapes import (
    DEFAULT_POOL,
    NODE1,
    NODE2,
    cluster,
    installation_object,
    raw_pool,
)
from players import MANAGED, Players
from store_api import StoreApi

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.calico.kernel import Shell
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.change.decision import ChangeSettings, Strategy
from pytest_k8snet.change.lease import LEASE_NAME
from pytest_k8snet.change.session import CalicoSession, ProveHops
from pytest_k8snet.cluster import pods
from pytest_k8snet.cluster.nodes import Node, Toleration

NEVER = CalicoMode.NEVER
VXLAN, VXLAN_CS = CalicoMode.VXLAN_ALWAYS, CalicoMode.VXLAN_CROSS_SUBNET
IPIP, IPIP_CS = CalicoMode.IPIP_ALWAYS, CalicoMode.IPIP_CROSS_SUBNET
JOURNAL = "/api/v1/namespaces/kube-system/configmaps/k8snet-journal"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{LEASE_NAME}"


def a_cluster(kind: str, pool: dict[str, Any] | None = None) -> StoreApi:
    """A cluster by a short name: ``manifest-A``, ``operator-B``..., with its controllers."""
    install, _, shape = kind.partition("-")
    operated = install == "operator"
    raw = pool or raw_pool(mode=VXLAN_CS, labels=dict(MANAGED) if operated else None)
    api = cluster(shape=shape, install=install, pools=(raw,))  # type: ignore[arg-type]
    if operated:
        mode = CalicoMode.of_pool(raw["spec"].get("ipipMode"), raw["spec"].get("vxlanMode"))
        api.create(
            "/apis/operator.tigera.io/v1/installations",
            installation_object(encapsulation=mode.encapsulation),
        )
        if shape == "B":
            made = api.store.create("tigerastatuses.operator.tigera.io", available("apiserver"))
            made["status"] = available("apiserver")["status"]
            api.store.update("tigerastatuses.operator.tigera.io", made, subresource="status")
    # Without a Calico API server the operator carries nothing over.
    Players(api, operator=operated and shape != "A")
    return api


def available(name: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "status": {"conditions": [{"type": "Available", "status": "True"}]},
    }


def session(
    api: StoreApi,
    strategy: Strategy = "dedicated",
    told: list[dict[str, Any]] | None = None,
    nodes: Sequence[Node] = (NODE1, NODE2),
    shells: Mapping[str, Shell] = MappingProxyType({}),
    prove_hops: ProveHops | None = None,
    on_wait: Callable[[str], None] = lambda why: None,
    tolerations: Sequence[Toleration] = (),
    **change: Any,
) -> CalicoSession:
    change = {
        "underlay_routes_pods": True,
        "prove_first": False,
        "stability_seconds": 0,
        "timeout_seconds": 1,
        **change,
    }
    return CalicoSession(
        api,
        installation=inspect(api, tolerations=tolerations),
        nodes=nodes,
        run_id="k8snet-abc123",
        change=ChangeSettings(strategy=strategy, pool=DEFAULT_POOL, **change),
        shells=shells,
        on_change=(told if told is not None else []).append,
        prove_hops=prove_hops,
        on_wait=on_wait,
        tolerations=tolerations,
    )


def objects(api: StoreApi) -> dict[str, Any]:
    """Everything that a run may touch, without versions and times, which no one can put back."""
    found: dict[str, Any] = {}
    for row in api.store.registry.served():
        if row.plural in ("subjectaccessreviews", "namespaces") or not row.verbs.count("list"):
            continue
        for one in api.store.list(row):
            metadata = one["metadata"]
            place = f"{row.group}/{row.plural}/{metadata.get('namespace', '')}"
            name = f"{place}/{metadata['name']}"
            found[name] = {
                "spec": one.get("spec"),
                "data": one.get("data"),
                "labels": one["metadata"].get("labels"),
                "annotations": one["metadata"].get("annotations"),
            }
    return found


KINDS = ["manifest-A", "manifest-B", "manifest-C", "operator-A", "operator-B", "operator-C"]


def raw_spec(api: StoreApi) -> dict[str, Any]:
    spec: dict[str, Any] = api.store.get("ippools.crd.projectcalico.org", DEFAULT_POOL)["spec"]
    return spec


class CrashError(BaseException):
    """Stands for kill -9: nothing of the run's own code gets to clean up after it."""


def crash_at(api: StoreApi, strategy: Strategy, *, request: int = 0, write: int = 0) -> bool:
    """Run through three modes and die as in :func:`dies`; False if the run survived."""
    calico = session(api, strategy)
    return dies(lambda: run_through_three_modes(calico), api, request=request, write=write)


def dies(process: Callable[[], object], api: StoreApi, *, request: int = 0, write: int = 0) -> bool:
    """Have a process die on its way, counted from one; False if it survived.

    Args:
        process: what it does.
        api: the cluster.
        request: it dies before this request.
        write: it dies right after this write, before anybody else has seen what was written.
    """
    requests = writes = 0
    died = False
    played = api.after_write

    def refuse(method: str, path: str) -> None:
        nonlocal requests, died
        requests += 1
        died = died or requests == request
        if died:
            raise CrashError

    def after_write() -> None:
        nonlocal writes, died
        writes += 1
        if writes == write:
            died = True
            raise CrashError
        played()

    api.refuse, api.after_write = refuse, after_write
    try:
        process()
    except CrashError:
        return True
    finally:
        api.refuse, api.after_write = lambda method, path: None, played
        bury(api)
    return False


def run_through_three_modes(calico: CalicoSession) -> None:
    """Enter a mode without and one of each family, and put all back."""
    for mode in (VXLAN, NEVER, IPIP):
        calico.enter(mode)
    calico.close()


@cache
def ended_process() -> str:
    """A process of this machine that has ended; whoever gets its number began at another time."""
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    start = pods._start_time(child.pid)
    child.communicate()
    return f"{pods._machine()}/{child.pid}/{start}"


def bury(api: StoreApi) -> None:
    """Make the Lease's holder a process that has ended."""
    for lease in api.store.list("leases.coordination.k8s.io"):
        lease["metadata"]["annotations"]["k8snet/process"] = ended_process()
        lease["spec"]["holderIdentity"] = "k8snet-abc123 (dead)"
        api.store.update("leases.coordination.k8s.io", lease)


def leave_changed(api: StoreApi, strategy: Strategy) -> None:
    """Leave a cluster as a run does that is killed right after its first change."""
    # Before it come the Lease and the journal.
    assert crash_at(api, strategy, write=3)


def run_pod(
    api: StoreApi,
    address: str,
    *,
    name: str = "stranger",
    labels: Mapping[str, str] = MappingProxyType({}),
    phase: str = "Running",
    families: int = 1,
) -> None:
    """Have a pod with an address, as the kubelet tells of it."""
    body = {
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {"nodeName": NODE1.name, "containers": [{"name": "main", "image": "web"}]},
    }
    made = api.store.create("pods", body, "kube-system")
    made["status"] = {"phase": phase, "podIP": address}
    if families == 2:
        made["status"] |= {"podIP": "fd00::7", "podIPs": [{"ip": "fd00::7"}, {"ip": address}]}
    api.store.update("pods", made, "kube-system", subresource="status")


def unseen(pool: str, mode: CalicoMode) -> str:
    """What is told of a pool that went back where no node can be asked."""
    return (
        f"not looked at, whether the nodes have followed IPPool {pool} back to {mode}: no two "
        "nodes can be asked"
    )

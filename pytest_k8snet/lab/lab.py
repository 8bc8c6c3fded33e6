"""The lab's own process: builds the network, starts every component, answers, runs for ever."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from pytest_k8snet.lab import credentials, namespaces
from pytest_k8snet.lab.api.fieldmanager import ACTING, OF_CALICO
from pytest_k8snet.lab.api.objects import dig, name_of, namespace_of
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.apiserver.server import serve
from pytest_k8snet.lab.calico.calico_node import CalicoNode
from pytest_k8snet.lab.calico.ipam import Cni, Ipam
from pytest_k8snet.lab.calico.operator import Operator, manages_pools
from pytest_k8snet.lab.calico.policies import Policies
from pytest_k8snet.lab.dataplane import underlay
from pytest_k8snet.lab.dataplane.felix import Behaviour
from pytest_k8snet.lab.faults import NAME as FAULTS
from pytest_k8snet.lab.faults import NAMESPACE as FAULTS_NAMESPACE
from pytest_k8snet.lab.kube import system
from pytest_k8snet.lab.kube.controllers import (
    Aggregation,
    DaemonSets,
    Deployments,
    GarbageCollector,
    Jobs,
    Namespaces,
    Quotas,
    ReplicaSets,
    ReplicationControllers,
    TaintEvictions,
)
from pytest_k8snet.lab.kube.kubelet import Heartbeat, Kit, Kubelet
from pytest_k8snet.lab.kube.podspec import (
    DEFAULT_PATH,
    EXTRA_BIN,
    PING,
    PROGRAMS,
    SMALL_BIN,
    SMALL_PROGRAMS,
)
from pytest_k8snet.lab.kube.scheduler import Scheduler
from pytest_k8snet.lab.kube.services import (
    DnsRecords,
    ServiceAddresses,
    ServiceEndpoints,
    ServiceProxy,
    until_dns_answers,
)
from pytest_k8snet.lab.reconcile import is_ready, log
from pytest_k8snet.lab.spec import LabSpec


class _Component(Protocol):
    async def run(self) -> None:
        """Work for ever."""


#: How the lab tells its launcher what it has become.
Report = Callable[[dict[str, Any]], None]

_PATIENCE_SECONDS = 5.0


def run(spec: LabSpec, listener: socket.socket, report: Report) -> None:
    """Be the lab until killed; does not return.

    Args:
        spec: what the lab consists of.
        listener: the API's socket, bound in the host's network namespace.
        report: called once, when the lab answers, with kubeconfig, server and ipip.

    Raises:
        LabError: something cannot be made.
    """
    if sys.version_info < (3, 12):
        # The default before 3.12 starts a thread for every child.
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    asyncio.run(_Lab(spec).run(listener, report))


class _Lab:
    def __init__(self, spec: LabSpec) -> None:
        self._spec = spec
        self._store = Store(calico=spec.calico)

    async def run(self, listener: socket.socket, report: Report) -> None:
        """Start everything, report, and go on for ever; any component's failure ends it."""
        _install_programs(self._spec.programs)
        self._populate()
        building = asyncio.create_task(underlay.build(self._spec))
        secrets = credentials.make()
        tls = secrets.tls()
        await building
        ipam = Ipam(self._store)
        calico = CalicoNode(self._store, self._spec, ipam=ipam)
        await calico.prepare()
        await calico.reconcile()
        kubelet = Kubelet(self._kit(ipam, calico))
        await serve(self._store, kubelet, sock=listener, tls=tls, token=secrets.token)
        async with asyncio.TaskGroup() as components:
            working: list[_Component] = [calico, kubelet, *self._controllers()]
            for component in working:
                components.create_task(component.run())
            await self._until_ready()
            host, port = listener.getsockname()
            server = f"https://{host}:{port}"
            kubeconfig = secrets.kubeconfig(server)
            report({"kubeconfig": kubeconfig, "server": server, "ipip": calico.ipip.implementation})
            components.create_task(calico.make_ipip_ready())

    def _kit(self, ipam: Ipam, calico: CalicoNode) -> Kit:
        cni = Cni(
            self._store,
            ipam=ipam,
            pod_mtu=calico.pod_mtu,
            route_metric=Behaviour.of(self._spec.calico.version, self._spec.calico.backend).metric,
            sysctls=underlay.endpoint_sysctls(self._spec),
        )
        return Kit(
            store=self._store,
            spec=self._spec,
            cni=cni,
            any_user=namespaces.may_become_any_user(),
            api={
                "KUBERNETES_SERVICE_HOST": str(self._spec.service_cidr[1]),
                "KUBERNETES_SERVICE_PORT": "443",
                "KUBERNETES_SERVICE_PORT_HTTPS": "443",
            },
        )

    def _populate(self) -> None:
        ServiceAddresses(self._store, self._spec).register()
        for resource, body in system.objects(self._spec):
            ACTING.set(OF_CALICO if "projectcalico" in resource else "kubeadm")
            made = self._store.create(resource, body)
            if "status" in body and resource != "nodes":
                made["status"] = body["status"]
                self._store.update(resource, made, namespace_of(made) or None, subresource="status")

        if self._spec.faults:
            self._store.create(
                "configmaps",
                {"metadata": {"name": FAULTS}, "data": dict(self._spec.faults)},
                FAULTS_NAMESPACE,
            )

    def _controllers(self) -> Sequence[_Component]:
        store, spec = self._store, self._spec
        return (
            Scheduler(store),
            Deployments(store),
            ReplicaSets(store),
            ReplicationControllers(store),
            DaemonSets(store),
            Jobs(store),
            TaintEvictions(store),
            Quotas(store),
            Policies(store, spec),
            ServiceEndpoints(store, spec),
            ServiceProxy(store, spec),
            DnsRecords(store, spec),
            Namespaces(store),
            GarbageCollector(store),
            Heartbeat(store, spec),
            *([Operator(store)] if manages_pools(spec.calico) else []),
            *([Aggregation(store)] if spec.calico.api_shape == "B" else []),
        )

    async def _until_ready(self) -> None:
        """Wait until the cluster's own pods are up, and its DNS answers on its service address."""
        telling = asyncio.create_task(self._tell_what_is_missing())
        async for _ in self._store.watch("pods"):
            pods = self._store.list("pods")
            wanted = len(self._spec.nodes) + sum(
                int(dig(one, "spec.replicas", 1)) for one in self._store.list("deployments.apps")
            )
            if len(pods) >= wanted and all(map(is_ready, pods)):
                break
        await until_dns_answers(self._spec)
        telling.cancel()

    async def _tell_what_is_missing(self) -> None:
        """For whoever has given up waiting, and reads what the lab wrote last."""
        while True:
            await asyncio.sleep(_PATIENCE_SECONDS)
            log("the lab still waits for:")
            for pod in self._store.list("pods"):
                if not is_ready(pod):
                    states = [entry["state"] for entry in dig(pod, "status.containerStatuses", [])]
                    where = dig(pod, "spec.nodeName", "no node")
                    log(f"  pod {name_of(pod)} on {where}: {states}")
            for event in self._store.list("events", fields="type=Warning"):
                log(f"  {event['reason']}: {event['message']}")


def _install_programs(extra: str) -> None:
    """Put the lab's own servers where every container finds them, and small images' programs.

    Args:
        extra: a folder of further programs; empty for none.
    """
    PROGRAMS.mkdir(parents=True)
    if extra:
        EXTRA_BIN.mkdir()
        namespaces.bind_mount(extra, EXTRA_BIN)
    source = Path(__file__).parent / "kube"
    for name in ("webserver.py", "dnsserver.py"):
        shutil.copy(source / name, PROGRAMS / name)
    ping = shutil.which("ping", path=DEFAULT_PATH)
    if ping is not None:
        # Without the file capabilities that Debian gives it, with which a pod that may not have
        # them could not run it; images for pods have it without.
        shutil.copyfile(ping, PING)
        PING.chmod(0o755)
    SMALL_BIN.mkdir(parents=True)
    for name in SMALL_PROGRAMS:
        program = shutil.which(name, path=DEFAULT_PATH)
        if program is not None:
            (SMALL_BIN / name).symlink_to(program)

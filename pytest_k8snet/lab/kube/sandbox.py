"""A pod's surroundings, made before its containers: network namespace, address, files."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.calico.cni import Cni
from pytest_k8snet.lab.dataplane import netns
from pytest_k8snet.lab.dataplane.underlay import endpoint_sysctls, node_namespace
from pytest_k8snet.lab.kube import planning
from pytest_k8snet.lab.spec import LabSpec, NodeSpec

#: Where the pods' files are: in the lab's own tmpfs.
PODS = Path("/run/k8snet/pods")

# As containerd has it: pods need no privilege for low ports.
_POD_SYSCTLS = {"ipv4/ip_unprivileged_port_start": "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """Where the containers of one pod run.

    Attributes:
        network: the file of the network namespace.
        address: of the pod; with ``hostNetwork`` its node's.
        hostname: what its containers call themselves.
        directory: the pod's files.
    """

    network: Path
    address: str
    hostname: str
    directory: Path


def directory_of(pod: Object) -> Path:
    """Where the pod's files are."""
    return PODS / str(pod["metadata"]["uid"])


def _network_name(pod: Object) -> str:
    return f"pod-{pod['metadata']['uid']}"


async def make(pod: Object, *, spec: LabSpec, node: NodeSpec, cni: Cni) -> Sandbox:
    """Make the namespace and the files.

    Raises:
        CniError: the pod gets no address; nothing is left behind.
        DataplaneError: the kernel refuses the namespace.
        StatusError: its node or its namespace is gone.
        OSError: its files cannot be written.
    """
    directory, own = directory_of(pod), not dig(pod, "spec.hostNetwork")
    if own:
        name = _network_name(pod)
        hostname = dig(pod, "spec.hostname") or pod["metadata"]["name"]
        await netns.create(name, sysctls={**endpoint_sysctls(spec), **_POD_SYSCTLS})
    else:
        name, hostname = node_namespace(node.name), node.name
    try:
        address = (await cni.add(pod, name)).address if own else str(node.address.ip)
        _write_files(pod, spec, directory, hostname, address)
    except BaseException:
        await asyncio.shield(remove(pod, cni=cni))
        raise
    return Sandbox(
        network=netns.path(name), address=address, hostname=hostname, directory=directory
    )


def _write_files(pod: Object, spec: LabSpec, directory: Path, hostname: str, address: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "hosts").write_text(planning.hosts(hostname, address))
    resolver = planning.resolv_conf(pod, spec)
    if resolver is not None:
        (directory / "resolv.conf").write_text(resolver)
    containers = [*dig(pod, "spec.initContainers", []), *dig(pod, "spec.containers", [])]
    shared = [f"tmp/{container['name']}" for container in containers]
    shared += [
        f"volumes/{volume['name']}"
        for volume in dig(pod, "spec.volumes", [])
        if volume.get("emptyDir") is not None
    ]
    for name in shared:
        path = directory / name
        path.mkdir(parents=True, exist_ok=True)
        # Whoever the container runs as may write; mkdir's own mode is cut by the umask.
        path.chmod(0o1777)


async def remove(pod: Object, *, cni: Cni) -> None:
    """Give the address back and remove the namespace; what is not there is fine."""
    try:
        if not dig(pod, "spec.hostNetwork"):
            await cni.delete(pod)
    finally:
        await netns.delete(_network_name(pod))
        shutil.rmtree(directory_of(pod), ignore_errors=True)

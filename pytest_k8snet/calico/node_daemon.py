"""What the DaemonSet calico-node and its ConfigMap say: backend, datastore, IPAM, MTU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_k8snet.calico.installation import Backend
from pytest_k8snet.calico.reader import Reader

#: The namespaces in which operator and manifests put it.
NAMESPACES = ("calico-system", "kube-system")
#: What cannot be read of it is remembered under this topic.
TOPIC = "DaemonSet calico-node"
_CANAL = ("canal", "rke2-canal")


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonFacts:
    """The environment of calico-node, and what follows from it."""

    environment: Mapping[str, str] = field(default_factory=dict)
    image_tag: str = ""
    vpp: bool = False
    #: Whether flannel routes the pods, and calico-node beside it enforces policy alone.
    canal: bool = False
    ipam: str = "Calico"
    #: An explicit MTU from ``veth_mtu``; None where it is derived from the host.
    mtu_bytes: int | None = None

    @property
    def backend(self) -> Backend:
        """``CALICO_NETWORKING_BACKEND``; Calico's own default is bird."""
        if not self.environment:
            return "unknown"
        value = self.environment.get("CALICO_NETWORKING_BACKEND", "bird").lower()
        known: dict[str, Backend] = {"bird": "bird", "vxlan": "vxlan", "none": "none"}
        return known.get(value, "unknown")

    @property
    def datastore(self) -> str:
        """``kubernetes`` or ``etcdv3``."""
        return self.environment.get("DATASTORE_TYPE", "kubernetes")


def daemon_facts(reader: Reader) -> DaemonFacts:
    """Find the DaemonSet where operator or manifests put it, and read it."""
    for namespace in NAMESPACES:
        daemon = reader.get(f"/apis/apps/v1/namespaces/{namespace}/daemonsets/calico-node", TOPIC)
        if daemon is not None:
            return _read(reader, namespace, daemon)
    for name in _CANAL:
        if reader.get(f"/apis/apps/v1/namespaces/kube-system/daemonsets/{name}", TOPIC):
            return DaemonFacts(canal=True)
    vpp = reader.get(
        "/apis/apps/v1/namespaces/calico-vpp-dataplane/daemonsets/calico-vpp-node", "Calico VPP"
    )
    return DaemonFacts(vpp=vpp is not None)


def _read(reader: Reader, namespace: str, daemon: Mapping[str, Any]) -> DaemonFacts:
    spec = ((daemon.get("spec") or {}).get("template") or {}).get("spec") or {}
    containers = spec.get("containers") or []
    container = next((one for one in containers if one.get("name") == "calico-node"), None)
    if container is None:
        container = containers[0] if containers else {}
    config = reader.get(f"/api/v1/namespaces/{namespace}/configmaps/calico-config", "calico-config")
    data: Mapping[str, str] = (config or {}).get("data") or {}
    environment = {
        str(entry.get("name")): _value(entry, data) for entry in container.get("env") or ()
    }
    vpp = reader.get(
        "/apis/apps/v1/namespaces/calico-vpp-dataplane/daemonsets/calico-vpp-node", "Calico VPP"
    )
    mtu = data.get("veth_mtu", "0")
    image = str(container.get("image", ""))
    return DaemonFacts(
        environment={name: value for name, value in environment.items() if value},
        image_tag=image.rpartition(":")[2] if ":" in image else "",
        vpp=vpp is not None,
        ipam=_ipam(data.get("cni_network_config", "")),
        mtu_bytes=int(mtu) if mtu.isdigit() and int(mtu) > 0 else None,
    )


def _value(entry: Mapping[str, Any], config: Mapping[str, str]) -> str:
    if "value" in entry:
        return str(entry["value"])
    reference = (entry.get("valueFrom") or {}).get("configMapKeyRef") or {}
    if reference.get("name") == "calico-config":
        return str(config.get(str(reference.get("key")), ""))
    return ""


def _ipam(network_config: str) -> str:
    # The template holds placeholders such as __CNI_MTU__, so it may be no JSON yet.
    try:
        plugins = json.loads(network_config.replace("__CNI_MTU__", "0")).get("plugins") or ()
        kinds = {str((plugin.get("ipam") or {}).get("type", "")) for plugin in plugins}
    except (ValueError, AttributeError):
        kinds = {"host-local"} if '"host-local"' in network_config else set()
    return "HostLocal" if "host-local" in kinds else "Calico"

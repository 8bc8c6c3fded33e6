"""Hand-written values for tests: nodes, pools, installations, and clusters in a store."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network
from typing import Any, Literal

from store_api import StoreApi

from pytest_k8snet.calico.installation import Installation, IpamLimits, IPPool, Version
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.cluster.nodes import Node
from pytest_k8snet.lab.spec import CalicoSpec

DEFAULT_POOL = "default-ipv4-ippool"


def node(name: str, address: str, **more: Any) -> Node:
    return Node(
        name=name,
        internal_ip=address.split("/")[0],
        interface=IPv4Interface(address),
        labels={"kubernetes.io/hostname": name},
        **more,
    )


NODE1 = node("node1", "192.168.0.11/24")
NODE2 = node("node2", "192.168.0.12/24")
FAR = node("node3", "192.168.1.13/24")


def raw_pool(
    name: str = DEFAULT_POOL,
    cidr: str = "10.244.0.0/16",
    mode: CalicoMode | None = CalicoMode.NEVER,
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    fields = mode.pool_fields if mode is not None else {}
    return {
        "metadata": {"name": name, "resourceVersion": "7", "labels": labels or {}},
        "spec": {
            "cidr": cidr,
            "natOutgoing": True,
            "blockSize": 26,
            "nodeSelector": "all()",
            **fields,
            **spec,
        },
    }


def pool(*args: Any, **kwargs: Any) -> IPPool:
    read = IPPool.of(raw_pool(*args, **kwargs))
    assert read is not None
    return read


MANIFEST = Installation(
    install="manifest",
    version=Version(3, 31, 2),
    version_text="v3.31.2",
    shape="A",
    group="crd.projectcalico.org/v1",
    backend="bird",
    dataplane="iptables",
    ipam_limits=IpamLimits(),
    pools=(pool(),),
)
#: ``manifests/calico.yaml`` (v3.31): what the CNI plugin is configured to, as far as it is read.
CNI_CONFIG = (
    '{"plugins": [{"type": "calico", "mtu": __CNI_MTU__, "ipam": {"type": "calico-ipam"}}]}'
)


def installation(**changes: Any) -> Installation:
    return replace(MANIFEST, **changes)


def cluster(
    *,
    shape: Literal["A", "B", "C"] = "A",
    install: Literal["manifest", "operator"] = "manifest",
    version: str = "v3.31.2",
    backend: str = "bird",
    pools: tuple[dict[str, Any], ...] | None = None,
    config: dict[str, str] | None = None,
) -> StoreApi:
    """A cluster's objects in a store: what Calico and kubeadm would have put there."""
    api = StoreApi(CalicoSpec(version=version, install=install, api_shape=shape))
    group = "projectcalico.org/v3" if shape == "C" else "crd.projectcalico.org/v1"
    namespace = "calico-system" if install == "operator" else "kube-system"
    if install == "operator":
        api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    for one in (NODE1, NODE2, FAR):
        api.create(
            "/api/v1/nodes",
            {
                "metadata": {
                    "name": one.name,
                    "labels": dict(one.labels),
                    "annotations": {"projectcalico.org/IPv4Address": str(one.interface)},
                },
                "spec": {},
                "status": {
                    "addresses": [{"type": "InternalIP", "address": one.internal_ip}],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            },
        )
    api.create(
        f"/apis/{group}/clusterinformations",
        {"metadata": {"name": "default"}, "spec": {"calicoVersion": version}},
    )
    for raw in pools if pools is not None else (raw_pool(),):
        body = {**raw, "metadata": {**raw["metadata"]}}
        body["metadata"].pop("resourceVersion", None)
        api.create(f"/apis/{group}/ippools", body)
    api.create(
        f"/apis/apps/v1/namespaces/{namespace}/daemonsets", calico_node_daemon(backend, version)
    )
    if install == "manifest":
        data = {"cni_network_config": CNI_CONFIG} if config is None else config
        place = "/api/v1/namespaces/kube-system/configmaps"
        api.create(place, {"metadata": {"name": "calico-config"}, "data": data})
    return api


def serve(api: StoreApi, group: str, collection: str, items: list[dict[str, Any]]) -> None:
    """Let a store serve a collection that it does not know, with no more than these items.

    What is read of it is the test's word.
    """
    get, listed = api.get, api.list
    name = group.partition("/")[0]
    row = {"name": name, "preferredVersion": {"groupVersion": group}}

    def get_with_group(path: str, **query: str) -> dict[str, Any]:
        found = get(path, **query)
        if path == "/apis" and name not in [one["name"] for one in found["groups"]]:
            return {"groups": [*found["groups"], row]}
        return found

    api.get = get_with_group  # type: ignore[method-assign]
    api.list = lambda path, **query: (  # type: ignore[method-assign]
        items if path == f"/apis/{group}/{collection}" else listed(path, **query)
    )


def calico_node_daemon(backend: str, version: str, **env: str) -> dict[str, Any]:
    environment = {"CALICO_NETWORKING_BACKEND": backend, **env}
    labels = {"k8s-app": "calico-node"}
    return {
        "metadata": {"name": "calico-node"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [
                        {
                            "name": "calico-node",
                            "image": f"docker.io/calico/node:{version}",
                            "env": [{"name": k, "value": v} for k, v in environment.items()],
                        }
                    ]
                },
            },
        },
    }


def installation_object(
    *, cidr: str = "10.244.0.0/16", encapsulation: str | None = "None", **network: Any
) -> dict[str, Any]:
    entry = {"cidr": cidr, "blockSize": 26}
    if encapsulation is not None:
        entry["encapsulation"] = encapsulation
    return {
        "metadata": {"name": "default"},
        "spec": {"calicoNetwork": {"bgp": "Enabled", "ipPools": [entry], **network}},
    }


NETWORK = IPv4Network("198.18.0.0/15")

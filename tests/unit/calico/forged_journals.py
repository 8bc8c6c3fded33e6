"""Journals that somebody else has written, and a cluster that has much to lose by them."""

from __future__ import annotations

import json
from typing import Any

from cluster_shapes import DEFAULT_POOL, raw_pool
from store_api import StoreApi
from store_sessions import VXLAN_CS, a_cluster

Json = dict[str, Any]
RUN = "k8snet-abc123"
POOLS = "/apis/crd.projectcalico.org/v1/ippools"
POOL = f"{POOLS}/{DEFAULT_POOL}"
UNUSED = "unused-pool"
DEDICATED: Json = {
    "schema": 2,
    "run": RUN,
    "strategy": "dedicated",
    "owner": "k8snet-abc123 (me@here, process 7)",
    "time": "2026-01-01T00:00:00+00:00",
    "shape": "A",
    "group": "crd.projectcalico.org/v1",
    "own_pools": [f"{RUN}-never"],
    "original": None,
    "written": [],
}
ORIGINAL: Json = {
    "name": DEFAULT_POOL,
    "cidr": "10.244.0.0/16",
    "spec": {"ipipMode": "Always", "vxlanMode": "Never"},
    "uid": "0f0e0d0c-0000-4000-8000-000000000000",
    "v1_spec": None,
    "v1_uid": "",
    "v1_fields": [],
    "installation_entry": None,
    "installation_uid": "",
    "written_directly": True,
}
IN_PLACE: Json = {
    **DEDICATED,
    "strategy": "in-place",
    "own_pools": [],
    "original": ORIGINAL,
    # As the pool is: so the forger knows the cluster well.
    "written": ["VXLAN-CrossSubnet"],
}


def with_original(**fields: Any) -> Json:
    return {**IN_PLACE, "original": {**ORIGINAL, **fields}}


def a_production_cluster() -> StoreApi:
    """One with a pool in use, one that nobody uses and nobody labelled, and IPAM blocks."""
    api = a_cluster("manifest-A")
    for name, cidr in ((UNUSED, "10.9.0.0/16"), (f"{RUN}-never", "10.10.0.0/16")):
        body = raw_pool(name, cidr, VXLAN_CS)
        del body["metadata"]["resourceVersion"]
        api.create(POOLS, body)
    block = {"metadata": {"name": "10-9-0-0-26"}, "spec": {"cidr": "10.9.0.0/26"}}
    api.store.create("ipamblocks.crd.projectcalico.org", block)
    api.create("/api/v1/namespaces", {"metadata": {"name": "production"}})
    return api


def forge(api: StoreApi, journal: object) -> None:
    text = journal if isinstance(journal, str) else json.dumps(journal)
    api.create(
        "/api/v1/namespaces/kube-system/configmaps",
        {"metadata": {"name": "k8snet-journal"}, "data": {"journal.json": text}},
    )

"""Others write the same objects at the same moment: what they wrote stays."""

from __future__ import annotations

from typing import Any

import pytest
from cluster_shapes import DEFAULT_POOL, raw_pool
from store_api import StoreApi, meanwhile
from store_sessions import IPIP, VXLAN, VXLAN_CS, a_cluster, raw_spec, session

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.errors import ConflictError

POOL = f"/apis/crd.projectcalico.org/v1/ippools/{DEFAULT_POOL}"
INSTALLATION = "/apis/operator.tigera.io/v1/installations/default"


def entries(api: StoreApi) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(INSTALLATION)["spec"]["calicoNetwork"]["ipPools"]
    return found


# Of the pool that comes to stand where the patch aims, the value alone would not tell.
@pytest.mark.parametrize("others", [{"encapsulation": "VXLANCrossSubnet"}, {}])
def test_a_pool_that_comes_before_ours_in_the_installation_is_not_written(
    others: dict[str, str],
) -> None:
    api = a_cluster("operator-B")
    new = {"cidr": "10.9.0.0/16", **others}

    def insert() -> None:
        pools = {"ipPools": [new, *entries(api)]}
        api.patch(INSTALLATION, {"spec": {"calicoNetwork": pools}})

    with session(api, "in-place") as calico:
        meanwhile(api, "PATCH", INSTALLATION, insert)
        calico.enter(IPIP)
        assert [one.get("encapsulation") for one in entries(api)] == [
            new.get("encapsulation"),
            "IPIP",
        ]
    assert [one.get("encapsulation") for one in entries(api)] == [
        new.get("encapsulation"),
        "VXLANCrossSubnet",
    ]


def test_an_installation_that_somebody_else_writes_is_written_after_that() -> None:
    api = a_cluster("operator-B")

    def conflict() -> None:
        raise ConflictError("the object has been modified", status=409)

    with session(api, "in-place") as calico:
        meanwhile(api, "PATCH", INSTALLATION, conflict)
        calico.enter(IPIP)
        assert [one["encapsulation"] for one in entries(api)] == ["IPIP"]


def test_a_pool_that_somebody_else_changes_is_flipped_and_put_back_all_the_same() -> None:
    api = a_cluster("manifest-A")
    calico = session(api, "in-place")
    meanwhile(api, "PATCH", POOL, lambda: api.patch(POOL, {"spec": {"natOutgoing": False}}))
    calico.enter(IPIP)
    assert inspect(api).pools[0].mode is IPIP
    meanwhile(api, "PATCH", POOL, lambda: api.patch(POOL, {"spec": {"blockSize": 24}}))
    calico.close()
    assert inspect(api).pools[0].mode is VXLAN_CS
    assert (raw_spec(api)["natOutgoing"], raw_spec(api)["blockSize"]) == (False, 24)


@pytest.mark.parametrize("when", ["before", "at that moment"])
def test_a_field_that_somebody_else_sets_meanwhile_is_not_taken_for_a_default(when: str) -> None:
    api = a_cluster("manifest-B", raw_pool(mode=None))
    calico = session(api, "in-place")
    calico.enter(VXLAN)
    assert raw_spec(api)["allowedUses"] == ["Workload", "Tunnel"]

    def write() -> None:
        api.patch(POOL, {"spec": {"allowedUses": ["Tunnel"]}})

    if when == "before":
        write()
    else:
        meanwhile(api, "PATCH", POOL, write)
    calico.close()
    assert raw_spec(api)["allowedUses"] == ["Tunnel"]
    assert "ipipMode" not in raw_spec(api)

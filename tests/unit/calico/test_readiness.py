"""What nodes must have followed before a mode is ready: what the API and their kernels tell."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from cluster_shapes import NODE1, NODE2, cluster, raw_pool
from kernel_shapes import MAC, POD1, POD2, state
from kernel_shells import KernelShell
from store_api import StoreApi
from store_sessions import NEVER, VXLAN, VXLAN_CS, a_cluster, session

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.calico.installation import V1
from pytest_k8snet.calico.kernel import (
    KernelState,
    MissingDevice,
    Prober,
    Shell,
    support_argv,
)
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.path import PathEnd
from pytest_k8snet.causes import Cause, Evidence
from pytest_k8snet.change.readiness import NodeReadiness
from pytest_k8snet.cluster.exec import Completed
from pytest_k8snet.errors import ConnectError, NotConvergedError, RestoreError
from pytest_k8snet.tools.ip import Route

ANNOTATION = "projectcalico.org/IPv4VXLANTunnelAddr"


def kernels() -> tuple[KernelState, KernelState]:
    """Both nodes' kernels once VXLAN is there."""
    return (
        state(NODE1, NODE2, "vxlan", pod=POD1, to=POD2, families=("vxlan",)),
        state(NODE2, NODE1, "vxlan", pod=POD2, to=POD1, families=("vxlan",)),
    )


def told(*states: KernelState) -> dict[str, KernelShell]:
    return {one.node: KernelShell(one) for one in states}


@contextmanager
def watching(api: StoreApi, shells: Mapping[str, Shell]) -> Iterator[NodeReadiness]:
    prober = Prober(shells)
    try:
        yield NodeReadiness(api, nodes=(NODE1, NODE2), prober=prober)
    finally:
        prober.close()


def mismatches(mode: CalicoMode, *states: KernelState, **installation: Any) -> list[str]:
    """What is still missing where the only pool is in a mode, and Calico has told the API so."""
    api = a_cluster("manifest-A", raw_pool(mode=mode))
    with watching(api, told(*states)) as watch:
        return watch.mismatches(replace(inspect(api), **installation), {mode})


def test_nodes_that_have_followed_are_given_no_mismatch() -> None:
    assert mismatches(VXLAN, *kernels()) == []


def test_a_node_that_cannot_be_asked_is_judged_by_the_api_alone() -> None:
    assert mismatches(VXLAN) == []


def test_a_kernel_that_has_not_followed_is_told_of_its_node() -> None:
    one, other = kernels()
    late = replace(one, links={"eth0": one.links["eth0"]})
    assert mismatches(VXLAN, late, other) == [
        "node1 has no vxlan.calico yet",
    ]
    assert mismatches(NEVER, one) == ["node1 still has vxlan.calico 10.244.1.1"]


def test_a_tunnel_that_leads_elsewhere_is_told_of_the_node_that_sends() -> None:
    one, other = kernels()
    wrong = replace(one, fdb={MAC["node2"]: "192.168.0.99"})
    assert mismatches(VXLAN, wrong, other) == [
        f"node1's FDB sends {MAC['node2']} to 192.168.0.99, expected 192.168.0.12 of node2"
    ]
    # There the device is flow-based, and the kernel's tables say nothing.
    assert mismatches(VXLAN, wrong, other, dataplane="eBPF") == []


def test_a_node_whose_kernel_cannot_be_read_is_complained_of() -> None:
    one, _ = kernels()
    api = a_cluster("manifest-A", raw_pool(mode=VXLAN))
    shells = told(one)
    shells["node1"].text = "\x1easked\naddress show\n\x1eanswers\nKilled\n"
    with watching(api, shells) as watch:
        assert watch.mismatches(inspect(api), {VXLAN}) == [
            "node1: ip did not tell the network devices: Killed"
        ]


def test_an_api_server_that_does_not_answer_is_no_nodes_fault() -> None:
    api = a_cluster("manifest-A", raw_pool(mode=VXLAN))

    def shell(argv: Sequence[str]) -> Completed:
        raise ConnectError("the API server does not answer")

    with watching(api, {"node1": shell}) as watch, pytest.raises(ConnectError):
        watch.mismatches(inspect(api), {VXLAN})


def annotate(api: StoreApi, node: str, address: str | None) -> None:
    def change(found: dict[str, Any]) -> None:
        found["metadata"]["annotations"].pop(ANNOTATION, None)
        if address is not None:
            found["metadata"]["annotations"][ANNOTATION] = address

    api.store.mutate("nodes", node, None, change)


def test_a_tunnel_address_that_is_wanted_must_be_there_and_another_gone() -> None:
    api = a_cluster("manifest-A", raw_pool(mode=NEVER))
    annotate(api, "node2", "10.244.2.1")
    with watching(api, {}) as watch:
        assert watch.mismatches(inspect(api), {NEVER}) == [
            "node2 still has VXLAN address 10.244.2.1"
        ]
        assert watch.seen["node2"].annotations[ANNOTATION] == "10.244.2.1"
    api = a_cluster("manifest-A", raw_pool(mode=VXLAN))
    annotate(api, "node2", None)
    # No node under test.
    annotate(api, "node3", None)
    with watching(api, {}) as watch:
        assert watch.mismatches(inspect(api), {VXLAN}) == ["node2 has no VXLAN tunnel address yet"]


def test_the_routes_to_the_blocks_of_a_flipped_pool_must_have_followed() -> None:
    api = a_cluster("manifest-A", raw_pool(mode=VXLAN))
    for node, cidr in (("node1", "10.244.1.0/26"), ("node2", "10.244.2.0/26")):
        api.create(
            "/apis/crd.projectcalico.org/v1/ipamblocks",
            {
                "metadata": {"name": cidr.replace(".", "-").replace("/", "-")},
                "spec": {"cidr": cidr, "affinity": f"host:{node}", "allocations": []},
            },
        )
    one, other = kernels()
    to_one, to_other = "10.244.1.63", "10.244.2.63"
    there = Route(destination=to_other, device="vxlan.calico", gateway="10.244.2.1")
    back = Route(destination=to_one, device="eth0", gateway="192.168.0.11")
    shells = told(replace(one, routes={to_other: there}), replace(other, routes={to_one: back}))
    installation = inspect(api)
    (pool,) = installation.pools
    with watching(api, shells) as watch:
        found = watch.mismatches(
            installation,
            {VXLAN},
            pool=pool,
            group=V1,
            blocks=watch.blocks(installation, pool),
        )
    assert found == [f"node2 sends {back}, expected dev vxlan.calico"]
    assert {name: shell.asked for name, shell in shells.items()} == {
        "node1": [(to_other,)],
        "node2": [(to_one,)],
    }


def test_a_kernel_that_never_follows_is_named_at_the_time_out() -> None:
    api = a_cluster("manifest-A", raw_pool(mode=NEVER))
    one, other = kernels()
    late = replace(one, links={"eth0": one.links["eth0"]})
    calico = session(api, "in-place", shells=told(late, other), timeout_seconds=0.1)
    with pytest.raises(NotConvergedError) as caught:
        calico.enter(VXLAN_CS)
    assert caught.value.found == "node1 has no vxlan.calico yet"
    assert caught.value.remedy == Cause.NO_TUNNEL_DEVICE.remedy
    # Its pool goes back, and is not told to be back for those whose routes still are others.
    with pytest.raises(RestoreError) as unrestored:
        calico.close()
    assert "have followed IPPool default-ipv4-ippool back to Never" in unrestored.value.found
    assert "node2" in unrestored.value.found
    assert inspect(api).pools[0].mode is NEVER
    # What leaves the session last closes it once more, when nobody can be asked any longer.
    calico.close()


def test_a_block_without_usable_addresses_is_none_of_a_nodes() -> None:
    api = a_cluster("manifest-A", raw_pool(mode=VXLAN))
    for name, spec in (("nonsense", {}), ("v6", {"cidr": "fd00::/122", "affinity": "host:node1"})):
        api.create(f"/apis/{V1}/ipamblocks", {"metadata": {"name": name}, "spec": spec})
    installation = inspect(api)
    with watching(api, {}) as watch:
        assert watch.blocks(installation, installation.pools[0]) == {}


def test_a_pair_whose_routes_are_right_and_that_gets_no_payload_through_blames_the_fabric() -> None:
    ends = [
        PathEnd(kind="pod", name=node.name, node=node, address=pod)
        for node, pod in ((NODE1, POD1), (NODE2, POD2))
    ]
    lost = Evidence("payload is lost", Cause.FABRIC_VXLAN)
    api = a_cluster("manifest-A", raw_pool(mode=VXLAN))
    with (
        session(api, "none", shells=told(*kernels()), timeout_seconds=0.1) as calico,
        pytest.raises(NotConvergedError) as caught,
    ):
        calico.converge(VXLAN, *ends, probe=lambda: lost)
    assert caught.value.found == lost
    assert caught.value.remedy == Cause.FABRIC_VXLAN.remedy


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("none\n", Cause.NO_KERNEL_SUPPORT),
        ("some\n", Cause.NO_TUNNEL_DEVICE),
        ("unknown\n", Cause.NO_TUNNEL_DEVICE),
    ],
)
def test_a_node_without_the_tunnel_is_asked_whether_its_kernel_has_such(
    said: str, cause: Cause
) -> None:
    def shell(argv: Sequence[str]) -> Completed:
        assert argv[-1] == "ipip_rcv"
        return Completed(argv=tuple(argv), exit_code=0, stdout=said, stderr="", seconds=0.0)

    other = Evidence("node2 has no route to 10.244.1.7", Cause.NO_ROUTE)
    with watching(a_cluster("manifest-A"), {"node1": shell}) as watch:
        missing, kept = watch.look_closer([MissingDevice("node1", "ipip"), other])
    assert isinstance(missing, Evidence)
    assert missing.cause is cause
    assert missing.startswith("node1 has no tunl0 yet")
    assert kept is other


def test_the_question_for_the_kernels_tunnels_is_one_that_a_shell_answers() -> None:
    done = subprocess.run(support_argv("vxlan"), capture_output=True, text=True, check=True)
    assert done.stdout in ("some\n", "none\n", "unknown\n")
    made_up = [*support_argv("vxlan")[:-1], "no_such_symbol"]
    done = subprocess.run(made_up, capture_output=True, text=True, check=True)
    assert done.stdout in ("none\n", "unknown\n")


@pytest.mark.parametrize(("ipam", "said"), [("Calico", True), ("HostLocal", False)])
def test_the_tunnel_address_of_host_local_ipam_stays_in_every_mode(ipam: str, said: bool) -> None:
    api = cluster(pools=(raw_pool(mode=NEVER),))
    address = {"projectcalico.org/IPv4IPIPTunnelAddr": "10.244.0.1"}
    api.patch("/api/v1/nodes/node1", {"metadata": {"annotations": address}})
    readiness = NodeReadiness(api, nodes=[NODE1], prober=Prober({}))
    found = readiness.mismatches(replace(inspect(api), ipam=ipam), {NEVER})
    assert bool([one for one in found if "still has IPIP address" in one]) is said

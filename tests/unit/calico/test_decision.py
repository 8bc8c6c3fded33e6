from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cluster_shapes import FAR, NODE1, NODE2, installation, pool

from pytest_k8snet.calico.bgp import Bgp, BgpPeer
from pytest_k8snet.calico.installation import FelixSetting, Version
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.change.decision import ChangeSettings, Decision, Strategy, decide
from pytest_k8snet.cluster.nodes import Node
from pytest_k8snet.errors import ModeUnavailableError, SettingsError

NEVER = CalicoMode.NEVER
VXLAN, VXLAN_CS = CalicoMode.VXLAN_ALWAYS, CalicoMode.VXLAN_CROSS_SUBNET
IPIP, IPIP_CS = CalicoMode.IPIP_ALWAYS, CalicoMode.IPIP_CROSS_SUBNET
POOL = "default-ipv4-ippool"


def decided(
    mode: CalicoMode = VXLAN,
    strategy: Strategy = "dedicated",
    nodes: tuple[Node, ...] = (NODE1, NODE2),
    pool_name: str = POOL,
    original_mode: CalicoMode | None = None,
    underlay_routes_pods: bool = False,
    despite_owners: bool = False,
    every_node: tuple[Node, ...] = (NODE1, NODE2),
    **found: Any,
) -> Decision:
    return decide(
        installation(nodes=every_node, **found),
        ChangeSettings(
            strategy=strategy,
            pool=pool_name,
            underlay_routes_pods=underlay_routes_pods,
            despite_owners=despite_owners,
        ),
        mode=mode,
        nodes=nodes,
        original_mode=original_mode,
    )


def refusal(*args: Any, **kwargs: Any) -> ModeUnavailableError:
    with pytest.raises(ModeUnavailableError) as caught:
        decided(*args, **kwargs)
    assert caught.value.remedy
    return caught.value


#: What is written on each of these facts would be written on a guess.
UNREAD = [
    ("FelixConfigurations", VXLAN, "who programs the routes of VXLAN-Always"),
    ("BGPConfigurations", IPIP, "who programs the routes of IPIP-Always"),
    ("BGPPeers", IPIP, "who programs the routes of IPIP-Always"),
    ("APIService", VXLAN, "which of Calico's two API groups counts"),
    ("DatastoreMigrations", VXLAN, "which of Calico's two API groups counts"),
]


@pytest.mark.parametrize(("topic", "mode", "what"), UNREAD, ids=[one[0] for one in UNREAD])
@pytest.mark.parametrize("strategy", ["dedicated", "in-place"])
def test_nothing_is_written_on_what_could_not_be_read(
    strategy: Strategy, topic: str, mode: CalicoMode, what: str
) -> None:
    error = refusal(mode, strategy, unknown={topic: "not permitted"})
    assert error.problem == f"It is unknown {what}, so nothing is changed"
    assert error.found == f"{topic}: not permitted"


def test_nothing_is_written_in_place_where_a_degraded_operator_would_not_be_known() -> None:
    unread: dict[str, Any] = {"install": "operator", "unknown": {"TigeraStatus": "not permitted"}}
    error = refusal(VXLAN, "in-place", **unread)
    assert error.problem.startswith("The operator's pools may be degraded")
    assert error.found == "not permitted"
    assert decided(VXLAN, "dedicated", **unread).writer == "dedicated-pool"


@pytest.mark.parametrize(("present", "mode"), [(VXLAN, IPIP), (NEVER, VXLAN)])
def test_a_mode_is_not_proven_beforehand_on_nodes_that_nobody_knows(
    present: CalicoMode, mode: CalicoMode
) -> None:
    unread: dict[str, Any] = {"unknown": {"nodes": "not permitted"}, "every_node": ()}
    error = refusal(mode, "in-place", pools=(pool(mode=present),), **unread)
    assert error.found == "which nodes there are is unknown: not permitted"
    assert decided(present, "in-place", pools=(pool(mode=present),), **unread).writer == "ippool"


# Row 1: Calico does not route this pair in Linux.


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"shape": None, "group": None}, "no Calico API group is served"),
        ({"datastore": "etcdv3"}, "its datastore is etcdv3"),
        ({"backend": "none"}, "CALICO_NETWORKING_BACKEND is none"),
        ({"cni": "AmazonVPC"}, "the CNI plugin is AmazonVPC"),
        ({"cni": "Canal", "backend": "unknown"}, "it is Canal: flannel routes the pods"),
        ({"dataplane": "VPP"}, "the dataplane is VPP"),
    ],
)
@pytest.mark.parametrize("strategy", ["none", "dedicated", "in-place"])
def test_row_1_a_cluster_that_calico_does_not_route_is_refused(
    found: dict[str, Any], reason: str, strategy: Strategy
) -> None:
    error = refusal(strategy=strategy, **found)
    assert "does not route the pods here in Linux" in error.problem
    assert error.found.startswith(reason)


@pytest.mark.parametrize("strategy", ["dedicated", "in-place"])
def test_row_1_nothing_is_written_while_it_is_unknown_who_routes(strategy: Strategy) -> None:
    absent = refusal(strategy=strategy, backend="unknown")
    assert absent.problem == "It is unknown whether Calico routes the pods, so nothing is changed"
    assert absent.found == (
        "no DaemonSet calico-node with a known backend in calico-system and kube-system"
    )
    reason = 'not permitted: user "jane" may not get daemonsets'
    forbidden = refusal(
        strategy=strategy, backend="unknown", unknown={"DaemonSet calico-node": reason}
    )
    assert forbidden.found == f"DaemonSet calico-node: {reason}"
    assert forbidden.remedy == "Permit get on daemonsets.apps in calico-system and kube-system."


def test_row_1_what_changes_nothing_needs_not_know_who_routes() -> None:
    unread = {"DaemonSet calico-node": "not permitted: may not get daemonsets"}
    assert decided(NEVER, "none", backend="unknown", unknown=unread).writer == "nothing"


#: What makes a mode impossible where it is known, and says nothing where it could not be read.
ROUTES_UNREAD: dict[str, dict[str, Any]] = {
    # No mesh, and nobody knows whether there are peers.
    "BGPPeers": {"bgp": Bgp(mesh=False)},
    # Without BGP, programClusterRoutes of a FelixConfiguration decides (v3.31).
    "FelixConfigurations": {"backend": "vxlan", "version": Version(3, 31)},
}


@pytest.mark.parametrize(("topic", "found"), ROUTES_UNREAD.items(), ids=list(ROUTES_UNREAD))
def test_what_programs_routes_and_was_not_read_is_not_told_to_be_missing(
    topic: str, found: dict[str, Any]
) -> None:
    found = {**found, "pools": (pool(mode=NEVER),)}
    assert "has no routes here" in refusal(NEVER, "none", **found).problem
    unread = {topic: "not permitted"}
    assert decided(NEVER, "none", **found, unknown=unread).writer == "nothing"
    error = refusal(NEVER, "dedicated", **found, unknown=unread)
    assert error.problem == (
        "It is unknown who programs the routes of Never, so nothing is changed"
    )


# Row 2: WireGuard.


def test_row_2_nodes_that_both_have_wireguard_keys_are_refused() -> None:
    keyed = [
        replace(one, annotations={"projectcalico.org/WireguardPublicKey": "k="})
        for one in (NODE1, NODE2)
    ]
    error = refusal(nodes=tuple(keyed), wireguard=True)
    assert error.problem.startswith("WireGuard carries the pods' traffic")
    # Keys are all that tells of it where its switch may be in what could not be read.
    unread = {"DaemonSet calico-node": "not permitted"}
    assert refusal(VXLAN, "none", nodes=tuple(keyed), unknown=unread).found == (
        "node1, node2 have keys, and whether it is on is unread"
    )
    # One key alone leaves the pair to the pools.
    assert decided(nodes=(keyed[0], NODE2), wireguard=True).writer == "dedicated-pool"


# Row 3: a datastore migration. (Lease and journal are the session's business.)


def test_row_3_an_unfinished_migration_is_refused() -> None:
    error = refusal(unfinished_migration="v1-to-v3 (phase Migrating)")
    assert error.found == "DatastoreMigration v1-to-v3 (phase Migrating)"


# Row 5: explicit off.


@pytest.mark.parametrize(("mode", "field"), [(VXLAN_CS, "vxlan_enabled"), (IPIP, "ipip_enabled")])
@pytest.mark.parametrize("strategy", ["none", "dedicated", "in-place"])
def test_row_5_a_family_that_felix_keeps_off_is_a_black_hole(
    mode: CalicoMode, field: str, strategy: Strategy
) -> None:
    setting = FelixSetting(value="false", where="ipipEnabled of FelixConfiguration node.node1")
    error = refusal(mode, strategy=strategy, **{field: (setting,)})
    assert "would be a black hole" in error.problem
    assert error.found == "ipipEnabled of FelixConfiguration node.node1 is false"


def test_row_5_the_other_family_is_not_concerned() -> None:
    setting = FelixSetting(value="false", where="vxlanEnabled of FelixConfiguration default")
    assert decided(IPIP, vxlan_enabled=(setting,)).writer == "dedicated-pool"


def test_a_family_that_is_pinned_on_is_noted() -> None:
    setting = FelixSetting(value="true", where="vxlanEnabled of FelixConfiguration default")
    notes = decided(NEVER, vxlan_enabled=(setting,)).notes
    assert notes == (
        "vxlanEnabled of FelixConfiguration default is true: its device stays in every mode",
    )


# Row 6: dedicated pools.


@pytest.mark.parametrize("mode", list(CalicoMode))
@pytest.mark.parametrize(
    ("shape", "group"),
    [
        ("A", "crd.projectcalico.org/v1"),
        ("B", "projectcalico.org/v3"),
        ("C", "projectcalico.org/v3"),
    ],
)
def test_row_6_dedicated_pools_are_written_through_the_shapes_group(
    mode: CalicoMode, shape: str, group: str
) -> None:
    decision = decided(mode, shape=shape, group=group)
    assert (decision.writer, decision.group, decision.also_v1) == ("dedicated-pool", group, False)


def test_row_6_a_family_that_appears_is_announced() -> None:
    assert decided(VXLAN).notes == (
        "VXLAN gets enabled on every node: Felix restarts, and new pods get an MTU smaller by 50 "
        "bytes; it restarts once more on a node whose tunnel address changes with it",
    )
    assert decided(VXLAN_CS, pools=(pool(mode=VXLAN),)).notes == ()
    # The MTU is everywhere that of the largest header already, or pinned.
    restart = (
        "IPIP gets enabled on every node: Felix restarts; it restarts once more on a node whose "
        "tunnel address changes with it",
    )
    assert decided(IPIP, pools=(pool(mode=VXLAN),)).notes == restart
    assert decided(IPIP, mtu_bytes=1450).notes == restart


def test_row_6_before_v3_30_other_pods_may_get_addresses_of_the_runs_pools() -> None:
    (note,) = decided(NEVER, version=Version(3, 29, 1), version_text="v3.29.1").notes
    assert note == (
        "Calico v3.29.1 cannot keep a pool for pods that name it (v3.30 can): other pods that "
        "start on the nodes under test meanwhile may get addresses of the run's pools, which "
        "then stay until those pods are gone; start none there"
    )
    assert decided(NEVER, version=Version(3, 30, 0)).notes == ()


# Rows 7 and 8: in place.

OPERATOR: dict[str, Any] = {
    "install": "operator",
    "operator_pools": {pool().cidr: {"encapsulation": "None"}},
    "pools": (pool(labels={"app.kubernetes.io/managed-by": "tigera-operator"}),),
}


def test_row_7_an_operators_pool_is_changed_through_the_installation_from_3_28_on() -> None:
    decision = decided(strategy="in-place", **OPERATOR, version=Version(3, 28, 0))
    assert (decision.writer, decision.also_v1) == ("installation", False)


def test_row_7_without_an_api_server_the_v1_pool_is_written_as_well() -> None:
    decision = decided(strategy="in-place", **OPERATOR, api_server_ready=False)
    assert (decision.writer, decision.also_v1) == ("installation", True)
    assert decision.group == "crd.projectcalico.org/v1"


def test_row_7_native_v3_needs_no_api_server() -> None:
    decision = decided(
        strategy="in-place",
        **OPERATOR,
        api_server_ready=False,
        shape="C",
        group="projectcalico.org/v3",
    )
    assert (decision.writer, decision.also_v1) == ("installation", False)


def test_row_7_a_pool_that_left_the_installation_is_refused() -> None:
    mine = pool(labels={"app.kubernetes.io/managed-by": "tigera-operator"})
    error = refusal(strategy="in-place", install="operator", operator_pools={}, pools=(mine,))
    assert "no longer in its Installation" in error.problem


def test_row_7_degraded_pools_are_not_touched() -> None:
    error = refusal(
        strategy="in-place", **OPERATOR, operator_degraded="Cannot update an IP pool not owned"
    )
    assert error.found == "Cannot update an IP pool not owned"


@pytest.mark.parametrize(
    "found",
    [
        {"install": "manifest"},
        {**OPERATOR, "version": Version(3, 27, 5)},
        {"install": "operator", "operator_pools": {}},
    ],
)
def test_row_8_every_other_pool_is_written_directly(found: dict[str, Any]) -> None:
    decision = decided(strategy="in-place", **found)
    assert (decision.writer, decision.pool and decision.pool.name) == ("ippool", POOL)


def test_row_8_an_unreachable_v3_server_leaves_the_v1_pool() -> None:
    decision = decided(
        strategy="in-place", shape="B", group="projectcalico.org/v3", v3_reachable=False
    )
    assert decision.group == "crd.projectcalico.org/v1"


def test_row_8_an_unknown_owner_is_refused() -> None:
    error = refusal(
        strategy="in-place",
        install="unknown",
        unknown={"Installation": "not permitted: may not get installations"},
    )
    assert "It is unknown who owns pool" in error.problem
    assert error.found == "Installation: not permitted: may not get installations"


# Rows 9 and 10: backend vxlan.


@pytest.mark.parametrize(
    ("version", "setting", "possible"),
    [
        ((3, 30), "Enabled", False),
        ((3, 31), "", False),
        ((3, 31), "Enabled", True),
        ((3, 32), "Disabled", False),
        ((3, 33), "", True),
        ((3, 33), "EnabledIPIPOnly", True),
        ((3, 33), "EnabledNoEncapOnly", False),
        ((3, 33), "Disabled", False),
    ],
)
def test_row_9_ipip_without_bgp(version: tuple[int, int], setting: str, possible: bool) -> None:
    found: dict[str, Any] = {
        "backend": "vxlan",
        "version": Version(*version),
        "version_text": f"v{version[0]}.{version[1]}",
        "felix_cluster_routes": setting,
        # One without encapsulation would lose its routes.
        "pools": (pool(mode=IPIP_CS),),
    }
    if possible:
        assert decided(IPIP, **found).writer == "dedicated-pool"
    else:
        error = refusal(IPIP, **found)
        assert "IPIP-Always has no routes here: BGP is disabled" in error.problem
        assert error.found == (
            f"backend vxlan, Calico v{version[0]}.{version[1]}, "
            f"programClusterRoutes {setting or 'unset'}"
        )


@pytest.mark.parametrize(
    ("version", "setting", "others", "possible"),
    [
        ((3, 30), "", NEVER, False),
        ((3, 31), "Enabled", NEVER, True),
        ((3, 31), "Enabled", VXLAN, False),
        ((3, 32), "", NEVER, False),
        ((3, 33), "", NEVER, False),
        ((3, 33), "Enabled", VXLAN, True),
        ((3, 33), "EnabledNoEncapOnly", VXLAN, True),
        ((3, 33), "EnabledIPIPOnly", NEVER, False),
    ],
)
def test_row_10_never_without_bgp(
    version: tuple[int, int], setting: str, others: CalicoMode, possible: bool
) -> None:
    found: dict[str, Any] = {
        "backend": "vxlan",
        "version": Version(*version),
        "felix_cluster_routes": setting,
        "pools": (pool(mode=others),),
    }
    if possible:
        assert decided(NEVER, **found).writer == "dedicated-pool"
    else:
        assert "Never has no routes here" in refusal(NEVER, **found).problem


def test_row_10_names_the_family_that_bars_felix_from_never() -> None:
    error = refusal(
        NEVER, backend="vxlan", felix_cluster_routes="Enabled", pools=(pool(mode=VXLAN),)
    )
    assert error.found.endswith("; vxlan enabled elsewhere, which bars it before v3.33")


@pytest.mark.parametrize("mode", [VXLAN, VXLAN_CS])
def test_vxlan_needs_no_bgp(mode: CalicoMode) -> None:
    assert decided(mode, backend="vxlan", version=Version(3, 25, 0)).writer == "dedicated-pool"


# Row 11.


def test_row_11_vxlan_with_host_local_ipam_is_refused() -> None:
    assert refusal(VXLAN, ipam="HostLocal").found == "the IPAM plugin is host-local"
    # Nor gets any pod an address of another pool.
    assert "No pod is known to get an address" in refusal(IPIP, ipam="HostLocal").problem


def test_row_11_ipip_on_azure_is_refused() -> None:
    assert "Azure's underlay drops IP-in-IP" in refusal(IPIP_CS, provider="azure").problem
    assert decided(VXLAN, provider="azure").writer == "dedicated-pool"


def test_row_11_ipip_on_an_ipv6_pool_is_refused() -> None:
    error = refusal(IPIP, strategy="in-place", pool_name="v6", ipv6_pools=("v6",))
    assert "IPIP does not carry IPv6" in error.problem


# Row 12: direct paths that the fabric may not carry.


def cut_off(mode: CalicoMode, present: CalicoMode, **more: Any) -> str:
    """Why a flip is refused in place; empty where it is not."""
    caught: ModeUnavailableError | None = None
    try:
        decided(mode, "in-place", pools=(pool(mode=present),), **more)
    except ModeUnavailableError as error:
        caught = error
    if caught is None:
        return ""
    assert caught.problem == (
        f"{mode} on pool {POOL} could cut the pods of this cluster off from each other"
    )
    assert "k8snet_fabric_routes_pods=true" in caught.remedy
    return caught.found


ALL_NODES = (NODE1, NODE2, FAR)


@pytest.mark.parametrize("present", list(CalicoMode))
@pytest.mark.parametrize("mode", list(CalicoMode))
def test_row_12_in_place_sends_nothing_direct_that_the_pool_encapsulates(
    mode: CalicoMode, present: CalicoMode
) -> None:
    for every_node, same_subnets in (((NODE1, NODE2), [True]), (ALL_NODES, [True, False])):
        bare = any(
            mode.path(same_subnet=same) == "direct" and present.path(same_subnet=same) != "direct"
            for same in same_subnets
        )
        assert bool(cut_off(mode, present, every_node=every_node)) is bare


def test_row_12_says_which_packets_would_go_direct() -> None:
    tail = "and nothing tells whether the underlay delivers pod addresses there"
    assert cut_off(VXLAN_CS, IPIP) == (
        f"node1 -> node2, in one subnet, would go direct instead of by IPIP, {tail}"
    )
    assert cut_off(NEVER, VXLAN_CS, every_node=ALL_NODES) == (
        f"node1 -> node3, between subnets, would go direct instead of by VXLAN, {tail}"
    )
    unread = replace(NODE2, interface=None)
    assert cut_off(NEVER, VXLAN_CS, every_node=(NODE1, unread)) == (
        f"node2 -> node1, of an unknown subnet, would go direct instead of by VXLAN, {tail}"
    )


@pytest.mark.parametrize("trouble", ["cordoned", "taint gpu:NoSchedule", "not ready"])
def test_row_12_counts_the_nodes_that_cannot_be_under_test_as_well(trouble: str) -> None:
    far = replace(FAR, trouble=trouble)
    assert "node1 -> node3" in cut_off(NEVER, VXLAN_CS, every_node=(NODE1, NODE2, far))


def test_row_12_compares_with_the_mode_that_the_pool_was_in_before_the_run() -> None:
    assert cut_off(NEVER, IPIP)
    assert not cut_off(NEVER, IPIP, original_mode=NEVER)
    assert not cut_off(VXLAN_CS, IPIP, original_mode=NEVER)
    assert cut_off(NEVER, NEVER, original_mode=IPIP)


PEERING = Bgp(peers=(BgpPeer(name="tor", address="192.168.0.1"),))


def test_row_12_gives_way_to_the_users_word_and_to_no_peering() -> None:
    for present in CalicoMode:
        told: dict[str, Any] = {"present": present, "every_node": ALL_NODES}
        assert not cut_off(NEVER, underlay_routes_pods=True, **told)
        found = cut_off(NEVER, bgp=PEERING, **told)
        assert found.endswith("; that it peers with tor (192.168.0.1) is no proof of that") or (
            present is NEVER
        )


def test_row_12_a_cloud_is_named() -> None:
    assert cut_off(VXLAN_CS, VXLAN, provider="gce") == (
        "node1 -> node2, in one subnet, would go direct instead of by VXLAN, and the provider "
        "is gce, whose underlay delivers no unknown addresses"
    )
    assert not cut_off(VXLAN_CS, VXLAN, provider="gce", underlay_routes_pods=True)
    # What the pool does already, it may do with another header.
    assert not cut_off(NEVER, VXLAN_CS, provider="aws")


def test_row_12_nodes_that_could_not_be_read_are_no_proof() -> None:
    unread: dict[str, Any] = {"every_node": (), "unknown": {"nodes": "HTTP 500: broken"}}
    assert cut_off(NEVER, VXLAN, **unread) == "which nodes there are is unknown: HTTP 500: broken"


def test_row_12_a_dedicated_pool_may_try_and_says_so() -> None:
    assert decided(NEVER, nodes=(NODE1, FAR)).notes == (
        "Never between different subnets works only if the underlay routes pod addresses",
    )


# Strategy none.


def test_without_permission_an_existing_pool_of_the_mode_serves() -> None:
    decision = decided(IPIP, "none", pools=(pool(), pool("ipip", "10.9.0.0/16", IPIP)))
    assert (decision.writer, decision.pool and decision.pool.name) == ("nothing", "ipip")


def test_without_permission_a_mode_that_no_pool_has_is_refused_with_the_way_to_allow_it() -> None:
    error = refusal(VXLAN, "none")
    assert error.found == "pools: default-ipv4-ippool (Never)"
    assert "--k8snet-change=dedicated" in error.remedy


def test_a_disabled_pool_serves_nobody() -> None:
    error = refusal(NEVER, "none", pools=(pool(disabled=True),))
    assert error.found == "pools: none that gives addresses to pods"
    assert (
        "gives no addresses to pods"
        in refusal(NEVER, "in-place", pools=(pool(disabled=True),)).problem
    )


def test_a_pool_with_two_families_is_neither_used_nor_edited() -> None:
    both = pool(mode=None, ipipMode="Always", vxlanMode="Always")
    refusal(VXLAN, "none", pools=(both,))
    error = refusal(NEVER, "in-place", pools=(both,))
    assert error.found == "ipipMode Always, vxlanMode Always"


def test_an_unknown_pool_is_answered_with_those_that_exist() -> None:
    with pytest.raises(SettingsError) as caught:
        refusal(VXLAN, "in-place", pool_name="nope")
    assert caught.value.problem == "There is no IPPool 'nope' to change"
    assert caught.value.found == "pools: default-ipv4-ippool"


def test_a_pool_that_could_not_be_looked_for_is_not_said_to_be_missing() -> None:
    unknown = {"IPPools of crd.projectcalico.org/v1": "not permitted"}
    error = refusal(VXLAN, "in-place", pools=(), unknown=unknown)
    assert error.problem.startswith("It is unknown whether there is an IPPool")
    assert error.found == "not permitted"

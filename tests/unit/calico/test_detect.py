from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest
from cluster_shapes import (
    calico_node_daemon,
    cluster,
    installation,
    installation_object,
    pool,
    raw_pool,
    serve,
)
from documented_roles import enforce
from store_api import StoreApi
from store_sessions import a_cluster

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.calico.installation import V1, FelixSetting
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.doctor import _calico
from pytest_k8snet.errors import ForbiddenError

CRD = "/apis/crd.projectcalico.org/v1"


def test_a_manifest_install_is_understood() -> None:
    found = inspect(cluster(pools=(raw_pool(mode=CalicoMode.IPIP_ALWAYS),)))
    assert (found.install, found.version_text, found.shape, found.backend) == (
        "manifest",
        "v3.31.2",
        "A",
        "bird",
    )
    assert found.group == "crd.projectcalico.org/v1"
    assert [(pool.name, pool.mode) for pool in found.pools] == [
        ("default-ipv4-ippool", CalicoMode.IPIP_ALWAYS)
    ]
    assert found.dataplane == "iptables"
    assert found.operator_pools == {}
    assert (found.ipam, found.node_agent, found.product) == ("Calico", True, "Calico")
    assert found.mtu_bytes is None
    assert not found.unknown


@pytest.mark.parametrize(
    ("shape", "group"),
    [
        ("A", "crd.projectcalico.org/v1"),
        ("B", "projectcalico.org/v3"),
        ("C", "projectcalico.org/v3"),
    ],
)
def test_the_api_shape_decides_the_group(shape: str, group: str) -> None:
    found = inspect(cluster(shape=shape))  # type: ignore[arg-type]
    assert (found.shape, found.group) == (shape, group)
    assert [pool.name for pool in found.pools] == ["default-ipv4-ippool"]


def test_a_cluster_without_calico_has_no_shape() -> None:
    api = StoreApi()
    # The store always serves Calico's groups, so a listing without them stands in for it.
    listing = {"groups": [{"name": "apps"}]}
    api.get = lambda path, **query: (  # type: ignore[method-assign]
        listing if path == "/apis" else StoreApi.get(api, path)
    )
    found = inspect(api)
    assert (found.shape, found.group, found.pools) == (None, None, ())


def test_absent_mode_fields_mean_never() -> None:
    found = inspect(cluster(pools=(raw_pool(mode=None),)))
    assert found.pools[0].mode is CalicoMode.NEVER


def test_ipv6_pools_are_kept_apart() -> None:
    six = raw_pool("six", "fd00:10::/48", None, blockSize=122)
    found = inspect(cluster(pools=(raw_pool(), six)))
    assert (found.ipv6_pools, found.vxlan_v6) == (("six",), False)
    assert len(found.pools) == 1


@pytest.mark.parametrize("disabled", [False, True])
def test_vxlan_of_an_ipv6_pool_takes_its_bytes_from_every_pod(disabled: bool) -> None:
    six = raw_pool("six", "fd00:10::/48", None, blockSize=122, vxlanMode="Always")
    six["spec"]["disabled"] = disabled
    found = inspect(cluster(pools=(raw_pool(mode=CalicoMode.VXLAN_ALWAYS), six)))
    assert found.families() == {"vxlan"}
    assert found.encapsulations() == {"vxlan", "vxlan-v6"}


def test_wireguard_of_both_ip_families_is_found() -> None:
    api = cluster()
    spec = {"wireguardEnabledV6": True}
    api.create(f"{CRD}/felixconfigurations", {"metadata": {"name": "default"}, "spec": spec})
    found = inspect(api)
    assert not found.wireguard
    assert found.encapsulations() == {"wireguard-v6"}


def test_an_operator_install_is_understood() -> None:
    api = cluster(install="operator", shape="B", version="v3.28.1")
    installation = installation_object(encapsulation="VXLAN", mtu=1430, linuxDataplane="BPF")
    api.create("/apis/operator.tigera.io/v1/installations", installation)
    found = inspect(api)
    assert (found.install, found.dataplane, found.mtu_bytes) == ("operator", "eBPF", 1430)
    assert [*found.operator_pools] == [IPv4Network("10.244.0.0/16")]
    assert found.operator_reverts(found.pools[0])


def test_an_operator_without_bgp_has_the_vxlan_backend() -> None:
    api = cluster(install="operator", shape="B", backend="bird")
    api.create("/apis/operator.tigera.io/v1/installations", installation_object(bgp="Disabled"))
    assert inspect(api).backend == "vxlan"


def test_explicit_felix_settings_of_every_scope_are_found() -> None:
    api = cluster()
    for name, spec in (
        ("default", {"vxlanEnabled": False, "wireguardEnabled": True}),
        ("node.node1", {"ipipEnabled": True}),
    ):
        api.create(f"{CRD}/felixconfigurations", {"metadata": {"name": name}, "spec": spec})
    found = inspect(api)
    assert [(one.where, one.off) for one in found.vxlan_enabled] == [
        ("vxlanEnabled of FelixConfiguration default", True)
    ]
    assert [(one.where, one.off) for one in found.ipip_enabled] == [
        ("ipipEnabled of FelixConfiguration node.node1", False)
    ]
    assert found.wireguard
    assert found.families() == {"ipip"}


def test_felix_environment_wins_over_its_configuration() -> None:
    api = cluster()
    path = "/apis/apps/v1/namespaces/kube-system/daemonsets"
    api.delete(f"{path}/calico-node")
    api.create(path, calico_node_daemon("vxlan", "v3.31.2", FELIX_VXLANENABLED="true"))
    api.create(
        f"{CRD}/felixconfigurations",
        {"metadata": {"name": "default"}, "spec": {"vxlanEnabled": False, "bpfEnabled": True}},
    )
    found = inspect(api)
    assert [one.where for one in found.vxlan_enabled] == [
        "FELIX_VXLANENABLED of DaemonSet calico-node"
    ]
    assert (found.backend, found.dataplane) == ("vxlan", "eBPF")


def test_felix_port_and_vni_of_vxlan_are_known_with_their_defaults() -> None:
    api = cluster()
    found = inspect(api)
    assert (found.vxlan_port, found.vxlan_vni) == (4789, 4096)
    body = {"metadata": {"name": "default"}, "spec": {"vxlanPort": 8472, "vxlanVNI": 8192}}
    api.create(f"{CRD}/felixconfigurations", body)
    found = inspect(api)
    assert (found.vxlan_port, found.vxlan_vni) == (8472, 8192)


@pytest.mark.parametrize(
    ("scope", "setting", "value"),
    [
        ("default", "mtuIfacePattern", "^bond"),
        ("default", "vxlanMTU", 1400),
        ("default", "ipipMTU", 1400),
        ("default", "vxlanMTUV6", 1400),
        ("default", "wireguardMTU", 1400),
        ("node.node2", "wireguardMTUV6", 1400),
    ],
)
def test_what_felix_is_told_of_mtus_leaves_that_of_the_pods_unknown(
    scope: str, setting: str, value: object
) -> None:
    api = cluster()
    assert inspect(api).mtu_known
    assert inspect(api).facts()["mtu"] == "auto"
    body = {"metadata": {"name": scope}, "spec": {setting: value}}
    api.create(f"{CRD}/felixconfigurations", body)
    found = inspect(api)
    assert not found.mtu_known
    assert found.facts()["mtu"] == (
        f"as Felix is configured: {setting} of FelixConfiguration {scope} is {value}"
    )
    # What the CNI plugin is told wins.
    assert replace(found, mtu_bytes=1400).mtu_known


@pytest.mark.parametrize(("value", "known"), [("0", True), ("1400", False)])
@pytest.mark.parametrize(
    "variable",
    [
        *("FELIX_VXLANMTU", "FELIX_VXLANMTUV6", "FELIX_IPINIPMTU", "FELIX_WIREGUARDMTU"),
        "FELIX_WIREGUARDMTUV6",
    ],
)
def test_an_mtu_of_0_in_felix_environment_means_that_it_is_derived(
    variable: str, value: str, known: bool
) -> None:
    api = cluster()
    path = "/apis/apps/v1/namespaces/kube-system/daemonsets"
    api.delete(f"{path}/calico-node")
    api.create(path, calico_node_daemon("bird", "v3.31.2", **{variable: value}))
    assert inspect(api).mtu_known is known


@pytest.mark.parametrize("unread", ["daemonsets", "configmaps", "felixconfigurations"])
def test_the_mtu_is_unknown_where_something_that_may_set_it_could_not_be_read(unread: str) -> None:
    api = cluster()

    def refuse(method: str, path: str) -> None:
        if unread in path:
            raise ForbiddenError('user "tester" may not get it', status=403)

    api.refuse = refuse
    assert not inspect(api).mtu_known


def test_the_config_map_gives_backend_mtu_and_ipam() -> None:
    network = (
        '{"plugins": [{"type": "calico", "mtu": __CNI_MTU__, "ipam": {"type": "host-local"}}]}'
    )
    config = {"calico_backend": "vxlan", "veth_mtu": "1440", "cni_network_config": network}
    api = cluster(config=config)
    daemons = "/apis/apps/v1/namespaces/kube-system/daemonsets"
    daemon = calico_node_daemon("bird", "v3.31.2")
    daemon["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {
            "name": "CALICO_NETWORKING_BACKEND",
            "valueFrom": {"configMapKeyRef": {"name": "calico-config", "key": "calico_backend"}},
        }
    ]
    api.delete(f"{daemons}/calico-node")
    api.create(daemons, daemon)
    found = inspect(api)
    assert (found.backend, found.mtu_bytes, found.ipam) == ("vxlan", 1440, "HostLocal")


def test_what_may_not_be_read_is_unknown_with_its_reason_and_stops_nothing() -> None:
    api = cluster(install="operator", shape="B")

    def refuse(method: str, path: str) -> None:
        if "installations" in path or path == "/api/v1/nodes":
            raise ForbiddenError('user "tester" may not get it', status=403)

    api.refuse = refuse
    found = inspect(api)
    assert found.install == "unknown"
    assert found.unknown == {
        "Installation": 'not permitted: user "tester" may not get it',
        "nodes": 'not permitted: user "tester" may not get it',
    }
    assert [pool.name for pool in found.pools] == ["default-ipv4-ippool"]


def test_a_cut_off_v3_server_is_noticed_and_the_v1_objects_are_read() -> None:
    api = cluster(shape="B")
    api.create(
        f"{CRD}/felixconfigurations",
        {"metadata": {"name": "default"}, "spec": {"ipipEnabled": False}},
    )

    def refuse(method: str, path: str) -> None:
        if path.startswith("/apis/projectcalico.org/v3"):
            from pytest_k8snet.errors import ApiError

            raise ApiError("service unavailable", status=503)

    api.refuse = refuse
    found = inspect(api)
    assert not found.v3_reachable
    assert [pool.name for pool in found.pools] == ["default-ipv4-ippool"]
    assert found.version_text == "v3.31.2"
    assert [setting.off for setting in found.ipip_enabled] == [True]


def test_service_addresses_are_learnt_from_services_where_nothing_else_tells() -> None:
    api = cluster()
    api.create(
        "/api/v1/namespaces/kube-system/services",
        {
            "metadata": {"name": "kube-dns"},
            "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 53, "protocol": "UDP"}]},
        },
    )
    assert inspect(api).service_networks == (IPv4Network("10.96.0.10/32"),)


def test_whose_addresses_there_are_is_read_where_pools_may_be_made() -> None:
    api = cluster()
    serve(
        api,
        "crd.projectcalico.org/v1",
        "bgpconfigurations",
        [
            {
                "metadata": {"name": "default"},
                "spec": {
                    # v3.28.1 api/pkg/apis/projectcalico/v3/bgpconfig.go
                    "serviceLoadBalancerIPs": [{"cidr": "10.9.0.0/24"}, {"cidr": "fd00::/64"}],
                    "serviceExternalIPs": [{"cidr": "10.9.1.0/24"}],
                    "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}],
                },
            }
        ],
    )
    reservation = {"metadata": {"name": "kept"}, "spec": {"reservedCIDRs": ["10.244.9.0/24"]}}
    serve(api, "crd.projectcalico.org/v1", "ipreservations", [reservation])
    blocks = [{"metadata": {"name": "b"}, "spec": {"cidr": "10.7.0.0/26"}}]
    serve(api, "crd.projectcalico.org/v1", "ipamblocks", blocks)
    service = {
        "metadata": {"name": "shop"},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.11",
            "externalIPs": ["10.8.0.1"],
            "ports": [{"port": 80}],
        },
    }
    service = api.create("/api/v1/namespaces/kube-system/services", service)
    service["status"] = {"loadBalancer": {"ingress": [{"ip": "10.8.0.2"}, {"hostname": "lb.x"}]}}
    api.store.update("services", service, subresource="status")
    found = inspect(api)
    assert {str(network): what for network, what in found.occupied.items()} == {
        "10.9.0.0/24": "serviceLoadBalancerIPs of BGPConfiguration default",
        "10.9.1.0/24": "serviceExternalIPs of BGPConfiguration default",
        "10.96.0.0/12": "serviceClusterIPs of BGPConfiguration default",
        "10.8.0.1/32": "Service kube-system/shop",
        "10.8.0.2/32": "Service kube-system/shop",
        "10.244.9.0/24": "IPReservation kept",
    }
    assert found.block_networks == (IPv4Network("10.7.0.0/26"),)
    again = inspect(api, known=found)
    assert (again.occupied, again.block_networks) == (found.occupied, found.block_networks)


def test_a_run_that_makes_no_pools_does_not_ask_for_the_addresses_of_services() -> None:
    api = cluster()
    assert inspect(api, own_pools=False).service_networks == ()
    asked = ("service", "ipreservations", "ipamblocks")
    assert not [path for _, path in api.requests if any(one in path for one in asked)]


def test_a_later_look_asks_for_nothing_that_stays_as_it_is() -> None:
    api = cluster()
    before = inspect(api)
    asked = len(api.requests)
    assert inspect(api, known=before) == before
    assert len(api.requests) - asked <= asked - 5


def test_the_facts_are_flat() -> None:
    facts = inspect(cluster()).facts()
    assert facts["calico_version"] == "v3.31.2"
    assert facts["pools"] == "default-ipv4-ippool 10.244.0.0/16 Never"
    assert facts.pop("pool_modes") == ["Never"]
    assert all(isinstance(value, (str, int, float, bool)) for value in facts.values())


def test_the_ownership_label_is_also_found_inside_the_v1_metadata_blob() -> None:
    raw = raw_pool()
    raw["metadata"]["annotations"] = {
        "projectcalico.org/metadata": '{"labels":{"app.kubernetes.io/managed-by":'
        '"tigera-operator"}}'
    }
    api = cluster(pools=(raw,))
    assert inspect(api).pools[0].operator_owned


@pytest.mark.parametrize(
    ("peer", "outside"),
    [
        ({"peerIP": "192.168.0.1", "asNumber": 64512}, True),
        ({"peerIP": "192.168.0.1:1790", "asNumber": 64512}, True),
        ({"peerIP": "192.168.0.12", "asNumber": 64512}, False),
        ({"peerIP": "192.168.0.12:179", "asNumber": 64512}, False),
        ({"peerIP": "fd00::1", "asNumber": 64512}, False),
        ({"peerSelector": "route-reflector == 'true'"}, False),
        ({"localWorkloadSelector": "all()", "asNumber": 64512}, False),
        ({}, False),
    ],
)
def test_only_bgp_with_a_router_outside_counts_as_peering_with_the_fabric(
    peer: dict[str, object], outside: bool
) -> None:
    api = cluster()
    reflectors = {"metadata": {"name": "rr"}, "spec": {"peerSelector": "all()"}}
    serve(
        api,
        "crd.projectcalico.org/v1",
        "bgppeers",
        [reflectors, {"metadata": {"name": "x"}, "spec": peer}],
    )
    assert bool(inspect(api).bgp.peers_outside) is outside


def test_without_bird_nobody_speaks_bgp() -> None:
    peers = [{"metadata": {"name": "tor"}, "spec": {"peerIP": "192.168.0.1"}}]
    for backend in ("bird", "vxlan"):
        api = cluster(backend=backend)
        serve(api, "crd.projectcalico.org/v1", "bgppeers", peers)
        assert bool(inspect(api).bgp.peers_outside) is (backend == "bird")


def test_all_nodes_are_known_also_those_that_take_no_pods() -> None:
    api = cluster()
    node = api.store.get("nodes", "node3")
    node["spec"]["unschedulable"] = True
    api.store.update("nodes", node)
    found = inspect(api).nodes
    assert [(one.name, one.usable) for one in found] == [
        ("node1", True),
        ("node2", True),
        ("node3", False),
    ]


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.parametrize(
    ("phase", "unfinished"),
    [
        ("Migrating", "v1-to-v3 (phase Migrating)"),
        ("", "v1-to-v3 (phase unknown)"),
        ("Converged", ""),
        ("Complete", ""),
    ],
)
def test_a_migration_is_found_in_the_version_that_is_served(
    version: str, phase: str, unfinished: str
) -> None:
    api = cluster(shape="B")
    migration = {"metadata": {"name": "v1-to-v3"}, "status": {"phase": phase}}
    group = f"migration.projectcalico.org/{version}"
    serve(api, group, "datastoremigrations", [migration])
    assert inspect(api).unfinished_migration == unfinished


@pytest.mark.parametrize(
    ("phase", "service", "shape", "group"),
    [
        (None, {}, "A", "crd.projectcalico.org/v1"),
        ("Migrating", {}, "A", "crd.projectcalico.org/v1"),
        ("Complete", {}, "C", "projectcalico.org/v3"),
        ("Converged", None, "C", "projectcalico.org/v3"),
        ("Complete", {"service": {"name": "calico-api"}}, "B", "projectcalico.org/v3"),
        (None, None, "B", "projectcalico.org/v3"),
    ],
)
def test_of_both_groups_a_finished_migration_and_the_api_server_tell_the_store(
    phase: str | None, service: dict[str, object] | None, shape: str, group: str
) -> None:
    api = cluster(shape="B")
    migration = {"metadata": {"name": "v1-to-v3"}, "status": {"phase": phase}}
    if phase is not None:
        served = "migration.projectcalico.org/v1"
        serve(api, served, "datastoremigrations", [migration])
    get = api.get

    def get_service(path: str, **query: str) -> dict[str, object]:
        if "apiservices" not in path:
            return get(path, **query)
        if service is None:
            raise ForbiddenError('user "tester" may not get it', status=403)
        return {"spec": service}

    # The store knows one APIService only, an aggregated one.
    api.get = get_service  # type: ignore[method-assign]
    found = inspect(api)
    assert (found.shape, found.group) == (shape, group)


DAEMONS = "/apis/apps/v1/namespaces/kube-system/daemonsets"


def typed(api: StoreApi, kinds: str) -> StoreApi:
    body = {"spec": {"clusterType": kinds}}
    api.patch(f"{CRD}/clusterinformations/default", body)
    return api


@pytest.mark.parametrize("name", ["canal", "rke2-canal"])
def test_canal_is_known_by_its_daemon_set(name: str) -> None:
    api = cluster()
    api.delete(f"{DAEMONS}/calico-node")
    assert (inspect(api).cni, inspect(api).backend) == ("Calico", "unknown")
    daemon = calico_node_daemon("none", "v3.31.2")
    daemon["metadata"]["name"] = name
    api.create(DAEMONS, daemon)
    found = inspect(api)
    assert (found.cni, found.unknown) == ("Canal", {})


def test_canal_is_known_by_the_cluster_type_where_no_daemon_set_says_more() -> None:
    # Kinds are only ever added: this cluster has been moved from Canal to Calico.
    api = typed(cluster(), "k8s,canal,bgp,kdd")
    assert inspect(api).cni == "Calico"

    def refuse(method: str, path: str) -> None:
        if "daemonsets" in path:
            raise ForbiddenError('user "tester" may not get it', status=403)

    api.refuse = refuse
    found = inspect(api)
    assert (found.cni, found.backend) == ("Calico", "unknown")
    assert found.unknown["DaemonSet calico-node"] == 'not permitted: user "tester" may not get it'
    api = typed(cluster(), "k8s,canal,kdd")
    api.delete(f"{DAEMONS}/calico-node")
    assert inspect(api).cni == "Canal"


@pytest.mark.parametrize(
    ("present", "added", "found", "lost"),
    [
        (CalicoMode.NEVER, CalicoMode.VXLAN_ALWAYS, {}, 50),
        (CalicoMode.NEVER, CalicoMode.IPIP_ALWAYS, {}, 20),
        (CalicoMode.IPIP_ALWAYS, CalicoMode.VXLAN_ALWAYS, {}, 30),
        (CalicoMode.VXLAN_ALWAYS, CalicoMode.IPIP_ALWAYS, {}, 0),
        (CalicoMode.NEVER, CalicoMode.VXLAN_ALWAYS, {"wireguard": True}, 0),
        (CalicoMode.NEVER, CalicoMode.VXLAN_ALWAYS, {"vxlan_v6": True}, 0),
        (CalicoMode.NEVER, CalicoMode.VXLAN_ALWAYS, {"mtu_bytes": 1440}, 0),
        (
            CalicoMode.NEVER,
            CalicoMode.VXLAN_ALWAYS,
            {"mtu_settings": (FelixSetting(value="1400", where="vxlanMTU"),)},
            0,
        ),
    ],
)
def test_new_pods_lose_what_the_largest_header_takes_more(
    present: CalicoMode, added: CalicoMode, found: dict[str, Any], lost: int
) -> None:
    known = installation(pools=(pool(mode=present),), **found)
    assert known.mtu_overhead_bytes(added) - known.mtu_overhead_bytes() == lost


def test_without_any_right_nothing_is_told_as_if_it_had_been_read() -> None:
    api = a_cluster("manifest-A")
    enforce(api)
    found = inspect(api)
    facts = found.facts()
    assert {facts[name] for name in ("calico_version", "backend", "dataplane", "mtu")} == {
        "unknown"
    }
    assert facts["wireguard"] == "unknown"
    told = "\n".join(_calico(found))
    assert "dataplane unknown" in told
    assert "pod MTU unknown" in told
    assert "enabled: unknown" in told


@pytest.mark.parametrize(
    ("kind", "denied", "unknown"),
    [
        ("manifest-A", "felixconfigurations", {"vxlan_vni", "dataplane", "wireguard", "mtu"}),
        ("manifest-A", "daemonsets", {"vxlan_vni", "dataplane", "wireguard", "mtu", "backend"}),
        ("operator-B", "daemonsets", {"vxlan_vni", "dataplane", "wireguard", "mtu"}),
        ("manifest-A", "configmaps/calico-config", {"mtu"}),
        ("manifest-A", "ippools", {"pools"}),
        ("operator-B", "installations", {"install", "mtu", "dataplane", "vxlan_vni", "wireguard"}),
    ],
)
def test_a_fact_that_rests_on_what_was_not_read_is_unknown(
    kind: str, denied: str, unknown: set[str]
) -> None:
    api = a_cluster(kind)

    def refuse(method: str, path: str) -> None:
        if denied in path:
            raise ForbiddenError("not for you", status=403)

    api.refuse = refuse
    facts = inspect(api).facts()
    assert {name for name, value in facts.items() if value == "unknown"} == unknown | {"provider"}


def test_whose_a_pool_is_is_unknown_where_the_operator_is() -> None:
    found = inspect(a_cluster("operator-B"))
    assert "(the operator's)" in "\n".join(_calico(found))
    for unknown in (replace(found, install="unknown"), replace(found, version=None)):
        assert "(who reconciles it is unknown)" in "\n".join(_calico(unknown))


RKE2 = ["--cluster-cidr=10.42.0.0/16", "--healthz-bind-address=127.0.0.1"]


@pytest.mark.parametrize(
    ("name", "words", "networks"),
    [
        # rke2 pkg/podexecutor/staticpod.go; kops nodeup/pkg/model/kube_proxy.go; AKS' DaemonSet.
        ("kube-proxy-node1", {"args": RKE2}, ("10.42.0.0/16",)),
        (
            "kube-proxy-x7k2p",
            {"command": ["kube-proxy", "--cluster-cidr=10.42.0.0/16,fd00::/48"]},
            ("10.42.0.0/16",),
        ),
        ("kube-proxy", {"command": [*RKE2, "--detect-local-mode=BridgeInterface"]}, ()),
        ("coredns", {"args": RKE2}, ()),
        ("kube-proxy", {"args": ["--config=/var/lib/kube-proxy/config.conf"]}, ()),
    ],
)
def test_the_addresses_of_pods_are_told_by_arguments_of_kube_proxy_as_well(
    name: str, words: dict[str, list[str]], networks: tuple[str, ...]
) -> None:
    api = cluster()
    spec = {"nodeName": "node1", "containers": [{"name": "kube-proxy", "image": "x", **words}]}
    api.store.create("pods", {"metadata": {"name": name}, "spec": spec}, "kube-system")
    assert tuple(map(str, inspect(api).cluster_networks)) == networks


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("quay.io/calico/node:v3.30.1", "v3.30.1"),
        ("registry:5000/calico/node:v3.30.1@sha256:" + "0" * 64, "v3.30.1"),
        ("registry:5000/calico/node", ""),
        ("calico/node@sha256:" + "12" * 32, ""),
    ],
)
def test_a_tag_is_a_version_and_neither_a_port_nor_a_digest_is(image: str, version: str) -> None:
    api = cluster(version="")
    daemon = calico_node_daemon("bird", "v0")
    daemon["spec"]["template"]["spec"]["containers"][0]["image"] = image
    api.delete(f"{DAEMONS}/calico-node")
    api.create(DAEMONS, daemon)
    assert inspect(api).version_text == version


def test_calico_nodes_own_word_for_the_group_wins_over_a_finished_migration() -> None:
    # libcalico-go/lib/backend/k8s/discovery.go (v3.32): what is configured explicitly.
    api = cluster(shape="B")
    migration = {"metadata": {"name": "m"}, "status": {"phase": "Complete"}}
    serve(api, "migration.projectcalico.org/v1", "datastoremigrations", [migration])
    api.delete(f"{DAEMONS}/calico-node")
    api.create(DAEMONS, calico_node_daemon("bird", "v3.32.0", CALICO_API_GROUP=V1))
    get = api.get
    api.get = lambda path, **query: (  # type: ignore[method-assign]
        {"spec": {}} if "apiservices" in path else get(path, **query)
    )
    assert (inspect(api).shape, inspect(api).group) == ("A", V1)

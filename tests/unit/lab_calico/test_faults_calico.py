"""Faults are read from a config map and spoil exactly what they say."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.dataplane import felix, kernel
from pytest_k8snet.lab.dataplane.felix import Block, Datastore, Host, Pool
from pytest_k8snet.lab.faults import API_FAULTS, CALICO_FAULTS, ApiFaults, during_restart
from pytest_k8snet.lab.faults import CalicoFaults as Faults

DATA = Datastore(
    hosts=[
        Host(
            name=f"node{index}",
            address=IPv4Interface(f"192.168.0.1{index}/24"),
            vxlan_tunnel=IPv4Address(f"10.0.{index}.0"),
        )
        for index in (1, 2, 3)
    ],
    pools=[Pool(name="p", cidr=IPv4Network("10.0.0.0/16"), vxlan_mode="Always")],
    blocks=[
        Block(cidr=IPv4Network(f"10.0.{index}.0/26"), node=f"node{index}") for index in (1, 2, 3)
    ],
    routers={IPv4Network("192.168.0.0/24"): IPv4Address("192.168.0.1")},
)


def spoilt(node: str = "node1", **faults: str) -> list[str]:
    data = {name.replace("_", "-"): value for name, value in faults.items()}
    state = Faults.read(data).spoil(felix.node_state(DATA, node), node, DATA)
    return sorted(str(route) for route in state.routes)


def test_every_fault_has_a_field_and_a_description() -> None:
    fields = {name.replace("_", "-") for name in Faults.__dataclass_fields__}
    names = {name.removesuffix("-seconds").removesuffix("-bytes") for name in fields}
    assert names == {name for name, _, _ in CALICO_FAULTS}
    assert all(form and text for _, form, text in (*API_FAULTS, *CALICO_FAULTS))


def test_an_empty_map_asks_for_nothing_and_foreign_entries_are_passed_over() -> None:
    assert Faults.read({}) == Faults()
    assert Faults.read({"api-delay": "3", "slow-convergence": "soon"}) == Faults()


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999"])
def test_what_is_no_finite_number_is_passed_over(text: str) -> None:
    entries = ("wrong-mtu", "felix-restart-gap", "slow-convergence", "operator-delay")
    assert Faults.read(dict.fromkeys(entries, text)) == Faults()
    store = Store()
    store.create("namespaces", {"metadata": {"name": "kube-system"}})
    body = {"metadata": {"name": "k8snet-lab-faults"}, "data": {"api-delay": text}}
    store.create("configmaps", body, "kube-system")
    assert ApiFaults(store).delay_seconds == 0


def test_values_are_read_with_their_units() -> None:
    found = Faults.read(
        {
            "felix-restart-gap": "2.5",
            "slow-convergence": "3",
            "wrong-mtu": "1400",
            "one-direction": "node1, node2,",
            "operator-delay": "1.5",
            "operator-degraded": "no room",
        }
    )
    assert found.felix_restart_gap_seconds == 2.5
    assert found.slow_convergence_seconds == 3
    assert found.wrong_mtu_bytes == 1400
    assert found.one_direction == {"node1", "node2"}
    assert (found.operator_delay_seconds, found.operator_degraded) == (1.5, "no room")


def test_missing_routes_leave_only_what_the_node_owns() -> None:
    assert spoilt(routes_missing_on="node1") == ["blackhole 10.0.1.0/26 proto 80"]
    assert len(spoilt("node2", routes_missing_on="node1")) == 3


def test_one_direction_takes_the_way_back_from_the_others() -> None:
    assert len(spoilt("node1", one_direction="node1")) == 3
    assert not any("10.0.1.0/26" in route for route in spoilt("node2", one_direction="node1"))


def test_a_missing_device_takes_its_routes_with_it() -> None:
    faults = Faults.read({"device-missing-on": "node1"})
    state = faults.spoil(felix.node_state(DATA, "node1"), "node1", DATA)
    assert (state.vxlan, state.vteps) == (None, frozenset())
    assert [str(route) for route in state.routes] == ["blackhole 10.0.1.0/26 proto 80"]


def test_a_kernel_lacks_a_driver_on_one_node_or_on_all() -> None:
    faults = Faults.read({"kernel-lacks": "ipip, vxlan:node1, vxlan:node10"})
    assert faults.lacking("node1") == {"ipip", "vxlan"}
    assert faults.lacking("node2") == {"ipip"}
    state = faults.spoil(felix.node_state(DATA, "node1"), "node1", DATA)
    assert (state.vxlan, state.vteps) == (None, frozenset())
    state = felix.node_state(DATA, "node2")
    assert faults.spoil(state, "node2", DATA) == state


def test_nodes_converge_one_after_the_other() -> None:
    delays = Faults.read({"slow-convergence": "6"}).convergence_delays(["a", "b", "c", "d"])
    assert delays == {"a": 0, "b": 2, "c": 4, "d": 6}


def test_a_restarting_felix_keeps_its_devices_and_what_does_not_change() -> None:
    old = felix.node_state(DATA, "node1")
    never = Datastore(
        hosts=DATA.hosts,
        pools=[Pool(name="p", cidr=IPv4Network("10.0.0.0/16"))],
        blocks=DATA.blocks,
        routers=DATA.routers,
    )
    without = felix.node_state(never, "node1")
    gap = during_restart(old, without)
    # BIRD waits for nobody.
    assert (gap.routes, gap.vxlan) == (without.routes, old.vxlan)
    gap = during_restart(without, old)
    assert (gap.routes, gap.vxlan) == (frozenset(), None)


def test_the_bypass_goes_direct_to_tunnelled_blocks_of_the_same_subnet() -> None:
    routes = kernel.routes_around(DATA, "node1")
    assert list(map(str, routes)) == [
        "10.0.2.0/26 via 192.168.0.12 dev eth0 onlink",
        "10.0.3.0/26 via 192.168.0.13 dev eth0 onlink",
    ]
    assert "ip daddr { 10.0.2.0/26, 10.0.3.0/26 } meta mark set" in kernel.bypass_rules(routes)
    assert "chain" not in kernel.bypass_rules([])


def test_the_bypass_goes_through_a_tunnel_where_the_routes_go_direct() -> None:
    never = replace(DATA, pools=[Pool(name="p", cidr=IPv4Network("10.0.0.0/16"))])
    assert list(map(str, kernel.routes_around(never, "node1"))) == [
        "10.0.2.0/26 via 10.0.2.0 dev vxlan.calico onlink",
        "10.0.3.0/26 via 10.0.3.0 dev vxlan.calico onlink",
    ]
    hosts = [replace(host, vxlan_tunnel=None, ipip_tunnel=host.vxlan_tunnel) for host in DATA.hosts]
    assert list(map(str, kernel.routes_around(replace(never, hosts=hosts), "node1"))) == [
        "10.0.2.0/26 via 192.168.0.12 dev tunl0 onlink",
        "10.0.3.0/26 via 192.168.0.13 dev tunl0 onlink",
    ]
    bare = [replace(host, vxlan_tunnel=None) for host in DATA.hosts]
    assert kernel.routes_around(replace(never, hosts=bare), "node1") == []

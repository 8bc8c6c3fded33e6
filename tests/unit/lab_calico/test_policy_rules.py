"""Which packet rules policies become: of Kubernetes, of Calico, of host endpoints."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from typing import Any

import pytest

from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.policies import (
    NotPlayedError,
    Policies,
    calico_policy,
    host_endpoints,
    node_rules,
    of_kubernetes,
    pod_endpoints,
)
from pytest_k8snet.lab.spec import LabSpec, study_nodes

SPACES = {"shop": {"team": "red"}, "tools": {"team": "blue"}}


def pod(name: str, namespace: str, address: str, **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "labels": {"app": name}}
    port = {"name": "http", "containerPort": 8080}
    containers = [{"name": "one", "ports": [port]}]
    return {
        "metadata": meta,
        "spec": {"nodeName": "node1", "containers": containers, **spec},
        "status": {"podIP": address},
    }


WEB, SHELL, PROBE = "10.244.0.1", "10.244.0.2", "10.244.1.1"
HTTP = "meta l4proto tcp ip daddr {} th dport 8080 accept"
PODS = [
    pod("web", "shop", WEB),
    pod("shell", "shop", SHELL),
    pod("probe", "tools", PROBE),
    pod("agent", "shop", "192.168.0.11", hostNetwork=True),
    {**pod("done", "shop", "10.244.0.9"), "status": {"phase": "Failed", "podIP": "10.244.0.9"}},
]
ENDS = pod_endpoints(PODS, SPACES)


def kubernetes(**spec: Any) -> list[str]:
    """What a NetworkPolicy of the namespace ``shop`` becomes for its pod ``web``."""
    body = {"metadata": {"name": "one", "namespace": "shop"}, "spec": {"podSelector": {}, **spec}}
    policy = calico_policy(of_kubernetes(body), ENDS)
    (rules,) = policy.rules.values()
    return rules


def ingress(**rule: Any) -> list[str]:
    return kubernetes(policyTypes=["Ingress"], ingress=[rule])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, ["accept"]),
        ({"ports": [{"port": 80}]}, ["meta l4proto tcp th dport { 80 } accept"]),
        (
            {"ports": [{"port": 80, "endPort": 90, "protocol": "UDP"}]},
            ["meta l4proto udp th dport { 80-90 } accept"],
        ),
        ({"ports": [{"protocol": "UDP"}]}, ["meta l4proto udp accept"]),
        # A name is a port of the pod that is asked, whichever it is.
        (
            {"ports": [{"port": "http"}]},
            [HTTP.format(address) for address in (WEB, SHELL, PROBE)],
        ),
        ({"ports": [{"port": "dns"}]}, []),
        # Pods of the host network and those that have ended have no address of their own.
        ({"from": [{"podSelector": {}}]}, [f"ip saddr {{ {WEB}/32, {SHELL}/32 }} accept"]),
        ({"from": [{"podSelector": {"matchLabels": {"app": "nobody"}}}]}, []),
        (
            {"from": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}}]},
            [f"ip saddr {{ {PROBE}/32 }} accept"],
        ),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/30", "except": ["10.0.0.2/32"]}}]},
            ["ip saddr { 10.0.0.0/30 } ip saddr != { 10.0.0.2/32 } accept"],
        ),
    ],
)
def test_a_rule_of_kubernetes(rule: dict[str, Any], expected: list[str]) -> None:
    assert ingress(**rule) == expected


def test_egress_names_where_a_packet_goes() -> None:
    to = [{"podSelector": {"matchLabels": {"app": "shell"}}}]
    found = kubernetes(policyTypes=["Egress"], egress=[{"to": to, "ports": [{"port": "http"}]}])
    to_shell = f"ip daddr {{ {SHELL}/32 }} ip daddr {SHELL}"
    assert found == [f"meta l4proto tcp {to_shell} th dport 8080 accept"]


@pytest.mark.parametrize(
    ("expression", "peers"),
    [
        ({"operator": "In", "values": ["web", "x"]}, {WEB}),
        ({"operator": "NotIn", "values": ["web"]}, {SHELL}),
        ({"operator": "Exists"}, {WEB, SHELL}),
        ({"operator": "DoesNotExist"}, set()),
    ],
)
def test_expressions_of_a_selector(expression: dict[str, Any], peers: set[str]) -> None:
    selector = {"matchExpressions": [{"key": "app", **expression}]}
    found = " ".join(ingress(**{"from": [{"podSelector": selector}]}))
    assert {address for address in (WEB, SHELL, PROBE) if address in found} == peers


def calico(namespace: str = "", **spec: Any) -> list[str]:
    meta = {"name": "one", **({"namespace": namespace} if namespace else {})}
    policy = calico_policy({"metadata": meta, "spec": spec}, ENDS)
    return policy.rules["Ingress"]


@pytest.mark.parametrize(
    ("namespace", "rule", "expected"),
    [
        ("", {"action": "Deny"}, ["drop"]),
        ("", {"action": "Pass", "protocol": "ICMP"}, ["meta l4proto icmp return"]),
        (
            "",
            {"action": "Allow", "protocol": "TCP", "destination": {"ports": [80, "90:99"]}},
            ["meta l4proto tcp th dport { 80, 90-99 } accept"],
        ),
        (
            "",
            {"action": "Allow", "protocol": "TCP", "destination": {"ports": ["http"]}},
            [HTTP.format(address) for address in (WEB, SHELL, PROBE)],
        ),
        (
            "",
            {"action": "Allow", "source": {"selector": "all()"}},
            [f"ip saddr {{ {WEB}/32, {SHELL}/32, {PROBE}/32 }} accept"],
        ),
        # Of a policy in a namespace, a selector alone is about this namespace.
        (
            "shop",
            {"action": "Allow", "source": {"selector": "all()"}},
            [f"ip saddr {{ {WEB}/32, {SHELL}/32 }} accept"],
        ),
        (
            "shop",
            {"action": "Allow", "source": {"namespaceSelector": "team == 'blue'"}},
            [f"ip saddr {{ {PROBE}/32 }} accept"],
        ),
        ("", {"action": "Allow", "source": {"selector": "app == 'nobody'"}}, []),
        (
            "",
            {"action": "Deny", "source": {"notNets": ["10.0.0.0/8"], "nets": ["10.1.0.0/16"]}},
            ["ip saddr { 10.1.0.0/16 } ip saddr != { 10.0.0.0/8 } drop"],
        ),
    ],
)
def test_a_rule_of_calico(namespace: str, rule: dict[str, Any], expected: list[str]) -> None:
    assert calico(namespace, types=["Ingress"], ingress=[rule]) == expected


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"doNotTrack": True}, "spec.doNotTrack"),
        ({"selector": "app contains 'x'"}, "not a selector that the lab understands"),
        ({"ingress": [{"action": "Allow", "http": {"methods": ["GET"]}}]}, "rule.http"),
        ({"ingress": [{"action": "Allow", "source": {"services": {"name": "x"}}}]}, "source.serv"),
    ],
)
def test_what_is_not_played_is_named(spec: dict[str, Any], named: str) -> None:
    with pytest.raises(NotPlayedError, match=named):
        calico(**spec)


def test_a_policy_that_is_not_played_says_so_in_an_event() -> None:
    store = Store()
    body = {"metadata": {"name": "one"}, "spec": {"doNotTrack": True}}
    store.create("globalnetworkpolicies.crd.projectcalico.org", body)
    store.create("namespaces", {"metadata": {"name": "default"}})
    policies = Policies(store, LabSpec(nodes=()))
    asyncio.run(policies.reconcile())
    asyncio.run(policies.reconcile())
    (event,) = store.list("events")
    assert event["message"] == (
        "the lab does not enforce this policy, for it does not play spec.doNotTrack"
    )


def rules(*policies: dict[str, Any], tiers: tuple[str, ...] = ("default",)) -> str:
    found = [
        calico_policy({"metadata": {"name": f"{n}"}, "spec": spec}, ENDS)
        for n, spec in enumerate(policies)
    ]
    return node_rules(ENDS[:1], found, tiers, [IPv4Address("192.168.0.11")])


def chain(text: str, number: int) -> list[str]:
    after = text.partition(f"-{number} {{\n")[2]
    return after.partition("\n}")[0].splitlines()


def test_policies_come_by_order_and_what_none_allows_is_dropped() -> None:
    deny = {"order": 20, "ingress": [{"action": "Deny"}]}
    allow = {"order": 10, "ingress": [{"action": "Allow", "protocol": "TCP"}]}
    last = {"ingress": [{"action": "Log"}, {"action": "Pass"}]}
    found = rules(last, deny, allow)
    assert chain(found, 0) == ["meta l4proto tcp accept", "drop", "return", "drop"]
    assert 'oifname "cali' in found
    assert 'iifname "cali' not in found


def test_a_tier_comes_before_the_next_one_which_gets_what_it_passes_on() -> None:
    first = {"tier": "security", "ingress": [{"action": "Pass"}]}
    found = rules({"ingress": [{"action": "Allow"}]}, first, tiers=("security", "default"))
    assert chain(found, 0) == ["return", "drop"]
    assert chain(found, 1) == ["accept", "drop"]
    jumps = [line.split()[-1][-1] for line in found.splitlines() if " jump " in line]
    assert jumps == ["0", "1"]


def test_a_host_endpoint_without_policies_is_closed_but_for_what_is_always_open() -> None:
    spec = LabSpec(nodes=study_nodes())
    body = {"metadata": {"name": "one"}, "spec": {"node": "node1", "interfaceName": "*"}}
    text = node_rules(host_endpoints([body], spec), [], ["default"], [IPv4Address("192.168.0.10")])
    assert chain(text, 0) == ["drop"]
    assert 'iifname != "lo" iifname != "cali*" jump ingress-host-0' in text
    assert "ip saddr { 192.168.0.10 } udp dport 4789 accept" in text
    assert "tcp . 22" in text


def test_a_host_endpoint_whose_profile_allows_is_open() -> None:
    node = {"node": "node1", "profiles": ["projectcalico-default-allow"]}
    found = host_endpoints(
        [{"metadata": {"name": "one"}, "spec": node}], LabSpec(nodes=study_nodes())
    )
    assert "chain" not in node_rules(found, [], ["default"], [])

from typing import Any

from pytest_k8snet.lab.dataplane.nat import (
    external_addresses,
    service_ports,
    service_rules,
)

WEB: dict[str, Any] = {
    "metadata": {"namespace": "shop", "name": "web"},
    "spec": {
        "clusterIP": "10.96.0.5",
        "clusterIPs": ["10.96.0.5"],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}],
    },
    "status": {"loadBalancer": {"ingress": [{"ip": "192.168.0.240"}]}},
}
ENDPOINTS: dict[str, Any] = {
    "shop/web": {
        "subsets": [
            {
                "addresses": [{"ip": "10.244.0.1"}, {"ip": "10.244.0.2"}],
                "notReadyAddresses": [{"ip": "10.244.0.3"}],
                "ports": [{"port": 8080}],
            }
        ]
    }
}
PODS = ["10.244.0.0/16"]


def rules(endpoints: dict[str, Any]) -> list[str]:
    return service_rules(service_ports([WEB], endpoints), PODS).splitlines()


def test_a_cluster_ip_leads_to_the_ready_endpoints_by_chance() -> None:
    lines = rules(ENDPOINTS)
    assert (
        "meta l4proto tcp dnat ip to numgen random mod 2 "
        "map { 0 : 10.244.0.1 . 8080, 1 : 10.244.0.2 . 8080 }" in lines
    )
    assert "10.96.0.5 . tcp . 80 : goto service-0" in "\n".join(lines)


def test_load_balancer_and_node_port_are_masqueraded_always() -> None:
    text = "\n".join(rules(ENDPOINTS))
    assert "192.168.0.240 . tcp . 80 : goto service-0-outside" in text
    assert "vmap { tcp . 30080 : goto service-0-outside }" in text


def test_a_service_without_endpoints_is_refused_on_every_way() -> None:
    text = "\n".join(rules({}))
    assert "dnat" not in text
    assert (
        "{ 10.96.0.5 . tcp . 80, 192.168.0.240 . tcp . 80 } "
        "reject with icmp type port-unreachable" in text
    )
    assert "{ tcp . 30080 } reject" in text


def test_a_headless_service_has_no_rules() -> None:
    headless = {**WEB, "spec": {**WEB["spec"], "clusterIP": "None", "clusterIPs": ["None"]}}
    assert service_ports([headless], ENDPOINTS) == []


def test_what_is_no_ipv4_address_of_a_host_is_passed_over() -> None:
    spec = {
        **WEB["spec"],
        "clusterIPs": ["10.96.0.5", "fd00::5"],
        "externalIPs": ["203.0.113.9", "2001:db8::9", "my-router", "127.0.0.1", "224.0.0.1"],
    }
    subset = {"addresses": [{"ip": "fd00::1"}, {"ip": "10.244.0.1"}], "ports": [{"port": 8080}]}
    (port,) = service_ports([{**WEB, "spec": spec}], {"shop/web": {"subsets": [subset]}})
    assert port.cluster_ips == ("10.96.0.5",)
    assert port.external_ips == ("192.168.0.240", "203.0.113.9")
    assert port.backends == (("10.244.0.1", 8080),)


def test_a_service_of_the_other_family_has_no_rules_of_this_one() -> None:
    spec = {"clusterIP": "fd00::5", "clusterIPs": ["fd00::5"], "ports": WEB["spec"]["ports"][:1]}
    (port,) = service_ports([{**WEB, "spec": spec, "status": {}}], ENDPOINTS)
    assert (port.cluster_ips, port.external_ips) == ((), ())


def test_an_address_that_two_services_claim_is_the_firsts() -> None:
    first, second = (
        {
            "metadata": {"namespace": "shop", "name": name},
            "spec": {
                "clusterIP": f"10.96.0.{number}",
                "externalIPs": ["203.0.113.9"],
                "ports": [{"port": 80, "protocol": "TCP"}],
            },
        }
        for number, name in ((5, "web"), (6, "other"))
    )
    endpoints = {"shop/other": ENDPOINTS["shop/web"]}
    text = service_rules(service_ports([first, second], ENDPOINTS | endpoints), PODS)
    assert text.count("203.0.113.9 . tcp . 80") == 1
    assert "203.0.113.9 . tcp . 80 : goto service-0-outside" in text
    # One without endpoints has it as well: refused, not served by the other.
    text = service_rules(service_ports([first, second], endpoints), PODS)
    assert text.count("203.0.113.9 . tcp . 80") == 1
    assert "203.0.113.9 . tcp . 80 } reject" in text


def test_the_load_balancers_addresses_are_those_to_answer_for() -> None:
    assert external_addresses(service_ports([WEB], ENDPOINTS)) == ["192.168.0.240"]

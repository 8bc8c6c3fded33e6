"""Services: the URL of each way to one, or the reason why there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from scripted_server import ScriptedServer, status

from pytest_k8snet.causes import Cause
from pytest_k8snet.cluster import services
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.services import existing_web_service
from pytest_k8snet.errors import ClusterError, NodesError

pytest_plugins = ["scripted_server_fixtures"]

SERVICES = "/api/v1/namespaces/shop/services"
HTTP = {"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"}


def offer(server: ScriptedServer, *ports: dict[str, Any], ingress: Any = None, **spec: Any) -> None:
    body = {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.7.7", "ports": [*ports]} | spec,
        "status": {"loadBalancer": {"ingress": ingress} if ingress else {}},
    }
    server.on(f"GET {SERVICES}/web", body)


def test_each_way_to_a_service_has_its_url(server: ScriptedServer, api: Api) -> None:
    offer(server, HTTP, ingress=[{"ip": "192.168.0.240"}])
    node = {
        "metadata": {"name": "node1"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.168.0.11"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    server.on("GET /api/v1/nodes", {"items": [node]})
    web = existing_web_service(api, "shop/web")
    assert web.cluster_ip_url == "http://10.96.7.7/"
    assert web.dns_url == "http://web.shop.svc.cluster.local./"
    assert web.node_port_url == "http://192.168.0.11:30080/"
    assert web.external_url == "http://192.168.0.240/"
    ways = [web.cluster_ip_url.way, web.dns_url.way, web.node_port_url.way, web.external_url.way]
    assert ways == ["clusterip", "dns", "nodeport", "loadbalancer"]


def test_a_node_port_needs_an_address(server: ScriptedServer, api: Api) -> None:
    offer(server, HTTP)
    node: dict[str, Any] = {
        "metadata": {"name": "node1"},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    server.on("GET /api/v1/nodes", {"items": [node]})
    with pytest.raises(NodesError, match="node1 has no address"):
        _ = existing_web_service(api, "shop/web").node_port_url
    node["status"]["addresses"] = [{"type": "ExternalIP", "address": "203.0.113.7"}]
    server.on("GET /api/v1/nodes", {"items": [node]})
    assert existing_web_service(api, "shop/web").node_port_url == "http://203.0.113.7:30080/"


def test_a_port_may_say_that_it_speaks_tls(server: ScriptedServer, api: Api) -> None:
    offer(server, {"name": "web", "port": 8443, "appProtocol": "https"})
    assert existing_web_service(api, "shop/web").cluster_ip_url == "https://10.96.7.7:8443/"


def test_other_ports_hostnames_and_ipv6_are_written_right(server: ScriptedServer, api: Api) -> None:
    offer(
        server,
        {"name": "api", "port": 8080},
        {"name": "https", "port": 8443},
        ingress=[{"hostname": "lb.example.com"}],
        clusterIP="fd00::7",
    )
    web = replace(existing_web_service(api, "shop/web:api"), cluster_domain="corp.internal")
    assert web.cluster_ip_url == "http://[fd00::7]:8080/"
    assert web.dns_url == "http://web.shop.svc.corp.internal.:8080/"
    assert web.external_url == "http://lb.example.com:8080/"
    secure = existing_web_service(api, "shop/web:8443")
    assert secure.external_url == "https://lb.example.com:8443/"


@pytest.mark.parametrize("reference", ["web", "/web", "shop/", "a/b/c", ""])
def test_a_malformed_reference_shows_the_form(api: Api, reference: str) -> None:
    with pytest.raises(ClusterError, match="names no Service") as caught:
        existing_web_service(api, reference)
    assert caught.value.remedy == "write namespace/name or namespace/name:port"


def test_a_missing_service_lists_those_that_exist(server: ScriptedServer, api: Api) -> None:
    server.on(f"GET {SERVICES}/web", status(404, "NotFound", 'services "web" not found'))
    items = [{"metadata": {"name": "site"}}, {"metadata": {"name": "api"}}]
    server.on(f"GET {SERVICES}", {"items": items})
    with pytest.raises(ClusterError, match='no Service "web" in namespace "shop"') as caught:
        existing_web_service(api, "shop/web")
    assert caught.value.found == "Services there: api, site"


def test_an_unclear_port_lists_the_choice(server: ScriptedServer, api: Api) -> None:
    offer(server, {"name": "a", "port": 8080}, {"port": 9090}, {"port": 53, "protocol": "UDP"})
    with pytest.raises(ClusterError, match="does not tell by itself which port") as caught:
        existing_web_service(api, "shop/web")
    assert caught.value.found == "its TCP ports: 8080 (a), 9090"
    with pytest.raises(ClusterError, match="has no TCP port 53"):
        existing_web_service(api, "shop/web:53")


def test_port_80_among_several_is_meant(server: ScriptedServer, api: Api) -> None:
    offer(server, {"name": "metrics", "port": 9090}, HTTP)
    assert existing_web_service(api, "shop/web").port == 80


def test_a_headless_service_has_no_cluster_ip(server: ScriptedServer, api: Api) -> None:
    offer(server, HTTP, type="ClusterIP", clusterIP="None")
    web = existing_web_service(api, "shop/web")
    with pytest.raises(ClusterError, match="service shop/web has no cluster IP") as caught:
        _ = web.cluster_ip_url
    assert "use dns_url" in caught.value.remedy


def test_a_cluster_ip_service_has_no_other_way_in(server: ScriptedServer, api: Api) -> None:
    offer(server, {"port": 80}, type="ClusterIP")
    web = existing_web_service(api, "shop/web")
    with pytest.raises(ClusterError, match="has no node port") as caught:
        _ = web.node_port_url
    assert caught.value.found == "type: ClusterIP"
    with pytest.raises(ClusterError, match="has no external address"):
        _ = web.external_url


@pytest.mark.parametrize(
    ("events", "found", "cause", "patient"),
    [
        (
            [],
            "no load balancer controller has reported anything about it",
            Cause.NO_BALANCER,
            False,
        ),
        (
            [("Warning", "SyncLoadBalancerFailed", "quota exceeded")],
            "event SyncLoadBalancerFailed: quota exceeded",
            Cause.BALANCER_FAILS,
            False,
        ),
        (
            [("Normal", "EnsuringLoadBalancer", "m")],
            "event EnsuringLoadBalancer: m",
            Cause.BALANCER_SLOW,
            True,
        ),
        (None, "events about it may not be read", Cause.BALANCER_UNKNOWN, True),
    ],
)
def test_a_load_balancer_that_never_comes_is_told_with_what_its_events_point_to(
    server: ScriptedServer,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    events: list[tuple[str, str, str]] | None,
    found: str,
    cause: Cause,
    patient: bool,
) -> None:
    # The limits are there to bound a wait; the test need not wait that long.
    monkeypatch.setattr(services, "_SILENCE_SECONDS", 9.0 if patient else 0.1)
    monkeypatch.setattr(services, "EXTERNAL_SECONDS", 0.1 if patient else 9.0)
    offer(server, HTTP)
    path = "GET /api/v1/namespaces/shop/events"
    if events is None:
        server.on(path, status(403, "Forbidden", "events is forbidden"))
    else:
        items = [{"type": kind, "reason": why, "message": text} for kind, why, text in events]
        server.on(path, {"items": items})
    web = existing_web_service(api, "shop/web")
    with pytest.raises(ClusterError, match="got no external address within") as caught:
        _ = web.external_url
    assert caught.value.found == found
    assert caught.value.remedy == cause.remedy

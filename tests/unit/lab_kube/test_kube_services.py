"""Services: their addresses and their endpoints, as kubectl would see them."""

from __future__ import annotations

from typing import Any

import pytest
from controller_play import SPEC, furnished_store, play, until

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.kube.services import ServiceEndpoints, slice_endpoints, subsets


@pytest.fixture
def store() -> Store:
    return furnished_store()


class TestServiceAddresses:
    def service(self, name: str, **spec: Any) -> Object:
        return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}

    def test_a_service_has_its_address_as_soon_as_it_is_made(self, store: Store) -> None:
        one, two = (store.create("services", self.service(name)) for name in ("a", "b"))
        addresses = {dig(one, "spec.clusterIP"), dig(two, "spec.clusterIP")}
        assert len(addresses) == 2
        assert all(address.startswith("10.96.0.") for address in addresses)
        assert one["spec"]["clusterIPs"] == [one["spec"]["clusterIP"]]

    def test_an_address_that_is_taken_is_refused(self, store: Store) -> None:
        taken = dig(store.create("services", self.service("a")), "spec.clusterIP")
        with pytest.raises(StatusError, match="provided IP is already allocated") as caught:
            store.create("services", self.service("b", clusterIP=taken))
        assert caught.value.code == 422

    def test_an_address_is_free_again_when_its_service_has_gone(self, store: Store) -> None:
        address = dig(store.create("services", self.service("a")), "spec.clusterIP")
        store.delete("services", "a", "default")
        again = store.create("services", self.service("b", clusterIP=address))
        assert dig(again, "spec.clusterIP") == address

    def test_a_headless_service_has_no_address(self, store: Store) -> None:
        made = store.create("services", self.service("a", clusterIP="None"))
        assert made["spec"]["clusterIP"] == "None"

    def test_node_ports_are_given_where_the_type_has_them(self, store: Store) -> None:
        made = store.create("services", self.service("a", type="NodePort"))
        port = made["spec"]["ports"][0]["nodePort"]
        assert 30000 <= port <= 32767
        wish = [{"port": 80, "nodePort": port}]
        with pytest.raises(StatusError, match="provided port is already allocated"):
            store.create("services", self.service("b", type="NodePort", ports=wish))

    def test_a_service_that_becomes_internal_loses_its_node_port(self, store: Store) -> None:
        store.create("services", self.service("a", type="NodePort"))
        patch = {"spec": {"type": "ClusterIP"}}
        changed = store.patch("services", "a", patch, "merge", "default")
        assert "nodePort" not in changed["spec"]["ports"][0]


class TestEndpoints:
    service: Object = {  # noqa: RUF012 -- never changed
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
    }

    def pod(self, address: str, *, ready: bool, port: int = 8080) -> Object:
        return {
            "metadata": {"name": address, "namespace": "default", "uid": address},
            "spec": {
                "nodeName": "node1",
                "containers": [{"ports": [{"name": "web", "containerPort": port}]}],
            },
            "status": {
                "podIP": address,
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": str(ready)}],
            },
        }

    def test_ready_pods_and_others_are_told_apart(self) -> None:
        found = subsets(
            self.service, [self.pod("10.0.0.1", ready=True), self.pod("10.0.0.2", ready=False)]
        )
        assert [entry["ip"] for entry in found[0]["addresses"]] == ["10.0.0.1"]
        assert [entry["ip"] for entry in found[0]["notReadyAddresses"]] == ["10.0.0.2"]
        assert found[0]["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]

    def test_pods_with_another_port_of_that_name_are_a_subset_of_their_own(self) -> None:
        pods = [self.pod("10.0.0.1", ready=True), self.pod("10.0.0.2", ready=True, port=9090)]
        found = subsets(self.service, pods)
        assert [entry["ports"][0]["port"] for entry in found] == [8080, 9090]

    def test_a_pod_of_the_services_subdomain_has_a_name_of_its_own(self) -> None:
        pods = [self.pod("10.0.0.1", ready=True), self.pod("10.0.0.2", ready=True)]
        for pod, subdomain in zip(pods, ("web", "other"), strict=True):
            pod["spec"] |= {"hostname": "first", "subdomain": subdomain}
        entries = subsets(self.service, pods)[0]["addresses"]
        assert [entry.get("hostname") for entry in entries] == ["first", None]
        endpoints, _ = slice_endpoints(self.service, pods)
        assert [entry.get("hostname") for entry in endpoints] == ["first", None]

    def test_the_slice_has_their_conditions(self) -> None:
        endpoints, ports = slice_endpoints(self.service, [self.pod("10.0.0.2", ready=False)])
        assert endpoints[0]["conditions"] == {
            "ready": False,
            "serving": False,
            "terminating": False,
        }
        assert ports == [{"name": "http", "port": 8080, "protocol": "TCP"}]

    def test_what_of_a_service_is_not_played_is_said_once(self, store: Store) -> None:
        spec = {"sessionAffinity": "ClientIP", "ports": [{"port": 80}]}

        async def scene() -> None:
            store.create("services", {"metadata": {"name": "web"}, "spec": spec})
            await until(lambda: bool(store.list("events")))
            store.patch("services", "web", {"metadata": {"labels": {"a": "b"}}}, "merge", "default")
            store.create(
                "services", {"metadata": {"name": "plain"}, "spec": {"ports": [{"port": 80}]}}
            )
            await until(lambda: len(store.list("services")) == 2)

        play(store, scene, [ServiceEndpoints(store, SPEC)])
        (event,) = store.list("events")
        assert (event["reason"], event["count"]) == ("NotPlayed", 1)
        assert event["message"] == "the lab does not play spec.sessionAffinity: ClientIP"

    def test_a_load_balancer_gets_an_address_and_gives_it_back(self, store: Store) -> None:
        spec = {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]}

        def ingress() -> list[Object]:
            service = store.get("services", "web", "default")
            found: list[Object] = dig(service, "status.loadBalancer.ingress", [])
            return found

        async def scene() -> None:
            store.create("services", {"metadata": {"name": "web"}, "spec": spec})
            await until(lambda: bool(ingress()))
            assert ingress()[0]["ip"] == "192.168.0.240"
            store.patch("services", "web", {"spec": {"type": "ClusterIP"}}, "merge", "default")
            await until(lambda: not ingress())

        play(store, scene, [ServiceEndpoints(store, SPEC)])

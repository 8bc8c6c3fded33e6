"""How states read in kubectl's tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.resources import Registry
from pytest_k8snet.lab.apiserver import kubectl
from pytest_k8snet.lab.apiserver.kubectl import form, render
from pytest_k8snet.lab.spec import CalicoSpec


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (5 * 3600 + 600, "5h10m"),
        (30 * 3600, "30h"),
        (50 * 3600, "2d2h"),
        (20 * 86400, "20d"),
        (800 * 86400, "2y70d"),
    ],
)
def test_durations_have_as_many_digits_as_a_person_wants(seconds: int, text: str) -> None:
    assert kubectl.duration(seconds) == text


def test_ages() -> None:
    moment = datetime.now(UTC) - timedelta(days=20)
    assert kubectl.age(moment.strftime("%Y-%m-%dT%H:%M:%SZ")) == "20d"
    assert kubectl.age(None) == kubectl.age("2026-99-99T00:00:00Z") == "<unknown>"


def pod(*states: dict[str, Any], phase: str = "Running", **meta: Any) -> Object:
    return {"metadata": meta, "status": {"phase": phase, "containerStatuses": list(states)}}


RUNNING = {"ready": True, "state": {"running": {}}}


@pytest.mark.parametrize(
    ("obj", "text"),
    [
        (pod(RUNNING), "Running"),
        (pod(phase="Pending"), "Pending"),
        (pod({"state": {"waiting": {"reason": "ErrImagePull"}}}), "ErrImagePull"),
        (pod({"state": {"terminated": {"reason": "Error", "exitCode": 1}}}), "Error"),
        (pod({"state": {"terminated": {"exitCode": 3}}}), "ExitCode:3"),
        (pod({"state": {"terminated": {"signal": 9, "exitCode": 137}}}), "Signal:9"),
        (pod(RUNNING, deletionTimestamp="now"), "Terminating"),
        ({"status": {"phase": "Failed", "reason": "Evicted"}, "metadata": {}}, "Evicted"),
        (
            {
                "metadata": {},
                "status": {
                    "phase": "Failed",
                    "reason": "DeadlineExceeded",
                    "containerStatuses": [],
                },
            },
            "DeadlineExceeded",
        ),
    ],
)
def test_the_status_of_a_pod_is_its_best_explanation(obj: Object, text: str) -> None:
    assert kubectl.pod_status(obj) == text


def test_external_addresses_of_services() -> None:
    def external(kind: str, **more: Any) -> str:
        ingress = {"loadBalancer": {"ingress": more.pop("ingress", [])}}
        return kubectl.service_external({"spec": {"type": kind, **more}, "status": ingress})

    assert external("ClusterIP") == "<none>"
    assert external("LoadBalancer") == "<pending>"
    assert external("LoadBalancer", ingress=[{"ip": "192.168.0.240"}]) == "192.168.0.240"
    assert external("ExternalName", externalName="example.com") == "example.com"


def test_many_endpoints_are_cut() -> None:
    addresses = [{"ip": f"10.0.0.{n}"} for n in range(1, 6)]
    endpoints: Object = {"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]}
    assert kubectl.endpoint_addresses(endpoints) == (
        "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more..."
    )


def test_a_selector_object_in_the_notation_of_the_command_line() -> None:
    terms = [
        {"key": "b", "operator": "In", "values": ["1", "2"]},
        {"key": "c", "operator": "Exists"},
        {"key": "d", "operator": "DoesNotExist"},
    ]
    selector = {"matchLabels": {"a": "0"}, "matchExpressions": terms}
    assert kubectl.label_selector_text(selector) == "a=0,b in (1,2),c,!d"


def test_every_kind_has_a_table_even_of_an_object_with_nothing_in_it() -> None:
    for resource in Registry(CalicoSpec(install="operator", api_shape="B")).served():
        table = render(resource, [{"metadata": {"name": "x"}}], {})
        assert len(table["rows"][0]["cells"]) == len(table["columnDefinitions"])


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", ""),
        ("application/json", ""),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "Table"),
        ("application/json; as=Table; v=v1; g=meta.k8s.io", "Table"),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", ""),
        ("application/vnd.kubernetes.protobuf,application/json", ""),
        ("application/json,application/json;as=Table;v=v1;g=meta.k8s.io", ""),
    ],
)
def test_the_form_that_a_client_prefers(accept: str, wanted: str) -> None:
    assert form(accept) == wanted

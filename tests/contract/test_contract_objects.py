"""What a Deployment with its Service becomes: objects and events as on the recorded cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .cluster import Cluster, Object
from .recording import DATA
from .scenes import IMAGE

RECORDED = json.loads((DATA / "objects.json").read_text(encoding="utf-8"))
PATHS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "ReplicaSet": "/apis/apps/v1/namespaces/{}/replicasets",
    "Pod": "/api/v1/namespaces/{}/pods",
    "Service": "/api/v1/namespaces/{}/services",
    "Endpoints": "/api/v1/namespaces/{}/endpoints",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
}
#: What the lab does otherwise, with the reason.
LAB_DIFFERS = {
    "volumes": "pods have no token of their account: nothing in the lab asks the API from a pod",
    "volumeMounts": "the same",
}


@pytest.fixture(scope="module")
def space(cluster: Cluster) -> str:
    """A namespace with the recorded Deployment and Service, which answers."""
    if not cluster.has_nodes:
        pytest.skip("no controllers and kubelets work here")
    space = cluster.namespace(f"{cluster.prefix}-objects")
    deployment, *_, service = RECORDED["objects"][:4]
    template = deployment["spec"]["template"]
    (container,) = template["spec"]["containers"]
    container |= {"image": IMAGE, "command": ["python3", "-m", "http.server"], "args": ["8080"]}
    container["readinessProbe"]["httpGet"]["path"] = "/"
    for kind, body in (("Service", service), ("Deployment", deployment)):
        meta = {"name": "web", "labels": body["metadata"]["labels"]}
        spec = {key: value for key, value in body["spec"].items() if not key.startswith("cluster")}
        cluster.make(PATHS[kind].format(space), {"metadata": meta, "spec": spec})
    path = f"{PATHS['Deployment'].format(space)}/web"
    cluster.until(path, lambda found: found.get("status", {}).get("readyReplicas") == 3)
    path = f"{PATHS['Endpoints'].format(space)}/web"
    cluster.until(
        path, lambda found: len((found.get("subsets") or [{}])[0].get("addresses", ())) == 3
    )
    return space


def fields(value: Any, at: str = "") -> Iterator[str]:
    """The path of every field, with the kind of its value; items of a list are taken together."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from fields(inner, f"{at}.{key}" if at else key)
    elif isinstance(value, list):
        for inner in value:
            yield from fields(inner, f"{at}[]")
    else:
        yield f"{at}: {type(value).__name__}"


def differences(cluster: Cluster, found: Object, recorded: Object) -> set[str]:
    """The fields that only one of two objects has, but those that the lab may lack."""
    odd = {*fields(found)} ^ {*fields(recorded)}
    return {
        path for path in odd if not (cluster.is_lab and any(name in path for name in LAB_DIFFERS))
    }


@pytest.mark.parametrize("recorded", RECORDED["objects"], ids=lambda one: str(one["kind"]))
def test_an_object_has_the_fields_that_were_recorded(
    cluster: Cluster, space: str, recorded: Object
) -> None:
    kind = recorded["kind"]
    (found, *_) = cluster.get(PATHS[kind].format(space))["items"]
    found |= {"kind": kind, "apiVersion": recorded["apiVersion"]}
    for one in (found, recorded):
        one["metadata"].pop("managedFields", None)
        spec = one if "template" not in one.get("spec", {}) else one["spec"]["template"]
        for container in spec.get("spec", {}).get("containers", ()):
            container.pop("command", None)
    assert differences(cluster, found, recorded) == set()


def told(events: list[Object]) -> list[tuple[str, str]]:
    """Kind and reason of each event of what the Deployment consists of, in the API's order."""
    return [(one["involvedObject"]["kind"], one["reason"]) for one in events]


def test_events_come_in_the_order_of_their_names_and_have_the_recorded_fields(
    cluster: Cluster, space: str
) -> None:
    found = cluster.get(f"/api/v1/namespaces/{space}/events")["items"]
    assert told(found) == told(RECORDED["events"])
    for one, recorded in zip(found, RECORDED["events"], strict=True):
        one["metadata"].pop("managedFields", None)
        assert differences(cluster, one, recorded) == set(), one["reason"]

"""Preflight: what a run of a level needs, and what of it is missing."""

from __future__ import annotations

import json
from collections.abc import Generator
from itertools import product
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from small_api import SmallApi, running

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.connection import connect
from pytest_k8snet.cluster.preflight import check, permissions

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def server() -> Generator[SmallApi]:
    with running() as api:
        api.on("GET /version", {"gitVersion": "v1.32.1"})
        api.on("GET /api/v1/nodes", {"items": [_node("a"), _node("b")]})
        yield api


@pytest.fixture
def api(server: SmallApi, tmp_path: Path) -> Generator[Api]:
    made = connect(kubeconfig=server.kubeconfig(tmp_path))
    yield made
    made.close()


def _node(name: str) -> dict[str, object]:
    ready = {"type": "Ready", "status": "True"}
    return {"metadata": {"name": name}, "status": {"conditions": [ready]}}


def grant(server: SmallApi, *denied: tuple[str, str]) -> None:
    async def review(request: web.BaseRequest) -> web.StreamResponse:
        asked = json.loads(await request.read())["spec"]["resourceAttributes"]
        what = asked["resource"] + (f"/{asked['subresource']}" if "subresource" in asked else "")
        return web.json_response({"status": {"allowed": (asked["verb"], what) not in denied}})

    server.on("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)


def test_a_cluster_that_grants_all_is_fine(server: SmallApi, api: Api) -> None:
    grant(server)
    report = check(api, level="in-place")
    assert report.ok
    assert report.missing() == []
    lines = report.lines()
    assert lines[0] == f"server      {server.url} (context small, user jane)"
    assert lines[1] == "kubernetes  v1.32.1"
    assert lines[2] == "nodes       2 of 2 usable"


def test_missing_permissions_are_named(server: SmallApi, api: Api) -> None:
    grant(server, ("create", "pods/exec"), ("list", "events"))
    report = check(api)
    assert report.problems == ('user "jane" may not create pods/exec',)
    assert [str(permission) for permission in report.missing()] == ["create pods/exec"]
    text = "\n".join(report.lines())
    assert "no: create pods/exec\n" in text
    assert "no: list events (optional)" in text


def test_a_level_asks_for_what_it_needs_alone(server: SmallApi, api: Api) -> None:
    grant(server)
    asked = set(map(str, check(api).allowed))
    assert "create pods/exec" in asked
    assert not any("leases" in text or "create services" in text for text in asked)
    change = set(map(str, check(api, level="dedicated").allowed))
    assert "create ippools.crd.projectcalico.org" in change
    assert "patch installations.operator.tigera.io" not in change
    other = set(map(str, check(api, level="in-place", calico_group="projectcalico.org").allowed))
    assert "patch ippools.projectcalico.org" in other


def test_a_given_namespace_needs_no_permission_to_make_one(server: SmallApi, api: Api) -> None:
    grant(server)
    assert "create namespaces" in map(str, check(api).allowed)
    assert "create namespaces" not in map(str, check(api, namespace="x").allowed)


def test_each_permission_is_asked_for_in_its_place(server: SmallApi, api: Api) -> None:
    grant(server)
    server.bodies.clear()
    check(api, level="dedicated", namespace="mine", state_namespace="state")
    places: dict[str, set[str]] = {}
    for body in server.bodies:
        if b"resourceAttributes" in body:
            asked = json.loads(body)["spec"]["resourceAttributes"]
            places.setdefault(asked["resource"], set()).add(asked.get("namespace", ""))
    assert places["nodes"] == {""}
    assert places["pods"] == {"mine"}
    assert places["leases"] == places["configmaps"] == {"state"}


def test_too_few_nodes_and_old_versions_are_problems(server: SmallApi, api: Api) -> None:
    grant(server)
    server.on("GET /version", {"gitVersion": "v1.18.20+k3s1"})
    server.on("GET /api/v1/nodes", {"items": [_node("a")]})
    assert check(api).problems == (
        "two usable nodes are needed and there are 1",
        "Kubernetes v1.18.20+k3s1 is older than 1.21",
    )


def test_the_documented_roles_grant_what_is_asked_for_and_no_more() -> None:
    granted: set[tuple[str, str, str]] = set()
    for role in yaml.safe_load_all((DOCS / "rbac.yaml").read_text("utf-8")):
        for rule in (role or {}).get("rules") or []:
            if "resourceNames" not in rule:  # no access review can ask for those
                granted.update(product(rule["verbs"], rule["resources"], rule["apiGroups"]))
    # Calico's own API and the CRDs below it are two groups of the same resources.
    asked = {
        (
            permission.verb,
            "/".join(filter(None, (permission.resource, permission.subresource))),
            permission.group,
        )
        for group in ("crd.projectcalico.org", "projectcalico.org")
        for permission in permissions(group)
    }
    assert granted == asked


def test_no_permission_is_listed_twice() -> None:
    everything = permissions()
    assert len(set(everything)) == len(everything)

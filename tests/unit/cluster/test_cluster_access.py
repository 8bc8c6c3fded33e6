"""Preflight: what a run of a level needs, and what of it is missing."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from scripted_server import ScriptedServer

from pytest_k8snet.cluster.access import CRD_GROUP, LEVELS, Level, check, permissions
from pytest_k8snet.cluster.api import Api

pytest_plugins = ["scripted_server_fixtures"]

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def server(server: ScriptedServer) -> ScriptedServer:
    server.on("GET /version", {"gitVersion": "v1.32.1"})
    server.on("GET /api/v1/nodes", {"items": [_node("a"), _node("b")]})
    return server


def _node(name: str) -> dict[str, object]:
    ready = {"type": "Ready", "status": "True"}
    return {"metadata": {"name": name}, "status": {"conditions": [ready]}}


def grant(server: ScriptedServer, *denied: tuple[str, str]) -> None:
    async def review(request: web.BaseRequest) -> web.StreamResponse:
        asked = json.loads(await request.read())["spec"]["resourceAttributes"]
        what = asked["resource"] + (f"/{asked['subresource']}" if "subresource" in asked else "")
        return web.json_response({"status": {"allowed": (asked["verb"], what) not in denied}})

    server.on("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)


def test_a_cluster_that_grants_all_is_fine(server: ScriptedServer, api: Api) -> None:
    grant(server)
    report = check(api)
    assert report.problems == ()
    assert [report.missing(level) for level in LEVELS] == [[], [], [], []]
    lines = report.lines()
    assert lines[0] == f"server      {server.url} (context scripted, user jane)"
    assert lines[1] == "kubernetes  v1.32.1"
    assert lines[2] == "nodes       2 of 2 usable"


def test_missing_permissions_are_named_at_the_levels_that_need_them(
    server: ScriptedServer, api: Api
) -> None:
    grant(server, ("create", "pods/exec"), ("list", "events"), ("get", "ippools"))
    report = check(api, calico_group="projectcalico.org")
    pools = ["get ippools.projectcalico.org", "get ippools.crd.projectcalico.org"]
    assert [report.missing(level) for level in LEVELS] == [
        ["create pods/exec"],
        [],
        # Beneath the API server, dedicated needs them only while that is cut off.
        pools[:1],
        pools,
    ]
    assert report.missing_optional() == ["list events", pools[1]]


def test_each_level_needs_the_first_and_none_of_the_others() -> None:
    def of(level: Level) -> set[str]:
        return {str(one) for one in permissions() if level in one.levels}

    assert of("service").isdisjoint(of("dedicated") | of("in-place"))
    pools = "ippools.crd.projectcalico.org"
    assert {f"create {pools}", f"delete {pools}"} <= of("dedicated") & of("in-place")
    assert {f"patch {pools}", "get leases.coordination.k8s.io k8snet-change"} <= of("in-place")


def test_an_object_of_which_only_the_name_is_granted_is_asked_for_by_its_name(
    server: ScriptedServer, api: Api
) -> None:
    grant(server)
    check(api)
    named = {
        (asked["verb"], asked["resource"]): asked.get("name")
        for body in server.bodies
        if b"resourceAttributes" in body
        for asked in [json.loads(body)["spec"]["resourceAttributes"]]
    }
    assert named["get", "configmaps"] == "k8snet-journal"
    assert named["update", "leases"] == "k8snet-change"
    assert named["create", "leases"] is None


def test_a_given_namespace_needs_no_permission_to_make_one(
    server: ScriptedServer, api: Api
) -> None:
    grant(server)
    assert "create namespaces" in map(str, check(api).allowed)
    assert "create namespaces" not in map(str, check(api, namespace="x").allowed)


def test_each_permission_is_asked_for_in_its_place(server: ScriptedServer, api: Api) -> None:
    grant(server)
    server.bodies.clear()
    check(api, namespace="mine", state_namespace="state")
    places: dict[str, set[str]] = {}
    for body in server.bodies:
        if b"resourceAttributes" in body:
            asked = json.loads(body)["spec"]["resourceAttributes"]
            places.setdefault(asked["resource"], set()).add(asked.get("namespace", ""))
    assert places["nodes"] == {""}
    assert places["pods"] == places["deployments"] == {"mine"}
    assert places["leases"] == {"state"}


def test_too_few_nodes_and_old_versions_are_problems(server: ScriptedServer, api: Api) -> None:
    grant(server)
    server.on("GET /version", {"gitVersion": "v1.18.20+k3s1"})
    server.on("GET /api/v1/nodes", {"items": [_node("a")]})
    report = check(api)
    assert report.problems == (
        "two usable nodes are needed and there are 1",
        "Kubernetes v1.18.20+k3s1 is older than 1.21",
    )
    assert report.lines()[-1] == "problem     Kubernetes v1.18.20+k3s1 is older than 1.21"


def test_the_documented_roles_grant_what_is_asked_for_and_no_more() -> None:
    granted: set[tuple[str, str, str, str]] = set()
    for role in yaml.safe_load_all((DOCS / "rbac.yaml").read_text("utf-8")):
        for rule in role["rules"]:
            names = rule.get("resourceNames", [""])
            granted.update(product(rule["verbs"], rule["resources"], rule["apiGroups"], names))
    crd, v3 = CRD_GROUP, "projectcalico.org"
    asked = {
        (
            one.verb,
            "/".join(filter(None, (one.resource, one.subresource))),
            one.group,
            one.name,
        )
        # Without an API server of Calico's, with one, and where it stores in its own group.
        for groups in ((crd, crd), (v3, crd), (v3, v3))
        for one in permissions(*groups)
    }
    assert granted == asked


@pytest.mark.parametrize("calico_group", [CRD_GROUP, "projectcalico.org"])
def test_no_permission_is_listed_twice(calico_group: str) -> None:
    everything = permissions(calico_group)
    assert len(set(everything)) == len(everything)

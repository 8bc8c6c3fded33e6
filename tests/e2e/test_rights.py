"""Least privilege: each level of docs/rbac.yaml is enough for its runs, and grants no more."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from user_runs import nothing_left

from pytest_k8snet.cluster.api import Api, connect
from pytest_k8snet.cluster.api_errors import parse
from pytest_k8snet.cluster.http import HttpClient
from pytest_k8snet.lab import LabProcess

ROLES = {
    role["metadata"]["name"]: role
    for role in yaml.safe_load_all((Path(__file__).parents[2] / "docs" / "rbac.yaml").read_text())
}
RBAC = "/apis/rbac.authorization.k8s.io/v1"
GIVEN = "k8snet-given"
WEB = """
    def test_pair(pod_pair):
        assert pod_pair.iperf3(seconds=1, omit_seconds=0).bandwidth > 0

    def test_nodes(node_pair):
        assert node_pair.iperf3(seconds=1, omit_seconds=0).bandwidth > 0

    def test_web(pod, web_service):
        assert not pod.curl(web_service.cluster_ip_url, requests=2).failed
"""
MODE = """
    import pytest

    @pytest.mark.k8snet_modes("Never")
    def test_mode(calico_mode, pod_pair):
        assert pod_pair.iperf3(seconds=1, omit_seconds=0).bandwidth > 0
"""

#: What a level grants and a run on this lab that goes well does not ask for: verb, resource, why.
_TROUBLE = "asked for only when something goes wrong"
_ELSEWHERE = "asked for where there is an operator, an aggregated API server or a migration"
_BY_NAME = "without the right to list"
SPARED = {
    ("get", "pods"): _TROUBLE,
    ("get", "pods/log"): _TROUBLE,
    ("list", "events"): _TROUBLE,
    ("list", "networkpolicies.networking.k8s.io"): _TROUBLE,
    ("create", "pods/exec"): "Kubernetes 1.35 asks for it",
    ("get", "deployments.apps"): _TROUBLE,
    ("delete", "deployments.apps"): "in a namespace that is kept",
    ("delete", "services"): "in a namespace that is kept",
    ("delete", "pods"): "in a namespace that is kept, and when modes change",
    ("list", "deployments.apps"): "after a killed run",
    ("list", "services"): "after a killed run",
    ("get", "namespaces"): _BY_NAME,
    ("update", "configmaps"): "the journal, when a run changes Calico a second time",
    ("get", "services"): "a Service that exists",
    ("list", "servicecidrs.networking.k8s.io"): "asked for by doctor, and where pools are made",
}
ELSEWHERE = (
    "operator.tigera.io",
    ".projectcalico.org",
    "apiregistration.k8s.io",
    "migration.projectcalico.org",
    "policy.networking.k8s.io",
)


@pytest.fixture(scope="module")
def api(lab: LabProcess) -> Iterator[Api]:
    made = connect(kubeconfig=lab.kubeconfig)
    yield made
    made.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """Note what runs in this process ask of the API, where it leaves it: verb and resource."""
    noted: set[tuple[str, str]] = set()

    def note(method: str, path: str, verb: str = "") -> None:
        target = parse(method, path)
        if target.resource:
            resource = f"{target.resource}.{target.group}" if target.group else target.resource
            resource += f"/{target.subresource}" if target.subresource else ""
            noted.add((verb or target.verb, resource))

    once, lines, stream = HttpClient.once, HttpClient.lines, HttpClient.open_websocket

    def noted_once(self: HttpClient, method: str, path: str, **options: Any) -> Any:
        note(method, path)
        return once(self, method, path, **options)

    def noted_lines(self: HttpClient, path: str, *args: Any, **options: Any) -> Any:
        note("GET", path, "watch")
        return lines(self, path, *args, **options)

    def noted_stream(self: HttpClient, path: str, *args: Any, **options: Any) -> Any:
        note("GET", path)
        return stream(self, path, *args, **options)

    monkeypatch.setattr(HttpClient, "once", noted_once)
    monkeypatch.setattr(HttpClient, "lines", noted_lines)
    monkeypatch.setattr(HttpClient, "open_websocket", noted_stream)
    return noted


@contextmanager
def granted(api: Api, roles: dict[str, str]) -> Generator[str]:
    """A user with these roles, each in a namespace or (empty) in all of the cluster."""
    user = "someone"
    made: list[str] = []
    try:
        for name, space in roles.items():
            role = ROLES[name]
            where = f"/namespaces/{space}" if space else ""
            kinds = "roles" if role["kind"] == "Role" else "clusterroles"
            at = f"{RBAC}{where}/{kinds}" if kinds == "roles" else f"{RBAC}/{kinds}"
            binding = {
                "metadata": {"name": name},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": role["kind"],
                    "name": name,
                },
                "subjects": [{"kind": "User", "name": user}],
            }
            bindings = f"{RBAC}{where}/{'rolebindings' if space else 'clusterrolebindings'}"
            for path, body in ((at, role), (bindings, binding)):
                api.create(path, body)
                made.append(f"{path}/{name}")
        yield user
    finally:
        for path in reversed(made):
            api.delete(path)


def kubeconfig_as(lab: LabProcess, user: str, folder: Path) -> Path:
    config = yaml.safe_load(lab.kubeconfig.read_text())
    config["users"][0]["user"]["as"] = user
    path = folder / "someone.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def rights(roles: dict[str, str]) -> set[tuple[str, str]]:
    return {
        (verb, f"{resource}.{group}" if group else resource)
        for name in roles
        for rule in ROLES[name]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


OWN = dict.fromkeys(("k8snet-measure", "k8snet-namespaces", "k8snet-pods"), "")
NAMED = ("-o", f"k8snet_namespace={GIVEN}")
LEVELS: dict[str, tuple[dict[str, str], tuple[str, ...], str]] = {
    "namespace": (
        {"k8snet-pods": GIVEN, "k8snet-service": GIVEN},
        (*NAMED, "--k8snet-nodes=node1,node2"),
        WEB,
    ),
    "read": (
        {"k8snet-pods": GIVEN, "k8snet-service": GIVEN, "k8snet-measure": ""},
        NAMED,
        WEB,
    ),
    "own namespace": ({**OWN, "k8snet-service": ""}, (), WEB),
    "dedicated": (
        {**OWN, "k8snet-dedicated": "", "k8snet-state": "kube-system"},
        ("--k8snet-change=dedicated",),
        MODE,
    ),
    "in place": (
        {**OWN, "k8snet-in-place": "", "k8snet-state": "kube-system"},
        (
            "--k8snet-change=in-place:default-ipv4-ippool",
            *("-o", "k8snet_fabric_routes_pods=true"),
        ),
        MODE,
    ),
}


@pytest.mark.parametrize("level", list(LEVELS))
def test_a_level_is_enough_and_grants_what_it_asks_for(
    lab: LabProcess, api: Api, pytester: pytest.Pytester, asked: set[tuple[str, str]], level: str
) -> None:
    roles, arguments, suite = LEVELS[level]
    pytester.makepyfile(suite)
    if GIVEN in roles.values():
        api.create("/api/v1/namespaces", {"metadata": {"name": GIVEN}})
    try:
        with granted(api, roles) as user, nothing_left(api):
            asked.clear()
            kubeconfig = kubeconfig_as(lab, user, pytester.path)
            result = pytester.runpytest_inprocess(f"--kubeconfig={kubeconfig}", *arguments)
            seen = set(asked)
    finally:
        if GIVEN in roles.values():
            api.delete(f"/api/v1/namespaces/{GIVEN}")
    assert result.parseoutcomes().keys() <= {"passed", "deselected"}
    idle = {
        (verb, resource)
        for verb, resource in rights(roles) - seen
        if (verb, resource) not in SPARED and not resource.endswith(ELSEWHERE)
    }
    assert idle == set(), "rights that no run of this level has asked for"

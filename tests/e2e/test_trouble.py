"""Trouble with a cluster, as a user sees it: an ERROR with one clear message, and nothing left.

Each test is a run of pytest of its own on the shared lab, in this process to save its imports.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from user_runs import fault, message, nothing_left, patched

from pytest_k8snet.change import readiness
from pytest_k8snet.cluster.api import Api, connect
from pytest_k8snet.lab import LabProcess

PAIR = """
    from pytest_k8snet import Mbit

    def test_one(pod_pair):
        assert pod_pair.iperf3(seconds=1, omit_seconds=0).bandwidth > 1 * Mbit

    def test_two(node_pair): pass
"""


@pytest.fixture(scope="module")
def api(lab: LabProcess) -> Api:
    return connect(kubeconfig=lab.kubeconfig)


@pytest.fixture(autouse=True)
def _nothing_left(api: Api) -> Iterator[None]:
    with nothing_left(api):
        yield


def run(pytester: pytest.Pytester, kubeconfig: Path, *args: str, test: str = PAIR) -> str:
    """A run in which something was an ERROR and nothing was FAILED; what it printed."""
    pytester.makepyfile(test)
    result = pytester.runpytest_inprocess(f"--kubeconfig={kubeconfig}", *args)
    outcomes = result.parseoutcomes()
    assert outcomes.get("errors", outcomes.get("error", 0)), outcomes
    assert "failed" not in outcomes
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    output = result.stdout.str()
    assert "Traceback" not in output
    return output


def told_once(output: str, test: str = "test_one") -> str:
    """The message of the first test; the second only points to it."""
    assert output.count("  to do: ") == 1
    assert output.count("  found: the same as at ") == 1
    return message(output, test)


def kubeconfig_with(lab: LabProcess, to: Path, *, token: str = "", authority: str = "") -> Path:
    config = yaml.safe_load(lab.kubeconfig.read_text())
    if token:
        config["users"][0]["user"]["token"] = token
    if authority:
        config["clusters"][0]["cluster"]["certificate-authority-data"] = authority
    path = to / "changed.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


# -- the way in ------------------------------------------------------------------------------------


def test_401_names_the_user(lab: LabProcess, pytester: pytest.Pytester, tmp_path: Path) -> None:
    path = kubeconfig_with(lab, tmp_path, token="expired")
    assert told_once(run(pytester, path)) == (
        'UnauthorizedError: the API server does not accept the credentials of user "k8snet-lab"\n'
        "  found: Unauthorized\n"
        "  to do: log in again or renew the token or certificate in the kubeconfig; `kubectl get "
        "nodes` with the same kubeconfig and context must work first"
    )


def test_a_certificate_of_another_authority(
    lab: LabProcess, pytester: pytest.Pytester, tmp_path: Path, other_authority: str
) -> None:
    path = kubeconfig_with(lab, tmp_path, authority=other_authority)
    found = told_once(run(pytester, path))
    assert found.startswith(
        f"ConnectError: the certificate of the API server {lab.server} is not trusted\n  found: "
    )
    assert found.endswith(
        "  to do: certificate-authority(-data) of the kubeconfig's cluster entry is not the "
        "authority that signed it: fetch the kubeconfig again from the cluster"
    )


@pytest.fixture
def other_authority() -> str:
    """The certificate of an authority that has signed nothing here, as a kubeconfig has it."""
    import base64

    from pytest_k8snet.lab import credentials

    config = yaml.safe_load(credentials.make().kubeconfig("https://127.0.0.1:1"))
    data = str(config["clusters"][0]["cluster"]["certificate-authority-data"])
    assert base64.b64decode(data).startswith(b"-----BEGIN CERTIFICATE")
    return data


@pytest.mark.parametrize(
    ("rule", "who", "test"),
    [
        ("list:nodes", "list nodes", "kubectl auth can-i list nodes"),
        ("create:namespaces", "create namespaces", "kubectl auth can-i create namespaces"),
        (
            "create:pods",
            'create pods in namespace "k8snet-',
            "kubectl auth can-i create pods -n k8snet-",
        ),
        (
            "*:pods/exec",
            'get pods/exec in namespace "k8snet-',
            "kubectl auth can-i get pods --subresource=exec -n k8snet-",
        ),
    ],
)
def test_403_names_verb_and_resource(
    lab: LabProcess, api: Api, pytester: pytest.Pytester, rule: str, who: str, test: str
) -> None:
    with fault(api, forbid=rule):
        output = run(pytester, lab.kubeconfig)
    found = message(output, "test_one")
    assert found.startswith(f'ForbiddenError: user "kubernetes-admin" may not {who}')
    assert f"(test: `{test}" in found
    assert found.count("\n  found: ") == found.count("\n  to do: ") == 1


def test_pods_that_may_not_be_listed_leave_no_namespace_behind(
    lab: LabProcess, api: Api, pytester: pytest.Pytester
) -> None:
    with fault(api, forbid="list:pods"):
        found = told_once(run(pytester, lab.kubeconfig))
    assert found.startswith('ForbiddenError: user "kubernetes-admin" may not list pods')


# -- nodes and pods --------------------------------------------------------------------------------


def test_fewer_than_two_ready_nodes_are_named_with_their_reasons(
    lab: LabProcess, api: Api, pytester: pytest.Pytester
) -> None:
    with ExitStack() as stack:
        for name in ("master", "node1", "node3"):
            cordon, free = ({"spec": {"unschedulable": word}} for word in (True, None))
            stack.enter_context(patched(api, f"/api/v1/nodes/{name}", cordon, free))
        output = run(pytester, lab.kubeconfig)
    assert told_once(output) == (
        "NodesError: 2 usable nodes are needed and this cluster has 1\n"
        "  found: master: cordoned, 192.168.0.10/24\n"
        "         node1: cordoned, 192.168.0.11/24\n"
        "         node2: usable, 192.168.0.12/24\n"
        "         node3: cordoned, 192.168.1.13/24\n"
        "  to do: make nodes ready (kubectl describe node), uncordon them, or remove the taints"
    )


def test_a_node_that_was_named_and_cannot_be_used_says_why(
    lab: LabProcess, api: Api, pytester: pytest.Pytester
) -> None:
    cordon, free = ({"spec": {"unschedulable": word}} for word in (True, None))
    with patched(api, "/api/v1/nodes/node2", cordon, free):
        output = run(pytester, lab.kubeconfig, "--k8snet-nodes=node1,node2")
    assert told_once(output).startswith(
        'NodesError: the node "node2" cannot be used: cordoned\n  found: master: usable'
    )


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("registry.invalid/iperf3:3", "dial tcp: lookup registry.invalid: no such host"),
        ("example.com/iperf3:missing", "example.com/iperf3:missing: not found"),
    ],
)
def test_an_image_that_cannot_be_pulled_shows_the_registrys_words(
    lab: LabProcess, pytester: pytest.Pytester, image: str, words: str
) -> None:
    found = told_once(run(pytester, lab.kubeconfig, "-o", f"k8snet_image={image}"))
    # Both nodes' pods were asked for at once; either may be the first to say so.
    assert re.search(r"on node[12] does not start: ErrImagePull\n", found)
    assert words in found
    assert found.endswith(
        "  to do: check the image's name, that the node can reach its registry, and pull secrets; "
        "`-o k8snet_image=...` names another (a mirror within reach)"
    )


def test_the_web_services_image_is_told_by_its_own_option(
    lab: LabProcess, pytester: pytest.Pytester
) -> None:
    test = "def test_web(web_service): pass"
    args = ("-o", "k8snet_web_image=example.com/web:missing")
    found = message(run(pytester, lab.kubeconfig, *args, test=test), "test_web")
    assert found.startswith("PodError: pod k8snet-")
    assert "`-o k8snet_web_image=...` names another" in found


def test_a_pod_that_cannot_be_scheduled_shows_the_schedulers_words(
    lab: LabProcess, api: Api, pytester: pytest.Pytester
) -> None:
    room = api.get("/api/v1/nodes/node2")["status"]["allocatable"]["pods"]
    full, free = ({"status": {"allocatable": {"pods": n}}} for n in ("0", room))
    with patched(api, "/api/v1/nodes/node2/status", full, free):
        found = told_once(run(pytester, lab.kubeconfig))
    assert found.startswith("PodError: pod k8snet-")
    assert "on node2 does not start: Unschedulable\n  found: 0/4 nodes are available" in found
    assert "Too many pods" in found


def test_a_tool_that_the_image_lacks_is_named_with_the_way_to_another(
    lab: LabProcess, pytester: pytest.Pytester
) -> None:
    test = """
        def test_iperf3(pod_pair): pod_pair.iperf3(seconds=1)
        def test_curl(pod): pod.curl("http://192.168.0.10/")
    """
    output = run(pytester, lab.kubeconfig, "-o", "k8snet_image=alpine:3.20", test=test)
    assert message(output, "test_iperf3") == (
        "ToolMissingError: there is no iperf3 where the command ran\n"
        "  while: starting the iperf3 server of pod-pod node1 -> node2\n"
        "  found: iperf3: not found\n"
        "  to do: use an image that has iperf3 (and timeout): -o k8snet_image=...; outside the "
        "cluster, install it"
    )
    assert message(output, "test_curl").startswith("ToolMissingError: there is no curl where")


# -- the end ---------------------------------------------------------------------------------------


def test_pods_that_may_not_be_deleted_singly_go_with_their_namespace(
    lab: LabProcess, api: Api, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("def test_one(pod): pass")
    with fault(api, forbid="delete:pods"):
        result = pytester.runpytest_inprocess(f"--kubeconfig={lab.kubeconfig}")
    result.assert_outcomes(passed=1)


def test_what_stays_behind_is_named_with_the_way_to_remove_it(
    lab: LabProcess, api: Api, pytester: pytest.Pytester
) -> None:
    with fault(api, forbid="delete:namespaces"):
        output = run(pytester, lab.kubeconfig, test="def test_one(pod): pass")
    (left,) = [
        item["metadata"]["name"]
        for item in api.list("/api/v1/namespaces", labels="app.kubernetes.io/managed-by")
        if item["metadata"]["name"].startswith("k8snet-")
    ]
    api.delete(f"/api/v1/namespaces/{left}")
    found = message(output, "test_one")
    assert found.startswith(
        f"ClusterError: what run {left} made in namespace {left} could not all be deleted\n"
        '  found: user "kubernetes-admin" may not delete namespaces ('
    )
    assert f"`k8snet restore`, or `kubectl delete namespace {left}`" in found
    assert f"put back  NO: pods of run {left}. Run: k8snet restore" in output


def test_an_api_server_that_stays_busy_is_an_error_of_its_own(
    lab: LabProcess, api: Api, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its thirty seconds of patience would all be spent here.
    monkeypatch.setattr("pytest_k8snet.cluster.http.PATIENCE_SECONDS", 0.5)
    with fault(api, api_error="503:1000:list:nodes"):
        found = told_once(run(pytester, lab.kubeconfig))
    assert found.startswith(
        "ServerBusyError: the API server could not list nodes (HTTP 503 Service Unavailable)\n"
    )
    assert "(asked again and again for " in found


# -- the network between the nodes -----------------------------------------------------------------


def test_a_fabric_that_drops_a_tunnel_is_told_from_routes_that_are_missing(
    lab: LabProcess, api: Api, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is said once nothing else has been wrong for 20 s.
    monkeypatch.setattr(readiness, "HOPELESS_SECONDS", 0.5)
    monkeypatch.setattr(readiness, "_CLOSER_SECONDS", 0.5)
    test = """
        import pytest

        @pytest.mark.k8snet_modes("VXLAN-Always", "IPIP-Always")
        def test_one(calico_mode, pod_pair):
            assert pod_pair.iperf3(seconds=1, omit_seconds=0).bandwidth > 0
    """
    with fault(api, fabric_drops="ipip"):
        output = run(pytester, lab.kubeconfig, "--k8snet-change=dedicated", test=test)
    assert "1 passed" in output
    told = message(output, "test_one[IPIP-Always]")
    assert told.startswith("NotConvergedError: IPIP-Always between node1 and node")
    assert "TCP payload from pod " in told
    assert "so it is lost between them: let IP protocol 4 (IPIP) pass between all nodes" in told


def test_a_kernel_without_the_module_is_named(
    lab: LabProcess, api: Api, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is asked for once nothing else has been wrong for a while.
    monkeypatch.setattr(readiness, "HOPELESS_SECONDS", 0.5)
    monkeypatch.setattr(readiness, "_CLOSER_SECONDS", 0.5)
    test = """
        import pytest

        @pytest.mark.k8snet_modes("IPIP-Always")
        def test_one(calico_mode, pod_pair):
            assert pod_pair.iperf3(seconds=1, omit_seconds=0).bandwidth > 0
    """
    with fault(api, kernel_lacks="ipip"):
        output = run(pytester, lab.kubeconfig, "--k8snet-change=dedicated", test=test)
    told = message(output, "test_one[IPIP-Always]")
    assert "node1 has no tunl0 yet: its kernel supports no IPIP" in told
    assert "so Felix gets `operation not supported`" in told
    assert "modprobe ipip" in told

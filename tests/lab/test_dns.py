"""Names, asked by real resolvers in pods."""

from __future__ import annotations

import pytest
from lab_kubectl import Kubectl, pod_object

#: Asks with the C library, as curl and everything else in a pod does.
RESOLVE = "getent ahostsv4 {} | cut -d' ' -f1 | sort -u"


@pytest.fixture
def client(kubectl: Kubectl) -> Kubectl:
    kubectl.apply(pod_object("client"))
    kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=10s")
    return kubectl


def resolve(kubectl: Kubectl, name: str) -> list[str]:
    return kubectl.sh("client", RESOLVE.format(name)).split()


def test_services_of_all_namespaces_have_names(client: Kubectl) -> None:
    assert resolve(client, "kubernetes.default") == ["10.96.0.1"]
    assert resolve(client, "kubernetes.default.svc.cluster.local") == ["10.96.0.1"]
    assert resolve(client, "kube-dns.kube-system.svc") == ["10.96.0.10"]


def test_a_headless_service_has_its_pods(client: Kubectl) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "all"},
        "spec": {"clusterIP": "None", "selector": {"app": "client"}, "ports": [{"port": 80}]},
    }
    client.apply(service)
    client("wait", "--for=jsonpath={.subsets}", "endpoints/all", "--timeout=10s")
    address = client.get("pod", "client")["status"]["podIP"]
    assert resolve(client, "all") == [address]


def test_unknown_names_are_denied_at_once(client: Kubectl) -> None:
    script = "curl -sS -o /dev/null -w '%{time_total}' http://no-such-service/ || true"
    done = client.run("exec", "client", "--", "sh", "-c", script)
    assert "Could not resolve host: no-such-service" in done.stderr
    # A resolver that is not answered waits five seconds before it asks again.
    assert float(done.stdout) < 4


def test_it_answers_over_tcp_as_well(client: Kubectl) -> None:
    assert client.sh("client", f"RES_OPTIONS=use-vc {RESOLVE.format('kubernetes.default')}") == (
        "10.96.0.1\n"
    )


def test_a_name_goes_with_its_service(client: Kubectl) -> None:
    client("create", "service", "clusterip", "short", "--tcp=80")
    address = client.get("service", "short")["spec"]["clusterIP"]
    assert resolve(client, "short") == [address]
    client("delete", "service", "short")
    assert resolve(client, "short") == []

"""Services carry real requests, from everywhere they can be asked from."""

from __future__ import annotations

import re
import subprocess
from ipaddress import IPv4Network

import pytest
from lab_kubectl import Kubectl, Object, pod_object

from pytest_k8snet.lab import LabProcess, LabSpec, start, study_nodes

WEB_PORT = 8080


def web_deployment(replicas: int = 3) -> Object:
    probe = {"httpGet": {"path": "/healthz", "port": WEB_PORT}}
    container: Object = {
        "name": "web",
        "image": "registry.k8s.io/e2e-test-images/agnhost:2.53",
        "args": ["netexec", f"--http-port={WEB_PORT}"],
        "readinessProbe": probe,
        # As on any cluster: the nodes hear later than the pod that it is to go.
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
    }
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def web_service(**spec: object) -> Object:
    ports = [{"port": 80, "targetPort": WEB_PORT}]
    body = {"selector": {"app": "web"}, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": body}


@pytest.fixture
def web(kubectl: Kubectl) -> Kubectl:
    """A service of three replicas with every kind of address, and a pod to ask from."""
    kubectl.apply(web_deployment(), web_service(type="LoadBalancer"), pod_object("client"))
    kubectl("rollout", "status", "deployment/web", "--timeout=10s")
    kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=10s")
    return kubectl


def names_of_replicas(kubectl: Kubectl) -> set[str]:
    return set(kubectl("get", "pods", "-l", "app=web", "-o", "name").replace("pod/", "").split())


def curl(url: str) -> list[str]:
    return ["curl", "-sS", "--fail", "--max-time", "5", url]


def test_a_pod_reaches_the_service_by_its_short_and_its_full_name(web: Kubectl) -> None:
    for host in ("web", f"web.{web.namespace}", f"web.{web.namespace}.svc.cluster.local"):
        answer = web("exec", "client", "--", *curl(f"http://{host}/hostname"))
        assert answer in names_of_replicas(web)


def test_every_replica_gets_its_share(web: Kubectl) -> None:
    script = "for i in $(seq 60); do curl -sS --max-time 5 http://web/hostname; echo; done"
    answers = web.sh("client", script).split()
    assert len(answers) == 60
    # The chance that one of three is never chosen in sixty is 1 in 10 thousand million.
    assert set(answers) == names_of_replicas(web)


@pytest.mark.parametrize("node", ["master", "node3"])
def test_a_node_reaches_the_cluster_ip(web: Kubectl, node: str) -> None:
    tolerations = [{"operator": "Exists"}]
    web.apply(pod_object("node", nodeName=node, hostNetwork=True, tolerations=tolerations))
    web("wait", "--for=condition=Ready", "pod/node", "--timeout=10s")
    address = web.get("service", "web")["spec"]["clusterIP"]
    answer = web("exec", "node", "--", *curl(f"http://{address}/hostname"))
    assert answer in names_of_replicas(web)


def test_the_outside_client_reaches_the_load_balancer_and_every_node_port(
    web: Kubectl, lab: LabProcess
) -> None:
    service = web.get("service", "web")
    address = service["status"]["loadBalancer"]["ingress"][0]["ip"]
    port = service["spec"]["ports"][0]["nodePort"]
    nodes = ("192.168.0.10", "192.168.0.11", "192.168.0.12", "192.168.1.13")
    urls = [f"http://{address}", *(f"http://{node}:{port}" for node in nodes)]
    for url in urls:
        done = subprocess.run(
            [*lab.outside_prefix, *curl(f"{url}/hostname")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{url}: {done.stderr}"
        assert done.stdout in names_of_replicas(web)


def test_a_service_without_ready_pods_refuses_at_once(web: Kubectl) -> None:
    web("scale", "deployment/web", "--replicas=0")
    web("wait", "--for=delete", "pod", "-l", "app=web", "--timeout=10s")
    done = web.run("exec", "client", "--", *curl("http://web/"))
    assert "command terminated with exit code 7" in done.stderr
    assert "Failed to connect to web port 80 after" in done.stderr
    assert web.get("endpoints", "web").get("subsets", []) == []


def test_endpoints_follow_the_pods(web: Kubectl) -> None:
    pods = web.get("pods", "-l", "app=web")["items"]
    expected = sorted(pod["status"]["podIP"] for pod in pods)
    subset = web.get("endpoints", "web")["subsets"][0]
    assert sorted(entry["ip"] for entry in subset["addresses"]) == expected
    assert subset["ports"] == [{"port": WEB_PORT, "protocol": "TCP"}]
    slices = web.get("endpointslices", "-l", "kubernetes.io/service-name=web")["items"]
    found = [entry for one in slices for entry in one["endpoints"]]
    assert sorted(entry["addresses"][0] for entry in found) == expected
    assert all(entry["conditions"]["ready"] for entry in found)


def test_a_body_of_a_megabyte_arrives_whole(web: Kubectl) -> None:
    script = "curl -sS --max-time 20 'http://web/?bytes=1048576' | wc -c"
    assert web.sh("client", script).strip() == "1048576"


def test_a_rolling_update_answers_all_the_time(web: Kubectl, lab: LabProcess) -> None:
    change = '{"spec":{"template":{"metadata":{"annotations":{"round":"2"}}}}}'
    before = names_of_replicas(web)
    asking = subprocess.Popen(
        [
            *lab.outside_prefix,
            "curl", "-sS", "--fail", "--max-time", "5", "-o", "/dev/null", "--rate", "100/s",
            "-H", "Connection: close",
            f"http://{web.get('service', 'web')['status']['loadBalancer']['ingress'][0]['ip']}"
            "/hostname?[1-150]",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    web("patch", "deployment", "web", "--patch", change)
    web("rollout", "status", "deployment/web", "--timeout=20s")
    old = [f"pod/{name}" for name in before]
    web("wait", "--for=delete", *old, "--timeout=20s")
    _, errors = asking.communicate(timeout=30)
    assert asking.returncode == 0, errors


def test_services_go_on_beside_objects_that_nft_would_refuse(web: Kubectl, lab: LabProcess) -> None:
    pool: Object = {
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "IPPool",
        "metadata": {"name": f"six-{web.namespace}"},
        "spec": {"cidr": "fd00:10:244::/64", "natOutgoing": True},
    }
    inner: Object = {
        **pool,
        "metadata": {"name": f"inner-{web.namespace}"},
        "spec": {"cidr": "10.244.64.0/20", "disabled": True},
    }
    odd = ["198.51.100.7", "2001:db8::7"]
    twins = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"ports": [{"port": 81}], "externalIPs": odd, "selector": {"app": "web"}},
        }
        for name in ("one", "two")
    ]
    try:
        web.apply(pool, inner, *twins)
        # A service made after them is programmed too.
        late = web_service()
        late["metadata"]["name"] = "late"
        web.apply(late)
        script = "curl -sS --fail --max-time 5 --retry 20 --retry-delay 0 --retry-all-errors"
        answer = web.sh("client", f"{script} http://late/hostname")
        assert answer in names_of_replicas(web)
    finally:
        names = [one["metadata"]["name"] for one in (pool, inner)]
        web.run("delete", "ippools.crd.projectcalico.org", *names)
    lab.check()


def seen_by_the_server(kubectl: Kubectl) -> tuple[str, str, str]:
    """As whom a server sees a pod that comes by its Service; the pod's and its node's address."""
    server = pod_object("server", ("iperf3", "-s", "--forceflush"), nodeName="node1")
    service = web_service(selector={"app": "server"}, ports=[{"port": 5201}])
    kubectl.apply(server, service, pod_object("client", nodeName="node2"))
    kubectl("wait", "--for=condition=Ready", "pod/server", "pod/client", "--timeout=10s")
    kubectl.sh("client", "until iperf3 -c web -n 1K --connect-timeout 500; do sleep 0.1; done")
    (seen,) = set(re.findall(r"Accepted connection from ([\d.]+),", kubectl("logs", "server")))
    status = kubectl.get("pod", "client")["status"]
    return seen, status["podIP"], status["hostIP"]


def test_a_pod_keeps_its_address_on_its_way_to_a_service(kubectl: Kubectl) -> None:
    seen, pod_address, _ = seen_by_the_server(kubectl)
    assert seen == pod_address


def test_what_comes_to_a_service_from_outside_of_cluster_cidr_is_masqueraded() -> None:
    # kube-proxy's --cluster-cidr: pkg/proxy/iptables/proxier.go, masqueradeAll aside, marks what
    # is not local by it.
    spec = LabSpec(nodes=study_nodes(), cluster_cidr=IPv4Network("10.99.0.0/16"))
    with start(spec) as lab:
        seen, _, node_address = seen_by_the_server(Kubectl(lab.kubeconfig))
    assert seen == node_address

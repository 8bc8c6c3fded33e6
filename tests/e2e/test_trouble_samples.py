"""Trouble while something is measured, as a user sees it: one run with a trouble in each test."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from user_runs import finished, message, nothing_left

from pytest_k8snet.cluster.api import connect
from pytest_k8snet.lab import LabProcess

#: What makes the trouble: policies, packet filters in the lab's nodes, hands that kill and cut.
CONFTEST = '''
import json, os, subprocess, threading, time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

SERVERS = "tcp dport 20000-29999"

class NetworkFilter:
    """Rules for what a node forwards, in its own network namespace."""

    def __init__(self, namespace):
        words = json.loads(os.environ["OUTSIDE_PREFIX"])
        self.nft = [word.replace("netns/outside", f"netns/{namespace}") for word in words] + ["nft"]

    def add(self, hook, rule):
        text = f"table ip trouble {{\\n chain one {{\\n type {hook};\\n {rule}\\n }}\\n}}\\n"
        subprocess.run([*self.nft, "-f", "-"], input=text, text=True, check=True)

    def remove(self):
        subprocess.run([*self.nft, "delete", "table", "ip", "trouble"], check=True)

@pytest.fixture
def forwarding():
    """Adds a rule to what the server's node forwards."""
    made = NetworkFilter("node-node2")
    yield lambda rule: made.add("filter hook forward priority 0", f"{SERVERS} {rule}")
    made.remove()

@pytest.fixture
def policies(k8snet):
    """Creates policies and host endpoints, and waits until they leave a pair's server silent."""
    made = []
    def create(pair, api_version, plural, kind, name, **spec):
        place = f"/namespaces/{k8snet.run_id}" * (kind == "NetworkPolicy")
        path = f"/apis/{api_version}{place}/{plural}"
        body = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}
        k8snet.api.create(path, body)
        made.append(f"{path}/{name}")
        unheard = ["curl", "-s", "--connect-timeout", "0.3", f"http://{pair.server.address}:9/"]
        assert any(pair.client.run(unheard).exit_code == 28 for _ in range(100))
    yield create
    for path in made:
        k8snet.api.delete(path)

@pytest.fixture
def busy_server(k8snet, pod_pair):
    """Leads every client to one server that already has one."""
    server = pod_pair.server
    server.run(["iperf3", "-s", "-D", "-p", "6000"])
    first = threading.Thread(target=pod_pair.client.run, args=(
        ["iperf3", "-c", server.address, "-p", "6000", "-t", "4", "-b", "1M"],))
    first.start()
    time.sleep(0.7)
    pod = k8snet.api.get(f"/api/v1/namespaces/{k8snet.run_id}/pods/{server.name}")
    made = NetworkFilter(f"pod-{pod['metadata']['uid']}")
    made.add("nat hook prerouting priority -100", f"{SERVERS} redirect to :6000")
    yield
    made.remove()
    first.join()

@pytest.fixture
def later():
    """Calls something while the test measures."""
    threads = []
    def start(seconds, function, *args, **kwargs):
        threads.append(threading.Timer(seconds, function, args, kwargs))
        threads[-1].start()
    yield start
    for thread in threads:
        thread.join()

@pytest.fixture
def garbling(pod_pair):
    """The pair, with a client whose output arrives spoilt."""
    def shell(argv, *, timeout_seconds):
        done = pod_pair.client.shell(argv, timeout_seconds=timeout_seconds)
        return replace(done, stdout=done.stdout[:300])
    return replace(pod_pair, client=replace(pod_pair.client, shell=shell))

@pytest.fixture
def broken_web_server():
    class Unavailable(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(503)
        def log_message(self, *args): pass
    server = ThreadingHTTPServer(("127.0.0.1", 0), Unavailable)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()
'''

TESTS = '''
import time
from pytest_k8snet import Mbit, ms
from pytest_k8snet.tools import iperf3

STATES = """
for process in /proc/[0-9]*; do
    read -r number name state rest < $process/stat && echo "$state$name"
done
"""
KILL = """
for process in /proc/[0-9]*; do
    read -r name < $process/comm
    [ "$name" = iperf3 ] && kill -9 "${process#/proc/}"
done
"""

def test_refused(pod_pair, forwarding):
    forwarding("reject with tcp reset")
    pod_pair.iperf3(seconds=1)

KUBERNETES = "networking.k8s.io/v1", "networkpolicies", "NetworkPolicy"
CALICO = "crd.projectcalico.org/v1"

def test_timed_out(pod_pair, policies):
    policies(pod_pair, *KUBERNETES, "default-deny", podSelector={}, policyTypes=["Ingress"])
    pod_pair.iperf3(seconds=1, connect_timeout_seconds=1)

def test_denied_by_calico(pod_pair, policies):
    rule = {"action": "Deny", "protocol": "TCP", "destination": {"ports": [9, "20000:29999"]}}
    policies(
        *(pod_pair, CALICO, "globalnetworkpolicies", "GlobalNetworkPolicy", "no-iperf3"),
        selector="all()", types=["Ingress"], ingress=[rule, {"action": "Allow"}],
    )
    pod_pair.iperf3(seconds=1, connect_timeout_seconds=1)

def test_host_endpoint(node_pair, policies):
    policies(
        *(node_pair, CALICO, "hostendpoints", "HostEndpoint", "node2-eth0"),
        node=node_pair.server.node, interfaceName="*",
    )
    node_pair.iperf3(seconds=1, connect_timeout_seconds=1)

def test_allowed_by_port(pod_pair, policies):
    ports = [{"port": 20000, "endPort": 29999}]
    policies(pod_pair, *KUBERNETES, "default-deny", podSelector={}, policyTypes=["Ingress"])
    policies(pod_pair, *KUBERNETES, "iperf3", podSelector={}, ingress=[{"ports": ports}])
    assert pod_pair.iperf3(seconds=1, omit_seconds=0).bandwidth > 1 * Mbit

def test_busy(pod_pair, busy_server):
    pod_pair.iperf3(seconds=1)

def test_cut_off(pod_pair, later):
    later(1.5, pod_pair.server.run, ["sh", "-c", KILL])
    pod_pair.iperf3(seconds=5)

def test_garbage(garbling):
    garbling.iperf3(seconds=1, omit_seconds=0)

def test_stream_lost(pod_pair, k8snet):
    maps, name = "/api/v1/namespaces/kube-system/configmaps", "k8snet-lab-faults"
    k8snet.api.create(maps, {"metadata": {"name": name}, "data": {"exec-drop": "1"}})
    try:
        pod_pair.iperf3(seconds=1)
    finally:
        k8snet.api.delete(f"{maps}/{name}")

def test_missed_target(pod_pair):
    assert pod_pair.iperf3(seconds=1, omit_seconds=0).bandwidth > 100_000 * Mbit

def test_curl_refused(node, pod_pair):
    assert not node.curl(f"http://{pod_pair.server.address}:9/", requests=2).failed

def test_curl_no_name(pod):
    assert not pod.curl("http://no-such.default.svc.cluster.local/", requests=2).failed

def test_curl_timeout(pod):
    assert not pod.curl("http://192.168.0.99/", requests=2, connect_timeout_seconds=0.3).failed

def test_curl_5xx(outside, broken_web_server):
    assert not outside.curl(broken_web_server, requests=3).failed

def test_curl_no_figure(outside, broken_web_server):
    assert outside.curl(broken_web_server, requests=3).total.mean < 5 * ms

def test_pod_gone(pod_pair, k8snet, later):
    path = f"/api/v1/namespaces/{k8snet.run_id}/pods/{pod_pair.client.name}"
    later(1.0, k8snet.api.delete, path, grace_seconds=0)
    pod_pair.iperf3(seconds=5)

def test_servers_leave_no_zombies(pod_pair):
    client, server = pod_pair.client, pod_pair.server
    for port in range(6001, 6021):
        assert server.run(iperf3.Iperf3().server_argv(port)).exit_code == 0
        done = client.run(["iperf3", "-c", server.address, "-p", str(port), "-n", "10K"])
        assert done.exit_code == 0, done
    processes = server.run(["sh", "-c", STATES]).stdout.split()
    assert "S(sh)" in processes
    assert [one for one in processes if one.startswith("Z")] == []

def test_next_gets_a_new_pod(pod_pair):
    assert pod_pair.iperf3(seconds=1, omit_seconds=0).bandwidth > 1 * Mbit
'''


@pytest.fixture(scope="module")
def output(lab: LabProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the run printed; it has left nothing."""
    folder: Path = tmp_path_factory.mktemp("samples")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_samples.py").write_text(TESTS)
    with nothing_left(connect(kubeconfig=lab.kubeconfig)):
        return finished(
            folder,
            f"--kubeconfig={lab.kubeconfig}",
            *("--k8snet-results=results.jsonl", "-rA", "--durations=0"),
            OUTSIDE_PREFIX=json.dumps(lab.outside_prefix),
        )


def test_trouble_is_an_error_and_only_a_missed_target_a_failure(output: str) -> None:
    assert "5 failed, 3 passed, 10 errors in" in output
    for test in ("missed_target", "curl_refused", "curl_no_name", "curl_timeout", "curl_5xx"):
        assert f"FAILED test_samples.py::test_{test} " in output
    for test in ("allowed_by_port", "servers_leave_no_zombies", "next_gets_a_new_pod"):
        assert f"PASSED test_samples.py::test_{test}" in output


def test_no_message_is_a_traceback(output: str) -> None:
    errors = output.split("= ERRORS =")[1].split("= FAILURES =")[0]
    assert "Traceback" not in output
    assert errors.count("  test:  test_samples.py:") == errors.count("  to do: ") == 10
    assert "pytest_k8snet/" not in errors


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (
            "test_refused",
            "Refused: the iperf3 server refused the connection\n"
            "  while: iperf3 pod-pod node1 -> node2\n"
            "  found: unable to connect to server: Connection refused\n"
            "  to do: check that a server listens on this port, and that no NetworkPolicy or "
            "firewall rejects with a reset",
        ),
        (
            "test_timed_out",
            "TimedOut: the iperf3 server did not answer the connection attempt\n"
            "  while: iperf3 pod-pod node1 -> node2\n"
            "  found: unable to connect to server: Connection timed out\n"
            "         policies that may stand in the way: NetworkPolicy k8snet-*/default-deny "
            "(Ingress)\n"
            "  to do: check routes, NetworkPolicies and firewalls between the two ends: the "
            "packets are dropped without a word",
        ),
        (
            "test_denied_by_calico",
            "TimedOut: the iperf3 server did not answer the connection attempt\n"
            "  while: iperf3 pod-pod node1 -> node2\n"
            "  found: unable to connect to server: Connection timed out\n"
            "         policies that may stand in the way: GlobalNetworkPolicy no-iperf3 (Ingress)\n"
            "  to do: *",
        ),
        (
            "test_host_endpoint",
            "TimedOut: the iperf3 server did not answer the connection attempt\n"
            "  while: iperf3 node-node node1 -> node2\n"
            "  found: unable to connect to server: Connection timed out\n"
            "         policies that may stand in the way: HostEndpoint node2-eth0 of node2, "
            "which no policy opens\n"
            "  to do: *",
        ),
        (
            "test_busy",
            "Busy: the iperf3 server is busy with another client\n"
            "  while: iperf3 pod-pod node1 -> node2\n"
            "  found: the server is busy running a test. try again later\n"
            "  to do: give each measurement a server of its own; no other run may use this port",
        ),
        (
            "test_cut_off",
            "ServerDied: the iperf3 server went away during the test\n"
            "  while: iperf3 pod-pod node1 -> node2\n"
            # The control connection may be the first to be reset, or a stream.
            "  found: *\n"
            "  to do: check whether the server pod was killed, evicted or out of memory, whether "
            "a policy cut the connection, and whether the server limits its bit rate",
        ),
    ],
)
def test_iperf3_that_gives_no_figure_says_why(output: str, test: str, expected: str) -> None:
    found = message(output, test)
    assert fnmatchcase(found, expected), found


def test_output_that_arrives_spoilt_is_not_guessed_at(output: str) -> None:
    found = message(output, "test_garbage")
    assert found.startswith("CutOff: iperf3's output is cut off\n  while: iperf3 pod-pod node1 ->")


def test_a_lost_exec_stream_says_what_may_have_cut_it_and_shows_no_script(output: str) -> None:
    found = message(output, "test_stream_lost")
    assert found.startswith('ConnectionLostError: the exec stream of "sh -c ... iperf3-server 2')
    assert "without an exit status\n  while: starting the iperf3 server of pod-pod" in found


def test_a_pod_that_vanishes_is_named(output: str) -> None:
    found = message(output, "test_pod_gone")
    assert found.startswith("PodError: pod k8snet-")
    assert found.split("\n", 1)[0].endswith((" is gone", " is being deleted"))
    assert "  to do: `kubectl get events -n k8snet-" in found


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        (
            "test_curl_refused",
            "<2 of 2 requests: 2 x could not connect (refused, rejected or no route); "
            "first message: Failed to connect to ",
        ),
        ("test_curl_no_name", "<2 of 2 requests: 2 x name not resolved; first message: "),
        ("test_curl_timeout", "<2 of 2 requests: 2 x timed out while connecting; first message: "),
        ("test_curl_5xx", "<3 of 3 requests: 3 x HTTP 503>"),
    ],
)
def test_failed_requests_are_a_missed_target_that_names_the_reasons(
    output: str, test: str, reason: str
) -> None:
    assert f"E       AssertionError: assert not {reason}" in message(output, test)


def test_a_figure_that_no_request_gave_is_an_error(output: str) -> None:
    assert message(output, "test_curl_no_figure").startswith(
        "AllFailed: there is no total time: 3 of 3 requests failed\n  found: 3 x HTTP 503\n"
        "  to do: request http://127.0.0.1:"
    )

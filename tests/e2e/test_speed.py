"""What a run takes beside its samples: seconds and requests, on a lab as slow as a real cluster."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from user_runs import fault, nothing_left

from pytest_k8snet.cluster.api import Api, connect
from pytest_k8snet.cluster.http import HttpClient
from pytest_k8snet.lab import LabProcess

ONE = """
    def test_one(pod_pair):
        assert pod_pair.iperf3(seconds=1, omit_seconds=0).bandwidth > 0
"""
MANY = """
    import pytest

    @pytest.mark.parametrize("turn", range(23))
    def test_many(node, pod, web_service, turn):
        assert not pod.curl(web_service.cluster_ip_url, requests=1).failed
"""


@pytest.fixture(scope="module")
def api(lab: LabProcess) -> Api:
    return connect(kubeconfig=lab.kubeconfig)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the requests and streams of runs in this process, where they leave it."""
    counted: Counter[str] = Counter()

    def counting(name: str, what: Callable[..., str]) -> None:
        original = getattr(HttpClient, name)

        def counted_call(self: HttpClient, *args: Any, **options: Any) -> Any:
            counted[what(*args)] += 1
            return original(self, *args, **options)

        monkeypatch.setattr(HttpClient, name, counted_call)

    counting("once", lambda method, path, *_: f"{method} {re.sub('k8snet-[^/]*', '*', path)}")
    counting("lines", lambda path, *_: f"WATCH {re.sub('k8snet-[^/]*', '*', path)}")
    counting("open_websocket", lambda path, *_: "EXEC")
    return counted


def seconds_of(result: pytest.RunResult, phase: str) -> float:
    found = re.findall(rf"^([\d.]+)s {phase} ", result.stdout.str(), re.MULTILINE)
    return sum(map(float, found))


def test_a_run_of_one_test_waits_for_pods_once_and_for_its_namespace_alone(
    lab: LabProcess, api: Api, pytester: pytest.Pytester, requests: Counter[str]
) -> None:
    pytester.makepyfile(ONE)
    # As recorded on a real cluster.
    with nothing_left(api), fault(api, pod_start_delay="1.3", namespace_end_delay="5"):
        requests.clear()
        result = pytester.runpytest_inprocess(f"--kubeconfig={lab.kubeconfig}", "--durations=0")
        asked = Counter(requests)
    result.assert_outcomes(passed=1)
    setup, teardown = seconds_of(result, "setup"), seconds_of(result, "teardown")
    told = f"setup {setup:.1f} s, teardown {teardown:.1f} s, {asked.total()} requests: {asked}"
    # On a machine of its own 2.2 s and 5.4 s; a busy one takes longer, and pods one after the other
    # as well as objects deleted one by one would show here all the same.
    assert setup <= 1.3 + 3.5, told
    assert teardown <= 5 + 3.0, told
    # 56 where nothing is slow; a slow machine watches a little longer.
    assert asked.total() <= 60, told
    deletes = {name: count for name, count in asked.items() if name.startswith("DELETE")}
    assert deletes == {"DELETE /api/v1/namespaces/*": 1}


def test_many_tests_cost_few_requests_each(
    lab: LabProcess, pytester: pytest.Pytester, requests: Counter[str]
) -> None:
    pytester.makepyfile(MANY)
    result = pytester.runpytest_inprocess(f"--kubeconfig={lab.kubeconfig}")
    result.assert_outcomes(passed=23)
    assert requests.total() <= 10 * 23


def test_no_request_is_lost_to_a_kube_proxy_that_follows_later(
    lab: LabProcess, api: Api, pytester: pytest.Pytester
) -> None:
    """A Service that is ready by the API is refused by nodes whose kube-proxy lags behind."""
    pytester.makepyfile("""
        def test_first(pod, node, web_service):
            for client, url in (
                (pod, web_service.cluster_ip_url),
                (node, web_service.node_port_url),
                (pod, web_service.dns_url),
                (node, web_service.cluster_ip_url),
            ):
                assert not client.curl(url, requests=20).failed, url
    """)
    with fault(api, kube_proxy_lag="4"):
        result = pytester.runpytest_inprocess(f"--kubeconfig={lab.kubeconfig}")
    result.assert_outcomes(passed=1)

"""The first test: what does the overlay cost, and does the service answer quickly?"""

from pytest_k8snet import ms


def test_pods_keep_most_of_the_bandwidth(pod_pair, node_pair):
    pod, node = pod_pair.iperf3(seconds=2), node_pair.iperf3(seconds=2)
    assert pod.bandwidth / node.bandwidth >= 0.90


def test_service_answers_quickly(pod, web_service):
    curl = pod.curl(web_service.dns_url, requests=100)
    assert not curl.failed
    assert curl.total.p95 <= 100 * ms

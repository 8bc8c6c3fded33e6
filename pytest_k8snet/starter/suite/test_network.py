"""What the network of this cluster promises. The limits are yours to set."""

from pytest_k8snet import ms

#: What pods get of the bandwidth of their nodes. On a full wire an encapsulation's headers alone
#: cost 1.4 % (IPIP) or 3.4 % (VXLAN).
LEAST_SHARE = 0.80
#: Of 100 requests to a service, by its name, 95 are answered within this time.
SLOWEST_ANSWER = 200 * ms


def test_pods_keep_most_of_the_bandwidth(pod_pair, node_pair):
    pod, node = pod_pair.iperf3(seconds=3), node_pair.iperf3(seconds=3)
    assert pod.bandwidth / node.bandwidth >= LEAST_SHARE


def test_service_answers_quickly(pod, web_service):
    curl = pod.curl(web_service.dns_url, requests=100)
    assert not curl.failed
    assert curl.total.p95 <= SLOWEST_ANSWER

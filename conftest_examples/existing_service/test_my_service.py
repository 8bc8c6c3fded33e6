"""A Service that exists already, named by ``--k8snet-service=shop/frontend`` or in pytest.ini."""

from pytest_k8snet import ms


def test_pods_reach_it_by_name(pod, web_service):
    curl = pod.curl(web_service.dns_url, requests=50)
    assert not curl.failed
    assert curl.total.mean <= 100 * ms


def test_nodes_reach_its_cluster_ip(node, web_service):
    curl = node.curl(web_service.cluster_ip_url, requests=50)
    assert not curl.failed
    # Connecting shows the network; the first byte shows the application.
    assert curl.connect.p95 <= 50 * ms

"""curl from a node, from a pod and from outside, ten requests each as in the study."""

REQUESTS = 10


def test_node_to_cluster_ip(node, web_service, latency_ceilings):
    curl = node.curl(web_service.cluster_ip_url, requests=REQUESTS)
    assert not curl.failed
    assert curl.total.mean <= latency_ceilings["node to ClusterIP"]


def test_pod_to_service_name(pod, web_service, latency_ceilings):
    curl = pod.curl(web_service.dns_url, requests=REQUESTS)
    assert not curl.failed
    assert curl.total.mean <= latency_ceilings["pod to service name"]


def test_outside_to_load_balancer(outside, web_service, latency_ceilings):
    curl = outside.curl(web_service.external_url, requests=REQUESTS)
    assert not curl.failed
    assert curl.total.mean <= latency_ceilings["outside to LoadBalancer"]

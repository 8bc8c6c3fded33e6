"""iperf3 between nodes, between pods, and from a pod to another node, in every Calico mode."""


def test_pod_to_pod(pod_pair, bandwidth_floor, seconds):
    node = pod_pair.baseline.iperf3(seconds=seconds)
    pod = pod_pair.iperf3(seconds=seconds)
    assert pod.bandwidth / node.bandwidth >= bandwidth_floor


def test_pod_to_remote_node(pod_to_node, bandwidth_floor, seconds):
    node = pod_to_node.baseline.iperf3(seconds=seconds)
    mixed = pod_to_node.iperf3(seconds=seconds)
    assert mixed.bandwidth / node.bandwidth >= bandwidth_floor


def test_pod_to_pod_across_subnets(cross_subnet_pair, bandwidth_floor, seconds):
    node = cross_subnet_pair.baseline.iperf3(seconds=seconds)
    pod = cross_subnet_pair.iperf3(seconds=seconds)
    assert pod.bandwidth / node.bandwidth >= bandwidth_floor

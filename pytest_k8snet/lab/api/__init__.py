"""The lab's Kubernetes API server: objects in memory, served over HTTPS as Kubernetes serves them.

Knows nothing of nodes, packets or processes: the kubelet behind ``exec`` and ``logs`` is a protocol
(:class:`pytest_k8snet.lab.api.exec.ContainerRuntime`).
"""

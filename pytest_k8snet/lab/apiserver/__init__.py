"""The lab's API server as clients meet it: HTTPS, who may do what, and streams to containers.

Knows nothing of nodes, packets or processes: the kubelet behind ``exec`` and ``logs`` is a protocol
(:class:`pytest_k8snet.lab.apiserver.exec.ContainerRuntime`).
"""

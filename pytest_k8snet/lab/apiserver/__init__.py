"""The lab's API server as clients meet it: HTTPS, bodies, tables, discovery, access and streams.

Knows nothing of nodes, packets or processes: the kubelet behind ``exec`` and ``logs`` is a protocol
(:class:`pytest_k8snet.lab.apiserver.exec.ContainerRuntime`).
"""

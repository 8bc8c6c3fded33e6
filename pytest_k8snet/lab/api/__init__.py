"""The objects of the lab's Kubernetes API, and the rules that an API server has for them.

Served by :mod:`pytest_k8snet.lab.apiserver`.
"""

"""Kubernetes: connection, API by path, exec, nodes, pods, services, permissions.

The only floor that imports the Kubernetes client, and it does so when a connection is made, never
at import. It knows nothing of Calico, of measuring and of pytest.
"""

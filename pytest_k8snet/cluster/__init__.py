"""Kubernetes: connection, API by path, exec, nodes, pods, services, permissions.

The only layer that speaks HTTP to a cluster. Its libraries are imported when a connection is made,
never before. It knows nothing of Calico, of measuring and of pytest.
"""

"""The ``k8snet`` command."""

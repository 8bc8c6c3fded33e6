"""The embedded lab: a cluster in one process tree, with real packets and a real enough API.

    >>> from pytest_k8snet.lab import LabSpec, start, study_nodes
    >>> with start(LabSpec(nodes=study_nodes())) as lab:      # doctest: +SKIP
    ...     print(lab.kubeconfig)

Light to import: what is heavy is imported in the lab's own process.

What leads where: ``launcher`` makes the namespaces and forks ``lab``, which starts every component
on one ``api.store``. ``api`` has the objects and their rules, ``apiserver`` serves them, ``kube``
is the scheduler, the kubelets and the controllers, ``calico`` IPAM, calico-node and the operator,
``dataplane`` the packets. What happens to routes when a pool changes: ``calico.calico_node`` sees
it in the store, ``dataplane.felix`` says what each node's kernel should hold then, and
``dataplane.kernel`` programs what differs.
"""

from __future__ import annotations

from pytest_k8snet.lab.process import LabProcess, start
from pytest_k8snet.lab.spec import CalicoSpec, LabSpec, NodeSpec, study_nodes

__all__ = ["CalicoSpec", "LabProcess", "LabSpec", "NodeSpec", "start", "study_nodes"]

"""The embedded lab: a cluster in one process tree, with real packets and a real enough API.

    >>> from pytest_k8snet.lab import LabSpec, start, study_nodes
    >>> with start(LabSpec(nodes=study_nodes())) as lab:      # doctest: +SKIP
    ...     print(lab.kubeconfig)

Light to import: what is heavy is imported in the lab's own process.
"""

from __future__ import annotations

from pytest_k8snet.lab.process import LabProcess, start
from pytest_k8snet.lab.spec import CalicoSpec, LabSpec, NodeSpec, study_nodes

__all__ = ["CalicoSpec", "LabProcess", "LabSpec", "NodeSpec", "start", "study_nodes"]

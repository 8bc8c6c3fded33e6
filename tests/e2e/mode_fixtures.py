"""What the series of stopped runs share: clusters of both installs, and how long a run takes.

Test modules name it in ``pytest_plugins``.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import product

import pytest
from mode_runs import CHANGES, POINTS, USUAL_SECONDS, Cluster, lifetime

from pytest_k8snet.lab import CalicoSpec, LabProcess, LabSpec, start, study_nodes

#: The ways to install Calico and to change it; a short series takes each of them once.
ALL = tuple(product(("manifest", "operator"), CHANGES))
SOME = (("manifest", CHANGES[0]), ("operator", CHANGES[1]))


@pytest.fixture(scope="module", params=SOME if POINTS == 1 else ALL, ids="-".join)
def combination(request: pytest.FixtureRequest) -> tuple[str, str]:
    """How Calico is installed, and what ``--k8snet-change`` allows."""
    install, change = request.param
    return install, change


@pytest.fixture(scope="module")
def cluster(combination: tuple[str, str], lab: LabProcess) -> Generator[Cluster]:
    """A lab with this way of installing Calico."""
    if combination[0] == "manifest":
        yield Cluster.of(lab)
        return
    calico = CalicoSpec(install="operator", api_shape="B")
    with start(LabSpec(nodes=study_nodes(), calico=calico)) as running:
        yield Cluster.of(running)
        running.check()


@pytest.fixture(scope="module")
def change(combination: tuple[str, str]) -> str:
    """What ``--k8snet-change`` allows."""
    return combination[1]


@pytest.fixture(scope="module")
def seconds(cluster: Cluster, change: str, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long a run that nobody stops holds the cluster; a series of one point need not know."""
    if POINTS == 1:
        return USUAL_SECONDS
    return lifetime(cluster, tmp_path_factory.mktemp("lifetime"), change)

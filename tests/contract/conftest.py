"""Which cluster the contract is held against: ``CONTRACT`` says lab, cluster or apiserver."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from pytest_k8snet.lab import CalicoSpec, LabSpec, start, study_nodes

from .apiserver import running_apiserver
from .cluster import CLUSTER_WIDE, POOLS, Cluster, own_prefix
from .recording import Play

#: The Calico of the recordings.
CALICO = CalicoSpec(version="v3.33.0", api_shape="B", vxlan_mode="CrossSubnet")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster; the lab when nothing else is said."""
    found = os.environ.get("CONTRACT", "lab")
    everything = frozenset({POOLS, CLUSTER_WIDE})
    if found == "cluster":
        kubeconfig = Path(os.environ["KUBECONFIG"]).expanduser()
        may = frozenset(os.environ.get("CONTRACT_MAY", "").split(","))
        yield from _held(kubeconfig, may, has_nodes=True)
    elif found == "apiserver":
        with running_apiserver(tmp_path_factory.mktemp("apiserver")) as kubeconfig:
            yield from _held(kubeconfig, everything, has_nodes=False)
    else:
        with start(LabSpec(nodes=study_nodes(), calico=CALICO)) as lab:
            yield from _held(lab.kubeconfig, everything, has_nodes=True, is_lab=True)


def _held(
    kubeconfig: Path, may: frozenset[str], *, has_nodes: bool, is_lab: bool = False
) -> Iterator[Cluster]:
    cluster = Cluster(
        kubeconfig=kubeconfig, may=may, has_nodes=has_nodes, is_lab=is_lab, prefix=own_prefix()
    )
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def played(cluster: Cluster) -> Callable[[str], Play]:
    """Each recording, sent once, when the first of its answers is looked at."""

    @cache
    def outcome(stem: str) -> Play | Exception:
        try:
            return Play(cluster, stem)
        except Exception as error:
            return error

    def play(stem: str) -> Play:
        found = outcome(stem)
        if isinstance(found, Exception):
            raise found
        return found

    return play

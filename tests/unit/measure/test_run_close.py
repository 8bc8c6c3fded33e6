"""The order in which a run leaves a cluster."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from notebook import Notebook

from pytest_k8snet.errors import PodError, RestoreError
from pytest_k8snet.measure.run import Run


def run(strategy: str, done: list[str]) -> Run:
    """A run that has begun, whose cluster writes down what is done to it."""
    spec: Any = SimpleNamespace(run_id="k8snet-1", change=SimpleNamespace(strategy=strategy))
    nobody: Any = None
    made = Run(nobody, spec, Notebook())
    pod = SimpleNamespace(host_network=False, name="client")

    def close() -> None:
        done.append("pools")
        # Ends here: what is recorded after it is another matter.
        raise RestoreError("enough")

    def delete_pods(pods: list[Any]) -> None:
        done.extend(pod.name for pod in pods)
        if strategy == "dedicated":
            raise PodError("stuck")

    workspace: Any = SimpleNamespace(pods=lambda: [pod], delete_pods=delete_pods)
    switches: Any = SimpleNamespace(pods=(), restoring=nullcontext)
    calico: Any = SimpleNamespace(close=close)
    made._calico, made._workspace, made._switches = calico, workspace, switches
    return made


@pytest.mark.parametrize(
    ("strategy", "order"),
    [("in-place", ["pools"]), ("dedicated", ["client", "pools"])],
)
def test_pools_of_the_runs_own_wait_for_its_pods_and_others_do_not(
    strategy: str, order: list[str]
) -> None:
    done: list[str] = []
    with pytest.raises(RestoreError):
        run(strategy, done)._close_calico()
    assert done == order

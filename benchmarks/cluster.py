"""A run on a lab of its own, for benchmarks that need one."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from pytest_k8snet import lab
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.change.decision import ChangeSettings
from pytest_k8snet.cluster.api import connect
from pytest_k8snet.cluster.pods import PodSettings
from pytest_k8snet.lab.spec import DEFAULT_LINK_RATE, LabSpec, study_nodes
from pytest_k8snet.measure.run import Run, RunSpec
from pytest_k8snet.options import DEFAULT_IMAGE, DEFAULT_WEB_IMAGE
from pytest_k8snet.units import BitRate, Seconds


class Silence:
    """An observer that keeps nothing."""

    def record(self, kind: str, **content: Any) -> Mapping[str, Any]:
        """Return the record as it came."""
        return {"kind": kind, **content}

    def hide(self, kind: str, *names: str) -> None:
        """Write nothing that could tell them."""

    def started(self, text: str, seconds: float) -> None:
        """Show nothing."""

    def finished(self) -> None:
        """Show nothing."""


@contextmanager
def lab_run(
    *, nodes: int = 4, rate: BitRate | None = DEFAULT_LINK_RATE, modes: tuple[CalicoMode, ...] = ()
) -> Generator[Run]:
    """A run on a fresh lab."""
    with lab.start(LabSpec(nodes=study_nodes(nodes), link_rate=rate)) as process:
        spec = RunSpec(
            run_id=f"k8snet-{secrets.token_hex(3)}",
            change=ChangeSettings(strategy="dedicated"),
            modes=modes or tuple(CalicoMode),
            pods=PodSettings(
                image=DEFAULT_IMAGE,
                web_image=DEFAULT_WEB_IMAGE,
            ),
            pod_timeout=Seconds(60),
            outside_prefix=process.outside_prefix,
        )
        with Run(connect(kubeconfig=process.kubeconfig, context=None), spec, Silence()) as run:
            yield run

"""From settings to a run on a cluster: the given one, or a lab started for it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.change.decision import ChangeSettings
from pytest_k8snet.cluster.api import connect
from pytest_k8snet.cluster.kubeconfig import locate, secrets_and_names
from pytest_k8snet.cluster.pods import PodSettings
from pytest_k8snet.errors import K8sNetError, KubeconfigError, SettingsError
from pytest_k8snet.measure.run import Run, RunSpec
from pytest_k8snet.report.recorder import Recorder
from pytest_k8snet.report.redaction import Redactor
from pytest_k8snet.settings import Settings

if TYPE_CHECKING:
    from pytest_k8snet.lab import LabProcess


def refuse_windows() -> None:
    """Insist on a system whose signals can end a run in order.

    Raises:
        SettingsError: this is Windows.
    """
    if sys.platform == "win32":
        raise SettingsError(
            "Windows can draw and judge results, but neither measure nor restore: use WSL 2"
        )


@contextmanager
def launch(
    settings: Settings,
    recorder: Recorder,
    modes: Sequence[CalicoMode] = (),
    *,
    watch_switches: bool = False,
    fixtures: frozenset[str] = frozenset(),
) -> Generator[Run]:
    """Open a run on the cluster that the settings name; restore everything on leaving.

    The modes are those that will be asked for, the fixtures those by which tests without a mode
    will ask for pods; switches are watched for a test that asks what they cost other pods.

    Raises:
        K8sNetError: no usable cluster, or no usable system.
    """
    refuse_windows()
    with ExitStack() as stack:
        stack.enter_context(_signals_interrupt())
        lab = stack.enter_context(_started_lab(settings, recorder)) if settings.lab else None
        if lab is not None:
            settings = replace(
                settings,
                kubeconfig=lab.kubeconfig,
                outside=settings.outside or lab.outside_prefix,
                link_rate=settings.lab_rate,
            )
        try:
            api = connect(
                kubeconfig=settings.kubeconfig,
                context=settings.context,
                ping_seconds=float(settings.exec_ping),
            )
            recorder.redactor.sources.append(api.secrets)
            recorder.hide("user", api.user)
            spec = _run_spec(
                settings,
                run_id=recorder.run_id,
                modes=tuple(modes),
                watch_switches=watch_switches or settings.disruption,
                fixtures=fixtures,
            )
            with Run(api, spec, recorder) as run:
                yield run
        except K8sNetError:
            if lab is not None:
                # Where the lab has died, that is the news, and nothing is left to be put back.
                lab.check()
            raise


def redactor_of(settings: Settings) -> Redactor:
    """Make what keeps secrets, and with ``--k8snet-redact`` names, out of all that is written."""
    redactor = Redactor(names=settings.redact, environ=os.environ)
    paths: tuple[Path, ...] = ()
    with suppress(KubeconfigError):  # told by whoever connects
        paths = locate(settings.kubeconfig, os.environ)
    secrets, names = secrets_and_names(paths)
    redactor.learn_secrets(*secrets)
    if settings.redact and not settings.lab:
        for url in names.pop("server"):
            redactor.learn_server(url)
        for kind, found in names.items():
            redactor.learn(kind, *sorted(found))
    return redactor


@contextmanager
def _started_lab(settings: Settings, recorder: Recorder) -> Generator[LabProcess]:
    # The one place above the lab that knows it.
    from pytest_k8snet import lab
    from pytest_k8snet.lab.spec import LabSpec, study_nodes

    spec = LabSpec(
        nodes=study_nodes(settings.lab_nodes),
        link_rate=settings.lab_rate,
        timing=settings.lab_timing,
    )
    recorder.started(f"starting the lab ({settings.lab_nodes} nodes)", 2.0)
    try:
        process = lab.start(spec)
    finally:
        recorder.finished()
    with process:
        yield process


def _run_spec(settings: Settings, **wanted: Any) -> RunSpec:
    return RunSpec(
        **wanted,
        change=ChangeSettings(
            strategy=settings.change.strategy,
            pool=settings.change.pool,
            cidr=settings.pool_cidr,
            underlay_routes_pods=settings.fabric_routes_pods,
            prove_first=settings.prove_first,
            despite_owners=settings.change_owned,
            # A plain number: figures with units refuse to be compared with those of a clock.
            stability_seconds=None if settings.stability is None else float(settings.stability),
        ),
        node_names=settings.nodes,
        zones=settings.zones,
        namespace=settings.namespace,
        pods=PodSettings(
            image=settings.image,
            web_image=settings.web_image,
            pull_secrets=settings.image_pull_secrets,
            tolerations=settings.tolerations,
            priority_class=settings.priority_class or "",
            requests=settings.pod_requests,
            limits=settings.pod_limits,
            node_labels=settings.node_labels,
        ),
        pod_timeout=settings.pod_timeout,
        service=settings.service,
        outside_prefix=settings.outside,
        link_rate=settings.link_rate,
        wire_proof=settings.wire_proof,
    )


class Interrupted(KeyboardInterrupt):
    """A run was told to end by a signal.

    A class of its own: where a plain KeyboardInterrupt crosses code that Python runs from a string
    (as dataclasses do), Python ends the process by SIGINT at its exit although pytest has caught
    it, and the exit status would be another (``run_eval_code_obj`` in CPython's pythonrun.c).
    """


@contextmanager
def _signals_interrupt() -> Generator[None]:
    """Make SIGTERM and SIGHUP end the run as Ctrl-C does: pytest itself would skip every teardown.

    SIGHUP comes when the terminal or the ssh connection of a long run is gone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: object) -> None:
        # A second signal must not cut the restoring short.
        for number in previous:
            signal.signal(number, signal.SIG_IGN)
        raise Interrupted(f"signal {signal.Signals(signum).name}")

    previous = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP)
        # Under nohup, a run goes on without its terminal.
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

"""What each change of Calico costs two pods of the run that stand for everybody else's.

They have addresses from where ordinary pods get theirs: the pool that in-place flips, or, where the
run makes pools of its own, one that was there before. They are made once and live to the end.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from pytest_k8snet.calico.bystander import Bystander, SwitchCost
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.cluster.pods import WEB_PORT, PodRequest
from pytest_k8snet.errors import K8sNetError, NothingSwitchedError, SettingsError

if TYPE_CHECKING:
    from pytest_k8snet.calico.session import CalicoSession
    from pytest_k8snet.cluster.pods import Pod
    from pytest_k8snet.cluster.workspace import Workspace
    from pytest_k8snet.measure.observer import Observer

#: An exec that ends a watch waits for the last answers.
_EXEC_SECONDS = 30.0
#: How long to watch after a change: entering a mode waits until the cluster is stable, putting
#: back does not.
_TAIL_SECONDS, _RESTORED_TAIL_SECONDS = 1.0, 3.0


class Switches:
    """Watches the changes of Calico by bystanders.

    Trouble with them never keeps the run from changing or restoring anything: whoever asks for the
    cost is told.

    Args:
        calico: what changes.
        workspace: makes the bystanders' pods.
        observer: gets a "switch" record of each change that was watched.
        nodes: the names of the nodes of the bystanders' client and server.
        watched: whether changes are watched at all.

    Attributes:
        pods: the bystanders; empty until the first change.
        watched: set it to False to watch no further change.
    """

    def __init__(
        self,
        calico: CalicoSession,
        workspace: Workspace,
        observer: Observer,
        *,
        nodes: tuple[str, str],
        watched: bool,
    ) -> None:
        self.pods: Sequence[Pod] = ()
        self.watched = watched
        self._calico = calico
        self._workspace = workspace
        self._observer = observer
        self._nodes = nodes
        self._unmade: K8sNetError | None = None
        self._latest: SwitchCost | K8sNetError | None = None
        self._costs: dict[CalicoMode, SwitchCost | K8sNetError | None] = {}

    @contextmanager
    def entering(self, mode: CalicoMode) -> Generator[None]:
        """Watch the block enter a mode, if that changes the cluster."""
        if not self.watched or not self._calico.would_change(mode):
            yield
            return
        own = self._calico.change.strategy == "dedicated"
        # Own pools are made all at once: one change leads to each of their modes.
        ahead = [one for one in CalicoMode if own and self._calico.would_change(one)]
        try:
            with self._watching("making the run's own pools" if own else f"entering {mode}", mode):
                yield
        finally:
            # Also after trouble: what was written by then led to the mode.
            made = [one for one in ahead if not self._calico.would_change(one)]
            self._costs |= dict.fromkeys([mode, *made], self._latest)

    @contextmanager
    def restoring(self) -> Generator[None]:
        """Watch the block put everything back, if the changes before were watched."""
        if not self.watched or not self.pods:
            yield
            return
        with self._watching("putting everything back", None):
            yield

    def cost(self, mode: CalicoMode) -> SwitchCost:
        """The cost of the change that led to a mode.

        Raises:
            SettingsError: changes are not watched.
            NothingSwitchedError: no change led to it.
            K8sNetError: why the cost is not known.
        """
        change = self._calico.change
        if change.strategy == "none":
            raise NothingSwitchedError(
                f"nothing was switched to get to {mode}",
                found="--k8snet-change=none: a pool of the cluster is in this mode",
                remedy="--k8snet-change=dedicated or in-place:POOL lets the run switch",
            )
        if not self.watched:
            raise SettingsError(
                "what a switch costs was not watched",
                remedy="name the fixture switch_cost among the test's arguments, so that it is "
                "known before the first switch; or set k8snet_bystander = true",
            )
        found = self._costs.get(mode)
        if found is None:
            raise NothingSwitchedError(
                f"nothing was switched to get to {mode}",
                found=f"pool {change.pool} was in this mode before the run",
            )
        if isinstance(found, K8sNetError):
            raise found
        return found

    @contextmanager
    def _watching(self, what: str, mode: CalicoMode | None) -> Generator[None]:
        bystander: Bystander | None = None
        try:
            bystander = self._bystander(
                what, _TAIL_SECONDS if mode is not None else _RESTORED_TAIL_SECONDS
            )
            bystander.start()
        except K8sNetError as exc:
            self._tell(what, mode, exc)
            yield
            return
        try:
            yield
        except Exception:
            self._tell(what, mode, _ended(bystander))
            raise
        # An interrupt is neither: then nothing is waited for.
        self._tell(what, mode, _ended(bystander))

    def _bystander(self, what: str, tail_seconds: float) -> Bystander:
        if not self.pods:
            self._make_pods()
        client, server = self.pods
        execute = partial(self._workspace.api.exec, client.namespace, client.name)
        return Bystander(
            lambda argv: execute(argv, timeout_seconds=_EXEC_SECONDS),
            f"http://{server.address}:{WEB_PORT}/",
            what=what,
            tail_seconds=tail_seconds,
        )

    def _make_pods(self) -> None:
        if self._unmade is not None:
            # Each attempt may take as long as pods may: one is enough.
            raise self._unmade
        client_node, server_node = self._nodes
        change = self._calico.change
        pool = change.pool if change.strategy == "in-place" else None
        client = PodRequest(role="bystander", node=client_node, pool=pool)
        server = PodRequest(
            role="web-bystander",
            node=server_node,
            pool=pool,
            image=self._workspace.web_image,
            serves_http=True,
        )
        try:
            self.pods = self._workspace.ensure_pods([client, server])
        except K8sNetError as exc:
            self._unmade = exc
            raise

    def _tell(self, what: str, mode: CalicoMode | None, seen: SwitchCost | K8sNetError) -> None:
        self._latest = seen
        cost = seen if isinstance(seen, SwitchCost) else None
        self._observer.record(
            "switch",
            what=what,
            mode=mode and str(mode),
            requests=cost and cost.requests,
            lost=cost and cost.lost,
            longest_gap_seconds=cost and float(cost.longest_gap),
            seconds=cost and float(cost.seconds),
            error=None if cost else str(seen),
        )


def _ended(bystander: Bystander) -> SwitchCost | K8sNetError:
    try:
        return bystander.stop()
    except K8sNetError as exc:
        return exc

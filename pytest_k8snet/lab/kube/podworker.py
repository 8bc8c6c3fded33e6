"""The life of one pod on its node, from the sandbox to the last trace."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.store import StatusError, Store
from pytest_k8snet.lab.calico.cni import Cni, CniError
from pytest_k8snet.lab.dataplane.netns import DataplaneError
from pytest_k8snet.lab.kube import podstatus, sandbox
from pytest_k8snet.lab.kube.containerworker import ContainerWorker
from pytest_k8snet.lab.kube.events import Recorder
from pytest_k8snet.lab.kube.podstatus import ContainerState, PodState
from pytest_k8snet.lab.kube.sandbox import Sandbox
from pytest_k8snet.lab.log import explain, log
from pytest_k8snet.lab.spec import LabSpec, NodeSpec

_SANDBOX_RETRY_SECONDS = 1.0
_DEADLINE = (
    "DeadlineExceeded",
    "Pod was active on the node longer than the specified deadline",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What every pod's worker needs.

    Attributes:
        store: the cluster's objects.
        spec: of the lab.
        cni: gives pods their network.
        any_user: whether ``runAsUser`` can be obeyed.
        python: the interpreter for the lab's own programs.
        starting: lets only a few containers start at once.
        api: the variables by which pods find the API server.
    """

    store: Store
    spec: LabSpec
    cni: Cni
    any_user: bool
    # A virtual environment's own interpreter may lie where containers see other files.
    python: str = os.path.realpath(sys.executable)
    starting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(8))
    api: Mapping[str, str] = field(default_factory=dict)


class PodWorker:
    """Looks after one pod.

    Attributes:
        pod: the object, as it was when the kubelet took it on.
        state: what its containers do.
        gone: to be set when the object is gone.
    """

    def __init__(self, pod: Object, *, node: NodeSpec, kit: Kit, recorder: Recorder) -> None:
        self.pod = pod
        self.node = node
        self.kit = kit
        self.recorder = recorder
        self._initial = self._workers("spec.initContainers")
        self._main = self._workers("spec.containers")
        self.state = PodState(
            node_address=str(node.address.ip),
            initial=[worker.state for worker in self._initial],
            containers=[worker.state for worker in self._main],
        )
        self.gone = asyncio.Event()
        self._making: asyncio.Task[Sandbox] | None = None
        self._ending: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._shortest_seconds = math.inf

    def _workers(self, path: str) -> list[ContainerWorker]:
        workers = []
        for spec in dig(self.pod, path, []):
            state = ContainerState(name=spec["name"], image=spec["image"])
            if self.pod["spec"].get("initContainers"):
                state.state = podstatus.waiting("PodInitializing")
            workers.append(ContainerWorker(self, spec, state))
        return workers

    def container(self, name: str) -> ContainerWorker | None:
        """The worker of the container of that name."""
        found = [worker for worker in (*self._main, *self._initial) if worker.spec["name"] == name]
        return found[0] if found else None

    def end(self, grace_seconds: float) -> None:
        """The pod is to go; asked again, it goes no later than it was to go before."""
        if not self._ending.done():
            self._ending.set_result(grace_seconds)
        if grace_seconds < self._shortest_seconds < math.inf:
            asyncio.get_running_loop().call_later(grace_seconds, self._kill)
        self._shortest_seconds = min(grace_seconds, self._shortest_seconds)

    def _kill(self) -> None:
        for worker in (*self._initial, *self._main):
            worker.kill()

    async def run(self) -> None:
        """From the sandbox to the last trace; ends when the pod is gone from the node."""
        try:
            # One that was deleted while it waited for its turn has no life.
            if not self._ending.done():
                await self._live_and_die()
        except Exception as exc:
            await self._give_up(explain(exc))
        await self._ending
        self._forget()

    async def _live_and_die(self) -> None:
        life = asyncio.create_task(self._live())
        deadline = dig(self.pod, "spec.activeDeadlineSeconds")
        either: set[asyncio.Future[Any]] = {life, self._ending}
        await asyncio.wait(
            either,
            timeout=None if deadline is None else float(deadline),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not life.done() and not self._ending.done():
            self.state.failure = _DEADLINE
            self.recorder.record(self.pod, *_DEADLINE)
            self._shortest_seconds = self._grace()
            await self._stop(life, self._shortest_seconds)
        elif not life.done():
            await self._stop(life, self._ending.result())
        else:
            life.result()
        self.publish()
        self.state.sandbox_ready = False
        await sandbox.remove(self.pod, cni=self.kit.cni)
        self.publish()

    async def _give_up(self, problem: str) -> None:
        """Take down what there is, after trouble that nobody foresaw; the other pods go on."""
        log(f"kubelet: pod {self.pod['metadata']['name']}: {problem}")
        text = f"Error syncing pod, skipping: {problem}"
        self.recorder.record(self.pod, "FailedSync", text, kind="Warning")
        stops = [worker.stop(0) for worker in (*self._initial, *self._main)]
        for steps in (stops, [sandbox.remove(self.pod, cni=self.kit.cni)]):
            for result in await asyncio.gather(*steps, return_exceptions=True):
                if isinstance(result, Exception):
                    log(f"kubelet: pod {self.pod['metadata']['name']}: {explain(result)}")

    async def _live(self) -> None:
        self.publish()
        made = await self._make_sandbox()
        self.state.address = made.address
        self.state.sandbox_ready = True
        for worker in self._initial:
            if await worker.run(made, initial=True) != 0:
                return
        for worker in self._main:
            worker.state.state = podstatus.waiting("ContainerCreating")
        # One that breaks must not leave the others running.
        async with asyncio.TaskGroup() as running:
            for worker in self._main:
                running.create_task(worker.run(made))

    async def _make_sandbox(self) -> Sandbox:
        while True:
            try:
                async with self.kit.starting:
                    making = sandbox.make(
                        self.pod, spec=self.kit.spec, node=self.node, cni=self.kit.cni
                    )
                    self._making = asyncio.create_task(making)
                    # Half a sandbox could not be removed: whoever ends the pod waits for it.
                    return await asyncio.shield(self._making)
            except (CniError, DataplaneError, StatusError, OSError) as exc:
                self.recorder.record(
                    self.pod,
                    "FailedCreatePodSandBox",
                    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to "
                    f"setup network for sandbox: {exc}",
                    kind="Warning",
                )
                await asyncio.sleep(_SANDBOX_RETRY_SECONDS)

    def _grace(self) -> float:
        return float(dig(self.pod, "spec.terminationGracePeriodSeconds", 30))

    async def _stop(self, life: asyncio.Task[Any], grace_seconds: float) -> None:
        life.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await life
        if self._making is not None:
            await asyncio.wait([self._making])
        await asyncio.gather(
            *(worker.stop(grace_seconds) for worker in (*self._initial, *self._main))
        )

    def publish(self) -> None:
        """Write the pod's status as it is now."""

        def change(pod: Object) -> None:
            # Another pod of the same name is not ours.
            if pod["metadata"]["uid"] == self.pod["metadata"]["uid"]:
                pod["status"] = podstatus.build(pod, self.state)

        meta = self.pod["metadata"]
        with _unless_gone():
            self.kit.store.mutate(
                "pods", meta["name"], meta["namespace"], change, subresource="status"
            )

    def _forget(self) -> None:
        meta = self.pod["metadata"]
        with _unless_gone():
            found = self.kit.store.get("pods", meta["name"], meta["namespace"])
            if found["metadata"]["uid"] == meta["uid"]:
                self.kit.store.delete("pods", meta["name"], meta["namespace"], grace_seconds=0)


@contextlib.contextmanager
def _unless_gone() -> Any:
    try:
        yield
    except StatusError as exc:
        if exc.code != 404:
            raise

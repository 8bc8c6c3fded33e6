"""The life of one container of a pod: pull, create, start, probe, start again."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import TYPE_CHECKING

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.store import StatusError
from pytest_k8snet.lab.dataplane.underlay import node_namespace
from pytest_k8snet.lab.kube import hooks, images, planning, podstatus, probes
from pytest_k8snet.lab.kube.container import Container, ContainerError, Plan
from pytest_k8snet.lab.kube.podstatus import ContainerState
from pytest_k8snet.lab.kube.sandbox import Sandbox

if TYPE_CHECKING:
    from pytest_k8snet.lab.kube.podworker import PodWorker

#: The kubelet's back-off for pulls and restarts, in seconds.
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 10, 300


class ContainerWorker:
    """Looks after one container.

    Attributes:
        spec: the entry of ``spec.containers``.
        state: what it does, for the pod's status.
        current: the run that is, or was the last.
        previous: the run before.
    """

    def __init__(self, pod_worker: PodWorker, spec: Object, state: ContainerState) -> None:
        self._pod_worker = pod_worker
        self.spec = spec
        self.state = state
        self.current: Container | None = None
        self.previous: Container | None = None
        self._starting: asyncio.Task[Container] | None = None

    async def run(self, sandbox: Sandbox, *, initial: bool = False) -> int:
        """Keep it running as the restart policy says; its last exit status."""
        await self._pull()
        policy = dig(self._pod_worker.pod, "spec.restartPolicy", "Always")
        delay = 0
        while True:
            code = await self._run_once(sandbox, initial=initial)
            again = policy != "Never" if code else policy == "Always" and not initial
            if not again:
                return code
            if "terminated" in self.state.state:
                self.state.last = self.state.state
            if delay:
                await self._back_off(delay)
            delay = min(max(2 * delay, FIRST_DELAY_SECONDS), LONGEST_DELAY_SECONDS)
            self.state.restarts += 1

    async def stop(self, grace_seconds: float) -> None:
        """End it, and write down how it ended."""
        if self._starting is not None:
            # Why it did not start has been told by whoever started it.
            with contextlib.suppress(Exception):
                started = await self._starting
                if started is not self.current:
                    # Nobody has seen it run: it goes without ceremony.
                    await started.stop(0)
        if self.current is None:
            return
        if self.current.running:
            self._event("Killing", f"Stopping container {self.spec['name']}")
            left = await hooks.pre_stop(self.spec, self.current, grace_seconds)
            await self.current.stop(left)
        if self.state.running:
            self._ended(await self.current.wait())

    def kill(self) -> None:
        """End it at once, without waiting."""
        if self.current is not None:
            self.current.signal(9)

    async def _pull(self) -> None:
        image, delay = str(self.spec["image"]), FIRST_DELAY_SECONDS
        while True:
            try:
                images.pull(image)
            except images.ImagePullError as exc:
                self._event("Pulling", f'Pulling image "{image}"')
                self._event("Failed", f'Failed to pull image "{image}": {exc}', warning=True)
                self._event("Failed", "Error: ErrImagePull", warning=True)
                self._waiting("ErrImagePull", str(exc))
                await asyncio.sleep(1)
                self._event("BackOff", f'Back-off pulling image "{image}"')
                self._event("Failed", "Error: ImagePullBackOff", warning=True)
                self._waiting(
                    "ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {exc}'
                )
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY_SECONDS)
            else:
                text = f'Container image "{image}" already present on machine'
                self._event("Pulled", text)
                return

    async def _run_once(self, sandbox: Sandbox, *, initial: bool) -> int:
        try:
            container = await self._start(sandbox)
        except ContainerError as exc:
            await self._tell_failed_start(str(exc))
            return 128
        if self.current is not None:
            self.previous = self.current
        self.current = container
        self.state.id = container.id
        self.state.state = podstatus.running()
        self.state.passes_probe = initial or not self.spec.get("readinessProbe")
        self._event("Started", f"Started container {self.spec['name']}")
        self._pod_worker.publish()
        watchers = [] if initial else self._watchers(container, sandbox)
        try:
            code = await container.wait()
        finally:
            for watcher in watchers:
                watcher.cancel()
        self._ended(code)
        return code

    async def _tell_failed_start(self, text: str) -> None:
        self._event("Failed", f"Error: {text}", warning=True)
        self.state.state = podstatus.terminated(
            128,
            container_id="0" * 64,
            started_at="1970-01-01T00:00:00Z",
            reason="StartError",
            message=text,
        )
        if dig(self._pod_worker.pod, "spec.restartPolicy", "Always") != "Never":
            self.state.last = self.state.state
            self._waiting("RunContainerError", text)
            await asyncio.sleep(FIRST_DELAY_SECONDS)
        self._pod_worker.publish()

    async def _start(self, sandbox: Sandbox) -> Container:
        pod_worker, name = self._pod_worker, self.spec["name"]
        while True:
            try:
                plan = self._plan(sandbox)
            except (planning.ConfigError, images.NoCommandError) as exc:
                reason, text = "CreateContainerConfigError", str(exc)
                if isinstance(exc, images.NoCommandError):
                    reason = "CreateContainerError"
                    text = f"failed to generate container spec: failed to generate spec: {exc}"
                self._event("Failed", f"Error: {text}", warning=True)
                self._waiting(reason, text)
                await asyncio.sleep(FIRST_DELAY_SECONDS)
                continue
            self._event("Created", f"Created container: {name}")
            async with pod_worker.kit.starting:
                self._starting = asyncio.create_task(Container.start(plan))
                # Half a container could not be stopped: whoever ends the pod waits for it.
                return await asyncio.shield(self._starting)

    def _plan(self, sandbox: Sandbox) -> Plan:
        pod_worker = self._pod_worker
        values = planning.environment(
            pod_worker.pod,
            self.spec,
            api=pod_worker.kit.api,
            status=podstatus.build(pod_worker.pod, pod_worker.state),
            lookup=self._look_up,
        )
        return planning.plan(
            pod_worker.pod,
            self.spec,
            values=values,
            hostname=sandbox.hostname,
            network=sandbox.network,
            directory=sandbox.directory,
            python=pod_worker.kit.python,
            any_user=pod_worker.kit.any_user,
        )

    def _look_up(self, kind: str, name: str, key: str) -> str:
        namespace = self._pod_worker.pod["metadata"]["namespace"]
        try:
            found = self._pod_worker.kit.store.get(f"{kind}s", name, namespace)
        except StatusError as exc:
            raise planning.ConfigError(exc.message) from None
        value = dig(found, "data", {}).get(key)
        if value is None:
            raise planning.ConfigError(f"couldn't find key {key} in {found['kind']} {name}")
        if kind != "secret":
            return str(value)
        try:
            return base64.b64decode(value).decode()
        except (TypeError, ValueError) as exc:
            text = f"couldn't decode key {key} in {found['kind']} {name}: {exc}"
            raise planning.ConfigError(text) from None

    def _watchers(self, container: Container, sandbox: Sandbox) -> list[asyncio.Task[None]]:
        target = probes.Target(
            container=container,
            ports=probes.named_ports(self.spec),
            address=sandbox.address,
            network=node_namespace(self._pod_worker.node.name),
        )
        found = []
        if probe := self.spec.get("readinessProbe"):
            asking = probes.watch(probe, target, self._report_ready, eagerly=True)
            found.append(asyncio.create_task(asking))
        if probe := self.spec.get("livenessProbe"):
            asking = probes.watch(probe, target, self._report_live, eagerly=False)
            found.append(asyncio.create_task(asking))
        return found

    async def _report_ready(self, well: bool, text: str) -> None:
        if text:
            self._event("Unhealthy", f"Readiness probe failed: {text}", warning=True)
        if self.state.passes_probe != well:
            self.state.passes_probe = well
            self._pod_worker.publish()

    async def _report_live(self, well: bool, text: str) -> None:
        name = self.spec["name"]
        if text:
            self._event("Unhealthy", f"Liveness probe failed: {text}", warning=True)
        if well or self.current is None:
            return
        self._event("Killing", f"Container {name} failed liveness probe, will be restarted")
        # Shielded: the end of the container cancels the probe that asked for it.
        grace = float(dig(self._pod_worker.pod, "spec.terminationGracePeriodSeconds", 30))
        await asyncio.shield(self.current.stop(grace))

    async def _back_off(self, delay: int) -> None:
        meta, name = self._pod_worker.pod["metadata"], self.spec["name"]
        where = f"{meta['name']}_{meta['namespace']}({meta['uid']})"
        text = f"restarting failed container={name} pod={where}"
        self._event(
            "BackOff",
            f"Back-off restarting failed container {name} in pod {where}",
            warning=True,
        )
        self._waiting("CrashLoopBackOff", f"back-off {delay}s {text}")
        await asyncio.sleep(delay)

    def _ended(self, code: int) -> None:
        started = dig(self.state.state, "running.startedAt", "")
        self.state.state = podstatus.terminated(
            code, container_id=self.state.id, started_at=started
        )
        self._pod_worker.publish()

    def _waiting(self, reason: str, message: str) -> None:
        self.state.state = podstatus.waiting(reason, message)
        self._pod_worker.publish()

    def _event(self, reason: str, message: str, *, warning: bool = False) -> None:
        self._pod_worker.recorder.record(
            self._pod_worker.pod,
            reason,
            message,
            kind="Warning" if warning else "Normal",
            container=self.spec["name"],
        )

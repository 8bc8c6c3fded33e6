"""The kubelets of all nodes: each pod that is bound to a node gets a worker for its life.

A pod's worker makes its sandbox, runs its containers, one worker for each, and writes its status;
the API server asks the kubelets for ``exec`` and logs.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_k8snet.lab.api.fieldmanager import ACTING
from pytest_k8snet.lab.api.objects import Object, dig, timestamp
from pytest_k8snet.lab.api.status import StatusError, bad_request, internal_error
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.apiserver.exec import ExecutableNotFound, LogOptions, RunningProcess
from pytest_k8snet.lab.calico.ipam import Cni, CniError
from pytest_k8snet.lab.dataplane.netns import DataplaneError
from pytest_k8snet.lab.dataplane.underlay import node_namespace
from pytest_k8snet.lab.faults import delay_seconds
from pytest_k8snet.lab.kube import container as containers
from pytest_k8snet.lab.kube import podspec, podstatus, probes
from pytest_k8snet.lab.kube.container import Container, ContainerError, Execution, Sandbox
from pytest_k8snet.lab.kube.podstatus import ContainerState, PodState
from pytest_k8snet.lab.reconcile import Controller, Recorder, explain, log
from pytest_k8snet.lab.spec import LabSpec, NodeSpec

_SANDBOX_RETRY_SECONDS = 1.0
#: The kubelet's back-off for pulls and restarts, in seconds.
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 10, 300
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


class Kubelet:
    """Runs the pods of the whole lab; the API server's ContainerRuntime.

    Args:
        kit: what the pods' workers need.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._nodes = {node.name: node for node in kit.spec.nodes}
        self._recorders = {name: Recorder(kit.store, "kubelet", host=name) for name in self._nodes}
        self._workers: dict[str, PodWorker] = {}
        self._uids: dict[tuple[str, str], str] = {}
        self._lives: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Follow the pods, for ever."""
        ACTING.set("kubelet")
        async with asyncio.TaskGroup() as lives:
            async for kind, pod in self._kit.store.watch("pods"):
                self._see(kind, pod, lives)

    def worker(self, namespace: str, pod: str) -> PodWorker | None:
        """The worker of a pod, or None when no node has it."""
        return self._workers.get(self._uids.get((namespace, pod), ""))

    def _see(self, kind: str, pod: Object, lives: asyncio.TaskGroup) -> None:
        uid = str(pod["metadata"]["uid"])
        worker = self._workers.get(uid)
        if kind == "DELETED":
            if worker is not None:
                worker.end(0)
                worker.gone.set()
            return
        node = self._nodes.get(dig(pod, "spec.nodeName", ""))
        if worker is None and node is not None:
            worker = PodWorker(pod, node=node, kit=self._kit, recorder=self._recorders[node.name])
            self._workers[uid] = worker
            key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
            before = self._lives.get(key)
            self._uids[key] = uid
            self._lives[key] = lives.create_task(self._look_after(worker, before))
        if worker is not None and dig(pod, "metadata.deletionTimestamp"):
            worker.end(float(dig(pod, "metadata.deletionGracePeriodSeconds", 0)))

    async def _look_after(self, worker: PodWorker, before: asyncio.Task[None] | None) -> None:
        meta = worker.pod["metadata"]
        if before is not None:
            # A pod that had this name: its cable has the name that the new one's will have.
            await before
        await worker.run()
        # Until then the watch may still speak of it, which would be taken for a new pod.
        await worker.gone.wait()
        del self._workers[meta["uid"]]
        key = (meta["namespace"], meta["name"])
        if self._uids.get(key) == meta["uid"]:
            del self._uids[key], self._lives[key]

    async def exec(
        self, namespace: str, pod: str, container: str, argv: list[str], *, stdin: bool, tty: bool
    ) -> Execution:
        """Start a command in a running container.

        Raises:
            StatusError: the container does not run.
            ExecutableNotFound: the container has no such program.
        """
        run = self._running(namespace, pod, container)
        command = run.enter(argv, tty=tty)
        if tty:
            return await containers.run_with_terminal(command, run.plan.environment)
        return await containers.run_with_pipes(command, run.plan.environment, stdin=stdin)

    async def attach(self, namespace: str, pod: str, container: str) -> RunningProcess:
        """What runs in a container.

        Raises:
            StatusError: the container does not run.
        """
        return containers.Attachment(self._running(namespace, pod, container))

    async def connect(
        self, namespace: str, pod: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port of a pod's own loopback.

        Raises:
            OSError: nobody listens there.
            StatusError: the pod does not run.
        """
        worker = self.worker(namespace, pod)
        running = worker and next((one.current for one in worker.containers if one.current), None)
        if not running:
            raise StatusError(404, "NotFound", f'pods "{pod}" not found')
        return await containers.connect(running.plan.network, port)

    async def logs(
        self, namespace: str, pod: str, container: str, options: LogOptions
    ) -> AsyncIterator[bytes]:
        """The container's output, line by line.

        Raises:
            StatusError: 400, it has not been started yet.
        """
        worker = self._container(namespace, pod, container)
        run = worker.previous if options.previous else worker.current
        if run is None and options.previous:
            raise bad_request(
                f'previous terminated container "{container}" in pod "{pod}" not found'
            )
        if run is None:
            reason = worker.state.state.get("waiting", {}).get("reason", "")
            why = {"ContainerCreating": "", "PodInitializing": ""}.get(
                reason, f"trying and failing to pull image: {reason}: "
            )
            raise bad_request(
                f'container "{container}" in pod "{pod}" is waiting to start: {why or reason}'
            )
        async for line in run.log.read(options):
            yield line

    def _running(self, namespace: str, pod: str, container: str) -> Container:
        worker = self._container(namespace, pod, container)
        run = worker.current
        if run is None or not run.running or not worker.state.running:
            raise internal_error(
                f'unable to upgrade connection: container not found ("{container}")'
            )
        return run

    def _container(self, namespace: str, pod: str, container: str) -> ContainerWorker:
        worker = self.worker(namespace, pod)
        if worker is None:
            raise StatusError(404, "NotFound", f'pods "{pod}" not found')
        for one in worker.containers:
            if one.spec["name"] == container:
                return one
        raise bad_request(f"container {container} is not valid for pod {pod}")


class PodWorker:
    """Looks after one pod, from the sandbox to the last trace.

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
            node_address=str(node.internal_ip),
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

    @property
    def containers(self) -> list[ContainerWorker]:
        """The workers of all its containers."""
        return [*self._main, *self._initial]

    @property
    def grace_seconds(self) -> float:
        """How long its containers may take to end."""
        return float(dig(self.pod, "spec.terminationGracePeriodSeconds", 30))

    @property
    def restart_policy(self) -> str:
        """``Always``, ``OnFailure`` or ``Never``."""
        return str(dig(self.pod, "spec.restartPolicy", "Always"))

    def end(self, grace_seconds: float) -> None:
        """The pod is to go; asked again, it goes no later than it was to go before."""
        if not self._ending.done():
            self._ending.set_result(grace_seconds)
        if grace_seconds < self._shortest_seconds < math.inf:
            asyncio.get_running_loop().call_later(grace_seconds, self._kill)
        self._shortest_seconds = min(grace_seconds, self._shortest_seconds)

    def _kill(self) -> None:
        for worker in self.containers:
            if worker.current is not None:
                worker.current.signal(9)

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
        if life.done():
            life.result()
        elif self._ending.done():
            await self._stop(life, self._ending.result())
        else:
            self.state.failure = _DEADLINE
            self.recorder.record(self.pod, *_DEADLINE)
            self._shortest_seconds = self.grace_seconds
            await self._stop(life, self.grace_seconds)
        self.publish()
        self.state.sandbox_ready = False
        await containers.remove_sandbox(self.pod, cni=self.kit.cni)
        self.publish()

    async def _give_up(self, problem: str) -> None:
        """Take down what there is, after trouble that nobody foresaw; the other pods go on."""
        log(f"kubelet: pod {self.pod['metadata']['name']}: {problem}")
        text = f"Error syncing pod, skipping: {problem}"
        self.recorder.record(self.pod, "FailedSync", text, kind="Warning")
        stops = [worker.stop(0) for worker in self.containers]
        for steps in (stops, [containers.remove_sandbox(self.pod, cni=self.kit.cni)]):
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
                await asyncio.sleep(delay_seconds(self.kit.store, "pod-start-delay"))
                async with self.kit.starting:
                    making = containers.make_sandbox(
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

    async def _stop(self, life: asyncio.Task[Any], grace_seconds: float) -> None:
        life.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await life
        if self._making is not None:
            await asyncio.wait([self._making])
        await asyncio.gather(*(worker.stop(grace_seconds) for worker in self.containers))

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


class ContainerWorker:
    """Looks after one container of a pod: pull, create, start, probe, start again.

    Attributes:
        spec: the entry of ``spec.containers``.
        state: what it does, for the pod's status.
        current: the run that is, or was the last.
        previous: the run before.
    """

    def __init__(self, pod: PodWorker, spec: Object, state: ContainerState) -> None:
        self._pod = pod
        self.spec = spec
        self.state = state
        self.current: Container | None = None
        self.previous: Container | None = None
        self._starting: asyncio.Task[Container] | None = None

    async def run(self, sandbox: Sandbox, *, initial: bool = False) -> int:
        """Keep it running as the restart policy says; its last exit status."""
        await self._pull()
        policy = self._pod.restart_policy
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
            left = await containers.pre_stop(self.spec, self.current, grace_seconds)
            await self.current.stop(left)
        if self.state.running:
            self._ended(await self.current.wait())

    async def _pull(self) -> None:
        image, delay = str(self.spec["image"]), FIRST_DELAY_SECONDS
        while True:
            try:
                podspec.pull(image)
            except podspec.ImagePullError as exc:
                self._event("Pulling", f'Pulling image "{image}"')
                self._event("Failed", f'Failed to pull image "{image}": {exc}', warning=True)
                self._event("Failed", "Error: ErrImagePull", warning=True)
                self._waiting("ErrImagePull", str(exc))
                await asyncio.sleep(1)
                text = f'Back-off pulling image "{image}"'
                self._event("BackOff", text)
                self._event("Failed", "Error: ImagePullBackOff", warning=True)
                self._waiting("ImagePullBackOff", f"{text}: ErrImagePull: {exc}")
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY_SECONDS)
            else:
                self._event("Pulled", f'Container image "{image}" already present on machine')
                return

    async def _run_once(self, sandbox: Sandbox, *, initial: bool) -> int:
        try:
            container = await self._start(sandbox)
        except ContainerError as exc:
            await self._failed_to_start(str(exc))
            return 128
        if self.current is not None:
            self.previous = self.current
        self.current = container
        self.state.id = container.id
        self.state.state = podstatus.running()
        held = any(self.spec.get(probe) for probe in ("readinessProbe", "startupProbe"))
        self.state.passes_probe = initial or not held
        self._event("Started", f"Started container {self.spec['name']}")
        self._pod.publish()
        asking = [] if initial else [asyncio.create_task(self._ask(container, sandbox))]
        try:
            code = await container.wait()
        finally:
            for task in asking:
                task.cancel()
        self._ended(code)
        return code

    async def _failed_to_start(self, text: str) -> None:
        self._event("Failed", f"Error: {text}", warning=True)
        self.state.state = podstatus.terminated(
            128,
            container_id="0" * 64,
            started_at="1970-01-01T00:00:00Z",
            reason="StartError",
            message=text,
        )
        if self._pod.restart_policy != "Never":
            self.state.last = self.state.state
            self._waiting("RunContainerError", text)
            await asyncio.sleep(FIRST_DELAY_SECONDS)
        self._pod.publish()

    async def _start(self, sandbox: Sandbox) -> Container:
        while True:
            try:
                plan = self._plan(sandbox)
            except (podspec.ConfigError, podspec.NoCommandError) as exc:
                reason, text = "CreateContainerConfigError", str(exc)
                if isinstance(exc, podspec.NoCommandError):
                    reason = "CreateContainerError"
                    text = f"failed to generate container spec: failed to generate spec: {exc}"
                self._event("Failed", f"Error: {text}", warning=True)
                self._waiting(reason, text)
                await asyncio.sleep(FIRST_DELAY_SECONDS)
                continue
            self._event("Created", f"Created container: {self.spec['name']}")
            async with self._pod.kit.starting:
                self._starting = asyncio.create_task(Container.start(plan))
                # Half a container could not be stopped: whoever ends the pod waits for it.
                return await asyncio.shield(self._starting)

    def _plan(self, sandbox: Sandbox) -> podspec.Plan:
        pod, kit = self._pod.pod, self._pod.kit
        values = podspec.environment(
            pod,
            self.spec,
            api=kit.api,
            status=podstatus.build(pod, self._pod.state),
            lookup=self._look_up,
        )
        return podspec.plan(
            pod,
            self.spec,
            values=values,
            hostname=sandbox.hostname,
            network=sandbox.network,
            directory=sandbox.directory,
            python=kit.python,
            any_user=kit.any_user,
            images=dict(kit.spec.images),
        )

    def _look_up(self, kind: str, reference: Object, key: str | None) -> dict[str, str] | None:
        namespace, name = self._pod.pod["metadata"]["namespace"], reference["name"]
        try:
            found = self._pod.kit.store.get(f"{kind}s", name, namespace)
        except StatusError as exc:
            if reference.get("optional"):
                return None
            raise podspec.ConfigError(exc.message) from None
        data = dig(found, "data", {})
        if key is not None and key not in data:
            if reference.get("optional"):
                return None
            raise podspec.ConfigError(f"couldn't find key {key} in {found['kind']} {name}")
        values = {}
        for one in data if key is None else (key,):
            try:
                plain = data[one] if kind != "secret" else base64.b64decode(data[one]).decode()
            except (TypeError, ValueError):
                text = f"couldn't decode key {one} in {found['kind']} {name}"
                raise podspec.ConfigError(text) from None
            values[one] = str(plain)
        return values

    async def _ask(self, container: Container, sandbox: Sandbox) -> None:
        """Run its postStart hook, then ask its probes: the startup probe before the others."""
        if hook := dig(self.spec, "lifecycle.postStart.exec"):
            try:
                status, text = await container.execute(hook["command"], output=True)
            except (ContainerError, ExecutableNotFound) as exc:
                status, text = 1, str(exc).encode()
            if status:
                told = text.decode(errors="replace").strip()
                self._event("FailedPostStartHook", f"PostStartHook failed: {told}", warning=True)
                container.signal(9)
                return
        target = probes.Target(
            container=container,
            ports=probes.named_ports(self.spec),
            address=sandbox.address,
            network=node_namespace(self._pod.node.name),
        )
        if probe := self.spec.get("startupProbe"):
            if not await probes.passes(probe, target):
                await self._failed_probe("Startup", "it has not started in time")
                return
            self.state.passes_probe = not self.spec.get("readinessProbe")
            self._pod.publish()
        async with asyncio.TaskGroup() as asking:
            for name, report, eagerly in (
                ("readinessProbe", self._report_ready, True),
                ("livenessProbe", self._report_live, False),
            ):
                if probe := self.spec.get(name):
                    asking.create_task(probes.watch(probe, target, report, eagerly=eagerly))

    async def _report_ready(self, well: bool, text: str) -> None:
        if text:
            self._event("Unhealthy", f"Readiness probe failed: {text}", warning=True)
        if self.state.passes_probe != well:
            self.state.passes_probe = well
            self._pod.publish()

    async def _report_live(self, well: bool, text: str) -> None:
        if not well:
            await self._failed_probe("Liveness", text)
        elif text:
            self._event("Unhealthy", f"Liveness probe failed: {text}", warning=True)

    async def _failed_probe(self, kind: str, text: str) -> None:
        if text:
            self._event("Unhealthy", f"{kind} probe failed: {text}", warning=True)
        if self.current is None:
            return
        what = f"Container {self.spec['name']} failed {kind.lower()} probe, will be restarted"
        self._event("Killing", what)
        # Shielded: the end of the container cancels the probe that asked for it.
        await asyncio.shield(self.current.stop(self._pod.grace_seconds))

    async def _back_off(self, delay: int) -> None:
        meta, name = self._pod.pod["metadata"], self.spec["name"]
        where = f"{meta['name']}_{meta['namespace']}({meta['uid']})"
        text = f"Back-off restarting failed container {name} in pod {where}"
        self._event("BackOff", text, warning=True)
        text = f"back-off {delay}s restarting failed container={name} pod={where}"
        self._waiting("CrashLoopBackOff", text)
        await asyncio.sleep(delay)

    def _ended(self, code: int) -> None:
        started = dig(self.state.state, "running.startedAt", "")
        self.state.state = podstatus.terminated(
            code, container_id=self.state.id, started_at=started
        )
        self._pod.publish()

    def _waiting(self, reason: str, message: str) -> None:
        self.state.state = podstatus.waiting(reason, message)
        self._pod.publish()

    def _event(self, reason: str, message: str, *, warning: bool = False) -> None:
        self._pod.recorder.record(
            self._pod.pod,
            reason,
            message,
            kind="Warning" if warning else "Normal",
            container=self.spec["name"],
        )


_LEASES, _LEASE_NAMESPACE = "leases.coordination.k8s.io", "kube-node-lease"
_LEASE_PERIOD_SECONDS = 10.0
_LEASE_DURATION_SECONDS = 40


class Heartbeat(Controller):
    """The kubelets' sign of life: renews one Lease for each node, as long as the lab runs.

    Args:
        store: the cluster's objects.
        spec: the nodes.
    """

    watched = ()
    manager = "kubelet"

    def __init__(self, store: Store, spec: LabSpec) -> None:
        super().__init__(store)
        self._nodes = [node.name for node in spec.nodes]

    def reconcile(self) -> float:
        """Renew the leases."""
        for node in self._nodes:
            self._renew(node)
        return _LEASE_PERIOD_SECONDS

    def _renew(self, node: str) -> None:
        spec: Object = {
            "holderIdentity": node,
            "leaseDurationSeconds": _LEASE_DURATION_SECONDS,
            "renewTime": timestamp(micro=True),
        }
        try:
            self._store.mutate(
                _LEASES, node, _LEASE_NAMESPACE, lambda lease: lease.update(spec=spec)
            )
        except StatusError:
            # Without their namespace there are no leases; the next beat tries again.
            with contextlib.suppress(StatusError):
                lease = {"metadata": {"name": node}, "spec": spec}
                self._store.create(_LEASES, lease, _LEASE_NAMESPACE)

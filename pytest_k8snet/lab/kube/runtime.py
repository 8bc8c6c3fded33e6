"""The kubelets' server: exec and logs, as the API server asks for them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pytest_k8snet.lab.api.status import StatusError, bad_request, internal_error
from pytest_k8snet.lab.kube.containerworker import ContainerWorker
from pytest_k8snet.lab.kube.execution import Execution, run_with_pipes, run_with_terminal
from pytest_k8snet.lab.kube.kubelet import Kubelet


class Runtime:
    """Runs commands in containers and reads their logs; a ContainerRuntime.

    Args:
        kubelet: knows the containers.
    """

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet

    async def exec(
        self, namespace: str, pod: str, container: str, argv: list[str], *, stdin: bool, tty: bool
    ) -> Execution:
        """Start a command in a running container.

        Raises:
            StatusError: the container does not run.
            ExecutableNotFound: the container has no such program.
        """
        worker = self._worker(namespace, pod, container)
        run = worker.current
        if run is None or not run.running or not worker.state.running:
            raise internal_error(
                f'unable to upgrade connection: container not found ("{container}")'
            )
        command = run.enter(argv, tty=tty)
        if tty:
            return await run_with_terminal(command, run.plan.environment)
        return await run_with_pipes(command, run.plan.environment, stdin=stdin)

    async def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool,
        tail_lines: int | None,
        timestamps: bool,
        previous: bool,
    ) -> AsyncIterator[bytes]:
        """The container's output; with ``follow`` until it ends.

        Raises:
            StatusError: 400, it has not been started yet.
        """
        worker = self._worker(namespace, pod, container)
        run = worker.previous if previous else worker.current
        if run is None and previous:
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
        lines = run.log.read(follow=follow, tail_lines=tail_lines, timestamps=timestamps)
        async for line in lines:
            yield line

    def _worker(self, namespace: str, pod: str, container: str) -> ContainerWorker:
        worker = self._kubelet.find(namespace, pod, container)
        if worker is None:
            if not self._kubelet.node_of(namespace, pod):
                raise StatusError(404, "NotFound", f'pods "{pod}" not found')
            raise bad_request(f"container {container} is not valid for pod {pod}")
        return worker

"""Reads the kernel state of nodes through shells in host-network pods, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_k8snet.calico import kernel
from pytest_k8snet.calico.kernel import KernelState
from pytest_k8snet.errors import ConnectError, K8sNetError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.exec import Completed

#: Runs a command in a host-network pod on one node.
Shell = Callable[[Sequence[str]], "Completed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of one node: the routes to destinations, as for a pod's packets if given."""

    destinations: tuple[str, ...] = ()
    pod_address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The states of the nodes that answered, and why the others didn't."""

    states: Mapping[str, KernelState] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


class Prober:
    """Asks nodes for their state.

    Args:
        shells: per node name; a node without one cannot be asked.
    """

    def __init__(self, shells: Mapping[str, Shell]) -> None:
        self._shells = shells
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="k8snet-probe")

    def can_ask(self, node: str) -> bool:
        """Whether there is a shell on a node."""
        return node in self._shells

    def ask(self, questions: Mapping[str, Question]) -> Answers:
        """Ask several nodes at once; a node that can't be read is in ``missing``.

        Raises:
            ConnectError: the API server does not answer, so no node can be asked.
        """
        done = self.each(
            {
                node: kernel.argv(pod_address=one.pod_address, destinations=one.destinations)
                for node, one in questions.items()
                if node in self._shells
            }
        )
        states: dict[str, KernelState] = {}
        missing = {
            node: "no host-network pod on this node, so its kernel was not read"
            for node in questions
            if node not in self._shells
        }
        for node, told in done.items():
            try:
                states[node] = _state(node, told)
            except K8sNetError as exc:
                missing[node] = f"{exc.problem}: {exc.found}" if exc.found else exc.problem
        return Answers(states=states, missing=missing)

    def each(self, commands: Mapping[str, Sequence[str]]) -> dict[str, Completed | K8sNetError]:
        """Run a command on each of several nodes at once; what could not be run is its error.

        Raises:
            ConnectError: the API server does not answer.
        """
        futures = {
            node: self._pool.submit(self._shells[node], argv) for node, argv in commands.items()
        }
        done: dict[str, Completed | K8sNetError] = {}
        for node, future in futures.items():
            try:
                done[node] = future.result()
            except ConnectError:
                raise
            except K8sNetError as exc:
                done[node] = exc
        return done

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _state(node: str, told: Completed | K8sNetError) -> KernelState:
    if isinstance(told, K8sNetError):
        raise told
    return kernel.parse(node, told.stdout, stderr=told.stderr, exit_code=told.exit_code)

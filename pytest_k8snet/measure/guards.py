"""What may not happen to a client or server while it measures: seen apart from the figure.

A sample with such a cause is taken again. Low bandwidth, retransmits and slow answers are results
and never a cause.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.errors import ForbiddenError, NotFoundError
from pytest_k8snet.measure.endpoints import Endpoint
from pytest_k8snet.verdict import Plan

#: The node's CPU, the container's first process, and the container's CPU limit by cgroup v2 or v1,
#: whichever exists.
_FILES = ("/proc/stat", "/proc/1/stat", "/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat")
# cat reads on where a file is missing, and only its exit status tells of it.
_AT_ONCE = ("cat", *_FILES)
_OVER_A_WHILE = 'head -n 1 /proc/stat; sleep "$1"; shift; exec cat "$@"'
#: How long the CPU is watched before a sample, in seconds: briefly, and for longer where that
#: looks busy. What a run itself does between two samples is over by then.
_GLANCE_SECONDS = 0.1
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuState:
    """CPU counters of an endpoint's node and container, since their start.

    Attributes:
        ticks: all CPU time of the node, in clock ticks.
        steal_ticks: what of it the hypervisor gave to others.
        throttled: how often the container was stopped by its CPU limit.
        started_ticks: when the container's first process started, in clock ticks since the node's
            boot; another one is another container, or the pod on another node. None if unknown.
        idle: share of the node's CPU time that was idle just before; None if it was not watched.
    """

    ticks: int
    steal_ticks: int
    throttled: int
    started_ticks: int | None = None
    idle: float | None = None

    @classmethod
    def parse(cls, text: str) -> CpuState | None:
        """Read the files one after the other; None without ``/proc/stat``.

        An earlier first line of ``/proc/stat`` may stand before them, to tell what was idle since.
        """
        # user nice system idle iowait irq softirq steal; guest time is part of user's.
        times = [
            [int(word) for word in found[1].split()][:8]
            for found in re.finditer(r"^cpu +([\d ]+)$", text, re.MULTILINE)
        ]
        if not times:
            return None
        now = times[-1]
        passed = sum(now) - sum(times[0])
        throttled = re.search(r"^nr_throttled (\d+)$", text, re.MULTILINE)
        # The process's name stands in brackets and may hold any character; its start is field 22.
        first = re.search(r"^1 \(.*\) ((?:\S+ ){19})(\d+)", text, re.MULTILINE)
        return cls(
            ticks=sum(now),
            steal_ticks=now[7] if len(now) > 7 else 0,
            throttled=int(throttled[1]) if throttled else 0,
            started_ticks=int(first[2]) if first else None,
            # The kernel may count iowait back.
            idle=max(0, sum(now[3:5]) - sum(times[0][3:5])) / passed if passed > 0 else None,
        )

    def restarted(self, after: CpuState) -> bool:
        """Tell whether the container of ``after`` is another one than this state's."""
        return len({self.started_ticks, after.started_ticks} - {None}) > 1

    def lost(self, after: CpuState, name: str, most_steal: float) -> str:
        """Say what took CPU time from what ran between this state and ``after``, or nothing.

        Args:
            after: the later state of the same endpoint.
            name: the endpoint's, for the text.
            most_steal: the largest share of the node's CPU time that may be stolen.
        """
        ticks = after.ticks - self.ticks
        steal = (after.steal_ticks - self.steal_ticks) / ticks if ticks > 0 else 0.0
        if steal > most_steal:
            return f"the hypervisor took {steal:.0%} of the CPU time of {name}"
        if after.throttled > self.throttled:
            times = after.throttled - self.throttled
            return f"a CPU limit stopped {name} {times} times"
        return ""


class Guard:
    """Watches the CPU of a sample's endpoints from just before it to after it.

    Args:
        endpoints: the client's and the server's.
        plan: how much steal and how little idle time it bears.
    """

    def __init__(self, endpoints: Sequence[Endpoint], plan: Plan) -> None:
        self._plan = plan
        # Outside the cluster there is no telling whose machine it is, nor what it runs.
        self._endpoints = [endpoint for endpoint in endpoints if endpoint.kind != "outside"]
        self._before = self._read(_GLANCE_SECONDS)
        if self._busy():
            self._before = self._read(_LOOK_SECONDS)

    def outcome(self) -> tuple[str, str]:
        """Look again, now that the sample has ended.

        Returns:
            Why it may not count, or an empty text; and what took CPU time from it, or an empty
            text. The latter may be the sample's own doing: encapsulation costs CPU time, and who
            needs more of it is stolen from and stopped by a limit more often.
        """
        busy = self._busy()
        if busy:
            return busy, ""
        lost = ""
        for endpoint, before, after in zip(
            self._endpoints, self._before, self._read(), strict=True
        ):
            if before is not None and after is not None:
                if before.restarted(after):
                    return f"{endpoint} restarted", ""
                lost = lost or before.lost(after, str(endpoint), self._plan.most_steal)
        return "", lost

    def _busy(self) -> str:
        for endpoint, before in zip(self._endpoints, self._before, strict=True):
            idle = before.idle if before is not None else None
            if idle is not None and idle < self._plan.least_idle:
                return (
                    f"{endpoint.node or endpoint} was busy before the sample: {idle:.0%} idle "
                    f"(plan: idle={self._plan.least_idle:g}; --k8snet-plan=idle=0 counts it)"
                )
        return ""

    def _read(self, watched_seconds: float = 0.0) -> list[CpuState | None]:
        """Read all endpoints at once, so that one's reading is not the other's load."""
        if not self._endpoints:
            return []
        with ThreadPoolExecutor(max_workers=len(self._endpoints)) as pool:
            return list(pool.map(lambda one: read_cpu(one, watched_seconds), self._endpoints))


def read_cpu(endpoint: Endpoint, watched_seconds: float = 0.0) -> CpuState | None:
    """Read an endpoint's CPU counters, after watching them for a while where that is wanted.

    Returns:
        None where it does not have them.
    """
    argv = ["sh", "-c", _OVER_A_WHILE, "k8snet", str(watched_seconds), *_FILES]
    done = endpoint.run(argv if watched_seconds else _AT_ONCE, timeout_seconds=10.0)
    return CpuState.parse(done.stdout)


# -- The calico-node pods: whether one restarted, was replaced or is not Ready --------------------
#
# A calico-node that comes or goes rewrites its node's routes and rules, so what was measured
# meanwhile says nothing of the network as it is.


_LABELS = "k8s-app=calico-node"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePod:
    """One calico-node pod, as the API has it.

    Attributes:
        restarts: of all its containers, since the pod was made.
    """

    node: str
    uid: str
    restarts: int
    ready: bool

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> NodePod:
        """Read a pod object."""
        status = body.get("status") or {}
        return cls(
            node=str((body.get("spec") or {}).get("nodeName") or ""),
            uid=str((body.get("metadata") or {}).get("uid") or ""),
            restarts=sum(
                int(one.get("restartCount") or 0) for one in status.get("containerStatuses") or ()
            ),
            ready=any(
                one.get("type") == "Ready" and one.get("status") == "True"
                for one in status.get("conditions") or ()
            ),
        )


class NodePodWatch:
    """Looks at the calico-node pods each time it is called: by one request per node.

    Args:
        api: the cluster.
        nodes: names those that matter; asked each time.
    """

    def __init__(self, api: Api, nodes: Callable[[], Collection[str]]) -> None:
        self._api = api
        self._nodes = nodes
        self._before: Mapping[str, NodePod] = {}
        self._allowed = True

    def __call__(self) -> str:
        """Return what happened to them since the last call, or "".

        Without the right to list them nothing is known of them, and nothing is said.
        """
        if not self._allowed:
            return ""
        nodes = sorted(self._nodes())
        try:
            found = [
                pod
                for node in nodes
                for pod in self._api.list(
                    "/api/v1/pods", labels=_LABELS, fields=f"spec.nodeName={node}"
                )
            ]
        except (ForbiddenError, NotFoundError):
            self._allowed = False
            return ""
        before, now = self._before, node_pods(found)
        self._before = now
        troubles = {node: _trouble(before.get(node), now.get(node)) for node in nodes}
        return ", ".join(f"calico-node of {node} {text}" for node, text in troubles.items() if text)


def node_pods(bodies: Sequence[Mapping[str, Any]]) -> dict[str, NodePod]:
    """Return the calico-node pod of each node; the newer one while one replaces another."""
    # A pod that is being deleted may be listed beside its successor.
    going_first = sorted(bodies, key=lambda body: "deletionTimestamp" not in body["metadata"])
    return {pod.node: pod for pod in map(NodePod.read, going_first)}


def _trouble(before: NodePod | None, now: NodePod | None) -> str:
    if now is None:
        return "is gone" if before is not None else ""
    if before is not None and now.uid != before.uid:
        return "was replaced"
    if before is not None and now.restarts > before.restarts:
        return "restarted"
    return "" if now.ready else "is not Ready"

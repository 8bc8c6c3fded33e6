"""What may not happen to a client or server while it measures: seen apart from the figure.

A sample with such a cause is taken again. Low bandwidth, retransmits and slow answers are results
and never a cause.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_k8snet.measure.endpoint import Endpoint

#: The node's CPU, the container's first process, and the container's CPU limit by cgroup v2 or v1,
#: whichever exists.
_FILES = ("/proc/stat", "/proc/1/stat", "/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat")


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuState:
    """CPU counters of an endpoint's node and container, since their start.

    Attributes:
        ticks: all CPU time of the node, in clock ticks.
        steal_ticks: what of it the hypervisor gave to others.
        throttled: how often the container was stopped by its CPU limit.
        started_ticks: when the container's first process started, in clock ticks since the node's
            boot; another one is another container, or the pod on another node. None if unknown.
    """

    ticks: int
    steal_ticks: int
    throttled: int
    started_ticks: int | None = None

    @classmethod
    def parse(cls, text: str) -> CpuState | None:
        """Read the files one after the other; None without ``/proc/stat``."""
        cpu = re.search(r"^cpu +([\d ]+)$", text, re.MULTILINE)
        if cpu is None:
            return None
        # user nice system idle iowait irq softirq steal; guest time is part of user's.
        times = [int(word) for word in cpu[1].split()][:8]
        throttled = re.search(r"^nr_throttled (\d+)$", text, re.MULTILINE)
        # The process's name stands in brackets and may hold any character; its start is field 22.
        first = re.search(r"^1 \(.*\) ((?:\S+ ){19})(\d+)", text, re.MULTILINE)
        return cls(
            ticks=sum(times),
            steal_ticks=times[7] if len(times) > 7 else 0,
            throttled=int(throttled[1]) if throttled else 0,
            started_ticks=int(first[2]) if first else None,
        )

    def cause(self, after: CpuState, name: str, most_steal: float) -> str:
        """Say why what ran between this state and ``after`` may not count, or nothing."""
        starts = (self.started_ticks, after.started_ticks)
        if None not in starts and starts[0] != starts[1]:
            return f"{name} restarted"
        ticks = after.ticks - self.ticks
        steal = (after.steal_ticks - self.steal_ticks) / ticks if ticks > 0 else 0.0
        if steal > most_steal:
            return f"the hypervisor took {steal:.0%} of the CPU time of {name}"
        if after.throttled > self.throttled:
            times = after.throttled - self.throttled
            return f"a CPU limit stopped {name} {times} times"
        return ""


class Guard:
    """Watches the CPU of a sample's endpoints from before it to after it.

    Args:
        endpoints: the client's and the server's.
        most_steal: share of a node's CPU time that the hypervisor may take.
    """

    def __init__(self, endpoints: Sequence[Endpoint], most_steal: float) -> None:
        self._most_steal = most_steal
        # Outside the cluster there is no telling whose machine it is, nor what it runs.
        self._endpoints = [endpoint for endpoint in endpoints if endpoint.kind != "outside"]
        self._before = [read_cpu(endpoint) for endpoint in self._endpoints]

    def cause(self) -> str:
        """Say why the sample that ended just now may not count, or nothing."""
        for endpoint, before in zip(self._endpoints, self._before, strict=True):
            after = read_cpu(endpoint)
            if before is not None and after is not None:
                cause = before.cause(after, str(endpoint), self._most_steal)
                if cause:
                    return cause
        return ""


def read_cpu(endpoint: Endpoint) -> CpuState | None:
    """Read an endpoint's CPU counters; None where it does not have them."""
    # cat reads on where a file is missing, and only its exit status tells of it.
    return CpuState.parse(endpoint.run(["cat", *_FILES], timeout_seconds=10.0).stdout)

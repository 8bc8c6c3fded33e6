"""What a switch costs those who have nothing to do with it: lost requests and the longest gap.

A bystander is a small steady exchange over TCP between two pods that are not under test. Requests
start on a fixed schedule, whatever became of those before, so a stall is seen in full.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_k8snet.errors import CalicoError, K8sNetError
from pytest_k8snet.tools import schedule
from pytest_k8snet.tools.curl import CurlOptions
from pytest_k8snet.tools.schedule import Schedule, ScheduledSamples
from pytest_k8snet.units import Seconds

if TYPE_CHECKING:
    from pytest_k8snet.calico.prober import Shell

#: One exec's worth of requests, in seconds: results come only at its end.
_SLICE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchCost:
    """What a bystander saw.

    Attributes:
        requests: how many it made in time.
        lost: how many of them were not answered.
        longest_gap: the longest time without any answer to a request that was due, beyond the
            usual distance of two requests.
        seconds: how long it watched.
    """

    requests: int
    lost: int
    longest_gap: Seconds
    seconds: Seconds

    def __str__(self) -> str:
        return f"{self.lost} of {self.requests} requests lost, longest gap {self.longest_gap}"


class Bystander:
    """Exchanges small requests while something else goes on; a context manager.

        with Bystander(shell, url) as bystander:
            session.enter(mode)
        assert bystander.cost.longest_gap <= 2 * second

    Args:
        shell: runs a command in the client pod; its image needs curl.
        url: what to request: a server in another pod, on another node, not under test.
        per_second: how many requests per second.
        give_up_seconds: when a request counts as lost.
        seed: of the schedule's jitter.
    """

    def __init__(
        self,
        shell: Shell,
        url: str,
        *,
        per_second: float = 10.0,
        give_up_seconds: float = 1.0,
        seed: int = 0,
    ) -> None:
        self._shell = shell
        self._per_second = per_second
        self._seed = seed
        self._options = CurlOptions(
            url=url,
            requests=max(1, round(per_second * _SLICE_SECONDS)),
            connect_timeout_seconds=give_up_seconds,
            max_time_seconds=give_up_seconds,
        )
        self._stop = threading.Event()
        self._slices: list[tuple[Schedule, ScheduledSamples]] = []
        self._trouble: K8sNetError | None = None
        self._thread = threading.Thread(target=self._run, name="k8snet-bystander", daemon=True)

    def __enter__(self) -> Bystander:
        # The first slice shows that the exchange works while nothing happens yet.
        self._slice()
        if not any(slot.answered for slot in self._slices[0][1].slots):
            raise CalicoError(
                "The bystander's exchange doesn't work even while nothing is switched",
                found=f"no request to {self._options.url} was answered",
                remedy="Check the URL, and that the pod's image has curl.",
            )
        self._slices.clear()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def cost(self) -> SwitchCost:
        """What it saw; ask after the block.

        Raises:
            K8sNetError: a command could not be run in the client pod.
        """
        if self._trouble is not None:
            raise self._trouble
        return account(self._slices, self._per_second)

    def _run(self) -> None:
        # One slice at least, and the one that is under way when the block ends is completed.
        while True:
            try:
                self._slice()
            except K8sNetError as exc:
                self._trouble = exc
                return
            if self._stop.is_set():
                return

    def _slice(self) -> None:
        self._seed += 1
        wanted = Schedule.jittered(self._options, self._per_second, seed=self._seed)
        done = self._shell(schedule.argv(wanted))
        samples = schedule.parse(done.stdout, wanted, stderr=done.stderr, exit_code=done.exit_code)
        self._slices.append((wanted, samples))


def account(slices: Sequence[tuple[Schedule, ScheduledSamples]], per_second: float) -> SwitchCost:
    """Count what was lost. Pure.

    The slices are strung together; the moment between two of them counts for nothing.

    Args:
        slices: schedules with what became of them, in order.
        per_second: the rate of the schedules.
    """
    usual = 1.0 / per_second
    requests = lost = 0
    longest = 0.0
    offset = 0.0
    silent_since: float | None = None
    for wanted, samples in slices:
        for due, slot in zip(wanted.due_seconds, samples.slots, strict=True):
            if slot.missed:
                continue  # the client had no time: it says nothing of the network
            requests += 1
            if slot.answered and slot.request is not None:
                waited = float(slot.request.total)
                since = offset + due if silent_since is None else silent_since
                longest = max(longest, offset + due + waited - since)
                silent_since = None
                continue
            lost += 1
            silent_since = offset + due if silent_since is None else silent_since
            longest = max(longest, offset + due - silent_since + usual)
        offset += len(wanted.due_seconds) * usual
    return SwitchCost(
        requests=requests, lost=lost, longest_gap=Seconds(longest), seconds=Seconds(offset)
    )


def total_cost(costs: Iterable[SwitchCost]) -> SwitchCost:
    """Several switches as one: lost requests add up, the longest gap is the longest of all."""
    listed = list(costs)
    return SwitchCost(
        requests=sum(cost.requests for cost in listed),
        lost=sum(cost.lost for cost in listed),
        longest_gap=max((cost.longest_gap for cost in listed), default=Seconds(0)),
        seconds=Seconds(sum(float(cost.seconds) for cost in listed)),
    )

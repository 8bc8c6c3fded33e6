"""What a switch costs those who have nothing to do with it: lost requests and the longest gap.

A bystander is a small steady exchange over TCP between two pods that are not under test. Requests
start on a fixed schedule, whatever became of those before, so a stall is seen in full.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_k8snet.calico.convergence import wait_until_good
from pytest_k8snet.errors import CalicoError
from pytest_k8snet.tools import curl, schedule
from pytest_k8snet.tools.curl import CurlOptions
from pytest_k8snet.tools.schedule import Attempt, SteadyExchange
from pytest_k8snet.units import Seconds

if TYPE_CHECKING:
    from pytest_k8snet.calico.kernel import Shell

#: How long the exchange may take to work at all: routes to new pods come a moment after them.
_READY_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SwitchCost:
    """What a bystander saw of one switch.

    A stall that is shorter than the distance of two requests (0.1 s on average, 0.2 s at most) may
    fall between them; a gap is told as exactly as that.

    Attributes:
        what: the switch, in words.
        requests: how many requests were due while it was watched.
        lost: how many of them were not answered within a second.
        longest_gap: the longest time from when a request was due to the next answer, be it its own
            or a later one's: about the answer's own time while nothing happens.
        seconds: how long it was watched, from before the switch to a second after the cluster was
            found to be stable.
    """

    what: str
    requests: int
    lost: int
    longest_gap: Seconds
    seconds: Seconds

    def __str__(self) -> str:
        return f"{self.lost} of {self.requests} requests lost, longest gap {self.longest_gap}"

    def __repr__(self) -> str:
        return f"SwitchCost({self.what}: {self})"


class Bystander:
    """Exchanges small requests while something else goes on.

        bystander = Bystander(shell, url, what="entering Never")
        bystander.start()
        session.enter(mode)
        assert bystander.stop().longest_gap <= 2 * second

    Args:
        shell: runs a command in the client pod; its image needs curl.
        url: what to request: a server in another pod, on another node, not under test.
        what: is watched, in words.
        tail_seconds: for how long it goes on after it was told to stop.
    """

    def __init__(self, shell: Shell, url: str, *, what: str, tail_seconds: float = 1.0) -> None:
        self._shell = shell
        self._what = what
        self._exchange = SteadyExchange(
            url=url, name=secrets.token_hex(4), tail_seconds=tail_seconds
        )
        self._begun = 0.0

    def start(self) -> None:
        """Begin, once the exchange has been seen to work while nothing happens yet.

        Raises:
            NotConvergedError: it does not work.
            K8sNetError: a command could not be run in the client pod.
        """
        wait_until_good(
            self._complaints,
            what="The bystander's exchange while nothing is switched",
            timeout_seconds=_READY_SECONDS,
            remedy="Check whether policies of the cluster forbid pods to reach each other.",
        )
        done = self._shell(schedule.start_argv(self._exchange))
        if done.exit_code != 0:
            raise CalicoError(
                "The bystander's client cannot be started",
                found=done.stderr or f"exit status {done.exit_code}",
                remedy="Use an image with sh, curl and timeout: -o k8snet_image=...",
            )
        self._begun = time.monotonic()

    def stop(self) -> SwitchCost:
        """End it, a moment after this is called; what it saw.

        Raises:
            CalicoError: it saw less than there was to see.
            CurlError: its client did not come to its end.
            K8sNetError: a command could not be run in the client pod.
        """
        needed_seconds = time.monotonic() - self._begun
        done = self._shell(schedule.stop_argv(self._exchange))
        cost = account(
            schedule.parse_steady(done.stdout, self._exchange), self._exchange, what=self._what
        )
        if float(cost.seconds) < needed_seconds:
            raise CalicoError(
                "The bystander did not see the whole switch, so what it cost is not known",
                found=f"it watched for {cost.seconds} of {Seconds(needed_seconds)}",
                remedy="See whether its client pod was evicted, or had no CPU time.",
            )
        return cost

    def _complaints(self) -> list[str]:
        url, seconds = self._exchange.url, self._exchange.give_up_seconds
        options = CurlOptions(
            url=url, requests=1, connect_timeout_seconds=seconds, max_time_seconds=seconds
        )
        done = self._shell(curl.argv(options))
        seen = curl.parse(
            done.stdout, expected_requests=1, stderr=done.stderr, exit_code=done.exit_code
        )
        return [f"{url}: {seen.failed.reasons}"] if seen.failed else []


def account(attempts: Sequence[Attempt], exchange: SteadyExchange, *, what: str) -> SwitchCost:
    """Count what was lost. Pure.

    Time in which the client itself could not ask counts as gap: nobody knows that it was good.

    Args:
        attempts: what became of each request, in order.
        exchange: whose they are.
        what: was watched, in words.
    """
    longest, next_answer = 0.0, math.inf
    if attempts and attempts[-1].answered_seconds is None:
        # Silence to the end is known for as long as the last request was waited for.
        next_answer = attempts[-1].due_seconds + exchange.give_up_seconds
    for attempt in reversed(attempts):
        if attempt.answered_seconds is not None:
            next_answer = min(next_answer, attempt.answered_seconds)
        longest = max(longest, next_answer - attempt.due_seconds)
    watched = attempts[-1].due_seconds - attempts[0].due_seconds if attempts else 0.0
    return SwitchCost(
        what=what,
        requests=len(attempts),
        lost=sum(attempt.answered_seconds is None for attempt in attempts),
        longest_gap=Seconds(longest),
        seconds=Seconds(watched),
    )

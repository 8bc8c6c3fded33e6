"""What each change of Calico costs two pods of the run that stand for everybody else's.

The two have addresses from where ordinary pods get theirs: the pool that in-place flips, or,
where the run makes pools of its own, one that was there before. They are made once and live to the
end.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from pytest_k8snet.calico.kernel import Shell
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.causes import Cause
from pytest_k8snet.change.readiness import wait_until_good
from pytest_k8snet.change.session import CalicoSession
from pytest_k8snet.cluster.pods import WEB_PORT, Pod, PodRequest
from pytest_k8snet.cluster.workspace import Workspace
from pytest_k8snet.errors import (
    CalicoError,
    DisruptionError,
    K8sNetError,
    NothingSwitchedError,
    NotRecoveredError,
    SettingsError,
)
from pytest_k8snet.measure.sampler import Observer
from pytest_k8snet.tools import schedule
from pytest_k8snet.tools.curl import Curl, CurlOptions
from pytest_k8snet.tools.schedule import Attempt, SteadyExchange
from pytest_k8snet.tools.tool import Output
from pytest_k8snet.units import Seconds

#: So many requests in a row that are lost at the end are a gap that is still open; a single one may
#: be a client that had no CPU time.
_OPEN_REQUESTS = 2
#: How long the exchange may take to work at all: routes to new pods come a moment after them.
_READY_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SwitchCost:
    """What a switch cost two pods that are not under test, from before it until they had recovered.

    A stall that is shorter than the distance of two requests (0.1 s on average, 0.2 s at most) may
    fall between them; a gap is known as exactly as that.

    Attributes:
        what: the switch, in words.
        requests: how many requests were due while it was watched.
        lost: how many of them were not answered within a second.
        longest_gap: the longest time from when a request was due to the next answer, be it its own
            or a later one's: about the answer's own time while nothing happens.
        seconds: how long it was watched: from before the switch until the cluster was found to be
            stable and answers had come for a second.
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


class DisruptionWatch:
    """A small steady exchange over TCP between two pods, while something else goes on.

    Requests start on a fixed schedule, whatever became of those before, so a stall is seen in full.

        watch = DisruptionWatch(shell, url, what="entering Never")
        watch.start()
        session.enter(mode)
        assert watch.stop().longest_gap <= 2 * second

    Args:
        shell: runs a command in the client pod; its image needs curl.
        url: what to request: a server in another pod, on another node, not under test.
        what: is watched, in words.
        tail_seconds: for how long it goes on after :meth:`stop` was called, at least.
    """

    def __init__(self, shell: Shell, url: str, *, what: str, tail_seconds: float = 1.0) -> None:
        self._shell = shell
        self._what = what
        name = secrets.token_hex(4)
        self._exchange = SteadyExchange(url=url, name=name, tail_seconds=tail_seconds)
        self._begun = 0.0

    def start(self) -> None:
        """Begin, once the exchange has been seen to work while nothing happens yet.

        Raises:
            NotConvergedError: it does not work.
            CalicoError: its client cannot be started.
            K8sNetError: a command could not be run in the client pod.
        """
        wait_until_good(
            self._mismatches,
            what="The exchange of two pods that are not under test, while nothing is switched",
            timeout_seconds=_READY_SECONDS,
            otherwise=Cause.DROPPED,
        )
        done = self._shell(schedule.start_argv(self._exchange))
        if done.exit_code != 0:
            raise CalicoError(
                "The client that watches for disruption cannot be started",
                found=done.stderr or f"exit status {done.exit_code}",
                remedy="Use an image with sh, curl and timeout: -o k8snet_image=...",
            )
        self._begun = time.monotonic()

    def stop(self) -> SwitchCost:
        """End it as soon as answers come again, and return what it saw.

        Raises:
            NotRecoveredError: none had come by the end of its patience.
            CalicoError: it saw less than there was to see.
            CurlError: its client did not come to its end.
            K8sNetError: a command could not be run in the client pod.
        """
        needed_seconds = time.monotonic() - self._begun
        done = self._shell(schedule.stop_argv(self._exchange))
        attempts = schedule.parse_steady(done.stdout, self._exchange)
        cost = account(attempts, self._exchange, what=self._what)
        if float(cost.seconds) < needed_seconds:
            raise CalicoError(
                "Not the whole switch was watched, so what it cost is not known",
                found=f"it watched for {cost.seconds} of {Seconds(needed_seconds)}",
                remedy="See whether its client pod was evicted, or had no CPU time.",
            )
        return cost

    def _mismatches(self) -> list[str]:
        url, seconds = self._exchange.url, self._exchange.give_up_seconds
        options = CurlOptions(
            url=url, requests=1, connect_timeout_seconds=seconds, max_time_seconds=seconds
        )
        done = self._shell(Curl().argv(options))
        output = Output(stdout=done.stdout, stderr=done.stderr, exit_code=done.exit_code)
        seen = Curl().parse(output, options)
        return [f"{url}: {seen.failed.reasons}"] if seen.failed else []


def account(attempts: Sequence[Attempt], exchange: SteadyExchange, *, what: str) -> SwitchCost:
    """Count what was lost. Pure.

    Time in which the client itself could not ask counts as gap: nobody knows that it was good. A
    gap that was still open at the end has no length, so there is no cost then.

    Args:
        attempts: what became of each request, in order.
        exchange: whose they are.
        what: was watched, in words.

    Raises:
        NotRecoveredError: the last requests were lost.
    """
    lost = sum(attempt.answered_seconds is None for attempt in attempts)
    if attempts and all(one.answered_seconds is None for one in attempts[-_OPEN_REQUESTS:]):
        answers = [one.answered_seconds for one in attempts if one.answered_seconds is not None]
        silent = attempts[-1].due_seconds + exchange.give_up_seconds - max(answers, default=0.0)
        raise NotRecoveredError(
            f"Pods that are not under test had not recovered {Seconds(silent)} after {what}",
            found=f"{lost} of {len(attempts)} requests were lost, all of the last of them; how "
            "long the gap became nobody has seen",
            remedy="See whether the nodes have routes to each other's pods: `ip route` on each, "
            "and the logs of calico-node.",
        )
    # A single one that is lost at the end is known for as long as it was waited for.
    longest = 0.0
    next_answer = attempts[-1].due_seconds + exchange.give_up_seconds if attempts else math.inf
    for attempt in reversed(attempts):
        if attempt.answered_seconds is not None:
            next_answer = min(next_answer, attempt.answered_seconds)
        longest = max(longest, next_answer - attempt.due_seconds)
    watched = attempts[-1].due_seconds - attempts[0].due_seconds if attempts else 0.0
    return SwitchCost(
        what=what,
        requests=len(attempts),
        lost=lost,
        longest_gap=Seconds(longest),
        seconds=Seconds(watched),
    )


# -- All changes of a run -------------------------------------------------------------------------

#: An exec that ends a watch waits until answers come again.
_EXEC_SECONDS = 60.0
#: How long to watch after a change at least: what putting back brings about may begin late.
_TAIL_SECONDS, _RESTORED_TAIL_SECONDS = 1.0, 3.0
#: By how much a gap may be longer than another and count as no worse: gaps of one kind of change
#: differ by up to 0.6 s on one cluster.
_WORSE_SECONDS = 1.0


class Switches:
    """Watches the changes of Calico by two pods that are not under test.

    Trouble with them never keeps the run from changing or restoring anything: it is raised to
    whoever asks for the cost.

    Args:
        calico: what changes.
        workspace: makes these pods.
        observer: gets a "switch" record of each change that was watched.
        nodes: the names of the nodes of their client and server.
        watched: whether changes are watched at all.

    Attributes:
        pods: the two, client first; empty until the first change.
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
        self._asked_for: list[SwitchCost] = []

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
        """Watch the block put everything back, if the changes before were watched.

        Raises:
            DisruptionError: it cost more than each change that a test had the cost of: those
                tests may have passed on the way there, and the way back was worse.
        """
        if not self.watched or not self.pods:
            yield
            return
        with self._watching("putting everything back", None):
            yield
        if self._asked_for:
            require_no_worse(self._latest, self._asked_for)

    def cost(self, mode: CalicoMode) -> SwitchCost:
        """Return the cost of the change that led to a mode.

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
                "known before the first switch; or set k8snet_disruption = true",
            )
        found = self._costs.get(mode)
        if found is None:
            raise NothingSwitchedError(
                f"nothing was switched to get to {mode}",
                found=f"pool {change.pool} was in this mode before the run",
            )
        if isinstance(found, K8sNetError):
            raise found
        self._asked_for.append(found)
        return found

    @contextmanager
    def _watching(self, what: str, mode: CalicoMode | None) -> Generator[None]:
        try:
            watch = self._watch(what, _TAIL_SECONDS if mode is not None else _RESTORED_TAIL_SECONDS)
            watch.start()
        except K8sNetError as exc:
            self._keep(what, mode, exc)
            yield
            return
        try:
            yield
        except Exception:
            self._end(watch, what, mode)
            raise
        # An interrupt is neither: then nothing is waited for.
        self._end(watch, what, mode)

    def _end(self, watch: DisruptionWatch, what: str, mode: CalicoMode | None) -> None:
        try:
            self._keep(what, mode, watch.stop())
        except K8sNetError as exc:
            self._keep(what, mode, exc)

    def _watch(self, what: str, tail_seconds: float) -> DisruptionWatch:
        if not self.pods:
            self._make_pods()
        client, server = self.pods
        execute = partial(self._workspace.api.exec, client.namespace, client.name)
        return DisruptionWatch(
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
        client = PodRequest(role="disruption", node=client_node, pool=pool)
        server = PodRequest(role="web-disruption", node=server_node, pool=pool, serves_http=True)
        try:
            self.pods = self._workspace.ensure_pods([client, server])
        except K8sNetError as exc:
            self._unmade = exc
            raise

    def _keep(self, what: str, mode: CalicoMode | None, seen: SwitchCost | K8sNetError) -> None:
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
            recovered=not isinstance(seen, NotRecoveredError),
            error=None if cost else str(seen),
        )


def require_no_worse(back: SwitchCost | K8sNetError | None, told: Sequence[SwitchCost]) -> None:
    """Refuse a way back that cost more than the ways there that tests were told of.

    Args:
        back: the cost of putting back, or why it is not known.
        told: the costs that tests have asked for.

    Raises:
        DisruptionError: more requests were lost than in each of them, or the longest gap is longer
            by more than a second, or the cost is not known.
    """
    if isinstance(back, SwitchCost):
        most_lost = max(cost.lost for cost in told)
        longest = max(float(cost.longest_gap) for cost in told)
        worse = float(back.longest_gap) > longest + _WORSE_SECONDS
        if back.lost <= most_lost and not worse:
            return
        found = f"{back}; the worst that a test was told: {most_lost} lost, gap {Seconds(longest)}"
    else:
        found = back.brief if back is not None else "it was not watched"
    raise DisruptionError(
        "Putting everything back cost other pods more than the changes that the tests judged",
        found=found,
        remedy="A limit on switch_cost holds for the way back as well: expect this gap whenever "
        "the cluster returns to its own mode, and judge it in the change's plan.",
    )
